//! Many small rasters in one request ("chips"), each with an answer of its own: the network runs full batches of them.

use std::ops::Range;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;

use super::assembly::{Assembly, Layout, SceneWindowAnswer};
use super::caller::Caller;
use super::device::{DevicePlace, DeviceWorkers, Input, ModelAnswer, ModelQuery};
use super::error::EngineError;
use super::loaded::LoadedModel;
use super::model_task::ModelTask;
use super::models::Models;
use super::pixels::{WindowPixels, check_captures, chosen_captures, read_scene_window};
use super::plan::ScenePlan;
use super::reading::Reading;
use super::scene_options::SceneOptions;
use super::scheduler::Workload;
use crate::prediction::{Pool, Prediction, WholeMap};
use crate::raster::{PixelWindow, Raster};
use crate::tiles::scene_windows;
use crate::zoo::TaskType;

/// Most chips of one request.
const MAX_CHIPS: usize = 16_384;

/// Most chips in one pass: as many as `bench` takes.
const MAX_BATCH: usize = 64;

/// Most different warnings about the chips of one request; a thousand chips with the same fault need one sentence.
const MAX_WARNINGS: usize = 8;

/// The answers of consecutive chips.
pub type ChipAnswers = BoxStream<'static, Result<Vec<Prediction>, EngineError>>;

/// One chip: its captures, in time order, on one grid.
type Chip = Vec<Arc<dyn Raster>>;

/// Chips that have been looked at: all of them can be answered.
pub struct Chips {
    chips: Arc<Vec<Chip>>,
    batches: Vec<Batch>,
    warnings: Vec<String>,
}

impl Chips {
    /// Warnings about suspicious pixel values, each with the first chip that it is about.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.chips.len()
    }

    /// Whether any of them lies somewhere on the Earth.
    pub fn have_places(&self) -> bool {
        self.chips.iter().any(|captures| captures.first().is_some_and(|raster| raster.info().georef.is_some()))
    }
}

/// Consecutive chips of one shape.
struct Batch {
    chips: Range<usize>,
    /// Captures with data, height, width, bands; `None` if the chips have no data, which takes no pass.
    shape: Option<[usize; 4]>,
}

/// Looks at every chip, so that a bad one is told before anything is answered. Blocks.
///
/// # Errors
/// [`EngineError::Chip`] with the first chip that does not fit the model or cannot be read, and [`EngineError::Invalid`],
/// [`EngineError::TooLarge`] or [`EngineError::Unusable`] if the chips as a whole cannot be answered.
pub(super) fn check(
    plan: &ScenePlan,
    chips: Vec<Chip>,
    (options, max_batch): (&SceneOptions, usize),
) -> Result<Chips, EngineError> {
    EngineError::limit("chips", chips.len() as u64, MAX_CHIPS as u64)?;
    let (mut batches, mut warnings): (Vec<Batch>, Vec<String>) = (Vec::new(), Vec::new());
    let mut pixels = 0;
    for (index, captures) in chips.iter().enumerate() {
        let at = |source: EngineError| EngineError::Chip { index, source: Arc::new(source) };
        let (width, height) = size(plan, captures, options).map_err(at)?;
        pixels += width * height;
        EngineError::limit("pixels of all chips", pixels as u64, options.max_pixels)?;
        let read = read(plan, captures).map_err(at)?;
        let (shape, found) = match read {
            Some(WindowPixels { shape, warnings, .. }) => (Some(shape), warnings),
            None => (None, vec!["It has no data, and its answer has no values.".to_owned()]),
        };
        for warning in found {
            if warnings.len() < MAX_WARNINGS && !warnings.iter().any(|known| known.ends_with(&warning)) {
                warnings.push(format!("chip {index}: {warning}"));
            }
        }
        let most = shape.map_or(usize::MAX, |shape| batch_size(shape, options, max_batch));
        match batches.last_mut().filter(|batch| batch.shape == shape && batch.chips.len() < most) {
            Some(batch) => batch.chips.end = index + 1,
            None => batches.push(Batch { chips: index..index + 1, shape }),
        }
    }
    if batches.iter().all(|batch| batch.shape.is_none()) {
        return Err(EngineError::Unusable { detail: format!("none of the {} chips has data", chips.len()) });
    }
    Ok(Chips { chips: Arc::new(chips), batches, warnings })
}

