//! Sources of several files: time series, and directories of one-band files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use satlas_serve::raster::{
    CaptureSelection, ChunkCache, Limits, OpenOptions, PixelWindow, Resampling, Source, open_location, warp,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/raster").join(name)
}

fn options() -> OpenOptions {
    let limits = Limits { max_bytes: 1 << 20, max_pixels: 1 << 20 };
    OpenOptions { limits, chunks: ChunkCache::new(1 << 20), remote: None }
}

/// A directory with copies of a one-band fixture under the given names.
fn directory(names: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::copy(fixture("places/utm_north.tif"), directory.path().join(name)).unwrap();
    }
    directory
}

fn location(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn selection(captures: Option<Vec<usize>>, datetime: Option<&str>) -> CaptureSelection {
    CaptureSelection { captures, datetime: datetime.map(|text| text.parse().unwrap()) }
}

#[test]
fn files_of_one_id_are_captures_in_time_order() {
    let files = directory(&["x_20240701T100000.tif", "x_20240601T100000.tif", "x_20230101T000000.tif"]);
    let named: Vec<String> = ["x_20240701T100000.tif", "x_20240601T100000.tif", "x_20230101T000000.tif"]
        .map(|name| location(&files.path().join(name)))
        .to_vec();
    let source = Source::open("series", &named, &options()).unwrap();
    let datetimes: Vec<String> = source.describe().datetimes.into_iter().flatten().collect();
    assert_eq!(datetimes, ["2023-01-01T00:00:00Z", "2024-06-01T10:00:00Z", "2024-07-01T10:00:00Z"]);
    assert_eq!(source.select(&selection(None, Some("2024-06-01/.."))).unwrap(), [1, 2]);
    assert_eq!(source.select(&selection(Some(vec![2, 0, 2]), None)).unwrap(), [0, 2]);
    assert_eq!(source.select(&selection(Some(vec![0]), Some("2024-06-01"))).unwrap(), [0usize; 0]);
    assert!(source.select(&selection(Some(vec![3]), None)).is_err());
}

#[test]
fn band_files_of_one_time_are_one_capture_with_the_bands_names() {
    let names = ["T33_20240601T100000_B03.tif", "T33_20240601T100000_B8A.tif", "T33_20240701T100000_B03.tif"];
    let files = directory(&names);
    let captures = open_location(&location(files.path()), &options()).unwrap();
    assert_eq!(captures.len(), 2);
    let bands = |capture: usize| -> Vec<String> {
        let bands = &captures[capture].raster.info().bands;
        bands.iter().filter_map(|band| band.description.clone()).collect()
    };
    assert_eq!(bands(0), ["B03", "B8A"]);
    assert_eq!(bands(1), ["B03"]);
}

#[test]
fn every_band_file_is_warped_on_its_own_grid() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("places/utm_north.tif"), directory.path().join("B02.tif")).unwrap();
    std::fs::copy(fixture("places/utm_north.tif"), directory.path().join("B03.tif")).unwrap();
    let captures = open_location(&location(directory.path()), &options()).unwrap();
    let (whole, alone) = (&captures[0].raster, open_location(&location(&directory.path().join("B02.tif")), &options()));
    let alone = alone.unwrap().remove(0).raster;
    let info = alone.info();
    let mut grid = info.georef.clone().unwrap();
    grid.transform = grid.transform.shifted(3.3, 2.6);
    (grid.width, grid.height) = (20, 15);
    let expected = warp(&*alone, &grid, &[0], Resampling::Bilinear).unwrap();
    let found = warp(&**whole, &grid, &[1, 0], Resampling::Bilinear).unwrap();
    for (pixel, value) in expected.pixels.iter().enumerate() {
        assert_eq!(found.pixels[pixel * 2..][..2], [*value, *value]);
    }
    assert_eq!(found.valid, expected.valid);
    let window = PixelWindow { col: 2, row: 1, width: 9, height: 7 };
    assert_eq!(whole.read(0, window, &[0]).unwrap(), alone.read(0, window, &[0]).unwrap());
    assert!(whole.read(0, window, &[2]).is_err());
}

#[test]
fn a_directory_without_rasters_or_of_two_kinds_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    assert!(open_location(&location(empty.path()), &options()).is_err());
    let mixed = directory(&["B02.tif", "scene.tif"]);
    let error = open_location(&location(mixed.path()), &options()).unwrap_err().to_string();
    assert!(error.contains("B02.tif") && error.contains("scene.tif"), "{error}");
}

#[test]
fn the_version_of_a_source_changes_with_any_of_its_files() {
    let files = directory(&["B02.tif", "B03.tif"]);
    let version = || Source::open("s", &[location(files.path())], &options()).unwrap().version;
    let before = version();
    assert_eq!(before, version());
    std::fs::remove_file(files.path().join("B03.tif")).unwrap();
    assert_ne!(before, version());
}
