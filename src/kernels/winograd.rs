//! Convolutions with few multiplications: 3x3 (stride 1, padding 1) as Winograd's F(4x4, 3x3), and 4x4 transposed ones
//! (stride 2, padding 1) as four interleaved 2x2 convolutions, each an F(5x5, 2x2).
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. Both forms evaluate polynomials at the
//! same six points (0, ±1, ±2, ∞) and so share the input transform; a tile is 6x6 inputs, and 36 matrix products over
//! the channels replace the 9 (or 4) of every output. The result differs from the direct form by about 1e-6 of the
//! largest value. A block of tiles stays in the second-level cache from its gathering to its last output.

use std::ops::Range;

use rayon::prelude::*;

use super::gemm::share;
use super::memory::{Aligned, Out, Scratch};
use super::micro::{CHUNK, Start, Tile, Words, group_sizes, multiply};
use super::simd::{Level, Simd, Task};
use super::{Activation, Precision, math};

/// Inputs along a side of a tile, and points of evaluation.
const SIDE: usize = 6;
const POINTS: usize = SIDE * SIDE;
/// Values of transformed tiles a job keeps: most of a second-level cache.
const JOB_VALUES: usize = 150_000;

/// The kernel's side of F(m, r): row i holds the powers of point i, scaled as the input transform needs it.
const KERNEL_TRANSFORM: [[f64; 3]; SIDE] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// A prepared convolution over [N, H, W, inputs] maps.
#[derive(Debug)]
pub struct Winograd {
    phases: Vec<Phase>,
    inputs: usize,
    outputs: usize,
    /// Taps of each phase along a side: 3 or 2.
    taps: usize,
    /// Outputs per input along a side, which is also the square root of the number of phases.
    scale: usize,
    bias: Aligned,
    level: Level,
}

/// The outputs at one offset modulo the scale: a convolution of its own.
#[derive(Debug)]
struct Phase {
    /// Which output of each `scale` x `scale` block it makes.
    offset: [usize; 2],
    /// Where a tile's inputs begin, before or at the position of its first output.
    padding: [usize; 2],
    /// [panel][point][input][panel width]
    words: Aligned,
}

/// A batch of channels-last maps without its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maps {
    /// N
    pub count: usize,
    /// H
    pub height: usize,
    /// W
    pub width: usize,
}

impl Maps {
    /// N H W
    pub fn pixels(self) -> usize {
        self.count * self.height * self.width
    }
}

