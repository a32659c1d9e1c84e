//! Running a [`ScenePlan`]: whole rasters in one pass where they fit into a window, else in overlapping windows, whose answers
//! [`Assembly`] puts together.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;

use super::assembly::{Assembly, SceneWindowAnswer};
use super::caller::Caller;
use super::data_extent::cut_to_data;
use super::device::{DevicePlace, DeviceWorker, Input, ModelQuery};
use super::error::EngineError;
use super::loaded::LoadedModel;
use super::model_task::ModelTask;
use super::models::Models;
use super::options::PixelOptions;
use super::pixels::{WindowPixels, check_captures, chosen_captures, read_scene_window};
use super::plan::ScenePlan;
use super::reading::Reading;
use super::scheduler::Workload;
use super::strips::{goes_by_columns, strip_bytes};
use super::window::Timings;
use crate::budget::MemoryBudget;
use crate::prediction::{DenseSink, Pool, Prediction};
use crate::raster::{PixelWindow, Raster};
use crate::tiles::{SceneWindow, scene_windows};
use crate::zoo::TaskType;

/// Bounds of scene predictions.
#[derive(Clone, Debug)]
pub struct SceneOptions {
    /// Side of a window; a raster that fits into it runs as one image.
    pub window_px: usize,
    /// Least overlap of neighbouring windows.
    pub overlap_px: usize,
    /// Most pixels of a raster.
    pub max_pixels: u64,
    /// Most values of an answer (pixels times categories).
    pub max_values: u64,
    /// What scenes are accounted to.
    pub memory: MemoryBudget,
}

impl Default for SceneOptions {
    fn default() -> Self {
        Self {
            window_px: 640,
            overlap_px: 128,
            max_pixels: 1 << 27,
            max_values: 1 << 29,
            memory: MemoryBudget::unlimited(),
        }
    }
}

/// Progress of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SceneProgress {
    /// Windows that are done.
    pub done: usize,
    /// Windows of the scene.
    pub total: usize,
}

/// Windows that are being read, waiting or running at the same time.
const WINDOWS_IN_FLIGHT: usize = 2;

/// Predicts a whole raster: see [`super::Engine::predict_scene`].
pub(super) async fn predict(
    (plan, caller): (&ScenePlan, &Caller),
    captures: &[Arc<dyn Raster>],
    sink: Box<dyn DenseSink>,
    report: impl Fn(SceneProgress),
    (models, worker, reading, options): (&Models, &DeviceWorker, &Reading, &SceneOptions),
) -> Result<(Prediction, Timings), EngineError> {
    let ScenePlan { model: ModelTask { spec, task }, pixels, embedding, .. } = plan;
    let captures = chosen_captures(captures, &pixels.captures)?;
    let (width, height) = size_within(plan, &captures, &*sink, options)?;
    let place = worker.scheduler().enter(caller, work(plan, (width, height), captures.len(), options))?;
    let model = models.load_spec(spec).await?;
    let query = match task.task_type {
        TaskType::Embedding => ModelQuery::Embedding(embedding.layers.0.clone()),
        _ => ModelQuery::Head { head: model.head(&task.name)?, crop: None },
    };
    let mut windows = scene_windows(width, height, options.window_px, options.overlap_px);
    if goes_by_columns(width, height) {
        windows.sort_by_key(|window| (window.cols.start, window.rows.start));
    }
    let mut scene = Assembly::new(spec, task, (width, height), windows.len() > 1, sink, embedding.pool);
    let mut timings = Timings::default();
    let mut progress = SceneProgress { done: 0, total: windows.len() };
    report(progress);
    let mut answers = futures::stream::iter(windows)
        .map(|window| predict_window(&captures, pixels, &model, &query, window, (&place, reading)))
        .buffered(WINDOWS_IN_FLIGHT);
    while let Some(answered) = answers.next().await {
        let (window, answer, spent) = answered?;
        timings.add(&spent);
        // Blending a whole window would block the runtime's thread for too long.
        scene = tokio::task::spawn_blocking(move || {
            scene.add(window, answer);
            scene
        })
        .await
        .map_err(|_| EngineError::Panicked)?;
        progress.done += 1;
        report(progress);
    }
    let (output, warnings) =
        tokio::task::spawn_blocking(move || scene.finish()).await.map_err(|_| EngineError::Panicked)?;
    let georef = captures.first().and_then(|raster| raster.info().georef.clone());
    Ok((Prediction { output, width, height, georef, warnings }, timings))
}

