//! Heads fitted to labels over HTTP, on the demo's `world`: from ten labels a class to a map.

use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{Reply, fresh, grey_square, post_to, router_with, send, settings};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::{Value, json};

/// Places far from any coast, in degrees: ten in Africa, ten in the Atlantic, all in two windows.
const LAND: [[f64; 2]; 10] = [
    [5.0, 30.0],
    [15.0, 30.0],
    [25.0, 27.0],
    [5.0, 22.0],
    [15.0, 20.0],
    [25.0, 18.0],
    [5.0, 14.0],
    [15.0, 10.0],
    [25.0, 8.0],
    [35.0, 6.0],
];
const WATER: [[f64; 2]; 10] = [
    [-40.0, 36.0],
    [-30.0, 34.0],
    [-40.0, 28.0],
    [-30.0, 26.0],
    [-40.0, 20.0],
    [-30.0, 18.0],
    [-40.0, 12.0],
    [-30.0, 10.0],
    [-40.0, 4.0],
    [-30.0, 2.0],
];
/// Tiles of the native zoom far from these places, with coasts: east Asia and the Gulf of Mexico.
const ELSEWHERE: [&str; 2] = ["13/6", "4/6"];

fn router_over(models_dir: &Path) -> Router {
    let (mut engine, server) = settings();
    engine.models_dir = Some(models_dir.to_owned());
    router_with(engine, server)
}

fn point(place: [f64; 2], class: &str) -> Value {
    json!({"type": "Feature", "geometry": {"type": "Point", "coordinates": place}, "properties": {"class": class}})
}

fn body(id: &str, features: Vec<Value>) -> Value {
    json!({"id": id, "task": "ground", "type": "segment", "source": "world",
        "labels": {"type": "FeatureCollection", "features": features}})
}

fn ten_a_class(id: &str) -> Value {
    let features = LAND.iter().map(|place| point(*place, "land")).chain(WATER.iter().map(|place| point(*place, "water")));
    body(id, features.collect())
}

async fn submit(router: &Router, base: &str, body: &Value) -> Reply {
    post_to(router, &format!("/v1/models/{base}/fit"), "application/json", body.to_string()).await
}

