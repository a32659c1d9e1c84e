//! The coordinate system that the GeoKeys of a GeoTIFF describe (OGC GeoTIFF 1.1, annex B): by an EPSG code, or by the
//! parameters of a user-defined projection, which are turned into a PROJ string.

use std::collections::BTreeMap;

use super::crs::{Crs, CrsError};

/// The GeoKeys of a file, by key number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GeoKeys {
    /// Keys whose value is a code.
    pub shorts: BTreeMap<u16, u16>,
    /// Keys whose value is a number.
    pub doubles: BTreeMap<u16, f64>,
    /// Keys whose value is a name or citation.
    pub texts: BTreeMap<u16, String>,
}

/// Numbers of the keys in the standard.
mod key {
    pub(super) const MODEL_TYPE: u16 = 1024;
    pub(super) const CITATION: u16 = 1026;
    pub(super) const GEOGRAPHIC: u16 = 2048;
    pub(super) const DATUM: u16 = 2050;
    pub(super) const ANGULAR_UNITS: u16 = 2054;
    pub(super) const ELLIPSOID: u16 = 2056;
    pub(super) const SEMI_MAJOR_AXIS: u16 = 2057;
    pub(super) const SEMI_MINOR_AXIS: u16 = 2058;
    pub(super) const INVERSE_FLATTENING: u16 = 2059;
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
    pub(super) const STRAIGHT_VERTICAL_POLE_LONGITUDE: u16 = 3095;
}

const USER_DEFINED: u16 = 32767;
const MODEL_PROJECTED: u16 = 1;
const MODEL_GEOGRAPHIC: u16 = 2;
const MODEL_GEOCENTRIC: u16 = 3;
const DEGREE: u16 = 9102;
const METRE: u16 = 9001;

impl GeoKeys {
    pub(crate) fn short(&self, key: u16) -> Option<u16> {
        self.shorts.get(&key).copied()
    }

    /// The code of a key, if it is an EPSG code.
    fn epsg(&self, key: u16) -> Option<u16> {
        self.short(key).filter(|code| *code != 0 && *code != USER_DEFINED)
    }

    /// The value of the first key that is present: writers differ in which origin they name.
    fn first(&self, keys: &[u16]) -> Option<f64> {
        keys.iter().find_map(|key| self.doubles.get(key).copied())
    }

    fn unsupported(&self, reason: String) -> CrsError {
        let names = [key::PROJECTED_CITATION, key::CITATION];
        let definition = names.iter().find_map(|key| self.texts.get(key)).cloned().unwrap_or_else(|| "unnamed".to_owned());
        CrsError::Unsupported { definition, reason }
    }
}

impl Crs {
    /// The coordinate system that GeoKeys describe; `None` if they describe none.
    ///
    /// # Errors
    /// [`CrsError`] if they describe one that is unknown, unsupported or incomplete.
    pub fn from_geo_keys(keys: &GeoKeys) -> Result<Option<Self>, CrsError> {
        let model = keys.short(key::MODEL_TYPE);
        if model == Some(MODEL_GEOCENTRIC) {
            return Err(
                keys.unsupported("geocentric coordinates are no map; a projected or geographic system is needed".into())
            );
        }
        if let Some(code) = keys.epsg(key::PROJECTED) {
            return Self::from_epsg(code.into()).map(Some);
        }
        let is_projected = model == Some(MODEL_PROJECTED)
            || keys.short(key::PROJECTED).is_some()
            || keys.short(key::COORDINATE_TRANSFORMATION).is_some();
        if is_projected {
            let definition = format!("{} {} {} +no_defs", projection(keys)?, geodetic(keys)?, linear_unit(keys)?.1);
            return Self::from_proj4(&definition).map(Some);
        }
        if let Some(code) = keys.epsg(key::GEOGRAPHIC) {
            return Self::from_epsg(code.into()).map(Some);
        }
        if model == Some(MODEL_GEOGRAPHIC) {
            return Self::from_proj4(&format!("+proj=longlat {} +no_defs", geodetic(keys)?)).map(Some);
        }
        Ok(None)
    }
}

/// The datum or ellipsoid as PROJ parameters.
fn geodetic(keys: &GeoKeys) -> Result<String, CrsError> {
    // The EPSG code of a datum is that of its two-dimensional geographic system plus 2000.
    let from_datum = keys.epsg(key::DATUM).and_then(|datum| datum.checked_sub(2000));
    let known = [keys.epsg(key::GEOGRAPHIC), from_datum].into_iter().flatten().find_map(crs_definitions::from_code);
    if let Some(definition) = known {
        let is_geodetic = |word: &&str| !["+proj=", "+no_defs", "+type="].iter().any(|other| word.starts_with(other));
        return Ok(definition.proj4.split_whitespace().filter(is_geodetic).collect::<Vec<_>>().join(" "));
    }
    let number = |key| keys.doubles.get(&key).copied().filter(|value: &f64| value.is_finite());
    match (number(key::SEMI_MAJOR_AXIS), number(key::INVERSE_FLATTENING), number(key::SEMI_MINOR_AXIS)) {
        (Some(a), Some(flattening), _) if flattening > 1.0 => Ok(format!("+a={a} +rf={flattening}")),
        (Some(a), _, Some(b)) => Ok(format!("+a={a} +b={b}")),
        (Some(a), ..) => Ok(format!("+a={a} +b={a}")),
        _ => match keys.epsg(key::ELLIPSOID) {
            Some(7030) | None => Ok("+ellps=WGS84".to_owned()),
            Some(7019) => Ok("+ellps=GRS80".to_owned()),
            Some(7008) => Ok("+ellps=clrk66".to_owned()),
            Some(7004) => Ok("+ellps=bessel".to_owned()),
            Some(7022) => Ok("+ellps=intl".to_owned()),
            Some(7001) => Ok("+ellps=airy".to_owned()),
            Some(code) => Err(keys.unsupported(format!("ellipsoid EPSG:{code} is not known; its axes are needed"))),
        },
    }
}

