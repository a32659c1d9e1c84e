//! What has changed between two captures of a source: the same place, of which a square in the second shows another one.

use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tiff::decoder::{Decoder, DecodingResult};
use tiff::encoder::{TiffEncoder, colortype};
use tiff::tags::Tag;

use crate::common::{Reply, get, post_to, router_with, send, settings};

/// Pixels on a side of the imagery, which is one tile of the model's resolution.
const SIDE: usize = 512;
/// The Sahara, and the Atlantic, as column and row at zoom 5.
const DESERT: (u32, u32) = (17, 13);
const OCEAN: (u32, u32) = (12, 13);
/// First and last pixel of what changes, in columns as in rows.
const PATCH: (usize, usize) = (160, 352);
/// How far the network sees beyond it, about.
const BLUR: usize = 40;
/// Changes from land to water and back, in the order in which the two categories make pairs.
const FLOODED: f32 = 2.0;
const DRIED: f32 = 3.0;
const MERCATOR_M: f64 = 20_037_508.342_789_244;

/// The demo's imagery there, as red, green and blue.
async fn imagery((x, y): (u32, u32)) -> Vec<u8> {
    let reply = get(&format!("/v1/sources/world/tiles/5/{x}/{y}.png?tilesize=512")).await;
    assert_eq!(reply.status, 200);
    let picture = image::load_from_memory(&reply.body).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), (SIDE as u32, SIDE as u32));
    picture.into_raw()
}

/// A GeoTIFF that lies where the desert is.
fn geotiff(path: &Path, pixels: &[u8]) {
    let size = 2.0 * MERCATOR_M / (32.0 * SIDE as f64);
    let corner = |tile: u32| f64::from(tile) * SIDE as f64 * size - MERCATOR_M;
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut image = encoder.new_image::<colortype::RGB8>(SIDE as u32, SIDE as u32).unwrap();
    let tags = image.encoder();
    tags.write_tag(Tag::ModelPixelScaleTag, &[size, size, 0.0][..]).unwrap();
    let (x, y) = (corner(DESERT.0), -corner(DESERT.1));
    tags.write_tag(Tag::ModelTiepointTag, &[0.0, 0.0, 0.0, x, y, 0.0][..]).unwrap();
    let keys: [u16; 16] = [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 3857];
    tags.write_tag(Tag::GeoKeyDirectoryTag, &keys[..]).unwrap();
    image.write_data(pixels).unwrap();
    std::fs::write(path, file.into_inner()).unwrap();
}

/// A router with the source `lake`: desert in 2020, desert with a square of ocean in 2024.
async fn router(dir: &Path) -> Router {
    let (before, ocean) = (imagery(DESERT).await, imagery(OCEAN).await);
    let mut after = before.clone();
    for row in PATCH.0..PATCH.1 {
        let span = (row * SIDE + PATCH.0) * 3..(row * SIDE + PATCH.1) * 3;
        after[span.clone()].copy_from_slice(&ocean[span]);
    }
    let place = |year: u32| dir.join(format!("{year}.tif"));
    geotiff(&place(2020), &before);
    geotiff(&place(2024), &after);
    let (engine, mut server) = settings();
    server.source = [2020, 2024].map(|year| format!("lake@{year}-06-01={}", place(year).display())).to_vec();
    router_with(engine, server)
}

