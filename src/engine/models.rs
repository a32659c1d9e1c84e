//! The registry of models, and the cache of those in memory.
//!
//! The registry holds every [`ModelSpec`]; a moka cache holds loaded networks. Each load runs in its own task: concurrent
//! first requests share it, and a caller that leaves does not abort it. It begins when [`ModelMemory`] has room for the
//! network, for which the least recently used models that no request needs are evicted.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::{Duration, Instant};

use candle_core::{DType, Device};
use futures::future::BoxFuture;
use moka::future::Cache;

use super::error::EngineError;
use super::loaded::LoadedModel;
use super::model_memory::{MIB, ModelMemory, Reservation};
use super::model_task::{ModelTask, PlannedModel};
use super::near_match::nearest;
use crate::nn::Network;
use crate::sync::IgnorePoison;
use crate::telemetry;
use crate::weights::{LocatedWeights, Weights, WeightsKind, WeightsLocator, WeightsPlace};
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
    /// Memory for loaded weights, MiB.
    pub memory_mib: u64,
    /// A model is unloaded after so long without a request; `None` keeps it.
    pub idle: Option<Duration>,
    /// The number type networks run in.
    pub dtype: DType,
}

/// The registry and the cache.
#[derive(Clone)]
pub struct Models {
    shared: Arc<Shared>,
}

struct Shared {
    known: RwLock<BTreeMap<String, Known>>,
    loaded: Cache<String, Arc<LoadedModel>>,
    loading: Mutex<HashSet<String>>,
    memory: ModelMemory,
    idle: Option<Duration>,
    locator: WeightsLocator,
    device: Device,
    dtype: DType,
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
}

impl Known {
    fn new(spec: ModelSpec, persistent: bool) -> Self {
        Self { digest: digest(&spec), spec: Arc::new(spec), persistent }
    }
}

fn digest(spec: &ModelSpec) -> String {
    const DIGITS: usize = 8;
    blake3::hash(format!("{spec:?}").as_bytes()).to_hex()[..DIGITS].to_owned()
}

