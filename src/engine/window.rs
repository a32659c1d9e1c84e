//! Windows of a source: read once, run once, shared by every tile, format and head that needs them.
//!
//! There are two caches: answers by window and query, and feature maps by window, so that a second head of the same model
//! does not run the backbone again. Concurrent requests for one entry share its computation. A window without data is not
//! run.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moka::future::Cache;

use super::device::{DeviceWorker, Input, ModelAnswer, ModelQuery};
use super::error::EngineError;
use super::loaded::LoadedModel;
use super::options::PixelOptions;
use super::pixels::{WindowPixels, read_source_window};
use super::reading::Reading;
use crate::nn::{Features, HeadOutput};
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

/// Time spent on the parts of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Reading, warping and scaling pixels.
    pub read: Duration,
    /// Waiting for the device.
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
    /// `None` if the window has no data.
    pub(super) answer: Option<ModelAnswer>,
    /// `[input_px, input_px]`, false where the source has no data; `None` if it has data everywhere.
    pub(super) valid: Option<Arc<[bool]>>,
    /// Warnings about suspicious pixel values.
    pub(super) warnings: Vec<String>,
    /// Time spent making it.
    spent: Timings,
}

/// A window's feature maps.
struct WindowFeatures {
    features: Option<Arc<Features>>,
    valid: Option<Arc<[bool]>>,
    warnings: Vec<String>,
    /// The answer from the pass that made the maps, to be taken by the request that started it.
    first_answer: Mutex<Option<ModelAnswer>>,
    /// Time spent reading and running.
    spent: Timings,
}

/// The caches and the device behind them.
#[derive(Clone)]
pub(super) struct Windows {
    features: Cache<WindowKey, Arc<WindowFeatures>>,
    answers: Cache<(WindowKey, ModelQuery), Arc<WindowAnswer>>,
    device: Arc<DeviceWorker>,
    reading: Arc<Reading>,
    grid: WindowGrid,
}

const KIB: usize = 1 << 10;

impl Windows {
    /// Empty caches over `device`.
    pub(super) fn new(device: Arc<DeviceWorker>, reading: Arc<Reading>, options: &WindowOptions) -> Self {
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
        Self { features, answers, device, reading, grid: options.grid }
    }

    /// The grid of the windows.
    pub(super) fn grid(&self) -> WindowGrid {
        self.grid
    }

    /// A window's answer, cached or computed, and the time this caller spent computing it.
    ///
    /// # Errors
    /// If the queue is full, or reading or the network fails.
    pub(super) async fn answer(
        &self,
        key: WindowKey,
        model: &Arc<LoadedModel>,
        source: &Arc<Source>,
        query: ModelQuery,
    ) -> Result<(Arc<WindowAnswer>, Timings), EngineError> {
        let compute = self.compute(&key, model, source, &query);
        let entry = self.answers.entry((key.clone(), query.clone())).or_try_insert_with(compute).await?;
        let spent = if entry.is_fresh() { entry.value().spent } else { Timings::default() };
        Ok((entry.into_value(), spent))
    }

    async fn compute(
        &self,
        key: &WindowKey,
        model: &Arc<LoadedModel>,
        source: &Arc<Source>,
        query: &ModelQuery,
    ) -> Result<Arc<WindowAnswer>, EngineError> {
        metrics::counter!(telemetry::CACHE_LOOKUPS_TOTAL, "cache" => "answers", "outcome" => "miss").increment(1);
        let first_pass = self.first_pass(key, model, source, query.clone());
        let entry = self.features.entry_by_ref(key).or_try_insert_with(first_pass).await?;
        let (made_here, window) = (entry.is_fresh(), entry.into_value());
        let mut spent = if made_here { window.spent } else { Timings::default() };
        let taken = if made_here { window.first_answer.lock().ignore_poison().take() } else { None };
        let answer = match (taken, &window.features) {
            (None, Some(features)) => {
                let reply = self.device.run(model.clone(), Input::Features(features.clone()), query.clone()).await?;
                spent.queue += reply.queued;
                spent.infer += reply.ran;
                Some(reply.answer)
            }
            (taken, _) => taken,
        };
        let (valid, warnings) = (window.valid.clone(), window.warnings.clone());
        Ok(Arc::new(WindowAnswer { answer, valid, warnings, spent }))
    }

    /// Reads a window and runs backbone and head in one pass.
    async fn first_pass(
        &self,
        key: &WindowKey,
        model: &Arc<LoadedModel>,
        source: &Arc<Source>,
        query: ModelQuery,
    ) -> Result<Arc<WindowFeatures>, EngineError> {
        metrics::counter!(telemetry::CACHE_LOOKUPS_TOTAL, "cache" => "features", "outcome" => "miss").increment(1);
        let started = Instant::now();
        let (source, spec) = (source.clone(), model.spec.clone());
        let (target, options) = (self.grid.georef(key.window), key.pixels.clone());
        let read = move || read_source_window(&source, &spec, &target, &options);
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
        let reply = self.device.run(model.clone(), Input::Images { values, shape }, query).await?;
        Ok(Arc::new(WindowFeatures {
            features: Some(reply.features),
            valid: valid.map(Arc::from),
            warnings,
            first_answer: Mutex::new(Some(reply.answer)),
            spent: Timings { read, queue: reply.queued, infer: reply.ran },
        }))
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(KIB).max(1)).unwrap_or(u32::MAX)
}

fn valid_bytes(valid: &Option<Arc<[bool]>>) -> usize {
    valid.as_ref().map_or(0, |valid| valid.len())
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
        };
        values * size_of::<f32>()
    }
}
