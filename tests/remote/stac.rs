//! STAC items and item collections as sources: from this machine and from hosts, whole and broken, also through the router.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use satlas_serve::config::ServerSettings;
use satlas_serve::error::ErrorKind;
use satlas_serve::georef::{Crs, GeoTransform, Georef};
use satlas_serve::raster::{CaptureSelection, ChunkCache, Limits, OpenOptions, Patch, RasterError, Resampling, Source};
use satlas_serve::storage::{Client, ClientOptions, RemotePolicy};
use serde_json::{Value, json};

use crate::common::{Reply as Answer, demo, loopback, post_to, router_with, send, settings};
use crate::host::{Asked, Host, Reply, Stated};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stac")
}

fn items() -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join("items.json")).unwrap()).unwrap()
}

/// Options under which loopback alone may be asked.
fn options() -> OpenOptions {
    let policy = RemotePolicy { hosts: vec!["127.0.0.1".to_owned()], allow_private: true };
    let patience = ClientOptions {
        timeout: Duration::from_secs(300),
        retry_delay: Duration::from_millis(1),
        ..ClientOptions::default()
    };
    let remote = Some(Arc::new(Client::new(policy, patience)));
    OpenOptions { limits: Limits::NONE, chunks: ChunkCache::new(16 << 20), remote }
}

fn open(location: &str) -> Result<Source, RasterError> {
    Source::open("s", &[location.into()], &options())
}

/// A directory with a document and the fixtures' files beside it.
fn directory_with(document: &Value) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    for scene in ["west_1", "east_1", "west_2"] {
        std::fs::create_dir(directory.path().join(scene)).unwrap();
        for file in std::fs::read_dir(fixtures().join(scene)).unwrap().flatten() {
            std::fs::copy(file.path(), directory.path().join(scene).join(file.file_name())).unwrap();
        }
    }
    let newest = directory.path().join("west_2");
    std::fs::copy(newest.join("B04.tif"), newest.join("grey.tif")).unwrap();
    std::fs::copy(newest.join("TCI.tif"), newest.join("colours.tif")).unwrap();
    let path = directory.path().join("items.json");
    std::fs::write(&path, document.to_string()).unwrap();
    let location = path.to_string_lossy().into_owned();
    (directory, location)
}

/// The fixtures' file that is asked for, below `/c/`.
fn serve(asked: &Asked) -> Reply {
    let path = asked.target.split('?').next().unwrap_or_default().strip_prefix("/c/").unwrap_or("none");
    match std::fs::read(fixtures().join(path)) {
        Ok(bytes) => Reply::part(&bytes, asked),
        Err(_) => Reply::new(404, "nothing"),
    }
}

fn targets(host: &Host) -> Vec<String> {
    host.asked().into_iter().map(|asked| asked.target).collect()
}

/// A row of pixels of 10 m, `col` pixels east of the western scenes' edge and `row` south of their top.
fn strip(col: usize, row: usize, width: usize) -> Georef {
    let (x, y) = (600_000.0 + 10.0 * col as f64, 5_000_000.0 - 10.0 * row as f64);
    let crs = Crs::from_epsg(32632).unwrap();
    Georef { crs, transform: GeoTransform::north_up(x, y, 10.0, 10.0), width, height: 1 }
}

fn read(source: &Source, capture: usize, target: &Georef, band: usize) -> Patch {
    source.read(capture, target, &[band], Resampling::Nearest).unwrap()
}

fn band_names(source: &Source) -> Vec<String> {
    source.describe().bands.into_iter().filter_map(|band| band.description).collect()
}

#[test]
fn items_become_captures_by_day_with_their_assets_as_bands() {
    let source = open(&fixtures().join("items.json").to_string_lossy()).unwrap();
    assert_eq!(band_names(&source), ["B04", "B05", "tci_r", "tci_g", "tci_b"]);
    let times: Vec<String> = source.describe().datetimes.into_iter().flatten().collect();
    assert_eq!(times, ["2024-06-01T10:10:05Z", "2024-06-11T10:10:00Z"]);

    let across = strip(20, 40, 80);
    let first = read(&source, 0, &across, 0);
    assert_eq!((first.pixels[0], first.pixels[11], first.pixels[12], first.pixels[75]), (1000.0, 1000.0, 2000.0, 2000.0));
    assert!(first.valid[..76].iter().all(|valid| *valid) && !first.valid[76], "two scenes and nothing beyond");
    let second = read(&source, 1, &across, 0);
    assert_eq!((second.pixels[0], second.valid[43], second.valid[44]), (3000.0, true, false));
    assert_eq!(read(&source, 0, &across, 4).pixels[0], 12.0, "the third band of the true-colour image");

    let corner = read(&source, 1, &strip(0, 0, 10), 0);
    assert_eq!(corner.valid.iter().filter(|valid| **valid).count(), 4, "what the item says is no data");
    let place = source.describe().extent.unwrap();
    let bounds = place.bounds_lon_lat;
    assert!((place.resolution_m - 10.0).abs() < 0.1 && bounds.max_x - bounds.min_x > 0.0115, "all captures: {bounds:?}");
}

