//! JPEG 2000 (ISO/IEC 15444-1) as a [`Raster`]: only the tiles a window touches are read and decoded, at the resolution asked
//! for. Sentinel-2 comes in such files, one a band, in tiles of 1024 x 1024 pixels.
//!
//! Boxes and markers are read here; the wavelets and the entropy coder are those of `hayro-jpeg2000`.

mod boxes;
mod codestream;
mod gml;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};
use rayon::prelude::*;

pub(crate) use self::boxes::is_jpeg2000;
use self::codestream::Codestream;
use crate::georef::Georef;
use crate::raster::error::RasterError;
use crate::raster::formats::cache::{ChunkCache, ChunkKey};
use crate::raster::formats::geotiff;
use crate::raster::formats::samples::{Run, Samples};
use crate::raster::pixels::{BandInfo, Patch, PixelWindow, Raster, RasterInfo};
use crate::storage::ByteSource;

const FORMAT: &str = "JPEG 2000";

/// Decoded samples held at once while a window is read.
const BATCH_SAMPLES: usize = 1 << 26;

/// A JPEG 2000 file, open.
pub struct Jpeg2000 {
    name: String,
    source: Arc<dyn ByteSource>,
    info: RasterInfo,
    stream: Codestream,
    levels: Vec<Level>,
    cache: ChunkCache,
    id: u64,
}

/// One resolution: the edges of its tile columns and rows, in its pixels.
struct Level {
    columns: Vec<usize>,
    rows: Vec<usize>,
}

impl std::fmt::Debug for Jpeg2000 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jpeg2000").field("name", &self.name).field("info", &self.info).finish_non_exhaustive()
    }
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

fn unsupported(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, reason.into())
}

fn raster_error(name: &str, error: &io::Error) -> RasterError {
    RasterError::of_decoder(name, FORMAT, error)
}

impl Jpeg2000 {
    /// Reads the boxes, the main header and the georeference of a file; no pixels.
    ///
    /// # Errors
    /// [`RasterError`] where the file is damaged, contradicts itself, or uses what this server cannot read.
    pub fn open(name: &str, source: Arc<dyn ByteSource>, cache: &ChunkCache) -> Result<Self, RasterError> {
        let failed = |error: io::Error| raster_error(name, &error);
        let found = boxes::read(&*source).map_err(failed)?;
        let stream = Codestream::read(&*source, found.codestream.0, found.codestream.1).map_err(failed)?;
        let (width, height) = stream.size();
        let georef = match (&found.geo_jp2, &found.gml) {
            (Some(geo_jp2), _) => geotiff::georef_of(name, geo_jp2, width, height)?,
            (None, Some(gml)) => gml::read(name, gml, width, height)?,
            (None, None) => None,
        };
        let levels: Vec<Level> = (0..=stream.reductions)
            .map(|reduction| Level { columns: stream.column_edges(reduction), rows: stream.row_edges(reduction) })
            .collect();
        let info = RasterInfo {
            width,
            height,
            bands: (0..stream.components)
                .map(|band| BandInfo { is_alpha: found.alpha == Some(band), ..BandInfo::default() })
                .collect(),
            sample_type: stream.sample_type(),
            georef,
            is_normalised: false,
            overviews: levels[1..].iter().map(|level| level.size()).collect(),
        };
        let (cache, id) = (cache.clone(), ChunkCache::next_raster_id());
        Ok(Self { name: name.to_owned(), source, info, stream, levels, cache, id })
    }

    /// What is known of its bands, to complete it by what a catalogue says.
    pub(crate) fn bands_mut(&mut self) -> &mut [BandInfo] {
        &mut self.info.bands
    }

    /// The same, with a value that stands for "no data": the format has no place for it, products do.
    pub fn with_nodata(mut self, nodata: f64) -> Self {
        self.info.bands.iter_mut().for_each(|band| band.nodata = Some(nodata));
        self
    }

    /// The same, with physical value = `scale` x pixel + `offset` for every band, as a product says beside the file.
    pub fn with_scale(mut self, scale: f64, offset: f64) -> Self {
        self.info.bands.iter_mut().for_each(|band| (band.scale, band.offset) = (scale, offset));
        self
    }

    /// The same, at a place that is told beside the file; one in the file is kept.
    pub fn or_placed(mut self, georef: Option<Georef>) -> Self {
        self.info.georef = self.info.georef.or(georef);
        self
    }

    /// The samples of a tile, band after band.
    fn tile(&self, level: usize, column: usize, row: usize) -> Result<Arc<Samples>, RasterError> {
        let across = self.levels[level].columns.len() - 1;
        let key = ChunkKey { raster: self.id, image: level as u32, chunk: (row * across + column) as u64 };
        let samples = self.cache.get_or_decode(key, || {
            let (codestream, size) = self.stream.tile(&*self.source, column, row)?;
            let Level { columns, rows } = &self.levels[level];
            let pixels = (columns[column + 1] - columns[column]) * (rows[row + 1] - rows[row]);
            // Damaged streams can break an assertion of the decoder, which must cost this tile and nothing else.
            catch_unwind(AssertUnwindSafe(|| self.decode(&codestream, size, level, pixels)))
                .unwrap_or_else(|_| Err(invalid(format!("tile {column}, {row} is damaged"))))
        });
        samples.map_err(|error| raster_error(&self.name, &error))
    }

