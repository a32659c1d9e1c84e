//! What the model cache keeps for a model: a place that eviction empties.
//!
//! The cache frees what it drops only when it is used again, and for a time keeps a second handle of what it has just loaded. With
//! the model itself in it, an evicted model could hold its memory until then, and would look as if a request needed it.

use std::sync::{Arc, Mutex};

use crate::engine::loaded::LoadedModel;
use crate::sync::IgnorePoison;

/// The cache's handle of a loaded model, or nothing once it is evicted.
pub(super) struct Slot(Mutex<Option<Arc<LoadedModel>>>);

impl Slot {
    pub(super) fn new(model: Arc<LoadedModel>) -> Self {
        Self(Mutex::new(Some(model)))
    }

    /// The model, unless it is evicted.
    pub(super) fn model(&self) -> Option<Arc<LoadedModel>> {
        self.0.lock().ignore_poison().clone()
    }

    /// The model, if nothing but this slot holds it.
    pub(super) fn idle_model(&self) -> Option<Arc<LoadedModel>> {
        self.0.lock().ignore_poison().as_ref().filter(|model| Arc::strong_count(model) == 1).cloned()
    }

    /// Lets the model go; it is dropped once the requests that hold it have ended.
    pub(super) fn empty(&self) -> Option<Arc<LoadedModel>> {
        self.0.lock().ignore_poison().take()
    }
}
