//! Heads fitted to labels.

use axum::Extension;
use axum::extract::{FromRequest, Request, State};
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::jobs;
use super::models::ModelPath;
use crate::api::base_url::PathPrefix;
use crate::api::chip_fit::{self, ChipFit};
use crate::api::dto::{FitBody, JobDto, SuggestBody, SuggestionsDto};
use crate::api::error::Problem;
use crate::api::extract::{NoQuery, Path};
use crate::api::fit::FitCall;
use crate::api::form_parts::{ChipFitForm, FormParts};
use crate::api::json_body::Json;
use crate::api::middleware::RequestId;
use crate::api::state::AppState;
use crate::api::work::StoredCall;
use crate::api::{stored_body, upload};
use crate::engine::{Caller, Class};
use crate::jobs::NewJob;

/// Largest accepted JSON body with labels: room for as many as a fit takes, with properties of their own.
const MAX_LABELS_BYTES: u64 = 8 << 20;

/// Fit a head to labels
///
/// Learns a new task from labelled places: one linear layer over feature maps of a built-in model, regularised, its penalty chosen by
/// spatially blocked folds. The answer is a job; its result is the description of the new model, whose `fit` holds the scores on
/// held-out labels, and whose task is served like any other. The same labels give the same weights.
///
/// A form is read as in `/v1/models/{model}/fit/chips`.
#[utoipa::path(post, path = "/v1/models/{model}/fit", operation_id = "fit_model", tag = "models", params(ModelPath),
    request_body(content = FitBody, description = "What to fit", example = json!({
        "id": "probe", "task": "ground", "type": "segment", "source": "world",
        "labels": {"type": "FeatureCollection", "features": [
            {"type": "Feature", "geometry": {"type": "Point", "coordinates": [8.5, 25.0]}, "properties": {"class": "desert"}},
            {"type": "Feature", "geometry": {"type": "Point", "coordinates": [23.0, 0.5]}, "properties": {"class": "forest"}}
        ]}
    })),
    responses((status = 202, description = "The job", body = JobDto,
        headers(("Location" = String, description = "The job's address")))))]
pub(super) async fn fit_model(
    State(state): State<AppState>,
    Path(ModelPath { model }): Path<ModelPath>,
    no_query: NoQuery,
    Extension(RequestId(request_id)): Extension<RequestId>,
    prefix: PathPrefix,
    request: Request,
) -> Result<Response, Problem> {
    if upload::essence(request.headers()).as_deref() == Some("multipart/form-data") {
        let (model, request_id) = (Path(ModelPath { model }), Extension(RequestId(request_id)));
        return fit_chips(State(state), model, no_query, request_id, prefix, request).await;
    }
    let Json(body) = Json::<FitBody, MAX_LABELS_BYTES>::from_request(request, &state).await?;
    state.engine().sources().opened(&body.source).await?;
    let checking = state.clone();
    // A mistake is told at once and not by a job.
    let check = move || {
        let call = FitCall { base: model, chips: false };
        let request = call.plan(checking.engine(), &body)?;
        checking.engine().check_fit(&request)?;
        let task = request.manifest.heads.first().map(|head| head.task.clone()).unwrap_or_default();
        let stored = serde_json::to_string(&StoredCall::Fit { fit: call }).map_err(Problem::internal)?;
        let input = stored_body::stored("fit.json", &body)?;
        Ok::<_, Problem>((NewJob { model: body.id, task, request: stored, request_id }, input))
    };
    let (new, input) = tokio::task::spawn_blocking(check).await.map_err(Problem::internal)??;
    jobs::submit_new(&state, new, vec![input], &prefix).await
}

/// Fit a head to chips
///
/// Learns a new task, as `/v1/models/{model}/fit` does, from chips that are sent in place of places on a source: a classification from a
/// label for each chip, any other from a mask for each, of whose pixels up to 10000 are learnt from.
// A path of its own for clients: generators make one function of an operation, for the first of its media types.
#[utoipa::path(post, path = "/v1/models/{model}/fit/chips", operation_id = "fit_chips", tag = "models", params(ModelPath),
    request_body(content = ChipFitForm, description = "What to fit, and the chips", content_type = "multipart/form-data"),
    responses((status = 202, description = "The job", body = JobDto,
        headers(("Location" = String, description = "The job's address")))))]
pub(super) async fn fit_chips(
    State(state): State<AppState>,
    Path(ModelPath { model: base }): Path<ModelPath>,
    _: NoQuery,
    Extension(RequestId(request_id)): Extension<RequestId>,
    prefix: PathPrefix,
    request: Request,
) -> Result<Response, Problem> {
    let files = upload::read_as(FormParts::Fit, request, state.spool(), state.options().max_upload_bytes).await?;
    let engine = state.shared_engine();
    let (body, chips, input) = engine.read_upload(move || chip_fit::parts(files)).await?;
    // A mistake is told at once and not by a job.
    let fit = ChipFit::open(engine, state.limits(), &base, body, chips.shared()).await?;
    let (id, task) = fit.check(engine).await?;
    let call = StoredCall::Fit { fit: FitCall { base, chips: true } };
    let stored = serde_json::to_string(&call).map_err(Problem::internal)?;
    let new = NewJob { model: id, task, request: stored, request_id };
    let inputs = std::iter::once(input).chain(chips.into_inputs()).collect();
    jobs::submit_new(&state, new, inputs, &prefix).await
}

/// Path of a model that was fitted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct FittedPath {
    /// Model id, as in the fit that made it.
    #[param(example = "probe")]
    model: String,
}

/// Suggest places to label
///
/// Finds places whose labels would help a fitted model most: those that it is unsure of and that look different from each other. Up to
/// 16 windows are compared, spread evenly over the area; a smaller area is looked at more closely.
#[utoipa::path(post, path = "/v1/models/{model}/suggest", operation_id = "suggest_labels", tag = "models", params(FittedPath),
    request_body(content = SuggestBody, description = "Where labels are wanted",
        example = json!({"source": "world", "bbox": [-20.0, 0.0, 40.0, 40.0], "count": 5})),
    responses((status = 200, description = "The places", body = SuggestionsDto)))]
pub(super) async fn suggest_labels(
    State(state): State<AppState>,
    Path(FittedPath { model }): Path<FittedPath>,
    _: NoQuery,
    Extension(caller): Extension<Caller>,
    Json(body): Json<SuggestBody>,
) -> Result<axum::Json<SuggestionsDto>, Problem> {
    let found = state.engine().suggest_labels(body.request(model)?, &caller.of(Class::Upload)).await?;
    Ok(axum::Json(found.into()))
}
