//! What follows the products of a block, as one kernel each: `residual_norm.cuh` and `bias_gelu.cuh`.

use candle_core::{DType, Result, Tensor};

use super::launch::{CHUNK_BYTES, Launch, int};

/// Lanes of a warp, which may work on one row together.
const WARP: usize = 32;
/// Values of a row that a lane keeps: `VALUES_PER_LANE` of the kernel.
const VALUES_PER_LANE: usize = 32;
const NORM_THREADS: usize = 128;
const GELU_THREADS: usize = 256;

/// Values that a kernel reads at a time.
fn chunk(dtype: DType) -> usize {
    CHUNK_BYTES / dtype.size_in_bytes()
}

/// Whether [`residual_norm`] is made for rows of this width.
pub(in crate::ops) fn norm_fits(width: usize, dtype: DType) -> bool {
    width <= WARP * VALUES_PER_LANE && gelu_fits(width, dtype)
}

/// Whether [`bias_gelu`] is made for rows of this width.
pub(in crate::ops) fn gelu_fits(width: usize, dtype: DType) -> bool {
    width > 0 && width.is_multiple_of(chunk(dtype))
}

/// `residual + norm(branch + bias)` over the last dimension, with the norm's `weight` and `offset`.
///
/// # Errors
/// If the shapes or types do not match, or the device refuses the kernel.
pub(in crate::ops) fn residual_norm(
    branch: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    (weight, offset): (&Tensor, &Tensor),
    epsilon: f32,
) -> Result<Tensor> {
    let (width, dtype) = (weight.elem_count(), branch.dtype());
    let of_row = [Some(weight), Some(offset), bias];
    let is_row = |tensor: &&Tensor| tensor.dims() == [width] && tensor.dtype() == dtype;
    let is_whole = |tensor: &&Tensor| tensor.dims() == branch.dims() && tensor.dtype() == dtype;
    let fit = norm_fits(width, dtype)
        && branch.dims().last() == Some(&width)
        && of_row.iter().flatten().all(is_row)
        && residual.iter().all(is_whole);
    if !fit {
        candle_core::bail!("a norm over {width} values was given {:?} and a residual of {residual:?}", branch.dims());
    }
    let rows = branch.elem_count() / width;
    let lanes = (width / chunk(dtype)).next_power_of_two().min(WARP);
    let launch = Launch {
        kernel: "residual_norm",
        dtype,
        blocks: int((rows * lanes).div_ceil(NORM_THREADS))?,
        threads: int(NORM_THREADS)?,
        shared_bytes: 0,
        scalars: vec![int(rows)?, int(width)?, int(lanes)?, epsilon.to_bits()],
    };
    launch.run(branch, &[bias, residual, Some(weight), Some(offset)], branch.shape())
}

/// `gelu(x + bias)` over the last dimension, with erf.
///
/// # Errors
/// If the shapes or types do not match, or the device refuses the kernel.
pub(in crate::ops) fn bias_gelu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (width, dtype) = (bias.elem_count(), x.dtype());
    if !gelu_fits(width, dtype) || x.dims().last() != Some(&width) || bias.dtype() != dtype {
        candle_core::bail!("a bias of {width} values cannot be added to {:?}", x.dims());
    }
    let chunks = x.elem_count() / chunk(dtype);
    let launch = Launch {
        kernel: "bias_gelu",
        dtype,
        blocks: int(chunks.div_ceil(GELU_THREADS))?,
        threads: int(GELU_THREADS)?,
        shared_bytes: 0,
        scalars: vec![int(chunks)?, int(width)?],
    };
    launch.run(x, &[Some(bias)], x.shape())
}
