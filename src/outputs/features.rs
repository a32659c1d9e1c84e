//! Predictions as polygons in pixel coordinates, shared by the vector formats, which project them.

use super::bounds::{check_corners, check_exact_corners, count_corners, max_exact_corners};
use super::classes::{self, category_map, class_map};
use super::error::OutputError;
use super::filter::{SHOWN_THRESHOLD, draws, objects};
use super::format::Format;
use super::mask::{PixelRect, paste};
use super::options::RenderOptions;
use super::polygonize::{Region, polygonize};
use super::reduce::from_steps;
use super::simplify::{LabelMap, simplify};
use crate::prediction::{ClassMap, Dense, NO_CATEGORY, Object, Output, Prediction};
use crate::zoo::{Task, TaskType};

/// The corners of a ring in pixels of the image; the first is not repeated. With rows counted downwards, exterior rings
/// have a positive shoelace area.
pub(crate) type PixelRing = Vec<[f64; 2]>;

/// One or more polygons of one category.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PixelFeature {
    /// Each has its exterior ring first, then its holes. An object's mask may have several parts.
    pub(crate) polygons: Vec<Vec<PixelRing>>,
    /// Index into the task's categories.
    pub(crate) category_id: usize,
    /// The object's score, or the mean probability of the region's pixels.
    pub(crate) score: f32,
}

impl PixelFeature {
    fn corners(&self) -> usize {
        self.polygons.iter().flatten().map(Vec::len).sum()
    }
}

/// The features of a dense prediction or of detections. Boxes and masks are cut to `canvas`.
///
/// # Errors
/// If the prediction contradicts the task, was reduced without scores, or has more corners than an answer may hold.
pub(super) fn features(
    prediction: &Prediction,
    task: &Task,
    format: Format,
    options: &RenderOptions,
    canvas: PixelRect,
) -> Result<Vec<PixelFeature>, OutputError> {
    match (&prediction.output, task.task_type) {
        (Output::Dense(dense), TaskType::Segment | TaskType::BinSegment) => {
            classes::check(dense, task, format)?;
            regions(dense, task, format, options)
        }
        (Output::Classes(map), TaskType::Segment | TaskType::BinSegment) => {
            classes::check_map(map, task, format)?;
            let scores = map.scores.as_ref().ok_or_else(|| OutputError::reduced(task))?;
            let map = drawn_only(map.clone(), task, options);
            check_exact_corners(corners(&map, options), task, format, options)?;
            let found = map_regions(&map, options, |pixel| from_steps(scores[pixel]));
            checked(found, task, format)
        }
        (Output::Objects(found), TaskType::Detect | TaskType::Instance) => {
            let kept = objects(found, options, SHOWN_THRESHOLD);
            let (mut found, mut corners) = (Vec::new(), 0);
            for feature in kept.into_iter().filter_map(|object| outline(object, canvas, options)) {
                corners += feature.corners();
                check_corners(corners, task, format)?;
                found.push(feature);
            }
            Ok(found)
        }
        _ => Err(OutputError::mismatch(format, task.task_type)),
    }
}

/// Regions of equal category. Those of a segment task do not overlap, those of a bin_segment task may.
fn regions(dense: &Dense, task: &Task, format: Format, options: &RenderOptions) -> Result<Vec<PixelFeature>, OutputError> {
    let drawn = (0..dense.channels).filter(|category_id| draws(task, options, *category_id));
    let maps = if task.task_type == TaskType::Segment {
        vec![drawn_only(class_map(dense, task, options), task, options)]
    } else {
        drawn.filter_map(|category_id| category_map(dense, category_id, options)).collect()
    };
    check_exact_corners(maps.iter().map(|map| corners(map, options)).sum(), task, format, options)?;
    let probability = |map: &ClassMap, pixel: usize| dense.values[pixel * dense.channels + usize::from(map.labels[pixel])];
    let found = maps.iter().flat_map(|map| map_regions(map, options, |pixel| probability(map, pixel)));
    checked(found.collect(), task, format)
}

