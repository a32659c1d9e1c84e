//! The registry of models, and the cache of those in memory.
//!
//! The registry holds every [`ModelSpec`]; a moka cache holds loaded networks. Each load runs in its own task: concurrent
//! first requests share it, and a caller that leaves does not abort it. It begins when [`ModelMemory`] has room for the
//! network, for which the least recently used models that no request needs are evicted.

mod loading;
mod slot;

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use candle_core::DType;
use moka::future::Cache;

use self::slot::Slot;
use super::documents::{DocumentKind, DocumentName};
use super::error::EngineError;
use super::hardware::Devices;
use super::loaded::LoadedModel;
use super::model_memory::{MIB, ModelMemory};
use super::model_task::ModelTask;
use super::near_match::nearest;
use crate::sync::IgnorePoison;
use crate::weights::{LocatedWeights, WeightsKind, WeightsLocator, WeightsPlace};
use crate::zoo::{ModelOrigin, ModelSpec};

/// Where a model's weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightsState {
    /// Not on this machine.
    Remote,
    /// On this machine.
    Cached,
    /// Being loaded into memory.
    Loading,
    /// In memory.
    Loaded,
}

/// A model as the API lists it.
#[derive(Clone, Debug)]
pub struct ModelStatus {
    /// Its specification.
    pub spec: Arc<ModelSpec>,
    /// Where its weights are.
    pub state: WeightsState,
    /// The kind of its weights.
    pub kind: WeightsKind,
    /// Bytes in memory, while loaded.
    pub loaded_bytes: Option<usize>,
    /// True if the model is still registered after a restart.
    pub persistent: bool,
}

/// Options of the model cache.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// Memory for loaded weights in the memory of each device, MiB; CPUs share the machine's.
    pub memory_mib: u64,
    /// A model is unloaded after so long without a request; `None` keeps it.
    pub idle: Option<Duration>,
    /// The number type networks run in.
    pub dtype: DType,
    /// Run networks on a GPU without fused kernels.
    pub plain_ops: bool,
}

/// The registry and the cache.
#[derive(Clone)]
pub struct Models {
    shared: Arc<Shared>,
}

struct Shared {
    known: RwLock<BTreeMap<String, Known>>,
    loaded: Cache<String, Arc<Slot<LoadedModel>>>,
    loading: Mutex<HashSet<String>>,
    memory: ModelMemory,
    idle: Option<Duration>,
    locator: WeightsLocator,
    devices: Devices,
    dtype: DType,
    plain_ops: bool,
}

impl Shared {
    /// The models in memory. Unlike a look-up, this is no use of them that would keep them from going idle.
    fn loaded(&self) -> impl Iterator<Item = Arc<LoadedModel>> + '_ {
        self.loaded.iter().filter_map(|(_, slot)| slot.model())
    }
}

/// What is known of a model's weights without reading them.
pub(super) struct ModelWeights {
    pub(super) place: WeightsPlace,
    pub(super) kind: WeightsKind,
    /// Changes whenever the specification or the weights do.
    pub(super) revision: Arc<str>,
}

/// A registered model.
struct Known {
    spec: Arc<ModelSpec>,
    /// A hash of the specification: answers depend on its heads and categories as much as on the weights.
    digest: String,
    persistent: bool,
    /// The version of the document that servers share about it.
    shared: Option<i64>,
}

impl Known {
    fn new(spec: ModelSpec, persistent: bool) -> Self {
        Self { digest: digest(&spec), spec: Arc::new(spec), persistent, shared: None }
    }
}

fn digest(spec: &ModelSpec) -> String {
    const DIGITS: usize = 8;
    blake3::hash(format!("{spec:?}").as_bytes()).to_hex()[..DIGITS].to_owned()
}

