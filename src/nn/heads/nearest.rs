//! The mean of what the most similar examples say, at every pixel or for the mean of an image: heads that are fitted to labels and
//! keep them.
//!
//! A linear layer gives a pixel's similarity to each example. For one pixel only the order of similarities counts, so that of the cosines
//! between features and examples comes from products with examples of length 1: the length of the pixel's own features is the same for
//! all. As in a linear head, the layer runs on the cells of the maps, and similarities are interpolated. The network's device finds them; the
//! neighbours are chosen on the processor, where of equal similarities the first example is taken on every machine.

use candle_core::{DType, Device, Result, Tensor};

use super::linear::JoinedLinear;
use super::{HeadOutput, MapSpec};
use crate::nn::LoadError;
use crate::nn::detect::ImageSize;
use crate::nn::features::Part;
use crate::nn::loader::Loader;
use crate::ops::{Neighbours, SimilarityMap};
use crate::prediction::Dense;

/// Similarities of pixels that are in memory at a time.
const SIMILARITIES: usize = 8 << 20;

#[derive(Debug)]
pub(in crate::nn) struct NearestHead {
    similarity: JoinedLinear,
    neighbours: Neighbours,
}

impl NearestHead {
    /// Loads `weight [M, C]` and `bias [M]`, which give the similarities, and `values [M, K]`, what each of M examples says.
    pub(super) fn load(
        loader: &Loader<'_>,
        inputs: &[MapSpec],
        examples: usize,
        neighbours: usize,
        outputs: usize,
    ) -> std::result::Result<Self, LoadError> {
        let similarity = JoinedLinear::load(loader, inputs, examples)?;
        let values = loader.floats("values", &[examples, outputs])?;
        Ok(Self { similarity, neighbours: Neighbours { values, outputs, count: neighbours } })
    }

    /// Maps `[N, h, w, C]` -> the answer for their means over the given part of each image.
    pub(super) fn pooled(&self, maps: &[Tensor], part: Option<Part>) -> Result<Vec<HeadOutput>> {
        let similarities = self.similarity.pooled(maps, part)?.to_vec2::<f32>()?;
        Ok(similarities.iter().map(|similarities| HeadOutput::Scores(self.neighbours.mean(similarities))).collect())
    }

    /// Maps `[N, h, w, C]` of images of one size -> one output of that size per item.
    pub(super) fn forward(&self, maps: &[Tensor], image: ImageSize) -> Result<Vec<HeadOutput>> {
        let items = maps.first().map_or(Ok(0), |map| map.dim(0))?;
        (0..items).map(|item| Ok(HeadOutput::Dense(self.item(maps, item, image)?))).collect()
    }

    /// The answer for one item, some rows at a time.
    fn item(&self, maps: &[Tensor], item: usize, ImageSize { height, width }: ImageSize) -> Result<Dense> {
        let channels = self.neighbours.outputs;
        let per_row = width * self.neighbours.examples();
        let rows_at_once = (SIMILARITIES / per_row.max(1)).max(1);
        let mut values = Vec::with_capacity(height * width * channels);
        for first in (0..height).step_by(rows_at_once) {
            let rows = first..(first + rows_at_once).min(height);
            let parts = self.similarity.parts(maps).map(|(layer, map, stride_px)| {
                let (_, cell_rows, cell_cols, _) = map.dims4()?;
                let cells = SimilarityMap::cell_rows(&rows, stride_px, cell_rows);
                let map = map.narrow(0, item, 1)?.narrow(1, cells.start, cells.len())?.contiguous()?;
                let values = layer.forward(&map)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
                let values = values.flatten_all()?.to_vec1::<f32>()?;
                Ok(SimilarityMap { values, first_row: cells.start, cells: [cell_rows, cell_cols], stride_px })
            });
            let parts = parts.collect::<Result<Vec<_>>>()?;
            values.extend(self.neighbours.means(&parts, rows, width));
        }
        Ok(Dense { width, height, channels, values, valid: None })
    }
}
