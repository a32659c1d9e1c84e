//! Where pixels lie on the Earth: coordinate systems, affine transforms, bounds.

mod crs;
mod transform;

pub use crs::{Crs, CrsError};
pub use transform::{Bounds, GeoTransform, Georef};
