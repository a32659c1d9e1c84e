//! `torchvision.ops.roi_align` (`aligned=False`, two samples per bin and axis) on the channels-last maps of a pyramid.
//!
//! A sample lies between four pixels, and its rows do not depend on its columns, so taps are computed once per axis. The
//! kernel sums over them directly; the plain form gathers the pixels by index.

use candle_core::{Result, Tensor};

use super::{OpsContext, kernel};
use crate::kernels::{self, BinPixels, WeightedPixel};

/// Samples per bin and axis: torchvision's `sampling_ratio` in both detection heads.
const SAMPLES: usize = 2;
/// Boxes gathered at a time: 128 boxes of 7x7 bins and 128 float32 channels take 51 MB.
const GATHERED_BOXES: usize = 128;

/// Pools `boxes` (`x0, y0, x1, y1` in pixels of the image) to `[boxes, output, output, C]`. `maps` are `[H, W, C]`, and
/// `scales` is each map's size over the image's. `levels` says which map each box is pooled from; boxes whose level has no
/// map get zeros.
///
/// # Errors
/// If `maps` have other shapes, or the device is out of memory.
pub(crate) fn roi_align(
    ops: &OpsContext,
    maps: &[Tensor],
    scales: &[f32],
    boxes: &[[f32; 4]],
    levels: &[usize],
    output: usize,
) -> Result<Tensor> {
    let Some(first) = maps.first() else { candle_core::bail!("boxes are pooled from at least one map") };
    let (channels, dtype, device) = (first.dim(candle_core::D::Minus1)?, first.dtype(), first.device());
    let shape = (boxes.len(), output, output, channels);
    if boxes.is_empty() {
        return Tensor::zeros(shape, dtype, device);
    }
    let sizes = maps.iter().map(Tensor::dims3).collect::<Result<Vec<_>>>()?;
    if sizes.iter().any(|size| size.2 != channels) {
        candle_core::bail!("maps of one pyramid have equally many channels, not {sizes:?}");
    }
    let taps = |([x0, y0, x1, y1], level): (&[f32; 4], &usize)| {
        let (scale, (height, width, _)) = (scales.get(*level)?, sizes.get(*level)?);
        Some(BoxTaps {
            level: *level,
            row_pixels: *width,
            rows: taps(y0 * scale, y1 * scale, *height, output),
            cols: taps(x0 * scale, x1 * scale, *width, output),
        })
    };
    let taps: Vec<Option<BoxTaps>> = boxes.iter().zip(levels).map(taps).collect();
    if ops.kernels().is_some() {
        let pooled = kernel::with_all_values(maps, |maps| sum_taps(maps, channels, &taps, output))?;
        return Tensor::from_vec(pooled, shape, device)?.to_dtype(dtype);
    }
    // Pooled level by level, then put in the order of the boxes.
    let (mut parts, mut position, mut joined) = (Vec::new(), vec![0_u32; boxes.len()], 0);
    for level in (0..maps.len()).map(Some).chain([None]) {
        let members: Vec<usize> = (0..taps.len()).filter(|i| taps[*i].as_ref().map(|taps| taps.level) == level).collect();
        for index in &members {
            position[*index] = joined;
            joined += 1;
        }
        match level {
            Some(level) => {
                let pixels = maps[level].reshape(((), channels))?;
                let taps: Vec<&BoxTaps> = members.iter().filter_map(|index| taps[*index].as_ref()).collect();
                for some in taps.chunks(GATHERED_BOXES) {
                    parts.push(gather_taps(&pixels, some, output)?);
                }
            }
            None if members.is_empty() => {}
            None => parts.push(Tensor::zeros((members.len(), output, output, channels), dtype, device)?),
        }
    }
    Tensor::cat(&parts, 0)?.index_select(&Tensor::from_vec(position, boxes.len(), device)?, 0)
}

/// One of the two pixels that a sample lies between on one axis, and its weight. A bin is the sum of its taps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct SampleTap {
    index: usize,
    weight: f32,
}

/// The taps of one box, `[output bins][2 · SAMPLES]` per axis.
struct BoxTaps {
    /// Index of the map.
    level: usize,
    /// Pixels in a row of the map.
    row_pixels: usize,
    rows: Vec<SampleTap>,
    cols: Vec<SampleTap>,
}

const TAPS: usize = 2 * SAMPLES;

/// The taps of every bin between `start` and `end` on an axis of `len` pixels.
fn taps(start: f32, end: f32, len: usize, output: usize) -> Vec<SampleTap> {
    // With `aligned=False`, torchvision makes every box at least one pixel wide.
    let bin = (end - start).max(1.0) / output as f32;
    let last = len.saturating_sub(1);
    let mut taps = Vec::with_capacity(output * TAPS);
    for i in 0..output {
        for sample in 0..SAMPLES {
            let position = start + i as f32 * bin + (sample as f32 + 0.5) * bin / SAMPLES as f32;
            let inside = (-1.0..=len as f32).contains(&position);
            let position = position.max(0.0);
            let low = (position as usize).min(last);
            let high = (low + 1).min(last);
            let fraction = if low == last { 0.0 } else { position - low as f32 };
            let share = if inside { 1.0 / SAMPLES as f32 } else { 0.0 };
            taps.push(SampleTap { index: low, weight: (1.0 - fraction) * share });
            taps.push(SampleTap { index: high, weight: fraction * share });
        }
    }
    taps
}

