//! Fewer corners on the outlines of regions: polygons stay valid, and neighbours keep the borders they share.
//!
//! Outlines are cut into arcs where more than two cracks between pixels meet; an arc that two rings share is thinned once. A
//! corner `b` between `a` and `c` may go where every corner that the exact outline has between `a` and `c` lies within the
//! tolerance of the line from `a` to `c`, and no corner of any outline lies in the triangle `abc` or all but on that line. Such
//! a step cannot make lines cross and cannot push one over another, so whatever was true of the exact polygons stays true:
//! simple rings, holes inside, no region lost. This is the check of de Berg, van Kreveld and Schirra ("Topologically correct
//! subdivision simplification using the bandwidth criterion", 1998), made corner by corner.
//!
//! Corners stay where they were, on corners of pixels. Junctions never go, nor do corners on the edge of a tile or an image,
//! where the polygons of the neighbour begin.

mod near;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use self::near::{Taken, distance};
use super::polygonize::Region;

/// A corner of pixels, `(column, row)`.
type Point = (u32, u32);

/// Most corners that one line may stand for. It bounds what looking at them again and again costs.
const MAX_STRETCH: u32 = 512;

/// How often corners that were in each other's way are tried again.
const ROUNDS: usize = 4;

/// A map of labels, as it was polygonised.
pub(super) struct Map<'a> {
    /// `[height, width]`.
    pub(super) labels: &'a [u8],
    /// Columns and rows.
    pub(super) size: (usize, usize),
    /// The label of pixels in no region.
    pub(super) ignored: u8,
    /// Whether corners on the edge of the map stay.
    pub(super) keeps_edge: bool,
}

/// Thins the rings of a map's regions, all of which must be there, so that no exact corner is farther than `tolerance_px` from
/// the line that stands for it.
pub(super) fn simplify(regions: &mut [Region], map: &Map<'_>, tolerance_px: f64) {
    let mut arcs = Arcs::default();
    let recipes: Vec<Vec<Part>> =
        regions.iter().flat_map(|region| &region.rings).map(|ring| arcs.parts(map, ring)).collect();
    arcs.thin(map, tolerance_px);
    for (ring, parts) in regions.iter_mut().flat_map(|region| &mut region.rings).zip(recipes) {
        ring.clear();
        parts.into_iter().for_each(|part| arcs.append(part, ring));
    }
}

impl Map<'_> {
    fn label(&self, x: i64, y: i64) -> u8 {
        let inside = x >= 0 && y >= 0 && (x as usize) < self.size.0 && (y as usize) < self.size.1;
        if inside { self.labels[y as usize * self.size.0 + x as usize] } else { self.ignored }
    }

    /// Whether more than two cracks meet.
    fn is_junction(&self, (x, y): Point) -> bool {
        let (x, y) = (i64::from(x), i64::from(y));
        let around = [self.label(x - 1, y - 1), self.label(x, y - 1), self.label(x, y), self.label(x - 1, y)];
        (0..4).filter(|at| around[*at] != around[(at + 1) % 4]).count() > 2
    }

    fn is_on_edge(&self, (x, y): Point) -> bool {
        x == 0 || y == 0 || x as usize == self.size.0 || y as usize == self.size.1
    }
}

/// An arc in a ring, and whether the ring runs against it.
#[derive(Clone, Copy)]
struct Part {
    arc: u32,
    reversed: bool,
}

/// Where an arc's first and last corner lies among all, and whether the last is followed by the first.
#[derive(Clone, Copy)]
struct Arc {
    start: u32,
    end: u32,
    closed: bool,
}

/// Lines of corners. An open arc runs from one fixed corner to another, both included.
#[derive(Default)]
struct Arcs {
    points: Vec<Point>,
    /// The corners before and after, of those that are left.
    before: Vec<u32>,
    after: Vec<u32>,
    arcs: Vec<Arc>,
    /// Arcs by a corner where they begin and the one after that, either way; closed ones begin at their least corner.
    known: HashMap<(Point, Point), Part>,
}

