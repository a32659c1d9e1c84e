//! The nearest examples: the mean of what those say that are most similar.

use std::ops::Range;

use rayon::prelude::*;

use super::bilinear_cell;

/// Examples that may be asked.
#[derive(Debug)]
pub(crate) struct Neighbours {
    /// What each example says, `[examples, outputs]`.
    pub(crate) values: Vec<f32>,
    /// Numbers that one says.
    pub(crate) outputs: usize,
    /// How many are asked.
    pub(crate) count: usize,
}

/// Similarities of the cells of a feature map to all examples.
pub(crate) struct SimilarityMap {
    /// `[rows, columns, examples]` of some rows.
    pub(crate) values: Vec<f32>,
    /// The first of them.
    pub(crate) first_row: usize,
    /// Rows and columns of the whole map.
    pub(crate) cells: [usize; 2],
    /// Pixels on the side of a cell.
    pub(crate) stride_px: usize,
}

impl SimilarityMap {
    /// The rows of cells between which the rows of pixels lie, of `cells` in all.
    pub(crate) fn cell_rows(pixels: &Range<usize>, stride_px: usize, cells: usize) -> Range<usize> {
        let cell = |pixel: usize| bilinear_cell(pixel as f64 + 0.5, stride_px, cells).0;
        cell(pixels.start)..(cell(pixels.end.saturating_sub(1)) + 2).min(cells)
    }

    /// The similarities of a cell.
    fn cell(&self, row: usize, col: usize, examples: usize) -> &[f32] {
        &self.values[((row - self.first_row) * self.cells[1] + col) * examples..][..examples]
    }

    /// Adds the similarities at the centre of a pixel.
    fn add_at(&self, [row, col]: [usize; 2], sum: &mut [f32]) {
        let cell = |pixel: usize, cells: usize| {
            let (first, part) = bilinear_cell(pixel as f64 + 0.5, self.stride_px, cells);
            (first, (first + 1).min(cells - 1), part)
        };
        let ((top, bottom, down), (left, right, across)) = (cell(row, self.cells[0]), cell(col, self.cells[1]));
        let examples = sum.len();
        let mix = |a: f32, b: f32, part: f32| (b - a) * part + a;
        let [above_left, above_right] = [left, right].map(|col| self.cell(top, col, examples));
        let [below_left, below_right] = [left, right].map(|col| self.cell(bottom, col, examples));
        for (i, sum) in sum.iter_mut().enumerate() {
            let (left, right) = (mix(above_left[i], below_left[i], down), mix(above_right[i], below_right[i], down));
            *sum += mix(left, right, across);
        }
    }
}

impl Neighbours {
    /// How many examples there are.
    pub(crate) fn examples(&self) -> usize {
        self.values.len() / self.outputs.max(1)
    }

    /// The mean of what the examples with the greatest `similarities` say; of equals, the first ones are asked.
    pub(crate) fn mean(&self, similarities: &[f32]) -> Vec<f32> {
        let mut mean = vec![0.0; self.outputs];
        self.mean_into(similarities, &mut Vec::with_capacity(self.count), &mut mean);
        mean
    }

    /// The means for `rows` of pixels of an image of this width, whose similarities are the sums of those of the maps:
    /// `[rows, width, outputs]`.
    pub(crate) fn means(&self, maps: &[SimilarityMap], rows: Range<usize>, width: usize) -> Vec<f32> {
        let mut means = vec![0.0; rows.len() * width * self.outputs];
        means.par_chunks_mut((width * self.outputs).max(1)).zip(rows).for_each(|(means, row)| {
            let (mut similarities, mut nearest) = (vec![0.0; self.examples()], Vec::with_capacity(self.count));
            for (col, mean) in means.chunks_exact_mut(self.outputs.max(1)).enumerate() {
                similarities.fill(0.0);
                maps.iter().for_each(|map| map.add_at([row, col], &mut similarities));
                self.mean_into(&similarities, &mut nearest, mean);
            }
        });
        means
    }

    /// [`Neighbours::mean`], with room for the choice and the result.
    fn mean_into(&self, similarities: &[f32], nearest: &mut Vec<usize>, mean: &mut [f32]) {
        nearest.clear();
        for (index, similarity) in similarities.iter().enumerate() {
            let is_full = nearest.len() == self.count;
            if is_full && nearest.last().is_some_and(|last| *similarity <= similarities[*last]) {
                continue;
            }
            if is_full {
                nearest.pop();
            }
            let at = nearest.partition_point(|other| similarities[*other] >= *similarity);
            nearest.insert(at, index);
        }
        mean.fill(0.0);
        for index in nearest.iter() {
            let says = &self.values[index * self.outputs..][..self.outputs];
            mean.iter_mut().zip(says).for_each(|(sum, value)| *sum += value);
        }
        let count = nearest.len().max(1) as f32;
        mean.iter_mut().for_each(|sum| *sum /= count);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::super::enlarge_bilinear;
    use super::*;

    #[test]
    fn of_equals_the_first_are_asked() {
        let neighbours = Neighbours { values: vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0], outputs: 2, count: 3 };
        assert_eq!(neighbours.examples(), 4);
        assert_eq!(neighbours.mean(&[0.5, 0.9, 0.5, 0.5]), [2.0 / 3.0, 1.0 / 3.0]);
        assert_eq!(neighbours.mean(&[0.1, 0.2, 0.3, 0.4]), [1.0 / 3.0, 2.0 / 3.0]);
        assert_eq!(Neighbours { count: 9, ..neighbours }.mean(&[0.0; 4]), [0.5, 0.5]);
    }

    #[test]
    fn pixels_have_the_similarities_of_enlarged_maps() {
        let (height, width, examples) = (21, 14, 5);
        let neighbours = Neighbours { values: (0..examples).map(|i| i as f32).collect(), outputs: 1, count: 1 };
        let map = |stride: usize, seed: usize| {
            let (rows, cols) = (height / stride, width / stride);
            let value = |i: usize| ((i * 7919 + seed) % 1009) as f32 / 1009.0;
            ((0..rows * cols * examples).map(value).collect::<Vec<f32>>(), [rows, cols], stride)
        };
        let maps = [map(2, 1), map(7, 500)];
        let enlarged = maps.iter().map(|(values, [rows, cols], stride)| {
            let map = Tensor::from_vec(values.clone(), (1, *rows, *cols, examples), &Device::Cpu).unwrap();
            enlarge_bilinear(&map, *stride, (height, width)).unwrap()
        });
        let all = enlarged.reduce(|a, b| (a + b).unwrap()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let expected: Vec<f32> = all.chunks(examples).flat_map(|pixel| neighbours.mean(pixel)).collect();
        let mut found = Vec::new();
        for rows in [0..5, 5..6, 6..21] {
            let strips: Vec<SimilarityMap> = maps
                .iter()
                .map(|(values, [cell_rows, cols], stride)| {
                    let cells = SimilarityMap::cell_rows(&rows, *stride, *cell_rows);
                    let values = values[cells.start * cols * examples..cells.end * cols * examples].to_vec();
                    SimilarityMap { values, first_row: cells.start, cells: [*cell_rows, *cols], stride_px: *stride }
                })
                .collect();
            found.extend(neighbours.means(&strips, rows, width));
        }
        assert_eq!(found, expected);
        assert!((1..examples).all(|example| found.contains(&(example as f32))), "{found:?}");
    }
}
