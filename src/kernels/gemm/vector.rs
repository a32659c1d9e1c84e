//! Matrix products on vector registers: one thread's share, and the blocks that [`crate::rows`] multiplies.

use std::ops::Range;

use super::PackedMatrix;
use super::pack::{PackRows, RowPiece};
use super::row_source::RowSource;
use super::task::GemmTask;
use crate::LayerActivation;
use crate::factors::{CHUNK, Factors};
use crate::memory::{Out, Scratch};
use crate::micro::{Further, ProductSides, Start, Tile, multiply};
use crate::simd::{Simd, SimdTask};

/// Units of the inner dimension (1024 f32 values, 2048 bf16 values) that are multiplied before moving on. A task's rows of
/// so many units stay in the second-level cache; with fewer units, the sums would go to memory and back more often.
pub(super) const BLOCK_UNITS: usize = 64;

#[inline(always)]
pub(super) fn run<S: Simd, R: RowSource>(simd: S, task: GemmTask<'_, R>) {
    let GemmTask { matrix, x, residual, activation, rows, panels, out } = task;
    let factors = matrix.factors;
    let (units, unit_words) = (matrix.units(), factors.unit_chunks() * CHUNK);
    let mut packed = Scratch::take(factors.groups(S::ROWS).padded(rows.len()) * units.min(BLOCK_UNITS) * unit_words);
    for block in matrix.blocks() {
        let row_words = block.len() * unit_words;
        let piece = RowPiece { rows: rows.clone(), units: block.clone(), row_words, before: 0 };
        simd.apart(PackRows { factors, x, inputs: matrix.inputs, piece, packed: &mut packed });
        let left = PackedRows { words: &packed, row_words, before: 0 };
        let to = ProductTarget::Matrix { out, residual: residual.map(<[f32]>::as_ptr) };
        simd.apart(ProductBlock { matrix, left, rows: rows.clone(), panels: panels.clone(), units: block, activation, to });
    }
}

/// Packed rows of the left-hand side, [group][chunk][row in group][CHUNK].
#[derive(Clone, Copy)]
pub(crate) struct PackedRows<'a> {
    pub(crate) words: &'a [f32],
    /// Words per row in the whole layout.
    pub(crate) row_words: usize,
    /// Words per row before the first one that is multiplied.
    pub(crate) before: usize,
}

/// Where a product is written.
#[derive(Clone, Copy)]
pub(crate) enum ProductTarget<'a> {
    /// A matrix. The residual has the result's layout and may be the memory that the result overwrites.
    Matrix { out: Out<'a>, residual: Option<*const f32> },
    /// Words of the left-hand side of a following product.
    Further { to: *mut f32, factors: Factors, row_words: usize },
}

/// A block of a product: some rows, panels and units of the inner dimension.
pub(crate) struct ProductBlock<'a> {
    pub(crate) matrix: &'a PackedMatrix,
    pub(crate) left: PackedRows<'a>,
    pub(crate) rows: Range<usize>,
    pub(crate) panels: Range<usize>,
    pub(crate) units: Range<usize>,
    /// Applied once the last unit has been added.
    pub(crate) activation: LayerActivation,
    pub(crate) to: ProductTarget<'a>,
}

impl SimdTask for ProductBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let ProductBlock { matrix, left, rows, panels, units, activation, to } = self;
        let (width, factors, outputs) = (2 * S::LANES, matrix.factors, matrix.outputs);
        let (words, unit_words) = (factors.words(matrix.inputs), factors.unit_chunks() * CHUNK);
        let first = units.start * unit_words;
        let count = (units.len() * unit_words).min(words - first);
        let activation = if units.end == matrix.units() { activation } else { LayerActivation::None };
        for panel in panels {
            let column = panel * width;
            let right = &matrix.words[(panel * words + first) * width..][..count * width];
            let mut row = rows.start;
            for size in factors.groups(S::ROWS).sizes(rows.len()) {
                let valid = size.min(rows.end - row);
                let place = row * outputs + column;
                let bias = matrix.bias[column..].as_ptr();
                let tile = match to {
                    ProductTarget::Matrix { out, residual } => {
                        let residual = residual.map(|r| r.wrapping_add(place));
                        let columns = width.min(outputs - column);
                        Tile {
                            to: out.at(place, (valid - 1) * outputs + columns),
                            stride: outputs,
                            rows: valid,
                            columns,
                            start: if first > 0 { Start::Partial } else { Start::Bias { bias, residual } },
                            activation,
                            further: None,
                        }
                    }
                    ProductTarget::Further { to, factors, row_words } => Tile {
                        to: to.wrapping_add((row - rows.start) * row_words),
                        stride: 0,
                        rows: size,
                        columns: width,
                        start: Start::Bias { bias, residual: None },
                        activation,
                        further: Some(Further { factors, column }),
                    },
                };
                let next = row + valid;
                if let ProductTarget::Matrix { out, residual } = to
                    && next < rows.end
                {
                    let place = next * outputs + column;
                    let residual = residual.filter(|_| first == 0).map(|r| r.wrapping_add(place));
                    ask_for(simd, &tile, out.at(place, 0), residual);
                }
                let left = &left.words[(row - rows.start) * left.row_words + left.before * size..];
                // SAFETY: this task alone writes its rows and columns; both sides hold `count` words.
                unsafe { multiply(simd, size, ProductSides { left, right, count, factors }, tile) };
                row += valid;
            }
        }
    }
}

/// Prefetches the lines that the next tile, assumed to be as large as this one, will read and write. Each row is two lines,
/// a whole matrix row away from the last, which the hardware prefetcher does not follow.
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
