//! Makes operators from named tensors. A [`Loader`] stands at one prefix of the checkpoint's names.
//!
//! Names repeat the checkpoint's exactly, and every tensor that is read is recorded. Layers may be loaded on several
//! threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};

use super::LoadError;
use crate::ops::{
    Conv2d, ConvShape, ConvTranspose2d, LayerActivation, LayerNorm, Linear, OpsContext, TransposeShape, WindowAttention,
    WindowAttentionWeights,
};
use crate::sync::IgnorePoison;
use crate::weights::Weights;

/// Epsilon of torchvision's `BatchNorm2d`.
const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Hidden width of the position bias network in torchvision's `ShiftedWindowAttentionV2`.
const POSITION_HIDDEN: usize = 512;

/// Names and shapes of tensors.
pub(super) type Parameters = Vec<(String, Vec<usize>)>;

/// A record of the tensors read and the bytes prepared so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    parameters: Mutex<Parameters>,
    prepared_bytes: AtomicUsize,
}

impl Tally {
    /// Names and shapes of the tensors read, in alphabetical order.
    pub(super) fn parameters(&self) -> Parameters {
        let mut parameters = self.parameters.lock().ignore_poison().clone();
        parameters.sort();
        parameters
    }

    /// Bytes of the prepared forms.
    pub(super) fn prepared_bytes(&self) -> usize {
        self.prepared_bytes.load(Ordering::Relaxed)
    }
}

/// A prefix in the names of a checkpoint.
#[derive(Clone)]
pub(super) struct Loader<'a> {
    weights: &'a Weights,
    ops: &'a OpsContext,
    tally: &'a Tally,
    model: &'a str,
    prefix: String,
}

impl<'a> Loader<'a> {
    pub(super) fn new(weights: &'a Weights, ops: &'a OpsContext, tally: &'a Tally, model: &'a str) -> Self {
        Self { weights, ops, tally, model, prefix: String::new() }
    }

