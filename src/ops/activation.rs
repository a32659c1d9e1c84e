//! What follows a layer: ReLU and GELU inside networks, softmax and sigmoid at their end.

use candle_core::{DType, Result, Tensor};

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
}

/// Softmax over the last dimension, in float32 whatever the type of `x`: probabilities are answers, not activations.
///
/// # Errors
/// Where the device fails.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::softmax_last_dim(&x.to_dtype(DType::F32)?.contiguous()?)
}

/// The logistic function, in float32 whatever the type of `x`.
///
/// # Errors
/// Where the device fails.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::sigmoid(&x.to_dtype(DType::F32)?.contiguous()?)
}
