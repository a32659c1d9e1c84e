//! One thread's share of the attention: some heads of some windows.

use std::ops::Range;

use super::WindowAttentionKernel;
use super::token_window::{ShiftedWindows, TokenWindow};
use super::window_product::WindowProduct;
use crate::factors::{CHUNK, Factors};
use crate::math;
use crate::memory::{Out, Scratch};
use crate::simd::{Simd, SimdTask};

/// Added to the logits of token pairs that are neighbours only because of the roll.
const MASKED: f32 = -100.0;
/// The least value that `torch.nn.functional.normalize` divides by.
const MIN_NORM: f32 = 1e-12;

/// A piece is one head of one window: piece = window index * heads + head.
pub(super) struct AttentionTask<'a> {
    pub(super) layer: &'a WindowAttentionKernel,
    pub(super) factors: Factors,
    pub(super) qkv: &'a [f32],
    pub(super) grid: ShiftedWindows,
    pub(super) pieces: Range<usize>,
    pub(super) out: Out<'a>,
}

/// A thread's working memory for one head of a window.
struct Buffers {
    /// Packed as the left-hand side of the first product.
    queries: Scratch,
    /// Packed as the right-hand side of the first product.
    keys: Scratch,
    values: Scratch,
    logits: Scratch,
    /// Exponentials of the logits, packed as the left-hand side of the second product.
    weights: Scratch,
    gathered: Scratch,
    /// 1 / the sum of each row's exponentials.
    shares: Scratch,
    /// The packed words of one key.
    key: Scratch,
    /// Zero bias for every column of a tile.
    zeros: Scratch,
}

impl SimdTask for AttentionTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (depth, tokens) = (self.layer.head_channels, self.layer.window * self.layer.window);
        let (factors, width) = (self.factors, 2 * S::LANES);
        let rows = factors.groups(S::ROWS).padded(tokens);
        let mut buffers = Buffers {
            queries: Scratch::take(rows * factors.padded_words(depth)),
            keys: Scratch::take(tokens.next_multiple_of(width) * factors.words(depth)),
            values: Scratch::take(factors.words(tokens) * depth.next_multiple_of(width)),
            logits: Scratch::take(tokens * tokens),
            weights: Scratch::take(rows * factors.padded_words(tokens)),
            gathered: Scratch::take(tokens * depth),
            shares: Scratch::take(tokens),
            key: Scratch::take(factors.padded_words(depth)),
            zeros: Scratch::take(width),
        };
        buffers.zeros.fill(0.0);
        // Words that the loops below never write are multiplied too, so they must be finite numbers.
        for buffer in [&mut buffers.queries, &mut buffers.keys, &mut buffers.values, &mut buffers.weights] {
            buffer.fill(0.0);
        }
        let heads = self.layer.scale.len();
        let mut here = self.grid.window(self.pieces.start / heads);
        let mut next = here.clone();
        for piece in self.pieces.clone() {
            if piece / heads != here.index {
                std::mem::swap(&mut here, &mut next);
            }
            let mut ahead = None;
            if piece + 1 < self.pieces.end {
                let index = (piece + 1) / heads;
                if index != here.index && index != next.index {
                    self.grid.locate(index, &mut next);
                }
                ahead = Some((if index == here.index { &here } else { &next }, (piece + 1) % heads));
            }
            self.attend(s, piece % heads, &here, ahead, &mut buffers);
        }
    }
}

