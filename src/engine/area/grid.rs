//! The grid of an area: its coordinate system, the size of its pixels, and where it begins.
//!
//! A source that is projected and has about the resolution that the model needs is read on its own grid, as an upload of it would
//! be. Otherwise pixels have the model's own size, in the source's projection, in the UTM zone of the area, or in Web Mercator.

use std::str::FromStr;

use super::super::error::EngineError;
use super::outline::lines_of;
use super::shape::AreaShape;
use crate::error::InvalidValue;
use crate::georef::{Crs, GeoTransform, Georef};
use crate::raster::{RasterInfo, Source};
use crate::tiles::resolution_m;
use crate::zoo::ModelSpec;

/// A source's own pixels are kept if they differ from the model's by less than this ratio.
const NEAR: f64 = 1.25;

/// Half the width in degrees up to which an area is shown in one UTM zone.
const UTM_HALF_WIDTH_DEG: f64 = 6.0;

/// Where UTM ends, degrees of latitude.
const UTM_LATITUDES: std::ops::RangeInclusive<f64> = -80.0..=84.0;

/// Where Web Mercator ends, degrees of latitude.
const MERCATOR_LATITUDES: std::ops::RangeInclusive<f64> = -85.06..=85.06;

/// Most pixels of a side.
const MAX_SIDE_PX: f64 = (1u64 << 26) as f64;

/// The coordinate system of an area's grid; written `auto`, `utm`, `source`, or as a code such as `EPSG:3035`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AreaCrs {
    /// The source's own if it is projected, else UTM, else Web Mercator.
    #[default]
    Auto,
    /// The UTM zone of the area's middle.
    Utm,
    /// The source's own.
    Source,
    /// That of a code.
    Epsg(u32),
}

impl FromStr for AreaCrs {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let code = || text.get(..5).filter(|start| start.eq_ignore_ascii_case("epsg:")).and(text.get(5..)?.parse().ok());
        match text {
            "auto" => Ok(Self::Auto),
            "utm" => Ok(Self::Utm),
            "source" => Ok(Self::Source),
            _ => code().map(Self::Epsg).ok_or_else(|| InvalidValue::new("crs", text, "auto, utm, source or EPSG:code")),
        }
    }
}

/// The grid around `shape` on which `spec` runs on `source`; `pixel` is the wanted size of a pixel in units of its coordinate system.
///
/// # Errors
/// If the source has no georeference, or the coordinate system is not known, not projected or does not cover the area.
pub(super) fn grid_of(
    shape: &AreaShape,
    source: &Source,
    spec: &ModelSpec,
    (crs, pixel): (AreaCrs, Option<f64>),
) -> Result<Georef, EngineError> {
    let own = source.raster_info().georef.as_ref().ok_or_else(|| EngineError::Unusable {
        detail: format!("source {} has no georeference, so no area of it can be found", source.id),
    })?;
    // Scenes that a search finds lie in systems of their own.
    let own_crs = (!own.crs.is_geographic() && !source.is_searched()).then_some(&own.crs);
    let crs = crs_of(shape, own_crs, crs)?;
    let needed = model_pixel(spec, &crs, shape)?;
    let square = own_pixel(source.raster_info()).filter(|_| own_crs == Some(&crs));
    let near = |side: &f64| (1.0 / NEAR..=NEAR).contains(&(side / needed));
    let (side, origin) = match (pixel, square.filter(near)) {
        (None, Some(side)) => (side, (own.transform.origin_x, own.transform.origin_y)),
        (pixel, _) => (pixel.unwrap_or(needed), (0.0, 0.0)),
    };
    around(shape, crs, side, origin)
}

