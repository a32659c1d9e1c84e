//! What the model cache keeps for a model: a place that eviction empties.
//!
//! The cache frees what it drops only when it is used again, and for a time keeps a second handle of what it has just loaded. With
//! the model itself in it, an evicted model could hold its memory until then, and would look as if a request needed it.

use std::sync::{Arc, Mutex};

use crate::sync::IgnorePoison;

/// The cache's handle of a loaded model, or nothing once it is evicted.
pub(super) struct Slot<M>(Mutex<Option<Arc<M>>>);

impl<M> Slot<M> {
    pub(super) fn new(model: Arc<M>) -> Self {
        Self(Mutex::new(Some(model)))
    }

    /// The model, unless it is evicted.
    pub(super) fn model(&self) -> Option<Arc<M>> {
        self.0.lock().ignore_poison().clone()
    }

    /// The model, if nothing but this slot holds it.
    pub(super) fn idle_model(&self) -> Option<Arc<M>> {
        self.0.lock().ignore_poison().as_ref().filter(|model| Arc::strong_count(model) == 1).cloned()
    }

    /// Lets the model go; it is dropped once the requests that hold it have ended.
    pub(super) fn empty(&self) -> Option<Arc<M>> {
        self.0.lock().ignore_poison().take()
    }
}

#[cfg(test)]
mod tests {
    use moka::future::Cache;

    use super::*;

    #[tokio::test]
    async fn what_is_evicted_is_dropped_though_the_cache_still_has_a_handle() {
        let listener = |_: Arc<u8>, slot: Arc<Slot<String>>, _| drop(slot.empty());
        let cache: Cache<u8, Arc<Slot<String>>> = Cache::builder().eviction_listener(listener).build();
        let model = Arc::new("weights".to_owned());
        // The second handle stands for those that the cache has not freed yet.
        let handle = Arc::new(Slot::new(model.clone()));
        cache.insert(1, handle.clone()).await;
        assert!(handle.model().is_some() && handle.idle_model().is_none(), "it is held here, too");
        let weak = Arc::downgrade(&model);
        drop(model);
        assert!(handle.idle_model().is_some(), "only the cache holds it");
        cache.invalidate(&1).await;
        assert!(handle.model().is_none() && weak.upgrade().is_none());
    }
}
