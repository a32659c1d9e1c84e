//! How a prediction is filtered and drawn, as encoders use it; [`super::RenderChoice`] is what a caller writes.

use std::hash::{Hash, Hasher};

/// How a prediction is filtered and drawn; the defaults are the API's.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderOptions {
    /// Least score of objects and least probability of binary categories; `None` is 0.5 for images, tiles and vectors and
    /// the network's own 0.05 for raw boxes (json, safetensors).
    pub threshold: Option<f32>,
    /// Categories shown, by index into the task's; `None` shows all.
    pub categories: Option<Vec<usize>>,
    /// Most objects returned, best first.
    pub max_detections: Option<usize>,
    /// What an image's pixels say.
    pub render: Render,
    /// Colours of continuous values.
    pub colormap: Colormap,
    /// 0 (invisible) … 1.
    pub opacity: f32,
    /// How far outlines of regions and masks may stray from pixel edges; 0 keeps those exactly.
    pub simplify_px: f32,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self {
            threshold: None,
            categories: None,
            max_detections: None,
            render: Render::Color,
            colormap: Colormap::default(),
            opacity: 1.0,
            simplify_px: 0.0,
        }
    }
}

/// Options are part of the identity of an encoded answer. Numbers are hashed by their bits.
impl Hash for RenderOptions {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { threshold, categories, max_detections, render, colormap, opacity, simplify_px } = self;
        threshold.map(f32::to_bits).hash(state);
        (categories, max_detections, render, colormap).hash(state);
        (opacity.to_bits(), simplify_px.to_bits()).hash(state);
    }
}

/// What an image's pixels say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Render {
    /// The category's colour.
    #[default]
    Color,
    /// The category's index.
    Index,
    /// The probability of one category, through the colour map.
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
