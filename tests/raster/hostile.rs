//! Files that lie, end early or make no sense: an error that says what is wrong, bounded memory, never a panic.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use satlas_serve::error::ErrorKind;
use satlas_serve::raster::{ChunkCache, GeoTiff, Limits, PixelWindow, Raster, RasterError, Resampling, Source};
use satlas_serve::tiles::TileCoord;

const WIDTH: u16 = 256;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const OFFSETS: u16 = 273;
const SAMPLES: u16 = 277;
const ROWS: u16 = 278;
const COUNTS: u16 = 279;
const PREDICTOR: u16 = 317;
const SCALE: u16 = 33550;
const TIEPOINT: u16 = 33922;
const KEYS: u16 = 34735;

/// One entry of a directory: tag, type, and the bytes of its value.
type Entry = (u16, u16, Vec<u8>);

fn long(tag: u16, values: &[u32]) -> Entry {
    (tag, 4, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn short(tag: u16, values: &[u16]) -> Entry {
    (tag, 3, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn double(tag: u16, values: &[f64]) -> Entry {
    (tag, 12, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// A sound 4 x 4 file in EPSG:4326 with `changes` put in place of its tags.
fn file(changes: &[Entry]) -> Vec<u8> {
    let mut entries = vec![
        long(WIDTH, &[4]),
        long(257, &[4]),
        short(BITS, &[8]),
        short(COMPRESSION, &[1]),
        short(262, &[1]),
        long(OFFSETS, &[8]),
        short(SAMPLES, &[1]),
        long(ROWS, &[4]),
        long(COUNTS, &[16]),
        double(SCALE, &[1.0, 1.0, 0.0]),
        double(TIEPOINT, &[0.0, 0.0, 0.0, 10.0, 50.0, 0.0]),
        short(KEYS, &[1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4326]),
    ];
    for change in changes {
        entries.retain(|entry| entry.0 != change.0);
        entries.push(change.clone());
    }
    entries.sort_by_key(|entry| entry.0);
    let mut file = b"II\x2a\0\0\0\0\0".to_vec();
    file.extend(1..=16u8);
    let mut values_at = 24 + 2 + entries.len() * 12 + 4;
    file[4] = 24;
    file.extend((entries.len() as u16).to_le_bytes());
    let mut values: Vec<u8> = Vec::new();
    for (tag, field_type, value) in &entries {
        let size = match field_type {
            3 => 2,
            4 => 4,
            _ => 8,
        };
        file.extend(tag.to_le_bytes());
        file.extend(field_type.to_le_bytes());
        file.extend(((value.len() / size) as u32).to_le_bytes());
        if value.len() <= 4 {
            file.extend(value.iter().chain(&[0; 4]).take(4));
        } else {
            file.extend((values_at as u32).to_le_bytes());
            values_at += value.len();
            values.extend(value);
        }
    }
    file.extend([0; 4]);
    file.extend(values);
    file
}

fn open(bytes: Vec<u8>) -> Result<GeoTiff, RasterError> {
    GeoTiff::open("upload.tif", Arc::new(Bytes::from(bytes)), &ChunkCache::new(1 << 20))
}

fn read(bytes: Vec<u8>) -> Result<Vec<f32>, RasterError> {
    let tiff = open(bytes)?;
    Ok(tiff.read(0, PixelWindow { col: 0, row: 0, width: 40, height: 33 }, &[0])?.pixels)
}

#[test]
fn the_file_that_the_others_are_made_from_is_sound() {
    let pixels: Vec<f32> = (1..=16u8).map(f32::from).collect();
    let tiff = open(file(&[])).unwrap();
    assert_eq!(tiff.read(0, PixelWindow { col: 0, row: 0, width: 4, height: 4 }, &[0]).unwrap().pixels, pixels);
    assert_eq!(open(file(&[])).unwrap().info().georef.as_ref().unwrap().crs.epsg(), Some(4326));
}

#[test]
fn files_that_lie_are_unusable_and_say_why() {
    let huge = u32::MAX;
    let cases: [(&str, Vec<Entry>, &str); 21] = [
        ("no width", vec![long(WIDTH, &[0])], "width is 0"),
        ("huge width", vec![long(WIDTH, &[huge])], "width is 4294967295"),
        ("no samples", vec![short(SAMPLES, &[0])], "samples"),
        ("many samples", vec![short(SAMPLES, &[65535])], "samples"),
        ("odd bits", vec![short(BITS, &[33])], "33 bits"),
        ("different bits", vec![short(SAMPLES, &[2]), short(BITS, &[8, 16])], "different bits"),
        ("complex samples", vec![short(339, &[5])], "sample format 5"),
        ("chunk of terabytes", vec![long(WIDTH, &[1 << 24]), long(257, &[1 << 24]), long(ROWS, &[1 << 24])], "accepted"),
        ("no rows a strip", vec![long(ROWS, &[0])], "rows"),
        ("missing strips", vec![long(ROWS, &[1])], "4 chunks are needed"),
        ("chunk beyond the end", vec![long(OFFSETS, &[1_000_000])], "file ends"),
        ("long chunk", vec![long(COUNTS, &[huge])], "claims"),
        ("short chunk", vec![long(COUNTS, &[3]), short(COMPRESSION, &[8])], ""),
        ("no such compression", vec![short(COMPRESSION, &[34925])], "gdal_translate"),
        ("no such predictor", vec![short(PREDICTOR, &[9])], ""),
        ("noise as JPEG", vec![short(COMPRESSION, &[7])], "header"),
        ("noise as WebP", vec![short(COMPRESSION, &[50001])], "header"),
        ("noise as ZSTD", vec![short(COMPRESSION, &[50000])], ""),
        ("NaN for a scale", vec![double(SCALE, &[f64::NAN, 1.0, 0.0])], "georeference"),
        ("no scale", vec![double(SCALE, &[0.0, 0.0, 0.0])], "georeference"),
        ("infinite origin", vec![double(TIEPOINT, &[0.0, 0.0, 0.0, f64::INFINITY, 0.0, 0.0])], "georeference"),
    ];
    for (name, changes, reason) in cases {
        let error = read(file(&changes)).err().unwrap_or_else(|| panic!("{name} was read"));
        assert_eq!(error.kind(), ErrorKind::Unusable, "{name}: {error}");
        assert!(error.to_string().contains(reason), "{name}: {error}");
    }
}

#[test]
fn coordinate_systems_nobody_knows_are_named_in_a_warning() {
    let keys = |keys: &[u16]| {
        let count = keys.len() as u16 / 4;
        short(KEYS, &[&[1, 1, 0, count], keys].concat())
    };
    for (found, text) in [
        (keys(&[1024, 0, 1, 1, 3072, 0, 1, 60000]), "EPSG:60000"),
        (keys(&[1024, 0, 1, 3]), "geocentric"),
        (keys(&[1024, 0, 1, 1, 3072, 0, 1, 32767]), "by a name alone"),
        (keys(&[1024, 0, 1, 1, 3072, 0, 1, 32767, 3075, 0, 1, 2]), "transformation 2"),
    ] {
        let tiff = open(file(&[found])).unwrap();
        assert_eq!(tiff.info().georef, None);
        let [warning] = &tiff.warnings()[..] else { panic!("one warning, not {:?}", tiff.warnings()) };
        assert!(warning.contains("in pixels") && warning.contains(text), "{warning}");
    }
    let without = open(file(&[keys(&[])])).unwrap();
    assert!(without.info().georef.is_none() && without.warnings().is_empty());
}

#[test]
fn directories_that_loop_are_refused() {
    let mut bytes = file(&[]);
    let next = 24 + 2 + 12 * 12;
    bytes[next..next + 4].copy_from_slice(&24u32.to_le_bytes());
    assert!(open(bytes).unwrap_err().to_string().contains("loop"));
}

#[test]
fn a_jpeg_chunk_that_claims_another_size_is_not_decoded() {
    let bomb = [0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0xff, 0xff, 0xff, 0xff, 1, 1, 0x11, 0, 0xff, 0xd9];
    let mut bytes = file(&[short(COMPRESSION, &[7]), long(COUNTS, &[bomb.len() as u32])]);
    let at = bytes.len() as u32;
    bytes.extend(bomb);
    let changed = file(&[short(COMPRESSION, &[7]), long(COUNTS, &[bomb.len() as u32]), long(OFFSETS, &[at])]);
    let bytes = [&changed[..], &bomb[..]].concat();
    let error = read(bytes).unwrap_err();
    assert!(error.to_string().contains("65535 x 65535"), "{error}");
}

#[test]
fn a_file_cut_at_any_byte_is_an_error_or_reads_what_is_there() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/raster/layouts");
    for name in ["u8_webp_lossless.tif", "u16_big_endian_lzw_predictor2.tif", "u8_jpeg_ycbcr.tif", "u8_big_tiff_zstd.tif"] {
        let bytes = std::fs::read(fixtures.join(name)).unwrap();
        for len in (0..bytes.len()).step_by(7) {
            // Some prefixes hold all of the directory and some of the chunks; the point is that none of them panics.
            let _ = read(bytes[..len].to_vec());
        }
        assert!(read(bytes[..bytes.len() / 2].to_vec()).is_err(), "{name}");
    }
}

#[test]
fn a_file_with_any_byte_changed_never_panics() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/raster");
    for name in ["layouts/u8_jpeg_rgb.tif", "layouts/f32_tiled_deflate_predictor3.tif", "places/own_lambert.tif"] {
        let bytes = std::fs::read(fixtures.join(name)).unwrap();
        let mut state = 1u32;
        for at in 0..bytes.len() {
            // A linear congruential generator (Numerical Recipes) picks what each byte becomes.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut changed = bytes.clone();
            changed[at] = (state >> 24) as u8;
            if let Ok(tiff) = open(changed) {
                let _ = tiff.read(0, PixelWindow { col: -1, row: 0, width: 20, height: 20 }, &[0]);
            }
        }
    }
}

#[test]
fn a_tile_over_a_huge_raster_without_overviews_says_what_is_missing() {
    // One sparse strip a row: two million rows of two million columns that were never written.
    let side = 1u32 << 21;
    let rows = vec![0u32; (side as usize).div_ceil(64)];
    let bytes = file(&[
        long(WIDTH, &[side]),
        long(257, &[side]),
        long(ROWS, &[64]),
        long(OFFSETS, &rows),
        long(COUNTS, &rows),
        double(SCALE, &[1e-5, 1e-5, 0.0]),
    ]);
    let limits = Limits { max_bytes: 1 << 20, max_pixels: u64::MAX };
    let source = Source::from_bytes("huge", "huge", Bytes::from(bytes), None, &limits, &ChunkCache::new(1 << 20)).unwrap();
    let tile = TileCoord::try_new(3, 4, 2).unwrap().georef(16);
    let error = source.read(0, &tile, &[0], Resampling::Bilinear).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("overviews"), "{error}");
}
