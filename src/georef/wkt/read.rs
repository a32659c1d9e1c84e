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
    let known = Projection::of_name(name);
    let projection = known.ok_or_else(|| format!("projection {:?} is not available", name.escape_default().to_string()))?;
    let (metres, degrees) = (unit(node)?, rounded_degrees(unit(base)?));
    let words = projection.words(&parameters(node, name, metres, degrees));
    let datum = datum(base)?;
    Ok(Definition { unit: metres, axes: projection.axes(), ..Definition::projected(words, datum) })
}

/// The parameters of a projection called `name`.
fn parameters(node: &Node<'_>, name: &str, metres: f64, degrees: f64) -> ProjectionParameters {
    let parameter = |names: &[&str]| {
        let is_meant = |node: &&Node<'_>| {
            let is_parameter = node.keyword.eq_ignore_ascii_case("PARAMETER");
            is_parameter && node.text().is_some_and(|name| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
        };
        node.nodes().find(is_meant)?.numbers().first().copied()
    };
    let angle = |names: &[&str]| parameter(names).map(|value| value * degrees);
    let length = |names: &[&str]| parameter(names).map(|value| value * metres);
    let parallel_1 = angle(&["standard_parallel_1"]);
    ProjectionParameters {
        latitude: angle(&["latitude_of_origin", "latitude_of_center", "central_parallel"]),
        longitude: angle(&["central_meridian", "longitude_of_center", "longitude_of_origin"]),
        // GDAL's Mercator_1SP is stretched by its scale alone.
        parallel_1: parallel_1.filter(|_| !name.eq_ignore_ascii_case("Mercator_1SP")),
        parallel_2: angle(&["standard_parallel_2"]),
        scale: parameter(&["scale_factor"]),
        easting: length(&["false_easting"]),
        northing: length(&["false_northing"]),
        azimuth: angle(&["azimuth"]),
        rectification: angle(&["rectified_grid_angle", "xy_plane_rotation"])
            // Esri's Krovak turns its axes by this angle, which PROJ's has built in.
            .filter(|_| !name.eq_ignore_ascii_case("Krovak")),
        height: parameter(&["height", "satellite_height"]),
    }
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
