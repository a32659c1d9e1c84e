//! `torch.nn.Conv2d` on channels-last maps, with its activation.
//!
//! In kernels, a 1x1 convolution is one matrix product. Kernels that overlap read the map directly if the processor has tile
//! registers; without them, 3x3 kernels that keep the map's size use Winograd's form. All others gather what each output
//! sees into one product.
//!
//! In plain operations, 1x1 convolutions and those whose kernel is as large as their stride (patch embedding, patch merging)
//! see every pixel once, so they are one matrix product. 3x3 convolutions that keep the map's size are one product over
//! neighbours placed side by side. The others go to candle, which wants channels first. On a GPU, cuDNN takes both kinds if this build
//! has it.

use candle_core::{Result, Tensor};

use super::activation::activate;
use super::flat::{Flat, in_parts};
use super::fused::{self, FusedConvolution, Subject};
use super::{LayerActivation, Linear, OpsContext, kernel};
use crate::kernels::{DirectConvolution, GatheredConvolution, Maps, Precision, Walk, Winograd};

/// Least input channels for Winograd's and the direct form. With fewer, their transforms or whole units cost more than they
/// save, and gathering into one product is faster.
const LEAST_CHANNELS: usize = 16;

/// How a square kernel moves over the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConvShape {
    /// Side of the kernel.
    pub kernel: usize,
    /// Input pixels from one output to the next.
    pub stride: usize,
    /// Zeros added at each border.
    pub padding: usize,
}

impl ConvShape {
    /// 1x1.
    pub(crate) const POINTWISE: Self = Self { kernel: 1, stride: 1, padding: 0 };
    /// 3x3, with padding that keeps the map's size.
    pub(crate) const SAME_3X3: Self = Self { kernel: 3, stride: 1, padding: 1 };

    /// Patches of `side` pixels that do not overlap.
    pub(crate) fn patches(side: usize) -> Self {
        Self { kernel: side, stride: side, padding: 0 }
    }
}

/// `activation(conv(x) + bias)`, `[N, H, W, in] -> [N, H', W', out]`.
#[derive(Debug)]
pub(crate) struct Conv2d(Conv2dForm);

#[derive(Debug)]
enum Conv2dForm {
    /// The kernel is as large as the stride, or 1x1: one product over the pixels of each patch side by side.
    Patches { shape: ConvShape, linear: Linear },
    /// 3x3 that keeps the map's size: one product over each pixel's neighbours side by side.
    Neighbours { linear: Linear, activation: LayerActivation },
    /// candle's convolution; `weight` is `[out, in, k, k]`.
    Sliding { shape: ConvShape, weight: Tensor, bias: Option<Tensor>, activation: LayerActivation },
    /// cuDNN's kernel.
    Fused(FusedConvolution),
    /// A CPU kernel.
    Kernel { kernel: ConvKernel, inputs: usize, outputs: usize, activation: LayerActivation },
}

#[derive(Debug)]
enum ConvKernel {
    Direct(DirectConvolution),
    Winograd(Winograd),
    Gathered(GatheredConvolution),
}

