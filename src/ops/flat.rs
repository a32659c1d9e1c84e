//! The neighbours of every pixel side by side, copied as whole rows, so that plain operations can run a convolution as one
//! product.

use candle_core::{Result, Tensor};

/// Most bytes of neighbours that are gathered at a time; a single map may need more.
const GATHERED_BYTES: usize = 1 << 30;

/// Maps whose pixels lie one after the other, `[rows, C]`, with zeros after every row of a map and after every map. The
/// neighbour of a pixel is then a fixed number of rows away, and is zero beyond the border.
pub(super) struct Flat {
    /// Padded with zero rows at both ends, so that every pixel has all neighbours.
    rows: Tensor,
    count: usize,
    height: usize,
    width: usize,
}

impl Flat {
    /// From `[N, H, W, C]`.
    pub(super) fn new(x: &Tensor) -> Result<Self> {
        let (count, height, width, channels) = x.dims4()?;
        let rows = x.contiguous()?.pad_with_zeros(2, 0, 1)?.pad_with_zeros(1, 0, 1)?;
        let rows = rows.reshape((count * (height + 1) * (width + 1), channels))?;
        let reach = width + 2;
        Ok(Self { rows: rows.pad_with_zeros(0, reach, reach)?, count, height, width })
    }

    /// `[rows, offsets · C]`: the neighbours at the given (row, column) offsets, where 0 means one up or left, 1 the pixel's
    /// own row or column, and 2 one down or right.
    pub(super) fn neighbours(&self, offsets: &[(usize, usize)]) -> Result<Tensor> {
        let stride = self.width + 1;
        let all = self.count * (self.height + 1) * stride;
        let seen = |(down, right): &(usize, usize)| self.rows.narrow(0, down * stride + right, all);
        Tensor::cat(&offsets.iter().map(seen).collect::<Result<Vec<_>>>()?, 1)
    }

    /// `[rows, out]` -> `[N, H, W, out]`, without the zero rows.
    pub(super) fn map(&self, values: &Tensor) -> Result<Tensor> {
        let map = values.reshape((self.count, self.height + 1, self.width + 1, ()))?;
        map.narrow(1, 0, self.height)?.narrow(2, 0, self.width)?.contiguous()
    }

    /// Four values per row, `[rows, out]` each in the order of [`doubled`], to `[N, 2H, 2W, out]`.
    pub(super) fn map_doubled(&self, values: &[Tensor]) -> Result<Tensor> {
        let map = doubled(values, (self.count, self.height + 1, self.width + 1))?;
        map.narrow(1, 0, 2 * self.height)?.narrow(2, 0, 2 * self.width)?.contiguous()
    }
}

/// Four values per pixel to `[N, 2H, 2W, out]`: `values` are the upper left, upper right, lower left and lower right
/// outputs, `[pixels, out]` each.
pub(super) fn doubled(values: &[Tensor], (count, height, width): (usize, usize, usize)) -> Result<Tensor> {
    let pair = |of: &[Tensor]| Tensor::cat(of, 1)?.reshape((count * height, ()));
    let lines = values.chunks(2).map(pair).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&lines, 1)?.reshape((count, 2 * height, 2 * width, ()))
}

/// Applies `convolve`, which gathers `neighbours` neighbours per pixel, to as many of the maps `[N, H, W, C]` at a time as
/// [`GATHERED_BYTES`] allows.
pub(super) fn in_parts(x: &Tensor, neighbours: usize, convolve: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let count = x.dim(0)?;
    let bytes = neighbours * x.elem_count() * x.dtype().size_in_bytes();
    let parts = bytes.div_ceil(GATHERED_BYTES).clamp(1, count.max(1));
    if parts == 1 {
        return convolve(x);
    }
    let most = count.div_ceil(parts);
    let part = |first: usize| convolve(&x.narrow(0, first, most.min(count - first))?);
    Tensor::cat(&(0..count).step_by(most).map(part).collect::<Result<Vec<_>>>()?, 0)
}
