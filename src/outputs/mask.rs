//! Mask R-CNN masks from their 28 x 28 grid to pixels, as in torchvision's `paste_masks_in_image`: the grid gets a border
//! of one zero cell, the box grows in proportion and is cut to whole pixels, values between cell centres are interpolated
//! linearly (half-pixel centres, edges repeated), and a pixel is inside if its value is at least 0.5.

use crate::prediction::{Object, ObjectMask};

/// A pixel belongs to the object from this probability on (torchvision's and COCO's threshold).
const INSIDE: f32 = 0.5;

/// Box coordinates are clamped to this, so that their differences cannot overflow.
const FARTHEST_PX: f32 = 1e12;

/// A rectangle of whole pixels; `x1` and `y1` are exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PixelRect {
    pub(super) x0: i64,
    pub(super) y0: i64,
    pub(super) x1: i64,
    pub(super) y1: i64,
}

impl PixelRect {
    /// An image with `margin` pixels around it.
    pub(super) fn around(width: usize, height: usize, margin: usize) -> Self {
        let margin = margin as i64;
        Self { x0: -margin, y0: -margin, x1: width as i64 + margin, y1: height as i64 + margin }
    }

    pub(super) fn width(&self) -> usize {
        usize::try_from(self.x1 - self.x0).unwrap_or(0)
    }

    pub(super) fn height(&self) -> usize {
        usize::try_from(self.y1 - self.y0).unwrap_or(0)
    }

    fn intersection(&self, other: &Self) -> Self {
        Self { x0: self.x0.max(other.x0), y0: self.y0.max(other.y0), x1: self.x1.min(other.x1), y1: self.y1.min(other.y1) }
    }
}

/// The pixels of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PastedMask {
    /// The part of the image that `inside` covers.
    pub(super) rect: PixelRect,
    /// Whether each pixel of `rect` belongs to the object, row-major.
    pub(super) inside: Vec<bool>,
}

/// The pixels of `canvas` that belong to the object; `None` if it has no usable mask or does not touch the canvas.
pub(super) fn paste(object: &Object, canvas: PixelRect) -> Option<PastedMask> {
    let mask = object.mask.as_ref().filter(|mask| mask.side > 0 && mask.values.len() == mask.side * mask.side)?;
    let full = grown_box(object.bbox_px, mask.side);
    let rect = full.intersection(&canvas);
    if rect.width() == 0 || rect.height() == 0 {
        return None;
    }
    let columns = cell_pairs(rect.x0 - full.x0, rect.width(), full.width(), mask.side + 2);
    let rows = cell_pairs(rect.y0 - full.y0, rect.height(), full.height(), mask.side + 2);
    let mut inside = Vec::with_capacity(columns.len() * rows.len());
    for y in &rows {
        for x in &columns {
            let top = lerp(cell(mask, x.below, y.below), cell(mask, x.above, y.below), x.weight);
            let bottom = lerp(cell(mask, x.below, y.above), cell(mask, x.above, y.above), x.weight);
            inside.push(lerp(top, bottom, y.weight) >= INSIDE);
        }
    }
    Some(PastedMask { rect, inside })
}

/// torchvision's `expand_boxes`, then cut to whole pixels. There both ends are inclusive, hence the `+ 1`.
fn grown_box([x0, y0, x1, y1]: [f32; 4], side: usize) -> PixelRect {
    let scale = (side + 2) as f32 / side as f32;
    let grow = |low: f32, high: f32| {
        let (centre, half) = ((low + high) * 0.5, (high - low) * 0.5 * scale);
        ((centre - half).max(-FARTHEST_PX) as i64, (centre + half).min(FARTHEST_PX) as i64)
    };
    let ((x0, x1), (y0, y1)) = (grow(x0, x1), grow(y0, y1));
    PixelRect { x0, y0, x1: x1 + 1, y1: y1 + 1 }
}

/// Two neighbouring cells of the bordered grid, and the weight of the second at a pixel's centre.
struct CellPair {
    below: usize,
    above: usize,
    weight: f32,
}

