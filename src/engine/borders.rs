//! Objects near the borders of inference windows: exactly one tile reports each, although two windows may see it a few pixels
//! apart.
//!
//! A tile reports objects of its own window. If an object's centre lies near the window's border, the neighbouring window is
//! asked as well. Of two reports of one object, the one with the higher score counts for both windows: its centre decides
//! which tile reports the object, and its box and mask are the ones reported. An object that the neighbour does not see is
//! reported by a tile of this window, even if its centre lies just outside.

use std::collections::BTreeSet;

use super::merge::{common_part, same};
use crate::nn::Part;
use crate::prediction::Object;
use crate::tiles::WindowGrid;

/// The neighbouring window is asked if a centre is at most so many pixels from the border: two windows see an object a few
/// pixels apart.
pub(super) const NEAR_PX: f32 = 16.0;

/// Where a neighbouring window lies: columns and rows from this one.
pub(super) type Side = (i8, i8);

/// The borders near which a centre lies: -1 is the one to the west or north, 1 the one to the east or south, 0 is none.
fn borders(grid: &WindowGrid, (x, y): (f32, f32)) -> Side {
    let (near, far) = (grid.halo_px as f32, (grid.halo_px + grid.core_px) as f32);
    let border = |at: f32| match at {
        at if (at - near).abs() <= NEAR_PX => -1,
        at if (at - far).abs() <= NEAR_PX => 1,
        _ => 0,
    };
    (border(x), border(y))
}

/// True if the object's centre is so near the tile that the tile may have to report it.
fn concerns(area: Part, object: &Object) -> bool {
    let (x, y) = centre(object);
    let within =
        |at: f32, start: usize, len: usize| (start as f32 - NEAR_PX..=(start + len) as f32 + NEAR_PX).contains(&at);
    within(x, area.col, area.width) && within(y, area.row, area.height)
}

/// The neighbouring windows that a tile needs before it can report its objects; `area` is the tile's part of its window's
/// input.
pub(super) fn neighbours(own: &[Object], area: Part, grid: &WindowGrid) -> BTreeSet<Side> {
    let beyond = |object: &Object| {
        let (col, row) = borders(grid, centre(object));
        [(col, 0), (0, row), (col, row)]
    };
    let sides = own.iter().filter(|object| concerns(area, object)).flat_map(beyond);
    sides.filter(|side| *side != (0, 0)).collect()
}

/// The neighbouring windows whose cores a window's objects touch.
pub(super) fn reached<'a>(objects: impl Iterator<Item = &'a Object>, grid: &WindowGrid) -> BTreeSet<Side> {
    let (start, end) = (grid.halo_px as f32, (grid.halo_px + grid.core_px) as f32);
    let along = |low: f32, high: f32| [(-1, low < start), (0, low < end && high > start), (1, high > end)];
    let mut sides = BTreeSet::new();
    for object in objects {
        let [x0, y0, x1, y1] = object.bbox_px;
        for (row, _) in along(y0, y1).into_iter().filter(|(_, touched)| *touched) {
            sides.extend(along(x0, x1).into_iter().filter(|(_, touched)| *touched).map(|(col, _)| (col, row)));
        }
    }
    sides.remove(&(0, 0));
    sides
}

/// Cuts a box at the borders of its window's core beyond which the neighbouring window does not see the object: tiles of that
/// window do not show it, so the tiles of this one end it. `others` are as for [`deduplicate`]. A box with a mask stays.
pub(super) fn end_at_unseen(object: &mut Object, others: &[(Side, &[Object])], grid: &WindowGrid) {
    if object.mask.is_some() {
        return;
    }
    let (start, end, core) = (grid.halo_px as f32, (grid.halo_px + grid.core_px) as f32, grid.core_px as f32);
    for (side, at) in [((-1, 0), 0), ((0, -1), 1), ((1, 0), 2), ((0, 1), 3)] {
        let is_far = at >= 2;
        let beyond = if is_far { object.bbox_px[at] > end } else { object.bbox_px[at] < start };
        // A neighbour asks this window about an object if its own report of it reaches into this window's core.
        let reaches = |twin: &Object| if is_far { twin.bbox_px[at - 2] < end } else { twin.bbox_px[at + 2] > start };
        let is_seen = || {
            let there = others.iter().find(|(other, _)| *other == side).map_or(&[][..], |(_, objects)| objects);
            there
                .iter()
                .map(|twin| moved(twin, side, core))
                .any(|twin| twin.category_id == object.category_id && reaches(&twin) && same(&twin, object))
        };
        if beyond && !is_seen() {
            object.bbox_px[at] = if is_far { end } else { start };
        }
    }
}

