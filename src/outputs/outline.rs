//! Outlines of images in longitude and latitude.

use super::geojson::{PixelProjection, Ring};
use crate::georef::Georef;

/// The outline of an image of `width` x `height` pixels, counter-clockwise; `None` if it has no longitude and latitude.
pub(super) fn outline(georef: &Georef, width: usize, height: usize) -> Option<Vec<Ring>> {
    let (width, height) = (width as f64, height as f64);
    PixelProjection::of(Some(georef)).polygon(&[vec![[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]]])
}

/// `[west, south, east, north]` of polygons' exterior rings; infinite if there are none.
pub(super) fn bounds(polygons: &[Vec<Ring>]) -> [f64; 4] {
    let empty = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    let exteriors = polygons.iter().filter_map(|rings| rings.first()).flatten();
    exteriors.fold(empty, |[west, south, east, north], [lon, lat]| {
        [west.min(*lon), south.min(*lat), east.max(*lon), north.max(*lat)]
    })
}
