//! Reprojection of a raster onto any grid: the overview just finer than the output, the window under it, and a resampling
//! kernel at the inversely mapped position of every output pixel (GDAL's warper in small).

use rayon::prelude::*;

use super::mapping::{Block, Mapping, Position};
use super::readers::on_readers;
use super::resample::{Sampler, margin};
use crate::georef::{Crs, Georef};
use crate::raster::error::RasterError;
use crate::raster::pixels::{Overview, Patch, PixelWindow, Raster, RasterInfo, Resampling};

/// Side of the blocks that are warped in parallel.
const BLOCK_PX: usize = 128;

/// Source samples read for one block at a time; larger needs are met by splitting the block.
const MAX_BLOCK_SAMPLES: u64 = 16 << 20;

/// Source pixels one call may touch.
const MAX_SOURCE_PIXELS: f64 = (1u64 << 29) as f64;

/// Largest offset from whole pixels at which a grid is read without resampling.
const ALIGNED_PX: f64 = 1e-3;

/// Reads `bands` (0-based) of a raster on the grid `target`; what lies outside the raster is invalid.
///
/// # Errors
/// [`RasterError`] if the raster has no georeference, cannot be decoded, or lacks overviews so that reading all pixels under the
/// target would take minutes.
pub fn warp(raster: &dyn Raster, target: &Georef, bands: &[usize], resampling: Resampling) -> Result<Patch, RasterError> {
    on_readers(|| warp_here(raster, target, bands, resampling))
}

/// [`warp`](fn@warp) on the calling thread.
fn warp_here(raster: &dyn Raster, target: &Georef, bands: &[usize], resampling: Resampling) -> Result<Patch, RasterError> {
    if bands.is_empty() {
        let needed = "at least one band is needed".to_owned();
        return Err(RasterError::InvalidOption { what: "bands", value: String::new(), needed });
    }
    if let Some(warped) = raster.warped(target, bands, resampling) {
        return warped;
    }
    let info = raster.info();
    let source = info.georef.as_ref().ok_or_else(|| RasterError::NotGeoreferenced { name: NAME.to_owned() })?;
    if let Some(window) = aligned_window(source, target) {
        return raster.read(0, window, bands);
    }
    let level = Level::choose(info, source, target);
    project(raster, source, target, level, bands, resampling)
}

/// What errors call the raster, whose name is not known here.
const NAME: &str = "the raster";

/// Samples one level of a raster at the inversely mapped position of every pixel of `target`.
fn project(
    raster: &dyn Raster,
    source: &Georef,
    target: &Georef,
    level: Level,
    bands: &[usize],
    resampling: Resampling,
) -> Result<Patch, RasterError> {
    let mapping = Mapping::new(source, target).ok_or_else(|| RasterError::BadGeoreference {
        name: NAME.to_owned(),
        reason: "its transform cannot be inverted".to_owned(),
    })?;
    let job = BlockWarp { raster, mapping, level, bands, resampling };
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
    let mut patch = Patch::empty(target.width, target.height, bands.len());
    for (block, part) in blocks.iter().zip(parts).filter_map(|(block, part)| Some((block, part?))) {
        paste(&part, block, &mut patch);
    }
    Ok(patch)
}

/// The window of `source` that equals `target`, if their pixels coincide.
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
    /// 0 is full resolution, the others are overviews.
    index: usize,
    pixels: Overview,
    /// Columns and rows of full resolution.
    full: (usize, usize),
}

impl Level {
    fn new(info: &RasterInfo, index: usize) -> Self {
        let full = (info.width, info.height);
        let pixels = if index == 0 { Overview::of_areas(full, full) } else { info.overviews[index - 1] };
        Self { index, pixels, full }
    }

    /// The coarsest level that is not coarser than the target. It depends only on the whole raster and the target's pixel size, so
    /// that neighbouring tiles use the same level.
    fn choose(info: &RasterInfo, source: &Georef, target: &Georef) -> Self {
        let (width, height) = pixel_size(target);
        let scale = native_resolution(source, target).map_or(1.0, |native| (width * height).sqrt() / native);
        let is_fine = |level: &Self| {
            let factor = (level.pixels.factor.0 * level.pixels.factor.1).sqrt();
            // A pixel that stands for a place is no average of what lies around it; an output pixel takes in several of them.
            let least = if level.pixels.is_of_areas() { 1.0 } else { 2.0 };
            // Half a percent of slack for overview sizes that were rounded.
            least <= scale.max(1.0) * factor * 1.005
        };
        let levels = (0..=info.overviews.len()).map(|index| Self::new(info, index));
        levels.filter(is_fine).min_by_key(|level| level.pixels.width).unwrap_or_else(|| Self::new(info, 0))
    }

    /// A position at full resolution as one on this level; beyond the raster it is nowhere.
    fn position(&self, (x, y): Position) -> Position {
        let Overview { width, height, factor, shift } = self.pixels;
        let on = |at: f64, full: usize, factor: f64, shift: f64, size: usize| {
            // Half a pixel at the edge may lie beyond the places that the level's pixels stand for.
            if at >= 0.0 && at < full as f64 { (at * factor + shift).clamp(0.0, size as f64) } else { f64::NAN }
        };
        (on(x, self.full.0, factor.0, shift.0, width), on(y, self.full.1, factor.1, shift.1, height))
    }
}

