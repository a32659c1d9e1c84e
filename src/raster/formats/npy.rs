//! NumPy arrays as rasters: `[H, W]`, `[C, H, W]`, or `[T, C, H, W]` for several captures.

use std::sync::Arc;

use npyz::{NpyFile, Order, TypeChar};

use crate::raster::error::RasterError;
use crate::raster::formats::limits::Limits;
use crate::raster::formats::memory::MemoryRaster;
use crate::raster::formats::samples::Samples;

/// Bands accepted in one array.
const MAX_BANDS: u64 = 4096;

/// The first bytes of every `.npy` file.
pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// One raster per capture. Integers are pixel values; floats are network input already.
///
/// # Errors
/// [`RasterError`] where the shape or type cannot be an image, the file is cut short, or it is larger than allowed.
pub(crate) fn open(name: &str, bytes: &[u8], limits: &Limits) -> Result<Vec<MemoryRaster>, RasterError> {
    let undecodable = |reason: String| RasterError::Undecodable { name: name.to_owned(), format: "npy", reason };
    let file = NpyFile::new(bytes).map_err(|error| undecodable(error.to_string()))?;
    let (captures, bands, height, width) = match *file.shape() {
        [height, width] => (1, 1, height, width),
        [bands, height, width] => (1, bands, height, width),
        [captures, bands, height, width] => (captures, bands, height, width),
        ref shape => {
            return Err(undecodable(format!("its shape is {shape:?}; [H, W], [C, H, W] or [T, C, H, W] are accepted")));
        }
    };
    if file.shape().contains(&0) {
        return Err(undecodable(format!("its shape {:?} holds no pixels", file.shape())));
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
    if values.is_none() {
        return Err(undecodable(format!("its shape {:?} needs more than its {} bytes", file.shape(), bytes.len())));
    }
    if file.order() == Order::Fortran {
        return Err(undecodable("its values are in Fortran order; save numpy.ascontiguousarray(array)".to_owned()));
    }

    let (samples, is_normalised) = read_samples(file).map_err(undecodable)?;
    let samples = Arc::new(samples);
    let (shape, values) = ((bands as usize, height as usize, width as usize), (bands * height * width) as usize);
    Ok((0..captures as usize)
        .map(|capture| MemoryRaster::from_planes(samples.clone(), capture * values, shape, is_normalised))
        .collect())
}

/// The array's values, and whether they are floats.
fn read_samples(file: NpyFile<&[u8]>) -> Result<(Samples, bool), String> {
    fn values<T: npyz::Deserialize>(file: NpyFile<&[u8]>) -> Result<Vec<T>, String> {
        file.into_vec().map_err(|error| error.to_string())
    }
    let dtype = file.dtype();
    let kind = match &dtype {
        npyz::DType::Plain(kind) => (kind.type_char(), kind.size_field()),
        _ => return Err("it holds records; a plain array is needed".to_owned()),
    };
    Ok(match kind {
        (TypeChar::Uint, 1) => (Samples::U8(values(file)?), false),
        (TypeChar::Uint, 2) => (Samples::U16(values(file)?), false),
        (TypeChar::Uint, 4) => (Samples::U32(values(file)?), false),
        (TypeChar::Int, 1) => (Samples::I16(values::<i8>(file)?.into_iter().map(i16::from).collect()), false),
        (TypeChar::Int, 2) => (Samples::I16(values(file)?), false),
        (TypeChar::Int, 4) => (Samples::I32(values(file)?), false),
        (TypeChar::Int, 8) => (Samples::F64(values::<i64>(file)?.into_iter().map(|value| value as f64).collect()), false),
        (TypeChar::Uint, 8) => (Samples::F64(values::<u64>(file)?.into_iter().map(|value| value as f64).collect()), false),
        (TypeChar::Float, 4) => (Samples::F32(values(file)?), true),
        (TypeChar::Float, 8) => (Samples::F64(values(file)?), true),
        _ => return Err(format!("its type is {}; integers, float32 and float64 are accepted", dtype.descr())),
    })
}
