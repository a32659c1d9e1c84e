//! Removes corners from the outlines of regions so that polygons stay valid and neighbours keep the borders they share.
//!
//! A crack is the edge between two pixels of different regions. Outlines are cut into arcs at junctions, where more than
//! two cracks meet, and an arc that two rings share is simplified once. A corner `b` between `a` and `c` may be removed if
//! every corner of the exact outline between `a` and `c` lies within the tolerance of the line from `a` to `c`, and no
//! other corner of any outline lies in the triangle `abc` or close to that line. Removing it can neither make lines cross
//! nor move one line over another, so the properties of the exact polygons are kept: rings are simple, holes lie inside, no
//! region is lost. This is the test of de Berg, van Kreveld and Schirra ("Topologically correct subdivision simplification
//! using the bandwidth criterion", 1998), applied corner by corner.
//!
//! Remaining corners do not move. Junctions are never removed, nor are corners on the edge of a tile or an image, which the
//! neighbouring tile's polygons share.

mod near;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use self::near::{Taken, distance};
use super::polygonize::Region;

/// A corner of pixels, `(column, row)`.
type Point = (u32, u32);

/// Most exact corners that one line may replace; it bounds the cost of measuring them again in every step.
const MAX_STRETCH: u32 = 512;

/// How often the remaining corners are tried: one may become removable when others are gone.
const ROUNDS: usize = 4;

/// The map of labels that the regions were made from.
pub(super) struct LabelMap<'a> {
    /// `[height, width]`.
    pub(super) labels: &'a [u8],
    /// Columns and rows.
    pub(super) size: (usize, usize),
    /// The label of pixels that belong to no region.
    pub(super) ignored: u8,
    /// Whether corners on the edge of the map are kept.
    pub(super) keeps_edge: bool,
}

/// Simplifies the rings of all regions of a map. Every exact corner stays within `tolerance_px` of the line that replaces
/// it.
pub(super) fn simplify(regions: &mut [Region], map: &LabelMap<'_>, tolerance_px: f64) {
    let mut arcs = Arcs::default();
    let recipes: Vec<Vec<ArcUse>> =
        regions.iter().flat_map(|region| &region.rings).map(|ring| arcs.parts(map, ring)).collect();
    arcs.thin(map, tolerance_px);
    for (ring, parts) in regions.iter_mut().flat_map(|region| &mut region.rings).zip(recipes) {
        ring.clear();
        parts.into_iter().for_each(|part| arcs.append(part, ring));
    }
}

impl LabelMap<'_> {
    fn label(&self, x: i64, y: i64) -> u8 {
        let inside = x >= 0 && y >= 0 && (x as usize) < self.size.0 && (y as usize) < self.size.1;
        if inside { self.labels[y as usize * self.size.0 + x as usize] } else { self.ignored }
    }

    /// Whether more than two cracks meet at a point.
    fn is_junction(&self, (x, y): Point) -> bool {
        let (x, y) = (i64::from(x), i64::from(y));
        let around = [self.label(x - 1, y - 1), self.label(x, y - 1), self.label(x, y), self.label(x - 1, y)];
        (0..4).filter(|at| around[*at] != around[(at + 1) % 4]).count() > 2
    }

    fn is_on_edge(&self, (x, y): Point) -> bool {
        x == 0 || y == 0 || x as usize == self.size.0 || y as usize == self.size.1
    }
}

/// An arc as part of a ring.
#[derive(Clone, Copy)]
struct ArcUse {
    /// Index into [`Arcs::arcs`].
    arc: u32,
    /// Whether the ring runs along the arc from its end to its start.
    reversed: bool,
}

/// A line of corners.
#[derive(Clone, Copy)]
struct Arc {
    /// Index of its first corner in [`Arcs::points`].
    start: u32,
    /// Index of its last corner.
    end: u32,
    /// Whether the last corner is followed by the first. An open arc runs from one fixed corner to another.
    closed: bool,
}