/// The common size of the captures of a scene, whose answer is within the limits.
fn size_within(
    plan: &ScenePlan,
    captures: &[Arc<dyn Raster>],
    sink: &dyn DenseSink,
    options: &SceneOptions,
) -> Result<(usize, usize), EngineError> {
    let ScenePlan { model: ModelTask { spec, task }, embedding, .. } = plan;
    let (width, height) = check_captures(spec, captures)?;
    limit("pixels", (width * height) as u64, options.max_pixels)?;
    if is_dense(task.task_type) {
        let values = (width * height * sink.kept_per_pixel(task.categories.len().max(1))) as u64;
        limit("values in the answer (pixels times categories)", values, options.max_values)?;
    }
    if task.task_type == TaskType::Embedding && embedding.pool == Pool::None {
        let values = embedding.layers.0.iter().map(|layer| layer.values(spec, width, height) as u64).sum();
        limit("values in the answer (cells of the feature maps times channels)", values, options.max_values)?;
    }
    Ok((width, height))
}

/// The bytes that a scene takes until it is encoded.
///
/// # Errors
/// If the rasters do not fit the model or the scene exceeds the limits.
pub(super) fn bytes(
    plan: &ScenePlan,
    captures: &[Arc<dyn Raster>],
    sink: &dyn DenseSink,
    options: &SceneOptions,
) -> Result<u64, EngineError> {
    /// Bytes per pixel that encoders need beside what is drawn, such as labels of connected areas.
    const DRAWING_BYTES: usize = 8;
    let captures = chosen_captures(captures, &plan.pixels.captures)?;
    let (width, height) = size_within(plan, &captures, sink, options)?;
    let ScenePlan { model: ModelTask { spec, task }, embedding, .. } = plan;
    let channels = task.categories.len().max(1);
    let bytes = match task.task_type {
        // What is kept is held once more when it is encoded.
        task_type if is_dense(task_type) => {
            let drawn = 2 * sink.bytes_per_pixel(channels) + DRAWING_BYTES;
            strip_bytes(width, height, channels, options.window_px) + width * height * drawn
        }
        TaskType::Embedding if embedding.pool == Pool::None => {
            let values: usize = embedding.layers.0.iter().map(|layer| layer.values(spec, width, height)).sum();
            2 * values * size_of::<f32>()
        }
        _ => 0,
    };
    Ok(bytes as u64)
}

fn is_dense(task_type: TaskType) -> bool {
    matches!(task_type, TaskType::Segment | TaskType::BinSegment | TaskType::Regress)
}

/// The passes over the windows of a raster of `width` x `height` pixels.
pub(super) fn work(plan: &ScenePlan, (width, height): (usize, usize), captures: usize, options: &SceneOptions) -> Workload {
    let (across, down) = (width.min(options.window_px), height.min(options.window_px));
    let passes = scene_windows(width, height, options.window_px, options.overlap_px).len();
    Workload::images(&plan.model.spec.id, &plan.model.task.name, across * down * captures.max(1), passes)
}

async fn predict_window(
    captures: &[Arc<dyn Raster>],
    pixels: &PixelOptions,
    model: &Arc<LoadedModel>,
    query: &ModelQuery,
    window: SceneWindow,
    (place, reading): (&DevicePlace, &Reading),
) -> Result<(SceneWindow, Option<SceneWindowAnswer>, Timings), EngineError> {
    let turn = place.turn().await?;
    let started = Instant::now();
    let (captures, spec, options) = (captures.to_vec(), model.spec.clone(), pixels.clone());
    let area = PixelWindow {
        col: window.cols.start as i64,
        row: window.rows.start as i64,
        width: window.cols.len,
        height: window.rows.len,
    };
    let held = turn.reading();
    let read = move || {
        let _held = held;
        read_scene_window(&captures, &spec, area, &options)
    };
    let pixels = reading.upload(read).await?;
    let mut timings = Timings { read: started.elapsed(), ..Timings::default() };
    let Some(WindowPixels { values, shape, valid, warnings }) = pixels else { return Ok((window, None, timings)) };
    let reply = turn.forward(model.clone(), Input::Images { values, shape }, query.clone()).await?;
    timings.queue = reply.queued;
    timings.infer = reply.ran;
    let mut answer = reply.answer;
    cut_to_data(&mut answer, valid.as_deref(), shape[2]);
    let answer = SceneWindowAnswer { answer, valid, warnings };
    Ok((window, Some(answer), timings))
}

fn limit(what: &'static str, found: u64, limit: u64) -> Result<(), EngineError> {
    if found > limit { Err(EngineError::TooLarge { what, found, limit }) } else { Ok(()) }
}
