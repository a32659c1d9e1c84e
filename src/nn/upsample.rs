//! The decoder from the finest map to full resolution (the public `Upsample`): 3x3 convolution, ReLU, 4x4 stride-2
//! transposed convolution and ReLU, repeated until the map has the size of the image.

use candle_core::{Result, Tensor};

use super::LoadError;
use super::loader::Loader;
use crate::ops::{Conv2d, ConvShape, ConvTranspose2d, LayerActivation, TransposeShape};

#[derive(Debug)]
pub(super) struct Upsample {
    layers: Vec<(Conv2d, ConvTranspose2d)>,
    /// Channels of the map it returns.
    channels: usize,
}

impl Upsample {
    /// Loads `layers.N.0` and `layers.N.2`; `stride` is the number of image pixels per pixel of the finest map.
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
            let conv = loader.pp(0).conv2d(channels, channels, ConvShape::SAME_3X3, LayerActivation::Relu)?;
            let double =
                loader.pp(2).conv_transpose2d(channels, next, TransposeShape::Overlapping4, LayerActivation::Relu)?;
            layers.push((conv, double));
            channels = next;
        }
        Ok(Self { layers, channels })
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// `[N, h, w, in] -> [N, stride·h, stride·w, out]`
    pub(super) fn forward(&self, map: &Tensor) -> Result<Tensor> {
        self.last(&self.all_but_last(map)?)
    }

    /// Everything before the last doubling, which makes the largest map: `[N, h, w, in] -> [N, stride·h/2, stride·w/2, C]`.
    pub(super) fn all_but_last(&self, map: &Tensor) -> Result<Tensor> {
        let mut x = map.clone();
        for (layer, (conv, double)) in self.layers.iter().enumerate() {
            x = conv.forward(&x)?;
            if layer + 1 < self.layers.len() {
                x = double.forward(&x)?;
            }
        }
        Ok(x)
    }

    /// The last doubling of what [`Upsample::all_but_last`] returns: `[N, H/2, W/2, C] -> [N, H, W, out]`.
    pub(super) fn last(&self, map: &Tensor) -> Result<Tensor> {
        self.layers.last().map_or_else(|| Ok(map.clone()), |(_, double)| double.forward(map))
    }

    /// The factor by which [`Upsample::last`] enlarges a map: 2, or 1 if the finest map is at full resolution already.
    pub(super) fn last_scale(&self) -> usize {
        if self.layers.is_empty() { 1 } else { 2 }
    }
}
