//! Map tiles as imagery, through the router: MBTiles archives and hosts of tiles, whole and broken.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use image::RgbaImage;
use satlas_serve::budget::Work;
use satlas_serve::config::ServerSettings;
use satlas_serve::error::ErrorKind;
use satlas_serve::raster::{
    self, CaptureSelection, ChunkCache, Imagery, Limits, OpenOptions, Patch, PixelWindow, RasterError, Resampling, Source,
};
use satlas_serve::tiles::TileCoord;

use crate::common::{Reply as Answer, loopback, router_with, send, settings};
use crate::host::{Host, Reply, Stated};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiles").join(name)
}

fn options() -> OpenOptions {
    OpenOptions { limits: Limits::NONE, chunks: ChunkCache::new(64 << 20), remote: None }
}

fn server(sources: &[String]) -> Router {
    let (engine, _) = settings();
    let server = ServerSettings { source: sources.to_vec(), remote: loopback(false), ..ServerSettings::default() };
    router_with(engine, server)
}

async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

fn picture(answer: &Answer) -> RgbaImage {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    image::load_from_memory(&answer.body).unwrap().into_rgba8()
}

/// Pixels of which a colour differs by more than `levels`.
fn differing(a: &RgbaImage, b: &RgbaImage, levels: u8) -> f64 {
    let differ = a.pixels().zip(b.pixels()).filter(|(a, b)| a.0.iter().zip(b.0).any(|(a, b)| a.abs_diff(b) > levels));
    assert_eq!(a.dimensions(), b.dimensions());
    differ.count() as f64 / f64::from(a.width() * a.height())
}

