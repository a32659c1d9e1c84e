//! Enlargement and padding of channels-last maps.

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

/// A float32 map `[N, h, w, C]` at the pixels of an image of `(height, width)`, where one cell covers `stride_px` pixels of a side:
/// `[N, height, width, C]`. Between the centres of cells it is interpolated, beyond the outermost it is constant.
///
/// With whole strides that is `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`. Unlike there, an image that
/// ends within a cell does not shift the others.
///
/// # Errors
/// If the map has no cells.
pub(crate) fn enlarge_bilinear(map: &Tensor, stride_px: usize, (height, width): (usize, usize)) -> Result<Tensor> {
    let (_, rows, cols, _) = map.dims4()?;
    if stride_px == 1 && (rows, cols) == (height, width) {
        return Ok(map.clone());
    }
    if rows * cols == 0 {
        candle_core::bail!("a map of shape {:?} cannot be enlarged", map.dims());
    }
    let tall = enlarge_along(1, &map.contiguous()?, stride_px, height)?;
    enlarge_along(2, &tall, stride_px, width)
}

/// [`enlarge_bilinear`] along one dimension of four.
fn enlarge_along(dim: usize, map: &Tensor, stride_px: usize, pixels: usize) -> Result<Tensor> {
    let cells = map.dim(dim)?;
    let at = |pixel: usize| bilinear_cell(pixel as f64 + 0.5, stride_px, cells);
    let (firsts, parts): (Vec<u32>, Vec<f32>) = (0..pixels).map(at).map(|(first, part)| (first as u32, part)).unzip();
    let nexts = firsts.iter().map(|first| (first + 1).min(cells as u32 - 1)).collect();
    let select = |index: Vec<u32>| map.index_select(&Tensor::from_vec(index, pixels, map.device())?, dim);
    let (first, next) = (select(firsts)?, select(nexts)?);
    let mut shape = [1; 4];
    shape[dim] = pixels;
    let part = Tensor::from_vec(parts, &shape, map.device())?;
    (next - &first)?.broadcast_mul(&part)? + first
}

/// Where a position in pixels lies between the centres of a map's cells: the cell before it, and the weight of the one after.
pub(crate) fn bilinear_cell(position_px: f64, stride_px: usize, cells: usize) -> (usize, f32) {
    let at = (position_px / stride_px as f64 - 0.5).clamp(0.0, cells.saturating_sub(1) as f64);
    (at as usize, at.fract() as f32)
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
    fn cells_are_interpolated_between_their_centres() {
        let map = Tensor::from_vec(vec![0f32, 4.0, 8.0, 12.0], (1, 2, 2, 1), &candle_core::Device::Cpu).unwrap();
        let values = enlarge_bilinear(&map, 2, (4, 5)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // interpolate(torch.tensor([[[[0., 4.], [8., 12.]]]]), size=4, mode="bilinear"), and its last column again
        let expected = [
            [0.0, 1.0, 3.0, 4.0, 4.0],
            [2.0, 3.0, 5.0, 6.0, 6.0],
            [6.0, 7.0, 9.0, 10.0, 10.0],
            [8.0, 9.0, 11.0, 12.0, 12.0],
        ];
        assert_eq!(values, expected.concat());
    }

    #[test]
    fn odd_sizes_take_the_rows_that_pytorch_takes() {
        // torch.nn.functional.interpolate(torch.arange(4.)[None, None], size=7) and size 3
        assert_eq!(nearest(4, 7), [0, 0, 1, 1, 2, 2, 3]);
        assert_eq!(nearest(4, 3), [0, 1, 2]);
        assert_eq!(nearest(2, 4), [0, 0, 1, 1]);
    }
}
