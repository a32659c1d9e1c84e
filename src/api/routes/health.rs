//! Liveness, readiness and metrics.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::dto::words::HealthStatus;
use crate::api::error::Problem;
use crate::api::state::AppState;
use crate::error::ErrorKind;

/// State of the server.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `live` or `ready`.
    #[schema(value_type = HealthStatus)]
    status: &'static str,
    /// The server's version.
    #[schema(example = "0.1.0")]
    version: &'static str,
}

impl Health {
    fn new(status: &'static str) -> axum::Json<Self> {
        axum::Json(Self { status, version: env!("CARGO_PKG_VERSION") })
    }
}

/// Check that the process runs
///
/// Answers 200 as long as the process does its work, also when it is busy or stopping. It should be restarted if it does not answer,
/// or answers 503: then all threads that read and encode have been at work for a minute, or one forward pass for ten.
#[utoipa::path(get, path = "/health/live", operation_id = "get_liveness", tag = "health",
    responses((status = 200, description = "The process runs", body = Health)))]
pub(super) async fn get_liveness(State(state): State<AppState>) -> Result<impl IntoResponse, Problem> {
    match state.stuck() {
        Some(stuck) => Err(Problem::new(ErrorKind::Unavailable, stuck)),
        None => Ok(Health::new("live")),
    }
}

/// Check that requests can be served
///
/// Answers 503 while the server is stopping, so that load balancers send new requests elsewhere.
#[utoipa::path(get, path = "/health/ready", operation_id = "get_readiness", tag = "health",
    responses((status = 200, description = "Requests can be served", body = Health)))]
pub(super) async fn get_readiness(State(state): State<AppState>) -> Result<impl IntoResponse, Problem> {
    if state.is_stopping() {
        return Err(Problem::new(ErrorKind::Unavailable, "the server is stopping"));
    }
    Ok(Health::new("ready"))
}

/// Get metrics
///
/// Counters, gauges and histograms in the Prometheus text format. All names start with `satlas_` and end in their unit.
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "health",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")))]
pub(super) async fn get_metrics(State(state): State<AppState>) -> Response {
    let text = state.metrics().map(|metrics| metrics.render()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
