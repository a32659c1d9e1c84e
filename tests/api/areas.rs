//! Predictions on areas of registered sources.

use std::io::Cursor;

use crate::common::{Reply, fresh, get, post, post_to, router_with, send, settings, shared};
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tiff::decoder::Decoder;
use tiff::tags::Tag;

const JSON: &str = "application/json";

async fn area(path: &str, body: &Value) -> Reply {
    post(&format!("/v1/predict/{path}"), JSON, body.to_string()).await
}

/// The labels of an npy of bytes, its rows and columns.
fn labels(reply: &Reply) -> (Vec<u8>, usize, usize) {
    assert_eq!(reply.status.as_u16(), 200, "{}", String::from_utf8_lossy(&reply.body));
    let header = usize::from(u16::from_le_bytes([reply.body[8], reply.body[9]])) + 10;
    let text = String::from_utf8_lossy(&reply.body[10..header]).into_owned();
    let shape = text.split("'shape': (").nth(1).unwrap().split(')').next().unwrap();
    let sides: Vec<usize> = shape.split(',').filter_map(|side| side.trim().parse().ok()).collect();
    (reply.body[header..].to_vec(), sides[0], sides[1])
}

#[tokio::test]
async fn an_area_on_the_grid_of_tiles_is_what_the_tile_shows() {
    // Tile 4/8/5: Central Europe.
    let bbox = json!([0.0, 40.979_898_069_620_13, 22.5, 55.776_573_018_667_7]);
    let body = json!({"source": "world", "bbox": bbox, "crs": "EPSG:3857", "render": "index", "format": "npy"});
    let (found, rows, cols) = labels(&area("world/water", &body).await);
    assert_eq!((rows, cols), (256, 256));
    let (tile, ..) = labels(&get("/v1/tiles/world/water/4/8/5.npy?source=world&render=index").await);
    let same = found.iter().zip(&tile).filter(|(a, b)| a == b).count();
    // The windows lie elsewhere, so the network sees other surroundings.
    assert!(same as f64 > 0.97 * tile.len() as f64, "{same} of {}", tile.len());
}

#[tokio::test]
async fn every_format_is_georeferenced() {
    let info = get("/v1/sources/trees_osbs").await.json();
    let b: Vec<f64> = info["bounds"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    let (w, h) = (b[2] - b[0], b[3] - b[1]);
    let bbox = json!([b[0] + w / 4.0, b[1] + h / 4.0, b[0] + 3.0 * w / 4.0, b[1] + 3.0 * h / 4.0]);
    let mut body = json!({"source": "trees_osbs", "bbox": bbox});
    let objects = area("trees/tree_crown", &body).await;
    assert_eq!((objects.status.as_u16(), objects.header("content-crs")), (200, "EPSG:32617"), "{}", info);
    let features = objects.json()["features"].as_array().unwrap().clone();
    assert!(!features.is_empty());
    for (format, media_type) in
        [("json", "application/json"), ("png", "image/png"), ("safetensors", "application/x-safetensors")]
    {
        body["format"] = format.into();
        let reply = area("trees/tree_crown", &body).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, media_type));
    }
    // A triangle holds some of them, and no others.
    let corners = json!([[
        [b[0] + w / 4.0, b[1] + h / 4.0],
        [b[0] + 3.0 * w / 4.0, b[1] + h / 4.0],
        [b[0] + w / 4.0, b[1] + 3.0 * h / 4.0],
        [b[0] + w / 4.0, b[1] + h / 4.0]
    ]]);
    let triangle = json!({"source": "trees_osbs", "geometry": {"type": "Polygon", "coordinates": corners}});
    let inside = area("trees/tree_crown", &triangle).await.json()["features"].as_array().unwrap().len();
    assert!(inside > 0 && inside < features.len(), "{inside} of {}", features.len());
    let embedding = area("trees/embedding", &triangle).await.json();
    assert_eq!(embedding["pool"], "mean");
}

