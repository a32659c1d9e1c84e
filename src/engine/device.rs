//! The device thread: one bounded queue, one forward pass at a time.
//!
//! Requests wait in arrival order. The thread takes the first one and with it every waiting request for the same model,
//! shape and question, up to the batch limit; a request whose caller has gone is dropped before it costs anything.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use tokio::sync::oneshot;

use super::error::EngineError;
use super::loaded::LoadedModel;
use crate::nn::{Features, HeadOutput, Layer, NnError, Part};
use crate::sync::IgnorePoison;
use crate::{telemetry, threads};

/// Bounds of the queue.
#[derive(Clone, Copy, Debug)]
pub struct DeviceOptions {
    /// Requests that may wait; one more is refused.
    pub queue_capacity: usize,
    /// Most items in one forward pass.
    pub max_batch: usize,
    /// How long the first request of a batch waits for company.
    pub max_delay: Duration,
}

/// A question to a model: one head, or feature maps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ModelQuery {
    /// A head of the loaded variant.
    Head {
        /// Its position.
        head: usize,
        /// The part of the image that a classification is about; all of it where `None`, and for every other task.
        crop: Option<Part>,
    },
    /// Feature maps.
    Embedding(Vec<Layer>),
}

/// What the network runs on.
pub enum Input {
    /// Normalised pixels `[captures, height, width, bands]` of one item.
    Images {
        /// Row-major values.
        values: Vec<f32>,
        /// Captures, height, width, bands.
        shape: [usize; 4],
    },
    /// Feature maps of an earlier pass.
    Features(Arc<Features>),
}

/// The answer to a [`ModelQuery`].
#[derive(Debug)]
pub enum ModelAnswer {
    /// A head's output.
    Head(HeadOutput),
    /// Feature maps `[H, W, C]`, one a layer.
    Maps(Vec<FeatureMap>),
}

/// One feature map on the host.
#[derive(Clone, Debug)]
pub struct FeatureMap {
    /// Which map.
    pub layer: Layer,
    /// Height, width, channels.
    pub shape: [usize; 3],
    /// Row-major values.
    pub values: Vec<f32>,
}

/// What a forward pass brings back.
pub struct Reply {
    /// The item's feature maps, for further heads.
    pub features: Arc<Features>,
    /// The answer.
    pub answer: ModelAnswer,
    /// Time spent in the queue.
    pub queued: Duration,
    /// Time the pass took (the whole batch's).
    pub ran: Duration,
}

struct Job {
    model: Arc<LoadedModel>,
    input: Input,
    query: ModelQuery,
    arrived: Instant,
    reply: oneshot::Sender<Result<Reply, EngineError>>,
}

impl Job {
    /// Whether both can share one pass.
    fn batches_with(&self, other: &Job) -> bool {
        let same_shape = match (&self.input, &other.input) {
            (Input::Images { shape: a, .. }, Input::Images { shape: b, .. }) => a == b,
            _ => false,
        };
        same_shape && Arc::ptr_eq(&self.model, &other.model) && self.query == other.query
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    stopping: bool,
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    options: DeviceOptions,
}

impl Queue {
    /// A panic elsewhere cannot leave the queue half changed: every change is one push, pop or flag.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().ignore_poison()
    }
}

/// A device and the thread that owns its forward passes.
pub struct DeviceWorker {
    queue: Arc<Queue>,
    device: Device,
    thread: Option<JoinHandle<()>>,
}

