//! Remote imagery, against hosts on loopback that misbehave on purpose.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod client;
mod host;
mod map_tiles;
mod pmtiles;
mod predict;
mod raster;
mod sources;
mod stac;
mod stac_search;
mod storage;
