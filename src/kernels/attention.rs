//! The heart of Swin v2's shifted-window cosine attention (torchvision's `shifted_window_attention`): from a map of
//! queries, keys and values to a map of what their tokens gather.
//!
//! Roll, padding, partition and merge are only index arithmetic here: a token's row is read from and written to its place
//! in the map. A window's head is worked on in the first-level cache: unit queries and keys, their products plus the
//! position bias, the mask, softmax, and the product with the values.

use std::ops::Range;

use rayon::prelude::*;

use super::factors::{CHUNK, Factors};
use super::gemm::share;
use super::memory::{Out, Scratch};
use super::micro::{Start, Tile, Words, multiply};
use super::simd::{Level, Simd, Task};
use super::{Activation, Maps, Precision, math};

/// Added to the logits of tokens that the roll has made neighbours although they are not.
const MASKED: f32 = -100.0;
/// `torch.nn.functional.normalize` divides by no less.
const MIN_NORM: f32 = 1e-12;

/// The constants of one layer.
#[derive(Debug)]
pub struct WindowAttention {
    /// Side of a window.
    pub window: usize,
    /// Channels of a head.
    pub head_channels: usize,
    /// The logits' factor, `[heads]`.
    pub scale: Vec<f32>,
    /// Added to the logits, [heads, T, T] for T = window².
    pub position_bias: Vec<f32>,
    /// What a pixel of zeros gives, `[3C]`: the tokens that pad the map to whole windows.
    pub padding: Vec<f32>,
    /// What the two products may be multiplied in: bf16 where the processor's vectors are faster at it.
    pub precision: Precision,
}

impl WindowAttention {
    /// `qkv` [N, H, W, 3C] to [N, H, W, C]; windows begin `shift` rows and columns into the padded map.
    ///
    /// # Panics
    /// If the sizes do not fit together, or a shift is no smaller than the window.
    pub fn forward(&self, qkv: &[f32], maps: Maps, shift: [usize; 2]) -> Vec<f32> {
        self.forward_for(Level::detect(), qkv, maps, shift)
    }

    fn forward_for(&self, level: Level, qkv: &[f32], maps: Maps, shift: [usize; 2]) -> Vec<f32> {
        let (heads, tokens) = (self.scale.len(), self.window * self.window);
        let channels = heads * self.head_channels;
        assert!(tokens > 0 && shift.iter().all(|shift| *shift < self.window), "a shift is smaller than the window");
        assert_eq!(qkv.len(), maps.pixels() * 3 * channels, "qkv is [N, H, W, 3C]");
        assert_eq!(self.position_bias.len(), heads * tokens * tokens, "the position bias is [heads, T, T]");
        assert_eq!(self.padding.len(), 3 * channels, "the padding is [3C]");
        let rows = maps.height.div_ceil(self.window);
        let columns = maps.width.div_ceil(self.window);
        let pieces = maps.count * rows * columns * heads;
        let jobs = (4 * rayon::current_num_threads()).min(pieces);
        let factors = Factors::for_vectors(if level.gains_from_bf16() { self.precision } else { Precision::F32 });
        // SAFETY: every pixel is a token of one window, every channel one of a head, and the jobs cover all pieces once.
        unsafe {
            Out::collect(maps.pixels() * channels, |out| {
                (0..jobs).into_par_iter().with_max_len(1).for_each(|job| {
                    let pieces = share(pieces, 1, job, jobs);
                    level.run(Job { layer: self, factors, qkv, maps, shift, grid: [rows, columns], pieces, out });
                });
            })
        }
    }
}

/// Some windows' heads: piece = ((n * grid rows + row) * grid columns + column) * heads + head.
struct Job<'a> {
    layer: &'a WindowAttention,
    factors: Factors,
    qkv: &'a [f32],
    maps: Maps,
    shift: [usize; 2],
    grid: [usize; 2],
    pieces: Range<usize>,
    out: Out<'a>,
}

/// Where the tokens of a window lie.
#[derive(Clone)]
struct Window {
    index: usize,
    /// The pixel of every token; none: padding.
    places: Vec<Option<usize>>,
    /// The part of the map that every token comes from.
    regions: Vec<u8>,
    /// Whether those parts differ.
    masked: bool,
}

