//! Heads fitted to chips over HTTP: an array with labels, or a zip file whose folders are the categories.

use std::io::{Cursor, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::common::{Reply, form, npy, post_to, router_with, send, settings};

const SIDE: usize = 64;
/// Chips of each of two categories.
const EACH: usize = 8;

/// A chip as `[3, SIDE, SIDE]` bytes: one of two colours with a texture of its own.
fn chip(index: usize) -> Vec<u8> {
    let color = if index < EACH { [40, 110, 50] } else { [10, 40, 160] };
    let value = |(at, channel): (usize, usize)| color[channel] + ((at * (index + 3) / 5) % 40) as u8;
    (0..3).flat_map(|channel| (0..SIDE * SIDE).map(move |at| (at, channel))).map(value).collect()
}

fn array() -> Vec<u8> {
    npy(&[2 * EACH, 3, SIDE, SIDE], &(0..2 * EACH).flat_map(chip).collect::<Vec<u8>>())
}

fn labels() -> Vec<&'static str> {
    (0..2 * EACH).map(|index| if index < EACH { "forest" } else { "sea" }).collect()
}

/// A zip file of all chips, each in a folder with its category.
fn folders(name: impl Fn(usize) -> String) -> Vec<u8> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..2 * EACH {
        zip.start_file(name(index), options).unwrap();
        zip.write_all(&npy(&[3, SIDE, SIDE], &chip(index))).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

async fn submit(router: &Router, base: &str, fit: &Value, chips: &[u8]) -> Reply {
    let (content_type, body) = form(&[("fit", fit.to_string().as_bytes()), ("chips", chips)]);
    post_to(router, &format!("/v1/models/{base}/fit/chips"), &content_type, body).await
}

async fn ask(router: &Router, path: &str) -> Value {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await.json()
}

/// The job of a fit after it has ended.
async fn finished(router: &Router, fit: &Value, chips: &[u8]) -> Value {
    let reply = submit(router, "world", fit, chips).await;
    assert_eq!(reply.status.as_u16(), 202, "{}", String::from_utf8_lossy(&reply.body));
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let job = ask(router, reply.header("location")).await;
        if ["done", "failed"].contains(&job["state"].as_str().unwrap()) {
            return job;
        }
        assert!(Instant::now() < deadline, "{job}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A router over models in a folder, with the model `kinds` fitted.
async fn fitted(dir: &Path, fit: &Value, chips: &[u8]) -> (Router, Vec<u8>) {
    let (mut engine, server) = settings();
    engine.models_dir = Some(dir.to_owned());
    let router = router_with(engine, server);
    let job = finished(&router, fit, chips).await;
    assert_eq!(job["state"], "done", "{job}");
    (router, std::fs::read(dir.join("kinds.heads.safetensors")).unwrap())
}

#[tokio::test]
async fn chips_in_an_array_and_in_folders_teach_the_same() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut fit = json!({"id": "kinds", "type": "classification", "layers": ["backbone.3", "fpn.0"]});
    let zip = folders(|index| format!("chips/{}/{index:02}.npy", labels()[index]));
    let (_, from_folders) = fitted(dirs[0].path(), &fit, &zip).await;
    fit["labels"] = json!(labels());
    let (router, from_array) = fitted(dirs[1].path(), &fit, &array()).await;
    assert!(from_folders == from_array);

    let model = ask(&router, "/v1/models/kinds").await;
    assert_eq!(model["tasks"][0]["categories"], json!(["forest", "sea"]));
    let report = &model["fit"];
    assert_eq!((&report["labels"], &report["source"]), (&json!(2 * EACH), &Value::Null));
    assert!(report["held_out"]["accuracy"].as_f64().unwrap() > 0.9, "{report}");
    for index in [1, EACH + 1] {
        let answer =
            post_to(&router, "/v1/predict/kinds/fit", "application/x-npy", npy(&[3, SIDE, SIDE], &chip(index))).await;
        assert_eq!(answer.json()["category"], labels()[index], "{}", String::from_utf8_lossy(&answer.body));
    }
    let path = "/v1/tiles/kinds/fit/4/8/6.json?source=world";
    assert_eq!(ask(&router, path).await["scores"].as_object().unwrap().len(), 2);
    let both = json!({"id": "both", "type": "multi_label_classification", "method": "knn",
        "labels": labels().iter().map(|label| if *label == "sea" { json!(["sea", "wet"]) } else { json!([]) }).collect::<Vec<_>>()});
    let job = finished(&router, &both, &array()).await;
    assert_eq!(job["state"], "done", "{job}");
    assert!(ask(&router, "/v1/models/both").await["fit"]["neighbours"].is_number());
}

#[tokio::test]
async fn what_cannot_be_learnt_from_is_told_before_there_is_a_job() {
    let (engine, server) = settings();
    let router = router_with(engine, server);
    let fit = |more: Value| {
        let mut fit = json!({"id": "kinds", "type": "classification", "labels": labels()});
        fit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fit
    };
    for (status, fit, chips, told) in [
        (422, fit(json!({"labels": ["a", "b"]})), array(), "found 2; 16 are needed"),
        (422, fit(json!({"labels": null})), array(), "one for each chip"),
        (422, fit(json!({"labels": ["a", ["b"]]})), array(), "label 1"),
        (422, fit(json!({"labels": vec!["a"; 16]})), array(), "found 1 categories"),
        (422, fit(json!({"type": "segment"})), array(), "a mask for each chip"),
        (400, fit(json!({"method": "svm"})), array(), "knn"),
        (400, fit(json!({"layers": ["fpn.9"]})), array(), "fpn"),
        (400, fit(json!({"colour": 1})), array(), "colour"),
        (409, fit(json!({"id": "trees"})), array(), "trees"),
        (415, fit(json!({})), b"no raster".to_vec(), "chips"),
        (422, fit(json!({"labels": null})), folders(|index| format!("{index}.npy")), "found no folder"),
        (422, fit(json!({})), npy(&[16, 4, 8, 8], &[7; 16 * 4 * 8 * 8]), "4 bands"),
        (422, fit(json!({})), folders(|index| format!("{index}.npy"))[..9000].to_vec(), "zip file is damaged"),
    ] {
        let found = submit(&router, "world", &fit, &chips).await.problem(status);
        assert!(found.contains(told), "{found}");
    }
    submit(&router, "nobody", &fit(json!({})), &array()).await.problem(404);
    let (content_type, body) = form(&[("fit", fit(json!({})).to_string().as_bytes())]);
    let found = post_to(&router, "/v1/models/world/fit", &content_type, body).await.problem(400);
    assert!(found.contains("the parts fit and chips"), "{found}");
    let (content_type, body) = form(&[("fit", b"{"), ("chips", &array())]);
    let found = post_to(&router, "/v1/models/world/fit", &content_type, body).await.problem(400);
    assert!(found.contains("the part fit"), "{found}");
}
