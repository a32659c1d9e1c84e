//! World files: six lines with an affine transform whose origin is the centre of the first pixel.

use crate::georef::GeoTransform;

/// The transform of a world file's text: x and y per column, x and y per row, x and y of the first pixel's centre, each on a line of
/// its own. Some writers use commas for decimal points; what follows the six lines is ignored.
///
/// # Errors
/// What was found and what is needed.
pub(super) fn transform_of(text: &str) -> Result<GeoTransform, String> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.is_empty());
    let numbers: Vec<f64> = lines.map_while(|line| line.replace(',', ".").parse().ok()).take(6).collect();
    let [pixel_width, col_skew, row_skew, pixel_height, origin_x, origin_y] = numbers[..] else {
        let found = numbers.len();
        return Err(format!("its world file begins with {found} lines that are numbers; a world file has six"));
    };
    Ok(GeoTransform { origin_x, pixel_width, row_skew, origin_y, col_skew, pixel_height }.shifted(-0.5, -0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_lines_are_a_transform_from_the_centre_of_a_pixel() {
        let wanted = GeoTransform::north_up(500_000.0, 5_300_000.0, 10.0, 10.0);
        for text in [
            "10\n0\n0\n-10\n500005\n5299995\n",
            "\u{feff}10.0\r\n0.0\r\n0.0\r\n-10.0\r\n500005.0\r\n5299995.0\r\n",
            "1e1\n 0\n\n0\n-10,0\n500005,0\n5299995,0\n7\nnotes",
        ] {
            assert_eq!(transform_of(text), Ok(wanted), "{text:?}");
        }
        let turned = transform_of("0\n-2\n2\n0\n101\n199\n").expect("a transform");
        assert_eq!((turned.apply(0.5, 0.5), turned.apply(1.5, 0.5)), ((101.0, 199.0), (101.0, 197.0)));
    }

    #[test]
    fn fewer_numbers_are_an_error() {
        for (text, found) in [("", "0 lines"), ("10\n0\nnorth\n-10\n1\n2\n", "2 lines"), ("10 0 0 -10 1 2", "0 lines")] {
            assert!(transform_of(text).expect_err(text).contains(found), "{text:?}");
        }
    }
}
