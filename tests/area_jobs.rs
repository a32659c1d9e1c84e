//! `satlas-serve plan` and `run`: blocks that equal the whole, runs that go on, failures that stay alone.

#![allow(clippy::panic, reason = "a test fails by panicking")]

#[path = "common/process.rs"]
mod process;

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::Output;

use flate2::read::GzDecoder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{ListAccessor, RowAccessor};
use process::{command, run, text};
use serde_json::{Value, json};
use tiff::decoder::{Decoder, DecodingResult};
use tiff::tags::Tag;

/// Blocks of 256 and 540 columns of the demo's map.
fn job() -> Value {
    json!({"model": "world", "task": "elevation", "source": "world", "bbox": [-10, 25, 60, 44], "block_px": 512})
}

/// A folder for one test, with its job.
struct Work(tempfile::TempDir);

impl Work {
    fn new(job: &Value) -> Self {
        let work = Self(tempfile::tempdir().expect("a directory"));
        std::fs::write(work.path("job.json"), job.to_string()).expect("room on disk");
        work
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the job into the folder `to`.
    fn run(&self, to: &str, more: &[&str]) -> Output {
        let (job, to) = (self.path("job.json"), self.path(to));
        let arguments =
            ["run", &job.to_string_lossy(), "--destination", &to.to_string_lossy(), "--quiet"].map(str::to_owned);
        run(&arguments.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    }
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let read = |entry: std::fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("a file"))
    };
    entries.map(read).collect()
}

/// Columns, rows and values of a GeoTIFF of one float band.
fn values(bytes: &[u8]) -> (usize, usize, Vec<u32>) {
    let mut file = Decoder::new(Cursor::new(bytes)).expect("a GeoTIFF");
    let (width, height) = file.dimensions().expect("a size");
    let DecodingResult::F32(values) = file.read_image().expect("pixels") else { panic!("no floats") };
    (width as usize, height as usize, values.into_iter().map(f32::to_bits).collect())
}

