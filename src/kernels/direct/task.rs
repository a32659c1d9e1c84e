//! One thread's share of a direct convolution: packs a piece of the map, multiplies tap by tap and finishes row by row.

use std::ops::Range;

use super::{DirectConvolution, DirectPhase, STEP_WORDS, TILE, WIDTH};
use crate::factors::{CHUNK, Factors};
use crate::gemm::Finish;
use crate::memory::{Out, Scratch};
use crate::simd::{Simd, SimdTask, Tiles};
use crate::{LayerActivation, Maps};

/// Words of weights that stay in the second-level cache while all tiles of a task are multiplied with them.
const PANEL_WORDS: usize = 230_000;
const WORD: usize = size_of::<f32>();

/// The share of one thread: some rows and columns of a map and some panels of outputs, in every phase.
pub(super) struct DirectTask<'a> {
    pub(super) layer: &'a DirectConvolution,
    pub(super) x: &'a [f32],
    pub(super) maps: Maps,
    /// The shape of a phase's outputs.
    pub(super) to: Maps,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) activation: LayerActivation,
    pub(super) n: usize,
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
    pub(super) panels: Range<usize>,
    pub(super) out: Out<'a>,
}

/// The packed piece of the map that a task sees, [row][unit][part][column][CHUNK].
struct MapPiece {
    words: Scratch,
    rows: usize,
    columns: usize,
    units: usize,
    parts: usize,
}

impl MapPiece {
    /// Words from one part to the next.
    fn part(&self) -> usize {
        self.columns * CHUNK
    }

    /// Index of a pixel's first word.
    fn place(&self, row: usize, unit: usize, column: usize) -> usize {
        (row * self.units + unit) * self.parts * self.part() + column * CHUNK
    }
}

/// Up to 16 neighbouring outputs in a row of a phase.
#[derive(Clone, Copy)]
struct Outputs {
    row: usize,
    column: usize,
    /// Outputs that exist, at most 16.
    count: usize,
}

impl SimdTask for DirectTask<'_> {
    type Output = ();
    const TILES: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let piece = self.take_piece(s);
        let strips = self.columns.len().div_ceil(TILE);
        let tiles = self.rows.len() * strips;
        let outputs = |tile: usize| {
            let column = self.columns.start + tile % strips * TILE;
            Outputs { row: self.rows.start + tile / strips, column, count: TILE.min(self.columns.end - column) }
        };
        let at_once = |phase: &DirectPhase| {
            let panel = phase.taps.len() * piece.units * piece.parts * STEP_WORDS;
            (PANEL_WORDS / panel.max(1)).clamp(1, self.panels.len().max(1))
        };
        let most = self.layer.phases.iter().map(at_once).max().unwrap_or(1);
        // One cache line of padding per row: otherwise all rows would fall on the same few sets of the cache.
        let stride = most * WIDTH + CHUNK;
        let mut sums = Scratch::take(2 * TILE * stride);
        let offsets = self.layer.phases.iter().map(|phase| {
            let steps = phase.taps.iter().flat_map(|tap| (0..piece.units).map(|unit| piece.place(tap[0], unit, tap[1])));
            steps.map(|words| words * WORD).collect::<Vec<_>>()
        });
        let offsets: Vec<_> = offsets.collect();
        for first in (0..self.panels.len()).step_by(most) {
            let panels = self.panels.start + first..self.panels.end.min(self.panels.start + first + most);
            for tile in (0..tiles).step_by(2) {
                // A last tile without a partner is multiplied twice and written once.
                let pair = [outputs(tile), outputs((tile + 1).min(tiles - 1))];
                for (phase, offsets) in self.layer.phases.iter().zip(&offsets) {
                    for panel in panels.clone() {
                        let column = (panel - panels.start) * WIDTH;
                        let to = &mut sums[column..][..(2 * TILE - 1) * stride + WIDTH];
                        self.multiply(s, &piece, phase, offsets, pair, panel, to, stride);
                    }
                    for (i, outputs) in pair.into_iter().take(tiles - tile).enumerate() {
                        self.finish(s, phase, outputs, panels.clone(), &sums[i * TILE * stride..], stride);
                    }
                }
            }
        }
    }
}

