//! The entry point: a prediction in any format its task type has.

use bytes::Bytes;

use super::error::OutputError;
use super::format::Format;
use super::options::RenderOptions;
use super::picture::Picture;
use super::{cell_raster, cell_table, classes, draw, geojson, geotiff, json, mvt, npy, picture, png, safetensors, webp};
use crate::prediction::{CellMap, CellPrecision, CellScales, Output, Prediction};
use crate::zoo::{Task, TaskType};

/// An encoded answer.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The body. Only a vector tile without features is empty.
    pub bytes: Bytes,
    /// The media type of the body.
    pub media_type: &'static str,
}

/// Writes a prediction of `task` as `format`.
///
/// # Errors
/// - [`OutputError::NotAvailable`] if the task type has no such format
/// - [`OutputError::NoTile`] for a vector tile of an image that is not an XYZ tile
/// - [`OutputError::OneLayer`] if several embeddings are to be one npy array
/// - [`OutputError::NotRenderable`] if `options.render` does not suit the task
/// - [`OutputError::TooLarge`] if the format cannot hold an image of this size
/// - [`OutputError::TooMuch`] if a text or vector answer would be too large
pub fn encode(
    prediction: &Prediction,
    task: &Task,
    format: Format,
    options: &RenderOptions,
) -> Result<Encoded, OutputError> {
    if !Format::of(task.task_type).contains(&format) {
        return Err(OutputError::not_available(task, format));
    }
    let bytes = match (format, &prediction.output) {
        (Format::Tif | Format::Parquet, Output::Cells(cells)) => {
            encode_cells(cells, prediction, (format, options.precision), None)?
        }
        (Format::Png, _) => png::encode(draw_picture(prediction, task, format, options)?)?,
        (Format::Webp, _) => webp::encode(draw_picture(prediction, task, format, options)?)?,
        (Format::Tif, _) => geotiff::encode(prediction, task, options)?,
        (Format::Geojson, _) => geojson::encode(prediction, task, options)?,
        (Format::Mvt, _) => mvt::encode(prediction, task, options)?,
        (Format::Npy, _) => npy::encode(prediction, task, options)?,
        (Format::Json, _) => json::encode(prediction, task, options)?,
        (Format::Safetensors, _) => safetensors::encode(prediction, task, options)?,
        (Format::Parquet, _) => return Err(OutputError::mismatch(format, task.task_type)),
    };
    Ok(Encoded { bytes: Bytes::from(bytes), media_type: format.media_type() })
}

/// Writes the cells of an image that lies where `prediction` does, as GeoTIFF or as table. `scales` are those of a raster's dimensions
/// in 8 bits; without any, they are those of the cells.
///
/// # Errors
/// As [`encode`].
pub fn encode_cells(
    cells: &CellMap,
    Prediction { georef, width, height, .. }: &Prediction,
    (format, precision): (Format, CellPrecision),
    scales: Option<&CellScales>,
) -> Result<Vec<u8>, OutputError> {
    let georef = georef.as_ref();
    match (format, precision) {
        (Format::Parquet, _) => cell_table::encode(cells, (georef, (*width, *height)), precision),
        (_, CellPrecision::Float32) => cell_raster::encode(cells, georef, None),
        (_, CellPrecision::Int8) => match scales {
            Some(scales) => cell_raster::encode(cells, georef, Some(scales)),
            None => cell_raster::encode(cells, georef, Some(&CellScales::of(cells))),
        },
    }
}

fn draw_picture(
    prediction: &Prediction,
    task: &Task,
    format: Format,
    options: &RenderOptions,
) -> Result<Picture, OutputError> {
    match (&prediction.output, task.task_type) {
        (Output::Dense(dense), TaskType::Segment | TaskType::BinSegment | TaskType::Regress) => {
            picture::dense(dense, task, format, options)
        }
        (Output::Classes(map), TaskType::Segment | TaskType::BinSegment) => {
            classes::check_map(map, task, format)?;
            picture::categories(map.clone(), task, options)
        }
        (Output::Objects(found), TaskType::Detect | TaskType::Instance) => {
            Ok(draw::detections(found, (prediction.width, prediction.height), task, options))
        }
        _ => Err(OutputError::mismatch(format, task.task_type)),
    }
}
