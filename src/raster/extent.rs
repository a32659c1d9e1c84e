//! Where rasters lie on the Earth, for web maps and to skip rasters that a grid does not touch.

use crate::georef::{Bounds, Georef};
use crate::tiles::{MAX_LAT, MAX_ZOOM, resolution_m};

/// Mean radius of the Earth in metres, for pixel sizes.
const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// Side of the tiles that zooms refer to, pixels.
const TILE_PX: usize = 256;

/// The extent of a source on a web map.
#[derive(Clone, Debug, PartialEq)]
pub struct Extent {
    /// `EPSG:32612`, or a PROJ string.
    pub crs: String,
    /// Degrees; all longitudes if the source holds a pole. The western edge lies within -180 and 180, the eastern one beyond 180 if the
    /// source crosses the antimeridian.
    pub bounds_lon_lat: Bounds,
    /// Ground size of a pixel at the centre, metres.
    pub resolution_m: f64,
    /// The zoom at which the whole source fits into about one 256 px tile.
    pub min_zoom: u8,
    /// The zoom whose 256 px tiles come nearest to the source's resolution.
    pub max_zoom: u8,
}

impl Extent {
    /// `None` if the centre of the grid is not on the Earth.
    pub fn of(georef: &Georef) -> Option<Self> {
        let (width, height) = (georef.width as f64, georef.height as f64);
        let lon_lat = |col: f64, row: f64| {
            let (x, y) = georef.transform.apply(col, row);
            georef.crs.to_lon_lat(x, y)
        };
        let middle = lon_lat(width / 2.0, height / 2.0)?;
        let (right, below) = (lon_lat(width / 2.0 + 1.0, height / 2.0)?, lon_lat(width / 2.0, height / 2.0 + 1.0)?);
        let resolution_m = (ground_distance_m(middle, right) * ground_distance_m(middle, below)).sqrt();

        let cos_lat = middle.1.clamp(-MAX_LAT, MAX_LAT).to_radians().cos();
        let zoom = (resolution_m > 0.0).then(|| (resolution_m_at_zoom_0() * cos_lat / resolution_m).log2())?;
        let levels = (georef.width.max(georef.height) as f64 / TILE_PX as f64).log2().ceil().max(0.0);
        let max_zoom = zoom.round().clamp(0.0, f64::from(MAX_ZOOM));
        Some(Self {
            crs: georef.crs.to_string(),
            bounds_lon_lat: bounds_lon_lat(georef, middle.0)?,
            resolution_m,
            min_zoom: (max_zoom - levels).max(0.0) as u8,
            max_zoom: max_zoom as u8,
        })
    }

    /// The bounds as map clients take them: on the Web Mercator square, and at all longitudes if they cross the antimeridian. MapLibre
    /// draws nothing between a west that is greater than the east, and Leaflet what lies outside.
    pub fn map_bounds(&self) -> Bounds {
        let Bounds { min_x, min_y, max_x, max_y } = self.bounds_lon_lat;
        let (min_x, max_x) = if max_x > 180.0 { (-180.0, 180.0) } else { (min_x, max_x) };
        Bounds { min_x, min_y: min_y.max(-MAX_LAT), max_x, max_y: max_y.min(MAX_LAT) }
    }

    /// The same with larger bounds, such as those of all captures of a source.
    pub(crate) fn within(self, bounds_lon_lat: Bounds) -> Self {
        let Bounds { min_x, min_y, max_x, max_y } = bounds_lon_lat;
        let share = ((max_x - min_x) / 360.0).max((max_y - min_y) / 180.0);
        let fitting = (1.0 / share).log2().floor().clamp(0.0, f64::from(MAX_ZOOM)) as u8;
        Self { bounds_lon_lat, min_zoom: self.min_zoom.min(fitting), ..self }
    }
}

/// The box of longitudes and latitudes in which a grid lies, as in [`Extent::bounds_lon_lat`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Footprint(Bounds);

impl Footprint {
    /// `None` if the centre of the grid is not on the Earth.
    pub(crate) fn of(georef: &Georef) -> Option<Self> {
        let (x, y) = georef.transform.apply(georef.width as f64 / 2.0, georef.height as f64 / 2.0);
        bounds_lon_lat(georef, georef.crs.to_lon_lat(x, y)?.0).map(Self)
    }

