//! The features of places, from the windows that tiles are cut from.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;

use super::labels::{LabelUnit, WorldPixel};
use crate::engine::caller::Caller;
use crate::engine::device::{FeatureMap, ModelAnswer, ModelQuery};
use crate::engine::error::EngineError;
use crate::engine::options::{EmbeddingOptions, Layers, ObjectLimit, PixelOptions};
use crate::engine::plan::{ObjectRule, TilePlan, TileRequest};
use crate::engine::window::Asked;
use crate::engine::{EMBEDDING, Engine, ModelTask};
use crate::nn::bilinear_cell;
use crate::zoo::{Layer, ModelSpec};

/// What is sampled.
pub(super) struct Sampling<'a> {
    pub(super) engine: &'a Engine,
    pub(super) caller: &'a Caller,
    pub(super) base: &'a Arc<ModelSpec>,
    pub(super) source: &'a str,
    pub(super) pixels: &'a PixelOptions,
    pub(super) layers: &'a [Layer],
    pub(super) unit: LabelUnit,
}

/// The features of places.
#[derive(Debug, Default)]
pub(super) struct PlaceFeatures {
    /// Those of each place; `None` where the source has no data.
    pub(super) features: Vec<Option<Vec<f32>>>,
    /// What is doubtful about the imagery, each once.
    pub(super) warnings: Vec<String>,
}

impl Sampling<'_> {
    /// The features of `places`, in their order. `report` is called with the windows that are done and all there are.
    ///
    /// # Errors
    /// If the source or its imagery cannot be read, or the network fails.
    pub(super) async fn run(
        &self,
        places: &[WorldPixel],
        report: &(impl Fn(usize, usize) + Sync),
    ) -> Result<PlaceFeatures, EngineError> {
        let mut by_tile: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
        for (index, place) in places.iter().enumerate() {
            let tile = place.tile()?;
            by_tile.entry((tile.y(), tile.x())).or_default().push(index);
        }
        let total = by_tile.len();
        report(0, total);
        let mut samples = PlaceFeatures { features: vec![None; places.len()], warnings: Vec::new() };
        let tiles = by_tile.into_values().map(|indices| async move {
            let sampled = self.tile(places, &indices).await?;
            Ok::<_, EngineError>((sampled, indices))
        });
        let mut tiles = futures::stream::iter(tiles).buffered(self.in_flight());
        let mut done = 0;
        while let Some(tile) = tiles.next().await {
            let (PlaceFeatures { features, warnings }, indices) = tile?;
            for (index, features) in indices.into_iter().zip(features) {
                samples.features[index] = features;
            }
            for warning in warnings {
                if !samples.warnings.contains(&warning) {
                    samples.warnings.push(warning);
                }
            }
            done += 1;
            report(done, total);
        }
        Ok(samples)
    }

    /// Windows that are being read, waiting or running at the same time.
    fn in_flight(&self) -> usize {
        let Engine { scenes, workers, windows, .. } = self.engine;
        let side = windows.grid().input_px();
        let input = side * side * self.base.bands.len() * self.base.max_images;
        let maps: usize = self.layers.iter().map(|layer| layer.values(self.base, side, side)).sum();
        scenes.windows_in_flight(workers.in_flight(), ((input + maps) * size_of::<f32>()) as u64, 0)
    }

    /// The features of those labels that lie on one tile of the native zoom.
    async fn tile(&self, places: &[WorldPixel], indices: &[usize]) -> Result<PlaceFeatures, EngineError> {
        let Engine { models, sources, windows, .. } = self.engine;
        let mut samples = PlaceFeatures { features: vec![None; indices.len()], warnings: Vec::new() };
        let Some(first) = indices.first() else { return Ok(samples) };
        let request = TileRequest {
            model: ModelTask::find(self.base.clone(), EMBEDDING)?,
            source: self.source.to_owned(),
            tile: places[*first].tile()?,
            tile_size_px: 512,
            pixels: self.pixels.clone(),
            embedding: EmbeddingOptions { layers: Layers(self.layers.to_vec()), ..EmbeddingOptions::default() },
            objects: ObjectRule::Centre,
            limit: ObjectLimit::default(),
        };
        let plan = TilePlan::new(request, models, sources, windows.grid()).await?;
        samples.warnings.extend(plan.source.unmatched(&plan.key.pixels.captures));
        if !plan.is_covered() || !samples.warnings.is_empty() {
            return Ok(samples);
        }
        let model = models.load_planned(&plan.planned).await?;
        let asked = Asked { model: &model, source: &plan.source, caller: self.caller };
        let query = ModelQuery::Embedding(self.layers.to_vec());
        let answered = windows.answer(plan.key.clone(), asked, query).await;
        let (window, _) = answered.inspect_err(|error| {
            if error.is_changed_file() {
                sources.close(&plan.source);
            }
        })?;
        samples.warnings.clone_from(&window.warnings);
        let Some(ModelAnswer::Maps(maps)) = &window.answer else { return Ok(samples) };
        for (features, index) in samples.features.iter_mut().zip(indices) {
            let [col, row] = places[*index].in_window(windows.grid())?;
            let side = self.unit.side_px();
            let has_data = window.valid.as_ref().is_none_or(|valid| {
                let mut rows = valid.chunks(windows.grid().input_px()).skip(row).take(side);
                rows.any(|row| row[col..][..side].contains(&true))
            });
            *features = has_data.then(|| {
                let of_map = |map: &FeatureMap| match self.unit {
                    LabelUnit::Pixel => map.at_pixel(col, row),
                    LabelUnit::Tile => map.mean_over([col, row], side),
                };
                maps.iter().flat_map(of_map).collect()
            });
        }
        Ok(samples)
    }
}

