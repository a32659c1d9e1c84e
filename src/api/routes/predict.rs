//! Inference on uploaded rasters.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::tiles::TaskPath;
use crate::api::answer::Answer;
use crate::api::dto::{EmbeddingParams, PixelParams, PredictParams, RenderParams};
use crate::api::error::Problem;
use crate::api::extract::{Path, Query};
use crate::api::negotiate;
use crate::api::state::AppState;
use crate::api::upload::{self, RasterForm};
use crate::engine::SceneRequest;
use crate::outputs::{Format, OutputError};
use crate::raster::Limits;

/// Inference on uploaded rasters
///
/// One raster as the body, or several captures in time order as the parts `image`, `image_2` … of a form; a file may also hold all
/// captures stacked (`images=N`). Rasters larger than a window are run in overlapping windows and blended, with no seam and no
/// double object. GeoTIFF, PNG and JPEG hold raw pixel values; so does integer npy, while floating-point npy (`[C, H, W]` or
/// `[T, C, H, W]`) is taken as normalised already.
#[utoipa::path(post, path = "/v1/predict/{model}/{task}", operation_id = "predict", tag = "predict",
    params(TaskPath, PredictParams, PixelParams, EmbeddingParams, RenderParams,
        ("Accept" = Option<String>, Header, description = "Media type of the answer, where `format` is not given")),
    request_body(description = "The raster or rasters", content(
        (Vec<u8> = "image/tiff"), (Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "application/x-npy"),
        (Vec<u8> = "application/octet-stream"), (RasterForm = "multipart/form-data"),
    )),
    responses((status = 200, description = "The prediction", content(
        (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "image/tiff"), (serde_json::Value = "application/geo+json"),
        (Vec<u8> = "application/x-npy"), (serde_json::Value = "application/json"), (Vec<u8> = "application/x-safetensors"),
    ))))]
pub(super) async fn predict(
    State(state): State<AppState>,
    Path(TaskPath { model, task }): Path<TaskPath>,
    Query((params, pixels, embedding, render)): Query<(PredictParams, PixelParams, EmbeddingParams, RenderParams)>,
    request: Request,
) -> Result<Response, Problem> {
    let engine = state.engine();
    let described = engine.models().task(&model, &task)?;
    let format = negotiate::choose(&described, params.format.as_deref(), request.headers())?;
    if format == Format::Mvt {
        return Err(OutputError::NoTile.into());
    }
    let (render, pixels, embedding) = (render.options(&described)?, pixels.options()?, embedding.options()?);
    let images = params.images()?;
    let files = upload::read(request, state.options().max_upload_bytes).await?;
    let limits = Limits { max_bytes: state.options().max_upload_bytes, max_pixels: state.options().max_pixels };
    let captures =
        tokio::task::spawn_blocking(move || upload::open(files, images, &limits)).await.map_err(Problem::internal)??;
    let weights = engine.models().status(&model)?.kind;
    let scene = SceneRequest { model, task, captures, pixels, embedding };
    let (prediction, timings) = engine.predict_scene(&scene).await?;
    let answer = Answer::encode(prediction, described, format, render, weights, timings).await?;
    let mut response = answer.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
