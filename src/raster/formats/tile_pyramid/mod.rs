//! Ready-made map tiles as a [`Raster`] in Web Mercator: the deepest zoom is full resolution, shallower zooms are overviews.
//!
//! Where the tiles lie is the business of a [`TileStore`]: an archive ([`mbtiles`], [`pmtiles`]) or a host ([`xyz`]). Tiles are
//! pictures, whatever their bands were before: three bands of 8 bits, and pixels that are not transparent are valid. A tile that
//! is not there has no data.

mod directory;
mod mbtiles;
mod picture;
mod pmtiles;
mod xyz;

use std::io;
use std::sync::Arc;

use bytes::Bytes;

pub use self::mbtiles::Mbtiles;
pub(crate) use self::mbtiles::is_sqlite;
pub use self::pmtiles::Pmtiles;
pub(crate) use self::pmtiles::is_pmtiles;
pub use self::xyz::XyzTiles;
pub(crate) use self::xyz::is_template;
use crate::georef::{Bounds, Crs, GeoTransform, Georef};
use crate::raster::error::RasterError;
use crate::raster::formats::cache::{ChunkCache, ChunkKey};
use crate::raster::formats::samples::{Run, Samples};
use crate::raster::pixels::{BandInfo, Patch, PixelWindow, Raster, RasterInfo, SampleType};
use crate::storage::in_parallel;
use crate::tiles::{MAX_ZOOM, TileCoord, WORLD_M};

/// Bytes accepted in one encoded tile.
const MAX_TILE_BYTES: u64 = 8 << 20;

/// Sides accepted; most tiles have 256 or 512 pixels.
const TILE_SIDES: std::ops::RangeInclusive<usize> = 64..=2048;

/// Decoded tiles held at once while a window is read.
const BATCH: usize = 64;

/// Red, green, blue and whether the pixel is valid, as decoded tiles hold them.
const SAMPLES: usize = 4;

/// Web Mercator ends here.
const MAX_LAT: f64 = 85.051_128_779_806_6;

/// Where encoded tiles come from.
pub trait TileStore: Send + Sync {
    /// The picture of a tile, at most [`MAX_TILE_BYTES`] of it; `None` where there is none.
    ///
    /// # Errors
    /// What holds the tiles says; `InvalidData` where it is damaged.
    fn tile(&self, tile: TileCoord) -> io::Result<Option<Bytes>>;
}

/// Which tiles a store has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TileExtent {
    /// The shallowest zoom.
    pub min_zoom: u8,
    /// The deepest zoom.
    pub max_zoom: u8,
    /// Where the tiles are, degrees.
    pub bounds_lon_lat: Bounds,
}

impl TileExtent {
    /// The whole world.
    pub const WORLD: Bounds = Bounds { min_x: -180.0, min_y: -MAX_LAT, max_x: 180.0, max_y: MAX_LAT };

    /// Checks zooms and bounds.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn try_new(min_zoom: i64, max_zoom: i64, bounds: Bounds) -> Result<Self, String> {
        if min_zoom < 0 || min_zoom > max_zoom || max_zoom > i64::from(MAX_ZOOM) {
            return Err(format!("its zooms are {min_zoom} to {max_zoom}; a range within 0 to {MAX_ZOOM} is needed"));
        }
        let clamped = Bounds {
            min_x: bounds.min_x.max(-180.0),
            min_y: bounds.min_y.max(-MAX_LAT),
            max_x: bounds.max_x.min(180.0),
            max_y: bounds.max_y.min(MAX_LAT),
        };
        // Clamping a NaN would give the limit.
        let is_number = [bounds.min_x, bounds.min_y, bounds.max_x, bounds.max_y].iter().all(|value| !value.is_nan());
        if !is_number || clamped.min_x >= clamped.max_x || clamped.min_y >= clamped.max_y {
            let Bounds { min_x, min_y, max_x, max_y } = bounds;
            return Err(format!(
                "its bounds are {min_x},{min_y},{max_x},{max_y}; west,south,east,north in degrees is needed"
            ));
        }
        Ok(Self { min_zoom: min_zoom as u8, max_zoom: max_zoom as u8, bounds_lon_lat: clamped })
    }

    /// Bounds as `west,south,east,north`.
    pub(super) fn parse_bounds(text: &str) -> Option<Bounds> {
        let values = text.split(',').map(|part| part.trim().parse().ok()).collect::<Option<Vec<f64>>>()?;
        let [min_x, min_y, max_x, max_y] = values[..] else { return None };
        Some(Bounds { min_x, min_y, max_x, max_y })
    }

    /// The tile of a zoom that holds the middle of the bounds.
    fn middle(&self, zoom: u8) -> Option<TileCoord> {
        let Bounds { min_x, min_y, max_x, max_y } = self.bounds_lon_lat;
        let (x, y) = world_position((min_x + max_x) / 2.0, (min_y + max_y) / 2.0);
        let side = f64::from(1u32 << zoom);
        TileCoord::try_new(zoom.into(), (x * side) as u64, (y * side) as u64).ok()
    }
}

