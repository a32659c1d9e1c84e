//! Where a model's weights are on this machine, before anything is read.

use std::path::{Path, PathBuf};

use super::{Weights, WeightsError, WeightsKind};
use crate::zoo::{ModelSpec, WeightsSpec};

/// How weights may be got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WeightsMode {
    /// From this machine, else from the hub.
    #[default]
    Auto,
    /// From this machine only; no socket is opened.
    Offline,
    /// By the synthetic rule, for tests and benchmarks.
    Synthetic {
        /// The rule's seed.
        seed: u64,
    },
}

/// Where weights were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightsPlace {
    /// Nowhere on this machine.
    Remote,
    /// In a file.
    File(PathBuf),
    /// In the program.
    Embedded(&'static [u8]),
    /// In no place: they are made up.
    Synthetic(u64),
}

/// Looks up files of the demo bundle by name.
pub type EmbeddedFiles = fn(&str) -> Option<&'static [u8]>;

/// Finds and opens the weights of models.
#[derive(Clone, Debug)]
pub struct WeightsLocator {
    /// How weights may be got.
    pub mode: WeightsMode,
    /// Searched first, by the file name of the model's weights and by model id.
    pub models_dir: Option<PathBuf>,
    /// The demo bundle.
    pub embedded: EmbeddedFiles,
}

impl WeightsLocator {
    /// Where a model's weights are.
    pub fn place(&self, spec: &ModelSpec) -> WeightsPlace {
        if let WeightsSpec::Embedded { file } = &spec.weights {
            return (self.embedded)(file).map_or(WeightsPlace::Remote, WeightsPlace::Embedded);
        }
        if let WeightsMode::Synthetic { seed } = self.mode {
            return WeightsPlace::Synthetic(seed);
        }
        let file = match &spec.weights {
            WeightsSpec::File { path } => path.is_file().then(|| path.clone()),
            WeightsSpec::Hub { file, .. } | WeightsSpec::Archive { file, .. } => {
                self.in_models_dir(&spec.id, Path::new(file))
            }
            WeightsSpec::Embedded { .. } | WeightsSpec::NewHeads { .. } => None,
        };
        file.map_or(WeightsPlace::Remote, WeightsPlace::File)
    }

    /// `DIR/<file>`, its last part, or `DIR/<id>`, as `.safetensors` or `.pth`; the memory-mappable form first.
    fn in_models_dir(&self, id: &str, file: &Path) -> Option<PathBuf> {
        let dir = self.models_dir.as_ref()?;
        let stems =
            [Some(dir.join(file)), file.file_name().map(|name| dir.join(name)), Some(dir.join(format!("{id}.pth")))];
        let candidates = stems.into_iter().flatten().flat_map(|path| [path.with_extension("safetensors"), path]);
        candidates.into_iter().find(|path| path.is_file())
    }

    /// What a model's weights are.
    pub fn kind(&self, spec: &ModelSpec) -> WeightsKind {
        match (&self.mode, &spec.weights) {
            (_, WeightsSpec::Embedded { .. }) => WeightsKind::Demo,
            (WeightsMode::Synthetic { .. }, _) => WeightsKind::Synthetic,
            _ => WeightsKind::from(spec.origin),
        }
    }

    /// A short name of a model's weights that changes when they do, without reading them.
    ///
    /// # Errors
    /// What the file system says of the weights file.
    pub fn revision(&self, spec: &ModelSpec) -> Result<String, WeightsError> {
        match self.place(spec) {
            WeightsPlace::Remote => Ok("remote".to_owned()),
            WeightsPlace::Synthetic(seed) => Ok(format!("synthetic-{seed}")),
            // Embedded bytes change with the program only.
            WeightsPlace::Embedded(bytes) => Ok(format!("demo-{}-{}", env!("CARGO_PKG_VERSION"), bytes.len())),
            WeightsPlace::File(path) => {
                let failed = |source| WeightsError::Io { path: path.clone(), source };
                let metadata = path.metadata().map_err(failed)?;
                let modified = metadata.modified().map_err(failed)?;
                let identity = format!("{} {} {modified:?}", path.display(), metadata.len());
                Ok(blake3::hash(identity.as_bytes()).to_hex()[..16].to_owned())
            }
        }
    }

    /// Opens a model's weights.
    ///
    /// # Errors
    /// [`WeightsError::NotFound`] where they are not on this machine, and what opening says.
    pub fn open(&self, spec: &ModelSpec) -> Result<Weights, WeightsError> {
        match self.place(spec) {
            WeightsPlace::Synthetic(seed) => Ok(Weights::synthetic(seed)),
            WeightsPlace::Embedded(bytes) => Weights::embedded(&spec.id, bytes),
            WeightsPlace::File(path) => Weights::open(&path, WeightsKind::from(spec.origin)),
            WeightsPlace::Remote => Err(WeightsError::NotFound { model: spec.id.clone() }),
        }
    }
}
