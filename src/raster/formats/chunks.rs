//! The one reader of images that are stored in chunks (tiles or strips): which chunks a window touches, their decoded samples from
//! the cache or from the file, and the pixels of the window with their validity.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use rayon::prelude::*;

use super::cache::{ChunkCache, ChunkKey};
use super::error::{DecodeError, without_panic};
use super::samples::{Run, Samples};
use crate::budget::{BudgetError, MemoryGrant, Work};
use crate::raster::error::RasterError;
use crate::raster::pixels::{BandInfo, Patch, PixelWindow};
use crate::storage::in_parallel;

/// How one axis of an image is cut.
pub(crate) enum Axis {
    /// Chunks of `size` pixels, of which the last may reach beyond the image.
    Even {
        size: usize,
        /// Pixels of chunk 0 that lie before the image; whole chunks among them are possible.
        before: usize,
        /// Pixels of the image.
        len: usize,
    },
    /// The edges of all chunks, from 0 to the number of pixels.
    Edges(Vec<usize>),
}

impl Axis {
    /// Pixels of the image.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Even { len, .. } => *len,
            Self::Edges(edges) => edges.last().copied().unwrap_or(0),
        }
    }

    /// The chunks that hold the pixels `wanted`, of which there must be one.
    fn touched(&self, wanted: &Range<usize>) -> Range<usize> {
        match self {
            Self::Even { size, before, .. } => (wanted.start + before) / size..(wanted.end - 1 + before) / size + 1,
            Self::Edges(edges) => {
                edges.partition_point(|edge| *edge <= wanted.start).saturating_sub(1)
                    ..edges.partition_point(|edge| *edge < wanted.end).min(edges.len() - 1)
            }
        }
    }

    /// How many pixels a chunk stores, which of them is the first of `wanted` that it holds, and those it holds.
    fn overlap(&self, chunk: usize, wanted: &Range<usize>) -> (usize, usize, Range<usize>) {
        // Positions are counted from the start of chunk 0, so that they are never negative.
        let (start, size, before) = match self {
            Self::Even { size, before, .. } => (chunk * size, *size, *before),
            Self::Edges(edges) => (edges[chunk], edges[chunk + 1] - edges[chunk], 0),
        };
        let from = (wanted.start + before).max(start);
        let to = (wanted.end + before).min(start + size).max(from);
        (size, from - start, from - before..to - before)
    }
}

/// The order of samples in a decoded chunk, whose rows follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SampleOrder {
    /// So many samples of a pixel side by side.
    Interleaved(usize),
    /// One plane per band.
    Planes,
    /// One band: each has chunks of its own.
    OneBand,
}

/// How an image is cut into chunks.
pub(crate) struct Grid {
    pub(crate) columns: Axis,
    pub(crate) rows: Axis,
    pub(crate) layout: SampleOrder,
    /// Decoded chunks held at once, at least one, while a window is read.
    pub(crate) batch: usize,
}

/// One chunk of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkAt {
    pub(crate) column: usize,
    pub(crate) row: usize,
    /// 0 unless each band has chunks of its own.
    pub(crate) band: usize,
}

/// An image in chunks, as a format stores it.
pub(crate) trait ChunkedImage: Sync {
    fn grid(&self) -> &Grid;

    /// Numbers of the image in its file and of a chunk in the image, for the cache.
    fn number(&self, chunk: ChunkAt) -> (u32, u64);

    /// The stored bytes of chunks that are about to be decoded, for formats that gain by reading them together; others return
    /// nothing, and [`ChunkedImage::decode`] reads each chunk.
    ///
    /// # Errors
    /// [`DecodeError`] if they cannot be read.
    fn read_together(&self, _chunks: &[ChunkAt]) -> Result<Vec<Bytes>, DecodeError> {
        Ok(Vec::new())
    }

    /// Bytes in memory while a chunk is decoded, its samples among them, at most.
    fn decode_bytes(&self, chunk: ChunkAt) -> usize;

    /// The samples of a chunk; none at all for one that is not stored, whose pixels have no data.
    ///
    /// # Errors
    /// [`DecodeError`] if it cannot be read or is damaged.
    fn decode(&self, chunk: ChunkAt, stored: Option<&Bytes>) -> Result<Samples, DecodeError>;

