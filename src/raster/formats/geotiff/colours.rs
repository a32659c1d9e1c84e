//! From stored samples to the samples of bands: palettes, CMYK and YCbCr become red, green and blue, few bits and MinIsWhite become
//! grey from 0 (black) to the largest value (white).
//!
//! The meaning of samples is TIFF 6.0's photometric interpretation; results equal those of GDAL's colour tables and libtiff's RGBA
//! interface.

use super::ifd::{ImageDirectory, tag};
use super::jpeg::ycbcr_to_rgb;
use crate::raster::formats::band_item::nodata_number;
use crate::raster::formats::error::{DecodeError, damaged, unsupported};
use crate::raster::formats::samples::Samples;
use crate::raster::pixels::BandColour;
use crate::storage::ByteSource;

/// Photometric interpretations.
const MIN_IS_WHITE: u64 = 0;
const MIN_IS_BLACK: u64 = 1;
const RGB: u64 = 2;
const PALETTE: u64 = 3;
const MASK: u64 = 4;
const CMYK: u64 = 5;
const YCBCR: u64 = 6;
const LINEAR_RAW: u64 = 34892;

/// TIFF's `InkSet` of cyan, magenta, yellow and black.
const CMYK_INKS: u64 = 1;

/// TIFF's `SampleFormat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleFormat {
    Unsigned,
    Signed,
    Float,
}

/// The stored samples of a pixel.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredPixel {
    pub(super) samples: usize,
    /// How many of them are extra samples, which come last and are no colours.
    pub(super) extra: usize,
    pub(super) bits: u16,
    pub(super) format: SampleFormat,
    /// True if each sample has chunks of its own.
    pub(super) planar: bool,
}

/// What an overview does not say of its colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedColours<'a> {
    /// The directory of the full resolution, in the same file.
    pub(super) directory: &'a ImageDirectory,
    /// The "no data" value, if it is stated outside of the file, where it comes first.
    pub(super) nodata: Option<f64>,
    /// True if a palette's indices are wanted, and not its colours.
    pub(super) indices: bool,
}

/// What becomes of stored samples.
#[derive(Debug)]
pub(super) enum Colours {
    /// They are those of the bands.
    AsStored,
    /// Fewer than eight bits, spread over 0 to 255; `inverted` where 0 is white.
    Grey { max: u32, inverted: bool },
    /// The first sample chooses a colour.
    Palette { colours: Vec<[u8; 4]>, channels: usize },
    /// Four inks.
    Cmyk,
    /// Luma and two colour differences.
    Ycbcr,
}

