//! Which pixels of a window have data, as a mask says that is an image of its own.

use super::chunks::{ChunkReader, ChunkedImage};
use crate::raster::error::RasterError;
use crate::raster::pixels::PixelWindow;

/// Pixels of a mask that may lie under one window.
const MAX_MASK_PIXELS: u64 = 1 << 29;

impl ChunkReader {
    /// The first band of `mask`, true where it is not 0, at every pixel of a window of an image of `size`.
    ///
    /// A mask often has no overviews of its own, so it may have more pixels than the image. Then the one in the middle of each of the
    /// image's pixels decides, as in GDAL.
    ///
    /// # Errors
    /// [`RasterError::TooLarge`] if too many pixels of the mask lie under the window, and what decoding says.
    pub(super) fn coverage(
        &self,
        mask: &dyn ChunkedImage,
        size: (usize, usize),
        window: PixelWindow,
    ) -> Result<Vec<bool>, RasterError> {
        let mut covered = vec![false; window.width * window.height];
        let mask_size = (mask.grid().columns.len(), mask.grid().rows.len());
        if mask_size == size {
            self.visit(mask, window, &[0], |to, _, run| {
                run.for_each(Some(0.0), |offset, _, has_data| covered[to + offset] = has_data);
            })?;
            return Ok(covered);
        }
        let (cols, rows) = (window.cols_within(size.0), window.rows_within(size.1));
        if cols.is_empty() || rows.is_empty() {
            return Ok(covered);
        }
        let middle = |at: usize, len: usize, mask_len: usize| (2 * at + 1) * mask_len / (2 * len);
        let col_of = |col: usize| middle(col, size.0, mask_size.0);
        let row_of = |row: usize| middle(row, size.1, mask_size.1);
        let (first_col, first_row) = (col_of(cols.start), row_of(rows.start));
        let under = PixelWindow {
            col: first_col as i64,
            row: first_row as i64,
            width: col_of(cols.end - 1) + 1 - first_col,
            height: row_of(rows.end - 1) + 1 - first_row,
        };
        let found = under.width as u64 * under.height as u64;
        if found > MAX_MASK_PIXELS {
            let name = format!("{} (its mask lacks overviews, which gdaladdo adds)", self.name());
            return Err(RasterError::TooLarge {
                name,
                what: "pixels under the wanted window",
                found,
                limit: MAX_MASK_PIXELS,
            });
        }
        // Columns of the mask that are looked at, and the columns of the window that they decide.
        let mut deciding = vec![None; under.width];
        cols.clone().for_each(|col| deciding[col_of(col) - first_col] = Some(col));
        let mut deciding_rows = vec![None; under.height];
        rows.for_each(|row| deciding_rows[row_of(row) - first_row] = Some(row));
        self.visit(mask, under, &[0], |to, _, run| {
            let Some(row) = deciding_rows[to / under.width] else { return };
            run.for_each(Some(0.0), |offset, _, has_data| {
                if let Some(col) = deciding[to % under.width + offset] {
                    covered[window.index_of(col, row)] = has_data;
                }
            });
        })?;
        Ok(covered)
    }
}
