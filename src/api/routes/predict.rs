//! Inference on uploaded rasters and areas of sources.

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};

use super::jobs;
use super::tiles::TaskPath;
use crate::api::base_url::PathPrefix;
use crate::api::dto::{
    AreaBody, AreaParams, CellParams, EmbeddingParams, FeatureCollection, File, JobDto, JsonPrediction, PixelParams,
    PredictParams, RenderParams,
};
use crate::api::error::Problem;
use crate::api::extract::{Path, Query};
use crate::api::form_parts::RasterForm;
use crate::api::middleware::RequestId;
use crate::api::negotiate;
use crate::api::prediction::PredictCall;
use crate::api::preference;
use crate::api::state::AppState;
use crate::api::upload;
use crate::engine::{Caller, Class};
use crate::error::ErrorKind;
use crate::outputs::Format;

/// Predict on uploaded rasters
///
/// The body is one raster, or a form whose parts `image`, `image_2` … are captures in time order. One file may also hold several
/// captures stacked in its bands (`images=N`). A raster larger than the model's window is processed in overlapping windows; the
/// results are blended without seams, and objects found twice are merged. GeoTIFF, JPEG 2000, PNG, JPEG and integer npy files hold
/// raw pixel values; floating-point npy (`[C, H, W]` or `[T, C, H, W]`) holds normalised input, which is not scaled again.
///
/// A body of the type `application/json` names an area of a source, as for the operation `predict_area`.
///
/// With `Prefer: respond-async` the response is a job, whose result is fetched later.
#[utoipa::path(post, path = "/v1/predict/{model}/{task}", operation_id = "predict", tag = "predict",
    params(TaskPath, PredictParams, PixelParams, EmbeddingParams, CellParams, RenderParams,
        ("Prefer" = Option<String>, Header, description = "`respond-async`: run the prediction in the background and answer with a job")),
    request_body(description = "The raster or rasters", content(
        (RasterForm = "multipart/form-data"), (inline(File) = "image/tiff"), (inline(File) = "image/png"),
        (inline(File) = "image/jpeg"), (inline(File) = "application/x-npy"), (inline(File) = "application/octet-stream"),
    )),
    responses(
        (status = 200, description = "The prediction", content(
            (inline(File) = "image/png"), (inline(File) = "image/webp"), (inline(File) = "image/tiff"),
            (inline(File) = "application/x-npy"), (inline(File) = "application/x-safetensors"),
            (inline(File) = "application/vnd.apache.parquet"),
            (FeatureCollection = "application/geo+json"), (JsonPrediction = "application/json"),
        )),
        (status = 202, description = "The job, with `Prefer: respond-async`", body = JobDto, headers(
            ("Location" = String, description = "The job's address"),
            ("Preference-Applied" = String, description = "`respond-async`"),
        )),
    ))]
pub(super) async fn predict(
    State(state): State<AppState>,
    Path(TaskPath { model, task }): Path<TaskPath>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    Extension(caller): Extension<Caller>,
    prefix: PathPrefix,
    request: Request,
) -> Result<Response, Problem> {
    let (area, options, request) = area_of(request).await?;
    let Query((params, pixels, embedding, cells, render)) = Options::with(request.uri(), options)?;
    let named = state.engine().models().task(&model, &task)?;
    let layers = embedding.options()?.layers.0.len();
    let can_be = |format| format != Format::Mvt && (format != Format::Npy || layers == 1);
    let format = negotiate::choose(&named.task, params.format.as_deref(), request.headers(), can_be)?;
    let format = format.extension().to_owned();
    let call = PredictCall { model, task, format, images: params.images, pixels, embedding, cells, render, area };
    // Checked before the body is received, so that an invalid request costs no upload.
    let plan = state.predictor().plan(&call)?;
    let (later, caller) = (preference::is_respond_async(request.headers()), caller.of(Class::Upload));
    if later {
        state.predictor().check_area(&plan).await?;
    } else {
        state.predictor().check_room(&plan, &caller)?;
    }
    let files = match &call.area {
        Some(_) => Vec::new(),
        None => upload::read(request, state.spool(), state.options().max_upload_bytes).await?,
    };
    if later {
        return jobs::submit(&state, &call, files, (request_id, prefix)).await;
    }
    Ok(state.predictor().answer(plan, &caller, files, |_| ()).await?.into_response())
}

