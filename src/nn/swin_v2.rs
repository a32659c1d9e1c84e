//! Swin Transformer v2 (Liu et al. 2022), as torchvision's `SwinTransformer` with `SwinTransformerBlockV2` and
//! `PatchMergingV2`.
//!
//! `[N, H, W, C] -> ` four maps at 1/4, 1/8, 1/16 and 1/32 of the image (for patches of 4 pixels); each stage doubles the
//! channels. torchvision's final norm and classifier are left out.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::LoadError;
use super::loader::Loader;
use crate::ops::{
    Conv2d, ConvShape, LayerActivation, LayerNorm, Linear, RowLayer, WindowAttention, forward_rows, pad_to_multiple,
};

/// Width of a block's hidden layer over the channels of its map.
const MLP_RATIO: usize = 4;

/// The sizes of a Swin v2.
#[derive(Clone, Copy, Debug)]
pub(super) struct SwinConfig {
    pub(super) patch_size: usize,
    pub(super) embed_dim: usize,
    pub(super) depths: [usize; 4],
    pub(super) num_heads: [usize; 4],
    pub(super) window_size: usize,
}

#[derive(Debug)]
pub(super) struct SwinV2 {
    embed: Conv2d,
    embed_norm: LayerNorm,
    stages: Vec<Stage>,
}

#[derive(Debug)]
struct Stage {
    /// Halves the map before the blocks, in all stages but the first.
    merge: Option<PatchMerging>,
    blocks: Vec<SwinBlock>,
}

impl SwinV2 {
    /// Loads torchvision's `features.N…`.
    pub(super) fn load(loader: &Loader<'_>, config: SwinConfig, bands: usize) -> std::result::Result<Self, LoadError> {
        let SwinConfig { patch_size, embed_dim, depths, num_heads, window_size } = config;
        if !patch_size.is_power_of_two() || embed_dim == 0 || window_size < 2 {
            return Err(loader.specification(format!(
                "{config:?} is no Swin v2: patches have a side that is a power of two, windows at least 2 tokens"
            )));
        }
        let features = loader.pp("features");
        let embed = features.pp("0.0").conv2d(bands, embed_dim, ConvShape::patches(patch_size), LayerActivation::None)?;
        let embed_norm = features.pp("0.2").layer_norm(embed_dim)?;
        let mut stages = Vec::with_capacity(depths.len());
        for (stage, (depth, heads)) in depths.into_iter().zip(num_heads).enumerate() {
            let channels = embed_dim << stage;
            let merge = match stage {
                0 => None,
                _ => Some(PatchMerging::load(&features.pp(2 * stage), channels / 2)?),
            };
            let blocks = (0..depth)
                .into_par_iter()
                .map(|block| {
                    let shift = if block % 2 == 0 { 0 } else { window_size / 2 };
                    SwinBlock::load(&features.pp(2 * stage + 1).pp(block), channels, heads, window_size, shift)
                })
                .collect::<std::result::Result<_, LoadError>>()?;
            stages.push(Stage { merge, blocks });
        }
        Ok(Self { embed, embed_norm, stages })
    }

    /// `[N, H, W, bands] -> ` four maps `[N, h, w, C]`.
    pub(super) fn forward(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let mut x = self.embed_norm.forward(&self.embed.forward(images)?)?;
        let mut maps = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            if let Some(merge) = &stage.merge {
                x = merge.forward(&x)?;
            }
            // Each block also computes the queries, keys and values of the next block, while its own result is in the cache.
            let mut read = None;
            for (index, block) in stage.blocks.iter().enumerate() {
                (x, read) = block.forward(x, read, stage.blocks.get(index + 1))?;
            }
            maps.push(x.clone());
        }
        Ok(maps)
    }
}

/// Attention, then two linear layers; each branch is normalised at its end ("res-post-norm").
#[derive(Debug)]
struct SwinBlock {
    attention: WindowAttention,
    norm1: LayerNorm,
    expand: Linear,
    contract: Linear,
    norm2: LayerNorm,
}

impl SwinBlock {
    fn load(
        loader: &Loader<'_>,
        channels: usize,
        heads: usize,
        window: usize,
        shift: usize,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            attention: loader.pp("attn").window_attention(channels, heads, window, shift)?,
            norm1: loader.pp("norm1").layer_norm(channels)?,
            expand: loader.pp("mlp.0").linear(channels, MLP_RATIO * channels, LayerActivation::Gelu)?,
            contract: loader.pp("mlp.3").linear(MLP_RATIO * channels, channels, LayerActivation::None)?,
            norm2: loader.pp("norm2").layer_norm(channels)?,
        })
    }

    /// The block's result, and the queries, keys and values of the `next` block's attention. `read` is the latter from the
    /// previous block.
    fn forward(&self, x: Tensor, read: Option<Tensor>, next: Option<&Self>) -> Result<(Tensor, Option<Tensor>)> {
        let gathered = self.attention.gather(&x, read)?;
        let layers = vec![
            RowLayer::Linear(self.attention.projection()),
            RowLayer::AddNorm(&self.norm1, Some(x)),
            RowLayer::Linear(&self.expand),
            RowLayer::Linear(&self.contract),
            RowLayer::AddNorm(&self.norm2, None),
        ];
        forward_rows(&gathered, layers, next.and_then(|next| next.attention.reader()))
    }
}

/// Merges four neighbours into one pixel with twice the channels; the norm follows the product, unlike in Swin v1.
#[derive(Debug)]
struct PatchMerging {
    reduction: Conv2d,
    norm: LayerNorm,
}

impl PatchMerging {
    fn load(loader: &Loader<'_>, channels: usize) -> std::result::Result<Self, LoadError> {
        let weight = loader.tensor("reduction.weight", &[2 * channels, 4 * channels])?;
        // torchvision joins the neighbours column by column: [out, (col, row, in)] -> [out, in, row, col], the weight of a
        // convolution
        let weight =
            loader.rearrange(|| weight.reshape((2 * channels, 2, 2, channels))?.permute((0, 3, 2, 1))?.contiguous())?;
        Ok(Self {
            reduction: loader.conv2d_from(&weight, None, ConvShape::patches(2), LayerActivation::None)?,
            norm: loader.pp("norm").layer_norm(2 * channels)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.reduction.forward(&pad_to_multiple(x, 2)?)?)
    }
}