fn crs_of(shape: &AreaShape, own: Option<&Crs>, wanted: AreaCrs) -> Result<Crs, EngineError> {
    let [west, south, east, north] = shape.bounds();
    let lies_in = |latitudes: &std::ops::RangeInclusive<f64>| latitudes.contains(&south) && latitudes.contains(&north);
    let is_narrow = (east - west) / 2.0 <= UTM_HALF_WIDTH_DEG;
    match (wanted, own) {
        (AreaCrs::Auto | AreaCrs::Source, Some(own)) => Ok(own.clone()),
        (AreaCrs::Source, None) => Err(EngineError::Invalid {
            detail:
                "crs: found source, and this source has no projected system of its own; auto, utm or EPSG:code is needed"
                    .to_owned(),
        }),
        (AreaCrs::Utm, _) if lies_in(&UTM_LATITUDES) => utm(west, east, south, north),
        (AreaCrs::Auto, None) if is_narrow && lies_in(&UTM_LATITUDES) => utm(west, east, south, north),
        (AreaCrs::Auto, None) if lies_in(&MERCATOR_LATITUDES) => Ok(Crs::web_mercator()),
        (AreaCrs::Utm | AreaCrs::Auto, _) => Err(EngineError::Invalid {
            detail: format!(
                "crs: the area reaches from {south} to {north} degrees of latitude, where neither UTM nor Web Mercator is defined; \
                 EPSG:code of a polar system is needed, such as EPSG:3413 or EPSG:3031"
            ),
        }),
        (AreaCrs::Epsg(code), _) => {
            let crs = Crs::from_epsg(code)?;
            if crs.is_geographic() {
                let detail = format!("crs: found EPSG:{code}, whose unit is degrees; a projected system is needed, or utm");
                return Err(EngineError::Invalid { detail });
            }
            Ok(crs)
        }
    }
}

/// The UTM zone of the middle of a box.
fn utm(west: f64, east: f64, south: f64, north: f64) -> Result<Crs, EngineError> {
    let middle = f64::midpoint(west, east);
    let zone = ((middle + 180.0).rem_euclid(360.0) / 6.0).floor() as u32 + 1;
    let hemisphere = if f64::midpoint(south, north) < 0.0 { 32_700 } else { 32_600 };
    Ok(Crs::from_epsg(hemisphere + zone.min(60))?)
}

/// The side of a source's pixels if they are square and rows run south.
fn own_pixel(info: &RasterInfo) -> Option<f64> {
    let transform = info.georef.as_ref()?.transform;
    let (width, height) = (transform.pixel_width, -transform.pixel_height);
    let is_upright = transform.row_skew == 0.0 && transform.col_skew == 0.0;
    (is_upright && width > 0.0 && (width - height).abs() <= 1e-9 * width).then_some(width)
}

/// The side of a pixel that the model was trained on, in units of `crs`.
fn model_pixel(spec: &ModelSpec, crs: &Crs, shape: &AreaShape) -> Result<f64, EngineError> {
    if *crs == Crs::web_mercator() {
        // Models were trained on Web Mercator, whose metres are not those on the ground.
        return Ok(resolution_m(spec.native_zoom_512 + 1, 256));
    }
    // Small enough for a map to be straight, large enough for rounding not to matter.
    const STEP_DEG: f64 = 1e-3;
    const METRES_PER_DEGREE: f64 = 111_195.0;
    let [west, south, east, north] = shape.bounds();
    let (lon, lat) = (f64::midpoint(west, east), f64::midpoint(south, north));
    let (from, to) = (crs.from_lon_lat(lon, lat - STEP_DEG), crs.from_lon_lat(lon, lat + STEP_DEG));
    let (from, to) = from.zip(to).ok_or_else(|| uncovered(crs))?;
    let units = (to.0 - from.0).hypot(to.1 - from.1) / (2.0 * STEP_DEG * METRES_PER_DEGREE);
    // Most systems are in metres; what their scale varies by matters less than round numbers.
    let units = if (0.98..1.02).contains(&units) { 1.0 } else { units };
    Ok(spec.native_gsd_m * units)
}

