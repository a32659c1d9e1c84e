//! The coordinate system that the GeoKeys of a GeoTIFF describe (OGC GeoTIFF 1.1, annex B): by an EPSG code, by the parameters of
//! a user-defined projection, or by the WKT that Esri's software puts into a citation. Keys of units and of the
//! geographic system override those of a code, as in GDAL.

mod write;

use std::collections::BTreeMap;

use crate::georef::crs::{Crs, CrsError};
use crate::georef::definition::{Datum, Definition, Ellipsoid, value_of};
use crate::georef::epsg;
use crate::georef::projection::{Projection, ProjectionParameters};
use crate::georef::shift::Shift;
use crate::georef::wkt;

/// The GeoKeys of a file, by key number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GeoKeys {
    /// Keys whose value is a code.
    pub shorts: BTreeMap<u16, u16>,
    /// Keys whose values are numbers.
    pub doubles: BTreeMap<u16, Vec<f64>>,
    /// Keys whose value is a name or citation.
    pub texts: BTreeMap<u16, String>,
}

/// Numbers of the keys in the standard.
mod key {
    pub(super) const MODEL_TYPE: u16 = 1024;
    pub(super) const RASTER_TYPE: u16 = 1025;
    pub(super) const CITATION: u16 = 1026;
    pub(super) const GEOGRAPHIC: u16 = 2048;
    pub(super) const GEOGRAPHIC_CITATION: u16 = 2049;
    pub(super) const DATUM: u16 = 2050;
    pub(super) const PRIME_MERIDIAN: u16 = 2051;
    pub(super) const ANGULAR_UNITS: u16 = 2054;
    pub(super) const ANGULAR_UNIT_SIZE: u16 = 2055;
    pub(super) const ELLIPSOID: u16 = 2056;
    pub(super) const SEMI_MAJOR_AXIS: u16 = 2057;
    pub(super) const SEMI_MINOR_AXIS: u16 = 2058;
    pub(super) const INVERSE_FLATTENING: u16 = 2059;
    pub(super) const PRIME_MERIDIAN_LONGITUDE: u16 = 2061;
    pub(super) const TO_WGS84: u16 = 2062;
    pub(super) const PROJECTED: u16 = 3072;
    pub(super) const PROJECTED_CITATION: u16 = 3073;
    pub(super) const PROJECTION: u16 = 3074;
    pub(super) const COORDINATE_TRANSFORMATION: u16 = 3075;
    pub(super) const LINEAR_UNITS: u16 = 3076;
    pub(super) const LINEAR_UNIT_SIZE: u16 = 3077;
    pub(super) const STANDARD_PARALLEL_1: u16 = 3078;
    pub(super) const STANDARD_PARALLEL_2: u16 = 3079;
    pub(super) const NATURAL_ORIGIN_LONGITUDE: u16 = 3080;
    pub(super) const NATURAL_ORIGIN_LATITUDE: u16 = 3081;
    pub(super) const FALSE_EASTING: u16 = 3082;
    pub(super) const FALSE_NORTHING: u16 = 3083;
    pub(super) const FALSE_ORIGIN_LONGITUDE: u16 = 3084;
    pub(super) const FALSE_ORIGIN_LATITUDE: u16 = 3085;
    pub(super) const FALSE_ORIGIN_EASTING: u16 = 3086;
    pub(super) const FALSE_ORIGIN_NORTHING: u16 = 3087;
    pub(super) const CENTER_LONGITUDE: u16 = 3088;
    pub(super) const CENTER_LATITUDE: u16 = 3089;
    pub(super) const CENTER_EASTING: u16 = 3090;
    pub(super) const CENTER_NORTHING: u16 = 3091;
    pub(super) const SCALE_AT_NATURAL_ORIGIN: u16 = 3092;
    pub(super) const SCALE_AT_CENTER: u16 = 3093;
    pub(super) const AZIMUTH: u16 = 3094;
    pub(super) const STRAIGHT_VERTICAL_POLE_LONGITUDE: u16 = 3095;
    pub(super) const RECTIFIED_GRID_ANGLE: u16 = 3096;
}

