//! GeoTIFF and Cloud-Optimized GeoTIFF as a [`Raster`]: only the chunks a window touches are read and decoded.
//!
//! Directories and georeference are read here (TIFF 6.0, BigTIFF, OGC GeoTIFF 1.1, GDAL's metadata tags); the codecs are those
//! of the `tiff` crate.

mod chunk;
mod geo;
mod ifd;
mod image;
mod jpeg;
mod metadata;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rayon::prelude::*;

use self::image::Image;
use crate::georef::Georef;
use crate::raster::datetime::{Timestamp, from_tiff_tag};
use crate::raster::error::RasterError;
use crate::raster::formats::cache::{ChunkCache, ChunkKey};
use crate::raster::formats::samples::{Run, Samples};
use crate::raster::pixels::{BandInfo, Patch, PixelWindow, Raster, RasterInfo};
use crate::storage::{ByteSource, FileBytes};

const FORMAT: &str = "GeoTIFF";

/// Decoded bytes held at once while a window is read.
const BATCH_BYTES: usize = 64 << 20;

/// `NewSubfileType` bits.
const REDUCED: u64 = 1;
const MASK: u64 = 4;

/// A GeoTIFF, open.
pub struct GeoTiff {
    name: String,
    source: Arc<dyn ByteSource>,
    info: RasterInfo,
    /// Full resolution first, then overviews, largest first.
    levels: Vec<Level>,
    cache: ChunkCache,
    id: u64,
    datetime: Option<Timestamp>,
}

struct Level {
    pixels: Image,
    mask: Option<Image>,
}

impl std::fmt::Debug for GeoTiff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeoTiff").field("name", &self.name).field("info", &self.info).finish_non_exhaustive()
    }
}

/// An error of the decoder as one of a raster.
fn raster_error(name: &str, error: &io::Error) -> RasterError {
    RasterError::of_decoder(name, FORMAT, error)
}

/// The georeference in a GeoTIFF that another format carries for it, for a raster of `width` by `height` pixels.
pub(crate) fn georef_of(name: &str, tiff: &Bytes, width: usize, height: usize) -> Result<Option<Georef>, RasterError> {
    let (_, directories) = ifd::read_directories(tiff).map_err(|error| raster_error(name, &error))?;
    geo::read(name, tiff, &directories[0], width, height)
}

