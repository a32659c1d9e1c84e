//! Dense answers of overlapping windows, blended in strips of rows.
//!
//! Windows come row by row, so all rows above the current window are finished and go to a [`DenseSink`] at once. Only rows
//! that later windows may still change are in memory, at most a window's height.

use crate::prediction::{Dense, DenseSink, Output};
use crate::tiles::SceneWindow;

/// The rows of a scene that later windows may still change.
pub(super) struct Strips {
    width: usize,
    height: usize,
    channels: usize,
    /// The scene's row at the start of the buffers.
    first: usize,
    /// Weighted sums, `[open rows, width, channels]`.
    values: Vec<f32>,
    /// Sums of weights, `[open rows, width]`.
    weights: Vec<f32>,
    /// `[open rows, width]`.
    valid: Vec<bool>,
    sink: Box<dyn DenseSink>,
}

impl Strips {
    /// No rows yet, for a scene of `width` x `height` pixels with `channels` values per pixel.
    pub(super) fn new(width: usize, height: usize, channels: usize, sink: Box<dyn DenseSink>) -> Self {
        let (values, weights, valid) = (Vec::new(), Vec::new(), Vec::new());
        Self { width, height, channels, first: 0, values, weights, valid, sink }
    }

    /// True if a window's answer has as many values per pixel as the scene.
    pub(super) fn fits(&self, answer: &Dense) -> bool {
        answer.channels == self.channels
    }

    /// Blends in a window's answer, which may be wider than the window; `valid` is as wide as the answer and false where
    /// there is no data.
    pub(super) fn add(&mut self, window: SceneWindow, answer: &Dense, valid: Option<&[bool]>) {
        self.open(window);
        let (rows, cols, channels) = (window.rows, window.cols, self.channels);
        let col_weights: Vec<f32> = (0..cols.len).map(|col| cols.weight(col)).collect();
        for row in 0..rows.len {
            let (row_weight, at) = (rows.weight(row), self.position(window, row));
            let line = &answer.values[row * answer.width * channels..][..cols.len * channels];
            let into = &mut self.values[at * channels..][..cols.len * channels];
            let pixels = into.chunks_exact_mut(channels).zip(line.chunks_exact(channels));
            for ((weight, sum), (into, values)) in col_weights.iter().zip(&mut self.weights[at..at + cols.len]).zip(pixels)
            {
                let weight = row_weight * weight;
                *sum += weight;
                into.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
            }
            if let Some(valid) = valid {
                self.valid[at..at + cols.len].copy_from_slice(&valid[row * answer.width..][..cols.len]);
            }
        }
    }

    /// Marks a window's pixels as without data.
    pub(super) fn skip(&mut self, window: SceneWindow) {
        self.open(window);
        for row in 0..window.rows.len {
            let at = self.position(window, row);
            self.valid[at..at + window.cols.len].fill(false);
        }
    }

    /// The sink's output, after all windows have been added.
    pub(super) fn finish(mut self) -> Output {
        self.close(self.height);
        self.sink.finish()
    }

    /// Where the first pixel of a window's row lies in the buffers.
    fn position(&self, window: SceneWindow, row: usize) -> usize {
        (window.rows.start + row - self.first) * self.width + window.cols.start
    }

    /// Passes the rows above a window to the sink and makes room for its own.
    fn open(&mut self, window: SceneWindow) {
        self.close(window.rows.start);
        let pixels = (window.rows.start + window.rows.len - self.first) * self.width;
        self.values.resize(pixels * self.channels, 0.0);
        self.weights.resize(pixels, 0.0);
        self.valid.resize(pixels, true);
    }

