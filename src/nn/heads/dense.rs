//! Values per pixel: two 3x3 convolutions over the finest map (the public `SimpleHead`).

use candle_core::{Result, Tensor};

use super::{HeadOutput, activate};
use crate::nn::LoadError;
use crate::nn::loader::Loader;
use crate::ops::{Conv2d, ConvShape, LayerActivation, OpsContext};
use crate::prediction::Dense;
use crate::zoo::Activation;

#[derive(Debug)]
pub(in crate::nn) struct DenseHead {
    hidden: Conv2d,
    out: Conv2d,
    activation: Activation,
}

impl DenseHead {
    /// Loads `layers.0.0` and `layers.1`.
    pub(in crate::nn) fn load(
        loader: &Loader<'_>,
        channels: usize,
        outputs: usize,
        activation: Activation,
    ) -> std::result::Result<Self, LoadError> {
        let layers = loader.pp("layers");
        Ok(Self {
            hidden: layers.pp("0.0").conv2d(channels, channels, ConvShape::SAME_3X3, LayerActivation::Relu)?,
            out: layers.pp(1).conv2d(channels, outputs, ConvShape::SAME_3X3, LayerActivation::None)?,
            activation,
        })
    }

    /// `[N, H, W, C] -> [N, H, W, K]`, in float32. Each value depends on pixels up to two away.
    pub(in crate::nn) fn values(&self, ops: &OpsContext, map: &Tensor) -> Result<Tensor> {
        activate(ops, &self.out.forward(&self.hidden.forward(map)?)?, self.activation)
    }

    /// `[N, H, W, C] -> ` one output per item.
    pub(super) fn forward(&self, ops: &OpsContext, map: &Tensor) -> Result<Vec<HeadOutput>> {
        outputs(&self.values(ops, map)?)
    }
}

/// `[N, H, W, K]` in float32 -> one output per item.
pub(super) fn outputs(values: &Tensor) -> Result<Vec<HeadOutput>> {
    let (items, height, width, channels) = values.dims4()?;
    let item = |item| {
        let values = values.get(item)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(HeadOutput::Dense(Dense { width, height, channels, values, valid: None }))
    };
    (0..items).map(item).collect()
}
