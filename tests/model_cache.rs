//! The model cache as a client sees it: one load for many requests, idle expiry, the memory budget, and what the metrics say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use common::{Reply, demo, post_to, send, settings};
use metrics_exporter_prometheus::PrometheusHandle;
use satlas_serve::api::{AppState, router};
use satlas_serve::config::{ByteSize, Config, Span};
use satlas_serve::{server, telemetry};
use serde_json::json;

/// A server whose cache holds so much for so long, and its state.
fn server_with(memory: ByteSize, idle: Duration) -> (Router, AppState) {
    /// The recorder is the process's: the tests tell their models apart by name.
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    let metrics = METRICS.get_or_init(|| telemetry::start_metrics().unwrap()).clone();
    let (mut engine, server_settings) = settings();
    (engine.model_memory, engine.model_idle) = (memory, Span(idle));
    let config = Config::new(engine, server_settings).unwrap();
    let state = AppState::new(server::engine(&config).unwrap(), server::api_options(&config), Some(metrics)).unwrap();
    (router(state.clone()), state)
}

const NEVER: Duration = Duration::ZERO;

async fn register(router: &Router, id: &str) {
    let heads = json!([{"task": "mine", "type": "segment", "categories": ["a", "b"]}]);
    let manifest = json!({"id": id, "base": "world", "seed": 7, "heads": heads}).to_string();
    assert_eq!(post_to(router, "/v1/models", "application/json", manifest).await.status, 201);
}

async fn post(router: &Router, path: &str) -> Reply {
    post_to(router, path, "", Body::empty()).await
}

