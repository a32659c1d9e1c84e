//! The objects and polygons of a run as vector tiles.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::RangeInclusive;

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::Value;

use super::error::AreaError;
use super::folder::Folder;
use crate::georef::{Bounds, read_wkb};
use crate::outputs::{PixelFeature, PixelRing, encode_features_tile};
use crate::tiles::{MAX_LAT, MAX_ZOOM, TileCoord, world_place, world_position};
use crate::zoo::Task;

/// Corners of all features, which stay in memory: 16 bytes each.
const MAX_CORNERS: usize = 20_000_000;
/// Features on tiles: one that is on three tiles counts three times.
const MAX_PLACES: usize = 10_000_000;
/// Pixels of a tile as maps show it.
const TILE_PX: usize = 256;
/// Features are cut where they are so far outside of a tile, so that maps do not draw the cut; in pixels.
const BUFFER_PX: f64 = 4.0;

/// A feature on the square of the world.
struct MapFeature {
    /// Each has its exterior ring first.
    polygons: Vec<Vec<Vec<[f64; 2]>>>,
    /// Least and greatest position.
    bounds: [[f64; 2]; 2],
    category_id: usize,
    score: f32,
}

impl MapFeature {
    /// Infinite if it has no edges.
    fn shortest_edge(&self) -> f64 {
        let edges = self.polygons.iter().flatten().flat_map(|ring| ring.windows(2));
        edges.map(|ends| length(ends[0], ends[1])).filter(|edge| *edge > 0.0).fold(f64::INFINITY, f64::min)
    }
}

/// The longer side of the box between two corners.
fn length(a: [f64; 2], b: [f64; 2]) -> f64 {
    (b[0] - a[0]).abs().max((b[1] - a[1]).abs())
}

/// The features of a run.
pub(super) struct FeatureMap<'a> {
    task: &'a Task,
    features: Vec<MapFeature>,
    /// Of all features.
    bounds: [[f64; 2]; 2],
}

/// A tile, and the numbers of the features whose bounds touch it.
pub(super) type FeatureTile = (TileCoord, Vec<u32>);

impl<'a> FeatureMap<'a> {
    /// Reads the tables with these names, in the folder `within`.
    ///
    /// # Errors
    /// If a file is no table of features of this task, there are no features, or too many.
    pub(super) fn open(task: &'a Task, folder: &Folder, (within, names): (&str, &[String])) -> Result<Self, AreaError> {
        let (mut features, mut corners) = (Vec::new(), 0);
        for name in names {
            let failed = |reason: String| AreaError::Invalid { detail: format!("{within}/{name}: {reason}") };
            let path = folder.path(&format!("{within}/{name}"));
            let file = File::open(path).map_err(|error| failed(error.to_string()))?;
            let table = SerializedFileReader::new(file).map_err(|error| failed(error.to_string()))?;
            for row in table.get_row_iter(None).map_err(|error| failed(error.to_string()))? {
                let row = row.map_err(|error| failed(error.to_string()))?;
                let Some(feature) = feature(&row, task).map_err(failed)? else { continue };
                corners += feature.polygons.iter().flatten().map(Vec::len).sum::<usize>();
                features.push(feature);
                if corners > MAX_CORNERS {
                    let way_out = "tippecanoe makes tiles of any number of them";
                    let detail = format!("the features have more than {MAX_CORNERS} corners; {way_out}");
                    return Err(AreaError::Invalid { detail });
                }
            }
        }
        let bounds = features.iter().map(|feature| feature.bounds).reduce(joined);
        let bounds = bounds.ok_or_else(|| AreaError::Invalid { detail: "the folder holds no features".to_owned() })?;
        Ok(Self { task, features, bounds })
    }

    /// Where the features lie, degrees.
    pub(super) fn bounds(&self) -> Bounds {
        let [[west, north], [east, south]] = self.bounds;
        let ((min_x, max_y), (max_x, min_y)) = (world_place(west, north), world_place(east, south));
        Bounds { min_x, min_y: min_y.max(-MAX_LAT), max_x, max_y: max_y.min(MAX_LAT) }
    }

    /// The zoom at which all features are on about one tile, and that at which half of them have no edge shorter than a pixel: for
    /// polygons of a mask, whose edges are its pixels, about that of the mask.
    pub(super) fn zooms(&self) -> (u8, u8) {
        let zoom = |side: f64| (-side.max(f64::MIN_POSITIVE).log2()).clamp(0.0, f64::from(MAX_ZOOM));
        let least = zoom(length(self.bounds[0], self.bounds[1])).floor() as u8;
        let mut edges: Vec<f64> = self.features.iter().map(MapFeature::shortest_edge).collect();
        let middle = edges.len() / 2;
        let median = *edges.select_nth_unstable_by(middle, f64::total_cmp).1;
        let greatest = zoom(median * TILE_PX as f64).round() as u8;
        (least.min(greatest), greatest)
    }

