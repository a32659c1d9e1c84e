//! [`Checkpoint`]: the tensors of a checkpoint of any supported format, in one file or in shards.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use super::backing::Backing;
use super::error::{WeightsError, file_name};
use super::keys::newest_names;
use super::shards::Shards;
use super::stored_tensor::StoredTensor;
use super::{legacy, pth, safetensors};

/// A checkpoint whose tensors are read one by one.
#[derive(Debug)]
pub(super) struct Checkpoint {
    parts: Vec<Backing>,
    /// Every tensor, by its name in the newest torchvision generation.
    pub(super) tensors: BTreeMap<String, StoredTensor>,
}

impl Checkpoint {
    /// Opens a `.safetensors` or `.pth` file, which are told apart by their first bytes, or the index or the folder of a
    /// checkpoint in shards.
    ///
    /// # Errors
    /// [`WeightsError`] if a file cannot be opened, is damaged, is written to meanwhile, or has another format.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        let Some(shards) = Shards::find(path)? else {
            let backing = Backing::open(path)?;
            let tensors = index(&file_name(path), &backing)?;
            return Ok(Self::new(vec![backing], tensors));
        };
        let mut parts = Vec::new();
        let mut tensors = BTreeMap::new();
        for (file, names) in shards.files() {
            let backing = Backing::open(&file)?;
            let mut stored = index(&file_name(&file), &backing)?;
            for name in names {
                let tensor = stored
                    .remove(name)
                    .ok_or_else(|| WeightsError::Missing { file: file_name(&file), name: name.clone() })?;
                tensors.insert(name.clone(), StoredTensor { part: parts.len(), ..tensor });
            }
            parts.push(backing);
        }
        Ok(Self::new(parts, tensors))
    }

    /// A `.safetensors` file that is in memory; `name` is used in errors.
    ///
    /// # Errors
    /// [`WeightsError::Damaged`] if the bytes are not such a file.
    pub(super) fn in_memory(name: &str, bytes: Bytes) -> Result<Self, WeightsError> {
        let backing = Backing::Memory(bytes);
        let tensors = safetensors::index(name, &backing)?;
        Ok(Self::new(vec![backing], tensors))
    }

    fn new(parts: Vec<Backing>, tensors: BTreeMap<String, StoredTensor>) -> Self {
        Self { parts, tensors: newest_names(tensors) }
    }

    /// The elements of a tensor in row-major order.
    ///
    /// # Errors
    /// [`WeightsError::Changed`] if its file has been written to since it was opened, [`WeightsError::Io`] if it cannot be
    /// read.
    pub(super) fn read(&self, tensor: &StoredTensor) -> Result<Bytes, WeightsError> {
        let bytes = self.parts[tensor.part].read(tensor.start, tensor.len)?;
        Ok(tensor.row_major(bytes))
    }
}