impl DeviceWorker {
    /// Starts the thread, and those of the kernels.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(device: Device, options: DeviceOptions) -> std::io::Result<Self> {
        threads::start();
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), options });
        let worker = queue.clone();
        let on = device.clone();
        let thread = std::thread::Builder::new().name("device".to_owned()).spawn(move || work(&worker, &on))?;
        Ok(Self { queue, device, thread: Some(thread) })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Waits for a turn and runs; dropping the future gives the turn back.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`] when the queue is full, [`EngineError::Stopping`] at shutdown, and what the network says.
    pub async fn run(&self, model: Arc<LoadedModel>, input: Input, query: ModelQuery) -> Result<Reply, EngineError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.queue.lock();
            if state.stopping {
                return Err(EngineError::Stopping);
            }
            if state.jobs.len() >= self.queue.options.queue_capacity {
                // Those whose callers have gone hold no place.
                state.jobs.retain(|job| !job.reply.is_closed());
            }
            let waiting = state.jobs.len();
            if waiting >= self.queue.options.queue_capacity {
                metrics::counter!(telemetry::QUEUE_REFUSED_TOTAL).increment(1);
                return Err(EngineError::Overloaded { waiting, retry_after: Duration::from_secs(1 + waiting as u64 / 8) });
            }
            state.jobs.push_back(Job { model, input, query, arrived: Instant::now(), reply });
            metrics::gauge!(telemetry::QUEUE_DEPTH).set(state.jobs.len() as f64);
        }
        self.queue.changed.notify_one();
        answer.await.unwrap_or(Err(EngineError::Stopping))
    }

    /// Requests waiting now.
    pub fn waiting(&self) -> usize {
        self.queue.lock().jobs.len()
    }
}

impl Drop for DeviceWorker {
    fn drop(&mut self) {
        self.queue.lock().stopping = true;
        self.queue.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // The pass under way ends first; its outcome was reported to its caller, not to us.
            let _ = thread.join();
        }
    }
}

fn work(queue: &Queue, device: &Device) {
    while let Some(batch) = next_batch(queue) {
        let started = Instant::now();
        let arrived: Vec<Instant> = batch.iter().map(|job| job.arrived).collect();
        metrics::histogram!(telemetry::BATCH_SIZE).record(batch.len() as f64);
        let (jobs, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|job| ((job.model, job.input, job.query), job.reply)).unzip();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(device, || forward(jobs, device))));
        let ran = started.elapsed();
        metrics::histogram!(telemetry::FORWARD_SECONDS).record(ran.as_secs_f64());
        match outcome {
            Ok(Ok(answers)) => {
                for (((features, answer), arrived), reply) in answers.into_iter().zip(arrived).zip(replies) {
                    let queued = started.duration_since(arrived);
                    // A caller that has gone meanwhile needs no answer.
                    let _ = reply.send(Ok(Reply { features, answer, queued, ran }));
                }
            }
            Ok(Err(error)) => fail(replies, &error),
            Err(panic) => {
                let message = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                tracing::error!(message, "the forward pass panicked");
                fail(replies, &EngineError::Panicked);
            }
        }
    }
}

fn fail(replies: Vec<oneshot::Sender<Result<Reply, EngineError>>>, error: &EngineError) {
    for reply in replies {
        let _ = reply.send(Err(error.clone()));
    }
}

/// Waits for work; `None` at shutdown.
fn next_batch(queue: &Queue) -> Option<Vec<Job>> {
    let DeviceOptions { max_batch, max_delay, .. } = queue.options;
    let mut state = queue.lock();
    loop {
        state.jobs.retain(|job| !job.reply.is_closed());
        if state.stopping {
            state.jobs.clear();
            return None;
        }
        let Some(first) = state.jobs.front() else {
            state = queue.changed.wait(state).ignore_poison();
            continue;
        };
        let company = state.jobs.iter().filter(|job| job.batches_with(first)).count();
        let age = first.arrived.elapsed();
        if matches!(first.input, Input::Images { .. }) && company < max_batch && age < max_delay {
            state = queue.changed.wait_timeout(state, max_delay - age).ignore_poison().0;
            continue;
        }
        let mut batch = Vec::from_iter(state.jobs.pop_front());
        let mut index = 0;
        while index < state.jobs.len() && batch.len() < max_batch {
            if state.jobs[index].batches_with(&batch[0]) {
                batch.extend(state.jobs.remove(index));
            } else {
                index += 1;
            }
        }
        metrics::gauge!(telemetry::QUEUE_DEPTH).set(state.jobs.len() as f64);
        return Some(batch);
    }
}

/// Runs a pass: of the CPU on a kernels' thread; a GPU's context belongs to the thread at hand.
pub(super) fn run<T: Send>(device: &Device, pass: impl FnOnce() -> T + Send) -> T {
    if device.is_cpu() { threads::run(pass) } else { pass() }
}

type Answered = Vec<(Arc<Features>, ModelAnswer)>;

/// One pass over jobs that [`Job::batches_with`] put together.
fn forward(jobs: Vec<(Arc<LoadedModel>, Input, ModelQuery)>, device: &Device) -> Result<Answered, EngineError> {
    let items = jobs.len();
    let mut images = Vec::new();
    let mut shared: Option<(Arc<LoadedModel>, ModelQuery, [usize; 4])> = None;
    for (model, input, query) in jobs {
        match input {
            Input::Features(features) => {
                let answer = ask_network(&model, &features, &query)?.pop().ok_or(EngineError::Panicked)?;
                return Ok(vec![(features, answer)]);
            }
            Input::Images { values, shape } => {
                images.push(Tensor::from_vec(values, &shape, &Device::Cpu).map_err(NnError::from)?);
                shared = Some((model, query, shape));
            }
        }
    }
    let Some((model, query, [captures, ..])) = shared else { return Ok(Vec::new()) };
    let batch = match images.as_slice() {
        [single] => single.clone(),
        several => Tensor::cat(several, 0).map_err(NnError::from)?,
    };
    let batch = batch.to_device(device).map_err(NnError::from)?;
    let features = model.network.features(&batch, captures)?;
    let answers = ask_network(&model, &features, &query)?;
    if items == 1 {
        let features = Arc::new(features);
        return Ok(answers.into_iter().map(|answer| (features.clone(), answer)).collect());
    }
    answers.into_iter().enumerate().map(|(item, answer)| Ok((Arc::new(features.item(item)?), answer))).collect()
}

fn ask_network(model: &LoadedModel, features: &Features, query: &ModelQuery) -> Result<Vec<ModelAnswer>, EngineError> {
    let answers = answers(model, features, query);
    // A head that was asked for the first time takes memory from now on.
    model.count();
    answers
}

fn answers(model: &LoadedModel, features: &Features, query: &ModelQuery) -> Result<Vec<ModelAnswer>, EngineError> {
    match query {
        ModelQuery::Head { head, crop: None } => {
            Ok(model.network.predict(features, *head)?.into_iter().map(ModelAnswer::Head).collect())
        }
        ModelQuery::Head { head, crop: Some(part) } => {
            Ok(model.network.classify_part(features, *head, *part)?.into_iter().map(ModelAnswer::Head).collect())
        }
        ModelQuery::Embedding(layers) => {
            let maps = layers
                .iter()
                .map(|layer| Ok((*layer, model.network.embedding(features, *layer)?)))
                .collect::<Result<Vec<(Layer, Tensor)>, NnError>>()?;
            let items = maps.first().map_or(0, |(_, map)| map.dims().first().copied().unwrap_or(0));
            (0..items)
                .map(|item| {
                    let host = |(layer, map): &(Layer, Tensor)| -> candle_core::Result<FeatureMap> {
                        let map = map.get(item)?;
                        let (height, width, channels) = map.dims3()?;
                        let values = map.flatten_all()?.to_vec1::<f32>()?;
                        Ok(FeatureMap { layer: *layer, shape: [height, width, channels], values })
                    };
                    let maps = maps.iter().map(host).collect::<candle_core::Result<_>>().map_err(NnError::from)?;
                    Ok(ModelAnswer::Maps(maps))
                })
                .collect()
        }
    }
}
