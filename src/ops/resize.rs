//! Nearest-neighbour enlargement and padding of channels-last maps.

use candle_core::{Result, Tensor};

use super::{OpsContext, kernel};
use crate::kernels::{self, Maps};

/// `lateral + nearest(coarse)`, the feature pyramid's top-down path: `[N, h, w, C]` added to `[N, H, W, C]`.
///
/// Rows and columns are chosen as by `torch.nn.functional.interpolate(mode="nearest")`, for any two sizes.
///
/// # Errors
/// If batch sizes or channels differ.
pub(crate) fn upsample_nearest_add(ops: &OpsContext, coarse: &Tensor, lateral: &Tensor) -> Result<Tensor> {
    let (count, rows, cols, channels) = coarse.dims4()?;
    let (items, height, width, lateral_channels) = lateral.dims4()?;
    if (count, channels) != (items, lateral_channels) || (rows * cols == 0 && height * width > 0) {
        candle_core::bail!("{:?} cannot be enlarged and added to {:?}", coarse.dims(), lateral.dims());
    }
    let (row_of, col_of) = (nearest(rows, height), nearest(cols, width));
    if ops.kernels().is_some() {
        let from = Maps { count, height: rows, width: cols };
        return kernel::map2("upsample_nearest_add", coarse, lateral, lateral.shape(), |coarse, lateral| {
            kernels::nearest_add(coarse, from, lateral, &row_of, &col_of, channels)
        });
    }
    let index = |of: Vec<u32>, len| Tensor::from_vec(of, len, coarse.device());
    let enlarged = coarse.contiguous()?.index_select(&index(row_of, height)?, 1)?;
    lateral + enlarged.index_select(&index(col_of, width)?, 2)?
}

fn nearest(from: usize, to: usize) -> Vec<u32> {
    // In float32, because PyTorch's ratio is.
    let ratio = from as f32 / to as f32;
    (0..to).map(|i| ((i as f32 * ratio) as usize).min(from.saturating_sub(1)) as u32).collect()
}

/// Pads with zeros at the right and at the bottom until both sides are multiples of `multiple`.
///
/// # Errors
/// If `x` is not `[N, H, W, C]`.
pub(crate) fn pad_to_multiple(x: &Tensor, multiple: usize) -> Result<Tensor> {
    let (_, height, width, _) = x.dims4()?;
    let missing = |len: usize| len.next_multiple_of(multiple) - len;
    x.pad_with_zeros(1, 0, missing(height))?.pad_with_zeros(2, 0, missing(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sizes_take_the_rows_that_pytorch_takes() {
        // torch.nn.functional.interpolate(torch.arange(4.)[None, None], size=7) and size 3
        assert_eq!(nearest(4, 7), [0, 0, 1, 1, 2, 2, 3]);
        assert_eq!(nearest(4, 3), [0, 1, 2]);
        assert_eq!(nearest(2, 4), [0, 0, 1, 1]);
    }
}
