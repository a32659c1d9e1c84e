//! The Web Mercator tile matrix: which square of the Earth a z/x/y names.

mod coord;

pub use coord::{MAX_ZOOM, TileCoord, TileError, WORLD_M, resolution_m};