impl DirectTask<'_> {
    /// Packs the pixels that this task sees, with zeros beyond the map's borders.
    #[inline(always)]
    fn take_piece<S: Simd>(&self, s: S) -> MapPiece {
        let DirectConvolution { inputs, stride, before, reach, factors, .. } = *self.layer;
        let seen = |outputs: usize| outputs.saturating_sub(1) * stride + reach;
        let (rows, columns) = (seen(self.rows.len()), seen(self.columns.len().next_multiple_of(TILE)));
        let (units, parts) = (inputs.div_ceil(factors.unit_values()), factors.unit_chunks());
        let words = Scratch::take(rows * columns * units * parts * CHUNK);
        let mut piece = MapPiece { words, rows, columns, units, parts };
        for row in 0..rows {
            let y = (self.rows.start * stride + row).wrapping_sub(before);
            for column in 0..columns {
                let x = (self.columns.start * stride + column).wrapping_sub(before);
                let pixel = (y < self.maps.height && x < self.maps.width).then(|| {
                    let pixel = (self.n * self.maps.height + y) * self.maps.width + x;
                    &self.x[pixel * inputs..][..inputs]
                });
                for unit in 0..units {
                    let place = piece.place(row, unit, column);
                    let reach = (parts - 1) * piece.part() + CHUNK;
                    let stride = piece.part();
                    let to = &mut piece.words[place..][..reach];
                    write_unit(s, factors, pixel, unit, to, stride);
                }
            }
        }
        piece
    }

    /// Writes the sums of 32 outputs and one panel to `to`, without the bias.
    #[expect(clippy::too_many_arguments, reason = "an inner loop with nothing to bundle")]
    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        s: S,
        piece: &MapPiece,
        phase: &DirectPhase,
        offsets: &[usize],
        pair: [Outputs; 2],
        panel: usize,
        to: &mut [f32],
        stride: usize,
    ) {
        let layer = self.layer;
        let left = pair.map(|outputs| {
            let (row, column) = (outputs.row - self.rows.start, outputs.column - self.columns.start);
            debug_assert!(row * layer.stride + layer.reach <= piece.rows);
            piece.words[piece.place(row * layer.stride, 0, column * layer.stride)..].as_ptr()
        });
        let panel_words = offsets.len() * piece.parts * STEP_WORDS;
        let right = &phase.words[panel * panel_words..][..panel_words];
        let tiles = Tiles {
            left,
            offsets,
            row_bytes: layer.stride * CHUNK * WORD,
            part_bytes: piece.part() * WORD,
            right: right.as_ptr(),
            wide: layer.outputs - panel * WIDTH > S::LANES,
            split: layer.factors == Factors::TiledSplit,
            to: to.as_mut_ptr(),
            stride_bytes: stride * WORD,
        };
        // SAFETY: every tap of 16 outputs that begin at a multiple of 16 lies in the piece; the right-hand side has a step
        // for each offset, and `to` has 32 rows.
        unsafe { s.multiply_tiles(tiles) };
    }

    /// Finishes the sums of up to 16 outputs and writes them.
    #[inline(always)]
    fn finish<S: Simd>(
        &self,
        s: S,
        phase: &DirectPhase,
        outputs: Outputs,
        panels: Range<usize>,
        sums: &[f32],
        stride: usize,
    ) {
        let DirectConvolution { outputs: channels, scale, .. } = *self.layer;
        let columns = panels.start * WIDTH..channels.min(panels.end * WIDTH);
        let line = (self.n * self.to.height + outputs.row) * scale + phase.offset[0];
        for i in 0..outputs.count {
            let pixel = line * self.to.width * scale + (outputs.column + i) * scale + phase.offset[1];
            let place = pixel * channels + columns.start;
            let residual = self.residual.map(|residual| &residual[place..][..columns.len()]);
            let finish = Finish {
                earlier: false,
                end: Some((&self.layer.bias[columns.clone()], residual)),
                activation: self.activation,
            };
            // SAFETY: this task alone writes these channels of its outputs.
            unsafe { finish.run(s, &sums[i * stride..][..columns.len()], self.out.at(place, columns.len())) };
        }
    }
}

/// Packs a unit of a pixel's channels, `stride` words from part to part; zeros where there is no pixel or no channel.
#[inline(always)]
fn write_unit<S: Simd>(s: S, factors: Factors, pixel: Option<&[f32]>, unit: usize, to: &mut [f32], stride: usize) {
    let channels = pixel.map_or(&[][..], |pixel| &pixel[unit * factors.unit_values()..]);
    for lane in (0..CHUNK).step_by(S::LANES) {
        let [first, second] = factors.sources::<S>(lane);
        let values = [load_channels(s, channels, first), load_channels(s, channels, second)];
        // SAFETY: `to` reaches from the first part's chunk to the last one's.
        unsafe { factors.write(s, values, to[lane..].as_mut_ptr(), stride) };
    }
}

/// A register of channels starting at `from`, with zeros past the last channel.
#[inline(always)]
fn load_channels<S: Simd>(s: S, channels: &[f32], from: usize) -> S::V {
    let rest = channels.get(from..).unwrap_or_default();
    // SAFETY: `rest` holds as many values as are read.
    unsafe { if rest.len() >= S::LANES { s.load(rest.as_ptr()) } else { s.load_part(rest.as_ptr(), rest.len()) } }
}
