//! JPEG 2000 against what GDAL wrote and reads: every sample type, tiles, overviews, both kinds of georeference, and damage.
//!
//! The fixtures come from `fixtures/raster/make_jpeg2000.py`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use satlas_serve::error::ErrorKind;
use satlas_serve::georef::{GeoTransform, Georef};
use satlas_serve::raster::{
    self, ChunkCache, Imagery, Jpeg2000, Limits, OpenOptions, Overview, Patch, PixelWindow, Raster, RasterError,
    Resampling, SampleType,
};
use serde_json::Value;

const LIMITS: Limits = Limits { max_bytes: 16 << 20, max_pixels: 1 << 22 };

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/raster").join(name)
}

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn open(name: &str, bytes: Vec<u8>) -> Result<Jpeg2000, RasterError> {
    Jpeg2000::open(name, Arc::new(Bytes::from(bytes)), &ChunkCache::new(1 << 20))
}

fn whole(raster: &dyn Raster, level: usize) -> Result<Patch, RasterError> {
    let info = raster.info();
    let (width, height) = if level == 0 { (info.width, info.height) } else { info.overviews[level - 1].size() };
    let bands: Vec<usize> = (0..info.bands.len()).collect();
    raster.read(level, PixelWindow { col: 0, row: 0, width, height }, &bands)
}

