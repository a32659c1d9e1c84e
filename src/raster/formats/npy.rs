//! NumPy arrays as rasters: `[H, W]`, `[C, H, W]`, or `[T, C, H, W]` for several captures.

use std::sync::Arc;

use crate::raster::error::RasterError;
use crate::raster::formats::limits::Limits;
use crate::raster::formats::memory::MemoryRaster;
use crate::raster::formats::npy_header::NpyHeader;
use crate::raster::formats::samples::Samples;

/// Bands accepted in one array.
const MAX_BANDS: u64 = 4096;

/// One raster per capture. Integers are pixel values; floats are network input already.
///
/// # Errors
/// [`RasterError`] where the shape or type cannot be an image, the file is cut short, or it is larger than allowed.
pub(crate) fn open(name: &str, bytes: &[u8], limits: &Limits) -> Result<Vec<MemoryRaster>, RasterError> {
    let undecodable = |reason: String| RasterError::Undecodable { name: name.to_owned(), format: "npy", reason };
    let (header, data) = NpyHeader::parse(bytes).map_err(undecodable)?;
    let (captures, bands, height, width) = match *header.shape {
        [height, width] => (1, 1, height, width),
        [bands, height, width] => (1, bands, height, width),
        [captures, bands, height, width] => (captures, bands, height, width),
        ref shape => {
            return Err(undecodable(format!("its shape is {shape:?}; [H, W], [C, H, W] or [T, C, H, W] are accepted")));
        }
    };
    if header.shape.contains(&0) {
        return Err(undecodable(format!("its shape {:?} holds no pixels", header.shape)));
    }
    limits.check_pixels(name, width, height)?;
    let bands_limit = |found, what, limit| RasterError::TooLarge { name: name.to_owned(), what, found, limit };
    if bands > MAX_BANDS {
        return Err(bands_limit(bands, "bands (arrays are read as [C, H, W])", MAX_BANDS));
    }
    // A value takes at least one byte, so a shape with more values than the file has bytes is wrong.
    let image_values = bands.checked_mul(height).and_then(|values| values.checked_mul(width));
    let values =
        image_values.and_then(|values| values.checked_mul(captures)).filter(|values| *values <= bytes.len() as u64);
    let Some(values) = values else {
        return Err(undecodable(format!("its shape {:?} needs more than its {} bytes", header.shape, bytes.len())));
    };
    if header.is_fortran_order {
        return Err(undecodable("its values are in Fortran order; save numpy.ascontiguousarray(array)".to_owned()));
    }

    let (samples, is_normalised) = read_samples(&header, values as usize, data).map_err(undecodable)?;
    let samples = Arc::new(samples);
    let (shape, values) = ((bands as usize, height as usize, width as usize), (bands * height * width) as usize);
    Ok((0..captures as usize)
        .map(|capture| MemoryRaster::from_planes(samples.clone(), capture * values, shape, is_normalised))
        .collect())
}

/// The first `count` values of `data`, and whether they are floats.
fn read_samples(header: &NpyHeader, count: usize, data: &[u8]) -> Result<(Samples, bool), String> {
    /// Values of `SIZE` bytes each, from little-endian bytes.
    fn values<const SIZE: usize, T>(
        header: &NpyHeader,
        count: usize,
        data: &[u8],
        read: impl Fn([u8; SIZE]) -> T,
    ) -> Result<Vec<T>, String> {
        let needed = count.saturating_mul(SIZE);
        let data = data.get(..needed).ok_or_else(|| format!("it ends after {} of {needed} bytes of values", data.len()))?;
        let (values, _) = data.as_chunks::<SIZE>();
        let ordered = |value: &[u8; SIZE]| {
            let mut value = *value;
            if header.is_big_endian {
                value.reverse();
            }
            read(value)
        };
        Ok(values.iter().map(ordered).collect())
    }
    Ok(match header.kind.as_str() {
        "u1" => (Samples::U8(values(header, count, data, u8::from_le_bytes)?), false),
        "u2" => (Samples::U16(values(header, count, data, u16::from_le_bytes)?), false),
        "u4" => (Samples::U32(values(header, count, data, u32::from_le_bytes)?), false),
        "i1" => (Samples::I16(values(header, count, data, |value| i8::from_le_bytes(value).into())?), false),
        "i2" => (Samples::I16(values(header, count, data, i16::from_le_bytes)?), false),
        "i4" => (Samples::I32(values(header, count, data, i32::from_le_bytes)?), false),
        "i8" => (Samples::F64(values(header, count, data, |value| i64::from_le_bytes(value) as f64)?), false),
        "u8" => (Samples::F64(values(header, count, data, |value| u64::from_le_bytes(value) as f64)?), false),
        "f4" => (Samples::F32(values(header, count, data, f32::from_le_bytes)?), true),
        "f8" => (Samples::F64(values(header, count, data, f64::from_le_bytes)?), true),
        kind => return Err(format!("its type is {kind}; integers, float32 and float64 are accepted")),
    })
}
