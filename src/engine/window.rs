//! Windows of a source: read once, run once, shared by every tile, format and head that needs them.
//!
//! Two caches stand behind each other: feature maps by window (so that a second head of the same model costs no backbone)
//! and answers by window and question. Both are single flight. A window without data costs no forward pass.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

use super::device::{DeviceWorker, Input, ModelAnswer, ModelQuery};
use super::error::EngineError;
use super::loaded::LoadedModel;
use super::pixels::{PixelOptions, WindowPixels, read_source_window};
use crate::nn::{Features, HeadOutput};
use crate::raster::Source;
use crate::telemetry;
use crate::tiles::{Window, WindowGrid};

/// Budgets of the window caches.
#[derive(Clone, Copy, Debug)]
pub struct WindowOptions {
    /// Size and halo of the windows.
    pub grid: WindowGrid,
    /// Memory for feature maps.
    pub features_mib: u64,
    /// Memory for answers.
    pub answers_mib: u64,
}

/// Everything a window's pixels depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WindowKey {
    /// Model and revision of its weights.
    pub(super) model: (String, String),
    /// Source and version of its content.
    pub(super) source: (String, String),
    /// Which window.
    pub(super) window: Window,
    /// Bands, scaling and captures.
    pub(super) pixels: PixelOptions,
}

/// How long the parts of an answer took.
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
    /// Adds another part.
    pub fn add(&mut self, other: &Timings) {
        self.read += other.read;
        self.queue += other.queue;
        self.infer += other.infer;
    }
}

/// A window's answer to one question.
pub(super) struct WindowAnswer {
    /// The answer; `None` where the window has no data.
    pub(super) answer: Option<ModelAnswer>,
    /// `[input_px, input_px]`, false where the source has no data; `None` where it has data everywhere.
    pub(super) valid: Option<Arc<[bool]>>,
    /// Sentences about suspicious pixels.
    pub(super) warnings: Vec<String>,
}

/// A window's feature maps.
struct WindowFeatures {
    features: Option<Arc<Features>>,
    valid: Option<Arc<[bool]>>,
    warnings: Vec<String>,
}

/// The caches and the device behind them.
#[derive(Clone)]
pub(super) struct Windows {
    features: Cache<WindowKey, Arc<WindowFeatures>>,
    answers: Cache<(WindowKey, ModelQuery), Arc<WindowAnswer>>,
    device: Arc<DeviceWorker>,
    grid: WindowGrid,
}

const KIB: usize = 1 << 10;

impl Windows {
    /// Empty caches over `device`.
    pub(super) fn new(device: Arc<DeviceWorker>, options: &WindowOptions) -> Self {
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
        Self { features, answers, device, grid: options.grid }
    }

    /// The grid of the windows.
    pub(super) fn grid(&self) -> WindowGrid {
        self.grid
    }

    /// The answer of a window, from the caches or by reading and running it.
    ///
    /// # Errors
    /// What reading, the queue or the network says.
    pub(super) async fn answer(
        &self,
        key: WindowKey,
        model: &Arc<LoadedModel>,
        source: &Arc<Source>,
        query: ModelQuery,
    ) -> Result<(Arc<WindowAnswer>, Timings), EngineError> {
        let mut timings = Timings::default();
        let spent = &mut timings;
        let compute = async {
            metrics::counter!(telemetry::CACHE_LOOKUPS_TOTAL, "cache" => "answers", "outcome" => "miss").increment(1);
            let mut first = None;
            let window = {
                let (first, spent) = (&mut first, &mut *spent);
                let compute = self.first_pass(&key, model, source, query.clone(), first, spent);
                self.features.try_get_with_by_ref(&key, compute).await?
            };
            let answer = match (first, &window.features) {
                (Some(answer), _) => Some(answer),
                (None, None) => None,
                (None, Some(features)) => {
                    let reply = self.device.run(model.clone(), Input::Features(features.clone()), query.clone()).await?;
                    spent.queue += reply.queued;
                    spent.infer += reply.ran;
                    Some(reply.answer)
                }
            };
            Ok(Arc::new(WindowAnswer { answer, valid: window.valid.clone(), warnings: window.warnings.clone() }))
        };
        let answer = self.answers.try_get_with((key.clone(), query.clone()), compute).await.map_err(EngineError::from)?;
        Ok((answer, timings))
    }

    /// Reads a window, runs backbone and head in one turn, and leaves the head's answer in `first`.
    async fn first_pass(
        &self,
        key: &WindowKey,
        model: &Arc<LoadedModel>,
        source: &Arc<Source>,
        query: ModelQuery,
        first: &mut Option<ModelAnswer>,
        spent: &mut Timings,
    ) -> Result<Arc<WindowFeatures>, EngineError> {
        metrics::counter!(telemetry::CACHE_LOOKUPS_TOTAL, "cache" => "features", "outcome" => "miss").increment(1);
        let started = std::time::Instant::now();
        let (source, spec) = (source.clone(), model.spec.clone());
        let (target, options) = (self.grid.georef(key.window), key.pixels.clone());
        let pixels = tokio::task::spawn_blocking(move || read_source_window(&source, &spec, &target, &options))
            .await
            .unwrap_or(Err(EngineError::Panicked))?;
        spent.read += started.elapsed();
        let Some(WindowPixels { values, shape, valid, warnings }) = pixels else {
            return Ok(Arc::new(WindowFeatures { features: None, valid: None, warnings: Vec::new() }));
        };
        let reply = self.device.run(model.clone(), Input::Images { values, shape }, query).await?;
        spent.queue += reply.queued;
        spent.infer += reply.ran;
        *first = Some(reply.answer);
        Ok(Arc::new(WindowFeatures { features: Some(reply.features), valid: valid.map(Arc::from), warnings }))
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(KIB).max(1)).unwrap_or(u32::MAX)
}

fn valid_bytes(valid: &Option<Arc<[bool]>>) -> usize {
    valid.as_ref().map_or(0, |valid| valid.len())
}

impl ModelAnswer {
    /// Memory held.
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
