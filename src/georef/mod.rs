//! Where pixels lie on the Earth: coordinate systems, affine transforms, bounding boxes.

mod crs;
mod definition;
mod epsg;
mod geo_keys;
mod new_zealand;
mod projection;
mod shift;
mod transform;
mod well_known;
mod wkt;

pub use crs::{Crs, CrsError};
pub use geo_keys::GeoKeys;
pub use transform::{Bounds, GeoTransform, Georef};
pub(crate) use well_known::{read_wkb, write_wkb};
