//! ResNet (He et al. 2015), as torchvision's `resnet18 … resnet152` (stride in the 3x3 convolution of a bottleneck).
//!
//! Batch norms use their stored statistics and are folded into the convolutions at load. `[N, H, W, C] -> ` four maps at
//! 1/4, 1/8, 1/16 and 1/32. torchvision's classifier is left out.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::LoadError;
use super::loader::Loader;
use crate::ops::{Conv2d, ConvShape, LayerActivation, OpsContext, RowLayer, forward_rows, max_pool2d};

const STEM_CHANNELS: usize = 64;
/// Channels of the 3x3 convolutions in each stage.
const STAGE_CHANNELS: [usize; 4] = [64, 128, 256, 512];
/// Output channels of a bottleneck over those of its 3x3 convolution.
const BOTTLENECK_EXPANSION: usize = 4;

#[derive(Debug)]
pub(super) struct ResNet {
    stem: Conv2d,
    stages: Vec<Vec<ResidualBlock>>,
}

/// The convolutions of the residual branch, and that of the shortcut where the shape changes.
#[derive(Debug)]
struct ResidualBlock {
    /// All convolutions before the last one, to which the shortcut is added.
    branch: Vec<Conv2d>,
    last: Conv2d,
    shortcut: Option<Conv2d>,
}

impl ResNet {
    /// Loads torchvision's `conv1`, `bn1`, `layerN.M…`.
    pub(super) fn load(loader: &Loader<'_>, depth: usize, bands: usize) -> std::result::Result<Self, LoadError> {
        let (blocks, bottleneck) = match depth {
            18 => ([2, 2, 2, 2], false),
            34 => ([3, 4, 6, 3], false),
            50 => ([3, 4, 6, 3], true),
            101 => ([3, 4, 23, 3], true),
            152 => ([3, 8, 36, 3], true),
            _ => return Err(loader.specification(format!("ResNet-{depth} is not one of 18, 34, 50, 101, 152"))),
        };
        let stem = ConvShape { kernel: 7, stride: 2, padding: 3 };
        let stem = loader.conv2d_norm(("conv1", "bn1"), bands, STEM_CHANNELS, stem, LayerActivation::Relu)?;
        let mut inputs = STEM_CHANNELS;
        let mut stages = Vec::with_capacity(blocks.len());
        for (stage, (blocks, channels)) in blocks.into_iter().zip(STAGE_CHANNELS).enumerate() {
            let outputs = if bottleneck { BOTTLENECK_EXPANSION * channels } else { channels };
            let load = |block: usize| {
                let loader = loader.pp(format!("layer{}", stage + 1)).pp(block);
                let (inputs, stride) = if block > 0 { (outputs, 1) } else { (inputs, if stage > 0 { 2 } else { 1 }) };
                ResidualBlock::load(&loader, inputs, channels, stride, bottleneck)
            };
            stages.push(
                (0..blocks).into_par_iter().map(load).collect::<std::result::Result<Vec<ResidualBlock>, LoadError>>()?,
            );
            inputs = outputs;
        }
        Ok(Self { stem, stages })
    }

    /// `[N, H, W, bands] -> ` four maps `[N, h, w, C]`.
    pub(super) fn forward(&self, ops: &OpsContext, images: &Tensor) -> Result<Vec<Tensor>> {
        let mut x = max_pool2d(ops, &self.stem.forward(images)?)?;
        let mut maps = Vec::with_capacity(self.stages.len());
        // Each block also computes the first convolution of the next block, while its own result is in the cache.
        let mut begun = None;
        for (index, stage) in self.stages.iter().enumerate() {
            let after = self.stages.get(index + 1).and_then(|stage| stage.first());
            for (block, next) in stage.iter().zip(stage.iter().skip(1).map(Some).chain([after])) {
                (x, begun) = block.forward(x, begun, next)?;
            }
            maps.push(x.clone());
        }
        Ok(maps)
    }
}

impl ResidualBlock {
    fn load(
        loader: &Loader<'_>,
        inputs: usize,
        channels: usize,
        stride: usize,
        bottleneck: bool,
    ) -> std::result::Result<Self, LoadError> {
        let strided = ConvShape { stride, ..ConvShape::SAME_3X3 };
        let conv = |names, inputs, outputs, shape| loader.conv2d_norm(names, inputs, outputs, shape, LayerActivation::Relu);
        let (outputs, branch, last) = if bottleneck {
            let outputs = BOTTLENECK_EXPANSION * channels;
            let first = conv(("conv1", "bn1"), inputs, channels, ConvShape::POINTWISE)?;
            let second = conv(("conv2", "bn2"), channels, channels, strided)?;
            (outputs, vec![first, second], conv(("conv3", "bn3"), channels, outputs, ConvShape::POINTWISE)?)
        } else {
            let first = conv(("conv1", "bn1"), inputs, channels, strided)?;
            (channels, vec![first], conv(("conv2", "bn2"), channels, channels, ConvShape::SAME_3X3)?)
        };
        let shortcut = if stride != 1 || inputs != outputs {
            let shape = ConvShape { stride, ..ConvShape::POINTWISE };
            Some(loader.conv2d_norm(("downsample.0", "downsample.1"), inputs, outputs, shape, LayerActivation::None)?)
        } else {
            None
        };
        Ok(Self { branch, last, shortcut })
    }

    /// The block's result, and the output of the `next` block's first convolution if that is 1x1. `begun` is the latter from
    /// the previous block.
    fn forward(&self, x: Tensor, begun: Option<Tensor>, next: Option<&Self>) -> Result<(Tensor, Option<Tensor>)> {
        let first = usize::from(begun.is_some());
        let mut branch = begun.unwrap_or_else(|| x.clone());
        for conv in &self.branch[first..] {
            branch = conv.forward(&branch)?;
        }
        let residual = match &self.shortcut {
            Some(shortcut) => shortcut.forward(&x)?,
            None => x,
        };
        let Some(last) = self.last.as_linear() else { return Ok((self.last.forward_add(&branch, &residual)?, None)) };
        let begin = next.and_then(|next| next.branch.first()).and_then(Conv2d::as_linear);
        forward_rows(&branch, vec![RowLayer::LinearAdd(last, residual)], begin)
    }
}
