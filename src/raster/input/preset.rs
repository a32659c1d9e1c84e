//! What a request says about its input: the scaling, an offset, and the bands.

use std::str::FromStr;

use super::bands::BandNumbers;
use crate::raster::error::RasterError;

/// How pixel values become network input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Preset {
    /// The model's own offset and scale per band, with the 8-bit true-colour image for Sentinel-2's colours.
    #[default]
    Tci,
    /// B04, B03, B02 / 3000 in place of the true-colour image.
    Reflectance,
}

/// What a request says about its input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputOptions {
    /// The scaling.
    pub preset: Preset,
    /// Added to reflectances before scaling: -1000 for Sentinel-2 baseline 04.00 and later, unless the provider has removed the
    /// offset.
    pub dn_offset: f32,
    /// 1-based bands in the model's order.
    pub bands: Option<BandNumbers>,
}

fn invalid_preset(value: &str) -> RasterError {
    RasterError::InvalidOption {
        what: "preset",
        value: value.chars().take(100).collect(),
        needed: "tci and reflectance are the choices (dn_offset=NUMBER is an option of its own)".to_owned(),
    }
}

impl FromStr for Preset {
    type Err = RasterError;

    fn from_str(text: &str) -> Result<Self, RasterError> {
        match text {
            "tci" => Ok(Self::Tci),
            "reflectance" => Ok(Self::Reflectance),
            _ => Err(invalid_preset(text)),
        }
    }
}