/// All arcs of a map, each stored once.
#[derive(Default)]
struct Arcs {
    points: Vec<Point>,
    /// For each point, the remaining corner before it in its arc.
    before: Vec<u32>,
    /// For each point, the remaining corner after it in its arc.
    after: Vec<u32>,
    arcs: Vec<Arc>,
    /// Arcs by their first two corners, in both directions; closed arcs begin at their least corner.
    known: HashMap<(Point, Point), ArcUse>,
}

impl Arcs {
    /// Cuts a ring into arcs.
    fn parts(&mut self, map: &LabelMap<'_>, ring: &[Point]) -> Vec<ArcUse> {
        let mut corners: Vec<(Point, bool)> = Vec::with_capacity(ring.len());
        for (from, to) in ring.iter().zip(ring.iter().cycle().skip(1)) {
            corners.push((*from, map.is_junction(*from) || (map.keeps_edge && map.is_on_edge(*from))));
            // The regions on the other side of a straight line may meet in a junction on it.
            corners.extend(between(*from, *to).filter(|point| map.is_junction(*point)).map(|point| (point, true)));
        }
        let Some(first) = corners.iter().position(|(_, fixed)| *fixed) else {
            let least = (0..corners.len()).min_by_key(|at| corners[*at].0).unwrap_or_default();
            corners.rotate_left(least);
            return vec![self.part(corners.into_iter().map(|(point, _)| point).collect(), true)];
        };
        corners.rotate_left(first);
        corners.push(corners[0]);
        let (mut parts, mut line) = (Vec::new(), Vec::new());
        for (point, fixed) in corners {
            line.push(point);
            if fixed && line.len() > 1 {
                parts.push(self.part(std::mem::replace(&mut line, vec![point]), false));
            }
        }
        parts
    }

    /// The arc with these corners: the known one, or a new one.
    fn part(&mut self, line: Vec<Point>, closed: bool) -> ArcUse {
        if let Some(part) = self.known.get(&(line[0], line[1])) {
            return *part;
        }
        let (arc, last) = (self.arcs.len() as u32, line.len() - 1);
        let backwards = if closed { (line[0], line[last]) } else { (line[last], line[last - 1]) };
        self.known.insert(backwards, ArcUse { arc, reversed: true });
        self.known.insert((line[0], line[1]), ArcUse { arc, reversed: false });
        let start = self.points.len() as u32;
        let end = start + last as u32;
        self.arcs.push(Arc { start, end, closed });
        // The ends of an open arc are their own neighbours.
        self.before.extend((start..=end).map(|at| {
            if at > start {
                at - 1
            } else if closed {
                end
            } else {
                start
            }
        }));
        self.after.extend((start..=end).map(|at| {
            if at < end {
                at + 1
            } else if closed {
                start
            } else {
                end
            }
        }));
        self.points.extend(line);
        ArcUse { arc, reversed: false }
    }

    /// Appends the remaining corners of an arc to a ring, without the last corner of an open arc, which begins the next
    /// arc.
    fn append(&self, ArcUse { arc, reversed }: ArcUse, ring: &mut Vec<Point>) {
        let Arc { start, end, closed } = self.arcs[arc as usize];
        let (first, last) = match (closed, reversed) {
            (true, _) => (start, start),
            (false, false) => (start, end),
            (false, true) => (end, start),
        };
        let onward = if reversed { &self.before } else { &self.after };
        let mut at = first;
        loop {
            ring.push(self.points[at as usize]);
            at = onward[at as usize];
            if at == last {
                return;
            }
        }
    }

