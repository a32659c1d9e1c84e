//! Map tiles as a [`Raster`] in Web Mercator: the deepest zoom is full resolution, shallower zooms are overviews.
//!
//! A [`TileStore`] holds the tiles: an archive ([`mbtiles`], [`pmtiles`]) or a host ([`xyz`]). Tiles are read as RGB pictures of 8
//! bits; pixels that are not fully transparent are valid. A missing tile has no data.

mod directory;
mod mbtiles;
mod picture;
mod pmtiles;
mod xyz;

use std::sync::Arc;

use bytes::Bytes;

pub(crate) use self::mbtiles::Mbtiles;
pub(crate) use self::mbtiles::is_sqlite;
pub(crate) use self::pmtiles::Pmtiles;
pub(crate) use self::pmtiles::is_pmtiles;
pub(crate) use self::xyz::XyzTiles;
pub(crate) use self::xyz::is_template;
use crate::georef::{Bounds, Crs, GeoTransform, Georef};
use crate::raster::error::RasterError;
use crate::raster::formats::cache::ChunkCache;
use crate::raster::formats::chunks::{Axis, ChunkAt, ChunkReader, ChunkedImage, Grid, Mask, SampleOrder};
use crate::raster::formats::error::DecodeError;
use crate::raster::formats::samples::Samples;
use crate::raster::pixels::{BandInfo, Overview, Patch, PixelWindow, Raster, RasterInfo, SampleType};
use crate::tiles::{MAX_LAT, MAX_ZOOM, TileCoord, WORLD_LON_LAT, WORLD_M, world_place, world_position};

/// Bytes accepted in one encoded tile.
const MAX_TILE_BYTES: u64 = 8 << 20;

/// Accepted sides of a tile, pixels; most have 256 or 512.
const TILE_SIDES: std::ops::RangeInclusive<usize> = 64..=2048;

/// Decoded tiles held at once while a window is read.
const BATCH: usize = 64;

/// Samples per pixel of a decoded tile: red, green, blue and validity.
const SAMPLES: usize = 4;

/// A source of encoded tiles.
pub(crate) trait TileStore: Send + Sync {
    /// The picture of a tile, at most [`MAX_TILE_BYTES`] long; `None` if there is none.
    ///
    /// # Errors
    /// [`DecodeError`] if what holds the tiles fails or is damaged.
    fn tile(&self, tile: TileCoord) -> Result<Option<Bytes>, DecodeError>;
}

/// The zooms and bounds of a store's tiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TileExtent {
    /// The shallowest zoom.
    pub(crate) min_zoom: u8,
    /// The deepest zoom.
    pub(crate) max_zoom: u8,
    /// Bounds of the tiles, degrees.
    pub(crate) bounds_lon_lat: Bounds,
}

impl TileExtent {
    /// The whole world.
    pub(crate) const WORLD: Bounds = WORLD_LON_LAT;

    /// Checks zooms and bounds.
    ///
    /// # Errors
    /// A sentence about what is wrong with them.
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

    /// As [`TileExtent::try_new`] for bounds that a file states: where they are impossible, tiles may lie anywhere; where west is greater
    /// than east, at all longitudes, because they cross the antimeridian.
    pub(super) fn of_file(min_zoom: i64, max_zoom: i64, bounds: Bounds) -> Result<Self, String> {
        let crosses = bounds.min_x > bounds.max_x || bounds.min_x < -180.0 || bounds.max_x > 180.0;
        let (min_x, max_x) = if crosses { (-180.0, 180.0) } else { (bounds.min_x, bounds.max_x) };
        Self::try_new(min_zoom, max_zoom, Bounds { min_x, max_x, ..bounds })
            .or_else(|_| Self::try_new(min_zoom, max_zoom, Self::WORLD))
    }

    /// With bounds that end where tiles of the deepest zoom do: those that files state may cut them.
    pub(super) fn of_whole_tiles(self) -> Self {
        // Part of a tile by which rounded edges may reach into the next one.
        const SLACK: f64 = 0.01;
        let side = f64::from(1u32 << self.max_zoom);
        let Bounds { min_x, min_y, max_x, max_y } = self.bounds_lon_lat;
        let ((west, north), (east, south)) = (world_position(min_x, max_y), world_position(max_x, min_y));
        let before = |share: f64| (share * side + SLACK).floor() / side;
        let behind = |share: f64| ((share * side - SLACK).ceil() / side).min(1.0);
        let (min_x, max_y) = world_place(before(west), before(north));
        let (max_x, min_y) = world_place(behind(east), behind(south));
        Self { bounds_lon_lat: Bounds { min_x, min_y, max_x, max_y }, ..self }
    }

    /// Bounds as `west,south,east,north`.
    pub(super) fn parse_bounds(text: &str) -> Option<Bounds> {
        let values = text.split(',').map(|part| part.trim().parse().ok()).collect::<Option<Vec<f64>>>()?;
        let [min_x, min_y, max_x, max_y] = values[..] else { return None };
        Some(Bounds { min_x, min_y, max_x, max_y })
    }

    /// The tile of a zoom that contains the centre of the bounds.
    fn middle(&self, zoom: u8) -> Option<TileCoord> {
        let Bounds { min_x, min_y, max_x, max_y } = self.bounds_lon_lat;
        TileCoord::at(zoom, (min_x + max_x) / 2.0, (min_y + max_y) / 2.0)
    }
}

/// Map tiles as a raster.
pub(crate) struct TilePyramid {
    reader: ChunkReader,
    info: RasterInfo,
    /// The deepest zoom first.
    levels: Vec<Zoom>,
}

