//! Predictions to bytes: the formats of the API, one file each.
//!
//! The formats share the steps that decide what an answer shows: dense maps become [`classes`] or a [`picture`], [`filter`]
//! selects objects, and [`features`] makes the polygons of vector formats.

mod bounds;
mod cell_raster;
mod cell_table;
mod chip_table;
mod choice;
mod classes;
mod colormap;
mod components;
mod draw;
mod encode;
mod error;
mod features;
mod filter;
mod format;
mod geojson;
mod geokeys;
mod geoparquet;
mod geotiff;
mod imagery;
mod json;
mod mask;
mod mvt;
mod npy;
mod options;
mod outline;
mod parquet_table;
mod picture;
mod png;
mod polygonize;
mod reduce;
mod safetensors;
mod simplify;
mod table_format;
mod tiff_file;
mod webp;

pub use chip_table::{ChipTable, ChipTableOptions};
pub use choice::{
    CategoryNames, RenderChoice, RenderMode, parse_max_detections, parse_opacity, parse_rescale, parse_simplify,
    parse_threshold,
};
pub use encode::{Encoded, encode, encode_cells};
pub use error::OutputError;
pub(crate) use features::{PixelFeature, PixelRing};
pub use filter::least_score;
pub use format::Format;
pub use geoparquet::encode_geoparquet;
pub(crate) use geotiff::escaped_xml;
pub use imagery::encode_imagery;
pub(crate) use mvt::encode_features_tile;
pub use options::{Colormap, Render, RenderOptions};
pub use polygonize::{Region, polygonize};
pub use reduce::dense_sink;
pub use table_format::TableFormat;
