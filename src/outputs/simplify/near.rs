//! Whether another corner is in the way of a new line.

use super::Point;

/// Least distance in pixels between a new line and other corners, so that neither rounded coordinates nor curved
/// projections make them touch.
const CLEARANCE_PX: f64 = 0.25;

/// One bit per corner of pixels: whether an outline has a corner there.
pub(super) struct Taken {
    bits: Vec<u64>,
    /// Words per row.
    words: usize,
    size: (usize, usize),
}

impl Taken {
    pub(super) fn of((width, height): (usize, usize), points: &[Point]) -> Self {
        let words = width / 64 + 1;
        let mut taken = Self { bits: vec![0; words * (height + 1)], words, size: (width, height) };
        for (x, y) in points {
            taken.bits[*y as usize * words + *x as usize / 64] |= 1 << (x % 64);
        }
        taken
    }

    pub(super) fn clear(&mut self, (x, y): Point) {
        self.bits[y as usize * self.words + x as usize / 64] &= !(1 << (x % 64));
    }

    /// Whether a corner other than the triangle's own lies in it, or within [`CLEARANCE_PX`] of its side from first to last
    /// corner.
    pub(super) fn any_near(&self, triangle: [Point; 3]) -> bool {
        let rows = triangle.map(|(_, y)| y as usize);
        let (top, bottom) = (rows[0].min(rows[1]).min(rows[2]), rows[0].max(rows[1]).max(rows[2]));
        (top.saturating_sub(1)..=(bottom + 1).min(self.size.1)).any(|y| {
            let (low, high) = reach(triangle, y as f64);
            let first = (low - 1.0).floor().max(0.0) as usize;
            let last = ((high + 1.0).ceil().max(0.0) as usize).min(self.size.0);
            (first / 64..=last / 64).any(|word| {
                let mut bits = self.bits[y * self.words + word];
                while bits != 0 {
                    let point = ((word * 64) as u32 + bits.trailing_zeros(), y as u32);
                    bits &= bits - 1;
                    if !triangle.contains(&point) && is_near(point, triangle) {
                        return true;
                    }
                }
                false
            })
        })
    }
}

/// The least and greatest column of the part of a triangle between the rows `y - 1` and `y + 1`.
fn reach(triangle: [Point; 3], y: f64) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let ([x0, y0], [x1, y1]) = (real(triangle[from]), real(triangle[to]));
        // The rows that the side has in common with that band.
        let (start, end) = ((y - 1.0).max(y0.min(y1)), (y + 1.0).min(y0.max(y1)));
        if start > end {
            continue;
        }
        for at in [start, end] {
            let x = if y0 == y1 { [x0, x1] } else { [x0 + (x1 - x0) * (at - y0) / (y1 - y0); 2] };
            (low, high) = (low.min(x[0]).min(x[1]), high.max(x[0]).max(x[1]));
        }
    }
    (low, high)
}

/// Whether a corner lies in the triangle, sides included, or within [`CLEARANCE_PX`] of its side from first to last corner.
fn is_near(point: Point, [a, b, c]: [Point; 3]) -> bool {
    let sides = [turn(a, b, point), turn(b, c, point), turn(c, a, point)];
    let is_inside = turn(a, b, c) != 0 && (sides.iter().all(|side| *side >= 0) || sides.iter().all(|side| *side <= 0));
    is_inside || distance(point, a, c) < CLEARANCE_PX
}

/// Positive if the path `a`, `b`, `c` turns right, with rows counted downwards.
fn turn(a: Point, b: Point, c: Point) -> i128 {
    let along = |from: Point, to: Point| (i128::from(to.0) - i128::from(from.0), i128::from(to.1) - i128::from(from.1));
    let ((x0, y0), (x1, y1)) = (along(a, b), along(a, c));
    x0 * y1 - x1 * y0
}

/// Distance in pixels of a corner from the line between `a` and `c`. The result is the same to the last bit if `a` and `c`
/// are exchanged, so that two neighbours, who walk their common border in opposite directions, decide alike.
pub(super) fn distance(point: Point, a: Point, c: Point) -> f64 {
    let (a, c) = super::ordered(a, c);
    let ([x, y], [x0, y0], [x1, y1]) = (real(point), real(a), real(c));
    let (dx, dy) = (x1 - x0, y1 - y0);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { (((x - x0) * dx + (y - y0) * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
    (x - x0 - along * dx).hypot(y - y0 - along * dy)
}

fn real((x, y): Point) -> [f64; 2] {
    [f64::from(x), f64::from(y)]
}
