//! The grid of inference windows: squares of pixels, each with a halo of context, that the network really runs on.
//!
//! Tiles of one zoom are cut from windows of a fixed grid, so neighbouring tiles share a forward pass. A window belongs to
//! a *pixel zoom*: the zoom whose 256 px tiles have its resolution. A 512 px tile of zoom z lies on pixel zoom z + 1.

use super::coord::{TileCoord, WORLD_M, resolution_m};
use crate::georef::{Crs, GeoTransform, Georef};

/// Tile side that defines the pixel zoom.
const BASE_TILE_PX: usize = 256;

/// Sizes of the windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowGrid {
    /// Side of the part that is answered from, a multiple of 512 so that a tile never crosses windows.
    pub core_px: usize,
    /// Context on each side, a multiple of the network's largest stride (32).
    pub halo_px: usize,
}

impl Default for WindowGrid {
    fn default() -> Self {
        Self { core_px: 512, halo_px: 64 }
    }
}

impl WindowGrid {
    /// Side of the network's input.
    pub fn input_px(&self) -> usize {
        self.core_px + 2 * self.halo_px
    }

    /// The window that holds a tile of `tile_size_px` (256 or 512).
    ///
    /// ```
    /// use satlas_serve::tiles::{TileCoord, WindowGrid};
    /// let grid = WindowGrid::default();
    /// let window = |x, y| grid.window_of(TileCoord::try_new(4, x, y).unwrap(), 256);
    /// assert_eq!(window(6, 4), window(7, 5));
    /// assert_ne!(window(7, 5), window(8, 5));
    /// ```
    pub fn window_of(&self, tile: TileCoord, tile_size_px: usize) -> Window {
        let per_core = (self.core_px / tile_size_px) as u32;
        let pixel_zoom = tile.z() + (tile_size_px / BASE_TILE_PX).trailing_zeros() as u8;
        Window { pixel_zoom, col: tile.x() / per_core, row: tile.y() / per_core }
    }

    /// The pixel grid of the window's input, halo included.
    pub fn georef(&self, window: Window) -> Georef {
        let resolution = resolution_m(window.pixel_zoom, BASE_TILE_PX);
        let origin = |index: u32| (f64::from(index) * self.core_px as f64 - self.halo_px as f64) * resolution;
        Georef {
            crs: Crs::web_mercator(),
            transform: GeoTransform::north_up(
                origin(window.col) - WORLD_M / 2.0,
                WORLD_M / 2.0 - origin(window.row),
                resolution,
                resolution,
            ),
            width: self.input_px(),
            height: self.input_px(),
        }
    }

    /// Column and row of a tile's first pixel in its window's input.
    pub fn offset_of(&self, tile: TileCoord, tile_size_px: usize) -> (usize, usize) {
        let per_core = (self.core_px / tile_size_px) as u32;
        let offset = |index: u32| self.halo_px + (index % per_core) as usize * tile_size_px;
        (offset(tile.x()), offset(tile.y()))
    }
}

/// One window of a [`WindowGrid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// The zoom whose 256 px tiles have the window's resolution.
    pub pixel_zoom: u8,
    /// Column of the window, from the west.
    pub col: u32,
    /// Row of the window, from the north.
    pub row: u32,
}

impl Window {
    /// The window so many columns to the east and rows to the south; `None` beyond the north and the west of the grid.
    pub fn neighbour(&self, cols: i8, rows: i8) -> Option<Self> {
        let col = self.col.checked_add_signed(cols.into())?;
        Some(Self { col, row: self.row.checked_add_signed(rows.into())?, ..*self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_lies_in_its_window_where_its_own_bounds_say() {
        let grid = WindowGrid::default();
        for (z, x, y, size) in [(5, 17, 9, 256), (5, 16, 8, 512), (0, 0, 0, 256), (11, 2047, 3, 512)] {
            let tile = TileCoord::try_new(z, x, y).unwrap();
            let (col, row) = grid.offset_of(tile, size);
            let window = grid.georef(grid.window_of(tile, size));
            let (want, found) = (tile.georef(size).transform, window.transform.shifted(col as f64, row as f64));
            assert!((want.origin_x - found.origin_x).abs() < 1e-6 && (want.origin_y - found.origin_y).abs() < 1e-6);
            assert!((want.pixel_width - found.pixel_width).abs() < 1e-9);
        }
    }
}
