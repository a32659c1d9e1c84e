//! Convolutions with few multiplications: 3x3 (stride 1, padding 1) as Winograd's F(4x4, 3x3), and 4x4 transposed ones
//! (stride 2, padding 1) as four interleaved 2x2 convolutions, each an F(5x5, 2x2).
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. Both forms evaluate polynomials at the same
//! six points and so share the input transform: a tile is 6x6 inputs, and 36 matrix products over the channels replace the 9
//! (or 4) of every output. The result differs from the direct form by about 1e-6 of the largest value, and by 1 % of the
//! mean where factors are rounded to bf16. A task gathers its tiles once, and they stay in the caches until their last
//! output has been computed.

mod gather;
mod scatter;
mod task;
mod transform;

use rayon::prelude::*;

use self::task::WinogradTask;
use self::transform::{POINTS, SIDE, kernel_row};
use super::factors::Factors;
use super::gemm::share;
use super::memory::{Aligned, LINE, Out};
use super::simd::InstructionSet;
use super::{LayerActivation, Maps, Precision};

/// Words of transformed tiles that a task keeps. Fewer words would fit the second-level cache, but the weights, which every
/// task reads once, are often larger than that cache.
const JOB_WORDS: usize = 350_000;

/// Results of at least this many values bypass the caches. Most of 16 MB would be evicted before the next layer reads it,
/// and writing whole lines past the caches avoids reading them first.
const STREAMED_VALUES: usize = 4 << 20;

/// A prepared convolution over [N, H, W, inputs] maps.
#[derive(Debug)]
pub struct Winograd {
    phases: Vec<WinogradPhase>,
    inputs: usize,
    outputs: usize,
    /// Taps along the side of each phase's kernel: 3 or 2.
    taps: usize,
    /// Outputs per input along a side. Its square is the number of phases.
    scale: usize,
    bias: Aligned,
    factors: Factors,
    instructions: InstructionSet,
}

/// The outputs at one offset modulo the scale, computed as a convolution of their own.
#[derive(Debug)]
struct WinogradPhase {
    /// Row and column of this phase's output in each `scale` x `scale` block. All phases see the same inputs of a tile;
    /// where the offset is 1, the tile's outputs begin one block earlier.
    offset: [usize; 2],
    /// [panel][point][word][panel width]
    words: Aligned,
}

impl Winograd {
    /// A 3x3 convolution, stride 1, padding 1: `weight` is [outputs, inputs, 3, 3], `bias` is `[outputs]` or empty.
    ///
    /// # Panics
    /// If the lengths do not match.
    pub fn convolution(weight: &[f32], bias: &[f32], outputs: usize, inputs: usize, precision: Precision) -> Self {
        Self::convolution_for(InstructionSet::detect(), weight, bias, outputs, inputs, precision)
    }

    /// A 4x4 transposed convolution, stride 2, padding 1: `weight` is [inputs, outputs, 4, 4], `bias` is `[outputs]` or
    /// empty.
    ///
    /// # Panics
    /// If the lengths do not match.
    pub fn transposed(weight: &[f32], bias: &[f32], outputs: usize, inputs: usize, precision: Precision) -> Self {
        Self::transposed_for(InstructionSet::detect(), weight, bias, outputs, inputs, precision)
    }

    fn convolution_for(
        instructions: InstructionSet,
        weight: &[f32],
        bias: &[f32],
        outputs: usize,
        inputs: usize,
        precision: Precision,
    ) -> Self {
        assert_eq!(weight.len(), outputs * inputs * 9, "weight is [outputs, inputs, 3, 3]");
        let tap = |o: usize, i: usize, y: usize, x: usize| weight[((o * inputs + i) * 3 + y) * 3 + x];
        let factors = Factors::for_vectors(precision);
        let words = transform_kernel(instructions, factors, outputs, inputs, 3, tap);
        let phases = vec![WinogradPhase { offset: [0, 0], words }];
        Self {
            phases,
            inputs,
            outputs,
            taps: 3,
            scale: 1,
            bias: pad_bias(instructions, bias, outputs),
            factors,
            instructions,
        }
    }

    fn transposed_for(
        instructions: InstructionSet,
        weight: &[f32],
        bias: &[f32],
        outputs: usize,
        inputs: usize,
        precision: Precision,
    ) -> Self {
        assert_eq!(weight.len(), outputs * inputs * 16, "weight is [inputs, outputs, 4, 4]");
        let factors = Factors::for_vectors(precision);
        // Output 2m takes kernel columns 3 and 1 at inputs m - 1 and m; output 2m + 1 takes 2 and 0 at m and m + 1.
        let phase = |py: usize, px: usize| {
            let tap = |o: usize, i: usize, y: usize, x: usize| {
                weight[((i * outputs + o) * 4 + 3 - py - 2 * y) * 4 + 3 - px - 2 * x]
            };
            let words = transform_kernel(instructions, factors, outputs, inputs, 2, tap);
            WinogradPhase { offset: [py, px], words }
        };
        let phases = vec![phase(0, 0), phase(0, 1), phase(1, 0), phase(1, 1)];
        Self {
            phases,
            inputs,
            outputs,
            taps: 2,
            scale: 2,
            bias: pad_bias(instructions, bias, outputs),
            factors,
            instructions,
        }
    }

