//! Wiring: an engine out of the configuration, a listener, and an orderly end.

mod connections;
mod documents;
mod error;
mod health_check;
mod stopping;
mod worker_health;

use std::io::Write;
use std::net::SocketAddr;

use axum::ServiceExt;
use axum::extract::Request;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::connections::{BoundedListener, ConnectionLimits, CountRequests, RequestConnection, most_connections};
use self::stopping::{Phase, StopTimes, watch_signals};
use crate::api::{ApiOptions, AppState, router};
use crate::assets;
use crate::config::Config;
use crate::engine::Engine;
use crate::raster::{Limits, Source};
use crate::telemetry;
use crate::zoo::{CatalogError, ModelSpec, demo_models, pretrained_models};

pub use documents::{follow_registrations, share_registrations};
pub use error::ServerError;
pub use health_check::check_health;
pub use worker_health::WorkerServer;

/// A file of the demo bundle that is a source: id, title, file.
const DEMO_SOURCES: [(&str, &str, &str); 3] = [
    ("world", "Blue Marble: the whole Earth", "world.tif"),
    ("trees", "Trees: 10 cm aerial imagery", "trees.tif"),
    ("trees_osbs", "Trees: pine savanna, 10 cm aerial imagery", "trees_osbs.tif"),
];

/// The models a configuration serves.
///
/// # Errors
/// Where an embedded catalogue cannot be read; tests keep that from happening.
pub fn models(config: &Config) -> Result<Vec<ModelSpec>, CatalogError> {
    let mut models = pretrained_models()?;
    if let Some(demo) = assets::demo_file("demo.json").filter(|_| !config.server.no_demo) {
        models.extend(demo_models(&String::from_utf8_lossy(demo))?);
    }
    Ok(models)
}

/// An engine with the models and sources of a configuration.
///
/// # Errors
/// A device that is not there, sources that cannot be read.
pub fn engine(config: &Config) -> Result<Engine, ServerError> {
    let devices = config.engine.device.open()?;
    let options = config.engine_options(&devices);
    let chunks = options.sources.open.chunks.clone();
    let engine = Engine::start(models(config)?, config.weights_locator(assets::demo_file), devices, &options)?;
    for (id, title, file) in DEMO_SOURCES.into_iter().filter(|_| !config.server.no_demo) {
        let bytes = Bytes::from_static(assets::demo_file(file).unwrap_or_default());
        let source = Source::from_bytes(id, title, bytes, None, &Limits::NONE, &chunks)
            .map_err(|source| ServerError::Source { id: id.into(), source: source.into() })?;
        engine.sources().add_built_in(source)?;
    }
    for (id, places) in &config.sources {
        let added = engine.sources().add_locations(id, places);
        added.map_err(|source| ServerError::Source { id: id.clone(), source })?;
    }
    Ok(engine)
}

/// The API's own options.
pub fn api_options(config: &Config) -> ApiOptions {
    ApiOptions {
        api_keys: config.server.api_key.clone(),
        cors: config.cors_origins(),
        trusted_proxies: config.server.trusted_proxy.clone(),
        is_local: config.server.host.is_loopback(),
        max_upload_bytes: config.server.max_upload_bytes.0,
        max_pixels: config.engine.max_pixels,
        request_timeout: config.server.request_timeout.0,
        max_age: config.server.max_age.0,
        tile_cache_bytes: config.server.tile_memory.0,
        result_root: config.server.result_root.clone(),
        shared_cache: config.shared_cache(),
        database_url: config.server.database_url.clone(),
        jobs: config.job_options(),
    }
}

/// Serves until a stop signal, then lets requests under way finish for a while.
///
/// # Errors
/// [`ServerError`], before the first request or when the listener fails.
pub async fn serve(config: Config) -> Result<(), ServerError> {
    let address = config.address();
    if !address.ip().is_loopback() && config.server.api_key.is_empty() {
        tracing::warn!("{address} is open to the network and no --api-key is set: anyone who reaches it may use it");
    }
    telemetry::log_panics();
    let metrics = telemetry::start_metrics();
    let engine = engine(&config)?;
    if let Some(database) = &config.server.database_url {
        share_registrations(&engine, database).await?;
    }
    let state = AppState::new(engine, api_options(&config), metrics)?;
    if let Some(shared) = &state.options().shared_cache {
        shared.connect();
    }
    let bind = |source| ServerError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    // Before anybody is told the address: whoever knows it may stop the server.
    let times = StopTimes { grace: config.server.stop_grace.0, drain: config.server.drain.0 };
    let stage = watch_signals(times)?;
    announce(listener.local_addr()?)?;
    let limits = ConnectionLimits {
        total: config.server.max_connections.unwrap_or_else(most_connections),
        per_peer: config.server.max_connections_per_peer,
    };
    let service = CountRequests(router(state.clone()));
    let service = ServiceExt::<Request>::into_make_service_with_connect_info::<RequestConnection>(service);
    let serving = axum::serve(BoundedListener::new(listener, limits), service);
    let serving = serving.with_graceful_shutdown(closing(stage.clone()));
    tokio::select! {
        served = serving => served?,
        () = follow(stage, &state) => {}
        () = state.keep_pulse() => {}
        () = follow_registrations(state.engine()), if config.server.database_url.is_some() => {}
    }
    // Requests that did not finish hold the state too, so its end would come too late for jobs under way.
    tokio::task::spawn_blocking(move || state.jobs().close()).await.map_err(std::io::Error::other)?;
    Ok(())
}

/// Ends when no more connections are taken.
async fn closing(mut stage: watch::Receiver<Phase>) {
    // The sender lives as long as the process.
    let _ = stage.wait_for(|stage| matches!(stage, Phase::Closing(_) | Phase::Over)).await;
}

/// Does what each stage of stopping asks for. It does not end: either all requests do, or [`stopping`] ends the process.
async fn follow(mut stage: watch::Receiver<Phase>, state: &AppState) {
    let mut jobs = None;
    while stage.changed().await.is_ok() {
        let stage = *stage.borrow_and_update();
        state.stop();
        if stage == Phase::Leaving {
            continue;
        }
        // Jobs are queued again for the next start, and leave the device to requests.
        jobs.get_or_insert_with(|| {
            let state = state.clone();
            tokio::task::spawn_blocking(move || state.jobs().close())
        });
        match stage {
            Phase::Closing(until) => state.close(until),
            _ => state.end(),
        }
    }
    std::future::pending().await
}

/// Tells people and scripts where the server is; on stdout, where scripts that asked for port 0 read it.
fn announce(address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on http://{address}")?;
    out.flush()
}
