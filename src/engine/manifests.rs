//! Users' own models: manifests in the models directory, read at start, added and removed over HTTP.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::error::EngineError;
use super::models::{ModelStatus, Models};
use crate::private_file;
use crate::weights::WeightsError;
use crate::zoo::{Manifest, ModelOrigin, ModelSpec};

/// Largest manifest read; a table of 64 categories is a few kilobytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Largest manifest accepted from clients, all of whose texts are in the list of models.
const MAX_SENT_BYTES: u64 = 128 << 10;

/// Most models that clients may register.
const MAX_REGISTERED: u64 = 256;

/// The end of the name of a manifest that is being written.
const UNFINISHED: &str = ".toml-part";

/// How long ago an unfinished manifest must have been written for its writer to be taken for dead: processes may share a directory.
const LEFTOVER_AGE: Duration = Duration::from_secs(600);

/// Adds the model that `manifest` describes, whose checkpoint must be there and fit, and keeps the manifest in `models_dir`, if
/// there is one.
pub(super) async fn register(
    models: &Models,
    models_dir: Option<&Path>,
    manifest: Manifest,
) -> Result<ModelStatus, EngineError> {
    let limit = |what, found, limit| {
        if found > limit { Err(EngineError::TooLarge { what, found, limit }) } else { Ok(()) }
    };
    limit("bytes of a manifest", manifest.to_toml()?.len() as u64, MAX_SENT_BYTES)?;
    limit("registered models", models.registered() as u64 + 1, MAX_REGISTERED)?;
    let spec = describe(&manifest, models)?;
    let id = spec.id.clone();
    let (locator, checked) = (models.locator().clone(), spec.clone());
    let path = manifest.checkpoint.as_ref().map(|checkpoint| checkpoint.path.clone()).unwrap_or_default();
    tokio::task::spawn_blocking(move || locator.check_own(&checked)).await.map_err(|_| EngineError::Panicked)?.map_err(
        |error| match error {
            WeightsError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                EngineError::Invalid { detail: format!("checkpoint.path: there is no {path:?} in the models directory") }
            }
            error => error.into(),
        },
    )?;
    // Registered first: of two requests for one id the second fails here and writes nothing.
    models.register(spec, models_dir.is_some())?;
    let Some(models_dir) = models_dir else { return models.status(&id) };
    let (name, models_dir) = (id.clone(), models_dir.to_owned());
    let written = tokio::task::spawn_blocking(move || write(&manifest, &models_dir, &name))
        .await
        .unwrap_or(Err(EngineError::Panicked));
    if let Err(error) = written {
        models.remove(&id).await?;
        return Err(error);
    }
    models.status(&id)
}

/// Removes a registered model and its manifest; its weights file stays.
pub(super) async fn remove(models: &Models, models_dir: Option<&Path>, id: &str) -> Result<(), EngineError> {
    models.remove(id).await?;
    let Some(models_dir) = models_dir else { return Ok(()) };
    let path = models_dir.join(format!("{id}.toml"));
    match tokio::task::spawn_blocking(move || std::fs::remove_file(path)).await {
        Ok(Err(source)) if source.kind() != io::ErrorKind::NotFound => Err(store_error(id, source)),
        Ok(_) => Ok(()),
        Err(_) => Err(EngineError::Panicked),
    }
}

/// Registers every manifest of the models directory; one that cannot be used is logged and skipped.
pub(super) fn register_stored(models: &Models, models_dir: &Path) {
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

fn describe(manifest: &Manifest, models: &Models) -> Result<ModelSpec, EngineError> {
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
    let path = models_dir.join(format!("{id}.toml"));
    let unfinished = models_dir.join(format!("{}{UNFINISHED}", private_file::unfinished_name(id)));
    let write = || {
        std::fs::create_dir_all(models_dir)?;
        let mut file = File::create(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, &path)?;
        private_file::sync_names(models_dir)
    };
    write().map_err(|source| {
        // What is left of a failed write is of no use; the error above is the one to report.
        let _ = std::fs::remove_file(&unfinished);
        store_error(id, source)
    })
}

fn store_error(id: &str, source: io::Error) -> EngineError {
    EngineError::Store { what: format!("the manifest of model {id:?}"), source: Arc::new(source) }
}
