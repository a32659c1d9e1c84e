//! Heads fitted to pairs of image and mask over HTTP: a zip file with both, or two arrays.

use std::io::{Cursor, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::common::{Reply, form, npy, post_to, router_with, send, settings};

/// A file of a zip file: its name and its bytes.
type PackedFile = (String, Vec<u8>);

const SIDE: usize = 64;
const CHIPS: usize = 10;
const LAND: u8 = 3;
const WATER: u8 = 7;
/// What is left out: most pixels, and those along the coast.
const UNKNOWN: u8 = 255;
/// One of so many columns and rows is known.
const STEP: usize = 4;

/// The column at which water begins.
fn coast(chip: usize) -> usize {
    16 + 3 * chip
}

/// What pixels of a column show.
fn truth(chip: usize, col: usize) -> u8 {
    if col < coast(chip) { LAND } else { WATER }
}

/// A chip as `[3, SIDE, SIDE]` bytes: land on the left, water on the right, each with a texture.
fn image(chip: usize) -> Vec<u8> {
    let value = |(at, channel): (usize, usize)| {
        let color = if truth(chip, at % SIDE) == LAND { [40, 110, 50] } else { [10, 40, 160] };
        color[channel] + ((at * (chip + 3) / 5) % 40) as u8
    };
    (0..3).flat_map(|channel| (0..SIDE * SIDE).map(move |at| (at, channel))).map(value).collect()
}

/// Its mask, `[SIDE, SIDE]`.
fn mask(chip: usize) -> Vec<u8> {
    let value = |at: usize| {
        let (col, row) = (at % SIDE, at / SIDE);
        let is_known = col % STEP == 0 && row % STEP == 0 && col.abs_diff(coast(chip)) > 2;
        if is_known { truth(chip, col) } else { UNKNOWN }
    };
    (0..SIDE * SIDE).map(value).collect()
}

fn images() -> Vec<u8> {
    npy(&[CHIPS, 3, SIDE, SIDE], &(0..CHIPS).flat_map(image).collect::<Vec<u8>>())
}

fn masks(shape: &[usize]) -> Vec<u8> {
    npy(shape, &(0..CHIPS).flat_map(mask).collect::<Vec<u8>>())
}

fn zipped(files: &[PackedFile]) -> Vec<u8> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn picture(picture: impl Into<DynamicImage>) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.into().write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

fn grey(values: Vec<u8>) -> Vec<u8> {
    picture(GrayImage::from_raw(SIDE as u32, SIDE as u32, values).unwrap())
}

/// A picture whose colours, of which many are alike, say nothing; its indices do.
fn palette(values: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIDE as u32, SIDE as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette([9; 3 * 256].as_slice());
    encoder.write_header().unwrap().write_image_data(values).unwrap();
    file
}

/// Pairs of an array and a picture.
fn pairs() -> Vec<PackedFile> {
    let image_file = |chip: usize| (format!("set/images/{chip:02}.npy"), npy(&[3, SIDE, SIDE], &image(chip)));
    let mask_file = |chip: usize| {
        let values = mask(chip);
        (format!("set/masks/{chip:02}.png"), if chip.is_multiple_of(2) { grey(values) } else { palette(&values) })
    };
    (0..CHIPS).flat_map(|chip| [image_file(chip), mask_file(chip)]).collect()
}

async fn submit(router: &Router, fit: &Value, files: &[(&str, &[u8])]) -> Reply {
    let fit = fit.to_string();
    let parts: Vec<(&str, &[u8])> = [("fit", fit.as_bytes())].into_iter().chain(files.iter().copied()).collect();
    let (content_type, body) = form(&parts);
    post_to(router, "/v1/models/world/fit/chips", &content_type, body).await
}

async fn ask(router: &Router, path: &str) -> Value {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await.json()
}

/// The model that a fit has made.
async fn fitted(router: &Router, fit: &Value, files: &[(&str, &[u8])]) -> Value {
    let reply = submit(router, fit, files).await;
    assert_eq!(reply.status.as_u16(), 202, "{}", String::from_utf8_lossy(&reply.body));
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let job = ask(router, reply.header("location")).await;
        match job["state"].as_str().unwrap() {
            "done" => return ask(router, job["links"]["result"].as_str().unwrap()).await,
            "failed" => panic!("{job}"),
            _ => assert!(Instant::now() < deadline, "{job}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn router_over(models_dir: &Path) -> Router {
    let (mut engine, server) = settings();
    engine.models_dir = Some(models_dir.to_owned());
    router_with(engine, server)
}

/// The float32 values of what a model says of a chip: `[channels, SIDE, SIDE]`.
async fn said(router: &Router, model: &str, chip: usize) -> Vec<f32> {
    let path = format!("/v1/predict/{model}/fit?format=npy");
    let reply = post_to(router, &path, "application/x-npy", npy(&[3, SIDE, SIDE], &image(chip))).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    let header_end = 10 + usize::from(u16::from_le_bytes([reply.body[8], reply.body[9]]));
    reply.body[header_end..].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn segment() -> Value {
    json!({"id": "shore", "type": "segment", "values": {"3": "land", "7": "water", "9": "ice"}, "ignore": [255]})
}

#[tokio::test]
async fn pairs_in_a_zip_file_and_in_arrays_teach_the_same() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let weights = |dir: &Path| std::fs::read(dir.join("shore.heads.safetensors")).unwrap();
    let router = router_over(dirs[0].path());
    fitted(&router, &segment(), &[("chips", &images()), ("masks", &masks(&[CHIPS, 1, SIDE, SIDE]))]).await;
    let router = router_over(dirs[1].path());
    let model = fitted(&router, &segment(), &[("chips", &zipped(&pairs()))]).await;
    assert!(weights(dirs[0].path()) == weights(dirs[1].path()));

    assert_eq!(model["tasks"][0]["categories"], json!(["land", "water"]));
    let report = &model["fit"];
    let known = (0..CHIPS).flat_map(mask).filter(|value| *value != UNKNOWN).count();
    assert_eq!((&report["labels"], &report["source"]), (&json!(known), &Value::Null));
    assert!(report["warnings"].to_string().contains("no mask has the values 9"), "{report}");
    let held_out = &report["held_out"];
    assert_eq!(held_out["folds"], 5);
    let water = (0..CHIPS).flat_map(mask).filter(|value| *value == WATER).count();
    assert_eq!(held_out["categories"][1]["labels"], json!(water));
    assert!(held_out["accuracy"].as_f64().unwrap() > 0.9, "{held_out}");
    let found = said(&router, "shore", 4).await;
    let right = (0..SIDE * SIDE).filter(|at| (found[SIDE * SIDE + at] > found[*at]) == (truth(4, at % SIDE) == WATER));
    let right = right.count() as f64 / (SIDE * SIDE) as f64;
    assert!(right > 0.9, "{right}");
}

#[tokio::test]
async fn masks_hold_any_number_of_categories_or_numbers() {
    let (engine, server) = settings();
    let router = router_with(engine, server);
    let files: [(&str, &[u8]); 2] = [("chips", &images()), ("masks", &masks(&[CHIPS, SIDE, SIDE]))];
    let numbers = json!({"id": "depth", "type": "regress", "ignore": [255]});
    let report = fitted(&router, &numbers, &files).await["fit"].clone();
    assert!(report["held_out_errors"]["r2"].as_f64().unwrap() > 0.6, "{report}");
    let found = said(&router, "depth", 2).await;
    let [left, right] = [4, 60].map(|col| (0..SIDE).map(|row| found[row * SIDE + col]).sum::<f32>() / SIDE as f32);
    assert!((left - f32::from(LAND)).abs() < 1.0 && (right - f32::from(WATER)).abs() < 1.0, "{left} {right}");

    let sets = json!({"id": "wet", "type": "bin_segment", "method": "knn", "ignore": [255],
        "values": {"3": [], "7": ["water", "flat"]}});
    let model = fitted(&router, &sets, &files).await;
    assert_eq!((&model["fit"]["labels"], &model["tasks"][0]["categories"]), (&json!(500), &json!(["flat", "water"])));
    // Half of them are water, whatever the masks have more of.
    assert_eq!(model["fit"]["held_out"]["categories"][1]["labels"], 250);
    assert!(model["fit"]["neighbours"].is_number());
}

#[tokio::test]
async fn pixels_of_one_chip_are_never_on_both_sides() {
    let (engine, server) = settings();
    let router = router_with(engine, server);
    // Water in the mask of one chip only: it cannot be held out.
    let only_once = (0..CHIPS).flat_map(mask).enumerate().map(|(at, value)| match at / (SIDE * SIDE) {
        6 => value,
        _ if value == WATER => UNKNOWN,
        _ => value,
    });
    let only_once: Vec<u8> = only_once.collect();
    let files: [(&str, &[u8]); 2] = [("chips", &images()), ("masks", &npy(&[CHIPS, SIDE, SIDE], &only_once))];
    let mut fit = segment();
    fit["layers"] = json!(["backbone.1"]);
    let report = fitted(&router, &fit, &files).await["fit"].clone();
    assert_eq!(report["held_out"], Value::Null);
    assert!(report["warnings"].to_string().contains("there are no scores"), "{report}");
}

#[tokio::test]
async fn masks_that_cannot_be_learnt_from_are_told_before_there_is_a_job() {
    let (engine, server) = settings();
    let router = router_with(engine, server);
    let fit = |more: Value| {
        let mut fit = segment();
        fit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fit
    };
    let arrays = |masks: Vec<u8>| vec![("chips", images()), ("masks", masks)];
    let zip = |change: &dyn Fn(&mut Vec<PackedFile>)| {
        let mut files = pairs();
        change(&mut files);
        vec![("chips", zipped(&files))]
    };
    let good = || arrays(masks(&[CHIPS, SIDE, SIDE]));
    let plain = |value: u8| arrays(npy(&[CHIPS, SIDE, SIDE], &vec![value; CHIPS * SIDE * SIDE]));
    let halves = npy(&[1, 2, 1], &[0; 2]);
    for (fit, files, told) in [
        (
            fit(json!({})),
            arrays(masks(&[CHIPS, SIDE / 2, SIDE * 2])),
            "mask 0 (they are counted from 0): found 128 x 32 px; 64 x 64 px",
        ),
        (fit(json!({})), arrays(npy(&[3, SIDE, SIDE], &[LAND; 3 * SIDE * SIDE])), "masks: found 3; 10 are needed"),
        (fit(json!({})), arrays(npy(&[1, 2, SIDE, SIDE], &[LAND; 2 * SIDE * SIDE])), "masks: found 2; 10 are needed"),
        (fit(json!({})), arrays(npy(&[CHIPS, 2, 4, 4], &[LAND; CHIPS * 32])), "masks: found 2 bands; one"),
        (fit(json!({"values": {"3": "land"}})), good(), "values: found 7 in mask 0"),
        (fit(json!({"values": {"3": "land", "7": "land"}})), good(), "found 1 categories in the masks"),
        (fit(json!({})), plain(LAND), "found 1 categories in the masks"),
        (fit(json!({})), plain(UNKNOWN), "found 0 categories in the masks"),
        (fit(json!({"type": "bin_segment", "values": null})), plain(LAND), "found \"3\" everywhere"),
        (fit(json!({"type": "regress", "values": null})), plain(LAND), "found 3 everywhere; two different numbers"),
        (fit(json!({"type": "regress"})), good(), "values: found some"),
        (fit(json!({"type": "classification"})), good(), "values: found some"),
        (fit(json!({"type": "classification", "values": null, "ignore": null})), good(), "masks: found some"),
        (fit(json!({"labels": ["a", "b"]})), good(), "labels: found some"),
        (fit(json!({})), vec![("chips", images())], "masks: found none"),
        (fit(json!({})), vec![("chips", zipped(&pairs())), ("masks", halves)], "beside a zip file"),
        (fit(json!({})), zip(&|files| drop(files.remove(3))), "set/images/01.npy: found no partner; a file 01"),
        (fit(json!({})), zip(&|files| drop(files.remove(2))), "set/masks/01.png: found no partner"),
        (
            fit(json!({})),
            zip(&|files| files.push(("readme.txt".to_owned(), vec![1]))),
            "readme.txt: found a file in neither folder",
        ),
        (fit(json!({})), zip(&|files| files[2].0 = "set/images/00.tif".to_owned()), "two files of one name"),
        (fit(json!({})), zip(&|files| files[1].1 = picture(RgbImage::new(64, 64))), "set/masks/00.png: found 3 bands"),
        (fit(json!({})), zip(&|files| files[1].1 = picture(GrayImage::new(64, 32))), "set/masks/00.png: found 64 x 32 px"),
        (fit(json!({})), zip(&|files| files[0].1 = npy(&[4, 64, 64], &[9; 4 * 64 * 64])), "chip 0"),
    ] {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
        let found = submit(&router, &fit, &files).await.problem(422);
        assert!(found.contains(told), "{told}: {found}");
    }
    for parts in [vec!["masks"], vec!["chips", "chips"]] {
        let files: Vec<(&str, &[u8])> = parts.into_iter().map(|name| (name, &b"x"[..])).collect();
        let found = submit(&router, &fit(json!({})), &files).await.problem(400);
        assert!(found.contains("the parts fit and chips are needed, each once"), "{found}");
    }
    let floats: Vec<u8> = (0..SIDE * SIDE).flat_map(|at| (at as f32 / 2.0).to_le_bytes()).collect();
    let mut array = npy(&[1, SIDE, SIDE], &floats);
    let at = array.windows(3).position(|bytes| bytes == b"|u1").unwrap();
    array[at..at + 3].copy_from_slice(b"<f4");
    let single = npy(&[1, 3, SIDE, SIDE], &image(0));
    let found = submit(&router, &segment(), &[("chips", &single), ("masks", &array)]).await.problem(422);
    assert!(found.contains("mask 0 (they are counted from 0): found the value 0.5; whole numbers"), "{found}");
}