impl AttentionTask<'_> {
    /// Computes one head of a window and prefetches the head `ahead`.
    #[inline(always)]
    fn attend<S: Simd>(
        &self,
        s: S,
        head: usize,
        window: &TokenWindow,
        ahead: Option<(&TokenWindow, usize)>,
        to: &mut Buffers,
    ) {
        let (depth, factors) = (self.layer.head_channels, self.factors);
        let tokens = window.places.len();
        let channels = self.layer.scale.len() * depth;
        self.gather(s, head, window, ahead, to);
        self.gather_values(s, head, window, to);

        let bias = &self.layer.position_bias[head * tokens * tokens..][..tokens * tokens];
        s.apart(WindowProduct {
            factors,
            tokens,
            columns: tokens,
            inner: depth,
            left: &to.queries,
            right: &to.keys,
            start: Some((&to.zeros, bias)),
            to: &mut to.logits,
        });
        self.softmax(s, window, to);
        s.apart(WindowProduct {
            factors,
            tokens,
            columns: depth,
            inner: tokens,
            left: &to.weights,
            right: &to.values,
            start: None,
            to: &mut to.gathered,
        });
        for (token, place) in window.places.iter().enumerate() {
            let Some(pixel) = place else { continue };
            let from = &to.gathered[token * depth..][..depth];
            let place = self.out.at(pixel * channels + head * depth, depth);
            let share = s.splat(to.shares[token]);
            for i in (0..depth).step_by(S::LANES) {
                let count = (depth - i).min(S::LANES);
                // SAFETY: one head's channels of one pixel, which belong to this piece alone.
                unsafe { s.store_part(place.add(i), s.mul(s.load_part(from.as_ptr().add(i), count), share), count) };
            }
        }
    }

    /// One head's channels of a token's query (part 0), key (1) or value (2).
    #[inline(always)]
    fn token(&self, place: Option<usize>, part: usize, head: usize) -> &[f32] {
        let depth = self.layer.head_channels;
        let channels = self.layer.scale.len() * depth;
        let pixel = match place {
            Some(pixel) => &self.qkv[pixel * 3 * channels..],
            None => &self.layer.padding[..],
        };
        &pixel[part * channels + head * depth..][..depth]
    }

    /// Packs unit queries (times the head's scale) and unit keys for the first product.
    #[inline(always)]
    fn gather<S: Simd>(
        &self,
        s: S,
        head: usize,
        window: &TokenWindow,
        ahead: Option<(&TokenWindow, usize)>,
        to: &mut Buffers,
    ) {
        let (tokens, width) = (window.places.len(), 2 * S::LANES);
        let padded = self.factors.padded_words(self.layer.head_channels);
        let count = self.factors.words(self.layer.head_channels);
        let mut first = 0;
        for size in self.factors.groups(S::ROWS).sizes(tokens) {
            for token in first..(first + size).min(tokens) {
                // Each piece is about two cache lines, far from the others, so the hardware does not prefetch them.
                if let Some((window, head)) = ahead {
                    for part in 0..3 {
                        let values = self.token(window.places[token], part, head);
                        for line in values.chunks(CHUNK) {
                            s.prefetch(line.as_ptr());
                        }
                    }
                }
                let place = window.places[token];
                let query = self.token(place, 0, head);
                let to_query = &mut to.queries[first * padded + (token - first) * CHUNK..];
                write(s, self.factors, query, self.layer.scale[head] / norm(s, query), to_query, size * CHUNK);
                let key = self.token(place, 1, head);
                write(s, self.factors, key, 1.0 / norm(s, key), &mut to.key, CHUNK);
                let column = &mut to.keys[token / width * width * count + token % width..];
                for (i, word) in to.key[..count].iter().enumerate() {
                    column[i * width] = *word;
                }
            }
            first += size;
        }
    }

    /// Packs the values for the second product, whose inner dimension is the tokens.
    #[inline(always)]
    fn gather_values<S: Simd>(&self, s: S, head: usize, window: &TokenWindow, to: &mut Buffers) {
        let (depth, width) = (self.layer.head_channels, 2 * S::LANES);
        let words = self.factors.words(window.places.len());
        let pairs = self.factors == Factors::Bf16;
        for word in 0..words {
            let token = if pairs { 2 * word } else { word };
            let values = self.token(window.places[token], 2, head);
            let second = window.places.get(token + 1).filter(|_| pairs).map(|place| self.token(*place, 2, head));
            for i in (0..depth).step_by(S::LANES) {
                let count = (depth - i).min(S::LANES);
                let place = &mut to.values[i / width * width * words + word * width + i % width..][..S::LANES];
                // SAFETY: `count` channels of a head are read, and the slice holds a register.
                unsafe {
                    let mut v = s.load_part(values.as_ptr().add(i), count);
                    if pairs {
                        let second = second.map_or(s.splat(0.0), |second| s.load_part(second.as_ptr().add(i), count));
                        v = s.pair_bf16(v, second);
                    }
                    s.store(place.as_mut_ptr(), v);
                }
            }
        }
    }

    /// Writes the exponentials of each row's logits (minus the row's largest) and the reciprocal of their sum.
    #[inline(always)]
    fn softmax<S: Simd>(&self, s: S, window: &TokenWindow, to: &mut Buffers) {
        let tokens = window.places.len();
        let padded = self.factors.padded_words(tokens);
        let mut first = 0;
        for size in self.factors.groups(S::ROWS).sizes(tokens) {
            for row in first..(first + size).min(tokens) {
                let logits = &mut to.logits[row * tokens..][..tokens];
                if window.masked {
                    for (logit, region) in logits.iter_mut().zip(&window.regions) {
                        *logit += if *region == window.regions[row] { 0.0 } else { MASKED };
                    }
                }
                let mut largest = s.splat(f32::NEG_INFINITY);
                let whole = tokens / S::LANES * S::LANES;
                for i in (0..whole).step_by(S::LANES) {
                    // SAFETY: inside the row.
                    largest = s.max(largest, unsafe { s.load(logits.as_ptr().add(i)) });
                }
                let rest = logits[whole..].iter().copied().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
                let largest = s.splat(s.largest(largest).max(rest));
                let mut sum = s.splat(0.0);
                for i in (0..tokens).step_by(S::LANES) {
                    let count = (tokens - i).min(S::LANES);
                    // SAFETY: inside the row.
                    unsafe {
                        let place = logits.as_mut_ptr().add(i);
                        s.store_part(place, math::exp(s, s.sub(s.load_part(place, count), largest)), count);
                        sum = s.add(sum, s.load_part(place, count));
                    }
                }
                to.shares[row] = 1.0 / s.sum(sum);
                let to_weights = &mut to.weights[first * padded + (row - first) * CHUNK..];
                write(s, self.factors, logits, 1.0, to_weights, size * CHUNK);
            }
            first += size;
        }
    }
}

