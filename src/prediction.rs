//! Results of a prediction as plain values with their georeference; no tensors, no formats.

mod cells;

pub use cells::{CellMap, CellPrecision, CellScales, NO_VALUE};

use crate::error::InvalidValue;
use crate::georef::Georef;

/// The result of one task of one model for one image, window or tile.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The predicted values.
    pub output: Output,
    /// Columns of the image.
    pub width: usize,
    /// Rows of the image.
    pub height: usize,
    /// Where the image lies on the Earth, if it is georeferenced.
    pub georef: Option<Georef>,
    /// Warnings about input that looks wrong (value range, resolution, missing nodata), as sentences for the caller.
    pub warnings: Vec<String>,
}

/// The predicted values, by kind of task.
#[derive(Clone, Debug)]
pub enum Output {
    /// Values per pixel, of segment, bin_segment and regress tasks.
    Dense(Dense),
    /// One category per pixel: a large scene of a segment or bin_segment task, reduced for one format and rendering.
    Classes(ClassMap),
    /// One score per category, of classification tasks.
    Scores(Vec<f32>),
    /// Boxes of detect tasks, boxes with masks of instance tasks.
    Objects(Vec<Object>),
    /// Feature maps, or vectors pooled from them.
    Embedding(Vec<Embedding>),
    /// The vectors of square cells that cover the image.
    Cells(CellMap),
}

/// A map of `channels` values per pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Values per pixel: probabilities per category, or regressed values (mostly one).
    pub channels: usize,
    /// `[height, width, channels]`, row-major.
    pub values: Vec<f32>,
    /// `[height, width]`: whether the input had data. `None`: it had data everywhere.
    pub valid: Option<Vec<bool>>,
}

impl Dense {
    /// This map with a value for every pixel of an image of `width` x `height` pixels, where one value covers `stride_px` pixels
    /// of each side. Pixels beyond the last value take it; values beyond the image are cut off. For maps without `valid`.
    pub fn enlarged(self, stride_px: usize, width: usize, height: usize) -> Self {
        if (self.width, self.height) == (width, height) || self.values.is_empty() {
            return self;
        }
        let Self { channels, .. } = self;
        let mut values = Vec::with_capacity(width * height * channels);
        for row in 0..height {
            let first = (row / stride_px).min(self.height - 1) * self.width;
            for col in 0..width {
                let at = (first + (col / stride_px).min(self.width - 1)) * channels;
                values.extend_from_slice(&self.values[at..at + channels]);
            }
        }
        Self { width, height, channels, values, valid: None }
    }
}

/// A detected object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// `x0, y0, x1, y1` in pixels of the image, whose top-left corner is (0, 0).
    pub bbox_px: [f32; 4],
    /// From 0 to 1.
    pub score: f32,
    /// Index into the task's categories. Category 0 is the background and does not occur.
    pub category_id: usize,
    /// Where in its box the object is; only in `instance` tasks.
    pub mask: Option<ObjectMask>,
}

/// A Mask R-CNN mask: probabilities on a square grid stretched over the object's box.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectMask {
    /// Cells per side (28 in Mask R-CNN).
    pub side: usize,
    /// `[side, side]`, row-major.
    pub values: Vec<f32>,
}

/// A feature map (`[C, H, W]`) or its pooled vector (`[C]`).
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// `backbone.0` … `backbone.3`, `fpn.0` … `fpn.3` or `upsample`.
    pub layer: String,
    /// How it was pooled over space.
    pub pool: Pool,
    /// `[C]` if pooled, else `[C, H, W]`.
    pub shape: Vec<usize>,
    /// Row-major values.
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
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Max => "max",
            Self::None => "none",
        }
    }
}

/// The label of a pixel without a category: it has no data, is below the threshold, or its category was not asked for.
pub const NO_CATEGORY: u8 = 255;

/// One category per pixel: what is kept of a large scene's probabilities if the format needs no more.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassMap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width]`, row-major: indices into the task's categories, or [`NO_CATEGORY`].
    pub labels: Vec<u8>,
    /// `[height, width]`: the probability of the pixel's category in multiples of 1 / 65535, or 0 without a category.
    /// `None`: the format does not need it.
    pub scores: Option<Vec<u16>>,
}

/// Receives the dense answer of a scene in parts: strips of whole rows from the top down, or of whole columns from the left.
pub trait DenseSink: Send {
    /// How many values it keeps of a pixel with `channels` values.
    fn kept_per_pixel(&self, channels: usize) -> usize;

    /// How many bytes it keeps of a pixel with `channels` values.
    fn bytes_per_pixel(&self, channels: usize) -> usize;

    /// Receives the next part, whose first pixel lies at `(column, row)` of a scene of `(columns, rows)` in total.
    fn take(&mut self, part: Dense, corner: (usize, usize), whole: (usize, usize));

    /// What is kept of all parts.
    fn finish(self: Box<Self>) -> Output;
}

/// Copies the rows of a part of `part_width` pixels into a whole of `whole_width`, at `(column, row)`. A pixel has `per_pixel`
/// values in both.
pub(crate) fn copy_part<T: Copy>(
    part: &[T],
    part_width: usize,
    whole: &mut [T],
    whole_width: usize,
    (col, row): (usize, usize),
    per_pixel: usize,
) {
    for (down, line) in part.chunks_exact((part_width * per_pixel).max(1)).enumerate() {
        whole[((row + down) * whole_width + col) * per_pixel..][..line.len()].copy_from_slice(line);
    }
}

/// A sink that keeps every value.
#[derive(Debug, Default)]
pub struct WholeMap(Option<Dense>);

impl DenseSink for WholeMap {
    fn kept_per_pixel(&self, channels: usize) -> usize {
        channels
    }

    fn bytes_per_pixel(&self, channels: usize) -> usize {
        channels * size_of::<f32>() + size_of::<bool>()
    }

    fn take(&mut self, part: Dense, corner: (usize, usize), (width, height): (usize, usize)) {
        let channels = part.channels;
        let whole = self.0.get_or_insert_with(|| {
            let values = vec![0.0; width * height * channels];
            Dense { width, height, channels, values, valid: None }
        });
        copy_part(&part.values, part.width, &mut whole.values, width, corner, channels);
        if let Some(part_valid) = part.valid {
            let valid = whole.valid.get_or_insert_with(|| vec![true; width * height]);
            copy_part(&part_valid, part.width, valid, width, corner, 1);
        }
    }

    fn finish(self: Box<Self>) -> Output {
        let empty = Dense { width: 0, height: 0, channels: 1, values: Vec::new(), valid: None };
        Output::Dense(self.0.unwrap_or(empty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_map_gets_a_value_for_every_pixel_of_the_image() {
        let map = Dense { width: 2, height: 1, channels: 2, values: vec![1.0, 2.0, 3.0, 4.0], valid: None };
        let enlarged = map.clone().enlarged(2, 5, 2);
        let row = [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 3.0, 4.0];
        assert_eq!((enlarged.width, enlarged.height, enlarged.values), (5, 2, [row, row].concat()));
        assert_eq!(map.enlarged(2, 1, 1).values, [1.0, 2.0]);
    }
}
