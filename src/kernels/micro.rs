//! The matrix micro-kernel: a tile of a few rows by two registers of columns, whose sums stay in registers while the inner
//! dimension is read. Every matrix product on vector registers ends here.

use std::mem::MaybeUninit;

use super::factors::{CHUNK, Factors};
use super::simd::Simd;
use super::{LayerActivation, math};

/// How far ahead the right-hand side is prefetched, in values.
const AHEAD: usize = 1024;

/// Both sides of a product over `count` words.
#[derive(Clone, Copy)]
pub(crate) struct ProductSides<'a> {
    /// One group of rows, [chunk][row][CHUNK].
    pub(crate) left: &'a [f32],
    /// One panel, [word][2 * LANES].
    pub(crate) right: &'a [f32],
    pub(crate) count: usize,
    pub(crate) factors: Factors,
}

/// The initial value of the accumulators.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    /// Zeros.
    Zero,
    /// A bias for each column (2 * LANES values), plus a residual with the result's layout.
    Bias { bias: *const f32, residual: Option<*const f32> },
    /// The result's present values, left by an earlier block of the inner dimension.
    Partial,
}

/// Where and how a tile is written.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) to: *mut f32,
    /// Values from the start of a row to the start of the next.
    pub(crate) stride: usize,
    /// Rows and columns that exist; the rest of the tile is dropped.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) start: Start,
    pub(crate) activation: LayerActivation,
    /// `None` for a tile of a matrix; `Some` for words of the left-hand side of a following product.
    pub(crate) further: Option<Further>,
}

/// A tile's position on the left-hand side of a following product, where `Tile::to` is the start of its group of rows. All
/// rows and both registers of columns are written.
#[derive(Clone, Copy)]
pub(crate) struct Further {
    pub(crate) factors: Factors,
    /// The tile's first column.
    pub(crate) column: usize,
}

/// Multiplies one group of `size` rows (one of [`Factors::groups`]) with one panel.
///
/// # Safety
/// The sides must hold `count` words for `size` rows and two registers of columns (`left` need not be rounded up to chunks).
/// The tile's pointers must be valid for its rows and columns, and this thread alone may write to `to`.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd>(s: S, size: usize, sides: ProductSides<'_>, tile: Tile) {
    debug_assert!(sides.right.len() >= sides.count * 2 * S::LANES);
    debug_assert!(sides.left.len() >= sides.count / CHUNK * CHUNK * size);
    // SAFETY: the caller's promise.
    unsafe {
        match (S::ROWS, size) {
            (12, 12) => by_width::<S, 12>(s, sides, tile),
            (12, 8) => by_width::<S, 8>(s, sides, tile),
            (12, 4) => by_width::<S, 4>(s, sides, tile),
            (6, 6) => by_width::<S, 6>(s, sides, tile),
            (6, 4) => by_width::<S, 4>(s, sides, tile),
            _ => by_width::<S, 2>(s, sides, tile),
        }
    }
}

/// Skips the second register of columns where the tile has none.
#[inline(always)]
unsafe fn by_width<S: Simd, const R: usize>(s: S, sides: ProductSides<'_>, tile: Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        match (tile.columns > S::LANES, sides.factors == Factors::F32) {
            (true, true) => run::<S, R, 2, false>(s, sides, tile),
            (false, true) => run::<S, R, 1, false>(s, sides, tile),
            (true, false) => run::<S, R, 2, true>(s, sides, tile),
            (false, false) => run::<S, R, 1, true>(s, sides, tile),
        }
    }
}

#[inline(always)]
unsafe fn run<S: Simd, const R: usize, const C: usize, const BF16: bool>(s: S, sides: ProductSides<'_>, tile: Tile) {
    // SAFETY: the caller's promise; every offset stays inside the memory that it covers.
    unsafe {
        let mut acc = begin::<S, R, C>(s, tile);
        let (mut left, mut right) = (sides.left.as_ptr(), sides.right.as_ptr());
        for _ in 0..sides.count / CHUNK {
            for k in 0..CHUNK {
                let row = right.add(k * 2 * S::LANES);
                // The hardware prefetches too, but stops at every page boundary.
                for line in (0..2 * S::LANES).step_by(CHUNK) {
                    s.prefetch(row.wrapping_add(AHEAD + line));
                }
                step::<S, R, C, BF16>(s, &mut acc, left.add(k), row);
            }
            left = left.add(R * CHUNK);
            right = right.add(CHUNK * 2 * S::LANES);
        }
        for k in 0..sides.count % CHUNK {
            step::<S, R, C, BF16>(s, &mut acc, left.add(k), right.add(k * 2 * S::LANES));
        }
        end::<S, R, C>(s, acc, tile);
    }
}

