//! Decodes one chunk, with the codecs and predictors of the `tiff` crate.
//!
//! The crate reads whole files with a stateful decoder, and refuses some directories. Here several threads decode chunks at
//! once, so each chunk is passed to the crate as a TIFF file of its own: a header with the few tags that matter, and the
//! compressed bytes as the only strip.

use std::io::Cursor;

use image::ImageDecoder;
use tiff::decoder::{Decoder, DecodingResult};

use super::colours::SampleFormat;
use super::compression;
use super::image::Image;
use super::jpeg::{FrameHeader, expand_units};
use super::packing::{crop, reverse_bits, unpack};
use crate::raster::formats::error::{DecodeError, damaged, unsupported};
use crate::raster::formats::samples::Samples;

/// The shape in which the crate decodes a chunk.
#[derive(Clone, Copy)]
struct Shape {
    width: usize,
    rows: usize,
    samples: usize,
    bits: u16,
}

/// Decodes the compressed bytes of chunk `index` to samples of bands.
///
/// # Errors
/// [`DecodeError`] if the bytes are damaged.
pub(super) fn decode(image: &Image, index: usize, compressed: &[u8]) -> Result<Samples, DecodeError> {
    let reversed = image.bits_reversed.then(|| reverse_bits(compressed));
    let compressed = reversed.as_deref().unwrap_or(compressed);
    let (width, rows, samples) = (image.chunk_width, image.chunk_rows(index), image.chunk_samples());
    let of_bytes = |width, rows| Shape { width, rows, samples: 1, bits: 8 };
    let is_packed = !matches!(image.bits, 8 | 16 | 32 | 64);
    let stored = if image.compression == compression::CCITT_FAX4 {
        let packed = bytes(inflate(image, Shape { width, rows, samples, bits: 1 }, compressed)?)?;
        unpack(&packed, width, rows, 1)
    } else if is_packed {
        let per_row = width * samples;
        let shape = of_bytes((per_row * usize::from(image.bits)).div_ceil(8), rows);
        unpack(&bytes(inflate(image, shape, compressed)?)?, per_row, rows, image.bits)
    } else if let Some((across, down)) = image.subsampling {
        let shape = of_bytes(width.div_ceil(across) * (across * down + 2), rows.div_ceil(down));
        Samples::U8(expand_units(&bytes(inflate(image, shape, compressed)?)?, width, rows, (across, down)))
    } else if let Some((columns, lines)) = embedded_size(image, index, compressed)? {
        let decoded = inflate(image, Shape { width: columns, rows: lines, samples, bits: image.bits }, compressed)?;
        if (columns, lines) == (width, rows) {
            decoded
        } else {
            Samples::U8(crop(&bytes(decoded)?, (columns, lines), samples, (width, rows)))
        }
    } else {
        inflate(image, Shape { width, rows, samples, bits: image.bits }, compressed)?
    };
    if stored.len() != width * rows * samples {
        return Err(damaged(format!("chunk {index} has {} samples", stored.len())));
    }
    Ok(image.colours.apply(stored, samples, image.plane(index)))
}

/// What the crate decodes of a chunk with `shape`.
fn inflate(image: &Image, shape: Shape, compressed: &[u8]) -> Result<Samples, DecodeError> {
    let file = one_chunk_file(image, shape, compressed);
    let mut limits = tiff::decoder::Limits::default();
    limits.decoding_buffer_size = shape.width * shape.rows * shape.samples * 8;
    limits.intermediate_buffer_size = file.len();
    limits.ifd_value_size = file.len();
    let mut decoder = Decoder::new(Cursor::new(file)).map_err(tiff_error)?.with_limits(limits);
    let samples = match decoder.read_chunk(0).map_err(tiff_error)? {
        DecodingResult::U8(samples) => Samples::U8(samples),
        DecodingResult::U16(samples) => Samples::U16(samples),
        DecodingResult::U32(samples) => Samples::U32(samples),
        DecodingResult::U64(samples) => Samples::F64(samples.into_iter().map(|sample| sample as f64).collect()),
        DecodingResult::I8(samples) => Samples::I16(samples.into_iter().map(i16::from).collect()),
        DecodingResult::I16(samples) => Samples::I16(samples),
        DecodingResult::I32(samples) => Samples::I32(samples),
        DecodingResult::I64(samples) => Samples::F64(samples.into_iter().map(|sample| sample as f64).collect()),
        DecodingResult::F16(samples) => Samples::F32(samples.into_iter().map(f32::from).collect()),
        DecodingResult::F32(samples) => Samples::F32(samples),
        DecodingResult::F64(samples) => Samples::F64(samples),
    };
    Ok(samples)
}

