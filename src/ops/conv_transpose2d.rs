//! `torch.nn.ConvTranspose2d` with stride 2 on channels-last maps, with its activation.
//!
//! Output pixel `o` uses tap `k = o + padding - 2i` of input `i`, so outputs of the same parity use the same taps at the
//! same offsets. Each of the four (row, column) parities is therefore an ordinary convolution with a quarter of the kernel.
//! Plain operations compute it as a product over shifted copies of the map and interleave the four results. On the CPU, the
//! overlapping kernel uses Winograd's form of the same idea, or the direct form in tile registers.

use candle_core::{Result, Tensor};

use super::flat::{Flat, doubled, in_parts};
use super::{LayerActivation, Linear, OpsContext, kernel};
use crate::kernels::{DirectConvolution, Maps, Winograd};

/// Row and column parities of the outputs, in the order of the phases.
const PARITIES: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

/// The kernels that double a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransposeShape {
    /// 4x4, stride 2, padding 1: the decoder to full resolution.
    Overlapping4,
    /// 2x2, stride 2: the mask head.
    Disjoint2,
}

impl TransposeShape {
    /// Side of the kernel.
    pub(crate) fn kernel(self) -> usize {
        match self {
            Self::Overlapping4 => 4,
            Self::Disjoint2 => 2,
        }
    }

    fn padding(self) -> usize {
        match self {
            Self::Overlapping4 => 1,
            Self::Disjoint2 => 0,
        }
    }

    /// For each tap that outputs of this parity use: its index in the kernel, and the offset of its first input in a map
    /// padded by one pixel.
    fn taps(self, parity: usize) -> Vec<(usize, usize)> {
        let padding = self.padding();
        let reach = |kernel: usize| parity + padding + 2 * padding - kernel;
        (0..self.kernel()).filter(|k| (parity + padding + k).is_multiple_of(2)).map(|k| (k, reach(k) / 2)).collect()
    }
}

/// `activation(conv_transpose(x) + bias)`, `[N, H, W, in] -> [N, 2H, 2W, out]`.
#[derive(Debug)]
pub(crate) struct ConvTranspose2d(ConvTransposeForm);

#[derive(Debug)]
enum ConvTransposeForm {
    /// One product per (row parity, column parity) over the taps' channels side by side.
    Phases {
        shape: TransposeShape,
        phases: Vec<Linear>,
    },
    Kernel {
        layer: Doubling,
        inputs: usize,
        outputs: usize,
        activation: LayerActivation,
    },
}

/// The overlapping kernel on the CPU: direct with tile registers, else by Winograd.
#[derive(Debug)]
enum Doubling {
    Direct(DirectConvolution),
    Winograd(Winograd),
}

impl Doubling {
    fn bytes(&self) -> usize {
        match self {
            Self::Direct(layer) => layer.bytes(),
            Self::Winograd(layer) => layer.bytes(),
        }
    }

    fn forward(&self, x: &[f32], maps: Maps, activation: LayerActivation) -> Vec<f32> {
        match self {
            Self::Direct(layer) => layer.forward(x, maps, None, activation),
            Self::Winograd(layer) => layer.forward(x, maps, None, activation),
        }
    }
}

impl ConvTranspose2d {
    /// Prepares `weight [in, out, k, k]` and `bias [out]`.
    ///
    /// # Errors
    /// If the weight's kernel does not have the size in `shape`, or the device is out of memory.
    pub(crate) fn new(
        ops: &OpsContext,
        weight: &Tensor,
        bias: Option<&Tensor>,
        shape: TransposeShape,
        activation: LayerActivation,
    ) -> Result<Self> {
        let (inputs, outputs, rows, cols) = weight.dims4()?;
        if (rows, cols) != (shape.kernel(), shape.kernel()) {
            candle_core::bail!("a {rows}x{cols} kernel was given where {shape:?} is needed");
        }
        if let (Some(precision), TransposeShape::Overlapping4) = (ops.kernels(), shape) {
            let bias = kernel::values_or_none(bias)?;
            if !bias.is_empty() && bias.len() != outputs {
                candle_core::bail!("a convolution with {outputs} outputs has a bias of {} values", bias.len());
            }
            let prepare = |weight: &[f32]| match DirectConvolution::transposed(weight, &bias, outputs, inputs, precision) {
                Some(layer) => Doubling::Direct(layer),
                None => Doubling::Winograd(Winograd::transposed(weight, &bias, outputs, inputs, precision)),
            };
            let layer = kernel::with_values(weight, prepare)?;
            return Ok(Self(ConvTransposeForm::Kernel { layer, inputs, outputs, activation }));
        }
        let phase = |(row_parity, col_parity): (usize, usize)| {
            let mut taps = Vec::new();
            for (row, _) in shape.taps(row_parity) {
                for (col, _) in shape.taps(col_parity) {
                    // [in, out, k, k] -> [out, in] of this tap
                    taps.push(weight.narrow(2, row, 1)?.narrow(3, col, 1)?.squeeze(3)?.squeeze(2)?.t()?.contiguous()?);
                }
            }
            Linear::new(ops, &Tensor::cat(&taps, 1)?, bias, activation)
        };
        let phases = PARITIES.into_iter().map(phase).collect::<Result<_>>()?;
        Ok(Self(ConvTransposeForm::Phases { shape, phases }))
    }