#[tokio::test]
async fn outside_of_a_polygon_there_is_no_data() {
    let corners = json!([[[0, 40], [20, 40], [0, 60], [0, 40]]]);
    let geometry = json!({"type": "Polygon", "coordinates": corners});
    let body = json!({"source": "world", "geometry": geometry, "crs": "EPSG:3857", "render": "index", "format": "npy"});
    let (labels, rows, cols) = labels(&area("world/water", &body).await);
    assert_eq!(labels[cols - 1], 255, "the corner in the north-east");
    let filled = labels.iter().filter(|label| **label != 255).count() as f64 / (rows * cols) as f64;
    assert!((0.3..0.7).contains(&filled), "{filled}");
}

#[tokio::test]
async fn embeddings_are_a_raster_of_cells_or_a_table_that_becomes_an_index() {
    // Tile 4/8/5: 256 x 256 pixels.
    let bbox = json!([0.0, 40.979_898_069_620_13, 22.5, 55.776_573_018_667_7]);
    let mut body = json!({"source": "world", "bbox": bbox, "crs": "EPSG:3857", "format": "tif"});
    let raster = area("world/embedding", &body).await;
    assert_eq!((raster.status.as_u16(), raster.header("content-type")), (200, "image/tiff; application=geotiff"));
    let mut file = Decoder::new(Cursor::new(&raster.body)).unwrap();
    assert_eq!(file.dimensions().unwrap(), (8, 8), "a position of backbone.3 is 32 pixels wide");
    let scale = file.get_tag_f64_vec(Tag::ModelPixelScaleTag).unwrap();
    assert!((scale[0] - 2.0 * 20_037_508.342_789_24 / 4096.0 * 32.0).abs() < 1e-3, "{scale:?}");
    let bands = file.get_tag_u32(Tag::SamplesPerPixel).unwrap();
    body["cell_px"] = 64.into();
    let raster = area("world/embedding", &body).await;
    assert_eq!(Decoder::new(Cursor::new(&raster.body)).unwrap().dimensions().unwrap(), (4, 4));
    (body["format"], body["precision"]) = ("parquet".into(), "int8".into());
    let table = area("world/embedding", &body).await;
    assert_eq!((table.status.as_u16(), table.header("content-type")), (200, "application/vnd.apache.parquet"));
    let router = fresh();
    let made = post_to(&router, "/v1/indexes?id=cells", "application/vnd.apache.parquet", table.body).await.json();
    assert_eq!((&made["rows"], &made["dimensions"]), (&json!(16), &json!(bands)), "{made}");
    let search = json!({"positive": [{"point": [1.0, 55.0]}], "limit": 1}).to_string();
    let found = post_to(&router, "/v1/indexes/cells/search", JSON, search).await.json();
    assert_eq!(found["features"][0]["id"], "0-0", "the cell in the north-west");
    for (name, value, status, word) in [
        ("cell_px", json!(48), 400, "multiple of 32"),
        ("layer", json!("all"), 400, "one layer"),
        ("pool", json!("none"), 400, "mean or max"),
        ("format", json!("json"), 400, "tif or parquet"),
        ("precision", json!("int4"), 400, "float32 or int8"),
        ("format", json!("png"), 406, "tif, parquet"),
    ] {
        let mut body = body.clone();
        body[name] = value;
        let detail = area("world/embedding", &body).await.problem(status);
        assert!(detail.contains(word), "{name}: {detail}");
    }
    let detail = get("/v1/tiles/world/embedding/4/8/5.tif?source=world").await.problem(406);
    assert!(detail.ends_with("json, npy, safetensors"), "{detail}");
}

#[tokio::test]
async fn the_antimeridian_can_be_crossed() {
    let body = json!({"source": "world", "bbox": [175, -22, -175, -12], "render": "index", "format": "npy"});
    let (labels, rows, cols) = labels(&area("world/water", &body).await);
    assert!(rows > 50 && cols > 50, "{rows} x {cols}");
    assert!(labels.iter().filter(|label| **label != 255).count() > rows * cols / 2);
}

