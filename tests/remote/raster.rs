//! Rasters read by range.

use std::sync::Arc;
use std::time::Duration;

use satlas_serve::error::ErrorKind;
use satlas_serve::raster::{
    self, ChunkCache, GeoTiff, Imagery, Limits, OpenOptions, Patch, PixelWindow, Raster, RasterError, Source,
};
use satlas_serve::storage::RemoteError;

use super::client::{client, client_of, impatient_client};
use super::host::{Asked, Host, Reply, Stated};

const LIMITS: Limits = Limits { max_bytes: 64 << 20, max_pixels: 1 << 26 };

/// A GeoTIFF of a few hundred kilobytes with overviews.
fn world() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/static/demo/world.tif")).unwrap()
}

fn options() -> OpenOptions {
    OpenOptions { limits: LIMITS, chunks: ChunkCache::new(64 << 20), remote: Some(Arc::new(client())) }
}

fn open(host: &Host, path: &str) -> Result<Arc<dyn Raster>, RasterError> {
    Ok(raster::open(Imagery::Location(&host.url(path)), None, &options())?.remove(0).raster)
}

fn local() -> GeoTiff {
    GeoTiff::open("world.tif", Arc::new(bytes::Bytes::from(world())), &ChunkCache::new(64 << 20)).unwrap()
}

/// A window in the middle, as large as a fraction of the raster.
fn window(raster: &dyn Raster, fraction: usize) -> PixelWindow {
    let (width, height) = (raster.info().width, raster.info().height);
    PixelWindow {
        col: (width / 2) as i64,
        row: (height / 2) as i64,
        width: (width / fraction).max(1),
        height: (height / fraction).max(1),
    }
}

fn read(raster: &dyn Raster, fraction: usize) -> Result<Patch, RasterError> {
    raster.read(0, window(raster, fraction), &[0, 1, 2])
}

#[test]
fn a_remote_file_has_the_pixels_of_the_local_one_and_only_a_part_of_it_is_fetched() {
    let host = Host::with_file(world());
    let raster = open(&host, "/world.tif").unwrap();
    assert_eq!(host.asked().len(), 1, "one request opens a file with its directories in front");
    assert_eq!(raster.info(), local().info());
    assert_eq!(read(&*raster, 40).unwrap(), read(&local(), 40).unwrap());
    let (sent, size) = (host.sent(), world().len() as u64);
    assert!(sent < size / 2, "{sent} of {size} bytes");
    read(&*raster, 40).unwrap();
    assert_eq!(host.sent(), sent, "what was decoded is kept");
    assert_eq!(read(&*raster, 2).unwrap(), read(&local(), 2).unwrap());
    assert!(host.asked().iter().all(|asked| asked.range().is_some()));
}

#[test]
fn the_chunks_of_a_window_come_with_few_requests() {
    let host = Host::with_file(world());
    let raster = open(&host, "/world.tif").unwrap();
    let all = PixelWindow { col: 0, row: 0, width: raster.info().width, height: raster.info().height };
    raster.read(0, all, &[0]).unwrap();
    let asked = host.asked().len();
    assert!(asked <= 4, "{asked} requests");
    assert!(host.sent() <= world().len() as u64 + (64 << 10), "no byte comes twice");
}

