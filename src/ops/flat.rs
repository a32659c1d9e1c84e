//! Neighbours of every pixel side by side, in copies of whole rows: how plain operations make convolutions one product.

use candle_core::{Result, Tensor};

/// Most memory for what is gathered at a time; a single map may need more.
const GATHERED_BYTES: usize = 1 << 30;

/// Maps whose pixels lie one after the other, `[rows, C]`, with zeros behind every row of a map and behind every map: the
/// pixel beside, above or below lies a fixed number of rows away, and one beyond the border is a zero.
pub(super) struct Flat {
    /// With zeros before the first and behind the last that counts, so that all have all neighbours.
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

    /// `[rows, offsets · C]`: what lies so many rows and columns of the map away, each 0 for one up or left, 1 for none, 2
    /// for one down or right.
    pub(super) fn neighbours(&self, offsets: &[(usize, usize)]) -> Result<Tensor> {
        let stride = self.width + 1;
        let all = self.count * (self.height + 1) * stride;
        let seen = |(down, right): &(usize, usize)| self.rows.narrow(0, down * stride + right, all);
        Tensor::cat(&offsets.iter().map(seen).collect::<Result<Vec<_>>>()?, 1)
    }

    /// `[N, H, W, out]` from a value for every row, `[rows, out]`.
    pub(super) fn map(&self, values: &Tensor) -> Result<Tensor> {
        let map = values.reshape((self.count, self.height + 1, self.width + 1, ()))?;
        map.narrow(1, 0, self.height)?.narrow(2, 0, self.width)?.contiguous()
    }

    /// `[N, 2H, 2W, out]` from four values for every row, `[rows, out]` each, as [`doubled`] takes them.
    pub(super) fn map_doubled(&self, values: &[Tensor]) -> Result<Tensor> {
        let map = doubled(values, (self.count, self.height + 1, self.width + 1))?;
        map.narrow(1, 0, 2 * self.height)?.narrow(2, 0, 2 * self.width)?.contiguous()
    }
}

/// `[N, 2H, 2W, out]` from what each of `N · H · W` pixels becomes, `[pixels, out]` for the upper left, upper right, lower left and
/// lower right.
pub(super) fn doubled(values: &[Tensor], (count, height, width): (usize, usize, usize)) -> Result<Tensor> {
    let pair = |of: &[Tensor]| Tensor::cat(of, 1)?.reshape((count * height, ()));
    let lines = values.chunks(2).map(pair).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&lines, 1)?.reshape((count, 2 * height, 2 * width, ()))
}

/// Applies `convolve`, which gathers so many neighbours, to as many of the maps `[N, H, W, C]` at a time as memory allows.
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