#[test]
fn blocks_equal_the_whole_and_a_run_goes_on() {
    let work = Work::new(&job());
    let planned = run(&["plan", &work.path("job.json").to_string_lossy(), "-o", &work.path("plan.json").to_string_lossy()]);
    assert!(planned.status.success(), "{}", text(&planned.stderr));
    let plan: Value = serde_json::from_slice(&std::fs::read(work.path("plan.json")).expect("a plan")).expect("JSON");
    let blocks = plan["blocks"].as_array().expect("blocks").clone();
    assert_eq!((blocks.len(), plan["crs"].as_str()), (2, Some("EPSG:3857")));
    assert!(plan["estimate"]["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{plan}");

    // One block, then what is missing.
    let second = blocks[1]["name"].as_str().expect("a name");
    let first_run = report(&work.run("out", &["--block", second]));
    assert_eq!((&first_run["state"], &first_run["made"]), (&json!("in progress"), &json!(1)));
    let written = std::fs::metadata(work.path(&format!("out/rasters/{second}.tif"))).expect("a raster");
    // A half-written file of a run that was killed is in nobody's way.
    std::fs::write(work.path("out/.unfinished/half"), "half").expect("room on disk");
    let second_run = report(&work.run("out", &[]));
    assert_eq!((&second_run["state"], &second_run["made"], &second_run["done"]), (&json!("done"), &json!(1), &json!(2)));
    let now = std::fs::metadata(work.path(&format!("out/rasters/{second}.tif"))).expect("a raster");
    assert_eq!(now.modified().expect("a time"), written.modified().expect("a time"), "each block is written once");
    assert!(!work.path("out/.unfinished").exists());
    // The same as map tiles, in one file that is a source in its turn.
    let (out, map) =
        (work.path("out").to_string_lossy().into_owned(), work.path("map.pmtiles").to_string_lossy().into_owned());
    let drawn = report(&run(&["tiles", &out, "-o", &map, "--quiet"]));
    assert_eq!((&drawn["min_zoom"], &drawn["max_zoom"]), (&json!(2), &json!(4)));
    assert!(drawn["tiles"].as_u64().is_some_and(|tiles| tiles > 5) && work.path("map.pmtiles").exists(), "{drawn}");
    let too_deep = run(&["tiles", &out, "-o", &map, "--max-zoom", "24"]);
    assert!(text(&too_deep.stderr).contains("a smaller --max-zoom is needed"), "{}", text(&too_deep.stderr));

    let third_run = report(&work.run("out", &[]));
    assert_eq!((&third_run["made"], &third_run["state"]), (&json!(0), &json!("done")));

    // The same area in one block.
    let mut whole = job();
    whole["block_px"] = 4096.into();
    std::fs::write(work.path("job.json"), whole.to_string()).expect("room on disk");
    assert!(work.run("whole", &[]).status.success());
    let (width, height, expected) = values(files(&work.path("whole/rasters")).values().next().expect("a raster"));
    assert_eq!((json!(width), json!(height)), (plan["width"].clone(), plan["height"].clone()));
    for block in &blocks {
        let name = block["name"].as_str().expect("a name");
        let (block_width, block_height, found) =
            values(&std::fs::read(work.path(&format!("out/rasters/{name}.tif"))).expect("a raster"));
        let edge = |side: &str, index: usize| block[side][index].as_u64().expect("a number") as usize;
        assert_eq!((block_width, block_height), (edge("cols", 1) - edge("cols", 0), height));
        for row in 0..block_height {
            let there = &expected[(row + edge("rows", 0)) * width + edge("cols", 0)..][..block_width];
            assert!(found[row * block_width..][..block_width] == *there, "row {row} of {name}");
        }
    }
    let vrt = std::fs::read_to_string(work.path("out/mosaic.vrt")).expect("a mosaic");
    assert_eq!(vrt.matches("<SourceFilename").count(), 2);
    let collection: Value =
        serde_json::from_slice(&std::fs::read(work.path("out/collection.json")).expect("a collection")).expect("JSON");
    let items = collection["links"].as_array().expect("links").iter().filter(|link| link["rel"] == "item").count();
    assert_eq!(items, 2);

    // Another job in the same folder would mix results.
    let refused = work.run("out", &[]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("another job"), "{}", text(&refused.stderr));
}

#[test]
fn shards_share_the_blocks() {
    let mut job = job();
    job["task"] = "water".into();
    let work = Work::new(&job);
    let first = report(&work.run("out", &["--shard", "1/2"]));
    assert_eq!((&first["state"], &first["done"]), (&json!("in progress"), &json!(1)));
    let destination = work.path("out");
    let mut second =
        command(&["run", &work.path("job.json").to_string_lossy(), "--destination", &destination.to_string_lossy()]);
    second.env("SLURM_ARRAY_TASK_ID", "2").env("SLURM_ARRAY_TASK_MIN", "1").env("SLURM_ARRAY_TASK_COUNT", "2");
    let second = report(&second.output().expect("the binary runs"));
    assert_eq!((&second["state"], &second["made"], &second["done"]), (&json!("done"), &json!(1), &json!(2)));
    let vrt = std::fs::read_to_string(work.path("out/mosaic.vrt")).expect("a mosaic");
    assert!(vrt.contains("<Category>water</Category>"), "{vrt}");
}

#[test]
fn a_block_that_fails_leaves_the_others_alone() {
    let mut job = job();
    job["source"] = "damaged".into();
    let work = Work::new(&job);
    let mut map = std::fs::read(format!("{}/static/demo/world.tif", env!("CARGO_MANIFEST_DIR"))).expect("the demo's map");
    let offsets = Decoder::new(Cursor::new(&map)).expect("a GeoTIFF").get_tag_u64_vec(Tag::TileOffsets).expect("tiles");
    // The tile from 45 to 67.5 degrees east.
    let at = offsets[2 * 16 + 10] as usize;
    map[at..at + 64].fill(0);
    std::fs::write(work.path("damaged.tif"), &map).expect("room on disk");
    let source = format!("damaged={}", work.path("damaged.tif").display());
    let output = work.run("out", &["--source", &source]);
    let found = report(&output);
    assert_eq!((output.status.code(), &found["state"], &found["done"]), (Some(1), &json!("done with failures"), &json!(1)));
    assert_eq!((files(&work.path("out/rasters")).len(), files(&work.path("out/failed")).len()), (1, 1));
    let (name, reason) = files(&work.path("out/failed")).pop_first().expect("a failure");
    let reason: Value = serde_json::from_slice(&reason).expect("JSON");
    assert_eq!(name, format!("{}.json", reason["block"].as_str().expect("a name")));
    assert!(text(&output.stderr).contains(reason["reason"].as_str().expect("a reason")), "{}", text(&output.stderr));
    // Alone, it fails again.
    let again = report(&work.run("out", &["--source", &source, "--block", name.trim_end_matches(".json")]));
    assert_eq!((&again["made"], again["failed"].as_array().map(Vec::len)), (&json!(0), Some(1)));
}

/// Category, score and box of each row, the boxes rounded to a millimetre or so.
fn rows(folder: &Path) -> Vec<(String, i64, [i64; 4])> {
    let mut rows = Vec::new();
    for bytes in files(folder).into_values() {
        let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).expect("a Parquet file");
        for row in file.get_row_iter(None).expect("rows").map(|row| row.expect("a row")) {
            let bounds = row.get_group(1).expect("a box");
            let edge = |index: usize| (bounds.get_double(index).expect("a number") * 1e6).round() as i64;
            let score = (row.get_float(4).expect("a score") * 1e4).round() as i64;
            rows.push((row.get_string(2).expect("a category").clone(), score, [0, 1, 2, 3].map(edge)));
        }
    }
    rows.sort();
    rows
}

