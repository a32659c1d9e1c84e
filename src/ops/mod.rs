//! The operators that networks are made of.
//!
//! Activations are channels-last: `[N, H, W, C]`, or `[…, C]` where space does not matter. An operator takes its weights
//! once, at load, as float32 tensors in PyTorch's layout, and prepares them for the device and the type that the
//! [`OpsContext`] names. Networks never ask where they run.

mod activation;
mod context;
mod conv2d;
mod conv_transpose2d;
mod flat;
mod kernel;
mod layer_norm;
mod linear;
mod pool;
mod resize;
mod roi_align;
mod rows;
mod window_attention;

pub use crate::kernels::LayerActivation;
pub use activation::{sigmoid, softmax};
pub use context::OpsContext;
pub use conv_transpose2d::{ConvTranspose2d, TransposeShape};
pub use conv2d::{Conv2d, ConvShape};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use pool::{max_over_captures, max_over_space, max_pool2d, mean_over_space};
pub use resize::{pad_to_multiple, upsample_nearest_add};
pub use roi_align::roi_align;
pub use rows::{RowLayer, forward_rows};
pub use window_attention::{WindowAttention, WindowAttentionWeights};
