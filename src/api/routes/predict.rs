//! Inference on uploaded rasters.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::jobs;
use super::tiles::TaskPath;
use crate::api::dto::{EmbeddingParams, JobDto, PixelParams, PredictParams, RenderParams};
use crate::api::error::Problem;
use crate::api::extract::{Path, Query};
use crate::api::middleware::RequestId;
use crate::api::negotiate;
use crate::api::prediction::PredictCall;
use crate::api::state::AppState;
use crate::api::upload::{self, RasterForm};

/// Inference on uploaded rasters
///
/// One raster as the body, or several captures in time order as the parts `image`, `image_2` … of a form; a file may also hold all
/// captures stacked (`images=N`). Rasters larger than a window are run in overlapping windows and blended, with no seam and no
/// double object. GeoTIFF, PNG and JPEG hold raw pixel values; so does integer npy, while floating-point npy (`[C, H, W]` or
/// `[T, C, H, W]`) is taken as normalised already.
///
/// With `Prefer: respond-async` the answer comes at once and is a job, whose result is fetched later.
#[utoipa::path(post, path = "/v1/predict/{model}/{task}", operation_id = "predict", tag = "predict",
    params(TaskPath, PredictParams, PixelParams, EmbeddingParams, RenderParams,
        ("Accept" = Option<String>, Header, description = "Media type of the answer, where `format` is not given"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: answer with a job and go on without the client")),
    request_body(description = "The raster or rasters", content(
        (Vec<u8> = "image/tiff"), (Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "application/x-npy"),
        (Vec<u8> = "application/octet-stream"), (RasterForm = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "The prediction", content(
            (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "image/tiff"), (serde_json::Value = "application/geo+json"),
            (Vec<u8> = "application/x-npy"), (serde_json::Value = "application/json"), (Vec<u8> = "application/x-safetensors"),
        )),
        (status = 202, description = "The job, with `Prefer: respond-async`", body = JobDto, headers(
            ("Location" = String, description = "The job's address"),
            ("Preference-Applied" = String, description = "`respond-async`"),
        )),
    ))]
pub(super) async fn predict(
    State(state): State<AppState>,
    Path(TaskPath { model, task }): Path<TaskPath>,
    Query((params, pixels, embedding, render)): Query<(PredictParams, PixelParams, EmbeddingParams, RenderParams)>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    request: Request,
) -> Result<Response, Problem> {
    let named = state.engine().models().task(&model, &task)?;
    let format = negotiate::choose(&named.task, params.format.as_deref(), request.headers())?;
    let format = format.extension().to_owned();
    let call = PredictCall { model, task, format, images: params.images, pixels, embedding, render };
    // Before the body is read: what cannot be answered anyway need not be sent.
    let plan = state.predictor().plan(&call)?;
    let later = jobs::is_preferred(request.headers());
    let files = upload::read(request, state.spool(), state.options().max_upload_bytes).await?;
    if later {
        return jobs::submit(&state, &call, files, request_id).await;
    }
    let mut response = state.predictor().answer(plan, files, |_| ()).await?.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