#[test]
fn objects_at_the_border_of_blocks_are_there_once() {
    let job = |block_px: usize| {
        // About 900 x 300 pixels.
        let bbox = json!([-110.474_58, 44.949_526, -110.473_436, 44.949_801]);
        json!({"model": "trees", "task": "tree_crown", "source": "trees", "bbox": bbox, "block_px": block_px})
    };
    let work = Work::new(&job(512));
    let output = work.run("blocks", &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(report(&output)["blocks"], 2);
    std::fs::write(work.path("job.json"), job(4096).to_string()).expect("room on disk");
    assert!(work.run("whole", &[]).status.success());
    let (blocks, whole) = (rows(&work.path("blocks/features")), rows(&work.path("whole/features")));
    assert!(whole.len() > 20, "{}", whole.len());
    assert_eq!(blocks, whole);

    // As vector tiles, of which the first has all of them.
    let (out, map) = (work.path("blocks"), work.path("trees.pmtiles"));
    let drawn = report(&run(&[
        "tiles",
        &out.to_string_lossy(),
        "-o",
        &map.to_string_lossy(),
        "--min-zoom",
        "14",
        "--max-zoom",
        "18",
        "--quiet",
    ]));
    assert!(drawn["tiles"].as_u64().is_some_and(|tiles| tiles > 4), "{drawn}");
    let bytes = std::fs::read(map).expect("a map");
    let offset = u64::from_le_bytes(bytes[56..64].try_into().expect("eight bytes")) as usize;
    let mut tile = Vec::new();
    GzDecoder::new(&bytes[offset..]).read_to_end(&mut tile).expect("a packed tile");
    let tile = mvt_reader::Reader::new(tile).expect("a vector tile");
    assert_eq!(tile.get_layer_names().expect("names"), ["tree_crown"]);
    let features = tile.get_features(0).expect("features");
    assert!(features.len() > 3 && features.len() <= whole.len(), "{}", features.len());
}

/// The area of all polygons in a folder of tables, in square degrees.
fn polygon_area(folder: &Path) -> f64 {
    let mut area = 0.0;
    for bytes in files(folder).into_values() {
        let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).expect("a Parquet file");
        for row in file.get_row_iter(None).expect("rows").map(|row| row.expect("a row")) {
            // Holes go round the other way, so signed areas add up.
            let wkb = row.get_bytes(0).expect("an outline").data();
            let count = |at: usize| u32::from_le_bytes(wkb[at..at + 4].try_into().expect("four bytes")) as usize;
            let number = |at: usize| f64::from_le_bytes(wkb[at..at + 8].try_into().expect("eight bytes"));
            assert_eq!((wkb[0], count(1)), (1, 3), "a polygon");
            let mut at = 9;
            for _ in 0..count(5) {
                let corners: Vec<[f64; 2]> =
                    (0..count(at)).map(|corner| at + 4 + 16 * corner).map(|at| [number(at), number(at + 8)]).collect();
                at += 4 + 16 * corners.len();
                area += corners.windows(2).map(|pair| pair[0][0] * pair[1][1] - pair[1][0] * pair[0][1]).sum::<f64>() / 2.0;
            }
        }
    }
    area
}

