//! [`WeightsLocator`]: decides where a model's weights come from, which is the program, the synthetic rule or a file that
//! [`CheckpointFiles`] finds.

use std::path::{Path, PathBuf};

use super::checkpoint_files::CheckpointFiles;
use super::error::WeightsError;
use super::hub::DownloadProgress;
use super::kind::WeightsKind;
use super::shards::files_to_watch;
use super::tensors::Weights;
use crate::zoo::{HeadsFile, ModelSpec, WeightsSpec};

/// Where weights may come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WeightsMode {
    /// This machine, or a download from the hub.
    #[default]
    Auto,
    /// This machine only; no connection is opened.
    Offline,
    /// The synthetic rule, for tests and benchmarks. Models of the demo bundle keep their weights.
    Synthetic {
        /// The rule's seed.
        seed: u64,
    },
}

/// Where weights were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightsPlace {
    /// Not on this machine.
    Remote,
    /// In this file.
    File(PathBuf),
    /// In the program, as these bytes.
    Embedded(&'static [u8]),
    /// Nowhere: they are computed from this seed.
    Synthetic(u64),
}

/// What is known about a model's weights without reading them.
#[derive(Clone, Debug)]
pub struct LocatedWeights {
    /// Where they are.
    pub place: WeightsPlace,
    /// What they are.
    pub kind: WeightsKind,
    /// Changes whenever the weights do.
    pub revision: String,
}

/// Looks up a file of the demo bundle by its name.
pub type EmbeddedFiles = fn(&str) -> Option<&'static [u8]>;

/// Locates and opens the weights of models.
#[derive(Clone, Debug)]
pub struct WeightsLocator {
    /// Where weights may come from.
    pub mode: WeightsMode,
    /// Files on this machine and on the hub.
    pub files: CheckpointFiles,
    /// The demo bundle.
    pub embedded: EmbeddedFiles,
}

impl WeightsLocator {
    /// Where a model's weights are.
    pub(crate) fn place(&self, spec: &ModelSpec) -> WeightsPlace {
        if let Some(base) = spec.base() {
            return self.place(base);
        }
        match (spec.weights.checkpoint(), &self.mode) {
            (WeightsSpec::Embedded { file }, _) => {
                (self.embedded)(file).map_or(WeightsPlace::Remote, WeightsPlace::Embedded)
            }
            (_, WeightsMode::Synthetic { seed }) => WeightsPlace::Synthetic(*seed),
            _ => self.files.find(spec).map_or(WeightsPlace::Remote, WeightsPlace::File),
        }
    }

    /// What a model's weights are.
    pub(crate) fn kind(&self, spec: &ModelSpec) -> WeightsKind {
        match (&spec.weights, &self.mode) {
            (WeightsSpec::OnBase { base, .. }, _) => match self.kind(base) {
                WeightsKind::Synthetic => WeightsKind::Synthetic,
                _ => WeightsKind::FittedHeads,
            },
            (WeightsSpec::Embedded { .. }, _) => WeightsKind::Demo,
            (WeightsSpec::NewHeads { base, .. }, _) if matches!(base.checkpoint(), WeightsSpec::Embedded { .. }) => {
                WeightsKind::UntrainedHeads
            }
            (_, WeightsMode::Synthetic { .. }) => WeightsKind::Synthetic,
            (WeightsSpec::NewHeads { .. }, _) => WeightsKind::UntrainedHeads,
            _ => WeightsKind::from(spec.origin),
        }
    }

    /// Where a model's weights are, what they are, and a revision that changes when they do: one look at the file system,
    /// and no weights are read.
    ///
    /// # Errors
    /// If the file's size and time cannot be read.
    pub fn locate(&self, spec: &ModelSpec) -> Result<LocatedWeights, WeightsError> {
        if let WeightsSpec::OnBase { base, heads } = &spec.weights {
            let located = self.locate(base)?;
            let heads = match heads {
                HeadsFile::Path(path) => file_identity(&format!("{:?}", spec.weights), path)?,
                // They are part of the specification.
                HeadsFile::Memory(_) => "memory".to_owned(),
            };
            let revision = format!("{}-{heads}", located.revision);
            return Ok(LocatedWeights { kind: self.kind(spec), revision, ..located });
        }
        let place = self.place(spec);
        let revision = match &place {
            WeightsPlace::Remote => "remote".to_owned(),
            WeightsPlace::Synthetic(seed) => format!("synthetic-{seed}"),
            // Embedded bytes change with the program only.
            WeightsPlace::Embedded(bytes) => format!("demo-{}-{}", env!("CARGO_PKG_VERSION"), bytes.len()),
            // New heads are part of the revision: two models may stand on one file.
            WeightsPlace::File(path) => file_identity(&format!("{:?}", spec.weights), path)?,
        };
        Ok(LocatedWeights { place, kind: self.kind(spec), revision })
    }

