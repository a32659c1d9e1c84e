//! A property of a band as GDAL writes it, into a TIFF tag or a file beside the image.

use crate::raster::pixels::{BandColour, BandInfo};

/// A property of the band that a stored sample becomes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BandItem {
    /// Numbered from 0.
    pub(crate) sample: usize,
    /// `description`, `scale`, `offset` or `colorinterp`; others are ignored.
    pub(crate) role: String,
    pub(crate) text: String,
}

impl BandItem {
    /// Sets the property.
    pub(crate) fn describe(&self, band: &mut BandInfo) {
        let text = &*self.text;
        match &*self.role {
            "description" => band.description = Some(text.to_owned()).filter(|text| !text.is_empty()),
            "scale" => band.scale = finite(text).unwrap_or(1.0),
            "offset" => band.offset = finite(text).unwrap_or(0.0),
            "colorinterp" => {
                band.is_alpha = text == "Alpha";
                band.colour = colour(text);
            }
            _ => {}
        }
    }
}

fn finite(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// A "no data" value as files state it: one number, or several of which the first counts, as in GDAL; also in the spelling of old
/// Windows programs (`-1.#INF`). `None` for NaN, which never is data, and for anything else.
pub(crate) fn nodata_number(text: &str) -> Option<f64> {
    let first = text.split([' ', '\t', '\n', '\r', ',', ';']).find(|word| !word.is_empty())?;
    let number = match first.to_ascii_uppercase().as_str() {
        "1.#INF" => f64::INFINITY,
        "-1.#INF" => f64::NEG_INFINITY,
        _ => first.parse().ok()?,
    };
    (!number.is_nan()).then_some(number)
}

/// The colour that GDAL's name of a colour interpretation stands for.
fn colour(name: &str) -> Option<BandColour> {
    match name {
        "Red" => Some(BandColour::Red),
        "Green" => Some(BandColour::Green),
        "Blue" => Some(BandColour::Blue),
        "Undefined" | "Gray" | "Palette" | "Alpha" => None,
        _ => Some(BandColour::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodata_is_the_first_number_in_any_spelling() {
        for (text, number) in [
            ("0", 0.0),
            (" -9999 ", -9999.0),
            ("255 255 255", 255.0),
            ("255,0", 255.0),
            ("-3.40282347e+38", -3.402_823_47e38),
            ("inf", f64::INFINITY),
            ("-1.#INF", f64::NEG_INFINITY),
        ] {
            assert_eq!(nodata_number(text), Some(number), "{text:?}");
        }
        for text in ["", " ", "none", "nan", "-1.#IND", "0xff"] {
            assert_eq!(nodata_number(text), None, "{text:?}");
        }
    }
}