impl Colours {
    /// Reads how samples are to be understood. An overview may lack the palette, which is then that of `shared`. `decoded_as_rgb` says
    /// that the codec itself makes colours of YCbCr.
    ///
    /// # Errors
    /// [`DecodeError`] for colours that are not understood, because pixels must not be taken for what they are not.
    pub(super) fn read(
        source: &dyn ByteSource,
        directory: &ImageDirectory,
        shared: &SharedColours<'_>,
        pixel: StoredPixel,
        decoded_as_rgb: bool,
    ) -> Result<Self, DecodeError> {
        let is_unsigned = pixel.format == SampleFormat::Unsigned;
        let few_bits = is_unsigned && pixel.bits < 8;
        let max = (1u64 << pixel.bits.min(32)).saturating_sub(1) as u32;
        let of_bits = |inverted| if few_bits || inverted { Self::Grey { max, inverted } } else { Self::AsStored };
        let photometric = directory.unsigned_or(source, tag::PHOTOMETRIC, MIN_IS_BLACK)?;
        let in_planes =
            |what: &str| if pixel.planar { Err(unsupported(format!("{what} in separate planes"))) } else { Ok(()) };
        let colour_samples = pixel.samples - pixel.extra.min(pixel.samples);
        match photometric {
            // A mask's samples are 0 or not.
            MASK => Ok(Self::AsStored),
            MIN_IS_BLACK | RGB | LINEAR_RAW => Ok(of_bits(false)),
            MIN_IS_WHITE => Ok(of_bits(is_unsigned && colour_samples == 1 && pixel.bits <= 32)),
            PALETTE if shared.indices => Ok(Self::AsStored),
            PALETTE => {
                let of = if directory.has(tag::COLOR_MAP) { directory } else { shared.directory };
                let map = of.unsigneds(source, tag::COLOR_MAP)?;
                // Like libtiff, take a palette image without palette as grey.
                if map.is_empty() {
                    return Ok(of_bits(false));
                }
                if !is_unsigned || pixel.bits > 16 {
                    return Err(unsupported(format!("a palette for samples of {} bits", pixel.bits)));
                }
                in_planes("a palette and other samples")?;
                Self::palette(&map, pixel.bits, nodata_of(source, directory, shared)?)
            }
            CMYK if directory.unsigned_or(source, tag::INK_SET, CMYK_INKS)? == CMYK_INKS && colour_samples == 4 => {
                if !is_unsigned || !matches!(pixel.bits, 8 | 16) {
                    return Err(unsupported(format!("CMYK colours of {} bits", pixel.bits)));
                }
                in_planes("CMYK colours")?;
                Ok(Self::Cmyk)
            }
            CMYK => Err(unsupported("inks other than cyan, magenta, yellow and black")),
            YCBCR if decoded_as_rgb => Ok(Self::AsStored),
            YCBCR => {
                if pixel.samples != 3 || pixel.bits != 8 || !is_unsigned {
                    return Err(unsupported("YCbCr colours with other than three samples of 8 bits"));
                }
                in_planes("YCbCr colours")?;
                Ok(Self::Ycbcr)
            }
            8..=10 => Err(unsupported("CIE L*a*b* colours")),
            32803 => Err(unsupported("a colour filter array (a raw photograph)")),
            32844 | 32845 => Err(unsupported("LogLuv colours")),
            other => Err(unsupported(format!("photometric interpretation {other}"))),
        }
    }

    /// A palette of 2^`bits` colours; the one whose index is `nodata` is transparent.
    fn palette(map: &[u64], bits: u16, nodata: Option<f64>) -> Result<Self, DecodeError> {
        let count = 1usize << bits;
        if map.len() < 3 * count {
            return Err(damaged(format!("its palette has {} numbers; {} are needed", map.len(), 3 * count)));
        }
        // Some writers fill in 8-bit colours where TIFF wants 16-bit ones (libtiff's `checkcmap`).
        let divisor = if map.iter().all(|level| *level < 256) { 1 } else { 257 };
        let level = |channel: usize, index: usize| (map[channel * count + index] / divisor).min(255) as u8;
        let is_nodata = |index: usize| nodata == Some(index as f64);
        let colours = (0..count)
            .map(|index| [level(0, index), level(1, index), level(2, index), if is_nodata(index) { 0 } else { 255 }]);
        let has_nodata = (0..count).any(is_nodata);
        Ok(Self::Palette { colours: colours.collect(), channels: if has_nodata { 4 } else { 3 } })
    }

    /// Number of bands that `samples` stored ones become.
    pub(super) fn bands(&self, samples: usize) -> usize {
        match self {
            Self::AsStored | Self::Grey { .. } | Self::Ycbcr => samples,
            Self::Palette { channels, .. } => samples - 1 + channels,
            Self::Cmyk => samples - 1,
        }
    }

