//! Matrix products with weights packed once: y = act(x Wᵀ + bias + residual).
//!
//! The scheme is that of GotoBLAS/BLIS: the right-hand side lies in panels as wide as two registers, the left-hand side
//! is copied, a block that fits the second-level cache at a time, into groups of as many rows as the micro-kernel
//! keeps accumulators for, and inside a group in chunks of 16 values a row, so that reading stays contiguous.
//! What a *row* of the left-hand side is, [`Rows`] decides, so a convolution is the same product over gathered rows.
//!
//! With [`Precision::Bf16`] both sides are rounded to bf16 as they are packed (two values to each 32-bit word) and
//! products are summed in f32; inputs and outputs stay f32.

use std::ops::Range;

use rayon::prelude::*;

use super::memory::{Aligned, Out, Scratch};
use super::micro::{CHUNK, Start, Tile, Words, group_sizes, multiply};
use super::simd::{Level, Simd, Task, to_bf16_pair};
use super::{Activation, Precision};

/// Words of the inner dimension that are multiplied before moving on: a panel of them stays in the first-level cache.
const BLOCK_WORDS: usize = 256;
/// Rows one job takes at most; with [`BLOCK_WORDS`] they fill a quarter of a second-level cache.
const JOB_ROWS: usize = 240;

/// The left-hand side of a product: rows that can be copied piece by piece.
pub(crate) trait Rows: Sync {
    /// Copies columns `from .. from + to.len()` of row `row`.
    fn copy(&self, row: usize, from: usize, to: &mut [f32]);

    /// The same columns where they lie, if they lie together.
    #[inline(always)]
    fn view(&self, row: usize, columns: Range<usize>) -> Option<&[f32]> {
        let _ = (row, columns);
        None
    }
}

/// A row-major matrix of the given width.
pub(crate) struct Dense<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) width: usize,
}

impl Rows for Dense<'_> {
    #[inline(always)]
    fn copy(&self, row: usize, from: usize, to: &mut [f32]) {
        let start = row * self.width + from;
        to.copy_from_slice(&self.values[start..start + to.len()]);
    }

    #[inline(always)]
    fn view(&self, row: usize, columns: Range<usize>) -> Option<&[f32]> {
        Some(&self.values[row * self.width..][columns])
    }
}

/// Weights [outputs, inputs] ready for the micro-kernel, with their bias.
#[derive(Debug)]
pub struct PackedMatrix {
    /// [panel][word][panel width]
    words: Aligned,
    /// Padded with zeros to whole panels.
    bias: Aligned,
    inputs: usize,
    outputs: usize,
    precision: Precision,
    level: Level,
}

impl PackedMatrix {
    /// Packs `weight` [outputs, inputs] (row-major) and `bias` `[outputs]` (empty: none).
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn new(weight: &[f32], bias: &[f32], outputs: usize, inputs: usize, precision: Precision) -> Self {
        Self::for_level(Level::detect(), weight, bias, outputs, inputs, precision)
    }

    pub(crate) fn for_level(
        level: Level,
        weight: &[f32],
        bias: &[f32],
        outputs: usize,
        inputs: usize,
        precision: Precision,
    ) -> Self {
        assert_eq!(weight.len(), outputs * inputs, "weight is [outputs, inputs]");
        assert!(bias.is_empty() || bias.len() == outputs, "bias is [outputs]");
        let words = pack_panels(level, outputs, inputs, precision, |output, input| weight[output * inputs + input]);
        let mut padded = Aligned::zeros(outputs.next_multiple_of(2 * level.lanes()));
        padded[..bias.len()].copy_from_slice(bias);
        Self { words, bias: padded, inputs, outputs, precision, level }
    }

    /// The length of a row of the left-hand side.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The length of a row of the result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes the packed form takes.
    pub fn bytes(&self) -> usize {
        (self.words.len() + self.bias.len()) * size_of::<f32>()
    }

    /// `act(x Wᵀ + bias + residual)` for `x` [rows, inputs] and an optional `residual` [rows, outputs].
    ///
    /// # Panics
    /// If `x` is no whole number of rows, or the residual has another size than the result.
    pub fn forward(&self, x: &[f32], residual: Option<&[f32]>, activation: Activation) -> Vec<f32> {
        let rows = x.len().checked_div(self.inputs).unwrap_or(0);
        assert_eq!(x.len(), rows * self.inputs, "x is [rows, inputs]");
        self.forward_rows(rows, &Dense { values: x, width: self.inputs }, residual, activation)
    }

