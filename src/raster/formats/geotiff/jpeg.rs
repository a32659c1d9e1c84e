//! JPEG compression in TIFF, apart from decoding: the size in a stream's header, and YCbCr colours, which other compressions hold too.
//!
//! Subsampled colours are interpolated as libjpeg-turbo does. GDAL built with IJG's libjpeg 7 or later (rasterio's wheels)
//! enlarges them by a larger inverse DCT instead, which differs by a few levels in blue and red, and hardly in brightness.

/// The frame header of a JPEG stream (ITU T.81, B.2.2).
pub(super) struct FrameHeader {
    pub(super) width: usize,
    pub(super) height: usize,
}

impl FrameHeader {
    /// `None` if the stream has no frame header before its image data.
    pub(super) fn read(stream: &[u8]) -> Option<Self> {
        let byte = |at: usize| stream.get(at).map(|byte| usize::from(*byte));
        let word = |at: usize| Some(byte(at)? << 8 | byte(at + 1)?);
        let mut at = 2;
        loop {
            if byte(at)? != 0xff {
                return None;
            }
            match byte(at + 1)? {
                0xff => at += 1,
                // SOF0 to SOF15 without DHT, JPG and DAC, which share their range.
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                    return Some(Self { width: word(at + 7)?, height: word(at + 5)? });
                }
                0x01 | 0xd0..=0xd8 => at += 2,
                0xd9 | 0xda => return None,
                _ => at += 2 + word(at + 2)?,
            }
        }
    }
}

/// JFIF's full-range YCbCr to RGB, in place.
pub(super) fn ycbcr_to_rgb(samples: &mut [u8]) {
    for pixel in samples.chunks_exact_mut(3) {
        let [y, cb, cr] = [f32::from(pixel[0]), f32::from(pixel[1]) - 128.0, f32::from(pixel[2]) - 128.0];
        // A float-to-integer cast saturates, which is the clamp to 0..=255.
        pixel[0] = (y + 1.402 * cr + 0.5) as u8;
        pixel[1] = (y - 0.344_136 * cb - 0.714_136 * cr + 0.5) as u8;
        pixel[2] = (y + 1.772 * cb + 0.5) as u8;
    }
}

/// Luma and colour differences of every pixel from units of `across` x `down` luma samples and one of each difference, as TIFF
/// stores subsampled YCbCr outside JPEG. `columns` and `rows` are those of the chunk.
pub(super) fn expand_units(units: &[u8], columns: usize, rows: usize, (across, down): (usize, usize)) -> Vec<u8> {
    let unit_bytes = across * down + 2;
    let row_of_units = columns.div_ceil(across) * unit_bytes;
    let mut samples = Vec::with_capacity(columns * rows * 3);
    for row in 0..rows {
        let line = units.get(row / down * row_of_units..).unwrap_or_default();
        for column in 0..columns {
            let unit = line.get(column / across * unit_bytes..).and_then(|rest| rest.get(..unit_bytes));
            let Some(unit) = unit else { return samples };
            samples.extend([unit[row % down * across + column % across], unit[across * down], unit[across * down + 1]]);
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_subsampled_colours_are_spread_over_their_pixels() {
        let units = [1, 2, 3, 4, 10, 20, 5, 6, 7, 8, 30, 40];
        let samples = expand_units(&units, 3, 2, (2, 2));
        assert_eq!(samples, [1, 10, 20, 2, 10, 20, 5, 30, 40, 3, 10, 20, 4, 10, 20, 7, 30, 40]);
    }
}
