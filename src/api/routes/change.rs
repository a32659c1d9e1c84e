//! What has changed on an area between two dates.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::tiles::TaskPath;
use crate::api::answer::EncodedAnswer;
use crate::api::dto::{
    AreaParams, CellParams, ChangeBody, ChangeParams, EmbeddingParams, FeatureCollection, File, PixelParams, RenderParams,
    take_captures,
};
use crate::api::error::Problem;
use crate::api::extract::{Json, Path, Query};
use crate::api::negotiate;
use crate::api::state::AppState;
use crate::engine::{Caller, ChangeOptions, Class, ObjectLimit, SceneRequest};
use crate::outputs::{Format, RenderOptions, dense_sink};
use crate::prediction::{DenseSink, WholeMap};
use crate::zoo::{Task, TaskType};

/// The least probability of categories and the least distance of cells that are asked for nothing else.
const THRESHOLD: f32 = 0.5;

/// Ends of the colour map of distances.
const DISTANCES: [f32; 2] = [0.0, 1.0];

/// Find what has changed on an area
///
/// The same question is asked of two sets of captures of a source (`before` and `after`), on one grid, and the answers are compared.
/// Of the task `embedding`, each cell has the cosine distance of its two vectors, from 0 (equal) over 1 to 2 (opposite); as `geojson`,
/// cells of at least `threshold` (0.5) are `changed`. Of a `segment` task, pixels change if their likeliest category is another one
/// afterwards, both with a probability of at least `threshold`; categories are `unchanged` and, for example, `forest to water`. Of a
/// `bin_segment` task, a category has `appeared` or `gone` where its probability reaches `threshold` on one side and is at most
/// 1 - `threshold` on the other. Places without data on either side have none.
#[utoipa::path(post, path = "/v1/predict/{model}/{task}/change", operation_id = "predict_change", tag = "predict",
    params(TaskPath, ChangeParams, PixelParams, EmbeddingParams, CellParams, RenderParams),
    request_body(content = ChangeBody, description = "The area, and what is compared",
        example = json!({"source": "world", "bbox": [-10, 35, 20, 60], "before": "1", "after": "1"})),
    responses(
        (status = 200, description = "The comparison", content(
            (inline(File) = "image/png"), (inline(File) = "image/webp"), (inline(File) = "image/tiff"),
            (inline(File) = "application/x-npy"), (FeatureCollection = "application/geo+json"),
        )),
    ))]
pub(super) async fn predict_change(
    State(state): State<AppState>,
    Path(TaskPath { model, task }): Path<TaskPath>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    Json(mut body): Json<Map<String, Value>>,
) -> Result<Response, Problem> {
    let captures = take_captures(&mut body)?;
    let (area, options) = AreaParams::split(body)?;
    let Query((params, pixels, embedding, cells, render)) =
        Query::<(ChangeParams, PixelParams, EmbeddingParams, CellParams, RenderParams)>::with(&uri, options)?;
    let engine = state.engine();
    let model = engine.models().task(&model, &task)?;
    let task = model.task.clone();
    let is_embedding = task.task_type == TaskType::Embedding;
    let format = format(&task, params.format.as_deref(), &headers)?;
    let mut drawn = render.options(&task)?;
    check(&pixels, &cells, &drawn)?;
    // Embeddings are always compared in cells, whatever is made of that.
    let cells_in = if is_embedding { Format::Tif } else { format };
    let embedding = cells.options(embedding.options()?, &model, cells_in)?;
    let pixels = pixels.options(None, area.resampling()?)?;
    let scene = engine.plan_scene(SceneRequest { model, pixels, embedding, limit: ObjectLimit::default() });
    let threshold = drawn.threshold.take().unwrap_or(THRESHOLD);
    let sink = || -> Box<dyn DenseSink> {
        match task.task_type {
            // Categories and their probabilities.
            TaskType::Segment => dense_sink(&task, Format::Geojson, &RenderOptions::default()),
            _ => Box::<WholeMap>::default(),
        }
    };
    let options = ChangeOptions { threshold, as_regions: is_embedding && format == Format::Geojson };
    let caller = caller.of(Class::Upload);
    let change = engine.predict_change(&scene, (area.request()?, &caller), captures, sink, options).await?;
    if is_embedding {
        drawn.rescale.get_or_insert(DISTANCES);
    }
    // Held until the answer is encoded.
    let _memory = change.memory;
    let (prediction, task) = (change.prediction, change.task.into());
    Ok(EncodedAnswer::encode(prediction, task, format, drawn, scene.weights(), change.timings).await?.into_response())
}

/// The format of a comparison, which is that of a regression of distances or of a segmentation of changes.
fn format(task: &Task, wanted: Option<&str>, headers: &HeaderMap) -> Result<Format, Problem> {
    let is_embedding = task.task_type == TaskType::Embedding;
    if is_embedding && wanted == Some(Format::Geojson.extension()) {
        return Ok(Format::Geojson);
    }
    let task_type = if is_embedding { TaskType::Regress } else { TaskType::Segment };
    let comparison = Task { name: "change".to_owned(), task_type, ..task.clone() };
    let can_be = |format| is_embedding || !matches!(format, Format::Mvt | Format::Npy);
    let format = negotiate::choose(&comparison, wanted, headers, can_be)?;
    if can_be(format) {
        Ok(format)
    } else {
        Err(Problem::parameter("format", format.extension(), "png, webp, tif or geojson"))
    }
}

/// Refuses options that mean nothing for a comparison.
fn check(pixels: &PixelParams, cells: &CellParams, drawn: &RenderOptions) -> Result<(), Problem> {
    let given = [
        ("captures", pixels.captures.is_some(), "before and after say which captures are meant"),
        ("precision", cells.precision.is_some(), "the answer is no embedding"),
        ("categories", drawn.categories.is_some(), "all categories are compared"),
        ("render", drawn.render != RenderOptions::default().render, "a comparison has one picture"),
        ("max_detections", drawn.max_detections.is_some(), "a comparison has no objects"),
    ];
    match given.iter().find(|(_, is_given, _)| *is_given) {
        Some((name, _, reason)) => Err(Problem::invalid(format!("{name}: {reason}; leave it out"))),
        None => Ok(()),
    }
}