impl Winograd {
    /// A 3x3 convolution, stride 1, padding 1: `weight` [outputs, inputs, 3, 3], `bias` `[outputs]` or empty.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn convolution(weight: &[f32], bias: &[f32], outputs: usize, inputs: usize) -> Self {
        Self::convolution_for(Level::detect(), weight, bias, outputs, inputs)
    }

    /// A 4x4 transposed convolution, stride 2, padding 1: `weight` [inputs, outputs, 4, 4], `bias` `[outputs]` or empty.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn transposed(weight: &[f32], bias: &[f32], outputs: usize, inputs: usize) -> Self {
        Self::transposed_for(Level::detect(), weight, bias, outputs, inputs)
    }

    fn convolution_for(level: Level, weight: &[f32], bias: &[f32], outputs: usize, inputs: usize) -> Self {
        assert_eq!(weight.len(), outputs * inputs * 9, "weight is [outputs, inputs, 3, 3]");
        let tap = |o: usize, i: usize, y: usize, x: usize| weight[((o * inputs + i) * 3 + y) * 3 + x];
        let words = transform_kernel(level, outputs, inputs, 3, tap);
        let phases = vec![Phase { offset: [0, 0], padding: [1, 1], words }];
        Self { phases, inputs, outputs, taps: 3, scale: 1, bias: pad_bias(level, bias, outputs), level }
    }

    fn transposed_for(level: Level, weight: &[f32], bias: &[f32], outputs: usize, inputs: usize) -> Self {
        assert_eq!(weight.len(), outputs * inputs * 16, "weight is [inputs, outputs, 4, 4]");
        // Output 2m takes kernel columns 3 and 1 at inputs m - 1 and m; output 2m + 1 takes 2 and 0 at m and m + 1.
        let phase = |py: usize, px: usize| {
            let tap = |o: usize, i: usize, y: usize, x: usize| {
                weight[((i * outputs + o) * 4 + 3 - py - 2 * y) * 4 + 3 - px - 2 * x]
            };
            let words = transform_kernel(level, outputs, inputs, 2, tap);
            Phase { offset: [py, px], padding: [1 - py, 1 - px], words }
        };
        let phases = vec![phase(0, 0), phase(0, 1), phase(1, 0), phase(1, 1)];
        Self { phases, inputs, outputs, taps: 2, scale: 2, bias: pad_bias(level, bias, outputs), level }
    }

    /// Bytes the prepared weights take.
    pub fn bytes(&self) -> usize {
        self.phases.iter().map(|p| p.words.len() * size_of::<f32>()).sum()
    }

    /// The maps a forward pass gives: as large, or twice as large for a transposed convolution.
    pub fn output_maps(&self, maps: Maps) -> Maps {
        Maps { count: maps.count, height: maps.height * self.scale, width: maps.width * self.scale }
    }

    /// act(conv(x) + bias + residual) for `x` [N, H, W, inputs]; the residual is laid out like the result.
    ///
    /// # Panics
    /// If `x` or the residual has another size than its shape says.
    pub fn forward(&self, x: &[f32], maps: Maps, residual: Option<&[f32]>, activation: Activation) -> Vec<f32> {
        let values = self.output_maps(maps).pixels() * self.outputs;
        assert_eq!(x.len(), maps.pixels() * self.inputs, "x is [N, H, W, inputs]");
        assert!(residual.is_none_or(|r| r.len() == values), "residual is laid out like the result");
        let made = SIDE + 1 - self.taps;
        let grid = Maps { count: maps.count, height: maps.height.div_ceil(made), width: maps.width.div_ceil(made) };
        let panels = self.outputs.div_ceil(2 * self.level.lanes());
        let threads = rayon::current_num_threads();
        let job_tiles = (JOB_VALUES / (POINTS * self.inputs.next_multiple_of(CHUNK)) / 12 * 12).clamp(12, 96);
        let (tile_jobs, panel_jobs) = if grid.pixels() < threads * 12 {
            (1, panels.min(threads))
        } else {
            (grid.pixels().div_ceil(job_tiles).next_multiple_of(threads), 1)
        };
        // SAFETY: the jobs cover every tile and panel once, and the tiles every output.
        unsafe {
            Out::collect(values, |out| {
                (0..tile_jobs * panel_jobs).into_par_iter().with_max_len(1).for_each(|job| {
                    self.level.run(Job {
                        layer: self,
                        x,
                        maps,
                        grid,
                        residual,
                        activation,
                        tiles: share(grid.pixels(), 4, job / panel_jobs, tile_jobs),
                        panels: share(panels, 1, job % panel_jobs, panel_jobs),
                        out,
                    });
                });
            })
        }
    }
}

fn pad_bias(level: Level, bias: &[f32], outputs: usize) -> Aligned {
    assert!(bias.is_empty() || bias.len() == outputs, "bias is [outputs]");
    let mut padded = Aligned::zeros(outputs.next_multiple_of(2 * level.lanes()));
    padded[..bias.len()].copy_from_slice(bias);
    padded
}

/// G g Gᵀ of every kernel, packed [panel][point][input][panel width].
fn transform_kernel(
    level: Level,
    outputs: usize,
    inputs: usize,
    taps: usize,
    tap: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
) -> Aligned {
    let width = 2 * level.lanes();
    let panel_len = POINTS * inputs * width;
    // The point at infinity takes the highest power there is.
    let row = |i: usize| if i == SIDE - 1 && taps == 2 { [0.0, 1.0, 0.0] } else { KERNEL_TRANSFORM[i] };
    let mut words = Aligned::zeros(outputs.div_ceil(width) * panel_len);
    words.par_chunks_mut(panel_len.max(1)).enumerate().for_each(|(panel, words)| {
        for (input, lane) in (0..inputs).flat_map(|i| (0..width).map(move |l| (i, l))) {
            let output = panel * width + lane;
            if output >= outputs {
                continue;
            }
            let mut half = [[0.0_f64; 3]; SIDE];
            for (i, half) in half.iter_mut().enumerate() {
                for (x, half) in half.iter_mut().enumerate().take(taps) {
                    *half = (0..taps).map(|y| row(i)[y] * f64::from(tap(output, input, y, x))).sum();
                }
            }
            for point in 0..POINTS {
                let value: f64 = (0..taps).map(|x| half[point / SIDE][x] * row(point % SIDE)[x]).sum();
                words[(point * inputs + input) * width + lane] = value as f32;
            }
        }
    });
    words
}

