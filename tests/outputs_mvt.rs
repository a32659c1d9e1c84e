//! Vector tiles read back by another program's decoder, and compared with GeoJSON of the same prediction.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::get;
use geo::{Area, BoundingRect, Coord, Geometry, LineString, MapCoords, MultiPolygon, Polygon, Validation};
use mvt_reader::Reader;
use mvt_reader::feature::Value as Property;
use satlas_serve::outputs::{Format, RenderOptions, encode};
use satlas_serve::prediction::{Dense, Object, Output, Prediction};
use satlas_serve::tiles::TileCoord;
use satlas_serve::zoo::{Task, TaskType};
use serde_json::Value;

const EXTENT: f64 = 4096.0;

/// One feature as the decoder sees it.
struct Read {
    category: String,
    category_id: u64,
    score: f32,
    geometry: MultiPolygon<f64>,
}

/// The features of a tile, which has one layer of that name and is of version 2.
fn read(tile: &[u8], layer: &str) -> Vec<Read> {
    let reader = Reader::new(tile.to_vec()).expect("a vector tile");
    let layers = reader.get_layer_metadata().expect("layers of a version that is known");
    let [only] = &layers[..] else { panic!("{layers:?}") };
    assert_eq!((only.name.as_str(), only.version, f64::from(only.extent)), (layer, 2, EXTENT));
    let features = reader.get_features_as::<f64>(0).expect("features");
    assert_eq!(features.len(), only.feature_count);
    features
        .into_iter()
        .map(|feature| {
            let properties = feature.properties.expect("properties");
            let (Property::String(category), Property::UInt(category_id), Property::Float(score)) =
                (&properties["category"], &properties["category_id"], &properties["score"])
            else {
                panic!("{properties:?}")
            };
            assert_eq!(properties.len(), 3);
            let Geometry::MultiPolygon(geometry) = feature.geometry else { panic!("{:?}", feature.geometry) };
            Read { category: category.clone(), category_id: *category_id, score: *score, geometry }
        })
        .collect()
}

fn task(task_type: TaskType, categories: &[&str]) -> Task {
    Task {
        name: "land_cover".to_owned(),
        task_type,
        categories: categories.iter().map(|name| (*name).to_owned()).collect(),
        colors: vec![[10, 20, 30]; categories.len()],
        background_invalid: false,
        value_range: None,
    }
}

fn tile_of(output: Output, task: &Task) -> Vec<u8> {
    let georef = TileCoord::try_new(14, 8500, 5700).unwrap().georef(256);
    let prediction = Prediction { output, width: 256, height: 256, georef: Some(georef), warnings: Vec::new() };
    encode(&prediction, task, Format::Mvt, &RenderOptions::default()).unwrap().bytes.to_vec()
}

#[test]
fn boxes_are_read_with_their_corners_and_properties() {
    let objects = [([16.0, 32.0, 48.0, 64.0], 0.75, 1), ([100.0, 0.0, 300.0, 8.0], 0.5, 2)];
    let objects = objects.map(|(bbox_px, score, category_id)| Object { bbox_px, score, category_id, mask: None });
    let boxes = task(TaskType::Detect, &["background", "vessel", "platform"]);
    let found = read(&tile_of(Output::Objects(objects.to_vec()), &boxes), "land_cover");
    let [vessel, platform] = &found[..] else { panic!("{} features", found.len()) };
    assert_eq!((vessel.category.as_str(), vessel.category_id, vessel.score), ("vessel", 1, 0.75));
    assert_eq!((platform.category.as_str(), platform.category_id, platform.score), ("platform", 2, 0.5));
    let corners = |read: &Read| {
        let bounds = read.geometry.bounding_rect().unwrap();
        [bounds.min().x, bounds.min().y, bounds.max().x, bounds.max().y]
    };
    assert_eq!(corners(vessel), [256.0, 512.0, 768.0, 1024.0]);
    // Cut 64 units beyond the tile's edge.
    assert_eq!(corners(platform), [1600.0, 0.0, 4160.0, 128.0]);
}

