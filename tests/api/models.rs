//! Users' own models over HTTP: new heads on a built-in model, restarts, names that are taken, revisions.

use std::path::Path;

use crate::common::{Reply, demo, fresh, post_to, router_with, send, settings};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

fn router_over(models_dir: &Path) -> Router {
    let (mut engine, server) = settings();
    engine.models_dir = Some(models_dir.to_owned());
    router_with(engine, server)
}

/// A manifest for one new head on the demo's `world`.
fn new_head(id: &str, kind: &str, categories: &[&str]) -> Value {
    json!({"id": id, "base": "world", "seed": 7, "heads": [{"task": "mine", "type": kind, "categories": categories}]})
}

async fn register(router: &Router, manifest: &Value) -> Reply {
    post_to(router, "/v1/models", "application/json", manifest.to_string()).await
}

async fn send_plain(router: &Router, method: &str, path: &str) -> Reply {
    send(router, Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn each_of_the_seven_heads_answers_with_the_numbers_of_its_seed() {
    let (router, again) = (fresh(), fresh());
    for (kind, categories) in [
        ("classification", &["a", "b"][..]),
        ("multi_label_classification", &["a", "b"]),
        ("segment", &["a", "b"]),
        ("bin_segment", &["a", "b"]),
        ("regress", &[]),
        ("detect", &["background", "b"]),
        ("instance", &["background", "b"]),
    ] {
        let manifest = new_head(&format!("new_{kind}"), kind, categories);
        let created = register(&router, &manifest).await;
        assert_eq!(created.status.as_u16(), 201, "{kind}: {}", String::from_utf8_lossy(&created.body));
        assert_eq!(created.header("location"), format!("/v1/models/new_{kind}"));
        let model = created.json();
        assert_eq!((&model["origin"], &model["persistent"]), (&"registered".into(), &false.into()), "{kind}");
        assert_eq!((&model["weights"]["kind"], &model["weights"]["state"]), (&"untrained-heads".into(), &"cached".into()));
        register(&again, &manifest).await;
        let path = format!("/v1/predict/new_{kind}/mine");
        let answer = post_to(&router, &path, "image/tiff", demo("trees_osbs.tif")).await;
        assert_eq!(answer.status.as_u16(), 200, "{kind}: {}", String::from_utf8_lossy(&answer.body));
        let repeated = post_to(&again, &path, "image/tiff", demo("trees_osbs.tif")).await;
        assert!(answer.body == repeated.body, "{kind}: a seed names its numbers");
    }
}

#[tokio::test]
async fn a_registered_model_survives_a_restart_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let router = router_over(dir.path());
    let manifest = new_head("kept", "segment", &["a", "b"]);
    assert_eq!(register(&router, &manifest).await.json()["persistent"], true);
    assert!(register(&router, &manifest).await.problem(409).contains("kept"));
    register(&router, &new_head("world", "segment", &["a"])).await.problem(409);
    drop(router);

    let restarted = router_over(dir.path());
    let model = send_plain(&restarted, "GET", "/v1/models/kept").await.json();
    assert_eq!((&model["persistent"], &model["tasks"][0]["name"]), (&true.into(), &"mine".into()));
    assert_eq!(send_plain(&restarted, "DELETE", "/v1/models/kept").await.status, 204);
    send_plain(&restarted, "DELETE", "/v1/models/kept").await.problem(404);
    send_plain(&router_over(dir.path()), "GET", "/v1/models/kept").await.problem(404);
}

/// Whatever the order: a model that is there has a manifest, and one that is not has none, so both are the same after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_removed_while_it_is_registered_is_there_with_its_manifest_or_gone_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let router = router_over(dir.path());
    let manifest = new_head("brief", "segment", &["a", "b"]);
    for round in 0..30 {
        let mut changes = tokio::task::JoinSet::new();
        for change in 0..6 {
            let (router, manifest) = (router.clone(), manifest.clone());
            changes.spawn(async move {
                let reply = match change % 2 {
                    0 => register(&router, &manifest).await,
                    _ => send_plain(&router, "DELETE", "/v1/models/brief").await,
                };
                reply.status.as_u16()
            });
        }
        let answers = changes.join_all().await;
        assert!(answers.iter().all(|status| [201, 204, 404, 409].contains(status)), "round {round}: {answers:?}");
        let is_there = send_plain(&router, "GET", "/v1/models/brief").await.status == 200;
        assert_eq!(dir.path().join("brief.toml").exists(), is_there, "round {round}: {answers:?}");
    }
}