/// A host with PNG tiles of the demo imagery.
fn world_tiles() -> Host {
    let location = concat!(env!("CARGO_MANIFEST_DIR"), "/static/demo/world.tif").to_owned();
    let world = Source::open("world", &[location.into()], &options()).unwrap();
    // Drawn before anything is asked for: drawing needs the threads that wait for the answers.
    let every = (0..=4).flat_map(|z| (0..1 << (2 * z)).map(move |index: u64| (z, index >> z, index & ((1 << z) - 1))));
    let tiles: HashMap<String, Vec<u8>> = every
        .map(|(z, x, y)| {
            let drawn = world
                .read_rgba(
                    &CaptureSelection::default(),
                    &TileCoord::try_new(z, x, y).unwrap().georef(256),
                    Resampling::Bilinear,
                )
                .unwrap();
            let mut png = Cursor::new(Vec::new());
            let image = RgbaImage::from_raw(256, 256, drawn.rgba).unwrap();
            image.write_to(&mut png, image::ImageFormat::Png).unwrap();
            (format!("/{z}/{x}/{y}.png"), png.into_inner())
        })
        .collect();
    Host::start(move |asked, _| match tiles.get(&asked.target) {
        Some(png) => Reply::new(200, &png[..]),
        None => Reply::new(400, "no tile"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn tiles_made_of_imagery_are_as_good_as_the_imagery() {
    let host = world_tiles();
    let router = server(&[format!("far={}", host.url("/{z}/{x}/{y}.png#zoom=0-4"))]);
    let (near, far) = ("/v1/sources/world/tiles/3/4/2.png", "/v1/sources/far/tiles/3/4/2.png");
    let (near, far) = (picture(&get(&router, near).await), picture(&get(&router, far).await));
    assert_eq!(differing(&near, &far, 0), 0.0, "a tile of the same grid is passed on as it is");
    let asked = host.asked().len();
    assert!(asked <= 10, "{asked} tiles: one to learn their size, the one that was wanted, and those at its edges");

    let of = |source: &str| format!("/v1/tiles/world/water/3/4/3.png?source={source}");
    let (near, far) = (picture(&get(&router, &of("world")).await), picture(&get(&router, &of("far")).await));
    let share = differing(&near, &far, 0);
    assert!(share < 0.02, "{share} of the predicted pixels differ");
    let mut targets: Vec<String> = host.asked().into_iter().map(|asked| asked.target).collect();
    let count = targets.len();
    targets.sort();
    targets.dedup();
    assert_eq!(targets.len(), count, "no tile is fetched twice");
}

#[test]
fn a_view_without_an_end_ends_with_its_request() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endless.mbtiles");
    let view = "CREATE VIEW tiles AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)
        SELECT 0 AS zoom_level, n AS tile_column, 0 AS tile_row, x'00' AS tile_data FROM c WHERE n < 0";
    rusqlite::Connection::open(&path).unwrap().execute_batch(view).unwrap();
    let location = path.to_str().unwrap().to_owned();
    let request = Work::default();
    let opening = std::thread::spawn(
        request.of(move || raster::open(Imagery::Location(&location), None, &options()).map(|captures| captures.len())),
    );
    std::thread::sleep(std::time::Duration::from_millis(20));
    drop(request);
    let error = opening.join().unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::Unusable && error.to_string().contains("a statement took"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tile_that_a_host_does_not_have_is_transparent_and_one_it_fails_to_send_is_an_error() {
    let host = Host::start(|asked, _| match asked.target.as_str() {
        "/0/0/0.png" | "/2/0/0.png" => Reply::new(404, "nothing"),
        "/2/1/0.png" => Reply::new(204, ""),
        "/2/2/0.png" => Reply::new(500, "oops"),
        "/2/3/0.png" => Reply::new(200, "<html>"),
        "/2/0/1.png" => Reply { stated: Stated::Other(1000), ..Reply::new(200, &b"\x89PNG"[..]) },
        _ => Reply::new(200, &b"\x89PNG\r\n\x1a\n cut off"[..]),
    });
    let router = server(&[format!("far={}", host.url("/{z}/{x}/{y}.png#zoom=0-2"))]);
    let tile = |name: &str| format!("/v1/sources/far/tiles/{name}.png");
    for empty in ["2/0/0", "2/1/0"] {
        let image = picture(&get(&router, &tile(empty)).await);
        assert!(image.pixels().all(|pixel| pixel.0 == [0; 4]), "{empty}");
    }
    for (broken, status, word) in
        [("2/2/0", 502, "500"), ("2/3/0", 422, "tile 2/3/0"), ("2/0/1", 502, "127.0.0.1"), ("2/1/1", 422, "tile 2/1/1")]
    {
        let problem = get(&router, &tile(broken)).await.problem(status);
        assert!(problem.contains(word), "{broken}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_may_forbid_tiles_that_it_does_not_have() {
    let png = png(256, [200, 0, 0, 255]);
    let host = Host::start(move |asked, _| match asked.target.as_str() {
        "/2/1/1.png" | "/1/1/1.png" => Reply::new(200, &png[..]),
        _ => Reply::new(403, "<Error><Code>AccessDenied</Code></Error>"),
    });
    let sources = [
        format!("far={}", host.url("/{z}/{x}/{y}.png#zoom=0-2")),
        format!("told={}", host.url("/none/{z}/{x}/{y}.png#zoom=0-2&missing=403")),
        format!("never={}", host.url("/none/{z}/{x}/{y}.png#zoom=0-2")),
    ];
    let router = server(&sources);
    for name in ["far/tiles/2/3/3", "told/tiles/2/0/0"] {
        let image = picture(&get(&router, &format!("/v1/sources/{name}.png")).await);
        assert!(image.pixels().all(|pixel| pixel.0[3] == 0), "{name}");
    }
    let image = picture(&get(&router, "/v1/sources/far/tiles/2/1/1.png").await);
    assert_eq!(image.get_pixel(128, 128).0, [200, 0, 0, 255]);
    assert!(get(&router, "/v1/sources/never/tiles/2/0/0.png").await.problem(502).contains("403"));
}

/// A picture of one colour.
fn png(side: u32, colour: [u8; 4]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbaImage::from_pixel(side, side, image::Rgba(colour)).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Zoom, column and row from the south of a tile, and its picture.
type StoredTile = ((u32, u32, u32), Vec<u8>);

/// An MBTiles file with these metadata and tiles.
fn mbtiles(path: &Path, metadata: &[(&str, &str)], tiles: &[StoredTile]) -> String {
    let file = rusqlite::Connection::open(path).unwrap();
    file.execute_batch(
        "CREATE TABLE metadata (name TEXT, value TEXT);
         CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB);",
    )
    .unwrap();
    for (name, value) in metadata {
        file.execute("INSERT INTO metadata VALUES (?1, ?2)", [name, value]).unwrap();
    }
    for ((zoom, column, row), bytes) in tiles {
        file.execute("INSERT INTO tiles VALUES (?1, ?2, ?3, ?4)", rusqlite::params![zoom, column, row, bytes]).unwrap();
    }
    path.to_string_lossy().into_owned()
}

#[test]
fn the_tiles_of_an_archive_decide_where_it_lies() {
    let directory = tempfile::tempdir().unwrap();
    // Zoom 3, column 6, row 2 from the south: 90 to 135 degrees east, 66.5 to 41 degrees south.
    let tiles = [((3, 6, 2), png(256, [200, 0, 0, 255]))];
    for (index, metadata) in [
        &[("bounds", "90,-66,135,-41.5")][..],
        &[("bounds", "100,-60,120,-50")],
        &[("bounds", "170,-60,-170,-41"), ("minzoom", "0"), ("maxzoom", "9")],
        &[("bounds", "-10,35,30,60")],
        &[("bounds", "90,41,135,66")],
        &[("bounds", "270,-66,315,-41")],
        &[("bounds", "-180,-85,180,85")],
        &[("bounds", "0,0,0,0")],
        &[("bounds", "nan,0,1,1")],
        &[("bounds", "none"), ("minzoom", "three")],
        &[],
    ]
    .into_iter()
    .enumerate()
    {
        let location = mbtiles(&directory.path().join(format!("{index}.mbtiles")), metadata, &tiles);
        let source = Source::open("s", &[location.into()], &options()).unwrap();
        let place = source.describe().extent.unwrap();
        let bounds = place.bounds_lon_lat;
        for (found, wanted) in [(bounds.min_x, 90.0), (bounds.min_y, -66.5), (bounds.max_x, 135.0), (bounds.max_y, -41.0)] {
            assert!((found - wanted).abs() < 1.5, "{metadata:?}: {bounds:?}");
        }
        assert_eq!(place.max_zoom, 3, "{metadata:?}");
    }
}

#[test]
fn placeholders_of_another_size_are_no_data() {
    let directory = tempfile::tempdir().unwrap();
    for (side, blank) in [(256, png(1, [0, 0, 0, 0])), (512, png(256, [255, 255, 255, 255])), (512, png(1, [9, 9, 9, 255]))]
    {
        let path = directory.path().join(format!("{side}-{}.mbtiles", blank.len()));
        let full = RgbaImage::from_fn(side, side, |x, y| image::Rgba([x as u8, y as u8, 0, 255]));
        let mut bytes = Cursor::new(Vec::new());
        full.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        let location = mbtiles(&path, &[], &[((1, 0, 0), blank), ((1, 1, 0), bytes.into_inner())]);
        let source = Source::open("s", &[location.into()], &options()).unwrap();
        let drawn = |x: u64| {
            let grid = TileCoord::try_new(1, x, 1).unwrap().georef(256);
            source.read_rgba(&CaptureSelection::default(), &grid, Resampling::Nearest).unwrap().rgba
        };
        assert!(drawn(0).chunks_exact(4).skip(256).step_by(7).all(|pixel| pixel[3] == 0), "{side}");
        assert!(drawn(1).chunks_exact(4).all(|pixel| pixel[3] == 255), "{side}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_slow_costs_no_tile() {
    let host = Host::start(|_, _| Reply { delay: Duration::from_millis(50), ..Reply::new(404, "nothing") });
    let router = server(&[format!("far={}", host.url("/{z}/{x}/{y}.png#zoom=0-4"))]);
    assert_eq!(get(&router, "/v1/sources/far/tiles/1/0/0.png").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_address_cannot_say_is_asked_for_and_its_secrets_are_not_repeated() {
    let host = Host::start(|_, _| Reply::new(403, "no"));
    let sources = ["/{z}/{x}/{y}.png?key=topsecret", "/{z}/{x}/{y}.png?key=topsecret#zoom=0-2"];
    let sources = sources.iter().enumerate().map(|(index, path)| format!("far{index}={}", host.url(path)));
    let router = server(&sources.collect::<Vec<_>>());
    let problem = get(&router, "/v1/sources/far0/tiles/0/0/0.png").await.problem(400);
    assert!(problem.contains("#zoom=0-18") && !problem.contains("topsecret"), "{problem}");
    let problem = get(&router, "/v1/sources/far1/tiles/0/0/0.png").await.problem(502);
    assert!(problem.contains("403") && !problem.contains("topsecret"), "{problem}");
    let list = get(&router, "/v1/sources").await;
    assert!(!String::from_utf8_lossy(&list.body).contains("topsecret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_may_be_counted_from_the_south_and_bounds_be_given() {
    let host = Host::start(|_, _| Reply::new(404, "nothing"));
    let router = server(&[format!("far={}", host.url("/{z}/{x}/{-y}.png#zoom=2-3&bounds=0,41,45,66.5"))]);
    let described = get(&router, "/v1/sources/far/tilejson.json").await.json();
    let bounds: Vec<f64> = described["bounds"].as_array().unwrap().iter().map(|edge| edge.as_f64().unwrap()).collect();
    for (found, wanted) in bounds.iter().zip([0.0, 41.0, 45.0, 66.5]) {
        assert!((found - wanted).abs() < 0.5, "{bounds:?}");
    }
    assert_eq!(get(&router, "/v1/sources/far/tiles/3/4/2.png").await.status, 200);
    let targets: Vec<String> = host.asked().into_iter().map(|asked| asked.target).collect();
    assert!(targets.contains(&"/3/4/5.png".to_owned()), "{targets:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mbtiles_archive_is_a_source() {
    let router = server(&[format!("quarter={}", fixture("north_east.mbtiles").display())]);
    let described = get(&router, "/v1/sources/quarter/tilejson.json").await.json();
    assert_eq!(described["maxzoom"], 3, "zoom 2 of 512 px tiles is zoom 3 of 256 px ones: {described}");
    for (name, limit) in [("2/2/1", 0.05), ("1/1/0", 0.05)] {
        let tile = |source: &str| format!("/v1/sources/{source}/tiles/{name}.png");
        let near = picture(&get(&router, &tile("world")).await);
        let share = differing(&near, &picture(&get(&router, &tile("quarter")).await), 48);
        assert!(share < limit, "{share} of the pixels of {name} are others than those of the imagery it was made of");
    }
    for empty in ["2/3/0", "1/0/1"] {
        let image = picture(&get(&router, &format!("/v1/sources/quarter/tiles/{empty}.png")).await);
        assert!(image.pixels().all(|pixel| pixel.0[3] == 0), "{empty}");
    }
    let of = |source: &str| format!("/v1/tiles/world/water/2/2/1.png?source={source}");
    let (near, far) = (picture(&get(&router, &of("world")).await), picture(&get(&router, &of("quarter")).await));
    let share = differing(&near, &far, 0);
    assert!(share < 0.15, "{share} of the predicted pixels differ");
}

fn open(path: &Path) -> Result<Patch, RasterError> {
    let raster = raster::open(Imagery::Location(&path.to_string_lossy()), None, &options())?.remove(0).raster;
    let (width, height) = (raster.info().width, raster.info().height);
    raster.read(0, PixelWindow { col: 0, row: 0, width: width.min(600), height: height.min(600) }, &[0, 1, 2])
}

#[test]
fn an_archive_without_metadata_lies_where_its_tiles_do() {
    let location = fixture("no_metadata.mbtiles").to_string_lossy().into_owned();
    let place = Source::open("bare", &[location.into()], &options()).unwrap().describe().extent.unwrap();
    let bounds = place.bounds_lon_lat;
    for (found, wanted) in [(bounds.min_x, 0.0), (bounds.max_x, 180.0), (bounds.min_y, 0.0), (bounds.max_y, 85.05)] {
        assert!((found - wanted).abs() < 1.5, "{bounds:?}");
    }
    assert_eq!(place.max_zoom, 1);
}

#[test]
fn archives_without_pictures_are_explained() {
    for (name, words) in [("vector.mbtiles", "vector tiles"), ("empty.mbtiles", "no tiles")] {
        let error = open(&fixture(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unusable);
        assert!(error.to_string().contains(words), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.mbtiles");
    rusqlite::Connection::open(&other).unwrap().execute("CREATE TABLE roads (id)", []).unwrap();
    let error = open(&other).unwrap_err();
    assert!(error.kind() == ErrorKind::Unusable && error.to_string().contains("tiles"), "{error}");
}

#[test]
fn damaged_archives_are_errors_and_nothing_worse() {
    let whole = std::fs::read(fixture("north_east.mbtiles")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.mbtiles");
    let mut refused = 0;
    let mut check = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        if let Err(error) = open(&path) {
            assert!(matches!(error.kind(), ErrorKind::Unusable | ErrorKind::UnsupportedMedia), "{error}");
            refused += 1;
        }
    };
    for end in (0..whole.len()).step_by(997) {
        check(&whole[..end]);
    }
    for at in (16..whole.len()).step_by(499) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        check(&damaged);
    }
    assert!(refused > 40, "{refused} were refused");
}
