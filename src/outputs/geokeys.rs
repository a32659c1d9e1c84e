//! The GeoTIFF tags that georeference a raster (OGC GeoTIFF 1.1).

use super::tiff_file::TiffTag;
use crate::georef::Georef;

const MODEL_PIXEL_SCALE: u16 = 33550;
const MODEL_TIEPOINT: u16 = 33922;
const MODEL_TRANSFORMATION: u16 = 34264;
const GEO_KEY_DIRECTORY: u16 = 34735;
const GEO_ASCII_PARAMS: u16 = 34737;

const MODEL_TYPE_KEY: u16 = 1024;
const RASTER_TYPE_KEY: u16 = 1025;
const CITATION_KEY: u16 = 1026;
const GEOGRAPHIC_CRS_KEY: u16 = 2048;
const PROJECTED_CRS_KEY: u16 = 3072;

const PROJECTED: u16 = 1;
const GEOGRAPHIC: u16 = 2;
const PIXEL_IS_AREA: u16 = 1;
const USER_DEFINED: u16 = 32767;

/// The tags of a pixel grid. A coordinate system without an EPSG code is written as user-defined, with its PROJ string as
/// the citation.
pub(super) fn tags(georef: &Georef) -> Vec<TiffTag> {
    let mut tags = transform_tags(georef);
    let geographic = georef.crs.is_geographic();
    let (model, crs_key) = if geographic { (GEOGRAPHIC, GEOGRAPHIC_CRS_KEY) } else { (PROJECTED, PROJECTED_CRS_KEY) };
    let code = georef.crs.epsg().and_then(|epsg| u16::try_from(epsg).ok());
    // Each key: id, tag that holds the value (0: this entry itself), count, value or offset.
    let mut keys = vec![[MODEL_TYPE_KEY, 0, 1, model], [RASTER_TYPE_KEY, 0, 1, PIXEL_IS_AREA]];
    if code.is_none() {
        let citation: String = georef.crs.to_string().chars().filter(char::is_ascii).take(1024).collect::<String>() + "|";
        keys.push([CITATION_KEY, GEO_ASCII_PARAMS, citation.len() as u16, 0]);
        tags.push(TiffTag::ascii(GEO_ASCII_PARAMS, &citation));
    }
    keys.push([crs_key, 0, 1, code.unwrap_or(USER_DEFINED)]);
    let header = [1, 1, 0, keys.len() as u16];
    tags.push(TiffTag::shorts(GEO_KEY_DIRECTORY, header.into_iter().chain(keys.into_iter().flatten())));
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
