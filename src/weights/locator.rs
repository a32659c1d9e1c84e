//! The one place that decides where a model's weights come from: the program, the synthetic rule, or the [`Library`].

use std::path::PathBuf;

use super::{Library, Progress, Weights, WeightsError, WeightsKind};
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

/// What is known of a model's weights without reading them.
#[derive(Clone, Debug)]
pub struct LocatedWeights {
    /// Where they are.
    pub place: WeightsPlace,
    /// What they are.
    pub kind: WeightsKind,
    /// Changes whenever the weights do.
    pub revision: String,
}

/// Looks up files of the demo bundle by name.
pub type EmbeddedFiles = fn(&str) -> Option<&'static [u8]>;

/// Finds and opens the weights of models.
#[derive(Clone, Debug)]
pub struct WeightsLocator {
    /// How weights may be got.
    pub mode: WeightsMode,
    /// Files on this machine and on the hub.
    pub library: Library,
    /// The demo bundle.
    pub embedded: EmbeddedFiles,
}

impl WeightsLocator {
    /// Where a model's weights are.
    pub fn place(&self, spec: &ModelSpec) -> WeightsPlace {
        match (spec.weights.checkpoint(), &self.mode) {
            (WeightsSpec::Embedded { file }, _) => {
                (self.embedded)(file).map_or(WeightsPlace::Remote, WeightsPlace::Embedded)
            }
            (_, WeightsMode::Synthetic { seed }) => WeightsPlace::Synthetic(*seed),
            _ => self.library.find(spec).map_or(WeightsPlace::Remote, WeightsPlace::File),
        }
    }

    /// What a model's weights are.
    pub fn kind(&self, spec: &ModelSpec) -> WeightsKind {
        match (&spec.weights, &self.mode) {
            (WeightsSpec::Embedded { .. }, _) => WeightsKind::Demo,
            (WeightsSpec::NewHeads { base, .. }, _) if matches!(base.checkpoint(), WeightsSpec::Embedded { .. }) => {
                WeightsKind::UntrainedHeads
            }
            (_, WeightsMode::Synthetic { .. }) => WeightsKind::Synthetic,
            (WeightsSpec::NewHeads { .. }, _) => WeightsKind::UntrainedHeads,
            _ => WeightsKind::from(spec.origin),
        }
    }

    /// Where a model's weights are, what they are, and a revision that changes when they do: one look at the file system, and
    /// no weights are read.
    ///
    /// # Errors
    /// If the file's size and time cannot be read.
    pub fn locate(&self, spec: &ModelSpec) -> Result<LocatedWeights, WeightsError> {
        let place = self.place(spec);
        let revision = match &place {
            WeightsPlace::Remote => "remote".to_owned(),
            WeightsPlace::Synthetic(seed) => format!("synthetic-{seed}"),
            // Embedded bytes change with the program only.
            WeightsPlace::Embedded(bytes) => format!("demo-{}-{}", env!("CARGO_PKG_VERSION"), bytes.len()),
            WeightsPlace::File(path) => {
                let failed = |source| WeightsError::Io { path: path.clone(), source };
                let metadata = path.metadata().map_err(failed)?;
                let modified = metadata.modified().map_err(failed)?;
                // New heads are part of the revision: two models may stand on one file.
                let identity = format!("{} {} {modified:?} {:?}", path.display(), metadata.len(), spec.weights);
                blake3::hash(identity.as_bytes()).to_hex()[..16].to_owned()
            }
        };
        Ok(LocatedWeights { place, kind: self.kind(spec), revision })
    }

    /// Opens a model's weights, downloading them first where that is allowed and needed.
    ///
    /// # Errors
    /// What finding, downloading and opening say.
    pub fn open(&self, spec: &ModelSpec, progress: &mut dyn FnMut(Progress)) -> Result<Weights, WeightsError> {
        match (spec.weights.checkpoint(), &self.mode) {
            (WeightsSpec::Embedded { .. }, _) | (_, WeightsMode::Auto | WeightsMode::Offline) => {
                self.library.open(spec, self.embedded, progress)
            }
            (_, WeightsMode::Synthetic { seed }) => Ok(Weights::synthetic(*seed)),
        }
    }
}