const USER_DEFINED: u16 = 32767;
const MODEL_PROJECTED: u16 = 1;
const MODEL_GEOGRAPHIC: u16 = 2;
const MODEL_GEOCENTRIC: u16 = 3;
/// Degrees, minutes and seconds in the digits of one number (DDD.MMSSsss).
const PACKED_DEGREES: u16 = 9110;

/// Units that differ by less are the same; numbers in files are rounded.
const SAME_UNIT: f64 = 1e-8;

/// Longest text of a key in a message, characters.
const MAX_SHOWN: usize = 60;

impl GeoKeys {
    pub(crate) fn short(&self, key: u16) -> Option<u16> {
        self.shorts.get(&key).copied()
    }

    /// The code of a key, if it is an EPSG code.
    fn epsg(&self, key: u16) -> Option<u16> {
        self.short(key).filter(|code| *code != 0 && *code != USER_DEFINED)
    }

    fn number(&self, key: u16) -> Option<f64> {
        self.doubles.get(&key)?.first().copied().filter(|value| value.is_finite())
    }

    /// The value of the first key that is present: writers differ in which origin they name.
    fn first(&self, keys: &[u16]) -> Option<f64> {
        keys.iter().find_map(|key| self.number(*key))
    }

    fn unsupported(&self, reason: String) -> CrsError {
        let names = [key::PROJECTED_CITATION, key::CITATION, key::GEOGRAPHIC_CITATION];
        let name = names.iter().find_map(|key| self.texts.get(key)).map_or("unnamed", |name| name.as_str());
        CrsError::Unsupported { definition: shown(name), reason: format!("{reason} (its GeoKeys are {self})") }
    }

    /// True if no key is about a coordinate system.
    fn is_empty(&self) -> bool {
        let is_about = |key: &u16| *key >= key::GEOGRAPHIC || *key == key::MODEL_TYPE || *key == key::CITATION;
        !self.shorts.keys().chain(self.doubles.keys()).chain(self.texts.keys()).any(is_about)
    }
}

/// A text, cut for messages, which may become a header: ASCII without the separator of warnings.
fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().filter(|c| c.is_ascii() && !c.is_ascii_control() && *c != '|').take(MAX_SHOWN).collect();
    if text.len() > shown.len() {
        shown += "...";
    }
    shown
}

/// `1024=32767, 3073="name"`.
impl std::fmt::Display for GeoKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shorts = self.shorts.iter().map(|(key, value)| (*key, value.to_string()));
        let doubles = self.doubles.iter().map(|(key, values)| (*key, shown(&format!("{values:?}"))));
        let texts = self.texts.iter().map(|(key, text)| (*key, format!("{:?}", shown(text))));
        let all: BTreeMap<u16, String> =
            shorts.chain(doubles).chain(texts).filter(|(key, _)| *key != key::RASTER_TYPE).collect();
        let all: Vec<String> = all.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        write!(f, "{}", all.join(", "))
    }
}