#[test]
fn every_layout_is_read_as_it_was_written() {
    let cases: Vec<Value> = serde_json::from_slice(&bytes_of("jpeg2000.json")).unwrap();
    assert!(cases.len() >= 10);
    for case in cases {
        let name = case["file"].as_str().unwrap();
        let raster = open(name, bytes_of(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let info = raster.info();
        let bands = case["bands"].as_u64().unwrap() as usize;
        assert_eq!((info.width, info.height, info.bands.len()), (85, 70, bands), "{name}");
        let patch = whole(&raster, 0).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(patch.valid.iter().all(|valid| *valid), "{name}");
        let number = |key: &str| case[key].as_f64().unwrap();
        for (index, value) in patch.pixels.iter().enumerate() {
            let (row, col, band) = (index / bands / 85, index / bands % 85, index % bands);
            let smooth = case["smooth"] == true;
            let pattern = if smooth { 2 * row + col + 10 * band } else { (7 * row + 13 * col + 31 * band) % 251 };
            let expected = pattern as f64 * number("scale") + number("offset");
            let difference = (f64::from(*value) - expected).abs();
            assert!(
                difference <= number("tolerance"),
                "{name}: row {row} col {col} band {band} is {value}, not {expected}"
            );
        }
        let Some(georef) = &info.georef else {
            assert!(name.contains("bare_codestream"), "{name} has no georeference");
            continue;
        };
        let expected_crs = if name.contains("degrees") { "EPSG:4326" } else { "EPSG:32633" };
        assert_eq!(georef.crs.to_string(), expected_crs, "{name}");
        let t = georef.transform;
        let found = [t.pixel_width, t.row_skew, t.origin_x, t.col_skew, t.pixel_height, t.origin_y];
        for (found, expected) in found.iter().zip(case["transform"].as_array().unwrap()) {
            assert!((found - expected.as_f64().unwrap()).abs() < 1e-6, "{name}: {t:?}");
        }
    }
}

#[test]
fn sample_types_are_those_of_the_file() {
    for (name, expected) in
        [("u8_one_tile", SampleType::U8), ("u16_fifteen_bits", SampleType::U16), ("i16_tiled", SampleType::I16)]
    {
        let name = format!("jpeg2000/{name}.jp2");
        assert_eq!(open(&name, bytes_of(&name)).unwrap().info().sample_type, expected, "{name}");
    }
}

#[test]
fn overviews_are_what_gdal_reads_of_them() {
    let raster = open("overviews", bytes_of("jpeg2000/special_overviews.jp2")).unwrap();
    assert_eq!(raster.info().overviews.iter().map(Overview::size).collect::<Vec<_>>(), [(145, 135), (73, 68), (37, 34)]);
    let golden = image::open(fixture("jpeg2000/special_overviews.png")).unwrap().into_rgb8();
    let patch = whole(&raster, 1).unwrap();
    // The file is lossy; the two decoders round the wavelets' results, each in its own arithmetic.
    let most = patch.pixels.iter().zip(golden.as_raw()).map(|(a, b)| (a - f32::from(*b)).abs()).fold(0.0, f32::max);
    assert!(most <= 1.0, "{most}");
    // Coarser ones are still the same image.
    let mean = |patch: &Patch| patch.pixels.iter().sum::<f32>() / patch.pixels.len() as f32;
    assert!((mean(&whole(&raster, 3).unwrap()) - mean(&patch)).abs() < 4.0);
}

#[test]
fn coarser_resolutions_lie_where_the_image_does() {
    let raster = open("overviews", bytes_of("jpeg2000/special_overviews.jp2")).unwrap();
    let full = whole(&raster, 0).unwrap();
    let georef = raster.info().georef.clone().unwrap();
    // The image rises by 5.5 grey levels a pixel, so half a pixel, one and a half and three and a half off would be about 3, 8 and 19.
    for (halvings, most) in [(1, 0.5), (2, 1.2), (3, 3.0)] {
        let step = 1usize << halvings;
        let (width, height) = (full.width / step, full.height / step);
        let t = georef.transform;
        let transform = GeoTransform {
            pixel_width: t.pixel_width * step as f64,
            pixel_height: t.pixel_height * step as f64,
            row_skew: t.row_skew * step as f64,
            col_skew: t.col_skew * step as f64,
            ..t
        };
        let target = Georef { transform, width, height, ..georef.clone() };
        let shown = raster::warp(&raster, &target, &[0], Resampling::Bilinear).unwrap();
        assert!(shown.valid.iter().all(|valid| *valid), "{halvings} halvings");
        let mut off = 0.0;
        for (index, value) in shown.pixels.iter().enumerate() {
            let (row, col) = (index / width * step, index % width * step);
            let under = (0..step * step).map(|at| (row + at / step) * full.width + col + at % step);
            let mean = under.map(|at| full.pixels[at * full.bands]).sum::<f32>() / (step * step) as f32;
            off += (value - mean).abs() / shown.pixels.len() as f32;
        }
        assert!(off < most, "{halvings} halvings: {off} grey levels from the average of what lies under a pixel");
    }
}

#[test]
fn a_window_across_tiles_is_cut_out_of_the_whole() {
    let raster = open("tiled", bytes_of("jpeg2000/u16_tiled.jp2")).unwrap();
    let all = whole(&raster, 0).unwrap();
    let window = PixelWindow { col: 25, row: -3, width: 70, height: 40 };
    let patch = raster.read(0, window, &[0]).unwrap();
    for row in 0..40 {
        for col in 0..70 {
            let at = row * 70 + col;
            let inside = row >= 3 && col + 25 < 85;
            assert_eq!(patch.valid[at], inside, "{row} {col}");
            if inside {
                assert_eq!(patch.pixels[at], all.pixels[(row - 3) * 85 + col + 25], "{row} {col}");
            }
        }
    }
}

#[test]
fn opacity_and_nodata_make_pixels_invalid() {
    let raster = open("alpha", bytes_of("jpeg2000/special_alpha.jp2")).unwrap();
    assert_eq!(raster.info().bands.iter().map(|band| band.is_alpha).collect::<Vec<_>>(), [false, false, false, true]);
    let patch = whole(&raster, 0).unwrap();
    assert!((0..85 * 70).all(|at| patch.valid[at] == (at % 85 >= 5)));
    let raster = open("nodata", bytes_of("jpeg2000/u8_one_tile.jp2")).unwrap().with_nodata(0.0);
    let patch = whole(&raster, 0).unwrap();
    assert!((0..85 * 70).all(|at| patch.valid[at] == ((7 * (at / 85) + 13 * (at % 85)) % 251 != 0)));
}

#[test]
fn uploads_and_directories_hold_jpeg_2000_files() {
    let name = "jpeg2000/u8_colours_tiled.jp2";
    let upload = |limits: Limits| {
        let options = OpenOptions { limits, chunks: ChunkCache::new(1 << 20), remote: None };
        raster::open(Imagery::Bytes { name, bytes: bytes_of(name).into() }, None, &options)
    };
    let captures = upload(LIMITS).unwrap();
    assert_eq!(captures[0].raster.info().bands.len(), 3);
    let small = Limits { max_pixels: 100, ..LIMITS };
    let error = upload(small).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::TooLarge);

    let folder = tempfile::tempdir().unwrap();
    for band in ["B02", "B03"] {
        let to = folder.path().join(format!("T33UUP_20240601T100559_{band}.jp2"));
        std::fs::copy(fixture("jpeg2000/u16_tiled.jp2"), to).unwrap();
    }
    let options = OpenOptions { limits: LIMITS, chunks: ChunkCache::new(1 << 20), remote: None };
    let captures = raster::open(Imagery::Location(&folder.path().to_string_lossy()), None, &options).unwrap();
    assert_eq!(captures.len(), 1);
    let names: Vec<_> = captures[0].raster.info().bands.iter().map(|band| band.description.clone().unwrap()).collect();
    assert_eq!(names, ["B02", "B03"]);
    assert_eq!(captures[0].datetime.unwrap().to_string(), "2024-06-01T10:05:59Z");
}

/// A prefix either is told to be too short, or holds the tiles that are read.
#[test]
fn a_file_cut_short_anywhere_never_panics_and_says_so() {
    for name in ["u16_tiled", "u8_layers_and_precincts", "u8_bare_codestream"] {
        let bytes = bytes_of(&format!("jpeg2000/{name}.jp2"));
        for len in (0..bytes.len() - 2).step_by(5) {
            let error = open(name, bytes[..len].to_vec()).err().unwrap_or_else(|| panic!("{name} with {len} bytes"));
            assert!(matches!(error.kind(), ErrorKind::Unusable | ErrorKind::UnsupportedMedia), "{error}");
        }
    }
}

#[test]
fn a_file_with_any_byte_changed_never_panics() {
    for name in ["u16_tiled", "u8_colours_tiled", "u8_gml_alone", "u8_layers_and_precincts"] {
        let bytes = bytes_of(&format!("jpeg2000/{name}.jp2"));
        let mut state = 7u32;
        // Every byte of the headers, and some of the entropy-coded rest.
        for at in (0..bytes.len()).filter(|at| *at < 1200 || at % 11 == 0) {
            // A linear congruential generator (Numerical Recipes) picks what each byte becomes.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut changed = bytes.clone();
            changed[at] = (state >> 24) as u8;
            if let Ok(raster) = open(name, changed) {
                let _ = raster.read(0, PixelWindow { col: 20, row: 20, width: 20, height: 20 }, &[0]);
                let _ = raster.read(1, PixelWindow { col: 0, row: 0, width: 20, height: 20 }, &[0]);
            }
        }
    }
}

#[test]
fn sizes_that_lie_are_refused_before_anything_is_decoded() {
    let bytes = bytes_of("jpeg2000/u8_one_tile.jp2");
    let size = bytes.windows(2).position(|window| window == [0xff, 0x51]).unwrap();
    let with = |changes: &[(usize, u32)]| {
        let mut changed = bytes.clone();
        for (at, value) in changes {
            changed[size + at..size + at + 4].copy_from_slice(&value.to_be_bytes());
        }
        open("lying", changed).err().map(|error| error.to_string()).unwrap_or_default()
    };
    // One tile of 2^20 x 2^20 pixels; tiles of one pixel; more tiles than there are; nothing at all.
    let side = 1 << 20;
    let huge = with(&[(6, side), (10, side), (22, side), (26, side)]);
    assert!(huge.contains("samples"), "{huge}");
    assert!(with(&[(6, side), (10, side), (22, 1), (26, 1)]).contains("too little"));
    assert!(with(&[(22, 40), (26, 40)]).contains("missing"));
    assert!(with(&[(6, 0)]).contains("size"));
    assert!(with(&[(22, 0)]).contains("size"));
}
