//! Users' own models: manifests in the models directory, read at start, added and removed over HTTP.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::blocking::blocking;
use super::error::EngineError;
use super::models::{ModelStatus, Models};
use crate::private_file;
use crate::weights::WeightsError;
use crate::zoo::{HeadsFile, Manifest, ModelOrigin, ModelSpec, WeightsSpec};

/// Largest manifest read; a table of 64 categories is a few kilobytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Largest manifest accepted from clients, all of whose texts are in the list of models.
const MAX_SENT_BYTES: u64 = 128 << 10;

/// Most models that clients may register.
const MAX_REGISTERED: u64 = 256;

/// Largest file of weights that is sent to clients. 500 labels of `knn` over all layers of the widest model have some 5 MB; a file that an
/// operator has put into the models directory may have any size.
const MAX_HEADS_BYTES: u64 = 64 << 20;

/// The end of the name of a manifest that is being written.
const UNFINISHED: &str = ".toml-part";

/// How long ago an unfinished manifest must have been written for its writer to be taken for dead: processes may share a directory.
const LEFTOVER_AGE: Duration = Duration::from_secs(600);

/// Users' own models with their files, which are changed together.
#[derive(Clone)]
pub(super) struct Manifests {
    models: Models,
    /// Where manifests are kept; without it they are forgotten when the process ends.
    directory: Option<PathBuf>,
    /// Held while a model and its files change: a model that is removed while it is being added has no file afterwards.
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl Manifests {
    /// The models of the manifests in `directory`, which are added to `models`.
    pub(super) fn open(models: Models, directory: Option<PathBuf>) -> Self {
        if let Some(directory) = &directory {
            register_stored(&models, directory);
        }
        Self { models, directory, changing: Arc::default() }
    }

    /// Adds the model that `manifest` describes, whose checkpoint must be there and fit, and keeps the manifest.
    ///
    /// # Errors
    /// If it does not, the id is taken, there are too many, or the manifest cannot be written.
    pub(super) async fn register(&self, manifest: Manifest) -> Result<ModelStatus, EngineError> {
        let spec = describe(&manifest, &self.models)?;
        check(&self.models, &manifest, &spec).await?;
        self.change(|this| async move { this.add(manifest, spec).await }).await
    }

    /// Adds the model that `manifest` describes, and keeps it and the file `heads` with the weights of its heads. If the same model with
    /// the same weights is there already, it is returned.
    ///
    /// # Errors
    /// As [`Manifests::register`].
    pub(super) async fn register_fitted(&self, manifest: Manifest, heads: Bytes) -> Result<ModelStatus, EngineError> {
        let manifest = Manifest { head_weights: Some(heads_name(&manifest.id)), ..manifest };
        self.change(|this| async move { this.add_fitted(manifest, heads).await }).await
    }

    /// Removes a registered model, its manifest, and the weights that were fitted for it; another weights file stays.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`], [`EngineError::BuiltIn`], or if a file cannot be deleted: then the model stays.
    pub(super) async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let id = id.to_owned();
        self.change(|this| async move {
            let spec = this.models.removable(&id)?;
            this.delete_files(&spec).await?;
            this.models.remove(&id).await.map(drop)
        })
        .await
    }

    /// Runs one change after the other, each to its end, whether or not its client still waits.
    async fn change<T: Send + 'static, F: Future<Output = Result<T, EngineError>> + Send + 'static>(
        &self,
        change: impl FnOnce(Self) -> F + Send + 'static,
    ) -> Result<T, EngineError> {
        let this = self.clone();
        let alone = async move {
            let _held = this.changing.clone().lock_owned().await;
            change(this).await
        };
        tokio::spawn(alone).await.map_err(|_| EngineError::Panicked)?
    }

    async fn add(&self, manifest: Manifest, spec: ModelSpec) -> Result<ModelStatus, EngineError> {
        let id = spec.id.clone();
        self.models.register(spec, self.directory.is_some())?;
        let Some(directory) = self.directory.clone() else { return self.models.status(&id) };
        let name = id.clone();
        let written = tokio::task::spawn_blocking(move || write(&manifest, &directory, &name))
            .await
            .unwrap_or(Err(EngineError::Panicked));
        if let Err(error) = written {
            self.models.remove(&id).await?;
            return Err(error);
        }
        self.models.status(&id)
    }

