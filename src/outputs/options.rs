//! How a prediction is filtered and drawn, as encoders use it; [`super::RenderChoice`] is what a caller writes.

use std::hash::{Hash, Hasher};

use crate::prediction::CellPrecision;

/// How a prediction is filtered and drawn; the defaults are the API's.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderOptions {
    /// Least score of objects and least probability of bin_segment categories. `None`: 0.5 in images and vectors, and the
    /// network's own 0.05 for raw boxes (json, safetensors).
    pub threshold: Option<f32>,
    /// The categories to show, as indices into the task's. `None`: all.
    pub categories: Option<Vec<usize>>,
    /// How many objects to return at most, highest score first. `None`: all.
    pub max_detections: Option<usize>,
    /// What the pixels of an image mean.
    pub render: Render,
    /// Colours for continuous values.
    pub colormap: Colormap,
    /// The values at the two ends of the colour map. `None`: the range of the task's values, 0 to 1 for probabilities.
    pub rescale: Option<[f32; 2]>,
    /// From 0 (invisible) to 1.
    pub opacity: f32,
    /// How far simplified outlines of regions and masks may be from the pixel edges; 0 keeps the exact outlines.
    pub simplify_px: f32,
    /// How the values of an embedding's cells are stored.
    pub precision: CellPrecision,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self {
            threshold: None,
            categories: None,
            max_detections: None,
            render: Render::Color,
            colormap: Colormap::default(),
            rescale: None,
            opacity: 1.0,
            simplify_px: 0.0,
            precision: CellPrecision::default(),
        }
    }
}

/// Options are part of the identity of an encoded answer. Numbers are hashed by their bits.
impl Hash for RenderOptions {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { threshold, categories, max_detections, render, colormap, rescale, opacity, simplify_px, precision } =
            self;
        threshold.map(f32::to_bits).hash(state);
        (categories, max_detections, render, colormap, precision).hash(state);
        rescale.map(|ends| ends.map(f32::to_bits)).hash(state);
        (opacity.to_bits(), simplify_px.to_bits()).hash(state);
    }
}

/// What the pixels of an image mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Render {
    /// The category's colour, or a value through the colour map.
    #[default]
    Color,
    /// The category's index as a grey level.
    Index,
    /// The probability of one category, or one of a regression's values, through the colour map.
    Probability {
        /// Index into the task's categories.
        category_id: usize,
    },
}

/// A colour map for continuous values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Colormap {
    /// Perceptually uniform, blue to yellow.
    #[default]
    Viridis,
    /// Black to white.
    Gray,
    /// Perceptually uniform, black over red to yellow.
    Inferno,
    /// Hypsometric: sea green over brown to white.
    Terrain,
}
