//! `torch.nn.LayerNorm` over the last dimension, alone or as the end of a residual branch.

use candle_core::{Result, Tensor};

use super::{OpsContext, kernel};
use crate::kernels;

/// torchvision's Swin uses this value for every norm.
const EPSILON: f32 = 1e-5;

/// `(x - mean) / sqrt(var + ε) · weight + bias`, mean and variance in float32.
#[derive(Debug)]
pub(crate) struct LayerNorm(LayerNormForm);

#[derive(Debug)]
enum LayerNormForm {
    Plain { weight: Tensor, bias: Tensor },
    Kernel { weight: Vec<f32>, bias: Vec<f32> },
}

impl LayerNorm {
    /// Prepares `weight [C]` and `bias [C]`.
    ///
    /// # Errors
    /// If the shapes do not match or the device is out of memory.
    pub(crate) fn new(ops: &OpsContext, weight: &Tensor, bias: &Tensor) -> Result<Self> {
        if weight.elem_count() == 0 || weight.dims() != bias.dims() {
            candle_core::bail!("a layer norm cannot have {:?} weights and {:?} biases", weight.dims(), bias.dims());
        }
        Ok(Self(match ops.kernels() {
            Some(_) => LayerNormForm::Kernel { weight: kernel::values(weight)?, bias: kernel::values(bias)? },
            None => LayerNormForm::Plain { weight: ops.place(weight)?, bias: ops.place(bias)? },
        }))
    }

    /// Bytes of the prepared weights.
    pub(crate) fn bytes(&self) -> usize {
        match &self.0 {
            LayerNormForm::Plain { weight, bias } => OpsContext::bytes([weight, bias]),
            LayerNormForm::Kernel { weight, bias } => size_of_val(&weight[..]) + size_of_val(&bias[..]),
        }
    }

    /// `[…, C] -> […, C]`
    ///
    /// # Errors
    /// If the last dimension is not `C`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.0 {
            LayerNormForm::Plain { weight, bias } => candle_nn::ops::layer_norm(&x.contiguous()?, weight, bias, EPSILON),
            LayerNormForm::Kernel { weight, bias } => {
                self.fits(x.dims())?;
                kernel::map("layer_norm", x, x.shape(), |x| kernels::layer_norm(x, None, weight, bias, EPSILON))
            }
        }
    }

    /// `x + norm(branch)`: Swin v2 normalises a branch's output instead of its input.
    ///
    /// # Errors
    /// If the shapes do not match.
    pub(crate) fn forward_residual(&self, x: &Tensor, branch: &Tensor) -> Result<Tensor> {
        match &self.0 {
            LayerNormForm::Plain { .. } => x + self.forward(branch)?,
            LayerNormForm::Kernel { weight, bias } => {
                self.fits(branch.dims())?;
                if x.dims() != branch.dims() {
                    candle_core::bail!("{:?} cannot be added to {:?}", branch.dims(), x.dims());
                }
                kernel::map2("layer_norm", x, branch, x.shape(), |x, branch| {
                    kernels::layer_norm(branch, Some(x), weight, bias, EPSILON)
                })
            }
        }
    }

    /// Weight, bias and epsilon, if the layer runs as a kernel.
    pub(super) fn kernel(&self) -> Option<(&[f32], &[f32], f32)> {
        match &self.0 {
            LayerNormForm::Plain { .. } => None,
            LayerNormForm::Kernel { weight, bias } => Some((weight, bias, EPSILON)),
        }
    }

    pub(super) fn fits(&self, shape: &[usize]) -> Result<()> {
        let width = match &self.0 {
            LayerNormForm::Plain { weight, .. } => weight.elem_count(),
            LayerNormForm::Kernel { weight, .. } => weight.len(),
        };
        match shape.last() {
            Some(last) if *last == width => Ok(()),
            _ => candle_core::bail!("a layer norm over {width} values was given {shape:?}"),
        }
    }
}