impl Models {
    /// A registry of `specs` whose networks will run on `devices`.
    pub fn new(specs: Vec<ModelSpec>, locator: WeightsLocator, devices: Devices, options: &ModelOptions) -> Self {
        let mut loaded = Cache::builder().name("models").eviction_listener(|id, slot: Arc<Slot<LoadedModel>>, cause| {
            if let Some(model) = slot.empty() {
                let bytes = model.weight_bytes();
                tracing::info!(model = %id, ?cause, mib = bytes / MIB, "model unloaded");
            }
        });
        if let Some(idle) = options.idle {
            loaded = loaded.time_to_idle(idle);
        }
        let known = specs.into_iter().map(|spec| (spec.id.clone(), Known::new(spec, true))).collect();
        let shared = Shared {
            known: RwLock::new(known),
            loaded: loaded.build(),
            loading: Mutex::default(),
            memory: ModelMemory::new(options.memory_mib),
            idle: options.idle,
            locator,
            devices,
            dtype: options.dtype,
            plain_ops: options.plain_ops,
        };
        Self { shared: Arc::new(shared) }
    }

    /// A model's specification.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`], with the most similar id.
    pub fn spec(&self, id: &str) -> Result<Arc<ModelSpec>, EngineError> {
        let known = self.shared.known.read().ignore_poison();
        known.get(id).map(|known| known.spec.clone()).ok_or_else(|| {
            let suggestion = nearest(id, known.keys().map(String::as_str));
            EngineError::UnknownModel { id: id.to_owned(), count: known.len(), suggestion }
        })
    }

    /// Every model, by id.
    pub fn list(&self) -> Vec<ModelStatus> {
        let known = self.shared.known.read().ignore_poison();
        let specs: Vec<_> = known.values().map(|known| known.spec.clone()).collect();
        drop(known);
        specs.into_iter().map(|spec| self.status_of(spec)).collect()
    }

    /// One model.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`].
    pub fn status(&self, id: &str) -> Result<ModelStatus, EngineError> {
        Ok(self.status_of(self.spec(id)?))
    }

    /// The specifications of the models whose ids come after `id`, by id.
    pub fn after(&self, id: &str) -> Vec<Arc<ModelSpec>> {
        let known = self.shared.known.read().ignore_poison();
        let later = (Bound::Excluded(id), Bound::Unbounded);
        known.range::<str, _>(later).map(|(_, known)| known.spec.clone()).collect()
    }

    /// The state of a model whose specification has been looked up.
    pub fn status_of(&self, spec: Arc<ModelSpec>) -> ModelStatus {
        let loading = self.shared.loading.lock().ignore_poison().contains(&spec.id);
        let loaded = self.shared.loaded().find(|model| model.spec.id == spec.id);
        let place = self.shared.locator.place(&spec);
        let state = match (loaded.is_some(), loading, &place) {
            (true, ..) => WeightsState::Loaded,
            (_, true, _) => WeightsState::Loading,
            (_, _, WeightsPlace::Remote) => WeightsState::Remote,
            _ => WeightsState::Cached,
        };
        let loaded_bytes = loaded.map(|model| model.weight_bytes());
        let kind = self.shared.locator.kind(&spec);
        let known = self.shared.known.read().ignore_poison();
        let persistent = known.get(&spec.id).is_some_and(|known| known.persistent);
        ModelStatus { spec, state, kind, loaded_bytes, persistent }
    }

    /// Place, kind and revision of a model's weights; the revision covers the specification too.
    ///
    /// # Errors
    /// If the weights file's size and time cannot be read.
    pub(super) fn weights(&self, spec: &Arc<ModelSpec>) -> Result<ModelWeights, EngineError> {
        let LocatedWeights { place, kind, revision } = self.shared.locator.locate(spec)?;
        let known = self.shared.known.read().ignore_poison();
        // The id may have been removed and given to another model since.
        let known = known.get(&spec.id).filter(|known| Arc::ptr_eq(&known.spec, spec));
        let revision = match known {
            Some(known) => format!("{}-{revision}", known.digest),
            None => format!("{}-{revision}", digest(spec)),
        };
        Ok(ModelWeights { place, kind, revision: revision.into() })
    }

