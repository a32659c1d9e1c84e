//! A network in memory, counted by the memory gauge for as long as it exists.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::error::EngineError;
use super::model_memory::Reservation;
use super::model_task::EMBEDDING;
use crate::nn::Network;
use crate::telemetry;
use crate::weights::WeightsKind;
use crate::zoo::{Head, ModelSpec};

/// Names a backbone with its pyramid and decoder: the model that they belong to, and its revision.
#[derive(Clone, Debug)]
pub(super) struct TrunkId {
    pub(super) model: String,
    pub(super) revision: Arc<str>,
}

/// A network in memory.
pub struct LoadedModel {
    /// The model's specification.
    pub spec: Arc<ModelSpec>,
    /// The prepared network, in the memory of each device.
    networks: Vec<Network>,
    /// Where its weights came from.
    pub kind: WeightsKind,
    /// Names the specification and the weights it was loaded from.
    pub(super) revision: Arc<str>,
    /// The model whose network its heads stand on, which stays in memory as long as they do.
    pub(super) base: Option<Arc<LoadedModel>>,
    /// Bytes added to the gauge so far.
    counted_bytes: AtomicUsize,
    /// The memory that was reserved for it.
    memory: Reservation,
    /// When it was last used, as a count of all uses.
    last_use: AtomicU64,
}

/// Uses of all models so far.
static USES: AtomicU64 = AtomicU64::new(0);

impl LoadedModel {
    /// Wraps a network, of which every device has a copy, and adds its bytes to the gauge. `base` is the model whose network it
    /// shares, `per_memory` the most copies in one memory.
    pub(super) fn new(
        spec: Arc<ModelSpec>,
        (networks, per_memory): (Vec<Network>, usize),
        kind: WeightsKind,
        revision: Arc<str>,
        base: Option<Arc<LoadedModel>>,
        mut memory: Reservation,
    ) -> Self {
        // What it shares is the other model's reservation.
        if base.is_none() {
            memory.settle(per_memory * networks.iter().map(Network::most_weight_bytes).max().unwrap_or(0));
        }
        let (counted_bytes, last_use) = (AtomicUsize::new(0), AtomicU64::new(0));
        let model = Self { spec, networks, kind, revision, base, counted_bytes, memory, last_use };
        model.count();
        model.note_use();
        model
    }

    /// The network in the memory of a device.
    pub(super) fn network(&self, device: usize) -> &Network {
        &self.networks[device]
    }

    /// The heads of the loaded variant.
    pub(super) fn heads(&self) -> impl ExactSizeIterator<Item = &Head> {
        self.networks[0].heads()
    }

    /// Bytes of the weights prepared so far, on all devices.
    pub fn weight_bytes(&self) -> usize {
        self.networks.iter().map(Network::weight_bytes).sum()
    }

    /// The backbone, pyramid and decoder that its heads stand on: their feature maps are the same for all models that share them.
    pub(super) fn trunk(&self) -> TrunkId {
        let owner = self.base.as_deref().unwrap_or(self);
        TrunkId { model: owner.spec.id.clone(), revision: owner.revision.clone() }
    }

    /// Makes this, with its base, the model that was used last.
    pub(super) fn note_use(&self) {
        self.base.iter().for_each(|base| base.note_use());
        self.last_use.store(USES.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// When it was last used: larger is later.
    pub(super) fn last_use(&self) -> u64 {
        self.last_use.load(Ordering::Relaxed)
    }

    /// The memory that is reserved for it, MiB.
    pub(super) fn reserved_mib(&self) -> u32 {
        self.memory.mib()
    }

    /// Updates the gauge: a network grows when one of its heads is first used.
    pub(super) fn count(&self) {
        let now = self.weight_bytes();
        let before = self.counted_bytes.fetch_max(now, Ordering::Relaxed);
        if now > before {
            memory(&self.spec).increment((now - before) as f64);
        }
    }

    /// The position of the head that answers `task`.
    ///
    /// # Errors
    /// [`EngineError::UnknownTask`] with the tasks of the loaded head variant.
    pub fn head(&self, task: &str) -> Result<usize, EngineError> {
        self.heads().position(|head| head.task.name == task).ok_or_else(|| EngineError::UnknownTask {
            model: self.spec.id.clone(),
            task: task.to_owned(),
            available: self.heads().map(|head| head.task.name.clone()).chain([EMBEDDING.to_owned()]).collect(),
        })
    }
}

/// A running request may hold a network after its eviction from the cache, so its bytes leave the gauge here.
impl Drop for LoadedModel {
    fn drop(&mut self) {
        memory(&self.spec).decrement(*self.counted_bytes.get_mut() as f64);
    }
}

fn memory(spec: &ModelSpec) -> metrics::Gauge {
    metrics::gauge!(telemetry::MODEL_BYTES, "model" => spec.id.clone())
}
