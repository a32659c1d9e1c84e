//! Boxes `x0, y0, x1, y1` in pixels: decoding of regressed offsets, clipping, and the pyramid level that a box is pooled
//! from.

/// `ln(1000 / 16)`: torchvision's bound on the logarithm of a box's growth.
const MAX_LOG_GROWTH: f32 = 4.135_166_6;
/// The side in pixels of a box that is pooled from [`CANONICAL_LEVEL`].
const CANONICAL_SIDE: f32 = 224.0;
/// The level at 1 / 2⁴ of the image (Feature Pyramid Networks, equation 1).
const CANONICAL_LEVEL: f32 = 4.0;
/// Keeps boxes with exact powers of two on their level in spite of rounding.
const LEVEL_EPSILON: f32 = 1e-6;

/// Height and width in pixels of the image that boxes refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageSize {
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// Decodes offsets to boxes, after torchvision's `BoxCoder`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoxCoder {
    center_weight: f32,
    side_weight: f32,
}

impl BoxCoder {
    /// The weights of the region proposal network.
    pub(crate) const PROPOSALS: Self = Self { center_weight: 1.0, side_weight: 1.0 };
    /// The weights of the box head.
    pub(crate) const DETECTIONS: Self = Self { center_weight: 10.0, side_weight: 5.0 };

    /// `reference` moved and scaled by the offsets `dx, dy, dw, dh`.
    pub(crate) fn decode(self, offsets: [f32; 4], reference: [f32; 4]) -> [f32; 4] {
        let [x0, y0, x1, y1] = reference;
        let (width, height) = (x1 - x0, y1 - y0);
        let center_x = offsets[0] / self.center_weight * width + (x0 + 0.5 * width);
        let center_y = offsets[1] / self.center_weight * height + (y0 + 0.5 * height);
        let half_width = 0.5 * ((offsets[2] / self.side_weight).min(MAX_LOG_GROWTH).exp() * width);
        let half_height = 0.5 * ((offsets[3] / self.side_weight).min(MAX_LOG_GROWTH).exp() * height);
        [center_x - half_width, center_y - half_height, center_x + half_width, center_y + half_height]
    }
}

/// The part of a box inside the image.
pub(crate) fn clip([x0, y0, x1, y1]: [f32; 4], image: ImageSize) -> [f32; 4] {
    let (width, height) = (image.width as f32, image.height as f32);
    [x0.clamp(0.0, width), y0.clamp(0.0, height), x1.clamp(0.0, width), y1.clamp(0.0, height)]
}

/// Whether both sides are at least `side` long; false if a coordinate is NaN.
pub(crate) fn is_at_least([x0, y0, x1, y1]: [f32; 4], side: f32) -> bool {
    x1 - x0 >= side && y1 - y0 >= side
}

/// The level that a box is pooled from, as an index counted from `finest`. Level `k` is at `1 / 2ᵏ` of the image.
pub(crate) fn pyramid_level([x0, y0, x1, y1]: [f32; 4], finest: i32, coarsest: i32) -> usize {
    let side = ((x1 - x0) * (y1 - y0)).sqrt();
    let level = (CANONICAL_LEVEL + (side / CANONICAL_SIDE).log2() + LEVEL_EPSILON).floor();
    // An empty box has level -∞, which the saturating cast and the clamp turn into the finest level.
    (level as i32).clamp(finest, coarsest).abs_diff(finest) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_offset_leaves_a_box_where_it_is() {
        let reference = [2.0, 4.0, 10.0, 20.0];
        assert_eq!(BoxCoder::DETECTIONS.decode([0.0; 4], reference), reference);
    }

    #[test]
    fn offsets_move_by_sides_and_grow_by_exponents() {
        let decoded = BoxCoder::DETECTIONS.decode([5.0, -10.0, 5.0 * 2f32.ln(), 1e9], [0.0, 0.0, 10.0, 16.0]);
        // center (5, 8) + (0.5 · 10, -1 · 16), width doubled, height grown by the bound, 1000 / 16
        let expected = [0.0, -8.0 - 500.0, 20.0, -8.0 + 500.0];
        for (value, expected) in decoded.into_iter().zip(expected) {
            assert!((value - expected).abs() < 1e-2, "{decoded:?}");
        }
    }

    #[test]
    fn a_box_is_read_from_the_level_of_its_size() {
        let square = |side: f32| pyramid_level([0.0, 0.0, side, side], 2, 5);
        assert_eq!([56.0, 111.0, 112.0, 224.0, 448.0, 5000.0].map(square), [0, 0, 1, 2, 3, 3]);
        assert_eq!(square(0.0), 0);
    }
}
