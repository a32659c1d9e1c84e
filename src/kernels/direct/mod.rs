//! Convolutions in tile registers that read the map directly: square ones of any stride, and 4x4 transposed ones (stride 2,
//! padding 1) as four interleaved 2x2 convolutions.
//!
//! Tiles multiply so fast that the transforms of [`super::Winograd`] would cost more than they save. A piece of the map is
//! copied into the layout that tiles read, [row][unit][part][column][16 words]. In it, the 16 pixels of a tile are 16 lines
//! at equal distances for every tap of the kernel, so nothing is gathered or copied again.

mod task;

use std::ops::Range;

use rayon::prelude::*;

use self::task::DirectTask;
use super::factors::{CHUNK, Factors};
use super::gathered::Walk;
use super::gemm::share;
use super::memory::{Aligned, Out};
use super::simd::InstructionSet;
use super::{LayerActivation, Maps, Precision};

/// Pixels in a tile.
const TILE: usize = 16;
/// Columns in a panel of outputs: two tiles.
const WIDTH: usize = 2 * TILE;
/// Words of the right-hand side in one step: a chunk for every column of a panel.
const STEP_WORDS: usize = CHUNK * WIDTH;
/// Most columns of the map in one task.
const JOB_COLUMNS: usize = 128;
/// Words of the map that a task keeps packed: half of a second-level cache.
const JOB_WORDS: usize = 1 << 18;

/// A prepared convolution over [N, H, W, inputs] maps.
#[derive(Debug)]
pub struct DirectConvolution {
    phases: Vec<DirectPhase>,
    inputs: usize,
    outputs: usize,
    /// Input pixels from one output of a phase to the next.
    stride: usize,
    /// Outputs per output of a phase, along a side: 2 for transposed convolutions, else 1.
    scale: usize,
    /// Pixels that the kernel reaches before its output's position, and the side of the square that all phases see together.
    before: usize,
    reach: usize,
    bias: Aligned,
    factors: Factors,
    instructions: InstructionSet,
}

/// The outputs at one offset modulo the scale, computed as a convolution of their own.
#[derive(Debug)]
struct DirectPhase {
    offset: [usize; 2],
    /// Row and column of each tap, counted from the first pixel that any phase sees.
    taps: Vec<[usize; 2]>,
    /// [panel][tap][unit][part][16 words][WIDTH]
    words: Aligned,
}

impl DirectConvolution {
    /// `weight` is [outputs, inputs, kernel, kernel], `bias` is `[outputs]` or empty. `None` if the processor has no tile
    /// registers.
    ///
    /// # Panics
    /// If the lengths do not match, or the stride is 0.
    pub fn convolution(
        weight: &[f32],
        bias: &[f32],
        outputs: usize,
        inputs: usize,
        walk: Walk,
        precision: Precision,
    ) -> Option<Self> {
        let Walk { kernel, stride, padding } = walk;
        assert!(stride > 0, "a stride of 0 goes nowhere");
        assert_eq!(weight.len(), outputs * inputs * kernel * kernel, "weight is [outputs, inputs, kernel, kernel]");
        let place = |o: usize, i: usize, tap: [usize; 2]| ((o * inputs + i) * kernel + tap[0]) * kernel + tap[1];
        let taps: Vec<_> = (0..kernel).flat_map(|y| (0..kernel).map(move |x| [y, x])).collect();
        let mut layer = Self::without_phases(bias, outputs, inputs, precision)?;
        (layer.stride, layer.before, layer.reach) = (stride, padding, kernel);
        let words = layer.pack(&taps, |o, i, tap| weight[place(o, i, taps[tap])]);
        layer.phases.push(DirectPhase { offset: [0, 0], taps, words });
        Some(layer)
    }

