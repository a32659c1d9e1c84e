//! Which square of the Earth a z/x/y names, and which windows the network runs on to answer for it.

mod coord;
mod scene;
mod window;

pub use coord::{MAX_ZOOM, TileCoord, TileError, WORLD_M, resolution_m};
pub use scene::{SceneWindow, Span, scene_windows};
pub use window::{Window, WindowGrid};
