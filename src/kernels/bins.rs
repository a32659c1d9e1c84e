//! Sums of weighted pixels, which is what RoIAlign's bins are once their sample points are known.
//!
//! A bin's sums stay in registers while its pixels are read, so each pixel is read once and each sum is written once.

use rayon::prelude::*;

use super::memory::Out;
use super::simd::{Simd, SimdTask, dispatch};

/// A pixel of a channels-last map and its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightedPixel {
    /// Index of the pixel in `[pixels, channels]`.
    pub pixel: usize,
    /// What it is multiplied by.
    pub weight: f32,
}

/// The weighted pixels that one item's bins are summed from.
#[derive(Debug)]
pub struct BinPixels<'a> {
    /// `[pixels, channels]`
    pub map: &'a [f32],
    /// `[bins, taps]`
    pub pixels: Vec<WeightedPixel>,
}

/// The sum of weighted pixels for every bin of `taps` pixels: [items, bins, channels]. `item` gives the pixels of each
/// item's bins; `None` gives zeros.
///
/// # Panics
/// If the lengths do not match, or a pixel lies outside the map.
pub fn sum_bins<'a>(
    [items, bins, taps, channels]: [usize; 4],
    item: impl Fn(usize) -> Option<BinPixels<'a>> + Sync,
) -> Vec<f32> {
    assert!(channels > 0 && taps > 0, "a bin has pixels, and they have channels");
    // SAFETY: every item writes all of its bins.
    unsafe {
        Out::collect(items * bins * channels, |out| {
            (0..items).into_par_iter().for_each(|index| {
                let sums = out.part(index * bins * channels, bins * channels);
                let Some(BinPixels { map, pixels }) = item(index) else {
                    return dispatch(Bins { map: &[], channels, pixels: &[], bins, sums });
                };
                assert!(map.len().is_multiple_of(channels), "the map is [pixels, channels]");
                assert_eq!(pixels.len(), bins * taps, "pixels are [bins, taps]");
                let count = map.len() / channels;
                assert!(pixels.iter().all(|at| at.pixel < count), "every pixel lies on the map");
                dispatch(Bins { map, channels, pixels: &pixels, bins, sums });
            });
        })
    }
}

/// Registers that hold one bin's sums.
const BLOCK: usize = 8;

struct Bins<'a> {
    map: &'a [f32],
    channels: usize,
    /// `[bins, taps]`
    pixels: &'a [WeightedPixel],
    bins: usize,
    sums: Out<'a>,
}

impl SimdTask for Bins<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Bins { map, channels, pixels, bins, sums } = self;
        let blocks = channels / (BLOCK * S::LANES) * (BLOCK * S::LANES);
        let taps = pixels.len() / bins.max(1);
        for bin in 0..bins {
            let (pixels, sums) = (&pixels[bin * taps..][..taps], sums.at(bin * channels, channels));
            for first in (0..blocks).step_by(BLOCK * S::LANES) {
                let mut block = [s.splat(0.0); BLOCK];
                for at in pixels {
                    let weight = s.splat(at.weight);
                    for (i, sum) in block.iter_mut().enumerate() {
                        // SAFETY: the pixel is on the map (checked by the caller), and the block ends inside its channels.
                        let v = unsafe { s.load(map.as_ptr().add(at.pixel * channels + first + i * S::LANES)) };
                        *sum = s.mul_add(v, weight, *sum);
                    }
                }
                for (i, sum) in block.into_iter().enumerate() {
                    // SAFETY: inside this bin's channels.
                    unsafe { s.store(sums.add(first + i * S::LANES), sum) };
                }
            }
            for first in (blocks..channels).step_by(S::LANES) {
                let count = (channels - first).min(S::LANES);
                let mut sum = s.splat(0.0);
                for at in pixels {
                    // SAFETY: as above, `count` channels are left.
                    let v = unsafe { s.load_part(map.as_ptr().add(at.pixel * channels + first), count) };
                    sum = s.mul_add(v, s.splat(at.weight), sum);
                }
                // SAFETY: as above.
                unsafe { s.store_part(sums.add(first), sum, count) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::simd::InstructionSet;

    #[test]
    fn bins_are_the_weighted_sums_of_their_pixels_at_any_width() {
        let (count, taps, bins) = (11, 3, 5);
        for channels in [1, 7, 16, 37, 128, 133] {
            let map = reference::noise(count * channels, 1);
            let pixels: Vec<WeightedPixel> = reference::noise(bins * taps, 2)
                .into_iter()
                .enumerate()
                .map(|(i, weight)| WeightedPixel { pixel: i * 7 % count, weight })
                .collect();
            let expected: Vec<f32> = (0..bins * channels)
                .map(|i| {
                    let bin = &pixels[i / channels * taps..][..taps];
                    let value = |at: &WeightedPixel| map[at.pixel * channels + i % channels] * at.weight;
                    bin.iter().map(|at| f64::from(value(at))).sum::<f64>() as f32
                })
                .collect();
            for instructions in InstructionSet::supported() {
                let mut sums = vec![f32::NAN; expected.len()];
                instructions.run(Bins { map: &map, channels, pixels: &pixels, bins, sums: Out::over(&mut sums) });
                reference::assert_close(&sums, &expected, 1e-6, &format!("{instructions:?}, {channels} channels"));
            }
            let item = |index| (index == 1).then(|| BinPixels { map: &map, pixels: pixels.clone() });
            let sums = sum_bins([3, bins, taps, channels], item);
            let expected = [vec![0.0; expected.len()], expected.clone(), vec![0.0; expected.len()]].concat();
            reference::assert_close(&sums, &expected, 1e-6, &format!("{channels} channels of three items"));
        }
    }
}