    /// True if the two boxes overlap, also where one of them crosses the antimeridian.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let turned = |by: f64| Bounds { min_x: other.0.min_x + by, max_x: other.0.max_x + by, ..other.0 };
        [0.0, 360.0, -360.0].into_iter().any(|by| self.0.intersects(&turned(by)))
    }

    /// The narrowest box around several footprints, as in [`Extent::bounds_lon_lat`].
    pub(crate) fn around(all: impl IntoIterator<Item = Self>) -> Option<Bounds> {
        let mut all: Vec<Bounds> = all.into_iter().map(|Self(bounds)| bounds).collect();
        let around = all.iter().copied().reduce(Bounds::union)?;
        all.sort_by(|a, b| a.min_x.total_cmp(&b.min_x));
        // The widest gap between longitudes is left out: the one across the antimeridian, unless another is wider.
        let (mut west, mut gap) = (around.min_x, around.min_x + 360.0 - around.max_x);
        let mut reached = all[0].max_x;
        for bounds in &all {
            if bounds.min_x - reached > gap {
                (west, gap) = (bounds.min_x, bounds.min_x - reached);
            }
            reached = reached.max(bounds.max_x);
        }
        Some(turned_back(Bounds { min_x: west, max_x: west + 360.0 - gap, ..around }))
    }
}

/// Bounds whose western edge lies within -180 and 180, and whose eastern edge lies beyond 180 if they cross the antimeridian; those
/// that go round the Earth reach from -180 to 180.
fn turned_back(bounds: Bounds) -> Bounds {
    const SLACK_DEG: f64 = 1e-9;
    if bounds.max_x - bounds.min_x >= 360.0 - SLACK_DEG {
        return Bounds { min_x: -180.0, max_x: 180.0, ..bounds };
    }
    let turns = 360.0 * ((bounds.min_x + 180.0 + SLACK_DEG) / 360.0).floor();
    let (min_x, max_x) = ((bounds.min_x - turns).max(-180.0), bounds.max_x - turns);
    Bounds { min_x, max_x: if max_x < 180.0 + SLACK_DEG { max_x.min(180.0) } else { max_x }, ..bounds }
}

fn resolution_m_at_zoom_0() -> f64 {
    resolution_m(0, TILE_PX)
}

/// The box around a lattice of points of the grid, because the edges of projected rasters are curved.
fn bounds_lon_lat(georef: &Georef, middle_lon: f64) -> Option<Bounds> {
    // Few points are enough where edges are straight. Every tile that is not cached takes this way.
    let steps = if georef.crs.is_cylindrical() { 4 } else { 20 };
    let mut bounds: Option<Bounds> = None;
    for (x, y) in georef.lattice(steps) {
        let Some((lon, lat)) = georef.crs.to_lon_lat(x, y) else { continue };
        // Within 180 degrees of the centre, so that a raster across the antimeridian is not torn apart.
        let lon = lon + 360.0 * ((middle_lon - lon) / 360.0).round();
        let point = Bounds { min_x: lon, min_y: lat.clamp(-90.0, 90.0), max_x: lon, max_y: lat.clamp(-90.0, 90.0) };
        bounds = Some(bounds.map_or(point, |bounds| bounds.union(point)));
    }
    let bounds = bounds?;
    // A pole has all longitudes around it. Cylindrical projections have none inside.
    let holds_pole = |lat: f64| !georef.crs.is_cylindrical() && holds_pole(georef, lat);
    let (north, south) = (holds_pole(90.0), holds_pole(-90.0));
    if north || south {
        return Some(Bounds {
            min_x: -180.0,
            min_y: if south { -90.0 } else { bounds.min_y },
            max_x: 180.0,
            max_y: if north { 90.0 } else { bounds.max_y },
        });
    }
    // Rasters may count longitudes from 0 to 360, or lie wholly beyond 180.
    Some(turned_back(bounds))
}

/// Whether a pole lies in a projected grid; in one of longitudes and latitudes it is an edge.
fn holds_pole(georef: &Georef, pole_lat: f64) -> bool {
    let position = (!georef.crs.is_geographic()).then(|| georef.crs.from_lon_lat(0.0, pole_lat)).flatten();
    let pixel = position.and_then(|(x, y)| Some(georef.transform.inverse()?.apply(x, y)));
    // A projection that cannot show the pole may put it anywhere.
    let is_pole = |(x, y)| georef.crs.to_lon_lat(x, y).is_some_and(|(_, lat)| (lat - pole_lat).abs() < 1e-6);
    let is_inside = |(col, row)| (0.0..=georef.width as f64).contains(&col) && (0.0..=georef.height as f64).contains(&row);
    position.is_some_and(is_pole) && pixel.is_some_and(is_inside)
}

