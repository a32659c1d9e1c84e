//! Coordinate reference systems, and conversion to and from longitude and latitude.
//!
//! Web Mercator is computed here; every other projection by `proj4rs`, with the definitions of `crs-definitions`.

use std::f64::consts::PI;
use std::sync::Arc;

use proj4rs::proj::Proj;

use crate::error::ErrorKind;

/// Radius of the Web Mercator sphere in metres.
const EARTH_RADIUS_M: f64 = 6_378_137.0;

/// A coordinate system that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CrsError {
    /// There is no definition for the EPSG code.
    #[error("EPSG:{epsg} is not a coordinate system this server knows")]
    Unknown {
        /// The code.
        epsg: u32,
    },
    /// The projection library does not support the definition.
    #[error("the coordinate system {definition:?} cannot be used: {reason}")]
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
    Projected { definition: Arc<str>, proj: Arc<Proj> },
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
            (None, System::Projected { definition, .. }) => write!(f, "{definition}"),
            (None, _) => write!(f, "unnamed"),
        }
    }
}

impl PartialEq for Crs {
    fn eq(&self, other: &Self) -> bool {
        match (&self.system, &other.system) {
            (System::LonLat, System::LonLat) | (System::WebMercator, System::WebMercator) => true,
            (System::Projected { definition: a, .. }, System::Projected { definition: b, .. }) => a == b,
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
                let code = u16::try_from(epsg).map_err(|_| CrsError::Unknown { epsg })?;
                let definition = crs_definitions::from_code(code).ok_or(CrsError::Unknown { epsg })?;
                Ok(Self { epsg: Some(epsg), ..Self::from_proj4(definition.proj4)? })
            }
        }
    }

    /// The coordinate system that a PROJ string describes.
    ///
    /// # Errors
    /// [`CrsError::Unsupported`] if its projection is not supported.
    pub fn from_proj4(definition: &str) -> Result<Self, CrsError> {
        let proj = Proj::from_proj_string(definition)
            .map_err(|e| CrsError::Unsupported { definition: definition.to_owned(), reason: e.to_string() })?;
        Ok(Self { epsg: None, system: System::Projected { definition: definition.trim().into(), proj: Arc::new(proj) } })
    }

    /// The EPSG code, if it was made from one.
    pub fn epsg(&self) -> Option<u32> {
        self.epsg
    }

    /// Whether coordinates are degrees.
    pub fn is_geographic(&self) -> bool {
        match &self.system {
            System::LonLat => true,
            System::WebMercator => false,
            System::Projected { proj, .. } => proj.is_latlong(),
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
            System::Projected { proj, .. } => {
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
            System::Projected { proj, .. } => {
                let mut point = (lon_deg.to_radians(), lat_deg.to_radians(), 0.0);
                proj4rs::transform::transform(lon_lat_proj(), proj, &mut point).ok()?;
                if proj.is_latlong() { (point.0.to_degrees(), point.1.to_degrees()) } else { (point.0, point.1) }
            }
        };
        (x.is_finite() && y.is_finite()).then_some((x, y))
    }
}

fn lon_lat_proj() -> &'static Proj {
    static LON_LAT: std::sync::OnceLock<Proj> = std::sync::OnceLock::new();
    LON_LAT.get_or_init(|| {
        Proj::from_proj_string("+proj=longlat +datum=WGS84 +no_defs").expect("the definition of WGS84 is constant")
    })
}