impl std::fmt::Debug for TilePyramid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TilePyramid").field("name", &self.reader.name()).field("info", &self.info).finish_non_exhaustive()
    }
}

impl TilePyramid {
    /// A raster of the tiles in `store`. Their side is that of `sample`, which is any one of them, or 256 without a sample or where it
    /// is a placeholder.
    ///
    /// # Errors
    /// [`RasterError::Undecodable`] or [`RasterError::Unsupported`] if the sample is not a picture that can be read.
    pub(crate) fn new(
        name: &str,
        store: Arc<dyn TileStore>,
        extent: &TileExtent,
        sample: Option<&Bytes>,
        cache: &ChunkCache,
    ) -> Result<Self, RasterError> {
        let failed = |error: DecodeError| error.in_file(name, picture::FORMAT);
        let tile_px = sample.map_or(Ok(None), |sample| picture::side(sample)).map_err(failed)?.unwrap_or(256);

        let world_px = (tile_px as u64) << extent.max_zoom;
        let Bounds { min_x, min_y, max_x, max_y } = extent.bounds_lon_lat;
        let (west, north) = world_position(min_x, max_y);
        let (east, south) = world_position(max_x, min_y);
        let pixel = |share: f64| (share * world_px as f64) as u64;
        // Overviews down to the zoom at which all fits into about one tile.
        let longer = (pixel(east) - pixel(west)).max(pixel(south) - pixel(north)) / tile_px as u64;
        let levels = (extent.max_zoom - extent.min_zoom).min(longer.checked_ilog2().map_or(0, |log| log as u8 + 1));
        // Aligned to pixels of the coarsest level, so that the edges are the same at every level.
        let step = 1u64 << levels;
        let origin = (pixel(west) / step * step, pixel(north) / step * step);
        let end = |share: f64, start: u64| ((pixel(share) / step + 1) * step).min(world_px).max(start + step);
        let (width, height) = (end(east, origin.0) - origin.0, end(south, origin.1) - origin.1);

        let resolution = WORLD_M / world_px as f64;
        let (x, y) = (origin.0 as f64 * resolution - WORLD_M / 2.0, WORLD_M / 2.0 - origin.1 as f64 * resolution);
        let named = |name: &str| BandInfo { description: Some(name.to_owned()), ..BandInfo::default() };
        let full = (width as usize, height as usize);
        let info = RasterInfo {
            width: full.0,
            height: full.1,
            bands: ["red", "green", "blue"].map(named).to_vec(),
            sample_type: SampleType::U8,
            georef: Some(Georef {
                crs: Crs::web_mercator(),
                transform: GeoTransform::north_up(x, y, resolution, resolution),
                width: full.0,
                height: full.1,
            }),
            is_normalised: false,
            overviews: (1..=levels).map(|level| Overview::of_areas((full.0 >> level, full.1 >> level), full)).collect(),
        };
        // Chunks are counted from the north-west corner of the world, as tiles are.
        let axis = |level: u8, before: u64, len: u64| Axis::Even {
            size: tile_px,
            before: (before >> level) as usize,
            len: (len >> level) as usize,
        };
        let levels = (0..=levels).map(|level| Zoom {
            store: store.clone(),
            zoom: extent.max_zoom - level,
            tile_px,
            grid: Grid {
                columns: axis(level, origin.0, width),
                rows: axis(level, origin.1, height),
                layout: SampleOrder::Interleaved(SAMPLES),
                batch: BATCH,
            },
        });
        let levels = levels.collect();
        Ok(Self { reader: ChunkReader::new(name, picture::FORMAT, cache), info, levels })
    }
}

impl Raster for TilePyramid {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        let Some(zoom) = self.levels.get(level) else {
            return Err(RasterError::NoSuchPart { what: "overview", index: level, count: self.levels.len() });
        };
        self.reader.read(zoom, &Mask::Band(SAMPLES - 1), &self.info.bands, window, bands)
    }
}

/// The tiles of one zoom as chunks.
struct Zoom {
    store: Arc<dyn TileStore>,
    zoom: u8,
    tile_px: usize,
    grid: Grid,
}

impl Zoom {
    fn tile(&self, chunk: ChunkAt) -> Option<TileCoord> {
        TileCoord::try_new(self.zoom.into(), chunk.column as u64, chunk.row as u64).ok()
    }
}

impl ChunkedImage for Zoom {
    fn grid(&self) -> &Grid {
        &self.grid
    }

    fn number(&self, chunk: ChunkAt) -> (u32, u64) {
        (self.zoom.into(), (chunk.row as u64) << 32 | chunk.column as u64)
    }

    fn decode_bytes(&self, _chunk: ChunkAt) -> usize {
        // As decoded, at most 16-bit RGBA, and as RGBA.
        self.tile_px * self.tile_px * 12
    }

    fn decode(&self, chunk: ChunkAt, _stored: Option<&Bytes>) -> Result<Samples, DecodeError> {
        let Some(tile) = self.tile(chunk) else { return Ok(Samples::U8(Vec::new())) };
        let in_tile = |error: DecodeError| error.prefixed(&format!("tile {}/{}/{}", tile.z(), tile.x(), tile.y()));
        match self.store.tile(tile)? {
            Some(bytes) => picture::decode(&bytes, self.tile_px).map(Samples::U8).map_err(in_tile),
            None => Ok(Samples::U8(Vec::new())),
        }
    }

    fn is_remote(&self) -> bool {
        true
    }
}