/// Pools in kernels: `[boxes, bins, C]` from the values of every map.
fn sum_taps(maps: &[&[f32]], channels: usize, taps: &[Option<BoxTaps>], output: usize) -> Vec<f32> {
    if channels == 0 {
        return Vec::new();
    }
    let bins = output * output;
    kernels::sum_bins([taps.len(), bins, TAPS * TAPS, channels], |index| {
        let taps = taps[index].as_ref()?;
        let mut pixels = Vec::with_capacity(bins * TAPS * TAPS);
        for rows in taps.rows.chunks_exact(TAPS) {
            for cols in taps.cols.chunks_exact(TAPS) {
                for y in rows {
                    pixels.extend(cols.iter().map(|x| WeightedPixel {
                        pixel: y.index * taps.row_pixels + x.index,
                        weight: y.weight * x.weight,
                    }));
                }
            }
        }
        Some(BinPixels { map: maps[taps.level], pixels })
    })
}

/// Pools on any device from `pixels [H·W, C]`: `[boxes · bins · 16, C]` pixels are gathered, weighted and summed.
///
/// Row taps are combined with column taps on the device, so only the taps of either axis are sent to it.
fn gather_taps(pixels: &Tensor, taps: &[&BoxTaps], output: usize) -> Result<Tensor> {
    let (channels, device) = (pixels.dim(1)?, pixels.device());
    let (rows, cols) = ((taps.len(), output, 1, TAPS, 1), (taps.len(), 1, output, 1, TAPS));
    let row_taps = || taps.iter().flat_map(|taps| taps.rows.iter().map(|tap| (taps.row_pixels, tap)));
    let col_taps = || taps.iter().flat_map(|taps| &taps.cols);
    let row_starts = row_taps().map(|(row_pixels, tap)| (tap.index * row_pixels) as u32).collect();
    let col_indices = col_taps().map(|tap| tap.index as u32).collect();
    let indices = Tensor::from_vec(row_starts, rows, device)?;
    let indices = indices.broadcast_add(&Tensor::from_vec(col_indices, cols, device)?)?.flatten_all()?;
    let weights = Tensor::from_vec(row_taps().map(|(_, tap)| tap.weight).collect(), rows, device)?;
    let weights = weights.broadcast_mul(&Tensor::from_vec(col_taps().map(|tap| tap.weight).collect(), cols, device)?)?;
    let bins = taps.len() * output * output;
    let weights = weights.reshape((bins, 1, TAPS * TAPS))?.to_dtype(pixels.dtype())?;
    let gathered = pixels.index_select(&indices, 0)?.reshape((bins, TAPS * TAPS, channels))?;
    weights.matmul(&gathered)?.reshape((taps.len(), output, output, channels))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn both_forms() -> [OpsContext; 2] {
        [OpsContext::new(&Device::Cpu, DType::F32).unwrap(), OpsContext::plain(&Device::Cpu, DType::F32).unwrap()]
    }

    #[test]
    fn both_ways_of_summing_agree_on_boxes_inside_across_and_outside_the_map() {
        let (height, width, channels) = (5, 7, 3);
        let values: Vec<f32> = (0..height * width * channels).map(|i| ((i * 31) % 17) as f32).collect();
        let boxes = [[0.0, 0.0, 28.0, 20.0], [5.0, 3.0, 9.5, 19.0], [24.0, 18.0, 40.0, 30.0], [60.0, 60.0, 70.0, 70.0]];
        let map = Tensor::from_vec(values, (height, width, channels), &Device::Cpu).unwrap();
        let [summed, gathered] =
            both_forms().map(|ops| roi_align(&ops, std::slice::from_ref(&map), &[0.25], &boxes, &[0; 4], 3).unwrap());
        let gap = (summed.clone() - gathered).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(gap < 1e-5, "{gap}");
        let outside = summed.get(3).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(outside.abs() < 1e-12, "a box beside the map pools zeros");
    }

    #[test]
    fn boxes_keep_their_places_whatever_map_they_are_pooled_from() {
        let maps = [1.0, 2.0].map(|value| Tensor::full(value as f32, (4, 4, 2), &Device::Cpu).unwrap());
        for ops in both_forms() {
            let boxes = [[0.0, 0.0, 4.0, 4.0]; 4];
            let pooled = roi_align(&ops, &maps, &[1.0, 0.5], &boxes, &[1, 0, 2, 1], 1).unwrap();
            assert_eq!(pooled.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [2.0, 2.0, 1.0, 1.0, 0.0, 0.0, 2.0, 2.0]);
        }
    }

    #[test]
    fn bins_are_means_of_their_samples() {
        // A value is 4 row + column; rows are sampled at 0.25, 0.75 | 1.25, 1.75 and columns at 1.25, 1.75 | 2.25, 2.75.
        let map = Tensor::from_vec((0..12).map(|i| i as f32).collect(), (3, 4, 1), &Device::Cpu).unwrap();
        for ops in both_forms() {
            let pooled = roi_align(&ops, std::slice::from_ref(&map), &[1.0], &[[1.0, 0.0, 3.0, 2.0]], &[0], 2).unwrap();
            assert_eq!(pooled.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [3.5, 4.5, 7.5, 8.5]);
        }
    }
}
