//! The Hilbert curve: an order of the cells of a square in which neighbours along the curve are neighbours in the square. PMTiles
//! numbers its tiles so, and tables that are sorted so have row groups of small extent.

/// The position of a cell along the curve through `2^order` x `2^order` cells, which begins in the top left corner and ends in the top
/// right one.
pub fn hilbert_position(order: u32, mut x: u64, mut y: u64) -> u64 {
    let mut along = 0;
    for level in (0..order).rev() {
        let side = 1u64 << level;
        let (right, below) = (x & side != 0, y & side != 0);
        let quarter = match (right, below) {
            (false, false) => 0,
            (false, true) => 1,
            (true, true) => 2,
            (true, false) => 3,
        };
        along += quarter << (2 * level);
        (x, y) = (x & (side - 1), y & (side - 1));
        // The curve is turned in its first and last quarter, in opposite directions.
        if !below {
            if right {
                (x, y) = (side - 1 - x, side - 1 - y);
            }
            (x, y) = (y, x);
        }
    }
    along
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_goes_from_each_cell_to_a_neighbour() {
        let mut cells: Vec<(u64, u64)> = (0..16).flat_map(|y| (0..16).map(move |x| (x, y))).collect();
        cells.sort_by_key(|(x, y)| hilbert_position(4, *x, *y));
        assert_eq!((cells[0], cells[255]), ((0, 0), (15, 0)));
        assert!(cells.windows(2).all(|pair| pair[0].0.abs_diff(pair[1].0) + pair[0].1.abs_diff(pair[1].1) == 1));
    }
}
