//! AVX2 with FMA.

use std::arch::x86_64::*;

use super::{Simd, SimdTask, to_bf16_pair};

/// Proves that the processor has avx2 and fma; only [`run`] makes one.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// Runs a task compiled for AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) fn run<T: SimdTask>(task: T) -> T::Output {
    task.run(Avx2(()))
}

#[target_feature(enable = "avx2,fma")]
#[inline(never)]
fn apart<T: SimdTask>(s: Avx2, task: T) -> T::Output {
    task.run(s)
}

/// A mask with all bits set in the first `count` lanes.
#[inline(always)]
unsafe fn mask(count: usize) -> __m256i {
    const BITS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    debug_assert!(count <= 8);
    // SAFETY: 8 - count .. 16 - count lies inside BITS.
    unsafe { _mm256_loadu_si256(BITS.as_ptr().add(8 - count).cast()) }
}

/// The first values of bf16 pairs.
#[inline(always)]
unsafe fn low(v: __m256) -> __m256 {
    // SAFETY: only `Avx2` calls this.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(v))) }
}

/// The second values of bf16 pairs.
#[inline(always)]
unsafe fn high(v: __m256) -> __m256 {
    // SAFETY: only `Avx2` calls this.
    unsafe { _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000_u32 as i32))) }
}

// SAFETY (every block below): `self` proves the instructions; the caller vouches for pointers.
impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 6;

    #[inline(always)]
    fn apart<T: SimdTask>(self, task: T) -> T::Output {
        unsafe { apart(self, task) }
    }
    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m256) {
        unsafe { _mm256_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn load_part(self, from: *const f32, count: usize) -> __m256 {
        unsafe { _mm256_maskload_ps(from, mask(count)) }
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: __m256) {
        unsafe { _mm256_stream_ps(to, v) }
    }
    #[inline(always)]
    fn end_stream(self) {
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, v: __m256, count: usize) {
        unsafe { _mm256_maskstore_ps(to, mask(count), v) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn round(self, v: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
    }
    #[inline(always)]
    fn scale(self, v: __m256, power: __m256) -> __m256 {
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(power), _mm256_set1_epi32(127));
            _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        }
    }
    #[inline(always)]
    fn sum(self, v: __m256) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    fn largest(self, v: __m256) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
    #[inline(always)]
    fn dot_bf16(self, acc: __m256, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(low(a), low(b), _mm256_fmadd_ps(high(a), high(b), acc)) }
    }
    #[inline(always)]
    fn to_bf16(self, first: __m256, second: __m256) -> __m256 {
        let mut values = [0.0_f32; 16];
        unsafe {
            _mm256_storeu_ps(values.as_mut_ptr(), first);
            _mm256_storeu_ps(values[8..].as_mut_ptr(), second);
            let pairs: [f32; 8] = std::array::from_fn(|i| to_bf16_pair(values[2 * i], values[2 * i + 1]));
            _mm256_loadu_ps(pairs.as_ptr())
        }
    }
}
