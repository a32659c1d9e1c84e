//! The fixed grid of windows from which tiles are cut. The network runs on a window: a square of pixels with a halo of
//! context around it. Neighbouring tiles lie in the same window and share a forward pass.
//!
//! The resolution of a window is given by its *pixel zoom*: the zoom whose 256 px tiles have that resolution. The pixels of
//! a 512 px tile of zoom z have pixel zoom z + 1.

use super::coord::{TileCoord, WORLD_M, resolution_m};
use crate::georef::{Crs, GeoTransform, Georef};

/// Side of the tiles that define the pixel zoom.
const BASE_TILE_PX: usize = 256;

/// The size of all windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowGrid {
    /// Side of the part that tiles are cut from. A multiple of 512, so that every tile lies in one window.
    pub core_px: usize,
    /// Width of the halo on each side. A multiple of the network's largest stride (32).
    pub halo_px: usize,
}

impl Default for WindowGrid {
    fn default() -> Self {
        Self { core_px: 512, halo_px: 64 }
    }
}

impl WindowGrid {
    /// Side of the network's input: the core with the halo on both sides.
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

    /// The pixel grid of a window's input, halo included.
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

    /// Column and row of a tile's top-left pixel in the input of its window.
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
    /// The window's column in the grid, counted from the west.
    pub col: u32,
    /// The window's row in the grid, counted from the north.
    pub row: u32,
}

impl Window {
    /// The window that is `cols` to the east and `rows` to the south; `None` if that is west or north of the grid.
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
