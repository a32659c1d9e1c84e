//! What a worker answers over HTTP: health and metrics, under the paths that the server has them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use super::stopping::stop_signal;
use super::{ServerError, announce};
use crate::fleet::WorkerStatus;
use crate::telemetry;

/// A listener for health and metrics, and the signals that end a worker.
pub struct WorkerServer {
    listener: TcpListener,
    metrics: Option<PrometheusHandle>,
}

impl WorkerServer {
    /// Begins to count metrics, and listens.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        telemetry::log_panics();
        let metrics = telemetry::start_metrics();
        let listener = TcpListener::bind(address).await.map_err(|source| ServerError::Bind { address, source })?;
        Ok(Self { listener, metrics })
    }

    /// Tells where it listens and answers; ends at the first signal that asks for it.
    ///
    /// # Errors
    /// If signals cannot be caught, or listening fails.
    pub async fn serve(self, status: Arc<WorkerStatus>) -> io::Result<()> {
        let stopped = stop_signal()?;
        announce(self.listener.local_addr()?)?;
        let ready = move || async move {
            match status.is_ready() {
                true => (StatusCode::OK, "ready\n"),
                false => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer, or the worker is stopping\n"),
            }
        };
        let metrics = move || async move {
            let text = self.metrics.map(|metrics| metrics.render()).unwrap_or_default();
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
        };
        let routes = Router::new()
            .route("/health/live", get(|| async { "live\n" }))
            .route("/health/ready", get(ready))
            .route("/metrics", get(metrics));
        tokio::select! {
            served = async { axum::serve(self.listener, routes).await } => served,
            () = stopped => Ok(()),
        }
    }
}
