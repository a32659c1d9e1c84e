//! The safety net: a fused operator is used only where it has given what its plain form gives, on the device at hand.
//!
//! Drivers and GPUs differ, and a kernel that works on one may be refused by another. So when a model is loaded, each fused
//! operator runs once for every shape that the model has, on made-up values, beside its plain form. A kernel that goes beyond its
//! memory is not caught here: the device then fails for the whole process. The tests look for that.

use std::collections::HashMap;
use std::sync::Mutex;

use candle_core::{DType, Device, Result, Tensor};

use crate::sync::IgnorePoison;

/// An operator and what its kernel depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::ops) struct Subject {
    /// What the log calls it.
    pub(in crate::ops) operator: &'static str,
    /// Widths, windows, heads and the like.
    pub(in crate::ops) sizes: Vec<usize>,
}

/// What has been compared so far, with the result.
#[derive(Debug, Default)]
pub(super) struct Trust(Mutex<HashMap<Subject, bool>>);

impl Trust {
    /// As [`FusedOps::trusts`](super::FusedOps::trusts).
    pub(super) fn holds(
        &self,
        subject: Subject,
        plain: impl FnOnce() -> Result<Tensor>,
        fused: impl FnOnce() -> Result<Tensor>,
    ) -> Result<bool> {
        if let Some(known) = self.0.lock().ignore_poison().get(&subject) {
            return Ok(*known);
        }
        // Layers are loaded on several threads, and operators may use the same threads: nothing is locked while they run.
        let reference = plain()?;
        let tolerance = tolerance(reference.dtype());
        let reference = values(&reference)?;
        let refusal = match fused().and_then(|result| values(&result)) {
            Ok(result) => difference(&result, &reference, tolerance),
            Err(error) => error.to_string().lines().next().map(str::to_owned),
        };
        let before = self.0.lock().ignore_poison().insert(subject.clone(), refusal.is_none());
        if let (Some(reason), None) = (&refusal, before) {
            let Subject { operator, sizes } = subject;
            tracing::warn!(operator, ?sizes, %reason, "the fused form fails on this device: plain operations are used");
        }
        Ok(refusal.is_none())
    }
}

/// The largest difference that rounding explains, over the largest value: bfloat16 has 8 significant bits, float16 has 11, and the
/// scale of attention's logits, up to 100, magnifies what float32 loses.
fn tolerance(dtype: DType) -> f32 {
    match dtype {
        DType::BF16 => 3e-2,
        DType::F16 => 4e-3,
        _ => 1e-3,
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// Says how `result` differs from `reference` by more than `tolerance`, if it does.
pub(super) fn difference(result: &[f32], reference: &[f32], tolerance: f32) -> Option<String> {
    if result.len() != reference.len() {
        return Some(format!("{} values instead of {}", result.len(), reference.len()));
    }
    let most = reference.iter().fold(0f32, |most, value| most.max(value.abs()));
    let gap =
        |(ours, theirs): (&f32, &f32)| if (ours - theirs).is_finite() { (ours - theirs).abs() } else { f32::INFINITY };
    let gap = result.iter().zip(reference).map(gap).fold(0f32, f32::max);
    (gap > tolerance * most)
        .then(|| format!("values of up to {most:.1e} differ by up to {gap:.1e}, allowed is {tolerance:.0e} of them"))
}

/// Made-up values between -1 and 1, the same every time.
///
/// # Errors
/// If the device is out of memory.
pub(in crate::ops) fn sample(shape: &[usize], device: &Device, dtype: DType) -> Result<Tensor> {
    /// A multiplier of Knuth's linear congruential generators.
    const STEP: u64 = 6_364_136_223_846_793_005;
    let mut state = 1u64;
    let mut value = || {
        state = state.wrapping_mul(STEP).wrapping_add(1);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    let values = (0..shape.iter().product()).map(|_| value()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
}
