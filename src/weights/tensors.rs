//! [`Weights`]: the named tensors of one model, each read when the network asks for it.
//!
//! They come from a `.safetensors` or `.pth` file, from bytes embedded in the program, or from the synthetic rule.
//! Names are those of the newest torchvision generation, without the prefixes of wrappers. A tensor is copied once, to its
//! device.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use super::checkpoint::Checkpoint;
use super::error::{WeightsError, file_name};
use super::keys::Naming;
use super::kind::WeightsKind;
use super::stored_tensor::StoredTensor;
use super::{keys, synthetic};
use crate::zoo::HeadsFile;

/// A tensor of a file, without its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorInfo {
    /// Its name in the newest torchvision generation.
    pub name: String,
    /// `f32`, `f16`, `bf16`, …
    pub dtype: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
}

#[derive(Debug)]
enum TensorSource {
    Stored {
        checkpoint: Checkpoint,
        /// The tensors of the model, by the model's names.
        tensors: BTreeMap<String, StoredTensor>,
    },
    Synthetic {
        seed: u64,
    },
}

/// The named tensors of one model.
#[derive(Debug)]
pub struct Weights {
    /// The file's name, for errors.
    file: String,
    naming: Naming,
    kind: WeightsKind,
    source: TensorSource,
    /// Seed of the heads that a manifest adds to the file, if it adds some.
    new_heads: Option<u64>,
}

impl Weights {
    /// Opens a checkpoint file without reading its tensors.
    ///
    /// # Errors
    /// [`WeightsError`] if the file cannot be opened, is damaged, or is neither a `.safetensors` nor a zipped `.pth` file.
    pub fn open(path: &Path, kind: WeightsKind) -> Result<Self, WeightsError> {
        let checkpoint = Checkpoint::open(path)?;
        Ok(Self::stored(file_name(path), kind, checkpoint))
    }

