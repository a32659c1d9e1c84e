//! The vectors of cells as a table (GeoParquet), in the order of the Hilbert curve, so that row groups cover compact places.
//!
//! Columns: `id` (the cell's first pixel as `column-row`, counted over the whole area), `embedding` (a list of floats), and, if the
//! image is georeferenced, `geometry` with its `bbox`. Cells without data have no row.

use super::error::OutputError;
use super::format::Format;
use super::geojson::{PixelProjection, Ring};
use super::parquet_table::{Column, ColumnKind, ParquetTable};
use crate::prediction::{CellMap, Output, Prediction};
use crate::tiles::hilbert_position;
use crate::zoo::Task;

/// Most rows.
const MAX_ROWS: usize = 4_000_000;

/// Values of a row group: 4 MiB. Readers skip groups whose boxes lie elsewhere.
const GROUP_VALUES: usize = 1 << 20;

/// Most rows of a group.
const MAX_GROUP_ROWS: usize = 10_000;

/// Writes the cells of a prediction.
///
/// # Errors
/// If there are too many, or the prediction does not hold any.
pub(super) fn encode(prediction: &Prediction, task: &Task) -> Result<Vec<u8>, OutputError> {
    let Output::Cells(cells) = &prediction.output else {
        return Err(OutputError::mismatch(Format::Parquet, task.task_type));
    };
    if cells.width * cells.height > MAX_ROWS {
        return Err(OutputError::TooMuch {
            task: task.name.clone(),
            format: Format::Parquet.extension(),
            what: "cells",
            limit: MAX_ROWS,
            way_out: "take tif, larger cells (cell_px), a coarser layer, or a smaller area",
        });
    }
    let mut columns = vec![("id", ColumnKind::Texts), ("embedding", ColumnKind::Vectors)];
    columns.extend(prediction.georef.is_some().then_some(("geometry", ColumnKind::Outlines)));
    let mut table = ParquetTable::new(&columns)?;
    let projection = PixelProjection::of(prediction.georef.as_ref());
    for group in along_the_curve(cells).chunks((GROUP_VALUES / cells.dims.max(1)).clamp(1, MAX_GROUP_ROWS)) {
        let with_data = group.iter().filter_map(|(row, col)| Some((*row, *col, cells.vector(*row, *col)?)));
        let (mut names, mut vectors, mut outlines) = (Vec::new(), Vec::new(), Vec::new());
        for (row, col, vector) in with_data {
            names.push(Some(cells.name(row, col)));
            vectors.push(Some(vector));
            outlines.push(outline(cells, (row, col), prediction, &projection));
        }
        if names.is_empty() {
            continue;
        }
        let mut group = vec![Column::Texts(names), Column::Vectors(vectors)];
        group.extend(prediction.georef.is_some().then_some(Column::Outlines(outlines)));
        table.add(&group)?;
    }
    table.finish()
}

/// Rows and columns of all cells.
fn along_the_curve(cells: &CellMap) -> Vec<(usize, usize)> {
    let order = cells.width.max(cells.height).max(1).next_power_of_two().ilog2();
    let all = (0..cells.height).flat_map(|row| (0..cells.width).map(move |col| (row, col)));
    let mut all: Vec<(usize, usize)> = all.collect();
    all.sort_by_cached_key(|(row, col)| hilbert_position(order, *col as u64, *row as u64));
    all
}

/// The part of a cell that lies in the image; `None` if it has no longitude and latitude.
fn outline(
    cells: &CellMap,
    (row, col): (usize, usize),
    prediction: &Prediction,
    projection: &PixelProjection<'_>,
) -> Option<Vec<Vec<Ring>>> {
    let side = cells.side_px;
    let end = |at: usize, limit: usize| ((at + 1) * side).min(limit) as f64;
    let (left, top) = ((col * side) as f64, (row * side) as f64);
    let (right, bottom) = (end(col, prediction.width), end(row, prediction.height));
    projection.polygon(&[vec![[left, top], [right, top], [right, bottom], [left, bottom]]]).map(|polygon| vec![polygon])
}