    /// The kind of a model's weights.
    pub(super) fn weights_kind(&self, spec: &ModelSpec) -> WeightsKind {
        self.shared.locator.kind(spec)
    }

    /// Finds the weights of the models.
    pub(super) fn locator(&self) -> &WeightsLocator {
        &self.shared.locator
    }

    /// A model and one of its tasks.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`], [`EngineError::UnknownTask`].
    pub fn task(&self, model: &str, task: &str) -> Result<ModelTask, EngineError> {
        ModelTask::find(self.spec(model)?, task)
    }

    /// Drops a model from memory; returns true if it was loaded.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`].
    pub async fn unload(&self, id: &str) -> Result<bool, EngineError> {
        self.spec(id)?;
        // Those that stand on it hold its network too.
        let on_it = |model: &LoadedModel| model.base.as_ref().is_some_and(|base| base.spec.id == id);
        let above: Vec<_> = self.shared.loaded().filter(|model| on_it(model)).collect();
        for model in above {
            self.shared.loaded.invalidate(&model.spec.id).await;
        }
        let was_there = self.shared.loaded.remove(id).await.is_some();
        self.shared.loaded.run_pending_tasks().await;
        Ok(was_there)
    }

    /// How many models have been registered by manifests.
    pub(super) fn registered(&self) -> usize {
        let known = self.shared.known.read().ignore_poison();
        known.values().filter(|known| known.spec.origin == ModelOrigin::Registered).count()
    }

    /// Adds a model.
    ///
    /// # Errors
    /// [`EngineError::Exists`].
    pub(super) fn register(&self, spec: ModelSpec, persistent: bool) -> Result<(), EngineError> {
        let mut known = self.shared.known.write().ignore_poison();
        if known.contains_key(&spec.id) {
            return Err(EngineError::Exists { what: "model", id: spec.id });
        }
        known.insert(spec.id.clone(), Known::new(spec, persistent));
        Ok(())
    }

    /// Adds a model that servers share, or does nothing if it is there.
    ///
    /// # Errors
    /// [`EngineError::Exists`] if another one has its id.
    pub(super) fn register_shared(&self, spec: ModelSpec, version: i64) -> Result<(), EngineError> {
        let mut known = self.shared.known.write().ignore_poison();
        match known.get(&spec.id) {
            Some(there) if there.shared == Some(version) => return Ok(()),
            Some(_) => return Err(EngineError::Exists { what: "model", id: spec.id }),
            None => {}
        }
        known.insert(spec.id.clone(), Known { shared: Some(version), ..Known::new(spec, true) });
        Ok(())
    }

    /// The documents of the models that are shared.
    pub(super) fn shared(&self) -> Vec<DocumentName> {
        let name = |(id, known): (&String, &Known)| {
            Some(DocumentName { kind: DocumentKind::Model, id: id.clone(), version: known.shared? })
        };
        self.shared.known.read().ignore_poison().iter().filter_map(name).collect()
    }

    /// The specification of a model that may be removed.
    ///
    /// # Errors
    /// As [`Models::remove`].
    pub(super) fn removable(&self, id: &str) -> Result<Arc<ModelSpec>, EngineError> {
        let spec = self.spec(id)?;
        if spec.origin != ModelOrigin::Registered {
            return Err(EngineError::BuiltIn { what: "model", id: id.to_owned() });
        }
        Ok(spec)
    }

    /// Removes a registered model.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`], or [`EngineError::BuiltIn`] for the catalogue's own.
    pub async fn remove(&self, id: &str) -> Result<Arc<ModelSpec>, EngineError> {
        let spec = self.removable(id)?;
        self.shared.known.write().ignore_poison().remove(id);
        self.shared.loaded.invalidate(id).await;
        Ok(spec)
    }
}
