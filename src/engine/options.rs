//! Options for the network's input and for embeddings, and how they are written as text.
//!
//! Query parameters and command-line flags are parsed by the same functions.

use std::str::FromStr;

use super::error::EngineError;
use crate::error::InvalidValue;
use crate::nn::DETECTIONS;
use crate::prediction::Pool;
use crate::raster::{BandNumbers, CaptureSelection, InputOptions, Preset, RasterError, Resampling};
use crate::zoo::{Layer, ModelSpec};

/// Most captures one request may name: more than any model takes, few enough to be cheap.
const MAX_LISTED: usize = 256;

/// The largest 16-bit pixel value.
const MAX_OFFSET: i32 = 65_535;

/// How pixels are selected and scaled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PixelOptions {
    /// Bands in the model's order; `None` matches them by name, else by count.
    pub bands: Option<BandNumbers>,
    /// A named scaling.
    pub preset: Preset,
    /// Added to Sentinel-2 counts before scaling (`-1000` for baseline 04.00 and later where the provider left it in).
    pub dn_offset: i32,
    /// Captures of a source, or of what is uploaded.
    pub captures: CaptureSelection,
    /// How a source's pixels are resampled to the tile grid.
    pub resampling: Resampling,
}

impl PixelOptions {
    pub(super) fn input(&self) -> InputOptions {
        InputOptions { preset: self.preset, dn_offset: self.dn_offset as f32, bands: self.bands.clone() }
    }
}

/// How many objects are looked for in a window, and which of them the answer shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObjectLimit {
    per_window: usize,
    shown_from: f32,
}

impl ObjectLimit {
    /// Most objects that a window may be asked for: a box of the network's for each.
    const MOST: usize = 2000;

    /// For an answer of at most `wanted` objects with scores from `shown_from` on. Fewer than the network gives anyway cost no less.
    pub fn new(wanted: Option<usize>, shown_from: f32) -> Self {
        Self { per_window: wanted.unwrap_or(DETECTIONS).clamp(DETECTIONS, Self::MOST), shown_from }
    }

    /// Objects that are looked for in a window, at most.
    pub(super) fn per_window(self) -> usize {
        self.per_window
    }

    /// What the user should know if objects that would be shown may be missing: `least` is the lowest score of a window with as many
    /// objects as are looked for.
    pub(super) fn warning(self, least: Option<f32>) -> Option<String> {
        let Self { per_window, shown_from } = self;
        least.filter(|least| *least >= shown_from)?;
        let more = if per_window < Self::MOST {
            format!("; max_detections, up to {}, asks for more", Self::MOST)
        } else {
            String::new()
        };
        Some(format!(
            "a window shows {per_window} objects, the most that are looked for in one, so others may be missing{more}."
        ))
    }
}

impl Default for ObjectLimit {
    fn default() -> Self {
        Self::new(None, 0.0)
    }
}

/// Which maps an embedding holds and how each is pooled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EmbeddingOptions {
    /// The maps.
    pub layers: Layers,
    /// How each is pooled over space.
    pub pool: Pool,
    /// Side in pixels of the cells that cover the image, each of which is pooled by itself; `None`: the whole image is pooled.
    pub cell_px: Option<usize>,
}

/// Sides that cells may have, in pixels.
const CELL_SIDES: std::ops::RangeInclusive<usize> = 1..=512;

impl EmbeddingOptions {
    /// These options for an answer in cells. Without `cell_px`, a cell is a position of the layer.
    ///
    /// # Errors
    /// If there is not one layer that the model has, or a cell is not made of whole positions of it.
    pub fn in_cells(self, spec: &ModelSpec, cell_px: Option<usize>) -> Result<Self, EngineError> {
        let invalid = |detail: String| Err(EngineError::Invalid { detail });
        let [layer] = self.layers.0.as_slice() else {
            return invalid("layer: found several; cells have the vectors of one layer".to_owned());
        };
        if layer.channels(spec).is_none() {
            return invalid(format!("layer: found {layer}, which model {} does not have; backbone.3 is there", spec.id));
        }
        let stride = layer.stride_px(&spec.backbone);
        let side = cell_px.unwrap_or(stride);
        if !CELL_SIDES.contains(&side) || !side.is_multiple_of(stride) {
            let most = CELL_SIDES.end();
            let id = &spec.id;
            return invalid(format!(
                "cell_px: found {side}; a multiple of {stride} up to {most} is needed for {layer} of {id}"
            ));
        }
        if self.pool == Pool::None && side > stride {
            let detail =
                format!("pool: found none; cells of {side} pixels hold several positions, so mean or max is needed");
            return invalid(detail);
        }
        Ok(Self { cell_px: Some(side), ..self })
    }
}

