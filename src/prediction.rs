//! Plain results of a prediction with their place on the Earth; no tensors, no formats.

use crate::error::InvalidValue;
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
    /// One category per pixel: segment and bin_segment of large scenes, reduced for one rendering.
    Classes(ClassMap),
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

impl std::str::FromStr for Pool {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let pool = [Self::Mean, Self::Max, Self::None].into_iter().find(|pool| pool.name() == text);
        pool.ok_or_else(|| InvalidValue::new("pool", text, "mean, max or none"))
    }
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

/// The label of a pixel without a category: no data, below the threshold, or a category not asked for.
pub const NO_CATEGORY: u8 = 255;

/// One category a pixel: what remains of a large scene's probabilities where a format needs no more.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassMap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width]`, row-major: index into the task's categories, or [`NO_CATEGORY`].
    pub labels: Vec<u8>,
    /// `[height, width]`: the probability of the pixel's category in steps of 1 / 65535, 0 where it has none; `None` where
    /// nobody asks for it.
    pub scores: Option<Vec<u16>>,
}

/// Takes a scene's dense answer in strips of whole rows, from the top down, and keeps of them what it needs.
pub trait DenseSink: Send {
    /// How many of a pixel's `channels` values stay in memory.
    fn kept_per_pixel(&self, channels: usize) -> usize;

    /// Takes the next rows of a scene that has `height` of them.
    fn take(&mut self, rows: Dense, height: usize);

    /// The output of all rows taken.
    fn finish(self: Box<Self>) -> Output;
}

/// The sink that keeps every value.
#[derive(Debug, Default)]
pub struct WholeMap(Option<Dense>);

impl DenseSink for WholeMap {
    fn kept_per_pixel(&self, channels: usize) -> usize {
        channels
    }

    fn take(&mut self, rows: Dense, height: usize) {
        let (width, channels) = (rows.width, rows.channels);
        let whole = self.0.get_or_insert_with(|| {
            let values = Vec::with_capacity(width * height * channels);
            Dense { width, height: 0, channels, values, valid: None }
        });
        if whole.valid.is_some() || rows.valid.is_some() {
            let valid = whole.valid.get_or_insert_with(|| vec![true; width * whole.height]);
            match rows.valid {
                Some(rows_valid) => valid.extend(rows_valid),
                None => valid.resize(valid.len() + width * rows.height, true),
            }
        }
        whole.values.extend(rows.values);
        whole.height += rows.height;
    }

    fn finish(self: Box<Self>) -> Output {
        let empty = Dense { width: 0, height: 0, channels: 1, values: Vec::new(), valid: None };
        Output::Dense(self.0.unwrap_or(empty))
    }
}
