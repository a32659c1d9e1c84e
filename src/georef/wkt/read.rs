//! From well-known text to a definition.

use super::node::Node;
use crate::georef::definition::{Datum, Definition, Ellipsoid};
use crate::georef::epsg;
use crate::georef::projection::{Projection, ProjectionParameters};
use crate::georef::shift::Shift;

/// The coordinate system of a text; heights are left out.
///
/// # Errors
/// A sentence on what is wrong with the text, or on what is not available.
pub(in crate::georef) fn read(text: &str) -> Result<Definition, String> {
    system(&Node::parse(text)?)
}

pub(super) fn system(node: &Node<'_>) -> Result<Definition, String> {
    match node.keyword.to_ascii_uppercase().as_str() {
        "PROJCS" => projected(node),
        "GEOGCS" => geographic(node),
        // A horizontal system and heights.
        "COMPD_CS" => match node.nodes().next() {
            Some(horizontal) if !horizontal.keyword.eq_ignore_ascii_case("COMPD_CS") => system(horizontal),
            _ => Err("its WKT has no horizontal coordinate system".to_owned()),
        },
        other => Err(format!("its WKT is a {other:?}; a PROJCS or GEOGCS (WKT 1) is needed")),
    }
}

/// The EPSG code of a system, or of the horizontal one in it.
pub(super) fn epsg_code(node: &Node<'_>) -> Option<u16> {
    let horizontal = || node.nodes().next().filter(|_| node.keyword.eq_ignore_ascii_case("COMPD_CS"));
    code(node).or_else(|| code(horizontal()?))
}

/// The code of a node's EPSG authority.
fn code(node: &Node<'_>) -> Option<u16> {
    let authority = node.node("AUTHORITY").or_else(|| node.node("ID"))?;
    let number = || authority.numbers().first().map(|number| *number as u16);
    authority.text()?.eq_ignore_ascii_case("EPSG").then(|| authority.last_text()?.parse().ok().or_else(number))?
}

/// The size of a node's unit, in metres or radians.
fn unit(node: &Node<'_>) -> Result<f64, String> {
    let unit = node.node("UNIT").and_then(|unit| unit.numbers().first().copied());
    unit.filter(|size| *size > 0.0).ok_or_else(|| format!("its WKT states no unit of the {}", node.keyword))
}

fn geographic(node: &Node<'_>) -> Result<Definition, String> {
    Ok(Definition { unit: rounded_degrees(unit(node)?), ..Definition::geographic(datum(node)?) })
}

/// Degrees of an angle in radians that was written with 15 digits or more.
fn rounded_degrees(radians: f64) -> f64 {
    (radians.to_degrees() * 1e12).round() / 1e12
}

/// The datum of a `GEOGCS`.
fn datum(node: &Node<'_>) -> Result<Datum, String> {
    let datum = node.node("DATUM").ok_or("its WKT has no DATUM")?;
    let figure = datum.node("SPHEROID").map(Node::numbers).unwrap_or_default();
    let ellipsoid = match figure[..] {
        [a, inverse_flattening, ..] => Ellipsoid::new(a, inverse_flattening),
        _ => None,
    };
    let ellipsoid = ellipsoid.ok_or("its WKT has no SPHEROID with two axes")?;
    let stated = datum.node("TOWGS84").and_then(|shift| Shift::stated(&shift.numbers()));
    let by_code = code(node).or_else(|| code(datum).and_then(epsg::geographic_of_datum));
    let by_name = || datum.text().and_then(epsg::geographic_of_name);
    let listed = || by_code.or_else(by_name).and_then(epsg::geographic).map(|known| known.datum.shifts).unwrap_or_default();
    Ok(Datum {
        ellipsoid,
        meridian_deg: meridian_deg(node, rounded_degrees(unit(node)?)),
        shifts: stated.map_or_else(listed, |shift| vec![shift]),
        epsg: None,
    })
}

