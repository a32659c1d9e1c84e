//! NumPy arrays as rasters: `[H, W]`, `[C, H, W]`, or `[T, C, H, W]` for several captures.
//!
//! An array is never in memory as a whole: runs of rows of a band are its chunks.

use std::sync::Arc;

use bytes::Bytes;

use super::cache::ChunkCache;
use super::chunks::{Axis, ChunkAt, ChunkReader, ChunkedImage, Grid, Mask, SampleOrder};
use super::error::{DecodeError, damaged};
use super::limits::Limits;
use super::npy_header::{MOST_HEADER_BYTES, NpyHeader};
use super::samples::Samples;
use crate::raster::error::RasterError;
use crate::raster::pixels::{BandInfo, Patch, PixelWindow, Raster, RasterInfo, SampleType};
use crate::storage::ByteSource;

/// Bands accepted in one array.
const MAX_BANDS: u64 = 4096;

/// Captures or chips accepted in one array: as many as a request may have chips.
const MAX_IMAGES: u64 = 16_384;

/// Stored bytes of a chunk, unless a row has more.
const CHUNK_BYTES: usize = 1 << 20;

/// Chunks decoded together.
const BATCH: usize = 4;

/// One raster per capture. Integers are pixel values; floats are network input already.
///
/// # Errors
/// [`RasterError`] where the shape or type cannot be an image, the file is cut short, or it is larger than allowed.
pub(crate) fn open(
    name: &str,
    source: Arc<dyn ByteSource>,
    limits: &Limits,
    cache: &ChunkCache,
) -> Result<Vec<NpyImage>, RasterError> {
    let wrong = |reason: String| damaged(reason).in_file(name, FORMAT);
    let len = source.len();
    let head = source.read_at(0, len.min(MOST_HEADER_BYTES) as usize).map_err(|error| RasterError::of_read(name, error))?;
    let (header, data) = NpyHeader::parse(&head).map_err(wrong)?;
    let stored = Stored::of(&header.kind).map_err(wrong)?;
    let (images, bands, height, width) = match *header.shape {
        [height, width] => (1, 1, height, width),
        [bands, height, width] => (1, bands, height, width),
        [images, bands, height, width] => (images, bands, height, width),
        ref shape => {
            return Err(wrong(format!("its shape is {shape:?}; [H, W], [C, H, W] or [T, C, H, W] are accepted")));
        }
    };
    if header.shape.contains(&0) {
        return Err(wrong(format!("its shape {:?} holds no pixels", header.shape)));
    }
    limits.check_pixels(name, width, height)?;
    for (found, what, limit) in [
        (bands, "bands (arrays are read as [C, H, W])", MAX_BANDS),
        (images, "images (arrays are read as [T, C, H, W])", MAX_IMAGES),
    ] {
        if found > limit {
            return Err(RasterError::TooLarge { name: name.to_owned(), what, found, limit });
        }
    }
    let needed = header.shape.iter().try_fold(stored.bytes() as u64, |bytes, side| bytes.checked_mul(*side));
    let (held, needed) = (len - data as u64, needed.unwrap_or(u64::MAX));
    if needed > held {
        return Err(wrong(format!(
            "its shape {:?} needs more than its {len} bytes: it ends after {held} of {needed} bytes of values",
            header.shape
        )));
    }
    if header.is_fortran_order {
        return Err(wrong("its values are in Fortran order; save numpy.ascontiguousarray(array)".to_owned()));
    }
    let (bands, height, width) = (bands as usize, height as usize, width as usize);
    let info = RasterInfo {
        width,
        height,
        bands: vec![BandInfo::default(); bands],
        sample_type: stored.sample_type(),
        georef: None,
        is_normalised: stored.is_float(),
        overviews: Vec::new(),
    };
    let rows = (CHUNK_BYTES / (width * stored.bytes())).clamp(1, height);
    let grid = Grid {
        columns: Axis::Even { size: width, before: 0, len: width },
        rows: Axis::Even { size: rows, before: 0, len: height },
        layout: SampleOrder::OneBand,
        batch: BATCH,
    };
    let reader = ChunkReader::new(name, FORMAT, cache);
    let array = Arc::new(NpyArray { reader, source, data, stored, is_big_endian: header.is_big_endian, info, grid, rows });
    Ok((0..images as usize).map(|image| NpyImage { array: array.clone(), image }).collect())
}

const FORMAT: &str = "npy";

/// One image of an array.
#[derive(Clone)]
pub(crate) struct NpyImage {
    array: Arc<NpyArray>,
    image: usize,
}