/// The feature maps of an embedding; written as one layer's name or `all`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layers(pub Vec<Layer>);

impl Default for Layers {
    fn default() -> Self {
        Self(vec![Layer::Backbone(3)])
    }
}

impl FromStr for Layers {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "all" {
            return Ok(Self(Layer::ALL.to_vec()));
        }
        let names = || Layer::ALL.map(|layer| layer.to_string()).join(", ");
        let layer = text.parse().map_err(|_| InvalidValue::new("layer", text, format!("{} or all", names())));
        layer.map(|layer| Self(vec![layer]))
    }
}

/// 0-based numbers of captures; written 1-based and separated by commas, such as `3,2,1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureNumbers(pub Vec<usize>);

impl FromStr for CaptureNumbers {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let needed = format!("a list of at most {MAX_LISTED} numbers from 1 on, such as 3,2,1");
        let zero_based = |number: &str| number.trim().parse::<usize>().ok()?.checked_sub(1);
        let numbers: Option<Vec<usize>> = text.split(',').map(zero_based).collect();
        let numbers = numbers.filter(|numbers| numbers.len() <= MAX_LISTED);
        numbers.map(Self).ok_or_else(|| InvalidValue::new("captures", text, needed))
    }
}

/// Parses `preset`; `auto` is the model's own scaling.
///
/// # Errors
/// If there is no such preset.
pub fn parse_preset(text: &str) -> Result<Preset, RasterError> {
    if text == "auto" { Ok(Preset::default()) } else { text.parse() }
}

/// Parses `dn_offset`.
///
/// # Errors
/// If the text is not a whole number from -65535 to 65535.
pub fn parse_dn_offset(text: &str) -> Result<i32, InvalidValue> {
    let offset = text.parse::<i32>().ok().filter(|offset| (-MAX_OFFSET..=MAX_OFFSET).contains(offset));
    offset.ok_or_else(|| InvalidValue::new("dn_offset", text, format!("a whole number from -{MAX_OFFSET} to {MAX_OFFSET}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_window_is_warned_of_if_all_its_objects_are_shown() {
        let limit = ObjectLimit::new(Some(5), 0.5);
        assert_eq!(limit.per_window(), DETECTIONS);
        assert!(limit.warning(None).is_none() && limit.warning(Some(0.4)).is_none());
        assert!(limit.warning(Some(0.5)).unwrap().contains("max_detections, up to 2000"));
        let most = ObjectLimit::new(Some(9000), 0.5);
        assert_eq!(most.per_window(), ObjectLimit::MOST);
        assert!(!most.warning(Some(0.9)).unwrap().contains("max_detections"));
    }

    #[test]
    fn captures_count_from_one() {
        assert_eq!("3, 2,1".parse(), Ok(CaptureNumbers(vec![2, 1, 0])));
        for list in ["", "0", "1,,2", "a", "-1", "1.5", "99999999999999999999", &"1,".repeat(500)] {
            assert!(list.parse::<CaptureNumbers>().unwrap_err().to_string().starts_with("captures: found"), "{list}");
        }
    }

    #[test]
    fn a_layer_is_named_or_all_of_them_are() {
        assert_eq!("backbone.3".parse(), Ok(Layers::default()));
        assert_eq!("all".parse::<Layers>().unwrap().0.len(), Layer::ALL.len());
        assert!("backbone.9".parse::<Layers>().unwrap_err().to_string().contains("fpn.0"));
    }

    #[test]
    fn offsets_are_whole_numbers_of_sixteen_bits() {
        assert_eq!(parse_dn_offset("-1000"), Ok(-1000));
        for text in ["1e3", "65536", "-2147483648", ""] {
            assert!(parse_dn_offset(text).unwrap_err().to_string().contains("whole number"), "{text}");
        }
    }
}
