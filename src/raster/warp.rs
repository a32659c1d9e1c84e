//! Reprojection of a raster onto any grid: the overview just finer than the output, the window under it, and a resampling
//! kernel at the inversely mapped position of every output pixel (GDAL's warper in small).

use rayon::prelude::*;

use super::mapping::{Block, Mapping, Position};
use super::resample::{Sampler, margin};
use super::{Patch, PixelWindow, Raster, RasterError, Resampling};
use crate::georef::Georef;

/// Side of the blocks that are warped in parallel.
const BLOCK_PX: usize = 128;

/// Source samples read for one block at a time; larger needs are met by splitting the block.
const MAX_BLOCK_SAMPLES: u64 = 16 << 20;

/// Source pixels one call may touch.
const MAX_SOURCE_PIXELS: f64 = (1u64 << 29) as f64;

/// How far from whole pixels a grid may lie and still be read without resampling.
const ALIGNED_PX: f64 = 1e-3;

/// Reads `bands` (0-based) of a raster on the grid `target`; what lies outside the raster is invalid.
///
/// # Errors
/// [`RasterError`] where the raster has no place on the Earth, cannot be decoded, or where so many of its pixels lie under
/// the target (for want of overviews) that reading them would take minutes.
pub fn warp(raster: &dyn Raster, target: &Georef, bands: &[usize], resampling: Resampling) -> Result<Patch, RasterError> {
    if bands.is_empty() {
        let needed = "at least one band is needed".to_owned();
        return Err(RasterError::InvalidOption { what: "bands", value: String::new(), needed });
    }
    let name = || "the raster".to_owned();
    let info = raster.info();
    let source = info.georef.as_ref().ok_or_else(|| RasterError::NotGeoreferenced { name: name() })?;
    if let Some(window) = aligned_window(source, target) {
        return raster.read(0, window, bands);
    }
    let mapping = Mapping::new(source, target).ok_or_else(|| RasterError::BadGeoreference {
        name: name(),
        reason: "its transform cannot be inverted".to_owned(),
    })?;
    let mut patch = Patch::empty(target.width, target.height, bands.len());
    let whole = Block { col: 0, row: 0, width: target.width, height: target.height };
    let Some(scale) = mapping.scale(whole) else { return Ok(patch) };
    let job = Job { raster, mapping, level: Level::choose(raster, scale), bands, resampling };

    let blocks: Vec<Block> = (0..target.height.div_ceil(BLOCK_PX))
        .flat_map(|down| (0..target.width.div_ceil(BLOCK_PX)).map(move |across| (across * BLOCK_PX, down * BLOCK_PX)))
        .map(|(col, row)| Block {
            col,
            row,
            width: BLOCK_PX.min(target.width - col),
            height: BLOCK_PX.min(target.height - row),
        })
        .collect();
    let parts = blocks.par_iter().map(|block| job.run(*block)).collect::<Result<Vec<_>, _>>()?;
    for (block, part) in blocks.iter().zip(parts).filter_map(|(block, part)| Some((block, part?))) {
        paste(&part, block, &mut patch);
    }
    Ok(patch)
}

/// The window of `source` that `target` is, where the two grids coincide.
fn aligned_window(source: &Georef, target: &Georef) -> Option<PixelWindow> {
    if source.crs != target.crs {
        return None;
    }
    let to_source = source.transform.inverse()?;
    let at = |col: usize, row: usize| {
        let (x, y) = target.transform.apply(col as f64, row as f64);
        to_source.apply(x, y)
    };
    let (col, row) = at(0, 0);
    let (col, row) = (col.round(), row.round());
    let near = |(x, y): (f64, f64), right: usize, below: usize| {
        (x - col - right as f64).abs() < ALIGNED_PX && (y - row - below as f64).abs() < ALIGNED_PX
    };
    let (width, height) = (target.width, target.height);
    let coincide = near(at(0, 0), 0, 0) && near(at(width, 0), width, 0) && near(at(0, height), 0, height);
    // Beyond 2^53 a float no longer counts pixels.
    (coincide && col.abs() < 9e15 && row.abs() < 9e15).then_some(PixelWindow {
        col: col as i64,
        row: row as i64,
        width,
        height,
    })
}

/// One resolution of a raster.
struct Level {
    index: usize,
    width: usize,
    height: usize,
    /// Pixels of this level per pixel of full resolution.
    factor: (f64, f64),
}

impl Level {
    /// The coarsest level that is not coarser than the output.
    fn choose(raster: &dyn Raster, scale: (f64, f64)) -> Self {
        let info = raster.info();
        let level = |index: usize, (width, height): (usize, usize)| Self {
            index,
            width,
            height,
            factor: (width as f64 / info.width as f64, height as f64 / info.height as f64),
        };
        // Half a percent of slack: 4096 px halved seven times by a writer that rounds is still that level.
        let wanted = (scale.0 * scale.1).sqrt() * 1.005;
        let overviews = info.overviews.iter().enumerate().map(|(index, size)| level(index + 1, *size));
        overviews
            .filter(|level| 1.0 / (level.factor.0 * level.factor.1).sqrt() <= wanted)
            .min_by_key(|level| level.width)
            .unwrap_or_else(|| level(0, (info.width, info.height)))
    }
}

