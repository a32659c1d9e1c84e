//! HTTP as its RFCs have it: negotiation, validators, caching, ranges, hosts, proxies, early responses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "common/process.rs"]
mod process;

use std::io::{Read, Write};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use common::{Reply, demo, fresh, get, get_with, router_with, send, settings, shared};
use satlas_serve::api::TABLE;
use satlas_serve::config::ServerSettings;
use serde_json::json;

const TREES: &str = "/v1/predict/trees/tree_crown";
const WATER: &str = "/v1/tiles/world/water";
/// A tile with enough objects to be compressed.
const OBJECTS: &str = "/v1/tiles/trees/tree_crown/20/202509/377406.geojson?source=trees";
const PROXY: [(&str, &str); 3] =
    [("x-forwarded-prefix", "/satlas"), ("x-forwarded-host", "maps.example.org"), ("x-forwarded-proto", "https")];

async fn ask(router: &Router, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(router, request.body(Body::from(body)).unwrap()).await
}

async fn predict(path: &str, headers: &[(&str, &str)]) -> Reply {
    let headers = [&[("content-type", "image/tiff")], headers].concat();
    ask(&shared(), "POST", path, &headers, demo("trees_osbs.tif")).await
}

#[tokio::test]
async fn a_format_that_an_upload_cannot_have_gives_way_to_the_next() {
    let answer = predict(TREES, &[("accept", "application/vnd.mapbox-vector-tile, application/json;q=0.5")]).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    let answer = predict(TREES, &[("accept", "application/*, application/geo+json;q=0")]).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    let only = predict(TREES, &[("accept", "application/vnd.mapbox-vector-tile")]).await.problem(406);
    assert!(only.ends_with("it can be geojson, png, json, safetensors"), "{only}");
    let embedding = "/v1/predict/trees/embedding?layer=all";
    let answer = predict(embedding, &[("accept", "application/x-npy, application/x-safetensors;q=0.5")]).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/x-safetensors"));
}

#[tokio::test]
async fn a_304_has_the_headers_of_the_200() {
    for path in
        [OBJECTS, &format!("{WATER}/3/4/3.png?source=world"), "/v1/sources/world/tiles/3/4/3.png", "/", "/static/viewer.js"]
    {
        for coding in ["gzip", "identity"] {
            let whole = get_with(path, &[("accept-encoding", coding)]).await;
            let tag = whole.header("etag").to_owned();
            let same = get_with(path, &[("accept-encoding", coding), ("if-none-match", &tag)]).await;
            assert_eq!((whole.status.as_u16(), same.status.as_u16()), (200, 304), "{path}");
            assert_eq!(same.header("etag"), tag, "{path} as {coding}");
            assert_eq!(same.header("cache-control"), whole.header("cache-control"), "{path}");
            let vary = |reply: &Reply| reply.headers.get_all("vary").iter().any(|value| value == "accept-encoding");
            assert_eq!(vary(&same), vary(&whole), "{path}: {:?} {:?}", same.headers, whole.headers);
        }
    }
}

#[tokio::test]
async fn what_has_no_body_has_no_length() {
    let empty = ask(&shared(), "HEAD", "/v1/tiles/trees/tree_crown/20/0/0.mvt?source=trees", &[], Vec::new()).await;
    assert_eq!((empty.status.as_u16(), empty.headers.get("content-length")), (204, None));
    let tile = format!("{WATER}/3/4/3.png?source=world");
    let same = ask(&shared(), "HEAD", &tile, &[("if-none-match", "*")], Vec::new()).await;
    assert_eq!((same.status.as_u16(), same.headers.get("content-length")), (304, None));
    let whole = ask(&shared(), "HEAD", &tile, &[], Vec::new()).await;
    assert!(whole.header("content-length").parse::<usize>().unwrap() > 0 && whole.body.is_empty());
}

#[tokio::test]
async fn work_that_is_done_is_not_answered_406() {
    let router = fresh();
    let headers = [("content-type", "image/tiff"), ("accept-encoding", "identity;q=0")];
    let created = ask(&router, "POST", "/v1/sources?id=ghost", &headers, demo("trees_osbs.tif")).await;
    assert_eq!(created.status.as_u16(), 201);
    let coded = ask(&router, "GET", "/v1/models", &[("accept-encoding", "gzip, *;q=0")], Vec::new()).await;
    assert_eq!((coded.status.as_u16(), coded.header("content-encoding")), (200, "gzip"));
}

