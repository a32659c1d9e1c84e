//! Where the rows of a product's left-hand side come from.

use std::ops::Range;

/// The left-hand side of a product, as rows that can be copied piece by piece.
pub(crate) trait RowSource: Sync {
    /// Copies columns `from .. from + to.len()` of row `row` to `to`.
    fn copy(&self, row: usize, from: usize, to: &mut [f32]);

    /// The given columns in place, if they are contiguous in memory.
    #[inline(always)]
    fn view(&self, row: usize, columns: Range<usize>) -> Option<&[f32]> {
        let _ = (row, columns);
        None
    }
}

/// A row-major matrix.
pub(crate) struct DenseRows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) width: usize,
}

impl RowSource for DenseRows<'_> {
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
