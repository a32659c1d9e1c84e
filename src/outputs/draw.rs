//! Detected objects as a picture: outlined boxes, or filled and outlined masks, higher scores on top.

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
    let canvas = PixelRect::around(width, height, 0);
    let mut pixels = vec![0; width * height * 4];
    for object in objects(found, options, SHOWN_THRESHOLD).into_iter().rev() {
        let color = |opacity: f32| -> Rgba {
            let [r, g, b] = task.color(object.category_id);
            [r, g, b, alpha(options.opacity * opacity)]
        };
        match paste(object, canvas) {
            Some(mask) => fill_mask(&mut pixels, width, &mask, color(1.0), color(FILL_OPACITY)),
            None => outline_box(&mut pixels, (width, height), object.bbox_px, color(1.0)),
        }
    }
    Picture { width, height, pixels: Pixels::Rgba(pixels) }
}

fn outline_box(pixels: &mut [u8], (width, height): (usize, usize), bbox_px: [f32; 4], color: Rgba) {
    let stroke = (width.max(height) / 256).max(LEAST_STROKE_PX);
    let [x0, y0, x1, y1] = bbox_px.map(|v| v.round());
    let (x0, x1) = (x0.clamp(0.0, width as f32) as usize, x1.clamp(0.0, width as f32) as usize);
    let (y0, y1) = (y0.clamp(0.0, height as f32) as usize, y1.clamp(0.0, height as f32) as usize);
    for y in y0..y1 {
        let row = &mut pixels[y * width * 4..(y + 1) * width * 4];
        let mut paint = |columns: std::ops::Range<usize>| {
            row[columns.start * 4..columns.end * 4].chunks_exact_mut(4).for_each(|pixel| pixel.copy_from_slice(&color));
        };
        if y < y0 + stroke || y + stroke >= y1 {
            paint(x0..x1);
        } else {
            paint(x0..(x0 + stroke).min(x1));
            paint(x1.saturating_sub(stroke).max(x0)..x1);
        }
    }
}

fn fill_mask(pixels: &mut [u8], width: usize, mask: &PastedMask, outline: Rgba, fill: Rgba) {
    let (columns, rows) = (mask.rect.width(), mask.rect.height());
    let inside = |x: usize, y: usize| x < columns && y < rows && mask.inside[y * columns + x];
    // The mask was cut to the canvas, so its position is not negative.
    let (left, top) = (mask.rect.x0 as usize, mask.rect.y0 as usize);
    for y in 0..rows {
        for x in (0..columns).filter(|x| inside(*x, y)) {
            let inner = x > 0 && y > 0 && inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1);
            let pixel = ((top + y) * width + left + x) * 4;
            pixels[pixel..pixel + 4].copy_from_slice(if inner { &fill } else { &outline });
        }
    }
}