impl FeatureMap {
    /// The channels at the centre of a pixel, interpolated as a linear head does it.
    pub(super) fn at_pixel(&self, col: usize, row: usize) -> Vec<f32> {
        let [rows, cols, channels] = self.shape;
        let cell = |at: usize, cells: usize| {
            let (first, part) = bilinear_cell(at as f64 + 0.5, self.stride_px, cells);
            (first, (first + 1).min(cells - 1), part)
        };
        let ((top, bottom, down), (left, right, across)) = (cell(row, rows), cell(col, cols));
        let channels_of = |row: usize, col: usize| &self.values[(row * cols + col) * channels..][..channels];
        let [top_left, top_right] = [left, right].map(|col| channels_of(top, col));
        let [bottom_left, bottom_right] = [left, right].map(|col| channels_of(bottom, col));
        let mix = |a: f32, b: f32, part: f32| (b - a) * part + a;
        (0..channels)
            .map(|i| {
                let (left, right) = (mix(top_left[i], bottom_left[i], down), mix(top_right[i], bottom_right[i], down));
                mix(left, right, across)
            })
            .collect()
    }
}

impl FeatureMap {
    /// The channels' means over the cells that a square of pixels covers, wholly or in part: what a pooled head sees of it.
    fn mean_over(&self, [col, row]: [usize; 2], side: usize) -> Vec<f32> {
        let [rows, cols, channels] = self.shape;
        let span = |first: usize, cells: usize| {
            (first / self.stride_px).min(cells.saturating_sub(1))..(first + side).div_ceil(self.stride_px).min(cells)
        };
        let (rows, columns) = (span(row, rows), span(col, cols));
        let count = (rows.len() * columns.len()) as f64;
        let mut sums = vec![0.0f64; channels];
        for row in rows {
            for cell in self.values[(row * cols + columns.start) * channels..(row * cols + columns.end) * channels]
                .chunks_exact(channels)
            {
                sums.iter_mut().zip(cell).for_each(|(sum, value)| *sum += f64::from(*value));
            }
        }
        sums.into_iter().map(|sum| (sum / count) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_takes_its_share_of_four_cells() {
        let values = vec![0.0, 0.0, 4.0, 1.0, 8.0, 2.0, 12.0, 3.0];
        let map = FeatureMap { layer: Layer::Fpn(0), shape: [2, 2, 2], stride_px: 2, values };
        assert_eq!(map.at_pixel(0, 0), [0.0, 0.0]);
        assert_eq!(map.at_pixel(1, 2), [7.0, 1.75]);
        assert_eq!(map.at_pixel(9, 9), [12.0, 3.0]);
    }

    #[test]
    fn a_square_takes_the_cells_that_it_touches() {
        let values = (0..9).map(|i| i as f32).collect();
        let map = FeatureMap { layer: Layer::Fpn(0), shape: [3, 3, 1], stride_px: 4, values };
        assert_eq!(map.mean_over([4, 0], 8), [3.0]);
        assert_eq!(map.mean_over([3, 3], 2), [2.0]);
        assert_eq!(map.mean_over([12, 12], 2), [8.0]);
    }
}