/// The number of corners of a map's regions before simplification; counting stops beyond the limit.
fn corners(map: &ClassMap, options: &RenderOptions) -> usize {
    count_corners(&map.labels, (map.width, map.height), NO_CATEGORY, max_exact_corners(options))
}

/// Passes features on if their corners fit into an answer.
fn checked(found: Vec<PixelFeature>, task: &Task, format: Format) -> Result<Vec<PixelFeature>, OutputError> {
    check_corners(found.iter().map(PixelFeature::corners).sum(), task, format)?;
    Ok(found)
}

/// The map without the categories that are not drawn.
fn drawn_only(mut map: ClassMap, task: &Task, options: &RenderOptions) -> ClassMap {
    let hidden = |label: u8| label != NO_CATEGORY && !draws(task, options, usize::from(label));
    map.labels.iter_mut().filter(|label| hidden(**label)).for_each(|label| *label = NO_CATEGORY);
    map
}

/// The regions of a map, scored by the mean `probability` of their pixels, which are given by row-major position.
fn map_regions(map: &ClassMap, options: &RenderOptions, probability: impl Fn(usize) -> f32) -> Vec<PixelFeature> {
    // Corners on the edge stay: the neighbouring tile's polygons have the same ones.
    outlines(&map.labels, (map.width, map.height), true, options, probability)
        .into_iter()
        .map(|region| PixelFeature {
            polygons: vec![region.rings.iter().map(|ring| shifted(ring, 0, 0)).collect()],
            category_id: usize::from(region.label),
            score: region.score,
        })
        .collect()
}

/// The regions of labels, simplified as the options say.
fn outlines(
    labels: &[u8],
    size: (usize, usize),
    keeps_edge: bool,
    options: &RenderOptions,
    score: impl Fn(usize) -> f32,
) -> Vec<Region> {
    let mut regions = polygonize(labels, size, NO_CATEGORY, score);
    if options.simplify_px > 0.0 {
        let map = LabelMap { labels, size, ignored: NO_CATEGORY, keeps_edge };
        simplify(&mut regions, &map, f64::from(options.simplify_px));
    }
    regions
}

/// The outline of an object's mask, or of its box if it has no mask; `None` if nothing of it lies on the canvas.
fn outline(object: &Object, canvas: PixelRect, options: &RenderOptions) -> Option<PixelFeature> {
    let polygons = if object.mask.is_some() {
        let mask = paste(object, canvas)?;
        let labels: Vec<u8> = mask.inside.iter().map(|inside| if *inside { 0 } else { NO_CATEGORY }).collect();
        let parts = outlines(&labels, (mask.rect.width(), mask.rect.height()), false, options, |_| object.score);
        let polygon = |rings: Vec<Vec<(u32, u32)>>| {
            rings.iter().map(|ring| shifted(ring, mask.rect.x0, mask.rect.y0)).collect::<Vec<PixelRing>>()
        };
        parts.into_iter().map(|part| polygon(part.rings)).collect::<Vec<_>>()
    } else {
        let [x0, y0, x1, y1] = object.bbox_px.map(f64::from);
        let (x0, x1) = (x0.max(canvas.x0 as f64), x1.min(canvas.x1 as f64));
        let (y0, y1) = (y0.max(canvas.y0 as f64), y1.min(canvas.y1 as f64));
        if x0 >= x1 || y0 >= y1 {
            return None;
        }
        vec![vec![vec![[x0, y0], [x1, y0], [x1, y1], [x0, y1]]]]
    };
    let found = !polygons.is_empty();
    found.then_some(PixelFeature { polygons, category_id: object.category_id, score: object.score })
}

fn shifted(ring: &[(u32, u32)], x0: i64, y0: i64) -> PixelRing {
    ring.iter().map(|(x, y)| [f64::from(*x) + x0 as f64, f64::from(*y) + y0 as f64]).collect()
}
