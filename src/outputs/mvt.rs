//! Mapbox Vector Tiles 2.1: one layer named after the task, extent 4096.
//!
//! Tile coordinates are pixel coordinates times a factor, so the image must be exactly one XYZ tile. A tile without
//! features is empty: it has no bytes.

use mvt::{GeomEncoder, GeomType, Tile};

use super::error::OutputError;
use super::features::{PixelFeature, PixelRing, features};
use super::format::Format;
use super::mask::PixelRect;
use super::options::RenderOptions;
use crate::georef::{Crs, Georef};
use crate::prediction::Prediction;
use crate::tiles::{TileCoord, WORLD_M};
use crate::zoo::Task;

/// Units per side of a tile.
const EXTENT: u32 = 4096;

/// Features may extend beyond the tile by 1 / this of its side (64 units), so that maps draw their cut edges outside the
/// tile.
const BUFFER_PARTS: usize = 64;

/// By how many pixels an image's bounds may differ from those of the tile.
const GRID_TOLERANCE_PX: f64 = 1e-3;

/// Writes a prediction for one tile; without features the result is empty.
pub(super) fn encode(prediction: &Prediction, task: &Task, options: &RenderOptions) -> Result<Vec<u8>, OutputError> {
    let georef = prediction.georef.as_ref().filter(|georef| is_tile(georef)).ok_or(OutputError::NoTile)?;
    let canvas = PixelRect::around(georef.width, georef.height, georef.width.div_ceil(BUFFER_PARTS));
    let found = features(prediction, task, Format::Mvt, options, canvas)?;
    encode_features_tile(&found, georef.width, task)
}

/// Writes features in the pixels of a tile of `tile_px`; without features the result is empty.
///
/// # Errors
/// If they cannot be encoded.
pub(crate) fn encode_features_tile(found: &[PixelFeature], tile_px: usize, task: &Task) -> Result<Vec<u8>, OutputError> {
    let scale = f64::from(EXTENT) / tile_px as f64;
    write(found, scale, task).map_err(|e| OutputError::encode(Format::Mvt, e))
}

fn write(found: &[PixelFeature], scale: f64, task: &Task) -> Result<Vec<u8>, mvt::Error> {
    let mut tile = Tile::new(EXTENT);
    let mut layer = tile.create_layer(&task.name);
    for feature in found {
        let mut geometry = GeomEncoder::new(GeomType::Polygon);
        let mut last = None;
        for ring in feature.polygons.iter().flatten() {
            let mut corners = tile_corners(ring, scale);
            if corners.len() < 3 {
                continue;
            }
            // The encoder takes a ring that begins at the last point of the previous ring for its continuation.
            if corners.first().copied() == last {
                corners.rotate_left(1);
            }
            last = corners.last().copied();
            for (x, y) in corners {
                geometry.add_point(x, y)?;
            }
            geometry.complete_geom()?;
        }
        if last.is_none() {
            continue;
        }
        let mut feature_in_layer = layer.into_feature(geometry.encode()?);
        feature_in_layer.add_tag_string("category", task.category_name(feature.category_id));
        feature_in_layer.add_tag_uint("category_id", feature.category_id as u64);
        feature_in_layer.add_tag_float("score", feature.score);
        layer = feature_in_layer.into_layer();
    }
    if layer.num_features() == 0 {
        return Ok(Vec::new());
    }
    tile.add_layer(layer)?;
    tile.to_bytes()
}

/// A ring in tile units, without repeated corners.
fn tile_corners(ring: &PixelRing, scale: f64) -> Vec<(i32, i32)> {
    // Halves are rounded up on both sides of 0, so that neighbouring tiles round alike.
    let unit = |v: f64| (v * scale + 0.5).floor() as i32;
    let mut corners: Vec<(i32, i32)> = ring.iter().map(|[x, y]| (unit(*x), unit(*y))).collect();
    corners.dedup();
    if corners.len() > 1 && corners.first() == corners.last() {
        corners.pop();
    }
    corners
}

/// Whether an image covers exactly one tile of the Web Mercator pyramid.
fn is_tile(georef: &Georef) -> bool {
    if georef.crs != Crs::web_mercator() || georef.width != georef.height || georef.width == 0 {
        return false;
    }
    // Values that fit no tile saturate in these casts; the comparison below then fails.
    let at = &georef.transform;
    let zoom = (WORLD_M / (at.pixel_width * georef.width as f64)).log2().round();
    let side_m = WORLD_M / zoom.exp2();
    let column = ((at.origin_x + WORLD_M / 2.0) / side_m).round();
    let row = ((WORLD_M / 2.0 - at.origin_y) / side_m).round();
    let Ok(tile) = TileCoord::try_new(zoom as u32, column as u64, row as u64) else {
        return false;
    };
    let (found, wanted) = (georef.bounds(), tile.bounds_3857());
    let near = |a: f64, b: f64| (a - b).abs() < GRID_TOLERANCE_PX * side_m / georef.width as f64;
    let unrotated = at.row_skew == 0.0 && at.col_skew == 0.0 && at.pixel_height < 0.0;
    unrotated
        && near(found.min_x, wanted.min_x)
        && near(found.min_y, wanted.min_y)
        && near(found.max_x, wanted.max_x)
        && near(found.max_y, wanted.max_y)
}
