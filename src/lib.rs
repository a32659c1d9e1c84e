//! An HTTP tile-inference server for AllenAI's SatlasPretrain models.
//!
//! One request's path: [`api`] parses it, [`engine`] plans windows, [`raster`] reads and warps pixels, [`nn`] runs the
//! network over [`ops`] on the device thread, [`outputs`] encodes the [`prediction`].

mod allocator;
pub mod api;
pub mod assets;
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod georef;
pub mod identity;
pub mod jobs;
pub mod kernels;
pub mod nn;
pub mod ops;
pub mod outputs;
pub mod prediction;
mod private_file;
pub mod raster;
pub mod server;
pub mod storage;
mod sync;
pub mod telemetry;
pub mod threads;
pub mod tiles;
pub mod weights;
pub mod zoo;
