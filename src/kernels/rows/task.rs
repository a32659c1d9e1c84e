//! One thread's share of a plan: all steps, for some of the rows.

use std::ops::Range;

use super::{Residual, RowStep};
use crate::LayerActivation;
use crate::factors::CHUNK;
use crate::gemm::{DenseRows, PackRows, PackedMatrix, PackedRows, ProductBlock, ProductTarget, RowPiece};
use crate::memory::{Out, Scratch};
use crate::norm::Norm;
use crate::simd::{Simd, SimdTask};

pub(super) struct RowsTask<'a> {
    pub(super) x: &'a [f32],
    pub(super) width: usize,
    pub(super) steps: &'a [RowStep<'a>],
    pub(super) rows: Range<usize>,
    pub(super) kept: &'a [Out<'a>],
}

impl Residual<'_> {
    /// The address of the residual of `rows`, of `width` values each.
    #[inline(always)]
    fn of(self, rows: &Range<usize>, width: usize, kept: &[Out<'_>]) -> *const f32 {
        match self {
            Self::Values(values) => values[rows.start * width..rows.end * width].as_ptr(),
            Self::Replaced => kept[0].at(rows.start * width, rows.len() * width),
        }
    }
}

/// The task's rows after the step at hand.
#[derive(Clone, Copy)]
struct CurrentRows {
    values: *const f32,
    width: usize,
}

impl SimdTask for RowsTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let RowsTask { x, width, steps, rows, kept } = self;
        if rows.is_empty() {
            return;
        }
        let count = rows.len();
        let mut now = CurrentRows { values: x[rows.start * width..rows.end * width].as_ptr(), width };
        // `sums`: a product's result until a norm has read it. `words`: packed input of the next product. `held`: results of
        // norms, which later norms may add.
        let mut sums: Option<Scratch> = None;
        let mut words: Option<PackedInput> = None;
        let mut held: Vec<Scratch> = Vec::new();
        let mut normed = now;
        let mut keeping = 0;
        for (index, step) in steps.iter().enumerate() {
            let kept_next = matches!(steps.get(index + 1), Some(RowStep::Keep));
            match *step {
                RowStep::Keep => keeping += 1,
                RowStep::Product { matrix, residual, activation } => {
                    let left = match words.take() {
                        Some(words) => words,
                        // SAFETY: `now` points to the values of these rows.
                        None => unsafe { pack(s, matrix, now, count) },
                    };
                    let outputs = matrix.outputs();
                    let residual = residual.map(|residual| residual.of(&rows, outputs, kept));
                    let product = RowsProduct { matrix, left: &left, count, activation };
                    // A kept result is written directly to its final memory.
                    if kept_next {
                        let out = kept[keeping].part(rows.start * outputs, count * outputs);
                        product.run(s, ProductTarget::Matrix { out, residual });
                        now = CurrentRows { values: out.at(0, 0), width: outputs };
                    } else if residual.is_none() && matches!(steps.get(index + 1), Some(RowStep::Product { .. })) {
                        words = Some(product.further(s));
                    } else {
                        let sums = sums.insert(Scratch::take(count * outputs));
                        product.run(s, ProductTarget::Matrix { out: Out::over(sums), residual });
                        now = CurrentRows { values: sums.as_ptr(), width: outputs };
                    }
                }
                RowStep::Norm { weight, bias, epsilon, residual } => {
                    let width = weight.len();
                    let to = if kept_next {
                        kept[keeping].at(rows.start * width, count * width)
                    } else {
                        let mut scratch = Scratch::take(count * width);
                        let to = scratch.as_mut_ptr();
                        held.push(scratch);
                        to
                    };
                    let residual = residual.map_or(normed.values, |residual| residual.of(&rows, width, kept));
                    let norm = Norm { weight, bias, epsilon };
                    for row in 0..count {
                        // SAFETY: both hold these rows, as `RowPlan` has checked; the result belongs to this task.
                        unsafe {
                            let x = std::slice::from_raw_parts(now.values.add(row * width), width);
                            norm.run(s, x, Some(residual.add(row * width)), to.add(row * width));
                        }
                    }
                    now = CurrentRows { values: to, width };
                    normed = now;
                }
            }
        }
    }
}

/// Rows packed as the left-hand side of a product, [group][chunk][row in group][CHUNK].
struct PackedInput {
    words: Scratch,
    row_words: usize,
}

/// # Safety
/// `count` rows must be readable.
#[inline(always)]
unsafe fn pack<S: Simd>(s: S, matrix: &PackedMatrix, rows: CurrentRows, count: usize) -> PackedInput {
    let factors = matrix.factors();
    let row_words = factors.padded_words(rows.width);
    let mut words = Scratch::take(factors.groups(S::ROWS).padded(count) * row_words);
    // SAFETY: the caller's promise.
    let values = unsafe { std::slice::from_raw_parts(rows.values, count * rows.width) };
    for units in matrix.blocks() {
        let before = units.start * factors.unit_chunks() * CHUNK;
        let piece = RowPiece { rows: 0..count, units, row_words, before };
        let x = &DenseRows { values, width: rows.width };
        s.apart(PackRows { factors, x, inputs: rows.width, piece, packed: &mut words });
    }
    PackedInput { words, row_words }
}

/// A product over all rows of a task.
struct RowsProduct<'a> {
    matrix: &'a PackedMatrix,
    left: &'a PackedInput,
    count: usize,
    activation: LayerActivation,
}

impl RowsProduct<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, to: ProductTarget<'_>) {
        for units in self.matrix.blocks() {
            self.multiply(s, units, to);
        }
    }

    /// Returns the result packed for the next product. It takes the whole inner dimension at once, because packing rounds
    /// the sums.
    #[inline(always)]
    fn further<S: Simd>(&self, s: S) -> PackedInput {
        let factors = self.matrix.factors();
        // Whole panels are written.
        let row_words = factors.padded_words(self.matrix.outputs().next_multiple_of(2 * S::LANES));
        let mut words = Scratch::take(factors.groups(S::ROWS).padded(self.count) * row_words);
        self.multiply(s, 0..self.matrix.units(), ProductTarget::Further { to: words.as_mut_ptr(), factors, row_words });
        PackedInput { words, row_words }
    }

    #[inline(always)]
    fn multiply<S: Simd>(&self, s: S, units: Range<usize>, to: ProductTarget<'_>) {
        let Self { matrix, left, count, activation } = *self;
        let before = units.start * matrix.factors().unit_chunks() * CHUNK;
        let left = PackedRows { words: &left.words, row_words: left.row_words, before };
        let panels = 0..matrix.outputs().div_ceil(2 * S::LANES);
        s.apart(ProductBlock { matrix, left, rows: 0..count, panels, units, activation, to });
    }
}
