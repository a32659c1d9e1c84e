//! File formats as rasters: which format bytes are, and their pixels by window.

mod band_item;
mod cache;
mod chunks;
mod detect;
mod error;
mod geotiff;
mod jpeg2000;
mod limits;
mod mask;
mod memory;
mod npy;
mod npy_header;
mod picture;
mod samples;
mod sidecar;
mod tile_pyramid;
pub(crate) mod xml;

pub use cache::ChunkCache;
pub(crate) use detect::{FileFormat, MAGIC_BYTES};
pub use geotiff::GeoTiff;
pub use jpeg2000::Jpeg2000;
pub use limits::Limits;
pub(crate) use memory::BandRange;
pub use memory::MemoryRaster;
pub(crate) use npy::open as open_npy;
pub(crate) use picture::PictureFile;
pub(crate) use sidecar::{Pam, Sidecars};
pub(crate) use tile_pyramid::{Mbtiles, Pmtiles, XyzTiles, is_template};
