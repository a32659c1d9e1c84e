//! The networks at the end: feature maps in, plain answers out.

mod classify;
mod dense;
mod faster_rcnn;
mod mask_rcnn;

use candle_core::{DType, Result, Tensor};

use self::classify::{MaxPooledHead, MeanPooledHead};
pub(super) use self::dense::DenseHead;
use self::faster_rcnn::FasterRcnn;
use super::LoadError;
use super::detect::ImageSize;
use super::features::Layer;
use super::loader::Loader;
use crate::ops::{OpsContext, sigmoid, softmax};
use crate::prediction::{Dense, Object};
use crate::zoo::{Activation, Head, HeadKind, TaskType};

/// What a head says about one image.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadOutput {
    /// Values per pixel, every pixel valid.
    Dense(Dense),
    /// One score a category.
    Scores(Vec<f32>),
    /// Boxes by descending score, with masks where the task has them.
    Objects(Vec<Object>),
}

/// A feature map in the list that heads read from, with its channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapSpec {
    pub(super) layer: Layer,
    pub(super) channels: usize,
}

/// A head with the maps it reads.
#[derive(Debug)]
pub(super) struct HeadNetwork {
    inputs: Vec<Layer>,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Dense(DenseHead),
    MaxPooled(MaxPooledHead),
    MeanPooled(MeanPooledHead),
    Objects(Box<FasterRcnn>),
}

impl HeadNetwork {
    /// `maps` is the list that the specification's indices count in.
    pub(super) fn load(loader: &Loader<'_>, head: &Head, maps: &[MapSpec]) -> std::result::Result<Self, LoadError> {
        let map = |index: usize| {
            maps.get(index).copied().ok_or_else(|| {
                let task = &head.task.name;
                loader.specification(format!("head {task} reads map {index} of {}", maps.len()))
            })
        };
        let (inputs, form) = match (&head.kind, head.task.task_type) {
            (HeadKind::Simple { activation }, TaskType::Classification | TaskType::MultiLabelClassification) => {
                let input = map(0)?;
                let outputs = head.task.categories.len();
                let form = MaxPooledHead::load(loader, input.channels, outputs, *activation)?;
                (vec![input], Form::MaxPooled(form))
            }
            (HeadKind::Simple { activation }, _) => {
                let input = map(0)?;
                // A regression has one channel, or (in the package's layout) as many as were asked for, of which it uses the first.
                let outputs = head.task.categories.len().max(1);
                (vec![input], Form::Dense(DenseHead::load(loader, input.channels, outputs, *activation)?))
            }
            (HeadKind::Classify { activation }, _) => {
                let input = map(maps.len().wrapping_sub(1))?;
                let outputs = head.task.categories.len();
                let form = MeanPooledHead::load(loader, input.channels, outputs, *activation)?;
                (vec![input], Form::MeanPooled(form))
            }
            (HeadKind::Frcnn { use_layers, anchor_sizes }, task_type) => {
                let inputs = use_layers.iter().map(|index| map(*index)).collect::<std::result::Result<Vec<_>, _>>()?;
                let channels: Vec<usize> = inputs.iter().map(|input| input.channels).collect();
                let masks = task_type == TaskType::Instance;
                let categories = head.task.categories.len();
                let form = FasterRcnn::load(loader, &channels, anchor_sizes, categories, masks)?;
                (inputs, Form::Objects(Box::new(form)))
            }
        };
        Ok(Self { inputs: inputs.iter().map(|input| input.layer).collect(), form })
    }

    /// The maps that [`HeadNetwork::forward`] needs, in order.
    pub(super) fn inputs(&self) -> &[Layer] {
        &self.inputs
    }

    /// The head itself where it reads the full-resolution map alone, and so may run on a part of its rows.
    pub(super) fn over_full_resolution(&self) -> Option<&DenseHead> {
        match &self.form {
            Form::Dense(head) if self.inputs == [Layer::Upsample] => Some(head),
            _ => None,
        }
    }

    /// One answer an item; `maps` are those of [`HeadNetwork::inputs`], `[N, h, w, C]`.
    pub(super) fn forward(&self, ops: &OpsContext, maps: &[Tensor], image: ImageSize) -> Result<Vec<HeadOutput>> {
        let Some(first) = maps.first() else { candle_core::bail!("a head was given no feature map") };
        match &self.form {
            Form::Dense(head) => head.forward(ops, first),
            Form::MaxPooled(head) => scores(&head.forward(ops, first)?),
            Form::MeanPooled(head) => scores(&head.forward(ops, first)?),
            Form::Objects(head) => head.forward(ops, maps, image),
        }
    }
}

/// Logits `[…, K]` to answers in float32: `[…, K]`, or `[…, 1]` where only the first channel counts.
fn activate(ops: &OpsContext, logits: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Softmax => softmax(ops, logits),
        Activation::Sigmoid => sigmoid(ops, logits),
        Activation::Times255 => first_channel(logits)?.affine(255.0, 0.0),
        Activation::Identity => first_channel(logits),
    }
}

fn first_channel(logits: &Tensor) -> Result<Tensor> {
    logits.narrow(candle_core::D::Minus1, 0, 1)?.to_dtype(DType::F32)?.contiguous()
}

fn scores(probabilities: &Tensor) -> Result<Vec<HeadOutput>> {
    Ok(probabilities.to_vec2::<f32>()?.into_iter().map(HeadOutput::Scores).collect())
}
