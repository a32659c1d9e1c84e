//! `torch.nn.LayerNorm` over the last dimension, alone or as the end of a residual branch.

use candle_core::{Result, Tensor};

use super::fused::{self, Subject};
use super::{OpsContext, kernel};
use crate::kernels;

/// torchvision's Swin uses this value for every norm.
const EPSILON: f32 = 1e-5;

/// `(x - mean) / sqrt(var + ε) · weight + bias`, mean and variance in float32.
#[derive(Debug)]
pub(crate) struct LayerNorm(LayerNormForm);

#[derive(Debug)]
enum LayerNormForm {
    Plain {
        weight: Tensor,
        bias: Tensor,
    },
    /// As `Plain`, in one kernel with what stands before and after it.
    Fused {
        weight: Tensor,
        bias: Tensor,
    },
    Kernel {
        weight: Vec<f32>,
        bias: Vec<f32>,
    },
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
        match ops.kernels() {
            Some(_) => Ok(Self(LayerNormForm::Kernel { weight: kernel::values(weight)?, bias: kernel::values(bias)? })),
            None => Self::plain_or_fused(ops, ops.place(weight)?, ops.place(bias)?),
        }
    }

    fn plain_or_fused(ops: &OpsContext, weight: Tensor, bias: Tensor) -> Result<Self> {
        let width = weight.elem_count();
        let plain = Self(LayerNormForm::Plain { weight: weight.clone(), bias: bias.clone() });
        let Some(fused) = ops.fused().filter(|_| fused::norm_fits(width, ops.dtype())) else { return Ok(plain) };
        let sample = fused::sample(&[2, 7, width], ops.device(), ops.dtype())?;
        let (residual, branch) = (sample.narrow(0, 0, 1)?, sample.narrow(0, 1, 1)?);
        // Alone, and at the end of a branch.
        let run =
            |norm: &Self| Tensor::cat(&[norm.forward(&branch)?, norm.forward_branch(&residual, &branch, Some(&bias))?], 0);
        let layer = Self(LayerNormForm::Fused { weight, bias: bias.clone() });
        fused.choose(Subject { operator: "layer norm", sizes: vec![width] }, plain, layer, run)
    }

    /// Bytes of the prepared weights.
    pub(crate) fn bytes(&self) -> usize {
        match &self.0 {
            LayerNormForm::Plain { weight, bias } | LayerNormForm::Fused { weight, bias } => {
                OpsContext::bytes([weight, bias])
            }
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
            LayerNormForm::Fused { weight, bias } => fused::residual_norm(x, None, None, (weight, bias), EPSILON),
            LayerNormForm::Kernel { weight, bias } => {
                self.fits(x.dims())?;
                kernel::map("layer_norm", x, x.shape(), |x| kernels::layer_norm(x, None, weight, bias, EPSILON))
            }
        }
    }

    /// `x + norm(branch + branch_bias)`: Swin v2 normalises a branch's output instead of its input. `branch_bias [C]` is what the
    /// branch's last layer has left to be added, if anything.
    ///
    /// # Errors
    /// If the shapes do not match.
    pub(crate) fn forward_branch(&self, x: &Tensor, branch: &Tensor, branch_bias: Option<&Tensor>) -> Result<Tensor> {
        if let LayerNormForm::Fused { weight, bias } = &self.0 {
            return fused::residual_norm(branch, branch_bias, Some(x), (weight, bias), EPSILON);
        }
        let branch = &branch_bias.map_or_else(|| Ok(branch.clone()), |bias| branch.broadcast_add(bias))?;
        match &self.0 {
            LayerNormForm::Plain { .. } | LayerNormForm::Fused { .. } => x + self.forward(branch)?,
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

    /// Whether [`LayerNorm::forward_branch`] adds a branch's bias at no cost.
    pub(super) fn takes_bias(&self) -> bool {
        matches!(self.0, LayerNormForm::Fused { .. })
    }

    /// Weight, bias and epsilon, if the layer runs as a kernel.
    pub(super) fn kernel(&self) -> Option<(&[f32], &[f32], f32)> {
        match &self.0 {
            LayerNormForm::Plain { .. } | LayerNormForm::Fused { .. } => None,
            LayerNormForm::Kernel { weight, bias } => Some((weight, bias, EPSILON)),
        }
    }

    pub(super) fn fits(&self, shape: &[usize]) -> Result<()> {
        let width = match &self.0 {
            LayerNormForm::Plain { weight, .. } | LayerNormForm::Fused { weight, .. } => weight.elem_count(),
            LayerNormForm::Kernel { weight, .. } => weight.len(),
        };
        match shape.last() {
            Some(last) if *last == width => Ok(()),
            _ => candle_core::bail!("a layer norm over {width} values was given {shape:?}"),
        }
    }
}
