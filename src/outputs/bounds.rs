//! How much a text or vector answer may hold, checked before it is made: a mask of single pixels would become hundreds of times
//! its size in polygons, and a feature map many times its size in digits.

use super::{Format, OutputError, RenderOptions};
use crate::zoo::Task;

/// Most corners of all polygons in one answer. As GeoJSON they are some 100 MB of text, and several times that while it is made.
const MAX_CORNERS: usize = 1 << 21;

/// Most corners of polygons that are to be simplified; it takes some 100 bytes a corner.
const MAX_CORNERS_TO_SIMPLIFY: usize = 1 << 22;

/// Most numbers in one JSON answer, some 200 MB of text.
pub(super) const MAX_JSON_VALUES: usize = 1 << 24;

/// How many corners [`super::polygonize`] would give the regions of a `[height, width]` map; counting stops beyond `most`.
///
/// Around every point where four pixels meet, a pixel has a corner where it differs from both neighbours, or agrees with both
/// but not with the pixel opposite.
pub(super) fn count_corners(labels: &[u8], (width, height): (usize, usize), ignored: u8, most: usize) -> usize {
    let label = |x: usize, y: usize| {
        let inside = (1..=width).contains(&x) && (1..=height).contains(&y);
        if inside { labels[(y - 1) * width + x - 1] } else { ignored }
    };
    let mut corners = 0;
    for y in 0..=height {
        for x in 0..=width {
            // Clockwise, so that neighbours in the list are neighbours in the map.
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

/// Most corners that polygons may have along pixel edges.
pub(super) fn max_exact_corners(options: &RenderOptions) -> usize {
    if options.simplify_px > 0.0 { MAX_CORNERS_TO_SIMPLIFY } else { MAX_CORNERS }
}

/// Fails where polygons have more corners along pixel edges than can be worked on.
///
/// # Errors
/// [`OutputError::TooMuch`].
pub(super) fn check_exact_corners(
    corners: usize,
    task: &Task,
    format: Format,
    options: &RenderOptions,
) -> Result<(), OutputError> {
    let way_out = "take tif or png, simplify=1, a higher threshold, fewer categories, or smaller rasters";
    check("corners of polygons", corners, max_exact_corners(options), way_out, task, format)
}

/// Fails where polygons have more corners than an answer may hold.
///
/// # Errors
/// [`OutputError::TooMuch`].
pub(super) fn check_corners(corners: usize, task: &Task, format: Format) -> Result<(), OutputError> {
    let way_out = "take tif or png, a higher threshold, fewer categories, or smaller rasters";
    check("corners of polygons", corners, MAX_CORNERS, way_out, task, format)
}

/// Fails where there are more numbers than a JSON answer may hold.
///
/// # Errors
/// [`OutputError::TooMuch`].
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
    use super::super::polygonize;
    use super::*;

    const NONE: u8 = 255;

    /// Labels that look random and are the same every time.
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
