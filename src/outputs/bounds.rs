//! Limits on the size of text and vector answers, checked before an answer is written: a mask of scattered single pixels
//! grows several hundred times as polygons, and a feature map many times as decimal digits.

use super::error::OutputError;
use super::format::Format;
use super::options::RenderOptions;
use crate::zoo::Task;

/// Most corners of all polygons in one answer: about 100 MB of GeoJSON, and several times that in memory while it is
/// written.
const MAX_CORNERS: usize = 1 << 21;

/// Most corners of polygons before simplification, which needs about 100 bytes per corner.
const MAX_CORNERS_TO_SIMPLIFY: usize = 1 << 22;

/// Most numbers in one JSON answer: about 200 MB of text.
pub(super) const MAX_JSON_VALUES: usize = 1 << 24;

/// How many corners [`polygonize`](super::polygonize()) would give the regions of a `[height, width]` map. Counting stops
/// once there are more than `most`.
///
/// At a point where four pixels meet, a pixel has a corner if its label differs from those of both its neighbours, or
/// equals both but differs from that of the pixel diagonally opposite.
pub(super) fn count_corners(labels: &[u8], (width, height): (usize, usize), ignored: u8, most: usize) -> usize {
    let label = |x: usize, y: usize| {
        let inside = (1..=width).contains(&x) && (1..=height).contains(&y);
        if inside { labels[(y - 1) * width + x - 1] } else { ignored }
    };
    let mut corners = 0;
    for y in 0..=height {
        for x in 0..=width {
            // Clockwise: consecutive entries are neighbours in the map.
            let around = [label(x, y), label(x + 1, y), label(x + 1, y + 1), label(x, y + 1)];
            let has_corner = |at: &usize| {
                let [before, own, after, opposite] = [3, 0, 1, 2].map(|step| around[(at + step) % 4]);
                let convex = own != before && own != after;
                let concave = own == before && own == after && own != opposite;
                own != ignored && (convex || concave)
            };
            corners += (0..4).filter(has_corner).count();
        }
        if corners > most {
            break;
        }
    }
    corners
}

/// Most corners that polygons may have before simplification.
pub(super) fn max_exact_corners(options: &RenderOptions) -> usize {
    if options.simplify_px > 0.0 { MAX_CORNERS_TO_SIMPLIFY } else { MAX_CORNERS }
}

/// Checks the number of corners before simplification.
///
/// # Errors
/// [`OutputError::TooMuch`] if there are more than [`max_exact_corners`].
pub(super) fn check_exact_corners(
    corners: usize,
    task: &Task,
    format: Format,
    options: &RenderOptions,
) -> Result<(), OutputError> {
    let way_out = "take tif or png, simplify=1, a higher threshold, fewer categories, or smaller rasters";
    check("corners of polygons", corners, max_exact_corners(options), way_out, task, format)
}

/// Checks the number of corners of an answer.
///
/// # Errors
/// [`OutputError::TooMuch`] if there are more than [`MAX_CORNERS`].
pub(super) fn check_corners(corners: usize, task: &Task, format: Format) -> Result<(), OutputError> {
    let way_out = "take tif or png, a higher threshold, fewer categories, or smaller rasters";
    check("corners of polygons", corners, MAX_CORNERS, way_out, task, format)
}

/// Checks how many numbers a JSON answer would hold.
///
/// # Errors
/// [`OutputError::TooMuch`] if there are more than [`MAX_JSON_VALUES`].
pub(super) fn check_values(values: usize, task: &Task) -> Result<(), OutputError> {
    let way_out = "take npy or safetensors, pool=mean, or one layer";
    check("numbers", values, MAX_JSON_VALUES, way_out, task, Format::Json)
}

fn check(
    what: &'static str,
    found: usize,
    limit: usize,
    way_out: &'static str,
    task: &Task,
    format: Format,
) -> Result<(), OutputError> {
    if found <= limit {
        return Ok(());
    }
    Err(OutputError::TooMuch { task: task.name.clone(), format: format.extension(), what, limit, way_out })
}

#[cfg(test)]
mod tests {
    use super::super::polygonize::polygonize;
    use super::*;

    const NONE: u8 = 255;

    /// Pseudo-random labels, determined by the seed.
    fn noise(count: usize, labels: u64, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let label = (state >> 33) % (labels + 1);
            if label == labels { NONE } else { label as u8 }
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn as_many_corners_are_counted_as_polygons_have() {
        for (size, labels) in [((1, 1), 1), ((7, 1), 2), ((1, 9), 2), ((13, 17), 1), ((32, 31), 2), ((40, 40), 5)] {
            for seed in 0..20 {
                let map = noise(size.0 * size.1, labels, seed);
                let regions = polygonize(&map, size, NONE, |_| 1.0);
                let corners: usize = regions.iter().flat_map(|region| &region.rings).map(Vec::len).sum();
                assert_eq!(count_corners(&map, size, NONE, usize::MAX), corners, "{size:?} {labels} {seed}");
            }
        }
    }

    #[test]
    fn counting_stops_beyond_what_is_asked_for() {
        let chess: Vec<u8> = (0..100 * 100).map(|at| ((at / 100 + at % 100) % 2) as u8).collect();
        assert!((11..1000).contains(&count_corners(&chess, (100, 100), NONE, 10)));
    }
}
