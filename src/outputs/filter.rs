//! Which categories and objects an answer shows. All thresholds on objects are applied here.

use super::format::Format;
use super::options::RenderOptions;
use crate::prediction::Object;
use crate::zoo::Task;

/// Default threshold for images and vectors.
pub(super) const SHOWN_THRESHOLD: f32 = 0.5;

/// Default threshold for raw answers: that of the detection network itself (torchvision's `box_score_thresh`).
pub(super) const RAW_THRESHOLD: f32 = 0.05;

/// The score from which on an answer in `format` shows objects.
pub fn least_score(format: Format, options: &RenderOptions) -> f32 {
    options.threshold.unwrap_or(match format {
        Format::Json | Format::Safetensors => RAW_THRESHOLD,
        _ => SHOWN_THRESHOLD,
    })
}

/// Whether the options select a category.
pub(super) fn shows(options: &RenderOptions, category_id: usize) -> bool {
    options.categories.as_ref().is_none_or(|ids| ids.contains(&category_id))
}

/// Whether a category is coloured or outlined: selected, and not the task's "no valid label" category.
pub(super) fn draws(task: &Task, options: &RenderOptions, category_id: usize) -> bool {
    !(task.background_invalid && category_id == 0) && shows(options, category_id)
}

/// The objects that an answer holds, highest score first. `default_threshold` applies unless the options name a threshold.
///
/// Objects whose box or score is not finite, or whose box has no area, are left out.
pub(super) fn objects<'a>(objects: &'a [Object], options: &RenderOptions, default_threshold: f32) -> Vec<&'a Object> {
    let threshold = options.threshold.unwrap_or(default_threshold);
    let mut kept: Vec<&Object> = objects
        .iter()
        .filter(|object| {
            let [x0, y0, x1, y1] = object.bbox_px;
            let drawable = object.bbox_px.iter().all(|v| v.is_finite()) && x0 < x1 && y0 < y1;
            drawable && object.score.is_finite() && object.score >= threshold && shows(options, object.category_id)
        })
        .collect();
    kept.sort_by(|a, b| b.score.total_cmp(&a.score));
    kept.truncate(options.max_detections.unwrap_or(usize::MAX));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(score: f32, category_id: usize) -> Object {
        Object { bbox_px: [0.0, 0.0, 4.0, 4.0], score, category_id, mask: None }
    }

    fn scores(options: &RenderOptions, default_threshold: f32) -> Vec<f32> {
        let all = [object(0.3, 1), object(0.9, 2), object(0.6, 1), object(f32::NAN, 1), object(0.06, 1)];
        objects(&all, options, default_threshold).iter().map(|object| object.score).collect()
    }

    #[test]
    fn objects_are_sorted_by_score_and_cut_at_the_default_threshold() {
        assert_eq!(scores(&RenderOptions::default(), SHOWN_THRESHOLD), [0.9, 0.6]);
        assert_eq!(scores(&RenderOptions::default(), RAW_THRESHOLD), [0.9, 0.6, 0.3, 0.06]);
    }

    #[test]
    fn the_callers_threshold_categories_and_count_go_before_defaults() {
        let options = RenderOptions { threshold: Some(0.2), ..RenderOptions::default() };
        assert_eq!(scores(&options, SHOWN_THRESHOLD), [0.9, 0.6, 0.3]);
        let options = RenderOptions { categories: Some(vec![1]), max_detections: Some(1), ..options };
        assert_eq!(scores(&options, SHOWN_THRESHOLD), [0.6]);
    }

    #[test]
    fn boxes_that_cannot_be_drawn_are_dropped() {
        let mut broken = object(0.9, 1);
        broken.bbox_px[2] = f32::INFINITY;
        let mut flat = object(0.9, 1);
        flat.bbox_px[2] = 0.0;
        assert!(objects(&[broken, flat], &RenderOptions::default(), SHOWN_THRESHOLD).is_empty());
    }
}