    /// Bytes of the prepared weights.
    pub(crate) fn bytes(&self) -> usize {
        match &self.0 {
            ConvTransposeForm::Phases { phases, .. } => phases.iter().map(Linear::bytes).sum(),
            ConvTransposeForm::Kernel { layer, .. } => layer.bytes(),
        }
    }

    /// `[N, H, W, in] -> [N, 2H, 2W, out]`
    ///
    /// # Errors
    /// If `x` has the wrong number of channels.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n, height, width, channels) = x.dims4()?;
        match &self.0 {
            ConvTransposeForm::Phases { shape, phases } => interleave(x, *shape, phases),
            ConvTransposeForm::Kernel { layer, inputs, outputs, activation } => {
                if channels != *inputs {
                    candle_core::bail!("a convolution of {inputs} channels was given {:?}", x.dims());
                }
                let maps = Maps { count: n, height, width };
                kernel::map("conv_transpose2d", x, (n, 2 * height, 2 * width, *outputs), |x| {
                    layer.forward(x, maps, *activation)
                })
            }
        }
    }
}

fn interleave(x: &Tensor, shape: TransposeShape, phases: &[Linear]) -> Result<Tensor> {
    match shape {
        TransposeShape::Disjoint2 => {
            let (n, height, width, channels) = x.dims4()?;
            let pixels = x.reshape((n * height * width, channels))?;
            doubled(&phases.iter().map(|phase| phase.forward(&pixels)).collect::<Result<Vec<_>>>()?, (n, height, width))
        }
        TransposeShape::Overlapping4 => in_parts(x, 4, |x| {
            let flat = Flat::new(x)?;
            let phase = |(parities, phase): (&(usize, usize), &Linear)| {
                let (rows, cols) = (shape.taps(parities.0), shape.taps(parities.1));
                let offsets = rows.iter().flat_map(|(_, row)| cols.iter().map(move |(_, col)| (*row, *col)));
                phase.forward(&flat.neighbours(&offsets.collect::<Vec<_>>())?)
            };
            flat.map_doubled(&PARITIES.iter().zip(phases).map(phase).collect::<Result<Vec<_>>>()?)
        }),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn against_candle(shape: TransposeShape, height: usize, width: usize) {
        let device = Device::Cpu;
        let kernel = shape.kernel();
        let ramp = |dims: &[usize]| {
            let count: usize = dims.iter().product();
            let values: Vec<f32> = (0..count).map(|i| ((i * 37 + 11) % 101) as f32 / 101.0 - 0.5).collect();
            Tensor::from_vec(values, dims, &device).unwrap()
        };
        let (weight, bias) = (ramp(&[5, 3, kernel, kernel]), ramp(&[3]));
        let x = ramp(&[2, height, width, 5]);
        for ops in [OpsContext::new(&device, DType::F32).unwrap(), OpsContext::plain(&device, DType::F32).unwrap()] {
            let ours = ConvTranspose2d::new(&ops, &weight, Some(&bias), shape, LayerActivation::None).unwrap();
            let ours = ours.forward(&x).unwrap();
            let theirs = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let theirs = theirs.conv_transpose2d(&weight, shape.padding(), 0, 2, 1).unwrap();
            let theirs = theirs.permute((0, 2, 3, 1)).unwrap().broadcast_add(&bias).unwrap();
            assert_eq!(ours.dims(), [2, 2 * height, 2 * width, 3]);
            let gap = (ours - theirs).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(gap < 1e-5, "{shape:?}: {gap}");
        }
    }

    #[test]
    fn four_parities_make_a_transposed_convolution() {
        for (height, width) in [(1, 1), (3, 4), (7, 2)] {
            against_candle(TransposeShape::Overlapping4, height, width);
            against_candle(TransposeShape::Disjoint2, height, width);
        }
    }
}
