//! Overlapping windows over a raster of any size, and the weights for blending their answers.
//!
//! All windows of a scene have the same size. They are placed so that the last one ends at the raster's edge: nothing is
//! padded, so the network never sees an artificial border.

/// A window of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SceneWindow {
    /// Its columns.
    pub cols: WindowSpan,
    /// Its rows.
    pub rows: WindowSpan,
}

/// The extent of a window along one axis, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpan {
    /// Its first pixel in the raster.
    pub start: usize,
    /// How many pixels it has.
    pub len: usize,
    /// The first pixel of its core: the middle of the overlap with the window before. Cores cover the raster without
    /// overlap.
    pub core_start: usize,
    /// The first pixel after its core.
    pub core_end: usize,
    /// How many pixels the raster has along the axis.
    pub limit: usize,
    /// Over how many pixels from its start its blending weight rises; 0 at the raster's edge.
    pub fade_in: usize,
    /// Over how many pixels towards its end its blending weight falls; 0 at the raster's edge.
    pub fade_out: usize,
}

/// How far outside a window's core the centre of an object may lie for the window to report it. Two windows may see the
/// same object a few pixels apart; merging then removes one of the two reports.
const OWNERSHIP_SLACK_PX: f32 = 16.0;

impl WindowSpan {
    /// Whether this window reports an object that is centred at `position`.
    pub(crate) fn nearly_owns(&self, position: f32) -> bool {
        position >= self.core_start as f32 - OWNERSHIP_SLACK_PX && position < self.core_end as f32 + OWNERSHIP_SLACK_PX
    }

    /// The blending weight of the pixel at `offset` from the start. The weights of two overlapping windows add up to 1.
    ///
    /// In an overlap of n pixels, one window's weight rises and the other's falls, in steps of 1 / n.
    pub fn weight(&self, offset: usize) -> f32 {
        let ramp = |distance: usize, fade: usize| {
            if distance < fade { (distance as f32 + 0.5) / fade as f32 } else { 1.0 }
        };
        ramp(offset, self.fade_in) * ramp(self.len - 1 - offset, self.fade_out)
    }
}

/// The windows over a raster of `width` x `height` pixels, row by row.
///
/// Windows have a side of `window_px` and overlap by at least `overlap_px`, which must not exceed half of that. A side of
/// the raster that is not longer than `window_px` is covered by one window of its own length.
pub fn scene_windows(width: usize, height: usize, window_px: usize, overlap_px: usize) -> Vec<SceneWindow> {
    let cols = spans(width, window_px, overlap_px);
    spans(height, window_px, overlap_px)
        .into_iter()
        .flat_map(|rows| cols.iter().map(move |cols| SceneWindow { cols: *cols, rows }))
        .collect()
}

fn spans(length: usize, window_px: usize, overlap_px: usize) -> Vec<WindowSpan> {
    let window = window_px.min(length);
    let count = if length <= window_px { 1 } else { (length - overlap_px).div_ceil(window_px - overlap_px) };
    // Spread evenly: every overlap is at least `overlap_px`, and they differ by at most one pixel.
    let start = |index: usize| if count == 1 { 0 } else { index * (length - window) / (count - 1) };
    (0..count)
        .map(|index| {
            let (first, last) = (index == 0, index + 1 == count);
            let here = start(index);
            let fade_in = if first { 0 } else { start(index - 1) + window - here };
            let fade_out = if last { 0 } else { here + window - start(index + 1) };
            WindowSpan {
                start: here,
                len: window,
                limit: length,
                core_start: here + fade_in / 2,
                core_end: if last { length } else { start(index + 1) + fade_out / 2 },
                fade_in,
                fade_out,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn windows_cover_every_pixel_once_and_their_weights_add_up(length in 1usize..3000, overlap in 0usize..128) {
            let spans = spans(length, 256, overlap);
            let mut owners = vec![0; length];
            let mut weights = vec![0.0; length];
            for span in &spans {
                prop_assert!(span.start + span.len <= length);
                for pixel in span.core_start..span.core_end {
                    owners[pixel] += 1;
                }
                for offset in 0..span.len {
                    weights[span.start + offset] += span.weight(offset);
                }
            }
            prop_assert!(owners.iter().all(|count| *count == 1));
            // Three windows share a pixel only where evenly spread windows overlap by more than half.
            if overlap <= 100 && length > 256 {
                prop_assert!(weights.iter().all(|weight| (0.5..=1.5).contains(weight)), "{:?}", spans);
            }
        }
    }

    #[test]
    fn two_windows_fade_into_each_other() {
        let spans = spans(400, 256, 64);
        assert_eq!(spans.len(), 2);
        assert_eq!((spans[0].fade_out, spans[1].fade_in), (112, 112));
        let sum = spans[0].weight(200) + spans[1].weight(200 - spans[1].start);
        assert!((sum - 1.0).abs() < 1e-6);
    }
}