/// The cells between which `count` pixels lie, starting with pixel `first` of the `pixels` that `cells` are stretched over.
fn cell_pairs(first: i64, count: usize, pixels: usize, cells: usize) -> Vec<CellPair> {
    let scale = cells as f32 / pixels as f32;
    (0..count)
        .map(|i| {
            let position = ((first + i as i64) as f32 + 0.5).mul_add(scale, -0.5).max(0.0);
            let below = (position as usize).min(cells - 1);
            CellPair { below, above: (below + 1).min(cells - 1), weight: position - below as f32 }
        })
        .collect()
}

/// The value of a cell of the bordered grid.
fn cell(mask: &ObjectMask, x: usize, y: usize) -> f32 {
    let inner = 1..=mask.side;
    if inner.contains(&x) && inner.contains(&y) { mask.values[(y - 1) * mask.side + x - 1] } else { 0.0 }
}

fn lerp(a: f32, b: f32, weight: f32) -> f32 {
    a + (b - a) * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(bbox_px: [f32; 4], side: usize, values: Vec<f32>) -> Object {
        Object { bbox_px, score: 0.9, category_id: 1, mask: Some(ObjectMask { side, values }) }
    }

    fn drawn(pasted: &PastedMask) -> Vec<String> {
        let row = |row: &[bool]| row.iter().map(|inside| if *inside { '#' } else { '.' }).collect();
        pasted.inside.chunks(pasted.rect.width()).map(row).collect()
    }

    /// The fixture holds what torchvision's `paste_masks_in_image` returns for these masks and boxes, thresholded at 0.5.
    #[test]
    fn pasted_masks_are_torchvisions() {
        let fixture: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/fixtures/outputs/pasted_masks.json")).unwrap();
        for case in fixture.as_array().unwrap() {
            let numbers = |key: &str| -> Vec<f32> {
                case[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
            };
            let size = case["size"].as_u64().unwrap() as usize;
            let object = object(numbers("box").try_into().unwrap(), 28, numbers("mask"));
            let pasted = paste(&object, PixelRect::around(size, size, 0)).unwrap();
            let mut image = vec![b'.'; size * size];
            for (i, inside) in pasted.inside.iter().enumerate() {
                let (x, y) = (i % pasted.rect.width(), i / pasted.rect.width());
                let pixel = (y + pasted.rect.y0 as usize) * size + x + pasted.rect.x0 as usize;
                image[pixel] = if *inside { b'#' } else { b'.' };
            }
            let rows: Vec<&str> = case["rows"].as_array().unwrap().iter().map(|row| row.as_str().unwrap()).collect();
            let differing = image.iter().zip(rows.concat().bytes()).filter(|(a, b)| **a != *b).count();
            assert_eq!(differing, 0, "box {:?}", object.bbox_px);
        }
    }

    #[test]
    fn a_full_mask_fills_its_box_and_is_cut_to_the_canvas() {
        let object = object([-4.0, 0.0, 4.0, 2.0], 4, vec![1.0; 16]);
        let whole = paste(&object, PixelRect::around(16, 16, 16)).unwrap();
        assert!(drawn(&whole).iter().any(|row| row.contains("########")), "{:?}", drawn(&whole));
        let cut = paste(&object, PixelRect::around(16, 16, 0)).unwrap();
        assert_eq!((cut.rect.x0, cut.rect.y0), (0, 0));
    }

    #[test]
    fn absurd_boxes_and_masks_paste_nothing_or_stay_within_the_canvas() {
        let canvas = PixelRect::around(8, 8, 0);
        assert!(paste(&object([100.0, 100.0, 120.0, 120.0], 2, vec![1.0; 4]), canvas).is_none());
        assert!(paste(&object([0.0, 0.0, 4.0, 4.0], 2, vec![1.0; 3]), canvas).is_none());
        assert!(paste(&object([0.0, 0.0, 4.0, 4.0], 0, Vec::new()), canvas).is_none());
        let huge = paste(&object([-3e38, -3e38, 3e38, 3e38], 2, vec![1.0; 4]), canvas);
        assert!(huge.is_none_or(|pasted| pasted.rect == canvas));
    }
}
