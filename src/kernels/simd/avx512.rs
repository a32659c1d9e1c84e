//! AVX-512, with or without bf16 dot products and AMX tiles.

use std::arch::x86_64::*;

use super::{Simd, SimdTask, Tiles, amx};

/// Proves that the processor has avx512f/bw/dq/vl (with `BF16` also avx512bf16, with `AMX` also configured tiles). Only
/// [`run`], [`run_bf16`] and [`run_amx`] make one.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool, const AMX: bool>(());

/// Runs a task compiled for AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn run<T: SimdTask>(task: T) -> T::Output {
    task.run(Avx512::<false, false>(()))
}

/// Runs a task compiled for AVX-512 with bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) fn run_bf16<T: SimdTask>(task: T) -> T::Output {
    task.run(Avx512::<true, false>(()))
}

/// Runs a task compiled for AVX-512 with bf16, with tile registers configured. [`amx::available`] must have returned true.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn run_amx<T: SimdTask>(task: T) -> T::Output {
    // SAFETY: the caller checked the processor and the system.
    let _tiles = unsafe { amx::Configured::new() };
    task.run(Avx512::<true, true>(()))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
#[inline(never)]
fn apart<T: SimdTask>(s: Avx512<false, false>, task: T) -> T::Output {
    task.run(s)
}

/// Leaves the tile registers as [`run_amx`] has configured them.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
#[inline(never)]
fn apart_bf16<T: SimdTask, const AMX: bool>(s: Avx512<true, AMX>, task: T) -> T::Output {
    task.run(s)
}

/// A mask of the first `count` lanes.
#[inline(always)]
fn mask(count: usize) -> __mmask16 {
    debug_assert!(count <= 16);
    u16::MAX.checked_shr(16 - count as u32).unwrap_or(0)
}

/// The first values of bf16 pairs.
#[inline(always)]
unsafe fn low(v: __m512) -> __m512 {
    // SAFETY: only `Avx512` calls this.
    unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(v))) }
}

/// The second values of bf16 pairs.
#[inline(always)]
unsafe fn high(v: __m512) -> __m512 {
    // SAFETY: only `Avx512` calls this.
    unsafe { _mm512_and_ps(v, _mm512_castsi512_ps(_mm512_set1_epi32(0xffff_0000_u32 as i32))) }
}

/// The high halves of both registers' values, as bf16 pairs.
#[inline(always)]
unsafe fn join_high(first: __m512, second: __m512) -> __m512 {
    // SAFETY: only `Avx512` calls this.
    unsafe {
        let first = _mm512_srli_epi32::<16>(_mm512_castps_si512(first));
        _mm512_castsi512_ps(_mm512_mask_blend_epi16(0xaaaa_aaaa, first, _mm512_castps_si512(second)))
    }
}

/// Rounds to the nearest bf16, ties to even: adds 0x7fff and the lowest kept bit, keeps the high half.
#[inline(always)]
unsafe fn rounded(v: __m512) -> __m256i {
    // SAFETY: only `Avx512` calls this.
    unsafe {
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(sum))
    }
}

// SAFETY (every block below): `self` proves the instructions; the caller vouches for pointers.
impl<const BF16: bool, const AMX: bool> Simd for Avx512<BF16, AMX> {
    type V = __m512;
    const LANES: usize = 16;
    const ROWS: usize = 12;
    const TILES: bool = AMX;

    #[inline(always)]
    fn apart<T: SimdTask>(self, task: T) -> T::Output {
        unsafe { if BF16 { apart_bf16(Avx512::<true, AMX>(()), task) } else { apart(Avx512::<false, false>(()), task) } }
    }
    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn load_part(self, from: *const f32, count: usize) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(mask(count), from) }
    }
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: __m512) {
        unsafe { _mm512_stream_ps(to, v) }
    }
    #[inline(always)]
    fn end_stream(self) {
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, v: __m512, count: usize) {
        unsafe { _mm512_mask_storeu_ps(to, mask(count), v) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn round(self, v: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
    }
    #[inline(always)]
    fn scale(self, v: __m512, power: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(v, power) }
    }
    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(v) }
    }
    #[inline(always)]
    fn largest(self, v: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(v) }
    }
    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
    #[inline(always)]
    fn dot_bf16(self, acc: __m512, a: __m512, b: __m512) -> __m512 {
        unsafe {
            if BF16 {
                return _mm512_dpbf16_ps(
                    acc,
                    std::mem::transmute::<__m512, __m512bh>(a),
                    std::mem::transmute::<__m512, __m512bh>(b),
                );
            }
            _mm512_fmadd_ps(low(a), low(b), _mm512_fmadd_ps(high(a), high(b), acc))
        }
    }
    #[inline(always)]
    fn to_bf16(self, first: __m512, second: __m512) -> __m512 {
        unsafe {
            if BF16 {
                return std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first));
            }
            let low = _mm512_castsi256_si512(rounded(first));
            _mm512_castsi512_ps(_mm512_inserti64x4::<1>(low, rounded(second)))
        }
    }
    #[inline(always)]
    fn pair_bf16(self, first: __m512, second: __m512) -> __m512 {
        unsafe {
            // Values 2i and 2i + 1 of the result are values i and 16 + i of the two registers placed one after the other.
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let order =
                _mm512_add_epi32(_mm512_mullo_epi32(lanes, _mm512_set1_epi32(0x1_0001)), _mm512_set1_epi32(16 << 16));
            let both = _mm512_castps_si512(self.to_bf16(first, second));
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, both))
        }
    }
    #[inline(always)]
    fn split_bf16(self, first: __m512, second: __m512) -> [__m512; 3] {
        unsafe {
            // The high half of an f32's bits is a bf16 value, and subtracting it is exact.
            let heads = [high(first), high(second)];
            let rest = [_mm512_sub_ps(first, heads[0]), _mm512_sub_ps(second, heads[1])];
            let next = [high(rest[0]), high(rest[1])];
            let last = [_mm512_sub_ps(rest[0], next[0]), _mm512_sub_ps(rest[1], next[1])];
            [join_high(first, second), join_high(rest[0], rest[1]), join_high(last[0], last[1])]
        }
    }
    #[inline(always)]
    fn dot_codes(self, rows: [&[u8]; 4], values: &[i16]) -> [i32; 4] {
        assert!(rows.iter().all(|row| row.len() == values.len()));
        unsafe {
            let mut sums = [_mm512_setzero_si512(); 4];
            for at in (0..values.len()).step_by(32) {
                let mask = u32::MAX >> (32 - (values.len() - at).min(32));
                let values = _mm512_maskz_loadu_epi16(mask, values.as_ptr().add(at));
                for (sum, row) in sums.iter_mut().zip(rows) {
                    let codes = _mm256_maskz_loadu_epi8(mask, row.as_ptr().add(at).cast());
                    *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(_mm512_cvtepi8_epi16(codes), values));
                }
            }
            sums.map(|sum| _mm512_reduce_add_epi32(sum))
        }
    }
    #[inline(always)]
    unsafe fn multiply_tiles(self, tiles: Tiles<'_>) {
        debug_assert!(AMX);
        // SAFETY: `AMX` proves that tiles are configured; the caller vouches for pointers.
        unsafe { amx::multiply(tiles) }
    }
}
