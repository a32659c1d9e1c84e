//! Imagery against rasterio and rio-tiler: every way of storing pixels, every kind of coordinate system, the demo rasters.
//!
//! The fixtures and what is expected of them come from `fixtures/raster/make_fixtures.py`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use satlas_serve::budget::MemoryBudget;
use satlas_serve::error::ErrorKind;
use satlas_serve::georef::Georef;
use satlas_serve::raster::{
    self, ChunkCache, GeoTiff, Imagery, Limits, OpenOptions, Patch, PixelWindow, Raster, RasterError, Resampling,
    SampleType, Source, warp,
};
use satlas_serve::tiles::TileCoord;
use serde_json::Value;

const LIMITS: Limits = Limits { max_bytes: 16 << 20, max_pixels: 1 << 22 };

fn options(chunk_bytes: u64) -> OpenOptions {
    OpenOptions { limits: LIMITS, chunks: ChunkCache::new(chunk_bytes), remote: None }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/raster").join(name)
}

fn manifest(part: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(manifest[part].take()).unwrap()
}

fn open(name: &str) -> Result<GeoTiff, RasterError> {
    GeoTiff::open_path(&fixture(name), &ChunkCache::new(1 << 20))
}

fn whole(raster: &dyn Raster) -> Patch {
    let info = raster.info();
    let window = PixelWindow { col: 0, row: 0, width: info.width, height: info.height };
    let bands: Vec<usize> = (0..info.bands.len()).collect();
    raster.read(0, window, &bands).unwrap()
}

/// What every pixel of a layout fixture was before scale and offset.
fn pattern(row: usize, col: usize, band: usize, smooth: bool) -> f64 {
    (if smooth { 4 * row + 2 * col + 10 * band } else { (7 * row + 13 * col + 31 * band) % 251 }) as f64
}