impl Arcs {
    /// Cuts a ring into arcs.
    fn parts(&mut self, map: &Map<'_>, ring: &[Point]) -> Vec<Part> {
        let mut corners: Vec<(Point, bool)> = Vec::with_capacity(ring.len());
        for (from, to) in ring.iter().zip(ring.iter().cycle().skip(1)) {
            corners.push((*from, map.is_junction(*from) || (map.keeps_edge && map.is_on_edge(*from))));
            // Junctions of the regions on the other side lie on straight lines of this one.
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

    /// The arc with these corners, which may be known already.
    fn part(&mut self, line: Vec<Point>, closed: bool) -> Part {
        if let Some(part) = self.known.get(&(line[0], line[1])) {
            return *part;
        }
        let (arc, last) = (self.arcs.len() as u32, line.len() - 1);
        let backwards = if closed { (line[0], line[last]) } else { (line[last], line[last - 1]) };
        self.known.insert(backwards, Part { arc, reversed: true });
        self.known.insert((line[0], line[1]), Part { arc, reversed: false });
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
        Part { arc, reversed: false }
    }

    /// Appends what is left of an arc to a ring, but for the last corner of an open one, with which the next begins.
    fn append(&self, Part { arc, reversed }: Part, ring: &mut Vec<Point>) {
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

    /// Takes away corners, those first that matter least.
    fn thin(&mut self, map: &Map<'_>, tolerance_px: f64) {
        let mut taken = Taken::of(map.size, &self.points);
        let mut straight: HashSet<(Point, Point)> = HashSet::new();
        let mut left: Vec<(u32, u32)> = Vec::with_capacity(self.points.len());
        for (arc, Arc { start, end, closed }) in self.arcs.iter().enumerate() {
            if !closed && *end == start + 1 {
                straight.insert(ordered(self.points[*start as usize], self.points[*end as usize]));
            }
            // A closed arc is found by its first corner.
            left.extend((start + 1..end + u32::from(*closed)).map(|at| (at, arc as u32)));
        }
        let mut gone = vec![false; self.points.len()];
        for _ in 0..ROUNDS {
            let steps = left.iter().filter_map(|(at, arc)| self.step(*at, *arc, tolerance_px));
            let mut queue: BinaryHeap<Reverse<Step>> = steps.map(Reverse).collect();
            let before = left.len();
            while let Some(Reverse(Step { at, before: a, after: c, arc, .. })) = queue.pop() {
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

    /// What taking away the corner at `at` means; `None` where the line would leave the tolerance.
    fn step(&self, at: u32, arc: u32, tolerance_px: f64) -> Option<Step> {
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
        // Distances are no negative numbers, whose bits are in order. Among equals short stretches go first, which keeps stretches
        // of a long line of equal steps equally long.
        Some(Step { error: (error as f32).to_bits(), stretch, at, before, after, arc })
    }

    /// Whether there is no line yet between two corners that a line is to join.
    fn may_join(&self, a: u32, c: u32, straight: &HashSet<(Point, Point)>) -> bool {
        let point = |at: u32| self.points[at as usize];
        let (from, to) = (point(a), point(c));
        let is_loop = point(self.before[a as usize]) == to || point(self.after[c as usize]) == from;
        from != to && !is_loop && !straight.contains(&ordered(from, to))
    }
}

/// A corner that could go.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    error: u32,
    stretch: u32,
    at: u32,
    before: u32,
    after: u32,
    arc: u32,
}

fn ordered(a: Point, b: Point) -> (Point, Point) {
    if a <= b { (a, b) } else { (b, a) }
}

/// The corners of pixels between two on one row or column.
fn between(from: Point, to: Point) -> impl Iterator<Item = Point> {
    let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1));
    let at = |from: u32, to: u32, step: u32| if from < to { from + step } else { from - step.min(from - to) };
    (1..steps).map(move |step| (at(from.0, to.0, step), at(from.1, to.1, step)))
}