/// Great-circle distance of two nearby points (haversine).
fn ground_distance_m(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (d_lon, d_lat) = ((b.0 - a.0).to_radians(), (b.1 - a.1).to_radians());
    let h = (d_lat / 2.0).sin().powi(2) + a.1.to_radians().cos() * b.1.to_radians().cos() * (d_lon / 2.0).sin().powi(2);
    2.0 * EARTH_RADIUS_M * h.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::georef::{Crs, GeoTransform};

    fn bounds(crs: Crs, origin: (f64, f64), pixel: f64, side: usize) -> [f64; 4] {
        let transform = GeoTransform::north_up(origin.0, origin.1, pixel, pixel);
        let place = Extent::of(&Georef { crs, transform, width: side, height: side }).expect("on the Earth");
        let Bounds { min_x, min_y, max_x, max_y } = place.bounds_lon_lat;
        [min_x, min_y, max_x, max_y].map(|edge| (edge * 1e4).round() / 1e4)
    }

    #[test]
    fn a_mosaic_around_a_pole_has_all_longitudes_up_to_the_pole() {
        let antarctic = Crs::from_epsg(3031).expect("a known code");
        let [west, south, east, north] = bounds(antarctic.clone(), (-3e6, 3e6), 1e4, 600);
        assert_eq!([west, south, east], [-180.0, -90.0, 180.0]);
        assert!((-56.0..-50.0).contains(&north), "{north}");
        let arctic = Crs::from_epsg(3413).expect("a known code");
        assert_eq!(bounds(arctic, (-1e6, 1.5e6), 1e4, 200)[3], 90.0);
        let beside = bounds(antarctic, (1e6, 1e6), 1e4, 50);
        assert!(beside[1] > -90.0 && beside[2] - beside[0] < 90.0, "{beside:?}");
    }

    #[test]
    fn longitudes_beyond_180_are_turned_back() {
        assert_eq!(bounds(Crs::lon_lat(), (190.0, 10.0), 0.5, 20), [-170.0, 0.0, -160.0, 10.0]);
        assert_eq!(bounds(Crs::lon_lat(), (-200.0, 10.0), 0.5, 20), [160.0, 0.0, 170.0, 10.0]);
        assert_eq!(bounds(Crs::lon_lat(), (0.0, 90.0), 0.5, 720)[0..3], [-180.0, -90.0, 180.0]);
        assert_eq!(bounds(Crs::lon_lat(), (180.0, 10.0), 0.5, 20), [-180.0, 0.0, -170.0, 10.0]);
        assert_eq!(bounds(Crs::lon_lat(), (-190.0, 10.0), 0.5, 20), [170.0, 0.0, 180.0, 10.0]);
    }

    fn footprint(west: f64, east: f64) -> Footprint {
        Footprint(turned_back(Bounds { min_x: west, min_y: 0.0, max_x: east, max_y: 1.0 }))
    }

    #[test]
    fn a_raster_across_the_antimeridian_ends_beyond_180() {
        assert_eq!(bounds(Crs::lon_lat(), (175.0, 10.0), 0.5, 20), [175.0, 0.0, 185.0, 10.0]);
        assert_eq!(bounds(Crs::lon_lat(), (-185.0, 10.0), 0.5, 20), [175.0, 0.0, 185.0, 10.0]);
        let fiji = Crs::from_epsg(32701).expect("UTM");
        let [west, _, east, _] = bounds(fiji, (150_000.0, 8_000_000.0), 500.0, 400);
        assert!((173.0..180.0).contains(&west) && (180.0..185.0).contains(&east), "{west} {east}");
        for (a, b, wanted) in [
            (footprint(175.0, 185.0), footprint(-179.0, -170.0), true),
            (footprint(-179.0, -170.0), footprint(175.0, 185.0), true),
            (footprint(175.0, 185.0), footprint(-174.0, 170.0), false),
            (footprint(175.0, 185.0), footprint(178.0, 179.0), true),
            (footprint(-180.0, 180.0), footprint(178.0, 182.0), true),
        ] {
            assert_eq!(a.meets(&b), wanted, "{a:?} {b:?}");
        }
    }

    #[test]
    fn the_box_around_footprints_is_the_narrowest() {
        for (footprints, wanted) in [
            (vec![footprint(10.0, 20.0)], (10.0, 20.0)),
            (vec![footprint(10.0, 20.0), footprint(-50.0, -40.0)], (-50.0, 20.0)),
            (vec![footprint(170.0, 180.0), footprint(-180.0, -170.0)], (170.0, 190.0)),
            (vec![footprint(175.0, 185.0), footprint(170.0, 172.0), footprint(-178.0, -160.0)], (170.0, 200.0)),
            (vec![footprint(-180.0, 0.0), footprint(0.0, 180.0)], (-180.0, 180.0)),
            (vec![footprint(0.0, 300.0), footprint(-90.0, 10.0)], (-180.0, 180.0)),
        ] {
            let Bounds { min_x, max_x, .. } = Footprint::around(footprints.clone()).expect("a box");
            assert_eq!((min_x, max_x), wanted, "{footprints:?}");
        }
        assert!(Footprint::around([]).is_none());
    }
}
