//! Windows of a source: read once, run once, shared by every tile, format and head that needs them.
//!
//! There are two caches: answers by window and query, and feature maps by window, so that a second head of the same model
//! does not run the backbone again. Concurrent requests for one entry share its computation. A window without data is not
//! run. Whoever computes an entry takes a place in the devices' queue before it reads anything.

use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moka::future::Cache;

use super::caller::Caller;
use super::data_extent::cut_to_data;
use super::device::{DeviceFeatures, DeviceWorkers, Input, ModelAnswer, ModelQuery};
use super::error::EngineError;
use super::loaded::{LoadedModel, TrunkId};
use super::options::PixelOptions;
use super::pixels::{WindowPixels, read_source_window};
use super::reading::Reading;
use super::scheduler::Workload;
use crate::nn::HeadOutput;
use crate::prediction::Object;
use crate::raster::Source;
use crate::sync::IgnorePoison;
use crate::telemetry;
use crate::tiles::{Window, WindowGrid};

/// Sizes and budgets of the window caches.
#[derive(Clone, Copy, Debug)]
pub struct WindowOptions {
    /// Size and halo of the windows.
    pub grid: WindowGrid,
    /// Memory for feature maps, MiB.
    pub features_mib: u64,
    /// Memory for answers, MiB.
    pub answers_mib: u64,
}

/// Everything a window's pixels and feature maps depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WindowKey {
    pub(super) model: String,
    /// Of the model's specification and weights.
    pub(super) revision: Arc<str>,
    pub(super) source: String,
    /// Of the source's content.
    pub(super) source_version: String,
    pub(super) window: Window,
    pub(super) pixels: PixelOptions,
}

impl WindowKey {
    /// The key of the window's feature maps, which models share that stand on one network.
    fn of_trunk(&self, model: &LoadedModel) -> Self {
        let TrunkId { model, revision } = model.trunk();
        Self { model, revision, ..self.clone() }
    }
}

/// Time spent on the parts of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Reading, warping and scaling pixels.
    pub read: Duration,
    /// Waiting for a device.
    pub queue: Duration,
    /// The forward pass.
    pub infer: Duration,
}

impl Timings {
    /// Adds the times of another part.
    pub fn add(&mut self, other: &Timings) {
        self.read += other.read;
        self.queue += other.queue;
        self.infer += other.infer;
    }
}

/// A window's answer to one query.
pub(super) struct WindowAnswer {
    /// `None` if the window has no data. Objects lie where it has data.
    pub(super) answer: Option<ModelAnswer>,
    /// `[input_px, input_px]`, false where the source has no data; `None` if it has data everywhere.
    pub(super) valid: Option<Arc<[bool]>>,
    /// The lowest score, if the window has as many objects as were asked for.
    pub(super) least_score: Option<f32>,
    /// Warnings about suspicious pixel values.
    pub(super) warnings: Vec<String>,
    /// Time spent making it.
    spent: Timings,
}

/// A window's feature maps.
struct WindowFeatures {
    features: Option<Arc<DeviceFeatures>>,
    valid: Option<Arc<[bool]>>,
    warnings: Vec<String>,
    /// The answer from the pass that made the maps, to be taken by the request that started it.
    first_answer: Mutex<Option<ModelAnswer>>,
    /// Time spent reading and running.
    spent: Timings,
}

/// The caches and the devices behind them.
#[derive(Clone)]
pub(super) struct Windows {
    features: Cache<WindowKey, Arc<WindowFeatures>>,
    answers: Cache<(WindowKey, ModelQuery), Arc<WindowAnswer>>,
    workers: Arc<DeviceWorkers>,
    reading: Arc<Reading>,
    grid: WindowGrid,
}

const KIB: usize = 1 << 10;

impl Windows {
    /// Empty caches over `workers`.
    pub(super) fn new(workers: Arc<DeviceWorkers>, reading: Arc<Reading>, options: &WindowOptions) -> Self {
        let features = Cache::builder()
            .name("features")
            .max_capacity(options.features_mib * KIB as u64)
            .weigher(|_, window: &Arc<WindowFeatures>| {
                kib(window.features.as_ref().map_or(0, |features| features.bytes()) + valid_bytes(&window.valid))
            })
            .build();
        let answers = Cache::builder()
            .name("answers")
            .max_capacity(options.answers_mib * KIB as u64)
            .weigher(|_, window: &Arc<WindowAnswer>| {
                kib(window.answer.as_ref().map_or(0, ModelAnswer::bytes) + valid_bytes(&window.valid))
            })
            .build();
        Self { features, answers, workers, reading, grid: options.grid }
    }

    /// The grid of the windows.
    pub(super) fn grid(&self) -> WindowGrid {
        self.grid
    }

    /// A window's answer, cached or computed, and the time this caller spent computing it.
    ///
    /// # Errors
    /// If the answer would come too late, the queue is full, or reading or the network fails.
    pub(super) async fn answer(
        &self,
        key: WindowKey,
        asked: Asked<'_>,
        query: ModelQuery,
    ) -> Result<(Arc<WindowAnswer>, Timings), EngineError> {
        let entry = (key.clone(), query.clone());
        let (value, made_here) = once(&self.answers, &entry, || self.compute(&key, asked, &query)).await?;
        let spent = if made_here { value.spent } else { Timings::default() };
        Ok((value, spent))
    }