/// Answers the chips in their order, a batch at a time: see [`super::Engine::predict_chips`].
pub(super) async fn predict(
    asked: (&ScenePlan, &Caller),
    chips: Chips,
    parts: (&Models, &DeviceWorkers, &Arc<Reading>),
) -> Result<ChipAnswers, EngineError> {
    answers(asked, chips, parts, BatchRun::prediction).await
}

/// What `put` makes of the network's answer for each chip, in their order. It is called on a blocking thread with the number of the chip,
/// and without an answer if that has no data.
pub(super) async fn answers_as<T: Send + 'static>(
    asked: (&ScenePlan, &Caller),
    chips: Chips,
    parts: (&Models, &DeviceWorkers, &Arc<Reading>),
    put: impl Fn(usize, Option<ModelAnswer>) -> T + Send + Sync + 'static,
) -> Result<BoxStream<'static, Result<Vec<T>, EngineError>>, EngineError> {
    answers(asked, chips, parts, move |_, index, answer| put(index, answer)).await
}

async fn answers<T: Send + 'static>(
    (plan, caller): (&ScenePlan, &Caller),
    chips: Chips,
    (models, workers, reading): (&Models, &DeviceWorkers, &Arc<Reading>),
    put: impl Fn(&BatchRun, usize, Option<ModelAnswer>) -> T + Send + Sync + 'static,
) -> Result<BoxStream<'static, Result<Vec<T>, EngineError>>, EngineError> {
    let ModelTask { spec, task } = &plan.model;
    let sizes: Vec<usize> = chips.batches.iter().filter_map(Batch::pixels).collect();
    // Batches of other sizes than the average cost as much as they are larger.
    let size = sizes.iter().sum::<usize>() / sizes.len().max(1);
    let work = Workload::chips(&spec.id, &task.name, size, sizes.len());
    let place = Arc::new(workers.scheduler().enter(caller, work)?);
    let model = models.load_spec(spec).await?;
    let query = ModelQuery::new(&model, task, (&plan.embedding, plan.limit))?;
    let (plan, chips_of, reading, put) = (Arc::new(plan.clone()), chips.chips, reading.clone(), Arc::new(put));
    let answers = futures::stream::iter(chips.batches).map(move |batch| {
        let run = BatchRun { plan: plan.clone(), chips: chips_of.clone(), model: model.clone(), query: query.clone() };
        run.answer(batch, (place.clone(), reading.clone()), put.clone())
    });
    // While each device runs one, the next is read.
    Ok(answers.buffered(workers.count() + 1).boxed())
}

impl Batch {
    /// Pixels times captures of its pass; `None` if it takes none.
    fn pixels(&self) -> Option<usize> {
        let [captures, height, width, _] = self.shape?;
        Some(self.chips.len() * captures * height * width)
    }
}

/// What one batch needs to be answered.
struct BatchRun {
    plan: Arc<ScenePlan>,
    chips: Arc<Vec<Chip>>,
    model: Arc<LoadedModel>,
    query: ModelQuery,
}

