//! XYZ tile coordinates (tile matrix set WebMercatorQuad): rows are counted from the north.

use super::hilbert::hilbert_position;
use crate::error::ErrorKind;
use crate::georef::{Bounds, Crs, GeoTransform, Georef};

/// Side of the Web Mercator square in metres: twice its easternmost x.
pub const WORLD_M: f64 = 2.0 * 20_037_508.342_789_244;

/// Latitude where the square ends, degrees.
pub const MAX_LAT: f64 = 85.051_128_779_806_6;

/// The square in degrees.
pub const WORLD_LON_LAT: Bounds = Bounds { min_x: -180.0, min_y: -MAX_LAT, max_x: 180.0, max_y: MAX_LAT };

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

    /// The tile of a zoom that contains a place in degrees, or that is nearest to it; `None` if the zoom exceeds [`MAX_ZOOM`].
    pub fn at(zoom: u8, lon: f64, lat: f64) -> Option<Self> {
        let (x, y) = world_position(lon, lat);
        let side = (1u64 << zoom.min(MAX_ZOOM)) as f64;
        Self::try_new(zoom.into(), (x * side) as u64, (y * side) as u64).ok()
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

    /// The number of the tile in PMTiles archives: the count of all tiles of shallower zooms, plus its position on the Hilbert curve
    /// of its own zoom.
    ///
    /// ```
    /// use satlas_serve::tiles::TileCoord;
    /// assert_eq!(TileCoord::try_new(1, 1, 0).unwrap().hilbert_id(), 4);
    /// ```
    pub fn hilbert_id(&self) -> u64 {
        let before = ((1u64 << (2 * self.z)) - 1) / 3;
        before + hilbert_position(u32::from(self.z), u64::from(self.x), u64::from(self.y))
    }
}

/// Where a place in degrees lies in the square: from 0 to just below 1, counted from its north-west corner.
pub fn world_position(lon: f64, lat: f64) -> (f64, f64) {
    let (sin, limit) = (lat.to_radians().sin(), 1.0 - f64::EPSILON);
    let (x, y) = (lon / 360.0 + 0.5, 0.5 - sin.atanh() / (2.0 * std::f64::consts::PI));
    (x.clamp(0.0, limit), y.clamp(0.0, limit))
}

/// The place in degrees at a position in the square: the inverse of [`world_position`].
pub fn world_place(x: f64, y: f64) -> (f64, f64) {
    (x * 360.0 - 180.0, (std::f64::consts::PI * (1.0 - 2.0 * y)).sinh().atan().to_degrees())
}

/// Web Mercator metres per pixel at `zoom` with tiles of `tile_size_px`.
pub fn resolution_m(zoom: u8, tile_size_px: usize) -> f64 {
    WORLD_M / (f64::from(1u32 << zoom) * tile_size_px as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(z: u32, x: u64, y: u64) -> u64 {
        TileCoord::try_new(z, x, y).expect("a tile").hilbert_id()
    }

    #[test]
    fn tiles_are_numbered_as_the_specification_does() {
        // Its table of examples.
        for (tile, wanted) in [
            ((0, 0, 0), 0),
            ((1, 0, 0), 1),
            ((1, 0, 1), 2),
            ((1, 1, 1), 3),
            ((1, 1, 0), 4),
            ((2, 0, 0), 5),
            ((12, 3423, 1763), 19_078_479),
        ] {
            assert_eq!(id(tile.0, tile.1, tile.2), wanted, "{tile:?}");
        }
    }

    #[test]
    fn numbers_of_a_zoom_are_all_different_and_neighbours_follow_each_other() {
        let mut tiles: Vec<(u64, i64, i64)> =
            (0..64 * 64).map(|at| (id(6, at % 64, at / 64), (at % 64) as i64, (at / 64) as i64)).collect();
        tiles.sort_unstable();
        assert_eq!(tiles[0].0, 1365);
        for pair in tiles.windows(2) {
            assert_eq!(pair[1].0, pair[0].0 + 1);
            assert_eq!((pair[1].1 - pair[0].1).abs() + (pair[1].2 - pair[0].2).abs(), 1, "{pair:?}");
        }
    }
}
