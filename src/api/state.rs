//! What handlers share: the engine, the limits, the encoded tiles, and whether the server is on its way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;

use super::conditional::cache_control;
use super::prediction::Predictor;
use super::spool::Spool;
use super::tile_cache::TileCache;
use crate::engine::Engine;
use crate::jobs::{JobError, JobOptions, Jobs};
use crate::raster::Limits;

/// Limits and habits of the API.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Keys of which `/v1` needs one; empty leaves it open.
    pub api_keys: Vec<String>,
    /// Web origins that may call the API; `*` is any.
    pub cors: Vec<String>,
    /// Largest request body.
    pub max_upload_bytes: u64,
    /// Most pixels of an upload.
    pub max_pixels: u64,
    /// When a request is given up.
    pub request_timeout: Duration,
    /// How long a tile may be kept without asking again.
    pub max_age: Duration,
    /// Memory for encoded tiles.
    pub tile_cache_bytes: u64,
    /// Bounds of predictions that do not keep their clients waiting.
    pub jobs: JobOptions,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            cors: vec!["*".to_owned()],
            max_upload_bytes: 512 << 20,
            max_pixels: 1 << 27,
            request_timeout: Duration::from_secs(120),
            max_age: Duration::from_secs(3600),
            tile_cache_bytes: 256 << 20,
            jobs: JobOptions::default(),
        }
    }
}

/// Shared by every handler; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<Engine>,
    predictor: Predictor,
    jobs: Jobs,
    spool: Spool,
    options: ApiOptions,
    tiles: TileCache,
    metrics: Option<PrometheusHandle>,
    stopping: AtomicBool,
}

impl AppState {
    /// State over an engine; `metrics` renders `/metrics`. Work on stored jobs begins.
    ///
    /// # Errors
    /// When the stored jobs cannot be read or another process works on them.
    pub fn new(engine: Engine, options: ApiOptions, metrics: Option<PrometheusHandle>) -> Result<Self, JobError> {
        let tiles = TileCache::new(options.tile_cache_bytes);
        let engine = Arc::new(engine);
        let limits = Limits { max_bytes: options.max_upload_bytes, max_pixels: options.max_pixels };
        let predictor = Predictor::new(engine.clone(), limits);
        let jobs = Jobs::open(&options.jobs, Arc::new(predictor.clone()))?;
        // After the jobs, whose lock says that no other process uses the directory.
        let spool = Spool::new(options.jobs.data_dir.as_deref());
        let stopping = AtomicBool::new(false);
        Ok(Self { shared: Arc::new(Shared { engine, predictor, jobs, spool, options, tiles, metrics, stopping }) })
    }

    /// Models, sources, predictions.
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Predictions on uploaded rasters.
    pub(super) fn predictor(&self) -> &Predictor {
        &self.shared.predictor
    }

    /// Predictions that do not keep their clients waiting.
    pub(crate) fn jobs(&self) -> &Jobs {
        &self.shared.jobs
    }

    /// Where large bodies lie.
    pub(super) fn spool(&self) -> &Spool {
        &self.shared.spool
    }

    /// Limits and habits.
    pub fn options(&self) -> &ApiOptions {
        &self.shared.options
    }

    /// Encoded tiles.
    pub(super) fn tiles(&self) -> &TileCache {
        &self.shared.tiles
    }

    /// Renders the metrics, where this process records any.
    pub(super) fn metrics(&self) -> Option<&PrometheusHandle> {
        self.shared.metrics.as_ref()
    }

    /// `Cache-Control` of tiles.
    pub(super) fn cache_control(&self) -> String {
        cache_control(self.options().max_age, !self.options().api_keys.is_empty())
    }

    /// From now on `/health/ready` says no, so that load balancers send nothing new.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the server is on its way out.
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }
}
