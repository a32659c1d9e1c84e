//! Area jobs that servers share with workers through a database: here a file, for one machine.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use satlas_serve::fleet::{BlockQueue, DatabaseUrl, MAX_ATTEMPTS, Message, fail};
use serde_json::{Value, json};

use crate::common::{Reply, post_to, router_with, send, settings};

const JSON: &str = "application/json";
const LONG: Duration = Duration::from_secs(600);

/// A folder with the results and the database of one test.
struct Place {
    root: tempfile::TempDir,
    url: DatabaseUrl,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", root.path().join("jobs.db").display()).parse().unwrap();
        Self { root, url }
    }

    fn results(&self) -> String {
        self.root.path().join("results").to_string_lossy().into_owned()
    }

    /// A server that writes results to `root` and shares jobs, if it has a database.
    fn server(&self, root: &str, url: Option<&DatabaseUrl>) -> Router {
        let (engine, mut server) = settings();
        server.result_root = Some(root.to_owned());
        server.database_url = url.cloned();
        router_with(engine, server)
    }

    async fn queue(&self) -> Arc<dyn BlockQueue> {
        self.url.open().await.unwrap()
    }

    fn worker(&self) -> Worker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_satlas-serve"));
        command.args(["worker", "--port", "0", "--device", "cpu", "--database-url", &String::from(self.url.clone())]);
        Worker(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

/// A worker that ends with the test.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn ask(router: &Router, method: &str, path: &str) -> Reply {
    send(router, Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
}

async fn get(router: &Router, path: &str) -> Reply {
    ask(router, "GET", path).await
}

/// A job with two blocks.
fn job(destination: &str) -> Value {
    json!({"model": "world", "task": "water", "source": "world", "bbox": [-10, 25, 60, 44], "block_px": 512, "destination": destination})
}

async fn submit(router: &Router, job: &Value) -> Reply {
    let reply = post_to(router, "/v1/jobs", JSON, job.to_string()).await;
    assert_eq!(reply.status.as_u16(), 202, "{}", String::from_utf8_lossy(&reply.body));
    reply
}

/// The description of a job once its state is `state`.
async fn once(router: &Router, location: &str, state: &str) -> Value {
    loop {
        let job = get(router, location).await.json();
        if job["state"] == state {
            return job;
        }
        assert!(["queued", "running"].contains(&job["state"].as_str().unwrap()), "{job}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_job_that_one_server_takes_all_show_and_workers_do() {
    let place = Place::new();
    let one = place.server(&place.results(), Some(&place.url));
    let two = place.server(&place.results(), Some(&place.url));
    let reply = submit(&one, &job("water/1")).await;
    assert_eq!(reply.header("location"), "/v1/jobs/shared-1");
    let waiting = reply.json();
    assert_eq!(
        (&waiting["state"], &waiting["model"], &waiting["task"]),
        (&json!("queued"), &json!("world"), &json!("water"))
    );
    assert!(waiting["note"].as_str().unwrap().contains("satlas-serve worker"), "{waiting}");
    assert_eq!(waiting["destination"], json!(format!("{}/water/1", place.results())));
    assert_eq!(get(&two, "/v1/jobs/shared-1").await.json(), waiting);
    get(&two, "/v1/jobs/shared-1/result").await.problem(409);
    get(&two, "/v1/jobs/shared-1/files/collection.json").await.problem(404);
    get(&two, "/v1/jobs/shared-2").await.problem(404);
    ask(&two, "POST", "/v1/jobs/shared-1/retry").await.problem(409);

    // The first block fails on every attempt.
    let queue = place.queue().await;
    let mut held = queue.claim(1, LONG).await.unwrap().unwrap();
    let block = held.message.block.clone().unwrap();
    let running = get(&two, "/v1/jobs/shared-1").await.json();
    assert_eq!((&running["state"], &running["blocks"]["in_work"]), (&json!("running"), &json!(1)));
    assert!(running.get("note").is_none());
    while held.attempt() < MAX_ATTEMPTS {
        let message = Message { ended: held.reads, ..held.message.clone() };
        assert!(queue.put_off(&held, &message, Duration::ZERO).await.unwrap());
        held = queue.claim(1, LONG).await.unwrap().unwrap();
        assert_eq!(held.message.block.as_deref(), Some(&*block));
    }
    assert!(fail(&*queue, &held, "no imagery").await.unwrap());

    let _worker = place.worker();
    let done = once(&two, "/v1/jobs/shared-1", "done").await;
    let blocks = &done["blocks"];
    assert_eq!(
        (&blocks["total"], &blocks["done"], &blocks["failed"], &blocks["in_work"]),
        (&2.into(), &1.into(), &1.into(), &0.into())
    );
    assert_eq!(blocks["failures"], json!([{"block": block, "reason": "no imagery"}]));
    assert_eq!(done["progress"], 1.0);
    let report = get(&two, done["links"]["result"].as_str().unwrap()).await.json();
    assert_eq!(
        (&report["state"], &report["blocks"], &report["done"]),
        (&json!("done with failures"), &2.into(), &1.into())
    );
    assert_eq!(report["failed"], blocks["failures"]);

    get(&one, "/v1/jobs/shared-1").await;
    assert!(ask(&one, "POST", "/v1/jobs/shared-1/retry?block=block-0-0").await.problem(409).contains("block-0-0"));
    let again = ask(&one, "POST", &format!("/v1/jobs/shared-1/retry?block={block}")).await;
    assert_eq!((again.status.as_u16(), &again.json()["blocks"]["failed"]), (202, &json!(0)));
    let done = once(&two, "/v1/jobs/shared-1", "done").await;
    assert_eq!((&done["blocks"]["done"], &done["blocks"]["failures"]), (&json!(2), &json!([])));

    check_files(&two, &done, &Path::new(&place.results()).join("water/1")).await;
    // A server without that place says where they lie.
    let elsewhere = place.server("/elsewhere", Some(&place.url));
    let seen = get(&elsewhere, "/v1/jobs/shared-1").await.json();
    assert!(seen["links"].get("collection").is_none() && seen["links"]["result"].is_string(), "{seen}");
    let detail = get(&elsewhere, "/v1/jobs/shared-1/files/collection.json").await.problem(404);
    assert!(detail.contains("--result-root") && detail.contains(&place.results()), "{detail}");

    assert_eq!(ask(&one, "DELETE", "/v1/jobs/shared-1").await.status.as_u16(), 204);
    get(&two, "/v1/jobs/shared-1").await.problem(404);
    assert!(Path::new(&place.results()).join("water/1/collection.json").exists(), "the results stay");
}

/// Follows the links of a job that is done to its files.
async fn check_files(router: &Router, job: &Value, folder: &Path) {
    let address = job["links"]["collection"].as_str().unwrap();
    let reply = get(router, address).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/json"));
    let collection = reply.json();
    let links = collection["links"].as_array().unwrap();
    let items: Vec<&str> =
        links.iter().filter(|link| link["rel"] == "item").filter_map(|link| link["href"].as_str()).collect();
    assert_eq!(items.len(), 2);
    let base = address.strip_suffix("collection.json").unwrap();
    let item = get(router, &format!("{base}{}", items[0].trim_start_matches("./"))).await;
    assert_eq!(item.header("content-type"), "application/geo+json");
    let raster = item.json()["assets"]["data"]["href"].as_str().unwrap().trim_start_matches("../").to_owned();
    let stored = std::fs::read(folder.join(&raster)).unwrap();
    let whole = get(router, &format!("{base}{raster}")).await;
    assert_eq!((whole.header("content-type").starts_with("image/tiff"), &whole.body), (true, &stored));
    let ask = async |name: &str, value: &str| {
        let request = Request::get(format!("{base}{raster}")).header(name, value);
        send(router, request.body(Body::empty()).unwrap()).await
    };
    let part = ask("range", "bytes=8-107").await;
    assert_eq!((part.status.as_u16(), &part.body[..]), (206, &stored[8..108]));
    assert_eq!(part.header("content-range"), format!("bytes 8-107/{}", stored.len()));
    assert_eq!(ask("range", &format!("bytes={}-", stored.len())).await.status.as_u16(), 416);
    assert_eq!(ask("if-none-match", whole.header("etag")).await.status.as_u16(), 304);
    for name in ["items", "rasters/none.tif", "..%2F..%2Fjobs.db", ".unfinished/x", "a//b"] {
        get(router, &format!("{base}{name}")).await.problem(404);
    }
}

#[tokio::test]
async fn a_job_is_cancelled_at_another_server_and_lists_hold_both_kinds() {
    let place = Place::new();
    let one = place.server(&place.results(), Some(&place.url));
    let two = place.server(&place.results(), Some(&place.url));
    submit(&one, &job("water")).await;
    let held = place.queue().await.claim(1, LONG).await.unwrap().unwrap();
    let mut own = job("");
    own.as_object_mut().unwrap().remove("destination");
    let own = submit(&one, &own).await.json();
    assert_eq!(own["id"].as_str().unwrap().len(), 24, "without a destination this server does it: {own}");
    submit(&one, &job("more")).await;
    let ids = async |router: &Router, query: &str| -> Vec<String> {
        let list = get(router, &format!("/v1/jobs{query}")).await.json();
        assert!(list.get("unavailable").is_none(), "{list}");
        list["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    let own_id = own["id"].as_str().unwrap();
    assert_eq!(ids(&one, "").await, ["shared-2", own_id, "shared-1"]);
    assert_eq!(ids(&two, "").await, ["shared-2", "shared-1"]);
    assert_eq!(ids(&two, "?state=running").await, ["shared-1"]);
    assert_eq!(ids(&two, "?state=queued&limit=1").await, ["shared-2"]);

    let cancelled = ask(&two, "DELETE", "/v1/jobs/shared-1").await;
    assert_eq!((cancelled.status.as_u16(), &cancelled.json()["state"]), (200, &json!("cancelled")));
    assert!(!place.queue().await.renew(&held, LONG).await.unwrap(), "its worker is told");
    assert_eq!(get(&one, "/v1/jobs/shared-1").await.json()["state"], "cancelled");
    get(&one, "/v1/jobs/shared-1/result").await.problem(409);
    ask(&one, "POST", "/v1/jobs/shared-1/retry").await.problem(409);
    assert!(ask(&one, "POST", &format!("/v1/jobs/{own_id}/retry")).await.problem(409).contains("sent again"));
    get(&one, &format!("/v1/jobs/{own_id}/files/collection.json")).await.problem(404);
    assert_eq!(ask(&one, "DELETE", "/v1/jobs/shared-1").await.status.as_u16(), 204);
    assert_eq!(ids(&two, "").await, ["shared-2"]);
    // A server that starts later, or again, knows all of it.
    assert_eq!(ids(&place.server(&place.results(), Some(&place.url)), "").await, ["shared-2"]);
}

#[tokio::test]
async fn without_the_database_a_servers_own_jobs_go_on() {
    let place = Place::new();
    let away = format!("sqlite:{}", place.root.path().join("none/jobs.db").display()).parse().unwrap();
    let router = place.server(&place.results(), Some(&away));
    let reply = post_to(&router, "/v1/jobs", JSON, job("water").to_string()).await;
    assert!(!reply.header("retry-after").is_empty());
    assert!(reply.problem(503).contains("database"));
    for (method, path) in [
        ("GET", "/v1/jobs/shared-1"),
        ("DELETE", "/v1/jobs/shared-1"),
        ("GET", "/v1/jobs/shared-1/result"),
        ("GET", "/v1/jobs/shared-1/files/collection.json"),
        ("POST", "/v1/jobs/shared-1/retry"),
    ] {
        ask(&router, method, path).await.problem(503);
    }
    let mut own = job("");
    own.as_object_mut().unwrap().remove("destination");
    let own = submit(&router, &own).await;
    once(&router, own.header("location"), "done").await;
    let list = get(&router, "/v1/jobs").await.json();
    assert_eq!(list["jobs"].as_array().map(Vec::len), Some(1));
    assert!(list["unavailable"].as_str().unwrap().contains("database"), "{list}");
}

#[tokio::test]
async fn jobs_that_workers_cannot_do_are_refused_and_servers_without_a_database_share_none() {
    let place = Place::new();
    let router = place.server(&place.results(), Some(&place.url));
    let body = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/static/demo/trees_osbs.tif")).unwrap();
    let upload = post_to(&router, "/v1/sources?id=mine", "image/tiff", body).await;
    assert_eq!(upload.status.as_u16(), 201, "{}", String::from_utf8_lossy(&upload.body));
    let b: Vec<f64> = upload.json()["bounds"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    let mine = json!({"model": "trees", "task": "tree_crown", "source": "mine", "bbox": b, "destination": "crowns"});
    let detail = post_to(&router, "/v1/jobs", JSON, mine.to_string()).await.problem(400);
    assert!(detail.contains("known to this server alone"), "{detail}");
    submit(&router, &job("water")).await;
    let mut other = job("water");
    other["task"] = json!("coast");
    assert!(post_to(&router, "/v1/jobs", JSON, other.to_string()).await.problem(409).contains("another job"));

    let alone = place.server(&place.results(), None);
    let own = submit(&alone, &job("alone")).await;
    assert!(once(&alone, own.header("location"), "done").await["links"]["result"].is_string());
    assert!(get(&alone, "/v1/jobs/shared-1").await.problem(404).contains("--database-url"));
}