#[tokio::test]
async fn a_source_without_a_title_is_called_by_its_file_or_its_id() {
    let router = fresh();
    let raw = [("content-type", "image/tiff")];
    let created = ask(&router, "POST", "/v1/sources?id=osbs", &raw, demo("trees_osbs.tif")).await;
    assert_eq!(created.json()["title"], "osbs");
    let (content_type, body) = common::form(&[("image", &demo("trees_osbs.tif"))]);
    let created = ask(&router, "POST", "/v1/sources?id=named", &[("content-type", &content_type)], body).await;
    assert_eq!(created.json()["title"], "image.tif");
}

#[tokio::test]
async fn every_path_in_a_response_leads_through_the_proxy() {
    let tilejson = get_with(&format!("{WATER}/tilejson.json?source=world"), &PROXY).await.json();
    let tiles = "https://maps.example.org/satlas/v1/tiles/world/water/{z}/{x}/{y}.png?source=world";
    assert_eq!(tilejson["tiles"], json!([tiles]));
    let router = fresh();
    let job = [&PROXY[..], &[("prefer", "respond-async"), ("content-type", "image/tiff")]].concat();
    let accepted = ask(&router, "POST", &format!("{TREES}?format=json"), &job, demo("trees_osbs.tif")).await;
    let links = accepted.json()["links"].clone();
    assert!(links["self"].as_str().unwrap().starts_with("/satlas/v1/jobs/"), "{links}");
    assert_eq!(links["self"], accepted.header("location"));
    let listed = ask(&router, "GET", "/v1/jobs", &PROXY, Vec::new()).await.json();
    assert_eq!(listed["jobs"][0]["links"]["self"], links["self"]);
    assert_eq!(get_with("/docs", &PROXY).await.header("location"), "/satlas/docs/");
    assert_eq!(get_with("/openapi.json", &PROXY).await.json()["servers"][0]["url"], "/satlas/");
    assert_eq!(get("/openapi.json").await.json()["servers"][0]["url"], "/");
    assert_eq!(get_with("/v1/models/none", &PROXY).await.json()["type"], "/satlas/problems/not_found");
    let page = String::from_utf8(get("/docs/swagger-initializer.js").await.body).unwrap();
    assert!(page.contains("\"../openapi.json\""), "{page}");
    // What is no path is not taken over.
    let evil = get_with("/docs", &[("x-forwarded-prefix", "//evil.example")]).await;
    assert_eq!(evil.header("location"), "/docs/");
}

#[tokio::test]
async fn the_type_of_a_problem_leads_to_its_description() {
    let kind = get("/v1/models/none").await.json()["type"].as_str().unwrap().to_owned();
    for path in TABLE.map(|row| format!("/problems/{}", row.code)).iter().chain([&kind]) {
        let page = get(path).await;
        assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"), "{path}");
    }
    assert!(String::from_utf8(get(&kind).await.body).unwrap().contains("GET /v1/models"));
    assert!(get("/problems/none").await.problem(404).contains("not_found"));
}

#[tokio::test]
async fn nothing_is_cached_that_may_not_be() {
    for path in
        ["/v1/jobs", "/v1/models", "/v1/sources/world", "/v1/models/none", "/health/ready", "/metrics", "/openapi.json"]
    {
        assert_eq!(get(path).await.header("cache-control"), "no-store", "{path}");
    }
    let (engine, server) = settings();
    let keyed = router_with(engine, ServerSettings { api_key: vec!["a-long-key".to_owned()], ..server });
    let tile =
        ask(&keyed, "GET", &format!("{WATER}/3/4/3.png?source=world"), &[("x-api-key", "a-long-key")], Vec::new()).await;
    assert!(tile.header("cache-control").starts_with("private"), "{}", tile.header("cache-control"));
}

#[tokio::test]
async fn a_regression_is_stretched_to_the_range_that_is_asked_for() {
    let tile = |options: &str| format!("/v1/tiles/world/elevation/3/4/3.png?source=world&colormap=gray{options}");
    let (usual, whole, stretched) =
        (get(&tile("")).await, get(&tile("&rescale=0,255")).await, get(&tile("&rescale=0,60")).await);
    assert_eq!(usual.body, whole.body, "the range of the values is the default");
    assert_ne!(usual.body, stretched.body);
    assert!(get(&tile("&rescale=60,0")).await.problem(400).contains("the lower one first"));
}

#[tokio::test]
async fn names_that_are_nearly_right_lead_to_the_right_ones() {
    for (path, meant) in [
        ("/v1/models/wrold", "world"),
        ("/v1/tiles/world/watr/3/4/3.png?source=world", "water"),
        ("/v1/sources/Worlds", "world"),
    ] {
        let told = get(path).await.problem(404);
        assert!(told.contains(&format!("did you mean \"{meant}\"?")), "{told}");
    }
}