#[tokio::test]
async fn what_cannot_be_is_told_what_can() {
    let bbox = json!([0, 40, 10, 50]);
    for (path, body, status, word) in [
        ("world/water", json!({"source": "wrld", "bbox": bbox}), 404, "world"),
        ("world/water", json!({"bbox": bbox}), 400, "source"),
        ("world/water", json!({"source": "world"}), 400, "bbox or geometry"),
        ("world/water", json!({"source": "world", "bbox": bbox, "tresh": 1}), 400, "threshold"),
        ("world/water", json!({"source": "world", "bbox": bbox, "pixel_size": -1}), 400, "above 0"),
        ("world/water", json!({"source": "world", "bbox": bbox, "pixel_size": 0.01}), 413, "limit"),
        ("world/water", json!({"source": "world", "bbox": bbox, "images": 2}), 400, "captures of its own"),
        ("world/water", json!({"source": "world", "bbox": bbox, "captures": [7]}), 404, "capture"),
        ("trees/tree_crown", json!({"source": "trees", "bbox": bbox}), 422, "outside source trees"),
        ("world/water", json!({"source": "world", "bbox": bbox, "format": "safetensors"}), 406, "geojson"),
    ] {
        let reply = area(path, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {}", String::from_utf8_lossy(&reply.body));
        let detail = reply.problem(status);
        assert!(detail.contains(word), "{body}: {detail}");
    }
    let broken = post("/v1/predict/world/water", JSON, "[1, 2").await.problem(400);
    assert!(broken.contains("no JSON object"), "{broken}");
    let teeth = (0..3000).map(|tooth| [f64::from(tooth % 2) * 300.0 - 150.0, f64::from(tooth) * 0.04 - 60.0]);
    let ring: Vec<[f64; 2]> = teeth.collect();
    let long_edges = json!({"source": "world", "geometry": {"type": "Polygon", "coordinates": [ring]}, "pixel_size": 100});
    let detail = post("/v1/predict/world/water", JSON, long_edges.to_string()).await.problem(413);
    assert!(detail.contains("pieces of 32 pixels"), "{detail}");
    let doubled = post(
        "/v1/predict/world/water?threshold=0.3",
        JSON,
        json!({"source": "world", "bbox": bbox, "threshold": 0.4}).to_string(),
    );
    assert!(doubled.await.problem(400).contains("found it twice"));
}

/// The result of the job at `location`, once it is done.
async fn result_of(location: &str) -> Reply {
    loop {
        let job = get(location).await.json();
        match job["state"].as_str().unwrap() {
            "done" => return get(&format!("{location}/result")).await,
            "queued" | "running" => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            state => panic!("{state}: {job}"),
        }
    }
}

#[tokio::test]
async fn a_job_with_a_destination_writes_below_the_servers_place_for_results() {
    let root = tempfile::tempdir().unwrap();
    let (engine, mut server) = settings();
    server.result_root = Some(root.path().to_string_lossy().into_owned());
    let router = router_with(engine, server);
    let mut job =
        json!({"model": "world", "task": "water", "source": "world", "bbox": [0, 40, 10, 50], "destination": "water/1"});
    let ended = async |job: &Value| {
        let reply = post_to(&router, "/v1/jobs", JSON, job.to_string()).await;
        assert_eq!(reply.status.as_u16(), 202, "{}", String::from_utf8_lossy(&reply.body));
        let location = reply.header("location").to_owned();
        loop {
            let get = |path: &str| send(&router, Request::get(path).body(Body::empty()).unwrap());
            let job = get(&location).await.json();
            match job["state"].as_str().unwrap() {
                "queued" | "running" => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                "done" => return get(&format!("{location}/result")).await.json(),
                _ => return job,
            }
        }
    };
    let report = ended(&job).await;
    assert_eq!((&report["state"], &report["made"]), (&json!("done"), &json!(1)));
    assert!(root.path().join("water/1/collection.json").exists());
    assert_eq!(ended(&job).await["made"], json!(0), "a job that is sent again finds its blocks");
    job["task"] = json!("coast");
    assert!(ended(&job).await.to_string().contains("results of another job"));
    job["destination"] = json!("water/1/items/2");
    assert!(post_to(&router, "/v1/jobs", JSON, job.to_string()).await.problem(400).contains("results have"));
    job["destination"] = json!("../elsewhere");
    assert!(post_to(&router, "/v1/jobs", JSON, job.to_string()).await.problem(400).contains("a name such as"));
}

#[tokio::test]
async fn an_area_in_blocks_is_a_job_whose_result_is_a_zip_file() {
    let mut job = json!({"model": "world", "task": "water", "source": "world", "bbox": [-10, 25, 60, 44], "block_px": 512});
    let plan = post("/v1/jobs?dry_run=true", JSON, job.to_string()).await.json();
    assert_eq!((plan["blocks"].as_array().map(Vec::len), &plan["crs"]), (Some(2), &json!("EPSG:3857")));
    let reply = post("/v1/jobs", JSON, job.to_string()).await;
    assert_eq!(reply.status.as_u16(), 202);
    let result = result_of(reply.header("location")).await;
    assert_eq!(result.header("content-type"), "application/zip");
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(result.body)).unwrap();
    let names: Vec<String> = (0..zip.len()).map(|file| zip.by_index(file).unwrap().name().unwrap().into_owned()).collect();
    let count = |folder: &str| names.iter().filter(|name| name.starts_with(folder)).count();
    assert_eq!((count("items/"), count("rasters/"), names.len()), (2, 2, 8), "{names:?}");
    for (name, value, status, word) in [
        ("destination", json!("water"), 400, "--result-root"),
        ("model", json!("wrld"), 404, "world"),
        ("bbox", json!([-10, 25, 60]), 400, "west, south"),
        ("pixel_size", json!(20), 413, "satlas-serve run"),
    ] {
        let before = std::mem::replace(&mut job[name], value);
        let detail = post("/v1/jobs", JSON, job.to_string()).await.problem(status);
        assert!(detail.contains(word), "{name}: {detail}");
        job[name] = before;
        if job[name].is_null() {
            job.as_object_mut().unwrap().remove(name);
        }
    }
    assert!(post("/v1/jobs?dry_run=yes", JSON, job.to_string()).await.problem(400).contains("true or false"));
    for (change, status, words) in [
        (json!({"block_px": "512"}), 400, "block_px: invalid type"),
        (json!({"blok_px": 512}), 400, "block_px"),
        (
            json!({"bbox": null, "geometry": {"type": "Polygon",
            "coordinates": [[[10, 10], [10.0001, 10], [10.0001, 10.0001], [10, 10.0001], [10, 10]]]}}),
            400,
            "holds no pixel",
        ),
        (json!({"model": "trees", "task": "tree_crown", "bbox": [0, 40, 20, 55]}), 413, "larger block_px"),
    ] {
        let mut wrong = job.clone();
        wrong.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let detail = post("/v1/jobs?dry_run=true", JSON, wrong.to_string()).await.problem(status);
        assert!(detail.contains(words), "{change}: {detail}");
    }
}

#[tokio::test]
async fn an_area_may_become_a_job() {
    let body = json!({"source": "world", "bbox": [0, 40, 10, 50], "format": "tif"});
    let now = area("world/water", &body).await;
    let request = Request::post("/v1/predict/world/water").header("content-type", JSON).header("prefer", "respond-async");
    let reply = send(&shared(), request.body(Body::from(body.to_string())).unwrap()).await;
    assert_eq!(reply.status.as_u16(), 202);
    let later = result_of(reply.header("location")).await;
    assert_eq!(later.body, now.body);
    assert_eq!(later.header("content-bbox"), now.header("content-bbox"));
}
