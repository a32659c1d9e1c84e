//! Coordinate reference systems, and conversion to and from longitude and latitude.
//!
//! Web Mercator is computed here; every other projection by `proj4rs`, from the definitions of the EPSG dataset, of GeoKeys or of
//! WKT. Datums are shifted by the Helmert shifts that the dataset lists, without grids.

use std::f64::consts::PI;
use std::sync::Arc;

use proj4rs::proj::Proj;

use super::definition::{Definition, Ellipsoid};
use super::epsg;
use super::new_zealand::NewZealandMapGrid;
use super::shift::Shift;
use crate::error::ErrorKind;

/// Radius of the Web Mercator sphere in metres.
const EARTH_RADIUS_M: f64 = 6_378_137.0;

/// Shifts that fit as well as this need no warning, metres.
const ACCURATE_M: f64 = 1.0;

/// Datums within this distance of WGS 84, metres, are modern: they differ from it less than its own realisations did.
const MODERN_M: f64 = 10.0;

/// A coordinate system that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CrsError {
    /// There is no definition for the EPSG code.
    #[error(
        "EPSG:{epsg} is not a coordinate system this server knows; gdalwarp -t_srs EPSG:3857 converts a file to one that it does"
    )]
    Unknown {
        /// The code.
        epsg: u32,
    },
    /// The projection library does not support the definition.
    #[error(
        "the coordinate system {definition:?} cannot be used: {reason}; gdalwarp -t_srs EPSG:3857 converts a file to one that can"
    )]
    Unsupported {
        /// The definition.
        definition: String,
        /// Why it is not supported.
        reason: String,
    },
}

impl CrsError {
    /// Always [`ErrorKind::Unusable`]: the raster cannot be used.
    pub(crate) fn kind(&self) -> ErrorKind {
        ErrorKind::Unusable
    }
}

/// A coordinate reference system.
#[derive(Clone)]
pub struct Crs {
    epsg: Option<u32>,
    system: System,
}

#[derive(Clone)]
enum System {
    LonLat,
    WebMercator,
    Other(Arc<Projected>),
}

/// A system that the projection library computes.
struct Projected {
    definition: Definition,
    /// The one of the datum's shifts that is applied.
    shift: Option<Shift>,
    proj_string: String,
    /// The projection; that of longitude and latitude if `grid` is.
    proj: Proj,
    grid: Option<NewZealandMapGrid>,
}

impl Projected {
    /// Degrees a unit of longitude and latitude; 1 for lengths, whose unit the projection heeds.
    fn degrees(&self) -> f64 {
        if self.definition.projection.is_none() { self.definition.unit } else { 1.0 }
    }
}

impl std::fmt::Debug for Crs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for Crs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.epsg, &self.system) {
            (Some(epsg), _) => write!(f, "EPSG:{epsg}"),
            (None, System::Other(projected)) => write!(f, "{}", projected.proj_string),
            (None, _) => write!(f, "unnamed"),
        }
    }
}

impl PartialEq for Crs {
    fn eq(&self, other: &Self) -> bool {
        match (&self.system, &other.system) {
            (System::LonLat, System::LonLat) | (System::WebMercator, System::WebMercator) => true,
            (System::Other(a), System::Other(b)) => {
                a.proj_string == b.proj_string && a.definition.unit == b.definition.unit
            }
            _ => false,
        }
    }
}

impl Crs {
    /// Longitude and latitude in degrees, in this order, as in GeoTIFF and GeoJSON (EPSG:4326).
    pub fn lon_lat() -> Self {
        Self { epsg: Some(4326), system: System::LonLat }
    }

    /// Web Mercator in metres (EPSG:3857).
    pub fn web_mercator() -> Self {
        Self { epsg: Some(3857), system: System::WebMercator }
    }

    /// The coordinate system with an EPSG code.
    ///
    /// # Errors
    /// [`CrsError::Unknown`] if there is no definition for the code, [`CrsError::Unsupported`] if its projection is not
    /// supported.
    pub fn from_epsg(epsg: u32) -> Result<Self, CrsError> {
        match epsg {
            4326 => Ok(Self::lon_lat()),
            3857 => Ok(Self::web_mercator()),
            _ => {
                let definition = u16::try_from(epsg).ok().and_then(epsg::definition).ok_or(CrsError::Unknown { epsg })?;
                Ok(Self { epsg: Some(epsg), ..Self::from_definition(definition)? })
            }
        }
    }

