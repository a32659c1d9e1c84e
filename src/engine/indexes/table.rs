//! Tables of vectors that clients send: Parquet files with a column of lists, and arrays of numpy.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::data_type::ByteArray;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::index::NewRow;
use super::table_cells::Column;
use super::table_columns::{TableOptions, find_columns};
use super::table_error::{damaged, unusable};
use crate::budget::MemoryBudget;
use crate::engine::error::EngineError;
use crate::raster::{self, ChunkCache, Imagery, Limits, OpenOptions, PixelWindow};

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 1024;

/// Bounds of an array: those of the upload, and so many values.
const MAX_VALUES: u64 = 1 << 31;

/// Reads all rows of a table in order. Rows whose vector is missing are left out. Blocks.
///
/// # Errors
/// [`EngineError::Unusable`] with what is wrong with the table, and what `add` says.
pub(super) fn read(
    table: &Bytes,
    options: &TableOptions,
    mut add: impl FnMut(NewRow<'_>) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    if table.starts_with(b"PAR1") {
        // The reader of this format trusts files more than it should.
        return catch_unwind(AssertUnwindSafe(|| read_parquet(table, options, &mut add)))
            .unwrap_or_else(|_| Err(unusable("its reader gave up on it, so it is damaged or very unusual")));
    }
    if table.starts_with(b"\x93NUMPY") {
        return read_array(table, &mut add);
    }
    Err(unusable("it is neither a Parquet file nor an array of numpy (npy)"))
}

/// `[rows, values]` of numpy.
fn read_array(table: &Bytes, add: &mut impl FnMut(NewRow<'_>) -> Result<(), EngineError>) -> Result<(), EngineError> {
    let limits = Limits { max_bytes: u64::MAX, max_pixels: MAX_VALUES };
    let options = OpenOptions { limits, chunks: ChunkCache::of_request(0, MemoryBudget::unlimited()), remote: None };
    let imagery = Imagery::Bytes { name: "the table", bytes: table.clone() };
    let captures = raster::open(imagery, None, &options)?;
    let [array] = captures.as_slice() else {
        return Err(unusable("its array has more than two dimensions; [N, D] is needed"));
    };
    let info = array.raster.info();
    if info.bands.len() != 1 {
        return Err(unusable("its array has more than two dimensions; [N, D] is needed"));
    }
    let (rows, dims) = (info.height, info.width);
    let at_once = (ROWS_AT_ONCE * 256 / dims.max(1)).max(1);
    for first in (0..rows).step_by(at_once) {
        let window = PixelWindow { col: 0, row: first as i64, width: dims, height: at_once.min(rows - first) };
        let patch = array.raster.read(0, window, &[0])?;
        for (row, (values, valid)) in patch.pixels.chunks_exact(dims).zip(patch.valid.chunks_exact(dims)).enumerate() {
            if let Some(value) = valid.iter().position(|valid| !valid) {
                return Err(unusable(&format!("row {}: value {value} is no finite number", first + row)));
            }
            add(NewRow { vector: values, name: None, outline: None, time_ms: None })?;
        }
    }
    Ok(())
}

fn read_parquet(
    table: &Bytes,
    options: &TableOptions,
    add: &mut impl FnMut(NewRow<'_>) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let file = SerializedFileReader::new(table.clone()).map_err(damaged)?;
    let columns = find_columns(&file, options)?;
    let mut number = 0;
    for group in 0..file.num_row_groups() {
        let group = file.get_row_group(group).map_err(damaged)?;
        let column = |leaf: usize| Column::open(&*group, leaf);
        let mut vectors = column(columns.vectors)?;
        let mut names = columns.names.map(column).transpose()?;
        let mut outlines = columns.outlines.map(column).transpose()?;
        let mut times = columns.times.map(|(leaf, kind)| Ok::<_, EngineError>((column(leaf)?, kind))).transpose()?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        for first in (0..rows).step_by(ROWS_AT_ONCE) {
            let count = ROWS_AT_ONCE.min(rows - first);
            let vectors = vectors.vectors(count, number)?;
            let names = names.as_mut().map(|names| names.texts(count)).transpose()?;
            let outlines = outlines.as_mut().map(|outlines| outlines.blobs(count)).transpose()?;
            let times = times.as_mut().map(|(times, kind)| times.instants(*kind, count, number)).transpose()?;
            for (row, vector) in vectors.into_iter().enumerate() {
                let numbered = (number + row).to_string();
                let name = names.as_ref().and_then(|names| names.get(row)?.as_deref()).unwrap_or(&numbered);
                let outline = outlines.as_ref().and_then(|outlines| outlines.get(row)?.as_ref().map(ByteArray::data));
                let time_ms = times.as_ref().and_then(|times| *times.get(row)?);
                if let Some(vector) = vector {
                    add(NewRow { vector: &vector, name: Some(name), outline, time_ms })?;
                }
            }
            number += count;
        }
    }
    Ok(())
}
