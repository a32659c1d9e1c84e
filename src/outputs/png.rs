//! Pictures as PNG, with as few bits per pixel as the palette needs.
//!
//! Filters only help photographs, so indices are not filtered. A fast deflate level takes well under a millisecond for a
//! 256 px tile, and still reduces long runs of one category to a few kilobytes.

use png::{BitDepth, ColorType, Compression, DeflateCompression, Encoder, Filter};

use super::error::OutputError;
use super::format::Format;
use super::picture::{Picture, Pixels, Rgba};
use crate::prediction::NO_CATEGORY;

/// Deflate level for indices: higher levels take twice the time and hardly save bytes.
const INDEXED_LEVEL: u8 = 2;

/// Writes a picture as palette, 8-bit grey (numbers, 255 transparent) or RGBA.
pub(super) fn encode(picture: Picture) -> Result<Vec<u8>, OutputError> {
    let (width, height) = (picture.width, picture.height);
    match picture.pixels {
        Pixels::Indexed { indices, palette } => {
            let depth = bit_depth(palette.len());
            write(width, height, &packed(&indices, width, depth), |encoder| {
                encoder.set_color(ColorType::Indexed);
                encoder.set_depth(depth);
                set_palette(encoder, &palette);
            })
        }
        Pixels::Numbers(numbers) => write(width, height, &numbers, |encoder| {
            encoder.set_color(ColorType::Grayscale);
            encoder.set_trns(vec![0, NO_CATEGORY]);
        }),
        Pixels::Rgba(rgba) => write(width, height, &rgba, |encoder| {
            encoder.set_color(ColorType::Rgba);
            encoder.set_compression(Compression::Fast);
        }),
    }
}

/// Writes 8-bit RGB or RGBA samples of a photograph.
pub(super) fn encode_photograph(
    width: usize,
    height: usize,
    color: ColorType,
    samples: &[u8],
) -> Result<Vec<u8>, OutputError> {
    write(width, height, samples, |encoder| {
        encoder.set_color(color);
        encoder.set_compression(Compression::Fast);
    })
}

fn write(
    width: usize,
    height: usize,
    samples: &[u8],
    configure: impl FnOnce(&mut Encoder<'_, &mut Vec<u8>>),
) -> Result<Vec<u8>, OutputError> {
    let side = |side: usize| u32::try_from(side).ok().filter(|side| (1..1 << 31).contains(side));
    let (Some(columns), Some(rows)) = (side(width), side(height)) else {
        return Err(OutputError::TooLarge { format: "png", width, height, limit: "a side has 1 to 2147483647 pixels" });
    };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, columns, rows);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_filter(Filter::NoFilter);
    encoder.set_deflate_compression(DeflateCompression::Level(INDEXED_LEVEL));
    configure(&mut encoder);
    let failed = |e: png::EncodingError| OutputError::encode(Format::Png, e);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(samples).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

fn set_palette(encoder: &mut Encoder<'_, &mut Vec<u8>>, palette: &[Rgba]) {
    encoder.set_palette(palette.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]).collect::<Vec<u8>>());
    encoder.set_trns(palette.iter().map(|[.., alpha]| *alpha).collect::<Vec<u8>>());
}

fn bit_depth(colors: usize) -> BitDepth {
    match colors {
        0..=2 => BitDepth::One,
        3..=4 => BitDepth::Two,
        5..=16 => BitDepth::Four,
        _ => BitDepth::Eight,
    }
}

/// Packs indices of `depth` bits into bytes, the leftmost pixel in the highest bits. Every row starts a new byte.
fn packed(indices: &[u8], width: usize, depth: BitDepth) -> Vec<u8> {
    let bits = depth as usize;
    if bits == 8 || width == 0 {
        return indices.to_vec();
    }
    let join = |pixels: &[u8]| (0..8 / bits).fold(0u8, |byte, i| byte << bits | pixels.get(i).copied().unwrap_or(0));
    indices.chunks(width).flat_map(|row| row.chunks(8 / bits).map(join)).collect()
}
