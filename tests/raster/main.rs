//! Imagery files: what their pixels mean and where they lie.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and may report figures"
)]

mod captures;
mod hostile;
mod jpeg2000;
mod pixels;
mod reading;
mod sidecars;
