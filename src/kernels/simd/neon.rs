//! NEON, which every 64-bit ARM processor has.

use std::arch::aarch64::*;

use super::{Simd, SimdTask, to_bf16_pair};

/// NEON is part of the aarch64 baseline, so a value can be made without detection.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    pub(super) fn new() -> Self {
        Self(())
    }
}

#[inline(never)]
fn apart<T: SimdTask>(s: Neon, task: T) -> T::Output {
    task.run(s)
}

/// The first values of bf16 pairs.
#[inline(always)]
unsafe fn low(v: float32x4_t) -> float32x4_t {
    // SAFETY: only `Neon` calls this.
    unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(v))) }
}

/// The second values of bf16 pairs.
#[inline(always)]
unsafe fn high(v: float32x4_t) -> float32x4_t {
    // SAFETY: only `Neon` calls this.
    unsafe { vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vdupq_n_u32(0xffff_0000))) }
}

// SAFETY (every block below): NEON is always available; the caller vouches for pointers.
impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const ROWS: usize = 12;

    #[inline(always)]
    fn apart<T: SimdTask>(self, task: T) -> T::Output {
        apart(self, task)
    }
    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: float32x4_t) {
        unsafe { vst1q_f32(to, v) }
    }
    #[inline(always)]
    unsafe fn load_part(self, from: *const f32, count: usize) -> float32x4_t {
        let mut lanes = [0.0_f32; 4];
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
            vld1q_f32(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, v: float32x4_t, count: usize) {
        let mut lanes = [0.0_f32; 4];
        unsafe {
            vst1q_f32(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
        }
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmaxnmq_f32(a, b) }
    }
    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vminnmq_f32(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    fn round(self, v: float32x4_t) -> float32x4_t {
        unsafe { vrndnq_f32(v) }
    }
    #[inline(always)]
    fn scale(self, v: float32x4_t, power: float32x4_t) -> float32x4_t {
        unsafe {
            let biased = vaddq_s32(vcvtnq_s32_f32(power), vdupq_n_s32(127));
            vmulq_f32(v, vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased)))
        }
    }
    #[inline(always)]
    fn sum(self, v: float32x4_t) -> f32 {
        unsafe { vaddvq_f32(v) }
    }
    #[inline(always)]
    fn largest(self, v: float32x4_t) -> f32 {
        unsafe { vmaxvq_f32(v) }
    }
    #[inline(always)]
    fn dot_bf16(self, acc: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(vfmaq_f32(acc, high(a), high(b)), low(a), low(b)) }
    }
    #[inline(always)]
    fn to_bf16(self, first: float32x4_t, second: float32x4_t) -> float32x4_t {
        let mut values = [0.0_f32; 8];
        unsafe {
            vst1q_f32(values.as_mut_ptr(), first);
            vst1q_f32(values[4..].as_mut_ptr(), second);
            let pairs: [f32; 4] = std::array::from_fn(|i| to_bf16_pair(values[2 * i], values[2 * i + 1]));
            vld1q_f32(pairs.as_ptr())
        }
    }
}
