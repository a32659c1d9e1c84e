//! What one thread does of a product on vector registers.

use std::ops::Range;

use super::pack::pack_rows;
use super::{PackedMatrix, Rows, tiled};
use crate::kernels::Activation;
use crate::kernels::factors::CHUNK;
use crate::kernels::memory::{Out, Scratch};
use crate::kernels::micro::{Start, Tile, Words, multiply};
use crate::kernels::simd::{Simd, Task};

/// Units of the inner dimension (256 f32 values, 512 bf16 ones) that are multiplied before moving on: a panel of them stays in the
/// first-level cache.
const BLOCK_UNITS: usize = 16;

/// One thread's piece of a product.
pub(super) struct Job<'a, R> {
    pub(super) matrix: &'a PackedMatrix,
    pub(super) x: &'a R,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) activation: Activation,
    pub(super) rows: Range<usize>,
    pub(super) panels: Range<usize>,
    pub(super) out: Out<'a>,
}

impl<R: Rows> Task for Job<'_, R> {
    type Output = ();
    const TILES: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if S::TILES && self.matrix.factors.tiled() {
            return tiled::run(simd, self);
        }
        let Job { matrix, x, residual, activation, rows, panels, out } = self;
        let (width, factors) = (2 * S::LANES, matrix.factors);
        let groups = factors.groups(S::ROWS);
        let (words, units) = (factors.words(matrix.inputs), matrix.inputs.div_ceil(factors.unit_values()));
        let unit_words = factors.unit_chunks() * CHUNK;
        let mut packed = Scratch::take(groups.padded(rows.len()) * units.min(BLOCK_UNITS) * unit_words);
        // A product over nothing is the bias alone: one empty block.
        for first_unit in (0..units.max(1)).step_by(BLOCK_UNITS) {
            let block = first_unit..units.min(first_unit + BLOCK_UNITS);
            pack_rows(simd, factors, x, rows.clone(), matrix.inputs, block.clone(), &mut packed);
            let first = first_unit * unit_words;
            let padded = block.len() * unit_words;
            let count = padded.min(words - first);
            for panel in panels.clone() {
                let column = panel * width;
                let columns = width.min(matrix.outputs - column);
                let right = &matrix.words[(panel * words + first) * width..][..count * width];
                let mut row = rows.start;
                for size in groups.sizes(rows.len()) {
                    let place = row * matrix.outputs + column;
                    let valid = size.min(rows.end - row);
                    let start = if first > 0 {
                        Start::Partial
                    } else {
                        let residual = residual.map(|r| r[place..].as_ptr());
                        Start::Bias { bias: matrix.bias[column..].as_ptr(), residual }
                    };
                    let left = &packed[(row - rows.start) * padded..];
                    let tile = Tile {
                        to: out.at(place, (valid - 1) * matrix.outputs + columns),
                        stride: matrix.outputs,
                        rows: valid,
                        columns,
                        start,
                        activation: if block.end == units { activation } else { Activation::None },
                    };
                    let next = row + valid;
                    if next < rows.end {
                        let place = next * matrix.outputs + column;
                        let residual = residual.filter(|_| first == 0).map(|r| r[place..].as_ptr());
                        ask_for(simd, &tile, out.at(place, 0), residual);
                    }
                    let sides = Words { left, right, count, factors };
                    // SAFETY: this job alone writes its rows and columns; the sides hold `count` words.
                    unsafe { multiply(simd, size, sides, tile) };
                    row += valid;
                }
            }
        }
    }
}

/// Asks for the lines that the next tile, as large as this one, will read and write: each is two lines long and a row away
/// from the last, which the hardware does not foresee.
#[inline(always)]
fn ask_for<S: Simd>(simd: S, tile: &Tile, to: *const f32, residual: Option<*const f32>) {
    for r in 0..tile.rows {
        for c in (0..tile.columns).step_by(CHUNK) {
            let offset = r * tile.stride + c;
            simd.prefetch(to.wrapping_add(offset));
            if let Some(residual) = residual {
                simd.prefetch(residual.wrapping_add(offset));
            }
        }
    }
}
