//! State shared by all handlers: engine, jobs, limits, cached tiles, and whether the server is shutting down or stuck.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::SetOnce;

use super::conditional::cache_control;
use super::prediction::Predictor;
use super::pulse::Pulse;
use super::results::Results;
use super::route_metrics::RouteMetrics;
use super::shared_jobs::SharedJobs;
use super::spool::Spool;
use super::tile_cache::TileCache;
use super::work::JobWork;
use crate::engine::Engine;
use crate::fleet::DatabaseUrl;
use crate::ip_range::IpRange;
use crate::jobs::{JobError, JobOptions, Jobs};
use crate::raster::Limits;
use crate::shared_cache::SharedCache;

/// Settings of the API.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// API keys. Requests to `/v1` need one of them, unless the list is empty.
    pub api_keys: Vec<String>,
    /// Web origins whose pages may call the API; `*` allows all. Without a list, those of all origins may read.
    pub cors: Option<Vec<String>>,
    /// Proxies whose word on what the client asked is taken.
    pub trusted_proxies: Vec<IpRange>,
    /// True if the server listens on this machine alone, and so answers to no other name.
    pub is_local: bool,
    /// Largest accepted request body.
    pub max_upload_bytes: u64,
    /// Largest accepted number of pixels per uploaded raster.
    pub max_pixels: u64,
    /// A request that takes longer is answered with 504.
    pub request_timeout: Duration,
    /// `max-age` of tiles: how long clients may use one without revalidating it.
    pub max_age: Duration,
    /// Size of the cache of encoded tiles.
    pub tile_cache_bytes: u64,
    /// The folder, or prefix of a bucket, below which area jobs may write.
    pub result_root: Option<String>,
    /// The cache of encoded tiles that servers share.
    pub shared_cache: Option<SharedCache>,
    /// The database through which servers and workers share area jobs.
    pub database_url: Option<DatabaseUrl>,
    /// Settings of background predictions.
    pub jobs: JobOptions,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            cors: None,
            trusted_proxies: Vec::new(),
            is_local: false,
            max_upload_bytes: 512 << 20,
            max_pixels: 1 << 27,
            request_timeout: Duration::from_secs(120),
            max_age: Duration::from_secs(3600),
            tile_cache_bytes: 256 << 20,
            result_root: None,
            shared_cache: None,
            database_url: None,
            jobs: JobOptions::default(),
        }
    }
}

/// The shared state; cloning copies a reference.
#[derive(Clone)]
pub struct AppState {
    shared: Arc<StateParts>,
}

struct StateParts {
    engine: Arc<Engine>,
    predictor: Predictor,
    jobs: Jobs,
    shared_jobs: Option<SharedJobs>,
    spool: Spool,
    options: ApiOptions,
    tiles: TileCache,
    metrics: Option<PrometheusHandle>,
    requests: RouteMetrics,
    stopping: AtomicBool,
    closing: AtomicBool,
    over: SetOnce<()>,
    pulse: Pulse,
}

impl AppState {
    /// Builds the state and starts work on stored jobs. `metrics` renders `/metrics`, which is empty without it.
    ///
    /// # Errors
    /// If the stored jobs cannot be read, or another process uses the same data directory.
    pub fn new(engine: Engine, options: ApiOptions, metrics: Option<PrometheusHandle>) -> Result<Self, JobError> {
        let tiles = TileCache::new(options.tile_cache_bytes, options.shared_cache.clone());
        let engine = Arc::new(engine);
        let limits = Limits { max_bytes: options.max_upload_bytes, max_pixels: options.max_pixels };
        let predictor = Predictor::new(engine.clone(), limits);
        let work = JobWork {
            engine: engine.clone(),
            predictor: predictor.clone(),
            results: Results::below(options.result_root.clone()),
        };
        let jobs = Jobs::open(&options.jobs, Arc::new(work))?;
        // Must come after the jobs: their lock ensures that no other process uses the data directory.
        let spool = Spool::new(options.jobs.data_dir.as_deref(), options.max_upload_bytes);
        let results = Results::below(options.result_root.clone());
        let shared_jobs = options.database_url.clone().map(|url| SharedJobs::new(url, results));
        let (requests, stopping, closing, over, pulse) = Default::default();
        let parts = StateParts {
            engine,
            predictor,
            jobs,
            shared_jobs,
            spool,
            options,
            tiles,
            metrics,
            requests,
            stopping,
            closing,
            over,
            pulse,
        };
        Ok(Self { shared: Arc::new(parts) })
    }

    /// Models, sources and predictions.
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// The same, to be kept.
    pub(super) fn shared_engine(&self) -> &Arc<Engine> {
        &self.shared.engine
    }

    /// Those of every uploaded raster.
    pub(super) fn limits(&self) -> Limits {
        Limits { max_bytes: self.options().max_upload_bytes, max_pixels: self.options().max_pixels }
    }

    /// Predictions on uploaded rasters.
    pub(super) fn predictor(&self) -> &Predictor {
        &self.shared.predictor
    }

    /// Background predictions.
    pub(crate) fn jobs(&self) -> &Jobs {
        &self.shared.jobs
    }

    /// Area jobs that workers do, if this server shares any.
    pub(super) fn shared_jobs(&self) -> Option<&SharedJobs> {
        self.shared.shared_jobs.as_ref()
    }

    /// Where area jobs may put their results.
    pub(super) fn results(&self) -> Results {
        Results::below(self.options().result_root.clone())
    }

    pub(super) fn spool(&self) -> &Spool {
        &self.shared.spool
    }

    /// Settings of the API.
    pub fn options(&self) -> &ApiOptions {
        &self.shared.options
    }

    pub(super) fn tiles(&self) -> &TileCache {
        &self.shared.tiles
    }

    /// `None` if this process records no metrics.
    pub(super) fn metrics(&self) -> Option<&PrometheusHandle> {
        self.shared.metrics.as_ref()
    }

    /// Counts what was answered.
    pub(super) fn requests(&self) -> &RouteMetrics {
        &self.shared.requests
    }

    /// The `Cache-Control` header of tiles.
    pub(super) fn cache_control(&self) -> String {
        cache_control(self.options().max_age, !self.options().api_keys.is_empty())
    }

    /// Makes `/health/ready` answer 503, so that load balancers send no new requests.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    /// True once [`stop`](Self::stop) was called.
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }

    /// Makes new requests be answered with 503, and those under way whose prediction will not be done by `until`.
    pub fn close(&self, until: Instant) {
        self.shared.closing.store(true, Ordering::Relaxed);
        self.engine().close(until);
    }

    /// Makes every request that is not answered yet be answered with 503, now.
    pub fn end(&self) {
        // Already set if this was called before.
        let _ = self.shared.over.set(());
        self.engine().stop();
    }

    /// Waits for [`end`](Self::end).
    pub(super) async fn ended(&self) {
        self.shared.over.wait().await;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.shared.closing.load(Ordering::Relaxed)
    }

    /// Watches the threads that do the work, for [`stuck`](Self::stuck); runs for ever.
    pub async fn keep_pulse(&self) {
        self.shared.pulse.keep().await;
    }

    /// What is stuck, if anything is.
    pub(super) fn stuck(&self) -> Option<String> {
        self.shared.pulse.stuck(self.engine().pass_under_way(), Instant::now())
    }
}
