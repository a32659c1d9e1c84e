//! Batches over HTTP: a row for each chip, as if every chip had been sent alone.

use std::io::Write;

use crate::common::{demo, form, fresh, npy, post, post_to};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{ListAccessor, Row, RowAccessor};
use serde_json::{Value, json};

const BATCH: &str = "/v1/predict/world/embedding/batch";
const SIDE: usize = 64;

/// Chips that all differ: `[chips, 3, SIDE, SIDE]`.
fn chips(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|chip| (0..3 * SIDE * SIDE).map(|at| (at * (chip + 3) / 7 % 251) as u8).collect()).collect()
}

/// The shape in the header of an npy file, and its f32 values.
fn array(bytes: &[u8]) -> (String, Vec<f32>) {
    let data = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..data]);
    let shape = header.split_once('(').unwrap().1.split_once(')').unwrap().0.trim_end_matches(", ").to_owned();
    (shape, bytes[data..].as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

#[tokio::test]
async fn rows_are_what_each_chip_gets_alone() {
    // More than one pass takes.
    let chips = chips(70);
    let all = npy(&[70, 3, SIDE, SIDE], &chips.concat());
    let reply = post(BATCH, "application/x-npy", all.clone()).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/x-npy"));
    assert_eq!(reply.header("x-model-weights"), "demo");
    let (shape, rows) = array(&reply.body);
    assert_eq!(shape, "70, 192");
    let mut alone = Vec::new();
    for chip in [0, 63, 64, 69] {
        let one = npy(&[3, SIDE, SIDE], &chips[chip]);
        let (_, values) = array(&post("/v1/predict/world/embedding?format=npy", "application/x-npy", one).await.body);
        let gap = values.iter().zip(&rows[chip * 192..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(gap < 1e-4, "chip {chip}: {gap}");
        alone.push(values);
    }
    assert_ne!(alone[0], alone[1]);

    let lines = post(&format!("{BATCH}?format=jsonl"), "application/x-npy", all.clone()).await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> =
        String::from_utf8(lines.body).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((lines.len(), &lines[69]["index"]), (70, &json!(69)));
    let values: Vec<f32> = serde_json::from_value(lines[69]["values"].clone()).unwrap();
    assert_eq!(values, rows[69 * 192..]);

    let parquet = post(&format!("{BATCH}?format=parquet"), "application/x-npy", all).await;
    assert_eq!(parquet.header("content-type"), "application/vnd.apache.parquet");
    let file = SerializedFileReader::new(bytes::Bytes::from(parquet.body)).unwrap();
    let table: Vec<Row> = file.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!((table.len(), table[69].get_long(0).unwrap()), (70, 69));
    assert_eq!(table[69].get_list(1).unwrap().get_float(3).unwrap(), rows[69 * 192 + 3]);
}

#[tokio::test]
async fn a_bad_chip_is_named_and_nothing_is_answered() {
    let raster = demo("trees_osbs.tif");
    let square = npy(&[3, SIDE, SIDE], &chips(1)[0]);
    let (content_type, body) = form(&[("chip", &square), ("chip", &square[..300]), ("chip", &square)]);
    assert!(post(BATCH, &content_type, body).await.problem(422).contains("chip 1 (they are counted from 0)"));
    let four = npy(&[4, SIDE, SIDE], &[7; 4 * SIDE * SIDE]);
    let (content_type, body) = form(&[("chip", &square), ("chip", &square), ("chip", &four)]);
    let detail = post(BATCH, &content_type, body).await.problem(422);
    assert!(detail.contains("chip 2") && detail.contains("4 bands"), "{detail}");
    let wide = npy(&[2, 3, 1, 1000], &[7; 6000]);
    assert!(post(BATCH, "application/x-npy", wide).await.problem(422).contains("chip 0"));
    let (content_type, body) = form(&[("image", &raster)]);
    assert!(post(BATCH, &content_type, body).await.problem(400).contains("parts named chip"));
    for (query, word) in [("pool=none", "mean or max"), ("layer=all", "one layer"), ("images=9", "1 to 8")] {
        let detail = post(&format!("{BATCH}?{query}"), "application/x-npy", square.clone()).await.problem(400);
        assert!(detail.contains(word), "{detail}");
    }
    let detail = post(&format!("{BATCH}?format=png"), "application/x-npy", square.clone()).await.problem(406);
    assert!(detail.contains("npy, jsonl, parquet"), "{detail}");
    let detail = post("/v1/predict/world/water/batch", "application/x-npy", square).await.problem(400);
    assert!(detail.contains("classifications and embeddings"), "{detail}");
}

#[tokio::test]
async fn files_keep_their_names_places_and_sizes() {
    let (small, large) = (npy(&[3, SIDE, SIDE], &chips(1)[0]), demo("trees_osbs.tif"));
    let (content_type, body) = form(&[("chip", &small), ("chip", &large), ("chip", &small)]);
    let path = "/v1/predict/trees/embedding/batch?format=parquet";
    let reply = post(path, &content_type, body).await;
    assert_eq!(reply.status.as_u16(), 200, "{}", String::from_utf8_lossy(&reply.body));
    let file = SerializedFileReader::new(bytes::Bytes::from(reply.body)).unwrap();
    let metadata = file.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let geo = metadata.iter().find(|entry| entry.key == "geo").and_then(|entry| entry.value.clone()).unwrap();
    let geo: Value = serde_json::from_str(&geo).unwrap();
    assert_eq!(geo["columns"]["geometry"]["covering"]["bbox"]["xmin"], json!(["bbox", "xmin"]));
    let bbox: Vec<f64> = serde_json::from_value(geo["columns"]["geometry"]["bbox"].clone()).unwrap();
    assert!(bbox[0] > -82.1 && bbox[2] < -81.9 && bbox[1] > 29.6 && bbox[3] < 29.8, "{bbox:?}");
    let rows: Vec<Row> = file.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    // Index, name, vector, outline, box.
    assert_eq!((rows.len(), rows[1].get_string(1).unwrap().as_str()), (3, "chip.tif"));
    assert!(rows[0].get_group(4).is_err(), "an array lies nowhere");
    assert_eq!(rows[1].get_group(4).unwrap().get_double(0).unwrap(), bbox[0]);
}

/// A zip file of stored files.
fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[tokio::test]
async fn a_zip_file_holds_a_chip_in_each_file() {
    let chips = chips(3).into_iter().map(|chip| npy(&[3, SIDE, SIDE], &chip)).collect::<Vec<_>>();
    // The order is that of the paths.
    let files = zipped(&[("b/1.npy", &chips[1]), ("b/2.npy", &chips[2]), ("a.npy", &chips[0]), (".DS_Store", b"?")]);
    let (content_type, parts) = form(&[("chip", &chips[0]), ("chip", &chips[1]), ("chip", &chips[2])]);
    let expected = array(&post(BATCH, &content_type, parts).await.body);
    assert_eq!(array(&post(BATCH, "application/zip", files.clone()).await.body), expected);
    let (content_type, part) = form(&[("chip", &files)]);
    assert_eq!(array(&post(BATCH, &content_type, part).await.body), expected);
    let lines = post(&format!("{BATCH}?format=jsonl"), "application/octet-stream", files).await.body;
    let lines = String::from_utf8(lines).unwrap();
    let names: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone()).collect();
    assert_eq!(names, ["a.npy", "b/1.npy", "b/2.npy"]);

    let bad = zipped(&[("a.npy", &chips[0]), ("notes.txt", b"no raster")]);
    assert!(post(BATCH, "application/zip", bad).await.problem(415).contains("notes.txt"));
    let truncated = zipped(&[("a.npy", &chips[0])])[..500].to_vec();
    assert!(post(BATCH, "application/zip", truncated).await.problem(422).contains("zip file is damaged"));
}

#[tokio::test]
async fn classifications_have_their_scores() {
    let router = fresh();
    let manifest = json!({"id": "kind", "base": "world", "seed": 3, "title": "Kinds",
        "heads": [{"task": "kind", "type": "classification", "categories": ["a", "b"]}]});
    let created = post_to(&router, "/v1/models", "application/json", manifest.to_string()).await;
    assert_eq!(created.status.as_u16(), 201, "{}", String::from_utf8_lossy(&created.body));
    let all = npy(&[2, 3, SIDE, SIDE], &chips(2).concat());
    let path = "/v1/predict/kind/kind/batch";
    let (shape, scores) = array(&post_to(&router, path, "application/x-npy", all.clone()).await.body);
    assert_eq!((shape.as_str(), scores.len()), ("2, 2", 4));
    let lines = post_to(&router, &format!("{path}?format=jsonl"), "application/x-npy", all).await.body;
    let line: Value = serde_json::from_slice(lines.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(line["scores"].as_object().unwrap().len(), 2);
    assert!(["a", "b"].contains(&line["category"].as_str().unwrap()));
}
