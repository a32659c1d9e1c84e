//! Sources of several files: time series, and directories of one-band files.

use std::path::{Path, PathBuf};

use satlas_serve::raster::{
    self, CaptureSelection, ChunkCache, Imagery, Limits, Location, OpenOptions, PixelWindow, Raster, Resampling, Source,
    warp,
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
    let named = ["x_20240701T100000.tif", "x_20240601T100000.tif", "x_20230101T000000.tif"]
        .map(|name| Location::from(location(&files.path().join(name))));
    let source = Source::open("series", &named, &options()).unwrap();
    let datetimes: Vec<String> = source.describe().datetimes.into_iter().flatten().collect();
    assert_eq!(datetimes, ["2023-01-01T00:00:00Z", "2024-06-01T10:00:00Z", "2024-07-01T10:00:00Z"]);
    assert_eq!(source.select(&selection(None, Some("2024-06-01/.."))).unwrap(), [1, 2]);
    assert_eq!(source.select(&selection(Some(vec![2, 0, 2]), None)).unwrap(), [0, 2]);
    assert_eq!(source.select(&selection(Some(vec![0]), Some("2024-06-01"))).unwrap(), [0usize; 0]);
    assert!(source.select(&selection(Some(vec![3]), None)).is_err());
}

#[test]
fn the_time_that_is_named_goes_before_the_files_own() {
    let files = directory(&["x_20240701T100000.tif", "bare.tif"]);
    let dated = |name: &str, datetime: &str| Location::dated(&location(&files.path().join(name)), datetime).unwrap();
    let series = |named: &[Location]| Source::open("series", named, &options()).unwrap();
    let named = [dated("x_20240701T100000.tif", "2020-01-02"), dated("bare.tif", "2019-12-31T23:00:00-02:00")];
    let source = series(&named);
    let datetimes: Vec<String> = source.describe().datetimes.into_iter().flatten().collect();
    assert_eq!(datetimes, ["2020-01-01T01:00:00Z", "2020-01-02T00:00:00Z"]);
    assert_eq!(source.select(&selection(None, Some("2020-01-02"))).unwrap(), [1]);
    let other = series(&[named[0].clone(), dated("bare.tif", "2021-01-01")]);
    assert_ne!(source.version, other.version, "answers for times depend on them");
    let several = Location::dated(&location(&fixture("safe")), "2024-06-01").unwrap();
    let error = Source::open("series", &[several], &options()).unwrap_err().to_string();
    assert!(error.contains("single capture"), "{error}");
    let search = Location::dated("stac+https://a.org/search?collections=b", "2024-06-01").unwrap();
    let error = Source::open("series", &[search], &options()).unwrap_err().to_string();
    assert!(error.contains("a search finds"), "{error}");
    assert!(Location::dated("a.tif", "2024-06-01/2024-06-02").is_err());
}

#[test]
fn band_files_of_one_time_are_one_capture_with_the_bands_names() {
    let names = ["T33_20240601T100000_B03.tif", "T33_20240601T100000_B8A.tif", "T33_20240701T100000_B03.tif"];
    let files = directory(&names);
    let captures = raster::open(Imagery::Location(&location(files.path())), None, &options()).unwrap();
    assert_eq!(captures.len(), 2);
    let bands = |capture: usize| -> Vec<String> {
        let bands = &captures[capture].raster.info().bands;
        bands.iter().filter_map(|band| band.description.clone()).collect()
    };
    assert_eq!(bands(0), ["B03", "B8A"]);
    assert_eq!(bands(1), ["B03"]);
}

