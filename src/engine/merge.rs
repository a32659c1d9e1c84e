//! Merging the objects that overlapping windows of a scene report.

use crate::prediction::Object;

/// Boxes of one category from different windows are the same object above this intersection over union.
const SAME_OBJECT_IOU: f32 = 0.5;
/// They are also the same if more than this share of the smaller one lies in the larger: a window's border cuts large
/// objects.
const SAME_OBJECT_CONTAINED: f32 = 0.75;

/// Merges reports of `(window, object)`: of two windows' reports of one object, the one with the higher score stays. Highest
/// score first.
///
/// The network has already removed duplicates within a window, so boxes of one window never remove each other.
pub(super) fn merge_objects(mut reports: Vec<(usize, Object)>) -> Vec<Object> {
    reports.sort_by(|(_, a), (_, b)| b.score.total_cmp(&a.score));
    // In cells as large as the largest box, only boxes of the same or adjacent cells can overlap.
    let side = reports.iter().map(|(_, object)| extent(object)).fold(1.0f32, f32::max);
    let mut cells: std::collections::HashMap<(i32, i32), Vec<usize>> = std::collections::HashMap::new();
    let mut kept: Vec<(usize, Object)> = Vec::with_capacity(reports.len());
    for (window, object) in reports {
        let (col, row) = cell(&object, side);
        let near = (col - 1..=col + 1).flat_map(|col| (row - 1..=row + 1).map(move |row| (col, row)));
        let double = near.filter_map(|at| cells.get(&at)).flatten().any(|index| {
            let (other_window, other) = &kept[*index];
            *other_window != window && other.category_id == object.category_id && same(other, &object)
        });
        if !double {
            cells.entry((col, row)).or_default().push(kept.len());
            kept.push((window, object));
        }
    }
    kept.into_iter().map(|(_, object)| object).collect()
}

fn extent(object: &Object) -> f32 {
    let [x0, y0, x1, y1] = object.bbox_px;
    (x1 - x0).max(y1 - y0)
}

fn cell(object: &Object, side: f32) -> (i32, i32) {
    let [x0, y0, x1, y1] = object.bbox_px;
    (((x0 + x1) / (2.0 * side)).floor() as i32, ((y0 + y1) / (2.0 * side)).floor() as i32)
}

/// True if two boxes of one category are the same object.
pub(super) fn same(a: &Object, b: &Object) -> bool {
    let smaller = area(a.bbox_px).min(area(b.bbox_px));
    common_part(a, b) > SAME_OBJECT_IOU || common_area(a, b) > SAME_OBJECT_CONTAINED * smaller
}

/// Intersection over union of two boxes.
pub(super) fn common_part(a: &Object, b: &Object) -> f32 {
    let common = common_area(a, b);
    common / (area(a.bbox_px) + area(b.bbox_px) - common)
}

fn common_area(a: &Object, b: &Object) -> f32 {
    let (p, q) = (a.bbox_px, b.bbox_px);
    area([p[0].max(q[0]), p[1].max(q[1]), p[2].min(q[2]), p[3].min(q[3])])
}

fn area([x0, y0, x1, y1]: [f32; 4]) -> f32 {
    (x1 - x0).max(0.0) * (y1 - y0).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(x: f32, y: f32, side: f32, score: f32, category_id: usize) -> Object {
        Object { bbox_px: [x, y, x + side, y + side], score, category_id, mask: None }
    }

    #[test]
    fn two_windows_reports_of_one_object_become_one() {
        let merged = merge_objects(vec![(0, object(10.0, 10.0, 20.0, 0.6, 1)), (1, object(11.0, 10.0, 20.0, 0.9, 1))]);
        assert_eq!(merged, [object(11.0, 10.0, 20.0, 0.9, 1)]);
    }

    #[test]
    fn an_object_cut_by_a_window_border_gives_way_to_the_whole_one() {
        let merged = merge_objects(vec![(0, object(0.0, 0.0, 100.0, 0.7, 1)), (1, object(50.0, 50.0, 45.0, 0.6, 1))]);
        assert_eq!(merged.len(), 1);
    }

    #[test]
    fn neighbours_other_categories_and_the_same_window_are_left_alone() {
        let reports = vec![
            (0, object(0.0, 0.0, 20.0, 0.9, 1)),
            (0, object(2.0, 0.0, 20.0, 0.8, 1)),
            (1, object(0.0, 0.0, 20.0, 0.7, 2)),
            (1, object(40.0, 0.0, 20.0, 0.6, 1)),
        ];
        assert_eq!(merge_objects(reports).len(), 4);
    }
}
