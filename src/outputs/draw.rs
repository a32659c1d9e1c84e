//! Detected objects as a picture: outlined boxes, or filled and outlined masks, higher scores on top. What goes on beyond the
//! picture is left open there: the neighbouring tile shows the rest.

use super::filter::{SHOWN_THRESHOLD, objects};
use super::mask::{PastedMask, PixelRect, paste};
use super::options::RenderOptions;
use super::picture::{Picture, Pixels, Rgba, alpha};
use crate::prediction::Object;
use crate::zoo::Task;

/// Least width of box outlines. In large images the width is 1/256 of the longer side, so that outlines stay visible.
const LEAST_STROKE_PX: usize = 2;

/// Opacity of a mask's interior, relative to its outline.
const FILL_OPACITY: f32 = 0.5;

/// Draws the objects that the options select on a transparent picture.
pub(super) fn detections(
    found: &[Object],
    (width, height): (usize, usize),
    task: &Task,
    options: &RenderOptions,
) -> Picture {
    // One pixel more tells whether a mask ends at the picture's edge.
    let canvas = PixelRect::around(width, height, 1);
    let mut pixels = vec![0; width * height * 4];
    for object in objects(found, options, SHOWN_THRESHOLD).into_iter().rev() {
        let color = |opacity: f32| -> Rgba {
            let [r, g, b] = task.color(object.category_id);
            [r, g, b, alpha(options.opacity * opacity)]
        };
        match paste(object, canvas) {
            Some(mask) => fill_mask(&mut pixels, (width, height), &mask, color(1.0), color(FILL_OPACITY)),
            None => outline_box(&mut pixels, (width, height), object.bbox_px, color(1.0)),
        }
    }
    Picture { width, height, pixels: Pixels::Rgba(pixels) }
}

fn outline_box(pixels: &mut [u8], (width, height): (usize, usize), bbox_px: [f32; 4], color: Rgba) {
    let stroke = (width.max(height) / 256).max(LEAST_STROKE_PX);
    // Halves are rounded up on both sides of 0, so that neighbouring tiles round alike. A cast saturates.
    let [x0, y0, x1, y1] = bbox_px.map(|v| (v + 0.5).floor() as i64);
    let (stroke, columns) = (stroke as i64, width as i64);
    for y in y0.max(0)..y1.min(height as i64) {
        let row = &mut pixels[y as usize * width * 4..][..width * 4];
        let mut paint = |from: i64, to: i64| {
            let (from, to) = (from.clamp(0, columns) as usize, to.clamp(0, columns) as usize);
            row[from * 4..to.max(from) * 4].chunks_exact_mut(4).for_each(|pixel| pixel.copy_from_slice(&color));
        };
        if y - y0 < stroke || y1 - y <= stroke {
            paint(x0, x1);
        } else {
            paint(x0, x1.min(x0.saturating_add(stroke)));
            paint(x0.max(x1.saturating_sub(stroke)), x1);
        }
    }
}

fn fill_mask(pixels: &mut [u8], (width, height): (usize, usize), mask: &PastedMask, outline: Rgba, fill: Rgba) {
    let rect = mask.rect;
    let inside = |x: i64, y: i64| {
        let is_known = (rect.x0..rect.x1).contains(&x) && (rect.y0..rect.y1).contains(&y);
        is_known && mask.inside[(y - rect.y0) as usize * rect.width() + (x - rect.x0) as usize]
    };
    for y in rect.y0.max(0)..rect.y1.min(height as i64) {
        for x in (rect.x0.max(0)..rect.x1.min(width as i64)).filter(|x| inside(*x, y)) {
            let inner = inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1);
            let pixel = (y as usize * width + x as usize) * 4;
            pixels[pixel..pixel + 4].copy_from_slice(if inner { &fill } else { &outline });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction::ObjectMask;
    use crate::zoo::TaskType;

    /// The opacity of each pixel of a picture of 8 x 8.
    fn drawn(object: Object) -> Vec<Vec<u8>> {
        let task = Task {
            name: "ships".into(),
            task_type: TaskType::Detect,
            categories: vec!["ship".into()],
            colors: vec![],
            background_invalid: false,
            value_range: None,
        };
        let Picture { pixels, .. } = detections(&[object], (8, 8), &task, &RenderOptions::default());
        let Pixels::Rgba(rgba) = pixels else { unreachable!("objects have colours of their own") };
        rgba.chunks(8 * 4).map(|row| row.chunks(4).map(|pixel| pixel[3]).collect()).collect()
    }

    fn object(bbox_px: [f32; 4], mask: Option<ObjectMask>) -> Object {
        Object { bbox_px, score: 0.9, category_id: 0, mask }
    }

    #[test]
    fn a_box_that_goes_on_is_open_at_the_edge_and_one_that_ends_there_is_closed() {
        let open = drawn(object([-20.0, 0.0, 8.0, 30.0], None));
        assert_eq!(open[0], [255; 8]);
        assert_eq!(open[7], [0, 0, 0, 0, 0, 0, 255, 255]);
        // Neighbours see one edge at 7.5 and at -0.5: each draws its part of the two pixels that begin at 8 - 2.
        let (west, east) = (drawn(object([0.0, 0.0, 7.5, 8.0], None)), drawn(object([-8.0, 0.0, -0.5, 8.0], None)));
        assert_eq!((&west[4][5..], east[4][0]), (&[0, 255, 255][..], 0));
    }

    #[test]
    fn a_mask_that_goes_on_has_no_outline_at_the_edge() {
        let mask = ObjectMask { side: 4, values: vec![1.0; 16] };
        let rows = drawn(object([-30.0, -30.0, 30.0, 30.0], Some(mask)));
        assert!(rows.iter().flatten().all(|alpha| *alpha == 128), "{rows:?}");
    }
}
