//! Areas in blocks, as jobs.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;

use super::jobs;
use crate::api::area_work::{self, AreaCall, PlannedArea};
use crate::api::base_url::PathPrefix;
use crate::api::dto::{AreaJobBody, JobDto};
use crate::api::error::Problem;
use crate::api::extract::Query;
use crate::api::json_body::Json;
use crate::api::middleware::RequestId;
use crate::api::state::AppState;
use crate::api::stored_body;
use crate::api::work::StoredCall;
use crate::areas::Destination;
use crate::jobs::NewJob;

/// Whether a job is only planned.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DryRunParams {
    /// `true`: answer with the plan (blocks, pixels, estimated time) and run nothing.
    #[param(value_type = Option<bool>, default = false)]
    dry_run: Option<String>,
}

impl DryRunParams {
    fn is_dry(&self) -> Result<bool, Problem> {
        match self.dry_run.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(found) => Err(Problem::parameter("dry_run", found, "true or false")),
        }
    }
}

/// Predict on an area in blocks
///
/// The area is divided into blocks, each of which becomes a cloud-optimised GeoTIFF (pixels) or a GeoParquet file (objects). Blocks equal
/// the area in one piece, and no object is in two of them. The result is a zip file with a STAC collection and item per block, and a
/// mosaic that GDAL and QGIS open. Where the server has a place for results (`--result-root`), a job with a `destination` may be of any
/// size; its files go there, and its result is a report as JSON. A job that was interrupted goes on with the blocks that are missing.
/// Where the server has a database too (`--database-url`), workers do the jobs with a destination, and every server of that database
/// shows them, serves their files, cancels them and tries failed blocks again; without a worker they wait.
/// `satlas-serve run` does the same without a server.
#[utoipa::path(post, path = "/v1/jobs", operation_id = "create_job", tag = "jobs", params(DryRunParams),
    request_body(content = AreaJobBody, description = "Model, task, area and options",
        example = json!({"model": "world", "task": "water", "source": "world", "bbox": [-10, 35, 60, 60]})),
    responses(
        (status = 200, description = "The plan, with `dry_run`", body = Object),
        (status = 202, description = "The job", body = JobDto, headers(("Location" = String, description = "The job's address"))),
    ))]
pub(super) async fn create_job(
    State(state): State<AppState>,
    Query((params,)): Query<(DryRunParams,)>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    prefix: PathPrefix,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, Problem> {
    let input = stored_body::stored("job.json", &body)?;
    let is_dry = params.is_dry()?;
    let PlannedArea { job, plan, destination, .. } = area_work::plan(state.engine(), body, &state.results()).await?;
    if is_dry {
        return Ok(axum::Json(plan).into_response());
    }
    let place = destination.filter(|place| Destination::is_shared(place));
    if let (Some(shared), Some(place)) = (state.shared_jobs(), place) {
        let submitted = shared.submit(state.engine(), (&job, &plan), &place).await?;
        tracing::info!(job = submitted.id(), request_id, blocks = submitted.job.blocks, "shared with workers");
        return Ok(jobs::accepted(JobDto::shared(submitted, &prefix)));
    }
    let member = |name: &str| job.text[name].as_str().unwrap_or_default().to_owned();
    let request = serde_json::to_string(&StoredCall::Blocks { blocks: AreaCall {} }).map_err(Problem::internal)?;
    let new = NewJob { model: member("model"), task: member("task"), request, request_id };
    jobs::submit_new(&state, new, vec![input], &prefix).await
}