/// The linear unit in metres, and as a PROJ parameter.
fn linear_unit(keys: &GeoKeys) -> Result<(f64, String), CrsError> {
    let metres = match keys.short(key::LINEAR_UNITS) {
        None | Some(METRE) => return Ok((1.0, "+units=m".to_owned())),
        Some(9002) => 0.3048,
        Some(9003) => 1200.0 / 3937.0,
        code => match keys.doubles.get(&key::LINEAR_UNIT_SIZE) {
            Some(metres) if metres.is_finite() && *metres > 0.0 => *metres,
            _ => return Err(keys.unsupported(format!("linear unit {code:?} is not known; metres or feet are"))),
        },
    };
    Ok((metres, format!("+to_meter={metres}")))
}

/// The projection and its parameters as PROJ parameters.
fn projection(keys: &GeoKeys) -> Result<String, CrsError> {
    if let Some(utm @ (16001..=16060 | 16101..=16160)) = keys.epsg(key::PROJECTION) {
        let south = if utm > 16100 { " +south" } else { "" };
        return Ok(format!("+proj=utm +zone={}{south}", utm % 100));
    }
    if keys.short(key::ANGULAR_UNITS).is_some_and(|unit| unit != DEGREE) {
        return Err(keys.unsupported("its projection's angles are not in degrees".into()));
    }
    let (metres, _) = linear_unit(keys)?;
    let origin_lon = keys
        .first(&[
            key::NATURAL_ORIGIN_LONGITUDE,
            key::FALSE_ORIGIN_LONGITUDE,
            key::CENTER_LONGITUDE,
            key::STRAIGHT_VERTICAL_POLE_LONGITUDE,
        ])
        .unwrap_or(0.0);
    let origin_lat =
        keys.first(&[key::NATURAL_ORIGIN_LATITUDE, key::FALSE_ORIGIN_LATITUDE, key::CENTER_LATITUDE]).unwrap_or(0.0);
    let easting = keys.first(&[key::FALSE_EASTING, key::FALSE_ORIGIN_EASTING, key::CENTER_EASTING]).unwrap_or(0.0);
    let northing = keys.first(&[key::FALSE_NORTHING, key::FALSE_ORIGIN_NORTHING, key::CENTER_NORTHING]).unwrap_or(0.0);
    let scale = keys.first(&[key::SCALE_AT_NATURAL_ORIGIN, key::SCALE_AT_CENTER]).unwrap_or(1.0);
    let parallel_1 = keys.doubles.get(&key::STANDARD_PARALLEL_1).copied();
    let parallel_2 = keys.doubles.get(&key::STANDARD_PARALLEL_2).copied();

    let one_parallel = format!("+lat_1={}", parallel_1.unwrap_or(origin_lat));
    let two_parallels = format!("{one_parallel} +lat_2={}", parallel_2.or(parallel_1).unwrap_or(origin_lat));
    let true_scale = format!("+lat_ts={}", parallel_1.unwrap_or(origin_lat));
    let (lat, k) = (format!("+lat_0={origin_lat}"), format!("+k_0={scale}"));
    let name_and_parameters = match keys.short(key::COORDINATE_TRANSFORMATION) {
        Some(1) => format!("+proj=tmerc {lat} {k}"),
        Some(7) if parallel_1.is_some() => format!("+proj=merc {true_scale}"),
        Some(7) => format!("+proj=merc {k}"),
        Some(8) => format!("+proj=lcc {lat} {two_parallels}"),
        Some(9) => format!("+proj=lcc {lat} +lat_1={origin_lat} {k}"),
        Some(10) => format!("+proj=laea {lat}"),
        Some(11) => format!("+proj=aea {lat} {two_parallels}"),
        Some(12) => format!("+proj=aeqd {lat}"),
        Some(13) => format!("+proj=eqdc {lat} {two_parallels}"),
        Some(14) => format!("+proj=stere {lat} {k}"),
        // Polar stereographic: here the standard's natural origin latitude is the latitude of true scale, on the side of
        // the pole.
        Some(15) => format!("+proj=stere +lat_0={} +lat_ts={origin_lat} {k}", 90f64.copysign(origin_lat)),
        Some(16) => format!("+proj=sterea {lat} {k}"),
        Some(17) => format!("+proj=eqc {true_scale} {lat}"),
        Some(18) => format!("+proj=cass {lat}"),
        Some(20) => "+proj=mill".to_owned(),
        Some(21) => format!("+proj=ortho {lat}"),
        Some(22) => format!("+proj=poly {lat}"),
        Some(23) => "+proj=robin".to_owned(),
        Some(24) => "+proj=sinu".to_owned(),
        Some(28) => format!("+proj=cea {true_scale}"),
        Some(code) => return Err(keys.unsupported(format!("coordinate transformation {code} is not available"))),
        None => {
            return Err(keys.unsupported(
                "it is described by a name or WKT alone; an EPSG code or the GeoKeys of its projection are needed".into(),
            ));
        }
    };
    Ok(format!("{name_and_parameters} +lon_0={origin_lon} +x_0={} +y_0={}", easting * metres, northing * metres))
}
