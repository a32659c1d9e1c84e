//! The vectors of cells as GeoTIFF: a band for each dimension, a pixel for each cell.
//!
//! Values are 32-bit floats with nodata NaN, or 8-bit numbers with nodata -128 and GDAL's scale and offset of each band:
//! `value = stored * scale + offset`, as `gdal_translate -unscale` computes it.

use super::error::OutputError;
use super::geokeys;
use super::geotiff::{BandSamples, small_value_tags, value_tags, write};
use crate::georef::Georef;
use crate::prediction::{CellMap, CellScales};

/// Writes cells, in 8 bits if there are `scales`.
pub(super) fn encode(
    cells: &CellMap,
    georef: Option<&Georef>,
    scales: Option<&CellScales>,
) -> Result<Vec<u8>, OutputError> {
    let mut tags = georef.map(|image| geokeys::tags(&cells.georef(image))).unwrap_or_default();
    let names: Vec<String> = (0..cells.dims).map(|dim| format!("{} {dim}", cells.layer)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let bands = cells.values.chunks_exact((cells.width * cells.height).max(1));
    let samples = match scales {
        None => {
            tags.extend(value_tags(&names));
            BandSamples::Values(bands.map(<[f32]>::to_vec).collect())
        }
        Some(scales) => {
            tags.extend(small_value_tags(&names, scales));
            let stored = |(dim, band): (usize, &[f32])| band.iter().map(|value| scales.stored(dim, *value)).collect();
            BandSamples::SmallValues(bands.enumerate().map(stored).collect())
        }
    };
    write((cells.width, cells.height), samples, tags)
}
