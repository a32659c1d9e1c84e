//! What requests and answers look like in JSON and in queries, and how they become domain types.

mod job;
mod model;
mod params;
mod render;
mod source;
mod tile_name;
mod tilejson;

pub use model::ModelDto;

pub(super) use job::{JobDto, JobList, JobListParams};
pub(super) use model::ModelList;
pub(super) use params::{EmbeddingParams, MAX_IMAGES, PixelParams, PredictParams, TileParams, images};
pub(super) use render::RenderParams;
pub(super) use source::{SourceDto, SourceList, SourceReference, UnavailableSourceDto, UploadParams};
pub(super) use tile_name::TileName;
pub(super) use tilejson::{TileJson, VectorLayer, imagery_zooms};

use std::str::FromStr;

use super::error::Problem;

/// The value that a parameter's text stands for, if the parameter is given.
fn parsed<T: FromStr>(text: &Option<String>) -> Result<Option<T>, Problem>
where
    Problem: From<T::Err>,
{
    Ok(text.as_deref().map(str::parse).transpose()?)
}