/// The prime meridian of a `GEOGCS` whose unit is so many degrees. Esri's texts state it in degrees, whatever the unit; others only
/// that of Paris.
fn meridian_deg(node: &Node<'_>, degrees: f64) -> f64 {
    const PARIS_DEG: f64 = 2.337_229_17;
    let meridian = node.node("PRIMEM").and_then(|meridian| meridian.numbers().first().copied()).unwrap_or(0.0);
    let is_esri = node.text().is_some_and(|name| name.starts_with("GCS_"));
    if is_esri || (meridian - PARIS_DEG).abs() < 1e-6 { meridian } else { meridian * degrees }
}

fn projected(node: &Node<'_>) -> Result<Definition, String> {
    let base = node.node("GEOGCS").ok_or("its WKT has no GEOGCS in the PROJCS")?;
    let name = node.node("PROJECTION").and_then(Node::text).ok_or("its WKT has no PROJECTION")?;
    let (metres, degrees) = (unit(node)?, rounded_degrees(unit(base)?));
    let (words, axes) = match proj_string(node) {
        Some(text) => parameters_of_proj_string(text)?,
        None => {
            let known = Projection::of_name(name);
            let projection =
                known.ok_or_else(|| format!("projection {:?} is not available", name.escape_default().to_string()))?;
            (projection.words(&parameters(node, name, metres, degrees)?), projection.axes())
        }
    };
    Ok(Definition { unit: metres, axes, ..Definition::projected(words, datum(base)?) })
}

/// The PROJ string in an extension, where GDAL puts what WKT cannot say: it counts in place of the projection.
fn proj_string<'a>(node: &Node<'a>) -> Option<&'a str> {
    let mut extensions = node.nodes().filter(|child| child.keyword.eq_ignore_ascii_case("EXTENSION"));
    extensions.find(|extension| extension.text().is_some_and(|name| name.eq_ignore_ascii_case("PROJ4")))?.last_text()
}

/// Words of a PROJ string about datums and units, which the rest of the text tells, too.
const GEODETIC_WORDS: [&str; 16] = [
    "datum", "ellps", "a", "b", "rf", "R", "pm", "towgs84", "nadgrids", "units", "to_meter", "wktext", "no_defs", "type",
    "over", "vunits",
];

/// Words of a PROJ string that describe a projection.
const PROJECTION_WORDS: [&str; 20] = [
    "proj", "lat_0", "lon_0", "lonc", "lat_1", "lat_2", "lat_ts", "k", "k_0", "x_0", "y_0", "h", "sweep", "alpha", "gamma",
    "no_uoff", "no_off", "zone", "south", "R_A",
];

/// The words of a PROJ string about its projection, and its axes.
fn parameters_of_proj_string(text: &str) -> Result<(String, Option<String>), String> {
    let words = || text.split_whitespace().map(|word| word.trim_start_matches('+'));
    let is_web_mercator = words().any(|word| word == "nadgrids=@null") && words().any(|word| word == "proj=merc");
    let (mut kept, mut axes) = (Vec::new(), None);
    for word in words() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "proj" if is_web_mercator => kept.push("proj=webmerc"),
            "axis" if value == "enu" => {}
            "axis" => axes = Some(value.to_owned()),
            name if PROJECTION_WORDS.contains(&name) => kept.push(word),
            name if GEODETIC_WORDS.contains(&name) => {}
            name => return Err(format!("its PROJ string has the word {:?}, which is not known", shown(name))),
        }
    }
    Ok((kept.join(" "), axes))
}

/// A parameter of projections.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Parameter {
    Latitude,
    Longitude,
    Parallel1,
    Parallel2,
    Scale,
    Easting,
    Northing,
    Azimuth,
    Rectification,
    Height,
    /// One that nothing depends on.
    Unneeded,
}