    /// The coordinate system of a definition.
    ///
    /// # Errors
    /// [`CrsError::Unsupported`] if its projection is not supported.
    pub(super) fn from_definition(definition: Definition) -> Result<Self, CrsError> {
        if is_lon_lat(&definition) {
            return Ok(Self::lon_lat());
        }
        if is_web_mercator(&definition) {
            return Ok(Self::web_mercator());
        }
        let shift = definition.datum.shifts.first().cloned();
        Self::with_shift(definition, shift)
    }

    fn with_shift(definition: Definition, shift: Option<Shift>) -> Result<Self, CrsError> {
        let proj_string = definition.proj_string(shift.as_ref());
        let grid = NewZealandMapGrid::of(&definition);
        let computed = match grid {
            Some(_) => Definition::geographic(definition.datum.clone()).proj_string(shift.as_ref()),
            None => proj_string.clone(),
        };
        let proj = Proj::from_proj_string(&computed)
            .map_err(|e| CrsError::Unsupported { definition: computed, reason: e.to_string() })?;
        Ok(Self { epsg: None, system: System::Other(Arc::new(Projected { definition, shift, proj_string, proj, grid })) })
    }

    /// The same system, with that shift of its datum to WGS 84 which applies at a position.
    pub fn settled_at(&self, x: f64, y: f64) -> Self {
        let System::Other(projected) = &self.system else { return self.clone() };
        let Projected { definition, shift, .. } = &**projected;
        let here = self.to_lon_lat(x, y).and_then(|place| Shift::at(place, &definition.datum.shifts));
        if here.is_none() || here == shift.as_ref() {
            return self.clone();
        }
        let settled = Self::with_shift(definition.clone(), here.cloned());
        settled.map_or_else(|_| self.clone(), |settled| Self { epsg: self.epsg, ..settled })
    }

    /// A sentence on how far off places may be, if the datum's shift to WGS 84 is coarse or not known.
    pub fn accuracy_warning(&self) -> Option<String> {
        let System::Other(projected) = &self.system else { return None };
        let Projected { definition, shift, .. } = &**projected;
        let Some(shift) = shift else {
            return definition.datum.is_unplaced().then(|| {
                format!(
                    "Places may be off by some hundred metres: how the datum of {self} relates to WGS 84 is not known, so its longitudes \
                     and latitudes are taken as WGS 84."
                )
            });
        };
        let metres = match shift.accuracy_m {
            Some(metres) if metres <= ACCURATE_M => return None,
            _ if shift.distance_m() < MODERN_M => return None,
            Some(metres) => format!("about {metres} m"),
            None => "an unknown distance".to_owned(),
        };
        Some(format!(
            "Places may be off by {metres}: that is the accuracy of the shift from the datum of {self} to WGS 84 (no grid is used)."
        ))
    }

    /// The parts of a system that is neither WGS 84 nor Web Mercator, and the shift of its datum that is applied.
    pub(super) fn parts(&self) -> Option<(&Definition, Option<&Shift>)> {
        match &self.system {
            System::Other(projected) => Some((&projected.definition, projected.shift.as_ref())),
            _ => None,
        }
    }

    /// The EPSG code, if it was made from one.
    pub fn epsg(&self) -> Option<u32> {
        self.epsg
    }

    /// Whether coordinates are longitude and latitude.
    pub fn is_geographic(&self) -> bool {
        match &self.system {
            System::LonLat => true,
            System::WebMercator => false,
            System::Other(projected) => projected.definition.projection.is_none(),
        }
    }

    /// Whether meridians are vertical and parallels horizontal lines, so that the corners of a box bound all of it.
    pub(crate) fn is_cylindrical(&self) -> bool {
        matches!(self.system, System::LonLat | System::WebMercator)
    }