#[test]
fn every_layout_type_and_compression_is_read_as_rasterio_reads_it() {
    for case in manifest("layouts") {
        let name = case["file"].as_str().unwrap();
        let tiff = open(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let info = tiff.info();
        assert_eq!(
            (info.width, info.height, info.bands.len()),
            (40, 33, case["bands"].as_u64().unwrap() as usize),
            "{name}"
        );
        let patch = whole(&tiff);
        assert!(patch.valid.iter().all(|valid| *valid), "{name}");
        let number = |key: &str| case[key].as_f64().unwrap();
        for (index, value) in patch.pixels.iter().enumerate() {
            let (pixel, band) = (index / patch.bands, index % patch.bands);
            let expected =
                pattern(pixel / 40, pixel % 40, band, case["smooth"] == true) * number("scale") + number("offset");
            let difference = (f64::from(*value) - expected).abs();
            assert!(difference <= number("tolerance"), "{name}: pixel {pixel} band {band} is {value}, not {expected}");
        }
        let t = info.georef.as_ref().unwrap().transform;
        let found = [t.pixel_width, t.row_skew, t.origin_x, t.col_skew, t.pixel_height, t.origin_y];
        for (found, expected) in found.iter().zip(case["transform"].as_array().unwrap()) {
            assert!((found - expected.as_f64().unwrap()).abs() < 1e-6, "{name}: {t:?}");
        }
    }
}

#[test]
fn a_window_is_the_same_as_that_part_of_the_whole() {
    for case in manifest("layouts") {
        let tiff = open(case["file"].as_str().unwrap()).unwrap();
        let all = whole(&tiff);
        let last = all.bands - 1;
        let window = PixelWindow { col: 13, row: -2, width: 30, height: 20 };
        let part = tiff.read(0, window, &[last, 0]).unwrap();
        for row in 0..20 {
            for col in 0..30 {
                let (at, inside) = (row * 30 + col, row >= 2 && col + 13 < 40);
                assert_eq!(part.valid[at], inside, "{}", case["file"]);
                if inside {
                    let from = ((row - 2) * 40 + col + 13) * all.bands;
                    assert_eq!(part.pixels[at * 2..][..2], [all.pixels[from + last], all.pixels[from]], "{}", case["file"]);
                }
            }
        }
    }
}

#[test]
fn pixels_with_the_nodata_value_in_every_band_are_invalid() {
    let patch = whole(&open("layouts/special_nodata.tif").unwrap());
    for (pixel, valid) in patch.valid.iter().enumerate() {
        let is_nodata = |band| pattern(pixel / 40, pixel % 40, band, false) == 7.0;
        assert_eq!(*valid, !(is_nodata(0) && is_nodata(1)));
        for (band, value) in patch.pixels[pixel * 2..][..2].iter().enumerate() {
            let kept = if *valid { pattern(pixel / 40, pixel % 40, band, false) } else { 0.0 };
            assert_eq!(f64::from(*value), kept, "a band that equals nodata in a valid pixel keeps its value");
        }
    }
    let one_band = open("layouts/special_nodata.tif")
        .unwrap()
        .read(0, PixelWindow { col: 0, row: 0, width: 40, height: 33 }, &[0])
        .unwrap();
    assert!(!one_band.valid[40], "row 1, column 0 is 7");
    let float = whole(&open("layouts/special_nodata_f32.tif").unwrap());
    assert!(!float.valid[40] && float.valid[41], "0.7 in the tag is the float32 nearest to it");
}

#[test]
fn masks_alpha_and_missing_chunks_are_invalid() {
    let masked = whole(&open("layouts/special_internal_mask.tif").unwrap());
    assert!(masked.valid.iter().enumerate().all(|(pixel, valid)| *valid == (pixel / 40 >= 10)));
    assert!(masked.pixels[..400 * 3].iter().all(|value| *value == 0.0));

    let alpha = open("layouts/special_alpha.tif").unwrap();
    assert_eq!(alpha.info().bands.iter().map(|band| band.is_alpha).collect::<Vec<_>>(), [false, false, false, true]);
    let window = PixelWindow { col: 0, row: 0, width: 40, height: 33 };
    let patch = alpha.read(0, window, &[0, 1, 2]).unwrap();
    assert!(patch.valid.iter().enumerate().all(|(pixel, valid)| *valid == (pixel % 40 >= 5)));

    let sparse = whole(&open("layouts/special_sparse.tif").unwrap());
    assert!(sparse.valid.iter().enumerate().all(|(pixel, valid)| *valid == (pixel / 40 < 16 && pixel % 40 < 16)));
}

#[test]
fn descriptions_scales_and_offsets_of_bands_are_known() {
    let tiff = open("layouts/special_descriptions.tif").unwrap_or_else(|error| panic!("{error}"));
    let bands = &tiff.info().bands;
    assert_eq!(tiff.info().sample_type, SampleType::U16);
    assert_eq!(bands[0].description.as_deref(), Some("B04"));
    assert_eq!(bands[1].description.as_deref(), Some("a <b> & \"c\""));
    assert_eq!(bands[2].description, None);
    assert_eq!((bands[0].scale, bands[0].offset, bands[1].scale), (0.0001, -0.1, 1.0));
}

#[test]
fn an_unknown_compression_is_named_with_a_way_out() {
    let error = open("layouts/special_lerc.tif").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unusable);
    assert!(error.to_string().contains("gdal_translate"), "{error}");
}

/// Absolute differences where both have data, sorted, and the number of pixels where only one has.
///
/// Of colours their brightness is compared: those of the demo rasters are subsampled JPEG, which GDAL's builds enlarge in
/// different ways, while grey places compare everything else.
fn compare(found: &Patch, golden: &image::DynamicImage) -> (Vec<f32>, usize) {
    let is_grey = found.bands == 1;
    let golden = if is_grey { golden.to_luma_alpha8().into_raw() } else { golden.to_rgba8().into_raw() };
    let brightness =
        |pixel: &[f32]| if is_grey { pixel[0].round() } else { 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2] };
    let channels = found.bands + 1;
    let (mut differences, mut rim) = (Vec::new(), 0);
    for (pixel, expected) in golden.chunks_exact(channels).enumerate() {
        match (found.valid[pixel], expected[channels - 1] > 0) {
            (true, true) => {
                let expected: Vec<f32> = expected[..found.bands].iter().map(|value| f32::from(*value)).collect();
                let values = &found.pixels[pixel * found.bands..][..found.bands];
                differences.push((brightness(values) - brightness(&expected)).abs());
            }
            (a, b) => rim += usize::from(a != b),
        }
    }
    differences.sort_by(f32::total_cmp);
    (differences, rim)
}

