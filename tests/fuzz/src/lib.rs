//! What the targets do with their bytes. The project's tests do the same with every file of the corpora.

#![allow(unreachable_pub, reason = "a crate of its own for the fuzzer, a module for the tests")]

mod georeferenced;
mod places;

use std::path::Path;

use bytes::Bytes;
use georeferenced::georeferenced;
use places::{checkpoint, product, stac_document};
use satlas_serve::raster::{ChunkCache, Limits, OpenOptions, PixelWindow, Raster, RasterError, Resampling, Source, warp};
use satlas_serve::tiles::TileCoord;
use satlas_serve::weights::{Weights, WeightsKind};

/// A target: true if the bytes were taken for what they claim to be, up to their pixels or tensors.
pub type Target = fn(&[u8]) -> bool;

/// Every target, under the name of its program and of its corpus.
pub const TARGETS: [(&str, Target); 8] = [
    ("geo_keys", geo_keys),
    ("jpeg2000", jpeg2000),
    ("npy", npy),
    ("pickle", pickle),
    ("pmtiles", pmtiles),
    ("safe", safe),
    ("stac", stac),
    ("tiff", tiff),
];

/// An upload's limits, small enough that a run of millions stays quick.
const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_pixels: 1 << 22 };

/// Most captures, bands and levels that are looked at.
const MAX_CAPTURES: usize = 4;
const MAX_BANDS: usize = 4;
const MAX_LEVELS: usize = 3;

/// Any bytes that begin as a TIFF does.
pub fn tiff(bytes: &[u8]) -> bool {
    matches!(bytes, [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..]) && upload(bytes.to_vec())
}

/// Any georeference of an otherwise sound TIFF.
pub fn geo_keys(bytes: &[u8]) -> bool {
    upload(georeferenced(bytes))
}

/// Any bytes that begin as a JPEG 2000 file or codestream does.
pub fn jpeg2000(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0, 0, 12, b'j', b'P', ..] | [0xff, 0x4f, 0xff, 0x51, ..]) && upload(bytes.to_vec())
}

/// Any bytes that begin as a NumPy array does.
pub fn npy(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x93NUMPY") && upload(bytes.to_vec())
}

/// Any bytes that begin as a PMTiles archive does.
pub fn pmtiles(bytes: &[u8]) -> bool {
    let write = |directory: &Path| {
        let path = directory.join("a.pmtiles");
        std::fs::write(&path, bytes).map(|()| path)
    };
    bytes.starts_with(b"PMTiles") && places::with(write, open)
}

/// Any JSON document beside two GeoTIFF files, `one.tif` with a band and `three.tif` with three.
pub fn stac(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{") && places::with(|directory| stac_document(directory, bytes), open)
}

/// Any two metadata files of a Sentinel-2 product, that of the product and that of its granule, with a NUL between them.
pub fn safe(bytes: &[u8]) -> bool {
    places::with(|directory| product(directory, bytes), open)
}

/// Any pickle in an otherwise sound checkpoint of four small storages, `0` to `3`.
pub fn pickle(bytes: &[u8]) -> bool {
    places::with(
        |directory| checkpoint(directory, bytes),
        |path| {
            let Ok(weights) = Weights::open(path, WeightsKind::FineTuned) else { return false };
            let tensors: Vec<_> = weights.tensors().collect();
            tensors
                .iter()
                .filter(|tensor| weights.get(&tensor.name, &tensor.shape, &candle_core::Device::Cpu).is_ok())
                .count()
                > 0
        },
    )
}

/// Opens a file as an uploaded source, and looks at it.
fn upload(file: Vec<u8>) -> bool {
    let chunks = ChunkCache::new(1 << 20);
    look_at(Source::from_bytes("fuzz", "fuzz", Bytes::from(file), None, &LIMITS, &chunks))
}

/// Opens a location as a source of the command line, and looks at it.
fn open(location: &Path) -> bool {
    let options = OpenOptions { limits: LIMITS, chunks: ChunkCache::new(1 << 20), remote: None };
    look_at(Source::open("fuzz", &[location.to_string_lossy().as_ref().into()], &options))
}

/// Describes a source, reads corners of all its levels, and warps it onto tiles; true if any pixels were read.
fn look_at(opened: Result<Source, RasterError>) -> bool {
    let Ok(source) = opened else { return false };
    let place = source.describe().extent;
    let captures = &source.captures()[..source.captures().len().min(MAX_CAPTURES)];
    let reads = captures.iter().map(|capture| read_corners(&*capture.raster)).sum::<usize>();
    let Some(place) = place else { return reads > 0 };
    let bounds = place.bounds_lon_lat;
    for (lon, lat) in
        [(bounds.min_x, bounds.max_y), ((bounds.min_x + bounds.max_x) / 2.0, (bounds.min_y + bounds.max_y) / 2.0)]
    {
        let Some(tile) = tile_at(lon, lat, place.max_zoom) else { continue };
        let grid = tile.georef(16);
        let _ = source.covers(&grid);
        let _ = source.read(0, &grid, &[0], Resampling::Bilinear);
        let _ = warp(&*captures[0].raster, &grid, &[0], Resampling::Cubic);
    }
    reads > 0
}

/// Reads small windows of all levels; how many could be read.
fn read_corners(raster: &dyn Raster) -> usize {
    let info = raster.info();
    let bands: Vec<usize> = (0..info.bands.len().min(MAX_BANDS)).collect();
    let mut reads = 0;
    for level in 0..=info.overviews.len().min(MAX_LEVELS) {
        let (width, height) = if level == 0 { (info.width, info.height) } else { info.overviews[level - 1].size() };
        for (col, row) in [(-4, -4), (width as i64 / 2, height as i64 / 2), (width as i64 - 8, height as i64 - 8)] {
            let window = PixelWindow { col, row, width: 16, height: 16 };
            if let Ok(patch) = raster.read(level, window, &bands) {
                assert_eq!((patch.pixels.len(), patch.valid.len()), (256 * bands.len(), 256));
                reads += 1;
            }
        }
    }
    reads
}

/// The tile of `zoom` that holds a place.
fn tile_at(lon: f64, lat: f64, zoom: u8) -> Option<TileCoord> {
    let side = f64::from(1u32 << zoom.min(24));
    let col = (lon + 180.0) / 360.0 * side;
    let row = (1.0 - lat.to_radians().tan().asinh() / std::f64::consts::PI) / 2.0 * side;
    TileCoord::try_new(u32::from(zoom.min(24)), col as u64, row as u64).ok()
}
