//! Plain Rust, for processors without code of their own, and for Miri.

use super::{Simd, SimdTask, bf16_pair, to_bf16_pair};

const LANES: usize = 8;

/// Needs no special instructions, so anyone may make one.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(never)]
fn apart<T: SimdTask>(task: T) -> T::Output {
    task.run(Portable)
}

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type V = [f32; LANES];
    const LANES: usize = LANES;
    const ROWS: usize = 6;

    #[inline(always)]
    fn apart<T: SimdTask>(self, task: T) -> T::Output {
        apart(task)
    }
    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::V {
        // SAFETY: the caller vouches for LANES values.
        unsafe { from.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: Self::V) {
        // SAFETY: the caller vouches for LANES values.
        unsafe { to.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_part(self, from: *const f32, count: usize) -> Self::V {
        let mut v = [0.0; LANES];
        // SAFETY: the caller vouches for `count` values.
        unsafe { std::ptr::copy_nonoverlapping(from, v.as_mut_ptr(), count) };
        v
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, v: Self::V, count: usize) {
        // SAFETY: the caller vouches for `count` values.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), to, count) }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Not `f32::mul_add`, which is a library call where the processor has no such instruction.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn round(self, v: Self::V) -> Self::V {
        v.map(f32::round_ties_even)
    }
    #[inline(always)]
    fn scale(self, v: Self::V, power: Self::V) -> Self::V {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in -126 ..= 127")]
        zip(v, power, |v, p| v * f32::from_bits(((p as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        v.iter().sum()
    }
    #[inline(always)]
    fn largest(self, v: Self::V) -> f32 {
        v.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    fn dot_bf16(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| {
            let ([a0, a1], [b0, b1]) = (bf16_pair(a[i]), bf16_pair(b[i]));
            acc[i] + a0 * b0 + a1 * b1
        })
    }
    #[inline(always)]
    fn to_bf16(self, first: Self::V, second: Self::V) -> Self::V {
        let value = |i: usize| if i < Self::LANES { first[i] } else { second[i - Self::LANES] };
        std::array::from_fn(|i| to_bf16_pair(value(2 * i), value(2 * i + 1)))
    }
}
