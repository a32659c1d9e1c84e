//! Sources that are uploaded or named, through the router: registered, kept over a restart, unavailable, removed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use satlas_serve::config::{EngineSettings, RemoteSettings, ServerSettings};
use satlas_serve::engine::{SourceOptions, Sources};
use satlas_serve::error::ErrorKind;
use satlas_serve::raster::{ChunkCache, Limits, OpenOptions};
use serde_json::{Value, json};

use super::client::client;
use super::common::{Reply as Answer, demo, loopback, post_to, router_with, send, settings};
use super::host::{Host, Reply};

fn server(data_dir: &Path, server: ServerSettings) -> Router {
    let (engine, _) = settings();
    router_with(EngineSettings { data_dir: Some(data_dir.to_owned()), ..engine }, server)
}

fn allowing_loopback() -> ServerSettings {
    ServerSettings { remote: loopback(true), ..ServerSettings::default() }
}

async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn register(router: &Router, reference: Value) -> Answer {
    post_to(router, "/v1/sources", "application/json", reference.to_string()).await
}

async fn remove(router: &Router, id: &str) -> u16 {
    send(router, Request::delete(format!("/v1/sources/{id}")).body(Body::empty()).unwrap()).await.status.as_u16()
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|source| source["id"].as_str().unwrap()).collect()
}

/// How many sources a data directory holds, whole or half made.
fn kept(directory: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(directory.join("sources")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name() != ".lock").count()
}

#[tokio::test]
async fn an_address_becomes_a_source_and_survives_a_restart() {
    let (directory, host) = (tempfile::tempdir().unwrap(), Host::with_file(demo("world.tif")));
    let router = server(directory.path(), allowing_loopback());
    let reference = json!({"id": "far", "url": host.url("/world.tif?sig=topsecret"), "title": "Far away"});
    let created = register(&router, reference.clone()).await;
    assert_eq!(created.status, 201, "{}", String::from_utf8_lossy(&created.body));
    assert_eq!(created.header("location"), "/v1/sources/far");
    assert_eq!(register(&router, reference).await.status, 409);
    let tile = get(&router, "/v1/sources/far/tiles/3/4/2.png").await;
    let near = get(&router, "/v1/sources/world/tiles/3/4/2.png").await;
    assert_eq!((tile.status.as_u16(), tile.body), (200, near.body), "the demo source is the same file");
    assert!(host.sent() < demo("world.tif").len() as u64);

    drop(router);
    let restarted = server(directory.path(), allowing_loopback());
    let described = get(&restarted, "/v1/sources/far").await.json();
    assert_eq!(described["title"], "Far away");
    let everything = get(&restarted, "/v1/sources").await;
    assert!(!String::from_utf8_lossy(&everything.body).contains("topsecret"));
    assert_eq!(remove(&restarted, "far").await, 204);
    assert_eq!(kept(directory.path()), 0);
    drop(restarted);
    assert_eq!(get(&server(directory.path(), allowing_loopback()), "/v1/sources/far").await.status, 404);
}

#[tokio::test]
async fn what_cannot_be_fetched_is_explained_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::start(|asked, _| match asked.target.as_str() {
        "/page" => Reply::new(200, "<html>"),
        _ => Reply::new(404, "nothing"),
    });
    let router = server(directory.path(), allowing_loopback());
    let missing = register(&router, json!({"id": "a", "url": host.url("/missing.tif?sig=topsecret")})).await.problem(502);
    assert!(missing.contains("404") && missing.contains("127.0.0.1") && !missing.contains("topsecret"), "{missing}");
    register(&router, json!({"id": "a", "url": host.url("/page")})).await.problem(415);
    let other = register(&router, json!({"id": "a", "url": "https://example.org/a.tif"})).await.problem(400);
    assert!(other.contains("--allow-host example.org"), "{other}");
    for reference in [
        json!({"id": "a"}),
        json!({"id": "a", "url": "https://example.org/a.tif", "path": "a.tif"}),
        json!({"id": "a", "url": "file:///etc/passwd"}),
        json!({"id": "../a", "url": host.url("/page")}),
    ] {
        register(&router, reference).await.problem(400);
    }
    drop(router);
    let strict = ServerSettings {
        remote: RemoteSettings { allow_private_hosts: false, ..loopback(true) },
        ..ServerSettings::default()
    };
    let refused = register(&server(directory.path(), strict), json!({"id": "a", "url": host.url("/a")})).await.problem(400);
    assert!(refused.contains("--allow-private-hosts"), "{refused}");
    assert_eq!(kept(directory.path()), 0);
}