/// Names of parameters in lower case and with `_` for blanks: those of GDAL and Esri, then those of the EPSG dataset, which GDAL writes
/// where Esri has none.
const PARAMETERS: [(Parameter, &[&str]); 11] = [
    (
        Parameter::Latitude,
        &[
            "latitude_of_origin",
            "latitude_of_center",
            "central_parallel",
            "latitude_of_natural_origin",
            "latitude_of_false_origin",
            "latitude_of_projection_centre",
            "latitude_of_topocentric_origin",
        ],
    ),
    (
        Parameter::Longitude,
        &[
            "central_meridian",
            "longitude_of_center",
            "longitude_of_origin",
            "longitude_of_natural_origin",
            "longitude_of_false_origin",
            "longitude_of_projection_centre",
            "longitude_of_topocentric_origin",
        ],
    ),
    (Parameter::Parallel1, &["standard_parallel_1", "latitude_of_1st_standard_parallel"]),
    (Parameter::Parallel2, &["standard_parallel_2", "latitude_of_2nd_standard_parallel"]),
    (Parameter::Scale, &["scale_factor", "scale_factor_at_natural_origin", "scale_factor_at_projection_centre"]),
    (Parameter::Easting, &["false_easting", "easting_at_false_origin", "easting_at_projection_centre"]),
    (Parameter::Northing, &["false_northing", "northing_at_false_origin", "northing_at_projection_centre"]),
    (Parameter::Azimuth, &["azimuth", "azimuth_at_projection_centre"]),
    (Parameter::Rectification, &["rectified_grid_angle", "xy_plane_rotation", "angle_from_rectified_to_skew_grid"]),
    (Parameter::Height, &["height", "satellite_height", "viewpoint_height"]),
    (Parameter::Unneeded, &["auxiliary_sphere_type", "pseudo_standard_parallel_1", "x_scale", "y_scale"]),
];

/// The parameters of a projection called `name`.
///
/// # Errors
/// A sentence, if there is one that is not known and not zero: without it, places would be wrong.
fn parameters(node: &Node<'_>, name: &str, metres: f64, degrees: f64) -> Result<ProjectionParameters, String> {
    let mut found = Vec::new();
    for parameter in node.nodes().filter(|child| child.keyword.eq_ignore_ascii_case("PARAMETER")) {
        let (text, value) = (parameter.text().unwrap_or_default(), parameter.numbers().first().copied());
        let plain = text.to_ascii_lowercase().replace(' ', "_");
        match (PARAMETERS.iter().find(|(_, names)| names.contains(&plain.as_str())), value) {
            (Some((known, _)), Some(value)) => found.push((*known, value)),
            (None, Some(value)) if value != 0.0 => {
                return Err(format!("its projection has the parameter {:?}, which is not known", shown(text)));
            }
            _ => {}
        }
    }
    let value = |wanted: Parameter| found.iter().find(|(parameter, _)| *parameter == wanted).map(|(_, value)| *value);
    let angle = |wanted: Parameter| value(wanted).map(|value| value * degrees);
    let length = |wanted: Parameter| value(wanted).map(|value| value * metres);
    Ok(ProjectionParameters {
        latitude: angle(Parameter::Latitude),
        longitude: angle(Parameter::Longitude),
        // GDAL's Mercator_1SP is stretched by its scale alone.
        parallel_1: angle(Parameter::Parallel1).filter(|_| !name.eq_ignore_ascii_case("Mercator_1SP")),
        parallel_2: angle(Parameter::Parallel2),
        scale: value(Parameter::Scale),
        easting: length(Parameter::Easting),
        northing: length(Parameter::Northing),
        azimuth: angle(Parameter::Azimuth),
        rectification: angle(Parameter::Rectification)
            // Esri's Krovak turns its axes by this angle, which PROJ's has built in.
            .filter(|_| !name.eq_ignore_ascii_case("Krovak")),
        height: value(Parameter::Height),
    })
}