#[test]
fn tiles_agree_with_rio_tiler_in_every_coordinate_system() {
    let mut report = Vec::new();
    for case in manifest("tiles") {
        let name = case["golden"].as_str().unwrap();
        let number = |key: &str| case[key].as_u64().unwrap();
        let path = fixture(case["file"].as_str().unwrap());
        let source = match Source::open_path("fixture", &path, None, &options(1 << 20)) {
            Ok(source) => source,
            Err(error) => {
                report.push(format!("{name}: {error}"));
                continue;
            }
        };
        let tile = TileCoord::try_new(number("z") as u32, number("x"), number("y")).unwrap();
        let golden = image::open(fixture(name)).unwrap();
        let bands: Vec<usize> = (0..usize::from(golden.color().channel_count()) - 1).collect();
        let size = number("tilesize") as usize;
        let patch = source.read(0, &tile.georef(size), &bands, Resampling::Bilinear).unwrap();
        let (differences, rim) = compare(&patch, &golden);
        let p99 = differences.get(differences.len() * 99 / 100).copied().unwrap_or(f32::INFINITY);
        println!("{name}: p99 {p99}, max {:?}, rim {rim}", differences.last());
        if p99 > 2.0 || rim > size {
            report.push(format!("{name}: 99 % are within {p99}, and {rim} pixels differ in validity"));
        }
    }
    assert!(report.is_empty(), "{report:#?}");
}

#[test]
fn the_grid_of_the_raster_itself_is_read_without_resampling() {
    let tiff = open("layouts/u8_tiled_deflate_predictor2.tif").unwrap();
    let georef = tiff.info().georef.clone().unwrap();
    let shifted = Georef { transform: georef.transform.shifted(3.0, 5.0), width: 20, height: 10, ..georef };
    let patch = warp(&tiff, &shifted, &[2], Resampling::Cubic).unwrap();
    assert_eq!(f64::from(patch.pixels[0]), pattern(5, 3, 2, false));
    assert!(patch.valid.iter().all(|valid| *valid));
}

#[test]
fn every_resampling_keeps_a_constant_and_stays_within_its_neighbours() {
    let source = Source::open_path("fixture", &fixture("places/utm_north.tif"), None, &options(1 << 20)).unwrap();
    let place = source.describe().extent.unwrap();
    assert_eq!(place.crs, "EPSG:32633");
    assert!((place.resolution_m - 10.0).abs() < 0.05, "{place:?}");
    let georef = Georef { crs: satlas_serve::georef::Crs::lon_lat(), ..tile_over(&place) };
    for resampling in [Resampling::Nearest, Resampling::Bilinear, Resampling::Cubic, Resampling::Average] {
        let patch = source.read(0, &georef, &[0], resampling).unwrap();
        let (valid, all) = (patch.valid.iter().filter(|valid| **valid).count(), patch.valid.len());
        assert!(valid * 10 > all * 7, "{resampling:?}: {valid} of {all}");
        assert!(patch.pixels.iter().all(|value| (-40.0..=300.0).contains(value)), "{resampling:?}");
    }
}

fn tile_over(place: &satlas_serve::raster::Extent) -> Georef {
    let b = place.bounds_lon_lat;
    let transform = satlas_serve::georef::GeoTransform::north_up(
        b.min_x,
        b.max_y,
        (b.max_x - b.min_x) / 50.0,
        (b.max_y - b.min_y) / 50.0,
    );
    Georef { crs: satlas_serve::georef::Crs::lon_lat(), transform, width: 50, height: 50 }
}

#[test]
fn nothing_beyond_the_poles_or_the_raster_is_valid() {
    let world = Path::new(env!("CARGO_MANIFEST_DIR")).join("static/demo/world.tif");
    let source = Source::open_path("world", &world, None, &options(8 << 20)).unwrap();
    let everything =
        source.read(0, &TileCoord::try_new(0, 0, 0).unwrap().georef(64), &[0, 1, 2], Resampling::Bilinear).unwrap();
    assert!(everything.valid.iter().all(|valid| *valid), "Web Mercator shows no pole");
    let polar = Georef {
        crs: satlas_serve::georef::Crs::lon_lat(),
        transform: satlas_serve::georef::GeoTransform::north_up(-190.0, 100.0, 10.0, 10.0),
        width: 38,
        height: 20,
    };
    let patch = source.read(0, &polar, &[0], Resampling::Bilinear).unwrap();
    assert!(patch.valid[..38].iter().all(|valid| !valid) && patch.valid[19 * 38..].iter().all(|valid| !valid));
    assert!(patch.valid[10 * 38], "190 degrees west is 170 degrees east");
    let stereographic = Georef {
        crs: satlas_serve::georef::Crs::from_epsg(3413).unwrap(),
        transform: satlas_serve::georef::GeoTransform::north_up(-3e6, 3e6, 1e5, 1e5),
        width: 60,
        height: 60,
    };
    let arctic = source.read(0, &stereographic, &[0], Resampling::Bilinear).unwrap();
    let missing: Vec<usize> = (0..3600).filter(|pixel| !arctic.valid[*pixel]).collect();
    assert!(missing.is_empty(), "the pole and the antimeridian have data: {missing:?}");
}

