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

/// Width and height of a picture.
///
/// # Errors
/// [`DecodeError`] if it is no picture, or a vector tile.
fn size(bytes: &[u8]) -> Result<(usize, usize), DecodeError> {
    let reader = ImageReader::with_format(Cursor::new(bytes), format(bytes)?);
    let (width, height) = reader.into_dimensions().map_err(|error| damaged(error.to_string()))?;
    Ok((width as usize, height as usize))
}

/// Width and height of a tile, which must be square; `None` for a placeholder: a picture of another size and of one colour, which
/// some writers put where they have no tile.
///
/// # Errors
/// [`DecodeError`] if it is not a picture, not square, of an unusual size, or a vector tile.
pub(super) fn side(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
    let (width, height) = size(bytes)?;
    if width == height && TILE_SIDES.contains(&width) {
        return Ok(Some(width));
    }
    if is_placeholder(bytes, width, height)? {
        return Ok(None);
    }
    let (least, most) = (TILE_SIDES.start(), TILE_SIDES.end());
    Err(damaged(format!("a tile has {width} x {height} pixels; squares of {least} to {most} are accepted")))
}

/// True if a picture of an unexpected size shows one colour.
fn is_placeholder(bytes: &[u8], width: usize, height: usize) -> Result<bool, DecodeError> {
    if width.max(height) > *TILE_SIDES.end() {
        return Ok(false);
    }
    let pixels = rgba(bytes, width, height)?;
    let (first, rest) = pixels.split_at(SAMPLES.min(pixels.len()));
    Ok(rest.chunks_exact(SAMPLES).all(|pixel| pixel == first))
}

/// The pixels of a tile of `side_px`, `[side_px, side_px, 4]`; nothing for a placeholder.
///
/// # Errors
/// As [`side`], and if it has another size or is damaged.
pub(super) fn decode(bytes: &[u8], side_px: usize) -> Result<Vec<u8>, DecodeError> {
    // The size is checked before anything is allocated for pixels.
    let (width, height) = size(bytes)?;
    if (width, height) != (side_px, side_px) {
        if is_placeholder(bytes, width, height)? {
            return Ok(Vec::new());
        }
        return Err(damaged(format!("it has {width} x {height} pixels, others have {side_px} x {side_px}")));
    }
    let mut pixels = rgba(bytes, width, height)?;
    // Half-transparent pixels count as valid.
    pixels.chunks_exact_mut(SAMPLES).for_each(|pixel| pixel[3] = if pixel[3] == 0 { 0 } else { 255 });
    Ok(pixels)
}

/// The pixels of a picture of a known size, `[height, width, 4]`.
fn rgba(bytes: &[u8], width: usize, height: usize) -> Result<Vec<u8>, DecodeError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format(bytes)?);
    // The most it can need: eight bytes per pixel (16-bit RGBA) and as much again for the decoder.
    let mut limits = image::Limits::default();
    limits.max_alloc = Some((width * height * 16 + (16 << 20)) as u64);
    reader.limits(limits);
    Ok(reader.decode().map_err(|error| damaged(error.to_string()))?.into_rgba8().into_raw())
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, Rgba};

    use super::*;

    fn png(width: u32, height: u32, colour: impl Fn(u32, u32) -> [u8; 4]) -> Vec<u8> {
        let picture = ImageBuffer::from_fn(width, height, |x, y| Rgba(colour(x, y)));
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).expect("memory");
        bytes.into_inner()
    }

    #[test]
    fn a_blank_picture_of_another_size_is_a_placeholder_and_one_with_something_on_it_is_an_error() {
        let full = png(64, 64, |x, y| [x as u8, y as u8, 0, 255]);
        assert_eq!((side(&full).expect("a tile"), decode(&full, 64).expect("a tile").len()), (Some(64), 64 * 64 * 4));
        for (width, height) in [(1, 1), (32, 32), (1, 256)] {
            let blank = png(width, height, |_, _| [200, 0, 0, 255]);
            assert_eq!(side(&blank).expect("a placeholder"), None);
            assert!(decode(&blank, 64).expect("a placeholder").is_empty());
        }
        assert!(decode(&png(128, 128, |_, _| [0; 4]), 64).expect("a placeholder").is_empty());
        for (width, height) in [(2, 1), (32, 32), (128, 128)] {
            assert!(decode(&png(width, height, |x, _| [x as u8, 0, 0, 255]), 64).is_err(), "{width} x {height}");
        }
        assert!(side(&png(32, 32, |x, _| [x as u8, 0, 0, 255])).is_err());
    }
}