    /// Removes corners, those first that change the outline least.
    fn thin(&mut self, map: &LabelMap<'_>, tolerance_px: f64) {
        let mut taken = Taken::of(map.size, &self.points);
        let mut straight: HashSet<(Point, Point)> = HashSet::new();
        let mut left: Vec<(u32, u32)> = Vec::with_capacity(self.points.len());
        for (arc, Arc { start, end, closed }) in self.arcs.iter().enumerate() {
            if !closed && *end == start + 1 {
                straight.insert(ordered(self.points[*start as usize], self.points[*end as usize]));
            }
            // The first corner of a closed arc stays: the arc is looked up by it.
            left.extend((start + 1..end + u32::from(*closed)).map(|at| (at, arc as u32)));
        }
        let mut gone = vec![false; self.points.len()];
        for _ in 0..ROUNDS {
            let steps = left.iter().filter_map(|(at, arc)| self.step(*at, *arc, tolerance_px));
            let mut queue: BinaryHeap<Reverse<Removal>> = steps.map(Reverse).collect();
            let before = left.len();
            while let Some(Reverse(Removal { at, before: a, after: c, arc, .. })) = queue.pop() {
                let [before, after] = [self.before[at as usize], self.after[at as usize]];
                if gone[at as usize] || (before, after) != (a, c) || !self.may_join(a, c, &straight) {
                    continue;
                }
                let triangle = [a, at, c].map(|at| self.points[at as usize]);
                if taken.any_near(triangle) {
                    continue;
                }
                gone[at as usize] = true;
                taken.clear(triangle[1]);
                (self.after[a as usize], self.before[c as usize]) = (c, a);
                let Arc { start, end, closed } = self.arcs[arc as usize];
                if !closed && (a, c) == (start, end) {
                    straight.insert(ordered(triangle[0], triangle[2]));
                }
                let removable = [a, c].into_iter().filter(|at| *at != start && (closed || *at != end));
                queue.extend(removable.filter_map(|at| self.step(at, arc, tolerance_px)).map(Reverse));
            }
            left.retain(|(at, _)| !gone[*at as usize]);
            if left.len() == before {
                break;
            }
        }
    }

    /// The removal of the corner at `at`; `None` if the new line would exceed the tolerance or [`MAX_STRETCH`].
    fn step(&self, at: u32, arc: u32, tolerance_px: f64) -> Option<Removal> {
        let (before, after) = (self.before[at as usize], self.after[at as usize]);
        let Arc { start, end, .. } = self.arcs[arc as usize];
        let stretch = if before < after { after - before } else { end + 1 - before + after - start };
        if stretch > MAX_STRETCH {
            return None;
        }
        let (a, c) = (self.points[before as usize], self.points[after as usize]);
        let mut error = 0.0;
        for step in 1..stretch {
            let exact = if step <= end - before { before + step } else { start + step - (end - before) - 1 };
            error = f64::max(error, distance(self.points[exact as usize], a, c));
            if error > tolerance_px {
                return None;
            }
        }
        // Non-negative floats sort like their bit patterns. Among equal errors the shortest stretch comes first, so that a
        // long regular staircase is replaced by lines of similar length.
        Some(Removal { error: (error as f32).to_bits(), stretch, at, before, after, arc })
    }

    /// Whether a line may join two corners: they differ, and no line joins them yet.
    fn may_join(&self, a: u32, c: u32, straight: &HashSet<(Point, Point)>) -> bool {
        let point = |at: u32| self.points[at as usize];
        let (from, to) = (point(a), point(c));
        let is_loop = point(self.before[a as usize]) == to || point(self.after[c as usize]) == from;
        from != to && !is_loop && !straight.contains(&ordered(from, to))
    }
}

/// A corner that may be removed. The order of the fields is the order of removal.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Removal {
    /// Bits of the largest distance of an exact corner from the new line.
    error: u32,
    /// How many exact steps the new line replaces.
    stretch: u32,
    at: u32,
    before: u32,
    after: u32,
    arc: u32,
}

fn ordered(a: Point, b: Point) -> (Point, Point) {
    if a <= b { (a, b) } else { (b, a) }
}

/// The corners of pixels between two points on one row or column.
fn between(from: Point, to: Point) -> impl Iterator<Item = Point> {
    let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1));
    let at = |from: u32, to: u32, step: u32| if from < to { from + step } else { from - step.min(from - to) };
    (1..steps).map(move |step| (at(from.0, to.0, step), at(from.1, to.1, step)))
}
