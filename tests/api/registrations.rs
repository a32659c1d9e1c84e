//! What clients register at one server, and others serve.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use satlas_serve::api::{AppState, router};
use satlas_serve::config::Config;
use satlas_serve::engine::{Document, DocumentKind, DocumentName, DocumentStore, DocumentStoreError};
use satlas_serve::server;
use serde_json::{Value, json};

use crate::common::{Reply, demo, grey_square, send, settings};

/// A store in memory that can be away.
#[derive(Default)]
struct MemoryStore {
    documents: Mutex<BTreeMap<DocumentName, Document>>,
    last_version: AtomicI64,
    is_away: AtomicBool,
}

impl MemoryStore {
    fn reach(&self) -> Result<(), DocumentStoreError> {
        match self.is_away.load(Ordering::Relaxed) {
            true => Err(DocumentStoreError { reason: "it is away".to_owned() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl DocumentStore for MemoryStore {
    async fn list(&self) -> Result<Vec<DocumentName>, DocumentStoreError> {
        self.reach()?;
        Ok(self.documents.lock().unwrap().keys().cloned().collect())
    }

    async fn read(&self, name: &DocumentName) -> Result<Option<Document>, DocumentStoreError> {
        self.reach()?;
        Ok(self.documents.lock().unwrap().get(name).cloned())
    }

    async fn create(&self, kind: DocumentKind, id: &str, document: &Document) -> Result<Option<i64>, DocumentStoreError> {
        self.reach()?;
        let mut documents = self.documents.lock().unwrap();
        if documents.keys().any(|name| (name.kind, name.id.as_str()) == (kind, id)) {
            return Ok(None);
        }
        let version = self.last_version.fetch_add(1, Ordering::Relaxed);
        documents.insert(DocumentName { kind, id: id.to_owned(), version }, document.clone());
        Ok(Some(version))
    }

    async fn remove(&self, name: &DocumentName) -> Result<(), DocumentStoreError> {
        self.reach()?;
        self.documents.lock().unwrap().remove(name);
        Ok(())
    }
}

struct Server {
    state: AppState,
    router: Router,
}

impl Server {
    fn start(store: &Arc<MemoryStore>, imagery: &std::path::Path) -> Self {
        let (engine, mut server) = settings();
        server.source_root = Some(imagery.to_owned());
        let config = Config::new(engine, server).unwrap();
        let engine = server::engine(&config).unwrap();
        engine.share(store.clone());
        let state = AppState::new(engine, server::api_options(&config), None).unwrap();
        Self { router: router(state.clone()), state }
    }

    async fn follow(&self) {
        self.state.engine().follow().await.unwrap();
    }

    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        send(&self.router, request.body(body.map_or(Body::empty(), |body| body.to_string().into())).unwrap()).await
    }

    async fn status(&self, method: &str, path: &str, body: Option<&Value>) -> u16 {
        self.ask(method, path, body).await.status.as_u16()
    }
}

fn servers() -> (Arc<MemoryStore>, tempfile::TempDir, [Server; 2]) {
    let imagery = tempfile::tempdir().unwrap();
    std::fs::write(imagery.path().join("forest.tif"), demo("trees_osbs.tif")).unwrap();
    let store = Arc::new(MemoryStore::default());
    let servers = [(); 2].map(|()| Server::start(&store, imagery.path()));
    (store, imagery, servers)
}

#[tokio::test]
async fn a_source_that_one_server_registers_all_serve_until_one_removes_it() {
    let (store, _imagery, [one, two]) = servers();
    let forest = json!({"path": "forest.tif", "title": "Forest"});
    assert_eq!(one.status("PUT", "/v1/sources/forest", Some(&forest)).await, 201);
    // Before the other has looked, the store knows.
    two.ask("PUT", "/v1/sources/forest", Some(&forest)).await.problem(409);
    two.follow().await;
    assert_eq!(two.ask("GET", "/v1/sources/forest", None).await.json()["title"], "Forest");
    two.ask("PUT", "/v1/sources/forest", Some(&forest)).await.problem(409);
    // Nothing changes for the one that has registered it.
    one.follow().await;
    assert_eq!(one.status("GET", "/v1/sources/forest", None).await, 200);
    assert_eq!(two.status("DELETE", "/v1/sources/forest", None).await, 204);
    one.follow().await;
    one.ask("GET", "/v1/sources/forest", None).await.problem(404);
    assert_eq!(one.status("PUT", "/v1/sources/forest", Some(&forest)).await, 201);
    two.follow().await;
    assert_eq!(two.status("GET", "/v1/sources/forest", None).await, 200);
    two.ask("PUT", "/v1/sources/none", Some(&json!({"path": "none.tif"}))).await;
    assert_eq!(store.documents.lock().unwrap().len(), 1, "what cannot be read is not shared");
}

#[tokio::test]
async fn a_model_that_one_server_registers_all_serve_alike_fitted_ones_too() {
    let (_store, _imagery, [one, two]) = servers();
    let heads = json!([{"task": "mine", "type": "segment", "categories": ["a", "b"]}]);
    let manifest = json!({"id": "mine", "base": "world", "seed": 7, "heads": heads});
    assert_eq!(one.status("POST", "/v1/models", Some(&manifest)).await, 201);
    let label = |class: &str, place: [f64; 2]| {
        let geometry = json!({"type": "Point", "coordinates": place});
        json!({"type": "Feature", "properties": {"class": class}, "geometry": geometry})
    };
    let labels = [
        label("land", [5.0, 30.0]),
        label("land", [15.0, 20.0]),
        label("water", [-40.0, 28.0]),
        label("water", [-30.0, 18.0]),
    ];
    let labels = json!({"type": "FeatureCollection", "features": labels});
    let fit = json!({"id": "taught", "task": "cover", "type": "segment", "source": "world", "labels": labels});
    let job = one.ask("POST", "/v1/models/world/fit", Some(&fit)).await;
    assert_eq!(job.status.as_u16(), 202, "{}", String::from_utf8_lossy(&job.body));
    while one.status("GET", "/v1/models/taught", None).await != 200 {
        let state = one.ask("GET", job.header("location"), None).await.json();
        assert_ne!(state["state"], "failed", "{state}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    two.follow().await;
    for tile in ["/v1/tiles/mine/mine/3/4/3.png?source=world", "/v1/tiles/taught/cover/3/4/3.png?source=world"] {
        let (here, there) = (one.ask("GET", tile, None).await, two.ask("GET", tile, None).await);
        assert_eq!((here.status.as_u16(), there.status.as_u16()), (200, 200), "{tile}");
        assert_eq!((here.header("etag"), &here.body), (there.header("etag"), &there.body), "{tile}");
    }
    two.ask("POST", "/v1/models", Some(&manifest)).await.problem(409);
    for model in ["mine", "taught"] {
        assert_eq!(two.status("DELETE", &format!("/v1/models/{model}"), None).await, 204);
    }
    one.follow().await;
    one.ask("GET", "/v1/models/taught", None).await.problem(404);
}

#[tokio::test]
async fn without_the_store_what_is_known_is_served_and_nothing_is_changed() {
    let (store, _imagery, [one, two]) = servers();
    let forest = json!({"path": "forest.tif"});
    assert_eq!(one.status("PUT", "/v1/sources/forest", Some(&forest)).await, 201);
    two.follow().await;
    store.is_away.store(true, Ordering::Relaxed);
    assert!(two.state.engine().follow().await.is_err());
    assert_eq!(two.status("GET", "/v1/sources/forest", None).await, 200);
    one.ask("PUT", "/v1/sources/other", Some(&forest)).await.problem(503);
    one.ask("DELETE", "/v1/sources/forest", None).await.problem(503);
    assert_eq!(one.status("GET", "/v1/sources/forest", None).await, 200);
    store.is_away.store(false, Ordering::Relaxed);
    assert_eq!(one.status("DELETE", "/v1/sources/forest", None).await, 204);
}

#[tokio::test]
async fn what_one_server_keeps_for_itself_the_others_say_is_with_it_alone() {
    let (_store, _imagery, [one, two]) = servers();
    let request = Request::post("/v1/sources?id=mine").header("content-type", "image/tiff");
    let upload = send(&one.router, request.body(demo("trees_osbs.tif").into()).unwrap()).await;
    assert_eq!(upload.status.as_u16(), 201, "{}", String::from_utf8_lossy(&upload.body));
    let predict = Request::post("/v1/predict/world/water?format=png").header("prefer", "respond-async");
    let job =
        send(&one.router, predict.header("content-type", "application/x-npy").body(grey_square(64).into()).unwrap()).await;
    assert_eq!(job.status.as_u16(), 202, "{}", String::from_utf8_lossy(&job.body));
    let cells = json!({"id": "cells", "model": "world", "source": "world", "bbox": [0, 40, 5, 45]});
    assert_eq!(one.status("POST", "/v1/indexes/area", Some(&cells)).await, 202);
    two.follow().await;
    for (path, word) in [
        ("/v1/sources/mine", "known to the server alone that took it"),
        (job.header("location"), "known to the server alone that took it"),
        ("/v1/indexes/cells", "known to the server alone that made it"),
    ] {
        let detail = two.ask("GET", path, None).await.problem(404);
        assert!(detail.contains(word), "{path}: {detail}");
    }
}
