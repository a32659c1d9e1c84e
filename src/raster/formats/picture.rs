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
        Self::open_as(name, source, (is_png, false), limits, cache)
    }

    /// The same for a PNG, whose pixels are the indices of its palette if it has one.
    ///
    /// # Errors
    /// As [`PictureFile::open`].
    pub(crate) fn open_indices(
        name: &str,
        source: Arc<dyn ByteSource>,
        limits: &Limits,
        cache: &ChunkCache,
    ) -> Result<Self, RasterError> {
        Self::open_as(name, source, (true, true), limits, cache)
    }

    fn open_as(
        name: &str,
        source: Arc<dyn ByteSource>,
        (is_png, indices): (bool, bool),
        limits: &Limits,
        cache: &ChunkCache,
    ) -> Result<Self, RasterError> {
        let (format, format_name) = if is_png { (ImageFormat::Png, "PNG") } else { (ImageFormat::Jpeg, "JPEG") };
        let bytes = whole(&*source).map_err(|error| error.in_file(name, format_name))?;
        let indices = indices && bytes.get(PNG_COLOUR_TYPE) == Some(&PNG_PALETTE);
        let header = without_panic(|| {
            let decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder();
            let decoder = decoder.map_err(|error| damaged(error.to_string()))?;
            Ok((decoder.dimensions(), decoder.color_type()))
        });
        let ((width, height), color) = header.map_err(|error| error.in_file(name, format_name))?;
        limits.check_pixels(name, width.into(), height.into())?;
        let color = if indices { ColorType::L8 } else { color };
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
        let image = WholePicture { source, format, color, indices, grid };
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

/// Where a PNG says what its samples are, and that they are indices of a palette.
const PNG_COLOUR_TYPE: usize = 25;
const PNG_PALETTE: u8 = 3;

/// The indices of a PNG with a palette, one byte for each of its `count` pixels.
fn indices(file: Bytes, count: usize) -> Result<Vec<u8>, DecodeError> {
    let failed = |error: png::DecodingError| damaged(error.to_string());
    let limits = png::Limits { bytes: 2 * count + (16 << 20) };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(file), limits);
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(failed)?;
    // At least a bit for each pixel: the buffer has at most as many bytes as the pixels that were checked when the file was opened.
    let bytes = reader.output_buffer_size().filter(|bytes| *bytes <= count);
    let mut packed = vec![0; bytes.ok_or_else(|| damaged("it has other pixels than its header says"))?];
    let frame = reader.next_frame(&mut packed).map_err(failed)?;
    let bits = frame.bit_depth as usize;
    let row = |row: &[u8]| -> Vec<u8> {
        let sample = |at: usize| (row[at * bits / 8] >> (8 - bits - at * bits % 8)) & (u8::MAX >> (8 - bits));
        (0..frame.width as usize).map(sample).collect()
    };
    let samples: Vec<u8> = packed.chunks_exact(frame.line_size.max(1)).flat_map(row).collect();
    if samples.len() == count { Ok(samples) } else { Err(damaged("it has other pixels than its header says")) }
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
    /// Whether the pixels are those of a PNG's palette.
    indices: bool,
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
        let needed = self.grid.columns.len() * self.grid.rows.len() * usize::from(self.color.channel_count());
        if self.indices {
            return indices(whole(&*self.source)?, needed).map(Samples::U8);
        }
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
        if samples.len() == needed { Ok(samples) } else { Err(damaged("it has other pixels than its header says")) }
    }
}