/// The objects that the tile reports, in the coordinates of its window's input; `others` are the neighbours' objects, each in
/// its own window's coordinates.
pub(super) fn deduplicate(own: &[Object], others: &[(Side, &[Object])], area: Part, grid: &WindowGrid) -> Vec<Object> {
    let core = grid.core_px as f32;
    let neighbours: Vec<Neighbour> =
        others.iter().map(|(side, objects)| Neighbour::of(*side, objects, own, core)).collect();
    let chosen: Vec<Choice<'_>> = own.iter().enumerate().map(|at| choose(at, &neighbours, grid)).collect();
    let mut reported = Vec::new();
    for (object, choice) in own.iter().zip(&chosen) {
        let near = borders(grid, centre(object));
        let place = match choice {
            _ if near == (0, 0) => centre(object),
            Choice::Paired(chosen) => centre(chosen),
            // Another matched pair already reports this object; skip it.
            Choice::Alone
                if chosen.iter().any(|other| matches!(other, Choice::Paired(other) if is_twin(other, object, own))) =>
            {
                continue;
            }
            Choice::Alone => inside(centre(object), near, grid),
        };
        if holds(area, place) {
            reported.push(match choice {
                Choice::Paired(chosen) => (*chosen).clone(),
                Choice::Alone => object.clone(),
            });
        }
    }
    reported
}

/// True if `chosen` is a neighbour's report of this window's `object`. Two objects of one window are never the same.
fn is_twin(chosen: &Object, object: &Object, own: &[Object]) -> bool {
    let is_own = own.iter().any(|own| std::ptr::eq(own, chosen));
    !is_own && chosen.category_id == object.category_id && same(chosen, object)
}

/// Which report of an object counts.
enum Choice<'a> {
    /// No neighbour sees it, or none was asked.
    Alone,
    /// A neighbour sees it too, and this report counts: the window's own or the neighbour's.
    Paired(&'a Object),
}

/// A neighbouring window's objects, matched with this window's.
struct Neighbour {
    side: Side,
    /// Its objects in this window's coordinates.
    objects: Vec<Object>,
    /// Per object of this window: the index of the neighbour's report of it.
    twins: Vec<Option<usize>>,
}

