//! Where and in which type the operators of one network run; chosen once, when the network is loaded.

use candle_core::{DType, Device, Result, Tensor};

use crate::kernels::{Precision, most_weight_bytes};

/// The device, the floating-point type and the form that operators are prepared for.
#[derive(Clone, Debug)]
pub struct OpsContext {
    device: Device,
    dtype: DType,
    /// The CPU kernels' precision; none: plain candle operations.
    kernels: Option<Precision>,
}

impl OpsContext {
    /// Operators on `device` that compute in `dtype` (float32, bfloat16 or float16), in their fastest form: kernels on
    /// the processor, candle's operations elsewhere.
    ///
    /// Kernels keep activations in float32 whatever the type. In bfloat16 both factors of a matrix product are rounded,
    /// as processors have instructions for that; they have none for float16, which is computed in float32.
    ///
    /// # Errors
    /// Where `dtype` is not one of those.
    pub fn new(device: &Device, dtype: DType) -> Result<Self> {
        let precision = if dtype == DType::BF16 { Precision::Bf16 } else { Precision::F32 };
        Ok(Self { kernels: device.is_cpu().then_some(precision), ..Self::plain(device, dtype)? })
    }

    /// Operators in plain candle operations on any device: what kernels are compared with.
    ///
    /// # Errors
    /// Where `dtype` is not float32, bfloat16 or float16.
    pub fn plain(device: &Device, dtype: DType) -> Result<Self> {
        if !matches!(dtype, DType::F32 | DType::BF16 | DType::F16) {
            candle_core::bail!("networks run in f32, bf16 or f16, not in {dtype:?}");
        }
        Ok(Self { device: device.clone(), dtype, kernels: None })
    }

    /// Where the operators run.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type that was asked for.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The type that activations have between operators.
    pub fn activations(&self) -> DType {
        if self.kernels.is_some() { DType::F32 } else { self.dtype }
    }

    /// The precision of the kernels to use, if any.
    pub(super) fn kernels(&self) -> Option<Precision> {
        self.kernels
    }

    /// The type that candle's convolutions run in: on the processor they know no bfloat16, and float16 is slow there.
    pub(super) fn convolution_dtype(&self) -> DType {
        if self.device.is_cpu() { DType::F32 } else { self.dtype }
    }

    /// A weight in the type and on the device that operators use, row-major.
    pub(super) fn place(&self, weight: &Tensor) -> Result<Tensor> {
        self.place_as(weight, self.dtype)
    }

    /// A constant that stays in float32 whatever the type of the network.
    pub(super) fn place_f32(&self, constant: &Tensor) -> Result<Tensor> {
        self.place_as(constant, DType::F32)
    }

    /// The most memory that the prepared form of a weight `[outputs, inputs, …]` takes.
    pub fn most_bytes(&self, shape: &[usize]) -> usize {
        let [outputs, inner @ ..] = shape else { return 0 };
        let (inputs, taps) = (inner.first().copied().unwrap_or(1), inner.iter().skip(1).product());
        match self.kernels {
            Some(precision) => most_weight_bytes(*outputs, inputs, taps, precision),
            None => outputs * inputs * taps * size_of::<f32>(),
        }
    }

    /// Memory that prepared weights take in the form of tensors.
    pub(super) fn bytes<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> usize {
        tensors.into_iter().map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum()
    }

    pub(super) fn place_as(&self, tensor: &Tensor, dtype: DType) -> Result<Tensor> {
        tensor.to_dtype(dtype)?.contiguous()?.to_device(&self.device)
    }
}