#[test]
fn a_raster_across_the_antimeridian_has_data_on_both_sides() {
    let (transform, crs) =
        (satlas_serve::georef::GeoTransform::north_up(170.0, 10.0, 0.5, 0.5), satlas_serve::georef::Crs::lon_lat());
    let georef = Georef { crs, transform, width: 40, height: 40 };
    let values = (0..1600).map(|pixel| (pixel % 40) as f32).collect();
    let raster = satlas_serve::raster::MemoryRaster::from_values(40, 40, values, Some(georef)).unwrap();
    let tile = |x| TileCoord::try_new(6, x, 31).unwrap().georef(8);
    let (west, east) = (tile(63), tile(0));
    let west = warp(&raster, &west, &[0], Resampling::Bilinear).unwrap();
    let east = warp(&raster, &east, &[0], Resampling::Bilinear).unwrap();
    assert!(west.valid.iter().chain(&east.valid).all(|valid| *valid));
    assert!(west.pixels[7] < east.pixels[0] && east.pixels[0] - west.pixels[7] < 2.0, "{west:?} {east:?}");
}

fn upload(bytes: Vec<u8>, images: Option<usize>) -> Result<Vec<Arc<dyn Raster>>, RasterError> {
    let imagery = Imagery::Bytes { name: "upload", bytes: Bytes::from(bytes) };
    let captures = raster::open(imagery, images, &options(1 << 20))?;
    Ok(captures.into_iter().map(|capture| capture.raster).collect())
}

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

#[test]
fn arrays_are_bands_first_and_captures_before_that() {
    let values: Vec<u8> = (0..24u16).flat_map(|value| (value * 100).to_le_bytes()).collect();
    let captures = upload(npy("<u2", "(2, 3, 2, 2)", &values), None).unwrap();
    assert_eq!(captures.len(), 2);
    assert!(!captures[0].info().is_normalised);
    assert_eq!(whole(&*captures[1]).pixels[..3], [1200.0, 1600.0, 2000.0]);

    let floats: Vec<u8> = [0.5f32, 1.0, 0.0, f32::NAN].iter().flat_map(|value| value.to_le_bytes()).collect();
    let one = upload(npy("<f4", "(2, 2)", &floats), None).unwrap();
    assert!(one[0].info().is_normalised);
    assert_eq!(whole(&*one[0]).valid, [true, true, true, false]);
}

#[test]
fn stacked_bands_are_divided_into_captures() {
    let bytes = std::fs::read(fixture("layouts/u16_strips_planar_lzw_predictor2.tif")).unwrap();
    let captures = upload(bytes.clone(), Some(3)).unwrap();
    assert_eq!(captures.len(), 3);
    assert_eq!(f64::from(whole(&*captures[2]).pixels[1]), pattern(0, 0, 7, false) * 257.0);
    let error = upload(bytes, Some(2)).err().unwrap();
    assert!(error.to_string().contains("9 bands"), "{error}");
}

#[test]
fn pictures_are_read_with_their_transparency() {
    let mut png = Vec::new();
    let picture = image::RgbaImage::from_fn(3, 2, |x, y| image::Rgba([x as u8, y as u8, 9, if x == 0 { 0 } else { 255 }]));
    picture.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
    let rasters = upload(png.clone(), None).unwrap();
    let patch = rasters[0].read(0, PixelWindow { col: 0, row: 0, width: 3, height: 2 }, &[2, 0]).unwrap();
    assert_eq!(patch.valid, [false, true, true, false, true, true]);
    assert_eq!(patch.pixels[2..4], [9.0, 1.0]);

    let small = Limits { max_pixels: 5, ..LIMITS };
    let imagery = Imagery::Bytes { name: "big.png", bytes: Bytes::from(png) };
    let error = raster::open(imagery, None, &OpenOptions { limits: small, ..options(1) }).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("6 pixels") && error.to_string().contains('5'), "{error}");
}