impl Crs {
    /// The coordinate system that GeoKeys describe; `None` if they describe none.
    ///
    /// # Errors
    /// [`CrsError`] if they describe one that is unknown, unsupported or incomplete.
    pub fn from_geo_keys(keys: &GeoKeys) -> Result<Option<Self>, CrsError> {
        let model = keys.short(key::MODEL_TYPE);
        if keys.is_empty() {
            return Ok(None);
        }
        if model == Some(MODEL_GEOCENTRIC) {
            return Err(
                keys.unsupported("geocentric coordinates are no map; a projected or geographic system is needed".into())
            );
        }
        if let Some(code) = keys.epsg(key::PROJECTED) {
            return of_projected_code(keys, code).map(Some);
        }
        let has_transformation = keys.short(key::COORDINATE_TRANSFORMATION).is_some_and(|code| code != USER_DEFINED);
        if let Some(text) = esri_text(keys) {
            match wkt::read(text).map_err(|reason| keys.unsupported(reason)).and_then(Self::from_definition) {
                Err(error) if !has_transformation => return Err(error),
                Err(_) => {}
                read => return read.map(Some),
            }
        }
        let is_projected = model == Some(MODEL_PROJECTED)
            || keys.short(key::PROJECTED).is_some()
            || keys.epsg(key::PROJECTION).is_some()
            || keys.short(key::COORDINATE_TRANSFORMATION).is_some();
        if is_projected {
            let (projection, axes) = projection(keys)?;
            let unit = linear_unit(keys)?.unwrap_or(1.0);
            let definition = Definition { unit, axes, ..Definition::projected(projection, datum(keys)?) };
            return Self::from_definition(definition).map(Some);
        }
        if model == Some(MODEL_GEOGRAPHIC) || keys.short(key::GEOGRAPHIC).is_some() {
            return geographic(keys).map(Some);
        }
        Err(keys.unsupported(
            "it is described by a name alone; an EPSG code or the GeoKeys of its projection are needed".into(),
        ))
    }
}

/// The system of an EPSG code, in the linear unit and on the datum that the keys state.
fn of_projected_code(keys: &GeoKeys, code: u16) -> Result<Crs, CrsError> {
    let crs = Crs::from_epsg(code.into())?;
    let unit = linear_unit(keys)?;
    let Some(known) = epsg::definition(code).filter(|definition| definition.projection.is_some()) else { return Ok(crs) };
    let unit = unit.filter(|unit| differ(*unit, known.unit));
    let datum = other_datum(keys, &known);
    if unit.is_none() && datum.is_none() {
        return Ok(crs);
    }
    Crs::from_definition(Definition {
        unit: unit.unwrap_or(known.unit),
        datum: datum.unwrap_or(known.datum.clone()),
        ..known
    })
}

/// The datum of the geographic system that the keys state beside the code of a projected one, if it puts pixels elsewhere.
fn other_datum(keys: &GeoKeys, known: &Definition) -> Option<Datum> {
    let stated = epsg::definition(keys.epsg(key::GEOGRAPHIC)?).filter(|definition| definition.projection.is_none())?.datum;
    let agree = stated.epsg == known.datum.epsg || (stated.is_wgs84() && known.datum.is_wgs84());
    // GDAL knows Web Mercator by its code alone.
    let is_web_mercator = known.projection.as_deref().and_then(|words| value_of(words, "proj")) == Some("webmerc");
    (!agree && !is_web_mercator).then_some(stated)
}

/// A geographic system: that of an EPSG code, in degrees if the keys state them (GDAL heeds no other unit beside a code), or a
/// user-defined one.
fn geographic(keys: &GeoKeys) -> Result<Crs, CrsError> {
    let stated = angular_unit(keys)?;
    let known = keys.epsg(key::GEOGRAPHIC).map(|code| (code, epsg::definition(code)));
    match known {
        Some((code, None)) => Err(CrsError::Unknown { epsg: code.into() }),
        Some((code, Some(definition))) => match stated {
            Some(unit) if unit == 1.0 && differ(unit, definition.unit) => {
                Crs::from_definition(Definition { unit, ..definition })
            }
            _ => Crs::from_epsg(code.into()),
        },
        None => Crs::from_definition(Definition { unit: stated.unwrap_or(1.0), ..Definition::geographic(datum(keys)?) }),
    }
}

fn differ(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() > SAME_UNIT
}

/// The WKT in a citation: behind "ESRI PE String = ", or a citation that is nothing else.
fn esri_text(keys: &GeoKeys) -> Option<&str> {
    let citations = [key::PROJECTED_CITATION, key::CITATION, key::GEOGRAPHIC_CITATION];
    citations.iter().filter_map(|key| keys.texts.get(key)).find_map(|text| {
        let behind = text.find("ESRI PE String").and_then(|at| text[at..].split_once('='));
        let wkt = behind.map_or(text.as_str(), |(_, wkt)| wkt).trim();
        ["PROJCS[", "GEOGCS["].iter().any(|start| wkt.starts_with(start)).then_some(wkt)
    })
}