    /// [`PackedMatrix::forward`] over rows of any make.
    pub(crate) fn forward_rows<R: Rows>(
        &self,
        rows: usize,
        x: &R,
        residual: Option<&[f32]>,
        activation: Activation,
    ) -> Vec<f32> {
        assert!(residual.is_none_or(|r| r.len() == rows * self.outputs), "residual is [rows, outputs]");
        let panels = self.outputs.div_ceil(2 * self.level.lanes());
        let (row_jobs, panel_jobs) = split(rows, panels, 4 * 6);
        // SAFETY: the jobs cover every row and every column once.
        unsafe {
            Out::collect(rows * self.outputs, |out| {
                (0..row_jobs * panel_jobs).into_par_iter().with_max_len(1).for_each(|job| {
                    let (i, j) = (job / panel_jobs, job % panel_jobs);
                    self.level.run(Job {
                        matrix: self,
                        x,
                        residual,
                        activation,
                        rows: share(rows, 12, i, row_jobs),
                        panels: share(panels, 1, j, panel_jobs),
                        out,
                    });
                });
            })
        }
    }
}

/// Packs `value(output, input)` into panels [panel][word][two registers], zeros where there is nothing.
pub(crate) fn pack_panels(
    level: Level,
    outputs: usize,
    inputs: usize,
    precision: Precision,
    value: impl Fn(usize, usize) -> f32 + Sync,
) -> Aligned {
    let width = 2 * level.lanes();
    let panel_len = precision.words(inputs) * width;
    let mut packed = Aligned::zeros(outputs.div_ceil(width) * panel_len);
    packed.par_chunks_mut(panel_len.max(1)).enumerate().for_each(|(panel, words)| {
        for (i, word) in words.iter_mut().enumerate() {
            let (k, output) = (i / width, panel * width + i % width);
            if output < outputs {
                *word = match precision {
                    Precision::F32 => value(output, k),
                    Precision::Bf16 => {
                        let second = if 2 * k + 1 < inputs { value(output, 2 * k + 1) } else { 0.0 };
                        to_bf16_pair(value(output, 2 * k), second)
                    }
                };
            }
        }
    });
    packed
}

/// Into how many jobs rows and panels are cut: rows first; panels too where rows alone cannot occupy every thread.
fn split(rows: usize, panels: usize, least_rows: usize) -> (usize, usize) {
    let threads = rayon::current_num_threads();
    if threads == 1 {
        return (rows.div_ceil(JOB_ROWS), 1);
    }
    if rows < threads * least_rows {
        return (usize::from(rows > 0), panels.min(2 * threads));
    }
    (rows.div_ceil(JOB_ROWS).next_multiple_of(threads), 1)
}

/// Part `index` of `parts` equal shares of `0..total`, cut at multiples of `step`.
pub(crate) fn share(total: usize, step: usize, index: usize, parts: usize) -> Range<usize> {
    let steps = total.div_ceil(step);
    let cut = |i: usize| (steps * i / parts * step).min(total);
    cut(index)..cut(index + 1)
}

/// One thread's piece of a product.
struct Job<'a, R> {
    matrix: &'a PackedMatrix,
    x: &'a R,
    residual: Option<&'a [f32]>,
    activation: Activation,
    rows: Range<usize>,
    panels: Range<usize>,
    out: Out<'a>,
}

