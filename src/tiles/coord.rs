//! XYZ tile coordinates (tile matrix set WebMercatorQuad): rows are counted from the north.

use crate::error::ErrorKind;
use crate::georef::{Bounds, Crs, GeoTransform, Georef};

/// Side of the Web Mercator square in metres: twice its easternmost x.
pub const WORLD_M: f64 = 2.0 * 20_037_508.342_789_244;

/// The highest zoom accepted. A pixel then has less than a centimetre, far below any imagery.
pub const MAX_ZOOM: u8 = 24;

/// A zoom, column and row that name no tile.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no tile {z}/{x}/{y}: zoom goes from 0 to {MAX_ZOOM}, x and y from 0 to 2^zoom - 1")]
pub struct TileError {
    /// The zoom.
    pub z: u32,
    /// The column.
    pub x: u64,
    /// The row.
    pub y: u64,
}

impl TileError {
    /// Always [`ErrorKind::Invalid`].
    pub(crate) fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// One tile of the Web Mercator pyramid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TileCoord {
    z: u8,
    x: u32,
    y: u32,
}

impl TileCoord {
    /// Checks zoom, column and row.
    ///
    /// # Errors
    /// [`TileError`] if there is no such tile, or the zoom exceeds [`MAX_ZOOM`].
    ///
    /// ```
    /// use satlas_serve::tiles::TileCoord;
    /// assert!(TileCoord::try_new(2, 3, 3).is_ok());
    /// assert!(TileCoord::try_new(2, 4, 0).is_err());
    /// ```
    pub fn try_new(z: u32, x: u64, y: u64) -> Result<Self, TileError> {
        let error = TileError { z, x, y };
        if z > u32::from(MAX_ZOOM) || x >= 1 << z || y >= 1 << z {
            return Err(error);
        }
        Ok(Self { z: z as u8, x: x as u32, y: y as u32 })
    }

    /// The zoom.
    pub fn z(&self) -> u8 {
        self.z
    }

    /// The column, counted from the west.
    pub fn x(&self) -> u32 {
        self.x
    }

    /// The row, counted from the north.
    pub fn y(&self) -> u32 {
        self.y
    }

    /// The tile's bounding box in Web Mercator metres.
    ///
    /// ```
    /// use satlas_serve::tiles::{TileCoord, WORLD_M};
    /// let north_east = TileCoord::try_new(1, 1, 0).unwrap().bounds_3857();
    /// assert_eq!((north_east.min_x, north_east.max_y), (0.0, WORLD_M / 2.0));
    /// ```
    pub fn bounds_3857(&self) -> Bounds {
        let side = WORLD_M / f64::from(1u32 << self.z);
        let (min_x, max_y) = (f64::from(self.x) * side - WORLD_M / 2.0, WORLD_M / 2.0 - f64::from(self.y) * side);
        Bounds { min_x, min_y: max_y - side, max_x: min_x + side, max_y }
    }

    /// The tile as a pixel grid with `size_px` pixels per side.
    pub fn georef(&self, size_px: usize) -> Georef {
        let bounds = self.bounds_3857();
        let resolution = (bounds.max_x - bounds.min_x) / size_px as f64;
        Georef {
            crs: Crs::web_mercator(),
            transform: GeoTransform::north_up(bounds.min_x, bounds.max_y, resolution, resolution),
            width: size_px,
            height: size_px,
        }
    }
}

/// Web Mercator metres per pixel at `zoom` with tiles of `tile_size_px`.
pub fn resolution_m(zoom: u8, tile_size_px: usize) -> f64 {
    WORLD_M / (f64::from(1u32 << zoom) * tile_size_px as f64)
}