    /// Bytes of the prepared weights.
    pub fn bytes(&self) -> usize {
        self.phases.iter().map(|p| p.words.len() * size_of::<f32>()).sum()
    }

    /// The shape of the result: that of `maps`, with twice the height and width for a transposed convolution.
    pub fn output_maps(&self, maps: Maps) -> Maps {
        Maps { count: maps.count, height: maps.height * self.scale, width: maps.width * self.scale }
    }

    /// act(conv(x) + bias + residual) for `x` [N, H, W, inputs]; the residual has the result's layout.
    ///
    /// # Panics
    /// If the length of `x` or of the residual does not match its shape.
    pub fn forward(&self, x: &[f32], maps: Maps, residual: Option<&[f32]>, activation: LayerActivation) -> Vec<f32> {
        let values = self.output_maps(maps).pixels() * self.outputs;
        assert_eq!(x.len(), maps.pixels() * self.inputs, "x is [N, H, W, inputs]");
        assert!(residual.is_none_or(|r| r.len() == values), "residual is laid out like the result");
        let made = SIDE + 1 - self.taps;
        // A phase with an offset has one output less in its first tile.
        let tiles = |side: usize| (side + self.scale - 1).div_ceil(made);
        let grid = Maps { count: maps.count, height: tiles(maps.height), width: tiles(maps.width) };
        let panels = self.outputs.div_ceil(2 * self.instructions.lanes());
        let threads = rayon::current_num_threads();
        let groups = self.factors.groups(self.instructions.rows());
        let job_tiles = JOB_WORDS / (POINTS * self.factors.padded_words(self.inputs)) / groups.full * groups.full;
        let job_tiles = job_tiles.clamp(groups.full, 96);
        let (tile_jobs, panel_jobs) = if grid.pixels() < threads * groups.full {
            (1, panels.min(threads))
        } else {
            (grid.pixels().div_ceil(job_tiles).next_multiple_of(threads), 1)
        };
        // SAFETY: the tasks cover every tile and panel once, and the tiles cover every output.
        unsafe {
            Out::collect(values, |out| {
                let streamed = values >= STREAMED_VALUES && self.outputs.is_multiple_of(LINE) && out.starts_line();
                (0..tile_jobs * panel_jobs).into_par_iter().with_max_len(1).for_each(|job| {
                    self.instructions.run(WinogradTask {
                        layer: self,
                        x,
                        maps,
                        grid,
                        residual,
                        activation,
                        tiles: share(grid.pixels(), groups.step, job / panel_jobs, tile_jobs),
                        panels: share(panels, 1, job % panel_jobs, panel_jobs),
                        out,
                        streamed,
                    });
                });
            })
        }
    }
}

fn pad_bias(instructions: InstructionSet, bias: &[f32], outputs: usize) -> Aligned {
    assert!(bias.is_empty() || bias.len() == outputs, "bias is [outputs]");
    let mut padded = Aligned::zeros(outputs.next_multiple_of(2 * instructions.lanes()));
    padded[..bias.len()].copy_from_slice(bias);
    padded
}

