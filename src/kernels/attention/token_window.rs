//! Which pixels the tokens of a shifted window are: roll, padding and partition as index arithmetic.

use crate::Maps;

/// How maps are cut into shifted windows.
#[derive(Clone, Copy)]
pub(super) struct ShiftedWindows {
    pub(super) maps: Maps,
    /// Tokens along the side of a window.
    pub(super) side: usize,
    /// Rows and columns by which windows begin below and right of the map's corner; tokens beyond the end wrap around.
    pub(super) shift: [usize; 2],
    /// Windows per map, down and across.
    pub(super) counts: [usize; 2],
}

/// The tokens of one window.
#[derive(Clone)]
pub(super) struct TokenWindow {
    pub(super) index: usize,
    /// The pixel of each token; `None` for padding.
    pub(super) places: Vec<Option<usize>>,
    /// Which part of the map each token comes from. Tokens attend only to tokens of the same part.
    pub(super) regions: Vec<u8>,
    /// Whether the window holds tokens of more than one part.
    pub(super) masked: bool,
}

impl ShiftedWindows {
    pub(super) fn window(&self, index: usize) -> TokenWindow {
        let tokens = self.side * self.side;
        let mut window = TokenWindow { index, places: vec![None; tokens], regions: vec![0; tokens], masked: false };
        self.locate(index, &mut window);
        window
    }

    /// Makes `window` the window `index` = (map * rows of windows + row) * columns of windows + column.
    #[inline(always)]
    pub(super) fn locate(&self, index: usize, window: &mut TokenWindow) {
        let Self { maps, side, shift, counts } = *self;
        let (column, row) = (index % counts[1], index / counts[1]);
        let (row, n) = (row % counts[0], row / counts[0]);
        for (token, (place, region)) in window.places.iter_mut().zip(&mut window.regions).enumerate() {
            let rolled = [row * side + token / side, column * side + token % side];
            let padded = [counts[0] * side, counts[1] * side];
            let y = (rolled[0] + shift[0]) % padded[0];
            let x = (rolled[1] + shift[1]) % padded[1];
            let inside = y < maps.height && x < maps.width;
            *place = inside.then_some((n * maps.height + y) * maps.width + x);
            // The last window along an axis holds tokens from the end of the map and, wrapped around, from its start.
            let wrapped = |axis: usize| u8::from(rolled[axis] + shift[axis] >= padded[axis]);
            *region = 2 * wrapped(0) + wrapped(1);
        }
        window.index = index;
        window.masked = window.regions.iter().any(|region| *region != window.regions[0]);
    }
}
