//! From the [`Config`] to the options of the modules.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Config, EngineSettings};
use crate::budget::{MemoryBudget, memory_of_machine};
use crate::engine::{BatchOptions, Devices, EngineOptions, ModelOptions, SceneOptions, SourceOptions, WindowOptions};
use crate::jobs::JobOptions;
use crate::raster::{ChunkCache, Limits, OpenOptions};
use crate::shared_cache::{SharedCache, SharedCacheOptions};
use crate::storage::{Authorities, Client, ClientOptions, ObjectStores, RemotePolicy, is_remote};
use crate::tiles::WindowGrid;
use crate::weights::{CheckpointFiles, EmbeddedFiles, HubOptions, WeightsLocator, WeightsMode};

/// Batches pay on GPUs; on a CPU one image fills all cores already.
const GPU_BATCH: usize = 16;
const GPU_BATCH_DELAY: Duration = Duration::from_millis(5);

/// By default, this part of the machine's memory is for work on requests; models and caches have budgets of their own.
const MEMORY_SHARE: u64 = 4;

/// A source that could not be opened is tried again after this; maps ask for many tiles at once.
const SOURCE_RETRY: Duration = Duration::from_secs(5);

impl Config {
    /// Options of an engine on `devices`.
    pub fn engine_options(&self, devices: &Devices) -> EngineOptions {
        let is_cpu = devices.first().is_cpu();
        let max_batch = self.server.max_batch.unwrap_or(if is_cpu { 1 } else { GPU_BATCH });
        let max_delay = self.server.batch_delay.map(|delay| delay.0);
        let max_delay = max_delay.unwrap_or(if is_cpu { Duration::ZERO } else { GPU_BATCH_DELAY });
        let memory =
            MemoryBudget::new(self.server.request_memory.map_or(memory_of_machine() / MEMORY_SHARE, |size| size.0));
        let named = self.sources.iter().flat_map(|(_, locations)| locations).map(|location| location.place.as_str());
        EngineOptions {
            models: ModelOptions {
                memory_mib: self.engine.model_memory.as_mib(),
                idle: Some(self.engine.model_idle.0).filter(|idle| !idle.is_zero()),
                dtype: self.engine.dtype.on(devices.first()),
                plain_ops: self.engine.plain_ops,
            },
            windows: WindowOptions {
                grid: WindowGrid { core_px: self.server.window, halo_px: self.server.halo },
                features_mib: self.server.feature_memory.as_mib(),
                answers_mib: self.server.answer_memory.as_mib(),
            },
            batches: BatchOptions { queue_capacity: self.server.queue, max_batch, max_delay },
            scenes: SceneOptions { max_pixels: self.engine.max_pixels, memory: memory.clone(), ..SceneOptions::default() },
            sources: SourceOptions {
                data_dir: self.engine.data_dir.clone(),
                source_root: self.server.source_root.clone(),
                max_sources: self.server.max_sources,
                max_memory_bytes: self.server.source_memory.0,
                retry_after: SOURCE_RETRY,
                open: OpenOptions {
                    limits: self.limits(),
                    chunks: ChunkCache::within(self.server.chunk_memory.0, memory),
                    remote: Some(Arc::new(self.remote_client(named))),
                },
            },
            models_dir: self.models_dir(),
        }
    }

    /// What fetches remote imagery. Whoever names `places` at start allows their hosts. The variables of object stores are those
    /// that other tools read.
    pub fn remote_client<'a>(&self, places: impl Iterator<Item = &'a str>) -> Client {
        let object_stores = ObjectStores::from_environment();
        let authorities = Authorities::from_variables(|name| std::env::var(name).ok());
        let named = places.filter(|place| is_remote(place));
        let named = named.filter_map(|place| Some(object_stores.locate(place).ok()?.host().to_owned()));
        let hosts = self.server.remote.allow_host.iter().cloned().chain(named).collect();
        let policy = RemotePolicy { hosts, allow_private: self.server.remote.allow_private_hosts };
        Client::new(
            policy,
            ClientOptions {
                block_bytes: self.server.remote.remote_memory.0,
                object_stores,
                authorities,
                ..ClientOptions::default()
            },
        )
    }

    /// The directory with checkpoints, if it or one for data is named.
    fn models_dir(&self) -> Option<PathBuf> {
        let EngineSettings { models_dir, data_dir, .. } = &self.engine;
        models_dir.clone().or_else(|| data_dir.as_ref().map(|dir| dir.join("models")))
    }

    /// Bounds of jobs.
    pub fn job_options(&self) -> JobOptions {
        JobOptions {
            data_dir: self.engine.data_dir.clone(),
            max_queued: self.server.max_jobs,
            max_running: self.server.parallel_jobs,
            retention: self.server.job_retention.0,
            max_bytes: self.server.job_storage.0,
        }
    }

    /// The cache that this server shares with others. The certificates of its host are checked as those of all others.
    pub fn shared_cache(&self) -> Option<SharedCache> {
        let options = SharedCacheOptions {
            url: self.server.redis_url.clone()?,
            max_entry_bytes: self.server.redis_max_entry.0,
            expiry: self.server.redis_expiry.0,
            patience: self.server.redis_timeout.0,
        };
        Some(SharedCache::new(&options, Authorities::from_variables(|name| std::env::var(name).ok())))
    }

    /// What an imagery file may hold.
    pub fn limits(&self) -> Limits {
        Limits { max_bytes: self.server.max_upload_bytes.0, max_pixels: self.engine.max_pixels }
    }

    /// Where weights are looked for; `embedded` looks files of the demo bundle up.
    ///
    /// The hub's own variables (`HF_HOME`, `HF_TOKEN` …) are honoured, so that its cache is shared with other tools.
    pub fn weights_locator(&self, embedded: EmbeddedFiles) -> WeightsLocator {
        let mut hub = HubOptions::from_variables(|name| std::env::var(name).ok());
        hub.offline |= self.engine.weights.0 != WeightsMode::Auto;
        let own = self.engine.data_dir.clone().unwrap_or_else(user_cache_dir);
        let models_dir = self.models_dir().unwrap_or_else(|| own.join("models"));
        let files = CheckpointFiles::new(models_dir, own.join("copies"), hub);
        WeightsLocator { mode: self.engine.weights.0.clone(), files, embedded }
    }
}

/// The user's cache directory, as the XDG base directory specification has it.
fn user_cache_dir() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("satlas-serve")
}