/// A name as messages show it.
fn shown(name: &str) -> String {
    name.chars().take(60).collect::<String>().escape_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WGS84: &str = "GEOGCS[\"GCS_WGS_1984\",DATUM[\"D_WGS_1984\",SPHEROID[\"WGS_1984\",6378137.0,298.257223563]],PRIMEM[\"Greenwich\",0.0],\
                         UNIT[\"Degree\",0.0174532925199433]]";

    #[test]
    fn lengths_are_in_the_projected_unit_and_angles_in_the_geographic_one() {
        let paris = WGS84
            .replace("0.0174532925199433", "0.01570796326794897")
            .replace("\"Greenwich\",0.0", "\"Paris\",2.337229166666667");
        let text = format!(
            "COMPD_CS[\"x\",PROJCS[\"y\",{paris},PROJECTION[\"Transverse_Mercator\"],PARAMETER[\"False_Easting\",1000],\
             PARAMETER[\"Central_Meridian\",10],PARAMETER[\"Scale_Factor\",0.5],UNIT[\"Kilometer\",1000]],VERT_CS[\"z\"]]"
        );
        let definition = read(&text).expect("a system");
        assert_eq!(definition.projection.as_deref(), Some("proj=tmerc lat_0=0 k_0=0.5 lon_0=9 x_0=1000000 y_0=0"));
        assert_eq!((definition.unit, definition.datum.meridian_deg), (1000.0, 2.337_229_166_666_667));
    }

    #[test]
    fn parameters_by_the_names_of_the_epsg_dataset_count_and_unknown_ones_are_refused() {
        let text =
            |parameters: &str| format!("PROJCS[\"y\",{WGS84},PROJECTION[\"Orthographic\"],{parameters},UNIT[\"Meter\",1]]");
        let named = "PARAMETER[\"Latitude of natural origin\",45.0],PARAMETER[\"Longitude of natural origin\",10.0]";
        let definition = read(&text(named)).expect("a system");
        assert_eq!(definition.projection.as_deref(), Some("proj=ortho lat_0=45 lon_0=10 x_0=0 y_0=0"));
        let error = read(&text("PARAMETER[\"Tilt\",3]")).expect_err("an error");
        assert!(error.contains("\"Tilt\""), "{error}");
        assert!(read(&text("PARAMETER[\"Tilt\",0]")).is_ok(), "what is zero changes nothing");
    }

    #[test]
    fn a_proj_string_in_an_extension_counts_in_place_of_the_projection() {
        let text = |string: &str| {
            format!(
                "PROJCS[\"y\",{WGS84},PROJECTION[\"Geostationary_Satellite\"],PARAMETER[\"central_meridian\",-75],UNIT[\"m\",1],\
                 EXTENSION[\"PROJ4\",\"{string}\"]]"
            )
        };
        let definition =
            read(&text("+proj=geos +h=35785831 +lon_0=-75 +datum=WGS84 +units=m +no_defs +sweep=x")).expect("it");
        assert_eq!(definition.projection.as_deref(), Some("proj=geos h=35785831 lon_0=-75 sweep=x"));
        let turned = read(&text("+proj=tmerc +lon_0=9 +axis=wsu +type=crs")).expect("it");
        assert_eq!(turned.axes.as_deref(), Some("wsu"));
        let mercator = read(&text("+proj=merc +a=6378137 +b=6378137 +nadgrids=@null +wktext")).expect("it");
        assert_eq!(mercator.projection.as_deref(), Some("proj=webmerc"));
        assert!(read(&text("+proj=ob_tran +o_proj=longlat")).expect_err("an error").contains("\"o_proj\""));
    }

    #[test]
    fn incomplete_texts_say_what_is_missing() {
        let projected = |middle: &str| format!("PROJCS[\"y\",{WGS84}{middle}]");
        for (text, said) in [
            (projected(""), "no PROJECTION"),
            (projected(",PROJECTION[\"Albers\"]"), "no unit of the PROJCS"),
            (projected(",PROJECTION[\"Times\"],UNIT[\"m\",1]"), "\"Times\" is not available"),
            ("LOCAL_CS[\"z\",UNIT[\"m\",1]]".to_owned(), "a PROJCS or GEOGCS"),
            ("GEOGCS[\"g\",UNIT[\"degree\",1]]".to_owned(), "no DATUM"),
            ("GEOGCS[\"g\",DATUM[\"d\",SPHEROID[\"s\",-1,0]],UNIT[\"degree\",1]]".to_owned(), "no SPHEROID"),
            ("COMPD_CS[\"x\"]".to_owned(), "no horizontal"),
        ] {
            let reason = read(&text).expect_err("an error");
            assert!(reason.contains(said), "{reason}");
        }
    }
}
