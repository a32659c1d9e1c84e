//! Weights that are computed from the names and shapes of tensors, for tests and benchmarks. Any language can compute the
//! same.
//!
//! Element `i` of a tensor is output `i` of splitmix64 seeded with `fnv1a_64(name) ^ seed`. Its upper 24 bits give a `u` in
//! [0, 1) that float32 can represent; `v = 2u - 1` is then scaled according to what the tensor is for. Everything is
//! computed in float64 and rounded to float32 at the end, as in the Python reference, so that values agree to the last bit.

use rayon::prelude::*;

/// Values per parallel task: enough to make the cost of a task negligible.
const CHUNK: usize = 1 << 15;

/// The row-major values of the tensor with this name and shape.
pub fn synthetic_values(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let key = fnv1a_64(name) ^ seed;
    let Affine { offset, factor } = Affine::of(name, shape);
    let mut values = vec![0f32; shape.iter().product()];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        let first = chunk * CHUNK;
        for (i, value) in values.iter_mut().enumerate() {
            let v = 2.0 * uniform(key, (first + i) as u64) - 1.0;
            *value = factor.apply(offset, v) as f32;
        }
    });
    values
}

/// The row-major values of a tensor of an untrained head: weights uniform in ±1/sqrt(fan_in), as PyTorch initialises linear
/// and convolutional layers, and biases 0.
pub(super) fn untrained_values(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let count = shape.iter().product();
    if shape.len() <= 1 {
        return vec![0.0; count];
    }
    let key = fnv1a_64(name) ^ seed;
    let bound = (shape[1..].iter().product::<usize>() as f64).sqrt().recip();
    (0..count as u64).map(|i| ((2.0 * uniform(key, i) - 1.0) * bound) as f32).collect()
}

/// How `v` in [-1, 1) becomes a weight. Operations have the order of the reference, so that rounding is the same.
struct Affine {
    offset: f64,
    factor: Factor,
}

enum Factor {
    /// `offset + a v`
    Scaled(f64),
    /// `outer (offset + a v)`
    Outer(f64, f64),
    /// `gain v sqrt(6 / fan_in)`
    FanIn(f64, f64),
}

impl Factor {
    fn apply(&self, offset: f64, v: f64) -> f64 {
        match *self {
            Self::Scaled(a) => offset + a * v,
            Self::Outer(outer, a) => outer * (offset + a * v),
            Self::FanIn(gain, bound) => gain * v * bound,
        }
    }
}

impl Affine {
    fn of(name: &str, shape: &[usize]) -> Self {
        let (offset, factor) = if name.ends_with("running_mean") {
            (0.0, Factor::Scaled(0.1))
        } else if name.ends_with("running_var") {
            (1.0, Factor::Scaled(0.2))
        } else if name.ends_with("logit_scale") {
            (10f64.ln(), Factor::Scaled(0.1))
        } else if name.ends_with("bias") {
            (0.0, Factor::Scaled(0.05))
        } else if shape.len() <= 1 {
            // The last norm of a residual branch is kept small, or 50 blocks of random numbers would overflow.
            (1.0, Factor::Outer(if name.contains(".bn3.") { 0.2 } else { 1.0 }, 0.1))
        } else {
            let fan_in: usize = shape[1..].iter().product();
            (0.0, Factor::FanIn(gain(name), (6.0 / fan_in as f64).sqrt()))
        };
        Self { offset, factor }
    }
}

fn gain(name: &str) -> f64 {
    if name.ends_with("bbox_pred.weight") {
        0.1
    } else if name.ends_with("cls_score.weight") {
        0.6
    } else if name.contains("fpn.inner_blocks") || name.contains("fpn.layer_blocks") {
        0.35
    } else {
        1.0
    }
}

fn fnv1a_64(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// `u` in [0, 1), a multiple of 2^-24.
#[inline]
fn uniform(key: u64, i: u64) -> f64 {
    let mut z = key.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f64 * (-24f64).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, shape, seed and samples `(index, bits of the float32)`, computed by the Python reference.
    const REFERENCE: &str = include_str!("../../tests/fixtures/checkpoints/synthetic.json");

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        shape: Vec<usize>,
        seed: u64,
        samples: Vec<(usize, u32)>,
    }

    #[test]
    fn every_kind_of_parameter_has_the_reference_bits() {
        let cases: Vec<Case> = serde_json::from_str(REFERENCE).unwrap();
        assert!(cases.len() > 10);
        for case in cases {
            let values = synthetic_values(&case.name, &case.shape, case.seed);
            for (index, bits) in case.samples {
                assert_eq!(values[index].to_bits(), bits, "{} [{index}]", case.name);
            }
        }
    }

    #[test]
    fn an_empty_tensor_has_no_values() {
        assert!(synthetic_values("a.weight", &[0, 3], 1).is_empty());
    }
}