#[test]
fn only_the_files_that_are_looked_at_are_asked_for() {
    let host = Host::start(|asked, _| serve(asked));
    let source = open(&host.url("/c/items.json?token=topsecret")).unwrap();
    let newest = ["/c/west_2/B04.tif", "/c/west_2/B05.tif", "/c/west_2/TCI.tif"];
    let mut asked = targets(&host);
    asked.sort();
    assert_eq!(asked, [&["/c/items.json?token=topsecret"], &newest[..]].concat(), "the newest item tells what there is");
    let before = host.asked().len();
    assert_eq!(read(&source, 0, &strip(10, 40, 10), 0).pixels[0], 1000.0);
    assert_eq!(targets(&host)[before..], ["/c/west_1/B04.tif"]);
    assert_eq!(read(&source, 0, &strip(70, 40, 10), 1).pixels[0], 2000.0);
    assert_eq!(targets(&host)[before + 1..], ["/c/east_1/B05.tif"]);
    assert!(source.read(0, &strip(5000, 40, 10), &[0], Resampling::Nearest).unwrap().is_empty());
    assert_eq!(host.asked().len(), before + 2, "what lies elsewhere costs nothing");
}

#[test]
fn items_that_do_not_say_where_they_lie_are_opened_at_once() {
    let mut collection = items();
    for feature in collection["features"].as_array_mut().unwrap() {
        feature["properties"]["proj:epsg"] = json!(null);
    }
    let (_directory, location) = directory_with(&collection);
    let source = open(&location).unwrap();
    assert_eq!((source.captures().len(), read(&source, 0, &strip(10, 40, 1), 0).pixels[0]), (2, 1000.0));
}

#[test]
fn a_single_item_is_a_capture_and_its_own_address_is_where_its_references_start() {
    let item = items()["features"][0].clone();
    let host = Host::start(move |asked, _| match asked.target.as_str() {
        "/search/west_1" => {
            let mut item = item.clone();
            item["links"] = json!([{"rel": "self", "href": "/c/item.json"}]);
            Reply::new(200, item.to_string())
        }
        _ => serve(asked),
    });
    let source = open(&host.url("/search/west_1")).unwrap();
    assert_eq!(source.captures().len(), 1);
    assert_eq!(read(&source, 0, &strip(10, 40, 1), 0).pixels[0], 1000.0);
    assert_eq!(source.title, "west_1");
}

#[test]
fn bands_that_some_items_lack_are_left_out_and_named() {
    let mut collection = items();
    collection["features"][2]["assets"].as_object_mut().unwrap().remove("rededge1");
    let (_directory, location) = directory_with(&collection);
    let source = open(&location).unwrap();
    assert_eq!(band_names(&source), ["B04", "tci_r", "tci_g", "tci_b"]);
    assert_eq!(read(&source, 0, &strip(10, 40, 1), 2).pixels[0], 11.0);
    let notes = source.capture(0).unwrap().raster.warnings();
    assert!(notes.len() == 1 && notes[0].contains("B05"), "{notes:?}");

    let assets = collection["features"][2]["assets"].as_object_mut().unwrap();
    assets.retain(|key, _| key == "thumbnail");
    let dem = json!({"href": "./west_2/grey.tif", "type": "image/tiff", "eo:bands": [{"name": "elevation"}]});
    collection["features"][2]["assets"]["dem"] = dem;
    let (_directory, location) = directory_with(&collection);
    let source = open(&location).unwrap();
    assert_eq!((source.captures().len(), warning_of(&source).contains("elevation")), (1, true), "{}", warning_of(&source));
}

fn warning_of(source: &Source) -> String {
    source.capture(0).unwrap().raster.warnings().join("\n")
}