/// A thread's working memory for one window's head.
struct Buffers {
    /// In groups of rows and chunks of words, as the left-hand side of a product.
    queries: Scratch,
    /// In panels of columns, as the right-hand side.
    keys: Scratch,
    values: Scratch,
    logits: Scratch,
    /// Exponentials of the logits, as the left-hand side of the second product.
    weights: Scratch,
    gathered: Scratch,
    /// 1 / the sum of each row's exponentials.
    shares: Scratch,
    /// The words of one key.
    key: Scratch,
    /// Bias for every column of a tile: none.
    zeros: Scratch,
}

impl Task for Job<'_> {
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
        // What the loops below never write is multiplied all the same, and must be a number.
        for buffer in [&mut buffers.queries, &mut buffers.keys, &mut buffers.values, &mut buffers.weights] {
            buffer.fill(0.0);
        }
        let heads = self.layer.scale.len();
        let mut here = self.window(self.pieces.start / heads);
        let mut next = here.clone();
        for piece in self.pieces.clone() {
            if piece / heads != here.index {
                std::mem::swap(&mut here, &mut next);
            }
            let mut ahead = None;
            if piece + 1 < self.pieces.end {
                let index = (piece + 1) / heads;
                if index != here.index && index != next.index {
                    self.locate(index, &mut next);
                }
                ahead = Some((if index == here.index { &here } else { &next }, (piece + 1) % heads));
            }
            self.attend(s, piece % heads, &here, ahead, &mut buffers);
        }
    }
}

