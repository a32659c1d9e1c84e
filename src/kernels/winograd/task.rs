//! One thread's share of a Winograd convolution: gather and transform tiles, multiply point by point, transform back and
//! write.

use std::ops::Range;

use super::transform::{POINTS, SIDE};
use super::{Winograd, WinogradPhase};
use crate::factors::{CHUNK, Factors};
use crate::memory::{Out, Scratch};
use crate::micro::{ProductSides, Start, Tile, multiply};
use crate::simd::{Simd, SimdTask};
use crate::{LayerActivation, Maps};

/// The share of one thread: some tiles and some panels of outputs, in every phase.
pub(super) struct WinogradTask<'a> {
    pub(super) layer: &'a Winograd,
    pub(super) x: &'a [f32],
    pub(super) maps: Maps,
    pub(super) grid: Maps,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) activation: LayerActivation,
    pub(super) tiles: Range<usize>,
    pub(super) panels: Range<usize>,
    pub(super) out: Out<'a>,
    /// Whether stores bypass the caches.
    pub(super) streamed: bool,
}

impl SimdTask for WinogradTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (factors, width) = (self.layer.factors, 2 * S::LANES);
        let groups = factors.groups(S::ROWS);
        let words = factors.words(self.layer.inputs);
        let depth = factors.padded_words(self.layer.inputs);
        let rows = groups.padded(self.tiles.len());
        // One cache line of padding per point: otherwise all points would fall on the same few cache sets.
        let (gathered_stride, products_stride) = (rows * depth + CHUNK, rows * width + CHUNK);
        let mut gathered = Scratch::take(POINTS * gathered_stride);
        let mut products = Scratch::take(POINTS * products_stride);
        let mut first = 0;
        for size in groups.sizes(self.tiles.len()) {
            for r in 0..size.min(self.tiles.len() - first) {
                // [point][group][chunk][row in group][CHUNK]
                let place = &mut gathered[first * depth + r * CHUNK..];
                self.gather(s, self.tiles.start + first + r, place, gathered_stride, size);
            }
            first += size;
        }
        for phase in &self.layer.phases {
            for panel in self.panels.clone() {
                s.apart(PointProducts {
                    factors,
                    words,
                    depth,
                    tiles: self.tiles.len(),
                    columns: width.min((self.layer.outputs - panel * width).next_multiple_of(S::LANES)),
                    left: (&gathered, gathered_stride),
                    right: &phase.words[panel * POINTS * words * width..][..POINTS * words * width],
                    to: (&mut products, products_stride),
                });
                for (i, tile) in self.tiles.clone().enumerate() {
                    for column in [panel * width, panel * width + S::LANES] {
                        if column < self.layer.outputs {
                            let from = &products[i * width + column - panel * width..];
                            let products = Products { phase, tile, column, from, stride: products_stride };
                            if self.layer.taps == 3 {
                                self.scatter::<S, 4>(s, products);
                            } else {
                                self.scatter::<S, 5>(s, products);
                            }
                        }
                    }
                }
            }
        }
        if self.streamed {
            s.end_stream();
        }
    }
}

/// The products of one panel of outputs, point by point.
struct PointProducts<'a> {
    factors: Factors,
    /// Words of the inner dimension, and of a row of gathered tiles.
    words: usize,
    depth: usize,
    tiles: usize,
    /// Columns of the panel that are wanted.
    columns: usize,
    /// Gathered tiles, and values from one point to the next.
    left: (&'a [f32], usize),
    /// [point][word][panel width]
    right: &'a [f32],
    /// [point][tile][panel width], and values from one point to the next.
    to: (&'a mut [f32], usize),
}

impl SimdTask for PointProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { factors, words, depth, tiles, columns, left: (gathered, gathered_stride), right, to } = self;
        let (products, products_stride) = to;
        let width = 2 * S::LANES;
        for point in 0..POINTS {
            let right = &right[point * words * width..][..words * width];
            let mut first = 0;
            for size in factors.groups(S::ROWS).sizes(tiles) {
                let left = &gathered[point * gathered_stride + first * depth..][..size * depth];
                let to = products[point * products_stride + first * width..][..size * width].as_mut_ptr();
                let (start, activation) = (Start::Zero, LayerActivation::None);
                let tile = Tile { to, stride: width, rows: size, columns, start, activation, further: None };
                // SAFETY: the slices above cover all that is read and written.
                unsafe { multiply(s, size, ProductSides { left, right, count: words, factors }, tile) };
                first += size;
            }
        }
    }
}

impl WinogradTask<'_> {
    /// Index of a tile's map, and the row and column of its outputs in units of input pixels. The tile's inputs begin one
    /// pixel before them.
    #[inline(always)]
    pub(super) fn position(&self, tile: usize) -> (usize, usize, usize) {
        let made = SIDE + 1 - self.layer.taps;
        let (row, column) = (tile / self.grid.width, tile % self.grid.width);
        (row / self.grid.height, row % self.grid.height * made, column * made)
    }
}

/// A tile's products in one phase, for the register of output channels that starts at `column`.
#[derive(Clone, Copy)]
pub(super) struct Products<'a> {
    pub(super) phase: &'a WinogradPhase,
    pub(super) tile: usize,
    pub(super) column: usize,
    /// The products of the first point; those of the next point lie `stride` values on.
    pub(super) from: &'a [f32],
    pub(super) stride: usize,
}

/// Whether `count` values from `first` on lie within `len`. `first` wraps around if it is before 0.
#[inline(always)]
pub(super) fn fits(first: usize, count: usize, len: usize) -> bool {
    first.checked_add(count).is_some_and(|end| end <= len)
}
