//! Running a [`ScenePlan`] on [`SceneImagery`]: in one pass what fits into a window, else in overlapping windows, whose answers
//! [`Assembly`] puts together.

use futures::StreamExt;

use super::assembly::{Assembly, Layout};
use super::caller::Caller;
use super::device::{DeviceWorkers, ModelQuery};
use super::error::EngineError;
use super::model_task::ModelTask;
use super::models::Models;
use super::options::EmbeddingOptions;
use super::plan::ScenePlan;
use super::reading::Reading;
use super::scene_imagery::SceneImagery;
use super::scene_options::{LEAST_IN_FLIGHT, SceneOptions};
use super::strips::strip_bytes;
use super::window::Timings;
use crate::prediction::{DenseSink, Output, Pool, Prediction};
use crate::zoo::{ModelSpec, TaskType};

/// Progress of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SceneProgress {
    /// Windows that are done.
    pub done: usize,
    /// Windows of the scene.
    pub total: usize,
}

/// Predicts a scene: see [`super::Engine::predict_scene`] and [`super::Engine::predict_area`].
pub(super) async fn predict(
    (plan, caller): (&ScenePlan, &Caller),
    imagery: &SceneImagery,
    sink: Box<dyn DenseSink>,
    report: impl Fn(SceneProgress),
    (models, workers, reading, options): (&Models, &DeviceWorkers, &Reading, &SceneOptions),
) -> Result<(Prediction, Timings), EngineError> {
    let ScenePlan { model: ModelTask { spec, task }, pixels, embedding, limit, .. } = plan;
    let (width, height) = size_within(plan, imagery, &*sink, options)?;
    let place = workers.scheduler().enter(caller, imagery.work(plan, options)?)?;
    let model = models.load_spec(spec).await?;
    let query = ModelQuery::new(&model, task, (embedding, *limit))?;
    let in_flight = memory(plan, imagery, &*sink, (options, workers.in_flight()))?.in_flight;
    let windows = imagery.windows((width, height), options);
    let (by_columns, tiled) = (imagery.goes_by_columns((width, height)), windows.len() > 1);
    let layout = Layout { size: (width, height), by_columns, tiled, clips: imagery.is_all_there_is() };
    let mut scene = Assembly::new(spec, task, layout, sink, embedding);
    let mut timings = Timings::default();
    let mut progress = SceneProgress { done: 0, total: windows.len() };
    report(progress);
    let mut is_empty = true;
    let mut answers = futures::stream::iter(windows)
        .map(|window| imagery.answer(window, plan, (&model, &query), (&place, reading)))
        .buffered(in_flight);
    while let Some(answered) = answers.next().await {
        let (window, answer, spent) = answered?;
        timings.add(&spent);
        is_empty &= answer.is_none();
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
    let (mut output, mut warnings) =
        tokio::task::spawn_blocking(move || scene.finish()).await.map_err(|_| EngineError::Panicked)?;
    match &mut output {
        Output::Objects(objects) => objects.retain(|object| imagery.owns(object)),
        Output::Cells(cells) => cells.first_px = imagery.first_px(),
        _ => {}
    }
    imagery.add_warnings(&mut warnings, pixels, is_empty);
    Ok((Prediction { output, width, height, georef: imagery.georef(), warnings }, timings))
}

/// The size of a scene whose answer is within the limits.
fn size_within(
    plan: &ScenePlan,
    imagery: &SceneImagery,
    sink: &dyn DenseSink,
    options: &SceneOptions,
) -> Result<(usize, usize), EngineError> {
    let ScenePlan { model: ModelTask { spec, task }, embedding, .. } = plan;
    let (width, height) = imagery.size(spec)?;
    EngineError::limit("pixels", (width * height) as u64, options.max_pixels)?;
    if is_dense(task.task_type) {
        let values = (width * height * sink.kept_per_pixel(task.categories.len().max(1))) as u64;
        EngineError::limit("values in the answer (pixels times categories)", values, options.max_values)?;
    }
    if task.task_type == TaskType::Embedding {
        let values = embedding_values(spec, embedding, (width, height)) as u64;
        EngineError::limit("values in the answer (cells of the feature maps times channels)", values, options.max_values)?;
    }
    Ok((width, height))
}

/// Values of the maps or cells of an embedding; 0 if they are pooled over the whole image.
fn embedding_values(spec: &ModelSpec, embedding: &EmbeddingOptions, (width, height): (usize, usize)) -> usize {
    let layers = embedding.layers.0.iter();
    match (embedding.cell_px, embedding.pool) {
        (Some(side), _) => {
            let cells = width.div_ceil(side.max(1)) * height.div_ceil(side.max(1));
            layers.map(|layer| cells * layer.channels(spec).unwrap_or(0)).sum()
        }
        (None, Pool::None) => layers.map(|layer| layer.values(spec, width, height)).sum(),
        (None, _) => 0,
    }
}

/// What a scene takes of the memory for answers.
pub(super) struct SceneMemory {
    /// Bytes of its answer until that is encoded.
    answer: u64,
    /// Bytes of the windows that are under way beyond the least.
    ahead: u64,
    /// Its windows that are read, waiting or running at the same time.
    in_flight: usize,
}

impl SceneMemory {
    /// The bytes of so many answers that are made one after the other and encoded together.
    pub(super) fn bytes(&self, answers: u64) -> u64 {
        answers.saturating_mul(self.answer).saturating_add(self.ahead)
    }
}

/// The memory that a scene takes. For full batches, as many windows are under way as `most_in_flight`, or as fit into the memory.
///
/// # Errors
/// If the rasters do not fit the model or the scene exceeds the limits.
pub(super) fn memory(
    plan: &ScenePlan,
    imagery: &SceneImagery,
    sink: &dyn DenseSink,
    (options, most_in_flight): (&SceneOptions, usize),
) -> Result<SceneMemory, EngineError> {
    let answer = answer_bytes(plan, imagery, sink, options)?;
    let window_bytes = window_bytes(plan, imagery, options)?;
    let in_flight = options.windows_in_flight(most_in_flight, window_bytes, answer);
    let ahead = (in_flight - LEAST_IN_FLIGHT) as u64 * window_bytes;
    Ok(SceneMemory { answer, ahead, in_flight })
}

/// The bytes of a window's input and of its answer.
fn window_bytes(plan: &ScenePlan, imagery: &SceneImagery, options: &SceneOptions) -> Result<u64, EngineError> {
    let ScenePlan { model: ModelTask { spec, task }, embedding, .. } = plan;
    let side = imagery.window_px(options);
    let answer = match task.task_type {
        task_type if is_dense(task_type) => side * side * task.categories.len().max(1),
        TaskType::Embedding => embedding.layers.0.iter().map(|layer| layer.values(spec, side, side)).sum(),
        _ => 0,
    };
    let input = imagery.work(plan, options)?.size as usize * spec.bands.len();
    Ok(((input + answer) * size_of::<f32>()) as u64)
}

/// The bytes that a scene's answer takes until it is encoded.
fn answer_bytes(
    plan: &ScenePlan,
    imagery: &SceneImagery,
    sink: &dyn DenseSink,
    options: &SceneOptions,
) -> Result<u64, EngineError> {
    /// Bytes per pixel that encoders need beside what is drawn, such as labels of connected areas.
    const DRAWING_BYTES: usize = 8;
    let (width, height) = size_within(plan, imagery, sink, options)?;
    let ScenePlan { model: ModelTask { spec, task }, embedding, .. } = plan;
    let channels = task.categories.len().max(1);
    let bytes = match task.task_type {
        // What is kept is held once more when it is encoded.
        task_type if is_dense(task_type) => {
            let drawn = 2 * sink.bytes_per_pixel(channels) + DRAWING_BYTES;
            strip_bytes((width, height), imagery.goes_by_columns((width, height)), channels, imagery.window_px(options))
                + width * height * drawn
        }
        TaskType::Embedding => {
            // Sums of cells have twice the size of their means, and an encoder may hold the answer twice more.
            let held = if embedding.cell_px.is_some() { 4 } else { 2 };
            held * embedding_values(spec, embedding, (width, height)) * size_of::<f32>()
        }
        _ => 0,
    };
    Ok(bytes as u64)
}

fn is_dense(task_type: TaskType) -> bool {
    matches!(task_type, TaskType::Segment | TaskType::BinSegment | TaskType::Regress)
}