#[tokio::test]
async fn a_host_that_is_down_at_start_keeps_no_server_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::start(|_, _| Reply::new(404, "nothing"));
    let named = ServerSettings { source: vec![format!("far={}", host.url("/a.tif?sig=topsecret"))], ..allowing_loopback() };
    let router = server(directory.path(), named);
    let problem = get(&router, "/v1/sources/far/tiles/0/0/0.png").await.problem(502);
    assert!(problem.contains("404"), "{problem}");
    let list = get(&router, "/v1/sources").await.json();
    assert_eq!((ids(&list["unavailable"]), ids(&list["sources"]).contains(&"far")), (vec!["far"], false));
    let reason = list["unavailable"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("404") && !reason.contains("topsecret"), "{reason}");
    assert_eq!(remove(&router, "far").await, 409, "it is the operator's");
}

#[tokio::test]
async fn a_source_comes_back_with_its_host_and_is_opened_anew_when_its_file_changes() {
    // 0: down; every other number is a state of the file.
    let state = Arc::new(AtomicU64::new(0));
    let host = {
        let state = state.clone();
        Host::start(move |asked, _| match state.load(Ordering::SeqCst) {
            0 => Reply::new(404, "nothing"),
            state => Reply::part(&demo("world.tif"), asked).header("etag", format!("\"{state}\"")),
        })
    };
    let sources = Sources::open(&options(None)).unwrap();
    sources.add_locations("far", &[host.url("/world.tif").into()]).unwrap();
    assert_eq!(sources.opened("far").await.unwrap_err().kind(), ErrorKind::Upstream);
    state.store(1, Ordering::SeqCst);
    let first = sources.opened("far").await.unwrap();
    assert!(Arc::ptr_eq(&first, &sources.opened("far").await.unwrap()));

    state.store(2, Ordering::SeqCst);
    let raster = &first.captures()[0].raster;
    let window = satlas_serve::raster::PixelWindow { col: 2000, row: 1000, width: 9, height: 9 };
    assert!(raster.read(0, window, &[0]).unwrap_err().to_string().contains("has changed"));
    sources.close(&first);
    let second = sources.opened("far").await.unwrap();
    assert_ne!(first.version, second.version);
    second.captures()[0].raster.read(0, window, &[0]).unwrap();
}

#[tokio::test]
async fn requests_for_a_closed_source_open_it_once() {
    let host = Host::start(|asked, _| Reply {
        delay: Duration::from_millis(50),
        ..Reply::part(&demo("world.tif"), asked).header("etag", "\"one\"")
    });
    let sources = Sources::open(&options(None)).unwrap();
    sources.add_locations("far", &[host.url("/world.tif").into()]).unwrap();
    let all = futures::future::join_all((0..20).map(|_| sources.opened("far"))).await;
    let first = all[0].as_ref().unwrap();
    assert!(all.iter().all(|source| Arc::ptr_eq(source.as_ref().unwrap(), first)));
    assert_eq!(host.asked().len(), 1);
}

fn options(data_dir: Option<&Path>) -> SourceOptions {
    SourceOptions {
        data_dir: data_dir.map(Path::to_owned),
        source_root: None,
        max_sources: 8,
        max_memory_bytes: 1 << 30,
        retry_after: Duration::ZERO,
        open: OpenOptions {
            limits: Limits { max_bytes: 64 << 20, max_pixels: 1 << 26 },
            chunks: ChunkCache::new(64 << 20),
            remote: Some(Arc::new(client())),
        },
    }
}