    /// Opens a `.safetensors` file that is embedded in the program; `name` is used in errors.
    ///
    /// # Errors
    /// [`WeightsError::Damaged`] if the bytes are not such a file.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Result<Self, WeightsError> {
        let checkpoint = Checkpoint::in_memory(name, Bytes::from_static(bytes))?;
        Ok(Self::stored(name.to_owned(), WeightsKind::Demo, checkpoint))
    }

    /// Opens the tensors of heads, whose names are taken as they are.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub(super) fn of_heads(file: &HeadsFile) -> Result<Self, WeightsError> {
        let (name, checkpoint) = match file {
            HeadsFile::Path(path) => (file_name(path), Checkpoint::open(path)?),
            HeadsFile::Memory(bytes) => ("heads".to_owned(), Checkpoint::in_memory("heads", bytes.clone())?),
        };
        let mut weights = Self::stored(name, WeightsKind::FittedHeads, checkpoint);
        weights.rename(Naming::default());
        Ok(weights)
    }

    /// Weights for any model, computed by the synthetic rule.
    pub fn synthetic(seed: u64) -> Self {
        Self {
            file: format!("synthetic:{seed}"),
            naming: Naming::default(),
            kind: WeightsKind::Synthetic,
            source: TensorSource::Synthetic { seed },
            new_heads: None,
        }
    }

    fn stored(file: String, kind: WeightsKind, checkpoint: Checkpoint) -> Self {
        let naming = Naming::usual(&checkpoint.tensors);
        let source = TensorSource::Stored { checkpoint, tensors: BTreeMap::new() };
        let mut weights = Self { file, naming: naming.clone(), kind, source, new_heads: None };
        weights.rename(naming);
        weights
    }

    /// Chooses which tensors of the file are the model's, and their names.
    pub(super) fn rename(&mut self, naming: Naming) {
        if let TensorSource::Stored { checkpoint, tensors } = &mut self.source {
            let named = checkpoint.tensors.iter().filter_map(|(name, stored)| Some((naming.name(name)?, stored.clone())));
            *tensors = named.collect();
            self.naming = naming;
        }
    }

    pub(super) fn naming(&self) -> &Naming {
        &self.naming
    }

    /// Name and shape of every tensor of the file, by its name there.
    pub(super) fn in_file(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let all = match &self.source {
            TensorSource::Stored { checkpoint, .. } => Some(&checkpoint.tensors),
            TensorSource::Synthetic { .. } => None,
        };
        all.into_iter().flatten().map(|(name, stored)| (name.as_str(), stored.shape.as_slice()))
    }

    /// The same weights with random weights for the heads of a manifest ([`FIRST_NEW_HEAD`](crate::zoo::FIRST_NEW_HEAD) and
    /// above). Synthetic weights do not change: they have every head already.
    #[must_use]
    pub fn with_new_heads(mut self, seed: u64) -> Self {
        if !self.is_synthetic() {
            self.kind = WeightsKind::UntrainedHeads;
            self.new_heads = Some(seed);
        }
        self
    }

    /// The seed of a tensor that belongs to a new head; `None` for any other tensor.
    fn new_head_seed(&self, name: &str) -> Option<u64> {
        self.new_heads.filter(|_| keys::is_new_head(name))
    }

    /// The tensor with this name, in the file's floating-point type (float64 becomes float32).
    ///
    /// # Errors
    /// [`WeightsError`] if there is no such tensor, it has another shape or no floating-point type, or the file has been
    /// written to since it was opened.
    pub fn get(&self, name: &str, shape: &[usize], device: &Device) -> Result<Tensor, WeightsError> {
        let placed = |source| WeightsError::Device { name: name.to_owned(), source };
        match &self.source {
            TensorSource::Synthetic { seed } => {
                Tensor::from_vec(synthetic::synthetic_values(name, shape, *seed), shape, device).map_err(placed)
            }
            TensorSource::Stored { checkpoint, tensors } => {
                if let Some(seed) = self.new_head_seed(name) {
                    return Tensor::from_vec(synthetic::untrained_values(name, shape, seed), shape, device).map_err(placed);
                }
                let stored = tensors
                    .get(name)
                    .ok_or_else(|| WeightsError::Missing { file: self.file.clone(), name: name.to_owned() })?;
                self.check(name, stored, shape)?;
                let bytes = checkpoint.read(stored)?;
                let tensor = Tensor::from_raw_buffer(&bytes, stored.dtype, &stored.shape, device).map_err(placed)?;
                if stored.dtype == DType::F64 { tensor.to_dtype(DType::F32).map_err(placed) } else { Ok(tensor) }
            }
        }
    }

    fn check(&self, name: &str, stored: &StoredTensor, needed: &[usize]) -> Result<(), WeightsError> {
        let (file, name) = (self.file.clone(), name.to_owned());
        if stored.shape != needed {
            return Err(WeightsError::Misshapen { file, name, found: stored.shape.clone(), needed: needed.to_vec() });
        }
        if !stored.dtype.is_float() {
            return Err(WeightsError::ElementType { file, name, found: stored.dtype.as_str().to_owned() });
        }
        Ok(())
    }

    /// The shape of a stored tensor; `None` if there is no such tensor, or weights are synthetic and have every shape.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match &self.source {
            TensorSource::Stored { tensors, .. } => tensors.get(name).map(|stored| stored.shape.clone()),
            TensorSource::Synthetic { .. } => None,
        }
    }

    /// Whether [`Weights::get`] can return a tensor with this name: one in the file, one of a new head, or any if weights
    /// are synthetic.
    pub fn contains(&self, name: &str) -> bool {
        match &self.source {
            TensorSource::Stored { tensors, .. } => tensors.contains_key(name) || self.new_head_seed(name).is_some(),
            TensorSource::Synthetic { .. } => true,
        }
    }

    /// Names of the stored tensors in alphabetical order; synthetic weights have none.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let tensors = match &self.source {
            TensorSource::Stored { tensors, .. } => Some(tensors),
            TensorSource::Synthetic { .. } => None,
        };
        tensors.into_iter().flat_map(|tensors| tensors.keys().map(String::as_str))
    }

    /// The stored tensors in alphabetical order; synthetic weights have none.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo> {
        let tensors = match &self.source {
            TensorSource::Stored { tensors, .. } => Some(tensors),
            TensorSource::Synthetic { .. } => None,
        };
        tensors.into_iter().flatten().map(|(name, stored)| TensorInfo {
            name: name.clone(),
            dtype: stored.dtype.as_str().to_owned(),
            shape: stored.shape.clone(),
        })
    }

    /// What the names in the file begin with and names here do not: prefixes of wrappers such as `DistributedDataParallel`,
    /// and keys of nested dictionaries, each followed by `/`.
    pub fn prefix(&self) -> String {
        format!("{}{}", self.naming.from, self.naming.strip)
    }

    /// The file's name, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What the weights are.
    pub fn kind(&self) -> WeightsKind {
        self.kind
    }

    /// Whether all weights are synthetic.
    pub fn is_synthetic(&self) -> bool {
        self.kind == WeightsKind::Synthetic
    }

    /// Total size of the tensors that networks read; 0 for synthetic weights.
    pub fn bytes(&self) -> u64 {
        match &self.source {
            TensorSource::Stored { tensors, .. } => {
                let read = tensors.iter().filter(|(name, _)| !keys::is_ignored(name));
                read.map(|(_, stored)| stored.len as u64).sum()
            }
            TensorSource::Synthetic { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const WORLD: &[u8] = include_bytes!("../../static/demo/world.safetensors");

    #[test]
    fn a_tensor_has_its_stored_type() {
        let weights = Weights::embedded("world", WORLD).unwrap();
        let name = "backbone.backbone.features.0.0.weight";
        let tensor = weights.get(name, &[24, 3, 4, 4], &Device::Cpu).unwrap();
        assert_eq!((tensor.dims(), tensor.dtype()), (&[24, 3, 4, 4][..], DType::F16));
    }

    #[test]
    fn another_shape_is_an_error_that_names_both() {
        let weights = Weights::embedded("world", WORLD).unwrap();
        let error = weights.get("backbone.backbone.features.0.0.bias", &[25], &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("features.0.0.bias") && error.contains("[24]") && error.contains("[25]"), "{error}");
    }

    #[test]
    fn a_file_that_is_written_to_is_read_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.safetensors");
        std::fs::write(&path, WORLD).unwrap();
        let weights = Weights::open(&path, WeightsKind::FineTuned).unwrap();
        let get = || weights.get("backbone.backbone.features.0.0.bias", &[24], &Device::Cpu);
        get().unwrap();
        std::fs::write(&path, b"cut short").unwrap();
        assert!(matches!(get(), Err(WeightsError::Changed { .. })));

        for cut in [true, false] {
            std::fs::write(&path, WORLD).unwrap();
            let weights = Weights::open(&path, WeightsKind::FineTuned).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            if cut {
                file.set_len(WORLD.len() as u64 / 2).unwrap()
            } else {
                (&file).write_all(&WORLD[..9]).unwrap()
            }
            let names: Vec<_> = weights.tensors().collect();
            for TensorInfo { name, shape, .. } in names {
                let outcome = weights.get(&name, &shape, &Device::Cpu);
                // Tensors of whole numbers are refused before anything is read.
                let is_refused = matches!(outcome, Err(WeightsError::Changed { .. } | WeightsError::ElementType { .. }));
                assert!(is_refused, "{name} after a cut ({cut}): {outcome:?}");
            }
        }

        std::fs::write(&path, WORLD).unwrap();
        let weights = Weights::open(&path, WeightsKind::FineTuned).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(weights.get("backbone.backbone.features.0.0.bias", &[24], &Device::Cpu).is_ok(), "it is still open");
    }

    #[test]
    fn every_cut_of_a_file_is_an_error() {
        for len in [0, 4, 8, 100, WORLD.len() / 2, WORLD.len() - 1] {
            let error = Weights::embedded("cut", &WORLD[..len]).unwrap_err();
            assert!(matches!(error, WeightsError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn every_format_gives_the_same_tensors() {
        let open = |name: &str| {
            let path = format!("{}/tests/fixtures/checkpoints/{name}", env!("CARGO_MANIFEST_DIR"));
            Weights::open(Path::new(&path), WeightsKind::FineTuned)
        };
        for name in ["plain_fp32.pth", "nested_module_bf16.pth", "lightning_fp16.pth", "legacy.pth", "plain.safetensors"] {
            let weights = open(name).unwrap();
            for (tensor, shape) in [
                ("intermediates.0.fpn.inner_blocks.0.0.weight", &[2, 3, 1, 1][..]),
                ("heads.0.rpn.head.conv.0.0.bias", &[4]),
                ("backbone.backbone.features.0.0.weight", &[2, 3]),
            ] {
                let read = |weights: &Weights| {
                    let tensor = weights.get(tensor, shape, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
                    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
                };
                assert_eq!(read(&weights), read(&open("plain.safetensors").unwrap()), "{name}: {tensor}");
            }
            let read = |weights: &Weights| {
                weights.names().filter(|name| !keys::is_ignored(name)).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(read(&weights), read(&open("plain.safetensors").unwrap()), "{name}");
        }
    }

    #[test]
    fn new_heads_are_drawn_from_their_seed() {
        let open = |seed| Weights::embedded("world", WORLD).unwrap().with_new_heads(seed);
        let name = "heads.100.layers.0.0.weight";
        let draw =
            |seed| open(seed).get(name, &[2, 3, 3, 3], &Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let (first, again, other): (Vec<f32>, _, _) = (draw(1), draw(1), draw(2));
        assert!(first == again && first != other);
        assert!(first.iter().all(|value| value.abs() <= (27f32).sqrt().recip()));
        assert!(open(1).contains(name) && !open(1).contains("heads.9.layers.0.0.weight"));
        assert_eq!(open(1).kind().as_str(), "untrained-heads");
    }

    #[test]
    fn synthetic_weights_have_every_tensor() {
        let weights = Weights::synthetic(7);
        assert!(weights.contains("anything.weight"));
        assert_eq!(weights.get("anything.weight", &[2, 5], &Device::Cpu).unwrap().dims(), [2, 5]);
        assert_eq!((weights.names().count(), weights.kind().as_str()), (0, "synthetic"));
    }
}