impl Models {
    /// A registry of `specs` whose networks will run on `device`.
    pub fn new(specs: Vec<ModelSpec>, locator: WeightsLocator, device: Device, options: &ModelOptions) -> Self {
        let mut loaded = Cache::builder().name("models").eviction_listener(|id, model: Arc<LoadedModel>, cause| {
            let bytes = model.network.weight_bytes();
            tracing::info!(model = %id, ?cause, mib = bytes / MIB, "model unloaded");
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
            device,
            dtype: options.dtype,
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
        let loaded = self.shared.loaded.contains_key(&spec.id);
        let place = self.shared.locator.place(&spec);
        let state = match (loaded, loading, &place) {
            (true, ..) => WeightsState::Loaded,
            (_, true, _) => WeightsState::Loading,
            (_, _, WeightsPlace::Remote) => WeightsState::Remote,
            _ => WeightsState::Cached,
        };
        // Reading the cached model would count as a use and keep it from going idle.
        let loaded_bytes =
            self.shared.loaded.iter().find(|(id, _)| **id == spec.id).map(|(_, model)| model.network.weight_bytes());
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

    /// A model's network with its current weights; loads it if it is not in memory.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`], and if the weights cannot be located, read or prepared.
    pub async fn load(&self, id: &str) -> Result<Arc<LoadedModel>, EngineError> {
        self.load_spec(&self.spec(id)?).await
    }

    /// [`Models::load`] for a model that has been looked up.
    pub(super) async fn load_spec(&self, spec: &Arc<ModelSpec>) -> Result<Arc<LoadedModel>, EngineError> {
        if let Some(model) = self.in_memory(spec).await {
            let weights = self.weights(spec)?;
            // A loaded model still answers after its weights file is deleted.
            if weights.place == WeightsPlace::Remote || model.revision == weights.revision {
                model.note_use();
                return Ok(model);
            }
            tracing::info!(model = spec.id, "the weights file has changed: the model is loaded again");
            self.shared.loaded.invalidate(&spec.id).await;
        }
        let (models, spec) = (self.clone(), spec.clone());
        // The spawned task owns the load, which continues if this request is cancelled.
        tokio::spawn(async move {
            let load = models.load_once(spec.clone());
            let loaded = models.shared.loaded.try_get_with(spec.id.clone(), load).await;
            models.shared.loaded.run_pending_tasks().await;
            loaded.map_err(EngineError::from)
        })
        .await
        .unwrap_or(Err(EngineError::Panicked))
    }

    /// The model with this specification's id, if it is in memory together with the network that its heads stand on. Both count
    /// as used: while a model is used, its base is neither idle nor the first to be evicted.
    async fn in_memory(&self, spec: &ModelSpec) -> Option<Arc<LoadedModel>> {
        let model = self.shared.loaded.get(&spec.id).await?;
        if let Some(base) = model.spec.base() {
            let base = self.shared.loaded.get(&base.id).await;
            if !base.is_some_and(|base| model.network.shares_with(&base.network)) {
                self.shared.loaded.invalidate(&spec.id).await;
                return None;
            }
        }
        Some(model)
    }

    /// The network of the planned revision; loads it if it is not in memory. A network in memory still answers after its file
    /// is replaced.
    ///
    /// # Errors
    /// [`EngineError::WeightsReplaced`] if only another revision is available, and those of [`Models::load`].
    pub(super) async fn load_planned(&self, planned: &PlannedModel) -> Result<Arc<LoadedModel>, EngineError> {
        let spec = &planned.model.spec;
        let in_memory = self.in_memory(spec).await;
        if let Some(model) = in_memory.filter(|model| model.revision == planned.revision) {
            model.note_use();
            return Ok(model);
        }
        let model = self.load_spec(spec).await?;
        if model.revision == planned.revision {
            Ok(model)
        } else {
            Err(EngineError::WeightsReplaced { id: spec.id.clone() })
        }
    }

    async fn load_once(&self, spec: Arc<ModelSpec>) -> Result<Arc<LoadedModel>, EngineError> {
        let started = Instant::now();
        let id = spec.id.clone();
        self.shared.loading.lock().ignore_poison().insert(id.clone());
        let loaded = self.read_all(spec).await;
        self.shared.loading.lock().ignore_poison().remove(&id);
        let seconds = started.elapsed().as_secs_f64();
        match &loaded {
            Ok(model) => {
                let (mib, budget_mib) = (model.network.most_weight_bytes().div_ceil(MIB), self.shared.memory.total_mib());
                tracing::info!(model = id, mib, seconds, "model loaded");
                if mib > budget_mib as usize {
                    tracing::warn!(
                        model = id,
                        mib,
                        budget_mib,
                        "larger than the model memory: it is loaded once no other model is"
                    );
                }
                metrics::histogram!(telemetry::MODEL_LOAD_SECONDS).record(seconds);
            }
            Err(error) => tracing::warn!(model = id, %error, "model not loaded"),
        }
        let outcome = if loaded.is_ok() { "ok" } else { "error" };
        metrics::counter!(telemetry::MODEL_LOADS_TOTAL, "model" => id, "outcome" => outcome).increment(1);
        let model = Arc::new(loaded?);
        if let Some(idle) = self.shared.idle {
            tokio::spawn(watch(Arc::downgrade(&self.shared), Arc::downgrade(&model), idle));
        }
        Ok(model)
    }

    /// Reads a model; if its heads stand on another, loads that first.
    async fn read_all(&self, spec: Arc<ModelSpec>) -> Result<LoadedModel, EngineError> {
        let base = match spec.base() {
            Some(base) => Some(self.load_base(base).await?),
            None => None,
        };
        self.read(spec, base).await
    }

    /// [`Models::load_spec`] with a nameable type, since a load may begin another.
    fn load_base<'a>(&'a self, spec: &'a Arc<ModelSpec>) -> BoxFuture<'a, Result<Arc<LoadedModel>, EngineError>> {
        Box::pin(self.load_spec(spec))
    }

    /// Drops a model from memory; returns true if it was loaded.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`].
    pub async fn unload(&self, id: &str) -> Result<bool, EngineError> {
        self.spec(id)?;
        // Those that stand on it hold its network too.
        let on_it = |model: &LoadedModel| model.spec.base().is_some_and(|base| base.id == id);
        let above: Vec<_> = self.shared.loaded.iter().filter(|(_, model)| on_it(model)).map(|(id, _)| id).collect();
        for id in above {
            self.shared.loaded.invalidate(&*id).await;
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

    /// Removes a registered model.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`], or [`EngineError::BuiltIn`] for the catalogue's own.
    pub async fn remove(&self, id: &str) -> Result<Arc<ModelSpec>, EngineError> {
        let spec = self.spec(id)?;
        if spec.origin != ModelOrigin::Registered {
            return Err(EngineError::BuiltIn { what: "model", id: id.to_owned() });
        }
        self.shared.known.write().ignore_poison().remove(id);
        self.shared.loaded.invalidate(id).await;
        Ok(spec)
    }

    /// Downloads a model's weights if need be, waits for memory, and loads them. Heads on the network of `base` take kilobytes, which
    /// are not waited for.
    async fn read(&self, spec: Arc<ModelSpec>, base: Option<Arc<LoadedModel>>) -> Result<LoadedModel, EngineError> {
        let Shared { locator, device, dtype, memory, .. } = &*self.shared;
        let before = self.weights(&spec)?;
        if before.place == WeightsPlace::Remote {
            // Downloads hold no memory that others could use.
            let (locator, wanted) = (locator.clone(), spec.clone());
            blocking(move || Ok(locator.fetch(&wanted)?)).await?;
        }
        let most_bytes = if base.is_some() { 0 } else { Network::most_bytes(&spec, device, *dtype)? };
        let reservation = memory.reserve(most_bytes, |mib| self.make_room(mib)).await;
        let models = self.clone();
        blocking(move || models.read_into(spec, base.as_deref(), before, reservation)).await
    }

    fn read_into(
        &self,
        spec: Arc<ModelSpec>,
        base: Option<&LoadedModel>,
        before: ModelWeights,
        reservation: Reservation,
    ) -> Result<LoadedModel, EngineError> {
        let Shared { locator, device, dtype, .. } = &*self.shared;
        let weights: Weights = locator.open(&spec, &mut |_| ())?;
        let ModelWeights { revision, .. } = self.weights(&spec)?;
        // Before a download there was no file to compare with.
        if before.place != WeightsPlace::Remote && before.revision != revision {
            return Err(EngineError::WeightsReplaced { id: spec.id.clone() });
        }
        let (network, kind) = match base {
            Some(base) => (base.network.with_heads(weights, &spec)?, locator.kind(&spec)),
            None => {
                let kind = weights.kind();
                (Network::load(weights, &spec, device, *dtype)?, kind)
            }
        };
        let trunk = base.map(|base| base.trunk.clone());
        Ok(LoadedModel::new(spec, network, kind, revision, trunk, reservation))
    }

    /// Unloads the models that were not used for longest, until they have given back so many MiB; none if all of them would not
    /// be enough. Those in use stay: without them in the cache, their memory would still be taken.
    async fn make_room(&self, mib: u32) {
        /// The cache's own handle, and that of its iterator.
        const HANDLES_OF_IDLE: usize = 2;
        let loaded = &self.shared.loaded;
        let idle = loaded.iter().filter(|(_, model)| Arc::strong_count(model) <= HANDLES_OF_IDLE);
        let mut idle: Vec<_> = idle.map(|(id, model)| (model.last_use(), model.reserved_mib(), id.to_string())).collect();
        idle.sort();
        if idle.iter().map(|(_, freed, _)| u64::from(*freed)).sum::<u64>() >= mib.into() {
            let mut freed = 0;
            for (_, model_mib, id) in idle {
                if freed >= mib {
                    break;
                }
                loaded.invalidate(&id).await;
                freed = freed.saturating_add(model_mib);
            }
        }
        loaded.run_pending_tasks().await;
    }
}

/// Runs work that blocks on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(EngineError::Panicked))
}

/// Makes the cache drop `model` once it is idle: the cache expires entries only when it is used, so a server without requests
/// would keep the memory. Ends when the model or the engine is dropped.
async fn watch(shared: Weak<Shared>, model: Weak<LoadedModel>, idle: Duration) {
    /// Checks per idle time: a model may stay up to a quarter longer than configured.
    const LOOKS: u32 = 4;
    const LONGEST_PAUSE: Duration = Duration::from_secs(60);
    const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
    while model.strong_count() > 0 {
        tokio::time::sleep((idle / LOOKS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.loaded.run_pending_tasks().await;
    }
}
