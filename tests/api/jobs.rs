//! Predictions that do not keep their clients waiting, over the real router: from `Prefer: respond-async` to the result.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{Reply, demo, form, fresh, grey_square, post_to, router_with, send, settings};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::Value;

const TREES: &str = "/v1/predict/trees/tree_crown";
/// The cheapest answer to a large raster.
const EMBEDDING: &str = "/v1/predict/trees/embedding";

fn submission(path: &str, content_type: &str, body: Vec<u8>) -> Request<Body> {
    let request = Request::post(path).header("content-type", content_type).header("prefer", "respond-async");
    request.header("x-request-id", "handed-in-1").body(body.into()).unwrap()
}

/// Hands a raster in and returns the job's address.
async fn submit(router: &Router, path: &str, raster: Vec<u8>) -> String {
    let reply = send(router, submission(path, "application/octet-stream", raster)).await;
    assert_eq!(reply.status.as_u16(), 202, "{}", String::from_utf8_lossy(&reply.body));
    reply.header("location").to_owned()
}

async fn get(router: &Router, path: &str) -> Reply {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn delete(router: &Router, path: &str) -> Reply {
    send(router, Request::delete(path).body(Body::empty()).unwrap()).await
}

/// Waits until a job is as wanted.
async fn until(router: &Router, job: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let found = get(router, job).await.json();
        if wanted(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{found}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn until_state(router: &Router, job: &str, state: &str) -> Value {
    until(router, job, |found| found["state"] == state).await
}

/// A raster of so many windows that its job takes minutes, so that a test sees it run however busy the machine is. No test lets it
/// end. It is a small file: all strips of the TIFF are the same bytes.
fn large() -> Vec<u8> {
    const SIDE: u32 = 8192;
    const STRIP_ROWS: u32 = 64;
    const STRIP_BYTES: u32 = SIDE * STRIP_ROWS * 3;
    let strips = SIDE / STRIP_ROWS;
    let (directory, values) = (8 + STRIP_BYTES, 8 + STRIP_BYTES + 2 + 9 * 12 + 4);
    let mut file = b"II\x2a\0".to_vec();
    file.extend(directory.to_le_bytes());
    file.resize(directory as usize, 127);
    file.extend(9u16.to_le_bytes());
    // Tag, type (3: u16, 4: u32), count, and the value or where the values are.
    for (tag, kind, count, value) in [
        (256u16, 4u16, 1, SIDE),
        (257, 4, 1, SIDE),
        (258, 3, 3, values + 8 * strips),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, strips, values),
        (277, 3, 1, 3),
        (278, 4, 1, STRIP_ROWS),
        (279, 4, strips, values + 4 * strips),
    ] {
        file.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        file.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.extend([0; 4]);
    for value in [8, STRIP_BYTES] {
        file.extend(value.to_le_bytes().repeat(strips as usize));
    }
    file.extend([8, 0, 8, 0, 8, 0]);
    file
}

fn lasting(directory: &Path) -> Router {
    let (mut engine, server) = settings();
    engine.data_dir = Some(directory.to_owned());
    router_with(engine, server)
}

#[tokio::test]
async fn a_job_ends_in_the_answer_that_a_waiting_request_gets() {
    let router = fresh();
    let waited = post_to(&router, &format!("{TREES}?threshold=0.3"), "image/tiff", demo("trees_osbs.tif")).await;
    let accept = submission(&format!("{TREES}?threshold=0.3"), "image/tiff", demo("trees_osbs.tif"));
    let accepted = send(&router, accept).await;
    assert_eq!((accepted.status.as_u16(), accepted.header("preference-applied")), (202, "respond-async"));
    let job = accepted.header("location").to_owned();
    assert_eq!(accepted.json()["links"]["self"], job.as_str());
    let done = until_state(&router, &job, "done").await;
    assert_eq!((&done["progress"], &done["model"], &done["task"]), (&1.0.into(), &"trees".into(), &"tree_crown".into()));
    assert!(done["created"].as_str() <= done["started"].as_str() && done["started"].as_str() <= done["finished"].as_str());
    assert_eq!(done["result_bytes"], waited.body.len());
    let result = get(&router, done["links"]["result"].as_str().unwrap()).await;
    assert_eq!((result.status.as_u16(), &result.body), (200, &waited.body));
    for name in ["content-type", "content-bbox", "content-crs", "x-model-weights", "x-input-warnings"] {
        assert_eq!(result.header(name), waited.header(name), "{name}");
    }
    let known = Request::get(format!("{job}/result")).header("if-none-match", result.header("etag"));
    assert_eq!(send(&router, known.body(Body::empty()).unwrap()).await.status.as_u16(), 304);
}

#[tokio::test]
async fn formats_and_forms_are_those_of_requests_that_wait() {
    let router = fresh();
    let raster = demo("trees_osbs.tif");
    let waited = post_to(&router, &format!("{TREES}?format=png"), "image/tiff", raster.clone()).await;
    let (content_type, body) = form(&[("image", &raster)]);
    let mut request = submission(TREES, &content_type, body);
    request.headers_mut().insert("accept", "image/png".parse().unwrap());
    let job = send(&router, request).await.header("location").to_owned();
    until_state(&router, &job, "done").await;
    let result = get(&router, &format!("{job}/result")).await;
    assert_eq!((result.header("content-type"), &result.body), ("image/png", &waited.body));
}

#[tokio::test]
async fn a_raster_that_is_none_fails_with_the_problem_of_a_request_that_waits() {
    let router = fresh();
    let mut raster = demo("trees_osbs.tif");
    raster.truncate(200);
    let waited = post_to(&router, TREES, "image/tiff", raster.clone()).await;
    let detail = waited.problem(422);
    let job = submit(&router, TREES, raster).await;
    let failed = until_state(&router, &job, "failed").await;
    let mut problem = waited.json();
    problem["request_id"] = "handed-in-1".into();
    assert_eq!(failed["error"], problem, "{detail}");
    assert!(failed["links"]["result"].is_null());
    assert!(get(&router, &format!("{job}/result")).await.problem(409).contains("failed"));
}

#[tokio::test]
async fn what_can_be_told_at_once_is_refused_at_once() {
    let router = fresh();
    for (path, status) in [
        (format!("{TREES}?threshold=7"), 400),
        (format!("{TREES}?format=mvt"), 406),
        ("/v1/predict/trees/nothing".to_owned(), 404),
        ("/v1/predict/nothing/embedding".to_owned(), 404),
    ] {
        send(&router, submission(&path, "image/tiff", demo("trees_osbs.tif"))).await.problem(status);
    }
    send(&router, submission(TREES, "text/plain", b"hello".to_vec())).await.problem(415);
    assert_eq!(get(&router, "/v1/jobs").await.json()["jobs"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn a_job_that_is_not_known_is_404() {
    let router = fresh();
    assert!(get(&router, "/v1/jobs/0123").await.problem(404).contains("0123"));
    get(&router, "/v1/jobs/..%2F..%2Fetc/result").await.problem(404);
    delete(&router, "/v1/jobs/0123").await.problem(404);
}

#[tokio::test]
async fn a_running_job_is_cancelled_and_the_next_has_its_turn() {
    let router = fresh();
    let long = submit(&router, EMBEDDING, large()).await;
    let next = submit(&router, TREES, demo("trees_osbs.tif")).await;
    let running = until(&router, &long, |job| job["progress"].as_f64() > Some(0.0)).await;
    assert_eq!(running["state"], "running");
    assert!(get(&router, &format!("{long}/result")).await.problem(409).contains("running"));
    let cancelled = delete(&router, &long).await;
    assert_eq!((cancelled.status.as_u16(), &cancelled.json()["state"]), (200, &"cancelled".into()));
    assert!(cancelled.json()["progress"].as_f64() < Some(1.0));
    until_state(&router, &next, "done").await;
    assert_eq!(get(&router, &long).await.json()["state"], "cancelled");
    for job in [&long, &next] {
        assert_eq!(delete(&router, job).await.status.as_u16(), 204);
        get(&router, job).await.problem(404);
    }
}

#[tokio::test]
async fn a_full_queue_is_429_and_the_list_is_newest_first() {
    let (engine, mut server) = settings();
    server.max_jobs = 1;
    let router = router_with(engine, server);
    let running = submit(&router, EMBEDDING, large()).await;
    until_state(&router, &running, "running").await;
    let queued = submit(&router, TREES, demo("trees_osbs.tif")).await;
    let refused = send(&router, submission(TREES, "image/tiff", demo("trees_osbs.tif"))).await;
    assert!(refused.problem(429).contains("limit"));
    assert!(!refused.header("retry-after").is_empty());
    let addresses = |list: Value| {
        let jobs = list["jobs"].as_array().cloned().unwrap();
        jobs.into_iter().map(|job| job["links"]["self"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(addresses(get(&router, "/v1/jobs").await.json()), [queued.clone(), running.clone()]);
    assert_eq!(addresses(get(&router, "/v1/jobs?limit=1").await.json()), [queued]);
    assert_eq!(addresses(get(&router, "/v1/jobs?state=running").await.json()), [running]);
    get(&router, "/v1/jobs?limit=0").await.problem(400);
    get(&router, "/v1/jobs?state=lost").await.problem(400);
}

#[tokio::test]
async fn a_restart_finishes_what_was_queued_and_running_and_keeps_what_was_done() {
    let directory = tempfile::tempdir().unwrap();
    let router = lasting(directory.path());
    let done = submit(&router, TREES, demo("trees_osbs.tif")).await;
    until_state(&router, &done, "done").await;
    let result = get(&router, &format!("{done}/result")).await;
    let running = submit(&router, EMBEDDING, grey_square(1500)).await;
    let queued = submit(&router, TREES, demo("trees_osbs.tif")).await;
    // Had the machine been too busy for us to look while it ran, the job would be done, and kept all the same.
    until(&router, &running, |job| job["state"] != "queued").await;
    drop(router);
    let router = lasting(directory.path());
    let kept = get(&router, &format!("{done}/result")).await;
    assert_eq!((&kept.body, kept.header("etag")), (&result.body, result.header("etag")));
    until_state(&router, &running, "done").await;
    until_state(&router, &queued, "done").await;
    assert_eq!(get(&router, &format!("{queued}/result")).await.body, result.body);
    let waited = post_to(&router, EMBEDDING, "application/x-npy", grey_square(1500)).await;
    assert_eq!(get(&router, &format!("{running}/result")).await.body, waited.body);
}