#[test]
fn polygons_of_masks_in_blocks_cover_what_the_whole_covers() {
    let job = |block_px: usize| {
        let mut job = job();
        job["task"] = "water".into();
        job["format"] = "parquet".into();
        job["categories"] = "water".into();
        job["block_px"] = block_px.into();
        job
    };
    let work = Work::new(&job(512));
    let output = work.run("blocks", &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    std::fs::write(work.path("job.json"), job(4096).to_string()).expect("room on disk");
    assert!(work.run("whole", &[]).status.success());
    assert_eq!(files(&work.path("blocks/features")).len(), 2);
    let (out, map) = (work.path("blocks"), work.path("water.pmtiles"));
    let drawn = report(&run(&["tiles", &out.to_string_lossy(), "-o", &map.to_string_lossy(), "--quiet"]));
    assert_eq!((&drawn["min_zoom"], &drawn["max_zoom"]), (&json!(2), &json!(4)), "as of the mask");
    let (blocks, whole) = (polygon_area(&work.path("blocks/features")), polygon_area(&work.path("whole/features")));
    // Of the area's 1330 square degrees; much of it is sea.
    assert!(whole > 200.0 && (blocks - whole).abs() < 1e-6 * whole, "{blocks} {whole}");
}

/// The names and vectors of the cells in a folder of tables.
fn cells(folder: &Path) -> BTreeMap<String, Vec<u32>> {
    let mut cells = BTreeMap::new();
    for bytes in files(folder).into_values() {
        let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).expect("a Parquet file");
        for row in file.get_row_iter(None).expect("rows").map(|row| row.expect("a row")) {
            let vector = row.get_list(1).expect("a vector");
            let values = (0..vector.len()).map(|at| vector.get_float(at).expect("a number").to_bits()).collect();
            assert!(cells.insert(row.get_string(0).expect("a name").clone(), values).is_none(), "a cell is there twice");
        }
    }
    cells
}

/// Columns, rows and the first band of a GeoTIFF of 8-bit numbers.
fn small_values(bytes: &[u8]) -> (usize, usize, Vec<i8>) {
    let mut file = Decoder::new(Cursor::new(bytes)).expect("a GeoTIFF");
    let (width, height) = file.dimensions().expect("a size");
    let DecodingResult::I8(values) = file.read_image().expect("pixels") else { panic!("no 8-bit numbers") };
    (width as usize, height as usize, values)
}

