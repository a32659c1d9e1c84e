//! Matrix products with weights packed once: y = act(x Wᵀ + bias + residual).
//!
//! The scheme is that of GotoBLAS/BLIS. The right-hand side lies in panels that are two registers wide. The left-hand side
//! is copied one block at a time, each small enough for the second-level cache, into groups of as many rows as the
//! micro-kernel keeps accumulators for; within a group, rows lie in chunks of 16 values so that reads stay contiguous.
//! [`RowSource`] supplies the rows of the left-hand side, so a convolution is the same product over gathered rows.
//!
//! [`Factors`] says in which form values are multiplied; they are converted to it while they are packed. Products are summed
//! in f32, and inputs and outputs stay f32.

mod pack;
mod row_source;
mod task;
mod tiled;
mod vector;

use std::ops::Range;

use rayon::prelude::*;

use self::pack::pack_panels;
pub(crate) use self::pack::{PackRows, RowPiece};
pub(crate) use self::row_source::{DenseRows, RowSource};
use self::task::GemmTask;
pub(crate) use self::tiled::Finish;
use self::vector::BLOCK_UNITS;
pub(crate) use self::vector::{PackedRows, ProductBlock, ProductTarget};
use super::factors::{Factors, Groups};
use super::memory::{Aligned, Out};
use super::simd::{InstructionSet, Simd, SimdTask};
use super::{LayerActivation, Precision};

/// Most groups of rows in one task; their block fills a second-level cache.
const JOB_GROUPS: usize = 20;
/// As above for the 32-row groups of tile registers, on processors whose second-level cache is larger.
const TILED_JOB_GROUPS: usize = 8;

/// Weights [outputs, inputs] packed for the micro-kernel, with their bias.
#[derive(Debug)]
pub struct PackedMatrix {
    /// [panel][word][panel width]
    words: Aligned,
    /// Zero-padded to whole panels.
    bias: Aligned,
    inputs: usize,
    outputs: usize,
    factors: Factors,
    instructions: InstructionSet,
}

impl PackedMatrix {
    /// Packs `weight` [outputs, inputs] (row-major) and `bias` `[outputs]`; an empty `bias` stands for zeros.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn new(weight: &[f32], bias: &[f32], outputs: usize, inputs: usize, precision: Precision) -> Self {
        Self::with_instructions(InstructionSet::detect(), weight, bias, outputs, inputs, precision)
    }

    pub(crate) fn with_instructions(
        instructions: InstructionSet,
        weight: &[f32],
        bias: &[f32],
        outputs: usize,
        inputs: usize,
        precision: Precision,
    ) -> Self {
        assert_eq!(weight.len(), outputs * inputs, "weight is [outputs, inputs]");
        assert!(bias.is_empty() || bias.len() == outputs, "bias is [outputs]");
        let factors = Factors::new(precision, instructions);
        let words = pack_panels(instructions, outputs, inputs, factors, |output, input| weight[output * inputs + input]);
        let mut padded = Aligned::zeros(outputs.next_multiple_of(2 * instructions.lanes()));
        padded[..bias.len()].copy_from_slice(bias);
        Self { words, bias: padded, inputs, outputs, factors, instructions }
    }

    /// The length of a row of the left-hand side.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The length of a row of the result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub(crate) fn factors(&self) -> Factors {
        self.factors
    }

    pub(crate) fn instructions(&self) -> InstructionSet {
        self.instructions
    }

    /// Bytes of the packed form.
    pub fn bytes(&self) -> usize {
        (self.words.len() + self.bias.len()) * size_of::<f32>()
    }

    /// `act(x Wᵀ + bias + residual)` for `x` [rows, inputs] and an optional `residual` [rows, outputs].
    ///
    /// # Panics
    /// If `x` is not a whole number of rows, or the residual's size differs from the result's.
    pub fn forward(&self, x: &[f32], residual: Option<&[f32]>, activation: LayerActivation) -> Vec<f32> {
        let rows = x.len().checked_div(self.inputs).unwrap_or(0);
        assert_eq!(x.len(), rows * self.inputs, "x is [rows, inputs]");
        self.forward_rows(rows, &DenseRows { values: x, width: self.inputs }, residual, activation)
    }

    /// [`PackedMatrix::forward`] over rows from any source.
    pub(crate) fn forward_rows<R: RowSource>(
        &self,
        rows: usize,
        x: &R,
        residual: Option<&[f32]>,
        activation: LayerActivation,
    ) -> Vec<f32> {
        assert!(residual.is_none_or(|r| r.len() == rows * self.outputs), "residual is [rows, outputs]");
        let panels = self.outputs.div_ceil(2 * self.instructions.lanes());
        let groups = self.groups();
        let (row_jobs, panel_jobs) = self.split(rows, panels);
        // SAFETY: the tasks cover every row and every column once.
        unsafe {
            Out::collect(rows * self.outputs, |out| {
                (0..row_jobs * panel_jobs).into_par_iter().with_max_len(1).for_each(|job| {
                    let (i, j) = (job / panel_jobs, job % panel_jobs);
                    self.instructions.run(GemmTask {
                        matrix: self,
                        x,
                        residual,
                        activation,
                        rows: share(rows, groups.full, i, row_jobs),
                        panels: share(panels, 1, j, panel_jobs),
                        out,
                    });
                });
            })
        }
    }

    /// Number of units ([`Factors::unit_values`]) of the inner dimension.
    pub(crate) fn units(&self) -> usize {
        self.inputs.div_ceil(self.factors.unit_values())
    }

    /// The units in the blocks in which they are multiplied. An empty inner dimension gives one empty block, which writes
    /// the bias.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let units = self.units();
        (0..units.max(1)).step_by(BLOCK_UNITS).map(move |first| first..units.min(first + BLOCK_UNITS))
    }

    pub(crate) fn groups(&self) -> Groups {
        self.factors.groups(self.instructions.rows())
    }

    /// Into how many tasks rows and panels are cut. Panels are cut only where the rows alone cannot occupy every thread.
    fn split(&self, rows: usize, panels: usize) -> (usize, usize) {
        let (threads, groups) = (rayon::current_num_threads(), self.groups().full);
        let most = groups * if self.factors.tiled() { TILED_JOB_GROUPS } else { JOB_GROUPS };
        if threads > 1 && rows < 2 * threads * groups {
            return (usize::from(rows > 0), panels.min(2 * threads));
        }
        (if threads > 1 { rows.div_ceil(most).next_multiple_of(threads) } else { rows.div_ceil(most) }, 1)
    }
}

