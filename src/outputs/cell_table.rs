//! The vectors of cells as a table (GeoParquet), in the order of the Hilbert curve, so that row groups cover compact places.
//!
//! Columns: `id` (the cell's first pixel as `column-row`, counted over the whole area), `embedding` (a list of floats, or of 8-bit
//! numbers that are multiplied with the column `scale`), and, if the image is georeferenced, `geometry` with its `bbox`. Cells without
//! data have no row.

use super::error::OutputError;
use super::format::Format;
use super::geojson::{PixelProjection, Ring};
use super::parquet_table::{Column, ColumnKind, ParquetTable};
use crate::georef::Georef;
use crate::prediction::{CellMap, CellPrecision};
use crate::tiles::hilbert_position;

/// Most rows.
const MAX_ROWS: usize = 4_000_000;

/// Values of a row group: 4 MiB. Readers skip groups whose boxes lie elsewhere.
const GROUP_VALUES: usize = 1 << 20;

/// Most rows of a group.
const MAX_GROUP_ROWS: usize = 10_000;

/// Writes the cells of an image of `(width, height)` pixels.
///
/// # Errors
/// If there are too many.
pub(super) fn encode(
    cells: &CellMap,
    (georef, size): (Option<&Georef>, (usize, usize)),
    precision: CellPrecision,
) -> Result<Vec<u8>, OutputError> {
    if cells.width * cells.height > MAX_ROWS {
        return Err(OutputError::TooMuch {
            task: "embedding".to_owned(),
            format: Format::Parquet.extension(),
            what: "cells",
            limit: MAX_ROWS,
            way_out: "take tif, larger cells (cell_px), a coarser layer, or a smaller area",
        });
    }
    let mut columns = vec![("id", ColumnKind::Texts)];
    columns.extend_from_slice(match precision {
        CellPrecision::Float32 => &[("embedding", ColumnKind::Vectors)],
        CellPrecision::Int8 => &[("embedding", ColumnKind::SmallVectors), ("scale", ColumnKind::Numbers)],
    });
    columns.extend(georef.is_some().then_some(("geometry", ColumnKind::Outlines)));
    let mut table = ParquetTable::new(&columns)?;
    let projection = PixelProjection::of(georef);
    for group in along_the_curve(cells).chunks((GROUP_VALUES / cells.dims.max(1)).clamp(1, MAX_GROUP_ROWS)) {
        let with_data = group.iter().filter_map(|(row, col)| Some(((*row, *col), cells.vector(*row, *col)?)));
        let (places, vectors): (Vec<(usize, usize)>, Vec<Vec<f32>>) = with_data.unzip();
        if places.is_empty() {
            continue;
        }
        let mut group = vec![Column::Texts(places.iter().map(|(row, col)| Some(cells.name(*row, *col))).collect())];
        match precision {
            CellPrecision::Float32 => group.push(Column::Vectors(vectors.into_iter().map(Some).collect())),
            CellPrecision::Int8 => {
                let (vectors, scales): (Vec<Vec<i8>>, Vec<f32>) =
                    vectors.iter().map(|vector| CellMap::in_eight_bits(vector)).unzip();
                group.push(Column::SmallVectors(vectors));
                group.push(Column::Numbers(scales.into_iter().map(Some).collect()));
            }
        }
        if georef.is_some() {
            group.push(Column::Outlines(places.iter().map(|place| outline(cells, *place, size, &projection)).collect()));
        }
        table.add(&group)?;
    }
    table.finish()
}

/// Rows and columns of all cells.
fn along_the_curve(cells: &CellMap) -> Vec<(usize, usize)> {
    let order = cells.width.max(cells.height).max(1).next_power_of_two().ilog2();
    let mut all: Vec<(usize, usize)> = cells.places().collect();
    all.sort_by_cached_key(|(row, col)| hilbert_position(order, *col as u64, *row as u64));
    all
}

/// The part of a cell that lies in the image; `None` if it has no longitude and latitude.
fn outline(
    cells: &CellMap,
    (row, col): (usize, usize),
    (width, height): (usize, usize),
    projection: &PixelProjection<'_>,
) -> Option<Vec<Vec<Ring>>> {
    let side = cells.side_px;
    let end = |at: usize, limit: usize| ((at + 1) * side).min(limit) as f64;
    let (left, top) = ((col * side) as f64, (row * side) as f64);
    let (right, bottom) = (end(col, width), end(row, height));
    projection.polygon(&[vec![[left, top], [right, top], [right, bottom], [left, bottom]]]).map(|polygon| vec![polygon])
}
