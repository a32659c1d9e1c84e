//! Positions of a target grid's pixels in a source grid: the inverse mapping through two projections, interpolated where the
//! error is negligible.

use crate::georef::{Crs, GeoTransform, Georef};

/// Largest error of the interpolation, in pixels of the coarser grid (GDAL's warper allows 0.125).
const MAX_ERROR_PX: f64 = 0.02;

/// Blocks with a side below this are computed exactly, pixels.
const EXACT_BELOW_PX: usize = 3;

/// A rectangle of a target grid's pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) col: usize,
    pub(crate) row: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// A position in source pixels; (0, 0) is the outer corner of the first. NaN if there is none.
pub(crate) type Position = (f64, f64);

const NOWHERE: Position = (f64::NAN, f64::NAN);

/// The mapping from target pixels to source pixels.
pub(crate) struct Mapping<'a> {
    target: &'a Georef,
    source_crs: &'a Crs,
    same_crs: bool,
    world_to_source: GeoTransform,
    /// Central longitude of a source in degrees; longitudes are shifted by multiples of 360 to lie within 180 of it.
    middle_lon: Option<f64>,
}

impl<'a> Mapping<'a> {
    /// `None` if the source's transform cannot be inverted.
    pub(crate) fn new(source: &'a Georef, target: &'a Georef) -> Option<Self> {
        let bounds = source.bounds();
        Some(Self {
            target,
            source_crs: &source.crs,
            same_crs: source.crs == target.crs,
            world_to_source: source.transform.inverse()?,
            middle_lon: source.crs.is_geographic().then_some((bounds.min_x + bounds.max_x) / 2.0),
        })
    }

    /// The exact position of a (fractional) target pixel position.
    pub(crate) fn exact(&self, col: f64, row: f64) -> Position {
        let (x, y) = self.target.transform.apply(col, row);
        let world = if self.same_crs {
            Some((x, y))
        } else {
            self.target.crs.to_lon_lat(x, y).and_then(|(lon, lat)| self.source_crs.from_lon_lat(lon, lat))
        };
        let Some((mut x, y)) = world else { return NOWHERE };
        if let Some(middle) = self.middle_lon {
            let west = middle - 180.0;
            x = west + (x - west).rem_euclid(360.0);
        }
        self.world_to_source.apply(x, y)
    }

    /// Source columns and rows that a target pixel spans (its bounding box, if the grids are rotated): the median over a block.
    /// `None` if no pixel of the block maps to the source.
    pub(crate) fn scale(&self, block: Block) -> Option<(f64, f64)> {
        const STEPS: usize = 5;
        let (mut across, mut down) = (Vec::new(), Vec::new());
        for step in 0..STEPS * STEPS {
            let at =
                |index: usize, start: usize, len: usize| start as f64 + len as f64 * (index as f64 + 0.5) / STEPS as f64;
            let (col, row) = (at(step % STEPS, block.col, block.width), at(step / STEPS, block.row, block.height));
            let [here, right, below] =
                [(col, row), (col + 1.0, row), (col, row + 1.0)].map(|(col, row)| self.exact(col, row));
            across.push((right.0 - here.0).abs() + (below.0 - here.0).abs());
            down.push((right.1 - here.1).abs() + (below.1 - here.1).abs());
        }
        Some((median(across)?, median(down)?))
    }

    /// Positions of the centres of a block's pixels, row by row. `scale` comes from [`Mapping::scale`].
    pub(crate) fn positions(&self, block: Block, scale: (f64, f64)) -> Vec<Position> {
        let mut positions = vec![NOWHERE; block.width * block.height];
        let max_error = (MAX_ERROR_PX * scale.0.max(1.0), MAX_ERROR_PX * scale.1.max(1.0));
        self.fill(block, Block { col: 0, row: 0, ..block }, max_error, &mut positions);
        positions
    }

    /// Fills `part` (relative to `block`) by interpolation between its corners if the error is small, else quarter by quarter.
    fn fill(&self, block: Block, part: Block, max_error: (f64, f64), positions: &mut [Position]) {
        let exact = |col: f64, row: f64| {
            self.exact((block.col + part.col) as f64 + col + 0.5, (block.row + part.row) as f64 + row + 0.5)
        };
        let index = |col: usize, row: usize| (part.row + row) * block.width + part.col + col;
        if part.width < EXACT_BELOW_PX || part.height < EXACT_BELOW_PX {
            for row in 0..part.height {
                for col in 0..part.width {
                    positions[index(col, row)] = exact(col as f64, row as f64);
                }
            }
            return;
        }
        let (last_col, last_row) = ((part.width - 1) as f64, (part.height - 1) as f64);
        let corners =
            [(0.0, 0.0), (last_col, 0.0), (0.0, last_row), (last_col, last_row)].map(|(col, row)| exact(col, row));
        let interpolated = |u: f64, v: f64| {
            let mix = |a: f64, b: f64, c: f64, d: f64| (a * (1.0 - u) + b * u) * (1.0 - v) + (c * (1.0 - u) + d * u) * v;
            let [a, b, c, d] = corners;
            (mix(a.0, b.0, c.0, d.0), mix(a.1, b.1, c.1, d.1))
        };
        // NaN (no such position) compares as false and so counts as not good.
        let is_good = [(0.5, 0.5), (0.5, 0.0), (0.5, 1.0), (0.0, 0.5), (1.0, 0.5)].iter().all(|&(u, v)| {
            let (guess, truth) = (interpolated(u, v), exact(u * last_col, v * last_row));
            (guess.0 - truth.0).abs() <= max_error.0 && (guess.1 - truth.1).abs() <= max_error.1
        });
        if is_good {
            for row in 0..part.height {
                for col in 0..part.width {
                    positions[index(col, row)] = interpolated(col as f64 / last_col, row as f64 / last_row);
                }
            }
            return;
        }
        for quarter in halves(part) {
            self.fill(block, quarter, max_error, positions);
        }
    }
}

/// The four quarters of a block.
fn halves(part: Block) -> [Block; 4] {
    let (left, top) = (part.width / 2, part.height / 2);
    [
        (0, 0, left, top),
        (left, 0, part.width - left, top),
        (0, top, left, part.height - top),
        (left, top, part.width - left, part.height - top),
    ]
    .map(|(col, row, width, height)| Block { col: part.col + col, row: part.row + row, width, height })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
