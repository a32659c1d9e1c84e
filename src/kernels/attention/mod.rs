//! The core of Swin v2's shifted-window cosine attention (torchvision's `shifted_window_attention`): from a map of queries,
//! keys and values to a map of attention results, before the projection.
//!
//! Roll, padding, partition and merge are only index arithmetic here: a token's row is read from and written to its place in
//! the map. One head of a window is processed in the first-level cache: unit queries and keys, their products plus the
//! position bias, the mask, softmax, and the product with the values.

mod task;
mod token_window;
mod window_product;

use rayon::prelude::*;

use self::task::AttentionTask;
use self::token_window::ShiftedWindows;
use super::factors::Factors;
use super::gemm::share;
use super::memory::Out;
use super::simd::InstructionSet;
use super::{Maps, Precision};

/// The constants of one layer.
#[derive(Debug)]
pub struct WindowAttentionKernel {
    /// Tokens along the side of a window.
    pub window: usize,
    /// Channels per head.
    pub head_channels: usize,
    /// Factor of each head's logits, `[heads]`.
    pub scale: Vec<f32>,
    /// Added to the logits, [heads, T, T] for T = window².
    pub position_bias: Vec<f32>,
    /// Queries, keys and values of the pixels that pad the map to whole windows, `[3C]`.
    pub padding: Vec<f32>,
    /// The lowest precision allowed for the two products: bf16 is used only where the processor's vectors are faster at it.
    pub precision: Precision,
}

impl WindowAttentionKernel {
    /// `qkv` [N, H, W, 3C] -> [N, H, W, C]; windows begin `shift` rows and columns into the padded map.
    ///
    /// # Panics
    /// If the sizes do not match, or a shift is not smaller than the window.
    pub fn forward(&self, qkv: &[f32], maps: Maps, shift: [usize; 2]) -> Vec<f32> {
        self.forward_for(InstructionSet::detect(), qkv, maps, shift)
    }

