//! Windows over an area of a source, and the blocks that a large area is worked on in.
//!
//! Unlike an uploaded scene, an area has imagery around it, so every window has its halo of context. Windows lie on a lattice
//! that begins at the area's corner. They depend on the area alone, not on the part of it that is asked for: a block gets exactly
//! the values that the whole area would have there. Blocks end in the middle of windows, where no other window is blended in; the
//! window there is run for both blocks, so both see the same objects.

use std::ops::Range;

use super::scene::{SceneWindow, WindowSpan};
use super::window::WindowGrid;

/// The side of every input is a multiple of this, as the networks' largest stride is.
const STEP_PX: usize = 32;

/// A window of an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AreaWindow {
    /// First column of the network's input in the area; negative in the halo before it.
    pub col: i64,
    /// First row of the input.
    pub row: i64,
    /// Columns of the input.
    pub width: usize,
    /// Rows of the input.
    pub height: usize,
    /// What the window answers for, in pixels of the wanted part.
    pub window: SceneWindow,
}

/// The windows that answer for the part (`cols`, `rows`) of an area of `size` (columns, rows), row by row. The part is the whole or
/// one of its [`blocks`].
pub fn area_windows(
    size: (usize, usize),
    (cols, rows): (&Range<usize>, &Range<usize>),
    grid: WindowGrid,
) -> Vec<AreaWindow> {
    let across = axis(size.0, cols, grid);
    let down = axis(size.1, rows, grid);
    let pairs = down.iter().flat_map(|row| across.iter().map(move |col| (col, row)));
    pairs
        .map(|((col, width, cols), (row, height, rows))| AreaWindow {
            col: *col,
            row: *row,
            width: *width,
            height: *height,
            window: SceneWindow { cols: *cols, rows: *rows },
        })
        .collect()
}

/// The windows along one axis: first pixel and length of the input in the area, and the span in the part.
fn axis(length: usize, part: &Range<usize>, grid: WindowGrid) -> Vec<(i64, usize, WindowSpan)> {
    let WindowGrid { core_px: core, halo_px: halo } = grid;
    // Neighbours are blended over twice this; no more than two may meet in a pixel.
    let blend = halo.min(core / 4);
    let begin = |index: usize| (index * core).saturating_sub(blend);
    let end = |index: usize| ((index + 1) * core + blend).min(length);
    let count = length.div_ceil(core).max(1);
    // Others are too far away.
    (part.start.saturating_sub(blend) / core..count.min((part.end + blend).div_ceil(core)))
        .filter(|index| begin(*index) < part.end && end(*index) > part.start)
        .map(|index| {
            let (from, to) = (begin(index).max(part.start), end(index).min(part.end));
            let is_first = index == 0 || begin(index) < part.start;
            let is_last = (index + 1) * core >= length || end(index) > part.end;
            let within = |position: usize| position.clamp(part.start, part.end) - part.start;
            let input = (index * core) as i64 - halo as i64;
            let needed = (length + halo) as i64 - input;
            let span = WindowSpan {
                start: from - part.start,
                len: to - from,
                core_start: within(index * core),
                core_end: within((index + 1) * core),
                limit: part.len(),
                fade_in: if is_first { 0 } else { end(index - 1) - begin(index) },
                fade_out: if is_last { 0 } else { end(index) - begin(index + 1) },
            };
            (input, (needed as usize).next_multiple_of(STEP_PX).min(core + 2 * halo), span)
        })
        .collect()
}

/// The columns (or rows) of the blocks that an area of `length` is worked on in: about `block_px` each.
pub fn blocks(length: usize, block_px: usize, grid: WindowGrid) -> Vec<Range<usize>> {
    let core = grid.core_px;
    let block = block_px.next_multiple_of(core).max(core);
    // A rest of less than a window goes to the block before it.
    let borders = (1..).map(|index| index * block - core / 2).take_while(|border| border + core <= length);
    let starts: Vec<usize> = std::iter::once(0).chain(borders).collect();
    let ends = starts.iter().copied().skip(1).chain(std::iter::once(length));
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRID: WindowGrid = WindowGrid { core_px: 512, halo_px: 64 };

    #[test]
    fn a_small_area_is_one_window_with_its_halo() {
        let windows = area_windows((500, 100), (&(0..500), &(0..100)), GRID);
        assert_eq!(windows.len(), 1);
        let AreaWindow { col, row, width, height, window } = windows[0];
        assert_eq!((col, row, width, height), (-64, -64, 640, 256));
        assert_eq!((window.cols.len, window.rows.len, window.cols.fade_in, window.cols.fade_out), (500, 100, 0, 0));
    }

    #[test]
    fn blocks_end_in_the_middle_of_windows_and_leave_no_splinter() {
        for length in [1, 300, 4351] {
            let only = blocks(length, 4096, GRID);
            assert_eq!((only.len(), only[0].clone()), (1, 0..length));
        }
        assert_eq!(blocks(9000, 4096, GRID), [0..3840, 3840..7936, 7936..9000]);
        assert_eq!(blocks(1300, 1, GRID), [0..256, 256..768, 768..1300]);
    }

    proptest! {
        #[test]
        fn a_block_has_the_windows_and_weights_of_the_whole(length in 1usize..6000, block in 1usize..5, halo in 0usize..10) {
            let grid = WindowGrid { core_px: 512, halo_px: 32 * halo };
            let whole = axis(length, &(0..length), grid);
            let mut weights = vec![0.0; length];
            let mut owners = vec![0; length];
            for (_, _, span) in &whole {
                for offset in 0..span.len {
                    weights[span.start + offset] += span.weight(offset);
                }
                (span.core_start..span.core_end).for_each(|pixel| owners[pixel] += 1);
            }
            prop_assert!(weights.iter().all(|weight| (weight - 1.0).abs() < 1e-5), "{:?}", whole);
            prop_assert!(owners.iter().all(|count| *count == 1));
            for part in blocks(length, block * 512, grid) {
                for (input, len, span) in axis(length, &part, grid) {
                    let same = whole.iter().find(|(start, _, _)| *start == input).expect("a window of the whole");
                    prop_assert_eq!(same.1, len);
                    for offset in 0..span.len {
                        let there = part.start + span.start + offset - same.2.start;
                        prop_assert_eq!(span.weight(offset), same.2.weight(there));
                    }
                }
                for pixel in part.clone() {
                    let covers = |span: &WindowSpan, at: usize| (span.start..span.start + span.len).contains(&at);
                    let here = axis(length, &part, grid).iter().filter(|(_, _, s)| covers(s, pixel - part.start)).count();
                    prop_assert_eq!(here, whole.iter().filter(|(_, _, span)| covers(span, pixel)).count());
                }
            }
        }
    }
}