#[test]
fn a_small_file_is_taken_whole_where_the_host_sends_no_parts() {
    let host = Host::start(|_, _| Reply::new(200, world()));
    let raster = open(&host, "/world.tif").unwrap();
    assert_eq!(read(&*raster, 10).unwrap(), read(&local(), 10).unwrap());
    assert_eq!(host.asked().len(), 1);
    let large = Host::start(|_, _| Reply { stated: Stated::Other(17 << 20), ..Reply::new(200, world()) });
    let error = open(&large, "/world.tif").err().unwrap();
    assert!(error.to_string().contains("range requests"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Upstream);
}

/// A host whose answers after the first differ from a good one's.
fn spoilt(spoil: impl Fn(Reply, &Asked, usize) -> Reply + Send + Sync + 'static) -> Host {
    Host::start(move |asked, before| {
        let reply = Reply::part(&world(), asked).header("etag", "\"one\"");
        if before == 0 { reply } else { spoil(reply, asked, before) }
    })
}

#[test]
fn a_file_that_changes_half_way_is_an_error_and_no_mixture() {
    let changes: [fn(Reply, &Asked, usize) -> Reply; 4] = [
        |_, asked, _| Reply::part(&world(), asked).header("etag", "\"two\""),
        |_, asked, _| Reply::part(&[world(), vec![0]].concat(), asked),
        |_, asked, _| Reply::part(&world()[..1000], asked),
        |_, _, _| Reply::new(200, b"another file".to_vec()),
    ];
    for change in changes {
        let raster = open(&spoilt(change), "/world.tif").unwrap();
        let error = read(&*raster, 2).unwrap_err();
        assert!(matches!(error, RasterError::Remote(RemoteError::Changed { .. })), "{error}");
    }
}

#[test]
fn machines_behind_one_name_may_each_have_validators_of_their_own() {
    let odd: [fn(Reply, usize) -> Reply; 4] = [
        |reply, before| reply.header("etag", format!("\"machine {}\"", before % 2)),
        |reply, before| reply.header("etag", format!("\"machine {}\"", before % 3)),
        |reply, before| {
            reply.header("etag", "W/\"one\"").header("last-modified", format!("Sat, 01 Jun 2024 0{}", before % 2))
        },
        |reply, before| reply.header("last-modified", format!("Sat, 01 Jun 2024 0{}", before % 2)),
    ];
    for odd in odd {
        let host = Host::start(move |asked, before| odd(Reply::part(&world(), asked), before));
        let raster = open(&host, "/world.tif").unwrap();
        assert_eq!(read(&*raster, 2).unwrap(), read(&local(), 2).unwrap());
        assert!(host.asked().len() < 20, "{} requests", host.asked().len());
    }
    // Tags that differ in every answer say nothing where the time of the last change agrees, and too much where it is not given.
    let stamped = Host::start(|asked, before| {
        let reply = Reply::part(&world(), asked).header("etag", format!("\"{before}\""));
        reply.header("last-modified", "Sat, 01 Jun 2024 10:00:00 GMT")
    });
    assert_eq!(read(&*open(&stamped, "/world.tif").unwrap(), 2).unwrap(), read(&local(), 2).unwrap());
    let random = Host::start(|asked, before| Reply::part(&world(), asked).header("etag", format!("\"{before}\"")));
    assert!(read(&*open(&random, "/world.tif").unwrap(), 2).unwrap_err().to_string().contains("has changed"));
}

#[test]
fn hosts_are_read_whatever_they_call_the_coding_of_a_file() {
    for coding in ["aws-chunked", "", "utf-8", "binary", "identity", "gzip"] {
        let host = Host::start(move |asked, _| Reply::part(&world(), asked).header("content-encoding", coding));
        let raster = open(&host, "/world.tif").unwrap();
        assert_eq!(read(&*raster, 2).unwrap(), read(&local(), 2).unwrap(), "{coding}");
    }
    let packed = |bytes: &[u8]| {
        let mut packed = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()), &mut packed)
            .unwrap();
        packed
    };
    let stored = packed(&world());
    let host = Host::start(move |asked, _| Reply::part(&stored, asked).header("content-encoding", "gzip"));
    assert_eq!(read(&*open(&host, "/world.tif").unwrap(), 2).unwrap(), read(&local(), 2).unwrap(), "stored packed");
    let huge = packed(&vec![0; 17 << 20]);
    let host = Host::start(move |asked, _| Reply::part(&huge, asked).header("content-encoding", "gzip"));
    assert_eq!(open(&host, "/a.tif").err().unwrap().kind(), ErrorKind::Upstream);
    let host = Host::start(move |asked, _| Reply::part(&world(), asked).header("content-encoding", "br"));
    assert!(open(&host, "/a.tif").err().unwrap().to_string().contains("stored packed (br)"));
}

#[test]
fn a_length_that_parts_do_not_state_is_asked_for() {
    let host = Host::start(|asked, _| match (asked.method.as_str(), asked.range()) {
        ("HEAD", _) => Reply { stated: Stated::Other(world().len()), ..Reply::new(200, "") },
        (_, Some((first, last))) => {
            let last = last.min(world().len() - 1);
            Reply::new(206, &world()[first..=last]).header("content-range", format!("bytes {first}-{last}/*"))
        }
        _ => Reply::new(400, "a part has to be asked for"),
    });
    assert_eq!(read(&*open(&host, "/world.tif").unwrap(), 2).unwrap(), read(&local(), 2).unwrap());
}

#[test]
fn a_host_may_send_more_than_the_part_that_was_asked_for() {
    let host = Host::start(|asked, _| match asked.range() {
        Some((first, last)) => {
            let (first, last) = (first / 100_000 * 100_000, (last / 100_000 + 1) * 100_000 - 1);
            let last = last.min(world().len() - 1);
            Reply::new(206, &world()[first..=last])
                .header("content-range", format!("Bytes {first}-{last}/{}", world().len()))
        }
        None => Reply::new(400, "a part has to be asked for"),
    });
    assert_eq!(read(&*open(&host, "/world.tif").unwrap(), 2).unwrap(), read(&local(), 2).unwrap());
}

