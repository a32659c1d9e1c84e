//! Indexes over HTTP: made of tables, searched by examples, kept over a restart.

use crate::common::{Reply, form, fresh, npy, post_to, router_with, send, settings};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::jobs::until_state;

/// What `tests/fixtures/indexes/make.py` writes: eight cells of 0.1 degrees beside each other, from 7 degrees east on. The vector of
/// cell i has 1 at i / 2 and 0.1 i at 4; the last row has no vector.
fn table(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/indexes/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("the fixtures are committed")
}

async fn request(router: &Router, method: &str, path: &str) -> Reply {
    send(router, Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
}

async fn search(router: &Router, index: &str, search: Value) -> Reply {
    post_to(router, &format!("/v1/indexes/{index}/search"), "application/json", search.to_string()).await
}

/// The ids that a search finds.
async fn found(router: &Router, index: &str, query: Value) -> Vec<String> {
    let reply = search(router, index, query).await;
    assert_eq!(reply.status.as_u16(), 200, "{}", String::from_utf8_lossy(&reply.body));
    let features = reply.json()["features"].as_array().unwrap().clone();
    features.iter().map(|feature| feature["id"].as_str().unwrap().to_owned()).collect()
}

async fn with_cells() -> Router {
    let router = fresh();
    let path = "/v1/indexes?id=cells&title=Cells";
    let made = post_to(&router, path, "application/vnd.apache.parquet", table("cells.parquet")).await;
    assert_eq!(made.status.as_u16(), 201, "{}", String::from_utf8_lossy(&made.body));
    assert_eq!(made.header("location"), "/v1/indexes/cells");
    let index = made.json();
    assert_eq!((&index["rows"], &index["dimensions"]), (&json!(8), &json!(5)));
    assert_eq!((&index["has_places"], &index["has_times"], &index["title"]), (&json!(true), &json!(true), &json!("Cells")));
    router
}

#[tokio::test]
async fn examples_of_every_kind_find_what_is_like_them() {
    let router = with_cells().await;
    let vector = json!([0.0, 1.0, 0.0, 0.0, 0.2]);
    for example in [json!({"id": "cell-2"}), json!({"point": [7.25, 47.05]}), json!({"vector": vector})] {
        let ids = found(&router, "cells", json!({"positive": [example], "limit": 2})).await;
        assert_eq!(ids, ["cell-2", "cell-3"], "{example}");
    }
    let boxed = json!({"positive": [{"bbox": [7.4, 47.0, 7.6, 47.1]}], "limit": 2});
    let mut ids = found(&router, "cells", boxed).await;
    ids.sort();
    assert_eq!(ids, ["cell-4", "cell-5"]);
    let unlike = json!({"positive": [{"id": "cell-2"}, {"id": "cell-4"}], "negative": [{"id": "cell-3"}], "limit": 1});
    assert_eq!(found(&router, "cells", unlike).await, ["cell-4"]);
    let first = search(&router, "cells", json!({"positive": [{"id": "cell-0"}], "limit": 1})).await;
    assert_eq!(first.header("content-type"), "application/geo+json");
    let first = &first.json()["features"][0];
    assert_eq!((&first["geometry"]["type"], &first["properties"]["score"]), (&json!("Polygon"), &json!(1.0)));
    assert_eq!(first["properties"]["datetime"], "2024-01-01T00:00:00Z");
}

#[tokio::test]
async fn filters_leave_only_what_they_allow() {
    let router = with_cells().await;
    let like = |more: Value| {
        let mut query = json!({"positive": [{"id": "cell-2"}]});
        query.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        query
    };
    assert_eq!(found(&router, "cells", like(json!({}))).await.len(), 8);
    let ids = found(&router, "cells", like(json!({"bbox": [7.61, 47.0, 7.8, 47.1]}))).await;
    assert_eq!(ids.iter().map(String::as_str).collect::<std::collections::BTreeSet<_>>(), ["cell-6", "cell-7"].into());
    let ids = found(&router, "cells", like(json!({"datetime": "2024-01-03/2024-01-04"}))).await;
    assert_eq!(ids, ["cell-2", "cell-3"]);
    assert_eq!(found(&router, "cells", like(json!({"min_score": 0.9}))).await, ["cell-2", "cell-3"]);
    assert_eq!(found(&router, "cells", like(json!({"bbox": [8.0, 40.0, 9.0, 41.0]}))).await.len(), 0);
}

#[tokio::test]
async fn what_cannot_be_searched_is_told() {
    let router = with_cells().await;
    for (query, status, word) in [
        (json!({"positive": []}), 400, "at least one"),
        (json!({"positive": [{"id": "cell-9"}]}), 400, "\"cell-9\""),
        (json!({"positive": [{"point": [0.0, 0.0]}]}), 400, "no row for the example at 0, 0"),
        (json!({"positive": [{"vector": [1.0]}]}), 400, "has 1 values; 5"),
        (json!({"positive": [{"id": "cell-1", "vector": [1.0]}]}), 400, "one of id, vector, point and bbox"),
        (json!({"positive": [{"id": "cell-1"}], "limit": 0}), 400, "limit"),
        (json!({"positive": [{"id": "cell-1"}], "bbox": [7.0, 48.0, 8.0, 47.0]}), 400, "south not above north"),
        (json!({"positive": [{"bbox": [7e5, 47.0, 8e5, 48.0]}]}), 400, "in degrees"),
        (json!({"positive": [{"id": "cell-1"}], "datetime": "June"}), 400, "datetime"),
        (json!({"positive": [{"id": "cell-1"}], "colour": 1}), 400, "colour"),
    ] {
        let detail = search(&router, "cells", query.clone()).await.problem(status);
        assert!(detail.contains(word), "{query}: {detail}");
    }
    let detail = search(&router, "cell", json!({"positive": [{"id": "1"}]})).await.problem(404);
    assert!(detail.contains("did you mean \"cells\""), "{detail}");
}

#[tokio::test]
async fn tables_that_cannot_be_read_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (mut engine, server) = settings();
    engine.data_dir = Some(directory.path().to_owned());
    let router = router_with(engine, server);
    let cells = table("cells.parquet");
    let npy = |name: &str| table(name);
    for (body, word) in [
        (b"hello".to_vec(), "neither a Parquet file nor"),
        (cells[..cells.len() / 2].to_vec(), "the table"),
        (table("projected.parquet"), "EPSG:32632"),
        (table("without_vectors.parquet"), "no column of lists of floats"),
        (table("endless.parquet"), "smaller row groups"),
        (npy("not_finite.npy"), "row 1"),
        (npy("no_direction.npy"), "no direction"),
    ] {
        let detail = post_to(&router, "/v1/indexes?id=new", "application/octet-stream", body).await.problem(422);
        assert!(detail.contains(word), "{detail}");
    }
    let damaged: Vec<u8> =
        cells.iter().enumerate().map(|(at, byte)| if at % 97 == 50 { byte ^ 0x55 } else { *byte }).collect();
    assert_ne!(post_to(&router, "/v1/indexes?id=new", "application/octet-stream", damaged).await.status.as_u16(), 500);
    let unknown = post_to(&router, "/v1/indexes?vectors=x", "application/octet-stream", cells.clone()).await.problem(422);
    assert!(unknown.contains("no column \"x\"") && unknown.contains("embedding"), "{unknown}");
    post_to(&router, "/v1/indexes", "text/plain", cells).await.problem(415);
    let left = std::fs::read_dir(directory.path().join("indexes")).into_iter().flatten().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).filter(|name| name != "new").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn an_area_becomes_cells_that_are_found_by_what_they_show() {
    let router = fresh();
    let area = |id: &str| json!({"id": id, "model": "world", "source": "world", "bbox": [-30, 5, 20, 35], "cell_px": 64});
    let submit = async |body: &Value| post_to(&router, "/v1/indexes/area", "application/json", body.to_string()).await;
    let reply = submit(&area("sahara")).await;
    assert_eq!(reply.status.as_u16(), 202, "{}", String::from_utf8_lossy(&reply.body));
    let job = until_state(&router, reply.header("location"), "done").await;
    let made = request(&router, "GET", job["links"]["result"].as_str().unwrap()).await.json();
    assert_eq!(made, request(&router, "GET", "/v1/indexes/sahara").await.json());
    assert_eq!((&made["model"], &made["layer"], &made["cell_px"]), (&json!("world"), &json!("backbone.3"), &json!(64)));
    assert!(made["rows"].as_u64().unwrap() > 30 && made["has_places"] == true, "{made}");
    // In the desert: the cell itself comes first, and what is most like it, and unlike the sea, lies on land too.
    let found = search(&router, "sahara", json!({"positive": [{"point": [5.0, 25.0]}], "limit": 1})).await.json();
    let first = &found["features"][0];
    let ring = first["geometry"]["coordinates"][0].as_array().unwrap();
    let side = |axis: usize, most: bool| {
        let values = ring.iter().map(|corner| corner[axis].as_f64().unwrap());
        if most { values.fold(f64::MIN, f64::max) } else { values.fold(f64::MAX, f64::min) }
    };
    assert!(
        (side(0, false)..=side(0, true)).contains(&5.0) && (side(1, false)..=side(1, true)).contains(&25.0),
        "{ring:?}"
    );
    assert_eq!(first["properties"]["score"], 1.0);
    let query = json!({"positive": [{"point": [5.0, 25.0]}], "negative": [{"point": [-27.0, 15.0]}], "limit": 6});
    let found = search(&router, "sahara", query).await.json();
    for feature in found["features"].as_array().unwrap() {
        let lon = feature["geometry"]["coordinates"][0][0][0].as_f64().unwrap();
        assert!(lon > -18.0, "{feature}");
    }
    assert!(submit(&area("sahara")).await.problem(409).contains("sahara"));
    for (member, value, status, word) in [
        ("cell_px", json!(48), 400, "multiple of"),
        ("layer", json!("all"), 400, "one layer"),
        ("layer", json!("backbone.9"), 400, "layer"),
        ("model", json!("word"), 404, "world"),
        ("source", json!("moon"), 404, "moon"),
        ("bbox", json!([170, -80, 175, -78, 1]), 400, "bbox"),
        ("colour", json!(1), 400, "colour"),
    ] {
        let mut body = area("other");
        body[member] = value;
        let detail = submit(&body).await.problem(status);
        assert!(detail.contains(word), "{member}: {detail}");
    }
}

