//! Parses the end of a tile's path: `{z}/{x}/{y}.png` or `{z}/{x}/{y}@2x.png`.

use crate::api::error::Problem;
use crate::error::ErrorKind;
use crate::tiles::TileCoord;

/// The parsed end of a tile's path.
#[derive(Debug, PartialEq)]
pub(crate) struct TileName {
    pub coord: TileCoord,
    /// True if the path has `@2x`: the tile has 512 px.
    pub doubled: bool,
    /// The text after the last dot.
    pub extension: String,
}

impl TileName {
    /// Parses the last three segments of the path.
    ///
    /// # Errors
    /// 404 if there is no extension; 400 if a number is malformed or there is no such tile.
    pub(crate) fn parse(z: &str, x: &str, last: &str) -> Result<Self, Problem> {
        let (row, extension) = last.rsplit_once('.').ok_or_else(|| {
            Problem::new(
                ErrorKind::NotFound,
                format!("{last:?} is no tile; row and format, such as 3.png or 3@2x.png, are needed"),
            )
        })?;
        let (row, doubled) = row.strip_suffix("@2x").map_or((row, false), |row| (row, true));
        let coord = TileCoord::try_new(number("z", z)?, number("x", x)?, number("y", row)?)?;
        Ok(Self { coord, doubled, extension: extension.to_owned() })
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = digits.then(|| text.parse().ok()).flatten();
    value.ok_or_else(|| Problem::parameter(name, text, "a whole number from 0 on, within the zoom's range,"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_row_size_and_format() {
        let name = TileName::parse("3", "4", "5@2x.png").unwrap();
        assert_eq!(
            (name.coord, name.doubled, name.extension.as_str()),
            (TileCoord::try_new(3, 4, 5).unwrap(), true, "png")
        );
        assert!(!TileName::parse("3", "4", "5.geojson").unwrap().doubled);
    }

    #[test]
    fn what_is_no_tile_is_refused() {
        for (z, x, last, status) in [
            ("3", "4", "5", 404),
            ("3", "4", ".png", 400),
            ("3", "8", "0.png", 400),
            ("-1", "0", "0.png", 400),
            ("+1", "0", "0.png", 400),
            ("25", "0", "0.png", 400),
            ("1e3", "0", "0.png", 400),
            ("99999999999999999999", "0", "0.png", 400),
            ("3", "4", "5@3x.png", 400),
        ] {
            assert_eq!(TileName::parse(z, x, last).unwrap_err().kind.row().status, status, "{z}/{x}/{last}");
        }
    }
}
