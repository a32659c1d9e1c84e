//! Maps of categories to polygons that follow pixel edges exactly.
//!
//! A region is a maximal 4-connected set of pixels with one label. Its boundary is walked along the edges between pixels
//! with the region on the right-hand side. With rows counted downwards, exterior rings then have a positive shoelace area
//! and holes a negative one. Where two of a region's pixels meet only at a corner, the walk turns left, around the pixel
//! that does not belong to the region: rings then touch at that point instead of crossing themselves, so every polygon is
//! valid by OGC Simple Features. Every pixel and every edge is visited a fixed number of times.

use super::components::{Components, MAX_PIXELS};

/// A maximal 4-connected set of pixels with one label.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// The label of its pixels.
    pub label: u8,
    /// The number of its pixels.
    pub pixels: usize,
    /// The mean of its pixels' scores.
    pub score: f32,
    /// The exterior ring, then the holes. Corners are `(column, row)`; the first is not repeated, and no three are in line.
    pub rings: Vec<Vec<(u32, u32)>>,
}

/// The regions of a `[height, width]` map in the order of their first pixels. Pixels labelled `ignored` belong to none.
///
/// `score` is called once for every pixel of a region, with its row-major position. `labels` must hold `width * height`
/// values, fewer than 2^32 - 1; otherwise the result is empty.
pub fn polygonize(
    labels: &[u8],
    (width, height): (usize, usize),
    ignored: u8,
    score: impl Fn(usize) -> f32,
) -> Vec<Region> {
    if width == 0 || width.checked_mul(height) != Some(labels.len()) || labels.len() >= MAX_PIXELS as usize {
        return Vec::new();
    }
    let grid = Components::find(labels, (width, height), ignored);
    let mut scores = vec![0.0; grid.count];
    let mut regions: Vec<Region> = Vec::with_capacity(grid.count);
    let mut walked = Walked::none(labels.len());
    for y in 0..height {
        for run in grid.row(y) {
            let (first, id) = (y * width + run.start as usize, run.component as usize);
            let label = labels[first];
            if id == regions.len() {
                regions.push(Region { label, pixels: 0, score: 0.0, rings: Vec::new() });
            }
            regions[id].pixels += run.len();
            for pixel in first..first + run.len() {
                scores[id] += f64::from(score(pixel));
                // Every ring runs along the top of some pixel. The first one found of a region is its exterior.
                if (y == 0 || labels[pixel - width] != label) && !walked.has(pixel) {
                    regions[id].rings.push(grid.walk((pixel % width, y), run.component, &mut walked));
                }
            }
        }
    }
    for (region, sum) in regions.iter_mut().zip(scores) {
        region.score = (sum / region.pixels as f64) as f32;
    }
    regions
}

/// One bit per pixel: whether a ring has passed along its top.
struct Walked(Vec<u64>);

impl Walked {
    fn none(pixels: usize) -> Self {
        Self(vec![0; pixels.div_ceil(64)])
    }

    fn has(&self, pixel: usize) -> bool {
        self.0[pixel / 64] >> (pixel % 64) & 1 == 1
    }

    fn mark(&mut self, pixel: usize) {
        self.0[pixel / 64] |= 1 << (pixel % 64);
    }
}

impl Components<'_> {
    /// Walks the ring that starts eastwards along the top of a pixel, and marks the pixels along whose tops it runs.
    fn walk(&self, start: (usize, usize), component: u32, walked: &mut Walked) -> Vec<(u32, u32)> {
        let label = self.labels[start.1 * self.width + start.0];
        let start = (start.0 as isize, start.1 as isize);
        let mut ring = Vec::new();
        let (mut at, mut heading) = (start, Heading::East);
        loop {
            if heading == Heading::East {
                walked.mark(at.1 as usize * self.width + at.0 as usize);
            }
            at = heading.step(at);
            let [left, right] = heading.pixels_ahead(at);
            // The pixel ahead on the right adjoins the one walked along, and the one ahead on the left adjoins that, so
            // equal labels mean one component. Only if the left pixel touches the region at nothing but the corner must
            // components be compared.
            let ahead = self.has(label, right);
            let next = if self.has(label, left) && (ahead || self.holds(component, left)) {
                heading.left()
            } else if ahead {
                heading
            } else {
                heading.right()
            };
            if next != heading {
                ring.push((at.0 as u32, at.1 as u32));
            }
            heading = next;
            if at == start && heading == Heading::East {
                return ring;
            }
        }
    }
}

/// The direction of a step along pixel edges, with rows counted downwards.
#[derive(Clone, Copy, PartialEq)]
enum Heading {
    East,
    South,
    West,
    North,
}

impl Heading {
    fn step(self, (x, y): (isize, isize)) -> (isize, isize) {
        match self {
            Self::East => (x + 1, y),
            Self::South => (x, y + 1),
            Self::West => (x - 1, y),
            Self::North => (x, y - 1),
        }
    }

    /// The pixels ahead of a corner, on the left and on the right.
    fn pixels_ahead(self, (x, y): (isize, isize)) -> [(isize, isize); 2] {
        let (north_west, north_east, south_west, south_east) = ((x - 1, y - 1), (x, y - 1), (x - 1, y), (x, y));
        match self {
            Self::East => [north_east, south_east],
            Self::South => [south_east, south_west],
            Self::West => [south_west, north_west],
            Self::North => [north_west, north_east],
        }
    }

