//! PNG and JPEG files as a [`Raster`]. A picture can only be decoded as a whole, so it is one chunk: decoded when it is looked at,
//! kept in the cache of chunks for as long as that has room, and decoded again when wanted.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use super::cache::ChunkCache;
use super::chunks::{Axis, ChunkAt, ChunkReader, ChunkedImage, Grid, Mask, SampleOrder};
use super::error::{DecodeError, damaged, without_panic};
use super::limits::Limits;
use super::samples::Samples;
use super::sidecar::Sidecars;
use crate::raster::error::RasterError;
use crate::raster::pixels::{BandInfo, Patch, PixelWindow, Raster, RasterInfo, SampleType};
use crate::storage::ByteSource;

/// A PNG (8 or 16 bits, palettes as colours) or JPEG.
pub(crate) struct PictureFile {
    reader: ChunkReader,
    info: RasterInfo,
    image: WholePicture,
    alpha: Option<usize>,
}

impl PictureFile {
    /// Reads size and colours of a file; no pixels.
    ///
    /// # Errors
    /// [`RasterError::TooLarge`] beyond the limits, [`RasterError::Undecodable`] if its header is damaged.
    pub(crate) fn open(
        name: &str,
        source: Arc<dyn ByteSource>,
        is_png: bool,
        limits: &Limits,
        cache: &ChunkCache,
    ) -> Result<Self, RasterError> {
        let (format, format_name) = if is_png { (ImageFormat::Png, "PNG") } else { (ImageFormat::Jpeg, "JPEG") };
        let bytes = whole(&*source).map_err(|error| error.in_file(name, format_name))?;
        let header = without_panic(|| {
            let decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder();
            let decoder = decoder.map_err(|error| damaged(error.to_string()))?;
            Ok((decoder.dimensions(), decoder.color_type()))
        });
        let ((width, height), color) = header.map_err(|error| error.in_file(name, format_name))?;
        limits.check_pixels(name, width.into(), height.into())?;
        let (bands, has_alpha) = (usize::from(color.channel_count()), color.has_alpha());
        let alpha = has_alpha.then(|| bands - 1);
        let info = RasterInfo {
            width: width as usize,
            height: height as usize,
            bands: (0..bands).map(|band| BandInfo { is_alpha: alpha == Some(band), ..BandInfo::default() }).collect(),
            sample_type: sample_type(color),
            georef: None,
            is_normalised: false,
            overviews: Vec::new(),
        };
        let one = |len: usize| Axis::Even { size: len, before: 0, len };
        let grid =
            Grid { columns: one(info.width), rows: one(info.height), layout: SampleOrder::Interleaved(bands), batch: 1 };
        let image = WholePicture { source, format, color, grid };
        Ok(Self { reader: ChunkReader::new(name, format_name, cache), info, image, alpha })
    }

    /// The same with what files beside it state.
    ///
    /// # Errors
    /// [`RasterError::BadCrs`] and [`RasterError::BadGeoreference`] if they place it where it cannot be.
    pub(crate) fn beside(mut self, name: &str, beside: &Sidecars) -> Result<Self, RasterError> {
        beside.complete(name, &mut self.info)?;
        Ok(self)
    }
}

impl Raster for PictureFile {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        if level > 0 {
            return Err(RasterError::NoSuchPart { what: "overview", index: level, count: 1 });
        }
        let mask = self.alpha.map_or(Mask::None, Mask::Band);
        self.reader.read(&self.image, &mask, &self.info.bands, window, bands)
    }
}

fn sample_type(color: ColorType) -> SampleType {
    match color.bytes_per_pixel() / color.channel_count() {
        1 => SampleType::U8,
        2 => SampleType::U16,
        _ => SampleType::F32,
    }
}

fn whole(source: &dyn ByteSource) -> Result<Bytes, DecodeError> {
    let len = usize::try_from(source.len()).map_err(|_| damaged("it is larger than this machine's memory"))?;
    Ok(source.read_at(0, len)?)
}

/// A picture as its only chunk.
struct WholePicture {
    source: Arc<dyn ByteSource>,
    format: ImageFormat,
    color: ColorType,
    grid: Grid,
}

impl WholePicture {
    /// Bytes of the decoded pixels.
    fn bytes(&self) -> usize {
        self.grid.columns.len() * self.grid.rows.len() * usize::from(self.color.bytes_per_pixel())
    }
}

impl ChunkedImage for WholePicture {
    fn grid(&self) -> &Grid {
        &self.grid
    }

    fn number(&self, _chunk: ChunkAt) -> (u32, u64) {
        (0, 0)
    }

    fn decode_bytes(&self, _chunk: ChunkAt) -> usize {
        // The JPEG decoder holds planes of its own beside the pixels.
        let pixels = if self.format == ImageFormat::Jpeg { 2 * self.bytes() } else { self.bytes() };
        pixels + self.source.len() as usize
    }

    fn decode(&self, _chunk: ChunkAt, _stored: Option<&Bytes>) -> Result<Samples, DecodeError> {
        let mut reader = ImageReader::with_format(Cursor::new(whole(&*self.source)?), self.format);
        // As much again as the pixels for the decoder.
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(2 * self.bytes() as u64 + (16 << 20));
        reader.limits(limits);
        let picture = reader.decode().map_err(|error| damaged(error.to_string()))?;
        let samples = match picture {
            DynamicImage::ImageLuma8(image) => Samples::U8(image.into_raw()),
            DynamicImage::ImageLumaA8(image) => Samples::U8(image.into_raw()),
            DynamicImage::ImageRgb8(image) => Samples::U8(image.into_raw()),
            DynamicImage::ImageRgba8(image) => Samples::U8(image.into_raw()),
            DynamicImage::ImageLuma16(image) => Samples::U16(image.into_raw()),
            DynamicImage::ImageLumaA16(image) => Samples::U16(image.into_raw()),
            DynamicImage::ImageRgb16(image) => Samples::U16(image.into_raw()),
            DynamicImage::ImageRgba16(image) => Samples::U16(image.into_raw()),
            other if self.color.has_alpha() => Samples::F32(other.into_rgba32f().into_raw()),
            other => Samples::F32(other.into_rgb32f().into_raw()),
        };
        let needed = self.grid.columns.len() * self.grid.rows.len() * usize::from(self.color.channel_count());
        if samples.len() == needed { Ok(samples) } else { Err(damaged("it has other pixels than its header says")) }
    }
}