/// Shares of the Web Mercator square, from its north-west corner.
fn world_position(lon: f64, lat: f64) -> (f64, f64) {
    let (sin, limit) = (lat.to_radians().sin(), 1.0 - f64::EPSILON);
    let (x, y) = (lon / 360.0 + 0.5, 0.5 - sin.atanh() / (2.0 * std::f64::consts::PI));
    (x.clamp(0.0, limit), y.clamp(0.0, limit))
}

/// Map tiles as a raster.
pub struct TilePyramid {
    name: String,
    store: Box<dyn TileStore>,
    info: RasterInfo,
    max_zoom: u8,
    tile_px: usize,
    /// Column and row of the raster's first pixel in the world at the deepest zoom.
    origin: (u64, u64),
    cache: ChunkCache,
    id: u64,
}

impl std::fmt::Debug for TilePyramid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TilePyramid").field("name", &self.name).field("info", &self.info).finish_non_exhaustive()
    }
}

impl TilePyramid {
    /// A raster of the tiles in `store`. Their side is that of `sample`, the picture of any one of them.
    ///
    /// # Errors
    /// [`RasterError::Undecodable`] and [`RasterError::Unsupported`] where the sample is no picture that can be read.
    pub fn new(
        name: &str,
        store: Box<dyn TileStore>,
        extent: &TileExtent,
        sample: Option<&Bytes>,
        cache: &ChunkCache,
    ) -> Result<Self, RasterError> {
        let failed = |error: io::Error| RasterError::of_decoder(name, picture::FORMAT, &error);
        let tile_px = sample.map_or(Ok(256), |sample| picture::side(sample)).map_err(failed)?;

        let world_px = (tile_px as u64) << extent.max_zoom;
        let Bounds { min_x, min_y, max_x, max_y } = extent.bounds_lon_lat;
        let (west, north) = world_position(min_x, max_y);
        let (east, south) = world_position(max_x, min_y);
        let pixel = |share: f64| (share * world_px as f64) as u64;
        // Overviews are worth having until all fits into about a tile.
        let longer = (pixel(east) - pixel(west)).max(pixel(south) - pixel(north)) / tile_px as u64;
        let levels = (extent.max_zoom - extent.min_zoom).min(longer.checked_ilog2().map_or(0, |log| log as u8 + 1));
        // A grid that begins and ends on pixels of the coarsest level has the same edges at every level.
        let step = 1u64 << levels;
        let origin = (pixel(west) / step * step, pixel(north) / step * step);
        let end = |share: f64, start: u64| ((pixel(share) / step + 1) * step).min(world_px).max(start + step);
        let (width, height) = (end(east, origin.0) - origin.0, end(south, origin.1) - origin.1);

        let resolution = WORLD_M / world_px as f64;
        let (x, y) = (origin.0 as f64 * resolution - WORLD_M / 2.0, WORLD_M / 2.0 - origin.1 as f64 * resolution);
        let named = |name: &str| BandInfo { description: Some(name.to_owned()), ..BandInfo::default() };
        let info = RasterInfo {
            width: width as usize,
            height: height as usize,
            bands: ["red", "green", "blue"].map(named).to_vec(),
            sample_type: SampleType::U8,
            georef: Some(Georef {
                crs: Crs::web_mercator(),
                transform: GeoTransform::north_up(x, y, resolution, resolution),
                width: width as usize,
                height: height as usize,
            }),
            is_normalised: false,
            overviews: (1..=levels).map(|level| ((width >> level) as usize, (height >> level) as usize)).collect(),
        };
        let (cache, id) = (cache.clone(), ChunkCache::next_raster_id());
        Ok(Self { name: name.to_owned(), store, info, max_zoom: extent.max_zoom, tile_px, origin, cache, id })
    }