#[tokio::test]
async fn a_checkpoint_of_ones_own_is_served_from_the_models_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine.safetensors"), demo("world.safetensors")).unwrap();
    let router = router_over(dir.path());
    let demo: Value = serde_json::from_slice(&demo("demo.json")).unwrap();
    let architecture = &demo["models"]["world"]["architecture"];
    let part = |name: &str| architecture["backbone"][name].clone();
    let band = |name: &str| json!({"name": name, "offset": 0.0, "scale": 255.0});
    let manifest = json!({
        "id": "mine",
        "backbone": {"kind": "swin_v2", "patch_size": part("patch_size"), "embed_dim": part("embed_dim"),
            "depths": part("depths"), "num_heads": part("num_heads"), "window_size": part("window_size")[0]},
        "fpn_channels": architecture["fpn"]["out_channels"],
        "upsample_channels": architecture["upsample"]["out_channels"],
        "bands": [band("red"), band("green"), band("blue")],
        "checkpoint": {"path": "mine.safetensors", "layout": "satlas"},
        "heads": [{"task": "water", "type": "segment", "categories": ["land", "water"]}],
        "native_zoom_512": 3
    });
    let mut elsewhere = manifest.clone();
    elsewhere["checkpoint"]["path"] = "theirs.safetensors".into();
    let missing = register(&router, &elsewhere).await.problem(400);
    assert!(missing.contains("theirs.safetensors"), "{missing}");
    let mut other = manifest.clone();
    other["fpn_channels"] = 8.into();
    let misfit = register(&router, &other).await.problem(422);
    assert!(misfit.contains("shape") || misfit.contains("missing"), "{misfit}");
    assert_eq!(register(&router, &manifest).await.status, 201);
    let tile = |model: &str| format!("/v1/tiles/{model}/water/4/8/6.npy?source=world");
    let ours = send_plain(&router, "GET", &tile("mine")).await;
    let built_in = send_plain(&router, "GET", &tile("world")).await;
    assert_eq!(ours.status, 200, "{}", String::from_utf8_lossy(&ours.body));
    assert!(ours.body == built_in.body, "the same weights give the same water");

    std::fs::write(dir.path().join("mine.safetensors"), b"cut").unwrap();
    send_plain(&router, "GET", "/v1/tiles/mine/water/4/8/7.npy?source=world").await.problem(422);
    assert_eq!(send_plain(&router, "GET", &tile("world")).await.status, 200, "the server serves on");
}

#[tokio::test]
async fn dense_heads_without_a_pyramid_answer_at_the_rasters_size() {
    let router = fresh();
    let raster = demo("trees_osbs.tif");
    for (kind, categories) in [("segment", &["a", "b"][..]), ("bin_segment", &["a", "b"]), ("regress", &[])] {
        let mut manifest = new_head(&format!("bare_{kind}"), kind, categories);
        manifest["fpn"] = false.into();
        assert_eq!(register(&router, &manifest).await.status, 201);
        let path = format!("/v1/predict/bare_{kind}/mine");
        for format in ["png", "tif", "npy"] {
            let reply = post_to(&router, &format!("{path}?format={format}"), "image/tiff", raster.clone()).await;
            assert_eq!(reply.status, 200, "{kind} {format}: {}", String::from_utf8_lossy(&reply.body));
            assert!(format != "npy" || reply.body.len() >= 4 * 400 * 400, "{kind} has a value for every pixel");
        }
        let tile = send_plain(&router, "GET", &format!("/v1/tiles/bare_{kind}/mine/4/8/6.npy?source=world")).await;
        assert_eq!(tile.status, 200, "{kind}: {}", String::from_utf8_lossy(&tile.body));
        assert!(tile.body.len() >= 4 * 256 * 256 * categories.len().max(1), "{kind}: {}", tile.body.len());
    }
}