/// Where each tensor of one file lies.
fn index(file: &str, backing: &Backing) -> Result<BTreeMap<String, StoredTensor>, WeightsError> {
    let first = backing.read(0, backing.len().min(legacy::LOOK_BYTES))?;
    let tensors = if first.starts_with(pth::ZIP_MAGIC) {
        pth::index(file, backing)
    } else if legacy::is_legacy(&first) {
        legacy::index(file, backing)
    } else {
        safetensors::index(file, backing)
    };
    // A file that is written to while it is indexed may look damaged: the cause is told, not the effect.
    backing.check_unchanged()?;
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(file: &str) -> Result<Vec<String>, WeightsError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints").join(file);
        Checkpoint::open(&path).map(|checkpoint| checkpoint.tensors.into_keys().collect())
    }

    const MODEL: [&str; 2] = ["backbone.backbone.features.0.0.weight", "head.layers.1.bias"];

    #[test]
    fn tensors_are_found_in_whatever_training_code_saves() {
        for (file, prefix) in [
            ("nested_lists.pth", "0/models/0/7/"),
            ("no_checksums.pth", ""),
            ("fsdp_names.pth", ""),
            ("net_key.pth", "net/"),
        ] {
            assert_eq!(names(file).unwrap(), MODEL.map(|name| format!("{prefix}{name}")), "{file}");
        }
    }

    #[test]
    fn a_module_saved_whole_has_the_names_of_its_state_dict() {
        let of_module =
            ["0.bias", "0.weight", "1.bias", "1.num_batches_tracked", "1.running_mean", "1.running_var", "1.weight"];
        for (file, prefix) in [("whole_module.pth", "model.backbone."), ("whole_module_legacy.pth", "backbone.")] {
            let read = names(file).unwrap();
            let expected = of_module.iter().filter(|name| !name.ends_with("num_batches_tracked"));
            assert_eq!(read, expected.map(|name| format!("{prefix}{name}")).collect::<Vec<_>>(), "{file}");
        }
    }

    #[test]
    fn tensors_that_no_network_reads_refuse_no_file() {
        let read = names("odd_tensors.pth").unwrap();
        assert!(MODEL.iter().all(|name| read.contains(&(*name).to_owned())), "{read:?}");
    }

    #[test]
    fn arrays_of_numpy_are_tensors_if_networks_read_their_type() {
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Bytes>();
        for file in ["numpy_arrays.pth", "numpy_arrays_5.pth", "numpy_arrays_legacy.pth"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints").join(file);
            let checkpoint = Checkpoint::open(&path).unwrap();
            let names: Vec<&str> = checkpoint.tensors.keys().map(String::as_str).collect();
            assert_eq!(names, ["model/columns", "model/double", "model/half", "model/one", "model/rows"], "{file}");
            let read = |name: &str| checkpoint.read(&checkpoint.tensors[&format!("model/{name}")]).unwrap();
            let rows = bytes(&[-0.375, -0.25, -0.125, 0.0, 0.125, 0.25]);
            assert_eq!((read("rows"), read("columns")), (rows.clone(), rows), "{file}");
            assert_eq!(read("one"), bytes(&[-0.0625]), "{file}");
            assert_eq!(read("double")[..8], (-0.25f64).to_le_bytes(), "{file}");
            // The half-precision numbers -0.25, -0.125, 0 and 0.125.
            assert_eq!(read("half"), [0, 0xb4, 0, 0xb0, 0, 0, 0, 0x30][..], "{file}");
            assert_eq!(checkpoint.tensors["model/columns"].shape, [2, 3], "{file}");
        }
    }

    #[test]
    fn a_file_without_its_numbers_is_refused() {
        let error = names("skipped_data.pth").unwrap_err().to_string();
        assert!(error.contains("saved without its numbers"), "{error}");
    }

    #[test]
    fn shards_are_one_checkpoint_and_a_missing_tensor_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let values = |first: f32| (0..3).flat_map(|i| (first + i as f32).to_le_bytes()).collect::<Vec<_>>();
        for (shard, tensor, first) in [("1.safetensors", "a", 1.0), ("2.safetensors", "b", 5.0)] {
            let bytes = values(first);
            let view = ::safetensors::tensor::TensorView::new(::safetensors::Dtype::F32, vec![3], &bytes).unwrap();
            ::safetensors::serialize_to_file([(tensor, view)], None, &file(shard)).unwrap();
        }
        let index = file("model.safetensors.index.json");
        std::fs::write(&index, r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#).unwrap();
        for path in [&index, dir.path()] {
            let checkpoint = Checkpoint::open(path).unwrap();
            let read = |name: &str| checkpoint.read(&checkpoint.tensors[name]).unwrap();
            assert_eq!((read("a"), read("b")), (values(1.0).into(), values(5.0).into()));
        }
        std::fs::write(&index, r#"{"weight_map": {"a": "1.safetensors", "b": "1.safetensors"}}"#).unwrap();
        let error = Checkpoint::open(&index).unwrap_err().to_string();
        assert!(error.contains("1.safetensors holds no tensor \"b\""), "{error}");
        std::fs::write(&index, r#"{"weight_map": {"a": "3.safetensors"}}"#).unwrap();
        assert!(matches!(Checkpoint::open(&index), Err(WeightsError::Io { .. })));
    }
}
