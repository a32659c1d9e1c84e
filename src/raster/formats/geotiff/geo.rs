//! The georeference of a GeoTIFF (OGC GeoTIFF 1.1): where its pixels lie, and in which coordinate system.

use super::ifd::{Directory, FORMAT, tag};
use crate::georef::{Crs, CrsError, GeoKeys, GeoTransform, Georef};
use crate::raster::error::RasterError;
use crate::raster::formats::error::DecodeError;
use crate::storage::ByteSource;

const RASTER_PIXEL_IS_POINT: u64 = 2;
const GT_RASTER_TYPE: u16 = 1025;

/// What a file says about where its pixels lie.
#[derive(Debug, Default)]
pub(super) struct Placement {
    /// `None` if the file has no transform or no coordinate system that is understood.
    pub(super) georef: Option<Georef>,
    /// Why the coordinate system that the file has is not understood.
    pub(super) unknown_crs: Option<CrsError>,
}

/// Reads the georeference.
///
/// # Errors
/// [`RasterError`] if the transform cannot be inverted.
pub(super) fn read(
    name: &str,
    source: &dyn ByteSource,
    directory: &Directory,
    width: usize,
    height: usize,
) -> Result<Placement, RasterError> {
    let failed = |error: DecodeError| error.in_file(name, FORMAT);
    let Some(transform) = transform(source, directory).map_err(failed)? else { return Ok(Placement::default()) };
    let Some(keys) = geo_keys(source, directory).map_err(failed)? else { return Ok(Placement::default()) };
    let crs = match Crs::from_geo_keys(&keys) {
        Ok(Some(crs)) => crs,
        Ok(None) => return Ok(Placement::default()),
        Err(error) => return Ok(Placement { georef: None, unknown_crs: Some(error) }),
    };

    let shift = if keys.short(GT_RASTER_TYPE) == Some(RASTER_PIXEL_IS_POINT as u16) { -0.5 } else { 0.0 };
    let transform = transform.shifted(shift, shift);
    let (x, y) = transform.apply(width as f64 / 2.0, height as f64 / 2.0);
    let georef = Georef { crs: crs.settled_at(x, y), transform, width, height };
    let bounds = georef.bounds();
    let finite = [bounds.min_x, bounds.min_y, bounds.max_x, bounds.max_y].iter().all(|edge| edge.is_finite());
    if !finite || transform.inverse().is_none_or(|inverse| !inverse.apply(0.0, 0.0).0.is_finite()) {
        return Err(RasterError::BadGeoreference {
            name: name.to_owned(),
            reason: format!("found {transform:?}; finite numbers and an invertible transform are needed"),
        });
    }
    Ok(Placement { georef: Some(georef), unknown_crs: None })
}

/// `ModelTransformation`, else `ModelPixelScale` with one tiepoint.
fn transform(source: &dyn ByteSource, directory: &Directory) -> Result<Option<GeoTransform>, DecodeError> {
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

/// The GeoKey directory, with the numbers and texts that its entries refer to.
fn geo_keys(source: &dyn ByteSource, directory: &Directory) -> Result<Option<GeoKeys>, DecodeError> {
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