struct Job<'a> {
    raster: &'a dyn Raster,
    mapping: Mapping<'a>,
    level: Level,
    bands: &'a [usize],
    resampling: Resampling,
}

impl Job<'_> {
    /// One block of the output; `None` where it has no data.
    fn run(&self, block: Block) -> Result<Option<Patch>, RasterError> {
        let Some(scale) = self.mapping.scale(block) else { return Ok(None) };
        let factor = self.level.factor;
        let mut positions = self.mapping.positions(block, scale);
        let scale = (scale.0 * factor.0, scale.1 * factor.1);
        for position in &mut positions {
            *position = (position.0 * factor.0, position.1 * factor.1);
        }
        let Some(window) = self.window(&positions, scale) else { return Ok(None) };
        let pixels = window.width as u64 * window.height as u64;
        if pixels * self.bands.len() as u64 > MAX_BLOCK_SAMPLES {
            return self.run_halves(block, scale);
        }

        let source = self.raster.read(self.level.index, window, self.bands)?;
        if source.is_empty() {
            return Ok(None);
        }
        let mut part = Patch::empty(block.width, block.height, self.bands.len());
        let mut sampler = Sampler::new(&source, self.resampling, scale);
        let outputs = part.pixels.chunks_exact_mut(self.bands.len().max(1)).zip(&mut part.valid);
        for ((x, y), (pixel, valid)) in positions.into_iter().zip(outputs) {
            if self.is_inside((x, y)) {
                *valid = sampler.sample(x - window.col as f64, y - window.row as f64, pixel);
            }
        }
        Ok(Some(part))
    }

    fn is_inside(&self, (x, y): Position) -> bool {
        x >= 0.0 && y >= 0.0 && x < self.level.width as f64 && y < self.level.height as f64
    }

    /// The pixels of the level that the positions' kernels reach.
    fn window(&self, positions: &[Position], scale: (f64, f64)) -> Option<PixelWindow> {
        let (mut min, mut max) = ((f64::INFINITY, f64::INFINITY), (f64::NEG_INFINITY, f64::NEG_INFINITY));
        for &(x, y) in positions.iter().filter(|position| self.is_inside(**position)) {
            min = (min.0.min(x), min.1.min(y));
            max = (max.0.max(x), max.1.max(y));
        }
        let range = |min: f64, max: f64, scale: f64, size: usize| {
            let margin = margin(self.resampling, scale);
            let (start, end) = ((min - margin).floor().max(0.0), (max + margin).ceil().min(size as f64));
            (start < end).then_some((start as i64, (end - start) as usize))
        };
        let (col, width) = range(min.0, max.0, scale.0, self.level.width)?;
        let (row, height) = range(min.1, max.1, scale.1, self.level.height)?;
        Some(PixelWindow { col, row, width, height })
    }

    /// A block under which too many pixels lie, in two parts.
    fn run_halves(&self, block: Block, scale: (f64, f64)) -> Result<Option<Patch>, RasterError> {
        let needed = scale.0.max(1.0) * scale.1.max(1.0) * (block.width * block.height) as f64;
        if needed > MAX_SOURCE_PIXELS || block.width * block.height == 1 {
            return Err(RasterError::TooLarge {
                name: "the raster (it lacks overviews, which gdaladdo adds)".to_owned(),
                what: "pixels under the wanted window",
                found: needed as u64,
                limit: MAX_SOURCE_PIXELS as u64,
            });
        }
        let halves = if block.width >= block.height {
            let left = block.width / 2;
            [Block { width: left, ..block }, Block { col: block.col + left, width: block.width - left, ..block }]
        } else {
            let top = block.height / 2;
            [Block { height: top, ..block }, Block { row: block.row + top, height: block.height - top, ..block }]
        };
        let mut whole = Patch::empty(block.width, block.height, self.bands.len());
        for half in halves {
            if let Some(part) = self.run(half)? {
                let relative = Block { col: half.col - block.col, row: half.row - block.row, ..half };
                paste(&part, &relative, &mut whole);
            }
        }
        Ok(Some(whole))
    }
}

/// Copies a part to its place.
fn paste(part: &Patch, block: &Block, patch: &mut Patch) {
    for row in 0..part.height {
        let (from, to) = (row * part.width, (block.row + row) * patch.width + block.col);
        patch.valid[to..to + part.width].copy_from_slice(&part.valid[from..from + part.width]);
        patch.pixels[to * patch.bands..(to + part.width) * patch.bands]
            .copy_from_slice(&part.pixels[from * part.bands..(from + part.width) * part.bands]);
    }
}
