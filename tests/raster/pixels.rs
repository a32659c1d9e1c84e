//! What stored samples mean: palettes, few and odd numbers of bits, MinIsWhite, CMYK, bits in reverse order, "no data" in single bands,
//! colour interpretations, masks, and files that only sloppy readers accept.
//!
//! The fixtures and what is expected of them come from `fixtures/raster/make_pixels.py`.

use std::path::{Path, PathBuf};

use satlas_serve::error::ErrorKind;
use satlas_serve::raster::{
    ChunkCache, GeoTiff, Imagery, Limits, OpenOptions, Overview, PixelWindow, Raster, RasterError, open_indices,
};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/raster").join(name)
}

fn manifest(part: &str) -> Vec<Value> {
    let mut manifest: Value = serde_json::from_str(&std::fs::read_to_string(fixture("pixels.json")).unwrap()).unwrap();
    serde_json::from_value(manifest[part].take()).unwrap()
}

fn open(name: &str) -> Result<GeoTiff, RasterError> {
    GeoTiff::open_path(&fixture(name), &ChunkCache::new(1 << 20))
}

#[test]
fn samples_of_every_meaning_become_the_bands_that_rasterio_shows() {
    let mut wrong = Vec::new();
    for case in manifest("read") {
        let name = case["file"].as_str().unwrap();
        let tiff = match open(name) {
            Ok(tiff) => tiff,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let info = tiff.info();
        // What a palette makes transparent, and alpha, is no band of the picture.
        let bands: Vec<usize> = (0..info.bands.len()).filter(|band| !info.bands[*band].is_alpha).collect();
        let window = PixelWindow { col: 0, row: 0, width: info.width, height: info.height };
        let patch = tiff.read(0, window, &bands).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = case["pixels"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
        for (at, expected) in expected.enumerate() {
            let found = patch.valid[at].then(|| &patch.pixels[at * patch.bands..][..patch.bands]);
            let expected: Option<Vec<f64>> = serde_json::from_value(expected.clone()).unwrap();
            let tolerance = case["tolerance"].as_f64().unwrap();
            let near = |found: &f32, wanted: &f64| (f64::from(*found) - wanted).abs() <= tolerance + 1e-6 * wanted.abs();
            let same = match (found, &expected) {
                (None, None) => true,
                (Some(found), Some(wanted)) => {
                    found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| near(found, wanted))
                }
                _ => false,
            };
            if !same {
                wrong.push(format!("{name}: pixel {at} is {found:?}, not {expected:?}"));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first pixels of a file whose palette is not looked up; `None` where there is no data.
fn indices(imagery: Imagery<'_>, count: usize) -> Vec<Option<f32>> {
    let options = OpenOptions { limits: Limits::NONE, chunks: ChunkCache::new(1 << 20), remote: None };
    let raster = open_indices(imagery, &options).unwrap().swap_remove(0);
    let info = raster.info();
    assert_eq!(info.bands.len(), 1);
    let window = PixelWindow { col: 0, row: 0, width: info.width, height: info.height };
    let patch = raster.read(0, window, &[0]).unwrap();
    patch.pixels.iter().zip(patch.valid).map(|(value, valid)| valid.then_some(*value)).take(count).collect()
}

#[test]
fn the_indices_of_a_palette_are_its_pixels_where_they_are_wanted() {
    for (name, step, nodata) in [("palette_4", 1, None), ("palette_8", 3, None), ("palette_nodata", 1, Some(5))] {
        let path = fixture(&format!("pixels/{name}.tif"));
        let expected: Vec<Option<f32>> =
            (0..12).map(|at| at * step).map(|index| (nodata != Some(index)).then_some(index as f32)).collect();
        assert_eq!(indices(Imagery::File { name, path: &path }, 12), expected, "{name}");
    }
    // Two rows of five indices with two bits each.
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 5, 2);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Two);
    encoder.set_palette([7; 12].as_slice());
    encoder.write_header().unwrap().write_image_data(&[0b0001_1011, 0b1100_0000, 0b1101_0101, 0b0000_0000]).unwrap();
    let expected = [0, 1, 2, 3, 3, 3, 1, 1, 1, 0].map(|index: u8| Some(f32::from(index)));
    assert_eq!(indices(Imagery::Bytes { name: "mask.png", bytes: file.into() }, 10), expected);
}

#[test]
fn what_cannot_be_read_is_refused_by_name_when_it_is_opened() {
    for case in manifest("refused") {
        let name = case["file"].as_str().unwrap();
        let error = open(name).map(|_| name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unusable, "{name}");
        let (text, reason) = (error.to_string(), case["reason"].as_str().unwrap());
        assert!(text.contains(reason) && text.contains("gdal_translate"), "{name}: {text}");
    }
}

#[test]
fn a_mask_without_overviews_hides_pixels_of_overviews_too() {
    let tiff = open("pixels/mask_without_overviews.tif").unwrap();
    assert_eq!(tiff.info().overviews.iter().map(Overview::size).collect::<Vec<_>>(), [(9, 7)]);
    let window = PixelWindow { col: -1, row: 0, width: 10, height: 7 };
    let patch = tiff.read(1, window, &[0]).unwrap();
    for (at, valid) in patch.valid.iter().enumerate() {
        // The mask's first six columns lie under the first three of the overview, and one column of the window before those.
        assert_eq!(*valid, at % 10 >= 4, "pixel {at}");
    }
}