/// The datum: that of a code of a system or datum, else the ellipsoid and prime meridian that the keys state; in any case with the
/// shift to WGS 84 that they state.
fn datum(keys: &GeoKeys) -> Result<Datum, CrsError> {
    let of_code = |code| epsg::definition(code).map(|definition| definition.datum);
    let of_system = keys.epsg(key::GEOGRAPHIC).and_then(of_code);
    let of_datum = || keys.epsg(key::DATUM).and_then(epsg::geographic_of_datum).and_then(of_code);
    let mut datum = match of_system {
        Some(datum) => datum,
        None => {
            let datum = of_datum().map_or_else(|| ellipsoid(keys).map(Datum::on), Ok)?;
            match meridian_deg(keys)? {
                Some(stated) if stated != datum.meridian_deg => Datum { meridian_deg: stated, epsg: None, ..datum },
                _ => datum,
            }
        }
    };
    if let Some(shift) = keys.doubles.get(&key::TO_WGS84).and_then(|values| Shift::stated(values)) {
        datum.shifts = vec![shift];
        datum.epsg = None;
    }
    Ok(datum)
}

fn ellipsoid(keys: &GeoKeys) -> Result<Ellipsoid, CrsError> {
    let invalid = || keys.unsupported("the axes of its ellipsoid are no numbers of a planet".into());
    let axes = (keys.number(key::SEMI_MAJOR_AXIS), keys.number(key::INVERSE_FLATTENING), keys.number(key::SEMI_MINOR_AXIS));
    match axes {
        (Some(a), Some(flattening), _) => Ellipsoid::new(a, flattening).ok_or_else(invalid),
        (Some(a), None, b) => Ellipsoid::from_axes(a, b.unwrap_or(a)).ok_or_else(invalid),
        (None, ..) => match keys.epsg(key::ELLIPSOID) {
            None => Ok(Ellipsoid::WGS84),
            Some(code) => epsg::ellipsoid(code)
                .ok_or_else(|| keys.unsupported(format!("ellipsoid EPSG:{code} is not known; its axes are needed"))),
        },
    }
}

/// Degrees of the prime meridian; `None` if the keys state none.
fn meridian_deg(keys: &GeoKeys) -> Result<Option<f64>, CrsError> {
    if let Some(code) = keys.epsg(key::PRIME_MERIDIAN) {
        let known = epsg::meridian_deg(code);
        return known.map(Some).ok_or_else(|| keys.unsupported(format!("prime meridian EPSG:{code} is not known")));
    }
    let degrees = angular_unit(keys)?.unwrap_or(1.0);
    Ok(keys.number(key::PRIME_MERIDIAN_LONGITUDE).map(|longitude| longitude * degrees))
}

/// Metres of the linear unit; `None` if the keys state none.
fn linear_unit(keys: &GeoKeys) -> Result<Option<f64>, CrsError> {
    let unit = unit(keys, (key::LINEAR_UNITS, key::LINEAR_UNIT_SIZE), epsg::metres);
    unit.map_err(|code| {
        keys.unsupported(format!("linear unit {code} is not known; its size in metres is needed (key 3077)"))
    })
}

/// Degrees of the angular unit; `None` if the keys state none.
fn angular_unit(keys: &GeoKeys) -> Result<Option<f64>, CrsError> {
    // Packed digits are no multiple of degrees: only parameters can have them.
    let degrees = |code| if code == PACKED_DEGREES { Some(1.0) } else { epsg::degrees(code) };
    let unit = unit(keys, (key::ANGULAR_UNITS, key::ANGULAR_UNIT_SIZE), degrees);
    let is_own = keys.short(key::ANGULAR_UNITS) == Some(USER_DEFINED);
    // The size of a user-defined unit is in radians.
    let unit = unit.map(|unit| if is_own { unit.map(f64::to_degrees) } else { unit });
    unit.map_err(|code| {
        keys.unsupported(format!("angular unit {code} is not known; its size in radians is needed (key 2055)"))
    })
}

