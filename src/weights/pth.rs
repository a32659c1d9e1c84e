//! Where each tensor of a PyTorch `.pth` file lies: an uncompressed zip archive of one pickle and one file per storage.

use std::collections::{BTreeMap, HashSet};
use std::io::{Cursor, Read};

use candle_core::DType;
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use super::error::WeightsError;
use super::pickle::{Pickle, TensorRef};
use super::stored_tensor::StoredTensor;

/// Largest pickle that is read. That of a state dict with a thousand tensors has some 100 kB.
const MAX_PICKLE_BYTES: u64 = 32 << 20;
/// How deep dictionaries may be nested for their tensors to be found.
const MAX_NESTING: usize = 4;
/// How to write a file that can be read.
const ADVICE: &str = "a dictionary of tensors is needed, as torch.save(model.state_dict(), path) writes it";

/// The first bytes of a zip archive.
pub(super) const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// The first bytes of the format before PyTorch 1.6, a bare pickle of protocol 2.
pub(super) const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e";

/// Finds the tensors, and compares every storage with its checksum in the archive.
///
/// # Errors
/// [`WeightsError::Refused`] if it holds no state dict, [`WeightsError::Damaged`] if it is truncated or altered.
pub(super) fn index(file: &str, bytes: &[u8]) -> Result<BTreeMap<String, StoredTensor>, WeightsError> {
    let damaged = |reason: String| WeightsError::Damaged { file: file.to_owned(), reason };
    let refused = |reason: String| WeightsError::Refused { file: file.to_owned(), reason };
    // The archive begins where the file does, which the library need not detect. Its detection fails if the name of the
    // inner folder has 21 characters: then torch's 76 bytes of ZIP64 records have the length of the directory's first
    // entry.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipArchive::with_config(config, Cursor::new(bytes))
        .map_err(|error| damaged(format!("its zip archive: {error}")))?;
    let root = archive
        .file_names()
        .find_map(|name| name.ok()?.strip_suffix("data.pkl").map(str::to_owned))
        .ok_or_else(|| damaged("a zip archive without data.pkl; a file written by torch.save is needed".to_owned()))?;
    let pickle = read_member(&mut archive, &format!("{root}data.pkl"), MAX_PICKLE_BYTES).map_err(damaged)?;
    if archive.index_for_name(&format!("{root}byteorder")).is_some() {
        let order = read_member(&mut archive, &format!("{root}byteorder"), 16).map_err(damaged)?;
        if order != b"little" {
            return Err(refused("its numbers are big-endian; save it again on a little-endian machine".to_owned()));
        }
    }
    let pickle = Pickle::read(&pickle).map_err(&refused)?;
    let named = named_tensors(&pickle);
    if named.is_empty() {
        return Err(refused(format!("no state dict in it ({}); {ADVICE}", contents_of(&pickle))));
    }

    let mut storages: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    for (name, tensor) in named {
        let Some(dtype) = tensor.dtype else { continue };
        let (start, len) = match storages.get(&*tensor.key) {
            Some(range) => *range,
            None => {
                let range =
                    storage_range(&mut archive, &format!("{root}data/{}", tensor.key), bytes.len()).map_err(damaged)?;
                *storages.entry(&tensor.key).or_insert(range)
            }
        };
        match place(tensor, dtype, start, len) {
            Ok(stored) => drop(tensors.insert(name, stored)),
            // It may not be needed; if it is, it will be reported as missing.
            Err(reason) => tracing::warn!(file, "tensor {name:?} {reason}, and is left out"),
        }
    }
    Ok(tensors)
}

type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

fn read_member(archive: &mut Archive<'_>, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let member = archive.by_name(name).map_err(|error| format!("{name}: {error}"))?;
    if member.size() > limit {
        return Err(format!("{name} has {} bytes, and at most {limit} are read", member.size()));
    }
    let mut bytes = Vec::new();
    member.take(limit).read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
    Ok(bytes)
}

/// Position and length of a storage. It is read to the end once, so that its checksum is compared.
fn storage_range(archive: &mut Archive<'_>, name: &str, file_len: usize) -> Result<(usize, usize), String> {
    let mut member = archive.by_name(name).map_err(|error| format!("{name}: {error}"))?;
    if member.compression() != CompressionMethod::Stored {
        return Err(format!("{name} is compressed; torch.save never does that"));
    }
    let range =
        member.data_start().and_then(|start| Some((usize::try_from(start).ok()?, usize::try_from(member.size()).ok()?)));
    let (start, len) = range
        .filter(|(start, len)| start.checked_add(*len).is_some_and(|end| end <= file_len))
        .ok_or_else(|| format!("{name} reaches beyond the end of the file"))?;
    std::io::copy(&mut member, &mut std::io::sink()).map_err(|error| format!("{name}: {error}"))?;
    Ok((start, len))
}

