//! Colours for continuous values.
//!
//! Each map is a list of evenly spaced colours, interpolated linearly. Viridis and Inferno (Smith and van der Walt,
//! matplotlib) are sampled at every sixteenth of their range, which stays within a few levels of the originals.

use super::options::Colormap;

type Rgb = [u8; 3];

const VIRIDIS: [Rgb; 17] = [
    [68, 1, 84],
    [71, 24, 106],
    [71, 44, 123],
    [66, 64, 133],
    [58, 82, 139],
    [50, 98, 141],
    [44, 114, 142],
    [38, 129, 142],
    [32, 144, 140],
    [30, 158, 136],
    [39, 173, 128],
    [61, 187, 116],
    [91, 200, 98],
    [129, 211, 76],
    [170, 219, 50],
    [212, 225, 26],
    [253, 231, 36],
];

const INFERNO: [Rgb; 17] = [
    [0, 0, 3],
    [10, 7, 35],
    [32, 12, 74],
    [60, 9, 101],
    [87, 15, 109],
    [112, 25, 110],
    [137, 34, 105],
    [163, 43, 97],
    [187, 55, 84],
    [208, 69, 68],
    [227, 88, 50],
    [240, 112, 30],
    [249, 140, 9],
    [251, 170, 14],
    [248, 201, 49],
    [241, 232, 100],
    [252, 254, 164],
];

const TERRAIN: [Rgb; 7] =
    [[0, 102, 94], [53, 140, 76], [140, 178, 88], [222, 205, 128], [173, 127, 82], [128, 96, 84], [255, 255, 255]];

const GRAY: [Rgb; 2] = [[0, 0, 0], [255, 255, 255]];

impl Colormap {
    /// The colour at a position from 0 to 1, beyond which positions are clamped.
    pub(crate) fn color(self, position: f32) -> [u8; 3] {
        let anchors: &[Rgb] = match self {
            Self::Viridis => &VIRIDIS,
            Self::Gray => &GRAY,
            Self::Inferno => &INFERNO,
            Self::Terrain => &TERRAIN,
        };
        let scaled = position.clamp(0.0, 1.0) * (anchors.len() - 1) as f32;
        let below = (scaled as usize).min(anchors.len() - 2);
        let weight = scaled - below as f32;
        std::array::from_fn(|channel| {
            let (a, b) = (f32::from(anchors[below][channel]), f32::from(anchors[below + 1][channel]));
            (a + (b - a) * weight).round() as u8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_run_from_the_first_anchor_to_the_last_and_stop_there() {
        assert_eq!(Colormap::Viridis.color(-1.0), [68, 1, 84]);
        assert_eq!(Colormap::Viridis.color(2.0), [253, 231, 36]);
        assert_eq!(Colormap::Gray.color(0.5), [128, 128, 128]);
    }

    #[test]
    fn the_perceptual_maps_grow_brighter_all_the_way() {
        for map in [Colormap::Viridis, Colormap::Inferno] {
            let luma = |position: f32| {
                let [r, g, b] = map.color(position).map(f32::from);
                0.2126 * r + 0.7152 * g + 0.0722 * b
            };
            assert!((0..64).all(|step| luma(step as f32 / 64.0) < luma((step + 1) as f32 / 64.0) + 0.5), "{map:?}");
        }
    }
}