impl GeoTiff {
    /// Opens a file on this machine.
    ///
    /// # Errors
    /// As [`GeoTiff::open`], and what the system says.
    pub fn open_path(path: &Path, cache: &ChunkCache) -> Result<Self, RasterError> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let bytes = FileBytes::open(path).map_err(|source| RasterError::of_io(&name, source))?;
        Self::open(&name, Arc::new(bytes), cache)
    }

    /// Reads the directories and the georeference of a file; no pixels.
    ///
    /// # Errors
    /// [`RasterError`] where the file is damaged, contradicts itself, or uses what this server cannot read.
    pub fn open(name: &str, source: Arc<dyn ByteSource>, cache: &ChunkCache) -> Result<Self, RasterError> {
        let failed = |error: io::Error| raster_error(name, &error);
        let (big_endian, directories) = ifd::read_directories(&*source).map_err(failed)?;
        let main = &directories[0];
        let read = |directory| Image::read(&*source, big_endian, directory).map_err(failed);
        let pixels = read(main)?;

        let (mut overviews, mut masks) = (Vec::new(), Vec::new());
        for directory in &directories[1..] {
            let kind = directory.unsigned_or(&*source, ifd::tag::SUBFILE_TYPE, 0).map_err(failed)?;
            if kind & MASK != 0 {
                masks.push(read(directory)?);
            } else if kind & REDUCED != 0 {
                let overview = read(directory)?;
                if overview.samples == pixels.samples && overview.width < pixels.width {
                    overviews.push(overview);
                }
            }
        }
        overviews.sort_by_key(|overview| std::cmp::Reverse(overview.width));

        let metadata = metadata::read(&*source, main, pixels.samples).map_err(failed)?;
        let datetime = from_tiff_tag(&main.text(&*source, ifd::tag::DATE_TIME).map_err(failed)?);
        let info = RasterInfo {
            width: pixels.width,
            height: pixels.height,
            bands: (0..pixels.samples)
                .map(|band| BandInfo { is_alpha: pixels.alpha == Some(band), ..metadata[band].clone() })
                .collect(),
            sample_type: pixels.sample_type(),
            georef: geo::read(name, &*source, main, pixels.width, pixels.height)?,
            is_normalised: false,
            overviews: overviews.iter().map(|overview| (overview.width, overview.height)).collect(),
        };
        let levels = std::iter::once(pixels)
            .chain(overviews)
            .map(|pixels| {
                let fits = |mask: &Image| (mask.width, mask.height) == (pixels.width, pixels.height);
                let mask = masks.iter().position(fits).map(|position| masks.swap_remove(position));
                Level { pixels, mask }
            })
            .collect();
        let (cache, id) = (cache.clone(), ChunkCache::next_raster_id());
        Ok(Self { name: name.to_owned(), source, info, levels, cache, id, datetime })
    }

    /// What is known of its bands, to complete it by what a catalogue says.
    pub(crate) fn bands_mut(&mut self) -> &mut [BandInfo] {
        &mut self.info.bands
    }

    /// The time in its `DateTime` tag, as UTC.
    pub fn datetime(&self) -> Option<Timestamp> {
        self.datetime
    }

    /// Calls `put` with the samples of one image in a window, run by run: the patch's pixel index of the run's first
    /// sample, the position of its band in `bands`, and the samples.
    fn visit(
        &self,
        image: &Image,
        image_id: usize,
        window: PixelWindow,
        bands: &[usize],
        mut put: impl FnMut(usize, usize, Run<'_>),
    ) -> Result<(), RasterError> {
        let (cols, rows) = (window.cols_within(image.width), window.rows_within(image.height));
        if cols.is_empty() || rows.is_empty() {
            return Ok(());
        }
        let planes: &[usize] = if image.planar { bands } else { &[0] };
        let mut wanted = Vec::new();
        for down in rows.start / image.chunk_height..=(rows.end - 1) / image.chunk_height {
            for across in cols.start / image.chunk_width..=(cols.end - 1) / image.chunk_width {
                let planes = planes.iter().enumerate();
                wanted.extend(planes.map(|(slot, band)| (down, across, slot, image.chunk_index(across, down, *band))));
            }
        }
        for batch in wanted.chunks((BATCH_BYTES / image.chunk_bytes().max(1)).max(1)) {
            for ((down, across, plane_slot, _), samples) in batch.iter().zip(self.chunks(image, image_id, batch)?) {
                let Some(samples) = samples else { continue };
                let (first_col, first_row) = (across * image.chunk_width, down * image.chunk_height);
                let col_range = cols.start.max(first_col)..cols.end.min(first_col + image.chunk_width);
                let step = image.chunk_samples();
                let slots = if image.planar { *plane_slot..plane_slot + 1 } else { 0..bands.len() };
                for row in rows.start.max(first_row)..rows.end.min(first_row + image.chunk_height) {
                    let to =
                        (row as i64 - window.row) as usize * window.width + (col_range.start as i64 - window.col) as usize;
                    let from = ((row - first_row) * image.chunk_width + col_range.start - first_col) * step;
                    for slot in slots.clone() {
                        let start = from + if image.planar { 0 } else { bands[slot] };
                        put(to, slot, Run { samples: &samples, start, step, len: col_range.len() });
                    }
                }
            }
        }
        Ok(())
    }

    /// The decoded chunks of a batch (`None` for one that was never written), from the cache or from the file, of which all
    /// that is missing is read together and decoded in parallel.
    fn chunks(
        &self,
        image: &Image,
        image_id: usize,
        batch: &[(usize, usize, usize, usize)],
    ) -> Result<Vec<Option<Arc<Samples>>>, RasterError> {
        let failed = |error: &io::Error| raster_error(&self.name, error);
        let key = |chunk| ChunkKey { raster: self.id, image: image_id as u32, chunk: chunk as u64 };
        let (mut missing, mut ranges) = (Vec::new(), Vec::new());
        for (.., chunk) in batch {
            let range = image.chunk_range(*chunk).map_err(|error| failed(&error))?;
            if let Some(range) = range.filter(|_| self.cache.get(key(*chunk)).is_none()) {
                missing.push(*chunk);
                ranges.push(range);
            }
        }
        let compressed = self.source.get_ranges(&ranges).map_err(|error| failed(&error))?;
        let compressed: HashMap<usize, Bytes> = missing.into_iter().zip(compressed).collect();
        let load = |chunk: usize| -> Result<Option<Arc<Samples>>, RasterError> {
            let Some((offset, len)) = image.chunk_range(chunk).map_err(|error| failed(&error))? else { return Ok(None) };
            let decode = || match compressed.get(&chunk) {
                Some(bytes) => chunk::decode(image, chunk, bytes),
                // It was in the cache a moment ago.
                None => chunk::decode(image, chunk, &self.source.read_at(offset, len)?),
            };
            self.cache.get_or_decode(key(chunk), decode).map(Some).map_err(|error| failed(&error))
        };
        if compressed.len() > 1 {
            batch.par_iter().map(|(.., chunk)| load(*chunk)).collect()
        } else {
            batch.iter().map(|(.., chunk)| load(*chunk)).collect()
        }
    }
}

impl Raster for GeoTiff {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        let Some(Level { pixels: image, mask }) = self.levels.get(level) else {
            return Err(RasterError::NoSuchPart { what: "overview", index: level, count: self.levels.len() });
        };
        if let Some(band) = bands.iter().find(|band| **band >= image.samples) {
            return Err(RasterError::NoSuchBand { band: band + 1, count: image.samples });
        }
        let mut patch = Patch::empty(window.width, window.height, bands.len());
        let Patch { pixels, valid, .. } = &mut patch;
        self.visit(image, 2 * level, window, bands, |to, slot, run| {
            run.for_each_valid(self.info.bands[bands[slot]].nodata, |offset, value| {
                pixels[(to + offset) * bands.len() + slot] = value;
                valid[to + offset] = true;
            });
        })?;

        let mask = match (mask, image.alpha) {
            (Some(mask), _) => Some((mask, 2 * level + 1, 0)),
            (None, Some(alpha)) => Some((image, 2 * level, alpha)),
            (None, None) => None,
        };
        if let Some((mask, id, band)) = mask {
            let mut covered = vec![false; patch.valid.len()];
            self.visit(mask, id, window, &[band], |to, _, run| {
                run.for_each_valid(Some(0.0), |offset, _| covered[to + offset] = true);
            })?;
            patch.mask(&covered);
        }
        Ok(patch)
    }
}
