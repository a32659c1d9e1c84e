//! Greedy non-maximum suppression, after `torchvision.ops.batched_nms`.

/// Indices of the `most` highest scores in descending order; equal scores keep their order.
pub(crate) fn best(scores: &[f32], most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let before = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if most < order.len() {
        order.select_nth_unstable_by(most, before);
        order.truncate(most);
    }
    order.sort_unstable_by(before);
    order
}

/// Indices of the `most` best boxes that remain, by descending score: of two boxes in the same group that overlap by more
/// than `max_iou`, only the better one remains. `groups` are levels or categories; boxes of different groups never suppress
/// each other.
pub(crate) fn suppress(boxes: &[[f32; 4]], scores: &[f32], groups: &[usize], max_iou: f32, most: usize) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    let mut kept_of_group: Vec<KeptBoxes> = Vec::new();
    kept_of_group.resize_with(groups.iter().max().map_or(0, |last| last + 1), KeptBoxes::default);
    // Usually the best few boxes are enough, so more are sorted only when they are needed.
    let (mut seen, mut sorted) = (0, most.saturating_mul(2));
    while kept.len() < most && seen < scores.len() {
        for index in best(scores, sorted).into_iter().skip(seen) {
            let rivals = &mut kept_of_group[groups[index]];
            if !rivals.overlap(boxes[index], max_iou) {
                rivals.push(boxes[index]);
                kept.push(index);
                if kept.len() == most {
                    break;
                }
            }
        }
        seen = sorted;
        sorted = sorted.saturating_mul(4);
    }
    kept
}

/// The boxes of a group that remain, stored corner by corner so that many are compared at once.
#[derive(Default)]
struct KeptBoxes {
    corners: [Vec<f32>; 4],
    areas: Vec<f32>,
}

impl KeptBoxes {
    fn push(&mut self, of: [f32; 4]) {
        for (corners, corner) in self.corners.iter_mut().zip(of) {
            corners.push(corner);
        }
        self.areas.push(area(of));
    }

    /// Whether any of them overlaps `other` by more than `max_iou`. The overlap of two empty boxes is NaN, which counts as
    /// more.
    fn overlap(&self, other: [f32; 4], max_iou: f32) -> bool {
        /// Boxes that are compared before the result is checked.
        const AT_ONCE: usize = 32;
        let other_area = area(other);
        let [left, top, right, bottom] = &self.corners;
        (0..self.areas.len()).step_by(AT_ONCE).any(|first| {
            let part = first..(first + AT_ONCE).min(self.areas.len());
            let rivals =
                left[part.clone()].iter().zip(&top[part.clone()]).zip(&right[part.clone()]).zip(&bottom[part.clone()]);
            let mut more = false;
            for ((((left, top), right), bottom), area) in rivals.zip(&self.areas[part]) {
                let width = (right.min(other[2]) - left.max(other[0])).max(0.0);
                let height = (bottom.min(other[3]) - top.max(other[1])).max(0.0);
                let intersection = width * height;
                let within = intersection / (area + other_area - intersection) <= max_iou;
                more |= !within;
            }
            more
        })
    }
}

fn area(of: [f32; 4]) -> f32 {
    (of[2] - of[0]) * (of[3] - of[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOXES: [[f32; 4]; 4] =
        [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0], [0.0, 0.0, 10.0, 10.0]];

    #[test]
    fn the_best_of_overlapping_boxes_remains() {
        // the first two overlap by 90 / 110
        assert_eq!(suppress(&BOXES, &[0.5, 0.9, 0.7, 0.1], &[0; 4], 0.5, 9), [1, 2]);
        assert_eq!(suppress(&BOXES[..3], &[0.5, 0.9, 0.7], &[0; 3], 0.9, 9), [1, 2, 0]);
    }

    #[test]
    fn many_boxes_are_compared_as_few_are() {
        // Every box overlaps the next by 4 / 6, the one after that by 3 / 7, and the third by 2 / 8; an empty box suppresses
        // another.
        let mut boxes: Vec<[f32; 4]> = (0..200).map(|i| [i as f32, 0.0, i as f32 + 5.0, 1.0]).collect();
        boxes.extend([[300.0, 0.0, 300.0, 1.0]; 2]);
        let scores: Vec<f32> = (0..boxes.len()).map(|i| 1.0 - i as f32 / 1000.0).collect();
        let expected: Vec<usize> = (0..200).step_by(3).chain([200]).collect();
        assert_eq!(suppress(&boxes, &scores, &vec![0; boxes.len()], 0.3, 999), expected);
        for most in 0..expected.len() {
            assert_eq!(suppress(&boxes, &scores, &vec![0; boxes.len()], 0.3, most), expected[..most]);
        }
    }

    #[test]
    fn groups_do_not_meet() {
        assert_eq!(suppress(&BOXES, &[0.5, 0.9, 0.7, 0.1], &[0, 0, 0, 1], 0.5, 9), [1, 2, 3]);
    }

    #[test]
    fn the_best_come_first_and_equals_in_their_order() {
        let scores = [0.5, 0.9, 0.5, 0.1, 0.9, 0.5];
        assert_eq!(best(&scores, 6), [1, 4, 0, 2, 5, 3]);
        for most in 0..8 {
            assert_eq!(best(&scores, most), best(&scores, 6)[..most.min(6)]);
        }
    }

    #[test]
    fn nothing_is_left_of_nothing() {
        assert!(suppress(&[], &[], &[], 0.5, 9).is_empty());
    }
}
