//! The polygons of an area in pixels of its grid: which pixels and positions lie inside.

use std::ops::Range;

use super::super::error::EngineError;
use super::shape::{AreaShape, MAX_CORNERS};
use crate::georef::Georef;

/// Edges are projected in pieces of at most this many pixels: straight lines of longitude and latitude are curved on the grid.
const PIECE_PX: f64 = 32.0;

/// Most pieces of one edge.
const MAX_PIECES: f64 = 4096.0;

/// Most pieces of all edges: one for each of as many corners as there may be, and as many again for long edges.
const MAX_PIECES_OF_ALL: usize = 2 * MAX_CORNERS;

/// A position in pixels.
type Position = (f64, f64);

/// Polygons in pixels of a grid. A position is inside if it lies in a polygon and not in one of its holes.
#[derive(Debug)]
pub(super) struct Outline {
    /// The edges of each polygon, holes included.
    polygons: Vec<Vec<(Position, Position)>>,
}

impl Outline {
    /// The outline of `shape` on `grid`. Corners that the grid's coordinate system does not cover are left out.
    ///
    /// # Errors
    /// [`EngineError::TooLarge`] if its edges have too many pieces.
    pub(super) fn of(shape: &AreaShape, grid: &Georef) -> Result<Self, EngineError> {
        let to_pixels = grid.transform.inverse();
        let place = |lon: f64, lat: f64| {
            let (x, y) = grid.crs.from_lon_lat(lon, lat)?;
            Some(to_pixels?.apply(x, y))
        };
        let mut polygons = Vec::new();
        for rings in lines_of(shape, place)? {
            let edges = rings.iter().flat_map(|line| line.iter().copied().zip(line.iter().copied().cycle().skip(1)));
            polygons.push(edges.collect());
        }
        Ok(Self { polygons })
    }

    /// `[rows, cols]`: whether each pixel's centre is inside.
    pub(super) fn mask(&self, cols: Range<usize>, rows: Range<usize>) -> Vec<bool> {
        /// So few that all crossings of the edges with them fit into memory, however many edges there are.
        const ROWS: usize = 64;
        let mut mask = vec![false; cols.len() * rows.len()];
        for (part, first) in mask.chunks_mut((ROWS * cols.len()).max(1)).zip(rows.clone().step_by(ROWS)) {
            self.mark(part, &cols, first..(first + ROWS).min(rows.end));
        }
        mask
    }

    /// Sets what is inside in the mask of some rows.
    fn mark(&self, mask: &mut [bool], cols: &Range<usize>, rows: Range<usize>) {
        let col = |x: f64| ((x - 0.5).ceil().clamp(cols.start as f64, cols.end as f64)) as usize - cols.start;
        let mut crossings: Vec<Vec<usize>> = vec![Vec::new(); rows.len()];
        for polygon in &self.polygons {
            for edge in polygon {
                let (top, bottom) = (edge.0.1.min(edge.1.1), edge.0.1.max(edge.1.1));
                let first = ((top - 0.5).ceil().max(rows.start as f64)) as usize;
                for row in (first..rows.end).take_while(|row| *row as f64 + 0.5 <= bottom) {
                    if let Some(at) = crossing(*edge, row as f64 + 0.5).map(col).filter(|at| *at < cols.len()) {
                        let crossings = &mut crossings[row - rows.start];
                        // Two of them before the columns cancel each other out.
                        if at == 0 && crossings.first() == Some(&0) {
                            crossings.swap_remove(0);
                        } else {
                            crossings.push(at);
                            let last = crossings.len() - 1;
                            if at == 0 {
                                crossings.swap(0, last);
                            }
                        }
                    }
                }
            }
            for (row, at) in crossings.iter_mut().enumerate().filter(|(_, at)| !at.is_empty()) {
                at.sort_unstable();
                for span in at.chunks(2) {
                    // One that has no other ends beyond the columns.
                    let end = span.get(1).copied().unwrap_or(cols.len());
                    mask[row * cols.len()..][span[0]..end].fill(true);
                }
                at.clear();
            }
        }
    }

    /// True if the centre of a pixel of a rectangle is inside.
    pub(super) fn meets(&self, cols: &Range<usize>, rows: &Range<usize>) -> bool {
        /// A mask of some rows at a time takes little memory.
        const ROWS: usize = 256;
        let (left, right) = (cols.start as f64, cols.end as f64);
        let (top, bottom) = (rows.start as f64, rows.end as f64);
        let is_near = |((ax, ay), (bx, by)): &(Position, Position)| {
            ax.min(*bx) < right && ax.max(*bx) > left && ay.min(*by) < bottom && ay.max(*by) > top
        };
        if !self.polygons.iter().flatten().any(is_near) {
            // Wholly inside or wholly outside.
            return self.holds((f64::midpoint(left, right), f64::midpoint(top, bottom)));
        }
        let mut parts = rows.clone().step_by(ROWS).map(|row| row..(row + ROWS).min(rows.end));
        parts.any(|rows| self.mask(cols.clone(), rows).contains(&true))
    }

