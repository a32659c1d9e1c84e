//! The HTTP API, route by route, in one process without a socket.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and may report figures"
)]

#[path = "../common/mod.rs"]
mod common;

mod areas;
mod batch;
mod catalogue;
mod change;
mod chip_fit;
mod cors;
mod fit;
mod gate;
mod indexes;
mod jobs;
mod mask_fit;
mod models;
mod predict;
mod registrations;
mod shared_jobs;
mod tiles;
mod warnings;
