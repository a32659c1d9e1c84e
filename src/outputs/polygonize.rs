//! Maps of classes to polygons that follow pixel edges exactly.
//!
//! A region is a maximal 4-connected set of pixels with one label. Its boundary is walked along the cracks between pixels
//! with the region on the right-hand side, rows counted downwards, so that exterior rings have a positive shoelace area in
//! pixel coordinates and holes a negative one. Where two of a region's pixels meet only at a corner the walk turns left, around
//! the pixel that does not belong: rings then touch at that point instead of crossing themselves, which keeps every
//! polygon valid by OGC Simple Features. Every pixel and every crack is visited a fixed number of times.
//!
//! What is kept beside the labels is a bit a pixel and twelve bytes a run, a stretch of one label along a row: maps of classes have
//! far fewer runs than pixels.

/// A 4-connected set of pixels with one label.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// The label its pixels share.
    pub label: u8,
    /// How many pixels it has.
    pub pixels: usize,
    /// Mean of its pixels' scores.
    pub score: f32,
    /// The exterior ring, then the holes: corners `(column, row)`, not closed, no three in a line.
    pub rings: Vec<Vec<(u32, u32)>>,
}

/// The regions of a `[height, width]` map in the order of their first pixels; pixels labelled `ignored` belong to none.
///
/// `score` is asked once for every pixel in a region, by its row-major position. `labels` must hold `width * height` values,
/// fewer than 2^32; otherwise there is no region.
pub fn polygonize(
    labels: &[u8],
    (width, height): (usize, usize),
    ignored: u8,
    score: impl Fn(usize) -> f32,
) -> Vec<Region> {
    if width == 0 || width.checked_mul(height) != Some(labels.len()) || labels.len() >= OUTSIDE as usize {
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
                // Every ring runs along the top of some pixel; the first one met of a region is its exterior.
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

/// More pixels, and so more components, than this are not numbered.
const OUTSIDE: u32 = u32::MAX;

/// Pixels `start .. end` of a row that share a label, and with it a component.
#[derive(Clone, Copy)]
struct Run {
    start: u32,
    end: u32,
    component: u32,
}

impl Run {
    fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// A bit for each pixel whose top some ring has passed.
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

/// Which component each pixel belongs to, run by run.
struct Components<'a> {
    labels: &'a [u8],
    width: usize,
    height: usize,
    /// Row by row, from west to east; pixels with the ignored label are in none.
    runs: Vec<Run>,
    /// Where each row's runs begin, and where the last one's end.
    rows: Vec<usize>,
    /// Components are numbered in the order of their first pixels.
    count: usize,
}

impl<'a> Components<'a> {
    /// Labels components with a union-find forest: one pass joins runs that touch, a second numbers the roots.
    fn find(labels: &'a [u8], (width, height): (usize, usize), ignored: u8) -> Self {
        let mut forest: Vec<u32> = Vec::new();
        let mut runs: Vec<Run> = Vec::new();
        let mut rows = vec![0];
        for y in 0..height {
            let row = &labels[y * width..][..width];
            let mut above = rows[y.saturating_sub(1)]..rows[y];
            let mut start = 0;
            while start < width {
                let label = row[start];
                let end = start + row[start..].iter().take_while(|other| **other == label).count();
                if label != ignored {
                    let (from, to) = (start as u32, end as u32);
                    let mut node = None;
                    while above.start < above.end && runs[above.start].end <= from {
                        above.start += 1;
                    }
                    for other in runs[above.clone()].iter().take_while(|other| other.start < to) {
                        if labels[(y - 1) * width + other.start as usize] == label {
                            node = Some(node.map_or(other.component, |node| join(&mut forest, node, other.component)));
                        }
                    }
                    let component = node.unwrap_or_else(|| {
                        forest.push(forest.len() as u32);
                        forest.len() as u32 - 1
                    });
                    runs.push(Run { start: from, end: to, component });
                }
                start = end;
            }
            rows.push(runs.len());
        }
        // Roots are the least nodes of their trees, and nodes are born in scan order: so are the numbers given here.
        let mut count = 0;
        let mut numbers = vec![OUTSIDE; forest.len()];
        for node in 0..forest.len() as u32 {
            let root = root(&mut forest, node);
            if root == node {
                numbers[node as usize] = count;
                count += 1;
            } else {
                numbers[node as usize] = numbers[root as usize];
            }
        }
        runs.iter_mut().for_each(|run| run.component = numbers[run.component as usize]);
        Self { labels, width, height, runs, rows, count: count as usize }
    }

    /// The runs of row `y`.
    fn row(&self, y: usize) -> &[Run] {
        &self.runs[self.rows[y]..self.rows[y + 1]]
    }

    /// Whether the pixel at `(x, y)`, which may lie beyond the map, has a label.
    fn has(&self, label: u8, (x, y): (isize, isize)) -> bool {
        let inside = x >= 0 && y >= 0 && (x as usize) < self.width && (y as usize) < self.height;
        inside && self.labels[y as usize * self.width + x as usize] == label
    }

    /// Whether the pixel at `(x, y)` of the map, whose label is that of a component, belongs to it.
    fn holds(&self, component: u32, (x, y): (isize, isize)) -> bool {
        let runs = self.row(y as usize);
        let next = runs.partition_point(|run| run.start as isize <= x);
        next > 0 && runs[next - 1].component == component
    }

    /// Walks the ring that starts eastwards along the top of a pixel, marking the pixels whose tops it passes.
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
            // The pixel on the right touches the one walked along, the one on the left touches that: with one label they are one
            // component. Only where two pixels of a label meet at nothing but the corner their components have to be compared.
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

/// The way along a crack, on the map with rows going down.
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

    /// The pixels ahead of a corner, to the left and to the right of the way.
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

/// The least node of a node's tree, halving the path to it.
fn root(forest: &mut [u32], mut node: u32) -> u32 {
    while forest[node as usize] != node {
        let grandparent = forest[forest[node as usize] as usize];
        forest[node as usize] = grandparent;
        node = grandparent;
    }
    node
}

/// Joins two trees under the lesser root.
fn join(forest: &mut [u32], a: u32, b: u32) -> u32 {
    let (a, b) = (root(forest, a), root(forest, b));
    forest[a.max(b) as usize] = a.min(b);
    a.min(b)
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

    /// The component of every pixel by filling from its first one.
    fn filled(labels: &[u8], width: usize) -> Vec<Option<usize>> {
        let mut found: Vec<Option<usize>> = vec![None; labels.len()];
        let mut count = 0;
        for first in 0..labels.len() {
            if labels[first] == NONE || found[first].is_some() {
                continue;
            }
            let mut open = vec![first];
            while let Some(pixel) = open.pop() {
                if labels[pixel] != labels[first] || found[pixel].is_some() {
                    continue;
                }
                found[pixel] = Some(count);
                let (x, y) = (pixel % width, pixel / width);
                open.extend((x > 0).then(|| pixel - 1));
                open.extend((x + 1 < width).then(|| pixel + 1));
                open.extend((y > 0).then(|| pixel - width));
                open.extend((pixel + width < labels.len()).then(|| pixel + width));
            }
            count += 1;
        }
        found
    }

    proptest! {
        #[test]
        fn runs_have_the_components_that_filling_finds(
            width in 1usize..14,
            cells in proptest::collection::vec(prop_oneof![2 => Just(NONE), 2 => Just(0u8), 1 => Just(1u8)], 1..170),
        ) {
            let height = cells.len() / width;
            let labels = &cells[..width * height];
            let grid = Components::find(labels, (width, height), NONE);
            let mut found = vec![None; labels.len()];
            for y in 0..height {
                for run in grid.row(y) {
                    found[y * width + run.start as usize..y * width + run.end as usize].fill(Some(run.component as usize));
                }
            }
            prop_assert_eq!(found, filled(labels, width));
        }

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