#[test]
fn regions_are_valid_and_cover_each_categorys_pixels_however_they_touch() {
    // Noise of two categories and no data: rings that touch at corners, holes, and islands in holes.
    let mut state = 1u32;
    let mut random = || {
        // A linear congruential generator (Numerical Recipes).
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    let cells: Vec<Option<usize>> = (0..256 * 256)
        .map(|at| {
            let (row, col) = (at / 256, at % 256);
            let inner = (64..192).contains(&row) && (64..192).contains(&col);
            match (inner, random()) {
                (false, _) => Some(0),
                (true, 0..20) => None,
                (true, value) => Some(usize::from(value > 140)),
            }
        })
        .collect();
    let values = cells.iter().flat_map(|cell| [0, 1].map(|channel| if *cell == Some(channel) { 0.75 } else { 0.25 }));
    let valid = Some(cells.iter().map(Option::is_some).collect());
    let dense = Dense { width: 256, height: 256, channels: 2, values: values.collect(), valid };
    let found = read(&tile_of(Output::Dense(dense), &task(TaskType::Segment, &["a", "b"])), "land_cover");
    assert!(found.len() > 100, "{}", found.len());
    let unit_px = EXTENT / 256.0;
    for (category_id, category) in [(0, "a"), (1, "b")] {
        let of_category = found.iter().filter(|read| read.category_id == category_id as u64);
        let area: f64 = of_category
            .map(|read| {
                assert_eq!((read.category.as_str(), read.score), (category, 0.75));
                assert!(read.geometry.is_valid(), "{:?}", read.geometry);
                read.geometry.unsigned_area() / unit_px / unit_px
            })
            .sum();
        assert_eq!(area, cells.iter().filter(|cell| **cell == Some(category_id)).count() as f64, "{category}");
    }
}

/// A GeoJSON polygon or multi-polygon.
fn polygons(geometry: &Value) -> MultiPolygon<f64> {
    let several: Vec<Vec<Vec<[f64; 2]>>> = match geometry["type"].as_str() {
        Some("Polygon") => vec![serde_json::from_value(geometry["coordinates"].clone()).unwrap()],
        _ => serde_json::from_value(geometry["coordinates"].clone()).unwrap(),
    };
    let line = |ring: Vec<[f64; 2]>| ring.into_iter().collect::<LineString<f64>>();
    let polygon = |rings: Vec<Vec<[f64; 2]>>| {
        let mut rings = rings.into_iter().map(line);
        Polygon::new(rings.next().unwrap(), rings.collect())
    };
    several.into_iter().map(polygon).collect()
}

#[tokio::test]
async fn a_served_tile_holds_what_its_geojson_holds() {
    for (path, layer, (zoom, x, y)) in [
        ("/v1/tiles/world/coast/3/4/3.FORMAT?source=world", "coast", (3, 4, 3)),
        ("/v1/tiles/world/water/4/8/6.FORMAT?source=world", "water", (4, 8, 6)),
    ] {
        let tile = get(&path.replace("FORMAT", "mvt")).await;
        let geojson = get(&path.replace("FORMAT", "geojson")).await;
        assert_eq!((tile.status.as_u16(), geojson.status.as_u16()), (200, 200));
        let found = read(&tile.body, layer);
        let wanted = geojson.json()["features"].as_array().unwrap().clone();
        assert!(!found.is_empty() && found.len() == wanted.len(), "{} {}", found.len(), wanted.len());

        // Both as areas in square units of the tile, by category.
        let bounds = TileCoord::try_new(zoom, x, y).unwrap().bounds_3857();
        let unit = |at: Coord<f64>| {
            let radius_m = 6_378_137.0;
            let (across_m, up_m) = (at.x.to_radians() * radius_m, at.y.to_radians().tan().asinh() * radius_m);
            let side_m = bounds.max_x - bounds.min_x;
            Coord { x: (across_m - bounds.min_x) / side_m * EXTENT, y: (bounds.max_y - up_m) / side_m * EXTENT }
        };
        let (mut in_tile, mut in_geojson) = (BTreeMap::new(), BTreeMap::new());
        for read in &found {
            assert!(read.score > 0.0 && read.score <= 1.0);
            *in_tile.entry(read.category.clone()).or_insert(0.0) += read.geometry.unsigned_area();
        }
        for feature in wanted {
            let category = feature["properties"]["category"].as_str().unwrap().to_owned();
            *in_geojson.entry(category).or_insert(0.0) += polygons(&feature["geometry"]).map_coords(unit).unsigned_area();
        }
        assert!(in_tile.keys().eq(in_geojson.keys()), "{in_tile:?} {in_geojson:?}");
        for (category, area) in &in_tile {
            // GeoJSON is written with seven decimals: at most a thousandth of a unit at these zooms.
            assert!((area / in_geojson[category] - 1.0).abs() < 1e-5, "{category}: {area} {}", in_geojson[category]);
        }
    }
}
