//! How models come into memory: loads that requests share, on a common base where heads have one, and the room that is made for
//! them.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use candle_core::Device;
use futures::future::BoxFuture;

use super::slot::Slot;
use super::{ModelWeights, Models, Shared};
use crate::engine::blocking;
use crate::engine::error::EngineError;
use crate::engine::loaded::LoadedModel;
use crate::engine::model_memory::{MIB, Reservation};
use crate::engine::model_task::PlannedModel;
use crate::nn::Network;
use crate::sync::IgnorePoison;
use crate::telemetry;
use crate::weights::{Weights, WeightsPlace};
use crate::zoo::ModelSpec;

impl Models {
    /// A model's network with its current weights; loads it if it is not in memory.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`], and if the weights cannot be located, read or prepared.
    pub async fn load(&self, id: &str) -> Result<Arc<LoadedModel>, EngineError> {
        self.load_spec(&self.spec(id)?).await
    }

    /// [`Models::load`] for a model that has been looked up.
    pub(in crate::engine) async fn load_spec(&self, spec: &Arc<ModelSpec>) -> Result<Arc<LoadedModel>, EngineError> {
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
            loop {
                let mut read = None;
                let load = async {
                    let model = models.load_once(spec.clone()).await?;
                    // While it is held here, no other load evicts it.
                    read = Some(model.clone());
                    Ok::<_, EngineError>(Arc::new(Slot::new(model)))
                };
                let slot = models.shared.loaded.try_get_with(spec.id.clone(), load).await?;
                models.shared.loaded.run_pending_tasks().await;
                // One that another request read may be evicted already.
                if let Some(model) = read.or_else(|| slot.model()) {
                    return Ok(model);
                }
            }
        })
        .await
        .unwrap_or(Err(EngineError::Panicked))
    }

    /// The model with this specification's id, if it is in memory together with the network that its heads stand on. Both count
    /// as used: while a model is used, its base is neither idle nor the first to be evicted.
    async fn in_memory(&self, spec: &ModelSpec) -> Option<Arc<LoadedModel>> {
        let model = self.shared.loaded.get(&spec.id).await?.model()?;
        if let Some(base) = &model.base {
            let cached = self.shared.loaded.get(&base.spec.id).await.and_then(|slot| slot.model());
            if !cached.is_some_and(|cached| Arc::ptr_eq(&cached, base)) {
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
    pub(in crate::engine) async fn load_planned(&self, planned: &PlannedModel) -> Result<Arc<LoadedModel>, EngineError> {
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
                let bytes = self.shared.devices.per_memory() * model.network(0).most_weight_bytes();
                let (mib, budget_mib) = (bytes.div_ceil(MIB), self.shared.memory.total_mib());
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

    /// Downloads a model's weights if need be, waits for memory, and loads them. Heads on the network of `base` take kilobytes, which
    /// are not waited for.
    async fn read(&self, spec: Arc<ModelSpec>, base: Option<Arc<LoadedModel>>) -> Result<LoadedModel, EngineError> {
        let Shared { locator, devices, dtype, memory, .. } = &*self.shared;
        let before = self.weights(&spec)?;
        if before.place == WeightsPlace::Remote {
            // Downloads hold no memory that others could use.
            let (locator, wanted) = (locator.clone(), spec.clone());
            blocking(move || locator.fetch(&wanted).map_err(EngineError::from)).await?;
        }
        let most_bytes = match base {
            Some(_) => 0,
            None => devices.per_memory() * Network::most_bytes(&spec, devices.first(), *dtype)?,
        };
        let reservation = memory.reserve(most_bytes, |mib| self.make_room(mib)).await;
        let models = self.clone();
        blocking(move || models.read_into(spec, base, before, reservation)).await
    }

    fn read_into(
        &self,
        spec: Arc<ModelSpec>,
        base: Option<Arc<LoadedModel>>,
        before: ModelWeights,
        reservation: Reservation,
    ) -> Result<LoadedModel, EngineError> {
        let Shared { locator, devices, dtype, plain_ops, .. } = &*self.shared;
        let opened = devices.iter().map(|_| locator.open(&spec, &mut |_| ())).collect::<Result<Vec<Weights>, _>>()?;
        let ModelWeights { revision, .. } = self.weights(&spec)?;
        // Before a download there was no file to compare with.
        if before.place != WeightsPlace::Remote && before.revision != revision {
            return Err(EngineError::WeightsReplaced { id: spec.id.clone() });
        }
        let kind = opened.first().filter(|_| base.is_none()).map_or_else(|| locator.kind(&spec), Weights::kind);
        let load = if *plain_ops { Network::load_unfused } else { Network::load };
        let copy = |(index, (weights, device)): (usize, (Weights, &Device))| match &base {
            Some(base) => base.network(index).with_heads(weights, &spec),
            None => load(weights, &spec, device, *dtype),
        };
        let networks = opened.into_iter().zip(devices.iter()).enumerate().map(copy).collect::<Result<Vec<_>, _>>()?;
        Ok(LoadedModel::new(spec, (networks, devices.per_memory()), kind, revision, base, reservation))
    }

    /// Unloads the models that were not used for longest, until they have given back so many MiB; none if all of them would not
    /// be enough. Those in use stay: without them in the cache, their memory would still be taken. Heads on another model's network
    /// hold it; they are kilobytes and go first.
    async fn make_room(&self, mib: u32) {
        let loaded = &self.shared.loaded;
        let idle = || loaded.iter().filter_map(|(_, slot)| slot.idle_model());
        let on_base: Vec<_> = idle().filter(|model| model.base.is_some()).map(|model| model.spec.id.clone()).collect();
        for id in on_base {
            loaded.invalidate(&id).await;
        }
        let mut idle: Vec<_> =
            idle().map(|model| (model.last_use(), model.reserved_mib(), model.spec.id.clone())).collect();
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