    /// A 4x4 transposed convolution, stride 2, padding 1: `weight` is [inputs, outputs, 4, 4], `bias` is `[outputs]` or
    /// empty. `None` if the processor has no tile registers.
    ///
    /// # Panics
    /// If the lengths do not match.
    pub fn transposed(weight: &[f32], bias: &[f32], outputs: usize, inputs: usize, precision: Precision) -> Option<Self> {
        assert_eq!(weight.len(), outputs * inputs * 16, "weight is [inputs, outputs, 4, 4]");
        let mut layer = Self::without_phases(bias, outputs, inputs, precision)?;
        (layer.scale, layer.before, layer.reach) = (2, 1, 3);
        for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            // Output 2m takes kernel rows 3 and 1 at inputs m - 1 and m; output 2m + 1 takes 2 and 0 at m and m + 1.
            let taps: Vec<_> = [0, 1].into_iter().flat_map(|y| [0, 1].map(|x| [row + y, column + x])).collect();
            let words = layer.pack(&taps, |o, i, tap| {
                let (y, x) = (3 - row - 2 * (tap / 2), 3 - column - 2 * (tap % 2));
                weight[((i * outputs + o) * 4 + y) * 4 + x]
            });
            layer.phases.push(DirectPhase { offset: [row, column], taps, words });
        }
        Some(layer)
    }

    fn without_phases(bias: &[f32], outputs: usize, inputs: usize, precision: Precision) -> Option<Self> {
        assert!(bias.is_empty() || bias.len() == outputs, "bias is [outputs]");
        let instructions = InstructionSet::detect();
        let factors = Factors::new(precision, instructions);
        let mut padded = Aligned::zeros(outputs.next_multiple_of(WIDTH));
        padded[..bias.len()].copy_from_slice(bias);
        let (stride, scale, before, reach) = (1, 1, 0, 1);
        let layer =
            Self { phases: vec![], inputs, outputs, stride, scale, before, reach, bias: padded, factors, instructions };
        factors.tiled().then_some(layer)
    }

    /// Packs `value(output, input, tap)` as [panel][tap][unit][part][16 words][WIDTH].
    fn pack(&self, taps: &[[usize; 2]], value: impl Fn(usize, usize, usize) -> f32 + Sync) -> Aligned {
        let tap_words = self.factors.words(self.inputs) * WIDTH;
        let panel_words = taps.len() * tap_words;
        let mut words = Aligned::zeros(self.panels() * panel_words);
        words.par_chunks_mut(panel_words.max(1)).enumerate().for_each(|(panel, words)| {
            for (tap, words) in words.chunks_mut(tap_words.max(1)).enumerate() {
                for input in 0..self.inputs {
                    for lane in 0..WIDTH.min(self.outputs - panel * WIDTH) {
                        let value = value(panel * WIDTH + lane, input, tap);
                        self.factors.put(&mut words[lane..], WIDTH, input, value);
                    }
                }
            }
        });
        words
    }

    fn panels(&self) -> usize {
        self.outputs.div_ceil(WIDTH)
    }

    /// Bytes of the prepared weights.
    pub fn bytes(&self) -> usize {
        (self.phases.iter().map(|phase| phase.words.len()).sum::<usize>() + self.bias.len()) * size_of::<f32>()
    }

    /// The shape of one phase's outputs.
    fn phase_maps(&self, maps: Maps) -> Maps {
        if self.scale > 1 {
            return maps;
        }
        Walk { kernel: self.reach, stride: self.stride, padding: self.before }.output_maps(maps)
    }

    /// The shape of the result.
    pub fn output_maps(&self, maps: Maps) -> Maps {
        let Maps { count, height, width } = self.phase_maps(maps);
        Maps { count, height: height * self.scale, width: width * self.scale }
    }

    /// act(conv(x) + bias + residual) for `x` [N, H, W, inputs]; the residual has the result's layout.
    ///
    /// # Panics
    /// If the length of `x` or of the residual does not match its shape.
    pub fn forward(&self, x: &[f32], maps: Maps, residual: Option<&[f32]>, activation: LayerActivation) -> Vec<f32> {
        let values = self.output_maps(maps).pixels() * self.outputs;
        assert_eq!(x.len(), maps.pixels() * self.inputs, "x is [N, H, W, inputs]");
        assert!(residual.is_none_or(|r| r.len() == values), "residual is laid out like the result");
        let to = self.phase_maps(maps);
        let cut = self.cut(to);
        // SAFETY: the tasks cover every output of every phase once.
        unsafe {
            Out::collect(values, |out| {
                (0..cut.jobs()).into_par_iter().with_max_len(1).for_each(|job| {
                    let (n, rows, columns, panels) = cut.job(job);
                    self.instructions.run(DirectTask {
                        layer: self,
                        x,
                        maps,
                        to,
                        residual,
                        activation,
                        n,
                        rows,
                        columns,
                        panels,
                        out,
                    });
                });
            })
        }
    }

    /// How the outputs `to` of a phase are cut into tasks.
    fn cut(&self, to: Maps) -> Cut {
        let threads = rayon::current_num_threads();
        let blocks = to.width.div_ceil(JOB_COLUMNS);
        let seen = |outputs: usize| outputs.saturating_sub(1) * self.stride + self.reach;
        let row_words = seen(to.width.min(JOB_COLUMNS).next_multiple_of(TILE)) * self.factors.padded_words(self.inputs);
        let most_rows = (JOB_WORDS / row_words.max(1)).saturating_sub(self.reach) / self.stride + 1;
        let pieces = to.count * blocks;
        if pieces < threads && to.height <= most_rows {
            // A small map with many weights: every thread reads the whole map and a share of the weights.
            return Cut { to, bands: 1, blocks, panel_jobs: self.panels().min(threads), panels: self.panels() };
        }
        let mut bands = to.height.div_ceil(most_rows).max(1);
        while !(bands * pieces).is_multiple_of(threads) && bands * pieces < 4 * threads && bands < to.height {
            bands += 1;
        }
        Cut { to, bands, blocks, panel_jobs: 1, panels: self.panels() }
    }
}