    /// True if a position is inside.
    pub(super) fn holds(&self, at: Position) -> bool {
        self.polygons.iter().any(|polygon| encloses(polygon.iter().copied(), at))
    }
}

/// Whether the edges of a polygon, holes included, enclose a position, by the even-odd rule.
pub(in crate::engine) fn encloses(edges: impl Iterator<Item = (Position, Position)>, (x, y): Position) -> bool {
    edges.filter_map(|edge| crossing(edge, y)).filter(|at| *at <= x).count() % 2 == 1
}

/// Where an edge crosses the line at `y`; its lower end does not count, so that two edges that meet there count once.
fn crossing((a, b): (Position, Position), y: f64) -> Option<f64> {
    let crosses = (a.1 <= y) != (b.1 <= y);
    crosses.then(|| a.0 + (y - a.1) / (b.1 - a.1) * (b.0 - a.0))
}

/// The rings of each polygon as lines on the grid, in pieces that are short enough to be straight.
///
/// # Errors
/// [`EngineError::TooLarge`] if there are too many pieces: edges of many pixels are for shapes of few corners.
pub(super) fn lines_of(
    shape: &AreaShape,
    place: impl Fn(f64, f64) -> Option<Position> + Copy,
) -> Result<Vec<Vec<Vec<Position>>>, EngineError> {
    let mut left = MAX_PIECES_OF_ALL;
    let lines = |rings: &Vec<Vec<Position>>| {
        rings.iter().map(|ring| line_of(ring, place, &mut left)).collect::<Result<Vec<_>, EngineError>>()
    };
    shape.polygons.iter().map(lines).collect()
}

fn line_of(
    ring: &[Position],
    place: impl Fn(f64, f64) -> Option<Position>,
    left: &mut usize,
) -> Result<Vec<Position>, EngineError> {
    let mut line = Vec::new();
    let next = ring.iter().skip(1).chain(ring.first());
    for ((lon, lat), (next_lon, next_lat)) in ring.iter().zip(next) {
        let ends = place(*lon, *lat).zip(place(*next_lon, *next_lat));
        let length = ends.map_or(f64::INFINITY, |(a, b)| (a.0 - b.0).hypot(a.1 - b.1));
        let pieces = (length / PIECE_PX).ceil().clamp(1.0, MAX_PIECES) as usize;
        *left = left.checked_sub(pieces).ok_or(EngineError::TooLarge {
            what: "pieces of 32 pixels in the edges of the geometry",
            found: (MAX_PIECES_OF_ALL - *left + pieces) as u64,
            limit: MAX_PIECES_OF_ALL as u64,
        })?;
        line.extend((0..pieces).filter_map(|piece| {
            let at = piece as f64 / pieces as f64;
            place(lon + at * (next_lon - lon), lat + at * (next_lat - lat))
        }));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::georef::{Crs, GeoTransform};

    fn outline(coordinates: serde_json::Value) -> Outline {
        let shape = AreaShape::from_geometry(&json!({"type": "MultiPolygon", "coordinates": coordinates})).unwrap();
        let transform = GeoTransform::north_up(0.0, 10.0, 1.0, 1.0);
        Outline::of(&shape, &Georef { crs: Crs::lon_lat(), transform, width: 20, height: 10 }).unwrap()
    }

    #[test]
    fn the_pixels_whose_centre_is_inside_are_masked() {
        // A square with a hole, and a triangle that overlaps it.
        let square = json!([[[1, 1], [9, 1], [9, 9], [1, 9], [1, 1]], [[3, 3], [3, 7], [7, 7], [7, 3], [3, 3]]]);
        let triangle = json!([[[8, 1], [18, 1], [8, 9], [8, 1]]]);
        let outline = outline(json!([square, triangle]));
        let mask = outline.mask(0..20, 0..10);
        for row in 0..10 {
            for col in 0..20 {
                let centre = (col as f64 + 0.5, row as f64 + 0.5);
                assert_eq!(mask[row * 20 + col], outline.holds(centre), "{col} {row}");
            }
        }
        let inside = |lon: f64, lat: f64| outline.holds((lon, 10.0 - lat));
        assert!(inside(2.0, 2.0) && !inside(5.0, 5.0) && inside(8.5, 5.0) && inside(12.0, 3.0) && !inside(17.0, 8.0));
        assert!(outline.meets(&(1..2), &(8..9)) && !outline.meets(&(4..6), &(4..6)) && !outline.meets(&(18..20), &(0..3)));
        let part = outline.mask(5..12, 2..6);
        for row in 0..4 {
            assert_eq!(part[row * 7..][..7], mask[(row + 2) * 20 + 5..][..7]);
        }
    }
}
