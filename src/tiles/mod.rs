//! XYZ tiles, and the windows that the network runs on to answer for them or for a whole scene.

mod coord;
mod scene;
mod window;

pub use coord::{MAX_ZOOM, TileCoord, TileError, WORLD_M, resolution_m};
pub use scene::{SceneWindow, WindowSpan, scene_windows};
pub use window::{Window, WindowGrid};
