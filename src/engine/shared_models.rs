//! Models that servers share through a store of documents: their manifests, with the weights of heads that were fitted.

use std::sync::Arc;

use bytes::Bytes;

use super::documents::{Document, DocumentKind, DocumentName, DocumentStore};
use super::error::EngineError;
use super::manifests::{check, describe, describe_fitted, heads_name};
use super::models::{ModelStatus, Models};
use crate::zoo::{HeadsFile, Manifest, ModelSpec, WeightsSpec};

/// Adds the model that `manifest` describes, which must fit here, for all servers; `heads` are the weights of heads that were fitted. A fit
/// whose model is there already returns it.
///
/// # Errors
/// If the manifest does not describe a model that fits, its id is taken, or the store does not answer.
pub(super) async fn register(
    models: &Models,
    store: &Arc<dyn DocumentStore>,
    manifest: Manifest,
    heads: Option<Bytes>,
) -> Result<ModelStatus, EngineError> {
    let head_weights = heads.as_ref().map(|_| heads_name(&manifest.id)).or_else(|| manifest.head_weights.clone());
    let manifest = Manifest { head_weights, ..manifest };
    let spec = spec_of(&manifest, heads.as_ref(), models)?;
    let id = spec.id.clone();
    match models.spec(&id) {
        Ok(known) if heads.is_some() && *known == spec => return models.status(&id),
        Ok(_) => return Err(exists(id)),
        Err(_) => {}
    }
    check(models, &manifest, &spec).await?;
    let document = Document { text: manifest.to_toml()?, weights: heads.map(|heads| heads.to_vec()) };
    let version = store.create(DocumentKind::Model, &id, &document).await?;
    models.register_shared(spec, version.ok_or_else(|| exists(id.clone()))?)?;
    models.status(&id)
}

/// Removes a shared model for all servers; false if the model is not shared.
///
/// # Errors
/// If the store does not answer.
pub(super) async fn remove(models: &Models, store: &Arc<dyn DocumentStore>, id: &str) -> Result<bool, EngineError> {
    let Some(name) = models.shared().into_iter().find(|name| name.id == id) else { return Ok(false) };
    store.remove(&name).await?;
    models.remove(id).await?;
    Ok(true)
}

/// Adds a model that another server has registered.
///
/// # Errors
/// If the store does not answer, and why the model cannot be added: its checkpoint is not here, say.
pub(super) async fn adopt(models: &Models, name: &DocumentName, store: &Arc<dyn DocumentStore>) -> Result<(), EngineError> {
    let Some(document) = store.read(name).await? else { return Ok(()) };
    let manifest = Manifest::from_toml(&document.text)?;
    let spec = spec_of(&manifest, document.weights.map(Bytes::from).as_ref(), models)?;
    check(models, &manifest, &spec).await?;
    models.register_shared(spec, name.version)
}

/// Drops a model that another server has removed.
pub(super) async fn drop_shared(models: &Models, name: &DocumentName) {
    if models.shared().contains(name) {
        // It may have been removed here by now.
        let _ = models.remove(&name.id).await;
    }
}

fn spec_of(manifest: &Manifest, heads: Option<&Bytes>, models: &Models) -> Result<ModelSpec, EngineError> {
    let Some(heads) = heads else { return describe(manifest, models) };
    let mut spec = describe_fitted(manifest, models)?;
    if let WeightsSpec::OnBase { heads: file, .. } = &mut spec.weights {
        *file = HeadsFile::Memory(heads.clone());
    }
    Ok(spec)
}

fn exists(id: String) -> EngineError {
    EngineError::Exists { what: "model", id }
}