/// One thread's piece: some tiles, some panels of outputs, every phase.
struct Job<'a> {
    layer: &'a Winograd,
    x: &'a [f32],
    maps: Maps,
    grid: Maps,
    residual: Option<&'a [f32]>,
    activation: Activation,
    tiles: Range<usize>,
    panels: Range<usize>,
    out: Out<'a>,
}

impl Task for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (inputs, width) = (self.layer.inputs, 2 * S::LANES);
        let depth = inputs.next_multiple_of(CHUNK);
        let rows: usize = group_sizes(self.tiles.len(), S::ROWS).sum();
        // One cache line more than needed from each point to the next: else all would fall on the same few sets.
        let (gathered_stride, products_stride) = (rows * depth + CHUNK, rows * width + CHUNK);
        let mut gathered = Scratch::take(POINTS * gathered_stride);
        let mut products = Scratch::take(POINTS * products_stride);
        for phase in &self.layer.phases {
            let mut first = 0;
            for size in group_sizes(self.tiles.len(), S::ROWS) {
                for r in 0..size.min(self.tiles.len() - first) {
                    // [point][group][chunk][row in group][CHUNK]
                    let place = &mut gathered[first * depth + r * CHUNK..];
                    self.gather(s, phase, self.tiles.start + first + r, place, gathered_stride, size);
                }
                first += size;
            }
            for panel in self.panels.clone() {
                for point in 0..POINTS {
                    let right = &phase.words[(panel * POINTS + point) * inputs * width..][..inputs * width];
                    let mut first = 0;
                    for size in group_sizes(self.tiles.len(), S::ROWS) {
                        let left = &gathered[point * gathered_stride + first * depth..][..size * depth];
                        let to = products[point * products_stride + first * width..][..size * width].as_mut_ptr();
                        let tile = Tile {
                            to,
                            stride: width,
                            rows: size,
                            columns: width.min((self.layer.outputs - panel * width).next_multiple_of(S::LANES)),
                            start: Start::Zero,
                            activation: Activation::None,
                        };
                        // SAFETY: the slices above hold all that is read and written.
                        unsafe { multiply(s, size, Words { left, right, count: inputs, precision: Precision::F32 }, tile) };
                        first += size;
                    }
                }
                for (i, tile) in self.tiles.clone().enumerate() {
                    for column in [panel * width, panel * width + S::LANES] {
                        if column < self.layer.outputs {
                            let from = &products[i * width + column - panel * width..];
                            if self.layer.taps == 3 {
                                self.scatter::<S, 4>(s, phase, tile, column, from, products_stride);
                            } else {
                                self.scatter::<S, 5>(s, phase, tile, column, from, products_stride);
                            }
                        }
                    }
                }
            }
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
    /// Batch index and the first output's row and column (at the scale of the inputs) of a tile.
    #[inline(always)]
    fn position(&self, tile: usize) -> (usize, usize, usize) {
        let made = SIDE + 1 - self.layer.taps;
        let (row, column) = (tile / self.grid.width, tile % self.grid.width);
        (row / self.grid.height, row % self.grid.height * made, column * made)
    }

    /// Transforms a tile's inputs, Bᵀ d B: value p of channel c goes to `to[p * stride + chunk_place(c)]`.
    #[inline(always)]
    fn gather<S: Simd>(&self, s: S, phase: &Phase, tile: usize, to: &mut [f32], stride: usize, group: usize) {
        let (n, y, x) = self.position(tile);
        let Maps { height, width, .. } = self.maps;
        let (top, left) = (y.wrapping_sub(phase.padding[0]), x.wrapping_sub(phase.padding[1]));
        let mut seen = Seen {
            // Wraps around where the tile begins before the map; the offset of a pixel that exists wraps back.
            origin: (n * height).wrapping_add(top).wrapping_mul(width).wrapping_add(left),
            rows: [true; SIDE],
            columns: [true; SIDE],
        };
        if top.checked_add(SIDE).is_some_and(|end| end <= height) && left.checked_add(SIDE).is_some_and(|end| end <= width)
        {
            self.gather_seen::<S, true>(s, &seen, to, stride, group);
        } else {
            seen.rows = std::array::from_fn(|i| top.wrapping_add(i) < height);
            seen.columns = std::array::from_fn(|j| left.wrapping_add(j) < width);
            self.gather_seen::<S, false>(s, &seen, to, stride, group);
        }
    }

    /// The same for a tile that lies wholly inside the map or not, so that the common case has no branches.
    #[inline(always)]
    fn gather_seen<S: Simd, const INSIDE: bool>(&self, s: S, seen: &Seen, to: &mut [f32], stride: usize, group: usize) {
        let (inputs, made) = (self.layer.inputs, SIDE + 1 - self.layer.taps);
        let mut channel = 0;
        while channel < inputs.next_multiple_of(CHUNK) {
            let count = inputs.saturating_sub(channel).min(S::LANES);
            let mut half = [[s.splat(0.0); SIDE]; SIDE];
            for j in 0..SIDE {
                let mut d = [s.splat(0.0); SIDE];
                for i in 0..SIDE {
                    if INSIDE || (seen.rows[i] && seen.columns[j]) {
                        let pixel = seen.origin.wrapping_add(i * self.maps.width + j);
                        let place = pixel.wrapping_mul(inputs).wrapping_add(channel);
                        // What the next tile sees and this one does not is too scattered for the hardware.
                        if j + made >= SIDE {
                            s.prefetch(self.x.as_ptr().wrapping_add(place + made * inputs));
                        }
                        // SAFETY: `count` channels from here on are inside this pixel, which is on the map.
                        d[i] = unsafe { load(s, self.x.as_ptr().add(place), count) };
                    }
                }
                let t = transform_input(s, d);
                for i in 0..SIDE {
                    half[i][j] = t[i];
                }
            }
            let place = channel / CHUNK * group * CHUNK + channel % CHUNK;
            for (i, row) in half.into_iter().enumerate() {
                for (j, v) in transform_input(s, row).into_iter().enumerate() {
                    let to = &mut to[(i * SIDE + j) * stride + place..][..S::LANES];
                    // SAFETY: the slice holds LANES values.
                    unsafe { s.store(to.as_mut_ptr(), v) };
                }
            }
            channel += S::LANES;
        }
    }

    /// Transforms a tile's products back, Aᵀ m A, for a register of output channels, and writes what exists.
    #[inline(always)]
    fn scatter<S: Simd, const MADE: usize>(
        &self,
        s: S,
        phase: &Phase,
        tile: usize,
        column: usize,
        from: &[f32],
        stride: usize,
    ) {
        let (n, y, x) = self.position(tile);
        let (outputs, scale) = (self.layer.outputs, self.layer.scale);
        let count = (outputs - column).min(S::LANES);
        let mut half = [[s.splat(0.0); SIDE]; MADE];
        for j in 0..SIDE {
            let mut m = [s.splat(0.0); SIDE];
            for (i, m) in m.iter_mut().enumerate() {
                // SAFETY: a register of every point's products lies there.
                *m = unsafe { s.load(from[(i * SIDE + j) * stride..][..S::LANES].as_ptr()) };
            }
            let t = transform_output::<S, MADE>(s, m);
            for i in 0..MADE {
                half[i][j] = t[i];
            }
        }
        // SAFETY: the bias is padded to whole panels; the writes belong to this tile and these channels alone.
        unsafe {
            let bias = s.load(self.layer.bias[column..].as_ptr());
            for (i, row) in half.into_iter().enumerate() {
                let outputs_row = transform_output::<S, MADE>(s, row);
                if y + i >= self.maps.height {
                    break;
                }
                let line = (n * self.maps.height + y + i) * scale + phase.offset[0];
                for (j, v) in outputs_row.into_iter().enumerate() {
                    if x + j < self.maps.width {
                        let pixel = line * self.maps.width * scale + (x + j) * scale + phase.offset[1];
                        let place = pixel * outputs + column;
                        let mut v = s.add(v, bias);
                        if let Some(residual) = self.residual {
                            v = s.add(v, load(s, residual.as_ptr().add(place), count));
                        }
                        let v = math::activate(s, v, self.activation);
                        let to = self.out.at(place, count);
                        if count == S::LANES { s.store(to, v) } else { s.store_part(to, v, count) }
                    }
                }
            }
        }
    }
}

