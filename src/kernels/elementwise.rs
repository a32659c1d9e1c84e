//! The functions that end a network: softmax over the last dimension and the logistic function.

use rayon::prelude::*;

use super::memory::Out;
use super::simd::{Simd, SimdTask, dispatch};
use super::{math, row_shares};

/// Softmax of every row of `width` values.
///
/// # Panics
/// If `x` is not a whole number of rows.
pub fn softmax(x: &[f32], width: usize) -> Vec<f32> {
    assert!(width > 0 && x.len().is_multiple_of(width), "x is [rows, width]");
    // SAFETY: the tasks cover every row once.
    unsafe {
        Out::collect(x.len(), |out| {
            row_shares(x.len() / width, width).into_par_iter().for_each(|rows| {
                let count = rows.len() * width;
                let to = out.at(rows.start * width, count);
                dispatch(Softmax { x: &x[rows.start * width..][..count], width, to });
            });
        })
    }
}

/// The logistic function, `1 / (1 + e^-x)`.
pub fn sigmoid(x: &[f32]) -> Vec<f32> {
    // SAFETY: the tasks cover every value once.
    unsafe {
        Out::collect(x.len(), |out| {
            row_shares(x.len(), 1).into_par_iter().for_each(|range| {
                let to = out.at(range.start, range.len());
                dispatch(Sigmoid { x: &x[range], to });
            });
        })
    }
}

struct Softmax<'a> {
    x: &'a [f32],
    width: usize,
    to: *mut f32,
}

impl SimdTask for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (row, x) in self.x.chunks_exact(self.width).enumerate() {
            let largest = s.splat(x.iter().copied().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a }));
            let mut total = 0.0;
            // SAFETY: the destination is as large as `x`, and this task alone writes to it.
            unsafe {
                let to = self.to.add(row * self.width);
                for i in (0..self.width).step_by(S::LANES) {
                    let count = (self.width - i).min(S::LANES);
                    let v = math::exp(s, s.sub(s.load_part(x.as_ptr().add(i), count), largest));
                    s.store_part(to.add(i), v, count);
                    total += if count == S::LANES { s.sum(v) } else { s.sum(s.load_part(to.add(i), count)) };
                }
                let factor = s.splat(1.0 / total);
                for i in (0..self.width).step_by(S::LANES) {
                    let count = (self.width - i).min(S::LANES);
                    s.store_part(to.add(i), s.mul(s.load_part(to.add(i), count), factor), count);
                }
            }
        }
    }
}

struct Sigmoid<'a> {
    x: &'a [f32],
    to: *mut f32,
}

impl SimdTask for Sigmoid<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        for i in (0..self.x.len()).step_by(S::LANES) {
            let count = (self.x.len() - i).min(S::LANES);
            // SAFETY: the destination is as large as `x`, and this task alone writes to it.
            unsafe {
                let v = s.load_part(self.x.as_ptr().add(i), count);
                let v = s.div(one, s.add(one, math::exp(s, s.sub(zero, v))));
                s.store_part(self.to.add(i), v, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn probabilities_match_the_formulas() {
        for width in [1, 3, 12, 16, 37] {
            let x: Vec<f32> = reference::noise(5 * width, 1).iter().map(|v| 20.0 * v).collect();
            let expected: Vec<f32> = x
                .chunks(width)
                .flat_map(|row| {
                    let total: f64 = row.iter().map(|v| f64::from(*v).exp()).sum();
                    row.iter().map(move |v| (f64::from(*v).exp() / total) as f32)
                })
                .collect();
            reference::assert_close(&softmax(&x, width), &expected, 1e-6, &format!("softmax of {width}"));
            let expected: Vec<f32> = x.iter().map(|v| (1.0 / (1.0 + f64::from(-v).exp())) as f32).collect();
            reference::assert_close(&sigmoid(&x), &expected, 1e-6, "sigmoid");
        }
    }
}