/// The grid of pixels of side `side`, on the lattice through `origin`, around a shape.
fn around(shape: &AreaShape, crs: Crs, side: f64, origin: (f64, f64)) -> Result<Georef, EngineError> {
    let (mut min, mut max) = ((f64::INFINITY, f64::INFINITY), (f64::NEG_INFINITY, f64::NEG_INFINITY));
    let place =
        |lon: f64, lat: f64| crs.from_lon_lat(lon, lat).map(|(x, y)| ((x - origin.0) / side, (y - origin.1) / side));
    for (x, y) in lines_of(shape, place)?.into_iter().flatten().flatten() {
        (min, max) = ((min.0.min(x), min.1.min(y)), (max.0.max(x), max.1.max(y)));
    }
    if !(min.0 <= max.0 && min.1 <= max.1) {
        return Err(uncovered(&crs));
    }
    // An edge that lies on the lattice but for rounding adds no pixel.
    const SLACK_PX: f64 = 1e-6;
    let (left, right) = ((min.0 + SLACK_PX).floor(), (max.0 - SLACK_PX).ceil());
    let (bottom, top) = ((min.1 + SLACK_PX).floor(), (max.1 - SLACK_PX).ceil());
    let (width, height) = ((right - left).max(1.0), (top - bottom).max(1.0));
    if width.max(height) > MAX_SIDE_PX {
        let found = width.max(height) as u64;
        return Err(EngineError::TooLarge { what: "pixels of a side of the area", found, limit: MAX_SIDE_PX as u64 });
    }
    let transform = GeoTransform::north_up(origin.0 + left * side, origin.1 + top * side, side, side);
    Ok(Georef { crs, transform, width: width as usize, height: height as usize })
}

fn uncovered(crs: &Crs) -> EngineError {
    EngineError::Invalid { detail: format!("crs: {crs} does not cover the area; another EPSG:code, utm or auto is needed") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn zone(bbox: serde_json::Value, own: Option<&Crs>, wanted: AreaCrs) -> Result<Option<u32>, EngineError> {
        Ok(crs_of(&AreaShape::from_bbox(&bbox)?, own, wanted)?.epsg())
    }

    #[test]
    fn the_system_is_the_sources_own_or_utm_or_web_mercator() {
        let etrs = Crs::from_epsg(3035).unwrap();
        let hamburg = json!([9.7, 53.3, 10.3, 53.7]);
        assert_eq!(zone(hamburg.clone(), Some(&etrs), AreaCrs::Auto).unwrap(), Some(3035));
        assert_eq!(zone(hamburg.clone(), None, AreaCrs::Auto).unwrap(), Some(32632));
        assert_eq!(zone(json!([-70, -34, -69, -33]), None, AreaCrs::Auto).unwrap(), Some(32719));
        assert_eq!(zone(json!([179, -17, -179, -16]), None, AreaCrs::Auto).unwrap(), Some(32701));
        assert_eq!(zone(json!([-60, -34, 69, 33]), None, AreaCrs::Auto).unwrap(), Some(3857));
        assert_eq!(zone(hamburg.clone(), Some(&etrs), AreaCrs::Utm).unwrap(), Some(32632));
        assert_eq!(zone(hamburg.clone(), None, "epsg:3035".parse().unwrap()).unwrap(), Some(3035));
        assert!(zone(hamburg.clone(), None, AreaCrs::Source).unwrap_err().to_string().contains("no projected system"));
        assert!(zone(json!([0, 80, 10, 89]), None, AreaCrs::Auto).unwrap_err().to_string().contains("polar"));
        assert!(zone(hamburg, None, AreaCrs::Epsg(4258)).unwrap_err().to_string().contains("degrees"));
        for text in ["", "EPSG:", "UTM32", "4326", "epsg:x", "é"] {
            assert!(text.parse::<AreaCrs>().unwrap_err().to_string().contains("auto, utm, source"), "{text}");
        }
    }

    #[test]
    fn a_grid_lies_on_the_lattice_of_its_pixels() {
        let shape = AreaShape::from_bbox(&json!([-0.0009, 0.00101, 0.001, 0.002])).unwrap();
        let grid = around(&shape, Crs::web_mercator(), 10.0, (3.0, 4.0)).unwrap();
        let bounds = grid.bounds();
        // 111.3 m a millidegree: from -100.2 to 111.3 and from 112.4 to 222.6.
        assert_eq!((bounds.min_x, bounds.min_y, bounds.max_x, bounds.max_y), (-107.0, 104.0, 113.0, 224.0));
    }
}