/// A change to the second item, what of the three scenes is left, and words of the warning.
type Oddity = (fn(&mut Value), usize, &'static str);

#[test]
fn an_odd_value_costs_at_most_its_item_and_is_told() {
    let without_notes: [fn(&mut Value); 19] = [
        |item| item["properties"]["proj:epsg"] = json!(32632.0),
        |item| item["properties"]["proj:epsg"] = json!("32632"),
        |item| item["properties"]["proj:code"] = json!("epsg:32632"),
        |item| item["properties"]["proj:code"] = json!(["EPSG:32632"]),
        |item| item["properties"]["eo:cloud_cover"] = json!("12.5"),
        |item| item["properties"]["gsd"] = json!("ten"),
        |item| item["properties"]["platform"] = json!(3),
        |item| item["properties"]["platform"] = json!(null),
        |item| item["collection"] = json!(["sentinel-2-l1c"]),
        |item| item["properties"]["datetime"] = json!("2024-06-01T10:10:05"),
        |item| item["links"] = json!(null),
        |item| item["links"] = json!([null, {"rel": "self"}, {"rel": 5, "href": "x"}]),
        |item| item["geometry"] = json!(null),
        |item| item["bbox"] = json!([9.0, 45.0, 0.0, 10.0, 46.0, 100.0]),
        |item| item["id"] = json!(17),
        |item| item["assets"]["thumbnail"] = json!(null),
        |item| item["assets"]["thumbnail"] = json!({"href": null, "roles": null}),
        |item| item["assets"]["red"]["roles"] = json!(null),
        |item| item["assets"]["red"]["roles"] = json!([null, "data"]),
    ];
    for (index, change) in without_notes.iter().enumerate() {
        let mut collection = items();
        change(&mut collection["features"][1]);
        let (_directory, location) = directory_with(&collection);
        let source = open(&location).unwrap();
        let across = read(&source, 0, &strip(20, 40, 80), 0);
        assert_eq!((across.pixels[0], across.pixels[75]), (1000.0, 2000.0), "change {index}");
        assert_eq!(warning_of(&source), "", "change {index}");
    }
    let with_notes: [Oddity; 11] = [
        (|item| *item = json!(null), 2, "an item without id is left out"),
        (|item| *item = json!({"id": "bare", "type": "Feature"}), 2, "item bare"),
        (|item| item["properties"] = json!("none"), 2, "is left out"),
        (|item| item["assets"] = json!([]), 2, "an object of assets is needed"),
        (|item| item["assets"]["red"]["href"] = json!(5), 2, "asset red"),
        (|item| item["assets"]["red"]["href"] = json!("../../../../../../etc/passwd"), 2, "beside it"),
        (|item| item["assets"]["red"]["href"] = json!("."), 2, "is left out"),
        (|item| item["assets"]["red"]["href"] = json!(""), 2, "it names no file"),
        (|item| item["assets"]["red"]["href"] = json!("west_1"), 2, "it names no file"),
        (|item| item["assets"]["red"]["raster:scale"] = json!("small"), 2, "a number is needed where \"small\" stands"),
        (|item| item["properties"]["datetime"] = json!(1_717_236_605), 3, "its time is unknown"),
    ];
    for (index, (change, scenes, words)) in with_notes.into_iter().enumerate() {
        let mut collection = items();
        change(&mut collection["features"][1]);
        let (_directory, location) = directory_with(&collection);
        let source = open(&location).unwrap();
        let east = read(&source, 0, &strip(70, 40, 1), 0);
        assert_eq!(band_names(&source).len(), 5, "change {index}");
        assert_eq!(east.valid[0], scenes == 3, "change {index}");
        assert!(warning_of(&source).contains(words), "change {index}: {}", warning_of(&source));
    }
}

#[test]
fn numbers_that_are_none_do_not_cost_the_document() {
    let text = items().to_string().replacen("\"properties\":{", "\"properties\":{\"eo:cloud_cover\":NaN,", 1);
    assert!(text.contains("NaN"));
    let (directory, location) = directory_with(&items());
    std::fs::write(directory.path().join("items.json"), text).unwrap();
    assert_eq!(open(&location).unwrap().captures().len(), 2);
}

#[test]
fn an_item_on_this_machine_names_no_file_elsewhere() {
    let outside = fixtures().join("west_1/B04.tif").to_string_lossy().into_owned();
    for href in
        [outside.clone(), format!("file://{outside}"), "../../../../../../etc/passwd".to_owned(), "none.tif".to_owned()]
    {
        let mut item = items()["features"][0].clone();
        item["assets"]["red"]["href"] = json!(href);
        let (_directory, location) = directory_with(&item);
        let error = open(&location).unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("beside it"), "{href}: {error}");
    }
    let mut item = items()["features"][0].clone();
    item["assets"]["red"]["href"] = json!("west_1");
    let (_directory, location) = directory_with(&item);
    assert_eq!(open(&location).unwrap_err().kind(), ErrorKind::Unusable, "a directory is no file");
}

