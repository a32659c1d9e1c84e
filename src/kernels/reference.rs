//! Slow, simple forms of the kernels, summed in f64, that the tests compare the kernels with.

use super::{LayerActivation, Maps};

/// Reproducible pseudo-random values in -1 .. 1.
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

pub(crate) fn activate(v: f64, activation: LayerActivation) -> f64 {
    match activation {
        LayerActivation::None => v,
        LayerActivation::Relu => v.max(0.0),
        // erf(z) by its Taylor series, accurate to f64 rounding for the small values that tests use.
        LayerActivation::Gelu => {
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
    activation: LayerActivation,
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

/// A square convolution over [N, H, W, inputs], weights [outputs, inputs, kernel, kernel].
pub(crate) struct NaiveConvolution {
    pub(crate) maps: Maps,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl NaiveConvolution {
    pub(crate) fn run(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        residual: Option<&[f32]>,
        activation: LayerActivation,
    ) -> Vec<f32> {
        let Self { maps, inputs, outputs, kernel, stride, padding } = *self;
        let size = |side: usize| (side + 2 * padding - kernel) / stride + 1;
        let (height, width) = (size(maps.height), size(maps.width));
        (0..maps.count * height * width * outputs)
            .map(|i| {
                let (o, pixel) = (i % outputs, i / outputs);
                let (column, row, n) = (pixel % width, pixel / width % height, pixel / width / height);
                let mut sum = bias.get(o).map_or(0.0, |b| f64::from(*b)) + residual.map_or(0.0, |r| f64::from(r[i]));
                for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
                    let (y, x_at) =
                        ((row * stride + ky).wrapping_sub(padding), (column * stride + kx).wrapping_sub(padding));
                    if y < maps.height && x_at < maps.width {
                        for c in 0..inputs {
                            let value = x[((n * maps.height + y) * maps.width + x_at) * inputs + c];
                            sum += f64::from(value) * f64::from(weight[((o * inputs + c) * kernel + ky) * kernel + kx]);
                        }
                    }
                }
                activate(sum, activation) as f32
            })
            .collect()
    }
}

/// A 4x4 transposed convolution, stride 2, padding 1, weights [inputs, outputs, 4, 4].
pub(crate) fn transposed(x: &[f32], maps: Maps, weight: &[f32], bias: &[f32], outputs: usize, inputs: usize) -> Vec<f32> {
    let (height, width) = (2 * maps.height, 2 * maps.width);
    let mut y = vec![0.0_f64; maps.count * height * width * outputs];
    for (i, y) in y.iter_mut().enumerate() {
        *y = f64::from(bias[i % outputs]);
    }
    for pixel in 0..maps.pixels() {
        let (column, row, n) = (pixel % maps.width, pixel / maps.width % maps.height, pixel / maps.width / maps.height);
        for (ky, kx) in (0..4).flat_map(|ky| (0..4).map(move |kx| (ky, kx))) {
            let (oy, ox) = ((2 * row + ky).wrapping_sub(1), (2 * column + kx).wrapping_sub(1));
            if oy < height && ox < width {
                for (c, o) in (0..inputs).flat_map(|c| (0..outputs).map(move |o| (c, o))) {
                    let product =
                        f64::from(x[pixel * inputs + c]) * f64::from(weight[((c * outputs + o) * 4 + ky) * 4 + kx]);
                    y[((n * height + oy) * width + ox) * outputs + o] += product;
                }
            }
        }
    }
    y.into_iter().map(|v| v as f32).collect()
}
