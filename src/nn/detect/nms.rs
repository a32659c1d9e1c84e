//! Greedy non-maximum suppression, after `torchvision.ops.batched_nms`.

/// Indices in descending order of score; equal scores keep their order.
pub(crate) fn by_score(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order
}

/// Indices of the boxes that remain, by descending score: of two boxes of one group that overlap by more than `max_iou`,
/// the better one. `groups` are levels or categories; boxes of different groups never suppress each other.
pub(crate) fn suppress(boxes: &[[f32; 4]], scores: &[f32], groups: &[usize], max_iou: f32) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    let mut kept_of_group: Vec<Vec<usize>> = vec![Vec::new(); groups.iter().max().map_or(0, |last| last + 1)];
    for index in by_score(scores) {
        let rivals = &mut kept_of_group[groups[index]];
        if rivals.iter().all(|rival| iou(boxes[*rival], boxes[index]) <= max_iou) {
            rivals.push(index);
            kept.push(index);
        }
    }
    kept
}

/// Intersection over union; not a number where both boxes are empty, which suppresses (`NaN <= x` is false).
fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let side = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    let area = |c: [f32; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    let intersection = side(0) * side(1);
    intersection / (area(a) + area(b) - intersection)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOXES: [[f32; 4]; 4] =
        [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0], [0.0, 0.0, 10.0, 10.0]];

    #[test]
    fn the_best_of_overlapping_boxes_remains() {
        // the first two overlap by 90 / 110
        assert_eq!(suppress(&BOXES, &[0.5, 0.9, 0.7, 0.1], &[0; 4], 0.5), [1, 2]);
        assert_eq!(suppress(&BOXES[..3], &[0.5, 0.9, 0.7], &[0; 3], 0.9), [1, 2, 0]);
    }

    #[test]
    fn groups_do_not_meet() {
        assert_eq!(suppress(&BOXES, &[0.5, 0.9, 0.7, 0.1], &[0, 0, 0, 1], 0.5), [1, 2, 3]);
    }

    #[test]
    fn nothing_is_left_of_nothing() {
        assert!(suppress(&[], &[], &[], 0.5).is_empty());
    }
}