/// All of the imagery, on its own grid: the model's is coarser.
fn body(more: Value) -> Value {
    let pixel_size = 2.0 * MERCATOR_M / (32.0 * SIDE as f64);
    let mut body = json!({"source": "lake", "bbox": [11.26, 21.95, 22.49, 31.94], "crs": "EPSG:3857", "pixel_size": pixel_size,
        "before": "2020-06-01", "after": "2024-01-01/.."});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn ask(router: &Router, task: &str, body: &Value) -> Reply {
    let reply = post_to(router, &format!("/v1/predict/world/{task}/change"), "application/json", body.to_string()).await;
    assert_eq!(reply.status.as_u16(), 200, "{}", String::from_utf8_lossy(&reply.body));
    reply
}

/// The changes in a picture, and its columns and rows: 0 where nothing has changed, else the category by its colour.
fn changes(reply: &Reply) -> (Vec<f32>, usize, usize) {
    assert_eq!(reply.header("content-type"), "image/png");
    let picture = image::load_from_memory(&reply.body).unwrap().to_rgba8();
    let label = |pixel: &image::Rgba<u8>| match pixel.0 {
        [_, _, _, 0] => 0.0,
        [0, 96, 255, _] => FLOODED,
        [120, 96, 60, _] => DRIED,
        other => panic!("{other:?} is the colour of no change"),
    };
    (picture.pixels().map(label).collect(), picture.width() as usize, picture.height() as usize)
}

/// The values of a GeoTIFF of distances, and its columns and rows.
fn band(reply: &Reply) -> (Vec<f32>, usize, usize) {
    assert_eq!(reply.header("content-type").split(';').next(), Some("image/tiff"));
    let mut file = Decoder::new(Cursor::new(&reply.body)).unwrap();
    let (width, height) = file.dimensions().unwrap();
    let DecodingResult::F32(values) = file.read_image().unwrap() else { panic!("distances are float32") };
    (values, width as usize, height as usize)
}

/// Whether a pixel of an answer that covers all of the imagery lies well inside of what changes, or well outside.
fn is_inside([at, of]: [[usize; 2]; 2], margin_px: usize) -> Option<bool> {
    let [col, row] = [0, 1].map(|axis| (at[axis] as f64 + 0.5) / of[axis] as f64 * SIDE as f64);
    let within = |from: usize, to: usize| [col, row].iter().all(|at| (from as f64..to as f64).contains(at));
    if within(PATCH.0 + margin_px, PATCH.1 - margin_px) {
        return Some(true);
    }
    (!within(PATCH.0 - margin_px, PATCH.1 + margin_px)).then_some(false)
}

/// The part of the pixels for which `is_changed` holds: well inside of what changes, and well outside.
fn parts((values, width, height): &(Vec<f32>, usize, usize), is_changed: impl Fn(f32) -> bool) -> [f64; 2] {
    let (mut counts, mut changed) = ([0.0; 2], [0.0; 2]);
    for (index, value) in values.iter().enumerate() {
        if let Some(inside) = is_inside([[index % width, index / width], [*width, *height]], BLUR) {
            let side = usize::from(!inside);
            counts[side] += 1.0;
            changed[side] += f64::from(u8::from(is_changed(*value)));
        }
    }
    [changed[0] / counts[0], changed[1] / counts[1]]
}

/// West, south, east and north of features.
fn bounds(features: &[Value]) -> [f64; 4] {
    let mut bounds = [180.0f64, 90.0, -180.0, -90.0];
    for feature in features {
        let text = feature["geometry"]["coordinates"].to_string();
        let numbers: Vec<f64> = text.split(['[', ']', ',']).filter_map(|number| number.parse().ok()).collect();
        for place in numbers.chunks(2) {
            bounds = [bounds[0].min(place[0]), bounds[1].min(place[1]), bounds[2].max(place[0]), bounds[3].max(place[1])];
        }
    }
    bounds
}

/// Those of what has changed, to about the pixels that the network blurs.
fn assert_is_the_patch(found: [f64; 4]) {
    let degrees = |px: usize| 11.25 + px as f64 / SIDE as f64 * 11.25;
    let blur = 11.25 * BLUR as f64 / SIDE as f64;
    assert!((found[0] - degrees(PATCH.0)).abs() < blur && (found[2] - degrees(PATCH.1)).abs() < blur, "{found:?}");
    // 21.94 to 31.95 degrees north.
    let north = |px: usize| 31.95 - px as f64 / SIDE as f64 * 10.0;
    assert!((found[3] - north(PATCH.0)).abs() < 1.5 * blur && (found[1] - north(PATCH.1)).abs() < 1.5 * blur, "{found:?}");
}

#[tokio::test]
async fn categories_have_changed_where_the_imagery_has() {
    let dir = tempfile::tempdir().unwrap();
    let router = router(dir.path()).await;
    let picture = changes(&ask(&router, "water", &body(json!({"format": "png"}))).await);
    let [inside, outside] = parts(&picture, |label| label == FLOODED);
    assert!(inside > 0.9 && outside < 0.01, "{inside} {outside}");
    let [_, other] = parts(&picture, |label| label != 0.0);
    assert!(other < 0.01, "{other}");

    let polygons = ask(&router, "water", &body(json!({"format": "geojson"}))).await.json();
    let all = polygons["features"].as_array().unwrap();
    let is_flooded = |feature: &&Value| feature["properties"]["category"] == "land to water";
    // Coasts are unsure by a pixel or two; what has changed is the largest polygon.
    let area = |feature: &Value| {
        let [west, south, east, north] = bounds(std::slice::from_ref(feature));
        (east - west) * (north - south)
    };
    let flooded = all.iter().filter(is_flooded).max_by(|a, b| area(a).total_cmp(&area(b)));
    assert_is_the_patch(bounds(std::slice::from_ref(flooded.unwrap())));

    let raster = ask(&router, "water", &body(json!({"format": "tif"}))).await;
    assert_eq!(raster.header("content-type").split(';').next(), Some("image/tiff"));
    let mut raster = Decoder::new(Cursor::new(raster.body)).unwrap();
    assert_eq!(raster.dimensions().unwrap(), (picture.1 as u32, picture.2 as u32));
    assert!(
        raster.find_tag(Tag::ColorMap).unwrap().is_some() && raster.find_tag(Tag::ModelPixelScaleTag).unwrap().is_some()
    );

    let back = body(json!({"before": "2", "after": "1", "format": "png"}));
    let [inside, outside] = parts(&changes(&ask(&router, "water", &back).await), |label| label == DRIED);
    assert!(inside > 0.9 && outside < 0.01, "{inside} {outside}");
    let same = body(json!({"after": "2020-06-01", "format": "png"}));
    assert!(changes(&ask(&router, "water", &same).await).0.iter().all(|label| *label == 0.0), "nothing has changed");
}

#[tokio::test]
async fn embeddings_are_far_apart_where_the_imagery_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let router = router(dir.path()).await;
    let distances = band(&ask(&router, "embedding", &body(json!({"format": "tif"}))).await);
    let least = distances.0.iter().copied().fold(f32::INFINITY, f32::min);
    assert!((0.0..0.05).contains(&least), "{least}");
    let mean = |inside: bool| {
        let (values, width, height) = &distances;
        let there = values
            .iter()
            .enumerate()
            .filter(|(index, _)| is_inside([[index % width, index / width], [*width, *height]], BLUR) == Some(inside));
        let (sum, count) = there.fold((0.0, 0.0), |(sum, count), (_, value)| (sum + value, count + 1.0));
        sum / count
    };
    println!("mean distances: {} inside, {} outside", mean(true), mean(false));
    assert!(mean(true) > 5.0 * mean(false), "{} {}", mean(true), mean(false));

    let threshold = (mean(true) + mean(false)) / 2.0;
    let regions = ask(&router, "embedding", &body(json!({"format": "geojson", "threshold": threshold}))).await.json();
    let features = regions["features"].as_array().unwrap();
    assert!(features.iter().all(|feature| feature["properties"]["category"] == "changed"), "{regions}");
    assert_is_the_patch(bounds(features));
    let picture = ask(&router, "embedding", &body(json!({"format": "png"}))).await;
    assert_eq!(picture.header("content-type"), "image/png");
    assert!(picture.body.len() > 100);
}