    fn forward_for(&self, instructions: InstructionSet, qkv: &[f32], maps: Maps, shift: [usize; 2]) -> Vec<f32> {
        let (heads, tokens) = (self.scale.len(), self.window * self.window);
        let channels = heads * self.head_channels;
        assert!(tokens > 0 && shift.iter().all(|shift| *shift < self.window), "a shift is smaller than the window");
        assert_eq!(qkv.len(), maps.pixels() * 3 * channels, "qkv is [N, H, W, 3C]");
        assert_eq!(self.position_bias.len(), heads * tokens * tokens, "the position bias is [heads, T, T]");
        assert_eq!(self.padding.len(), 3 * channels, "the padding is [3C]");
        let counts = [maps.height.div_ceil(self.window), maps.width.div_ceil(self.window)];
        let grid = ShiftedWindows { maps, side: self.window, shift, counts };
        let pieces = maps.count * counts[0] * counts[1] * heads;
        let jobs = (4 * rayon::current_num_threads()).min(pieces);
        let factors = Factors::for_vectors(if instructions.gains_from_bf16() { self.precision } else { Precision::F32 });
        // SAFETY: every pixel is a token of one window, every channel belongs to one head, and the tasks cover all pieces
        // once.
        unsafe {
            Out::collect(maps.pixels() * channels, |out| {
                (0..jobs).into_par_iter().with_max_len(1).for_each(|job| {
                    let pieces = share(pieces, 1, job, jobs);
                    instructions.run(AttentionTask { layer: self, factors, qkv, grid, pieces, out });
                });
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    /// Attention token by token, straight from the formula.
    fn slow(layer: &WindowAttentionKernel, qkv: &[f32], maps: Maps, shift: [usize; 2]) -> Vec<f32> {
        let (heads, depth, side) = (layer.scale.len(), layer.head_channels, layer.window);
        let channels = heads * depth;
        let padded = [maps.height.next_multiple_of(side), maps.width.next_multiple_of(side)];
        let row = |n: usize, y: usize, x: usize| {
            if y < maps.height && x < maps.width {
                &qkv[((n * maps.height + y) * maps.width + x) * 3 * channels..][..3 * channels]
            } else {
                &layer.padding[..]
            }
        };
        let part = |rolled: usize, axis: usize| {
            if shift[axis] == 0 || rolled < padded[axis] - side {
                0
            } else if rolled < padded[axis] - shift[axis] {
                1
            } else {
                2
            }
        };
        let unit = |v: &[f32]| {
            let norm = v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
            v.iter().map(|v| f64::from(*v) / norm).collect::<Vec<f64>>()
        };
        let mut out = vec![0.0; maps.pixels() * channels];
        for n in 0..maps.count {
            for (wy, wx) in (0..padded[0] / side).flat_map(|y| (0..padded[1] / side).map(move |x| (y, x))) {
                let tokens: Vec<(usize, usize)> =
                    (0..side * side).map(|t| (wy * side + t / side, wx * side + t % side)).collect();
                let place = |t: (usize, usize)| ((t.0 + shift[0]) % padded[0], (t.1 + shift[1]) % padded[1]);
                for head in 0..heads {
                    for (i, &from) in tokens.iter().enumerate() {
                        let (y, x) = place(from);
                        if y >= maps.height || x >= maps.width {
                            continue;
                        }
                        let q = unit(&row(n, y, x)[head * depth..][..depth]);
                        let logits: Vec<f64> = (tokens.iter().enumerate())
                            .map(|(j, &to)| {
                                let (y, x) = place(to);
                                let k = unit(&row(n, y, x)[channels + head * depth..][..depth]);
                                let cos: f64 = q.iter().zip(&k).map(|(a, b)| a * b).sum();
                                let same = part(from.0, 0) == part(to.0, 0) && part(from.1, 1) == part(to.1, 1);
                                let bias = layer.position_bias[(head * tokens.len() + i) * tokens.len() + j];
                                cos * f64::from(layer.scale[head]) + f64::from(bias) - if same { 0.0 } else { 100.0 }
                            })
                            .collect();
                        let largest = logits.iter().copied().fold(f64::MIN, f64::max);
                        let total: f64 = logits.iter().map(|l| (l - largest).exp()).sum();
                        for c in 0..depth {
                            let sum: f64 = (tokens.iter().zip(&logits))
                                .map(|(&to, l)| {
                                    let (y, x) = place(to);
                                    (l - largest).exp() / total * f64::from(row(n, y, x)[2 * channels + head * depth + c])
                                })
                                .sum();
                            out[((n * maps.height + y) * maps.width + x) * channels + head * depth + c] = sum as f32;
                        }
                    }
                }
            }
        }
        out
    }

    #[test]
    fn windows_attend_as_the_formula_says_with_shifts_padding_and_odd_heads() {
        let cases = [
            (Maps { count: 2, height: 5, width: 7 }, 3, [1, 1], 2, 5),
            (Maps { count: 1, height: 4, width: 4 }, 4, [0, 0], 1, 12),
            (Maps { count: 1, height: 16, width: 13 }, 8, [4, 4], 2, 32),
            (Maps { count: 1, height: 8, width: 12 }, 4, [0, 2], 1, 40),
        ];
        // Tolerated error relative to the largest value; bf16 has 8 significant bits.
        let tolerances = [(Precision::F32, 5e-6), (Precision::Bf16, 3e-2)];
        for (instructions, (precision, tolerance)) in
            InstructionSet::supported().into_iter().flat_map(|instructions| tolerances.map(|t| (instructions, t)))
        {
            for (maps, window, shift, heads, head_channels) in cases {
                let (channels, tokens) = (heads * head_channels, window * window);
                if cfg!(miri) && tokens > 16 {
                    continue;
                }
                let mut padding = reference::noise(3 * channels, 5);
                padding[channels..2 * channels].fill(0.0);
                let layer = WindowAttentionKernel {
                    window,
                    head_channels,
                    scale: (0..heads).map(|h| 10.0 + h as f32).collect(),
                    position_bias: reference::noise(heads * tokens * tokens, 3),
                    padding,
                    precision,
                };
                let qkv = reference::noise(maps.pixels() * 3 * channels, 1);
                let expected = slow(&layer, &qkv, maps, shift);
                let y = layer.forward_for(instructions, &qkv, maps, shift);
                reference::assert_close(
                    &y,
                    &expected,
                    tolerance,
                    &format!("{instructions:?} {precision:?} {maps:?} {window} {shift:?}"),
                );
            }
        }
    }
}