/// The tensors of all dictionaries. The names of those in nested dictionaries begin with their keys, each followed by `/`.
fn named_tensors(pickle: &Pickle) -> Vec<(String, &TensorRef)> {
    let mut named = Vec::new();
    let mut seen = HashSet::from([pickle.root()]);
    let mut open = vec![(String::new(), pickle.root(), 0)];
    while let Some((path, id, depth)) = open.pop() {
        for (key, value) in pickle.entries(id).into_iter().flatten() {
            if let Some(tensor) = pickle.tensor(value) {
                named.push((format!("{path}{key}"), tensor));
            } else if depth < MAX_NESTING && pickle.entries(value).is_some() && seen.insert(value) {
                open.push((format!("{path}{key}/"), value, depth + 1));
            }
        }
    }
    named
}

/// What a file without a state dict holds instead, for its error.
fn contents_of(pickle: &Pickle) -> String {
    const SHOWN: usize = 8;
    let found = match pickle.entries(pickle.root()) {
        Some(entries) => format!("keys: {}", entries.take(SHOWN).map(|(name, _)| name).collect::<Vec<_>>().join(", ")),
        None => "not a dictionary".to_owned(),
    };
    match pickle.foreign() {
        [] => found,
        names => format!("{found}; objects of {}, none of which were run", names.join(", ")),
    }
}

/// Where a view of a storage lies in the file.
///
/// # Errors
/// If the view does not lie inside its storage.
fn place(tensor: &TensorRef, dtype: DType, start: usize, storage_len: usize) -> Result<StoredTensor, String> {
    let size = dtype.size_in_bytes();
    let elements = storage_len / size;
    let outside = || format!("of shape {:?} does not fit its storage of {elements} elements", tensor.shape);
    let count = tensor.shape.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim)).ok_or_else(outside)?;
    // Elements from the first to the end of the last; an empty tensor has none.
    let span = if count == 0 {
        Some(0)
    } else {
        let steps = tensor.shape.iter().zip(&tensor.strides);
        steps.into_iter().try_fold(1usize, |span, (dim, stride)| span.checked_add((dim - 1).checked_mul(*stride)?))
    };
    let span = span.ok_or_else(outside)?;
    // A view that repeats elements (stride 0) could have any size. No state dict holds one, so more elements than the
    // storage has are refused.
    if count > elements || tensor.offset.checked_add(span).is_none_or(|end| end > elements) {
        return Err(outside());
    }
    Ok(StoredTensor {
        dtype,
        shape: tensor.shape.clone(),
        strides: (!is_row_major(&tensor.shape, &tensor.strides)).then(|| tensor.strides.clone()),
        start: start + tensor.offset * size,
        len: span * size,
    })
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    shape.iter().zip(strides).rev().all(|(dim, stride)| {
        let fits = *dim <= 1 || *stride == expected;
        expected = expected.saturating_mul(*dim);
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_dictionary_that_holds_itself_is_read_once() {
        let pickle = Pickle::read(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.").unwrap();
        assert!(named_tensors(&pickle).is_empty());
    }

    #[test]
    fn a_file_of_foreign_objects_alone_is_refused_and_they_are_named() {
        let pickle = Pickle::read(b"\x80\x02cmine\nModel\n)\x81}b.").unwrap();
        assert!(named_tensors(&pickle).is_empty());
        assert_eq!(contents_of(&pickle), "not a dictionary; objects of mine.Model, none of which were run");
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

    #[test]
    fn a_view_outside_its_storage_is_an_error() {
        let view = |shape: &[usize], strides: &[usize], offset| TensorRef {
            key: "0".into(),
            dtype: Some(DType::F32),
            offset,
            shape: shape.into(),
            strides: strides.into(),
        };
        assert!(place(&view(&[2, 3], &[3, 1], 0), DType::F32, 0, 24).is_ok());
        assert!(place(&view(&[0, 3], &[3, 1], 6), DType::F32, 0, 24).is_ok());
        for (shape, strides, offset) in [
            (&[2, 3][..], &[3, 1][..], 1),
            (&[2, 4], &[4, 1], 0),
            (&[usize::MAX, usize::MAX], &[0, 0], 0),
            (&[1 << 40], &[0], 0),
            (&[2], &[usize::MAX], 0),
            (&[1], &[1], usize::MAX),
        ] {
            assert!(place(&view(shape, strides, offset), DType::F32, 0, 24).is_err(), "{shape:?} {strides:?} {offset}");
        }
    }
}