    /// The colours of the first bands, as far as the photometric interpretation tells them.
    pub(super) fn band_colours(&self, photometric: u64) -> &'static [BandColour] {
        let is_rgb = photometric == RGB || !matches!(self, Self::AsStored | Self::Grey { .. });
        if is_rgb { &[BandColour::Red, BandColour::Green, BandColour::Blue] } else { &[] }
    }

    /// The band of stored sample `sample` of `samples`; `None` for one that is made to colours together with others.
    pub(super) fn band_of(&self, sample: usize, samples: usize) -> Option<usize> {
        let consumed = match self {
            Self::AsStored | Self::Grey { .. } | Self::Ycbcr => 0,
            Self::Palette { .. } => 1,
            Self::Cmyk => 4,
        };
        (sample >= consumed).then(|| sample + self.bands(samples) - samples)
    }

    /// The band that a palette's "no data" entry makes transparent.
    pub(super) fn alpha(&self) -> Option<usize> {
        matches!(self, Self::Palette { channels: 4, .. }).then_some(3)
    }

    /// A "no data" value in terms of bands. A palette's is transparent already, and that of inks stands for no colour.
    pub(super) fn nodata(&self, nodata: f64) -> Option<f64> {
        match self {
            Self::AsStored | Self::Ycbcr => Some(nodata),
            Self::Palette { .. } | Self::Cmyk => None,
            Self::Grey { max, inverted } => {
                let stored =
                    (nodata.fract() == 0.0 && (0.0..=f64::from(*max)).contains(&nodata)).then_some(nodata as u32)?;
                Some(f64::from(grey(stored, *max, *inverted)))
            }
        }
    }

    /// The samples of bands from those of a chunk, of which `per_pixel` belong to a pixel; in a planar image they are those of
    /// sample `plane`.
    pub(super) fn apply(&self, stored: Samples, per_pixel: usize, plane: usize) -> Samples {
        match (self, stored) {
            (Self::Grey { max, inverted }, stored) => {
                let is_inverted = |at: usize| *inverted && plane == 0 && at.is_multiple_of(per_pixel);
                match stored {
                    Samples::U8(samples) => Samples::U8(levels(samples, |at, level| grey(level, *max, is_inverted(at)))),
                    Samples::U16(samples) => Samples::U16(levels(samples, |at, level| grey(level, *max, is_inverted(at)))),
                    Samples::U32(samples) => Samples::U32(levels(samples, |at, level| grey(level, *max, is_inverted(at)))),
                    other => other,
                }
            }
            (Self::Palette { colours, channels }, Samples::U8(samples)) => {
                Samples::U8(look_up(&samples, per_pixel, &colours[..], *channels, |sample| sample))
            }
            (Self::Palette { colours, channels }, Samples::U16(samples)) => {
                Samples::U8(look_up(&samples, per_pixel, &colours[..], *channels, |sample| (sample >> 8) as u8))
            }
            (Self::Cmyk, Samples::U8(samples)) => Samples::U8(without_inks(&samples, per_pixel, u8::MAX)),
            (Self::Cmyk, Samples::U16(samples)) => Samples::U16(without_inks(&samples, per_pixel, u16::MAX)),
            (Self::Ycbcr, Samples::U8(mut samples)) => {
                ycbcr_to_rgb(&mut samples);
                Samples::U8(samples)
            }
            (_, stored) => stored,
        }
    }
}

/// The "no data" value of stored samples; that of the full resolution if an overview has none.
pub(super) fn nodata_of(
    source: &dyn ByteSource,
    directory: &ImageDirectory,
    shared: &SharedColours<'_>,
) -> Result<Option<f64>, DecodeError> {
    if shared.nodata.is_some() {
        return Ok(shared.nodata);
    }
    let of = if directory.has(tag::GDAL_NODATA) { directory } else { shared.directory };
    Ok(nodata_number(&of.text(source, tag::GDAL_NODATA)?))
}

/// A level of `0..=max`, spread over 0 to 255 if it has fewer bits.
fn grey(level: u32, max: u32, inverted: bool) -> u32 {
    let level = if inverted { max - level.min(max) } else { level };
    if max < 255 { (level * 255 + max / 2) / max } else { level }
}

fn levels<T: Copy + Into<u32> + TryFrom<u32>>(mut samples: Vec<T>, level: impl Fn(usize, u32) -> u32) -> Vec<T> {
    for (at, sample) in samples.iter_mut().enumerate() {
        *sample = T::try_from(level(at, (*sample).into())).unwrap_or(*sample);
    }
    samples
}

