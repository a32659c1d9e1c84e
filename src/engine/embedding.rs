//! Feature maps as answers: cropped to the requested area, then pooled or kept whole.

use super::device::FeatureMap;
use crate::nn::Part;
use crate::prediction::{CellMap, Embedding, Pool};
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

/// One feature map of an answer, pooled position by position, so that a pooled map takes the memory of its channels only.
///
/// Positions are pooled in groups: all of them in one, or squares of them, which are the cells of an answer in cells.
pub(super) struct PooledMap {
    layer: Layer,
    pool: Pool,
    /// Rows, columns, channels of the whole map.
    shape: [usize; 3],
    /// Positions along the sides of a group.
    side: usize,
    values: PooledValues,
}

enum PooledValues {
    /// `[channels, rows, columns]`; a fixed value where no position was put.
    Whole(Vec<f32>),
    /// `[groups, channels]`: sums, and the number of positions in each group.
    Sums(Vec<f64>, Vec<u32>),
    /// `[groups, channels]`: maxima.
    Maxima(Vec<f32>),
}

impl PooledMap {
    /// A map of `[rows, columns, channels]` without positions, which is pooled as a whole.
    pub(super) fn new(layer: Layer, shape: [usize; 3], pool: Pool) -> Self {
        Self::in_groups(layer, shape, pool, shape[0].max(shape[1]).max(1), 0.0)
    }

    /// A map without positions that is pooled in cells of `side` x `side` positions.
    pub(super) fn in_cells(layer: Layer, shape: [usize; 3], pool: Pool, side: usize) -> Self {
        let pool = if side == 1 { Pool::None } else { pool };
        Self::in_groups(layer, shape, pool, side.max(1), f32::NAN)
    }

    fn in_groups(layer: Layer, shape: [usize; 3], pool: Pool, side: usize, missing: f32) -> Self {
        let [rows, cols, channels] = shape;
        let groups = rows.div_ceil(side) * cols.div_ceil(side);
        let values = match pool {
            Pool::None => PooledValues::Whole(vec![missing; shape.iter().product()]),
            Pool::Mean => PooledValues::Sums(vec![0.0; groups * channels], vec![0; groups]),
            Pool::Max => PooledValues::Maxima(vec![f32::NEG_INFINITY; groups * channels]),
        };
        Self { layer, pool, shape, side, values }
    }

    /// Rows, columns and channels of the whole map.
    pub(super) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Adds the channels of one position, which must not have been added before.
    pub(super) fn put(&mut self, row: usize, col: usize, values: &[f32]) {
        let [rows, cols, channels] = self.shape;
        let group = row / self.side * cols.div_ceil(self.side) + col / self.side;
        match &mut self.values {
            PooledValues::Whole(whole) => {
                let places = whole[row * cols + col..].iter_mut().step_by(rows * cols);
                places.zip(values).for_each(|(place, value)| *place = *value);
            }
            PooledValues::Sums(sums, counts) => {
                let sums = sums[group * channels..].iter_mut();
                sums.zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
                counts[group] += 1;
            }
            PooledValues::Maxima(maxima) => {
                let maxima = maxima[group * channels..].iter_mut();
                maxima.zip(values).for_each(|(most, value)| *most = most.max(*value));
            }
        }
    }

    /// `[channels]` for mean and maximum, `[channels, rows, columns]` without pooling.
    pub(super) fn finish(self) -> Embedding {
        let [rows, cols, channels] = self.shape;
        let (shape, values) = match self.values {
            PooledValues::Whole(values) => (vec![channels, rows, cols], values),
            PooledValues::Sums(sums, counts) => {
                let count = f64::from(counts.iter().sum::<u32>().max(1));
                (vec![channels], sums.into_iter().map(|sum| (sum / count) as f32).collect())
            }
            PooledValues::Maxima(values) => (vec![channels], values),
        };
        Embedding { layer: self.layer.to_string(), pool: self.pool, shape, values }
    }

    /// The vectors of the cells, whose positions have strides of `stride_px` pixels. A cell without positions has none.
    pub(super) fn finish_cells(self, stride_px: usize) -> CellMap {
        let ([rows, cols, dims], side) = (self.shape, self.side);
        let (width, height) = (cols.div_ceil(side), rows.div_ceil(side));
        let cells = width * height;
        // [cells, dims] -> [dims, cells]
        let by_dimension = |value: &dyn Fn(usize, usize) -> f32| {
            (0..dims).flat_map(|dim| (0..cells).map(move |cell| (cell, dim))).map(|(cell, dim)| value(cell, dim)).collect()
        };
        let values = match self.values {
            PooledValues::Whole(values) => values,
            PooledValues::Sums(sums, counts) => by_dimension(&|cell, dim| match counts[cell] {
                0 => f32::NAN,
                count => (sums[cell * dims + dim] / f64::from(count)) as f32,
            }),
            PooledValues::Maxima(maxima) => by_dimension(&|cell, dim| match maxima[cell * dims + dim] {
                most if most.is_finite() => most,
                _ => f32::NAN,
            }),
        };
        let (layer, pool, side_px) = (self.layer.to_string(), self.pool, side * stride_px);
        CellMap { layer, pool, side_px, width, height, dims, values, first_px: (0, 0) }
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
    fn cells_are_pooled_by_themselves_and_some_have_no_data() {
        let nan = |value: f32| if value.is_nan() { None } else { Some(value) };
        for (pool, first) in [(Pool::Mean, 2.0), (Pool::Max, 3.0)] {
            let mut map = PooledMap::in_cells(Layer::Backbone(3), [1, 5, 2], pool, 2);
            map.put(0, 0, &[1.0, 10.0]);
            map.put(0, 1, &[3.0, 30.0]);
            map.put(0, 4, &[5.0, 50.0]);
            let cells = map.finish_cells(32);
            assert_eq!((cells.width, cells.height, cells.dims, cells.side_px), (3, 1, 2, 64));
            let found: Vec<_> = cells.values.into_iter().map(nan).collect();
            let second = first * 10.0;
            assert_eq!(found, [Some(first), None, Some(5.0), Some(second), None, Some(50.0)], "{pool:?}");
        }
        let mut map = PooledMap::in_cells(Layer::Backbone(3), [1, 2, 1], Pool::Mean, 1);
        map.put(0, 1, &[7.0]);
        let cells = map.finish_cells(32);
        assert_eq!((nan(cells.values[0]), nan(cells.values[1]), cells.side_px), (None, Some(7.0), 32));
    }

    #[test]
    fn a_crop_takes_the_cells_over_the_pixels() {
        let area = Part { col: 32, row: 0, width: 32, height: 64 };
        assert_eq!(map().cropped(area).values, [2.0, -2.0, 6.0, -6.0]);
    }
}
