//! Nearest-neighbour enlargement and padding of channels-last maps.

use candle_core::{Device, Result, Tensor};

/// `lateral + nearest(coarse)`: the feature pyramid's way down, `[N, h, w, C]` added to `[N, H, W, C]`.
///
/// Rows and columns are those of `torch.nn.functional.interpolate(mode="nearest")`, which works for any two sizes.
///
/// # Errors
/// Where batch or channels differ.
pub fn upsample_nearest_add(coarse: &Tensor, lateral: &Tensor) -> Result<Tensor> {
    let (_, rows, cols, _) = coarse.dims4()?;
    let (_, height, width, _) = lateral.dims4()?;
    let enlarged = coarse
        .contiguous()?
        .index_select(&nearest(rows, height, coarse.device())?, 1)?
        .index_select(&nearest(cols, width, coarse.device())?, 2)?;
    lateral + enlarged
}

fn nearest(from: usize, to: usize, device: &Device) -> Result<Tensor> {
    // In float32, because PyTorch's ratio is.
    let ratio = from as f32 / to as f32;
    let source = |i: usize| ((i as f32 * ratio) as usize).min(from.saturating_sub(1)) as u32;
    Tensor::from_vec((0..to).map(source).collect::<Vec<_>>(), to, device)
}

/// Zeros at the right and at the bottom until both sides are multiples of `multiple`.
///
/// # Errors
/// Where `x` is not `[N, H, W, C]`.
pub fn pad_to_multiple(x: &Tensor, multiple: usize) -> Result<Tensor> {
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
        let of = |from, to| nearest(from, to, &Device::Cpu).unwrap().to_vec1::<u32>().unwrap();
        assert_eq!(of(4, 7), [0, 0, 1, 1, 2, 2, 3]);
        assert_eq!(of(4, 3), [0, 1, 2]);
        assert_eq!(of(2, 4), [0, 0, 1, 1]);
    }
}