/// Width and height of a grid's pixels in the units of its coordinate system.
fn pixel_size(georef: &Georef) -> (f64, f64) {
    let t = &georef.transform;
    (t.pixel_width.hypot(t.col_skew), t.pixel_height.hypot(t.row_skew))
}

/// The pixel size that keeps the number of pixels along the raster's diagonal, in units of the target's coordinate system (GDAL's
/// rule for the size of a warped raster).
fn native_resolution(source: &Georef, target: &Georef) -> Option<f64> {
    const STEPS: usize = 20;
    if source.crs == target.crs {
        let (width, height) = pixel_size(source);
        return Some((width * height).sqrt());
    }
    let (top, bottom) = mercator_rows(source, target);
    let middle = source.transform.apply(source.width as f64 / 2.0, (top + bottom) / 2.0);
    let middle_lon = source.crs.to_lon_lat(middle.0, middle.1)?.0;
    let (mut min, mut max) = ((f64::INFINITY, f64::INFINITY), (f64::NEG_INFINITY, f64::NEG_INFINITY));
    for step in 0..(STEPS + 1) * (STEPS + 1) {
        let share = |index: usize| index as f64 / STEPS as f64;
        let (col, row) =
            (share(step % (STEPS + 1)) * source.width as f64, top + share(step / (STEPS + 1)) * (bottom - top));
        let (x, y) = source.transform.apply(col, row);
        let Some((lon, lat)) = source.crs.to_lon_lat(x, y) else { continue };
        let lon = lon + 360.0 * ((middle_lon - lon) / 360.0).round();
        let Some((x, y)) = target.crs.from_lon_lat(lon, lat) else { continue };
        min = (min.0.min(x), min.1.min(y));
        max = (max.0.max(x), max.1.max(y));
    }
    let diagonal = (max.0 - min.0).hypot(max.1 - min.1) / (source.width as f64).hypot(bottom - top);
    (diagonal.is_finite() && diagonal > 0.0).then_some(diagonal)
}

/// First and last row of a raster that the target can show: Web Mercator cannot show the poles.
fn mercator_rows(source: &Georef, target: &Georef) -> (f64, f64) {
    const MAX_LAT: f64 = 85.06;
    let (t, height) = (&source.transform, source.height as f64);
    if target.crs != Crs::web_mercator() || !source.crs.is_geographic() || t.pixel_height == 0.0 {
        return (0.0, height);
    }
    let row = |lat: f64| ((lat - t.origin_y) / t.pixel_height).clamp(0.0, height);
    let (a, b) = (row(MAX_LAT), row(-MAX_LAT));
    if a < b { (a, b) } else { (b, a) }
}

struct BlockWarp<'a> {
    raster: &'a dyn Raster,
    mapping: Mapping<'a>,
    level: Level,
    bands: &'a [usize],
    resampling: Resampling,
}

impl BlockWarp<'_> {
    /// One block of the output; `None` if it has no data.
    fn run(&self, block: Block) -> Result<Option<Patch>, RasterError> {
        let Some(scale) = self.mapping.scale(block) else { return Ok(None) };
        let factor = self.level.pixels.factor;
        let mut positions = self.mapping.positions(block, scale);
        let scale = (scale.0 * factor.0, scale.1 * factor.1);
        for position in &mut positions {
            *position = self.level.position(*position);
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
            if is_somewhere((x, y)) {
                *valid = sampler.sample(x - window.col as f64, y - window.row as f64, pixel);
            }
        }
        Ok(Some(part))
    }

    /// The pixels of the level that the kernels at `positions` reach.
    fn window(&self, positions: &[Position], scale: (f64, f64)) -> Option<PixelWindow> {
        let (mut min, mut max) = ((f64::INFINITY, f64::INFINITY), (f64::NEG_INFINITY, f64::NEG_INFINITY));
        for &(x, y) in positions.iter().filter(|position| is_somewhere(**position)) {
            min = (min.0.min(x), min.1.min(y));
            max = (max.0.max(x), max.1.max(y));
        }
        let range = |min: f64, max: f64, scale: f64, size: usize| {
            let margin = margin(self.resampling, scale);
            let (start, end) = ((min - margin).floor().max(0.0), (max + margin).ceil().min(size as f64));
            (start < end).then_some((start as i64, (end - start) as usize))
        };
        let (col, width) = range(min.0, max.0, scale.0, self.level.pixels.width)?;
        let (row, height) = range(min.1, max.1, scale.1, self.level.pixels.height)?;
        Some(PixelWindow { col, row, width, height })
    }

    /// Warps a block in two halves, because too many source pixels lie under it.
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

fn is_somewhere((x, y): Position) -> bool {
    !x.is_nan() && !y.is_nan()
}

/// Copies a block into a patch.
fn paste(part: &Patch, block: &Block, patch: &mut Patch) {
    for row in 0..part.height {
        let (from, to) = (row * part.width, (block.row + row) * patch.width + block.col);
        patch.valid[to..to + part.width].copy_from_slice(&part.valid[from..from + part.width]);
        patch.pixels[to * patch.bands..(to + part.width) * patch.bands]
            .copy_from_slice(&part.pixels[from * part.bands..(from + part.width) * part.bands]);
    }
}