impl BatchRun {
    async fn answer<T: Send + 'static>(
        self,
        batch: Batch,
        (place, reading): (Arc<DevicePlace>, Arc<Reading>),
        put: Arc<impl Fn(&BatchRun, usize, Option<ModelAnswer>) -> T + Send + Sync + 'static>,
    ) -> Result<Vec<T>, EngineError> {
        let Some([captures, height, width, bands]) = batch.shape else {
            return Ok(batch.chips.map(|index| put(&self, index, None)).collect());
        };
        let turn = place.turn().await?;
        let held = turn.reading();
        let (plan, chips, indices) = (self.plan.clone(), self.chips.clone(), batch.chips.clone());
        let per_chip = captures * height * width * bands;
        let read = move || {
            let _held = held;
            let mut values = Vec::with_capacity(indices.len() * per_chip);
            for index in indices {
                let at = |source: EngineError| EngineError::Chip { index, source: Arc::new(source) };
                let pixels = read(&plan, &chips[index]).map_err(at)?;
                let changed = || EngineError::Unusable { detail: "it has changed while it was being read".to_owned() };
                let pixels = pixels.filter(|pixels| pixels.values.len() == per_chip).ok_or_else(changed).map_err(at)?;
                values.extend(pixels.values);
            }
            Ok::<_, EngineError>(values)
        };
        let values = reading.upload(read).await?;
        let input = Input::Batch { values, items: batch.chips.len(), shape: [captures, height, width, bands] };
        let reply = turn.forward(self.model.clone(), input, self.query.clone()).await?;
        // Not reached while the device answers a batch with a batch.
        let ModelAnswer::Batch(answers) = reply.answer else { return Err(EngineError::Panicked) };
        let put_all = move || {
            let answers = batch.chips.zip(answers);
            answers.map(|(index, answer)| put(&self, index, Some(answer))).collect()
        };
        tokio::task::spawn_blocking(put_all).await.map_err(|_| EngineError::Panicked)
    }

    /// A chip's answer, put together as that of a scene of one window is.
    fn prediction(&self, index: usize, answer: Option<ModelAnswer>) -> Prediction {
        let ScenePlan { model: ModelTask { spec, task }, embedding, .. } = &*self.plan;
        let info = self.chips[index].first().map(|raster| raster.info());
        let (width, height) = info.map_or((1, 1), |info| (info.width, info.height));
        let sink = Box::<WholeMap>::default();
        let layout = Layout { size: (width, height), by_columns: false, tiled: false, clips: true };
        let mut scene = Assembly::new(spec, task, layout, sink, embedding);
        // Warnings have been collected over all chips.
        let whole = |answer| SceneWindowAnswer { answer, valid: None, valid_width: 0, wanted: None, warnings: Vec::new() };
        let mut answer = answer.map(whole);
        for window in scene_windows(width, height, width.max(height), 0) {
            scene.add(window, answer.take());
        }
        let (output, warnings) = scene.finish();
        Prediction { output, width, height, georef: info.and_then(|info| info.georef.clone()), warnings }
    }
}

/// Whether the answer for a chip is one row of numbers.
///
/// # Errors
/// [`EngineError::Invalid`] if not.
pub(super) fn check_question(plan: &ScenePlan) -> Result<(), EngineError> {
    let invalid = |detail: String| Err(EngineError::Invalid { detail });
    let ScenePlan { model: ModelTask { task, .. }, embedding, .. } = plan;
    match task.task_type {
        TaskType::Classification | TaskType::MultiLabelClassification => Ok(()),
        TaskType::Embedding if embedding.layers.0.len() != 1 => {
            invalid("layer: found all; a batch of chips needs one layer, as a row of its answer is one vector".to_owned())
        }
        TaskType::Embedding if embedding.pool == Pool::None => {
            invalid("pool: found none; a batch of chips needs mean or max, as a row of its answer is one vector".to_owned())
        }
        TaskType::Embedding => Ok(()),
        _ => invalid(format!(
            "{} gives more than one row of numbers for a chip; batches are for classifications and embeddings",
            task.name
        )),
    }
}

/// The size of a chip that fits the model.
fn size(plan: &ScenePlan, captures: &[Arc<dyn Raster>], options: &SceneOptions) -> Result<(usize, usize), EngineError> {
    let captures = chosen_captures(captures, &plan.pixels.captures)?;
    let (width, height) = check_captures(&plan.model.spec, &captures)?;
    let most = options.window_px;
    if width.max(height) > most {
        let detail =
            format!("it has {width} x {height} px; a chip has at most {most} x {most}, larger rasters go one by one");
        return Err(EngineError::Unusable { detail });
    }
    Ok((width, height))
}

/// The pixels of a chip as the network takes them; `None` if it has no data.
pub(super) fn read(plan: &ScenePlan, captures: &[Arc<dyn Raster>]) -> Result<Option<WindowPixels>, EngineError> {
    let captures = chosen_captures(captures, &plan.pixels.captures)?;
    let Some(info) = captures.first().map(|raster| raster.info()) else { return Ok(None) };
    let window = PixelWindow { col: 0, row: 0, width: info.width, height: info.height };
    read_scene_window(&captures, &plan.model.spec, window, &plan.pixels)
}

/// As many chips as have the pixels of a window for each request that a pass may take, so that nobody waits longer for their pass.
fn batch_size([captures, height, width, _]: [usize; 4], options: &SceneOptions, max_batch: usize) -> usize {
    let pixels = options.window_px.pow(2).saturating_mul(max_batch);
    (pixels / (captures * height * width).max(1)).clamp(1, MAX_BATCH)
}
