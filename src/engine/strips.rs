//! Dense answers of overlapping windows, blended in strips.
//!
//! Windows come row by row, or column by column if the scene is wider than high. All lines behind the current window are finished
//! and go to a [`DenseSink`] at once. Only lines that later windows may still change are in memory, at most a window's length, and
//! no line is longer than the scene's shorter side.

use std::ops::Range;

use crate::prediction::{Dense, DenseSink, Output};
use crate::tiles::SceneWindow;

/// Lines that go to the sink together.
const LINES_PER_PART: usize = 64;

/// True if the windows of a scene must come column by column: lines are then columns, else rows.
pub(super) fn goes_by_columns(width: usize, height: usize) -> bool {
    width > height
}

/// Bytes that [`Strips`] hold at most for a scene of (`width`, `height`) pixels in windows of `window_px`, without those of the sink.
pub(super) fn strip_bytes((width, height): (usize, usize), by_columns: bool, channels: usize, window_px: usize) -> usize {
    let per_pixel = channels * size_of::<f32>() + size_of::<f32>() + size_of::<bool>();
    let (line, lines) = if by_columns { (height, width) } else { (width, height) };
    line * (window_px.min(lines) + LINES_PER_PART) * per_pixel
}

/// The lines of a scene that later windows may still change.
pub(super) struct Strips {
    width: usize,
    height: usize,
    channels: usize,
    by_columns: bool,
    /// The scene's line at the start of the buffers.
    first: usize,
    /// Weighted sums, `[open lines, length of a line, channels]`.
    values: Vec<f32>,
    /// Sums of weights, `[open lines, length of a line]`.
    weights: Vec<f32>,
    /// `[open lines, length of a line]`.
    valid: Vec<bool>,
    sink: Box<dyn DenseSink>,
}

impl Strips {
    /// No lines yet, for a scene of `width` x `height` pixels with `channels` values per pixel.
    pub(super) fn new(
        (width, height): (usize, usize),
        by_columns: bool,
        channels: usize,
        sink: Box<dyn DenseSink>,
    ) -> Self {
        let (values, weights, valid) = (Vec::new(), Vec::new(), Vec::new());
        Self { width, height, channels, by_columns, first: 0, values, weights, valid, sink }
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
            let row_weight = rows.weight(row);
            let line = &answer.values[row * answer.width * channels..][..cols.len * channels];
            for (col, values) in line.chunks_exact(channels).enumerate() {
                let (at, weight) = (self.position(window, row, col), row_weight * col_weights[col]);
                self.weights[at] += weight;
                let into = &mut self.values[at * channels..][..channels];
                into.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
                if let Some(valid) = valid {
                    self.valid[at] = valid[row * answer.width + col];
                }
            }
        }
    }

    /// Marks a window's pixels as without data.
    pub(super) fn skip(&mut self, window: SceneWindow) {
        self.open(window);
        for row in 0..window.rows.len {
            for col in 0..window.cols.len {
                let at = self.position(window, row, col);
                self.valid[at] = false;
            }
        }
    }

    /// The sink's output, after all windows have been added.
    pub(super) fn finish(mut self) -> Output {
        self.close(if self.by_columns { self.width } else { self.height });
        self.sink.finish()
    }

    /// Pixels of a line.
    fn line_len(&self) -> usize {
        if self.by_columns { self.height } else { self.width }
    }

    /// Where a window's pixel lies in the buffers.
    fn position(&self, window: SceneWindow, row: usize, col: usize) -> usize {
        let (row, col) = (window.rows.start + row, window.cols.start + col);
        if self.by_columns { (col - self.first) * self.height + row } else { (row - self.first) * self.width + col }
    }

    /// Passes the lines before a window to the sink and makes room for its own.
    fn open(&mut self, window: SceneWindow) {
        let span = if self.by_columns { window.cols } else { window.rows };
        self.close(span.start);
        let pixels = (span.start + span.len - self.first) * self.line_len();
        if pixels > self.weights.len() {
            let missing = pixels - self.weights.len();
            self.values.reserve_exact(missing * self.channels);
            self.values.resize(pixels * self.channels, 0.0);
            self.weights.resize(pixels, 0.0);
            self.valid.resize(pixels, true);
        }
    }

    /// Passes the lines before `end` to the sink.
    fn close(&mut self, end: usize) {
        let lines = end.saturating_sub(self.first).min(self.weights.len() / self.line_len().max(1));
        for start in (0..lines).step_by(LINES_PER_PART) {
            let part = self.part(start..(start + LINES_PER_PART).min(lines));
            let at = self.first + start;
            let corner = if self.by_columns { (at, 0) } else { (0, at) };
            self.sink.take(part, corner, (self.width, self.height));
        }
        let pixels = lines * self.line_len();
        self.values.drain(..pixels * self.channels);
        self.weights.drain(..pixels);
        self.valid.drain(..pixels);
        self.first += lines;
    }

    /// Finished lines as a part of the scene.
    fn part(&self, lines: Range<usize>) -> Dense {
        let (start, count, channels) = (lines.start, lines.len(), self.channels);
        let (width, height) = if self.by_columns { (count, self.height) } else { (self.width, count) };
        let mut values = Vec::with_capacity(width * height * channels);
        let mut valid = Vec::with_capacity(width * height);
        for row in 0..height {
            for col in 0..width {
                let at = if self.by_columns { (start + col) * self.height + row } else { (start + row) * self.width + col };
                // No weight: no window had data there.
                let weight = if self.weights[at] > 0.0 { self.weights[at] } else { 1.0 };
                values.extend(self.values[at * channels..][..channels].iter().map(|sum| sum / weight));
                valid.push(self.valid[at]);
            }
        }
        let valid = valid.contains(&false).then_some(valid);
        Dense { width, height, channels, values, valid }
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
        blended_scene((WIDTH, HEIGHT), window_px, overlap_px, error)
    }

    fn blended_scene(
        (scene_width, scene_height): (usize, usize),
        window_px: usize,
        overlap_px: usize,
        error: f32,
    ) -> Dense {
        let by_columns = goes_by_columns(scene_width, scene_height);
        let mut strips = Strips::new((scene_width, scene_height), by_columns, 2, Box::<WholeMap>::default());
        let mut windows = scene_windows(scene_width, scene_height, window_px, overlap_px);
        if strips.by_columns {
            windows.sort_by_key(|window| (window.cols.start, window.rows.start));
        }
        let least = scene_width.min(scene_height);
        for window in windows {
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
            let open = strips.weights.len() / least;
            assert!(open <= window_px, "{open} lines are held");
        }
        let Output::Dense(whole) = strips.finish() else { panic!("a whole map is dense") };
        let size = (scene_width, scene_height, scene_width * scene_height * 2);
        assert_eq!((whole.width, whole.height, whole.values.len()), size);
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
    fn a_wide_scene_is_blended_column_by_column_to_the_same_pixels() {
        let whole = blended_scene((HEIGHT, WIDTH), 128, 32, 0.0);
        for (pixel, values) in whole.values.chunks_exact(2).enumerate() {
            let wanted = truth(pixel % HEIGHT, pixel / HEIGHT);
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
        let mut strips = Strips::new((WIDTH, 400), false, 1, Box::<WholeMap>::default());
        for window in scene_windows(WIDTH, 400, 400, 32) {
            strips.skip(window);
        }
        let Output::Dense(whole) = strips.finish() else { panic!("a whole map is dense") };
        assert_eq!(whole.valid, Some(vec![false; WIDTH * 400]));
        assert!(whole.values.iter().all(|value| *value == 0.0));
    }
}
