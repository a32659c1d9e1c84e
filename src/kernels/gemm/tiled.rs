//! One thread's share of a product in tile registers.
//!
//! Tiles multiply so fast that moving data is most of the work. The sums of 32 rows and many columns are therefore collected
//! in the nearest cache and then finished row by row, so that memory beyond that cache is read and written in long runs,
//! which the hardware prefetches.

use super::pack::{PackRows, RowPiece};
use super::row_source::RowSource;
use super::task::GemmTask;
use crate::factors::{CHUNK, Factors};
use crate::memory::Scratch;
use crate::simd::{Simd, Tiles};
use crate::{LayerActivation, math};

/// Rows in a group: two tiles.
const GROUP: usize = 32;
/// Columns in a panel: two tiles.
const WIDTH: usize = 32;
/// Panels whose sums are collected at once.
const PANELS: usize = 4;
/// Units of the inner dimension that are multiplied before moving on. All rows of a task times these panels then stay in the
/// second-level cache.
const BLOCK_UNITS: usize = 16;
/// Bytes of one chunk for all rows of a group.
const CHUNK_BYTES: usize = GROUP * CHUNK * size_of::<f32>();

#[inline(always)]
pub(super) fn run<S: Simd, R: RowSource>(s: S, task: GemmTask<'_, R>) {
    let GemmTask { matrix, x, residual, activation, rows, panels, out } = task;
    let (factors, outputs) = (matrix.factors, matrix.outputs);
    let (words, units) = (factors.words(matrix.inputs), matrix.inputs.div_ceil(factors.unit_values()));
    let unit_words = factors.unit_chunks() * CHUNK;
    let mut packed = Scratch::take(rows.len().next_multiple_of(GROUP) * units.min(BLOCK_UNITS) * unit_words);
    // One cache line of padding per row: otherwise all rows would fall on the same few sets of the cache.
    let stride = PANELS.min(panels.len()) * WIDTH + CHUNK;
    let offsets: [usize; BLOCK_UNITS] = std::array::from_fn(|unit| unit * factors.unit_chunks() * CHUNK_BYTES);
    let mut sums = Scratch::take(GROUP * stride);
    // An empty inner dimension still writes the bias: one empty block.
    for first in (0..units.max(1)).step_by(BLOCK_UNITS) {
        let block = first..units.min(first + BLOCK_UNITS);
        let count = block.len() * unit_words;
        let piece = RowPiece { rows: rows.clone(), units: block.clone(), row_words: count, before: 0 };
        s.apart(PackRows { factors, x, inputs: matrix.inputs, piece, packed: &mut packed });
        for some in panels.clone().step_by(PANELS) {
            let some = some..panels.end.min(some + PANELS);
            let columns = some.start * WIDTH..outputs.min(some.end * WIDTH);
            for group in rows.clone().step_by(GROUP) {
                let left = &packed[(group - rows.start) * count..][..GROUP * count];
                for panel in some.clone() {
                    let right = &matrix.words[(panel * words + first * unit_words) * WIDTH..][..count * WIDTH];
                    let to = &mut sums[(panel - some.start) * WIDTH..][..(GROUP - 1) * stride + WIDTH];
                    let tiles = Tiles {
                        left: [left.as_ptr(), left.as_ptr().wrapping_add(GROUP / 2 * CHUNK)],
                        offsets: &offsets[..block.len()],
                        row_bytes: CHUNK * size_of::<f32>(),
                        part_bytes: CHUNK_BYTES,
                        right: right.as_ptr(),
                        wide: outputs - panel * WIDTH > S::LANES,
                        split: factors == Factors::TiledSplit,
                        to: to.as_mut_ptr(),
                        stride_bytes: stride * size_of::<f32>(),
                    };
                    // SAFETY: the slices hold `count` words for 32 rows and 32 columns, and 32 rows of the result.
                    unsafe { s.multiply_tiles(tiles) };
                }
                for row in group..rows.end.min(group + GROUP) {
                    let place = row * outputs + columns.start;
                    let sums = &sums[(row - group) * stride..][..columns.len()];
                    let finish = Finish {
                        earlier: first > 0,
                        end: (block.end == units)
                            .then(|| (&matrix.bias[columns.clone()], residual.map(|r| &r[place..][..columns.len()]))),
                        activation,
                    };
                    // SAFETY: this task alone writes its rows and columns, which lie inside the result.
                    unsafe { finish.run(s, sums, out.at(place, columns.len())) };
                }
            }
        }
    }
}

/// How a row of sums is finished and written.
pub(crate) struct Finish<'a> {
    /// Whether the result already holds the sums of earlier blocks.
    pub(crate) earlier: bool,
    /// For the last block: the bias, and the residual if there is one.
    pub(crate) end: Option<(&'a [f32], Option<&'a [f32]>)>,
    pub(crate) activation: LayerActivation,
}

impl Finish<'_> {
    /// # Safety
    /// `to` must be valid for as many values as there are sums; bias and residual must be as long.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd>(&self, s: S, sums: &[f32], to: *mut f32) {
        let whole = sums.len() / S::LANES * S::LANES;
        // SAFETY: values `at .. at + count` lie inside sums, bias, residual and result.
        unsafe {
            for at in (0..whole).step_by(S::LANES) {
                self.finish::<S, true>(s, sums, to, at, S::LANES);
            }
            if whole < sums.len() {
                self.finish::<S, false>(s, sums, to, whole, sums.len() - whole);
            }
        }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd, const WHOLE: bool>(&self, s: S, sums: &[f32], to: *mut f32, at: usize, count: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut v = load::<S, WHOLE>(s, sums.as_ptr().add(at), count);
            if self.earlier {
                v = s.add(v, load::<S, WHOLE>(s, to.add(at), count));
            }
            if let Some((bias, residual)) = self.end {
                v = s.add(v, load::<S, WHOLE>(s, bias.as_ptr().add(at), count));
                if let Some(residual) = residual {
                    v = s.add(v, load::<S, WHOLE>(s, residual.as_ptr().add(at), count));
                }
                v = math::activate(s, v, self.activation);
            }
            if WHOLE { s.store(to.add(at), v) } else { s.store_part(to.add(at), v, count) }
        }
    }
}

/// # Safety
/// `count` values (a whole register if `WHOLE`) must be readable.
#[inline(always)]
unsafe fn load<S: Simd, const WHOLE: bool>(s: S, from: *const f32, count: usize) -> S::V {
    // SAFETY: handed on.
    unsafe { if WHOLE { s.load(from) } else { s.load_part(from, count) } }
}
