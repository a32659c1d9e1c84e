//! One linear layer over the channels of one or more maps, at every pixel or over the mean of an image: the heads that are fitted to
//! labels.
//!
//! For pixels the layer runs on the cells of each map, and its results are interpolated to the image's pixels. That is the same as running it
//! on interpolated channels, which is how the features of labels are taken, and costs less.

use candle_core::{DType, Result, Tensor};

use super::dense::outputs;
use super::{HeadOutput, MapSpec, activate};
use crate::nn::LoadError;
use crate::nn::detect::ImageSize;
use crate::nn::features::Part;
use crate::nn::loader::Loader;
use crate::ops::{LayerActivation, Linear, OpsContext, enlarge_bilinear, mean_over_space};
use crate::zoo::Activation;

/// A linear layer over the joined channels of several maps.
#[derive(Debug)]
pub(super) struct JoinedLinear {
    /// The part of the layer that reads each map, and the map's stride in pixels. The first part has the bias.
    parts: Vec<(Linear, usize)>,
}

impl JoinedLinear {
    /// Loads `weight [K, C]` and `bias [K]`, where C counts the channels of all `inputs` in order.
    pub(super) fn load(loader: &Loader<'_>, inputs: &[MapSpec], outputs: usize) -> std::result::Result<Self, LoadError> {
        let channels = inputs.iter().map(|input| input.channels).sum();
        let (weight, bias) = (loader.tensor("weight", &[outputs, channels])?, loader.tensor("bias", &[outputs])?);
        let none = loader.rearrange(|| bias.zeros_like())?;
        let (mut parts, mut first) = (Vec::with_capacity(inputs.len()), 0);
        for input in inputs {
            let part = loader.rearrange(|| weight.narrow(1, first, input.channels)?.contiguous())?;
            let bias = if first == 0 { &bias } else { &none };
            parts.push((loader.linear_from(&part, bias, LayerActivation::None)?, input.stride_px));
            first += input.channels;
        }
        Ok(Self { parts })
    }

    /// What the layer makes of the means of maps `[N, h, w, C]` over the given part of the images, in float32: `[N, K]`.
    pub(super) fn pooled(&self, maps: &[Tensor], part: Option<Part>) -> Result<Tensor> {
        let parts = self.parts.iter().zip(maps).map(|((layer, stride), map)| {
            let map = part.map_or_else(|| Ok(map.clone()), |part| part.of(map, *stride))?;
            layer.forward(&mean_over_space(&map)?.to_dtype(map.dtype())?)?.to_dtype(DType::F32)
        });
        sum(parts)
    }

    /// The part of the layer for each of the maps, with that map and its stride in pixels. What they make of the cells, interpolated, is
    /// to be added.
    pub(super) fn parts<'a>(&'a self, maps: &'a [Tensor]) -> impl Iterator<Item = (&'a Linear, &'a Tensor, usize)> {
        self.parts.iter().zip(maps).map(|((layer, stride_px), map)| (layer, map, *stride_px))
    }
}

/// The layer and what follows it.
#[derive(Debug)]
pub(in crate::nn) struct LinearHead {
    layer: JoinedLinear,
    activation: Activation,
}

impl LinearHead {
    pub(super) fn load(
        loader: &Loader<'_>,
        inputs: &[MapSpec],
        outputs: usize,
        activation: Activation,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self { layer: JoinedLinear::load(loader, inputs, outputs)?, activation })
    }

    /// Maps `[N, h, w, C]` -> `[N, K]` from their means over the given part of the images.
    pub(super) fn pooled(&self, ops: &OpsContext, maps: &[Tensor], part: Option<Part>) -> Result<Tensor> {
        activate(ops, &self.layer.pooled(maps, part)?, self.activation)
    }

    /// Maps `[N, h, w, C]` of images of one size -> one output of that size per item.
    pub(super) fn forward(&self, ops: &OpsContext, maps: &[Tensor], image: ImageSize) -> Result<Vec<HeadOutput>> {
        let parts = self.layer.parts(maps).map(|(layer, map, stride_px)| {
            let values = layer.forward(map)?.to_dtype(DType::F32)?;
            enlarge_bilinear(&values, stride_px, (image.height, image.width))
        });
        outputs(&activate(ops, &sum(parts)?, self.activation)?)
    }
}

fn sum(mut parts: impl Iterator<Item = Result<Tensor>>) -> Result<Tensor> {
    let Some(first) = parts.next() else { candle_core::bail!("a linear layer was given no feature map") };
    parts.try_fold(first?, |sum, part| sum + part?)
}