impl Conv2d {
    /// Prepares `weight [out, in, k, k]` and `bias [out]`.
    ///
    /// # Errors
    /// If the weight's kernel does not have the size in `shape`, or the device is out of memory.
    pub(crate) fn new(
        ops: &OpsContext,
        weight: &Tensor,
        bias: Option<&Tensor>,
        shape: ConvShape,
        activation: LayerActivation,
    ) -> Result<Self> {
        let (out, inputs, rows, cols) = weight.dims4()?;
        if (rows, cols) != (shape.kernel, shape.kernel) || shape.stride == 0 {
            candle_core::bail!("a {rows}x{cols} kernel was given where {shape:?} is needed");
        }
        if let (Some(precision), true) = (ops.kernels(), shape != ConvShape::POINTWISE) {
            let kernel = ConvKernel::new(weight, bias, shape, precision)?;
            return Ok(Self(Conv2dForm::Kernel { kernel, inputs, outputs: out, activation }));
        }
        let one_product = shape.padding == 0 && (shape.kernel == shape.stride || shape.kernel == 1);
        if one_product {
            // [out, in, row, col] -> [out, (row, col, in)], the order in which a patch of an NHWC map lies in memory
            let weight = weight.permute((0, 2, 3, 1))?.reshape((out, rows * cols * inputs))?;
            return Ok(Self(Conv2dForm::Patches { shape, linear: Linear::new(ops, &weight, bias, activation)? }));
        }
        let plain = Self::over_neighbours_or_sliding(ops, weight, bias, shape, activation)?;
        let Some(fused) = ops.fused() else { return Ok(plain) };
        let Some(convolution) = FusedConvolution::new(ops, weight, bias, shape, activation)? else { return Ok(plain) };
        let subject = Subject {
            operator: "convolution",
            sizes: vec![
                inputs,
                out,
                shape.kernel,
                shape.stride,
                shape.padding,
                usize::from(activation == LayerActivation::Relu),
            ],
        };
        let sample = fused::sample(&[2, 9, 11, inputs], ops.device(), ops.dtype())?;
        fused.choose(subject, plain, Self(Conv2dForm::Fused(convolution)), |conv| {
            conv.forward_add(&sample, &conv.forward(&sample)?)
        })
    }

    /// In plain operations, where kernels overlap or reach over the border.
    fn over_neighbours_or_sliding(
        ops: &OpsContext,
        weight: &Tensor,
        bias: Option<&Tensor>,
        shape: ConvShape,
        activation: LayerActivation,
    ) -> Result<Self> {
        let (out, inputs, rows, cols) = weight.dims4()?;
        if shape == ConvShape::SAME_3X3 {
            let weight = weight.permute((0, 2, 3, 1))?.reshape((out, rows * cols * inputs))?;
            return Ok(Self(Conv2dForm::Neighbours {
                linear: Linear::new(ops, &weight, bias, LayerActivation::None)?,
                activation,
            }));
        }
        let bias = bias.map(|bias| ops.place(bias)).transpose()?;
        let weight = ops.place_as(weight, ops.convolution_dtype())?;
        Ok(Self(Conv2dForm::Sliding { shape, weight, bias, activation }))
    }

    /// Bytes of the prepared weights.
    pub(crate) fn bytes(&self) -> usize {
        match &self.0 {
            Conv2dForm::Patches { linear, .. } | Conv2dForm::Neighbours { linear, .. } => linear.bytes(),
            Conv2dForm::Sliding { weight, bias, .. } => OpsContext::bytes([weight].into_iter().chain(bias)),
            Conv2dForm::Fused(convolution) => convolution.bytes(),
            Conv2dForm::Kernel { kernel: ConvKernel::Direct(layer), .. } => layer.bytes(),
            Conv2dForm::Kernel { kernel: ConvKernel::Winograd(layer), .. } => layer.bytes(),
            Conv2dForm::Kernel { kernel: ConvKernel::Gathered(layer), .. } => layer.bytes(),
        }
    }

    #[cfg(test)]
    pub(super) fn is_fused(&self) -> bool {
        matches!(self.0, Conv2dForm::Fused(_))
    }

    /// This convolution as a linear layer, if its kernel is 1x1 with stride 1.
    pub(crate) fn as_linear(&self) -> Option<&Linear> {
        match &self.0 {
            Conv2dForm::Patches { shape: ConvShape::POINTWISE, linear } => Some(linear),
            _ => None,
        }
    }

