//! The pixel layout of one TIFF image: its size, sample type and chunks.
//!
//! A chunk is a tile or a strip. In a planar file each chunk holds one band, otherwise all of them.

use bytes::Bytes;

use super::ifd::{Directory, Numbers, tag};
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

pub(super) const COMPRESSION_NONE: u16 = 1;
pub(super) const COMPRESSION_JPEG: u16 = 7;
pub(super) const COMPRESSION_WEBP: u16 = 50001;
const PHOTOMETRIC_YCBCR: u16 = 6;

/// TIFF's `SampleFormat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleFormat {
    Unsigned,
    Signed,
    Float,
}

/// One image of a file (full resolution, overview or mask).
#[derive(Debug)]
pub(super) struct Image {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Samples per pixel, including alpha and other extra samples.
    pub(super) samples: usize,
    pub(super) bits: u16,
    pub(super) format: SampleFormat,
    pub(super) planar: bool,
    tiled: bool,
    pub(super) chunk_width: usize,
    pub(super) chunk_height: usize,
    pub(super) compression: u16,
    pub(super) predictor: u16,
    pub(super) jpeg_tables: Bytes,
    pub(super) is_ycbcr: bool,
    /// Index of the first sample that is alpha.
    pub(super) alpha: Option<usize>,
    pub(super) big_endian: bool,
    offsets: Numbers,
    byte_counts: Numbers,
}

fn in_range(what: &str, value: u64, max: u64) -> Result<usize, DecodeError> {
    if (1..=max).contains(&value) {
        Ok(value as usize)
    } else {
        Err(damaged(format!("its {what} is {value}; 1 to {max} are accepted")))
    }
}

impl Image {
    /// Reads and checks the tags that describe pixels.
    ///
    /// # Errors
    /// [`DecodeError`] if the tags contradict each other or describe a layout that is not supported.
    pub(super) fn read(source: &dyn ByteSource, big_endian: bool, directory: &Directory) -> Result<Self, DecodeError> {
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
        let bits_fit = match format {
            SampleFormat::Float => matches!(bits, 16 | 32 | 64),
            SampleFormat::Signed => matches!(bits, 8 | 16 | 32 | 64),
            SampleFormat::Unsigned => matches!(bits, 1 | 2 | 4 | 8 | 16 | 32 | 64) && (bits >= 8 || samples == 1),
        };
        if !bits_fit {
            return Err(unsupported(format!("{bits} bits per sample ({format:?})")));
        }

        let planar = number(tag::PLANAR_CONFIGURATION, 1)? == 2 && samples > 1;
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
        let chunk_samples = if planar { 1 } else { samples };
        let chunk_bytes = chunk_width as u64 * chunk_height as u64 * chunk_samples as u64 * u64::from(bits.div_ceil(8));
        if chunk_bytes > MAX_CHUNK_BYTES {
            return Err(damaged(format!("a chunk takes {chunk_bytes} bytes; {MAX_CHUNK_BYTES} are accepted")));
        }

        let (offsets, byte_counts) =
            if tiled { (tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS) } else { (tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS) };
        let (offsets, byte_counts) = (directory.numbers(offsets)?, directory.numbers(byte_counts)?);
        let chunks = width.div_ceil(chunk_width) * height.div_ceil(chunk_height) * if planar { samples } else { 1 };
        if offsets.len() != chunks as u64 || byte_counts.len() != chunks as u64 {
            return Err(damaged(format!(
                "{chunks} chunks are needed, but there are {} offsets and {} byte counts",
                offsets.len(),
                byte_counts.len()
            )));
        }

        let extra = directory.unsigneds(source, tag::EXTRA_SAMPLES)?;
        let alpha = extra
            .iter()
            .position(|meaning| matches!(meaning, 1 | 2))
            .and_then(|position| Some(samples.checked_sub(extra.len())? + position));
        let jpeg_tables = directory.bytes(source, tag::JPEG_TABLES)?;
        if jpeg_tables.len() > MAX_JPEG_TABLES {
            let found = jpeg_tables.len();
            return Err(damaged(format!("its JPEG tables take {found} bytes; {MAX_JPEG_TABLES} are accepted")));
        }
        let compression = number(tag::COMPRESSION, u64::from(COMPRESSION_NONE))? as u16;
        let is_ycbcr = number(tag::PHOTOMETRIC, 1)? == u64::from(PHOTOMETRIC_YCBCR);
        if is_ycbcr && (compression != COMPRESSION_JPEG || samples != 3 || bits != 8) && compression != COMPRESSION_WEBP {
            return Err(unsupported("YCbCr colours outside 8-bit JPEG"));
        }
        Ok(Self {
            width,
            height,
            samples,
            bits,
            format,
            planar,
            tiled,
            chunk_width,
            chunk_height,
            compression,
            predictor: number(tag::PREDICTOR, 1)? as u16,
            jpeg_tables,
            is_ycbcr: is_ycbcr && compression == COMPRESSION_JPEG && !planar,
            alpha,
            big_endian,
            offsets,
            byte_counts,
        })
    }

    /// The type of its decoded samples.
    pub(super) fn sample_type(&self) -> SampleType {
        match (self.format, self.bits) {
            (SampleFormat::Unsigned, ..=8) => SampleType::U8,
            (SampleFormat::Unsigned, 16) => SampleType::U16,
            (SampleFormat::Unsigned, 32) => SampleType::U32,
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

    /// Samples per pixel in a chunk.
    pub(super) fn chunk_samples(&self) -> usize {
        if self.planar { 1 } else { self.samples }
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
        let down = index % self.chunks_down();
        self.chunk_height.min(self.height - down * self.chunk_height)
    }

    /// Size of one decoded chunk in bytes.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_width * self.chunk_height * self.chunk_samples() * usize::from(self.bits.div_ceil(8))
    }

    /// Bytes of a chunk's samples in memory while it is decoded, at most: as stored and, if they have another type, as decoded.
    pub(super) fn decode_bytes(&self) -> usize {
        let samples = self.chunk_width * self.chunk_height * self.chunk_samples();
        let (stored, decoded) = (usize::from(self.bits.div_ceil(8)), self.sample_type().bytes());
        samples * if stored == decoded { stored } else { stored + decoded }
    }

    /// Offset and length of a chunk in the file; `None` if it was never written (a sparse file).
    ///
    /// # Errors
    /// [`DecodeError`] if its length is more than its pixels can need.
    pub(super) fn chunk_range(&self, source: &dyn ByteSource, index: usize) -> Result<Option<(u64, usize)>, DecodeError> {
        let (offset, len) = (self.offsets.get(source, index)?, self.byte_counts.get(source, index)?);
        // Compression makes even an incompressible chunk only little longer.
        let limit = 2 * self.chunk_bytes() as u64 + 65_536;
        if len > limit {
            return Err(damaged(format!("chunk {index} claims {len} bytes; {limit} are accepted for its size")));
        }
        Ok((offset != 0 && len != 0).then_some((offset, len as usize)))
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
