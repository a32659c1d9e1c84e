//! JSON bodies and query parameters of the API, and their conversion from and to domain types.

mod answer;
mod area;
mod change;
mod chip_fit;
mod fit;
mod imagery_body;
mod index;
mod job;
mod limit;
mod mask_values;
mod model;
mod params;
mod render;
mod said;
mod source;
mod suggest;
mod tile_name;
mod tilejson;
pub(super) mod words;

pub(crate) use model::ModelDto;

pub(super) use answer::{FeatureCollection, File, JsonPrediction, JsonResult};
pub(super) use area::{AreaBody, AreaIndexBody, AreaJobBody, AreaParams};
pub(super) use change::{ChangeBody, ChangeParams, take_captures};
pub(super) use chip_fit::ChipFitBody;
pub(super) use fit::FitBody;
pub(super) use index::{ExampleModelParams, IndexDto, IndexList, SimilarRows, SimilarSearch, TableParams};
pub(super) use job::{JobDto, JobList, JobListParams, SharedAreaReport};
pub(super) use model::{ModelList, ModelListParams};
pub(super) use params::{
    BatchParams, CellParams, EmbeddingParams, MAX_IMAGES, PixelParams, PredictParams, TileParams, images,
};
pub(super) use render::RenderParams;
pub(super) use source::{SourceDto, SourceList, SourceLocation, SourceReference, UnavailableSourceDto, UploadParams};
pub(super) use suggest::{SuggestBody, SuggestionsDto};
pub(super) use tile_name::TileName;
pub(super) use tilejson::{TileJson, VectorLayer, imagery_zooms};

use std::str::FromStr;

use super::error::Problem;

/// Parses a parameter; `None` if it is not given.
fn parsed<T: FromStr>(text: &Option<String>) -> Result<Option<T>, Problem>
where
    Problem: From<T::Err>,
{
    Ok(text.as_deref().map(str::parse).transpose()?)
}
