//! Affine transforms from pixels to world coordinates, and bounding boxes.

use super::crs::Crs;

/// A bounding box in the units of some coordinate system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Western edge.
    pub min_x: f64,
    /// Southern edge.
    pub min_y: f64,
    /// Eastern edge.
    pub max_x: f64,
    /// Northern edge.
    pub max_y: f64,
}

impl Bounds {
    /// The smallest box that contains both.
    pub(crate) fn union(self, other: Bounds) -> Bounds {
        Bounds {
            min_x: self.min_x.min(other.min_x),
            min_y: self.min_y.min(other.min_y),
            max_x: self.max_x.max(other.max_x),
            max_y: self.max_y.max(other.max_y),
        }
    }

    /// What both have in common; a least edge lies beyond the greatest if that is nothing.
    pub(crate) fn intersection(self, other: Bounds) -> Bounds {
        Bounds {
            min_x: self.min_x.max(other.min_x),
            min_y: self.min_y.max(other.min_y),
            max_x: self.max_x.min(other.max_x),
            max_y: self.max_y.min(other.max_y),
        }
    }

    /// Whether the two boxes have an area in common.
    pub(crate) fn intersects(&self, other: &Bounds) -> bool {
        self.min_x < other.max_x && other.min_x < self.max_x && self.min_y < other.max_y && other.min_y < self.max_y
    }
}

/// GDAL's six affine coefficients: `x = origin_x + col * pixel_width + row * row_skew` and `y = origin_y + col * col_skew +
/// row * pixel_height`. Positions refer to pixel corners; `pixel_height` is negative in north-up rasters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeoTransform {
    /// World x of the top-left corner of pixel (0, 0).
    pub origin_x: f64,
    /// World x per column.
    pub pixel_width: f64,
    /// World x per row.
    pub row_skew: f64,
    /// World y of the top-left corner of pixel (0, 0).
    pub origin_y: f64,
    /// World y per column.
    pub col_skew: f64,
    /// World y per row.
    pub pixel_height: f64,
}

impl GeoTransform {
    /// The transform without rotation whose top-left corner is (`origin_x`, `origin_y`) and whose rows run south.
    pub fn north_up(origin_x: f64, origin_y: f64, pixel_width: f64, pixel_height: f64) -> Self {
        Self { origin_x, pixel_width, row_skew: 0.0, origin_y, col_skew: 0.0, pixel_height: -pixel_height }
    }

    /// The world position of a fractional pixel position; (0, 0) is the top-left corner of the first pixel.
    pub fn apply(&self, col: f64, row: f64) -> (f64, f64) {
        (
            self.origin_x + col * self.pixel_width + row * self.row_skew,
            self.origin_y + col * self.col_skew + row * self.pixel_height,
        )
    }

    /// The transform of a grid with the same first corner, whose pixels have `factor` times the side.
    fn scaled(&self, factor: f64) -> Self {
        Self {
            pixel_width: self.pixel_width * factor,
            row_skew: self.row_skew * factor,
            col_skew: self.col_skew * factor,
            pixel_height: self.pixel_height * factor,
            ..*self
        }
    }

    /// The inverse transform, from world to pixels; `None` if it is singular or not finite.
    pub fn inverse(&self) -> Option<GeoTransform> {
        let det = self.pixel_width * self.pixel_height - self.row_skew * self.col_skew;
        if !det.is_finite() || det == 0.0 {
            return None;
        }
        let (a, b, d, e) = (self.pixel_height / det, -self.row_skew / det, -self.col_skew / det, self.pixel_width / det);
        Some(GeoTransform {
            origin_x: -(a * self.origin_x + b * self.origin_y),
            pixel_width: a,
            row_skew: b,
            origin_y: -(d * self.origin_x + e * self.origin_y),
            col_skew: d,
            pixel_height: e,
        })
    }

    /// The transform of a window of the raster, whose top-left pixel is (`col`, `row`).
    pub fn shifted(&self, col: f64, row: f64) -> GeoTransform {
        let (origin_x, origin_y) = self.apply(col, row);
        GeoTransform { origin_x, origin_y, ..*self }
    }
}

/// A georeferenced pixel grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Georef {
    /// The coordinate system of the world coordinates.
    pub crs: Crs,
    /// From pixel corners to world coordinates.
    pub transform: GeoTransform,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Georef {
    /// The grid of squares of `side` x `side` pixels from the first corner on, the last of which may reach beyond these pixels.
    pub fn coarsened(&self, side: usize) -> Self {
        let side = side.max(1);
        let transform = self.transform.scaled(side as f64);
        Self { crs: self.crs.clone(), transform, width: self.width.div_ceil(side), height: self.height.div_ceil(side) }
    }

    /// The world coordinates of a lattice over the grid, row by row, with so many steps along each side.
    pub fn lattice(&self, steps: usize) -> impl Iterator<Item = (f64, f64)> + use<> {
        let Self { transform, width, height, .. } = *self;
        let at = move |step: usize, len: usize| len as f64 * step as f64 / steps as f64;
        let along = move || 0..=steps;
        along().flat_map(move |row| along().map(move |col| transform.apply(at(col, width), at(row, height))))
    }

    /// The bounding box of the grid's four corners, in the units of its coordinate system.
    pub fn bounds(&self) -> Bounds {
        let (w, h) = (self.width as f64, self.height as f64);
        let corners = [(0.0, 0.0), (w, 0.0), (0.0, h), (w, h)].map(|(col, row)| self.transform.apply(col, row));
        let fold =
            |pick: fn(&(f64, f64)) -> f64, f: fn(f64, f64) -> f64, start: f64| corners.iter().map(pick).fold(start, f);
        Bounds {
            min_x: fold(|c| c.0, f64::min, f64::INFINITY),
            min_y: fold(|c| c.1, f64::min, f64::INFINITY),
            max_x: fold(|c| c.0, f64::max, f64::NEG_INFINITY),
            max_y: fold(|c| c.1, f64::max, f64::NEG_INFINITY),
        }
    }
}