    /// Decodes one tile to `pixels` samples of each band.
    fn decode(&self, codestream: &[u8], size: (u32, u32), level: usize, pixels: usize) -> io::Result<Samples> {
        let damaged = |error: hayro_jpeg2000::DecodeError| invalid(error.to_string());
        let target_resolution = (level > 0).then_some((size.0 >> level, size.1 >> level));
        let settings = DecodeSettings { target_resolution, ..DecodeSettings::default() };
        let image = Image::new(codestream, &settings).map_err(damaged)?;
        let mut context = DecoderContext::default();
        let decoded = image.decode(&mut context).map_err(damaged)?;
        let bands = decoded.components();
        if bands.len() != self.stream.components || bands.iter().any(|band| band.samples().len() != pixels) {
            return Err(invalid("a tile has another size than it should"));
        }
        // The decoder makes signed samples unsigned.
        let half = if self.stream.signed { (1u32 << (self.stream.bits - 1)) as f32 } else { 0.0 };
        let most = ((1u32 << self.stream.bits) - 1) as f32;
        let values = bands.iter().flat_map(|band| band.samples()).map(|value| value.round().clamp(0.0, most) - half);
        Ok(match (self.stream.signed, self.stream.bits) {
            (false, ..=8) => Samples::U8(values.map(|value| value as u8).collect()),
            (false, _) => Samples::U16(values.map(|value| value as u16).collect()),
            (true, _) => Samples::I16(values.map(|value| value as i16).collect()),
        })
    }

    /// Calls `put(index in the window, slot of the band, samples)` for every run of a window.
    fn visit(
        &self,
        level: usize,
        window: PixelWindow,
        bands: &[usize],
        mut put: impl FnMut(usize, usize, Run<'_>),
    ) -> Result<(), RasterError> {
        let Level { columns, rows } = &self.levels[level];
        let (width, height) = self.levels[level].size();
        let (cols_wanted, rows_wanted) = (window.cols_within(width), window.rows_within(height));
        let touched = |edges: &[usize], wanted: &std::ops::Range<usize>| {
            edges.partition_point(|edge| *edge <= wanted.start).saturating_sub(1)
                ..edges.partition_point(|edge| *edge < wanted.end).min(edges.len() - 1)
        };
        if cols_wanted.is_empty() || rows_wanted.is_empty() {
            return Ok(());
        }
        let across = touched(columns, &cols_wanted);
        let tiles: Vec<(usize, usize)> =
            touched(rows, &rows_wanted).flat_map(|row| across.clone().map(move |column| (column, row))).collect();
        for batch in tiles.chunks((BATCH_SAMPLES / self.stream.tile_samples()).max(1)) {
            let load = |(column, row): &(usize, usize)| self.tile(level, *column, *row);
            let decoded = match batch {
                [one] => vec![load(one)?],
                batch => batch.par_iter().map(load).collect::<Result<Vec<_>, _>>()?,
            };
            for ((column, row), samples) in batch.iter().zip(decoded) {
                let (left, right) = (columns[*column], columns[column + 1]);
                let (top, bottom) = (rows[*row], rows[row + 1]);
                let cols = cols_wanted.start.max(left)..cols_wanted.end.min(right);
                for line in rows_wanted.start.max(top)..rows_wanted.end.min(bottom) {
                    let to = window.index_of(cols.start, line);
                    let from = (line - top) * (right - left) + cols.start - left;
                    for (slot, band) in bands.iter().enumerate() {
                        let start = from + band * (right - left) * (bottom - top);
                        put(to, slot, Run { samples: &samples, start, step: 1, len: cols.len() });
                    }
                }
            }
        }
        Ok(())
    }
}

impl Level {
    /// Columns and rows of the image at this resolution.
    fn size(&self) -> (usize, usize) {
        let last = |edges: &[usize]| edges.last().copied().unwrap_or(0);
        (last(&self.columns), last(&self.rows))
    }
}

impl Raster for Jpeg2000 {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        if level >= self.levels.len() {
            return Err(RasterError::NoSuchPart { what: "overview", index: level, count: self.levels.len() });
        }
        if let Some(band) = bands.iter().find(|band| **band >= self.info.bands.len()) {
            return Err(RasterError::NoSuchBand { band: band + 1, count: self.info.bands.len() });
        }
        let mut patch = Patch::empty(window.width, window.height, bands.len());
        let Patch { pixels, valid, .. } = &mut patch;
        self.visit(level, window, bands, |to, slot, run| {
            run.for_each_valid(self.info.bands[bands[slot]].nodata, |offset, value| {
                pixels[(to + offset) * bands.len() + slot] = value;
                valid[to + offset] = true;
            });
        })?;
        if let Some(alpha) = self.info.bands.iter().position(|band| band.is_alpha) {
            let mut covered = vec![false; patch.valid.len()];
            self.visit(level, window, &[alpha], |to, _, run| {
                run.for_each_valid(Some(0.0), |offset, _| covered[to + offset] = true);
            })?;
            patch.mask(&covered);
        }
        Ok(patch)
    }
}
