//! Activations: ReLU and GELU inside networks, softmax and sigmoid at their end.

use candle_core::{DType, Result, Tensor};

use super::{OpsContext, kernel};
use crate::kernels::{self, LayerActivation};

pub(super) fn activate(x: Tensor, activation: LayerActivation) -> Result<Tensor> {
    match activation {
        LayerActivation::None => Ok(x),
        LayerActivation::Relu => x.relu(),
        // The exact form, as in torchvision's Swin: candle's `gelu()` is the tanh approximation.
        LayerActivation::Gelu => x.gelu_erf(),
    }
}

/// Softmax over the last dimension, in float32 whatever the type of `x`, because the result is an answer and not an
/// activation.
///
/// # Errors
/// If the device fails.
pub(crate) fn softmax(ops: &OpsContext, x: &Tensor) -> Result<Tensor> {
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
/// If the device fails.
pub(crate) fn sigmoid(ops: &OpsContext, x: &Tensor) -> Result<Tensor> {
    let x = x.to_dtype(DType::F32)?.contiguous()?;
    if ops.kernels().is_some() {
        return kernel::map("sigmoid", &x, x.shape(), kernels::sigmoid);
    }
    candle_nn::ops::sigmoid(&x)
}
