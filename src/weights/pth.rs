//! Where each tensor of a PyTorch `.pth` file lies: an uncompressed zip archive of one pickle and one file per storage.

use std::collections::{BTreeMap, HashMap};
use std::io::BufReader;

use bytes::Bytes;
use flate2::Crc;
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use super::backing::{Backing, BackingReader};
use super::error::WeightsError;
use super::pickle::Pickle;
use super::state_dict;
use super::stored_tensor::StoredTensor;

/// The first bytes of a zip archive.
pub(super) const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// Largest pickle that is read. That of a state dict with a thousand tensors has some 100 kB, but arrays of numpy are in it.
const MAX_PICKLE_BYTES: u64 = 1 << 30;

/// Finds the tensors, and compares every storage with its checksum in the archive.
///
/// # Errors
/// [`WeightsError::Refused`] if it holds no tensors, [`WeightsError::Damaged`] if it is truncated or altered.
pub(super) fn index(file: &str, backing: &Backing) -> Result<BTreeMap<String, StoredTensor>, WeightsError> {
    let refused = |reason: String| WeightsError::Refused { file: file.to_owned(), reason };
    let mut archive = Archive::open(file, backing)?;
    let pickle_name = format!("{}data.pkl", archive.root);
    let (pickle_bytes, pickle_member) = archive.read(&pickle_name, MAX_PICKLE_BYTES)?;
    let byte_order = format!("{}byteorder", archive.root);
    if archive.zip.index_for_name(&byte_order).is_some() && archive.read(&byte_order, 16)?.0 != b"little"[..] {
        return Err(refused("its numbers are big-endian; save it again on a little-endian machine".to_owned()));
    }
    let pickle = Pickle::read(&pickle_bytes).map_err(refused)?;
    drop(pickle_bytes);
    let mut storages: HashMap<String, (usize, usize)> = HashMap::new();
    state_dict::tensors(file, (&pickle, pickle_member.start), |key| {
        if let Some(range) = storages.get(key) {
            return Ok(*range);
        }
        let member = archive.member(&format!("{}data/{key}", archive.root))?;
        // torch can save without checksums; all are 0 then. That of no bytes is 0 too.
        if member.crc == 0 && member.len > 0 && pickle_member.crc != 0 {
            return Err(refused("it was saved without its numbers (torch.serialization.skip_data)".to_owned()));
        }
        archive.verify(&member)?;
        storages.insert(key.to_owned(), (member.start, member.len));
        Ok((member.start, member.len))
    })
}

/// A zip archive whose files are not compressed.
struct Archive<'a> {
    file: &'a str,
    backing: &'a Backing,
    zip: ZipArchive<BufReader<BackingReader<'a>>>,
    /// The folder of all members, with a slash.
    root: String,
}

/// Where a file of the archive lies.
struct ArchiveMember {
    name: String,
    start: usize,
    len: usize,
    /// Its CRC-32, or 0 if it was written without.
    crc: u32,
}

impl<'a> Archive<'a> {
    fn open(file: &'a str, backing: &'a Backing) -> Result<Self, WeightsError> {
        let damaged = |reason: String| WeightsError::Damaged { file: file.to_owned(), reason };
        // The archive begins where the file does, which the library need not detect. Its detection fails if the name of the
        // inner folder has 21 characters: then torch's 76 bytes of ZIP64 records have the length of the directory's first
        // entry.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(config, BufReader::new(backing.reader()))
            .map_err(|error| damaged(format!("its zip archive: {error}")))?;
        let root = zip
            .file_names()
            .find_map(|name| name.ok()?.strip_suffix("data.pkl").map(str::to_owned))
            .ok_or_else(|| damaged("a zip archive without data.pkl; a file written by torch.save is needed".to_owned()))?;
        Ok(Self { file, backing, zip, root })
    }

    fn damaged(&self, reason: String) -> WeightsError {
        WeightsError::Damaged { file: self.file.to_owned(), reason }
    }