#[test]
fn embeddings_in_blocks_equal_the_whole() {
    let job = |format: &str, block_px: usize| {
        let mut job = job();
        job["task"] = "embedding".into();
        job["format"] = format.into();
        job["cell_px"] = 64.into();
        job["block_px"] = block_px.into();
        if format == "tif" {
            // Both are found once for all blocks.
            (job["precision"], job["pca"]) = ("int8".into(), 8.into());
        }
        job
    };
    let work = Work::new(&job("tif", 512));
    for (to, job) in [
        ("rasters", job("tif", 512)),
        ("raster", job("tif", 4096)),
        ("tables", job("parquet", 512)),
        ("table", job("parquet", 4096)),
    ] {
        std::fs::write(work.path("job.json"), job.to_string()).expect("room on disk");
        let output = work.run(to, &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let (blocks, whole) = (files(&work.path("rasters/rasters")), files(&work.path("raster/rasters")));
    let (width, height, expected) = small_values(whole.values().next().expect("a raster"));
    assert_eq!(blocks.len(), 2);
    let mut left = 0;
    for bytes in blocks.values() {
        let (columns, rows, found) = small_values(bytes);
        assert_eq!(rows, height);
        for row in 0..rows {
            assert!(found[row * columns..][..columns] == expected[row * width + left..][..columns], "row {row}");
        }
        left += columns;
    }
    assert_eq!(left, width);
    let (blocks, whole) = (cells(&work.path("tables/features")), cells(&work.path("table/features")));
    assert_eq!(whole.len(), width * height);
    assert!(blocks == whole);

    let document = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(work.path(name)).expect("a document")).expect("JSON")
    };
    let collection = document("rasters/collection.json");
    let dims = whole.values().next().map(Vec::len).expect("a cell");
    assert_eq!((&collection["emb:dimensions"], &collection["emb:type"]), (&json!(8), &json!("chip")));
    let encoding = document("rasters/encoding.json");
    let components = encoding["projection"]["components"].as_array().expect("components");
    assert_eq!((components.len(), components[0].as_array().map(Vec::len)), (8, Some(dims)));
    assert_eq!(encoding, document("raster/encoding.json"), "it depends on the area alone");
    let (name, _) = files(&work.path("rasters/items")).pop_first().expect("an item");
    let item = document(&format!("rasters/items/{name}"));
    assert_eq!(item["properties"]["emb:runtime_parameters"]["stride_px"], 32);
    assert_eq!(item["properties"]["proj:shape"], json!([height, 4]));
    assert_eq!(item["properties"]["emb:quantization"]["scale"].as_array().map(Vec::len), Some(8));
    assert_eq!(item["assets"]["embeddings"]["bands"].as_array().map(Vec::len), Some(8));
    let vrt = std::fs::read_to_string(work.path("rasters/mosaic.vrt")).expect("a mosaic");
    assert!(vrt.contains(&format!("rasterXSize=\"{width}\"")) && vrt.matches("<SourceFilename").count() == 2 * 8);
}

#[test]
fn runs_with_windows_of_another_size_do_not_mix() {
    let mut job = job();
    job["bbox"] = json!([0, 40, 5, 45]);
    let work = Work::new(&job);
    let first = report(&work.run("out", &[]));
    assert_eq!((&first["state"], &first["made"]), (&json!("done"), &json!(1)));
    for options in [["--window", "1024"], ["--halo", "128"]] {
        let output = work.run("out", &options);
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains("another job"), "{options:?}: {error}");
    }
    assert_eq!(report(&work.run("out", &["--window", "512"]))["made"], 0);
    assert_eq!(report(&work.run("large", &["--window", "1024"]))["made"], 1);
}

#[test]
fn jobs_that_cannot_be_are_told_what_can() {
    let with = |name: &str, value: Value| {
        let mut job = job();
        job[name] = value;
        job
    };
    for (job, word) in [
        (with("model", "wrld".into()), "did you mean \"world\""),
        (with("task", json!(null)), "a job needs model"),
        (with("format", "png".into()), "blocks of elevation are tif"),
        (with("cell_px", 32.into()), "only embeddings"),
        (with("pca", 8.into()), "only embeddings"),
        (with("block_px", 7.into()), "from 512 to 16384"),
        (with("tresh", 1.into()), "threshold"),
        (with("bbox", json!(null)), "bbox or geometry"),
        (with("pixel_size", 0.001.into()), "limit"),
    ] {
        let work = Work::new(&job);
        let output = work.run("out", &[]);
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains(word), "{job}: {error}");
    }
}
