//! From probabilities per pixel to one category per pixel.
//!
//! Probabilities are `[height, width, categories]`. In a segment task a pixel takes its likeliest category. In a
//! bin_segment task, whose categories are independent of each other, it takes the likeliest of the shown categories,
//! provided that reaches the threshold.

use super::error::OutputError;
use super::filter::{SHOWN_THRESHOLD, draws, shows};
use super::format::Format;
use super::options::RenderOptions;
use crate::prediction::{ClassMap, Dense, NO_CATEGORY};
use crate::zoo::{Task, TaskType};

/// Whether the input had data at a pixel, given by its row-major position.
pub(super) fn has_data(dense: &Dense, pixel: usize) -> bool {
    dense.valid.as_ref().is_none_or(|valid| valid[pixel])
}

/// Checks what encoders rely on.
///
/// # Errors
/// If the number of values contradicts the size, or the number of channels that of categories (of which a regression of one
/// value may have none); or if
/// there are so many categories that an index could equal [`NO_CATEGORY`].
pub(super) fn check(dense: &Dense, task: &Task, format: Format) -> Result<(), OutputError> {
    let pixels = dense.width.checked_mul(dense.height);
    let values = pixels.and_then(|pixels| pixels.checked_mul(dense.channels));
    let valid_fits = dense.valid.as_ref().is_none_or(|valid| Some(valid.len()) == pixels);
    let least = usize::from(task.task_type == TaskType::Regress);
    let wanted = task.categories.len().max(least);
    if values != Some(dense.values.len()) || !valid_fits || dense.channels != wanted {
        let reason = format!(
            "{} values for {} x {} pixels of {} channels, and {wanted} channels are needed",
            dense.values.len(),
            dense.width,
            dense.height,
            dense.channels
        );
        return Err(OutputError::encode(format, reason));
    }
    if dense.channels > usize::from(NO_CATEGORY) {
        let reason = format!("it has {} categories, and pixels can tell {NO_CATEGORY} apart", dense.channels);
        return Err(OutputError::NotRenderable { task: task.name.clone(), reason });
    }
    Ok(())
}

/// Checks what encoders rely on.
///
/// # Errors
/// If the number of labels or scores contradicts the size, or a label is no category of the task.
pub(super) fn check_map(map: &ClassMap, task: &Task, format: Format) -> Result<(), OutputError> {
    let pixels = map.width.checked_mul(map.height);
    let known = |label: u8| label == NO_CATEGORY || usize::from(label) < task.categories.len();
    let scores_fit = map.scores.as_ref().is_none_or(|scores| Some(scores.len()) == pixels);
    if pixels == Some(map.labels.len()) && scores_fit && map.labels.iter().all(|label| known(*label)) {
        return Ok(());
    }
    let (labels, width, height, categories) = (map.labels.len(), map.width, map.height, task.categories.len());
    let reason = format!("{labels} labels for {width} x {height} pixels of {categories} categories");
    Err(OutputError::encode(format, reason))
}

/// The category of every pixel; [`NO_CATEGORY`] without data, below the threshold, or if the category is not shown.
pub(super) fn class_map(dense: &Dense, task: &Task, options: &RenderOptions) -> ClassMap {
    let shown: Vec<bool> = (0..dense.channels).map(|category_id| shows(options, category_id)).collect();
    let drawn: Vec<bool> = (0..dense.channels).map(|category_id| draws(task, options, category_id)).collect();
    let threshold = options.threshold.unwrap_or(SHOWN_THRESHOLD);
    let exclusive = task.task_type == TaskType::Segment;
    let labels = (0..dense.width * dense.height)
        .map(|pixel| {
            let probabilities = &dense.values[pixel * dense.channels..][..dense.channels];
            let (best, wanted) = if exclusive {
                let (best, _) = likeliest(probabilities, |_| true);
                (best, best.is_some_and(|best| shown[best]))
            } else {
                let (best, probability) = likeliest(probabilities, |category_id| drawn[category_id]);
                (best, probability >= threshold)
            };
            best.filter(|_| wanted && has_data(dense, pixel)).map_or(NO_CATEGORY, |category_id| category_id as u8)
        })
        .collect();
    ClassMap { width: dense.width, height: dense.height, labels, scores: None }
}