    /// The samples of tiles, empty where there is none. What is not in the cache is fetched and decoded by several threads.
    fn tiles(&self, tiles: &[TileCoord]) -> Result<Vec<Arc<Samples>>, RasterError> {
        let key = |tile: &TileCoord| ChunkKey {
            raster: self.id,
            image: tile.z().into(),
            chunk: (u64::from(tile.y()) << 32) | u64::from(tile.x()),
        };
        let found: Vec<Option<Arc<Samples>>> = tiles.iter().map(|tile| self.cache.get(key(tile))).collect();
        let missing: Vec<usize> = (0..tiles.len()).filter(|index| found[*index].is_none()).collect();
        let load = |tile: &TileCoord| self.cache.get_or_decode(key(tile), || self.decode(*tile));
        let loaded = in_parallel(missing.len(), |index| load(&tiles[missing[index]]));
        let loaded = loaded.map_err(|error| RasterError::of_decoder(&self.name, picture::FORMAT, &error))?;
        let mut loaded = loaded.into_iter();
        Ok(found.into_iter().filter_map(|samples| samples.or_else(|| loaded.next())).collect())
    }

    /// `[tile_px, tile_px, 4]`, or nothing where there is no tile.
    fn decode(&self, tile: TileCoord) -> io::Result<Samples> {
        let in_tile = |error: io::Error| {
            let (z, x, y) = (tile.z(), tile.x(), tile.y());
            io::Error::new(error.kind(), format!("tile {z}/{x}/{y}: {error}"))
        };
        match self.store.tile(tile)? {
            Some(bytes) => picture::decode(&bytes, self.tile_px).map(Samples::U8).map_err(in_tile),
            None => Ok(Samples::U8(Vec::new())),
        }
    }
}

impl Raster for TilePyramid {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        let count = self.info.overviews.len() + 1;
        if level >= count {
            return Err(RasterError::NoSuchPart { what: "overview", index: level, count });
        }
        if let Some(band) = bands.iter().find(|band| **band >= self.info.bands.len()) {
            return Err(RasterError::NoSuchBand { band: band + 1, count: self.info.bands.len() });
        }
        let mut patch = Patch::empty(window.width, window.height, bands.len());
        let (cols, rows) = (window.cols_within(self.info.width >> level), window.rows_within(self.info.height >> level));
        if cols.is_empty() || rows.is_empty() {
            return Ok(patch);
        }
        let side = self.tile_px;
        // Pixels of the raster, at this level, that lie before the world's first; tiles are counted in the world.
        let (left, top) = ((self.origin.0 >> level) as usize, (self.origin.1 >> level) as usize);
        let zoom = self.max_zoom - level as u8;
        let touched = |start: usize, end: usize| (start / side) as u64..=((end - 1) / side) as u64;
        let wanted: Vec<TileCoord> = touched(top + rows.start, top + rows.end)
            .flat_map(|y| touched(left + cols.start, left + cols.end).map(move |x| (x, y)))
            .filter_map(|(x, y)| TileCoord::try_new(zoom.into(), x, y).ok())
            .collect();
        for batch in wanted.chunks(BATCH) {
            for (tile, samples) in batch.iter().zip(self.tiles(batch)?) {
                if samples.len() == 0 {
                    continue;
                }
                let (first_col, first_row) = (tile.x() as usize * side, tile.y() as usize * side);
                let within = |wanted: &std::ops::Range<usize>, shift: usize, first: usize| {
                    (wanted.start + shift).max(first)..(wanted.end + shift).min(first + side)
                };
                let across = within(&cols, left, first_col);
                for row in within(&rows, top, first_row) {
                    let to = window.index_of(across.start - left, row - top);
                    let start = ((row - first_row) * side + across.start - first_col) * SAMPLES;
                    put_row(&samples, start, across.len(), bands, &mut patch, to);
                }
            }
        }
        Ok(patch)
    }
}

/// Copies `len` pixels that begin at sample `start` of a decoded tile to pixel `to` of a patch.
fn put_row(samples: &Samples, start: usize, len: usize, bands: &[usize], patch: &mut Patch, to: usize) {
    let run = |sample: usize| Run { samples, start: start + sample, step: SAMPLES, len };
    run(SAMPLES - 1).for_each_valid(Some(0.0), |offset, _| patch.valid[to + offset] = true);
    let Patch { pixels, valid, .. } = patch;
    for (slot, band) in bands.iter().enumerate() {
        run(*band).for_each_valid(None, |offset, value| {
            if valid[to + offset] {
                pixels[(to + offset) * bands.len() + slot] = value;
            }
        });
    }
}
