//! What follows a layer: ReLU and GELU inside networks, softmax and sigmoid at their end.

use candle_core::{DType, Result, Tensor};

use super::{OpsContext, kernel};
use crate::kernels;

/// The function applied to a layer's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The output as it is.
    None,
    /// `max(x, 0)`
    Relu,
    /// The exact GELU, `x Φ(x)`, which torchvision's Swin uses; candle's `gelu()` is the tanh approximation.
    Gelu,
}

impl Activation {
    pub(super) fn apply(self, x: Tensor) -> Result<Tensor> {
        match self {
            Self::None => Ok(x),
            Self::Relu => x.relu(),
            Self::Gelu => x.gelu_erf(),
        }
    }

    /// The kernels' word for it.
    pub(super) fn fused(self) -> kernels::Activation {
        match self {
            Self::None => kernels::Activation::None,
            Self::Relu => kernels::Activation::Relu,
            Self::Gelu => kernels::Activation::Gelu,
        }
    }
}

/// Softmax over the last dimension, in float32 whatever the type of `x`: probabilities are answers, not activations.
///
/// # Errors
/// Where the device fails.
pub fn softmax(ops: &OpsContext, x: &Tensor) -> Result<Tensor> {
    let x = x.to_dtype(DType::F32)?.contiguous()?;
    match x.dims().last() {
        Some(&width) if ops.kernels().is_some() && width > 0 => {
            kernel::map("softmax", &x, x.shape(), |x| kernels::softmax(x, width))
        }
        _ => candle_nn::ops::softmax_last_dim(&x),
    }
}

/// The logistic function, in float32 whatever the type of `x`.
///
/// # Errors
/// Where the device fails.
pub fn sigmoid(ops: &OpsContext, x: &Tensor) -> Result<Tensor> {
    let x = x.to_dtype(DType::F32)?.contiguous()?;
    if ops.kernels().is_some() {
        return kernel::map("sigmoid", &x, x.shape(), kernels::sigmoid);
    }
    candle_nn::ops::sigmoid(&x)
}
