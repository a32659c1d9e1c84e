//! Imagery: what lies at a place is opened as rasters, read by pixel window, and warped to any grid.
//!
//! | wing | what it does |
//! | --- | --- |
//! | `formats` | files to pixels: GeoTIFF, JPEG 2000, map tiles, pictures and arrays |
//! | `warp` | rasters onto other grids, alone or several as one |
//! | `open` | places to captures: files, directories, Sentinel-2 products, STAC, uploads |
//! | `source` | captures with a name, and their picture for a map |
//! | `input` | pixel values to a network's input |

mod band_names;
mod datetime;
mod error;
mod extent;
mod formats;
mod input;
mod open;
mod pixels;
mod source;
mod warp;

pub use datetime::{DatetimeRange, Timestamp};
pub use error::RasterError;
pub use extent::Extent;
pub use formats::{ChunkCache, GeoTiff, Jpeg2000, Limits, MemoryRaster};
pub use input::{BandNumbers, InputOptions, InputPlan, Preset, resolution_warning};
pub use open::{Capture, Imagery, Location, OpenOptions, open, open_indices, split};
pub use pixels::{BandColour, BandInfo, Overview, Patch, PixelWindow, Raster, RasterInfo, Resampling, SampleType};
pub use source::{BandSummary, CaptureSelection, NewestCaptures, RgbaTile, Source, SourceInfo};
pub use warp::{Composite, Mosaic, warp};