#[test]
fn an_item_that_was_fetched_names_no_file_at_all() {
    for (href, words) in
        [("file:///etc/passwd", "cannot be fetched"), ("https://example.org/a.tif", "--allow-host example.org")]
    {
        let mut item = items()["features"][2].clone();
        item["assets"]["red"]["href"] = json!(href);
        let host = Host::start(move |asked, _| match asked.target.as_str() {
            "/c/item.json" => Reply::new(200, item.to_string()),
            _ => serve(asked),
        });
        let error = open(&host.url("/c/item.json")).unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(words), "{error}");
    }
    // A path without a scheme means one of the host.
    let mut item = items()["features"][2].clone();
    item["assets"]["red"]["href"] = json!("/etc/passwd");
    let host = Host::start(move |asked, _| match asked.target.as_str() {
        "/c/item.json" => Reply::new(200, item.to_string()),
        _ => serve(asked),
    });
    assert!(open(&host.url("/c/item.json")).is_err());
    assert!(targets(&host).contains(&"/etc/passwd".to_owned()));
}

#[test]
fn documents_that_are_broken_are_explained() {
    let no_images = json!({"type": "Feature", "stac_version": "1.0.0", "id": "bare", "properties": {},
                           "assets": {"info": {"href": "a.json", "type": "application/json"}}});
    for (document, kind, words) in [
        ("{\"type\": \"FeatureCollection\", \"features\": [".to_owned(), ErrorKind::Unusable, "STAC"),
        ("{\"type\": \"FeatureCollection\", \"features\": []}".to_owned(), ErrorKind::NotFound, "item"),
        ("{\"type\": \"Catalog\", \"stac_version\": \"1.0.0\"}".to_owned(), ErrorKind::Unusable, "Catalog"),
        (no_images.to_string(), ErrorKind::Unusable, "bare"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("items.json");
        std::fs::write(&path, document).unwrap();
        let error = open(&path.to_string_lossy()).unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(words), "{error}");
    }
    let mut other = items();
    other["features"][2]["assets"]["rededge1"]["href"] = json!("./west_2/colours.tif");
    let (_directory, location) = directory_with(&other);
    let source = open(&location).unwrap();
    let warning = warning_of(&source);
    assert!(warning.contains("colours.tif has 3 bands") && warning.contains("rededge1"), "{warning}");
    assert_eq!(source.captures().len(), 1, "the newest item is left out");
}

#[test]
fn a_damaged_file_costs_its_capture_if_another_has_data() {
    let (directory, location) = directory_with(&items());
    // Each has a cache of its own for what it reads.
    let (source, other) = (open(&location).unwrap(), open(&location).unwrap());
    let damage = |scene: &str| std::fs::write(directory.path().join(scene).join("B04.tif"), "no TIFF").unwrap();
    let newest = |source: &Source, captures: Option<Vec<usize>>| {
        let wanted = CaptureSelection { captures, datetime: None };
        source.read_newest((&wanted, 1), &strip(20, 40, 8), &[0], Resampling::Nearest)
    };
    damage("west_2");
    let read = newest(&source, None).unwrap();
    assert_eq!(read.patches[0].pixels[0], 1000.0);
    let [warning] = read.left_out.as_slice() else { panic!("{:?}", read.left_out) };
    assert!(
        warning.starts_with("Capture 2 of 2024-06-11T10:10:00Z is left out: ") && warning.contains("B04.tif"),
        "{warning}"
    );
    let picture = source.read_rgba(&CaptureSelection::default(), &strip(20, 40, 8), Resampling::Nearest).unwrap();
    assert!(picture.rgba[3] == 255 && picture.warnings.is_empty(), "other files are sound");
    assert!(newest(&source, Some(vec![1])).is_err(), "it was asked for by number");
    damage("west_1");
    assert!(newest(&other, None).is_err(), "nothing else has data");
}

#[test]
fn a_file_that_fails_is_an_error_and_not_an_empty_picture() {
    let host = Host::start(|asked, _| match asked.target.as_str() {
        "/c/west_1/B04.tif" => Reply::new(404, "nothing"),
        "/c/west_1/B05.tif" => Reply::new(500, "oops"),
        "/c/west_1/TCI.tif" => Reply { stated: Stated::Other(1000), ..serve(asked) },
        "/c/east_1/B04.tif" => Reply::new(200, "<html>"),
        "/c/east_1/B05.tif" => Reply::new(302, "").header("location", "http://10.0.0.1/secret"),
        "/c/east_1/TCI.tif" => Reply { delay: Duration::from_millis(300), ..serve(asked) },
        _ => serve(asked),
    });
    let source = open(&host.url("/c/items.json")).unwrap();
    let (west, east) = (strip(10, 40, 1), strip(70, 40, 1));
    let failure = |target: &Georef, band: usize| source.read(0, target, &[band], Resampling::Nearest).unwrap_err();
    for (target, band, kind, words) in [
        (&west, 0, ErrorKind::Upstream, "404"),
        (&west, 1, ErrorKind::Upstream, "500"),
        (&west, 2, ErrorKind::Upstream, "TCI.tif"),
        (&east, 0, ErrorKind::UnsupportedMedia, "B04.tif"),
        (&east, 1, ErrorKind::Invalid, "10.0.0.1"),
    ] {
        let error = failure(target, band);
        assert!(error.kind() == kind && error.to_string().contains(words), "{error}");
    }
    assert_eq!(read(&source, 0, &east, 2).pixels[0], 20.0, "slow is no failure");
}

