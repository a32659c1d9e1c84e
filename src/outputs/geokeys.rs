//! The GeoTIFF tags that georeference a raster (OGC GeoTIFF 1.1).

use super::tiff_file::TiffTag;
use crate::georef::{GeoKeys, Georef};

const MODEL_PIXEL_SCALE: u16 = 33550;
const MODEL_TIEPOINT: u16 = 33922;
const MODEL_TRANSFORMATION: u16 = 34264;
const GEO_KEY_DIRECTORY: u16 = 34735;
const GEO_DOUBLE_PARAMS: u16 = 34736;
const GEO_ASCII_PARAMS: u16 = 34737;

/// Longest text of a key, bytes.
const MAX_TEXT: usize = 2048;

/// The tags of a pixel grid.
pub(super) fn tags(georef: &Georef) -> Vec<TiffTag> {
    let mut tags = transform_tags(georef);
    let keys = GeoKeys::of(&georef.crs);
    // Each key: id, tag that holds the value (0: this entry itself), count, value or offset.
    let mut entries: Vec<[u16; 4]> = keys.shorts.iter().map(|(key, value)| [*key, 0, 1, *value]).collect();
    let mut numbers = Vec::new();
    for (key, values) in &keys.doubles {
        entries.push([*key, GEO_DOUBLE_PARAMS, values.len() as u16, numbers.len() as u16]);
        numbers.extend_from_slice(values);
    }
    let mut text = String::new();
    for (key, value) in &keys.texts {
        let value: String = value.chars().filter(char::is_ascii).take(MAX_TEXT).collect::<String>() + "|";
        entries.push([*key, GEO_ASCII_PARAMS, value.len() as u16, text.len() as u16]);
        text += &value;
    }
    // The standard wants them in this order.
    entries.sort_unstable();
    let header = [1, 1, 0, entries.len() as u16];
    tags.push(TiffTag::shorts(GEO_KEY_DIRECTORY, header.into_iter().chain(entries.into_iter().flatten())));
    if !numbers.is_empty() {
        tags.push(TiffTag::doubles(GEO_DOUBLE_PARAMS, &numbers));
    }
    if !text.is_empty() {
        tags.push(TiffTag::ascii(GEO_ASCII_PARAMS, &text));
    }
    tags
}

/// Scale and tie point if rows run south and columns east, else the full matrix.
fn transform_tags(georef: &Georef) -> Vec<TiffTag> {
    let t = &georef.transform;
    if t.row_skew == 0.0 && t.col_skew == 0.0 && t.pixel_width > 0.0 && t.pixel_height < 0.0 {
        return vec![
            TiffTag::doubles(MODEL_PIXEL_SCALE, &[t.pixel_width, -t.pixel_height, 0.0]),
            TiffTag::doubles(MODEL_TIEPOINT, &[0.0, 0.0, 0.0, t.origin_x, t.origin_y, 0.0]),
        ];
    }
    let rows = [
        [t.pixel_width, t.row_skew, 0.0, t.origin_x],
        [t.col_skew, t.pixel_height, 0.0, t.origin_y],
        [0.0; 4],
        [0.0, 0.0, 0.0, 1.0],
    ];
    vec![TiffTag::doubles(MODEL_TRANSFORMATION, rows.as_flattened())]
}
