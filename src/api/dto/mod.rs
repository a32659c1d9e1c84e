//! What requests and answers look like in JSON and in queries, and how they become domain types.

mod model;
mod params;
mod render;
mod source;
mod tile_name;
mod tilejson;

pub(super) use model::{ModelDto, ModelList};
pub(super) use params::{EmbeddingParams, MAX_IMAGES, PixelParams, PredictParams, TileParams};
pub(super) use render::{RenderParams, render_identity};
pub(super) use source::{SourceDto, SourceList, SourceReference, UploadParams};
pub(super) use tile_name::TileName;
pub(super) use tilejson::{TileJson, VectorLayer, imagery_zooms};