    /// True if decoding waits for other machines rather than for the CPU.
    fn is_remote(&self) -> bool {
        false
    }
}

/// What tells which pixels have data. "No data" values of bands count too, unless it is an image of its own.
pub(crate) enum Mask<'a> {
    None,
    /// A sample of each pixel, which is 0 where there is no data.
    Band(usize),
    /// The first band of another image, which has the same size or more pixels.
    Image(&'a dyn ChunkedImage),
}

/// Decoded chunks, and the memory that some of them took.
type LoadedChunks = (Vec<Arc<Samples>>, Option<MemoryGrant>);

/// Reads the chunked images of one file.
pub(crate) struct ChunkReader {
    name: String,
    format: &'static str,
    cache: ChunkCache,
    /// Tells this file's chunks in the cache from those of others.
    file: u64,
}

impl ChunkReader {
    /// A reader of the file `name`, as errors call it.
    pub(crate) fn new(name: &str, format: &'static str, cache: &ChunkCache) -> Self {
        Self { name: name.to_owned(), format, cache: cache.clone(), file: ChunkCache::next_file() }
    }

    /// What errors call the file.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The pixels of a window of `image`: those of the 0-based `bands` of all that `infos` describe.
    ///
    /// # Errors
    /// [`RasterError::NoSuchBand`], and what decoding says.
    pub(crate) fn read(
        &self,
        image: &dyn ChunkedImage,
        mask: &Mask<'_>,
        infos: &[BandInfo],
        window: PixelWindow,
        bands: &[usize],
    ) -> Result<Patch, RasterError> {
        if let Some(band) = bands.iter().find(|band| **band >= infos.len()) {
            return Err(RasterError::NoSuchBand { band: band + 1, count: infos.len() });
        }
        let mut patch = Patch::empty(window.width, window.height, bands.len());
        let mut covered = if matches!(mask, Mask::Band(_)) { vec![false; patch.valid.len()] } else { Vec::new() };
        // The mask, where it is a band, is one more slot behind those that are wanted.
        let mut slots = bands.to_vec();
        slots.extend(if let Mask::Band(band) = mask { Some(*band) } else { None });
        let Patch { pixels, valid, .. } = &mut patch;
        self.visit(image, window, &slots, |to, slot, run| match bands.get(slot) {
            Some(band) => {
                // A mask that is an image of its own counts in place of "no data", as in GDAL.
                let nodata = infos[*band].nodata.filter(|_| !matches!(mask, Mask::Image(_)));
                let without_data = infos[*band].value_without_data();
                run.for_each(nodata, |offset, value, has_data| {
                    pixels[(to + offset) * bands.len() + slot] = if has_data { value } else { without_data };
                    valid[to + offset] |= has_data;
                });
            }
            None => run.for_each(Some(0.0), |offset, _, has_data| covered[to + offset] = has_data),
        })?;
        if let Mask::Image(mask) = mask {
            covered = self.coverage(*mask, (image.grid().columns.len(), image.grid().rows.len()), window)?;
        }
        if bands.iter().any(|band| infos[*band].nodata.is_some()) {
            patch.blank_invalid();
        }
        patch.mask(&covered);
        Ok(patch)
    }

