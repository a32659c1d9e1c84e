//! Where and in which type the operators of one network run; chosen once, when the network is loaded.

use candle_core::{DType, Device, Result, Tensor};

use super::fused::FusedOps;
use crate::kernels::{Precision, most_weight_bytes};

/// The device, the floating-point type and the form (kernels or candle operations) that operators are prepared for.
#[derive(Clone, Debug)]
pub struct OpsContext {
    device: Device,
    dtype: DType,
    /// The precision of CPU kernels; `None` to use plain candle operations.
    kernels: Option<Precision>,
    /// What a GPU runs as one kernel, once it has been compared with the plain operations.
    fused: Option<FusedOps>,
}

impl OpsContext {
    /// Operators on `device` that compute in `dtype` (float32, bfloat16 or float16), in their fastest form: kernels on the
    /// CPU, candle's operations elsewhere, with fused kernels where there are some for the GPU.
    ///
    /// Kernels keep activations in float32 whatever the type. In bfloat16, both factors of a matrix product are rounded,
    /// because CPUs have instructions for that. CPUs have none for float16, so it is computed in float32.
    ///
    /// # Errors
    /// If `dtype` is not one of those.
    pub fn new(device: &Device, dtype: DType) -> Result<Self> {
        let precision = if dtype == DType::BF16 { Precision::Bf16 } else { Precision::F32 };
        let kernels = device.is_cpu().then_some(precision);
        Ok(Self { kernels, fused: FusedOps::on(device), ..Self::plain(device, dtype)? })
    }

    /// Operators in plain candle operations on any device: the reference that kernels are compared with.
    ///
    /// # Errors
    /// If `dtype` is not float32, bfloat16 or float16.
    pub fn plain(device: &Device, dtype: DType) -> Result<Self> {
        if !matches!(dtype, DType::F32 | DType::BF16 | DType::F16) {
            candle_core::bail!("networks run in f32, bf16 or f16, not in {dtype:?}");
        }
        Ok(Self { device: device.clone(), dtype, kernels: None, fused: None })
    }

    /// The same without fused kernels: on a GPU, plain operations.
    #[must_use]
    pub fn without_fusion(self) -> Self {
        Self { fused: None, ..self }
    }

    /// Plain operations on the CPU, and the kernels for GPUs as the tests' emulator runs them.
    #[cfg(test)]
    pub(crate) fn emulated(dtype: DType) -> Result<Self> {
        Ok(Self { fused: Some(FusedOps::default()), ..Self::plain(&Device::Cpu, dtype)? })
    }

    /// The device that the operators run on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type passed to [`OpsContext::new`].
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The type of activations between operators.
    pub fn activations(&self) -> DType {
        if self.kernels.is_some() { DType::F32 } else { self.dtype }
    }

    /// The precision of the kernels to use, if any.
    pub(super) fn kernels(&self) -> Option<Precision> {
        self.kernels
    }

    /// The fused operators that may be used, if any.
    pub(super) fn fused(&self) -> Option<&FusedOps> {
        self.fused.as_ref()
    }

    /// The type that candle's convolutions run in. On the CPU they do not support bfloat16, and float16 is slow.
    pub(super) fn convolution_dtype(&self) -> DType {
        if self.device.is_cpu() { DType::F32 } else { self.dtype }
    }

    /// The weight in the operators' type and on their device, row-major.
    pub(super) fn place(&self, weight: &Tensor) -> Result<Tensor> {
        self.place_as(weight, self.dtype)
    }

    /// The constant on the operators' device, in float32 whatever the type of the network.
    pub(super) fn place_f32(&self, constant: &Tensor) -> Result<Tensor> {
        self.place_as(constant, DType::F32)
    }

    /// Upper bound on the bytes of the prepared form of a weight `[outputs, inputs, …]`.
    pub fn most_bytes(&self, shape: &[usize]) -> usize {
        let [outputs, inner @ ..] = shape else { return 0 };
        let (inputs, taps) = (inner.first().copied().unwrap_or(1), inner.iter().skip(1).product());
        match self.kernels {
            Some(precision) => most_weight_bytes(*outputs, inputs, taps, precision),
            None => outputs * inputs * taps * size_of::<f32>(),
        }
    }

    /// Bytes of prepared weights that are kept as tensors.
    pub(super) fn bytes<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> usize {
        tensors.into_iter().map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum()
    }

    pub(super) fn place_as(&self, tensor: &Tensor, dtype: DType) -> Result<Tensor> {
        tensor.to_dtype(dtype)?.contiguous()?.to_device(&self.device)
    }
}