/// The pixels where one category of a bin_segment task reaches the threshold; `None` if there are none.
pub(super) fn category_map(dense: &Dense, category_id: usize, options: &RenderOptions) -> Option<ClassMap> {
    let threshold = options.threshold.unwrap_or(SHOWN_THRESHOLD);
    let mut any = false;
    let labels = (0..dense.width * dense.height)
        .map(|pixel| {
            let hit = dense.values[pixel * dense.channels + category_id] >= threshold && has_data(dense, pixel);
            any |= hit;
            if hit { category_id as u8 } else { NO_CATEGORY }
        })
        .collect();
    any.then_some(ClassMap { width: dense.width, height: dense.height, labels, scores: None })
}

/// Index and value of the greatest candidate, the first of equals. NaN is never the greatest.
#[inline]
fn likeliest(probabilities: &[f32], is_candidate: impl Fn(usize) -> bool) -> (Option<usize>, f32) {
    let (mut best, mut greatest) = (None, f32::NEG_INFINITY);
    for (category_id, probability) in probabilities.iter().enumerate() {
        if *probability > greatest && is_candidate(category_id) {
            (best, greatest) = (Some(category_id), *probability);
        }
    }
    (best, greatest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(task_type: TaskType, background_invalid: bool) -> Task {
        let categories = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        Task { name: "t".to_owned(), task_type, categories, colors: Vec::new(), background_invalid, value_range: None }
    }

    fn dense(values: &[[f32; 3]]) -> Dense {
        Dense { width: values.len(), height: 1, channels: 3, values: values.as_flattened().to_vec(), valid: None }
    }

    #[test]
    fn a_segment_pixel_takes_its_likeliest_category_and_nothing_where_that_is_not_shown() {
        let dense = dense(&[[0.2, 0.5, 0.3], [0.4, 0.1, 0.2], [f32::NAN; 3], [0.4, 0.4, 0.2]]);
        let task = task(TaskType::Segment, false);
        assert_eq!(class_map(&dense, &task, &RenderOptions::default()).labels, [1, 0, NO_CATEGORY, 0]);
        let only_b = RenderOptions { categories: Some(vec![1]), ..RenderOptions::default() };
        assert_eq!(class_map(&dense, &task, &only_b).labels, [1, NO_CATEGORY, NO_CATEGORY, NO_CATEGORY]);
    }

    #[test]
    fn a_bin_segment_pixel_takes_the_likeliest_shown_category_above_the_threshold() {
        let dense = dense(&[[0.9, 0.6, 0.7], [0.4, 0.1, 0.2], [f32::NAN, 0.5, 0.0]]);
        let plain = task(TaskType::BinSegment, false);
        assert_eq!(class_map(&dense, &plain, &RenderOptions::default()).labels, [0, NO_CATEGORY, 1]);
        let without_background = task(TaskType::BinSegment, true);
        assert_eq!(class_map(&dense, &without_background, &RenderOptions::default()).labels, [2, NO_CATEGORY, 1]);
        let low = RenderOptions { threshold: Some(0.2), categories: Some(vec![1, 2]), ..RenderOptions::default() };
        assert_eq!(class_map(&dense, &plain, &low).labels, [2, 2, 1]);
    }

    #[test]
    fn pixels_without_data_have_no_category() {
        let dense = Dense { valid: Some(vec![true, false]), ..dense(&[[1.0, 0.0, 0.0]; 2]) };
        let task = task(TaskType::Segment, false);
        assert_eq!(class_map(&dense, &task, &RenderOptions::default()).labels, [0, NO_CATEGORY]);
    }

    #[test]
    fn sizes_that_contradict_the_values_are_errors() {
        let mut dense = dense(&[[0.0; 3]; 2]);
        let task = task(TaskType::Segment, false);
        assert!(check(&dense, &task, Format::Png).is_ok());
        dense.height = 2;
        assert!(check(&dense, &task, Format::Png).is_err());
    }
}
