//! The input side of a tile: reads the 6x6 pixels that it sees and transforms them, Bᵀ d B.

use super::task::{WinogradTask, fits};
use super::transform::{self, SIDE, across};
use crate::Maps;
use crate::factors::{CHUNK, Factors};
use crate::simd::Simd;

/// The 6x6 input pixels of a tile.
struct Seen {
    /// Index of the first pixel in the batch of maps.
    origin: usize,
    /// Which of its rows and columns are on the map.
    rows: [bool; SIDE],
    columns: [bool; SIDE],
}

impl WinogradTask<'_> {
    /// Transforms a tile's inputs, Bᵀ d B. Each of the 36 points of a word lies `stride` values after the previous one in
    /// `to`; the chunks of a row lie `group` rows apart.
    #[inline(always)]
    pub(super) fn gather<S: Simd>(&self, s: S, tile: usize, to: &mut [f32], stride: usize, group: usize) {
        let (n, y, x) = self.position(tile);
        let Maps { height, width, .. } = self.maps;
        let (top, left) = (y.wrapping_sub(1), x.wrapping_sub(1));
        let mut seen = Seen {
            // Wraps around where the tile begins before the map; adding the offset of a pixel that exists wraps back.
            origin: (n * height).wrapping_add(top).wrapping_mul(width).wrapping_add(left),
            rows: [true; SIDE],
            columns: [true; SIDE],
        };
        let inside = fits(top, SIDE, height) && fits(left, SIDE, width);
        if !inside {
            seen.rows = std::array::from_fn(|i| top.wrapping_add(i) < height);
            seen.columns = std::array::from_fn(|j| left.wrapping_add(j) < width);
        }
        let factors = self.layer.factors;
        let whole = inside && self.layer.inputs.is_multiple_of(factors.unit_values());
        // The common cases are compiled separately, so that they need no branches on what is known here.
        match factors {
            Factors::F32 if whole => self.gather_seen::<S, true>(s, &seen, Factors::F32, to, stride, group),
            Factors::Bf16 if whole => self.gather_seen::<S, true>(s, &seen, Factors::Bf16, to, stride, group),
            factors => self.gather_seen::<S, false>(s, &seen, factors, to, stride, group),
        }
    }

    /// As [`WinogradTask::gather`]; with `WHOLE`, every pixel and channel must exist.
    #[inline(always)]
    fn gather_seen<S: Simd, const WHOLE: bool>(
        &self,
        s: S,
        seen: &Seen,
        factors: Factors,
        to: &mut [f32],
        stride: usize,
        group: usize,
    ) {
        let unit_words = factors.unit_chunks() * CHUNK;
        let units = factors.padded_words(self.layer.inputs) / unit_words;
        let reach = (SIDE * SIDE - 1) * stride + (units * factors.unit_chunks() - 1) * group * CHUNK + CHUNK;
        let to = to[..reach].as_mut_ptr();
        for unit in 0..units {
            for lane in (0..CHUNK).step_by(S::LANES) {
                let channel = unit * factors.unit_values();
                let sources = factors.sources::<S>(lane);
                let first = self.transform_columns::<S, WHOLE>(s, seen, channel + sources[0]);
                // SAFETY: each point's words of this unit lie inside the range checked above.
                unsafe {
                    let to = to.add(unit * unit_words * group + lane);
                    if sources[0] == sources[1] {
                        for i in 0..SIDE {
                            let points = transform::input(s, across(&first, i));
                            store_points(s, factors, [points; 2], to.add(i * SIDE * stride), stride, group);
                        }
                    } else {
                        let second = self.transform_columns::<S, WHOLE>(s, seen, channel + sources[1]);
                        for i in 0..SIDE {
                            let points = [transform::input(s, across(&first, i)), transform::input(s, across(&second, i))];
                            store_points(s, factors, points, to.add(i * SIDE * stride), stride, group);
                        }
                    }
                }
            }
        }
    }

    /// Bᵀ d for a register of channels, with zeros past the last channel: half of a tile's transform, column by column.
    #[inline(always)]
    fn transform_columns<S: Simd, const WHOLE: bool>(&self, s: S, seen: &Seen, channel: usize) -> [[S::V; SIDE]; SIDE] {
        let column = Column {
            x: self.x,
            inputs: self.layer.inputs,
            width: self.maps.width,
            made: SIDE + 1 - self.layer.taps,
            channel,
        };
        // Written out so that nothing is zeroed or copied first (a closure would not be compiled for the instruction set).
        [
            column.transform::<S, WHOLE>(s, seen, 0),
            column.transform::<S, WHOLE>(s, seen, 1),
            column.transform::<S, WHOLE>(s, seen, 2),
            column.transform::<S, WHOLE>(s, seen, 3),
            column.transform::<S, WHOLE>(s, seen, 4),
            column.transform::<S, WHOLE>(s, seen, 5),
        ]
    }
}

/// Reads a tile's input columns, for a register of channels.
struct Column<'a> {
    x: &'a [f32],
    inputs: usize,
    width: usize,
    /// Outputs along a side of a tile, which is also the distance to the next tile.
    made: usize,
    channel: usize,
}

impl Column<'_> {
    /// Bᵀ d of column `j`.
    #[inline(always)]
    fn transform<S: Simd, const WHOLE: bool>(&self, s: S, seen: &Seen, j: usize) -> [S::V; SIDE] {
        let count = if WHOLE { S::LANES } else { self.inputs.saturating_sub(self.channel).min(S::LANES) };
        let mut d = [s.splat(0.0); SIDE];
        for i in 0..SIDE {
            if WHOLE || (seen.rows[i] && seen.columns[j]) {
                let pixel = seen.origin.wrapping_add(i * self.width + j);
                let place = pixel.wrapping_mul(self.inputs).wrapping_add(self.channel);
                // The pixels that only the next tile sees are too scattered for the hardware prefetcher. (With four outputs
                // per side, one of these columns is prefetched in vain; checking for it would cost more.)
                if j > 0 {
                    s.prefetch(self.x.as_ptr().wrapping_add(place + self.made * self.inputs));
                }
                // SAFETY: `count` channels from here on belong to this pixel, which is on the map.
                d[i] = unsafe { s.load_some(self.x.as_ptr().wrapping_add(place), count) };
            }
        }
        transform::input(s, d)
    }
}

/// Writes a row of a tile's points, `stride` words from one point to the next.
///
/// # Safety
/// The words of each point must be writable.
#[inline(always)]
unsafe fn store_points<S: Simd>(
    s: S,
    factors: Factors,
    points: [[S::V; SIDE]; 2],
    to: *mut f32,
    stride: usize,
    group: usize,
) {
    for j in 0..SIDE {
        // SAFETY: the caller's promise.
        unsafe { factors.write(s, [points[0][j], points[1][j]], to.add(j * stride), group * CHUNK) };
    }
}