/// The size of a unit: that of its code, or the size that is stated. `Err` holds a code that is not known.
fn unit(keys: &GeoKeys, (code, size): (u16, u16), known: impl Fn(u16) -> Option<f64>) -> Result<Option<f64>, u16> {
    let stated = keys.number(size).filter(|size| *size > 0.0);
    match keys.short(code) {
        None | Some(0) => Ok(None),
        Some(USER_DEFINED) => stated.map(Some).ok_or(USER_DEFINED),
        Some(code) => known(code).or(stated).map(Some).ok_or(code),
    }
}

/// Degrees of an angle in packed digits.
fn unpacked(angle: f64) -> f64 {
    // Rounded to 10 digits, because 59.9999… seconds are a minute.
    let digits = (angle.abs() * 1e10).round() / 1e10;
    let minutes = ((digits - digits.trunc()) * 1e8).round() / 1e6;
    let seconds = ((minutes - minutes.trunc()) * 1e6).round() / 1e4;
    (digits.trunc() + minutes.trunc() / 60.0 + seconds / 3600.0).copysign(angle)
}

/// The projection and its parameters as words of a PROJ string, and the directions of its axes.
fn projection(keys: &GeoKeys) -> Result<(String, Option<String>), CrsError> {
    if let Some(code) = keys.epsg(key::PROJECTION) {
        if let Some(words) = epsg::projection(code) {
            return Ok((words, None));
        }
        if keys.short(key::COORDINATE_TRANSFORMATION).is_none() {
            return Err(keys.unsupported(format!("projection EPSG:{code} is not known")));
        }
    }
    let (metres, degrees) = (linear_unit(keys)?.unwrap_or(1.0), angular_unit(keys)?.unwrap_or(1.0));
    let is_packed = keys.short(key::ANGULAR_UNITS) == Some(PACKED_DEGREES);
    let angle =
        |numbers: &[u16]| keys.first(numbers).map(|value| if is_packed { unpacked(value) } else { value * degrees });
    let length = |numbers: &[u16]| keys.first(numbers).map(|value| value * metres);
    let parameters = ProjectionParameters {
        longitude: angle(&[
            key::NATURAL_ORIGIN_LONGITUDE,
            key::FALSE_ORIGIN_LONGITUDE,
            key::CENTER_LONGITUDE,
            key::STRAIGHT_VERTICAL_POLE_LONGITUDE,
        ]),
        latitude: angle(&[key::NATURAL_ORIGIN_LATITUDE, key::FALSE_ORIGIN_LATITUDE, key::CENTER_LATITUDE]),
        parallel_1: angle(&[key::STANDARD_PARALLEL_1]),
        parallel_2: angle(&[key::STANDARD_PARALLEL_2]),
        scale: keys.first(&[key::SCALE_AT_NATURAL_ORIGIN, key::SCALE_AT_CENTER]),
        easting: length(&[key::FALSE_EASTING, key::FALSE_ORIGIN_EASTING, key::CENTER_EASTING]),
        northing: length(&[key::FALSE_NORTHING, key::FALSE_ORIGIN_NORTHING, key::CENTER_NORTHING]),
        azimuth: angle(&[key::AZIMUTH]),
        // GDAL takes a grid that is not stated to be turned by a right angle.
        rectification: angle(&[key::RECTIFIED_GRID_ANGLE]).or(Some(90.0)),
        height: None,
    };
    match keys.short(key::COORDINATE_TRANSFORMATION) {
        Some(code) => match Projection::of_code(code) {
            Some(projection) => Ok((projection.words(&parameters), projection.axes())),
            None => Err(keys.unsupported(format!("coordinate transformation {code} is not available"))),
        },
        None => Err(keys.unsupported(
            "it is described by a name alone; an EPSG code or the GeoKeys of its projection are needed".into(),
        )),
    }
}
