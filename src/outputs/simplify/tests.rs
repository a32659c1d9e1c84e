use geo::{Area, BooleanOps, LineString, Polygon, Validation};
use proptest::prelude::*;

use super::super::polygonize::polygonize;
use super::*;

const NONE: u8 = 255;

fn map<'a>(labels: &'a [u8], width: usize) -> LabelMap<'a> {
    LabelMap { labels, size: (width, labels.len() / width), ignored: NONE, keeps_edge: true }
}

/// The regions of a map, exact and simplified.
fn both(map: &LabelMap<'_>, tolerance_px: f64) -> (Vec<Region>, Vec<Region>) {
    let exact = polygonize(map.labels, map.size, map.ignored, |_| 1.0);
    let mut simple = exact.clone();
    simplify(&mut simple, map, tolerance_px);
    (exact, simple)
}

fn polygon(region: &Region) -> Polygon<f64> {
    let line = |ring: &Vec<Point>| -> LineString<f64> {
        ring.iter().chain(ring.first()).map(|(x, y)| (f64::from(*x), f64::from(*y))).collect()
    };
    Polygon::new(line(&region.rings[0]), region.rings[1..].iter().map(line).collect())
}

fn corners(regions: &[Region]) -> usize {
    regions.iter().flat_map(|region| &region.rings).map(Vec::len).sum()
}

/// Largest distance of a corner of the exact rings from the simplified ones.
fn farthest(exact: &[Region], simple: &[Region]) -> f64 {
    let rings = |regions: &[Region]| regions.iter().flat_map(|region| region.rings.clone()).collect::<Vec<_>>();
    let from_ring = |point: Point, ring: &[Point]| {
        let lines = ring.iter().zip(ring.iter().cycle().skip(1));
        lines.map(|(from, to)| distance(point, *from, *to)).fold(f64::INFINITY, f64::min)
    };
    let pairs = rings(exact).into_iter().zip(rings(simple));
    pairs.flat_map(|(exact, simple)| exact.into_iter().map(move |point| from_ring(point, &simple))).fold(0.0, f64::max)
}

fn check(map: &LabelMap<'_>, tolerance_px: f64) -> Result<(), TestCaseError> {
    let (exact, simple) = both(map, tolerance_px);
    prop_assert!(farthest(&exact, &simple) <= tolerance_px);
    let polygons: Vec<Polygon<f64>> = simple.iter().map(polygon).collect();
    for (region, polygon) in simple.iter().zip(&polygons) {
        prop_assert!(polygon.is_valid(), "{:?}", polygon);
        prop_assert!(region.rings.iter().all(|ring| ring.len() >= 3), "{:?}", region);
    }
    for (index, polygon) in polygons.iter().enumerate() {
        for other in &polygons[index + 1..] {
            prop_assert!(polygon.intersection(other).unsigned_area() < 1e-6, "{:?} {:?}", polygon, other);
        }
    }
    // Regions that filled the map still do: the area that one loses, its neighbour gains.
    if !map.labels.contains(&map.ignored) {
        let area: f64 = polygons.iter().map(Area::unsigned_area).sum();
        prop_assert!((area - map.labels.len() as f64).abs() < 1e-6, "{} of {}", area, map.labels.len());
    }
    Ok(())
}

/// Overlapping discs (column, row, radius): the label is the number of discs over a pixel less one, at most 2, and
/// `background` outside of all.
fn patches(width: usize, height: usize, lobes: &[(usize, usize, usize)], background: u8) -> Vec<u8> {
    let label = |at: usize| {
        let (x, y) = (at % width, at / width);
        let inside = |(col, row, radius): &(usize, usize, usize)| {
            let (dx, dy) = (x.abs_diff(*col), y.abs_diff(*row));
            dx * dx + dy * dy <= radius * radius
        };
        match lobes.iter().filter(|lobe| inside(lobe)).count() {
            0 => background,
            count => (count as u8 - 1).min(2),
        }
    };
    (0..width * height).map(label).collect()
}

proptest! {
    #[test]
    fn simplified_noise_stays_valid_within_its_tolerance_and_apart(
        width in 1usize..12,
        cells in proptest::collection::vec(prop_oneof![1 => Just(NONE), 2 => Just(0u8), 2 => Just(1u8)], 1..120),
        tolerance_px in prop_oneof![Just(0.5), Just(1.0), Just(2.5), Just(20.0)],
    ) {
        let labels = &cells[..cells.len() / width * width];
        prop_assume!(!labels.is_empty());
        check(&map(labels, width), tolerance_px)?;
    }

    #[test]
    fn simplified_patches_stay_valid_within_their_tolerance_and_apart(
        lobes in proptest::collection::vec((0usize..40, 0usize..30, 1usize..12), 1..9),
        background in prop_oneof![Just(NONE), Just(3u8)],
        tolerance_px in prop_oneof![Just(0.5), Just(1.0), Just(3.0), Just(30.0)],
    ) {
        check(&map(&patches(40, 30, &lobes, background), 40), tolerance_px)?;
    }
}

