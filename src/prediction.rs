//! Plain results of a prediction with their place on the Earth; no tensors, no formats.

use crate::georef::Georef;

/// What one task of one model says about one image, window or tile.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The values.
    pub output: Output,
    /// Columns of the image the values speak of.
    pub width: usize,
    /// Rows of the image the values speak of.
    pub height: usize,
    /// Where the image lies, if it is georeferenced.
    pub georef: Option<Georef>,
    /// Sentences about input that looks wrong (range, resolution, missing nodata), for the caller to read.
    pub warnings: Vec<String>,
}

/// The values of a prediction, by kind.
#[derive(Clone, Debug)]
pub enum Output {
    /// Values per pixel: segment, bin_segment, regress.
    Dense(Dense),
    /// One score per category: classification.
    Scores(Vec<f32>),
    /// Boxes, with masks or without: detect, instance.
    Objects(Vec<Object>),
    /// Feature maps or their means.
    Embedding(Vec<Embedding>),
}

/// A map of `channels` values per pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Values per pixel: probabilities per category, or one regressed value.
    pub channels: usize,
    /// `[height, width, channels]`, row-major.
    pub values: Vec<f32>,
    /// `[height, width]`: false where the input had no data; `None` where all of it had.
    pub valid: Option<Vec<bool>>,
}

/// One detected object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// `x0, y0, x1, y1` in pixels of the image, (0, 0) being its top-left corner.
    pub bbox_px: [f32; 4],
    /// 0 … 1.
    pub score: f32,
    /// Index into the task's categories (0 is the background and does not occur).
    pub category_id: usize,
    /// Probability of the object inside its box, for `instance` tasks.
    pub mask: Option<ObjectMask>,
}

/// A Mask R-CNN mask: probabilities on a square grid stretched over the object's box.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectMask {
    /// Cells a side (28 in Mask R-CNN).
    pub side: usize,
    /// `[side, side]`, row-major.
    pub values: Vec<f32>,
}

/// A feature map (`[C, H, W]`) or its pooled vector (`[C]`).
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// `backbone.0` … `fpn.3`, `upsample`.
    pub layer: String,
    /// How the map was pooled over space.
    pub pool: Pool,
    /// `[C]` when pooled, else `[C, H, W]`.
    pub shape: Vec<usize>,
    /// Row-major values of `shape`.
    pub values: Vec<f32>,
}

/// How a feature map is pooled over space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pool {
    /// The mean of every channel.
    #[default]
    Mean,
    /// The maximum of every channel.
    Max,
    /// Not at all.
    None,
}

impl Pool {
    /// The name in requests and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Max => "max",
            Self::None => "none",
        }
    }
}