/// Predict on an area of a source
///
/// The body names an area of a registered source (`bbox` or `geometry`). The answer is cut to the area's box on a projected grid and
/// georeferenced. Outside of a polygon there is no data, and objects belong to the area that holds their centre. Embeddings as `tif` have a
/// band per dimension and a pixel per cell, as `parquet` a row per cell. Query parameters may
/// be members of the body. The same body is taken by the operation `predict`; this one is for clients that choose the type of a body
/// by themselves.
///
/// With `Prefer: respond-async` the response is a job, whose result is fetched later.
#[utoipa::path(post, path = "/v1/predict/{model}/{task}/area", operation_id = "predict_area", tag = "predict",
    params(TaskPath, PredictParams, PixelParams, EmbeddingParams, CellParams, RenderParams,
        ("Prefer" = Option<String>, Header, description = "`respond-async`: run the prediction in the background and answer with a job")),
    request_body(content = AreaBody, description = "The area",
        example = json!({"source": "trees", "bbox": [-110.4743, 44.9494, -110.4738, 44.9497]})),
    responses(
        (status = 200, description = "The prediction", content(
            (inline(File) = "image/png"), (inline(File) = "image/webp"), (inline(File) = "image/tiff"),
            (inline(File) = "application/x-npy"), (inline(File) = "application/x-safetensors"),
            (inline(File) = "application/vnd.apache.parquet"),
            (FeatureCollection = "application/geo+json"), (JsonPrediction = "application/json"),
        )),
        (status = 202, description = "The job, with `Prefer: respond-async`", body = JobDto, headers(
            ("Location" = String, description = "The job's address"),
            ("Preference-Applied" = String, description = "`respond-async`"),
        )),
    ))]
pub(super) async fn predict_area(
    state: State<AppState>,
    path: Path<TaskPath>,
    request_id: Extension<RequestId>,
    caller: Extension<Caller>,
    prefix: PathPrefix,
    request: Request,
) -> Result<Response, Problem> {
    if !is_area(&request) {
        let found = upload::essence(request.headers()).unwrap_or_else(|| "none".to_owned());
        let detail = format!("content-type: found {found}; application/json is needed, which names the area");
        return Err(Problem::new(ErrorKind::UnsupportedMedia, detail));
    }
    predict(state, path, request_id, caller, prefix, request).await
}

fn is_area(request: &Request) -> bool {
    upload::essence(request.headers()).as_deref() == Some("application/json")
}

/// The parameters of a prediction.
type Options = Query<(PredictParams, PixelParams, EmbeddingParams, CellParams, RenderParams)>;

/// Largest body that describes an area: some hundred thousand corners.
const MAX_AREA_BYTES: usize = 16 << 20;

/// The area in a request with a JSON body, and the other members of that; a request with any other body is passed on as it is.
async fn area_of(request: Request) -> Result<(Option<AreaParams>, Vec<(String, String)>, Request), Problem> {
    if !is_area(&request) {
        return Ok((None, Vec::new(), request));
    }
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, MAX_AREA_BYTES).await.map_err(|_| {
        Problem::new(
            ErrorKind::TooLarge,
            format!("an area may be described in {MAX_AREA_BYTES} bytes, and the body has more or broke off"),
        )
    })?;
    let body = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::invalid(format!("the body is no JSON object: {error}; source and bbox are needed")))?;
    let (area, options) = AreaParams::split(body)?;
    Ok((Some(area), options, Request::from_parts(parts, axum::body::Body::empty())))
}