#[tokio::test]
async fn an_upload_is_one_source_however_often_it_comes_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let router = server(directory.path(), ServerSettings::default());
    let upload = |query: &'static str| {
        let router = router.clone();
        async move { post_to(&router, &format!("/v1/sources{query}"), "image/tiff", demo("trees_osbs.tif")).await }
    };
    let first = upload("?title=Pines").await.json();
    let id = first["id"].as_str().unwrap();
    assert_eq!(upload("").await.json()["id"], id, "the same content is one source");
    assert_eq!(first["captures"].as_array().unwrap().len(), 1);
    let stacked = upload("?images=3").await.json();
    assert_ne!(stacked["id"], id, "cut another way, it is another source");
    assert_eq!((stacked["captures"].as_array().unwrap().len(), stacked["bands"].as_array().unwrap().len()), (3, 1));
    upload("?images=2&id=two").await.problem(422);
    upload("?images=9").await.problem(400);

    drop(router);
    let restarted = server(directory.path(), ServerSettings::default());
    let again = get(&restarted, &format!("/v1/sources/{id}")).await.json();
    assert_eq!((&again["title"], &again["bounds"]), (&first["title"], &first["bounds"]));
    let stacked_id = stacked["id"].as_str().unwrap();
    let again = get(&restarted, &format!("/v1/sources/{stacked_id}")).await.json();
    assert_eq!(again["captures"].as_array().unwrap().len(), 3);
    for id in [id, stacked_id] {
        assert_eq!(remove(&restarted, id).await, 204);
        assert_eq!(get(&restarted, &format!("/v1/sources/{id}")).await.status, 404);
    }
    assert_eq!(kept(directory.path()), 0);
}

#[tokio::test]
async fn a_path_survives_a_restart_and_a_file_that_is_gone_is_listed_as_unavailable() {
    let (directory, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(root.path().join("a.tif"), demo("trees_osbs.tif")).unwrap();
    let rooted = || ServerSettings { source_root: Some(root.path().to_owned()), ..ServerSettings::default() };
    let router = server(directory.path(), rooted());
    assert_eq!(register(&router, json!({"id": "near", "path": "a.tif"})).await.status, 201);
    register(&router, json!({"id": "out", "path": "../a.tif"})).await.problem(400);
    let put = |id: &str, body: serde_json::Value| {
        let request = Request::put(format!("/v1/sources/{id}")).header("content-type", "application/json");
        send(&router, request.body(Body::from(body.to_string())).unwrap())
    };
    let created = put("put", json!({"path": "a.tif", "title": "Pines"})).await;
    assert_eq!((created.status.as_u16(), created.header("location")), (201, "/v1/sources/put"));
    assert_eq!(created.json()["title"], "Pines");
    put("put", json!({"path": "a.tif"})).await.problem(409);
    put("none", json!({"title": "Nothing"})).await.problem(400);
    assert_eq!(remove(&router, "put").await, 204);
    drop(router);
    assert_eq!(get(&server(directory.path(), rooted()), "/v1/sources/near").await.status, 200);

    // A path of one source root is not followed under no root, or where the file is gone.
    let list = get(&server(directory.path(), ServerSettings::default()), "/v1/sources").await.json();
    assert_eq!(ids(&list["unavailable"]), ["near"]);
    std::fs::remove_file(root.path().join("a.tif")).unwrap();
    let restarted = server(directory.path(), rooted());
    let list = get(&restarted, "/v1/sources").await;
    assert_eq!(ids(&list.json()["unavailable"]), ["near"]);
    let text = String::from_utf8_lossy(&list.body).into_owned();
    assert!(!text.contains(root.path().to_str().unwrap()), "{text}");
    assert_eq!(remove(&restarted, "near").await, 204);
}

#[test]
fn what_an_upload_left_half_done_is_no_source() {
    let directory = tempfile::tempdir().unwrap();
    for (folder, record) in [(".half.77", "{}"), ("broken", "not json"), ("empty", "{}")] {
        let folder = directory.path().join("sources").join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("source.json"), record).unwrap();
    }
    let sources = Sources::open(&options(Some(directory.path()))).unwrap();
    assert!(sources.list().is_empty() && sources.unavailable().is_empty());
}
