//! Rasters on other grids: one alone ([`warp`](fn@warp)), the bands of several files as one ([`Composite`]), and scenes beside each
//! other as one ([`Mosaic`]).

mod composite;
mod mapping;
mod mosaic;
mod project;
mod readers;
mod resample;

pub use composite::Composite;
pub use mosaic::Mosaic;
pub use project::warp;
