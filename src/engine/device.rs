//! The devices and their forward passes: what a network is asked, what it answers, and how a batch of such requests runs.
//!
//! [`super::scheduler`] decides who runs when, and with whom.

use std::sync::Arc;
use std::time::Duration;

use candle_core::{Device, Tensor};

use super::error::EngineError;
use super::hardware::Devices;
use super::loaded::LoadedModel;
use super::model_task::EMBEDDING;
use super::options::{EmbeddingOptions, ObjectLimit};
use super::scheduler::{BatchOptions, Kind, Pass, Place, Scheduler, Turn, Workload};
use crate::allocator;
use crate::nn::{DETECTIONS, Features, HeadOutput, Network, NnError, Part};
use crate::threads::{self, Team};
use crate::zoo::{Layer, Task, TaskType};

/// A question to a model: one head, or feature maps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ModelQuery {
    /// A head of the loaded variant.
    Head {
        /// Its position.
        head: usize,
        /// The part of the image that a classification is about; `None` for all of it, and for every other task.
        crop: Option<Part>,
        /// Most objects of an answer that consists of such; the same for all other tasks.
        detections: usize,
    },
    /// Feature maps.
    Embedding(Vec<Layer>),
}

impl ModelQuery {
    /// What `task` of `model` is asked for a whole image.
    ///
    /// # Errors
    /// If the model has no such task.
    pub(super) fn new(
        model: &LoadedModel,
        task: &Task,
        (embedding, limit): (&EmbeddingOptions, ObjectLimit),
    ) -> Result<Self, EngineError> {
        let detections = match task.task_type {
            TaskType::Embedding => return Ok(Self::Embedding(embedding.layers.0.clone())),
            TaskType::Detect | TaskType::Instance => limit.per_window(),
            _ => DETECTIONS,
        };
        Ok(Self::Head { head: model.head(&task.name)?, crop: None, detections })
    }

    /// The lowest score of an answer that holds as many objects as were asked for.
    pub(super) fn least_score(&self, answer: &ModelAnswer) -> Option<f32> {
        match (self, answer) {
            (Self::Head { detections, .. }, ModelAnswer::Head(HeadOutput::Objects(objects)))
                if objects.len() >= *detections =>
            {
                objects.iter().map(|object| object.score).reduce(f32::min)
            }
            _ => None,
        }
    }

    /// The same about a part of the image, for tasks whose answer is about all of it.
    pub(super) fn about(mut self, part: Option<Part>, task_type: TaskType) -> Self {
        if let (Self::Head { crop, .. }, true) = (&mut self, task_type.is_label()) {
            *crop = part;
        }
        self
    }

    /// The name of the task of `model` that it asks for.
    pub(super) fn task_name<'a>(&self, model: &'a LoadedModel) -> &'a str {
        match self {
            Self::Head { head, .. } => model.heads().nth(*head).map_or("", |head| &head.task.name),
            Self::Embedding(_) => EMBEDDING,
        }
    }
}

/// What the network runs on.
pub(super) enum Input {
    /// Normalised pixels of one item.
    Images {
        /// Row-major values.
        values: Vec<f32>,
        /// Captures, height, width, bands.
        shape: [usize; 4],
    },
    /// Normalised pixels of several items of one shape: a batch of its own.
    Batch {
        /// Row-major values of all items.
        values: Vec<f32>,
        /// How many items there are.
        items: usize,
        /// Captures, height, width, bands of each.
        shape: [usize; 4],
    },
    /// Feature maps of an earlier pass.
    Features(Arc<DeviceFeatures>),
}

/// Feature maps, and the device whose memory they lie in.
pub(super) struct DeviceFeatures {
    features: Features,
    device: usize,
}

impl DeviceFeatures {
    /// Bytes of the maps.
    pub(super) fn bytes(&self) -> usize {
        self.features.bytes()
    }
}

/// The answer to a [`ModelQuery`].
#[derive(Debug)]
pub(super) enum ModelAnswer {
    /// A head's output.
    Head(HeadOutput),
    /// Feature maps `[height, width, channels]`, one per layer.
    Maps(Vec<FeatureMap>),
    /// The answer for every item of an [`Input::Batch`].
    Batch(Vec<ModelAnswer>),
}

/// One feature map on the host.
#[derive(Clone, Debug)]
pub(super) struct FeatureMap {
    /// Which map.
    pub(super) layer: Layer,
    /// Height, width, channels.
    pub(super) shape: [usize; 3],
    /// How many pixels of the image's side one cell covers.
    pub(super) stride_px: usize,
    /// Row-major values.
    pub(super) values: Vec<f32>,
}