    async fn add_fitted(&self, manifest: Manifest, heads: Bytes) -> Result<ModelStatus, EngineError> {
        let mut spec = describe(&manifest, &self.models)?;
        let (known, id) = (self.models.spec(&spec.id).ok(), spec.id.clone());
        let Some(directory) = self.directory.clone() else {
            if let WeightsSpec::OnBase { heads: file, .. } = &mut spec.weights {
                *file = HeadsFile::Memory(heads);
            }
            return match known {
                Some(known) if *known == spec => self.models.status(&id),
                _ => self.add_checked(manifest, spec).await,
            };
        };
        let path = directory.join(heads_name(&id));
        let kept = {
            let (path, id) = (path.clone(), id.clone());
            let keep = move || match std::fs::read(&path) {
                Ok(there) if there == heads => Ok(Kept::Before),
                Ok(_) => Ok(Kept::Other),
                Err(_) => write_file(&directory, &heads_name(&id), &heads)
                    .map(|()| Kept::Now)
                    .map_err(|source| store_error(&id, source)),
            };
            tokio::task::spawn_blocking(keep).await.map_err(|_| EngineError::Panicked)??
        };
        match (kept, known) {
            (Kept::Before, Some(known)) if *known == spec => self.models.status(&id),
            (_, Some(_)) => Err(EngineError::Exists { what: "model", id }),
            (Kept::Other, None) => Err(EngineError::Exists { what: "a file of the models directory", id: heads_name(&id) }),
            (kept, None) => {
                let registered = self.add_checked(manifest, spec).await;
                if registered.is_err() && matches!(kept, Kept::Now) {
                    // The error of the registration is the one to report.
                    let _ = tokio::task::spawn_blocking(move || std::fs::remove_file(path)).await;
                }
                registered
            }
        }
    }

    async fn add_checked(&self, manifest: Manifest, spec: ModelSpec) -> Result<ModelStatus, EngineError> {
        check(&self.models, &manifest, &spec).await?;
        self.add(manifest, spec).await
    }

    async fn delete_files(&self, spec: &ModelSpec) -> Result<(), EngineError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let mut paths = vec![directory.join(format!("{}.toml", spec.id))];
        match &spec.weights {
            WeightsSpec::OnBase { heads: HeadsFile::Path(path), .. } if *path == directory.join(heads_name(&spec.id)) => {
                paths.push(path.clone());
            }
            _ => {}
        }
        let delete = move || {
            paths.iter().map(std::fs::remove_file).try_for_each(|deleted| match deleted {
                Err(source) if source.kind() != io::ErrorKind::NotFound => Err(source),
                _ => Ok(()),
            })
        };
        let deleted = tokio::task::spawn_blocking(delete).await.map_err(|_| EngineError::Panicked)?;
        deleted.map_err(|source| store_error(&spec.id, source))
    }
}

/// What a fit would be registered as.
pub(super) fn describe_fitted(manifest: &Manifest, models: &Models) -> Result<ModelSpec, EngineError> {
    let head_weights = Some(heads_name(&manifest.id));
    describe(&Manifest { head_weights, ..manifest.clone() }, models)
}

/// How a file came to be where it is to be kept.
enum Kept {
    /// It has been written now.
    Now,
    /// It was there.
    Before,
    /// Another one is there.
    Other,
}

/// The name of the file with the weights of a fitted model's heads, which is removed with the model.
pub(super) fn heads_name(id: &str) -> String {
    format!("{id}.heads.safetensors")
}

/// The files by which a models directory has a model whose heads have weights of their own: its manifest, and those weights.
///
/// # Errors
/// [`EngineError::Unusable`] for other models, [`EngineError::TooLarge`] for larger weights than a fit makes, and if they cannot be read.
pub(super) async fn files(spec: &ModelSpec) -> Result<[(String, Bytes); 2], EngineError> {
    let name = heads_name(&spec.id);
    let (Some(manifest), WeightsSpec::OnBase { heads, .. }) = (Manifest::of_fitted(spec, name.clone()), &spec.weights)
    else {
        let detail =
            format!("model: found {:?}, which has no fitted heads; a model that a fit has made is needed", spec.id);
        return Err(EngineError::Unusable { detail });
    };
    let heads = match heads {
        HeadsFile::Memory(bytes) => bytes.clone(),
        HeadsFile::Path(path) => {
            let (path, id) = (path.clone(), spec.id.clone());
            let read = move || {
                let failed = |source| store_error(&id, source);
                let found = std::fs::metadata(&path).map_err(failed)?.len();
                EngineError::limit("bytes of the weights of heads", found, MAX_HEADS_BYTES)?;
                Ok::<_, EngineError>(std::fs::read(path).map_err(failed)?.into())
            };
            blocking(read).await?
        }
    };
    Ok([(format!("{}.toml", spec.id), manifest.to_toml()?.into()), (name, heads)])
}

