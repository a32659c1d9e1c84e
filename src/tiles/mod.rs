//! XYZ tiles, and the windows that the network runs on to answer for them, for a whole scene or for an area of a source.

mod area;
mod coord;
mod cover;
mod hilbert;
mod scene;
mod window;

pub use area::{AreaWindow, area_windows, blocks};
pub use coord::{
    MAX_LAT, MAX_ZOOM, TileCoord, TileError, WORLD_LON_LAT, WORLD_M, resolution_m, world_place, world_position,
};
pub use cover::TileCover;
pub use hilbert::hilbert_position;
pub use scene::{SceneWindow, WindowSpan, scene_windows};
pub use window::{Window, WindowGrid};