    async fn compute(
        &self,
        key: &WindowKey,
        asked: Asked<'_>,
        query: &ModelQuery,
    ) -> Result<Arc<WindowAnswer>, EngineError> {
        metrics::counter!(telemetry::CACHE_LOOKUPS_TOTAL, "cache" => "answers", "outcome" => "miss").increment(1);
        let trunk = &key.of_trunk(asked.model);
        let (window, made_here) = once(&self.features, trunk, || self.first_pass(key, asked, query.clone())).await?;
        let mut spent = if made_here { window.spent } else { Timings::default() };
        let taken = if made_here { window.first_answer.lock().ignore_poison().take() } else { None };
        let answer = match (taken, &window.features) {
            (None, Some(features)) => {
                let work = Workload::head(&asked.model.spec.id, query.task_name(asked.model), self.size(key, asked));
                let place = self.workers.scheduler().enter(asked.caller, work)?;
                let input = Input::Features(features.clone());
                let reply = place.turn().await?.forward(asked.model.clone(), input, query.clone()).await?;
                spent.queue += reply.queued;
                spent.infer += reply.ran;
                Some(reply.answer)
            }
            (taken, _) => taken,
        };
        let least_score = answer.as_ref().and_then(|answer| query.least_score(answer));
        let answer = answer.map(|mut answer| {
            cut_to_data(&mut answer, window.valid.as_deref(), self.grid.input_px());
            answer
        });
        let (valid, warnings) = (window.valid.clone(), window.warnings.clone());
        Ok(Arc::new(WindowAnswer { answer, valid, least_score, warnings, spent }))
    }

    /// Reads a window and runs backbone and head in one pass.
    async fn first_pass(
        &self,
        key: &WindowKey,
        Asked { model, source, caller }: Asked<'_>,
        query: ModelQuery,
    ) -> Result<Arc<WindowFeatures>, EngineError> {
        metrics::counter!(telemetry::CACHE_LOOKUPS_TOTAL, "cache" => "features", "outcome" => "miss").increment(1);
        let size = self.size(key, Asked { model, source, caller });
        let work = Workload::images(&model.spec.id, query.task_name(model), size, 1);
        let place = self.workers.scheduler().enter(caller, work)?;
        let turn = place.turn().await?;
        let started = Instant::now();
        let (source, spec) = (source.clone(), model.spec.clone());
        let (target, options) = (self.grid.georef(key.window), key.pixels.clone());
        let held = turn.reading();
        let read = move || {
            let _held = held;
            read_source_window(&source, &spec, &target, &options)
        };
        let pixels = self.reading.source(&key.source, read).await?;
        let read = started.elapsed();
        let Some(WindowPixels { values, shape, valid, warnings }) = pixels else {
            return Ok(Arc::new(WindowFeatures {
                features: None,
                valid: None,
                warnings: Vec::new(),
                first_answer: Mutex::default(),
                spent: Timings { read, ..Timings::default() },
            }));
        };
        let reply = turn.forward(model.clone(), Input::Images { values, shape }, query).await?;
        Ok(Arc::new(WindowFeatures {
            features: Some(reply.features),
            valid: valid.map(Arc::from),
            warnings,
            first_answer: Mutex::new(Some(reply.answer)),
            spent: Timings { read, queue: reply.queued, infer: reply.ran },
        }))
    }

    /// Pixels of a window's input times the captures that it may have.
    fn size(&self, key: &WindowKey, Asked { model, source, .. }: Asked<'_>) -> usize {
        let chosen = key.pixels.captures.captures.as_ref().map_or(source.captures().len(), Vec::len);
        self.grid.input_px() * self.grid.input_px() * chosen.clamp(1, model.spec.max_images)
    }
}

/// Who asks for a window, and what answers.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) model: &'a Arc<LoadedModel>,
    pub(super) source: &'a Arc<Source>,
    pub(super) caller: &'a Caller,
}

/// The entry, made by one of those who want it at the same time; true if it was this one. If that one is refused for its own lack of
/// time, another tries.
async fn once<K, V, M>(cache: &Cache<K, V>, key: &K, make: impl Fn() -> M) -> Result<(V, bool), EngineError>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: Future<Output = Result<V, EngineError>>,
{
    loop {
        let tried = AtomicBool::new(false);
        let make = async {
            tried.store(true, Ordering::Relaxed);
            make().await
        };
        match cache.entry_by_ref(key).or_try_insert_with(make).await {
            Err(error) if matches!(*error, EngineError::Overloaded { .. }) && !tried.load(Ordering::Relaxed) => {}
            made => {
                let entry = made?;
                let made_here = entry.is_fresh();
                return Ok((entry.into_value(), made_here));
            }
        }
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(KIB).max(1)).unwrap_or(u32::MAX)
}

fn valid_bytes(valid: &Option<Arc<[bool]>>) -> usize {
    valid.as_ref().map_or(0, |valid| valid.len())
}

impl WindowAnswer {
    /// Its objects; empty for other tasks and without data.
    pub(super) fn objects(&self) -> &[Object] {
        match &self.answer {
            Some(ModelAnswer::Head(HeadOutput::Objects(objects))) => objects,
            _ => &[],
        }
    }
}

impl ModelAnswer {
    /// Bytes of its values.
    fn bytes(&self) -> usize {
        let values = match self {
            ModelAnswer::Head(HeadOutput::Dense(dense)) => dense.values.len(),
            ModelAnswer::Head(HeadOutput::Scores(scores)) => scores.len(),
            ModelAnswer::Head(HeadOutput::Objects(objects)) => {
                objects.iter().map(|object| 8 + object.mask.as_ref().map_or(0, |mask| mask.values.len())).sum()
            }
            ModelAnswer::Maps(maps) => maps.iter().map(|map| map.values.len()).sum(),
            ModelAnswer::Batch(answers) => return answers.iter().map(Self::bytes).sum(),
        };
        values * size_of::<f32>()
    }
}