    /// Checks that a checkpoint of the user's own fits its model, without loading it; other weights are not looked at.
    ///
    /// # Errors
    /// If the file cannot be read, or its tensors are not those of the model.
    pub(crate) fn check_own(&self, spec: &ModelSpec) -> Result<(), WeightsError> {
        let weights = match (&spec.weights, &self.mode) {
            (WeightsSpec::OnBase { heads, .. }, _) => Weights::of_heads(heads)?,
            (WeightsSpec::File { path, .. }, WeightsMode::Auto | WeightsMode::Offline) => {
                Weights::open(path, WeightsKind::from(spec.origin))?.suited_to(spec)?
            }
            _ => return Ok(()),
        };
        weights.require(spec, weights.fit(spec).variant).map(|_| ())
    }

    /// Downloads or unpacks a model's weights if they are not on this machine and that is allowed.
    ///
    /// # Errors
    /// If they cannot be found or downloaded.
    pub(crate) fn fetch(&self, spec: &ModelSpec) -> Result<(), WeightsError> {
        match (spec.weights.checkpoint(), &self.mode) {
            (WeightsSpec::Embedded { .. }, _) | (_, WeightsMode::Synthetic { .. }) => Ok(()),
            _ => self.files.fetch(spec, &mut |_| ()).map(drop),
        }
    }

    /// Opens a model's weights, after downloading them if that is needed and allowed; of a model that stands on another, those of
    /// its heads. Whether they fit is for [`Weights::require`] to check.
    ///
    /// # Errors
    /// If they cannot be found, downloaded or read.
    pub(crate) fn open(
        &self,
        spec: &ModelSpec,
        progress: &mut dyn FnMut(DownloadProgress),
    ) -> Result<Weights, WeightsError> {
        if let WeightsSpec::OnBase { heads, .. } = &spec.weights {
            return Weights::of_heads(heads);
        }
        let weights = match (spec.weights.checkpoint(), &self.mode) {
            (WeightsSpec::Embedded { file }, _) => {
                let bytes = (self.embedded)(file).ok_or_else(|| WeightsError::NotHere {
                    file: file.clone(),
                    advice: "this program was built without it".to_owned(),
                })?;
                Weights::embedded(file, bytes)?
            }
            (_, WeightsMode::Synthetic { seed }) => return Ok(Weights::synthetic(*seed)),
            (_, WeightsMode::Auto | WeightsMode::Offline) => {
                let path = self.files.fetch(spec, progress)?.unwrap_or_default();
                Weights::open(&self.files.fast_copy(path)?, WeightsKind::from(spec.origin))?.suited_to(spec)?
            }
        };
        Ok(match spec.weights {
            WeightsSpec::NewHeads { seed, .. } => weights.with_new_heads(seed),
            _ => weights,
        })
    }
}

/// Changes whenever a checkpoint is written to or replaced; `spec` tells apart models that read one file.
fn file_identity(spec: &str, path: &Path) -> Result<String, WeightsError> {
    let failed = |source| WeightsError::Io { path: path.to_owned(), source };
    let mut identity = spec.to_owned();
    for file in files_to_watch(path).map_err(failed)? {
        let metadata = file.metadata().map_err(failed)?;
        identity += &match hash_in_name(&file) {
            Some(hash) => format!(" {hash} {}", metadata.len()),
            None => format!(" {} {} {:?}", file.display(), metadata.len(), metadata.modified().map_err(failed)?),
        };
    }
    Ok(blake3::hash(identity.as_bytes()).to_hex()[..16].to_owned())
}

/// The SHA-256 of a link into the hub's cache, whose files are called by it: servers that have fetched a file each agree on it.
fn hash_in_name(file: &Path) -> Option<String> {
    let blob = file.read_link().ok()?;
    let name = blob.file_name()?.to_str()?;
    let is_hash = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hash && blob.parent()?.ends_with("blobs")).then(|| name.to_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn servers_that_fetched_a_file_each_agree_on_it() {
        let cache = |folder: &Path, name: &str| {
            fs::create_dir_all(folder.join("blobs")).unwrap();
            fs::write(folder.join("blobs").join(name), "weights").unwrap();
            std::os::unix::fs::symlink(Path::new("blobs").join(name), folder.join("model.pth")).unwrap();
            file_identity("spec", &folder.join("model.pth")).unwrap()
        };
        let dir = tempfile::tempdir().unwrap();
        let (hash, other) = ("0a".repeat(32), "0b".repeat(32));
        let of = |folder: &str, name: &str| cache(&dir.path().join(folder), name);
        assert_eq!(of("one", &hash), of("two", &hash));
        assert_ne!(of("three", &hash), of("four", &other));
        // Any other link is known by its place and its time.
        assert_ne!(of("five", "weights"), of("six", "weights"));
    }
}