#[tokio::test]
async fn a_datetime_without_a_capture_says_so() {
    let never = "source=world&datetime=2024-06-01/2024-08-31";
    for path in [format!("{WATER}/3/4/3.png?{never}"), format!("{WATER}/3/4/3.png?{never}&captures=1")] {
        let tile = get(&path).await;
        assert_eq!(tile.status.as_u16(), 200, "{path}");
        assert!(
            tile.header("x-input-warnings").contains("datetime matches none of the"),
            "{}",
            tile.header("x-input-warnings")
        );
    }
    let imagery = get("/v1/sources/world/tiles/3/4/3.png?datetime=2024-06-01").await;
    assert!(imagery.header("x-input-warnings").contains("datetime matches none"), "{}", imagery.header("x-input-warnings"));
    let told = get(&format!("{WATER}/tilejson.json?{never}")).await.problem(422);
    assert!(told.contains("when they were taken is not known"), "{told}");
    get("/v1/sources/world/tilejson.json?datetime=2024-06-01").await.problem(422);
}

#[tokio::test]
async fn what_waiting_does_not_bring_is_no_503_and_tells_no_path() {
    let directory = tempfile::tempdir().unwrap();
    let (mut engine, server) = settings();
    engine.models_dir = Some(directory.path().to_owned());
    let router = router_with(engine, server);
    for model in ["Satlas_solar_farm", "Sentinel2_SwinB_SI_RGB"] {
        let reply = ask(&router, "POST", &format!("/v1/models/{model}/load"), &[], Vec::new()).await;
        let told = reply.problem(501);
        assert!(reply.headers.get("retry-after").is_none());
        assert!(!told.contains(directory.path().to_str().unwrap()), "{told}");
    }
}

#[tokio::test]
async fn a_result_is_sent_in_parts() {
    let router = fresh();
    let headers = [("prefer", "respond-async"), ("content-type", "image/tiff")];
    let accepted = ask(&router, "POST", &format!("{TREES}?format=png"), &headers, demo("trees_osbs.tif")).await;
    let result = format!("{}/result", accepted.header("location"));
    let whole = loop {
        let reply = ask(&router, "GET", &result, &[], Vec::new()).await;
        if reply.status == 200 {
            break reply;
        }
        assert_eq!(reply.status.as_u16(), 409);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(whole.header("accept-ranges"), "bytes");
    let (len, tag) = (whole.body.len(), whole.header("etag"));
    let part = ask(&router, "GET", &result, &[("range", "bytes=10-19"), ("if-range", tag)], Vec::new()).await;
    assert_eq!((part.status.as_u16(), &part.body[..]), (206, &whole.body[10..20]));
    assert_eq!((part.header("content-range"), part.header("content-length")), (&*format!("bytes 10-19/{len}"), "10"));
    assert_eq!(part.header("etag"), tag);
    let end = ask(&router, "GET", &result, &[("range", "bytes=-5")], Vec::new()).await;
    assert_eq!((end.status.as_u16(), &end.body[..]), (206, &whole.body[len - 5..]));
    let other = ask(&router, "GET", &result, &[("range", "bytes=10-19"), ("if-range", "\"other\"")], Vec::new()).await;
    assert_eq!((other.status.as_u16(), other.body.len()), (200, len));
    let beyond = ask(&router, "GET", &result, &[("range", &format!("bytes={len}-"))], Vec::new()).await;
    beyond.problem(416);
    assert_eq!(beyond.header("content-range"), format!("bytes */{len}"));
}

#[test]
fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    let server = process::Server::start(&[]);
    let body = vec![0; 8 << 20];
    for (path, content_type, status) in
        [("/v1/predict/nope/x", "image/tiff", 404), (TREES, "text/csv", 415), ("/v1/none", "image/tiff", 404)]
    {
        // Without draining, the write fails or the response is lost to a reset connection.
        let (found, _) = server.ask(&format!("POST {path}"), &format!("Content-Type: {content_type}\r\n"), &body);
        assert_eq!(found, status, "{path}");
    }
    // A client that asks first need not send at all.
    let mut stream = server.begin("POST /v1/predict/nope/x", "Expect: 100-continue\r\n", body.len());
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 404");
}

#[test]
fn a_request_names_one_host() {
    let server = process::Server::start(&[]);
    for (hosts, status) in [("", "400"), ("Host: a\r\nHost: b\r\n", "400"), ("Host: localhost\r\n", "200")] {
        let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
        write!(stream, "GET /health/live HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(&answer[9..12], status, "{hosts:?}: {answer}");
    }
}