impl<R: Rows> Task for Job<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Job { matrix, x, residual, activation, rows, panels, out } = self;
        let width = 2 * S::LANES;
        let words = matrix.precision.words(matrix.inputs);
        let block = BLOCK_WORDS.min(words.next_multiple_of(CHUNK));
        let mut packed = Scratch::take(rows.len().next_multiple_of(S::ROWS) * block);
        // A product over nothing is the bias alone: one empty block.
        for first in (0..words.max(1)).step_by(BLOCK_WORDS) {
            let count = BLOCK_WORDS.min(words - first);
            pack_rows(simd, matrix.precision, x, rows.clone(), matrix.inputs, first, count, &mut packed);
            for panel in panels.clone() {
                let column = panel * width;
                let columns = width.min(matrix.outputs - column);
                let right = &matrix.words[(panel * words + first) * width..][..count * width];
                let mut row = rows.start;
                for size in group_sizes(rows.len(), S::ROWS) {
                    let place = row * matrix.outputs + column;
                    let valid = size.min(rows.end - row);
                    let start = if first > 0 {
                        Start::Partial
                    } else {
                        let residual = residual.map(|r| r[place..].as_ptr());
                        Start::Bias { bias: matrix.bias[column..].as_ptr(), residual }
                    };
                    let left = &packed[(row - rows.start) * count.next_multiple_of(CHUNK)..];
                    let tile = Tile {
                        to: out.at(place, (valid - 1) * matrix.outputs + columns),
                        stride: matrix.outputs,
                        rows: valid,
                        columns,
                        start,
                        activation: if first + count == words { activation } else { Activation::None },
                    };
                    let next = row + valid;
                    if next < rows.end {
                        let place = next * matrix.outputs + column;
                        ask_for(
                            simd,
                            &tile,
                            out.at(place, 0),
                            residual.filter(|_| first == 0).map(|r| r[place..].as_ptr()),
                        );
                    }
                    let sides = Words { left, right, count, precision: matrix.precision };
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

/// Copies words `first .. first + count` of some rows into groups and chunks, zero-padded.
#[expect(clippy::too_many_arguments, reason = "an inner loop with nothing to bundle")]
#[inline(always)]
fn pack_rows<S: Simd, R: Rows>(
    simd: S,
    precision: Precision,
    x: &R,
    rows: Range<usize>,
    inputs: usize,
    first: usize,
    count: usize,
    packed: &mut [f32],
) {
    let padded = count.next_multiple_of(CHUNK);
    let values = precision.values(1);
    let columns = (first * values)..((first + count) * values).min(inputs);
    // One row, contiguous, before it is cut into chunks; what lies past its end stays zero. Whole chunks may be read in place.
    let whole = columns.len() == padded * values;
    let mut line = [0.0_f32; 2 * BLOCK_WORDS];
    let mut row = rows.start;
    for size in group_sizes(rows.len(), S::ROWS) {
        let group = &mut packed[(row - rows.start) * padded..][..size * padded];
        for r in 0..size.min(rows.end - row) {
            let line = match x.view(row + r, columns.clone()) {
                Some(view) if whole => view,
                _ => {
                    x.copy(row + r, columns.start, &mut line[..columns.len()]);
                    &line[..]
                }
            };
            for chunk in 0..padded / CHUNK {
                let to = &mut group[(chunk * size + r) * CHUNK..][..CHUNK];
                for lane in (0..CHUNK).step_by(S::LANES) {
                    let from = (chunk * CHUNK + lane) * values;
                    // SAFETY: LANES divides CHUNK; `line` holds two values for every word of a block.
                    unsafe {
                        let v = match precision {
                            Precision::F32 => simd.load(line[from..][..S::LANES].as_ptr()),
                            Precision::Bf16 => simd.load_as_bf16(line[from..][..2 * S::LANES].as_ptr()),
                        };
                        simd.store(to[lane..][..S::LANES].as_mut_ptr(), v);
                    }
                }
            }
        }
        row += size.min(rows.end - row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;

    fn check(level: Level, rows: usize, inputs: usize, outputs: usize, precision: Precision) {
        let x = reference::noise(rows * inputs, 1);
        let weight = reference::noise(outputs * inputs, 2);
        let bias = reference::noise(outputs, 3);
        let residual = reference::noise(rows * outputs, 4);
        let matrix = PackedMatrix::for_level(level, &weight, &bias, outputs, inputs, precision);
        let bare = PackedMatrix::for_level(level, &weight, &[], outputs, inputs, precision);
        let (x_seen, weight_seen) = match precision {
            Precision::F32 => (x.clone(), weight),
            Precision::Bf16 => (reference::round_bf16(&x), reference::round_bf16(&weight)),
        };
        for activation in [Activation::None, Activation::Relu, Activation::Gelu] {
            let what = format!("{level:?} {rows}x{inputs}x{outputs} {precision:?} {activation:?}");
            let expected = reference::linear(&x_seen, &weight_seen, &bias, Some(&residual), inputs, activation);
            reference::assert_close(&matrix.forward(&x, Some(&residual), activation), &expected, 3e-6, &what);
            let expected = reference::linear(&x_seen, &weight_seen, &[], None, inputs, activation);
            reference::assert_close(&bare.forward(&x, None, activation), &expected, 3e-6, &what);
        }
    }

    #[test]
    fn packed_products_match_the_naive_ones_on_odd_sizes() {
        let sizes = [(1, 1, 1), (5, 7, 3), (13, 17, 33), (25, 64, 40), (12, 16, 32), (3, 300, 50), (61, 33, 16)];
        for level in Level::supported() {
            for precision in [Precision::F32, Precision::Bf16] {
                for (rows, inputs, outputs) in sizes {
                    check(level, rows, inputs, outputs, precision);
                }
                if !cfg!(miri) {
                    check(level, 260, 777, 65, precision);
                }
            }
        }
    }

    #[test]
    fn empty_products_are_empty_or_the_bias() {
        let matrix = PackedMatrix::new(&[1.0; 6], &[], 2, 3, Precision::F32);
        assert!(matrix.forward(&[], None, Activation::None).is_empty());
        let none = PackedMatrix::new(&[], &[1.0, -2.0], 2, 0, Precision::F32);
        let rows = none.forward_rows(3, &Dense { values: &[], width: 0 }, None, Activation::Relu);
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