    /// The tiles of these zooms that features may be on, in the order of their numbers.
    ///
    /// # Errors
    /// If there are too many.
    pub(super) fn tiles(&self, zooms: RangeInclusive<u8>) -> Result<Vec<FeatureTile>, AreaError> {
        let (mut tiles, mut places) = (BTreeMap::<u64, FeatureTile>::new(), 0);
        for zoom in zooms {
            let side = f64::from(1u32 << zoom);
            let margin = BUFFER_PX / TILE_PX as f64;
            let first = |at: f64| (at * side - margin).floor().clamp(0.0, side - 1.0) as u64;
            let last = |at: f64| (at * side + margin).floor().clamp(0.0, side - 1.0) as u64;
            for (number, feature) in self.features.iter().enumerate() {
                let [[west, north], [east, south]] = feature.bounds;
                let (columns, rows) = (first(west)..=last(east), first(north)..=last(south));
                places += (columns.end() - columns.start() + 1).saturating_mul(rows.end() - rows.start() + 1);
                if places > MAX_PLACES as u64 {
                    let detail =
                        format!("the features have more than {MAX_PLACES} places on tiles; a smaller --max-zoom is needed");
                    return Err(AreaError::Invalid { detail });
                }
                for (x, y) in columns.flat_map(|x| rows.clone().map(move |y| (x, y))) {
                    let Ok(tile) = TileCoord::try_new(zoom.into(), x, y) else { continue };
                    tiles.entry(tile.hilbert_id()).or_insert_with(|| (tile, Vec::new())).1.push(number as u32);
                }
            }
        }
        Ok(tiles.into_values().collect())
    }

    /// A tile with the features of these numbers; `None` if nothing is on it. What is smaller than a pixel is drawn as one, once for
    /// each category, so that a tile of many small objects shows where they are, and stays small.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub(super) fn draw(&self, tile: TileCoord, on_it: &[u32]) -> Result<Option<Bytes>, AreaError> {
        let side = f64::from(1u32 << tile.z()) * TILE_PX as f64;
        let origin = [f64::from(tile.x()) * TILE_PX as f64, f64::from(tile.y()) * TILE_PX as f64];
        let pixel = |at: [f64; 2]| [at[0] * side - origin[0], at[1] * side - origin[1]];
        let mut found = Vec::new();
        let mut dots = BTreeMap::<(i64, i64, usize), f32>::new();
        for feature in on_it.iter().filter_map(|number| self.features.get(*number as usize)) {
            let MapFeature { polygons, bounds, category_id, score } = feature;
            let [least, greatest] = bounds.map(pixel);
            if greatest[0] - least[0] < 1.0 && greatest[1] - least[1] < 1.0 {
                let [x, y] = [0, 1].map(|axis| f64::midpoint(least[axis], greatest[axis]).floor() as i64);
                let best = dots.entry((x, y, *category_id)).or_insert(*score);
                *best = best.max(*score);
                continue;
            }
            let on_tile = |(number, ring): (usize, &Vec<[f64; 2]>)| {
                let ring = cut(ring.iter().map(|at| pixel(*at)).collect());
                (ring.len() >= 3).then(|| turned(ring, number == 0))
            };
            let polygons = polygons.iter().map(|rings| rings.iter().enumerate().filter_map(on_tile).collect());
            let polygons: Vec<Vec<PixelRing>> = polygons.filter(|rings: &Vec<PixelRing>| !rings.is_empty()).collect();
            if !polygons.is_empty() {
                found.push(PixelFeature { polygons, category_id: *category_id, score: *score });
            }
        }
        let square = |((x, y, category_id), score): ((i64, i64, usize), f32)| {
            let (x, y) = (x as f64, y as f64);
            let ring = vec![[x, y], [x + 1.0, y], [x + 1.0, y + 1.0], [x, y + 1.0]];
            PixelFeature { polygons: vec![vec![ring]], category_id, score }
        };
        found.extend(dots.into_iter().map(square));
        let bytes = encode_features_tile(&found, TILE_PX, self.task)?;
        Ok((!bytes.is_empty()).then(|| bytes.into()))
    }
}

