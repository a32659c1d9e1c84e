//! What one thread does of a convolution: gather and transform tiles, multiply point by point, transform back and write.

use std::ops::Range;

use super::transform::{self, POINTS, SIDE};
use super::{Phase, Winograd};
use crate::kernels::factors::{CHUNK, Factors};
use crate::kernels::memory::{Out, Scratch};
use crate::kernels::micro::{Start, Tile, Words, multiply};
use crate::kernels::simd::{Simd, Task};
use crate::kernels::{Activation, Maps, math};

/// One thread's piece: some tiles, some panels of outputs, every phase.
pub(super) struct Job<'a> {
    pub(super) layer: &'a Winograd,
    pub(super) x: &'a [f32],
    pub(super) maps: Maps,
    pub(super) grid: Maps,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) activation: Activation,
    pub(super) tiles: Range<usize>,
    pub(super) panels: Range<usize>,
    pub(super) out: Out<'a>,
    /// Whether the result is written past the caches.
    pub(super) streamed: bool,
}

impl Task for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (factors, width) = (self.layer.factors, 2 * S::LANES);
        let groups = factors.groups(S::ROWS);
        let words = factors.words(self.layer.inputs);
        let depth = factors.padded_words(self.layer.inputs);
        let rows = groups.padded(self.tiles.len());
        // One cache line more than needed from each point to the next: else all would fall on the same few sets.
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
                for point in 0..POINTS {
                    let right = &phase.words[(panel * POINTS + point) * words * width..][..words * width];
                    let mut first = 0;
                    for size in groups.sizes(self.tiles.len()) {
                        let left = &gathered[point * gathered_stride + first * depth..][..size * depth];
                        let to = products[point * products_stride + first * width..][..size * width].as_mut_ptr();
                        let tile = Tile {
                            to,
                            stride: width,
                            rows: size,
                            columns: width.min((self.layer.outputs - panel * width).next_multiple_of(S::LANES)),
                            start: Start::Zero,
                            activation: Activation::None,
                            further: None,
                        };
                        // SAFETY: the slices above hold all that is read and written.
                        unsafe { multiply(s, size, Words { left, right, count: words, factors }, tile) };
                        first += size;
                    }
                }
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

/// The pixels a tile sees.
struct Seen {
    /// Index of the first one in the batch of maps.
    origin: usize,
    /// Whether its rows and columns are on the map.
    rows: [bool; SIDE],
    columns: [bool; SIDE],
}

