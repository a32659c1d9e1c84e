//! What the targets share: a file taken as a client's upload, and looked at from all sides.

use bytes::Bytes;
use satlas_serve::raster::{ChunkCache, Limits, PixelWindow, Raster, Resampling, Source, warp};
use satlas_serve::tiles::TileCoord;

/// An upload's limits, small enough that a run of millions stays quick.
const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_pixels: 1 << 22 };

/// Most bands and levels that are looked at.
const MAX_BANDS: usize = 4;
const MAX_LEVELS: usize = 3;

/// Opens a file as an uploaded source, describes it, reads corners of all its levels, and warps it onto a tile.
pub fn look_at(file: Vec<u8>) {
    let chunks = ChunkCache::new(1 << 20);
    let Ok(source) = Source::from_bytes("fuzz", "fuzz", Bytes::from(file), None, &LIMITS, &chunks) else { return };
    let place = source.describe().place;
    for capture in source.captures() {
        read(&*capture.raster);
    }
    let Some(place) = place else { return };
    let bounds = place.bounds_lon_lat;
    for (lon, lat) in
        [(bounds.min_x, bounds.max_y), ((bounds.min_x + bounds.max_x) / 2.0, (bounds.min_y + bounds.max_y) / 2.0)]
    {
        let Some(tile) = tile_at(lon, lat, place.max_zoom) else { continue };
        let grid = tile.georef(16);
        let _ = source.covers(&grid);
        let _ = source.read(0, &grid, &[0], Resampling::Bilinear);
        let _ = warp(&*source.captures()[0].raster, &grid, &[0], Resampling::Cubic);
    }
}

fn read(raster: &dyn Raster) {
    let info = raster.info();
    let bands: Vec<usize> = (0..info.bands.len().min(MAX_BANDS)).collect();
    for level in 0..=info.overviews.len().min(MAX_LEVELS) {
        let (width, height) = if level == 0 { (info.width, info.height) } else { info.overviews[level - 1] };
        for (col, row) in [(-4, -4), (width as i64 / 2, height as i64 / 2), (width as i64 - 8, height as i64 - 8)] {
            let window = PixelWindow { col, row, width: 16, height: 16 };
            if let Ok(patch) = raster.read(level, window, &bands) {
                assert_eq!((patch.pixels.len(), patch.valid.len()), (256 * bands.len(), 256));
            }
        }
    }
}

/// The tile of `zoom` that holds a place.
fn tile_at(lon: f64, lat: f64, zoom: u8) -> Option<TileCoord> {
    let side = f64::from(1u32 << zoom.min(24));
    let col = (lon + 180.0) / 360.0 * side;
    let row = (1.0 - lat.to_radians().tan().asinh() / std::f64::consts::PI) / 2.0 * side;
    TileCoord::try_new(u32::from(zoom.min(24)), col as u64, row as u64).ok()
}

/// A TIFF of 4 x 4 grey pixels, sound but for what its georeference says: a transform of doubles, and GeoKeys with their numbers and
/// texts. The input is cut at a byte that says how long each part is.
pub fn georeferenced(input: &[u8]) -> Vec<u8> {
    let (lengths, rest) = input.split_at(input.len().min(3));
    let length = |part: usize| usize::from(lengths.get(part).copied().unwrap_or(0));
    let (transform, rest) = rest.split_at(rest.len().min(length(0) / 8 * 8));
    let (doubles, rest) = rest.split_at(rest.len().min(length(1) / 8 * 8));
    let (texts, keys) = rest.split_at(rest.len().min(length(2)));
    let scale: Vec<u8> = [1.0f64, 1.0, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let tiepoint: Vec<u8> = [0.0f64, 0.0, 0.0, 10.0, 50.0, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let long = |value: u32| value.to_le_bytes().to_vec();
    let entries: Vec<(u16, u16, Vec<u8>)> = [
        (256, 4, long(4)),
        (257, 4, long(4)),
        (258, 3, vec![8, 0]),
        (259, 3, vec![1, 0]),
        (262, 3, vec![1, 0]),
        (273, 4, long(8)),
        (277, 3, vec![1, 0]),
        (278, 4, long(4)),
        (279, 4, long(16)),
        (33550, 12, scale),
        (33922, 12, tiepoint),
        (34264, 12, transform.to_vec()),
        (34735, 3, keys.to_vec()),
        (34736, 12, doubles.to_vec()),
        (34737, 2, texts.to_vec()),
    ]
    .into_iter()
    .filter(|(_, _, value)| !value.is_empty())
    .collect();
    let mut file = b"II\x2a\0\x18\0\0\0".to_vec();
    file.extend(1..=16u8);
    let mut values_at = (file.len() + 2 + entries.len() * 12 + 4) as u32;
    file.extend((entries.len() as u16).to_le_bytes());
    let mut values = Vec::new();
    for (tag, kind, value) in entries {
        let size = match kind {
            2 => 1,
            3 => 2,
            4 => 4,
            _ => 8,
        };
        file.extend(u16::to_le_bytes(tag));
        file.extend(u16::to_le_bytes(kind));
        file.extend(((value.len() / size) as u32).to_le_bytes());
        if value.len() <= 4 {
            file.extend(value.iter().chain(&[0; 4]).take(4));
        } else {
            file.extend(values_at.to_le_bytes());
            values_at += value.len() as u32;
            values.extend(value);
        }
    }
    file.extend([0; 4]);
    file.extend(values);
    file
}