    /// A loader one level deeper in the names.
    pub(super) fn pp(&self, name: impl std::fmt::Display) -> Self {
        let prefix = if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) };
        Self { prefix, ..self.clone() }
    }

    /// The error for a specification that cannot be built.
    pub(super) fn specification(&self, reason: String) -> LoadError {
        LoadError::Specification { model: self.model.to_owned(), reason }
    }

    fn device_error(&self, source: candle_core::Error) -> LoadError {
        LoadError::Device { model: self.model.to_owned(), source }
    }

    /// Adds an operator's bytes to the tally.
    fn counted<T>(&self, prepared: candle_core::Result<T>, bytes: impl FnOnce(&T) -> usize) -> Result<T, LoadError> {
        let operator = prepared.map_err(|source| self.device_error(source))?;
        self.tally.prepared_bytes.fetch_add(bytes(&operator), Ordering::Relaxed);
        Ok(operator)
    }

    /// A tensor as float32 in PyTorch's layout, in main memory.
    pub(super) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let name = if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) };
        let tensor = self.weights.get(&name, shape, &Device::Cpu)?;
        self.tally.parameters.lock().ignore_poison().push((name, shape.to_vec()));
        tensor.to_dtype(DType::F32).map_err(|source| self.device_error(source))
    }

    /// The values of a tensor that no operator prepares.
    pub(super) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let values = self.tensor(name, shape)?.flatten_all().and_then(|values| values.to_vec1::<f32>());
        self.counted(values, |values| size_of_val(values.as_slice()))
    }

    pub(super) fn linear(&self, inputs: usize, outputs: usize, activation: LayerActivation) -> Result<Linear, LoadError> {
        let (weight, bias) = (self.tensor("weight", &[outputs, inputs])?, self.tensor("bias", &[outputs])?);
        self.linear_from(&weight, &bias, activation)
    }

    /// A linear layer from tensors that were rearranged after reading.
    pub(super) fn linear_from(
        &self,
        weight: &Tensor,
        bias: &Tensor,
        activation: LayerActivation,
    ) -> Result<Linear, LoadError> {
        self.counted(Linear::new(self.ops, weight, Some(bias), activation), Linear::bytes)
    }

    pub(super) fn layer_norm(&self, channels: usize) -> Result<LayerNorm, LoadError> {
        let (weight, bias) = (self.tensor("weight", &[channels])?, self.tensor("bias", &[channels])?);
        self.counted(LayerNorm::new(self.ops, &weight, &bias), LayerNorm::bytes)
    }

    pub(super) fn conv2d(
        &self,
        inputs: usize,
        outputs: usize,
        shape: ConvShape,
        activation: LayerActivation,
    ) -> Result<Conv2d, LoadError> {
        let weight = self.tensor("weight", &[outputs, inputs, shape.kernel, shape.kernel])?;
        let bias = self.tensor("bias", &[outputs])?;
        self.conv2d_from(&weight, Some(&bias), shape, activation)
    }

    /// A convolution from tensors that were rearranged after reading.
    pub(super) fn conv2d_from(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        shape: ConvShape,
        activation: LayerActivation,
    ) -> Result<Conv2d, LoadError> {
        self.counted(Conv2d::new(self.ops, weight, bias, shape, activation), Conv2d::bytes)
    }

    /// The convolution `conv` without bias and the batch norm `norm` after it, folded into one convolution.
    pub(super) fn conv2d_norm(
        &self,
        (conv, norm): (&str, &str),
        inputs: usize,
        outputs: usize,
        shape: ConvShape,
        activation: LayerActivation,
    ) -> Result<Conv2d, LoadError> {
        let weight = self.pp(conv).tensor("weight", &[outputs, inputs, shape.kernel, shape.kernel])?;
        let norm = self.pp(norm);
        let [gain, offset, mean, var] = ["weight", "bias", "running_mean", "running_var"];
        let (gain, offset) = (norm.tensor(gain, &[outputs])?, norm.tensor(offset, &[outputs])?);
        let (mean, var) = (norm.tensor(mean, &[outputs])?, norm.tensor(var, &[outputs])?);
        // gain (conv(x) - mean) / sqrt(var + ε) + offset = conv(x) · factor + (offset - mean · factor)
        let fold = || -> candle_core::Result<(Tensor, Tensor)> {
            let [gain, offset, mean, var] = [gain, offset, mean, var].map(|tensor| tensor.to_dtype(DType::F64));
            let factor = (gain? / (var? + BATCH_NORM_EPSILON)?.sqrt()?)?;
            let bias = (offset? - (mean? * &factor)?)?.to_dtype(DType::F32)?;
            let weight = weight.broadcast_mul(&factor.to_dtype(DType::F32)?.reshape((outputs, 1, 1, 1))?)?;
            Ok((weight, bias))
        };
        let (weight, bias) = fold().map_err(|source| self.device_error(source))?;
        self.conv2d_from(&weight, Some(&bias), shape, activation)
    }

    pub(super) fn conv_transpose2d(
        &self,
        inputs: usize,
        outputs: usize,
        shape: TransposeShape,
        activation: LayerActivation,
    ) -> Result<ConvTranspose2d, LoadError> {
        let weight = self.tensor("weight", &[inputs, outputs, shape.kernel(), shape.kernel()])?;
        let bias = self.tensor("bias", &[outputs])?;
        self.counted(ConvTranspose2d::new(self.ops, &weight, Some(&bias), shape, activation), ConvTranspose2d::bytes)
    }

    pub(super) fn window_attention(
        &self,
        channels: usize,
        heads: usize,
        window: usize,
        shift: usize,
    ) -> Result<WindowAttention, LoadError> {
        let weights = WindowAttentionWeights {
            qkv_weight: self.tensor("qkv.weight", &[3 * channels, channels])?,
            qkv_bias: self.tensor("qkv.bias", &[3 * channels])?,
            proj_weight: self.tensor("proj.weight", &[channels, channels])?,
            proj_bias: self.tensor("proj.bias", &[channels])?,
            logit_scale: self.tensor("logit_scale", &[heads, 1, 1])?,
            position_hidden_weight: self.tensor("cpb_mlp.0.weight", &[POSITION_HIDDEN, 2])?,
            position_hidden_bias: self.tensor("cpb_mlp.0.bias", &[POSITION_HIDDEN])?,
            position_out_weight: self.tensor("cpb_mlp.2.weight", &[heads, POSITION_HIDDEN])?,
        };
        self.counted(WindowAttention::new(self.ops, &weights, window, shift, heads), WindowAttention::bytes)
    }

    /// Rearranges tensors, with the device's error as a [`LoadError`].
    pub(super) fn rearrange(&self, f: impl FnOnce() -> candle_core::Result<Tensor>) -> Result<Tensor, LoadError> {
        f().map_err(|source| self.device_error(source))
    }
}
