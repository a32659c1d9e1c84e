//! Decodes one chunk, with the codecs and predictors of the `tiff` crate.
//!
//! The crate reads whole files with a stateful decoder, and refuses some directories. Here several threads decode chunks at
//! once, so each chunk is passed to the crate as a TIFF file of its own: a header with the few tags that matter, and the
//! compressed bytes as the only strip.

use std::io::Cursor;

use image::ImageDecoder;
use tiff::decoder::{Decoder, DecodingResult};

use super::image::{COMPRESSION_JPEG, COMPRESSION_WEBP, Image, SampleFormat};
use super::jpeg::{FrameHeader, ycbcr_to_rgb};
use crate::raster::formats::error::{DecodeError, damaged, unsupported};
use crate::raster::formats::samples::Samples;

/// Decodes the compressed bytes of chunk `index`.
///
/// # Errors
/// [`DecodeError`] if the crate lacks the compression, or the bytes are damaged.
pub(super) fn decode(image: &Image, index: usize, compressed: &[u8]) -> Result<Samples, DecodeError> {
    let rows = image.chunk_rows(index);
    let pixels = image.chunk_width * rows;
    check_embedded_size(image, rows, compressed)?;

    let file = one_chunk_file(image, rows, compressed);
    let mut limits = tiff::decoder::Limits::default();
    limits.decoding_buffer_size = pixels * image.chunk_samples() * 8;
    limits.intermediate_buffer_size = file.len();
    limits.ifd_value_size = file.len();
    let mut decoder = Decoder::new(Cursor::new(file)).map_err(tiff_error)?.with_limits(limits);
    let samples = match decoder.read_chunk(0).map_err(tiff_error)? {
        DecodingResult::U8(packed) if image.bits < 8 => {
            Samples::U8(unpack_bits(&packed, image.chunk_width, rows, image.bits))
        }
        DecodingResult::U8(mut samples) => {
            if image.is_ycbcr {
                ycbcr_to_rgb(&mut samples);
            }
            Samples::U8(samples)
        }
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
    if samples.len() == pixels * image.chunk_samples() {
        Ok(samples)
    } else {
        Err(damaged(format!("chunk {index} has {} samples", samples.len())))
    }
}

fn tiff_error(error: tiff::TiffError) -> DecodeError {
    match error {
        // Codecs report damage as I/O errors; the bytes are in memory, so the data is always to blame.
        tiff::TiffError::UnsupportedError(error) => unsupported(error.to_string()),
        error => damaged(error.to_string()),
    }
}

/// Checks the size inside JPEG and WebP streams, which decoders allocate, against that of the chunk.
fn check_embedded_size(image: &Image, rows: usize, compressed: &[u8]) -> Result<(), DecodeError> {
    let embedded = match image.compression {
        COMPRESSION_JPEG => FrameHeader::read(compressed).map(|frame| (frame.width, frame.height)),
        COMPRESSION_WEBP => image::codecs::webp::WebPDecoder::new(Cursor::new(compressed))
            .ok()
            .map(|decoder| decoder.dimensions())
            .map(|(width, height)| (width as usize, height as usize)),
        _ => return Ok(()),
    };
    match embedded {
        Some((width, height)) if width == image.chunk_width && height == rows => Ok(()),
        Some((width, height)) => Err(damaged(format!(
            "a compressed chunk says it has {width} x {height} pixels, but the chunks of this file have {} x {rows}",
            image.chunk_width
        ))),
        None => Err(damaged("a compressed chunk has no readable header")),
    }
}

/// A TIFF file with the chunk as its only strip.
fn one_chunk_file(image: &Image, rows: usize, compressed: &[u8]) -> Vec<u8> {
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
    entry(256, LONG, 1, image.chunk_width as u32);
    entry(257, LONG, 1, rows as u32);
    entry(258, SHORT, 1, image.bits.into());
    entry(259, SHORT, 1, image.compression.into());
    entry(262, SHORT, 1, 1); // BlackIsZero, whatever the colours: the crate then hands out samples as they are
    entry(273, LONG, 1, chunk_at as u32);
    entry(277, SHORT, 1, image.chunk_samples() as u32);
    entry(278, LONG, 1, rows as u32);
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

/// Unpacks samples of less than 8 bits to one byte each. Rows start at whole bytes, most significant bits first.
fn unpack_bits(packed: &[u8], width: usize, rows: usize, bits: u16) -> Vec<u8> {
    let (bits, per_byte) = (usize::from(bits), 8 / usize::from(bits));
    let mask = (1u16 << bits) as u8 - 1;
    let row_bytes = width.div_ceil(per_byte);
    packed
        .chunks_exact(row_bytes)
        .take(rows)
        .flat_map(|row| (0..width).map(move |col| row[col / per_byte] >> (8 - bits - col % per_byte * bits) & mask))
        .collect()
}