    fn member(&mut self, name: &str) -> Result<ArchiveMember, WeightsError> {
        let found = self.zip.by_name(name).map(|member| {
            let is_stored = member.compression() == CompressionMethod::Stored;
            let range =
                member.data_start().and_then(|start| Some((start.try_into().ok()?, member.size().try_into().ok()?)));
            (is_stored, range, member.crc32())
        });
        match found.map_err(|error| self.damaged(format!("{name}: {error}")))? {
            (false, ..) => Err(self.damaged(format!("{name} is compressed; torch.save never does that"))),
            (true, Some((start, len)), crc)
                if usize::checked_add(start, len).is_some_and(|end| end <= self.backing.len()) =>
            {
                Ok(ArchiveMember { name: name.to_owned(), start, len, crc })
            }
            _ => Err(self.damaged(format!("{name} reaches beyond the end of the file"))),
        }
    }

    /// The bytes of a member, and where they are.
    fn read(&mut self, name: &str, limit: u64) -> Result<(Bytes, ArchiveMember), WeightsError> {
        let member = self.member(name)?;
        if member.len as u64 > limit {
            return Err(self.damaged(format!("{name} has {} bytes, and at most {limit} are read", member.len)));
        }
        self.verify(&member)?;
        Ok((self.backing.read(member.start, member.len)?, member))
    }

    /// Compares a member with its checksum.
    fn verify(&self, member: &ArchiveMember) -> Result<(), WeightsError> {
        const CHUNK_BYTES: usize = 1 << 20;
        if member.crc == 0 {
            return Ok(());
        }
        let mut crc = Crc::new();
        for start in (0..member.len).step_by(CHUNK_BYTES) {
            crc.update(&self.backing.read(member.start + start, CHUNK_BYTES.min(member.len - start))?);
        }
        if crc.sum() == member.crc { Ok(()) } else { Err(self.damaged(format!("{}: invalid checksum", member.name))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(name: &str, bytes: &[u8]) -> Result<BTreeMap<String, StoredTensor>, WeightsError> {
        super::index(name, &Backing::Memory(bytes.to_vec().into()))
    }

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/fixtures/checkpoints/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn tensors_are_found_at_any_nesting() {
        for name in ["plain_fp32.pth", "nested_module_bf16.pth", "lightning_fp16.pth"] {
            let tensors = index(name, &fixture(name)).unwrap();
            assert!(
                tensors
                    .keys()
                    .any(|key| key.ends_with("inner_blocks.0.0.weight") || key.ends_with("inner_blocks.0.weight")),
                "{name}: {tensors:?}"
            );
        }
    }

    /// The name of the inner folder is that of the file. One of 21 characters once hid the archive.
    #[test]
    fn an_inner_folder_may_have_a_name_of_any_length() {
        for name in ["sentinel2_swinb_si_ms.pth", "sentinel2_swinb_si_rgb.pth"] {
            let tensors = index(name, &fixture(name)).unwrap();
            assert!(tensors["head.layers.1.bias"].shape == [2], "{name}: {tensors:?}");
        }
    }

    #[test]
    fn foreign_objects_beside_the_state_dict_do_no_harm_and_are_not_run() {
        for name in ["malicious.pth", "args_namespace.pth", "lightning_numpy_scalar.ckpt", "weights_only_set.ckpt"] {
            assert!(!index(name, &fixture(name)).unwrap().is_empty(), "{name}");
        }
    }

    #[test]
    fn tensors_are_found_under_any_key_and_named_with_it() {
        let names = |file| index(file, &fixture(file)).unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(names("net_key.pth"), ["net/backbone.backbone.features.0.0.weight", "net/head.layers.1.bias"]);
        assert!(names("criterion_weight.ckpt").contains(&"state_dict/criterion.weight".to_owned()));
    }

    #[test]
    fn every_cut_of_a_file_is_an_error_that_names_it() {
        let bytes = fixture("plain_fp32.pth");
        for tenth in 0..10 {
            let error = index("cut.pth", &bytes[..bytes.len() * tenth / 10]).unwrap_err().to_string();
            assert!(error.contains("cut.pth"), "{error}");
        }
    }

    #[test]
    fn a_changed_number_is_found_by_its_checksum() {
        let mut bytes = fixture("plain_fp32.pth");
        let tensor = index("whole.pth", &bytes).unwrap().into_values().next().unwrap();
        bytes[tensor.start] ^= 1;
        assert!(matches!(index("changed.pth", &bytes), Err(WeightsError::Damaged { .. })));
    }
}
