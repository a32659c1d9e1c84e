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
            "scale" => band.scale = text.trim().parse().unwrap_or(1.0),
            "offset" => band.offset = text.trim().parse().unwrap_or(0.0),
            "colorinterp" => {
                band.is_alpha = text == "Alpha";
                band.colour = colour(text);
            }
            _ => {}
        }
    }
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
