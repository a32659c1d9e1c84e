//! Layer norm over the last dimension, alone or as the end of a residual branch (`torch.nn.LayerNorm`).

use rayon::prelude::*;

use super::memory::Out;
use super::row_shares;
use super::simd::{Simd, SimdTask, dispatch};

/// `residual + (x - mean) / sqrt(variance + epsilon) * weight + bias` for rows of `weight.len()` values.
///
/// # Panics
/// If the lengths do not match.
pub fn layer_norm(x: &[f32], residual: Option<&[f32]>, weight: &[f32], bias: &[f32], epsilon: f32) -> Vec<f32> {
    let width = weight.len();
    assert!(width > 0 && bias.len() == width && x.len().is_multiple_of(width), "x is [rows, width]");
    assert!(residual.is_none_or(|r| r.len() == x.len()), "the residual is as large as x");
    let rows = x.len() / width;
    let norm = Norm { weight, bias, epsilon };
    // SAFETY: the tasks cover every row once.
    unsafe {
        Out::collect(x.len(), |out| {
            row_shares(rows, width).into_par_iter().for_each(|rows| {
                dispatch(NormTask { x, residual, norm, rows, out });
            });
        })
    }
}

/// The constants of a layer norm.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) epsilon: f32,
}

struct NormTask<'a> {
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    norm: Norm<'a>,
    rows: std::ops::Range<usize>,
    out: Out<'a>,
}

impl SimdTask for NormTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.norm.weight.len();
        for row in self.rows {
            let place = row * width;
            let residual = self.residual.map(|residual| residual[place..][..width].as_ptr());
            // SAFETY: this task alone writes its rows.
            unsafe { self.norm.run(s, &self.x[place..][..width], residual, self.out.at(place, width)) };
        }
    }
}

impl Norm<'_> {
    /// Normalises one row.
    ///
    /// # Safety
    /// Row and residual must be as long as the norm's weight, and as many values must be writable at `to`. `to` may be the
    /// residual's memory.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd>(&self, s: S, x: &[f32], residual: Option<*const f32>, to: *mut f32) {
        let width = self.weight.len();
        let whole = width / S::LANES * S::LANES;
        let rest = width - whole;
        // SAFETY: every access stays inside a row of `width` values.
        unsafe {
            let mut sum = s.load_part(x.as_ptr().add(whole), rest);
            for i in (0..whole).step_by(S::LANES) {
                sum = s.add(sum, s.load(x.as_ptr().add(i)));
            }
            let mean = s.sum(sum) / width as f32;
            let minus_mean = s.splat(-mean);
            let mut squares = s.splat(0.0);
            for i in (0..whole).step_by(S::LANES) {
                let d = s.add(s.load(x.as_ptr().add(i)), minus_mean);
                squares = s.mul_add(d, d, squares);
            }
            let squares = s.sum(squares) + x[whole..].iter().map(|v| (v - mean) * (v - mean)).sum::<f32>();
            let factor = s.splat(1.0 / (squares / width as f32 + self.epsilon).sqrt());
            for i in (0..width).step_by(S::LANES) {
                let count = (width - i).min(S::LANES);
                let d = s.mul(s.add(s.load_some(x.as_ptr().add(i), count), minus_mean), factor);
                let (weight, bias) = (self.weight.as_ptr().add(i), self.bias.as_ptr().add(i));
                let mut v = s.mul_add(d, s.load_some(weight, count), s.load_some(bias, count));
                if let Some(residual) = residual {
                    v = s.add(v, s.load_some(residual.add(i), count));
                }
                if count == S::LANES { s.store(to.add(i), v) } else { s.store_part(to.add(i), v, count) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn rows_of_any_width_are_normalised() {
        for width in [1, 5, 16, 33, 128] {
            let rows = 7;
            let x = reference::noise(rows * width, 1);
            let residual = reference::noise(rows * width, 2);
            let (weight, bias) = (reference::noise(width, 3), reference::noise(width, 4));
            let expected: Vec<f32> = (0..x.len())
                .map(|i| {
                    let row: Vec<f64> = x[i / width * width..][..width].iter().map(|v| f64::from(*v)).collect();
                    let mean = row.iter().sum::<f64>() / width as f64;
                    let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
                    let unit = (row[i % width] - mean) / (variance + 1e-5).sqrt();
                    let scaled = unit * f64::from(weight[i % width]) + f64::from(bias[i % width]);
                    (scaled + f64::from(residual[i])) as f32
                })
                .collect();
            let y = layer_norm(&x, Some(&residual), &weight, &bias, 1e-5);
            reference::assert_close(&y, &expected, 3e-6, &format!("width {width}"));
        }
    }
}
