//! The operators that networks are made of.
//!
//! Activations are channels-last: `[N, H, W, C]`, or `[…, C]` where spatial dimensions do not matter. An operator takes its
//! weights once, at load, as float32 tensors in PyTorch's layout, and prepares them for the device and type in
//! [`OpsContext`]. Networks do not need to know where they run.

mod activation;
mod context;
mod conv2d;
mod conv_transpose2d;
mod flat;
#[cfg_attr(not(any(feature = "cuda", test)), expect(dead_code, reason = "this build has no kernels for a GPU"))]
mod fused;
mod kernel;
mod layer_norm;
mod linear;
mod nearest;
mod pool;
mod resize;
mod roi_align;
mod rows;
mod window_attention;

pub(crate) use crate::kernels::LayerActivation;
pub(crate) use activation::{sigmoid, softmax};
pub use context::OpsContext;
pub(crate) use conv_transpose2d::{ConvTranspose2d, TransposeShape};
pub(crate) use conv2d::{Conv2d, ConvShape};
#[cfg(test)]
pub(crate) use fused::kernels_can_be_emulated;
pub(crate) use layer_norm::LayerNorm;
pub(crate) use linear::Linear;
pub(crate) use nearest::{Neighbours, SimilarityMap};
pub(crate) use pool::{max_over_captures, max_over_space, max_pool2d, mean_over_space};
pub(crate) use resize::{bilinear_cell, enlarge_bilinear, pad_to_multiple, upsample_nearest_add};
pub(crate) use roi_align::roi_align;
pub(crate) use rows::{RowLayer, forward_rows};
pub(crate) use window_attention::{WindowAttention, WindowAttentionWeights};