#[tokio::test]
async fn a_regression_answers_all_its_values() {
    let router = fresh();
    let raster = demo("trees_osbs.tif");
    assert_eq!(register(&router, &new_head("two", "regress", &["height", "cover"])).await.status, 201);
    let post =
        async |query: &str| post_to(&router, &format!("/v1/predict/two/mine?{query}"), "image/tiff", raster.clone()).await;
    let npy = post("format=npy").await;
    assert_eq!(npy.status, 200, "{}", String::from_utf8_lossy(&npy.body));
    let shape_of = |body: &[u8]| String::from_utf8_lossy(&body[..128]).into_owned();
    assert!(shape_of(&npy.body).contains("'shape': (2, 400, 400"), "{}", shape_of(&npy.body));
    let (first, second) = (post("format=png").await.body, post("format=png&category=cover").await.body);
    assert!(first != second && post("format=png&category=height").await.body == first, "a picture shows one value");
    post("format=png&category=other").await.problem(400);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("two.tif");
    std::fs::write(&path, post("format=tif").await.body).unwrap();
    let mut tif = tiff::decoder::Decoder::new(std::fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(tif.get_tag_u32(tiff::tags::Tag::SamplesPerPixel).unwrap(), 2);
    let tile = send_plain(&router, "GET", "/v1/tiles/two/mine/4/8/6.npy?source=world").await;
    assert!(shape_of(&tile.body).contains("'shape': (2, 256, 256"), "{}", shape_of(&tile.body));
}

#[tokio::test]
async fn other_categories_are_another_revision() {
    let router = fresh();
    let tile = "/v1/tiles/again/mine/4/8/6.png?source=world";
    let mut tags = Vec::new();
    for categories in [&["a", "b"][..], &["a", "b", "c"], &["a", "z"]] {
        assert_eq!(register(&router, &new_head("again", "segment", categories)).await.status, 201);
        let answer = send_plain(&router, "GET", tile).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        tags.push(answer.header("etag").to_owned());
        assert_eq!(send_plain(&router, "DELETE", "/v1/models/again").await.status, 204);
    }
    assert!(tags[0] != tags[1] && tags[0] != tags[2], "{tags:?}");
}

/// A model directory as a person fills it: a checkpoint, manifests written by hand, and one that cannot be used.
#[tokio::test]
async fn manifests_written_by_hand_are_served_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let demo_spec: Value = serde_json::from_slice(&demo("demo.json")).unwrap();
    let backbone = &demo_spec["models"]["world"]["architecture"]["backbone"];
    std::fs::write(dir.path().join("lakes.safetensors"), demo("world.safetensors")).unwrap();
    let checkpoint = format!(
        r#"
id = "lakes"
title = "Lakes and seas"
fpn_channels = {fpn}
upsample_channels = {upsample}
native_zoom_512 = 3
checkpoint = {{ path = "lakes.safetensors", layout = "satlas" }}
backbone = {{ kind = "swin_v2", patch_size = {patch}, embed_dim = {dim}, depths = {depths}, num_heads = {heads}, window_size = 8 }}

[[bands]]
name = "red"
offset = 0
scale = 255

[[bands]]
name = "green"
offset = 0
scale = 255

[[bands]]
name = "blue"
offset = 0
scale = 255

[[heads]]
task = "lake"
type = "segment"
categories = ["land", "water"]
colors = [[120, 110, 90], [20, 60, 200]]
"#,
        fpn = demo_spec["models"]["world"]["architecture"]["fpn"]["out_channels"],
        upsample = demo_spec["models"]["world"]["architecture"]["upsample"]["out_channels"],
        patch = backbone["patch_size"],
        dim = backbone["embed_dim"],
        depths = backbone["depths"],
        heads = backbone["num_heads"],
    );
    std::fs::write(dir.path().join("lakes.toml"), checkpoint).unwrap();
    let new_head = "id = \"quick\"\nbase = \"world\"\nseed = 3\n\
                    heads = [{ task = \"kind\", type = \"classification\", categories = [\"a\", \"b\"] }]\n";
    std::fs::write(dir.path().join("quick.toml"), new_head).unwrap();
    std::fs::write(dir.path().join("broken.toml"), "id = \"broken\"\ncolour = 1\n").unwrap();

    let router = router_over(dir.path());
    let listed = send_plain(&router, "GET", "/v1/models").await.json();
    let of = |id: &str| listed["models"].as_array().unwrap().iter().find(|model| model["id"] == id).cloned();
    let lakes = of("lakes").expect("the checkpoint's manifest is read");
    assert_eq!((&lakes["title"], &lakes["persistent"]), (&"Lakes and seas".into(), &true.into()));
    assert_eq!((&lakes["weights"]["kind"], &lakes["weights"]["state"]), (&"fine-tuned".into(), &"cached".into()));
    assert_eq!(lakes["tasks"][0]["colors"], json!([[120, 110, 90], [20, 60, 200]]));
    assert_eq!(of("quick").expect("the new head's manifest is read")["weights"]["kind"], "untrained-heads");
    assert!(of("broken").is_none(), "what cannot be used is left out and stops nothing");

    let ours = send_plain(&router, "GET", "/v1/tiles/lakes/lake/4/8/6.npy?source=world").await;
    assert_eq!(ours.status, 200, "{}", String::from_utf8_lossy(&ours.body));
    assert!(ours.body == send_plain(&router, "GET", "/v1/tiles/world/water/4/8/6.npy?source=world").await.body);
    assert_eq!(ours.header("x-model-weights"), "fine-tuned");
    let kind = post_to(&router, "/v1/predict/quick/kind", "image/tiff", demo("trees_osbs.tif")).await.json();
    let scores = kind["scores"].as_object().expect("scores");
    assert_eq!(scores.keys().collect::<Vec<_>>(), ["a", "b"]);
}