    /// `[N, H, W, in] -> [N, H', W', out]`
    ///
    /// # Errors
    /// If `x` has the wrong number of channels or is smaller than the kernel.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Conv2dForm::Patches { shape, linear } => linear.forward(&patches(x, *shape)?),
            Conv2dForm::Neighbours { linear, activation } => activate(over_neighbours(x, linear)?, *activation),
            Conv2dForm::Sliding { shape, weight, bias, activation } => {
                activate(slide(x, *shape, weight, bias.as_ref())?, *activation)
            }
            Conv2dForm::Fused(convolution) => convolution.forward(x, None),
            Conv2dForm::Kernel { kernel, inputs, outputs, activation } => {
                let (maps, shape) = kernel.shapes(x, *inputs, *outputs)?;
                kernel::map("conv2d", x, shape.to_vec(), |x| kernel.forward(x, maps, None, *activation))
            }
        }
    }

    /// As [`Conv2d::forward`], with `residual [N, H', W', out]` added before the activation, as at the end of ResNet blocks.
    ///
    /// # Errors
    /// As [`Conv2d::forward`], and if the residual has the wrong shape.
    pub(crate) fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Conv2dForm::Patches { shape, linear } => linear.forward_add(&patches(x, *shape)?, residual),
            Conv2dForm::Neighbours { linear, activation } => {
                activate((over_neighbours(x, linear)? + residual)?, *activation)
            }
            Conv2dForm::Sliding { shape, weight, bias, activation } => {
                activate((slide(x, *shape, weight, bias.as_ref())? + residual)?, *activation)
            }
            Conv2dForm::Fused(convolution) => convolution.forward(x, Some(residual)),
            Conv2dForm::Kernel { kernel, inputs, outputs, activation } => {
                let (maps, shape) = kernel.shapes(x, *inputs, *outputs)?;
                if residual.dims() != shape {
                    candle_core::bail!("a residual of shape {:?} cannot be added to {shape:?}", residual.dims());
                }
                kernel::map2("conv2d", x, residual, shape.to_vec(), |x, residual| {
                    kernel.forward(x, maps, Some(residual), *activation)
                })
            }
        }
    }
}

impl ConvKernel {
    fn new(weight: &Tensor, bias: Option<&Tensor>, shape: ConvShape, precision: Precision) -> Result<Self> {
        let (outputs, inputs, ..) = weight.dims4()?;
        let bias = kernel::values_or_none(bias)?;
        if !bias.is_empty() && bias.len() != outputs {
            candle_core::bail!("a convolution with {outputs} outputs has a bias of {} values", bias.len());
        }
        let walk = Walk { kernel: shape.kernel, stride: shape.stride, padding: shape.padding };
        let slides = shape.kernel > shape.stride && inputs >= LEAST_CHANNELS;
        if slides {
            let prepare = |weight: &[f32]| DirectConvolution::convolution(weight, &bias, outputs, inputs, walk, precision);
            if let Some(layer) = kernel::with_values(weight, prepare)? {
                return Ok(Self::Direct(layer));
            }
        }
        if slides && shape == ConvShape::SAME_3X3 {
            let transform = |weight: &[f32]| Winograd::convolution(weight, &bias, outputs, inputs, precision);
            return Ok(Self::Winograd(kernel::with_values(weight, transform)?));
        }
        // [out, in, row, col] -> [out, row, col, in]
        let weight = weight.permute((0, 2, 3, 1))?;
        let pack = |weight: &[f32]| GatheredConvolution::new(weight, &bias, outputs, inputs, walk, precision);
        Ok(Self::Gathered(kernel::with_values(&weight, pack)?))
    }

    /// The shape of the maps in `x [N, H, W, in]`, and the shape of the result.
    fn shapes(&self, x: &Tensor, inputs: usize, outputs: usize) -> Result<(Maps, [usize; 4])> {
        let (count, height, width, channels) = x.dims4()?;
        if channels != inputs {
            candle_core::bail!("a convolution of {inputs} channels was given {:?}", x.dims());
        }
        let maps = Maps { count, height, width };
        let to = match self {
            Self::Direct(layer) => layer.output_maps(maps),
            Self::Winograd(layer) => layer.output_maps(maps),
            Self::Gathered(layer) => layer.walk().output_maps(maps),
        };
        Ok((maps, [to.count, to.height, to.width, outputs]))
    }

