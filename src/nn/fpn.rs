//! The feature pyramid (Lin et al. 2017), as torchvision's `FeaturePyramidNetwork` without extra levels.

use candle_core::{Result, Tensor};

use super::LoadError;
use super::loader::Loader;
use crate::ops::{Conv2d, ConvShape, LayerActivation, OpsContext, upsample_nearest_add};

#[derive(Debug)]
pub(super) struct Fpn {
    /// 1x1, one per map: to the pyramid's channels.
    inner: Vec<Conv2d>,
    /// 3x3, one per map: over the sum of a map and the enlarged coarser one.
    layer: Vec<Conv2d>,
}

impl Fpn {
    /// Loads torchvision's `inner_blocks.N.0` and `layer_blocks.N.0`.
    pub(super) fn load(loader: &Loader<'_>, inputs: &[usize], outputs: usize) -> std::result::Result<Self, LoadError> {
        let load = |blocks: &str, index: usize, inputs: usize, shape| {
            loader.pp(blocks).pp(index).pp(0).conv2d(inputs, outputs, shape, LayerActivation::None)
        };
        let inner = inputs.iter().enumerate().map(|(i, inputs)| load("inner_blocks", i, *inputs, ConvShape::POINTWISE));
        let layer = (0..inputs.len()).map(|i| load("layer_blocks", i, outputs, ConvShape::SAME_3X3));
        Ok(Self {
            inner: inner.collect::<std::result::Result<_, _>>()?,
            layer: layer.collect::<std::result::Result<_, _>>()?,
        })
    }

    /// Maps from fine to coarse -> maps of the same sizes with the pyramid's channels.
    pub(super) fn forward(&self, ops: &OpsContext, maps: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut outputs = Vec::with_capacity(maps.len());
        let mut coarser: Option<Tensor> = None;
        for ((map, inner), layer) in maps.iter().zip(&self.inner).zip(&self.layer).rev() {
            let lateral = inner.forward(map)?;
            let sum = match &coarser {
                Some(coarser) => upsample_nearest_add(ops, coarser, &lateral)?,
                None => lateral,
            };
            outputs.push(layer.forward(&sum)?);
            coarser = Some(sum);
        }
        outputs.reverse();
        Ok(outputs)
    }
}
