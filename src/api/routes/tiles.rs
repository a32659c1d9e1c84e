//! Inference on XYZ tiles.

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::answer::Answer;
use crate::api::base_url::BaseUrl;
use crate::api::conditional::{etag, is_known, not_modified, with_validators};
use crate::api::dto::{EmbeddingParams, PixelParams, RenderParams, TileJson, TileName, TileParams, VectorLayer};
use crate::api::error::Problem;
use crate::api::extract::{Path, Query};
use crate::api::negotiate;
use crate::api::state::AppState;
use crate::engine::{ModelTask, zoom_range};
use crate::outputs::Format;
use crate::zoo::TaskType;

/// Which tile of which task, as the router sees it: the last segment holds row, `@2x` and extension.
#[derive(Deserialize)]
pub(super) struct TilePath {
    model: String,
    task: String,
    z: String,
    x: String,
    tile: String,
}

/// A task of a model.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct TaskPath {
    /// An id of `GET /v1/models`.
    #[param(example = "world")]
    pub model: String,
    /// One of the model's tasks, or `embedding`.
    #[param(example = "water")]
    pub task: String,
}

/// How a tile set is described.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TileJsonParams {
    /// Extension of the tiles; png for maps of values, mvt for objects, json for the rest.
    #[param(example = "png")]
    pub format: Option<String>,
}

/// Inference on a tile
///
/// The forward pass of a window is shared by every tile in it, by every format and by every task asked of it. A revalidation
/// with `If-None-Match` costs nothing. Where the source has no data, images are transparent, vector tiles 204 and GeoJSON an
/// empty collection; a zoom outside the TileJSON's range is 404.
#[utoipa::path(get, path = "/v1/tiles/{model}/{task}/{z}/{x}/{tile}", operation_id = "get_tile", tag = "tiles",
    params(
        TaskPath,
        ("z" = u32, Path, description = "Zoom", minimum = 0, maximum = 24, example = 3),
        ("x" = u32, Path, description = "Column, from the west", example = 4),
        ("tile" = String, Path, description = "Row and format", example = "3.png"),
        TileParams, PixelParams, EmbeddingParams, RenderParams,
        ("If-None-Match" = Option<String>, Header, description = "ETag of the answer at hand"),
    ),
    responses(
        (status = 200, description = "The prediction", content(
            (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "image/tiff"), (serde_json::Value = "application/geo+json"),
            (Vec<u8> = "application/vnd.mapbox-vector-tile"), (Vec<u8> = "application/x-npy"),
            (serde_json::Value = "application/json"), (Vec<u8> = "application/x-safetensors"),
        )),
        (status = 204, description = "A vector tile without a feature"),
        (status = 304, description = "The client has this answer already"),
    ))]
pub(super) async fn get_tile(
    State(state): State<AppState>,
    Path(path): Path<TilePath>,
    Query((tile, pixels, embedding, render)): Query<(TileParams, PixelParams, EmbeddingParams, RenderParams)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let engine = state.engine();
    let model = engine.models().task(&path.model, &path.task)?;
    let name = TileName::parse(&path.z, &path.x, &path.tile)?;
    let format = negotiate::by_extension(&model.task, &name.extension)?;
    let render = render.options(&model.task)?;
    let plan = engine.plan_tile(tile.request(model, &name, format, &pixels, &embedding)?).await?;
    let etag = etag(&(plan.identity(), format, &render));
    let cache_control = state.cache_control();
    if is_known(&headers, &etag) {
        return Ok(not_modified(&etag, &cache_control));
    }
    let make = async {
        let (prediction, timings) = engine.predict_tile(&plan).await?;
        Answer::encode(prediction, plan.task().clone(), format, render, plan.weights(), timings).await
    };
    let answer = state.tiles().get(&etag, make).await?;
    Ok(with_validators(answer.into_response(), &etag, &cache_control))
}

/// Description of an inference tile set
///
/// TileJSON 3.0.0 for map libraries: URL template (which carries the options of this request), bounds of the source, zooms at
/// which the model sees the resolution it was trained on. Maps enlarge tiles beyond `maxzoom`.
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
    let format = negotiate::by_extension(&task, extension)?;
    let source = engine.sources().opened(tile.source()?).await?;
    let size = tile.size(false)?.0;
    // A tile set whose tiles would all fail is refused here.
    render.options(&task)?;
    pixels.options(tile.datetime()?, tile.resampling()?)?;
    embedding.options()?;
    let (model, task) = (&spec.id, &task.name);
    let url = format!("{base}/v1/tiles/{model}/{task}/{{z}}/{{x}}/{{y}}.{extension}{}", options_of(&uri));
    let name = format!("{task} ({}) on {}", spec.title, source.title);
    let mut tilejson = TileJson::over(&source, name, url, zoom_range(&spec, size), size, extension);
    tilejson.vector_layers = (format == Format::Mvt).then(|| vec![VectorLayer::of(task)]);
    Ok(axum::Json(tilejson))
}

fn default_extension(task_type: TaskType) -> &'static str {
    match task_type {
        TaskType::Detect | TaskType::Instance => Format::Mvt.extension(),
        other => Format::of(other).first().map_or("json", |format| format.extension()),
    }
}

/// The query of this request as the tiles' own, without the extension's parameter.
pub(super) fn options_of(uri: &Uri) -> String {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("format="));
    let kept = pairs.collect::<Vec<_>>().join("&");
    if kept.is_empty() { kept } else { format!("?{kept}") }
}
