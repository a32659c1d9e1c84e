//! Square convolutions of any stride as one matrix product over gathered rows (im2col): strided 3x3, the 7x7 stem, patch
//! embeddings.
//!
//! A row of the product's left-hand side holds what one output pixel sees, (kernel row, kernel column, channel). It is
//! copied straight from the map into the product's packed blocks, so the unfolded map never exists as a whole. In a
//! channels-last map a kernel row is contiguous.

use super::gemm::{PackedMatrix, RowSource};
use super::{LayerActivation, Maps, Precision};

/// A prepared convolution over [N, H, W, inputs] maps.
#[derive(Debug)]
pub struct GatheredConvolution {
    matrix: PackedMatrix,
    inputs: usize,
    walk: Walk,
}

/// How a square kernel moves over a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// Side of the kernel.
    pub kernel: usize,
    /// Input pixels from one output to the next.
    pub stride: usize,
    /// Zeros added at each border.
    pub padding: usize,
}

impl Walk {
    /// The shape of the result; empty where the kernel does not fit.
    pub fn output_maps(self, maps: Maps) -> Maps {
        let side = |len: usize| (len + 2 * self.padding).checked_sub(self.kernel).map_or(0, |room| room / self.stride + 1);
        Maps { count: maps.count, height: side(maps.height), width: side(maps.width) }
    }
}

impl GatheredConvolution {
    /// `weight` is [outputs, kernel, kernel, inputs] (note the order), `bias` is `[outputs]` or empty.
    ///
    /// # Panics
    /// If the lengths do not match, or the stride is 0.
    pub fn new(weight: &[f32], bias: &[f32], outputs: usize, inputs: usize, walk: Walk, precision: Precision) -> Self {
        assert!(walk.stride > 0, "a stride of 0 goes nowhere");
        let matrix = PackedMatrix::new(weight, bias, outputs, walk.kernel * walk.kernel * inputs, precision);
        Self { matrix, inputs, walk }
    }

    /// How the kernel walks over a map.
    pub fn walk(&self) -> Walk {
        self.walk
    }

    /// Bytes of the prepared weights.
    pub fn bytes(&self) -> usize {
        self.matrix.bytes()
    }

    /// act(conv(x) + bias + residual) for `x` [N, H, W, inputs]; the residual has the result's layout.
    ///
    /// # Panics
    /// If the length of `x` or of the residual does not match its shape.
    pub fn forward(&self, x: &[f32], maps: Maps, residual: Option<&[f32]>, activation: LayerActivation) -> Vec<f32> {
        assert_eq!(x.len(), maps.pixels() * self.inputs, "x is [N, H, W, inputs]");
        let to = self.walk.output_maps(maps);
        let rows = Gathered { x, maps, to, inputs: self.inputs, walk: self.walk };
        self.matrix.forward_rows(to.pixels(), &rows, residual, activation)
    }
}

/// The inputs that each output pixel sees, as one row per output pixel.
struct Gathered<'a> {
    x: &'a [f32],
    maps: Maps,
    to: Maps,
    inputs: usize,
    walk: Walk,
}

impl RowSource for Gathered<'_> {
    #[inline(always)]
    fn copy(&self, row: usize, from: usize, to: &mut [f32]) {
        let (column, line) = (row % self.to.width, row / self.to.width);
        let (line, n) = (line % self.to.height, line / self.to.height);
        let run = self.walk.kernel * self.inputs;
        // The kernel's left edge, in values from the start of a row of the map; it may lie outside.
        let left = (column * self.walk.stride) as isize - self.walk.padding as isize;
        let start = left * self.inputs as isize;
        let width = (self.maps.width * self.inputs) as isize;
        let (mut kernel_row, mut offset) = (from / run, from % run);
        let mut to = to;
        while !to.is_empty() {
            let (piece, rest) = to.split_at_mut(to.len().min(run - offset));
            let count = piece.len();
            let y = (line * self.walk.stride + kernel_row).wrapping_sub(self.walk.padding);
            let begin = start + offset as isize;
            if y >= self.maps.height {
                piece.fill(0.0);
            } else {
                let map_row = &self.x[(n * self.maps.height + y) * width as usize..][..width as usize];
                let before = (-begin).clamp(0, count as isize) as usize;
                let inside = (width - begin).clamp(before as isize, count as isize) as usize;
                piece[..before].fill(0.0);
                piece[inside..].fill(0.0);
                if inside > before {
                    let first = (begin + before as isize) as usize;
                    piece[before..inside].copy_from_slice(&map_row[first..first + inside - before]);
                }
            }
            (to, kernel_row, offset) = (rest, kernel_row + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn check(maps: Maps, inputs: usize, outputs: usize, walk: Walk) {
        let Walk { kernel, stride, padding } = walk;
        let x = reference::noise(maps.pixels() * inputs, 1);
        let weight = reference::noise(outputs * inputs * kernel * kernel, 2);
        let bias = reference::noise(outputs, 3);
        let residual = reference::noise(walk.output_maps(maps).pixels() * outputs, 4);
        let reference = reference::NaiveConvolution { maps, inputs, outputs, kernel, stride, padding };
        let expected = reference.run(&x, &weight, &bias, Some(&residual), LayerActivation::Relu);
        let mut rows_first = Vec::with_capacity(weight.len());
        for o in 0..outputs {
            for tap in 0..kernel * kernel {
                rows_first.extend((0..inputs).map(|c| weight[(o * inputs + c) * kernel * kernel + tap]));
            }
        }
        let layer = GatheredConvolution::new(&rows_first, &bias, outputs, inputs, walk, Precision::F32);
        let y = layer.forward(&x, maps, Some(&residual), LayerActivation::Relu);
        reference::assert_close(&y, &expected, 3e-6, &format!("{maps:?} {inputs} -> {outputs} {walk:?}"));
    }

    #[test]
    fn gathered_convolutions_match_direct_ones_on_odd_sizes() {
        let walk = |kernel, stride, padding| Walk { kernel, stride, padding };
        check(Maps { count: 2, height: 5, width: 7 }, 3, 5, walk(3, 2, 1));
        check(Maps { count: 1, height: 9, width: 11 }, 9, 4, walk(7, 2, 3));
        check(Maps { count: 1, height: 8, width: 12 }, 3, 6, walk(4, 4, 0));
        check(Maps { count: 1, height: 1, width: 1 }, 2, 2, walk(3, 1, 1));
        check(Maps { count: 1, height: 5, width: 4 }, 4, 2, walk(1, 2, 0));
        if !cfg!(miri) {
            check(Maps { count: 1, height: 6, width: 5 }, 70, 33, walk(3, 1, 1));
        }
    }
}