#[test]
fn unknown_formats_are_named_with_what_is_accepted() {
    for (bytes, found) in [(&b""[..], "empty"), (b"GIF89a", "a GIF"), (b"PK\x03\x04", "npz"), (b"hello", "68, 65")] {
        let error = upload(bytes.to_vec(), None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::UnsupportedMedia);
        assert!(
            error.to_string().contains(found) && error.to_string().contains("GeoTIFF, JPEG 2000, PNG, JPEG and npy"),
            "{error}"
        );
    }
}

#[test]
fn arrays_that_cannot_be_images_are_refused() {
    let cases = [
        (npy("<f4", "(4,)", &[0; 16]), "[H, W]"),
        (npy("<f4", "(0, 4)", &[]), "no pixels"),
        (npy("<f4", "(1000, 1000)", &[0; 16]), "needs more"),
        (npy("<c8", "(1, 1)", &[0; 8]), "accepted"),
        (npy("|O", "(1, 1)", &[0; 8]), ""),
        (npy("<f4", "(2, 2)", &[0; 12]), ""),
        (b"\x93NUMPY".to_vec(), ""),
    ];
    for (bytes, reason) in cases {
        let error = upload(bytes, None).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unusable, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    for (shape, values) in [("(4294967295, 4294967295, 4294967295)", 0), ("(16385, 1, 1, 1)", 16_385)] {
        let huge = upload(npy("|u1", shape, &vec![0; values]), None).err().unwrap();
        assert_eq!(huge.kind(), ErrorKind::TooLarge, "{huge}");
    }
}

#[test]
fn arrays_are_read_in_parts_and_accounted() {
    // Rows of a band make several chunks.
    let (width, height) = (1000usize, 900usize);
    let value = |band: usize, row: usize, col: usize| ((band * 31 + row) * width + col) as u16;
    let values: Vec<u8> = (0..2 * 3 * height * width)
        .flat_map(|at| value(at / width / height, at / width % height, at % width).to_be_bytes())
        .collect();
    let array = npy(">u2", "(2, 3, 900, 1000)", &values);
    let open = |bytes: u64| {
        let chunks = ChunkCache::within(1 << 20, MemoryBudget::new(bytes));
        let imagery = Imagery::Bytes { name: "array", bytes: Bytes::from(array.clone()) };
        raster::open(imagery, None, &OpenOptions { limits: LIMITS, chunks, remote: None }).unwrap()
    };
    let window = PixelWindow { col: 990, row: 500, width: 10, height: 400 };
    let patch = open(64 << 20)[1].raster.read(0, window, &[2, 0]).unwrap();
    for (pixel, values) in patch.pixels.chunks_exact(2).enumerate() {
        let (row, col) = (500 + pixel / 10, 990 + pixel % 10);
        assert_eq!(values, [value(5, row, col), value(3, row, col)].map(f32::from), "{row} {col}");
    }
    let refused = open(1 << 20)[0].raster.read(0, window, &[0]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
}

/// A file whose overviews are averages is shown smaller as an exact average of the area under every pixel.
#[test]
fn coarser_tiles_are_averages_of_the_area_where_overviews_are() {
    let tiff = open("averages.tif").unwrap();
    let (full, source) = (whole(&tiff), tiff.info().georef.clone().unwrap());
    for factor in [2, 4, 8] {
        let grid = source.coarsened(factor);
        let shown = warp(&tiff, &grid, &[0], Resampling::Bilinear).unwrap();
        for (at, found) in shown.pixels.iter().enumerate() {
            let (row, col) = (at / grid.width * factor, at % grid.width * factor);
            let under = (0..factor * factor).map(|at| full.pixels[(row + at / factor) * full.width + col + at % factor]);
            let average = under.sum::<f32>() / (factor * factor) as f32;
            // Each overview is made of the one before, rounded.
            assert!((found - average).abs() <= 1.5, "{factor}: pixel {at} is {found}, not {average}");
        }
    }
}