/// Packs `factor * values` as a row whose chunks begin `stride` words apart, with zeros past the end.
#[inline(always)]
fn write<S: Simd>(s: S, factors: Factors, values: &[f32], factor: f32, to: &mut [f32], stride: usize) {
    let factor = s.splat(factor);
    for chunk in 0..factors.padded_words(values.len()) / CHUNK {
        for lane in (0..CHUNK).step_by(S::LANES) {
            let mut words = [s.splat(0.0); 2];
            for (v, source) in words.iter_mut().zip(factors.sources::<S>(lane)) {
                let from = (chunk * factors.unit_values() + source).min(values.len());
                // SAFETY: inside the slice.
                *v = s.mul(unsafe { s.load_part(values.as_ptr().add(from), (values.len() - from).min(S::LANES)) }, factor);
            }
            let place = &mut to[chunk * stride + lane..][..S::LANES];
            // SAFETY: the slice holds a register, and factors for vectors have a single part.
            unsafe { factors.write(s, words, place.as_mut_ptr(), 0) };
        }
    }
}

/// The Euclidean length of a vector, at least [`MIN_NORM`].
#[inline(always)]
fn norm<S: Simd>(s: S, values: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for i in (0..values.len()).step_by(S::LANES) {
        // SAFETY: inside the slice.
        let v = unsafe { s.load_part(values.as_ptr().add(i), (values.len() - i).min(S::LANES)) };
        sum = s.mul_add(v, v, sum);
    }
    s.sum(sum).sqrt().max(MIN_NORM)
}
