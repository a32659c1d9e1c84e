//! The decoder from the finest map to full resolution: 3x3 convolution, ReLU, 4x4 stride-2 transposed convolution, ReLU, as
//! often as the map must double (the public `Upsample`).

use candle_core::{Result, Tensor};

use super::LoadError;
use super::loader::Loader;
use crate::ops::{Activation, Conv2d, ConvShape, ConvTranspose2d, TransposeShape};

#[derive(Debug)]
pub(super) struct Upsample {
    layers: Vec<(Conv2d, ConvTranspose2d)>,
    /// Of the map it returns.
    channels: usize,
}

impl Upsample {
    /// From `layers.N.0` and `layers.N.2`; `stride` is how many pixels of the image one of the map stands for.
    pub(super) fn load(
        loader: &Loader<'_>,
        stride: usize,
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, LoadError> {
        let mut layers = Vec::new();
        let mut channels = inputs;
        for layer in 0..stride.ilog2() {
            let next = (channels / 2).max(outputs);
            let loader = loader.pp("layers").pp(layer);
            let conv = loader.pp(0).conv2d(channels, channels, ConvShape::SAME_3X3, Activation::Relu)?;
            let double = loader.pp(2).conv_transpose2d(channels, next, TransposeShape::Overlapping4, Activation::Relu)?;
            layers.push((conv, double));
            channels = next;
        }
        Ok(Self { layers, channels })
    }

    /// Channels of the map it returns.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// `[N, h, w, in] -> [N, stride·h, stride·w, out]`
    pub(super) fn forward(&self, map: &Tensor) -> Result<Tensor> {
        let mut x = map.clone();
        for (conv, double) in &self.layers {
            x = double.forward(&conv.forward(&x)?)?;
        }
        Ok(x)
    }
}
