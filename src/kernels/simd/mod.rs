//! The same vector operations for every instruction set, so that each kernel is written once.
//!
//! A [`Simd`] value proves that the processor has the instructions: only [`InstructionSet::run`] makes one, after detection,
//! and kernels receive it as an argument. Register arithmetic is therefore safe to call; memory access is not, because it
//! works on raw pointers.

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
    /// A register of f32 values.
    type V: Copy;
    /// f32 values in a register.
    const LANES: usize;
    /// Rows of the matrix micro-kernel: as many as keep its accumulators (two registers per row) in registers.
    const ROWS: usize;
    /// Whether there are tile registers, see [`Simd::multiply_tiles`].
    const TILES: bool = false;

    fn splat(self, value: f32) -> Self::V;
    unsafe fn load(self, from: *const f32) -> Self::V;
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// Loads the first `count <= LANES` lanes; the others are zero.
    unsafe fn load_part(self, from: *const f32, count: usize) -> Self::V;
    /// As [`Simd::load_part`], without a mask if `count` is a whole register.
    #[inline(always)]
    unsafe fn load_some(self, from: *const f32, count: usize) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { if count == Self::LANES { self.load(from) } else { self.load_part(from, count) } }
    }
    /// A store that bypasses the caches where the processor can do so. [`Simd::end_stream`] must run before other threads
    /// read it.
    ///
    /// # Safety
    /// As for a store, and `to` must be aligned to a register.
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: Self::V) {
        // SAFETY: the caller's promise.
        unsafe { self.store(to, v) }
    }
    /// Makes this thread's streamed stores visible to threads that synchronise with it.
    #[inline(always)]
    fn end_stream(self) {}
    unsafe fn store_part(self, to: *mut f32, v: Self::V, count: usize);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger value; `b` where `a` is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, fused where the processor can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn round(self, v: Self::V) -> Self::V;
    /// `v * 2^power` for whole powers in -126 ..= 127.
    fn scale(self, v: Self::V, power: Self::V) -> Self::V;
    fn sum(self, v: Self::V) -> f32;
    fn largest(self, v: Self::V) -> f32;

    /// Runs `task` as a function of its own. Everything that is inlined into one function is optimised as a whole, at a cost
    /// that grows faster than its size; so a part of a task that is large, and worth more than a call, is a task itself.
    fn apart<T: SimdTask>(self, task: T) -> T::Output;

    /// Prefetches the cache line at `address`, which need not be valid.
    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        let _ = address;
    }

    /// Adds to each lane the two products of the bf16 pairs in that lane of `a` and `b`.
    fn dot_bf16(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Rounds two registers of consecutive values to bf16, as pairs in the lanes of one register (pair i = values 2i and 2i
    /// + 1).
    fn to_bf16(self, first: Self::V, second: Self::V) -> Self::V;

    /// The products of four rows of i8 codes with one row of i16 values, all of one length. Exact while no sum overflows.
    #[inline(always)]
    fn dot_codes(self, rows: [&[u8]; 4], values: &[i16]) -> [i32; 4] {
        rows.map(|row| row.iter().zip(values).map(|(code, value)| i32::from(*code as i8) * i32::from(*value)).sum())
    }

    /// Splits the values of two registers into three bf16 parts each; a pair holds one value of each register. Only with
    /// [`Simd::TILES`].
    #[inline(always)]
    fn split_bf16(self, first: Self::V, second: Self::V) -> [Self::V; 3] {
        let _ = (first, second);
        unreachable!("only asked of instruction sets with tiles");
    }

    /// Rounds the values of two registers to bf16; a pair holds one value of each register. Only for sets that
    /// [`InstructionSet::gains_from_bf16`].
    #[inline(always)]
    fn pair_bf16(self, first: Self::V, second: Self::V) -> Self::V {
        let _ = (first, second);
        unreachable!("only asked of instruction sets that gain from bf16");
    }

    /// Multiplies bf16 pairs in tile registers. Only with [`Simd::TILES`].
    #[inline(always)]
    unsafe fn multiply_tiles(self, tiles: Tiles<'_>) {
        let _ = tiles;
        unreachable!("only asked of instruction sets with tiles");
    }
}

/// A product of 32 rows and 32 columns: `to` becomes left * right, summed over the products of both bf16 halves of all
/// words.
///
/// A step of the inner dimension is 16 words of every row and column, or 48 words for split factors.
#[derive(Clone, Copy)]
pub(crate) struct Tiles<'a> {
    /// Start of the first 16 rows and of the last 16 rows.
    pub(crate) left: [*const f32; 2],
    /// Bytes from these starts to the first row of each step.
    pub(crate) offsets: &'a [usize],
    /// Bytes from one row to the next; each row has 16 words.
    pub(crate) row_bytes: usize,
    /// Bytes from one part of split values to the next.
    pub(crate) part_bytes: usize,
    /// [step][part][16 words][32 columns]
    pub(crate) right: *const f32,
    /// Whether all 32 columns are wanted, or only the first 16.
    pub(crate) wide: bool,
    /// Whether values are split into three parts.
    pub(crate) split: bool,
    /// The result, f32.
    pub(crate) to: *mut f32,
    /// Bytes from one row of the result to the next.
    pub(crate) stride_bytes: usize,
}

/// A piece of work that is compiled for every instruction set.
pub(crate) trait SimdTask {
    type Output;
    /// Whether it uses tile registers where they exist. They are configured only for such tasks.
    const TILES: bool = false;
    /// This function, and every function that it passes `simd` to, must be `#[inline(always)]`: only then is it compiled for
    /// the instruction set.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// The two values of a bf16 pair as f32: the first sits in the low 16 bits.
fn bf16_pair(word: f32) -> [f32; 2] {
    let bits = word.to_bits();
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
}

/// Two f32 values rounded to a bf16 pair, carried in the bits of an f32.
pub(crate) fn to_bf16_pair(first: f32, second: f32) -> f32 {
    let bits = |v: f32| u32::from(half::bf16::from_f32(v).to_bits());
    f32::from_bits(bits(first) | (bits(second) << 16))
}
