//! Inference on XYZ tiles.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::answer::EncodedAnswer;
use crate::api::base_url::BaseUrl;
use crate::api::conditional::{etag, is_known, not_modified, with_validators};
use crate::api::dto::{
    EmbeddingParams, FeatureCollection, File, JsonPrediction, PixelParams, RenderParams, TileJson, TileName, TileParams,
    VectorLayer, words,
};
use crate::api::error::Problem;
use crate::api::extract::{Path, Query};
use crate::api::negotiate;
use crate::api::state::AppState;
use crate::engine::{Caller, ModelTask, zoom_range};
use crate::outputs::Format;
use crate::raster::{CaptureSelection, Source};
use crate::zoo::TaskType;

/// Path of an inference tile; the last segment holds row, `@2x` and extension.
#[derive(Deserialize)]
pub(super) struct TilePath {
    model: String,
    task: String,
    z: String,
    x: String,
    tile: String,
}

/// Path of a model's task.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct TaskPath {
    /// Model id, as in `GET /v1/models`.
    #[param(example = "world")]
    pub model: String,
    /// Name of one of the model's tasks, or `embedding`.
    #[param(example = "water")]
    pub task: String,
}

/// Options of the tile set's description.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TileJsonParams {
    /// File extension of the tiles. Default: `mvt` for detection tasks, else the task's first format.
    #[param(value_type = Option<words::TileFormat>)]
    pub format: Option<String>,
}

/// Predict on a map tile
///
/// The network runs on windows larger than a tile; one forward pass serves all tiles of a window, in all formats and for all tasks
/// of the model. Revalidation with `If-None-Match` runs no inference. If the source has no data in the tile, images are
/// transparent, vector tiles are answered with 204, and GeoJSON has no features. Zooms outside the range in the TileJSON are 404.
#[utoipa::path(get, path = "/v1/tiles/{model}/{task}/{z}/{x}/{tile}", operation_id = "get_tile", tag = "tiles",
    params(
        TaskPath,
        ("z" = u32, Path, description = "Zoom", minimum = 0, maximum = 24, example = 3),
        ("x" = u32, Path, description = "Column, from the west", example = 4),
        ("tile" = String, Path, description = "Row and format", example = "3.png"),
        TileParams, PixelParams, EmbeddingParams, RenderParams,
        ("If-None-Match" = Option<String>, Header, description = "ETag of the cached tile"),
    ),
    responses(
        (status = 200, description = "The prediction", content(
            (inline(File) = "image/png"), (inline(File) = "image/webp"), (inline(File) = "image/tiff"),
            (inline(File) = "application/vnd.mapbox-vector-tile"),
            (inline(File) = "application/x-npy"), (inline(File) = "application/x-safetensors"),
            (FeatureCollection = "application/geo+json"), (JsonPrediction = "application/json"),
        )),
        (status = 204, description = "A vector tile without features"),
        (status = 304, description = "The cached tile is up to date"),
    ))]
pub(super) async fn get_tile(
    State(state): State<AppState>,
    Path(path): Path<TilePath>,
    Query((tile, pixels, embedding, render)): Query<(TileParams, PixelParams, EmbeddingParams, RenderParams)>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let engine = state.engine();
    let model = engine.models().task(&path.model, &path.task)?;
    let name = TileName::parse(&path.z, &path.x, &path.tile)?;
    let format = negotiate::for_tile(&model.task, &name.extension)?;
    let render = render.options(&model.task)?;
    let plan = engine.plan_tile(tile.request(model, &name, format, (&pixels, &embedding), &render)?).await?;
    let etag = etag(&(plan.identity(), format, &render));
    let cache_control = state.cache_control();
    if is_known(&headers, &etag) {
        return Ok(not_modified(&headers, &etag, &cache_control, format.media_type()));
    }
    let make = async || {
        let (prediction, timings) = engine.predict_tile(&plan, &caller).await?;
        EncodedAnswer::encode(prediction, plan.task().clone(), format, render.clone(), plan.weights(), timings).await
    };
    let answer = state.tiles().get(&etag, make).await?;
    Ok(with_validators(answer.into_response(), &etag, &cache_control))
}

/// Describe the inference tiles of a task
///
/// TileJSON 3.0.0 for map libraries. The tile URL has the same options as this request, the bounds are those of the source, and
/// the zooms are those at which the imagery has about the resolution that the model was trained on. At zooms above `maxzoom`, maps
/// enlarge the tiles.
#[utoipa::path(get, path = "/v1/tiles/{model}/{task}/tilejson.json", operation_id = "get_tilejson", tag = "tiles",
    params(TaskPath, TileParams, TileJsonParams, PixelParams, EmbeddingParams, RenderParams),
    responses((status = 200, description = "The tile set", body = TileJson)))]
pub(super) async fn get_tilejson(
    State(state): State<AppState>,
    Path(path): Path<TaskPath>,
    Query((tile, tilejson, pixels, embedding, render)): Query<(
        TileParams,
        TileJsonParams,
        PixelParams,
        EmbeddingParams,
        RenderParams,
    )>,
    BaseUrl(base): BaseUrl,
    uri: Uri,
) -> Result<axum::Json<TileJson>, Problem> {
    let engine = state.engine();
    let ModelTask { spec, task } = engine.models().task(&path.model, &path.task)?;
    let extension = tilejson.format.as_deref().unwrap_or(default_extension(task.task_type));
    let format = negotiate::for_tile(&task, extension)?;
    let source = engine.sources().opened(tile.source()?).await?;
    let size = tile.size(false)?.0;
    // Checked here, so that a map learns of invalid options once and not from every tile.
    render.options(&task)?;
    let pixels = pixels.options(tile.datetime()?, tile.resampling()?)?;
    check_datetime(&source, &pixels.captures)?;
    embedding.options()?;
    let (model, task) = (&spec.id, &task.name);
    let url = format!("{base}/v1/tiles/{model}/{task}/{{z}}/{{x}}/{{y}}.{extension}{}", options_of(&uri));
    let name = format!("{task} ({}) on {}", spec.title, source.title);
    let mut tilejson = TileJson::over(&source, name, url, zoom_range(&spec, size), size, extension);
    tilejson.vector_layers = (format == Format::Mvt).then(|| vec![VectorLayer::of(task)]);
    Ok(axum::Json(tilejson))
}

/// Refuses a tile set without a capture; single tiles of it are empty and carry a warning. A catalogue is searched per tile only.
///
/// # Errors
/// If `wanted` has a `datetime` that matches no capture.
pub(super) fn check_datetime(source: &Source, wanted: &CaptureSelection) -> Result<(), Problem> {
    match source.unmatched(wanted).filter(|_| !source.is_searched()) {
        Some(found) => Err(Problem::unusable(found)),
        None => Ok(()),
    }
}

fn default_extension(task_type: TaskType) -> &'static str {
    match task_type {
        TaskType::Detect | TaskType::Instance => Format::Mvt.extension(),
        other => Format::of(other).first().map_or("json", |format| format.extension()),
    }
}

/// The query string for tile URLs: that of this request without `format`, which becomes the extension.
pub(super) fn options_of(uri: &Uri) -> String {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("format="));
    let kept = pairs.collect::<Vec<_>>().join("&");
    if kept.is_empty() { kept } else { format!("?{kept}") }
}