/// A base of the zoo has its own bands: here nine of Sentinel-2, which come as numbers that are normalised already.
#[tokio::test]
async fn a_new_head_on_a_model_of_the_zoo_answers() {
    let (mut engine, server) = settings();
    engine.weights = "synthetic:7".parse().unwrap();
    let router = router_with(engine, server);
    let manifest = json!({"id": "fields", "base": "Sentinel2_Resnet50_SI_MS", "seed": 7,
        "heads": [{"task": "field", "type": "segment", "categories": ["other", "maize", "wheat"]}]});
    let created = register(&router, &manifest).await;
    assert_eq!(created.status, 201, "{}", String::from_utf8_lossy(&created.body));
    let bands = created.json()["bands"].as_array().map_or(0, Vec::len);
    assert_eq!(bands, 9);

    let (rows, cols) = (64, 96);
    let values = (0..bands * rows * cols).map(|i| ((i * 7919) % 1009) as f32 / 1009.0);
    let mut npy = b"\x93NUMPY\x01\x00v\x00".to_vec();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({bands}, {rows}, {cols}), }}");
    npy.extend(format!("{header:<117}\n").bytes());
    npy.extend(values.flat_map(f32::to_le_bytes));
    let path = "/v1/predict/fields/field?format=npy";
    let answer = post_to(&router, path, "application/x-npy", npy).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("x-model-weights"), "synthetic");
    let header = String::from_utf8_lossy(&answer.body[..128]).into_owned();
    assert!(header.contains("(3, 64, 96"), "{header}");
    let probabilities: Vec<f32> = answer.body[128..].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let pixels = rows * cols;
    let sum = |pixel: usize| (0..3).map(|category| probabilities[category * pixels + pixel]).sum::<f32>();
    assert!((0..pixels).all(|pixel| (sum(pixel) - 1.0).abs() < 1e-5), "a softmax over the new categories");
}

#[tokio::test]
async fn models_are_listed_in_pages() {
    let router = fresh();
    let whole = send_plain(&router, "GET", "/v1/models").await.json();
    assert!(whole["next"].is_null());
    let ids = |page: &Value| -> Vec<String> {
        page["models"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    let (mut listed, mut path) = (Vec::new(), "/v1/models?limit=3".to_owned());
    loop {
        let page = send_plain(&router, "GET", &path).await.json();
        assert!(ids(&page).len() <= 3);
        listed.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/models?limit=3&after={next}");
    }
    assert_eq!(listed, ids(&whole));
    for limit in ["0", "1001", "x"] {
        send_plain(&router, "GET", &format!("/v1/models?limit={limit}")).await.problem(400);
    }
}

#[tokio::test]
async fn a_page_of_large_models_is_short() {
    let router = fresh();
    let categories: Vec<String> = (0..100).map(|i| format!("{i}-{}", "x".repeat(990))).collect();
    let categories: Vec<&str> = categories.iter().map(String::as_str).collect();
    for i in 0..60 {
        assert_eq!(register(&router, &new_head(&format!("zz{i:02}"), "segment", &categories)).await.status, 201);
    }
    let page = send_plain(&router, "GET", "/v1/models").await;
    assert!(page.body.len() < 5 << 20, "{} bytes", page.body.len());
    let next = page.json()["next"].as_str().unwrap().to_owned();
    let rest = send_plain(&router, "GET", &format!("/v1/models?after={next}")).await.json();
    assert_eq!(rest["models"].as_array().unwrap().last().unwrap()["id"], "zz59");
}