impl Job<'_> {
    fn window(&self, index: usize) -> Window {
        let tokens = self.layer.window * self.layer.window;
        let mut window = Window { index, places: vec![None; tokens], regions: vec![0; tokens], masked: false };
        self.locate(index, &mut window);
        window
    }

    /// Finds the tokens of window `index`.
    #[inline(always)]
    fn locate(&self, index: usize, window: &mut Window) {
        let side = self.layer.window;
        let (column, row) = (index % self.grid[1], index / self.grid[1]);
        let (row, n) = (row % self.grid[0], row / self.grid[0]);
        for (token, (place, region)) in window.places.iter_mut().zip(&mut window.regions).enumerate() {
            let rolled = [row * side + token / side, column * side + token % side];
            let padded = [self.grid[0] * side, self.grid[1] * side];
            let y = (rolled[0] + self.shift[0]) % padded[0];
            let x = (rolled[1] + self.shift[1]) % padded[1];
            let inside = y < self.maps.height && x < self.maps.width;
            *place = inside.then_some((n * self.maps.height + y) * self.maps.width + x);
            // The last window of a side holds tokens from the end and, wrapped around, from the beginning.
            let wrapped = |axis: usize| u8::from(rolled[axis] + self.shift[axis] >= padded[axis]);
            *region = 2 * wrapped(0) + wrapped(1);
        }
        window.index = index;
        window.masked = window.regions.iter().any(|region| *region != window.regions[0]);
    }

    /// One head of a window, while the memory of the head `ahead` is asked for.
    #[inline(always)]
    fn attend<S: Simd>(&self, s: S, head: usize, window: &Window, ahead: Option<(&Window, usize)>, to: &mut Buffers) {
        let (depth, factors) = (self.layer.head_channels, self.factors);
        let tokens = window.places.len();
        let channels = self.layer.scale.len() * depth;
        let width = 2 * S::LANES;
        self.gather(s, head, window, ahead, to);
        self.gather_values(s, head, window, to);

        let bias = &self.layer.position_bias[head * tokens * tokens..][..tokens * tokens];
        let (count, padded) = (factors.words(depth), factors.padded_words(depth));
        for column in (0..tokens).step_by(width) {
            let right = &to.keys[column * count..];
            let mut row = 0;
            for size in factors.groups(S::ROWS).sizes(tokens) {
                let residual = Some(bias[row * tokens + column..].as_ptr());
                let tile = Tile {
                    to: to.logits[row * tokens + column..].as_mut_ptr(),
                    stride: tokens,
                    rows: size.min(tokens - row),
                    columns: width.min(tokens - column),
                    start: Start::Bias { bias: to.zeros.as_ptr(), residual },
                    activation: Activation::None,
                    further: None,
                };
                let left = &to.queries[row * padded..];
                // SAFETY: the buffers hold whole groups and panels, logits and bias [T, T].
                unsafe { multiply(s, size, Words { left, right, count, factors }, tile) };
                row += size;
            }
        }
        self.softmax(s, window, to);

        let (count, padded) = (factors.words(tokens), factors.padded_words(tokens));
        for column in (0..depth).step_by(width) {
            let right = &to.values[column * count..];
            let mut row = 0;
            for size in factors.groups(S::ROWS).sizes(tokens) {
                let tile = Tile {
                    to: to.gathered[row * depth + column..].as_mut_ptr(),
                    stride: depth,
                    rows: size.min(tokens - row),
                    columns: width.min(depth - column),
                    start: Start::Zero,
                    activation: Activation::None,
                    further: None,
                };
                let left = &to.weights[row * padded..];
                // SAFETY: the buffers hold whole groups and panels, the result [T, depth].
                unsafe { multiply(s, size, Words { left, right, count, factors }, tile) };
                row += size;
            }
        }
        for (token, place) in window.places.iter().enumerate() {
            let Some(pixel) = place else { continue };
            let from = &to.gathered[token * depth..][..depth];
            let place = self.out.at(pixel * channels + head * depth, depth);
            let share = s.splat(to.shares[token]);
            for i in (0..depth).step_by(S::LANES) {
                let count = (depth - i).min(S::LANES);
                // SAFETY: a head's channels of one pixel, which belong to this piece alone.
                unsafe { s.store_part(place.add(i), s.mul(s.load_part(from.as_ptr().add(i), count), share), count) };
            }
        }
    }

    /// A head's channels of the queries (part 0), keys (1) or values (2) of a token.
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

    /// Unit queries (times the head's scale) and unit keys as the first product wants them.
    #[inline(always)]
    fn gather<S: Simd>(&self, s: S, head: usize, window: &Window, ahead: Option<(&Window, usize)>, to: &mut Buffers) {
        let (tokens, width) = (window.places.len(), 2 * S::LANES);
        let padded = self.factors.padded_words(self.layer.head_channels);
        let count = self.factors.words(self.layer.head_channels);
        let mut first = 0;
        for size in self.factors.groups(S::ROWS).sizes(tokens) {
            for token in first..(first + size).min(tokens) {
                // Pieces of two or so lines, far from each other: the hardware does not foresee them.
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

    /// The values as the second product wants them, whose words run over tokens.
    #[inline(always)]
    fn gather_values<S: Simd>(&self, s: S, head: usize, window: &Window, to: &mut Buffers) {
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
                // SAFETY: a head's channels, and a register of a panel's word.
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

    /// Exponentials of each row's logits, less their largest, and the inverse of their sum.
    #[inline(always)]
    fn softmax<S: Simd>(&self, s: S, window: &Window, to: &mut Buffers) {
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

/// `values`, each times `factor`, as the words of a row whose chunks begin `stride` words apart; zeros past their end.
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
            // SAFETY: the slice holds a register, and factors for vectors have one part.
            unsafe { factors.write(s, words, place.as_mut_ptr(), 0) };
        }
    }
}

/// The length of a vector, no less than [`MIN_NORM`].
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;

    /// Token by token, as the formula says.
    fn slow(layer: &WindowAttention, qkv: &[f32], maps: Maps, shift: [usize; 2]) -> Vec<f32> {
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
        // Of the largest value; bf16 has 8 bits.
        let tolerances = [(Precision::F32, 5e-6), (Precision::Bf16, 3e-2)];
        for (level, (precision, tolerance)) in
            Level::supported().into_iter().flat_map(|level| tolerances.map(|t| (level, t)))
        {
            for (maps, window, shift, heads, head_channels) in cases {
                let (channels, tokens) = (heads * head_channels, window * window);
                if cfg!(miri) && tokens > 16 {
                    continue;
                }
                let mut padding = reference::noise(3 * channels, 5);
                padding[channels..2 * channels].fill(0.0);
                let layer = WindowAttention {
                    window,
                    head_channels,
                    scale: (0..heads).map(|h| 10.0 + h as f32).collect(),
                    position_bias: reference::noise(heads * tokens * tokens, 3),
                    padding,
                    precision,
                };
                let qkv = reference::noise(maps.pixels() * 3 * channels, 1);
                let expected = slow(&layer, &qkv, maps, shift);
                let y = layer.forward_for(level, &qkv, maps, shift);
                reference::assert_close(
                    &y,
                    &expected,
                    tolerance,
                    &format!("{level:?} {precision:?} {maps:?} {window} {shift:?}"),
                );
            }
        }
    }
}
