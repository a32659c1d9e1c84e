//! Coordinate systems as well-known text of the first version (OGC 01-009), in the dialects of Esri and GDAL: read from citations of
//! GeoTIFF and files beside rasters, written into GeoTIFF.

mod node;
mod read;
mod write;

pub(super) use read::read;
pub(super) use write::write;
