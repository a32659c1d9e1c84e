//! `torch.nn.LayerNorm` over the last dimension, alone or as the end of a residual branch.

use candle_core::{Result, Tensor};

use super::OpsContext;

/// torchvision's Swin sets it for every norm.
const EPSILON: f32 = 1e-5;

/// `(x - mean) / sqrt(var + ε) · weight + bias`, mean and variance in float32.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// Prepares `weight [C]` and `bias [C]`.
    ///
    /// # Errors
    /// Where the device is out of memory.
    pub fn new(ops: &OpsContext, weight: &Tensor, bias: &Tensor) -> Result<Self> {
        Ok(Self { weight: ops.place(weight)?, bias: ops.place(bias)? })
    }

    /// `[…, C] -> […, C]`
    ///
    /// # Errors
    /// Where the last dimension is not `C`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, EPSILON)
    }

    /// `x + norm(branch)`: Swin v2 normalises what a branch adds, not what it reads.
    ///
    /// # Errors
    /// Where the shapes do not fit.
    pub fn forward_residual(&self, x: &Tensor, branch: &Tensor) -> Result<Tensor> {
        x + self.forward(branch)?
    }
}