#[test]
fn landsat_bundles_are_a_capture_per_date_without_flags_and_angles() {
    let scene = |dates: &str, rest: &str| format!("LC08_L1TP_173059_{dates}_02_T1_{rest}.TIF");
    let mut names = Vec::new();
    for dates in ["20220722_20220802", "20220706_20220722"] {
        names.extend(["B1", "B2", "B10", "QA_PIXEL", "QA_RADSAT", "SAA", "VZA"].map(|rest| scene(dates, rest)));
    }
    // A neighbour of the same pass.
    names.push(scene("20220722_20220802", "B1").replace("173059", "173060"));
    names.push(scene("20220722_20220802", "B2").replace("173059", "173060"));
    names.push(scene("20220722_20220802", "B10").replace("173059", "173060"));
    let files = directory(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let source = Source::open("landsat", &[location(files.path()).into()], &options()).unwrap();
    let info = source.describe();
    let times: Vec<String> = info.datetimes.into_iter().flatten().collect();
    assert_eq!(times, ["2022-07-06T00:00:00Z", "2022-07-22T00:00:00Z", "2022-07-22T00:00:00Z"]);
    let bands: Vec<String> = info.bands.into_iter().filter_map(|band| band.description).collect();
    assert_eq!(bands, ["B1", "B10", "B2"]);
}

#[test]
fn sentinel_1_products_are_captures_of_their_polarisations() {
    let products = tempfile::tempdir().unwrap();
    for day in ["20240613", "20240601"] {
        let folder =
            products.path().join(format!("S1A_IW_GRDH_1SDV_{day}T051234_{day}T051259_054123_069ABC_D2E3.SAFE/measurement"));
        std::fs::create_dir_all(&folder).unwrap();
        for (polarisation, number) in [("vv", 1), ("vh", 2)] {
            let name = format!("s1a-iw-grd-{polarisation}-{day}t051234-{day}t051259-054123-069abc-00{number}.tiff");
            std::fs::copy(fixture("places/utm_north.tif"), folder.join(name)).unwrap();
        }
    }
    let captures = raster::open(Imagery::Location(&location(products.path())), None, &options()).unwrap();
    let times: Vec<String> = captures.iter().filter_map(|capture| Some(capture.datetime?.to_string())).collect();
    assert_eq!(times, ["2024-06-01T05:12:34Z", "2024-06-13T05:12:34Z"]);
    let bands = captures[0].raster.info().bands.iter().filter_map(|band| band.description.as_deref());
    assert_eq!(bands.collect::<Vec<_>>(), ["VH", "VV"]);
    let folder = std::fs::read_dir(products.path()).unwrap().next().unwrap().unwrap().path();
    let one = raster::open(Imagery::Location(&location(&folder)), None, &options()).unwrap();
    assert_eq!(one.len(), 1);
}

#[test]
fn a_band_that_occurs_twice_is_refused_and_an_undated_series_warns() {
    let files = directory(&["a_B02.tif", "a_2_B02.tif", "b_B03.tif"]);
    let captures = raster::open(Imagery::Location(&location(files.path())), None, &options());
    assert_eq!(captures.unwrap().len(), 3, "scenes of their own");
    let twice = directory(&["a_B02.tif", "a_B2.tif"]);
    let error = raster::open(Imagery::Location(&location(twice.path())), None, &options()).unwrap_err().to_string();
    assert!(error.contains("holds B2 twice (the second is a_B2.tif)"), "{error}");

    let series = |names: &[&str]| {
        let files = directory(names);
        let named: Vec<Location> = names.iter().map(|name| location(&files.path().join(name)).into()).collect();
        Source::open("series", &named, &options()).unwrap().undated_warning()
    };
    assert_eq!(series(&["x_20240601.tif", "x-2024-07-01.tif", "x_2024_08_01.tif"]), None);
    assert_eq!(series(&["one.tif"]), None);
    let warning = series(&["x_20240601.tif", "june.tif"]).unwrap();
    assert!(warning.starts_with("1 of 2 captures have no time") && warning.contains("ID@2024-06-01=FILE"), "{warning}");
}

#[test]
fn every_band_file_is_warped_on_its_own_grid() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("places/utm_north.tif"), directory.path().join("B02.tif")).unwrap();
    std::fs::copy(fixture("places/utm_north.tif"), directory.path().join("B03.tif")).unwrap();
    let captures = raster::open(Imagery::Location(&location(directory.path())), None, &options()).unwrap();
    let (whole, alone) = (
        &captures[0].raster,
        raster::open(Imagery::Location(&location(&directory.path().join("B02.tif"))), None, &options()),
    );
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

/// What `make_safe.py` wrote at a place, metres from the north-western corner, into the band of that number.
fn plane(east_m: f64, south_m: f64, number: usize) -> f32 {
    (1000.0 + 100.0 * number as f64 + (east_m + 2.0 * south_m) / 5.0) as f32
}

const SAFE_L1C: &str = "safe/S2A_MSIL1C_20240601T100559_N0510_R022_T33UUP_20240601T121212.SAFE";
const SAFE_L2A: &str = "safe/S2B_MSIL2A_20210601T100559_N0300_R022_T33UUP_20210601T121212.SAFE";

fn descriptions(raster: &dyn Raster) -> Vec<&str> {
    raster.info().bands.iter().filter_map(|band| band.description.as_deref()).collect()
}

