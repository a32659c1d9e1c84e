//! Where pixels lie on the Earth: coordinate systems, affine transforms, bounding boxes.

mod crs;
mod geo_keys;
mod transform;

pub use crs::{Crs, CrsError};
pub use geo_keys::GeoKeys;
pub use transform::{Bounds, GeoTransform, Georef};
