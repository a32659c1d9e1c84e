//! The georeference of a GeoTIFF (OGC GeoTIFF 1.1): where its pixels lie, and in which coordinate system.

use super::ifd::{FORMAT, ImageDirectory, tag};
use crate::georef::{Crs, CrsError, GeoKeys, GeoTransform};
use crate::raster::error::RasterError;
use crate::raster::formats::error::DecodeError;
use crate::raster::formats::sidecar::{Placement, Sidecars};
use crate::storage::ByteSource;

const RASTER_PIXEL_IS_POINT: u64 = 2;
const GT_RASTER_TYPE: u16 = 1025;

/// Reads the georeference, with what files beside the image add.
///
/// # Errors
/// [`RasterError`] if the transform cannot be inverted.
pub(super) fn read(
    name: &str,
    source: &dyn ByteSource,
    directory: &ImageDirectory,
    size: (usize, usize),
    beside: &Sidecars,
) -> Result<Placement, RasterError> {
    let failed = |error: DecodeError| error.in_file(name, FORMAT);
    let keys = geo_keys(source, directory).map_err(failed)?;
    let is_point = keys.as_ref().and_then(|keys| keys.short(GT_RASTER_TYPE)) == Some(RASTER_PIXEL_IS_POINT as u16);
    let shift = if is_point { -0.5 } else { 0.0 };
    let transform = transform(source, directory).map_err(failed)?.map(|transform| transform.shifted(shift, shift));
    let crs = keys.map_or(Ok(None), |keys| Crs::from_geo_keys(&keys));
    let placement = beside.place(name, crs, transform, size)?;
    if placement.georef.is_none() && placement.unknown_crs.is_none() {
        let is_warped = beside.pam.has_control_points || has_control_points(source, directory).map_err(failed)?;
        return Ok(Placement { unknown_crs: is_warped.then(control_points), ..placement });
    }
    Ok(placement)
}

/// Why an image that states where some of its pixels lie is not placed.
fn control_points() -> CrsError {
    CrsError::Unsupported {
        definition: "ground control points".to_owned(),
        reason: "an image is placed by a transform of all its pixels".to_owned(),
    }
}

/// `ModelTransformation`, else `ModelPixelScale` with one tiepoint.
fn transform(source: &dyn ByteSource, directory: &ImageDirectory) -> Result<Option<GeoTransform>, DecodeError> {
    if let [a, b, _, origin_x, d, e, _, origin_y, ..] = directory.floats(source, tag::MODEL_TRANSFORMATION)?[..] {
        return Ok(Some(GeoTransform { origin_x, pixel_width: a, row_skew: b, origin_y, col_skew: d, pixel_height: e }));
    }
    let (scale, tiepoints) =
        (directory.floats(source, tag::MODEL_PIXEL_SCALE)?, directory.floats(source, tag::MODEL_TIEPOINT)?);
    match (&scale[..], &tiepoints[..]) {
        ([scale_x, scale_y, ..], [col, row, _, x, y, ..]) => {
            let at_tiepoint = GeoTransform::north_up(*x, *y, *scale_x, *scale_y);
            Ok(Some(at_tiepoint.shifted(-col, -row)))
        }
        _ => Ok(None),
    }
}

/// True if several tiepoints, without a transform, tell where single pixels lie.
fn has_control_points(source: &dyn ByteSource, directory: &ImageDirectory) -> Result<bool, DecodeError> {
    const NUMBERS_A_POINT: usize = 6;
    Ok(directory.floats(source, tag::MODEL_TIEPOINT)?.len() > NUMBERS_A_POINT)
}

/// The GeoKey directory, with the numbers and texts that its entries refer to.
fn geo_keys(source: &dyn ByteSource, directory: &ImageDirectory) -> Result<Option<GeoKeys>, DecodeError> {
    let words = directory.unsigneds(source, tag::GEO_KEY_DIRECTORY)?;
    let [_version, _revision, _minor, _count, entries @ ..] = &words[..] else { return Ok(None) };
    let doubles = directory.floats(source, tag::GEO_DOUBLE_PARAMS)?;
    let text = directory.bytes(source, tag::GEO_ASCII_PARAMS)?;
    let mut keys = GeoKeys::default();
    for entry in entries.chunks_exact(4) {
        let (key, count, offset) = (entry[0] as u16, entry[2] as usize, entry[3] as usize);
        let range = offset..offset.saturating_add(count.max(1));
        match entry[1] as u16 {
            0 => {
                keys.shorts.insert(key, entry[3] as u16);
            }
            // Several codes, of which the first counts.
            tag::GEO_KEY_DIRECTORY => {
                if let Some(value) = words.get(offset) {
                    keys.shorts.insert(key, *value as u16);
                }
            }
            tag::GEO_DOUBLE_PARAMS => {
                if let Some(values) = doubles.get(range) {
                    keys.doubles.insert(key, values.to_vec());
                }
            }
            tag::GEO_ASCII_PARAMS => {
                let end = range.end.min(text.len());
                if let Some(value) = text.get(offset..end) {
                    let value = String::from_utf8_lossy(value);
                    keys.texts.insert(key, value.trim_end_matches(['|', '\0']).to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(Some(keys))
}
