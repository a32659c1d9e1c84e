//! An HTTP tile-inference server for AllenAI's SatlasPretrain models.
//!
//! # Glossary
//!
//! - **Capture**: an image of one place at one time. Some models take several captures as one input.
//! - **Source**: imagery that the server knows by an id, with one or more captures.
//! - **Window**: the square of pixels that the network runs on. The tiles in it share a forward pass.
//! - **Halo**: the border of a window that gives the network context; no tile is cut from it.
//! - **Scene**: a whole uploaded raster. One larger than a window is run in overlapping windows.
//!
//! # The path of a tile request
//!
//! 1. `api/routes/tiles.rs`: the handler. It plans, compares ETags, and asks `api/tile_cache.rs` for a finished answer
//!    (where servers share one, it asks [`shared_cache`]).
//! 2. `api/dto/params.rs`: query parameters become a typed request.
//! 3. `engine/mod.rs`: [`engine::Engine`], the facade.
//! 4. `engine/plan.rs`: checks and looks up everything once; gives the prediction's identity.
//! 5. `engine/tile.rs`: runs the plan and cuts the tile from its window.
//! 6. `engine/window.rs`: the caches of windows. On a miss, `engine/pixels.rs` reads the pixels with [`raster`].
//! 7. `engine/device.rs`: forward passes, which `engine/scheduler` puts in order and runs in batches on the devices' threads.
//! 8. `nn/model/mod.rs`: the network, over [`ops`] and [`kernels`].
//! 9. `api/answer.rs`: encodes the [`prediction`] with [`outputs`] and sets the headers.

mod allocator;
pub mod api;
pub mod areas;
pub mod assets;
pub mod budget;
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod fit;
pub mod fleet;
pub mod georef;
pub mod identity;
pub mod ip_range;
pub mod jobs;
pub mod nn;
pub mod ops;
pub mod outputs;
pub mod prediction;
mod private_file;
pub mod raster;
pub mod server;
pub mod shared_cache;
pub mod storage;
mod sync;
pub mod telemetry;
mod temporary_folder;
pub mod threads;
pub mod tiles;
pub mod vectors;
pub mod weights;
mod zip_file;
pub mod zoo;

pub use satlas_kernels as kernels;