/// The feature in a row of a table; `None` if it has no outline.
fn feature(row: &Row, task: &Task) -> Result<Option<MapFeature>, String> {
    let column = |name: &str| row.get_column_iter().find(|(found, _)| *found == name).map(|(_, field)| field);
    let outline = match column("geometry") {
        Some(Field::Bytes(bytes)) => bytes.data(),
        Some(Field::Null) => return Ok(None),
        _ => return Err("it has no column of geometries; the tables of a run are needed".to_owned()),
    };
    let category_id = match column("category_id") {
        Some(Field::Long(id)) => usize::try_from(*id).ok().filter(|id| *id < task.categories.len().max(1)),
        _ => None,
    };
    let category_id = category_id.ok_or_else(|| format!("it has a row without a category of {}", task.name))?;
    let score = match column("score") {
        Some(Field::Float(score)) => *score,
        _ => return Err("it has a row without a score".to_owned()),
    };
    let (geometry, [west, south, east, north]) = read_wkb(outline)?;
    let corners = |ring: &Value| {
        let corners = ring.as_array().into_iter().flatten();
        let corner = |at: &Value| Some(world_position(at[0].as_f64()?, at[1].as_f64()?).into());
        corners.filter_map(corner).collect()
    };
    let rings = |polygon: &Value| polygon.as_array().into_iter().flatten().map(corners).collect();
    let coordinates = &geometry["coordinates"];
    let polygons = match geometry["type"].as_str() {
        Some("Polygon") => vec![rings(coordinates)],
        Some("MultiPolygon") => coordinates.as_array().into_iter().flatten().map(rings).collect(),
        other => return Err(format!("it has a geometry of the type {other:?}; polygons are needed")),
    };
    let bounds = [world_position(west, north).into(), world_position(east, south).into()];
    Ok(Some(MapFeature { polygons, bounds, category_id, score }))
}

fn joined([a, b]: [[f64; 2]; 2], [c, d]: [[f64; 2]; 2]) -> [[f64; 2]; 2] {
    [[a[0].min(c[0]), a[1].min(c[1])], [b[0].max(d[0]), b[1].max(d[1])]]
}

/// The part of a ring on a tile and its buffer (Sutherland and Hodgman's algorithm, edge by edge).
fn cut(mut ring: PixelRing) -> PixelRing {
    for (axis, limit, keeps_less) in [
        (0, -BUFFER_PX, false),
        (1, -BUFFER_PX, false),
        (0, TILE_PX as f64 + BUFFER_PX, true),
        (1, TILE_PX as f64 + BUFFER_PX, true),
    ] {
        let is_in = |at: &[f64; 2]| if keeps_less { at[axis] <= limit } else { at[axis] >= limit };
        let mut kept = PixelRing::with_capacity(ring.len());
        for (index, to) in ring.iter().enumerate() {
            let from = &ring[(index + ring.len() - 1) % ring.len()];
            if is_in(from) != is_in(to) {
                let share = (limit - from[axis]) / (to[axis] - from[axis]);
                let mut crossing = [0, 1].map(|axis| from[axis] + share * (to[axis] - from[axis]));
                // Exactly, so that neighbouring polygons are cut alike.
                crossing[axis] = limit;
                kept.push(crossing);
            }
            if is_in(to) {
                kept.push(*to);
            }
        }
        ring = kept;
    }
    ring
}

/// The ring with a positive area if it is an exterior one, else with a negative one; rows are counted downwards.
fn turned(mut ring: PixelRing, is_exterior: bool) -> PixelRing {
    let next = ring.iter().cycle().skip(1);
    let area: f64 = ring.iter().zip(next).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum();
    if (area > 0.0) != is_exterior {
        ring.reverse();
    }
    ring
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(ring: &PixelRing) -> f64 {
        ring.iter().zip(ring.iter().cycle().skip(1)).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum::<f64>() / 2.0
    }

    #[test]
    fn rings_are_cut_at_the_buffer_and_turn_as_they_should() {
        let square = |low: f64, high: f64| vec![[low, low], [low, high], [high, high], [high, low]];
        assert_eq!(area(&turned(cut(square(10.0, 20.0)), true)), 100.0);
        assert_eq!(area(&turned(cut(square(10.0, 20.0)), false)), -100.0);
        assert_eq!(area(&turned(cut(square(-100.0, 20.0)), true)), 24.0 * 24.0);
        assert_eq!(area(&turned(cut(square(-1e6, 1e6)), true)), 264.0 * 264.0);
        assert!(cut(square(300.0, 400.0)).is_empty());
        // The half of a square that is cut along its diagonal.
        let triangle = vec![[-512.0, 128.0], [128.0, -512.0], [128.0, 128.0]];
        assert_eq!(area(&turned(cut(triangle), true)), 132.0 * 132.0);
    }
}
