//! Maxima over neighbours or captures, and nearest-neighbour enlargement: loops limited by memory bandwidth.
//!

use rayon::prelude::*;

use super::Maps;
use super::memory::Out;
use super::simd::{Simd, SimdTask, dispatch};

/// Combines each value of `from` into that of `into`.
struct Fold<'a> {
    into: &'a mut [f32],
    from: &'a [f32],
    operation: FoldOperation,
}

enum FoldOperation {
    Max,
    Add,
}

impl SimdTask for Fold<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let count = self.into.len().min(self.from.len());
        for i in (0..count).step_by(S::LANES) {
            let lanes = (count - i).min(S::LANES);
            // SAFETY: both slices hold `count` values.
            unsafe {
                let to = self.into.as_mut_ptr().add(i);
                let (a, b) = (s.load_part(to, lanes), s.load_part(self.from.as_ptr().add(i), lanes));
                let v = match self.operation {
                    FoldOperation::Max => s.max(a, b),
                    FoldOperation::Add => s.add(a, b),
                };
                s.store_part(to, v, lanes);
            }
        }
    }
}

/// 3x3 maximum, stride 2, padding 1 where the padding never wins: [N, H, W, C] -> [N, ⌈H/2⌉, ⌈W/2⌉, C].
///
/// # Panics
/// If the length of `x` does not match its shape.
pub fn max_pool(x: &[f32], maps: Maps, channels: usize) -> Vec<f32> {
    assert_eq!(x.len(), maps.pixels() * channels, "x is [N, H, W, C]");
    let to = Maps { count: maps.count, height: maps.height.div_ceil(2), width: maps.width.div_ceil(2) };
    // SAFETY: the tasks cover every line of the result once.
    unsafe {
        Out::collect(to.pixels() * channels, |out| {
            (0..to.count * to.height).into_par_iter().for_each(|line| {
                dispatch(MaxPool { x, maps, to, channels, line, out });
            });
        })
    }
}

/// Computes one line of the pooled maps.
struct MaxPool<'a> {
    x: &'a [f32],
    maps: Maps,
    to: Maps,
    channels: usize,
    line: usize,
    out: Out<'a>,
}

impl SimdTask for MaxPool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, maps, to, channels, line, out } = self;
        let (n, row) = (line / to.height, line % to.height);
        let neighbours = |at: usize, len: usize| (2 * at).saturating_sub(1)..(2 * at + 2).min(len);
        for column in 0..to.width {
            let y = out.at((line * to.width + column) * channels, channels);
            for channel in (0..channels).step_by(S::LANES) {
                let count = (channels - channel).min(S::LANES);
                let mut largest = s.splat(f32::NEG_INFINITY);
                for source in neighbours(row, maps.height) {
                    let source = (n * maps.height + source) * maps.width;
                    for neighbour in neighbours(column, maps.width) {
                        let from = &x[(source + neighbour) * channels + channel..][..count];
                        // SAFETY: the slice holds `count` values.
                        largest = s.max(largest, unsafe { s.load_part(from.as_ptr(), count) });
                    }
                }
                // SAFETY: this task alone writes the pixel's channels.
                unsafe { s.store_part(y.add(channel), largest, count) };
            }
        }
    }
}

/// The maximum over each item's `captures` consecutive maps: [items * captures, len] -> [items, len].
///
/// # Panics
/// If `x` is not a whole number of items.
pub fn max_over_captures(x: &[f32], captures: usize, len: usize) -> Vec<f32> {
    const BLOCK: usize = 1 << 14;
    let items = x.len().checked_div(captures * len).unwrap_or(0);
    assert_eq!(x.len(), items * captures * len, "x is [items * captures, len]");
    let mut y = Vec::with_capacity(items * len);
    for item in 0..items {
        y.extend_from_slice(&x[item * captures * len..][..len]);
    }
    for (item, y) in y.chunks_exact_mut(len.max(1)).enumerate() {
        y.par_chunks_mut(BLOCK).enumerate().for_each(|(block, y)| {
            for capture in 1..captures {
                let from = &x[(item * captures + capture) * len + block * BLOCK..][..y.len()];
                dispatch(Fold { into: y, from, operation: FoldOperation::Max });
            }
        });
    }
    y
}

/// `lateral + nearest(coarse)`; `rows` and `columns` say which row and column of `coarse` each of `lateral`'s takes.
///
/// # Panics
/// If the sizes do not match, or an index is outside `coarse`.
pub fn nearest_add(
    coarse: &[f32],
    from: Maps,
    lateral: &[f32],
    rows: &[u32],
    columns: &[u32],
    channels: usize,
) -> Vec<f32> {
    assert_eq!(coarse.len(), from.pixels() * channels, "coarse is [N, h, w, C]");
    assert_eq!(lateral.len(), from.count * rows.len() * columns.len() * channels, "lateral is [N, H, W, C]");
    let mut y = lateral.to_vec();
    y.par_chunks_mut((columns.len() * channels).max(1)).enumerate().for_each(|(line, y)| {
        let (n, row) = (line / rows.len(), rows[line % rows.len()] as usize);
        let source = &coarse[(n * from.height + row) * from.width * channels..][..from.width * channels];
        for (y, column) in y.chunks_exact_mut(channels).zip(columns) {
            dispatch(Fold {
                into: y,
                from: &source[*column as usize * channels..][..channels],
                operation: FoldOperation::Add,
            });
        }
    });
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn the_largest_neighbour_wins_and_the_border_is_absent() {
        for (height, width, channels) in [(1, 1, 1), (3, 5, 3), (4, 6, 17)] {
            let maps = Maps { count: 2, height, width };
            let x: Vec<f32> = reference::noise(maps.pixels() * channels, 1).iter().map(|v| v - 2.0).collect();
            let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
            let y = max_pool(&x, maps, channels);
            assert_eq!(y.len(), 2 * rows * columns * channels);
            for (i, y) in y.iter().enumerate() {
                let (c, pixel) = (i % channels, i / channels);
                let (column, row, n) = (pixel % columns, pixel / columns % rows, pixel / columns / rows);
                let seen = (0..height).flat_map(|r| (0..width).map(move |w| (r, w)));
                let near = |a: usize, b: usize| (2 * a).abs_diff(b) <= 1;
                let seen = seen.filter(|(r, w)| near(row, *r) && near(column, *w));
                let largest = seen.map(|(r, w)| x[((n * height + r) * width + w) * channels + c]).fold(f32::MIN, f32::max);
                assert_eq!(*y, largest);
            }
        }
    }

    #[test]
    fn captures_and_enlargements_follow_their_indices() {
        assert_eq!(max_over_captures(&[1.0, 5.0, 2.0, 3.0, 0.0, 9.0, -1.0, 8.0], 2, 2), [2.0, 5.0, 0.0, 9.0]);
        let from = Maps { count: 1, height: 1, width: 2 };
        let y = nearest_add(&[10.0, 20.0], from, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[0, 0], &[0, 0, 1], 1);
        assert_eq!(y, [11.0, 12.0, 23.0, 14.0, 15.0, 26.0]);
    }
}
