//! Heads: feature maps in, plain answers out.

mod classify;
mod dense;
mod faster_rcnn;
mod linear;
mod mask_rcnn;
mod nearest;
mod on_demand;

use candle_core::{DType, Result, Tensor};

use self::classify::{MaxPooledHead, MeanPooledHead};
pub(super) use self::dense::DenseHead;
pub use self::faster_rcnn::DETECTIONS;
use self::faster_rcnn::FasterRcnn;
use self::linear::LinearHead;
use self::nearest::NearestHead;
pub(super) use self::on_demand::HeadOnDemand;
use super::LoadError;
use super::detect::ImageSize;
use super::features::Part;
use super::loader::Loader;
use crate::ops::{OpsContext, sigmoid, softmax};
use crate::prediction::{Dense, Object};
use crate::zoo::{Activation, Head, HeadKind, Layer, TaskType};

/// The output of a head for one image.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadOutput {
    /// Values per pixel, every pixel valid.
    Dense(Dense),
    /// One score per category.
    Scores(Vec<f32>),
    /// Boxes by descending score, with masks if the task has them.
    Objects(Vec<Object>),
}

/// A feature map that heads can read.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapSpec {
    pub(super) layer: Layer,
    pub(super) channels: usize,
    /// How many pixels of the image's side one cell covers.
    pub(super) stride_px: usize,
}

/// The part of the images that a pooled head answers for, and how many pixels of a side one cell of its map covers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crop {
    pub(super) part: Part,
    pub(super) stride: usize,
}

impl Crop {
    /// The cells of `map` in `crop`; all of them without one.
    fn of(crop: Option<Self>, map: &Tensor) -> Result<Tensor> {
        crop.map_or_else(|| Ok(map.clone()), |Self { part, stride }| part.of(map, stride))
    }
}

/// A prepared head.
#[derive(Debug)]
pub(super) enum PreparedHead {
    Dense(DenseHead),
    MaxPooled(MaxPooledHead),
    MeanPooled(MeanPooledHead),
    Linear(LinearHead),
    /// The same over the mean of an image.
    PooledLinear(LinearHead),
    Nearest(NearestHead),
    /// The same over the mean of an image.
    PooledNearest(NearestHead),
    Objects(Box<FasterRcnn>),
}

/// The maps that a head reads, in order. The specification's indices count in `maps`; its names may be of any map in it.
///
/// # Errors
/// If the head cannot be built over these maps. After this check, only reading its tensors can fail.
pub(super) fn inputs(loader: &Loader<'_>, head: &Head, maps: &[MapSpec]) -> std::result::Result<Vec<MapSpec>, LoadError> {
    let map = |index: usize| {
        maps.get(index).copied().ok_or_else(|| {
            let task = &head.task.name;
            loader.specification(format!("head {task} reads map {index} of {}", maps.len()))
        })
    };
    match &head.kind {
        HeadKind::Simple { .. } => Ok(vec![map(0)?]),
        HeadKind::Classify { .. } => Ok(vec![map(maps.len().wrapping_sub(1))?]),
        HeadKind::Linear { layers, .. } | HeadKind::Nearest { layers, .. } => {
            let named = |layer: &Layer| {
                let found = maps.iter().find(|map| map.layer == *layer).copied();
                found.ok_or_else(|| loader.specification(format!("head {} reads {layer}, which is no map", head.task.name)))
            };
            layers.iter().map(named).collect()
        }
        HeadKind::Frcnn { use_layers, anchor_sizes } => {
            let inputs = use_layers.iter().map(|index| map(*index)).collect::<std::result::Result<Vec<_>, _>>()?;
            let channels: Vec<usize> = inputs.iter().map(|input| input.channels).collect();
            faster_rcnn::check(&channels, anchor_sizes, head.task.categories.len())
                .map_err(|reason| loader.specification(reason))?;
            Ok(inputs)
        }
    }
}

