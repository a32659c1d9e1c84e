//! Packs both sides of a product in the order in which the micro-kernels read them.

use std::ops::Range;

use rayon::prelude::*;

use super::row_source::RowSource;
use crate::factors::{CHUNK, Factors};
use crate::memory::Aligned;
use crate::simd::{InstructionSet, Simd, SimdTask};

/// Most values of a row that are packed at once.
pub(super) const BLOCK_VALUES: usize = 2048;

/// Packs `value(output, input)` into zero-padded panels [panel][word][two registers].
pub(super) fn pack_panels(
    instructions: InstructionSet,
    outputs: usize,
    inputs: usize,
    factors: Factors,
    value: impl Fn(usize, usize) -> f32 + Sync,
) -> Aligned {
    let width = 2 * instructions.lanes();
    let panel_len = factors.words(inputs) * width;
    let mut packed = Aligned::zeros(outputs.div_ceil(width) * panel_len);
    packed.par_chunks_mut(panel_len.max(1)).enumerate().for_each(|(panel, words)| {
        for input in 0..inputs {
            for column in 0..width.min(outputs - panel * width) {
                factors.put(&mut words[column..], width, input, value(panel * width + column, input));
            }
        }
    });
    packed
}

/// Some rows and units of a matrix, and their position in the layout [group][chunk][row in group][CHUNK].
#[derive(Clone)]
pub(crate) struct RowPiece {
    pub(crate) rows: Range<usize>,
    pub(crate) units: Range<usize>,
    /// Words per row in the whole layout.
    pub(crate) row_words: usize,
    /// Words per row before the first unit.
    pub(crate) before: usize,
}

/// Packs a piece of `x` [rows, inputs] into groups and chunks, zero-padded.
pub(crate) struct PackRows<'a, R> {
    pub(crate) factors: Factors,
    pub(crate) x: &'a R,
    pub(crate) inputs: usize,
    pub(crate) piece: RowPiece,
    pub(crate) packed: &'a mut [f32],
}

impl<R: RowSource> SimdTask for PackRows<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { factors, x, inputs, piece, packed } = self;
        let RowPiece { rows, units, row_words, before } = piece;
        let (unit_values, unit_chunks) = (factors.unit_values(), factors.unit_chunks());
        let columns = units.start * unit_values..inputs.min(units.end * unit_values);
        // One contiguous row, before it is cut into chunks; the values past its end stay zero. Whole units are read in place.
        let whole = columns.len() == units.len() * unit_values;
        let mut line = [0.0_f32; BLOCK_VALUES];
        let mut row = rows.start;
        for size in factors.groups(S::ROWS).sizes(rows.len()) {
            let group =
                &mut packed[(row - rows.start) * row_words + before * size..][..size * units.len() * unit_chunks * CHUNK];
            for r in 0..size.min(rows.end - row) {
                let line = match x.view(row + r, columns.clone()) {
                    Some(view) if whole => view,
                    _ => {
                        x.copy(row + r, columns.start, &mut line[..columns.len()]);
                        &line[..]
                    }
                };
                for unit in 0..units.len() {
                    let from = &line[unit * unit_values..][..unit_values];
                    let to =
                        &mut group[(unit * unit_chunks * size + r) * CHUNK..][..((unit_chunks - 1) * size + 1) * CHUNK];
                    for lane in (0..CHUNK).step_by(S::LANES) {
                        let [first, second] = factors.sources::<S>(lane);
                        // SAFETY: both registers lie inside one unit, and the words lie inside this row's chunks of that unit.
                        unsafe {
                            let values = [
                                simd.load(from[first..][..S::LANES].as_ptr()),
                                simd.load(from[second..][..S::LANES].as_ptr()),
                            ];
                            factors.write(simd, values, to[lane..].as_mut_ptr(), size * CHUNK);
                        }
                    }
                }
            }
            row += size.min(rows.end - row);
        }
    }
}
