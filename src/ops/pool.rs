//! Maxima and means over space or over captures.

use candle_core::{DType, Result, Tensor};

use super::{OpsContext, kernel};
use crate::kernels::{self, Maps};

/// 3x3 maximum with stride 2 and padding 1 (`[N, H, W, C] -> [N, ⌈H/2⌉, ⌈W/2⌉, C]`), as in ResNet's stem.
///
/// # Errors
/// If `x` is not `[N, H, W, C]`.
pub(crate) fn max_pool2d(ops: &OpsContext, x: &Tensor) -> Result<Tensor> {
    if ops.kernels().is_some() {
        let (count, height, width, channels) = x.dims4()?;
        let maps = Maps { count, height, width };
        let shape = (count, height.div_ceil(2), width.div_ceil(2), channels);
        return kernel::map("max_pool2d", x, shape, |x| kernels::max_pool(x, maps, channels));
    }
    // Repeating the border's pixels changes no maximum, since every window that reaches outside contains them anyway.
    let x = x.pad_with_same(1, 1, 1)?.pad_with_same(2, 1, 1)?;
    let y = x.permute((0, 3, 1, 2))?.contiguous()?.max_pool2d_with_stride(3, 2)?;
    y.permute((0, 2, 3, 1))?.contiguous()
}

/// The maximum over each item's captures: `[N·T, H, W, C] -> [N, H, W, C]`.
///
/// # Errors
/// If the first dimension is not a multiple of `captures`.
pub(crate) fn max_over_captures(ops: &OpsContext, x: &Tensor, captures: usize) -> Result<Tensor> {
    let (images, height, width, channels) = x.dims4()?;
    if captures <= 1 {
        return Ok(x.clone());
    }
    if ops.kernels().is_some() && images % captures == 0 {
        let shape = (images / captures, height, width, channels);
        let len = height * width * channels;
        return kernel::map("max_over_captures", x, shape, |x| kernels::max_over_captures(x, captures, len));
    }
    // Pairwise maxima: GPU reductions over a dimension use a block of threads for every value of the result.
    let x = x.reshape((images / captures, captures, height, width, channels))?;
    let capture = |index: usize| x.narrow(1, index, 1)?.squeeze(1);
    (1..captures).try_fold(capture(0)?, |most, index| most.maximum(&capture(index)?))
}

/// The mean of every channel, in float32: `[N, H, W, C] -> [N, C]`.
///
/// # Errors
/// If `x` is not `[N, H, W, C]`.
pub(crate) fn mean_over_space(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)?.flatten(1, 2)?.mean(1)
}

/// The maximum of every channel, in float32: `[N, H, W, C] -> [N, C]`.
///
/// # Errors
/// If `x` is not `[N, H, W, C]`.
pub(crate) fn max_over_space(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)?.flatten(1, 2)?.max(1)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn both_forms() -> [OpsContext; 2] {
        [OpsContext::new(&Device::Cpu, DType::F32).unwrap(), OpsContext::plain(&Device::Cpu, DType::F32).unwrap()]
    }

    #[test]
    fn the_border_of_a_maximum_counts_as_absent() {
        // All negative: a border of zeros would win everywhere.
        let x = Tensor::from_vec((0..15).map(|i| i as f32 - 20.0).collect(), (1, 3, 5, 1), &Device::Cpu).unwrap();
        for ops in both_forms() {
            let y = max_pool2d(&ops, &x).unwrap();
            assert_eq!(y.dims(), [1, 2, 3, 1]);
            // rows 0-1 and 1-2, columns 0-1, 1-3, 3-4
            let values = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values, [-14.0, -12.0, -11.0, -9.0, -7.0, -6.0]);
        }
    }

    #[test]
    fn captures_are_neighbours_in_the_batch() {
        let x = Tensor::from_vec(vec![1f32, 5.0, 2.0, 3.0], (4, 1, 1, 1), &Device::Cpu).unwrap();
        for ops in both_forms() {
            let y = max_over_captures(&ops, &x, 2).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(y, [5.0, 3.0]);
        }
    }
}