impl PreparedHead {
    /// `inputs` are the result of [`inputs`] for this head.
    pub(super) fn load(loader: &Loader<'_>, head: &Head, inputs: &[MapSpec]) -> std::result::Result<Self, LoadError> {
        // Every head reads at least one map, and the maps of a detection head have equally many channels.
        let channels = inputs.first().map_or(0, |input| input.channels);
        let outputs = head.task.categories.len();
        match (&head.kind, head.task.task_type) {
            (HeadKind::Simple { activation }, TaskType::Classification | TaskType::MultiLabelClassification) => {
                Ok(Self::MaxPooled(MaxPooledHead::load(loader, channels, outputs, *activation)?))
            }
            (HeadKind::Simple { activation }, _) => {
                // A regression without names has one value.
                Ok(Self::Dense(DenseHead::load(loader, channels, outputs.max(1), *activation)?))
            }
            (HeadKind::Linear { activation, .. }, task_type) => {
                let head = LinearHead::load(loader, inputs, outputs.max(1), *activation)?;
                Ok(if task_type.is_label() { Self::PooledLinear(head) } else { Self::Linear(head) })
            }
            (HeadKind::Nearest { examples, neighbours, .. }, task_type) => {
                let head = NearestHead::load(loader, inputs, *examples, *neighbours, outputs.max(1))?;
                Ok(if task_type.is_label() { Self::PooledNearest(head) } else { Self::Nearest(head) })
            }
            (HeadKind::Classify { activation }, _) => {
                Ok(Self::MeanPooled(MeanPooledHead::load(loader, channels, outputs, *activation)?))
            }
            (HeadKind::Frcnn { anchor_sizes, .. }, task_type) => {
                let masks = task_type == TaskType::Instance;
                Ok(Self::Objects(Box::new(FasterRcnn::load(loader, channels, anchor_sizes, outputs, masks)?)))
            }
        }
    }

    /// The head itself, if it gives a value for every pixel.
    pub(super) fn as_dense(&self) -> Option<&DenseHead> {
        match self {
            Self::Dense(head) => Some(head),
            _ => None,
        }
    }

    /// One output per item, of at most `detections` objects if it consists of such; `maps` are those of [`inputs`], `[N, h, w, C]`.
    pub(super) fn forward(
        &self,
        ops: &OpsContext,
        maps: &[Tensor],
        image: ImageSize,
        detections: usize,
    ) -> Result<Vec<HeadOutput>> {
        let Some(first) = maps.first() else { candle_core::bail!("a head was given no feature map") };
        match self {
            Self::Dense(head) => head.forward(ops, first),
            Self::Linear(head) => head.forward(ops, maps, image),
            Self::Nearest(head) => head.forward(maps, image),
            Self::MaxPooled(_) | Self::MeanPooled(_) | Self::PooledLinear(_) | Self::PooledNearest(_) => {
                self.classify(ops, maps, None)
            }
            Self::Objects(head) => head.forward(ops, maps, image, detections),
        }
    }

    /// Whether the head pools its maps to one answer per image.
    pub(super) fn is_pooled(&self) -> bool {
        matches!(self, Self::MaxPooled(_) | Self::MeanPooled(_) | Self::PooledLinear(_) | Self::PooledNearest(_))
    }

    /// The scores for a part of the images, or for all of them; only for heads that [`PreparedHead::is_pooled`].
    pub(super) fn classify(&self, ops: &OpsContext, maps: &[Tensor], crop: Option<Crop>) -> Result<Vec<HeadOutput>> {
        match (self, maps.first()) {
            (Self::MaxPooled(head), Some(map)) => scores(&head.forward(ops, map, crop)?),
            (Self::MeanPooled(head), Some(map)) => scores(&head.forward(ops, map, crop)?),
            (Self::PooledLinear(head), _) => scores(&head.pooled(ops, maps, crop.map(|crop| crop.part))?),
            (Self::PooledNearest(head), _) => head.pooled(maps, crop.map(|crop| crop.part)),
            _ => candle_core::bail!("a head without scores was asked for some"),
        }
    }
}

/// Logits `[…, K]` to answers in float32.
fn activate(ops: &OpsContext, logits: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Softmax => softmax(ops, logits),
        Activation::Sigmoid => sigmoid(ops, logits),
        Activation::Times255 => logits.to_dtype(DType::F32)?.affine(255.0, 0.0),
        Activation::Identity => logits.to_dtype(DType::F32),
    }
}

fn scores(probabilities: &Tensor) -> Result<Vec<HeadOutput>> {
    Ok(probabilities.to_vec2::<f32>()?.into_iter().map(HeadOutput::Scores).collect())
}
