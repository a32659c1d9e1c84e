//! What clients register, shared by servers: a [`DocumentStore`] holds it, and each server follows its changes.
//!
//! A source by reference is kept as its record, a model as its manifest, with the weights of heads that were fitted. Whoever registers
//! puts a document into the store before anybody sees it; of two servers that take one id, the store refuses the second. The others see
//! it when they look next ([`Engine::follow`](super::Engine::follow)).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::error::EngineError;
use crate::sync::IgnorePoison;

/// What a document describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentKind {
    /// Imagery.
    Source,
    /// A model.
    Model,
}

impl DocumentKind {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Model => "model",
        }
    }
}

/// A document's name, and the number that tells it from earlier ones of that name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocumentName {
    /// What it describes.
    pub kind: DocumentKind,
    /// The id of that.
    pub id: String,
    /// Grows with every document.
    pub version: i64,
}

/// A document's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// A record of a source as JSON, or a manifest as TOML.
    pub text: String,
    /// The weights of heads that were fitted, as safetensors.
    pub weights: Option<Vec<u8>>,
}

/// A store of documents does not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct DocumentStoreError {
    /// What went wrong.
    pub reason: String,
}

/// Keeps documents for several servers.
#[async_trait]
pub trait DocumentStore: Send + Sync {
    /// The names of all documents.
    ///
    /// # Errors
    /// If the store does not answer.
    async fn list(&self) -> Result<Vec<DocumentName>, DocumentStoreError>;

    /// A document; `None` if it is gone or another one has its id.
    ///
    /// # Errors
    /// If the store does not answer.
    async fn read(&self, name: &DocumentName) -> Result<Option<Document>, DocumentStoreError>;

    /// Adds a document and returns its version; `None` if there is one with its id.
    ///
    /// # Errors
    /// If the store does not answer; the document may have been added even so.
    async fn create(&self, kind: DocumentKind, id: &str, document: &Document) -> Result<Option<i64>, DocumentStoreError>;

    /// Removes a document, if it is there.
    ///
    /// # Errors
    /// If the store does not answer; the document may have been removed even so.
    async fn remove(&self, name: &DocumentName) -> Result<(), DocumentStoreError>;
}

/// A document that could not be used is looked at again after this.
const RETRY: Duration = Duration::from_secs(30);

/// The store of an engine, if it shares what clients register.
#[derive(Clone, Default)]
pub(super) struct SharedDocuments {
    store: Arc<OnceLock<Arc<dyn DocumentStore>>>,
    /// Documents that cannot be used here, which has been logged, and when they were looked at last.
    refused: Arc<Mutex<BTreeMap<DocumentName, Instant>>>,
}

impl SharedDocuments {
    /// Shares from now on. A second call has no effect.
    pub(super) fn share(&self, store: Arc<dyn DocumentStore>) {
        let _ = self.store.set(store);
    }

    pub(super) fn store(&self) -> Option<&Arc<dyn DocumentStore>> {
        self.store.get()
    }

    /// Logs why a document cannot be used, once.
    pub(super) fn refuse(&self, name: &DocumentName, reason: &dyn std::fmt::Display) {
        if self.refused.lock().ignore_poison().insert(name.clone(), Instant::now()).is_none() {
            let (kind, id) = (name.kind.as_str(), &name.id);
            tracing::warn!(kind, id, %reason, "what another server has registered cannot be used here");
        }
    }

    /// Whether a document could not be used a moment ago.
    pub(super) fn is_refused(&self, name: &DocumentName) -> bool {
        self.refused.lock().ignore_poison().get(name).is_some_and(|at| at.elapsed() < RETRY)
    }

    /// Forgets what was refused and is gone.
    pub(super) fn forget_refused(&self, listed: &BTreeSet<DocumentName>) {
        self.refused.lock().ignore_poison().retain(|name, _| listed.contains(name));
    }
}

impl From<DocumentStoreError> for EngineError {
    fn from(error: DocumentStoreError) -> Self {
        Self::Registry { reason: error.reason }
    }
}
