//! Where each tensor lies in a file of the format before PyTorch 1.6: five pickles one behind the other (a magic number, the
//! version, the machine, the saved value, the keys of its storages), then the storages in the order of the keys, each as a count
//! of elements and the elements.

use std::collections::{BTreeMap, HashMap};

use super::backing::Backing;
use super::error::WeightsError;
use super::pickle::Pickle;
use super::state_dict;
use super::stored_tensor::StoredTensor;

/// How many bytes of a file tell whether it has this format.
pub(super) const LOOK_BYTES: usize = 64;
/// The magic number in pickles of protocol 2 and later.
const MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The magic number in pickles of older protocols.
const MAGIC_DIGITS: &[u8] = b"119547037146038801333356";
/// Most bytes that all pickles of a file may have. Those of a state dict with a thousand tensors have some 100 kB.
const MAX_PICKLE_BYTES: usize = 32 << 20;
/// The one version that PyTorch has written.
const VERSION: i64 = 1001;
/// Size of a count of elements.
const COUNT_BYTES: usize = 8;

/// Whether a file that begins with these bytes has this format.
pub(super) fn is_legacy(first: &[u8]) -> bool {
    let first = &first[..first.len().min(LOOK_BYTES)];
    let has = |magic: &[u8]| first.windows(magic.len()).any(|window| window == magic);
    matches!(first.first(), Some(b'\x80' | b'L')) && (has(MAGIC) || has(MAGIC_DIGITS))
}

/// Finds the tensors. This format has no checksums.
///
/// # Errors
/// [`WeightsError::Refused`] if it holds no tensors, [`WeightsError::Damaged`] if it is truncated.
pub(super) fn index(file: &str, backing: &Backing) -> Result<BTreeMap<String, StoredTensor>, WeightsError> {
    let damaged = |reason: String| WeightsError::Damaged { file: file.to_owned(), reason };
    let refused = |reason: String| WeightsError::Refused { file: file.to_owned(), reason };
    let program = backing.read(0, backing.len().min(MAX_PICKLE_BYTES))?;
    let mut position = 0;
    let mut next = || {
        let (pickle, len) = Pickle::read_first(&program[position..]).map_err(refused)?;
        let start = position;
        position += len;
        Ok((pickle, start))
    };
    next()?;
    let (version, _) = next()?;
    if version.integer(version.root()) != Some(VERSION) {
        return Err(refused(format!("another version than {VERSION} of the format before PyTorch 1.6")));
    }
    let (machine, _) = next()?;
    let is_little =
        machine.members(machine.root()).any(|(key, value)| key == "little_endian" && machine.integer(value) == Some(1));
    if !is_little {
        return Err(refused("its numbers are big-endian; save it again on a little-endian machine".to_owned()));
    }
    let ((saved, saved_start), (keys, _)) = (next()?, next()?);

    let mut storages: HashMap<&str, (usize, usize)> = HashMap::new();
    for key in keys.members(keys.root()).filter_map(|(_, key)| keys.text(key)) {
        let element_bytes = saved
            .element_bytes(key)
            .filter(|bytes| *bytes > 0)
            .ok_or_else(|| refused(format!("storage {key:?} has an unknown type of elements")))?;
        let cut = || damaged(format!("it ends before or in storage {key:?}"));
        let start = position + COUNT_BYTES;
        if start > backing.len() {
            return Err(cut());
        }
        let mut count = [0; COUNT_BYTES];
        count.copy_from_slice(&backing.read(position, COUNT_BYTES)?);
        let len = usize::try_from(u64::from_le_bytes(count)).ok().and_then(|count| count.checked_mul(element_bytes));
        let len = len.filter(|len| *len <= backing.len() - start).ok_or_else(cut)?;
        storages.insert(key, (start, len));
        position = start + len;
    }
    state_dict::tensors(file, (&saved, saved_start), |key| {
        storages.get(key).copied().ok_or_else(|| damaged(format!("it has no storage {key:?}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, len: Option<usize>) -> Result<BTreeMap<String, StoredTensor>, WeightsError> {
        let path = format!("{}/tests/fixtures/checkpoints/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut bytes = std::fs::read(path).unwrap();
        bytes.truncate(len.unwrap_or(bytes.len()));
        assert!(is_legacy(&bytes) || len.is_some());
        index("old.pth", &Backing::Memory(bytes.into()))
    }

    #[test]
    fn every_cut_of_a_file_is_an_error_that_names_it() {
        let whole =
            std::fs::metadata(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/checkpoints/legacy.pth")).unwrap().len();
        assert!(!read("legacy.pth", None).unwrap().is_empty());
        for len in (0..whole as usize).step_by(37).chain([whole as usize - 1]) {
            let error = read("legacy.pth", Some(len)).unwrap_err().to_string();
            assert!(error.contains("old.pth"), "{error}");
        }
    }

    #[test]
    fn other_files_have_another_format() {
        for first in [&b""[..], b"PK\x03\x04", b"\x80\x02}q\x00.", MAGIC] {
            assert!(!is_legacy(first), "{first:?}");
        }
    }
}