#[test]
fn a_corner_just_within_the_tolerance_is_so_from_either_side() {
    // Two neighbours walk their common border in opposite directions; here a corner is exactly 3 px from a line.
    let labels = patches(40, 30, &[(8, 9, 8), (21, 1, 10)], 3);
    let (exact, simple) = both(&map(&labels, 40), 3.0);
    let farthest = farthest(&exact, &simple);
    assert!(farthest <= 3.0, "{farthest:?}");
}

#[test]
fn a_disc_needs_few_corners() {
    let labels = patches(200, 200, &[(100, 100, 90)], NONE);
    let (exact, simple) = both(&map(&labels, 200), 1.0);
    assert!(corners(&exact) > 400 && corners(&simple) < 100, "{} {}", corners(&exact), corners(&simple));
    let (was, is) = (polygon(&exact[0]).unsigned_area(), polygon(&simple[0]).unsigned_area());
    assert!((is / was - 1.0).abs() < 0.02, "{was} {is}");
}

#[test]
fn a_slanted_stair_becomes_a_line() {
    let labels: Vec<u8> = (0..64 * 64).map(|at| u8::from(at % 64 > at / 64)).collect();
    let (_, simple) = both(&map(&labels, 64), 0.75);
    assert!(corners(&simple) <= 10, "{simple:?}");
}

#[test]
fn neighbours_share_the_simplified_border_corner_by_corner() {
    let labels = patches(60, 60, &[(0, 30, 40), (59, 30, 25)], 3);
    let (_, simple) = both(&map(&labels, 60), 2.0);
    let lines = |region: &Region| {
        let ring = |ring: &Vec<Point>| ring.iter().copied().zip(ring.iter().copied().cycle().skip(1)).collect::<Vec<_>>();
        region.rings.iter().flat_map(ring).collect::<Vec<(Point, Point)>>()
    };
    let all: HashSet<(Point, Point)> = simple.iter().flat_map(lines).collect();
    let on_edge = |(from, to): &&(Point, Point)| {
        [0, 60].iter().any(|edge| (from.0, to.0) == (*edge, *edge) || (from.1, to.1) == (*edge, *edge))
    };
    let (edge, inner): (Vec<_>, Vec<_>) = all.iter().partition(on_edge);
    assert!(!edge.is_empty() && !inner.is_empty());
    assert!(inner.iter().all(|(from, to)| all.contains(&(*to, *from))), "{simple:?}");
}

#[test]
fn polygons_still_meet_the_edge_of_the_map_where_they_did() {
    let labels = patches(64, 64, &[(64, 20, 15), (30, 64, 9)], NONE);
    let at_edge = |regions: &[Region]| {
        let all: Vec<Point> = regions.iter().flat_map(|region| region.rings.concat()).collect();
        let mut kept: Vec<Point> = all.into_iter().filter(|(x, y)| *x == 64 || *y == 64).collect();
        kept.sort_unstable();
        kept
    };
    let mut kept = map(&labels, 64);
    let (exact, simple) = both(&kept, 8.0);
    assert_eq!(at_edge(&exact), at_edge(&simple));
    kept.keeps_edge = false;
    let (_, free) = both(&kept, 8.0);
    assert!(corners(&free) < corners(&simple));
}

/// Seconds of processor time that this thread has taken, which other processes do not lengthen; 0 where the system does not say.
fn processor_s() -> f64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = statistics.split_whitespace().next().and_then(|first| first.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

#[test]
fn a_long_outline_is_thinned_in_bounded_steps() {
    // A meander of 60 000 teeth around one region.
    let width = 60_000;
    let labels: Vec<u8> =
        (0..width * 4).map(|at| if at / width > 1 || at % 2 == 0 && at / width == 1 { 0 } else { NONE }).collect();
    let before_s = processor_s();
    let (exact, simple) = both(&map(&labels, width), 30.0);
    assert!(
        corners(&exact) > 2 * width && corners(&simple) < corners(&exact) / 100,
        "{} {}",
        corners(&exact),
        corners(&simple)
    );
    let taken_s = processor_s() - before_s;
    assert!(taken_s < 20.0, "{taken_s} s");
}
