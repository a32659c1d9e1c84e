//! Lookups in the table of the EPSG dataset (`table.txt`, whose script says what its records mean).

use std::collections::HashMap;
use std::sync::OnceLock;

use super::definition::{Datum, Definition, Ellipsoid};
use super::shift::Shift;

/// 9102: the degree.
const DEGREE: u16 = 9102;

/// Units of length that GeoTIFF 1.0 numbers otherwise than EPSG: Indian foot, link, Benoît's and Sears' link and chain, Sears' and the
/// Indian yard.
const OLD_UNITS: [(u16, u16); 8] =
    [(9006, 9080), (9007, 9098), (9008, 9063), (9009, 9043), (9010, 9062), (9011, 9042), (9012, 9040), (9013, 9084)];

static TABLE: &str = include_str!("table.txt");

/// What a record describes: the letter that begins it.
type Kind = char;

/// The records of the table, and where each lies in it.
struct RecordIndex {
    lines: Vec<&'static str>,
    by_code: HashMap<(Kind, u16), usize>,
    by_name: HashMap<&'static str, u16>,
}

fn index() -> &'static RecordIndex {
    static INDEX: OnceLock<RecordIndex> = OnceLock::new();
    INDEX.get_or_init(|| {
        let lines: Vec<&str> = TABLE.lines().filter(|line| !line.starts_with('#')).collect();
        let (mut by_code, mut by_name) = (HashMap::new(), HashMap::new());
        for (at, line) in lines.iter().enumerate() {
            let mut fields = line.split(' ');
            match (fields.next(), fields.next(), fields.next()) {
                (Some("N"), Some(name), Some(code)) => {
                    code.parse().ok().and_then(|code| by_name.insert(name, code));
                }
                (Some("S"), ..) => {}
                (Some(kind), Some(code), _) => {
                    let key = kind.chars().next().zip(code.parse().ok());
                    key.and_then(|key| by_code.insert(key, at));
                }
                _ => {}
            }
        }
        RecordIndex { lines, by_code, by_name }
    })
}

/// The fields of a record behind its code.
fn fields(kind: Kind, code: u16) -> Option<Vec<&'static str>> {
    let line = index().lines[*index().by_code.get(&(kind, code))?];
    Some(line.split(' ').skip(2).collect())
}

fn number(kind: Kind, code: u16) -> Option<f64> {
    fields(kind, code)?.first()?.parse().ok()
}

/// Metres of a unit of length.
pub(super) fn metres(unit: u16) -> Option<f64> {
    let current = OLD_UNITS.iter().find(|(old, _)| *old == unit).map_or(unit, |(_, current)| *current);
    number('U', current)
}

/// The code of the unit of length that has a size; codes below 9001 belong to special units.
pub(super) fn unit_of_metres(metres: f64) -> Option<u16> {
    let mut units = index().lines.iter().filter_map(|line| line.strip_prefix("U ")?.split_once(' '));
    let is_size =
        |(code, size): &(&str, &str)| size.parse() == Ok(metres) && code.parse().is_ok_and(|code: u16| code >= 9001);
    units.find(is_size)?.0.parse().ok()
}

/// Degrees of a unit of angle.
pub(super) fn degrees(unit: u16) -> Option<f64> {
    number('A', unit)
}

/// Longitude of a prime meridian, degrees east of Greenwich.
pub(super) fn meridian_deg(code: u16) -> Option<f64> {
    number('P', code)
}

/// The ellipsoid of a code.
pub(super) fn ellipsoid(code: u16) -> Option<Ellipsoid> {
    match fields('E', code)?[..] {
        [a, inverse_flattening] => Ellipsoid::new(a.parse().ok()?, inverse_flattening.parse().ok()?),
        _ => None,
    }
}

/// The code of the geographic system of a datum.
pub(super) fn geographic_of_datum(datum: u16) -> Option<u16> {
    fields('D', datum)?.first()?.parse().ok()
}

/// The code of the geographic system of a datum's name, in any spelling of EPSG, Esri or GDAL.
pub(super) fn geographic_of_name(datum: &str) -> Option<u16> {
    let datum = datum.strip_prefix("D_").unwrap_or(datum);
    let plain: String = datum.chars().filter(char::is_ascii_alphanumeric).collect();
    index().by_name.get(plain.to_ascii_lowercase().as_str()).copied()
}

/// The parameters of a map projection, as the words of a PROJ string.
pub(super) fn projection(conversion: u16) -> Option<String> {
    fields('C', conversion).map(|words| words.join(" "))
}

/// The coordinate system of a code, or that which is used instead. One step alone, as in GDAL: some replacements are deprecated too.
pub(super) fn definition(code: u16) -> Option<Definition> {
    let instead = fields('K', code).and_then(|other| other.first()?.parse().ok());
    let code = instead.unwrap_or(code);
    projected(code).or_else(|| geographic(code))
}

fn projected(code: u16) -> Option<Definition> {
    let record = fields('R', code)?;
    let [base, conversion, unit, axes @ ..] = &record[..] else { return None };
    let projection = match conversion.strip_prefix('=') {
        Some(words) => words.replace(';', " "),
        None => projection(conversion.parse().ok()?)?,
    };
    Some(Definition {
        unit: metres(unit.parse().ok()?)?,
        axes: axes.first().map(|axes| (*axes).to_owned()),
        ..Definition::projected(projection, geographic(base.parse().ok()?)?.datum)
    })
}

/// The geographic system of a code; its shifts are the records behind its own.
pub(super) fn geographic(code: u16) -> Option<Definition> {
    let [ellipsoid_code, meridian, unit] = fields('G', code)?[..] else { return None };
    let records = &index().lines[index().by_code.get(&('G', code))? + 1..];
    let shift = |line: &&str| {
        let numbers: Option<Vec<f64>> = line.strip_prefix("S ")?.split(' ').map(|field| field.parse().ok()).collect();
        Shift::from_record(&numbers?)
    };
    let datum = Datum {
        ellipsoid: ellipsoid(ellipsoid_code.parse().ok()?)?,
        meridian_deg: meridian_deg(meridian.parse().ok()?)?,
        shifts: records.iter().map_while(shift).collect(),
        epsg: Some(code),
    };
    let unit = unit.parse().unwrap_or(DEGREE);
    Some(Definition { unit: degrees(unit)?, ..Definition::geographic(datum) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_refers_to_records_that_exist() {
        let mut known = 0;
        for (kind, code) in index().by_code.keys() {
            match kind {
                'R' | 'G' => assert!(definition(*code).is_some(), "EPSG:{code}"),
                'K' => assert!(definition(*code).is_some() || fields('R', *code).is_none(), "EPSG:{code}"),
                _ => continue,
            }
            known += 1;
        }
        assert!(known > 6000, "{known} systems");
    }

    #[test]
    fn names_of_datums_are_found_in_the_spellings_of_epsg_esri_and_gdal() {
        for name in ["D_North_American_1927", "North_American_Datum_1927", "North American Datum 1927"] {
            assert_eq!(geographic_of_name(name), Some(4267), "{name}");
        }
        assert_eq!(geographic_of_name("D_WGS_1984"), Some(4326));
        assert_eq!(geographic_of_name("D_Unknown"), None);
    }
}