    /// Passes the rows before `end` to the sink.
    fn close(&mut self, end: usize) {
        let rows = end.saturating_sub(self.first).min(self.weights.len() / self.width.max(1));
        if rows == 0 {
            return;
        }
        let pixels = rows * self.width;
        let mut values: Vec<f32> = self.values.drain(..pixels * self.channels).collect();
        for (pixel, weight) in values.chunks_exact_mut(self.channels).zip(self.weights.drain(..pixels)) {
            // No weight: no window had data there.
            if weight > 0.0 {
                pixel.iter_mut().for_each(|value| *value /= weight);
            }
        }
        let valid: Vec<bool> = self.valid.drain(..pixels).collect();
        let valid = valid.contains(&false).then_some(valid);
        self.first += rows;
        let strip = Dense { width: self.width, height: rows, channels: self.channels, values, valid };
        self.sink.take(strip, self.height);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction::WholeMap;
    use crate::tiles::scene_windows;

    const WIDTH: usize = 300;
    const HEIGHT: usize = 3000;

    /// What a network that sees far enough would say of a pixel.
    fn truth(x: usize, y: usize) -> [f32; 2] {
        [(x * 7 + y * 3) as f32 % 101.0, (x ^ y) as f32]
    }

    fn blended(window_px: usize, overlap_px: usize, error: f32) -> Dense {
        let mut strips = Strips::new(WIDTH, HEIGHT, 2, Box::<WholeMap>::default());
        for window in scene_windows(WIDTH, HEIGHT, window_px, overlap_px) {
            let (cols, rows) = (window.cols, window.rows);
            // Like a padded input, the answer is wider than the window; its border, where context is missing, is wrong.
            let width = cols.len + 5;
            let value = |row: usize, col: usize| {
                let border = row == 0 || col == 0 || row + 1 == rows.len || col + 1 == cols.len;
                truth(cols.start + col, rows.start + row).map(|value| if border { value + error } else { value })
            };
            let pixels = (0..rows.len).flat_map(|row| (0..width).map(move |col| (row, col)));
            let values = pixels.flat_map(|(row, col)| value(row, col)).collect();
            strips.add(window, &Dense { width, height: rows.len, channels: 2, values, valid: None }, None);
            let open = strips.weights.len() / WIDTH;
            assert!(open <= window_px, "{open} rows are held");
        }
        let Output::Dense(whole) = strips.finish() else { panic!("a whole map is dense") };
        assert_eq!((whole.width, whole.height, whole.values.len()), (WIDTH, HEIGHT, WIDTH * HEIGHT * 2));
        whole
    }

    #[test]
    fn a_scene_is_blended_with_no_more_than_a_windows_rows_in_memory() {
        let whole = blended(128, 32, 0.0);
        for (pixel, values) in whole.values.chunks_exact(2).enumerate() {
            let wanted = truth(pixel % WIDTH, pixel / WIDTH);
            assert!(values.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-3), "pixel {pixel}");
        }
    }

    #[test]
    fn errors_on_the_borders_of_windows_leave_no_seam_on_any_grid() {
        let [a, b] = [(128, 32), (160, 48)].map(|(window, overlap)| blended(window, overlap, 8.0));
        let inner = |pixel: usize| (1..WIDTH - 1).contains(&(pixel % WIDTH)) && (1..HEIGHT - 1).contains(&(pixel / WIDTH));
        let differences = a.values.iter().zip(&b.values).enumerate().filter(|(at, _)| inner(at / 2));
        let greatest = differences.map(|(_, (a, b))| (a - b).abs()).fold(0.0, f32::max);
        // An unweighted mean of two windows would leave half of the error.
        assert!(greatest < 0.5, "{greatest}");
    }

    #[test]
    fn windows_without_data_leave_pixels_without_data() {
        let mut strips = Strips::new(WIDTH, 400, 1, Box::<WholeMap>::default());
        for window in scene_windows(WIDTH, 400, 400, 32) {
            strips.skip(window);
        }
        let Output::Dense(whole) = strips.finish() else { panic!("a whole map is dense") };
        assert_eq!(whole.valid, Some(vec![false; WIDTH * 400]));
        assert!(whole.values.iter().all(|value| *value == 0.0));
    }
}