/// How work is cut into tasks: each map into bands of rows and blocks of columns, and the output channels into shares.
struct Cut {
    to: Maps,
    bands: usize,
    blocks: usize,
    panel_jobs: usize,
    panels: usize,
}

impl Cut {
    fn jobs(&self) -> usize {
        self.to.count * self.bands * self.blocks * self.panel_jobs
    }

    /// The map, the rows, the columns and the panels of task `index`.
    fn job(&self, index: usize) -> (usize, Range<usize>, Range<usize>, Range<usize>) {
        let (share_index, index) = (index % self.panel_jobs, index / self.panel_jobs);
        let (block, index) = (index % self.blocks, index / self.blocks);
        let (band, n) = (index % self.bands, index / self.bands);
        let rows = share(self.to.height, 1, band, self.bands);
        let columns = share(self.to.width, TILE, block, self.blocks);
        (n, rows, columns, share(self.panels, 1, share_index, self.panel_jobs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    /// Tolerated error relative to the largest value; bf16 has 8 significant bits.
    const TOLERANCES: [(Precision, f32); 2] = [(Precision::F32, 3e-6), (Precision::Bf16, 3e-2)];

    #[test]
    fn convolutions_match_the_naive_ones_on_odd_sizes() {
        let walk = |kernel, stride, padding| Walk { kernel, stride, padding };
        let cases = [
            (Maps { count: 1, height: 1, width: 1 }, 1, 1, walk(3, 1, 1)),
            (Maps { count: 2, height: 5, width: 7 }, 3, 5, walk(3, 1, 1)),
            (Maps { count: 1, height: 9, width: 33 }, 40, 70, walk(3, 1, 1)),
            (Maps { count: 1, height: 8, width: 37 }, 33, 12, walk(3, 2, 1)),
            (Maps { count: 2, height: 7, width: 18 }, 16, 33, walk(3, 2, 1)),
            (Maps { count: 1, height: 4, width: 150 }, 17, 33, walk(3, 1, 1)),
        ];
        for ((maps, inputs, outputs, walk), (precision, tolerance)) in
            cases.into_iter().flat_map(|case| TOLERANCES.map(|t| (case, t)))
        {
            let Walk { kernel, stride, padding } = walk;
            let x = reference::noise(maps.pixels() * inputs, 1);
            let weight = reference::noise(outputs * inputs * kernel * kernel, 2);
            let bias = reference::noise(outputs, 3);
            let Some(layer) = DirectConvolution::convolution(&weight, &bias, outputs, inputs, walk, precision) else {
                return;
            };
            let residual = reference::noise(layer.output_maps(maps).pixels() * outputs, 4);
            let y = layer.forward(&x, maps, Some(&residual), LayerActivation::Relu);
            let shape = reference::NaiveConvolution { maps, inputs, outputs, kernel, stride, padding };
            let expected = shape.run(&x, &weight, &bias, Some(&residual), LayerActivation::Relu);
            reference::assert_close(&y, &expected, tolerance, &format!("{maps:?} {inputs} -> {outputs} {walk:?}"));
        }
    }

    #[test]
    fn transposed_convolutions_match_the_naive_ones_on_odd_sizes() {
        let sizes = [(1, 1, 1, 1, 1), (2, 5, 7, 3, 5), (1, 6, 40, 16, 32), (1, 9, 11, 65, 33), (1, 3, 140, 17, 8)];
        for ((count, height, width, inputs, outputs), (precision, tolerance)) in
            sizes.into_iter().flat_map(|size| TOLERANCES.map(|t| (size, t)))
        {
            let maps = Maps { count, height, width };
            let x = reference::noise(maps.pixels() * inputs, 1);
            let weight = reference::noise(outputs * inputs * 16, 2);
            let bias = reference::noise(outputs, 3);
            let Some(layer) = DirectConvolution::transposed(&weight, &bias, outputs, inputs, precision) else { return };
            let y = layer.forward(&x, maps, None, LayerActivation::None);
            let expected = reference::transposed(&x, maps, &weight, &bias, outputs, inputs);
            reference::assert_close(&y, &expected, tolerance, &format!("{maps:?} {inputs} -> {outputs}"));
        }
    }

    #[test]
    fn no_maps_give_no_maps() {
        let walk = Walk { kernel: 3, stride: 1, padding: 1 };
        if let Some(layer) = DirectConvolution::convolution(&[1.0; 9], &[], 1, 1, walk, Precision::F32) {
            for maps in [Maps { count: 0, height: 4, width: 4 }, Maps { count: 1, height: 0, width: 3 }] {
                assert!(layer.forward(&[], maps, None, LayerActivation::None).is_empty());
            }
        }
    }
}
