//! Mask R-CNN masks from their 28 x 28 grid to pixels, as torchvision's `paste_masks_in_image` does it: the grid gets a
//! border of one zero cell, the box grows alike and is cut to whole pixels, values between cell centres are bilinear
//! (half-pixel centres, edges repeated), and 0.5 divides inside from outside.

use crate::prediction::{Object, ObjectMask};

/// Probability from which a pixel belongs to the object (torchvision's and COCO's threshold).
const INSIDE: f32 = 0.5;

/// Boxes end here at the latest, so that differences of pixel numbers cannot overflow.
const FARTHEST_PX: f32 = 1e12;

/// A rectangle of whole pixels, `x1` and `y1` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PixelRect {
    pub(super) x0: i64,
    pub(super) y0: i64,
    pub(super) x1: i64,
    pub(super) y1: i64,
}

impl PixelRect {
    /// An image's pixels and `margin` pixels around them.
    pub(super) fn around(width: usize, height: usize, margin: usize) -> Self {
        let margin = margin as i64;
        Self { x0: -margin, y0: -margin, x1: width as i64 + margin, y1: height as i64 + margin }
    }

    /// Columns.
    pub(super) fn width(&self) -> usize {
        usize::try_from(self.x1 - self.x0).unwrap_or(0)
    }

    /// Rows.
    pub(super) fn height(&self) -> usize {
        usize::try_from(self.y1 - self.y0).unwrap_or(0)
    }

    fn intersection(&self, other: &Self) -> Self {
        Self { x0: self.x0.max(other.x0), y0: self.y0.max(other.y0), x1: self.x1.min(other.x1), y1: self.y1.min(other.y1) }
    }
}

/// An object's pixels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PastedMask {
    /// Where the pixels lie in the image.
    pub(super) rect: PixelRect,
    /// Whether a pixel belongs to the object, row-major in `rect`.
    pub(super) inside: Vec<bool>,
}

/// The pixels of `canvas` that belong to the object; empty where it has no usable mask or lies elsewhere.
pub(super) fn paste(object: &Object, canvas: PixelRect) -> Option<PastedMask> {
    let mask = object.mask.as_ref().filter(|mask| mask.side > 0 && mask.values.len() == mask.side * mask.side)?;
    let full = grown_box(object.bbox_px, mask.side);
    let rect = full.intersection(&canvas);
    if rect.width() == 0 || rect.height() == 0 {
        return None;
    }
    let columns = taps(rect.x0 - full.x0, rect.width(), full.width(), mask.side + 2);
    let rows = taps(rect.y0 - full.y0, rect.height(), full.height(), mask.side + 2);
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

/// torchvision's `expand_boxes` and the cut to whole pixels, both ends inclusive there.
fn grown_box([x0, y0, x1, y1]: [f32; 4], side: usize) -> PixelRect {
    let scale = (side + 2) as f32 / side as f32;
    let grow = |low: f32, high: f32| {
        let (centre, half) = ((low + high) * 0.5, (high - low) * 0.5 * scale);
        ((centre - half).max(-FARTHEST_PX) as i64, (centre + half).min(FARTHEST_PX) as i64)
    };
    let ((x0, x1), (y0, y1)) = (grow(x0, x1), grow(y0, y1));
    PixelRect { x0, y0, x1: x1 + 1, y1: y1 + 1 }
}

/// Two neighbouring cells of the bordered grid and how far a pixel's centre lies towards the second.
struct Tap {
    below: usize,
    above: usize,
    weight: f32,
}

/// Taps of `count` pixels from `first` on, of `pixels` that the `cells` are stretched over.
fn taps(first: i64, count: usize, pixels: usize, cells: usize) -> Vec<Tap> {
    let scale = cells as f32 / pixels as f32;
    (0..count)
        .map(|i| {
            let position = ((first + i as i64) as f32 + 0.5).mul_add(scale, -0.5).max(0.0);
            let below = (position as usize).min(cells - 1);
            Tap { below, above: (below + 1).min(cells - 1), weight: position - below as f32 }
        })
        .collect()
}

/// A cell of the grid with its border of zeros.
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

    /// What torchvision's `paste_masks_in_image` returns for these masks and boxes, thresholded at 0.5.
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
