//! Where and in which type the operators of one network run; chosen once, when the network is loaded.

use candle_core::{DType, Device, Result, Tensor};

/// The device and the floating-point type that weights are prepared for.
#[derive(Clone, Debug)]
pub struct OpsContext {
    device: Device,
    dtype: DType,
}

impl OpsContext {
    /// Operators on `device` that compute in `dtype` (float32, bfloat16 or float16).
    ///
    /// # Errors
    /// Where `dtype` is not one of those.
    pub fn new(device: &Device, dtype: DType) -> Result<Self> {
        if !matches!(dtype, DType::F32 | DType::BF16 | DType::F16) {
            candle_core::bail!("networks run in f32, bf16 or f16, not in {dtype:?}");
        }
        Ok(Self { device: device.clone(), dtype })
    }

    /// Where the operators run.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type of weights and activations.
    pub fn dtype(&self) -> DType {
        self.dtype
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

    pub(super) fn place_as(&self, tensor: &Tensor, dtype: DType) -> Result<Tensor> {
        tensor.to_dtype(dtype)?.contiguous()?.to_device(&self.device)
    }
}