async fn get(router: &Router, path: &str) -> Reply {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn state_of(router: &Router, id: &str) -> String {
    let model = get(router, &format!("/v1/models/{id}")).await.json();
    model["weights"]["state"].as_str().unwrap().to_owned()
}

/// The value of a model's series in `/metrics`; 0 where there is none yet.
async fn metric(router: &Router, name: &str, id: &str) -> f64 {
    let text = String::from_utf8(get(router, "/metrics").await.body).unwrap();
    let label = format!("model=\"{id}\"");
    let line = text.lines().find(|line| line.starts_with(name) && line.contains(&label));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

async fn memory(router: &Router, id: &str) -> f64 {
    metric(router, telemetry::MODEL_BYTES, id).await
}

async fn loads(router: &Router, id: &str) -> f64 {
    metric(router, telemetry::MODEL_LOADS_TOTAL, id).await
}

/// Looks until the model holds no memory; `/metrics` is no use of the cache and so drives no expiry itself.
async fn wait_until_freed(router: &Router, id: &str) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while Instant::now() < deadline {
        if memory(router, id).await == 0.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{id} still holds {} bytes", memory(router, id).await);
}

#[tokio::test]
async fn a_hundred_first_requests_cause_one_load() {
    let (router, _state) = server_with(ByteSize::mib(4096), NEVER);
    register(&router, "crowd").await;
    let path = "/v1/models/crowd/load";
    let left = tokio::time::timeout(Duration::ZERO, post(&router, path)).await;
    assert!(left.is_err(), "the client that caused the load has gone");
    let answers = futures::future::join_all((0..100).map(|_| post(&router, path))).await;
    for answer in answers {
        assert_eq!((answer.status.as_u16(), &answer.json()["weights"]["state"]), (200, &"loaded".into()));
    }
    assert_eq!(loads(&router, "crowd").await, 1.0);
}

#[tokio::test]
async fn a_model_that_nobody_uses_gives_its_memory_back() {
    let (router, _state) = server_with(ByteSize::mib(4096), Duration::from_millis(150));
    register(&router, "idle").await;
    let tile = "/v1/tiles/idle/mine/4/8/6.npy?source=world";
    let first = get(&router, tile).await;
    assert_eq!(first.status, 200, "{}", String::from_utf8_lossy(&first.body));
    // On a busy machine the model may have been idle for long enough within a request.
    let before = loads(&router, "idle").await;
    assert!(before >= 1.0);
    wait_until_freed(&router, "idle").await;
    assert_eq!(state_of(&router, "idle").await, "cached");
    assert_eq!(get(&router, "/v1/tiles/idle/mine/4/9/6.npy?source=world").await.status, 200);
    assert!(loads(&router, "idle").await > before);
}

#[tokio::test]
async fn unloading_frees_the_memory_at_once() {
    let (router, _state) = server_with(ByteSize::mib(4096), NEVER);
    register(&router, "warm").await;
    assert_eq!((state_of(&router, "warm").await.as_str(), memory(&router, "warm").await), ("cached", 0.0));
    let loaded = post(&router, "/v1/models/warm/load").await.json();
    assert_eq!(memory(&router, "warm").await, loaded["weights"]["bytes"].as_f64().unwrap());
    let unloaded = post(&router, "/v1/models/warm/unload").await.json();
    assert_eq!(unloaded["weights"]["state"], "cached");
    wait_until_freed(&router, "warm").await;
    post(&router, "/v1/models/colder/unload").await.problem(404);
}

#[tokio::test]
async fn over_the_budget_the_model_unused_for_longest_goes() {
    let (router, _state) = server_with(ByteSize::mib(4096), NEVER);
    register(&router, "measured").await;
    let bytes = post(&router, "/v1/models/measured/load").await.json()["weights"]["bytes"].as_u64().unwrap();
    // Two fit, a third does not.
    let (router, _state) = server_with(ByteSize(bytes * 5 / 2), NEVER);
    for id in ["oldest", "older", "newest"] {
        register(&router, id).await;
    }
    for id in ["oldest", "older", "older", "older", "oldest", "newest"] {
        post(&router, &format!("/v1/models/{id}/load")).await;
    }
    wait_until_freed(&router, "older").await;
    let mut states = Vec::new();
    for id in ["oldest", "older", "newest"] {
        states.push(state_of(&router, id).await);
    }
    assert_eq!(states, ["loaded", "cached", "loaded"]);
}

#[tokio::test]
async fn eviction_leaves_a_running_request_its_model() {
    let (router, state) = server_with(ByteSize::mib(1), NEVER);
    register(&router, "held").await;
    let models = state.engine().models();
    let held = models.load("held").await.unwrap();
    models.unload("held").await.unwrap();
    assert_eq!(state_of(&router, "held").await, "cached");
    assert_eq!(memory(&router, "held").await, held.weight_bytes() as f64, "what is held is counted");
    assert_eq!(held.head("mine").unwrap(), 0);
    drop(held);
    wait_until_freed(&router, "held").await;
}

#[tokio::test]
async fn requests_that_evict_each_others_models_are_all_answered() {
    let (roomy, _state) = server_with(ByteSize::mib(4096), NEVER);
    // Not even one model fits, so that every load evicts.
    let (tight, _state) = server_with(ByteSize::mib(1), NEVER);
    let ids = ["left", "right"];
    let mut expected = Vec::new();
    for id in ids {
        register(&roomy, id).await;
        register(&tight, id).await;
        expected.push(predict(&roomy, id).await.body);
    }
    let requests = (0..8).map(|i| predict(&tight, ids[i % 2]));
    for (i, answer) in futures::future::join_all(requests).await.into_iter().enumerate() {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        assert!(answer.body == expected[i % 2], "request {i}");
    }
}

async fn predict(router: &Router, id: &str) -> Reply {
    post_to(router, &format!("/v1/predict/{id}/mine?format=npy"), "image/tiff", demo("trees_osbs.tif")).await
}

#[tokio::test]
async fn loads_that_start_together_hold_no_more_than_the_memory() {
    let (router, _state) = server_with(ByteSize::mib(4096), NEVER);
    register(&router, "sized").await;
    let bytes = post(&router, "/v1/models/sized/load").await.json()["weights"]["bytes"].as_u64().unwrap();
    let budget = ByteSize(3 * bytes + (2 << 20));
    let (router, state) = server_with(budget, NEVER);
    let ids: Vec<String> = (0..28).map(|i| format!("many{i}")).collect();
    for id in &ids {
        register(&router, id).await;
    }
    let loads = async {
        let paths: Vec<String> = ids.iter().map(|id| format!("/v1/models/{id}/load")).collect();
        for answer in futures::future::join_all(paths.iter().map(|path| post(&router, path))).await {
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        }
    };
    let mut most = 0;
    let watch = async {
        loop {
            let held = state.engine().models().list().into_iter().filter_map(|model| model.loaded_bytes).sum::<usize>();
            most = most.max(held);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! { () = loads => (), () = watch => () }
    assert!(most > 0 && most as u64 <= budget.0, "{most} bytes of {} were loaded", budget.0);
}

/// What no request of these tests brings about: a full queue, workers, and a cache that servers share.
const ELSEWHERE: [&str; 7] = [
    telemetry::QUEUE_REFUSED_TOTAL,
    telemetry::QUEUE_DROPPED_TOTAL,
    telemetry::SHARED_CACHE_UP,
    telemetry::SHARED_CACHE_SECONDS,
    telemetry::FLEET_BLOCKS_TOTAL,
    telemetry::FLEET_BLOCK_SECONDS,
    telemetry::FLEET_QUEUE_SECONDS,
];

/// Every `satlas_` metric that a text names, and the labels right behind each.
fn metrics_named(text: &str) -> Vec<(String, Vec<String>)> {
    let named = |(at, _): (usize, &str)| {
        let end = text[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(text.len(), |end| at + end);
        let labels = text[end..].strip_prefix('{').and_then(|rest| rest.split_once("}[")).map_or("", |(labels, _)| labels);
        let labels = labels.split("\\\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        (text[at..end].to_owned(), labels.collect())
    };
    text.match_indices("satlas_").map(named).collect()
}

#[tokio::test]
async fn dashboards_and_autoscalers_ask_for_metrics_that_there_are() {
    let (router, _) = server_with(ByteSize::mib(4096), NEVER);
    assert_eq!(get(&router, "/v1/tiles/world/water/3/4/3.png?source=world").await.status, 200);
    let given = String::from_utf8(get(&router, "/metrics").await.body).unwrap();
    let mut missing = Vec::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, least) in [("deploy/grafana/dashboards/satlas-serve.json", 20), ("deploy/kubernetes/keda.yaml", 1)] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let named = metrics_named(&text);
        assert!(named.len() >= least, "{file}: {named:?}");
        for (name, labels) in named {
            let is_of = |line: &&str| line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            let series: Vec<&str> = given.lines().filter(is_of).collect();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
            let is_known = !series.is_empty() || ELSEWHERE.contains(&family);
            let has = |label: &String| series.is_empty() || series.iter().any(|line| line.contains(&format!("{label}=\"")));
            if !is_known || !labels.iter().all(has) {
                missing.push(format!("{file}: {name} {labels:?}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