/// What the images of an array share.
struct NpyArray {
    reader: ChunkReader,
    source: Arc<dyn ByteSource>,
    /// Where the values begin.
    data: usize,
    stored: Stored,
    is_big_endian: bool,
    /// Of each image.
    info: RasterInfo,
    grid: Grid,
    /// Of each chunk but the last of a band.
    rows: usize,
}

impl Raster for NpyImage {
    fn info(&self) -> &RasterInfo {
        &self.array.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        if level > 0 {
            return Err(RasterError::NoSuchPart { what: "overview", index: level, count: 1 });
        }
        self.array.reader.read(self, &Mask::None, &self.array.info.bands, window, bands)
    }
}

impl NpyImage {
    /// Values in a chunk.
    fn values(&self, chunk: ChunkAt) -> usize {
        let NpyArray { info, rows, .. } = &*self.array;
        info.width * (*rows).min(info.height - chunk.row * rows)
    }
}

impl ChunkedImage for NpyImage {
    fn grid(&self) -> &Grid {
        &self.array.grid
    }

    fn number(&self, chunk: ChunkAt) -> (u32, u64) {
        (self.image as u32, (chunk.row * self.array.info.bands.len() + chunk.band) as u64)
    }

    fn decode_bytes(&self, chunk: ChunkAt) -> usize {
        self.values(chunk) * (self.array.stored.bytes() + self.array.info.sample_type.bytes())
    }

    fn decode(&self, chunk: ChunkAt, _stored: Option<&Bytes>) -> Result<Samples, DecodeError> {
        let NpyArray { source, data, stored, is_big_endian, info, rows, .. } = &*self.array;
        let row = (self.image * info.bands.len() + chunk.band) * info.height + chunk.row * rows;
        let at = data + row * info.width * stored.bytes();
        let bytes = source.read_at(at as u64, self.values(chunk) * stored.bytes())?;
        Ok(stored.samples(&bytes, *is_big_endian))
    }
}

/// How values are stored.
#[derive(Clone, Copy, Debug)]
enum Stored {
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
}

impl Stored {
    /// The type with a code such as `f4`.
    fn of(kind: &str) -> Result<Self, String> {
        Ok(match kind {
            "u1" => Self::U8,
            "u2" => Self::U16,
            "u4" => Self::U32,
            "u8" => Self::U64,
            "i1" => Self::I8,
            "i2" => Self::I16,
            "i4" => Self::I32,
            "i8" => Self::I64,
            "f4" => Self::F32,
            "f8" => Self::F64,
            kind => {
                let kind: String = kind.chars().take(20).collect();
                return Err(format!("its type is {kind}; integers, float32 and float64 are accepted"));
            }
        })
    }

    /// Bytes of a value in the file.
    fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// The type of the samples that values become.
    fn sample_type(self) -> SampleType {
        match self {
            Self::U8 => SampleType::U8,
            Self::U16 => SampleType::U16,
            Self::U32 => SampleType::U32,
            Self::I8 | Self::I16 => SampleType::I16,
            Self::I32 => SampleType::I32,
            Self::F32 => SampleType::F32,
            Self::U64 | Self::I64 | Self::F64 => SampleType::F64,
        }
    }

    fn samples(self, bytes: &[u8], is_big_endian: bool) -> Samples {
        fn values<const SIZE: usize, T>(bytes: &[u8], is_big_endian: bool, read: impl Fn([u8; SIZE]) -> T) -> Vec<T> {
            let (values, _) = bytes.as_chunks::<SIZE>();
            let ordered = |value: &[u8; SIZE]| {
                let mut value = *value;
                if is_big_endian {
                    value.reverse();
                }
                read(value)
            };
            values.iter().map(ordered).collect()
        }
        let big = is_big_endian;
        match self {
            Self::U8 => Samples::U8(bytes.to_vec()),
            Self::U16 => Samples::U16(values(bytes, big, u16::from_le_bytes)),
            Self::U32 => Samples::U32(values(bytes, big, u32::from_le_bytes)),
            Self::U64 => Samples::F64(values(bytes, big, |value| u64::from_le_bytes(value) as f64)),
            Self::I8 => Samples::I16(values(bytes, big, |value| i8::from_le_bytes(value).into())),
            Self::I16 => Samples::I16(values(bytes, big, i16::from_le_bytes)),
            Self::I32 => Samples::I32(values(bytes, big, i32::from_le_bytes)),
            Self::I64 => Samples::F64(values(bytes, big, |value| i64::from_le_bytes(value) as f64)),
            Self::F32 => Samples::F32(values(bytes, big, f32::from_le_bytes)),
            Self::F64 => Samples::F64(values(bytes, big, f64::from_le_bytes)),
        }
    }
}
