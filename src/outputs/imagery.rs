//! The imagery itself, rather than a prediction, as PNG.

use bytes::Bytes;
use png::ColorType;

use super::encode::Encoded;
use super::error::OutputError;
use super::format::Format;
use super::png as png_output;

/// Encodes 8-bit RGB `[height, width, 3]`. Pixels whose `valid` (`[height, width]`) is false are transparent.
///
/// # Errors
/// [`OutputError::Encode`] if the lengths contradict the size, [`OutputError::TooLarge`] if PNG cannot have this size.
pub fn encode_imagery(rgb: &[u8], valid: &[bool], width: usize, height: usize) -> Result<Encoded, OutputError> {
    if width.checked_mul(height) != Some(valid.len()) || rgb.len() / 3 != valid.len() || !rgb.len().is_multiple_of(3) {
        let reason = format!("{} samples and {} flags for {width} x {height} pixels", rgb.len(), valid.len());
        return Err(OutputError::encode(Format::Png, reason));
    }
    let bytes = if valid.iter().all(|valid| *valid) {
        png_output::encode_photograph(width, height, ColorType::Rgb, rgb)?
    } else {
        let pixel = |(rgb, valid): (&[u8], &bool)| if *valid { [rgb[0], rgb[1], rgb[2], 255] } else { [0; 4] };
        let rgba: Vec<u8> = rgb.chunks_exact(3).zip(valid).flat_map(pixel).collect();
        png_output::encode_photograph(width, height, ColorType::Rgba, &rgba)?
    };
    Ok(Encoded { bytes: Bytes::from(bytes), media_type: Format::Png.media_type() })
}