/// Checks that a model may be registered, and that its weights are here and fit.
pub(super) async fn check(models: &Models, manifest: &Manifest, spec: &ModelSpec) -> Result<(), EngineError> {
    let limit = |what, found, limit| {
        if found > limit { Err(EngineError::TooLarge { what, found, limit }) } else { Ok(()) }
    };
    limit("bytes of a manifest", manifest.to_toml()?.len() as u64, MAX_SENT_BYTES)?;
    limit("registered models", models.registered() as u64 + 1, MAX_REGISTERED)?;
    let (locator, checked) = (models.locator().clone(), spec.clone());
    let given = match &manifest.checkpoint {
        Some(checkpoint) => Some(("checkpoint.path", checkpoint.path.clone())),
        None => manifest.head_weights.clone().map(|path| ("head_weights", path)),
    };
    let (field, path) = given.unwrap_or_default();
    tokio::task::spawn_blocking(move || locator.check_own(&checked)).await.map_err(|_| EngineError::Panicked)?.map_err(
        |error| match error {
            WeightsError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                EngineError::Invalid { detail: format!("{field}: there is no {path:?} in the models directory") }
            }
            error => error.into(),
        },
    )
}

/// Registers every manifest of the models directory; one that cannot be used is logged and skipped.
fn register_stored(models: &Models, models_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(models_dir) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.iter().filter(|path| is_leftover(path)).for_each(|path| drop(std::fs::remove_file(path)));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    for path in paths {
        let registered =
            read(&path).and_then(|manifest| describe(&manifest, models)).and_then(|spec| models.register(spec, true));
        if let Err(error) = registered {
            tracing::warn!(manifest = %path.display(), %error, "a model is left out");
        }
    }
}

/// True for what a process that died has left of a manifest.
fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let age = path.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
    name.starts_with('.') && name.ends_with(UNFINISHED) && age.is_some_and(|age| age > LEFTOVER_AGE)
}

pub(super) fn describe(manifest: &Manifest, models: &Models) -> Result<ModelSpec, EngineError> {
    let built_in = |id: &str| {
        let spec = models.spec(id).ok().filter(|spec| spec.origin != ModelOrigin::Registered)?;
        Some(ModelSpec::clone(&spec))
    };
    Ok(manifest.to_spec(models.locator().files.models_dir(), built_in)?)
}

fn read(path: &Path) -> Result<Manifest, EngineError> {
    let failed = |source| store_error(&path.display().to_string(), source);
    let len = path.metadata().map_err(failed)?.len();
    if len > MAX_MANIFEST_BYTES {
        return Err(EngineError::TooLarge { what: "bytes of a manifest", found: len, limit: MAX_MANIFEST_BYTES });
    }
    Ok(Manifest::from_toml(&std::fs::read_to_string(path).map_err(failed)?)?)
}

fn write(manifest: &Manifest, models_dir: &Path, id: &str) -> Result<(), EngineError> {
    let text = manifest.to_toml()?;
    write_file(models_dir, &format!("{id}.toml"), text.as_bytes()).map_err(|source| store_error(id, source))
}

/// Writes a file that is there whole or not at all.
fn write_file(models_dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = models_dir.join(format!("{}{UNFINISHED}", private_file::unfinished_name(name)));
    let write = || {
        std::fs::create_dir_all(models_dir)?;
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, models_dir.join(name))?;
        private_file::sync_names(models_dir)
    };
    write().inspect_err(|_| {
        // What is left of a failed write is of no use; the error above is the one to report.
        let _ = std::fs::remove_file(&unfinished);
    })
}

fn store_error(id: &str, source: io::Error) -> EngineError {
    EngineError::Store { what: format!("the manifest of model {id:?}"), source: Arc::new(source) }
}
