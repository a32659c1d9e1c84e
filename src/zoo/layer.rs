//! The feature maps of a model, by their names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::backbone::Backbone;

/// A feature map, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Layer {
    /// `backbone.0 … backbone.3`, from 1/4 to 1/32 of the image.
    Backbone(usize),
    /// `fpn.0 … fpn.3`, of the same sizes as the backbone's.
    Fpn(usize),
    /// `upsample`, at full resolution.
    Upsample,
}

impl Layer {
    /// All layers, from the backbone's finest map to full resolution.
    pub const ALL: [Self; 9] = [
        Self::Backbone(0),
        Self::Backbone(1),
        Self::Backbone(2),
        Self::Backbone(3),
        Self::Fpn(0),
        Self::Fpn(1),
        Self::Fpn(2),
        Self::Fpn(3),
        Self::Upsample,
    ];

    /// How many pixels of an image's side one cell of the map covers.
    pub fn stride_px(self, backbone: &Backbone) -> usize {
        match self {
            Self::Backbone(index) | Self::Fpn(index) => backbone.stride_px() << index,
            Self::Upsample => 1,
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backbone(index) => write!(f, "backbone.{index}"),
            Self::Fpn(index) => write!(f, "fpn.{index}"),
            Self::Upsample => f.write_str("upsample"),
        }
    }
}

/// The text does not name a layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no layer; there are backbone.0 … backbone.3, fpn.0 … fpn.3 and upsample")]
pub struct ParseLayer {
    found: String,
}

impl FromStr for Layer {
    type Err = ParseLayer;

    fn from_str(text: &str) -> Result<Self, ParseLayer> {
        let named = |layer: &Self| layer.to_string() == text;
        Self::ALL.into_iter().find(named).ok_or_else(|| ParseLayer { found: text.to_owned() })
    }
}

impl TryFrom<String> for Layer {
    type Error = ParseLayer;

    fn try_from(text: String) -> Result<Self, ParseLayer> {
        text.parse()
    }
}

impl From<Layer> for String {
    fn from(layer: Layer) -> Self {
        layer.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_found_by_its_own_name() {
        for layer in Layer::ALL {
            assert_eq!(layer.to_string().parse(), Ok(layer));
        }
        assert!("backbone.4".parse::<Layer>().is_err());
    }
}
