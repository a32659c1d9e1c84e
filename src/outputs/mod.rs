//! Predictions to bytes: the formats of the API, one file each.
//!
//! Dense maps become a [`picture`] or [`classes`] first, objects pass [`filter`], vector formats share [`features`]; what
//! a prediction looks like is decided there, once, and formats only write it down.

mod bounds;
mod choice;
mod classes;
mod colormap;
mod draw;
mod error;
mod features;
mod filter;
mod format;
mod geojson;
mod geokeys;
mod geotiff;
mod imagery;
mod json;
mod mask;
mod mvt;
mod npy;
mod options;
mod picture;
mod png;
mod polygonize;
mod reduce;
mod safetensors;
mod simplify;
mod tiff_file;
mod webp;

pub use choice::{
    CategoryNames, RenderChoice, RenderMode, parse_max_detections, parse_opacity, parse_simplify, parse_threshold,
};
pub use error::OutputError;
pub use format::Format;
pub use imagery::encode_imagery;
pub use options::{Colormap, Render, RenderOptions};
pub use polygonize::{Region, polygonize};
pub use reduce::dense_sink;

use bytes::Bytes;

use crate::prediction::{Output, Prediction};
use crate::zoo::{Task, TaskType};

/// An encoded answer.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The body; empty only for vector tiles without a feature.
    pub bytes: Bytes,
    /// Its media type.
    pub media_type: &'static str,
}

/// Writes a prediction of `task` as `format`.
///
/// # Errors
/// [`OutputError::NotAvailable`] where the task type has no such format, [`OutputError::NoTile`] for vector tiles of an
/// image that is no XYZ tile, [`OutputError::NotRenderable`] where `options.render` does not fit the task,
/// [`OutputError::TooLarge`] where the format cannot hold the image, [`OutputError::TooMuch`] where a text would grow too long.
pub fn encode(
    prediction: &Prediction,
    task: &Task,
    format: Format,
    options: &RenderOptions,
) -> Result<Encoded, OutputError> {
    if !Format::of(task.task_type).contains(&format) {
        return Err(OutputError::not_available(task, format));
    }
    let bytes = match format {
        Format::Png => png::encode(drawn(prediction, task, format, options)?)?,
        Format::Webp => webp::encode(drawn(prediction, task, format, options)?)?,
        Format::Tif => geotiff::encode(prediction, task, options)?,
        Format::Geojson => geojson::encode(prediction, task, options)?,
        Format::Mvt => mvt::encode(prediction, task, options)?,
        Format::Npy => npy::encode(prediction, task, options)?,
        Format::Json => json::encode(prediction, task, options)?,
        Format::Safetensors => safetensors::encode(prediction, task, options)?,
    };
    Ok(Encoded { bytes: Bytes::from(bytes), media_type: format.media_type() })
}

fn drawn(
    prediction: &Prediction,
    task: &Task,
    format: Format,
    options: &RenderOptions,
) -> Result<picture::Picture, OutputError> {
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

/// A category's name; empty where the task has no such category.
fn category_name(task: &Task, category_id: usize) -> &str {
    task.categories.get(category_id).map_or("", String::as_str)
}