impl Job<'_> {
    /// Batch index of a tile, and the row and column (at the scale of the inputs) of its outputs; its inputs begin one before.
    #[inline(always)]
    fn position(&self, tile: usize) -> (usize, usize, usize) {
        let made = SIDE + 1 - self.layer.taps;
        let (row, column) = (tile / self.grid.width, tile % self.grid.width);
        (row / self.grid.height, row % self.grid.height * made, column * made)
    }

    /// Transforms a tile's inputs, Bᵀ d B: point p of word w goes to `to[p * stride + chunk_place(w)]`.
    #[inline(always)]
    fn gather<S: Simd>(&self, s: S, tile: usize, to: &mut [f32], stride: usize, group: usize) {
        let (n, y, x) = self.position(tile);
        let Maps { height, width, .. } = self.maps;
        let (top, left) = (y.wrapping_sub(1), x.wrapping_sub(1));
        let mut seen = Seen {
            // Wraps around where the tile begins before the map; the offset of a pixel that exists wraps back.
            origin: (n * height).wrapping_add(top).wrapping_mul(width).wrapping_add(left),
            rows: [true; SIDE],
            columns: [true; SIDE],
        };
        let inside = fits(top, SIDE, height) && fits(left, SIDE, width);
        if !inside {
            seen.rows = std::array::from_fn(|i| top.wrapping_add(i) < height);
            seen.columns = std::array::from_fn(|j| left.wrapping_add(j) < width);
        }
        let factors = self.layer.factors;
        let whole = inside && self.layer.inputs.is_multiple_of(factors.unit_values());
        // The common cases are compiled by themselves, without branches on what is known here.
        match factors {
            Factors::F32 if whole => self.gather_seen::<S, true>(s, &seen, Factors::F32, to, stride, group),
            Factors::Bf16 if whole => self.gather_seen::<S, true>(s, &seen, Factors::Bf16, to, stride, group),
            factors => self.gather_seen::<S, false>(s, &seen, factors, to, stride, group),
        }
    }

    /// The same for a tile of which every pixel and channel exists, or not.
    #[inline(always)]
    fn gather_seen<S: Simd, const WHOLE: bool>(
        &self,
        s: S,
        seen: &Seen,
        factors: Factors,
        to: &mut [f32],
        stride: usize,
        group: usize,
    ) {
        let unit_words = factors.unit_chunks() * CHUNK;
        let units = factors.padded_words(self.layer.inputs) / unit_words;
        let reach = (SIDE * SIDE - 1) * stride + (units * factors.unit_chunks() - 1) * group * CHUNK + CHUNK;
        let to = to[..reach].as_mut_ptr();
        for unit in 0..units {
            for lane in (0..CHUNK).step_by(S::LANES) {
                let channel = unit * factors.unit_values();
                let sources = factors.sources::<S>(lane);
                let first = self.transform_columns::<S, WHOLE>(s, seen, channel + sources[0]);
                // SAFETY: each point's words of this unit lie inside what was checked above.
                unsafe {
                    let to = to.add(unit * unit_words * group + lane);
                    if sources[0] == sources[1] {
                        for i in 0..SIDE {
                            let points = transform::input(s, across(&first, i));
                            store_points(s, factors, [points; 2], to.add(i * SIDE * stride), stride, group);
                        }
                    } else {
                        let second = self.transform_columns::<S, WHOLE>(s, seen, channel + sources[1]);
                        for i in 0..SIDE {
                            let points = [transform::input(s, across(&first, i)), transform::input(s, across(&second, i))];
                            store_points(s, factors, points, to.add(i * SIDE * stride), stride, group);
                        }
                    }
                }
            }
        }
    }

    /// Bᵀ d for a register of channels, zeros past the last one: half of a tile's transform, column by column.
    #[inline(always)]
    fn transform_columns<S: Simd, const WHOLE: bool>(&self, s: S, seen: &Seen, channel: usize) -> [[S::V; SIDE]; SIDE] {
        let column = Column {
            x: self.x,
            inputs: self.layer.inputs,
            width: self.maps.width,
            made: SIDE + 1 - self.layer.taps,
            channel,
        };
        // Written out, so that nothing is zeroed first and nothing copied (a closure would lose the instruction set).
        [
            column.transform::<S, WHOLE>(s, seen, 0),
            column.transform::<S, WHOLE>(s, seen, 1),
            column.transform::<S, WHOLE>(s, seen, 2),
            column.transform::<S, WHOLE>(s, seen, 3),
            column.transform::<S, WHOLE>(s, seen, 4),
            column.transform::<S, WHOLE>(s, seen, 5),
        ]
    }

    /// Transforms a tile's products back, Aᵀ m A, for a register of output channels, and writes what exists.
    #[inline(always)]
    fn scatter<S: Simd, const MADE: usize>(&self, s: S, products: Products<'_>) {
        let (_, top, left) = self.made_at(products);
        let whole = fits(top, MADE, self.maps.height)
            && fits(left, MADE, self.maps.width)
            && fits(products.column, S::LANES, self.layer.outputs)
            && self.residual.is_none();
        // The common cases by themselves, as above.
        match self.activation {
            Activation::None if whole => self.scatter_seen::<S, MADE, true>(s, products, Activation::None),
            Activation::Relu if whole => self.scatter_seen::<S, MADE, true>(s, products, Activation::Relu),
            activation => self.scatter_seen::<S, MADE, false>(s, products, activation),
        }
    }

    /// Batch index of a tile, and the row and column of a phase's outputs; one before the map wraps around.
    #[inline(always)]
    fn made_at(&self, products: Products<'_>) -> (usize, usize, usize) {
        let (n, y, x) = self.position(products.tile);
        let [down, right] = products.phase.offset;
        (n, y.wrapping_sub(down), x.wrapping_sub(right))
    }

    /// The same for a tile of which every pixel and channel exists and which has no residual, or not.
    #[inline(always)]
    fn scatter_seen<S: Simd, const MADE: usize, const WHOLE: bool>(
        &self,
        s: S,
        products: Products<'_>,
        activation: Activation,
    ) {
        let (n, top, left) = self.made_at(products);
        let Products { phase, column, stride, .. } = products;
        let (outputs, scale) = (self.layer.outputs, self.layer.scale);
        let count = if WHOLE { S::LANES } else { (outputs - column).min(S::LANES) };
        let from = products.from[..(POINTS - 1) * stride + S::LANES].as_ptr();
        // SAFETY: a register of every point's products was found there, the bias is padded to whole panels; the writes belong to
        // this tile and these channels alone.
        unsafe {
            let half = [
                half_made::<S, MADE>(s, from, stride),
                half_made::<S, MADE>(s, from.add(stride), stride),
                half_made::<S, MADE>(s, from.add(2 * stride), stride),
                half_made::<S, MADE>(s, from.add(3 * stride), stride),
                half_made::<S, MADE>(s, from.add(4 * stride), stride),
                half_made::<S, MADE>(s, from.add(5 * stride), stride),
            ];
            let bias = s.load(self.layer.bias[column..].as_ptr());
            for i in 0..MADE {
                let made = transform::output::<S, MADE>(s, across(&half, i));
                for j in 0..MADE {
                    let (row, col) = (top.wrapping_add(i), left.wrapping_add(j));
                    if WHOLE || (row < self.maps.height && col < self.maps.width) {
                        let line = (n * self.maps.height + row) * scale + phase.offset[0];
                        let pixel = line * self.maps.width * scale + col * scale + phase.offset[1];
                        let place = pixel * outputs + column;
                        let mut v = s.add(made[j], bias);
                        if let (false, Some(residual)) = (WHOLE, self.residual) {
                            v = s.add(v, s.load_some(residual.as_ptr().add(place), count));
                        }
                        let v = math::activate(s, v, activation);
                        let to = self.out.at(place, count);
                        if WHOLE && self.streamed {
                            s.stream(to, v);
                        } else if count == S::LANES {
                            s.store(to, v);
                        } else {
                            s.store_part(to, v, count);
                        }
                    }
                }
            }
        }
    }
}

