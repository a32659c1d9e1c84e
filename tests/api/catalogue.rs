//! Models, sources, keys, health and the page over HTTP.

use crate::common::{demo, fresh, get, get_with, post_to, router_with, send, settings};
use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use tiff::encoder::{TiffEncoder, colortype};
use tiff::tags::Tag;

#[tokio::test]
async fn models_are_listed_with_their_tasks() {
    let models = get("/v1/models").await.json();
    let models = models["models"].as_array().expect("a list");
    assert_eq!(models.len(), 28);
    let world = models.iter().find(|model| model["id"] == "world").expect("the demo model");
    let tasks: Vec<&str> = world["tasks"].as_array().unwrap().iter().filter_map(|task| task["name"].as_str()).collect();
    assert_eq!(tasks, ["water", "elevation", "coast", "embedding"]);
    assert_eq!(world["tasks"][0]["categories"], serde_json::json!(["land", "water"]));
    assert_eq!(world["weights"]["kind"], "demo");
    assert!(get("/v1/models/word").await.problem(404).contains("word"));
}

#[tokio::test]
async fn a_model_is_loaded_and_unloaded() {
    let router = fresh();
    let state = |reply: &crate::common::Reply| reply.json()["weights"]["state"].as_str().unwrap_or_default().to_owned();
    assert_eq!(state(&post_to(&router, "/v1/models/world/load", "", Body::empty()).await), "loaded");
    assert_eq!(state(&post_to(&router, "/v1/models/world/unload", "", Body::empty()).await), "cached");
}

#[tokio::test]
async fn built_in_things_cannot_be_removed() {
    for path in ["/v1/models/world", "/v1/sources/world"] {
        let reply = send(&fresh(), Request::delete(path).body(Body::empty()).unwrap()).await;
        assert!(reply.problem(409).contains("built in"));
    }
}

#[tokio::test]
async fn a_source_is_uploaded_used_and_removed() {
    let router = fresh();
    let created = post_to(&router, "/v1/sources?id=mine", "image/tiff", demo("trees_osbs.tif")).await;
    assert_eq!((created.status.as_u16(), created.header("location")), (201, "/v1/sources/mine"));
    assert_eq!((&created.json()["id"], &created.json()["crs"]), (&"mine".into(), &"EPSG:32617".into()));
    post_to(&router, "/v1/sources?id=mine", "image/tiff", demo("trees_osbs.tif")).await.problem(409);
    let remove = || Request::delete("/v1/sources/mine").body(Body::empty()).unwrap();
    assert_eq!(send(&router, remove()).await.status, 204);
    send(&router, remove()).await.problem(404);
}

/// A square of 64 grey pixels a side in degrees, whose top-left corner is at `corner`.
fn square(corner: [f64; 2], pixel: f64) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut image = encoder.new_image::<colortype::Gray8>(64, 64).unwrap();
    let tags = image.encoder();
    tags.write_tag(Tag::ModelPixelScaleTag, &[pixel, pixel, 0.0][..]).unwrap();
    tags.write_tag(Tag::ModelTiepointTag, &[0.0, 0.0, 0.0, corner[0], corner[1], 0.0][..]).unwrap();
    tags.write_tag(Tag::GeoKeyDirectoryTag, &[1u16, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4326][..]).unwrap();
    image.write_data(&[100; 64 * 64]).unwrap();
    file.into_inner()
}

#[tokio::test]
async fn a_source_across_the_antimeridian_wraps_in_json_and_never_in_tilejson() {
    let router = fresh();
    let get = |path: &str| send(&router, Request::get(path).body(Body::empty()).unwrap());
    for (id, west) in [("east", 175.0), ("west", -185.0)] {
        let created = post_to(&router, &format!("/v1/sources?id={id}"), "image/tiff", square([west, 10.0], 0.15625)).await;
        assert_eq!(created.json()["bounds"], json!([175.0, 0.0, -175.0, 10.0]), "{id}");
        let tilejson = get(&format!("/v1/sources/{id}/tilejson.json")).await.json();
        assert_eq!(tilejson["bounds"], json!([-180.0, 0.0, 180.0, 10.0]), "{id}");
        assert_eq!(tilejson["center"], json!([180.0, 5.0, 4.0]), "{id}");
        for (column, opaque) in [(15, true), (0, true), (1, false), (14, false)] {
            let tile = get(&format!("/v1/sources/{id}/tiles/4/{column}/7.png")).await;
            let tile = image::load_from_memory(&tile.body).unwrap().into_rgba8();
            assert_eq!(tile.pixels().any(|pixel| pixel.0[3] > 0), opaque, "{id} {column}");
        }
    }
    let beside = post_to(&router, "/v1/sources?id=beside", "image/tiff", square([170.0, 10.0], 0.15625)).await;
    assert_eq!(beside.json()["bounds"], json!([170.0, 0.0, 180.0, 10.0]));
}

#[tokio::test]
async fn malformed_registrations_are_refused() {
    let router = fresh();
    for (path, body, status) in [
        ("/v1/sources", "{", 400),
        ("/v1/sources", "{\"id\": \"a\"}", 400),
        ("/v1/sources", "{\"id\": \"a\", \"path\": \"/etc/passwd\"}", 400),
        ("/v1/models", "{}", 400),
        ("/v1/models", "{\"id\": \"../x\", \"base\": \"world\"}", 400),
    ] {
        post_to(&router, path, "application/json", body).await.problem(status);
    }
    post_to(&router, "/v1/models", "text/plain", "x").await.problem(415);
}

#[tokio::test]
async fn with_a_key_v1_is_closed_and_health_stays_open() {
    let (engine, mut server) = settings();
    server.api_key = vec!["correct-horse".to_owned()];
    let router = router_with(engine, server);
    let ask = |path: &str, header: Option<(&str, &str)>| {
        let mut request = Request::get(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.body(Body::empty()).unwrap()
    };
    let refused = send(&router, ask("/v1/sources", None)).await;
    refused.problem(401);
    assert!(refused.header("www-authenticate").starts_with("Bearer"));
    assert_eq!(send(&router, ask("/v1/sources", Some(("authorization", "Bearer correct-horse")))).await.status, 200);
    assert_eq!(send(&router, ask("/v1/sources", Some(("x-api-key", "correct-horse")))).await.status, 200);
    assert_eq!(send(&router, ask("/health/ready", None)).await.status, 200);
}

#[tokio::test]
async fn the_page_is_served_and_revalidated() {
    let page = get("/").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(get_with("/", &[("if-none-match", page.header("etag"))]).await.status, 304);
    for path in ["/static/demo/world.tif", "/static/../Cargo.toml", "/static/nothing.js"] {
        get(path).await.problem(404);
    }
    assert!(get("/no/such/route").await.problem(404).contains("/docs"));
    assert_eq!(get("/health/live").await.json()["status"], "live");
}