/// # Safety
/// `count` values must be readable.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, from: *const f32, count: usize) -> S::V {
    // SAFETY: handed on.
    unsafe { if count == S::LANES { s.load(from) } else { s.load_part(from, count) } }
}

/// Bᵀ d
#[inline(always)]
fn transform_input<S: Simd>(s: S, d: [S::V; SIDE]) -> [S::V; SIDE] {
    let [two, four, five] = [s.splat(2.0), s.splat(4.0), s.splat(-5.0)];
    let minus_four = s.splat(-4.0);
    let even = s.mul_add(d[2], minus_four, d[4]);
    let odd = s.mul_add(d[1], minus_four, d[3]);
    let (near, far) = (s.sub(d[4], d[2]), s.mul(s.sub(d[3], d[1]), two));
    [
        s.mul_add(d[0], four, s.mul_add(d[2], five, d[4])),
        s.add(even, odd),
        s.sub(even, odd),
        s.add(near, far),
        s.sub(near, far),
        s.mul_add(d[1], four, s.mul_add(d[3], five, d[5])),
    ]
}

/// Aᵀ m for 4 outputs (3 taps) or 5 (2 taps).
#[inline(always)]
fn transform_output<S: Simd, const MADE: usize>(s: S, m: [S::V; SIDE]) -> [S::V; MADE] {
    let (p, q) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    let (r, u) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
    let mut y = [s.splat(0.0); MADE];
    y[0] = s.add(m[0], s.add(p, r));
    y[1] = s.mul_add(u, s.splat(2.0), q);
    y[2] = s.mul_add(r, s.splat(4.0), p);
    y[3] = s.mul_add(u, s.splat(8.0), q);
    if MADE == 5 {
        y[4] = s.mul_add(r, s.splat(16.0), p);
    }
    y[MADE - 1] = s.add(y[MADE - 1], m[5]);
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;

    #[test]
    fn winograd_convolutions_match_direct_ones_on_odd_sizes() {
        let sizes = [(1, 1, 1, 1, 1), (2, 5, 7, 3, 5), (1, 4, 4, 16, 32), (1, 9, 6, 17, 33), (1, 13, 11, 40, 12)];
        for level in Level::supported() {
            for (count, height, width, inputs, outputs) in sizes {
                let maps = Maps { count, height, width };
                let x = reference::noise(maps.pixels() * inputs, 1);
                let weight = reference::noise(outputs * inputs * 9, 2);
                let bias = reference::noise(outputs, 3);
                let layer = Winograd::convolution_for(level, &weight, &bias, outputs, inputs);
                let residual = reference::noise(maps.pixels() * outputs, 4);
                let y = layer.forward(&x, maps, Some(&residual), Activation::Relu);
                let shape = reference::Convolution { maps, inputs, outputs, kernel: 3, stride: 1, padding: 1 };
                let expected = shape.run(&x, &weight, &bias, Some(&residual), Activation::Relu);
                reference::assert_close(&y, &expected, 5e-6, &format!("{level:?} {maps:?} {inputs} -> {outputs}"));
            }
        }
    }

    #[test]
    fn transposed_convolutions_match_direct_ones_on_odd_sizes() {
        let sizes = [(1, 1, 1, 1, 1), (2, 5, 7, 3, 5), (1, 6, 4, 16, 32), (1, 9, 11, 17, 33)];
        for level in Level::supported() {
            for (count, height, width, inputs, outputs) in sizes {
                let maps = Maps { count, height, width };
                let x = reference::noise(maps.pixels() * inputs, 1);
                let weight = reference::noise(outputs * inputs * 16, 2);
                let bias = reference::noise(outputs, 3);
                let layer = Winograd::transposed_for(level, &weight, &bias, outputs, inputs);
                let y = layer.forward(&x, maps, None, Activation::None);
                let expected = reference::transposed(&x, maps, &weight, &bias, outputs, inputs);
                reference::assert_close(&y, &expected, 5e-6, &format!("{level:?} {maps:?} {inputs} -> {outputs}"));
            }
        }
    }

    #[test]
    fn no_maps_give_no_maps() {
        let layer = Winograd::convolution(&[1.0; 9], &[], 1, 1);
        assert!(layer.forward(&[], Maps { count: 0, height: 4, width: 4 }, None, Activation::None).is_empty());
    }
}
