//! Feature maps as answers: cropped to the requested area, then pooled or kept whole.

use super::device::FeatureMap;
use crate::nn::Part;
use crate::prediction::{Embedding, Pool};
use crate::zoo::Layer;

impl FeatureMap {
    /// The cells over a pixel rectangle; at least one cell.
    pub(super) fn cropped(&self, area: Part) -> FeatureMap {
        let ([height, width, channels], stride) = (self.shape, self.stride_px);
        let span = |start: usize, length: usize, cells: usize| {
            let first = (start / stride).min(cells - 1);
            (first, (length.div_ceil(stride)).clamp(1, cells - first))
        };
        let (col, cols) = span(area.col, area.width, width);
        let (row, rows) = span(area.row, area.height, height);
        let values = (row..row + rows)
            .flat_map(|row| &self.values[(row * width + col) * channels..][..cols * channels])
            .copied()
            .collect();
        FeatureMap { shape: [rows, cols, channels], values, ..*self }
    }
}

/// One feature map of an answer, pooled cell by cell, so that a pooled map takes the memory of its channels only.
pub(super) struct PooledMap {
    layer: Layer,
    pool: Pool,
    /// Rows, columns, channels of the whole map.
    shape: [usize; 3],
    cells: PooledCells,
}

enum PooledCells {
    /// `[channels, rows, columns]`; 0 where no cell was put.
    Whole(Vec<f32>),
    /// Sums by channel, and the number of cells in them.
    Sums(Vec<f64>, usize),
    /// Maxima by channel.
    Maxima(Vec<f32>),
}

impl PooledMap {
    /// A map of `[rows, columns, channels]` without cells.
    pub(super) fn new(layer: Layer, shape: [usize; 3], pool: Pool) -> Self {
        let channels = shape[2];
        let cells = match pool {
            Pool::None => PooledCells::Whole(vec![0.0; shape.iter().product()]),
            Pool::Mean => PooledCells::Sums(vec![0.0; channels], 0),
            Pool::Max => PooledCells::Maxima(vec![f32::NEG_INFINITY; channels]),
        };
        Self { layer, pool, shape, cells }
    }

    /// Rows, columns and channels of the whole map.
    pub(super) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Adds the channels of one cell, which must not have been added before.
    pub(super) fn put(&mut self, row: usize, col: usize, values: &[f32]) {
        let [rows, cols, _] = self.shape;
        match &mut self.cells {
            PooledCells::Whole(whole) => {
                let places = whole[row * cols + col..].iter_mut().step_by(rows * cols);
                places.zip(values).for_each(|(place, value)| *place = *value);
            }
            PooledCells::Sums(sums, count) => {
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
                *count += 1;
            }
            PooledCells::Maxima(maxima) => {
                maxima.iter_mut().zip(values).for_each(|(most, value)| *most = most.max(*value));
            }
        }
    }

    /// `[channels]` for mean and maximum, `[channels, rows, columns]` without pooling.
    pub(super) fn finish(self) -> Embedding {
        let [rows, cols, channels] = self.shape;
        let (shape, values) = match self.cells {
            PooledCells::Whole(values) => (vec![channels, rows, cols], values),
            PooledCells::Sums(sums, count) => {
                let count = count.max(1) as f64;
                (vec![channels], sums.into_iter().map(|sum| (sum / count) as f32).collect())
            }
            PooledCells::Maxima(values) => (vec![channels], values),
        };
        Embedding { layer: self.layer.to_string(), pool: self.pool, shape, values }
    }
}

/// The whole map as an answer.
pub(super) fn pooled(map: &FeatureMap, pool: Pool) -> Embedding {
    let [_, cols, channels] = map.shape;
    let mut pooled = PooledMap::new(map.layer, map.shape, pool);
    for (cell, values) in map.values.chunks_exact(channels).enumerate() {
        pooled.put(cell / cols, cell % cols, values);
    }
    pooled.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> FeatureMap {
        FeatureMap {
            layer: Layer::Backbone(3),
            shape: [2, 2, 2],
            stride_px: 32,
            values: vec![1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 6.0, -6.0],
        }
    }

    #[test]
    fn pooling_sums_up_over_space() {
        assert_eq!(pooled(&map(), Pool::Mean).values, [3.0, -3.0]);
        assert_eq!(pooled(&map(), Pool::Max).values, [6.0, -1.0]);
        let whole = pooled(&map(), Pool::None);
        assert_eq!((whole.shape, whole.values), (vec![2, 2, 2], vec![1.0, 2.0, 3.0, 6.0, -1.0, -2.0, -3.0, -6.0]));
    }

    #[test]
    fn cells_that_never_come_count_for_no_mean_or_maximum() {
        for (pool, values) in [(Pool::Mean, vec![-2.0]), (Pool::Max, vec![-1.0]), (Pool::None, vec![-1.0, 0.0, -3.0, 0.0])]
        {
            let mut map = PooledMap::new(Layer::Upsample, [2, 2, 1], pool);
            map.put(0, 0, &[-1.0]);
            map.put(1, 0, &[-3.0]);
            assert_eq!(map.finish().values, values, "{pool:?}");
        }
    }

    #[test]
    fn a_crop_takes_the_cells_over_the_pixels() {
        let area = Part { col: 32, row: 0, width: 32, height: 64 };
        assert_eq!(map().cropped(area).values, [2.0, -2.0, 6.0, -6.0]);
    }
}