/// What a forward pass brings back.
pub(super) struct Reply {
    /// The feature maps of the item, or of the whole batch, for further heads.
    pub(super) features: Arc<DeviceFeatures>,
    /// The answer.
    pub(super) answer: ModelAnswer,
    /// Time spent in the queue.
    pub(super) queued: Duration,
    /// Time that the pass took, for the whole batch.
    pub(super) ran: Duration,
}

/// The devices, each with a thread that owns its forward passes.
pub(super) struct DeviceWorkers {
    scheduler: Scheduler<ForwardPass>,
    max_batch: usize,
    devices: usize,
}

/// A request's place in the devices' queue.
pub(super) type DevicePlace = Place<ForwardPass>;
/// The turn to read the input of a pass and to have it run.
pub(super) type DeviceTurn = Turn<ForwardPass>;

impl DeviceWorkers {
    /// Starts the threads, and those of the kernels.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(super) fn start(devices: &Devices, options: BatchOptions) -> std::io::Result<Self> {
        let on_cpu = if devices.first().is_cpu() { devices.iter().len() } else { 1 };
        let mut teams = Team::divide(on_cpu)?.into_iter();
        let device = |device: &Device| match device {
            Device::Cpu => PassDevice { device: Device::Cpu, team: teams.next() },
            gpu => PassDevice { device: gpu.clone(), team: None },
        };
        let pass = ForwardPass { devices: devices.iter().map(device).collect() };
        let scheduler = Scheduler::start(&devices.names(), pass, options)?;
        Ok(Self { scheduler, max_batch: options.max_batch, devices: devices.iter().len() })
    }

    /// Most requests in one pass.
    pub(super) fn max_batch(&self) -> usize {
        self.max_batch
    }

    /// How many devices there are.
    pub(super) fn count(&self) -> usize {
        self.devices
    }

    /// How many requests of one image must be under way so that each device finds a full batch when its pass ends.
    pub(super) fn in_flight(&self) -> usize {
        2 * self.max_batch * self.devices
    }

    /// Who gets a device when.
    pub(super) fn scheduler(&self) -> &Scheduler<ForwardPass> {
        &self.scheduler
    }
}

impl DeviceTurn {
    /// Runs the pass. Dropping the future gives the turn back.
    ///
    /// # Errors
    /// Those of [`Turn::run`], and the network's own.
    pub(super) async fn forward(
        self,
        model: Arc<LoadedModel>,
        input: Input,
        query: ModelQuery,
    ) -> Result<Reply, EngineError> {
        let answered = self.run(Forward { model, input, query }).await?;
        let (features, answer) = answered.answer;
        Ok(Reply { features, answer, queued: answered.queued, ran: answered.ran })
    }
}

impl Workload {
    /// Passes over images of `size` pixels times captures, through the whole network.
    pub(super) fn images(model: &str, task: &str, size: usize, passes: usize) -> Self {
        Self { kind: Kind::of((model, task, "images")), size: size as f64, passes }
    }

    /// Passes over batches of chips, each of `size` pixels times captures in all.
    pub(super) fn chips(model: &str, task: &str, size: usize, passes: usize) -> Self {
        Self { kind: Kind::of((model, task, "chips")), size: size as f64, passes }
    }

    /// One pass of a head over feature maps of such images.
    pub(super) fn head(model: &str, task: &str, size: usize) -> Self {
        Self { kind: Kind::of((model, task, "features")), size: size as f64, passes: 1 }
    }
}

/// Runs on a thread of the kernels if the device is the CPU, and on the calling thread if it is a GPU.
pub(super) fn run<T: Send>(device: &Device, pass: impl FnOnce() -> T + Send) -> T {
    if device.is_cpu() { threads::run(pass) } else { pass() }
}

/// One caller's part of a forward pass.
pub(super) struct Forward {
    model: Arc<LoadedModel>,
    input: Input,
    query: ModelQuery,
}

/// Forward passes on the devices.
pub(super) struct ForwardPass {
    devices: Vec<PassDevice>,
}

/// A device with the threads that its kernels run on; a GPU has none.
struct PassDevice {
    device: Device,
    team: Option<Team>,
}

/// An item's feature maps, and the answer made from them.
pub(super) type FeaturesAndAnswer = (Arc<DeviceFeatures>, ModelAnswer);

impl Pass for ForwardPass {
    type Request = Forward;
    type Answer = FeaturesAndAnswer;

    /// Images of one shape with the same question to the same model. Feature maps, which cost a head alone, go one by one, as do
    /// batches.
    fn can_share(&self, first: &Forward, other: &Forward) -> bool {
        let same_shape = match (&first.input, &other.input) {
            (Input::Images { shape: first, .. }, Input::Images { shape: other, .. }) => first == other,
            _ => false,
        };
        same_shape && Arc::ptr_eq(&first.model, &other.model) && first.query == other.query
    }