    /// Longitude and latitude of a position, in degrees; `None` if the projection does not cover it.
    pub fn to_lon_lat(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        let (lon, lat) = match &self.system {
            System::LonLat => (x, y),
            System::WebMercator => {
                ((x / EARTH_RADIUS_M).to_degrees(), (2.0 * (y / EARTH_RADIUS_M).exp().atan() - PI / 2.0).to_degrees())
            }
            System::Other(projected) => {
                let Projected { definition, proj, grid, .. } = &**projected;
                let (x, y) = (x * projected.degrees(), y * projected.degrees());
                let (x, y) = grid.as_ref().map_or((x, y), |grid| grid.place_of((x * definition.unit, y * definition.unit)));
                let (x, y) = if proj.is_latlong() { (x.to_radians(), y.to_radians()) } else { (x, y) };
                let mut point = (x, y, 0.0);
                proj4rs::transform::transform(proj, lon_lat_proj(), &mut point).ok()?;
                (point.0.to_degrees(), point.1.to_degrees())
            }
        };
        (lon.is_finite() && lat.is_finite()).then_some((lon, lat))
    }

    /// The position of a longitude and latitude in degrees; `None` if the projection does not cover it.
    pub fn from_lon_lat(&self, lon_deg: f64, lat_deg: f64) -> Option<(f64, f64)> {
        let (x, y) = match &self.system {
            System::LonLat => (lon_deg, lat_deg),
            System::WebMercator => {
                (EARTH_RADIUS_M * lon_deg.to_radians(), EARTH_RADIUS_M * (PI / 4.0 + lat_deg.to_radians() / 2.0).tan().ln())
            }
            System::Other(projected) => {
                let Projected { definition, proj, grid, .. } = &**projected;
                let mut point = (lon_deg.to_radians(), lat_deg.to_radians(), 0.0);
                proj4rs::transform::transform(lon_lat_proj(), proj, &mut point).ok()?;
                let (x, y) = (point.0, point.1);
                let (x, y) = if proj.is_latlong() { (x.to_degrees(), y.to_degrees()) } else { (x, y) };
                match grid {
                    Some(grid) => {
                        let (x, y) = grid.position_of((x, y));
                        (x / definition.unit, y / definition.unit)
                    }
                    None => (x / projected.degrees(), y / projected.degrees()),
                }
            }
        };
        (x.is_finite() && y.is_finite()).then_some((x, y))
    }
}

/// True for longitude and latitude of WGS 84 in degrees.
fn is_lon_lat(definition: &Definition) -> bool {
    let Definition { projection, datum, unit, axes } = definition;
    let is_wgs84 =
        datum.ellipsoid == Ellipsoid::WGS84 && datum.meridian_deg == 0.0 && datum.shifts.iter().all(Shift::is_null);
    projection.is_none() && axes.is_none() && is_wgs84 && (unit - 1.0).abs() < 1e-12
}

/// True for Mercator in metres on the sphere of Web Mercator, without offsets; `webmerc` takes the longitudes and latitudes of an
/// ellipsoid for those of a sphere.
fn is_web_mercator(definition: &Definition) -> bool {
    let Definition { projection: Some(projection), datum, unit, axes: None } = definition else { return false };
    let is_sphere = datum.ellipsoid.inverse_flattening == 0.0 || projection.contains("proj=webmerc");
    let is_neutral = |word: &str| match word.split_once('=') {
        Some(("proj", name)) => name == "merc" || name == "webmerc",
        Some(("k_0" | "k", value)) => value.parse() == Ok(1.0),
        Some((_, value)) => value.parse() == Ok(0.0),
        None => true,
    };
    *unit == 1.0
        && datum.ellipsoid.a == EARTH_RADIUS_M
        && is_sphere
        && datum.meridian_deg == 0.0
        && datum.shifts.iter().all(Shift::is_null)
        && projection.split_whitespace().all(is_neutral)
}

fn lon_lat_proj() -> &'static Proj {
    static LON_LAT: std::sync::OnceLock<Proj> = std::sync::OnceLock::new();
    LON_LAT.get_or_init(|| {
        Proj::from_proj_string("+proj=longlat +datum=WGS84 +no_defs").expect("the definition of WGS84 is constant")
    })
}
