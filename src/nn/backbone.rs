//! The backbone of a model, on one or more captures of the same place.
//!
//! Every capture goes through the same network, and each map is the maximum over the captures, as in the public
//! `AggregationBackbone`. The Python package omits this for ResNets, but the trained configurations have it.

use candle_core::{Result, Tensor};

use super::LoadError;
use super::loader::Loader;
use super::resnet::ResNet;
use super::swin_v2::{SwinConfig, SwinV2};
use crate::ops::{OpsContext, max_over_captures};
use crate::zoo::{Backbone, Layout, ModelSpec};

#[derive(Debug)]
pub(super) enum BackboneNetwork {
    SwinV2(SwinV2),
    ResNet(ResNet),
}

impl BackboneNetwork {
    /// Loads the tensors under `backbone`.
    pub(super) fn load(loader: &Loader<'_>, spec: &ModelSpec) -> std::result::Result<Self, LoadError> {
        let bands = spec.bands.len();
        let root = loader.pp("backbone");
        match spec.backbone {
            Backbone::SwinV2 { patch_size, embed_dim, depths, num_heads, window_size } => {
                let aggregated = if spec.multi_image { root.pp("backbone") } else { root };
                let config = SwinConfig { patch_size, embed_dim, depths, num_heads, window_size };
                Ok(Self::SwinV2(SwinV2::load(&aggregated.pp("backbone"), config, bands)?))
            }
            Backbone::Resnet { depth } => {
                // In the package's layout, ResNets are never wrapped in an aggregation.
                let aggregated = spec.multi_image && spec.layout == Layout::Satlas;
                let root = if aggregated { root.pp("backbone") } else { root };
                Ok(Self::ResNet(ResNet::load(&root.pp("resnet"), depth, bands)?))
            }
        }
    }

    /// `[N·T, H, W, bands] -> ` four maps `[N, h, w, C]`.
    pub(super) fn forward(&self, ops: &OpsContext, images: &Tensor, captures: usize) -> Result<Vec<Tensor>> {
        let maps = match self {
            Self::SwinV2(network) => network.forward(images)?,
            Self::ResNet(network) => network.forward(ops, images)?,
        };
        maps.iter().map(|map| max_over_captures(ops, map, captures)).collect()
    }
}
