//! The two matrix products of one head of a window, over packed tokens.

use crate::LayerActivation;
use crate::factors::Factors;
use crate::micro::{ProductSides, Start, Tile, multiply};
use crate::simd::{Simd, SimdTask};

/// `left` times `right`, plus what it starts from, to `to` [tokens, columns].
pub(super) struct WindowProduct<'a> {
    pub(super) factors: Factors,
    pub(super) tokens: usize,
    pub(super) columns: usize,
    /// Values of the inner dimension.
    pub(super) inner: usize,
    /// Whole groups of rows.
    pub(super) left: &'a [f32],
    /// Whole panels.
    pub(super) right: &'a [f32],
    /// What is added: a panel's width of zeros, and values in the layout of `to`.
    pub(super) start: Option<(&'a [f32], &'a [f32])>,
    pub(super) to: &'a mut [f32],
}

impl SimdTask for WindowProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { factors, tokens, columns, inner, left, right, start, to } = self;
        let (count, padded) = (factors.words(inner), factors.padded_words(inner));
        let width = 2 * S::LANES;
        for column in (0..columns).step_by(width) {
            let right = &right[column * count..];
            let mut row = 0;
            for size in factors.groups(S::ROWS).sizes(tokens) {
                let place = row * columns + column;
                let tile = Tile {
                    to: to[place..].as_mut_ptr(),
                    stride: columns,
                    rows: size.min(tokens - row),
                    columns: width.min(columns - column),
                    start: start.map_or(Start::Zero, |(zeros, added)| Start::Bias {
                        bias: zeros[..width].as_ptr(),
                        residual: Some(added[place..].as_ptr()),
                    }),
                    activation: LayerActivation::None,
                    further: None,
                };
                let left = &left[row * padded..];
                // SAFETY: both sides hold whole groups and panels; the result and what is added are [tokens, columns].
                unsafe { multiply(s, size, ProductSides { left, right, count, factors }, tile) };
                row += size;
            }
        }
    }
}
