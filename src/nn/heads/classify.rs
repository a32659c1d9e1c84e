//! One score per category, from the mean of the coarsest map (the public `ClassifyHead`), or from the maximum of a convolved
//! finest map (`SimpleHead` for classification).

use candle_core::{Result, Tensor};

use super::{Crop, activate};
use crate::nn::LoadError;
use crate::nn::loader::Loader;
use crate::ops::{Conv2d, ConvShape, LayerActivation, Linear, OpsContext, max_over_space, mean_over_space};
use crate::zoo::Activation;

#[derive(Debug)]
pub(in crate::nn) struct MeanPooledHead {
    layer: Linear,
    activation: Activation,
}

impl MeanPooledHead {
    /// Loads `layer`.
    pub(super) fn load(
        loader: &Loader<'_>,
        channels: usize,
        outputs: usize,
        activation: Activation,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self { layer: loader.pp("layer").linear(channels, outputs, LayerActivation::None)?, activation })
    }

    /// `[N, h, w, C] -> [N, K]` over the given part of the image.
    pub(super) fn forward(&self, ops: &OpsContext, map: &Tensor, crop: Option<Crop>) -> Result<Tensor> {
        let mean = mean_over_space(&Crop::of(crop, map)?)?.to_dtype(map.dtype())?;
        activate(ops, &self.layer.forward(&mean)?, self.activation)
    }
}

#[derive(Debug)]
pub(in crate::nn) struct MaxPooledHead {
    hidden: Conv2d,
    extra: Linear,
    activation: Activation,
}

impl MaxPooledHead {
    /// Loads `layers.0.0` and `extra`.
    pub(super) fn load(
        loader: &Loader<'_>,
        channels: usize,
        outputs: usize,
        activation: Activation,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            hidden: loader.pp("layers.0.0").conv2d(channels, channels, ConvShape::SAME_3X3, LayerActivation::Relu)?,
            extra: loader.pp("extra").linear(channels, outputs, LayerActivation::None)?,
            activation,
        })
    }

    /// `[N, h, w, C] -> [N, K]` over the given part of the image; the convolution also sees the surroundings.
    pub(super) fn forward(&self, ops: &OpsContext, map: &Tensor, crop: Option<Crop>) -> Result<Tensor> {
        let max = max_over_space(&Crop::of(crop, &self.hidden.forward(map)?)?)?.to_dtype(map.dtype())?;
        activate(ops, &self.extra.forward(&max)?, self.activation)
    }
}