#[tokio::test]
async fn a_comparison_may_become_a_job_and_mistakes_are_told_before() {
    let dir = tempfile::tempdir().unwrap();
    let router = router(dir.path()).await;
    let submit = async |task: &str, query: &str, body: &Value| {
        let request = Request::post(format!("/v1/predict/world/{task}/change{query}"))
            .header("content-type", "application/json")
            .header("accept", "image/tiff")
            .header("prefer", "respond-async");
        send(&router, request.body(Body::from(body.to_string())).unwrap()).await
    };
    let now = ask(&router, "water", &body(json!({"threshold": 0.6, "format": "tif"}))).await;
    let reply = submit("water", "?threshold=0.6", &body(json!({}))).await;
    assert_eq!((reply.status.as_u16(), reply.header("preference-applied")), (202, "respond-async"));
    let job = reply.header("location").to_owned();
    let deadline = Instant::now() + Duration::from_secs(120);
    let later = loop {
        let path = |path: &str| Request::get(path).body(Body::empty()).unwrap();
        let found = send(&router, path(&job)).await.json();
        assert!(found["state"] != "failed" && Instant::now() < deadline, "{found}");
        if found["state"] == "done" {
            break send(&router, path(&format!("{job}/result"))).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(later.body, now.body);
    assert_eq!(later.header("content-bbox"), now.header("content-bbox"));

    for (task, more, status, word) in [
        ("water", json!({"before": "June"}), 400, "before"),
        ("water", json!({"before": "9"}), 404, "capture"),
        ("water", json!({"source": "moon"}), 404, "moon"),
        ("water", json!({"bbox": [50, 0, 51, 1]}), 422, "lake"),
        ("water", json!({"captures": "1"}), 400, "before and after"),
        ("water", json!({"max_detections": 5}), 400, "no objects"),
        ("elevation", json!({}), 400, "segment"),
        ("nothing", json!({}), 404, "nothing"),
    ] {
        let told = submit(task, "", &body(more)).await.problem(status);
        assert!(told.contains(word), "{told}");
    }
}
