//! The pixel layout of one TIFF image: its size, sample type and chunks.
//!
//! A chunk is a tile or a strip. In a planar file each chunk holds one band, otherwise all of them.

use bytes::Bytes;

use super::chunk_table::ChunkTable;
use super::colours::{Colours, SampleFormat, SharedColours, StoredPixel};
use super::compression;
use super::ifd::{ImageDirectory, tag};
use crate::raster::formats::error::{DecodeError, damaged, unsupported};
use crate::raster::pixels::SampleType;
use crate::storage::ByteSource;

/// Bytes accepted in one decoded chunk (a strip may be the whole image).
const MAX_CHUNK_BYTES: u64 = 256 << 20;

/// Columns or rows accepted.
const MAX_SIDE: u64 = 1 << 24;

/// Bytes accepted in the tables that JPEG chunks share; JPEG allows for a few kilobytes.
const MAX_JPEG_TABLES: usize = 64 << 10;

/// Bands accepted.
const MAX_BANDS: u64 = 4096;

/// TIFF's photometric interpretation for luma and colour differences.
const PHOTOMETRIC_YCBCR: u64 = 6;

/// TIFF's photometric interpretation for inks, and how many make a colour.
const PHOTOMETRIC_CMYK: u64 = 5;
const INKS: usize = 4;

/// TIFF's `FillOrder` of bytes whose least significant bit comes first.
const LEAST_SIGNIFICANT_FIRST: u64 = 2;

/// One image of a file (full resolution, overview or mask).
#[derive(Debug)]
pub(super) struct Image {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Stored samples per pixel, including alpha and other extra samples.
    pub(super) samples: usize,
    /// Bands that they become.
    pub(super) bands: usize,
    pub(super) colours: Colours,
    pub(super) bits: u16,
    pub(super) format: SampleFormat,
    pub(super) planar: bool,
    tiled: bool,
    pub(super) chunk_width: usize,
    pub(super) chunk_height: usize,
    pub(super) compression: u16,
    pub(super) predictor: u16,
    pub(super) jpeg_tables: Bytes,
    /// Luma samples across and down that share their colour differences, where the codec leaves it to the reader to spread them.
    pub(super) subsampling: Option<(usize, usize)>,
    /// True if the least significant bit of the stored bytes comes first.
    pub(super) bits_reversed: bool,
    /// The first band that is alpha.
    pub(super) alpha: Option<usize>,
    pub(super) photometric: u64,
    pub(super) big_endian: bool,
    chunks: ChunkTable,
}

fn in_range(what: &str, value: u64, max: u64) -> Result<usize, DecodeError> {
    if (1..=max).contains(&value) {
        Ok(value as usize)
    } else {
        Err(damaged(format!("its {what} is {value}; 1 to {max} are accepted")))
    }
}

