//! Convolutions of maps as they lie, channels last, with bias, residual and ReLU in one kernel, by cuDNN.
//!
//! Plain operations gather the neighbours of every pixel for a product, or turn the maps channels first and back for candle.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

use super::operator::in_chunks;
use crate::ops::{ConvShape, LayerActivation, OpsContext};

/// `activation(conv(x) + bias)`, `[N, H, W, in] -> [N, H', W', out]`.
#[derive(Debug)]
pub(in crate::ops) struct FusedConvolution {
    shape: ConvShape,
    relu: bool,
    /// `[out, k, k, in]`
    weight: Tensor,
    /// `[out]`
    bias: Tensor,
}

/// All that cuDNN needs to know to choose its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConvolutionSizes {
    pub(super) dtype: DType,
    /// Maps, rows, columns and channels.
    pub(super) input: [usize; 4],
    /// As `input`.
    pub(super) output: [usize; 4],
    pub(super) shape: ConvShape,
    pub(super) relu: bool,
}

/// A convolution with its tensors, but for the maps.
pub(super) struct StartedConvolution<'a> {
    pub(super) sizes: ConvolutionSizes,
    pub(super) weight: &'a Tensor,
    pub(super) bias: &'a Tensor,
    /// Added before ReLU, of the shape of the output.
    pub(super) residual: Option<Tensor>,
}

impl FusedConvolution {
    /// Prepares `weight [out, in, k, k]` and `bias [out]`. `None` if this build has no cuDNN, or it has no such activation.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub(in crate::ops) fn new(
        ops: &OpsContext,
        weight: &Tensor,
        bias: Option<&Tensor>,
        shape: ConvShape,
        activation: LayerActivation,
    ) -> Result<Option<Self>> {
        let relu = match activation {
            LayerActivation::None => false,
            LayerActivation::Relu => true,
            LayerActivation::Gelu => return Ok(None),
        };
        // On the CPU, tests stand in for cuDNN.
        if !cfg!(feature = "cudnn") && !ops.device().is_cpu() {
            return Ok(None);
        }
        let weight = ops.place(&weight.permute((0, 2, 3, 1))?)?;
        let bias = match bias {
            Some(bias) => ops.place(bias)?,
            None => Tensor::zeros(weight.dim(0)?, weight.dtype(), ops.device())?,
        };
        Ok(Some(Self { shape, relu, weight, bias }))
    }

    /// Bytes of the prepared weights.
    pub(in crate::ops) fn bytes(&self) -> usize {
        OpsContext::bytes([&self.weight, &self.bias])
    }

    /// With `residual [N, H', W', out]`, if there is one, added before the activation.
    ///
    /// # Errors
    /// If the shapes or types do not match, or the device refuses the kernel.
    pub(in crate::ops) fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let (count, height, width, inputs) = x.dims4()?;
        let (outputs, .., channels) = self.weight.dims4()?;
        let ConvShape { kernel, stride, padding } = self.shape;
        let dtype = self.weight.dtype();
        let steps = |side: usize| (side + 2 * padding).checked_sub(kernel).map(|room| room / stride + 1);
        let (Some(rows), Some(columns), true, true) = (steps(height), steps(width), inputs == channels, x.dtype() == dtype)
        else {
            candle_core::bail!("a convolution of {channels} channels in {dtype:?} by {:?} was given {x:?}", self.shape);
        };
        let output = [count, rows, columns, outputs];
        if let Some(residual) = residual
            && (residual.dims() != output || residual.dtype() != dtype)
        {
            candle_core::bail!("{residual:?} cannot be added to maps of shape {output:?} in {dtype:?}");
        }
        let sizes =
            ConvolutionSizes { dtype, input: [count, height, width, inputs], output, shape: self.shape, relu: self.relu };
        let residual = residual.map(in_chunks).transpose()?;
        in_chunks(x)?.apply_op1_no_bwd(&StartedConvolution { sizes, weight: &self.weight, bias: &self.bias, residual })
    }
}

impl CustomOp1 for StartedConvolution<'_> {
    fn name(&self) -> &'static str {
        "convolution"
    }

    #[cfg(not(test))]
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("cuDNN runs on a GPU")
    }

    /// What cuDNN promises, by candle's convolution.
    #[cfg(test)]
    fn cpu_fwd(&self, maps: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let channels_first = |x: &Tensor| x.to_dtype(DType::F32)?.permute((0, 3, 1, 2))?.contiguous();
        let maps = super::tests::tensor_of(maps, layout)?;
        let ConvShape { stride, padding, .. } = self.sizes.shape;
        let y = channels_first(&maps)?.conv2d(&channels_first(self.weight)?, padding, stride, 1, 1)?;
        let y = y.permute((0, 2, 3, 1))?.broadcast_add(&self.bias.to_dtype(DType::F32)?)?;
        let y = match &self.residual {
            Some(residual) => (y + residual.to_dtype(DType::F32)?)?,
            None => y,
        };
        let y = if self.sizes.relu { y.relu()? } else { y };
        let y = y.to_dtype(self.sizes.dtype)?.contiguous()?;
        let (storage, _) = y.storage_and_layout();
        match &*storage {
            candle_core::Storage::Cpu(values) => Ok((values.clone(), Shape::from(&self.sizes.output))),
            _ => candle_core::bail!("the CPU gave a tensor on another device"),
        }
    }

    #[cfg(feature = "cudnn")]
    fn cuda_fwd(&self, maps: &candle_core::CudaStorage, layout: &Layout) -> Result<(candle_core::CudaStorage, Shape)> {
        Ok((super::cudnn::run(self, maps, layout)?, Shape::from(&self.sizes.output)))
    }
}