fn allowing_loopback() -> ServerSettings {
    ServerSettings { remote: loopback(true), ..ServerSettings::default() }
}

async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_of_a_host_is_served_as_the_file_it_names() {
    let bands = json!([{"name": "red"}, {"name": "green"}, {"name": "blue"}]);
    let item = json!({"type": "Feature", "stac_version": "1.1.0", "id": "world",
        "properties": {"datetime": null, "start_datetime": "2004-01-01T00:00:00Z", "end_datetime": "2004-12-31T00:00:00Z"},
        "assets": {"data": {"href": "./world.tif", "type": "image/tiff; application=geotiff", "bands": bands}}});
    let world = demo("world.tif");
    let host = Host::start(move |asked, _| match asked.target.as_str() {
        "/items/world" => Reply::new(200, item.to_string()),
        "/items/world.tif" => Reply::part(&world, asked),
        _ => Reply::new(404, "nothing"),
    });
    let router = router_with(settings().0, allowing_loopback());
    let reference = json!({"id": "far", "url": host.url("/items/world")}).to_string();
    let created = post_to(&router, "/v1/sources", "application/json", reference).await;
    assert_eq!(created.status, 201, "{}", String::from_utf8_lossy(&created.body));
    assert_eq!(created.json()["captures"], json!(["2004-01-01T00:00:00Z"]));
    for path in ["/v1/sources/SOURCE/tiles/3/4/2.png", "/v1/tiles/world/water/3/4/3.png?source=SOURCE"] {
        let near = get(&router, &path.replace("SOURCE", "world")).await;
        let far = get(&router, &path.replace("SOURCE", "far")).await;
        assert_eq!((far.status.as_u16(), far.body == near.body), (200, true), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_shows_the_newest_capture_or_the_one_that_is_asked_for() {
    let host = Host::start(|asked, _| serve(asked));
    let source = format!("s={}", host.url("/c/items.json"));
    let router = router_with(settings().0, ServerSettings { source: vec![source], ..allowing_loopback() });
    let tilejson = get(&router, "/v1/sources/s/tilejson.json").await.json();
    let (lon, lat) = (tilejson["center"][0].as_f64().unwrap(), tilejson["center"][1].as_f64().unwrap());
    let side = f64::from(1 << 14);
    let x = ((lon / 360.0 + 0.5) * side) as u32;
    let y = ((0.5 - lat.to_radians().sin().atanh() / std::f64::consts::TAU) * side) as u32;
    let opaque = |answer: &Answer| {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let image = image::load_from_memory(&answer.body).unwrap().into_rgba8();
        image.pixels().filter(|pixel| pixel.0[3] > 0).map(|pixel| pixel.0[0]).max()
    };
    let tile = |query: &str| format!("/v1/sources/s/tiles/14/{x}/{y}.png{query}");
    assert_eq!(opaque(&get(&router, &tile("")).await), Some(30));
    assert_eq!(opaque(&get(&router, &tile("?capture=1")).await), Some(20));
    let described = get(&router, "/v1/sources/s").await.json();
    let first = described["captures"][0].as_str().unwrap().to_owned();
    assert_eq!(opaque(&get(&router, &tile(&format!("?datetime=../{first}"))).await), Some(20));
    assert_eq!(opaque(&get(&router, &tile("?datetime=2030-01-01")).await), None);
    get(&router, &tile("?datetime=soon")).await.problem(400);
    get(&router, "/v1/sources/s/tilejson.json?datetime=soon").await.problem(400);
    let chosen = get(&router, &format!("/v1/sources/s/tilejson.json?datetime=../{first}")).await.json();
    assert!(chosen["tiles"][0].as_str().unwrap().ends_with(&format!(".png?datetime=../{first}")), "{chosen}");
    get(&router, &tile("?capture=3")).await.problem(400);
}