    fn left(self) -> Self {
        match self {
            Self::East => Self::North,
            Self::North => Self::West,
            Self::West => Self::South,
            Self::South => Self::East,
        }
    }

    fn right(self) -> Self {
        self.left().left().left()
    }
}

#[cfg(test)]
mod tests {
    use geo::{Area, LineString, Polygon, Validation};
    use proptest::prelude::*;

    use super::*;

    const NONE: u8 = 255;

    fn regions(rows: &[&str]) -> Vec<Region> {
        let labels: Vec<u8> =
            rows.iter().flat_map(|row| row.bytes()).map(|c| if c == b'.' { NONE } else { c - b'0' }).collect();
        polygonize(&labels, (rows[0].len(), rows.len()), NONE, |_| 1.0)
    }

    /// Twice the shoelace area in pixel coordinates.
    fn signed_area(ring: &[(u32, u32)]) -> i64 {
        let edges = ring.iter().zip(ring.iter().cycle().skip(1));
        let doubled: i64 = edges.map(|(a, b)| i64::from(a.0) * i64::from(b.1) - i64::from(b.0) * i64::from(a.1)).sum();
        doubled / 2
    }

    fn polygon(region: &Region) -> Polygon<f64> {
        let line = |ring: &Vec<(u32, u32)>| -> LineString<f64> {
            ring.iter().chain(ring.first()).map(|(x, y)| (f64::from(*x), f64::from(*y))).collect()
        };
        Polygon::new(line(&region.rings[0]), region.rings[1..].iter().map(line).collect())
    }

    #[test]
    fn one_pixel_is_a_square_with_positive_area() {
        let regions = regions(&["...", ".7.", "..."]);
        assert_eq!(regions.len(), 1);
        assert_eq!((regions[0].label, regions[0].pixels), (7, 1));
        assert_eq!(regions[0].rings, [vec![(2, 1), (2, 2), (1, 2), (1, 1)]]);
        assert_eq!(signed_area(&regions[0].rings[0]), 1);
    }

    #[test]
    fn a_ring_has_a_hole_and_the_island_in_it_is_a_region_of_its_own() {
        let regions = regions(&["11111", "1...1", "1.1.1", "1...1", "11111"]);
        let rings: Vec<usize> = regions.iter().map(|region| region.rings.len()).collect();
        assert_eq!(rings, [2, 1]);
        assert_eq!((signed_area(&regions[0].rings[0]), signed_area(&regions[0].rings[1])), (25, -9));
    }

    #[test]
    fn pixels_that_meet_at_a_corner_are_two_regions() {
        assert_eq!(regions(&["1.", ".1"]).len(), 2);
    }

    #[test]
    fn a_hole_that_touches_the_exterior_at_a_corner_stays_a_hole() {
        let regions = regions(&["11.", "1.1", "111"]);
        let areas: Vec<i64> = regions[0].rings.iter().map(|ring| signed_area(ring)).collect();
        assert_eq!((regions.len(), areas), (1, vec![8, -1]));
        assert!(polygon(&regions[0]).is_valid());
    }

    #[test]
    fn a_regions_score_is_the_mean_of_its_pixels() {
        let scores = [0.5, 1.0, 0.25, 0.75];
        let regions = polygonize(&[1, 1, 2, 2], (4, 1), NONE, |pixel| scores[pixel]);
        assert_eq!(regions.iter().map(|region| region.score).collect::<Vec<_>>(), [0.75, 0.5]);
    }

    #[test]
    fn sizes_that_contradict_the_labels_give_no_region() {
        assert!(polygonize(&[], (0, 0), NONE, |_| 1.0).is_empty());
        assert!(polygonize(&[1, 1], (3, 1), NONE, |_| 1.0).is_empty());
    }

    proptest! {
        #[test]
        fn polygons_are_valid_cover_their_pixels_and_leave_their_holes(
            width in 1usize..14,
            cells in proptest::collection::vec(prop_oneof![2 => Just(NONE), 2 => Just(0u8), 1 => Just(1u8)], 1..170),
        ) {
            let height = cells.len() / width;
            let labels = &cells[..width * height];
            let regions = polygonize(labels, (width, height), NONE, |_| 1.0);
            for label in [0, 1] {
                let pixels: usize = regions.iter().filter(|r| r.label == label).map(|r| r.pixels).sum();
                prop_assert_eq!(pixels, labels.iter().filter(|l| **l == label).count());
            }
            for region in &regions {
                let area: i64 = region.rings.iter().map(|ring| signed_area(ring)).sum();
                prop_assert_eq!(area, region.pixels as i64);
                prop_assert!(signed_area(&region.rings[0]) > 0);
                prop_assert!(region.rings[1..].iter().all(|ring| signed_area(ring) < 0));
                let polygon = polygon(region);
                prop_assert!(polygon.is_valid(), "{:?}", polygon);
                prop_assert_eq!(polygon.unsigned_area(), region.pixels as f64);
            }
        }
    }
}
