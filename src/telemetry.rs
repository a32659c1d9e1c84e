//! Logging, and the names of all metrics.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Requests answered, by route and status.
pub const HTTP_REQUESTS_TOTAL: &str = "satlas_http_requests_total";
/// Seconds from the head of a request to the head of its response, by route.
pub const HTTP_REQUEST_SECONDS: &str = "satlas_http_request_seconds";
/// Requests waiting for a device.
pub const QUEUE_DEPTH: &str = "satlas_queue_depth";
/// Requests refused on arrival, because their answer would have come too late or the queue was full.
pub const QUEUE_REFUSED_TOTAL: &str = "satlas_queue_refused_total";
/// Requests that were accepted and then refused, because they waited too long or made room for another client.
pub const QUEUE_DROPPED_TOTAL: &str = "satlas_queue_dropped_total";
/// Items per forward pass.
pub const BATCH_SIZE: &str = "satlas_batch_size";
/// Seconds per forward pass, by device (`cpu`, `cuda:0`).
pub const FORWARD_SECONDS: &str = "satlas_forward_seconds";
/// Models loaded, by model and outcome (`ok`, `error`).
pub const MODEL_LOADS_TOTAL: &str = "satlas_model_loads_total";
/// Seconds to load a model.
pub const MODEL_LOAD_SECONDS: &str = "satlas_model_load_seconds";
/// Bytes of prepared weights in memory, by model. An unloaded model counts as long as a running request uses it.
pub const MODEL_BYTES: &str = "satlas_model_bytes";
/// Cache look-ups, by cache and outcome (`hit`, `miss`; `failed` if the shared cache is away).
pub const CACHE_LOOKUPS_TOTAL: &str = "satlas_cache_lookups_total";
/// 1 while the shared cache answers, 0 while it is away.
pub const SHARED_CACHE_UP: &str = "satlas_shared_cache_up";
/// Seconds per answer of the shared cache, by call (`read`, `write`, `lease`).
pub const SHARED_CACHE_SECONDS: &str = "satlas_shared_cache_seconds";
/// Blocks that a worker has let go of, by outcome (`made`, `there`, `failed`, `lost`, `returned`).
pub const FLEET_BLOCKS_TOTAL: &str = "satlas_fleet_blocks_total";
/// Seconds from the lease of a block to its end.
pub const FLEET_BLOCK_SECONDS: &str = "satlas_fleet_block_seconds";
/// Seconds per call of the database that keeps the queue, by call (`claim`, `renew`, `end`).
pub const FLEET_QUEUE_SECONDS: &str = "satlas_fleet_queue_seconds";

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people to read.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error. `level` is a filter such as `info` or `satlas_serve=debug`, which `RUST_LOG`
/// overrides.
pub fn start_logging(level: &str, format: LogFormat) {
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    if filter.max_level_hint() == Some(LevelFilter::TRACE) {
        // At this level the HTTP client logs addresses including signatures and tokens.
        for client in ["ureq=debug", "ureq_proto=debug"].iter().filter_map(|directive| directive.parse().ok()) {
            filter = filter.add_directive(client);
        }
    }
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Files and pipes get no colour codes.
    let logs = if std::io::stderr().is_terminal() { logs } else { logs.with_ansi(false) };
    let logs = logs.with_target(false);
    // A second call, as in tests, has no effect.
    let _ = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
}

/// Logs each panic as one line. Whoever catches one need not log it again.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(message, place, "a panic was caught");
    }));
}

/// Installs the metrics recorder of this process and returns the handle that renders the metrics; `None` if one is already
/// installed.
pub fn start_metrics() -> Option<PrometheusHandle> {
    const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
    const ITEMS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
    let builder = PrometheusBuilder::new().set_buckets(&SECONDS).ok()?;
    builder.set_buckets_for_metric(Matcher::Full(BATCH_SIZE.to_owned()), &ITEMS).ok()?.install_recorder().ok()
}
