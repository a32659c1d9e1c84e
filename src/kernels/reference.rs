//! Slow and obvious forms of the kernels, summed in f64, which the tests compare them with.

use super::Activation;

/// Repeatable values in -1 .. 1.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

pub(crate) fn round_bf16(values: &[f32]) -> Vec<f32> {
    values.iter().map(|v| half::bf16::from_f32(*v).to_f32()).collect()
}

pub(crate) fn activate(v: f64, activation: Activation) -> f64 {
    match activation {
        Activation::None => v,
        Activation::Relu => v.max(0.0),
        // erf(z) by its Taylor series, good to f64 rounding for the small values tests use.
        Activation::Gelu => {
            let z = (v / std::f64::consts::SQRT_2).clamp(-5.0, 5.0);
            let (mut term, mut sum) = (z, z);
            for n in 1..150 {
                term *= -z * z / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            0.5 * v * (1.0 + sum * 2.0 / std::f64::consts::PI.sqrt())
        }
    }
}

/// act(x Wᵀ + bias + residual).
pub(crate) fn linear(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    residual: Option<&[f32]>,
    inputs: usize,
    activation: Activation,
) -> Vec<f32> {
    let outputs = weight.len() / inputs;
    (0..x.len() / inputs * outputs)
        .map(|i| {
            let (row, column) = (i / outputs, i % outputs);
            let products = x[row * inputs..][..inputs].iter().zip(&weight[column * inputs..][..inputs]);
            let sum: f64 = products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let sum = sum + bias.get(column).map_or(0.0, |b| f64::from(*b)) + residual.map_or(0.0, |r| f64::from(r[i]));
            activate(sum, activation) as f32
        })
        .collect()
}

/// Asserts max |a - b| <= tolerance * max(1, largest |b|).
pub(crate) fn assert_close(a: &[f32], b: &[f32], tolerance: f32, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}: lengths");
    let scale = b.iter().fold(1.0_f32, |m, v| m.max(v.abs()));
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= tolerance * scale, "{what}: value {i} is {x}, not {y} (scale {scale})");
    }
}
