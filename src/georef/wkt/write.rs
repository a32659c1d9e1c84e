//! From a definition to well-known text, with GDAL's names of projections and parameters.

use crate::georef::definition::{Definition, value_of};
use crate::georef::shift::Shift;

/// Words of a PROJ string and the WKT parameters that they are.
type WktNames = &'static [(&'static str, &'static str)];

const CENTRE: WktNames = &[("lon_0", "central_meridian")];
const OBLIQUE: WktNames = &[
    ("lat_0", "latitude_of_center"),
    ("lonc", "longitude_of_center"),
    ("alpha", "azimuth"),
    ("gamma", "rectified_grid_angle"),
    ("k", "scale_factor"),
];

/// The name of a projection, and those of its parameters besides the false origin; `None` if WKT has none.
fn names(projection: &str) -> Option<(&'static str, WktNames)> {
    let is_uncentred = projection.split_whitespace().any(|word| word == "no_uoff");
    Some(match value_of(projection, "proj")? {
        "moll" => ("Mollweide", CENTRE),
        "eqearth" => ("Equal_Earth", CENTRE),
        "wag4" => ("Wagner_IV", CENTRE),
        "wag5" => ("Wagner_V", CENTRE),
        "omerc" if is_uncentred => ("Hotine_Oblique_Mercator", OBLIQUE),
        "omerc" => ("Hotine_Oblique_Mercator_Azimuth_Center", OBLIQUE),
        "somerc" => (
            "Hotine_Oblique_Mercator_Azimuth_Center",
            &[("lat_0", "latitude_of_center"), ("lon_0", "longitude_of_center"), ("k", "scale_factor")],
        ),
        "krovak" => (
            "Krovak",
            &[
                ("lat_0", "latitude_of_center"),
                ("lon_0", "longitude_of_center"),
                ("alpha", "azimuth"),
                ("k", "scale_factor"),
            ],
        ),
        // WKT has no word for the axis that an instrument sweeps.
        "geos" if value_of(projection, "sweep") != Some("x") => {
            ("Geostationary_Satellite", &[("lon_0", "central_meridian"), ("h", "satellite_height")])
        }
        "lcc" => (
            "Lambert_Conformal_Conic",
            &[
                ("lat_0", "latitude_of_origin"),
                ("lon_0", "central_meridian"),
                ("lat_1", "standard_parallel_1"),
                ("lat_2", "standard_parallel_2"),
                ("k", "scale_factor"),
            ],
        ),
        _ => return None,
    })
}

/// The text of a projected system, with the shift of its datum. A projection without a name in WKT is written as GDAL writes it: as
/// a PROJ string.
pub(in crate::georef) fn write(definition: &Definition, projection: &str, shift: Option<&Shift>) -> String {
    let named = names(projection).filter(|_| definition.axes.is_none());
    let (projection, axes, end) = match named {
        Some((name, parameters)) => (
            format!("PROJECTION[\"{name}\"],{}", parameters_of(definition, projection, name, parameters)),
            ",AXIS[\"Easting\",EAST],AXIS[\"Northing\",NORTH]",
            String::new(),
        ),
        None => (
            "PROJECTION[\"custom_proj4\"],".to_owned(),
            "",
            format!(",EXTENSION[\"PROJ4\",\"{}\"]", definition.proj_string(shift)),
        ),
    };
    let datum = &definition.datum;
    let shift = shift.map_or_else(String::new, |shift| {
        let mut values = shift.values.clone();
        values.resize(7, 0.0);
        let values: Vec<String> = values.iter().map(f64::to_string).collect();
        format!(",TOWGS84[{}]", values.join(","))
    });
    format!(
        "PROJCS[\"unknown\",GEOGCS[\"unknown\",DATUM[\"unknown\",SPHEROID[\"unknown\",{},{}]{shift}],PRIMEM[\"unknown\",{}],\
         UNIT[\"degree\",0.0174532925199433]],{projection}UNIT[\"unknown\",{}]{axes}{end}]",
        datum.ellipsoid.a, datum.ellipsoid.inverse_flattening, datum.meridian_deg, definition.unit
    )
}

/// `PARAMETER[…],PARAMETER[…],`
fn parameters_of(definition: &Definition, projection: &str, name: &str, parameters: WktNames) -> String {
    let number = |word: &str| -> Option<f64> {
        let also = if word == "k" { "k_0" } else { word };
        value_of(projection, word).or_else(|| value_of(projection, also))?.parse().ok()
    };
    let mut stated: Vec<(&str, f64)> = parameters.iter().filter_map(|(word, name)| Some((*name, number(word)?))).collect();
    if value_of(projection, "proj") == Some("somerc") {
        stated.extend([("azimuth", 90.0), ("rectified_grid_angle", 90.0)]);
    }
    if name == "Krovak" {
        stated.push(("pseudo_standard_parallel_1", 78.5));
    }
    for (word, name) in [("x_0", "false_easting"), ("y_0", "false_northing")] {
        stated.push((name, number(word).unwrap_or(0.0) / definition.unit));
    }
    stated.iter().map(|(name, value)| format!("PARAMETER[\"{name}\",{value}],")).collect()
}
