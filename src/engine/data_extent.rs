//! Objects lie where there is data, although the network also sees the black pixels beyond it.

use super::device::ModelAnswer;
use crate::nn::HeadOutput;
use crate::prediction::Object;

/// Drops the objects of an answer whose centre has no data, and cuts the boxes of the others to the pixels with data. `valid` is
/// row-major with rows of `width`.
///
/// A box with a mask stays, since the mask is stretched over the whole of it.
pub(super) fn cut_to_data(answer: &mut ModelAnswer, valid: Option<&[bool]>, width: usize) {
    if let (ModelAnswer::Head(HeadOutput::Objects(objects)), Some(valid)) = (answer, valid) {
        objects.retain_mut(|object| is_centred_on_data(object, valid, width) && cut(object, valid, width));
    }
}

fn is_centred_on_data(object: &Object, valid: &[bool], width: usize) -> bool {
    let [x0, y0, x1, y1] = object.bbox_px;
    let at = ((y0 + y1) / 2.0) as usize * width + ((x0 + x1) / 2.0) as usize;
    valid.get(at).copied().unwrap_or(false)
}

/// Cuts one box; false if there is no data in it.
fn cut(object: &mut Object, valid: &[bool], width: usize) -> bool {
    if object.mask.is_some() {
        return true;
    }
    let height = valid.len() / width.max(1);
    let [x0, y0, x1, y1] = object.bbox_px;
    // A cast saturates: what lies outside the window becomes an empty range.
    let (cols, rows) = (x0 as usize..(x1.ceil() as usize).min(width), y0 as usize..(y1.ceil() as usize).min(height));
    let has_data = |col: usize, row: usize| valid[row * width + col];
    let in_row = |row: &usize| cols.clone().any(|col| has_data(col, *row));
    let in_col = |col: &usize| rows.clone().any(|row| has_data(*col, row));
    let (Some(top), Some(bottom)) = (rows.clone().find(in_row), rows.clone().rev().find(in_row)) else { return false };
    let (Some(left), Some(right)) = (cols.clone().find(in_col), cols.clone().rev().find(in_col)) else { return false };
    object.bbox_px = [x0.max(left as f32), y0.max(top as f32), x1.min((right + 1) as f32), y1.min((bottom + 1) as f32)];
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_box(bbox_px: [f32; 4]) -> Option<[f32; 4]> {
        // Data in columns 2 to 5 and rows 1 to 6 of 8 x 8 pixels.
        let valid: Vec<bool> = (0..64).map(|at| (2..6).contains(&(at % 8)) && (1..7).contains(&(at / 8))).collect();
        let object = Object { bbox_px, score: 0.9, category_id: 0, mask: None };
        let mut answer = ModelAnswer::Head(HeadOutput::Objects(vec![object]));
        cut_to_data(&mut answer, Some(&valid), 8);
        let ModelAnswer::Head(HeadOutput::Objects(objects)) = answer else { unreachable!("it holds objects") };
        objects.first().map(|object| object.bbox_px)
    }

    #[test]
    fn boxes_end_where_the_data_ends() {
        assert_eq!(cut_box([3.2, 2.5, 4.5, 5.5]), Some([3.2, 2.5, 4.5, 5.5]));
        assert_eq!(cut_box([0.5, 0.0, 7.5, 7.9]), Some([2.0, 1.0, 6.0, 7.0]));
        assert_eq!(cut_box([3.0, 4.0, 8.0, 5.0]), Some([3.0, 4.0, 6.0, 5.0]));
        assert_eq!(cut_box([0.0, 0.0, 1.5, 7.0]), None);
        assert_eq!(cut_box([0.0, 0.0, 3.0, 7.0]), None, "most of it lies beyond the data");
        assert_eq!(cut_box([20.0, 3.0, 30.0, 4.0]), None);
    }
}
