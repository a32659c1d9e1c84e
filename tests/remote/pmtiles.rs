//! PMTiles archives as imagery: from this machine and from hosts, with directories below the root, and damaged in every way.

use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use image::RgbaImage;
use satlas_serve::config::ServerSettings;
use satlas_serve::error::ErrorKind;
use satlas_serve::raster::{self, ChunkCache, Imagery, Limits, OpenOptions, Patch, PixelWindow, RasterError};

use crate::common::{Reply as Answer, loopback, router_with, send, settings};
use crate::host::{Host, Reply};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiles").join(name)
}

fn options() -> OpenOptions {
    OpenOptions { limits: Limits::NONE, chunks: ChunkCache::new(64 << 20), remote: None }
}

/// Opens an archive and reads the corner of it.
fn open(path: &Path) -> Result<Patch, RasterError> {
    let raster = raster::open(Imagery::Location(&path.to_string_lossy()), None, &options())?.remove(0).raster;
    let (width, height) = (raster.info().width, raster.info().height);
    raster.read(0, PixelWindow { col: 0, row: 0, width: width.min(600), height: height.min(600) }, &[0, 1, 2])
}

fn server(sources: &[String]) -> Router {
    let server = ServerSettings { source: sources.to_vec(), remote: loopback(false), ..ServerSettings::default() };
    router_with(settings().0, server)
}

async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

fn picture(answer: &Answer) -> RgbaImage {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    image::load_from_memory(&answer.body).unwrap().into_rgba8()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_the_source_that_mbtiles_of_the_same_tiles_are() {
    let archive = std::fs::read(fixture("north_east.pmtiles")).unwrap();
    let host = Host::start(move |asked, _| Reply::part(&archive, asked));
    let places = [
        format!("sqlite={}", fixture("north_east.mbtiles").display()),
        format!("near={}", fixture("north_east.pmtiles").display()),
        format!("far={}", host.url("/north_east.pmtiles")),
    ];
    let router = server(&places);
    for path in [
        "/v1/sources/SOURCE/tiles/2/2/1.png",
        "/v1/sources/SOURCE/tiles/1/1/0.png",
        "/v1/sources/SOURCE/tiles/2/3/0.png",
        "/v1/sources/SOURCE/tiles/1/0/1.png",
        "/v1/tiles/world/water/2/2/1.png?source=SOURCE",
    ] {
        let wanted = picture(&get(&router, &path.replace("SOURCE", "sqlite")).await);
        for source in ["near", "far"] {
            assert!(picture(&get(&router, &path.replace("SOURCE", source)).await) == wanted, "{path} of {source}");
        }
    }
    let zooms = get(&router, "/v1/sources/far/tilejson.json").await.json();
    assert_eq!(zooms["maxzoom"], get(&router, "/v1/sources/sqlite/tilejson.json").await.json()["maxzoom"]);
}

#[test]
fn tiles_are_found_through_directories_below_the_root() {
    let location = fixture("swatches.pmtiles").to_string_lossy().into_owned();
    let raster = raster::open(Imagery::Location(&location), None, &options()).unwrap().remove(0).raster;
    assert_eq!((raster.info().width, raster.info().height), (64 << 7, 64 << 7));
    for (x, y) in [(0u32, 0u32), (127, 127), (3, 5), (64, 63), (90, 17)] {
        let window = PixelWindow { col: i64::from(x) * 64 + 5, row: i64::from(y) * 64 + 9, width: 1, height: 1 };
        let found = raster.read(0, window, &[0, 1, 2]).unwrap();
        // The colour that the fixture's script gives the tile.
        let mixed = x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519);
        let index = (mixed >> 13) % 256;
        assert_eq!(found.pixels, [index as f32, (255 - index) as f32, 7.0], "{x}/{y}");
    }
}

/// The first bytes of an archive with one of them changed, and the archive behind them.
fn changed(name: &str, at: usize, value: u8) -> Vec<u8> {
    let mut bytes = std::fs::read(fixture(name)).unwrap();
    bytes[at] = value;
    bytes
}

#[test]
fn archives_that_cannot_be_read_say_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.pmtiles");
    let name = "north_east.pmtiles";
    for (bytes, words) in [
        (std::fs::read(fixture("vector.pmtiles")).unwrap(), "vector tiles"),
        (changed(name, 7, 2), "version 2"),
        (changed(name, 97, 3), "Brotli"),
        (changed(name, 97, 4), "Zstandard"),
        (changed(name, 97, 0), "gzip or none"),
        (changed(name, 97, 1), "a directory"),
        (changed(name, 98, 4), "tiles packed by Zstandard"),
        (changed(name, 98, 2), "damaged"),
        (changed(name, 99, 5), "AVIF"),
        (changed(name, 100, 9), "zooms are 9 to 2"),
        (changed(name, 101, 99), "zooms are 1 to 99"),
        (changed(name, 22, 1), "bytes; 4194304 are accepted"),
        (changed(name, 8, 20), "damaged"),
        (std::fs::read(fixture(name)).unwrap()[..100].to_vec(), "ends at 100"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = open(&path).unwrap_err();
        assert!(error.kind() == ErrorKind::Unusable && error.to_string().contains(words), "{words}: {error}");
    }
}

/// An archive whose directories are these, without packing; tiles and leaves follow each other from byte 127 + root on.
fn archive(root: &[u8], leaves: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 127];
    bytes[..8].copy_from_slice(b"PMTiles\x03");
    let root_end = 127 + root.len() as u64;
    for (at, value) in [(8, 127), (16, root.len() as u64), (40, root_end), (48, leaves.len() as u64)] {
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes[97..102].copy_from_slice(&[1, 1, 2, 0, 2]);
    bytes.extend(root);
    bytes.extend(leaves);
    bytes
}

#[test]
fn directories_in_a_circle_end() {
    // The root and the leaf both say: a directory of 5 bytes at 0 of the leaves.
    let around = [1, 0, 0, 5, 1];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("circle.pmtiles");
    std::fs::write(&path, archive(&around, &around)).unwrap();
    let error = open(&path).unwrap_err();
    assert!(error.kind() == ErrorKind::Unusable && error.to_string().contains("deep"), "{error}");
    for (root, words) in [(&[0][..], "no tiles"), (&[1, 0, 0, 9, 1], "are named"), (&[1, 0, 1, 9, 1], "are named")] {
        std::fs::write(&path, archive(root, &around)).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn damaged_archives_are_errors_and_nothing_worse() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.pmtiles");
    let mut refused = 0;
    for name in ["north_east.pmtiles", "swatches.pmtiles"] {
        let whole = std::fs::read(fixture(name)).unwrap();
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
        for at in (0..300).chain((300..whole.len()).step_by(499)) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            check(&damaged);
        }
    }
    assert!(refused > 200, "{refused} were refused");
}