/// Colours in place of indices; other samples of a pixel follow.
fn look_up<T: Copy + Into<u32>>(
    samples: &[T],
    per_pixel: usize,
    colours: &[[u8; 4]],
    channels: usize,
    other: impl Fn(T) -> u8,
) -> Vec<u8> {
    let mut bands = Vec::with_capacity(samples.len() / per_pixel * (per_pixel - 1 + channels));
    for pixel in samples.chunks_exact(per_pixel) {
        let index: u32 = pixel[0].into();
        bands.extend_from_slice(&colours.get(index as usize).unwrap_or(&[0; 4])[..channels]);
        bands.extend(pixel[1..].iter().map(|sample| other(*sample)));
    }
    bands
}

/// Red, green and blue of cyan, magenta, yellow and black (libtiff's `putRGBcontig8bitCMYKtile`); other samples of a pixel follow.
fn without_inks<T: Copy + Into<u32> + TryFrom<u32>>(samples: &[T], per_pixel: usize, white: T) -> Vec<T> {
    let max: u64 = u64::from(white.into());
    let mut bands = Vec::with_capacity(samples.len() / per_pixel * (per_pixel - 1));
    for pixel in samples.chunks_exact(per_pixel) {
        let paper = |sample: T| max - u64::from(sample.into());
        let key = paper(pixel[3]);
        bands.extend(pixel[..3].iter().map(|ink| T::try_from((paper(*ink) * key / max) as u32).unwrap_or(white)));
        bands.extend_from_slice(&pixel[4..]);
    }
    bands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(samples: Samples) -> Vec<u8> {
        match samples {
            Samples::U8(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn few_bits_are_spread_and_white_zeros_turned_round() {
        let grey = |inverted| Colours::Grey { max: 3, inverted };
        assert_eq!(bytes(grey(false).apply(Samples::U8(vec![0, 1, 2, 3]), 1, 0)), [0, 85, 170, 255]);
        assert_eq!(bytes(grey(true).apply(Samples::U8(vec![0, 1, 2, 3]), 1, 0)), [255, 170, 85, 0]);
        assert_eq!(bytes(grey(true).apply(Samples::U8(vec![0, 3]), 2, 0)), [255, 255], "alpha is not turned round");
        assert_eq!(
            (grey(false).nodata(3.0), grey(true).nodata(3.0), grey(false).nodata(255.0)),
            (Some(255.0), Some(0.0), None)
        );
    }

    #[test]
    fn palettes_of_8_and_16_bit_colours_become_bands_and_nodata_transparent() {
        let map: Vec<u64> = [10, 20, 30, 40, 50, 60].iter().map(|level| level * 257).collect();
        let palette = Colours::palette(&map, 1, Some(1.0)).expect("a palette");
        assert_eq!((palette.bands(1), palette.alpha()), (4, Some(3)));
        assert_eq!(bytes(palette.apply(Samples::U8(vec![0, 1]), 1, 0)), [10, 30, 50, 255, 20, 40, 60, 0]);
        let old = Colours::palette(&[10, 20, 30, 40, 50, 60], 1, None).expect("a palette");
        assert_eq!(bytes(old.apply(Samples::U8(vec![1, 99]), 2, 0)), [20, 40, 60, 99], "another sample follows");
        assert!(Colours::palette(&[1; 5], 1, None).is_err());
    }

    #[test]
    fn inks_become_colours() {
        let cmyk = Colours::Cmyk;
        assert_eq!(bytes(cmyk.apply(Samples::U8(vec![0, 255, 255, 0, 0, 0, 0, 255]), 4, 0)), [255, 0, 0, 0, 0, 0]);
        let Samples::U16(bands) = cmyk.apply(Samples::U16(vec![65535, 0, 0, 32768]), 4, 0) else { panic!("16 bits") };
        assert_eq!(bands, [0, 32767, 32767]);
    }
}
