//! What has changed on an area between two dates.

use axum::Extension;
use axum::extract::State;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::jobs;
use super::tiles::TaskPath;
use crate::api::base_url::PathPrefix;
use crate::api::change::{ChangeCall, ChangeWork};
use crate::api::dto::{
    CellParams, ChangeBody, ChangeParams, EmbeddingParams, FeatureCollection, File, JobDto, PixelParams, RenderParams,
};
use crate::api::error::Problem;
use crate::api::extract::Path;
use crate::api::json_body::Json;
use crate::api::middleware::RequestId;
use crate::api::state::AppState;
use crate::api::work::StoredCall;
use crate::api::{preference, stored_body};
use crate::engine::{Caller, Class};
use crate::jobs::NewJob;

/// Find what has changed on an area
///
/// The same question is asked of two sets of captures of a source (`before` and `after`), on one grid, and the answers are compared.
/// Of the task `embedding`, each cell has the cosine distance of its two vectors, from 0 (equal) over 1 to 2 (opposite); as `geojson`,
/// cells of at least `threshold` (0.5) are `changed`. Of a `segment` task, pixels change if their likeliest category is another one
/// afterwards, both with a probability of at least `threshold`; categories are `unchanged` and, for example, `forest to water`. Of a
/// `bin_segment` task, a category has `appeared` or `gone` where its probability reaches `threshold` on one side and is at most
/// 1 - `threshold` on the other. Places without data on either side have none.
///
/// With `Prefer: respond-async` the response is a job, whose result is fetched later.
#[utoipa::path(post, path = "/v1/predict/{model}/{task}/change", operation_id = "predict_change", tag = "predict",
    params(TaskPath, ChangeParams, PixelParams, EmbeddingParams, CellParams, RenderParams,
        ("Prefer" = Option<String>, Header, description = "`respond-async`: run the comparison in the background and answer with a job")),
    request_body(content = ChangeBody, description = "The area, and what is compared",
        example = json!({"source": "world", "bbox": [-10, 35, 20, 60], "before": "1", "after": "1"})),
    responses(
        (status = 200, description = "The comparison", content(
            (inline(File) = "image/png"), (inline(File) = "image/webp"), (inline(File) = "image/tiff"),
            (inline(File) = "application/x-npy"), (FeatureCollection = "application/geo+json"),
        )),
        (status = 202, description = "The job, with `Prefer: respond-async`", body = JobDto, headers(
            ("Location" = String, description = "The job's address"),
            ("Preference-Applied" = String, description = "`respond-async`"),
        )),
    ))]
pub(super) async fn predict_change(
    State(state): State<AppState>,
    Path(TaskPath { model, task }): Path<TaskPath>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Extension(caller): Extension<Caller>,
    prefix: PathPrefix,
    Parts { uri, headers, .. }: Parts,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, Problem> {
    let query = uri.query().unwrap_or_default().to_owned();
    let mut call = ChangeCall { model, task, query, body, format: None };
    let plan = call.plan(state.engine(), &headers)?;
    if !preference::is_respond_async(&headers) {
        return Ok(plan.answer(state.engine(), &caller.of(Class::Upload), |_| ()).await?.into_response());
    }
    plan.check(state.engine()).await?;
    call.format = Some(plan.format.extension().to_owned());
    let request = serde_json::to_string(&StoredCall::Change { change: ChangeWork {} }).map_err(Problem::internal)?;
    let input = stored_body::stored("change.json", &call)?;
    let new = NewJob { model: call.model, task: call.task, request, request_id };
    Ok(jobs::applied(jobs::submit_new(&state, new, vec![input], &prefix).await?))
}
