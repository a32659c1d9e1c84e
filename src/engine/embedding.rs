//! Feature maps as answers: cropped to the requested area, then pooled or kept whole.

use super::device::FeatureMap;
use crate::nn::Part;
use crate::prediction::{Embedding, Pool};

impl FeatureMap {
    /// The cells over a pixel rectangle of an input of `input_px` a side; at least one cell.
    pub(super) fn cropped(&self, area: Part, input_px: usize) -> FeatureMap {
        let [height, width, channels] = self.shape;
        let span = |start: usize, length: usize, cells: usize| {
            let stride = input_px.div_ceil(cells);
            let first = (start / stride).min(cells - 1);
            (first, (length.div_ceil(stride)).clamp(1, cells - first))
        };
        let (col, cols) = span(area.col, area.width, width);
        let (row, rows) = span(area.row, area.height, height);
        let values = (row..row + rows)
            .flat_map(|row| &self.values[(row * width + col) * channels..][..cols * channels])
            .copied()
            .collect();
        FeatureMap { layer: self.layer, shape: [rows, cols, channels], values }
    }
}

/// The map as an answer: `[channels]` for mean and maximum, `[channels, height, width]` without pooling.
pub(super) fn pooled(map: &FeatureMap, pool: Pool) -> Embedding {
    let [height, width, channels] = map.shape;
    let cells = map.values.chunks_exact(channels);
    let (shape, values) = match pool {
        Pool::None => {
            let values = (0..channels).flat_map(|channel| cells.clone().map(move |cell| cell[channel])).collect();
            (vec![channels, height, width], values)
        }
        Pool::Mean => {
            let mut sums = vec![0.0f64; channels];
            for cell in cells {
                sums.iter_mut().zip(cell).for_each(|(sum, value)| *sum += f64::from(*value));
            }
            let count = (height * width).max(1) as f64;
            (vec![channels], sums.into_iter().map(|sum| (sum / count) as f32).collect())
        }
        Pool::Max => {
            let mut most = vec![f32::NEG_INFINITY; channels];
            for cell in cells {
                most.iter_mut().zip(cell).for_each(|(most, value)| *most = most.max(*value));
            }
            (vec![channels], most)
        }
    };
    Embedding { layer: map.layer.to_string(), pool, shape, values }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Layer;

    fn map() -> FeatureMap {
        FeatureMap { layer: Layer::Backbone(3), shape: [2, 2, 2], values: vec![1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 6.0, -6.0] }
    }

    #[test]
    fn pooling_sums_up_over_space() {
        assert_eq!(pooled(&map(), Pool::Mean).values, [3.0, -3.0]);
        assert_eq!(pooled(&map(), Pool::Max).values, [6.0, -1.0]);
        let whole = pooled(&map(), Pool::None);
        assert_eq!((whole.shape, whole.values), (vec![2, 2, 2], vec![1.0, 2.0, 3.0, 6.0, -1.0, -2.0, -3.0, -6.0]));
    }

    #[test]
    fn a_crop_takes_the_cells_over_the_pixels() {
        let area = Part { col: 32, row: 0, width: 32, height: 64 };
        assert_eq!(map().cropped(area, 64).values, [2.0, -2.0, 6.0, -6.0]);
    }
}