#[test]
fn addresses_are_percent_encoded_on_the_way() {
    let host = Host::start(|asked, _| match asked.target.as_str() {
        "/B%C3%A4nder/welt%201.tif" => Reply::part(&world(), asked),
        "/moved.tif" => Reply::new(302, "").header("location", "/B\u{e4}nder/welt 1.tif"),
        _ => Reply::new(404, "nothing"),
    });
    for path in ["/B\u{e4}nder/welt 1.tif", "/B%C3%A4nder/welt%201.tif", "/moved.tif"] {
        assert_eq!(read(&*open(&host, path).unwrap(), 2).unwrap(), read(&local(), 2).unwrap(), "{path}");
    }
}

#[test]
fn what_fails_half_way_is_repeated() {
    let host = spoilt(|reply, _, before| match before {
        1 => Reply::new(500, "oops"),
        2 => Reply { stated: Stated::Other(reply.body.len()), body: reply.body[..10].to_vec(), ..reply },
        3 => Reply { stalls: true, ..reply },
        _ => reply,
    });
    let remote = Some(Arc::new(impatient_client(Duration::from_secs(2))));
    let options = OpenOptions { remote, ..options() };
    let raster = raster::open(Imagery::Location(&host.url("/world.tif")), None, &options).unwrap().remove(0).raster;
    // The third attempt at the first part is never answered, so that this read fails, and the next succeeds.
    let small = PixelWindow { width: 1, height: 1, ..window(&*raster, 2) };
    assert_eq!(raster.read(0, small, &[0]).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(raster.read(0, small, &[0]).unwrap(), local().read(0, small, &[0]).unwrap());
    assert_eq!(read(&*raster, 2).unwrap(), read(&local(), 2).unwrap());
}

#[test]
fn a_wrong_part_or_a_wrong_length_is_an_error() {
    let host = spoilt(|reply, _, _| Reply { body: reply.body[1..].to_vec(), ..reply });
    let error = read(&*open(&host, "/world.tif").unwrap(), 2).unwrap_err();
    assert!(error.to_string().contains("another range"), "{error}");
    let unknown = Host::start(|asked, _| match asked.method.as_str() {
        "HEAD" => Reply { stated: Stated::Nothing, ..Reply::new(200, "") },
        _ => Reply::new(206, vec![0; 100]).header("content-range", "bytes 0-99/*"),
    });
    assert!(open(&unknown, "/a.tif").err().unwrap().to_string().contains("length is not stated"));
    let lies = Host::start(|asked, _| {
        let reply = Reply::part(&world(), asked);
        Reply { headers: vec![("content-range", "bytes 0-65535/18446744073709551615".to_owned())], ..reply }
    });
    // The directories are in the first block; what they point to lies in the file, wherever that may end.
    let raster = open(&lies, "/world.tif").unwrap();
    assert!(read(&*raster, 2).is_err());
}

#[test]
fn damaged_files_stay_the_files_fault() {
    let host = Host::with_file(world()[..5000].to_vec());
    let error = open(&host, "/world.tif").and_then(|raster| read(&*raster, 2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unusable, "{error}");
    let page = Host::with_file(b"<html>not found</html>".to_vec());
    assert_eq!(open(&page, "/a.tif").err().unwrap().kind(), ErrorKind::UnsupportedMedia);
    let empty = Host::with_file(Vec::new());
    assert!(open(&empty, "/a.tif").is_err());
}

#[test]
fn other_pictures_are_fetched_whole_and_within_the_limit() {
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8, y as u8, 3]))
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    let host = Host::with_file(png.into_inner());
    assert_eq!(open(&host, "/a.png?size=9").unwrap().info().width, 9);
    let strict = OpenOptions { limits: Limits { max_bytes: 20, ..LIMITS }, ..options() };
    let error = raster::open(Imagery::Location(&host.url("/a.png")), None, &strict).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn a_source_of_addresses_has_a_version_per_content_and_a_title_without_secrets() {
    let host = Host::with_file(world());
    let url = host.url("/2024/world_20240601T104021.tif?sig=topsecret");
    let source = Source::open("world", &[url.as_str().into()], &options()).unwrap();
    assert_eq!(source.title, "world_20240601T104021");
    assert!(source.captures()[0].datetime.is_some());
    assert!(!format!("{source:?}").contains("topsecret"));
    let again = Source::open("world", &[url.into()], &options()).unwrap();
    assert_eq!(source.version, again.version);
    let other = Host::start(|asked, _| Reply::part(&world(), asked).header("etag", "\"two\""));
    assert_ne!(source.version, Source::open("world", &[other.url("/world.tif").into()], &options()).unwrap().version);
}

#[test]
fn without_a_client_or_leave_nothing_is_fetched() {
    let host = Host::with_file(world());
    for remote in [None, Some(Arc::new(client_of(&[], true)))] {
        let error = raster::open(Imagery::Location(&host.url("/world.tif")), None, &OpenOptions { remote, ..options() })
            .unwrap_err();
        assert!(error.to_string().contains("--allow-host 127.0.0.1"), "{error}");
    }
    assert!(host.asked().is_empty());
}