#[tokio::test]
async fn chips_are_examples_by_the_model_of_the_index() {
    let router = fresh();
    let area = json!({"id": "sahara", "model": "world", "source": "world", "bbox": [-30, 5, 20, 35]});
    let reply = post_to(&router, "/v1/indexes/area", "application/json", area.to_string()).await;
    until_state(&router, reply.header("location"), "done").await;
    let tile = async |place: &str| request(&router, "GET", &format!("/v1/sources/world/tiles/5/{place}.png")).await.body;
    let (desert, sea) = (tile("16/13").await, tile("13/14").await);
    let ask = async |path: &str, parts: &[(&str, &[u8])]| {
        let (content_type, body) = form(parts);
        post_to(&router, &format!("/v1/indexes/{path}"), &content_type, body).await
    };
    let ids = |reply: &Reply| {
        assert_eq!(reply.status.as_u16(), 200, "{}", String::from_utf8_lossy(&reply.body));
        let features = reply.json()["features"].as_array().unwrap().clone();
        features.iter().map(|feature| feature["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let few: (&str, &[u8]) = ("search", br#"{"limit": 6}"#);
    let like = ids(&ask("sahara/search/chips", &[("positive", &desert), few]).await);
    let (content_type, body) = form(&[("chip", &desert)]);
    let vector = post_to(&router, "/v1/predict/world/embedding/batch?format=jsonl", &content_type, body).await;
    let vector: Value = serde_json::from_slice(&vector.body).unwrap();
    let by_vector = json!({"positive": [{"vector": vector["values"]}], "limit": 6});
    assert_eq!(like, found(&router, "sahara", by_vector).await, "{vector}");

    let land = ask("sahara/search/chips", &[("negative", &sea), ("positive", &desert), ("positive", &desert), few]).await;
    assert_eq!(ids(&land).len(), 6);
    for feature in land.json()["features"].as_array().unwrap() {
        let lon = feature["geometry"]["coordinates"][0][0][0].as_f64().unwrap();
        assert!(lon > -18.0, "{feature}");
    }
    assert!(land.json().get("warnings").is_none());
    let dark = npy(&[3, 32, 32], &[0; 3 * 32 * 32]);
    let warned = ask("sahara/search/chips", &[("positive", &desert), ("negative", &dark), few]).await.json();
    assert!(warned["warnings"][0].as_str().unwrap().starts_with("negative: chip 0: All pixels are 0"), "{warned}");
    for (path, parts, status, told) in [
        ("sahara/search/chips", vec![("negative", &desert[..])], 400, "at least one"),
        ("sahara/search/chips", vec![("positive", &b"no raster"[..])], 415, "positive"),
        ("sahara/search/chips", vec![("positive", &desert), ("search", b"{")], 400, "the part search"),
        ("sahara/search/chips", vec![("positive", &desert), few, few], 400, "two parts named search"),
        ("sahara/search/chips", vec![("image", &desert)], 400, "\"image\""),
        ("sahara/search/chips?model=trees", vec![("positive", &desert)], 400, "is of \"world\""),
        ("sahara/search/chips?layer=fpn.0", vec![("positive", &desert)], 400, "is of \"backbone.3\""),
        ("nowhere/search/chips", vec![("positive", &desert)], 404, "nowhere"),
    ] {
        let detail = ask(path, &parts).await.problem(status);
        assert!(detail.contains(told), "{path}: {detail}");
    }
    let made = post_to(&router, "/v1/indexes?id=cells", "application/octet-stream", table("cells.parquet")).await;
    assert_eq!(made.status.as_u16(), 201);
    for (path, told) in
        [("cells/search/chips", "model: found none"), ("cells/search/chips?model=world", "has 192 values; 5")]
    {
        let detail = ask(path, &[("positive", &desert)]).await.problem(400);
        assert!(detail.contains(told), "{path}: {detail}");
    }
}

#[tokio::test]
async fn indexes_outlive_the_server_and_go_when_they_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let (mut engine, server) = settings();
        engine.data_dir = Some(directory.path().to_owned());
        router_with(engine, server)
    };
    let router = start();
    let (content_type, body) = form(&[("table", &table("vectors.npy"))]);
    let made = post_to(&router, "/v1/indexes", &content_type, body).await;
    assert_eq!(made.status.as_u16(), 201, "{}", String::from_utf8_lossy(&made.body));
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let query = json!({"positive": [{"id": "3"}], "limit": 3});
    let before = found(&router, &id, query.clone()).await;
    assert_eq!((before.len(), before[0].as_str()), (3, "3"));
    let (content_type, body) = form(&[("table", &table("vectors.npy"))]);
    post_to(&router, "/v1/indexes", &content_type, body).await.problem(409);
    let unplaced = search(&router, &id, json!({"positive": [{"point": [7.0, 47.0]}]})).await.problem(400);
    assert!(unplaced.contains("have no places"), "{unplaced}");
    drop(router);
    // What a process that died has left.
    std::fs::create_dir(directory.path().join("indexes").join(".half.1")).unwrap();

    let router = start();
    assert_eq!(request(&router, "GET", "/v1/indexes").await.json()["indexes"][0]["id"], json!(id));
    assert_eq!(found(&router, &id, query.clone()).await, before);
    assert!(!directory.path().join("indexes").join(".half.1").exists());
    let path = format!("/v1/indexes/{id}");
    assert_eq!(request(&router, "DELETE", &path).await.status.as_u16(), 204);
    request(&router, "GET", &path).await.problem(404);
    assert_eq!(std::fs::read_dir(directory.path().join("indexes")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_removals_at_once_one_removes_and_the_others_find_nothing() {
    let router = fresh();
    for _ in 0..10 {
        let path = "/v1/indexes?id=cells";
        let made = post_to(&router, path, "application/vnd.apache.parquet", table("cells.parquet")).await;
        assert_eq!(made.status.as_u16(), 201, "{}", String::from_utf8_lossy(&made.body));
        let mut removals = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let router = router.clone();
            removals.spawn(async move { request(&router, "DELETE", "/v1/indexes/cells").await.status.as_u16() });
        }
        let mut answers = removals.join_all().await;
        answers.sort_unstable();
        assert_eq!(answers, [204, 404, 404, 404, 404, 404]);
    }
}