impl Image {
    /// Reads and checks the tags that describe pixels. What an overview does not say of its colours is as in `shared`.
    ///
    /// # Errors
    /// [`DecodeError`] if the tags contradict each other or describe a layout that is not supported.
    pub(super) fn read(
        source: &dyn ByteSource,
        big_endian: bool,
        directory: &ImageDirectory,
        shared: &SharedColours<'_>,
    ) -> Result<Self, DecodeError> {
        let number = |tag, default| directory.unsigned_or(source, tag, default);
        let width = in_range("width", number(tag::WIDTH, 0)?, MAX_SIDE)?;
        let height = in_range("height", number(tag::LENGTH, 0)?, MAX_SIDE)?;
        let samples = in_range("number of samples per pixel", number(tag::SAMPLES_PER_PIXEL, 1)?, MAX_BANDS)?;

        let bits = uniform("bits per sample", &directory.unsigneds(source, tag::BITS_PER_SAMPLE)?, 1)?;
        let format = match uniform("sample formats", &directory.unsigneds(source, tag::SAMPLE_FORMAT)?, 1)? {
            1 | 4 => SampleFormat::Unsigned,
            2 => SampleFormat::Signed,
            3 => SampleFormat::Float,
            other => return Err(unsupported(format!("sample format {other} (complex numbers?)"))),
        };
        let (compression, predictor) =
            (number(tag::COMPRESSION, u64::from(compression::NONE))? as u16, number(tag::PREDICTOR, 1)? as u16);
        compression::check(compression)?;
        let whole_bytes = matches!(bits, 8 | 16 | 32 | 64);
        let bits_fit = match (compression, format) {
            (compression::CCITT_FAX4, _) => bits == 1 && samples == 1,
            (compression::JPEG | compression::WEBP, _) => bits == 8,
            (_, SampleFormat::Float) => matches!(bits, 16 | 32 | 64),
            (_, SampleFormat::Signed) => whole_bytes,
            (_, SampleFormat::Unsigned) => whole_bytes || ((1..32).contains(&bits) && predictor == 1),
        };
        if !bits_fit {
            return Err(unsupported(format!(
                "{bits} bits per sample ({format:?}, predictor {predictor}, compression {compression})"
            )));
        }

        let planar = number(tag::PLANAR_CONFIGURATION, 1)? == 2 && samples > 1;
        let mut extra = directory.unsigneds(source, tag::EXTRA_SAMPLES)?;
        let photometric = number(tag::PHOTOMETRIC, 1)?;
        if photometric == PHOTOMETRIC_CMYK {
            // Some versions of GDAL count inks among the extra samples.
            extra.drain(..extra.len().saturating_sub(samples.saturating_sub(INKS)));
        }
        let pixel = StoredPixel { samples, extra: extra.len(), bits, format, planar };
        let colours = Colours::read(source, directory, shared, pixel, compression == compression::WEBP)?;
        let subsampling =
            if photometric == PHOTOMETRIC_YCBCR && !matches!(compression, compression::JPEG | compression::WEBP) {
                Some(subsampling(&directory.unsigneds(source, tag::YCBCR_SUBSAMPLING)?)?).filter(|units| *units != (1, 1))
            } else {
                None
            };
        if subsampling.is_some() && predictor != 1 {
            return Err(unsupported("subsampled colours with a predictor"));
        }

        let tiled = directory.has(tag::TILE_WIDTH);
        let (chunk_width, chunk_height) = if tiled {
            (
                in_range("tile width", number(tag::TILE_WIDTH, 0)?, MAX_SIDE)?,
                in_range("tile height", number(tag::TILE_LENGTH, 0)?, MAX_SIDE)?,
            )
        } else {
            // 2^32 - 1 means that one strip holds all rows.
            let rows = number(tag::ROWS_PER_STRIP, u64::from(u32::MAX))?.min(height as u64);
            (width, in_range("number of rows per strip", rows, MAX_SIDE)?)
        };
        let chunks_of_a_plane = width.div_ceil(chunk_width) * height.div_ceil(chunk_height);
        let sample_bytes = u64::from(bits.div_ceil(8).next_power_of_two());
        let bands = colours.bands(samples);
        let chunk_bands = if planar { 1 } else { samples.max(bands) };
        let chunk_bytes = chunk_width as u64 * chunk_height as u64 * chunk_bands as u64 * sample_bytes;
        if chunk_bytes > MAX_CHUNK_BYTES {
            return Err(damaged(format!("a chunk takes {chunk_bytes} bytes; {MAX_CHUNK_BYTES} are accepted")));
        }
        let plain_bytes = |index: usize| {
            let rows = if tiled { chunk_height } else { strip_rows(height, chunk_height, index) };
            let samples = if planar { 1 } else { samples };
            match subsampling {
                Some((across, down)) => (chunk_width.div_ceil(across) * rows.div_ceil(down) * (across * down + 2)) as u64,
                None => ((chunk_width * samples * usize::from(bits)).div_ceil(8) * rows) as u64,
            }
        };
        let chunks = chunks_of_a_plane * if planar { samples } else { 1 };
        let chunks = ChunkTable::read(source, directory, chunks, compression, plain_bytes)?;

        let in_extra = extra.iter().position(|meaning| matches!(meaning, 1 | 2));
        let in_extra = in_extra.and_then(|position| Some(samples.checked_sub(extra.len())? + position + bands - samples));
        let jpeg_tables = directory.bytes(source, tag::JPEG_TABLES)?;
        if jpeg_tables.len() > MAX_JPEG_TABLES {
            let found = jpeg_tables.len();
            return Err(damaged(format!("its JPEG tables take {found} bytes; {MAX_JPEG_TABLES} are accepted")));
        }
        Ok(Self {
            width,
            height,
            samples,
            bands,
            alpha: in_extra.or(colours.alpha()),
            colours,
            bits,
            format,
            planar,
            tiled,
            chunk_width,
            chunk_height,
            compression,
            predictor,
            jpeg_tables,
            subsampling,
            // JPEG streams have an order of their own.
            bits_reversed: compression != compression::JPEG && number(tag::FILL_ORDER, 1)? == LEAST_SIGNIFICANT_FIRST,
            photometric,
            big_endian,
            chunks,
        })
    }

    /// The type of its decoded samples.
    pub(super) fn sample_type(&self) -> SampleType {
        match (self.format, self.bits) {
            _ if matches!(self.colours, Colours::Palette { .. }) => SampleType::U8,
            (SampleFormat::Unsigned, ..=8) => SampleType::U8,
            (SampleFormat::Unsigned, 9..=16) => SampleType::U16,
            (SampleFormat::Unsigned, 17..=32) => SampleType::U32,
            (SampleFormat::Signed, ..=16) => SampleType::I16,
            (SampleFormat::Signed, 32) => SampleType::I32,
            (SampleFormat::Float, ..=32) => SampleType::F32,
            _ => SampleType::F64,
        }
    }

