//! GeoKeys of a coordinate system: an EPSG code, else the parameters of its projection, else WKT in a citation as Esri writes it.

use super::{GeoKeys, MODEL_GEOGRAPHIC, MODEL_PROJECTED, USER_DEFINED, key};
use crate::georef::crs::Crs;
use crate::georef::definition::{Datum, Definition, value_of};
use crate::georef::epsg;
use crate::georef::shift::Shift;
use crate::georef::wkt;

/// 9102: the degree.
const DEGREE: u16 = 9102;
const GREENWICH: u16 = 8901;

/// Keys whose value is a length; the others' values are angles or numbers.
const LENGTHS: [u16; 4] = [key::FALSE_EASTING, key::FALSE_NORTHING, key::FALSE_ORIGIN_EASTING, key::FALSE_ORIGIN_NORTHING];

/// Words of a PROJ string and the keys that they are.
type KeyNames = &'static [(&'static str, u16)];

const NATURAL: KeyNames = &[
    ("lat_0", key::NATURAL_ORIGIN_LATITUDE),
    ("lon_0", key::NATURAL_ORIGIN_LONGITUDE),
    ("k", key::SCALE_AT_NATURAL_ORIGIN),
    ("x_0", key::FALSE_EASTING),
    ("y_0", key::FALSE_NORTHING),
];
const CENTRE: KeyNames = &[
    ("lat_0", key::CENTER_LATITUDE),
    ("lon_0", key::CENTER_LONGITUDE),
    ("x_0", key::FALSE_EASTING),
    ("y_0", key::FALSE_NORTHING),
];
const FALSE_ORIGIN: KeyNames = &[
    ("lat_0", key::FALSE_ORIGIN_LATITUDE),
    ("lon_0", key::FALSE_ORIGIN_LONGITUDE),
    ("lat_1", key::STANDARD_PARALLEL_1),
    ("lat_2", key::STANDARD_PARALLEL_2),
    ("x_0", key::FALSE_ORIGIN_EASTING),
    ("y_0", key::FALSE_ORIGIN_NORTHING),
];
const TWO_PARALLELS: KeyNames = &[
    ("lat_0", key::NATURAL_ORIGIN_LATITUDE),
    ("lon_0", key::NATURAL_ORIGIN_LONGITUDE),
    ("lat_1", key::STANDARD_PARALLEL_1),
    ("lat_2", key::STANDARD_PARALLEL_2),
    ("x_0", key::FALSE_EASTING),
    ("y_0", key::FALSE_NORTHING),
];
const TRUE_SCALE: KeyNames = &[
    ("lat_0", key::NATURAL_ORIGIN_LATITUDE),
    ("lon_0", key::NATURAL_ORIGIN_LONGITUDE),
    ("lat_ts", key::STANDARD_PARALLEL_1),
    ("x_0", key::FALSE_EASTING),
    ("y_0", key::FALSE_NORTHING),
];
const POLAR: KeyNames = &[
    ("lat_ts", key::NATURAL_ORIGIN_LATITUDE),
    ("lon_0", key::STRAIGHT_VERTICAL_POLE_LONGITUDE),
    ("k", key::SCALE_AT_NATURAL_ORIGIN),
    ("x_0", key::FALSE_EASTING),
    ("y_0", key::FALSE_NORTHING),
];
const EQUIRECTANGULAR: KeyNames = &[
    ("lat_0", key::CENTER_LATITUDE),
    ("lon_0", key::CENTER_LONGITUDE),
    ("lat_ts", key::STANDARD_PARALLEL_1),
    ("x_0", key::FALSE_EASTING),
    ("y_0", key::FALSE_NORTHING),
];

impl GeoKeys {
    /// The keys of a coordinate system, with pixels as areas.
    pub(crate) fn of(crs: &Crs) -> Self {
        let mut keys = Self::default();
        let is_geographic = crs.is_geographic();
        keys.shorts.insert(key::RASTER_TYPE, 1);
        keys.shorts.insert(key::MODEL_TYPE, if is_geographic { MODEL_GEOGRAPHIC } else { MODEL_PROJECTED });
        let main = if is_geographic { key::GEOGRAPHIC } else { key::PROJECTED };
        let code = crs.epsg().and_then(|epsg| u16::try_from(epsg).ok());
        keys.shorts.insert(main, code.unwrap_or(USER_DEFINED));
        if let (None, Some((definition, shift))) = (code, crs.parts()) {
            keys.define(definition, shift);
            keys.texts.entry(key::CITATION).or_insert_with(|| crs.to_string());
        }
        keys
    }