/// One word of the inner dimension. (A closure would not be compiled for the surrounding instruction set.)
#[inline(always)]
unsafe fn step<S: Simd, const R: usize, const C: usize, const BF16: bool>(
    s: S,
    acc: &mut [[S::V; C]; R],
    left: *const f32,
    right: *const f32,
) {
    let mut columns = [s.splat(0.0); C];
    for (c, column) in columns.iter_mut().enumerate() {
        // SAFETY: the panel holds two registers for this word.
        *column = unsafe { s.load(right.add(c * S::LANES)) };
    }
    for (r, row) in acc.iter_mut().enumerate() {
        // SAFETY: the group holds this word for R rows.
        let value = s.splat(unsafe { *left.add(r * CHUNK) });
        for (v, column) in row.iter_mut().zip(columns) {
            *v = if BF16 { s.dot_bf16(*v, value, column) } else { s.mul_add(value, column, *v) };
        }
    }
}

#[inline(always)]
unsafe fn begin<S: Simd, const R: usize, const C: usize>(s: S, tile: Tile) -> [[S::V; C]; R] {
    let mut acc = [[s.splat(0.0); C]; R];
    // SAFETY: rows below `tile.rows` and columns below `tile.columns` exist; the bias is padded to whole panels.
    unsafe {
        match tile.start {
            Start::Zero => {}
            Start::Partial => add_rows(s, &mut acc, tile.to, tile),
            Start::Bias { bias, residual } => {
                for row in &mut acc {
                    for (c, v) in row.iter_mut().enumerate() {
                        *v = s.load(bias.add(c * S::LANES));
                    }
                }
                if let Some(residual) = residual {
                    add_rows(s, &mut acc, residual, tile);
                }
            }
        }
    }
    acc
}

/// Adds a tile that has the result's layout.
#[inline(always)]
unsafe fn add_rows<S: Simd, const R: usize, const C: usize>(s: S, acc: &mut [[S::V; C]; R], from: *const f32, tile: Tile) {
    for (r, row) in acc.iter_mut().enumerate() {
        if r < tile.rows {
            for (c, v) in row.iter_mut().enumerate() {
                // SAFETY: this row and these columns exist.
                let other = unsafe {
                    let from = from.add(r * tile.stride + c * S::LANES);
                    let count = tile.columns - c * S::LANES;
                    if count >= S::LANES { s.load(from) } else { s.load_part(from, count) }
                };
                *v = s.add(*v, other);
            }
        }
    }
}

#[inline(always)]
unsafe fn end<S: Simd, const R: usize, const C: usize>(s: S, acc: [[S::V; C]; R], tile: Tile) {
    if let Some(further) = tile.further {
        // SAFETY: the caller's promise.
        return unsafe { end_further::<S, R, C>(s, acc, tile, further) };
    }
    let (zero, relu) = (s.splat(0.0), tile.activation == LayerActivation::Relu);
    // SAFETY: rows below `tile.rows` and columns below `tile.columns` exist.
    unsafe {
        for (r, row) in acc.iter().enumerate() {
            if r < tile.rows {
                for (c, v) in row.iter().enumerate() {
                    let v = if relu { s.max(*v, zero) } else { *v };
                    let to = tile.to.add(r * tile.stride + c * S::LANES);
                    let count = tile.columns - c * S::LANES;
                    if count >= S::LANES { s.store(to, v) } else { s.store_part(to, v, count) }
                }
            }
        }
        // In a second pass over values that are still in the first-level cache: in the first pass, the accumulators would
        // have to leave their registers.
        if tile.activation == LayerActivation::Gelu {
            for r in 0..tile.rows {
                for c in (0..tile.columns).step_by(S::LANES) {
                    let to = tile.to.add(r * tile.stride + c);
                    let count = (tile.columns - c).min(S::LANES);
                    s.store_part(to, math::gelu(s, s.load_part(to, count)), count);
                }
            }
        }
    }
}

/// Writes the tile as words of a following product, whose chunks hold R rows each.
#[inline(always)]
unsafe fn end_further<S: Simd, const R: usize, const C: usize>(s: S, acc: [[S::V; C]; R], tile: Tile, further: Further) {
    /// Values in the largest tile.
    const MOST: usize = 12 * 2 * CHUNK;
    let Further { factors, column } = further;
    let mut values = MaybeUninit::<[f32; MOST]>::uninit();
    let values: *mut f32 = values.as_mut_ptr().cast();
    debug_assert!(C == 2 && R * C * S::LANES <= MOST);
    // SAFETY: the values are written before they are read, and the words of the tile's columns belong to it.
    unsafe {
        // Stored first, because the activation needs the registers.
        for (r, row) in acc.iter().enumerate() {
            for (c, v) in row.iter().enumerate() {
                s.store(values.add((r * C + c) * S::LANES), *v);
            }
        }
        for r in 0..R {
            let mut row = [s.splat(0.0); 2];
            for (c, v) in row.iter_mut().enumerate().take(C) {
                *v = math::activate(s, s.load(values.add((r * C + c) * S::LANES)), tile.activation);
            }
            if factors == Factors::F32 {
                for (c, v) in row.into_iter().enumerate() {
                    let column = column + c * S::LANES;
                    s.store(tile.to.add((column / CHUNK * R + r) * CHUNK + column % CHUNK), v);
                }
            } else {
                let word = column / 2;
                factors.write(s, row, tile.to.add((word / CHUNK * R + r) * CHUNK + word % CHUNK), 0);
            }
        }
    }
}
