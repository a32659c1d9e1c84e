//! Decodes one map tile, a PNG, JPEG or WebP picture, to red, green, blue and validity.

use std::io::Cursor;

use image::{ImageFormat, ImageReader};

use super::{SAMPLES, TILE_SIDES};
use crate::raster::formats::error::{DecodeError, damaged, unsupported};

/// What errors call the format.
pub(super) const FORMAT: &str = "map tiles";

/// The format by the first bytes, because servers and archives often misname it.
fn format(bytes: &[u8]) -> Result<ImageFormat, DecodeError> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Ok(ImageFormat::Png),
        [0xff, 0xd8, 0xff, ..] => Ok(ImageFormat::Jpeg),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(ImageFormat::WebP),
        [0x1f, 0x8b, ..] | [0x1a, ..] => Err(vector_tiles()),
        start => Err(damaged(format!(
            "a PNG, JPEG or WebP picture is needed, but it starts with {:02x?}",
            &start[..start.len().min(4)]
        ))),
    }
}

/// The error for vector tiles, which no model can read.
pub(super) fn vector_tiles() -> DecodeError {
    unsupported("vector tiles (pictures as PNG, JPEG or WebP are needed)")
}

/// Width and height of a tile, which must be square.
///
/// # Errors
/// [`DecodeError`] if it is not a picture, not square, of an unusual size, or a vector tile.
pub(super) fn side(bytes: &[u8]) -> Result<usize, DecodeError> {
    let reader = ImageReader::with_format(Cursor::new(bytes), format(bytes)?);
    let (width, height) = reader.into_dimensions().map_err(|error| damaged(error.to_string()))?;
    if width != height || !TILE_SIDES.contains(&(width as usize)) {
        let (least, most) = (TILE_SIDES.start(), TILE_SIDES.end());
        return Err(damaged(format!("a tile has {width} x {height} pixels; squares of {least} to {most} are accepted")));
    }
    Ok(width as usize)
}

/// The pixels of a tile of `side_px`, `[side_px, side_px, 4]`.
///
/// # Errors
/// As [`side`], and if it has another size or is damaged.
pub(super) fn decode(bytes: &[u8], side_px: usize) -> Result<Vec<u8>, DecodeError> {
    // The size is checked before anything is allocated for pixels.
    let found = side(bytes)?;
    if found != side_px {
        return Err(damaged(format!("it has {found} x {found} pixels, others have {side_px} x {side_px}")));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format(bytes)?);
    // The most it can need: eight bytes per pixel (16-bit RGBA) and as much again for the decoder.
    let mut limits = image::Limits::default();
    limits.max_alloc = Some((side_px * side_px * 16 + (16 << 20)) as u64);
    reader.limits(limits);
    let mut pixels = reader.decode().map_err(|error| damaged(error.to_string()))?.into_rgba8().into_raw();
    // Half-transparent pixels count as valid.
    pixels.chunks_exact_mut(SAMPLES).for_each(|pixel| pixel[3] = if pixel[3] == 0 { 0 } else { 255 });
    Ok(pixels)
}
