//! Vectorised exponential and erf-GELU.

use super::LayerActivation;
use super::simd::Simd;

/// e^v with a relative error of at most 2e-7: range reduction by ln 2 and the Taylor polynomial of degree 7 on |r| <= 0.35.
/// Below -87 the result is e^-87 (1.6e-38), above 88 it is e^88, and NaN gives e^-87, so nothing overflows downstream.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, v: S::V) -> S::V {
    // ln 2 in two parts, the first with trailing zeros so that its products with whole numbers are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const TAYLOR: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let v = s.min(s.max(v, s.splat(-87.0)), s.splat(88.0));
    let power = s.round(s.mul(v, s.splat(std::f32::consts::LOG2_E)));
    let r = s.mul_add(power, s.splat(-LN_2_HIGH), v);
    let r = s.mul_add(power, s.splat(-LN_2_LOW), r);
    let mut sum = s.splat(1.0 / 5040.0);
    for factor in TAYLOR {
        sum = s.mul_add(sum, r, s.splat(factor));
    }
    s.scale(sum, power)
}

/// x Φ(x), the erf form of GELU (PyTorch's default), with an error of at most 3e-7 |x|: the last bits of Φ.
///
/// Φ(x) - 1/2 is odd, so it is computed as x P(2 x²/c² - 1) with a polynomial P fitted on |x| <= c (Chebyshev nodes,
/// reweighted least squares). Beyond c, Φ is 0 or 1 to f32 precision. No division and no exponential is needed.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::V) -> S::V {
    const LIMIT: f32 = 5.25;
    const P: [f32; 14] = [
        -0.000_560_796_93,
        0.001_456_552_5,
        -0.001_326_828_8,
        0.001_869_609_4,
        -0.005_119_418,
        0.009_070_206,
        -0.012_954_703,
        0.018_326_076,
        -0.024_994_845,
        0.032_064_244,
        -0.039_768_644,
        0.049_643_9,
        -0.067_126_654,
        0.134_659_36,
    ];
    let clamped = s.min(s.max(x, s.splat(-LIMIT)), s.splat(LIMIT));
    let t = s.mul_add(s.mul(clamped, clamped), s.splat(2.0 / (LIMIT * LIMIT)), s.splat(-1.0));
    let mut sum = s.splat(P[0]);
    for factor in &P[1..] {
        sum = s.mul_add(sum, t, s.splat(*factor));
    }
    s.mul(x, s.mul_add(clamped, sum, s.splat(0.5)))
}

#[inline(always)]
pub(crate) fn activate<S: Simd>(s: S, v: S::V, activation: LayerActivation) -> S::V {
    match activation {
        LayerActivation::None => v,
        LayerActivation::Relu => s.max(v, s.splat(0.0)),
        LayerActivation::Gelu => gelu(s, v),
    }
}

#[cfg(test)]
mod tests {
    use crate::simd::{InstructionSet, Simd, SimdTask};

    struct Apply<'a>(&'a mut [f32], bool);

    impl SimdTask for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for chunk in self.0.chunks_mut(S::LANES) {
                // SAFETY: `chunk` holds that many values.
                unsafe {
                    let v = s.load_part(chunk.as_ptr(), chunk.len());
                    let v = if self.1 { super::exp(s, v) } else { super::gelu(s, v) };
                    s.store_part(chunk.as_mut_ptr(), v, chunk.len());
                }
            }
        }
    }

    /// Φ through erf: by its Taylor series below 3 and its continued fraction above. Slow, and accurate to f64 rounding.
    fn phi(x: f64) -> f64 {
        let z = x.abs() / std::f64::consts::SQRT_2;
        let tail = if z < 3.0 {
            let (mut term, mut sum) = (z, z);
            for n in 1..200 {
                term *= -z * z / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            1.0 - sum * 2.0 / std::f64::consts::PI.sqrt()
        } else {
            let fraction = (1..80).rev().fold(z, |f, k| z + f64::from(k) / 2.0 / f);
            (-z * z).exp() / (fraction * std::f64::consts::PI.sqrt())
        };
        if x < 0.0 { 0.5 * tail } else { 1.0 - 0.5 * tail }
    }

    #[test]
    fn exp_and_gelu_are_accurate_to_f32_on_every_instruction_set() {
        let count = if cfg!(miri) { 200 } else { 100_003 };
        let inputs: Vec<f32> = (0..count).map(|i| (i as f32 / count as f32 - 0.5) * 24.0).collect();
        for instructions in InstructionSet::supported() {
            let mut values = inputs.clone();
            instructions.run(Apply(&mut values, true));
            for (x, y) in inputs.iter().zip(&values) {
                let exact = f64::from(*x).exp();
                assert!((f64::from(*y) - exact).abs() <= 3e-7 * exact, "{instructions:?}: exp({x}) = {y}, not {exact}");
            }
            let mut values = inputs.clone();
            instructions.run(Apply(&mut values, false));
            for (x, y) in inputs.iter().zip(&values) {
                let exact = f64::from(*x) * phi(f64::from(*x));
                let error = (f64::from(*y) - exact).abs();
                assert!(error <= 3e-7 * f64::from(x.abs()), "{instructions:?}: gelu({x}) = {y}, not {exact}");
            }
        }
    }
}
