//! Anchors of one pyramid level, after torchvision's `AnchorGenerator` with one size and three aspect ratios.

use super::boxes::ImageSize;

/// Height over width.
const ASPECT_RATIOS: [f32; 3] = [0.5, 1.0, 2.0];

pub(crate) const ANCHORS_PER_CELL: usize = ASPECT_RATIOS.len();

/// The anchors of a level, in the order row, column, aspect ratio.
#[derive(Debug)]
pub(crate) struct Anchors {
    /// One per aspect ratio, centred at (0, 0) and rounded to whole pixels.
    shapes: [[f32; 4]; ANCHORS_PER_CELL],
    cols: usize,
    stride_rows: usize,
    stride_cols: usize,
}

impl Anchors {
    /// Anchors with sides around `size` pixels on a level of `rows x cols` cells over the padded `image`.
    pub(crate) fn new(size: f32, rows: usize, cols: usize, image: ImageSize) -> Self {
        let shapes = ASPECT_RATIOS.map(|ratio| {
            let tall = ratio.sqrt();
            let (width, height) = (1.0 / tall * size, tall * size);
            // As torch.round: ties go to the even neighbour.
            [-width, -height, width, height].map(|side| (side / 2.0).round_ties_even())
        });
        let stride = |side: usize, cells: usize| side / cells.max(1);
        Self { shapes, cols, stride_rows: stride(image.height, rows), stride_cols: stride(image.width, cols) }
    }

    /// Anchor `index`, in pixels.
    pub(crate) fn get(&self, index: usize) -> [f32; 4] {
        let (cell, ratio) = (index / ANCHORS_PER_CELL, index % ANCHORS_PER_CELL);
        let x = (cell % self.cols * self.stride_cols) as f32;
        let y = (cell / self.cols * self.stride_rows) as f32;
        let [x0, y0, x1, y1] = self.shapes[ratio];
        [x + x0, y + y0, x + x1, y + y1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_those_of_torchvision() {
        // AnchorGenerator(((32,),), ((0.5, 1.0, 2.0),)) on a 4x8 map of a 64x128 image
        let anchors = Anchors::new(32.0, 4, 8, ImageSize { height: 64, width: 128 });
        assert_eq!(anchors.get(0), [-23.0, -11.0, 23.0, 11.0]);
        assert_eq!(anchors.get(1), [-16.0, -16.0, 16.0, 16.0]);
        assert_eq!(anchors.get(2), [-11.0, -23.0, 11.0, 23.0]);
        // row 1, column 2
        assert_eq!(anchors.get((8 + 2) * 3 + 1), [16.0, 0.0, 48.0, 32.0]);
    }
}