/// G g Gᵀ of every kernel, packed [panel][point][word][panel width].
fn transform_kernel(
    instructions: InstructionSet,
    factors: Factors,
    outputs: usize,
    inputs: usize,
    taps: usize,
    tap: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
) -> Aligned {
    let (width, count) = (2 * instructions.lanes(), factors.words(inputs));
    let panel_len = POINTS * count * width;
    let rows: [[f64; 3]; SIDE] = std::array::from_fn(|point| kernel_row(point, taps));
    let transformed = |output: usize, input: usize| {
        let mut half = [[0.0_f64; 3]; SIDE];
        for (row, half) in rows.iter().zip(&mut half) {
            for (x, half) in half.iter_mut().enumerate().take(taps) {
                *half = (0..taps).map(|y| row[y] * f64::from(tap(output, input, y, x))).sum();
            }
        }
        let point = |p: usize| (0..taps).map(|x| half[p / SIDE][x] * rows[p % SIDE][x]).sum::<f64>() as f32;
        std::array::from_fn::<f32, POINTS, _>(point)
    };
    let mut words = Aligned::zeros(outputs.div_ceil(width) * panel_len);
    words.par_chunks_mut(panel_len.max(1)).enumerate().for_each(|(panel, words)| {
        for (input, lane) in (0..inputs).flat_map(|input| (0..width).map(move |lane| (input, lane))) {
            let output = panel * width + lane;
            if output < outputs {
                for (point, value) in transformed(output, input).into_iter().enumerate() {
                    factors.put(&mut words[point * count * width + lane..], width, input, value);
                }
            }
        }
    });
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    /// Tolerated error relative to the largest value; bf16 has 8 significant bits.
    const TOLERANCES: [(Precision, f32); 2] = [(Precision::F32, 5e-6), (Precision::Bf16, 5e-2)];

    #[test]
    fn winograd_convolutions_match_direct_ones_on_odd_sizes() {
        let sizes = [
            (1, 1, 1, 1, 1),
            (2, 5, 7, 3, 5),
            (1, 4, 4, 16, 32),
            (1, 9, 6, 17, 33),
            (1, 13, 11, 40, 12),
            (1, 14, 13, 64, 48),
        ];
        for (instructions, (precision, tolerance)) in
            InstructionSet::supported().into_iter().flat_map(|instructions| TOLERANCES.map(|t| (instructions, t)))
        {
            for (count, height, width, inputs, outputs) in sizes {
                let maps = Maps { count, height, width };
                let x = reference::noise(maps.pixels() * inputs, 1);
                let weight = reference::noise(outputs * inputs * 9, 2);
                let bias = reference::noise(outputs, 3);
                let layer = Winograd::convolution_for(instructions, &weight, &bias, outputs, inputs, precision);
                let residual = reference::noise(maps.pixels() * outputs, 4);
                let shape = reference::NaiveConvolution { maps, inputs, outputs, kernel: 3, stride: 1, padding: 1 };
                for residual in [Some(&residual[..]), None] {
                    let y = layer.forward(&x, maps, residual, LayerActivation::Relu);
                    let expected = shape.run(&x, &weight, &bias, residual, LayerActivation::Relu);
                    reference::assert_close(
                        &y,
                        &expected,
                        tolerance,
                        &format!("{instructions:?} {precision:?} {maps:?} {inputs} -> {outputs} {}", residual.is_some()),
                    );
                }
            }
        }
    }

    #[test]
    fn results_past_the_caches_are_those_of_parts_that_are_not() {
        let (width, channels) = (512, 16);
        let maps = |height| Maps { count: 1, height, width };
        let layer =
            Winograd::transposed(&reference::noise(16 * channels * channels, 1), &[], channels, channels, Precision::F32);
        let x = reference::noise(257 * width * channels, 2);
        let whole = layer.forward(&x, maps(257), None, LayerActivation::Relu);
        assert!(whole.len() >= STREAMED_VALUES);
        // The part's rows equal the whole's, except where a tile reaches beyond the part.
        let part = layer.forward(&x[..102 * width * channels], maps(102), None, LayerActivation::Relu);
        let seen = 2 * 95 * 2 * width * channels;
        assert!(part.len() < STREAMED_VALUES);
        assert_eq!(whole[..seen].iter().zip(&part[..seen]).position(|(a, b)| a != b), None);
    }

    #[test]
    fn transposed_convolutions_match_direct_ones_on_odd_sizes() {
        let sizes = [(1, 1, 1, 1, 1), (2, 5, 7, 3, 5), (1, 6, 4, 16, 32), (1, 9, 11, 17, 33), (1, 16, 17, 64, 48)];
        for (instructions, (precision, tolerance)) in
            InstructionSet::supported().into_iter().flat_map(|instructions| TOLERANCES.map(|t| (instructions, t)))
        {
            for (count, height, width, inputs, outputs) in sizes {
                let maps = Maps { count, height, width };
                let x = reference::noise(maps.pixels() * inputs, 1);
                let weight = reference::noise(outputs * inputs * 16, 2);
                let bias = reference::noise(outputs, 3);
                let layer = Winograd::transposed_for(instructions, &weight, &bias, outputs, inputs, precision);
                let y = layer.forward(&x, maps, None, LayerActivation::None);
                let expected = reference::transposed(&x, maps, &weight, &bias, outputs, inputs);
                reference::assert_close(
                    &y,
                    &expected,
                    tolerance,
                    &format!("{instructions:?} {precision:?} {maps:?} {inputs} -> {outputs}"),
                );
            }
        }
    }

    #[test]
    fn no_maps_give_no_maps() {
        let layer = Winograd::convolution(&[1.0; 9], &[], 1, 1, Precision::F32);
        assert!(layer.forward(&[], Maps { count: 0, height: 4, width: 4 }, None, LayerActivation::None).is_empty());
    }
}