/// Writes a row of a tile's points, `stride` words from one to the next.
///
/// # Safety
/// The words of each point must be writable.
#[inline(always)]
unsafe fn store_points<S: Simd>(
    s: S,
    factors: Factors,
    points: [[S::V; SIDE]; 2],
    to: *mut f32,
    stride: usize,
    group: usize,
) {
    for j in 0..SIDE {
        // SAFETY: the caller's promise.
        unsafe { factors.write(s, [points[0][j], points[1][j]], to.add(j * stride), group * CHUNK) };
    }
}

/// Whether `count` values from `first` on, which wraps around before 0, are among `len`.
#[inline(always)]
fn fits(first: usize, count: usize, len: usize) -> bool {
    first.checked_add(count).is_some_and(|end| end <= len)
}

/// A tile's products of one phase, for a register of output channels from `column` on.
#[derive(Clone, Copy)]
struct Products<'a> {
    phase: &'a Phase,
    tile: usize,
    column: usize,
    /// Those of the first point; the next one's lie `stride` values on.
    from: &'a [f32],
    stride: usize,
}

/// Where a tile's inputs are read, for a register of channels.
struct Column<'a> {
    x: &'a [f32],
    inputs: usize,
    width: usize,
    /// Outputs along a side of a tile: how far the next tile begins.
    made: usize,
    channel: usize,
}

impl Column<'_> {
    /// Bᵀ d of column `j`.
    #[inline(always)]
    fn transform<S: Simd, const WHOLE: bool>(&self, s: S, seen: &Seen, j: usize) -> [S::V; SIDE] {
        let count = if WHOLE { S::LANES } else { self.inputs.saturating_sub(self.channel).min(S::LANES) };
        let mut d = [s.splat(0.0); SIDE];
        for i in 0..SIDE {
            if WHOLE || (seen.rows[i] && seen.columns[j]) {
                let pixel = seen.origin.wrapping_add(i * self.width + j);
                let place = pixel.wrapping_mul(self.inputs).wrapping_add(self.channel);
                // What the next tile sees and this one does not is too scattered for the hardware. (Of four outputs that is a column
                // less, which costs less than asking which it is.)
                if j > 0 {
                    s.prefetch(self.x.as_ptr().wrapping_add(place + self.made * self.inputs));
                }
                // SAFETY: `count` channels from here on are inside this pixel, which is on the map.
                d[i] = unsafe { s.load_some(self.x.as_ptr().wrapping_add(place), count) };
            }
        }
        transform::input(s, d)
    }
}

/// Aᵀ m of the column of a tile's products that begins at `from`, `stride` values from one point to the next.
///
/// # Safety
/// A register must be readable at each of the column's points.
#[inline(always)]
unsafe fn half_made<S: Simd, const MADE: usize>(s: S, from: *const f32, stride: usize) -> [S::V; MADE] {
    let mut m = [s.splat(0.0); SIDE];
    for (i, m) in m.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *m = unsafe { s.load(from.add(i * SIDE * stride)) };
    }
    transform::output::<S, MADE>(s, m)
}

/// Row `i` of a half-transformed tile, which lies column by column.
#[inline(always)]
fn across<V: Copy, const ROWS: usize>(columns: &[[V; ROWS]; SIDE], i: usize) -> [V; SIDE] {
    [columns[0][i], columns[1][i], columns[2][i], columns[3][i], columns[4][i], columns[5][i]]
}