    /// Calls `put(pixel of the window, slot of the band, samples)` for every run of a window's samples.
    pub(super) fn visit(
        &self,
        image: &dyn ChunkedImage,
        window: PixelWindow,
        bands: &[usize],
        mut put: impl FnMut(usize, usize, Run<'_>),
    ) -> Result<(), RasterError> {
        let Grid { columns, rows, layout, batch } = image.grid();
        let (cols_wanted, rows_wanted) = (window.cols_within(columns.len()), window.rows_within(rows.len()));
        if cols_wanted.is_empty() || rows_wanted.is_empty() {
            return Ok(());
        }
        let planes: &[usize] = if *layout == SampleOrder::OneBand { bands } else { &[0] };
        let mut wanted = Vec::new();
        for row in rows.touched(&rows_wanted) {
            for column in columns.touched(&cols_wanted) {
                wanted.extend(planes.iter().enumerate().map(|(slot, band)| (ChunkAt { column, row, band: *band }, slot)));
            }
        }
        for batch in wanted.chunks((*batch).max(1)) {
            let (loaded, _memory) = self.load(image, batch)?;
            for ((chunk, plane_slot), samples) in batch.iter().zip(loaded) {
                if samples.len() == 0 {
                    continue;
                }
                let (width, first_col, cols) = columns.overlap(chunk.column, &cols_wanted);
                let (height, first_row, lines) = rows.overlap(chunk.row, &rows_wanted);
                let slots = if *layout == SampleOrder::OneBand { *plane_slot..plane_slot + 1 } else { 0..bands.len() };
                for (down, line) in lines.enumerate() {
                    let to = window.index_of(cols.start, line);
                    let pixel = (first_row + down) * width + first_col;
                    for slot in slots.clone() {
                        let (start, step) = match layout {
                            SampleOrder::Interleaved(samples) => (pixel * samples + bands[slot], *samples),
                            SampleOrder::Planes => (pixel + bands[slot] * width * height, 1),
                            SampleOrder::OneBand => (pixel, 1),
                        };
                        put(to, slot, Run { samples: &samples, start, step, len: cols.len() });
                    }
                }
            }
        }
        Ok(())
    }

    /// The decoded chunks of a batch, and the memory for those that are not in the cache, which are decoded in parallel.
    fn load(&self, image: &dyn ChunkedImage, batch: &[(ChunkAt, usize)]) -> Result<LoadedChunks, RasterError> {
        let key = |chunk: ChunkAt| {
            let (image, chunk) = image.number(chunk);
            ChunkKey { file: self.file, image, chunk }
        };
        let found: Vec<Option<Arc<Samples>>> = batch.iter().map(|(chunk, _)| self.cache.get(key(*chunk))).collect();
        let missing: Vec<ChunkAt> =
            batch.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|((chunk, _), _)| *chunk).collect();
        let failed = |error: DecodeError| error.in_file(&self.name, self.format);
        Work::check().map_err(|_| failed(BudgetError::Ended.into()))?;
        let bytes = missing.iter().map(|chunk| image.decode_bytes(*chunk) as u64).sum();
        // Asked for before any chunk is read, because nobody may wait for memory who holds some.
        let memory = (bytes > 0).then(|| self.cache.budget().decoding("a chunk of it", bytes)).transpose();
        let memory = memory.map_err(|error| failed(error.into()))?;
        let stored = image.read_together(&missing).map_err(failed)?;
        let load = |index: usize| {
            let chunk = missing[index];
            self.cache.get_or_decode(key(chunk), || without_panic(|| image.decode(chunk, stored.get(index))))
        };
        let loaded = if image.is_remote() {
            in_parallel(missing.len(), load)
        } else if missing.len() > 1 {
            (0..missing.len()).into_par_iter().map(load).collect()
        } else {
            (0..missing.len()).map(load).collect()
        };
        let mut loaded = loaded.map_err(|error| failed(DecodeError::clone(&error)))?.into_iter();
        Ok((found.into_iter().filter_map(|samples| samples.or_else(|| loaded.next())).collect(), memory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_chunks_may_begin_before_the_image() {
        let axis = Axis::Even { size: 10, before: 25, len: 12 };
        assert_eq!(axis.touched(&(0..12)), 2..4);
        assert_eq!(axis.overlap(2, &(0..12)), (10, 5, 0..5));
        assert_eq!(axis.overlap(3, &(0..12)), (10, 0, 5..12));
        assert_eq!(axis.overlap(3, &(7..9)), (10, 2, 7..9));
    }

    #[test]
    fn uneven_chunks_are_found_by_their_edges() {
        let axis = Axis::Edges(vec![0, 3, 10, 12]);
        assert_eq!(axis.len(), 12);
        assert_eq!(axis.touched(&(3..10)), 1..2);
        assert_eq!(axis.touched(&(2..11)), 0..3);
        assert_eq!(axis.overlap(1, &(2..11)), (7, 0, 3..10));
        assert_eq!(axis.overlap(2, &(2..11)), (2, 0, 10..11));
    }
}