/// Bytes that are to be looked at further.
fn bytes(samples: Samples) -> Result<Vec<u8>, DecodeError> {
    match samples {
        Samples::U8(bytes) => Ok(bytes),
        other => Err(damaged(format!("a chunk has samples of type {:?}", other.sample_type()))),
    }
}

fn tiff_error(error: tiff::TiffError) -> DecodeError {
    match error {
        // Codecs report damage as I/O errors; the bytes are in memory, so the data is always to blame.
        tiff::TiffError::UnsupportedError(error) => unsupported(error.to_string()),
        error => damaged(error.to_string()),
    }
}

/// The size inside a JPEG or WebP stream, which decoders allocate; `None` for other compressions.
///
/// Some writers fill the last strip up to the height of the others, or leave out the padding of tiles at the edges. Both are
/// accepted, as libtiff does, if no pixel of the image is missing.
fn embedded_size(image: &Image, index: usize, compressed: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    let embedded = match image.compression {
        compression::JPEG => FrameHeader::read(compressed).map(|frame| (frame.width, frame.height)),
        compression::WEBP => image::codecs::webp::WebPDecoder::new(Cursor::new(compressed))
            .ok()
            .map(|decoder| decoder.dimensions())
            .map(|(width, height)| (width as usize, height as usize)),
        _ => return Ok(None),
    };
    let (columns, rows) = image.inner_size(index);
    match embedded {
        Some((width, height))
            if (columns..=image.chunk_width).contains(&width) && (rows..=image.chunk_height).contains(&height) =>
        {
            Ok(Some((width, height)))
        }
        Some((width, height)) => Err(damaged(format!(
            "a compressed chunk says it has {width} x {height} pixels, but the chunks of this file have {} x {}",
            image.chunk_width,
            image.chunk_rows(index)
        ))),
        None => Err(damaged("a compressed chunk has no readable header")),
    }
}

/// A TIFF file with the chunk as its only strip.
fn one_chunk_file(image: &Image, shape: Shape, compressed: &[u8]) -> Vec<u8> {
    const SHORT: u16 = 3;
    const LONG: u16 = 4;
    const UNDEFINED: u16 = 7;
    let (tables, entries) = (&image.jpeg_tables, if image.jpeg_tables.is_empty() { 11 } else { 12 });
    let tables_at = 8 + 2 + entries as usize * 12 + 4;
    let chunk_at = tables_at + tables.len();
    let mut file = Vec::with_capacity(chunk_at + compressed.len());
    let put16 = |file: &mut Vec<u8>, value: u16| {
        file.extend(if image.big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
    };
    let put32 = |file: &mut Vec<u8>, value: u32| {
        file.extend(if image.big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
    };
    file.extend(if image.big_endian { b"MM" } else { b"II" });
    put16(&mut file, 42);
    put32(&mut file, 8);
    put16(&mut file, entries);
    let format = match image.format {
        SampleFormat::Unsigned => 1,
        SampleFormat::Signed => 2,
        SampleFormat::Float => 3,
    };
    let mut entry = |tag: u16, field_type: u16, count: u32, value: u32| {
        put16(&mut file, tag);
        put16(&mut file, field_type);
        put32(&mut file, count);
        if field_type == SHORT {
            put16(&mut file, value as u16);
            put16(&mut file, 0);
        } else {
            put32(&mut file, value);
        }
    };
    entry(256, LONG, 1, shape.width as u32);
    entry(257, LONG, 1, shape.rows as u32);
    entry(258, SHORT, 1, shape.bits.into());
    entry(259, SHORT, 1, image.compression.into());
    entry(262, SHORT, 1, 1); // BlackIsZero, whatever the colours: the crate then hands out samples as they are
    entry(273, LONG, 1, chunk_at as u32);
    entry(277, SHORT, 1, shape.samples as u32);
    entry(278, LONG, 1, shape.rows as u32);
    entry(279, LONG, 1, compressed.len() as u32);
    entry(317, SHORT, 1, image.predictor.into());
    entry(339, SHORT, 1, format);
    if !tables.is_empty() {
        entry(347, UNDEFINED, tables.len() as u32, tables_at as u32);
    }
    put32(&mut file, 0);
    file.extend_from_slice(tables);
    file.extend_from_slice(compressed);
    file
}