    /// The keys of a system without a code.
    fn define(&mut self, definition: &Definition, shift: Option<&Shift>) {
        let Some(projection) = &definition.projection else {
            self.define_datum(&definition.datum, shift);
            if let Some(meridian) = self.doubles.get_mut(&key::PRIME_MERIDIAN_LONGITUDE) {
                *meridian = vec![definition.datum.meridian_deg / definition.unit];
            }
            if definition.unit != 1.0 {
                self.shorts.insert(key::ANGULAR_UNITS, USER_DEFINED);
                self.doubles.insert(key::ANGULAR_UNIT_SIZE, vec![definition.unit.to_radians()]);
            }
            return;
        };
        if let Some((code, names)) = transformation(definition, projection) {
            self.define_datum(&definition.datum, shift);
            self.define_projection(definition, projection, code, names);
        } else {
            self.shorts.insert(key::MODEL_TYPE, USER_DEFINED);
            self.shorts.remove(&key::PROJECTED);
            let text = wkt::write(definition, projection, shift);
            self.texts.insert(key::PROJECTED_CITATION, format!("ESRI PE String = {text}"));
        }
    }

    fn define_datum(&mut self, datum: &Datum, shift: Option<&Shift>) {
        self.shorts.insert(key::GEOGRAPHIC, datum.epsg.unwrap_or(USER_DEFINED));
        self.shorts.insert(key::ANGULAR_UNITS, DEGREE);
        if datum.epsg.is_some() {
            return;
        }
        self.shorts.extend([(key::DATUM, USER_DEFINED), (key::ELLIPSOID, USER_DEFINED)]);
        self.doubles.insert(key::SEMI_MAJOR_AXIS, vec![datum.ellipsoid.a]);
        if datum.ellipsoid.inverse_flattening == 0.0 {
            self.doubles.insert(key::SEMI_MINOR_AXIS, vec![datum.ellipsoid.a]);
        } else {
            self.doubles.insert(key::INVERSE_FLATTENING, vec![datum.ellipsoid.inverse_flattening]);
        }
        if datum.meridian_deg == 0.0 {
            self.shorts.insert(key::PRIME_MERIDIAN, GREENWICH);
        } else {
            self.shorts.insert(key::PRIME_MERIDIAN, USER_DEFINED);
            self.doubles.insert(key::PRIME_MERIDIAN_LONGITUDE, vec![datum.meridian_deg]);
        }
        if let Some(shift) = shift {
            self.doubles.insert(key::TO_WGS84, shift.values.clone());
        }
    }

    fn define_projection(&mut self, definition: &Definition, projection: &str, code: u16, names: KeyNames) {
        self.shorts.extend([(key::PROJECTION, USER_DEFINED), (key::COORDINATE_TRANSFORMATION, code)]);
        match epsg::unit_of_metres(definition.unit) {
            Some(unit) => drop(self.shorts.insert(key::LINEAR_UNITS, unit)),
            None => {
                self.shorts.insert(key::LINEAR_UNITS, USER_DEFINED);
                self.doubles.insert(key::LINEAR_UNIT_SIZE, vec![definition.unit]);
            }
        }
        for (word, key) in names {
            let default = match *word {
                "k" => 1.0,
                // Where no latitude of true scale is stated, that is the pole.
                "lat_ts" if code == 15 => number(projection, "lat_0").unwrap_or(90.0),
                _ => 0.0,
            };
            let value = number(projection, word).unwrap_or(default);
            let value = if LENGTHS.contains(key) { value / definition.unit } else { value };
            self.doubles.insert(*key, vec![value]);
        }
    }
}

/// A parameter of a projection; UTM's follow from its zone.
fn number(projection: &str, word: &str) -> Option<f64> {
    if let Some(zone) = value_of(projection, "zone").and_then(|zone| zone.parse::<f64>().ok()) {
        let is_south = projection.split_whitespace().any(|word| word == "south");
        return match word {
            "lon_0" => Some(6.0 * zone - 183.0),
            "k" => Some(0.9996),
            "x_0" => Some(500_000.0),
            "y_0" => Some(if is_south { 10_000_000.0 } else { 0.0 }),
            _ => None,
        };
    }
    let also = if word == "k" { "k_0" } else { word };
    value_of(projection, word).or_else(|| value_of(projection, also))?.parse().ok()
}