    fn can_run(&self, device: usize, request: &Forward) -> bool {
        match &request.input {
            Input::Features(features) => features.device == device,
            Input::Images { .. } | Input::Batch { .. } => true,
        }
    }

    fn run(&self, index: usize, requests: Vec<Forward>) -> Result<Vec<FeaturesAndAnswer>, EngineError> {
        let PassDevice { device, team } = &self.devices[index];
        match team {
            Some(team) => team.run(|| forward(requests, (index, device))),
            // On the thread that owns the context.
            None => forward(requests, (index, device)),
        }
    }

    /// Gives the memory that the allocator keeps between passes back to the system.
    fn idle(&self) {
        let bytes = allocator::release();
        if bytes > 0 {
            tracing::debug!(bytes, "released the memory kept between passes");
        }
    }
}

/// One pass over requests of which each can share with the first, on the device of this number.
fn forward(requests: Vec<Forward>, (index, device): (usize, &Device)) -> Result<Vec<FeaturesAndAnswer>, EngineError> {
    let on_device = |features| Arc::new(DeviceFeatures { features, device: index });
    let items = requests.len();
    let mut images = Vec::new();
    let mut shared: Option<(Arc<LoadedModel>, ModelQuery, [usize; 4])> = None;
    for Forward { model, input, query } in requests {
        match input {
            Input::Features(features) => {
                let answers = ask_network(&model, &features, &query)?;
                return Ok(answers.into_iter().map(|answer| (features.clone(), answer)).collect());
            }
            Input::Batch { values, items, shape: [captures, height, width, bands] } => {
                let batch = Tensor::from_vec(values, (items * captures, height, width, bands), &Device::Cpu);
                let batch = batch.and_then(|batch| batch.to_device(device)).map_err(NnError::from)?;
                let features = on_device(model.network(index).features(&batch, captures)?);
                let answers = ask_network(&model, &features, &query)?;
                return Ok(vec![(features, ModelAnswer::Batch(answers))]);
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
    let features = on_device(model.network(index).features(&batch, captures)?);
    let answers = ask_network(&model, &features, &query)?;
    if items == 1 {
        return Ok(answers.into_iter().map(|answer| (features.clone(), answer)).collect());
    }
    let item = |(item, answer)| Ok((on_device(features.features.item(item)?), answer));
    answers.into_iter().enumerate().map(item).collect()
}

fn ask_network(
    model: &LoadedModel,
    on_device: &DeviceFeatures,
    query: &ModelQuery,
) -> Result<Vec<ModelAnswer>, EngineError> {
    let answers = answers(model.network(on_device.device), &on_device.features, query);
    // A head that was asked for the first time takes memory from now on.
    model.count();
    answers
}

/// One answer per item of the feature maps.
fn answers(network: &Network, features: &Features, query: &ModelQuery) -> Result<Vec<ModelAnswer>, EngineError> {
    match query {
        ModelQuery::Head { head, crop: None, detections } => {
            let at_image_size = |answer| match answer {
                HeadOutput::Dense(dense) => {
                    HeadOutput::Dense(dense.enlarged(network.dense_stride_px(), features.width(), features.height()))
                }
                other => other,
            };
            let answers = network.predict_at_most(features, *head, *detections)?.into_iter();
            Ok(answers.map(|answer| ModelAnswer::Head(at_image_size(answer))).collect())
        }
        ModelQuery::Head { head, crop: Some(part), .. } => {
            Ok(network.classify_part(features, *head, *part)?.into_iter().map(ModelAnswer::Head).collect())
        }
        ModelQuery::Embedding(layers) => {
            let maps = layers
                .iter()
                .map(|layer| Ok((*layer, network.embedding(features, *layer)?)))
                .collect::<Result<Vec<(Layer, Tensor)>, NnError>>()?;
            let items = maps.first().map_or(0, |(_, map)| map.dims().first().copied().unwrap_or(0));
            (0..items)
                .map(|item| {
                    let host = |(layer, map): &(Layer, Tensor)| -> candle_core::Result<FeatureMap> {
                        let map = map.get(item)?;
                        let (height, width, channels) = map.dims3()?;
                        let values = map.flatten_all()?.to_vec1::<f32>()?;
                        let stride_px = features.stride_px(*layer);
                        Ok(FeatureMap { layer: *layer, shape: [height, width, channels], stride_px, values })
                    };
                    let maps = maps.iter().map(host).collect::<candle_core::Result<_>>().map_err(NnError::from)?;
                    Ok(ModelAnswer::Maps(maps))
                })
                .collect()
        }
    }
}