    fn forward(&self, x: &[f32], maps: Maps, residual: Option<&[f32]>, activation: LayerActivation) -> Vec<f32> {
        match self {
            Self::Direct(layer) => layer.forward(x, maps, residual, activation),
            Self::Winograd(layer) => layer.forward(x, maps, residual, activation),
            Self::Gathered(layer) => layer.forward(x, maps, residual, activation),
        }
    }
}

fn over_neighbours(x: &Tensor, linear: &Linear) -> Result<Tensor> {
    let offsets: Vec<(usize, usize)> = (0..3).flat_map(|row| (0..3).map(move |col| (row, col))).collect();
    in_parts(x, offsets.len(), |x| {
        let flat = Flat::new(x)?;
        flat.map(&linear.forward(&flat.neighbours(&offsets)?)?)
    })
}

fn slide(x: &Tensor, shape: ConvShape, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let nchw = x.permute((0, 3, 1, 2))?.to_dtype(weight.dtype())?.contiguous()?;
    let y = nchw.conv2d(weight, shape.padding, shape.stride, 1, 1)?;
    let y = y.permute((0, 2, 3, 1))?.to_dtype(x.dtype())?.contiguous()?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// `[N, H, W, C] -> [N, H', W', kernel² C]`; pixels that do not fill a patch are dropped, as in a convolution.
fn patches(x: &Tensor, shape: ConvShape) -> Result<Tensor> {
    let (n, height, width, channels) = x.dims4()?;
    let ConvShape { kernel, stride, .. } = shape;
    if (kernel, stride) == (1, 1) {
        return Ok(x.clone());
    }
    if kernel == 1 {
        let every = |len: usize| Tensor::arange_step(0u32, len as u32, stride as u32, x.device());
        return x.contiguous()?.index_select(&every(height)?, 1)?.index_select(&every(width)?, 2);
    }
    let (rows, cols) = (height / kernel, width / kernel);
    let x = x.narrow(1, 0, rows * kernel)?.narrow(2, 0, cols * kernel)?.contiguous()?;
    let x = x.reshape((n, rows, kernel, cols, kernel, channels))?.permute((0, 1, 3, 2, 4, 5))?;
    x.reshape((n, rows, cols, kernel * kernel * channels))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn ramp(dims: &[usize]) -> Tensor {
        let count: usize = dims.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i * 37 + 11) % 101) as f32 / 101.0 - 0.5).collect();
        Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
    }

    #[test]
    fn every_form_is_the_convolution_that_it_stands_for() {
        let forms =
            [OpsContext::new(&Device::Cpu, DType::F32).unwrap(), OpsContext::plain(&Device::Cpu, DType::F32).unwrap()];
        let strided = |kernel, stride, padding| ConvShape { kernel, stride, padding };
        let shapes = [ConvShape::POINTWISE, ConvShape::SAME_3X3, ConvShape::patches(2), ConvShape::patches(4)];
        for shape in shapes.into_iter().chain([strided(1, 2, 0), strided(3, 2, 1), strided(7, 2, 3)]) {
            let (x, weight, bias) = (ramp(&[2, 9, 11, 3]), ramp(&[5, 3, shape.kernel, shape.kernel]), ramp(&[5]));
            let nchw = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let theirs = nchw.conv2d(&weight, shape.padding, shape.stride, 1, 1).unwrap();
            let theirs = theirs.permute((0, 2, 3, 1)).unwrap().broadcast_add(&bias).unwrap();
            let largest = |x: Tensor| x.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            for ops in &forms {
                let conv = Conv2d::new(ops, &weight, Some(&bias), shape, LayerActivation::Relu).unwrap();
                let gap = largest((conv.forward(&x).unwrap() - theirs.relu().unwrap()).unwrap());
                assert!(gap < 1e-5, "{shape:?}: {gap}");
                let residual = ramp(theirs.dims());
                let sum = (&theirs + &residual).unwrap().relu().unwrap();
                let gap = largest((conv.forward_add(&x, &residual).unwrap() - sum).unwrap());
                assert!(gap < 1e-5, "{shape:?} with a residual: {gap}");
            }
        }
    }
}
