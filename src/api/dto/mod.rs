//! What requests and answers look like in JSON and in queries, and how they become domain types.

mod job;
mod model;
mod params;
mod render;
mod source;
mod tile_name;
mod tilejson;

pub use model::ModelDto;
pub use params::{EmbeddingParams, PixelParams};
pub use render::RenderParams;

pub(super) use job::{JobDto, JobList, JobListParams};
pub(super) use model::ModelList;
pub(super) use params::{MAX_IMAGES, PredictParams, TileParams, images};
pub(super) use render::render_identity;
pub(super) use source::{SourceDto, SourceList, SourceReference, UnavailableSourceDto, UploadParams};
pub(super) use tile_name::TileName;
pub(super) use tilejson::{TileJson, VectorLayer, imagery_zooms};
