//! One vocabulary of vector operations for every instruction set, so that each kernel is written once.
//!
//! A [`Simd`] value is a proof that the processor has the instructions: only [`dispatch`] makes one, after asking the
//! processor, and kernels receive it as an argument. Register arithmetic is therefore safe to call; memory access is
//! not, because it works on raw pointers.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod instruction_set;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

pub(crate) use self::instruction_set::{InstructionSet, dispatch};

/// Vector operations of one instruction set.
///
/// # Safety
/// Of all `unsafe` functions here: `count` lanes (or [`Simd::LANES`]) must be readable or writable at the pointer.
pub(crate) trait Simd: Copy + Send + Sync {
    /// A register of [`Simd::LANES`] f32 values.
    type V: Copy;
    /// f32 values in a register.
    const LANES: usize;
    /// Rows of the matrix micro-kernel: as many as leave its accumulators (two registers a row) in registers.
    const ROWS: usize;
    /// Whether there are registers that hold whole tiles of a matrix, see [`Simd::multiply_tiles`].
    const TILES: bool = false;

    fn splat(self, value: f32) -> Self::V;
    unsafe fn load(self, from: *const f32) -> Self::V;
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// The first `count <= LANES` lanes, zeros after them.
    unsafe fn load_part(self, from: *const f32, count: usize) -> Self::V;
    /// The same, without a mask for a whole register.
    #[inline(always)]
    unsafe fn load_some(self, from: *const f32, count: usize) -> Self::V {
        // SAFETY: as both demand of the caller.
        unsafe { if count == Self::LANES { self.load(from) } else { self.load_part(from, count) } }
    }
    /// A store that goes past the caches where the processor has one. [`Simd::end_stream`] comes before others read it.
    ///
    /// # Safety
    /// As for a store, and `to` must be aligned to a register.
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: Self::V) {
        // SAFETY: handed on.
        unsafe { self.store(to, v) }
    }
    /// Makes what this thread has streamed visible to whoever it synchronises with.
    #[inline(always)]
    fn end_stream(self) {}
    unsafe fn store_part(self, to: *mut f32, v: Self::V, count: usize);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger; where `a` is NaN, `b`.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, fused where the processor can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn round(self, v: Self::V) -> Self::V;
    /// `v * 2^power` for whole powers in -126 ..= 127.
    fn scale(self, v: Self::V, power: Self::V) -> Self::V;
    fn sum(self, v: Self::V) -> f32;
    fn largest(self, v: Self::V) -> f32;

    /// Asks for the cache line at `address`, which need not be valid.
    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        let _ = address;
    }

    /// Adds to each lane the two products of the bf16 pairs held in the lanes of `a` and `b`.
    fn dot_bf16(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Two registers of values one after the other, rounded to bf16, as pairs in the lanes of one (pair i = values 2i, 2i + 1).
    fn to_bf16(self, first: Self::V, second: Self::V) -> Self::V;

    /// The three bf16 parts whose sums the values of two registers are, as pairs of a value of either, where there are
    /// [`Simd::TILES`].
    #[inline(always)]
    fn split_bf16(self, first: Self::V, second: Self::V) -> [Self::V; 3] {
        let _ = (first, second);
        unreachable!("only asked of instruction sets with tiles");
    }

    /// The values of two registers rounded to bf16, as pairs of a value of either, on [`InstructionSet`]s that gain from bf16.
    #[inline(always)]
    fn pair_bf16(self, first: Self::V, second: Self::V) -> Self::V {
        let _ = (first, second);
        unreachable!("only asked of instruction sets that gain from bf16");
    }

    /// Products of bf16 pairs in tile registers, where [`Simd::TILES`] says that there are some.
    #[inline(always)]
    unsafe fn multiply_tiles(self, tiles: Tiles<'_>) {
        let _ = tiles;
        unreachable!("only asked of instruction sets with tiles");
    }
}

/// 32 rows times 32 columns: `to` becomes left * right, the sum over all words of the products of both bf16 halves.
///
/// A step of the inner dimension is 16 words of every row and column, or three times as many where factors are split.
#[derive(Clone, Copy)]
pub(crate) struct Tiles<'a> {
    /// Where the first and the last 16 rows begin.
    pub(crate) left: [*const f32; 2],
    /// Bytes from there to the first row of each step.
    pub(crate) offsets: &'a [usize],
    /// Bytes from a row to the next, each with 16 words of its own.
    pub(crate) row_bytes: usize,
    /// Bytes from a part of split values to the next.
    pub(crate) part_bytes: usize,
    /// [step][part][16 words][32 columns]
    pub(crate) right: *const f32,
    /// Whether all columns are wanted, not the first 16 alone.
    pub(crate) wide: bool,
    /// Whether values are split into three parts.
    pub(crate) split: bool,
    /// The result.
    pub(crate) to: *mut f32,
    /// Bytes from one of its rows to the next.
    pub(crate) stride_bytes: usize,
}

/// A piece of work that can run on any instruction set.
pub(crate) trait SimdTask {
    type Output;
    /// Whether it multiplies tiles where there are any: only then are they configured for it.
    const TILES: bool = false;
    /// Must be `#[inline(always)]`, as must be what it calls with `simd`: only then is it compiled for that set.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// The two halves of a bf16 pair as f32: the first value sits in the low 16 bits.
fn bf16_pair(word: f32) -> [f32; 2] {
    let bits = word.to_bits();
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
}

/// Two f32 values rounded to a bf16 pair, carried in the bits of an f32.
pub(crate) fn to_bf16_pair(first: f32, second: f32) -> f32 {
    let bits = |v: f32| u32::from(half::bf16::from_f32(v).to_bits());
    f32::from_bits(bits(first) | (bits(second) << 16))
}