impl<R: RowSource> SimdTask for GemmTask<'_, R> {
    type Output = ();
    const TILES: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if S::TILES && self.matrix.factors.tiled() { tiled::run(simd, self) } else { vector::run(simd, self) }
    }
}

/// Share `index` of `parts` equal shares of `0..total`, cut at multiples of `step`.
pub(crate) fn share(total: usize, step: usize, index: usize, parts: usize) -> Range<usize> {
    let steps = total.div_ceil(step);
    let cut = |i: usize| (steps * i / parts * step).min(total);
    cut(index)..cut(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn check(instructions: InstructionSet, rows: usize, inputs: usize, outputs: usize, precision: Precision) {
        let x = reference::noise(rows * inputs, 1);
        let weight = reference::noise(outputs * inputs, 2);
        let bias = reference::noise(outputs, 3);
        let residual = reference::noise(rows * outputs, 4);
        let matrix = PackedMatrix::with_instructions(instructions, &weight, &bias, outputs, inputs, precision);
        let bare = PackedMatrix::with_instructions(instructions, &weight, &[], outputs, inputs, precision);
        let (x_seen, weight_seen) = match precision {
            Precision::F32 => (x.clone(), weight),
            Precision::Bf16 => (reference::round_bf16(&x), reference::round_bf16(&weight)),
        };
        for activation in [LayerActivation::None, LayerActivation::Relu, LayerActivation::Gelu] {
            let what = format!("{instructions:?} {rows}x{inputs}x{outputs} {precision:?} {activation:?}");
            let expected = reference::linear(&x_seen, &weight_seen, &bias, Some(&residual), inputs, activation);
            reference::assert_close(&matrix.forward(&x, Some(&residual), activation), &expected, 3e-6, &what);
            let expected = reference::linear(&x_seen, &weight_seen, &[], None, inputs, activation);
            reference::assert_close(&bare.forward(&x, None, activation), &expected, 3e-6, &what);
        }
    }

    #[test]
    fn packed_products_match_the_naive_ones_on_odd_sizes() {
        let sizes = [(1, 1, 1), (5, 7, 3), (13, 17, 33), (25, 64, 40), (12, 16, 32), (3, 300, 50), (61, 33, 16)];
        for instructions in InstructionSet::supported() {
            for precision in [Precision::F32, Precision::Bf16] {
                for (rows, inputs, outputs) in sizes {
                    check(instructions, rows, inputs, outputs, precision);
                }
                if !cfg!(miri) {
                    check(instructions, 260, 777, 65, precision);
                }
            }
        }
    }

    #[test]
    fn empty_products_are_empty_or_the_bias() {
        let matrix = PackedMatrix::new(&[1.0; 6], &[], 2, 3, Precision::F32);
        assert!(matrix.forward(&[], None, LayerActivation::None).is_empty());
        let none = PackedMatrix::new(&[], &[1.0, -2.0], 2, 0, Precision::F32);
        let rows = none.forward_rows(3, &DenseRows { values: &[], width: 0 }, None, LayerActivation::Relu);
        assert_eq!(rows, [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn shares_cover_everything_once() {
        for (total, step, parts) in [(0, 12, 3), (1, 12, 2), (256, 12, 2), (1000, 1, 7)] {
            let joined: Vec<usize> = (0..parts).flat_map(|i| share(total, step, i, parts)).collect();
            assert_eq!(joined, (0..total).collect::<Vec<_>>());
        }
    }
}