async fn ask(router: &Router, method: &str, path: &str) -> Reply {
    send(router, Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
}

/// Submits a fit and waits for the end of its job.
async fn finished(router: &Router, base: &str, body: &Value) -> Value {
    let reply = submit(router, base, body).await;
    assert_eq!(reply.status.as_u16(), 202, "{}", String::from_utf8_lossy(&reply.body));
    let job = reply.header("location").to_owned();
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let found = ask(router, "GET", &job).await.json();
        if ["done", "failed"].contains(&found["state"].as_str().unwrap()) {
            return found;
        }
        assert!(Instant::now() < deadline, "{found}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The model that a fit has made.
async fn fitted(router: &Router, body: &Value) -> Value {
    let job = finished(router, "world", body).await;
    assert_eq!(job["state"], "done", "{job}");
    ask(router, "GET", job["links"]["result"].as_str().unwrap()).await.json()
}

/// The values of a float32 npy array and its shape.
fn npy(reply: &Reply) -> (Vec<usize>, Vec<f32>) {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    let header_end = 10 + usize::from(u16::from_le_bytes([reply.body[8], reply.body[9]]));
    let header = std::str::from_utf8(&reply.body[10..header_end]).unwrap();
    let shape = header.split('(').nth(1).unwrap().split(')').next().unwrap();
    let shape = shape.split(',').filter_map(|side| side.trim().parse().ok()).collect();
    (shape, reply.body[header_end..].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// A tensor of the head of the model `probe`.
fn tensor_of(models_dir: &Path, name: &str) -> Vec<f32> {
    let file = std::fs::read(models_dir.join("probe.heads.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let bytes = tensors.tensor(&format!("heads.0.{name}")).unwrap().data().to_vec();
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Weights and bias of the model `probe`.
fn head_of(models_dir: &Path) -> (Vec<f32>, Vec<f32>) {
    (tensor_of(models_dir, "weight"), tensor_of(models_dir, "bias"))
}

/// The joined features of some layers of `world` at a pixel of the tile 4/8/6, interpolated.
async fn features_at(router: &Router, layers: &[(&str, f64)], [col, row]: [usize; 2]) -> Vec<f32> {
    let mut features = Vec::new();
    for (layer, stride) in layers {
        let path = format!("/v1/tiles/world/embedding/4/8/6.npy?source=world&layer={layer}&pool=none");
        let (shape, map) = npy(&ask(router, "GET", &path).await);
        let [_, rows, cols] = shape[..] else { panic!("{shape:?}") };
        let between = |at: usize| {
            let at = (at as f64 + 0.5) / stride - 0.5;
            (at as usize, at.fract() as f32)
        };
        let ((top, down), (left, across)) = (between(row), between(col));
        for channel in map.chunks(rows * cols) {
            let at = |row: usize, col: usize| channel[row * cols + col];
            let mix = |a: f32, b: f32, part: f32| a + (b - a) * part;
            let [upper, lower] = [top, top + 1].map(|row| mix(at(row, left), at(row, left + 1), across));
            features.push(mix(upper, lower, down));
        }
    }
    features
}

async fn tile(router: &Router, model: &str, task: &str, place: &str) -> Vec<f32> {
    let path = format!("/v1/tiles/{model}/{task}/4/{place}.npy?source=world");
    npy(&ask(router, "GET", &path).await).1
}

#[tokio::test]
async fn ten_labels_a_class_make_a_map_with_a_score() {
    let router = fresh();
    let model = fitted(&router, &ten_a_class("probe")).await;
    assert_eq!((&model["id"], &model["weights"]["kind"]), (&"probe".into(), &"fitted-heads".into()));
    assert_eq!(model["tasks"][0]["categories"], json!(["land", "water"]));
    assert_eq!(model, ask(&router, "GET", "/v1/models/probe").await.json());
    let fit = &model["fit"];
    assert_eq!((&fit["labels"], &fit["source"]), (&20.into(), &"world".into()));
    assert!(fit["held_out"]["accuracy"].as_f64().unwrap() >= 0.9, "{fit}");
    assert_eq!(fit["held_out"]["categories"][1]["labels"], 10);

    let (mut agreed, mut all) = (0, 0);
    for place in ELSEWHERE {
        let found = tile(&router, "probe", "ground", place).await;
        let truth = tile(&router, "world", "water", place).await;
        let pixels = 256 * 256;
        let is_water = |values: &[f32], at: usize| values[pixels + at] > values[at];
        agreed += (0..pixels).filter(|at| is_water(&found, *at) == is_water(&truth, *at)).count();
        all += pixels;
    }
    let agreement = agreed as f64 / all as f64;
    println!("agrees with the trained head on {agreement:.3} of the pixels of other tiles");
    assert!(agreement > 0.93, "{agreement}");

    let picture = ask(&router, "GET", "/v1/tiles/probe/ground/4/8/6.png?source=world").await;
    assert_eq!((picture.header("content-type"), picture.header("x-model-weights")), ("image/png", "fitted-heads"));
    let set = ask(&router, "GET", "/v1/tiles/probe/ground/tilejson.json?source=world").await.json();
    assert_eq!(set["maxzoom"], 5);
    let upload = post_to(&router, "/v1/predict/probe/ground?format=npy", "application/x-npy", grey_square(101)).await;
    assert_eq!(npy(&upload).0, [2, 101, 101]);
}

#[tokio::test]
async fn the_map_says_what_the_weights_say_of_the_features() {
    let dir = tempfile::tempdir().unwrap();
    let router = router_over(dir.path());
    let mut request = ten_a_class("probe");
    request["layers"] = json!(["backbone.1", "fpn.0"]);
    fitted(&router, &request).await;
    let (weights, bias) = head_of(dir.path());
    let channels = weights.len() / 2;

    let [col, row] = [201, 77];
    let features = features_at(&router, &[("backbone.1", 8.0), ("fpn.0", 4.0)], [col, row]).await;
    assert_eq!(features.len(), channels);
    let logit = |class: usize| -> f32 {
        bias[class] + weights[class * channels..][..channels].iter().zip(&features).map(|(a, b)| a * b).sum::<f32>()
    };
    let expected = 1.0 / (1.0 + (logit(0) - logit(1)).exp());
    let found = tile(&router, "probe", "ground", "8/6").await[256 * 256 + row * 256 + col];
    assert!((found - expected).abs() < 1e-4, "{found} {expected}");
}

#[tokio::test]
async fn a_fit_is_the_same_twice_survives_a_restart_and_leaves_nothing_behind() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut files = Vec::new();
    for dir in &dirs {
        let router = router_over(dir.path());
        let model = fitted(&router, &ten_a_class("probe")).await;
        assert_eq!(model["persistent"], true);
        assert!(submit(&router, "world", &ten_a_class("probe")).await.problem(409).contains("probe"));
        files.push(std::fs::read(dir.path().join("probe.heads.safetensors")).unwrap());
    }
    assert!(files[0] == files[1], "the same labels give the same bytes");

    let restarted = router_over(dirs[0].path());
    let model = ask(&restarted, "GET", "/v1/models/probe").await.json();
    assert_eq!((&model["weights"]["kind"], &model["fit"]["labels"]), (&"fitted-heads".into(), &20.into()));
    let again = router_over(dirs[1].path());
    let [first, second] = [tile(&restarted, "probe", "ground", "8/6").await, tile(&again, "probe", "ground", "8/6").await];
    assert!(first == second);
    assert_eq!(ask(&restarted, "POST", "/v1/models/world/unload").await.status, 200);
    assert!(tile(&restarted, "probe", "ground", "9/7").await.len() == first.len(), "the base is loaded again");
    assert_eq!(ask(&restarted, "DELETE", "/v1/models/probe").await.status, 204);
    assert_eq!(std::fs::read_dir(dirs[0].path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_fitted_model_moves_to_another_server_by_its_files() {
    let (memory, kept, other) = (fresh(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let on_disk = router_over(kept.path());
    let mut downloads = Vec::new();
    for router in [&memory, &on_disk] {
        fitted(router, &ten_a_class("probe")).await;
        let reply = ask(router, "GET", "/v1/models/probe/files").await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/zip"));
        assert!(reply.header("content-disposition").contains("probe.zip"));
        downloads.push(reply.body);
    }
    assert!(downloads[0] == downloads[1], "the same files, wherever they are kept");
    zip::ZipArchive::new(Cursor::new(&downloads[0])).unwrap().extract(other.path()).unwrap();
    let moved = router_over(other.path());
    let [here, there] = [ask(&memory, "GET", "/v1/models/probe").await, ask(&moved, "GET", "/v1/models/probe").await];
    assert_eq!((&here.json()["tasks"], &here.json()["fit"]), (&there.json()["tasks"], &there.json()["fit"]));
    assert!(tile(&memory, "probe", "ground", "8/6").await == tile(&moved, "probe", "ground", "8/6").await);
    assert!(ask(&moved, "GET", "/v1/models/world/files").await.problem(422).contains("no fitted heads"));
    ask(&moved, "GET", "/v1/models/prob/files").await.problem(404);
}

#[tokio::test]
async fn polygons_and_other_properties_are_labels_too() {
    let router = fresh();
    let square = |[lon, lat]: [f64; 2], kind: u32| {
        let ring = [[lon, lat], [lon + 4.0, lat], [lon + 4.0, lat + 4.0], [lon, lat + 4.0], [lon, lat]];
        json!({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {"kind": kind}})
    };
    let features = [LAND[0], LAND[5], LAND[9]]
        .iter()
        .map(|place| square(*place, 1))
        .chain([WATER[1], WATER[5], WATER[9]].iter().map(|place| square(*place, 2)));
    let mut request = body("areas", features.collect());
    request["property"] = "kind".into();
    let model = fitted(&router, &request).await;
    assert_eq!(model["tasks"][0]["categories"], json!(["1", "2"]));
    let labels = model["fit"]["labels"].as_u64().unwrap();
    assert!((100..=6 * 64).contains(&labels), "{labels}");
    assert_eq!(model["fit"]["held_out"]["folds"], 3, "a polygon is on one side only: {}", model["fit"]);
}

#[tokio::test]
async fn numbers_and_sets_of_categories_are_learnt_too() {
    let router = fresh();
    let labelled = |land: Value, water: Value| {
        let with = |places: [[f64; 2]; 10], value: Value| {
            places.map(|place| {
                json!({"type": "Feature", "geometry": {"type": "Point", "coordinates": place}, "properties": {"class": value}})
            })
        };
        [with(LAND, land), with(WATER, water)].concat()
    };
    let request = |id: &str, kind: &str, features: Vec<Value>| {
        let mut request = body(id, features);
        request["type"] = kind.into();
        request
    };
    let right = |found: &[f32], truth: &[f32], least: f32, offset: usize| {
        let is_right = |at: &usize| (found[offset + *at] > least) == (truth[256 * 256 + at] > truth[*at]);
        (0..256 * 256).filter(is_right).count() as f64 / f64::from(256 * 256)
    };
    let truth = tile(&router, "world", "water", ELSEWHERE[0]).await;

    let heights = fitted(&router, &request("heights", "regress", labelled(50.into(), (-50).into()))).await;
    let errors = &heights["fit"]["held_out_errors"];
    assert!(errors["r2"].as_f64().unwrap() > 0.8 && errors["mean_absolute_error"].as_f64().unwrap() < 20.0, "{heights}");
    assert!(heights["fit"]["alpha"].is_number() && heights["fit"]["c"].is_null(), "{heights}");
    let found: Vec<f32> = tile(&router, "heights", "ground", ELSEWHERE[0]).await.iter().map(|height| -height).collect();
    assert_eq!(found.len(), 256 * 256);
    assert!(right(&found, &truth, 0.0, 0) > 0.9, "{}", right(&found, &truth, 0.0, 0));

    let sets = labelled(json!(["dry"]), json!(["wet", "deep"]));
    let sets = fitted(&router, &request("sets", "bin_segment", sets)).await;
    assert_eq!(sets["tasks"][0]["categories"], json!(["deep", "dry", "wet"]));
    assert!(sets["fit"]["held_out"]["accuracy"].as_f64().unwrap() > 0.8, "{sets}");
    assert_eq!(sets["fit"]["held_out"]["learning_curve"].as_array().unwrap().len(), 4, "{sets}");
    let found = tile(&router, "sets", "ground", ELSEWHERE[0]).await;
    assert!(right(&found, &truth, 0.5, 2 * 256 * 256) > 0.9);
    let one = submit(&router, "world", &request("all", "bin_segment", labelled(json!(["a"]), json!("a")))).await;
    assert_eq!(one.status, 202);
    let job = finished(&router, "world", &request("both", "bin_segment", labelled(json!(["a"]), json!("a")))).await;
    assert!(job["error"]["detail"].as_str().unwrap().contains("20 with \"a\" and 0 without it"), "{job}");
}

#[tokio::test]
async fn tiles_are_classified_as_the_weights_say_of_their_means() {
    let dir = tempfile::tempdir().unwrap();
    let router = router_over(dir.path());
    let mut request = ten_a_class("probe");
    request["type"] = "classification".into();
    let model = fitted(&router, &request).await;
    assert_eq!(
        (&model["tasks"][0]["type"], &model["fit"]["labels"]),
        (&"classification".into(), &6.into()),
        "six tiles have labels: {model}"
    );
    assert!(model["fit"]["held_out"]["accuracy"].as_f64().unwrap() > 0.8, "{model}");
    let (weights, bias) = head_of(dir.path());
    for place in ["4/8/6", "4/6/6", "4/13/6"] {
        let mean = npy(&ask(
            &router,
            "GET",
            &format!("/v1/tiles/world/embedding/{place}.npy?source=world&layer=backbone.3"),
        )
        .await);
        let logit = |class: usize| -> f32 {
            bias[class] + weights[class * mean.1.len()..].iter().zip(&mean.1).map(|(a, b)| a * b).sum::<f32>()
        };
        let expected = 1.0 / (1.0 + (logit(0) - logit(1)).exp());
        let found = ask(&router, "GET", &format!("/v1/tiles/probe/ground/{place}.json?source=world")).await.json();
        let water = found["scores"]["water"].as_f64().unwrap();
        assert!((water - f64::from(expected)).abs() < 1e-4, "{place} {found} {expected}");
    }
    let upload = post_to(&router, "/v1/predict/probe/ground", "application/x-npy", grey_square(300)).await;
    assert_eq!(upload.json()["scores"].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn the_nearest_labels_say_what_is_at_every_pixel() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut request = ten_a_class("probe");
    request["method"] = "knn".into();
    request["layers"] = json!(["backbone.1", "fpn.0"]);
    let mut files = Vec::new();
    for dir in &dirs {
        fitted(&router_over(dir.path()), &request).await;
        files.push(std::fs::read(dir.path().join("probe.heads.safetensors")).unwrap());
    }
    assert!(files[0] == files[1], "the same labels give the same bytes");

    let router = router_over(dirs[0].path());
    let model = ask(&router, "GET", "/v1/models/probe").await.json();
    let fit = &model["fit"];
    assert!(fit["held_out"]["accuracy"].as_f64().unwrap() >= 0.9 && fit["c"].is_null(), "{fit}");
    let neighbours = fit["neighbours"].as_u64().unwrap() as usize;
    let ((weights, bias), says) = (head_of(dirs[0].path()), tensor_of(dirs[0].path(), "values"));
    assert_eq!((bias.len(), says.len()), (20, 40));
    let channels = weights.len() / bias.len();
    let found = tile(&router, "probe", "ground", "8/6").await;
    for [col, row] in [[201, 77], [12, 130], [90, 201], [150, 150]] {
        let features = features_at(&router, &[("backbone.1", 8.0), ("fpn.0", 4.0)], [col, row]).await;
        assert_eq!(features.len(), channels);
        let similarity = |example: usize| -> f32 {
            let weights = weights[example * channels..][..channels].iter();
            bias[example] + weights.zip(&features).map(|(a, b)| a * b).sum::<f32>()
        };
        let mut nearest: Vec<usize> = (0..bias.len()).collect();
        nearest.sort_by(|a, b| similarity(*b).total_cmp(&similarity(*a)));
        let water = nearest[..neighbours].iter().map(|example| says[2 * example + 1]).sum::<f32>() / neighbours as f32;
        let found = found[256 * 256 + row * 256 + col];
        assert!((found - water).abs() < 1e-6, "{col} {row}: {found} {water}");
    }
    let truth = tile(&router, "world", "water", ELSEWHERE[0]).await;
    let found = tile(&router, "probe", "ground", ELSEWHERE[0]).await;
    let is_water = |values: &[f32], at: usize| values[256 * 256 + at] > values[at];
    let agreed = (0..256 * 256).filter(|at| is_water(&found, *at) == is_water(&truth, *at)).count();
    println!("agrees with the trained head on {:.3} of the pixels of another tile", agreed as f64 / 65536.0);
    assert!(agreed as f64 > 0.9 * 65536.0, "{agreed}");

    let picture = ask(&router, "GET", "/v1/tiles/probe/ground/4/8/6.png?source=world").await;
    assert_eq!((picture.status.as_u16(), picture.header("content-type")), (200, "image/png"));
    let upload = post_to(&router, "/v1/predict/probe/ground?format=npy", "application/x-npy", grey_square(101)).await;
    assert_eq!(npy(&upload).0, [2, 101, 101]);
    let area = json!({"source": "world", "bbox": [0.0, 20.0, 20.0, 30.0], "format": "geojson"});
    let polygons = post_to(&router, "/v1/predict/probe/ground", "application/json", area.to_string()).await.json();
    assert!(!polygons["features"].as_array().unwrap().is_empty(), "{polygons}");
    let area = json!({"source": "world", "bbox": [-60.0, 0.0, 40.0, 40.0], "count": 3});
    let places = post_to(&router, "/v1/models/probe/suggest", "application/json", area.to_string()).await.json();
    assert_eq!(places["features"].as_array().unwrap().len(), 3, "{places}");
    assert!((0.0..=1.0).contains(&places["features"][0]["properties"]["score"].as_f64().unwrap()));
}

#[tokio::test]
async fn the_nearest_labels_say_numbers_and_sets_and_kinds_of_tiles() {
    let router = fresh();
    let labelled = |id: &str, kind: &str, land: Value, water: Value| {
        let with = |places: [[f64; 2]; 10], value: Value| {
            places.map(|place| {
                json!({"type": "Feature", "geometry": {"type": "Point", "coordinates": place}, "properties": {"class": value}})
            })
        };
        let mut request = body(id, [with(LAND, land), with(WATER, water)].concat());
        request["type"] = kind.into();
        request["method"] = "knn".into();
        request
    };
    let heights = fitted(&router, &labelled("heights", "regress", 50.into(), (-50).into())).await;
    assert!(heights["fit"]["held_out_errors"]["r2"].as_f64().unwrap() > 0.8, "{heights}");
    assert_eq!(heights["tasks"][0]["value_range"], json!([-50.0, 50.0]), "pictures show the labels' range");
    let found = tile(&router, "heights", "ground", "8/6").await;
    assert!(found.len() == 256 * 256 && found.iter().all(|height| (-50.0..=50.0).contains(height)));
    let sets = fitted(&router, &labelled("sets", "bin_segment", json!(["dry"]), json!(["wet", "deep"]))).await;
    assert!(sets["fit"]["held_out"]["accuracy"].as_f64().unwrap() > 0.8, "{sets}");
    let found = tile(&router, "sets", "ground", "8/6").await;
    // What is deep is wet.
    assert!(found.len() == 3 * 256 * 256 && found[..256 * 256] == found[2 * 256 * 256..]);
    let kinds = fitted(&router, &labelled("kinds", "classification", "land".into(), "water".into())).await;
    assert_eq!(kinds["fit"]["labels"], 6, "{kinds}");
    let found = ask(&router, "GET", "/v1/tiles/kinds/ground/4/8/6.json?source=world").await.json();
    let sum: f64 = ["land", "water"].iter().map(|name| found["scores"][name].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{found}");

    let many = (0..501).map(|i| point([-60.0 + f64::from(i % 100), f64::from(i / 100) * 3.0], ["a", "b"][i as usize % 2]));
    let mut many = body("many", many.collect());
    many["method"] = "knn".into();
    let told = submit(&router, "world", &many).await.problem(413);
    assert!(told.contains("501") && told.contains("500") && told.contains("knn"), "{told}");
    let own = |examples: u32, neighbours: u32| {
        json!({"id": "own", "base": "world", "seed": 1, "heads": [{"task": "mine", "type": "segment", "categories": ["a", "b"],
            "layers": ["fpn.0"], "network": "nearest", "examples": examples, "neighbours": neighbours}]})
    };
    for (examples, neighbours, told) in [(501, 5, "examples"), (3, 5, "1 to 3"), (100, 33, "1 to 32"), (0, 1, "examples")] {
        let reply = post_to(&router, "/v1/models", "application/json", own(examples, neighbours).to_string()).await;
        let found = reply.problem(400);
        assert!(found.contains(told), "{found}");
    }
    assert_eq!(post_to(&router, "/v1/models", "application/json", own(9, 3).to_string()).await.status, 201);
    assert_eq!(tile(&router, "own", "mine", "8/6").await.len(), 2 * 256 * 256);
}

#[tokio::test]
async fn places_that_the_model_is_unsure_of_are_suggested() {
    let router = fresh();
    fitted(&router, &ten_a_class("probe")).await;
    let suggest = async |model: &str, body: Value| {
        post_to(&router, &format!("/v1/models/{model}/suggest"), "application/json", body.to_string()).await
    };
    let area = json!({"source": "world", "bbox": [-60.0, 0.0, 40.0, 40.0], "count": 6});
    let answer = suggest("probe", area.clone()).await.json();
    let features = answer["features"].as_array().unwrap();
    assert_eq!(features.len(), 6, "{answer}");
    let score = |feature: &Value| feature["properties"]["score"].as_f64().unwrap();
    for feature in features {
        let at = |axis: usize| feature["geometry"]["coordinates"][axis].as_f64().unwrap();
        assert!((-60.1..40.1).contains(&at(0)) && (-0.1..40.1).contains(&at(1)), "{feature}");
        assert!((0.0..=score(&features[0])).contains(&score(feature)), "the least sure comes first: {answer}");
    }
    assert!(score(&features[0]) > 0.3, "somewhere is a coast: {answer}");
    assert_eq!(answer, suggest("probe", area).await.json(), "twice the same");
    for (model, status, body, told) in [
        ("world", 422, json!({"source": "world"}), "fitted"),
        ("nobody", 404, json!({"source": "world"}), "nobody"),
        ("probe", 404, json!({"source": "moon"}), "moon"),
        ("probe", 400, json!({"source": "world", "count": 0}), "count"),
        ("probe", 400, json!({"source": "world", "bbox": [0.0, 1.0, 1.0, 0.0]}), "bbox"),
        ("probe", 422, json!({"source": "trees", "bbox": [1.0, 0.0, 2.0, 1.0]}), "part of the source"),
    ] {
        let found = suggest(model, body).await.problem(status);
        assert!(found.contains(told), "{found}");
    }
}

#[tokio::test]
async fn a_fit_that_cannot_be_is_refused_with_what_is_needed() {
    let router = fresh();
    let good = || ten_a_class("probe");
    let with = |field: &str, value: Value| {
        let mut request = good();
        request[field] = value;
        request
    };
    let features = |features: Vec<Value>| body("probe", features);
    for (status, request, told) in [
        (400, with("type", "detect".into()), "segment, bin_segment"),
        (422, with("type", "regress".into()), "a number is needed"),
        (400, with("method", "svm".into()), "auto, linear, knn"),
        (404, with("source", "moon".into()), "moon"),
        (400, with("layers", json!(["backbone.9"])), "backbone.3"),
        (400, with("layers", json!([])), "layers"),
        (400, with("task", "embedding".into()), "embedding"),
        (400, with("id", "../x".into()), "id"),
        (409, with("id", "trees".into()), "trees"),
        (400, with("colour", 1.into()), "colour"),
        (400, with("captures", "0".into()), "captures"),
        (422, with("property", "kind".into()), "[\"class\"]"),
        (422, features(LAND.iter().map(|place| point(*place, "land")).collect()), "found 1 categories"),
        (422, features(vec![point(LAND[0], "a"), point(LAND[0], "b")]), "same pixel"),
    ] {
        let found = submit(&router, "world", &request).await.problem(status);
        assert!(found.contains(told), "{found}");
    }
    submit(&router, "nobody", &good()).await.problem(404);
    let own = json!({"id": "own", "base": "world", "heads": [{"task": "mine", "type": "segment", "categories": ["a"]}]});
    assert_eq!(post_to(&router, "/v1/models", "application/json", own.to_string()).await.status, 201);
    assert!(submit(&router, "own", &good()).await.problem(422).contains("built-in"));

    // The trees' source covers a few hundred metres.
    let job = finished(&router, "trees", &with("source", "trees".into())).await;
    assert_eq!((&job["state"], &job["error"]["status"]), (&"failed".into(), &422.into()), "{job}");
    assert!(job["error"]["detail"].as_str().unwrap().contains("20 of the labels lie outside the source"), "{job}");

    let few = features(vec![point(LAND[0], "land"), point(WATER[0], "water"), point([0.0, 89.0], "water")]);
    let fit = fitted(&router, &few).await["fit"].clone();
    assert_eq!((&fit["labels"], &fit["held_out"]), (&2.into(), &Value::Null));
    let warnings = fit["warnings"].to_string();
    assert!(warnings.contains("1 of the labels lie outside") && warnings.contains("no scores"), "{warnings}");
}

#[tokio::test]
async fn weights_fitted_elsewhere_are_served_by_a_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, channels: usize| {
        let weight: Vec<u8> = vec![0; 3 * channels * 4];
        let bias: Vec<u8> = [0.0f32, 1.0, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensors = [
            ("heads.0.weight", TensorView::new(Dtype::F32, vec![3, channels], &weight).unwrap()),
            ("heads.0.bias", TensorView::new(Dtype::F32, vec![3], &bias).unwrap()),
        ];
        std::fs::write(dir.path().join(name), serialize(tensors, None).unwrap()).unwrap();
    };
    // The demo's coarsest map has 192 channels.
    write("fits.safetensors", 192);
    write("other.safetensors", 64);
    let router = router_over(dir.path());
    let manifest = |file: &str| {
        json!({"id": "own", "base": "world", "head_weights": file,
            "heads": [{"task": "mine", "type": "segment", "categories": ["a", "b", "c"], "layers": ["backbone.3"]}]})
    };
    let register = async |manifest: Value| post_to(&router, "/v1/models", "application/json", manifest.to_string()).await;
    assert!(register(manifest("missing.safetensors")).await.problem(400).contains("head_weights"));
    assert!(register(manifest("../up.safetensors")).await.problem(400).contains("head_weights"));
    assert!(register(manifest("other.safetensors")).await.problem(422).contains("[3, 192]"));
    let mut seeded = manifest("fits.safetensors");
    seeded["seed"] = 1.into();
    assert!(register(seeded).await.problem(400).contains("seed"));
    let model = register(manifest("fits.safetensors")).await;
    assert_eq!(model.status, 201, "{}", String::from_utf8_lossy(&model.body));
    assert_eq!(model.json()["weights"]["kind"], "fitted-heads");
    let values = tile(&router, "own", "mine", "8/6").await;
    let sum: f64 = [0.0, 1.0, 2.0].map(f64::exp).iter().sum();
    let pixels = 256 * 256;
    for class in 0..3 {
        let expected = (class as f64).exp() / sum;
        assert!((f64::from(values[class * pixels + 5000]) - expected).abs() < 1e-6, "{class}");
    }
    assert_eq!(ask(&router, "DELETE", "/v1/models/own").await.status, 204);
    assert!(dir.path().join("fits.safetensors").exists(), "a file of the user's own stays");
}