    /// Number of chunks per row of chunks.
    pub(super) fn chunks_across(&self) -> usize {
        self.width.div_ceil(self.chunk_width)
    }

    /// Number of rows of chunks.
    pub(super) fn chunks_down(&self) -> usize {
        self.height.div_ceil(self.chunk_height)
    }

    /// Stored samples per pixel in a chunk.
    pub(super) fn chunk_samples(&self) -> usize {
        if self.planar { 1 } else { self.samples }
    }

    /// Bands in a decoded chunk.
    pub(super) fn chunk_bands(&self) -> usize {
        if self.planar { 1 } else { self.bands }
    }

    /// The sample that a chunk of a planar image holds; 0 for other images.
    pub(super) fn plane(&self, index: usize) -> usize {
        index / (self.chunks_across() * self.chunks_down())
    }

    /// Columns and rows of the image that a chunk holds, without the padding of tiles at the edges.
    pub(super) fn inner_size(&self, index: usize) -> (usize, usize) {
        let within = index % (self.chunks_across() * self.chunks_down());
        let (across, down) = (within % self.chunks_across(), within / self.chunks_across());
        let left = |len: usize, size: usize, at: usize| size.min(len - at * size);
        (left(self.width, self.chunk_width, across), left(self.height, self.chunk_height, down))
    }

    /// The number of the chunk in a column and row of chunks; `band` counts in planar files only.
    pub(super) fn chunk_index(&self, across: usize, down: usize, band: usize) -> usize {
        let plane = if self.planar { band * self.chunks_across() * self.chunks_down() } else { 0 };
        plane + down * self.chunks_across() + across
    }

    /// Rows stored in a chunk: the last strip ends with the image, tiles are padded.
    pub(super) fn chunk_rows(&self, index: usize) -> usize {
        if self.tiled {
            return self.chunk_height;
        }
        strip_rows(self.height, self.chunk_height, index)
    }

    /// Size of one decoded chunk in bytes.
    pub(super) fn chunk_bytes(&self) -> usize {
        let sample_bytes = usize::from(self.bits.div_ceil(8).next_power_of_two());
        self.chunk_width * self.chunk_height * self.chunk_samples().max(self.chunk_bands()) * sample_bytes
    }

    /// Bytes of a chunk's samples in memory while it is decoded, at most: as stored and, if they have another type, as decoded.
    pub(super) fn decode_bytes(&self) -> usize {
        let samples = self.chunk_width * self.chunk_height * self.chunk_samples().max(self.chunk_bands());
        let (stored, decoded) = (self.chunk_bytes(), samples * self.sample_type().bytes());
        if stored == decoded { stored } else { stored + decoded }
    }

    /// Offset and length of a chunk in the file; `None` if it was never written (a sparse file).
    ///
    /// # Errors
    /// [`DecodeError`] if its length is more than its pixels can need.
    pub(super) fn chunk_range(&self, source: &dyn ByteSource, index: usize) -> Result<Option<(u64, usize)>, DecodeError> {
        // Compression makes even an incompressible chunk only little longer.
        let limit = 2 * self.chunk_bytes() as u64 + 65_536;
        match self.chunks.range(source, index)? {
            Some((_, len)) if len > limit => {
                Err(damaged(format!("chunk {index} claims {len} bytes; {limit} are accepted for its size")))
            }
            range => Ok(range.map(|(offset, len)| (offset, len as usize))),
        }
    }
}

/// Rows of a strip: the last one of a plane ends with the image.
fn strip_rows(height: usize, rows_per_strip: usize, index: usize) -> usize {
    let down = index % height.div_ceil(rows_per_strip);
    rows_per_strip.min(height - down * rows_per_strip)
}

/// Luma samples across and down that share their colour differences; TIFF's default is two by two.
fn subsampling(values: &[u64]) -> Result<(usize, usize), DecodeError> {
    match values {
        [] => Ok((2, 2)),
        [across @ (1 | 2 | 4), down @ (1 | 2 | 4), ..] => Ok((*across as usize, *down as usize)),
        other => Err(damaged(format!("its colours are subsampled by {other:?}"))),
    }
}

/// The value that all samples share.
fn uniform(what: &str, values: &[u64], default: u64) -> Result<u16, DecodeError> {
    let first = values.first().copied().unwrap_or(default);
    if values.iter().any(|value| *value != first) {
        return Err(unsupported(format!("bands with different {what}")));
    }
    u16::try_from(first).map_err(|_| damaged(format!("its {what} are {first}")))
}
