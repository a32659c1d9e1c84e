//! What requests and answers look like in JSON and in queries, and how they become domain types.

mod model;
mod params;
mod render;
mod source;
mod tile_name;
mod tilejson;

pub use model::{ModelDto, ModelList};
pub use params::{EmbeddingParams, MAX_IMAGES, PixelParams, PredictParams, TileParams};
pub use render::{RenderParams, render_identity};
pub use source::{SourceDto, SourceList, SourceReference, UploadParams};
pub use tile_name::TileName;
pub use tilejson::{TileJson, VectorLayer, imagery_zooms};