/// The coordinate transformation code of a projection and the keys of its parameters; `None` if GeoTIFF has none.
fn transformation(definition: &Definition, projection: &str) -> Option<(u16, KeyNames)> {
    let is_south = definition.axes.as_deref() == Some("wsu");
    if definition.axes.is_some() && !is_south {
        return None;
    }
    let value = |word: &str| number(projection, word);
    Some(match value_of(projection, "proj")? {
        "tmerc" if is_south => (27, NATURAL),
        _ if is_south => return None,
        "tmerc" | "etmerc" | "utm" => (1, NATURAL),
        "merc" if value("lat_ts").is_some_and(|lat| lat != 0.0) => (7, TRUE_SCALE),
        "merc" => (7, NATURAL),
        "lcc" if value("lat_2").is_some() && value("k").is_none_or(|k| k == 1.0) => (8, FALSE_ORIGIN),
        "lcc" if value("lat_2").is_none() && value("lat_1") == value("lat_0") => (9, NATURAL),
        "laea" => (10, CENTRE),
        "aea" => (11, TWO_PARALLELS),
        "aeqd" if !projection.contains("guam") => (12, CENTRE),
        "eqdc" => (13, TWO_PARALLELS),
        "stere" if value("lat_0").is_some_and(|lat| lat.abs() == 90.0) => (15, POLAR),
        "sterea" => (16, NATURAL),
        "eqc" => (17, EQUIRECTANGULAR),
        "cass" if !projection.contains("hyperbolic") => (18, NATURAL),
        "gnom" => (19, CENTRE),
        "mill" => (20, CENTRE),
        "ortho" => (21, CENTRE),
        "poly" => (22, NATURAL),
        "robin" => (23, CENTRE),
        "sinu" => (24, CENTRE),
        "nzmg" => (26, NATURAL),
        "cea" => (28, TRUE_SCALE),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The system that the keys written for `crs` describe.
    fn read_back(crs: &Crs) -> Crs {
        Crs::from_geo_keys(&GeoKeys::of(crs)).expect("a known system").expect("a system")
    }

    #[test]
    fn systems_without_a_code_read_back_from_the_keys_of_their_projection() {
        for (code, unit, transformation) in [
            (26967, 0.3048, 1),
            (32733, 0.914_398_530_744_441, 1),
            (5070, 2.0, 11),
            (2154, 2.0, 8),
            (27572, 2.0, 9),
            (3035, 1000.0, 10),
            (3413, 2.0, 15),
            (28992, 2.0, 16),
            (3395, 2.0, 7),
            (6933, 2.0, 28),
            (2046, 2.0, 27),
        ] {
            let crs =
                Crs::from_definition(Definition { unit, ..epsg::definition(code).expect("a code") }).expect("a system");
            let keys = GeoKeys::of(&crs);
            assert_eq!(keys.short(key::COORDINATE_TRANSFORMATION), Some(transformation), "EPSG:{code}");
            let (back, position) = (read_back(&crs), crs.from_lon_lat(9.0, 48.0).expect("a position"));
            let place = back.to_lon_lat(position.0, position.1).expect("a place");
            assert!((place.0 - 9.0).abs() < 1e-7 && (place.1 - 48.0).abs() < 1e-7, "EPSG:{code}: {place:?} {back}");
        }
    }

    #[test]
    fn projections_that_geo_keys_cannot_name_are_written_as_wkt() {
        for (code, name) in
            [(8857, "Equal_Earth"), (3375, "Hotine_Oblique_Mercator"), (2056, "Azimuth_Center"), (5514, "Krovak")]
        {
            let crs = Crs::from_definition(Definition { unit: 2.0, ..epsg::definition(code).expect("a code") })
                .expect("a system");
            let keys = GeoKeys::of(&crs);
            assert_eq!(keys.short(key::MODEL_TYPE), Some(USER_DEFINED));
            assert!(keys.texts[&key::PROJECTED_CITATION].contains(name), "{keys}");
            let (x, y) = crs.from_lon_lat(8.0, 47.0).expect("a position");
            let place = read_back(&crs).to_lon_lat(x, y).expect("a place");
            assert!((place.0 - 8.0).abs() < 1e-7 && (place.1 - 47.0).abs() < 1e-7, "EPSG:{code}: {place:?}");
        }
    }

    #[test]
    fn geographic_systems_keep_datum_meridian_and_unit() {
        let mut definition = epsg::definition(4807).expect("a code");
        definition.datum.epsg = None;
        let crs = Crs::from_definition(definition).expect("a system");
        assert_eq!(read_back(&crs).to_lon_lat(1.0, 50.0), crs.to_lon_lat(1.0, 50.0));
        assert_eq!(GeoKeys::of(&Crs::lon_lat()).short(key::GEOGRAPHIC), Some(4326));
    }
}