#[test]
fn a_safe_folder_is_one_capture_of_all_bands_each_on_its_own_grid() {
    let captures = raster::open(Imagery::Location(&location(&fixture(SAFE_L1C))), None, &options()).unwrap();
    assert_eq!(captures.len(), 1);
    assert_eq!(captures[0].datetime.unwrap().to_string(), "2024-06-01T10:05:59.024Z");
    let raster = &*captures[0].raster;
    let names = [
        "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A", "tci_r", "tci_g",
        "tci_b",
    ];
    assert_eq!(descriptions(raster), names);
    assert!(raster.warnings().is_empty());
    let info = raster.info();
    assert_eq!((info.width, info.height), (60, 60));
    // Half a 10 m pixel off its own grid, away from the edges, where 60 m pixels have neighbours on all sides.
    let mut grid = info.georef.clone().unwrap();
    assert_eq!(grid.crs.to_string(), "EPSG:32633");
    grid.transform = grid.transform.shifted(10.5, 12.5);
    (grid.width, grid.height) = (30, 30);
    // B02 at 10 m, B05 at 20 m, B01 at 60 m, and B03, which only MTD_TL.xml places.
    let patch = warp(raster, &grid, &[1, 4, 0, 2], Resampling::Bilinear).unwrap();
    for (pixel, values) in patch.pixels.chunks_exact(4).enumerate() {
        let (east, south) = ((pixel % 30) as f64 * 10.0 + 110.0, (pixel / 30) as f64 * 10.0 + 130.0);
        for (value, number) in values.iter().zip([1, 4, 0, 2]) {
            let expected = plane(east, south, number);
            assert!((value - expected).abs() < 0.05, "band {number} at {east}, {south}: {value}, not {expected}");
        }
    }
}

#[test]
fn zero_is_no_data_in_a_safe_folder_and_the_baselines_offset_is_declared() {
    let captures = raster::open(Imagery::Location(&location(&fixture(SAFE_L1C))), None, &options()).unwrap();
    let raster = &*captures[0].raster;
    let patch = raster.read(0, PixelWindow { col: 0, row: 0, width: 60, height: 60 }, &[1]).unwrap();
    assert!((0..3600).all(|pixel| patch.valid[pixel] == (pixel % 60 < 58)));
    let (first, colour) = (&raster.info().bands[1], &raster.info().bands[13]);
    assert!((first.offset / first.scale + 1000.0).abs() < 1e-6);
    assert_eq!((colour.offset, colour.scale), (0.0, 1.0), "the true-colour image has no offset");
}

#[test]
fn a_level_2a_folder_has_each_band_at_its_finest_and_says_what_it_is() {
    let captures = raster::open(Imagery::Location(&location(&fixture(SAFE_L2A))), None, &options()).unwrap();
    let raster = &*captures[0].raster;
    assert_eq!(descriptions(raster), ["B01", "B02", "B03", "B04", "B05", "B08"]);
    assert!(raster.warnings().join(" ").contains("Level-2A"));
    let window = PixelWindow { col: 20, row: 20, width: 3, height: 1 };
    let found = raster.read(0, window, &[1]).unwrap().pixels;
    assert_eq!(found, [205.0, 215.0, 225.0].map(|east| plane(east, 205.0, 1)));
    assert_eq!(raster.info().bands[1].offset, 0.0, "baseline 03.00 has no offset");
}

#[test]
fn a_directory_of_safe_folders_is_a_time_series() {
    let captures = raster::open(Imagery::Location(&location(&fixture("safe"))), None, &options()).unwrap();
    let times: Vec<String> = captures.iter().filter_map(|capture| Some(capture.datetime?.to_string())).collect();
    assert_eq!(times, ["2021-06-01T10:05:59.024Z", "2024-06-01T10:05:59.024Z"], "in time order, whatever the names");
}

#[test]
fn a_directory_without_rasters_or_of_two_kinds_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    assert!(raster::open(Imagery::Location(&location(empty.path())), None, &options()).is_err());
    let mixed = directory(&["B02.tif", "scene.tif"]);
    let error = raster::open(Imagery::Location(&location(mixed.path())), None, &options()).unwrap_err().to_string();
    assert!(error.contains("B02.tif") && error.contains("scene.tif"), "{error}");
}

#[test]
fn the_version_of_a_source_changes_with_any_of_its_files() {
    let files = directory(&["B02.tif", "B03.tif"]);
    let version = || Source::open("s", &[location(files.path()).into()], &options()).unwrap().version;
    let before = version();
    assert_eq!(before, version());
    std::fs::remove_file(files.path().join("B03.tif")).unwrap();
    assert_ne!(before, version());
}
