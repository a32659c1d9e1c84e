//! Pictures as lossless WebP.

use image::ExtendedColorType;
use image::codecs::webp::WebPEncoder;

use super::error::OutputError;
use super::format::Format;
use super::picture::Picture;

/// Longest side that WebP can have (14 bits).
const MAX_SIDE_PX: usize = 1 << 14;

pub(super) fn encode(picture: Picture) -> Result<Vec<u8>, OutputError> {
    let (width, height) = (picture.width, picture.height);
    if !(1..=MAX_SIDE_PX).contains(&width) || !(1..=MAX_SIDE_PX).contains(&height) {
        return Err(OutputError::TooLarge { format: "webp", width, height, limit: "a side has 1 to 16384 pixels" });
    }
    let mut bytes = Vec::new();
    WebPEncoder::new_lossless(&mut bytes)
        .encode(&picture.into_rgba(), width as u32, height as u32, ExtendedColorType::Rgba8)
        .map_err(|e| OutputError::encode(Format::Webp, e))?;
    Ok(bytes)
}