impl Neighbour {
    /// Pairs the objects of two windows, largest intersection over union first, so that both windows find the same pairs.
    fn of(side: Side, objects: &[Object], own: &[Object], core: f32) -> Self {
        let objects: Vec<Object> = objects.iter().map(|object| moved(object, side, core)).collect();
        let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
        for (at, object) in own.iter().enumerate() {
            for (index, other) in objects.iter().enumerate() {
                if other.category_id == object.category_id && same(other, object) {
                    pairs.push((common_part(object, other), at, index));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut twins, mut taken) = (vec![None; own.len()], vec![false; objects.len()]);
        for (_, at, index) in pairs {
            if twins[at].is_none() && !taken[index] {
                (twins[at], taken[index]) = (Some(index), true);
            }
        }
        Self { side, objects, twins }
    }
}

/// The report that counts for an object of this window, given with its index.
///
/// A neighbour that sees the object far from the border does not ask this window, so its report counts. Otherwise the highest
/// score counts, and of equal scores the first window in the grid, so that all windows choose alike.
fn choose<'a>((at, object): (usize, &'a Object), neighbours: &'a [Neighbour], grid: &WindowGrid) -> Choice<'a> {
    let near = borders(grid, centre(object));
    let beyond = neighbours.iter().filter(|neighbour| near != (0, 0) && is_beyond(neighbour.side, near));
    let twins = beyond.filter_map(|neighbour| Some((neighbour.side, &neighbour.objects[neighbour.twins[at]?])));
    let mut best = ((0, 0), object, false);
    let mut is_alone = true;
    for (side, twin) in twins {
        is_alone = false;
        let asks = is_beyond((-side.0, -side.1), borders(grid, centre_in(side, twin, grid.core_px as f32)));
        let order = (!asks).cmp(&best.2).then(twin.score.total_cmp(&best.1.score));
        let is_first = (side.1, side.0) < (best.0.1, best.0.0);
        if order.is_gt() || (order.is_eq() && is_first) {
            best = (side, twin, !asks);
        }
    }
    if is_alone { Choice::Alone } else { Choice::Paired(best.1) }
}

/// True if a neighbour lies beyond one of the borders, or beyond the corner of both.
fn is_beyond(side: Side, near: Side) -> bool {
    (side.0 == 0 || side.0 == near.0) && (side.1 == 0 || side.1 == near.1)
}

/// A neighbour's object in this window's coordinates.
pub(super) fn moved(object: &Object, (col, row): Side, core: f32) -> Object {
    let [x0, y0, x1, y1] = object.bbox_px;
    let (x, y) = (f32::from(col) * core, f32::from(row) * core);
    Object { bbox_px: [x0 + x, y0 + y, x1 + x, y1 + y], ..object.clone() }
}

/// The object's centre in the neighbour's coordinates; `object` is in this window's.
fn centre_in((col, row): Side, object: &Object, core: f32) -> (f32, f32) {
    let (x, y) = centre(object);
    (x - f32::from(col) * core, y - f32::from(row) * core)
}

fn centre(object: &Object) -> (f32, f32) {
    let [x0, y0, x1, y1] = object.bbox_px;
    ((x0 + x1) / 2.0, (y0 + y1) / 2.0)
}

/// The centre, moved into the window's core along the axes on which a border is near.
fn inside((x, y): (f32, f32), near: Side, grid: &WindowGrid) -> (f32, f32) {
    let (start, end) = (grid.halo_px as f32, (grid.halo_px + grid.core_px) as f32);
    let clamped = |at: f32, border: i8| if border == 0 { at } else { at.clamp(start, end.next_down()) };
    (clamped(x, near.0), clamped(y, near.1))
}

fn holds(area: Part, (x, y): (f32, f32)) -> bool {
    let (left, top) = (area.col as f32, area.row as f32);
    (left..left + area.width as f32).contains(&x) && (top..top + area.height as f32).contains(&y)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: WindowGrid = WindowGrid { core_px: 512, halo_px: 64 };

    fn object(x: f32, y: f32, score: f32) -> Object {
        Object { bbox_px: [x - 10.0, y - 10.0, x + 10.0, y + 10.0], score, category_id: 1, mask: None }
    }

    /// The objects in the western window's coordinates that the tiles on both sides of the border report.
    fn both(west: &[Object], east: &[Object]) -> Vec<Object> {
        let tile = |col, row| Part { col, row, width: 256, height: 256 };
        let mut reported = Vec::new();
        for row in [64, 320] {
            for col in [64, 320] {
                let of = |own: &[Object], other: &[Object], side: Side| {
                    let asked = neighbours(own, tile(col, row), &GRID);
                    let others: Vec<(Side, &[Object])> =
                        if asked.contains(&side) { vec![(side, other)] } else { Vec::new() };
                    deduplicate(own, &others, tile(col, row), &GRID)
                };
                reported.extend(of(west, east, (1, 0)));
                reported.extend(of(east, west, (-1, 0)).iter().map(|object| moved(object, (1, 0), 512.0)));
            }
        }
        reported
    }

    #[test]
    fn what_two_windows_see_apart_is_reported_once() {
        // The border lies at 576 in the west and at 64 in the east; each would leave the object to the other, or take it from it.
        for (west, east) in [(577.0, 63.0), (575.0, 65.0), (576.0, 64.0), (588.0, 72.0), (595.0, 78.0), (560.0, 45.0)] {
            for (likely_west, likely_east) in [(0.9, 0.6), (0.6, 0.9), (0.7, 0.7)] {
                let reported = both(&[object(west, 200.0, likely_west)], &[object(east, 201.0, likely_east)]);
                assert_eq!(reported.len(), 1, "{west} {east} {likely_west} {likely_east} {reported:?}");
            }
        }
    }

    #[test]
    fn the_likelier_report_is_the_one_given() {
        let reported = both(&[object(577.0, 200.0, 0.6)], &[object(63.0, 202.0, 0.9)]);
        assert_eq!(reported, [object(575.0, 202.0, 0.9)]);
    }

    #[test]
    fn what_one_window_alone_sees_is_not_lost() {
        assert_eq!(both(&[object(580.0, 200.0, 0.9)], &[]), [object(580.0, 200.0, 0.9)]);
        assert_eq!(both(&[], &[object(60.0, 320.0, 0.9)]), [object(572.0, 320.0, 0.9)]);
        // Far beyond the border it is the neighbour's alone to see, whichever other border is near.
        assert!(both(&[object(600.0, 200.0, 0.9), object(630.0, 570.0, 0.9), object(630.0, 70.0, 0.9)], &[]).is_empty());
    }

    #[test]
    fn crowded_objects_are_paired_one_to_one() {
        // Two in the west overlap the one in the east; the nearer is its twin, the other stays what it is.
        let (nearer, other) = (object(574.0, 200.0, 0.6), object(563.0, 200.0, 0.7));
        let mut reported = both(&[other.clone(), nearer], &[object(63.0, 201.0, 0.9)]);
        reported.sort_by(|a, b| a.score.total_cmp(&b.score));
        assert_eq!(reported, [other, object(575.0, 201.0, 0.9)]);
        // Where nothing is left of it but what the twin covers, it is gone.
        let reported = both(&[object(574.0, 200.0, 0.6), object(572.0, 200.0, 0.7)], &[object(63.0, 200.0, 0.9)]);
        assert_eq!(reported, [object(575.0, 200.0, 0.9)]);
    }

    #[test]
    fn neighbours_of_another_kind_and_borders_between_tiles_of_one_window_change_nothing() {
        let other = Object { category_id: 2, ..object(64.5, 200.0, 0.8) };
        assert_eq!(both(&[object(575.0, 200.0, 0.9)], std::slice::from_ref(&other)).len(), 2);
        assert_eq!(both(&[object(320.0, 320.0, 0.9), object(319.0, 100.0, 0.9)], &[]).len(), 2);
        assert!(
            neighbours(&[object(320.0, 320.0, 0.9)], Part { col: 64, row: 64, width: 256, height: 256 }, &GRID).is_empty()
        );
    }

    #[test]
    fn a_box_reaches_into_the_neighbours_core_only_if_the_neighbour_sees_it_too() {
        let crossing = object(570.0, 320.0, 0.9);
        let ended = |others: &[Object]| {
            let mut object = crossing.clone();
            end_at_unseen(&mut object, &[((1, 0), others)], &GRID);
            object.bbox_px[2]
        };
        assert_eq!(ended(&[]), 576.0);
        assert_eq!(ended(&[object(60.0, 320.0, 0.1)]), 580.0);
        assert_eq!(ended(&[Object { category_id: 2, ..object(60.0, 320.0, 0.9) }]), 576.0);
        // That report ends at the border: tiles beyond it do not ask about the object.
        assert_eq!(ended(&[Object { bbox_px: [64.0, 310.0, 68.0, 330.0], ..object(0.0, 0.0, 0.9) }]), 576.0);
        assert_eq!(reached([&crossing].into_iter(), &GRID).into_iter().collect::<Vec<_>>(), [(1, 0)]);
    }

    #[test]
    fn at_a_corner_all_three_neighbours_are_asked() {
        let area = Part { col: 320, row: 320, width: 256, height: 256 };
        let asked = neighbours(&[object(577.0, 570.0, 0.9)], area, &GRID);
        assert_eq!(asked.into_iter().collect::<Vec<_>>(), [(0, 1), (1, 0), (1, 1)]);
    }
}
