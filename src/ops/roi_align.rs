//! `torchvision.ops.roi_align` (`aligned=False`, two samples a bin and axis) on one channels-last map.
//!
//! A sample lies between four pixels, and its rows do not depend on its columns: [`Taps`] are computed once an axis. The
//! kernel sums over them directly; the plain form gathers the pixels by index.

use candle_core::{DType, Result, Tensor};
use rayon::prelude::*;

use super::OpsContext;
use crate::kernels::{self, WeightedPixel};

/// Samples a bin and axis, torchvision's `sampling_ratio` in both detection heads.
const SAMPLES: usize = 2;
/// Boxes gathered at a time: 128 boxes of 7x7 bins and 128 float32 channels take 51 MB.
const GATHERED_BOXES: usize = 128;

/// Pools `boxes` (`x0, y0, x1, y1` in pixels of the image) from `map [H, W, C]`, which is `scale` times as large as the
/// image, to `[boxes, output, output, C]`.
///
/// # Errors
/// Where `map` is not such a map, or the device is out of memory.
pub fn roi_align(ops: &OpsContext, map: &Tensor, boxes: &[[f32; 4]], scale: f32, output: usize) -> Result<Tensor> {
    let (height, width, channels) = map.dims3()?;
    let shape = (boxes.len(), output, output, channels);
    if boxes.is_empty() {
        return Tensor::zeros(shape, map.dtype(), map.device());
    }
    let taps = |[x0, y0, x1, y1]: &[f32; 4]| BoxTaps {
        rows: taps(y0 * scale, y1 * scale, height, output),
        cols: taps(x0 * scale, x1 * scale, width, output),
    };
    let taps: Vec<BoxTaps> = boxes.iter().map(taps).collect();
    if ops.kernels().is_some() {
        let values = map.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let pooled = sum_taps(&values, width, channels, &taps, output);
        return Tensor::from_vec(pooled, shape, map.device())?.to_dtype(map.dtype());
    }
    let pixels = map.reshape((height * width, channels))?;
    let parts: Vec<Tensor> =
        taps.chunks(GATHERED_BOXES).map(|taps| gather_taps(&pixels, width, taps, output)).collect::<Result<_>>()?;
    Tensor::cat(&parts, 0)
}

/// The two pixels a sample lies between on one axis, and how much each counts; a bin is the sum of its taps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tap {
    index: usize,
    weight: f32,
}

/// Taps of one box: `[output bins][2 · SAMPLES]` an axis.
struct BoxTaps {
    rows: Vec<Tap>,
    cols: Vec<Tap>,
}

const TAPS: usize = 2 * SAMPLES;

/// The taps of every bin between `start` and `end` on an axis of `len` pixels.
fn taps(start: f32, end: f32, len: usize, output: usize) -> Vec<Tap> {
    // Without `aligned`, torchvision makes every box at least one pixel wide.
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
            taps.push(Tap { index: low, weight: (1.0 - fraction) * share });
            taps.push(Tap { index: high, weight: fraction * share });
        }
    }
    taps
}

fn sum_taps(values: &[f32], width: usize, channels: usize, taps: &[BoxTaps], output: usize) -> Vec<f32> {
    let per_box = output * output * channels;
    let mut pooled = vec![0f32; taps.len() * per_box];
    if per_box == 0 {
        return pooled;
    }
    pooled.par_chunks_mut(per_box).zip(taps).for_each(|(pooled, taps)| {
        let mut pixels = Vec::with_capacity(output * output * TAPS * TAPS);
        for rows in taps.rows.chunks_exact(TAPS) {
            for cols in taps.cols.chunks_exact(TAPS) {
                for y in rows {
                    pixels.extend(
                        cols.iter()
                            .map(|x| WeightedPixel { pixel: y.index * width + x.index, weight: y.weight * x.weight }),
                    );
                }
            }
        }
        kernels::sum_bins(values, channels, &pixels, TAPS * TAPS, pooled);
    });
    pooled
}

/// The same from `pixels [H·W, C]` on any device: `[boxes · bins · 16, C]` gathered, weighted and summed.
///
/// Every row tap meets every column tap on the device, which is sent the taps alone.
fn gather_taps(pixels: &Tensor, width: usize, taps: &[BoxTaps], output: usize) -> Result<Tensor> {
    let (channels, device) = (pixels.dim(1)?, pixels.device());
    let (rows, cols) = ((taps.len(), output, 1, TAPS, 1), (taps.len(), 1, output, 1, TAPS));
    let all = |of: fn(&BoxTaps) -> &[Tap]| taps.iter().flat_map(of).collect::<Vec<&Tap>>();
    let (row_taps, col_taps) = (all(|taps| &taps.rows), all(|taps| &taps.cols));
    let row_starts = row_taps.iter().map(|tap| (tap.index * width) as u32).collect();
    let col_indices = col_taps.iter().map(|tap| tap.index as u32).collect();
    let indices = Tensor::from_vec(row_starts, rows, device)?;
    let indices = indices.broadcast_add(&Tensor::from_vec(col_indices, cols, device)?)?.flatten_all()?;
    let weights = Tensor::from_vec(row_taps.iter().map(|tap| tap.weight).collect(), rows, device)?;
    let weights =
        weights.broadcast_mul(&Tensor::from_vec(col_taps.iter().map(|tap| tap.weight).collect(), cols, device)?)?;
    let bins = taps.len() * output * output;
    let weights = weights.reshape((bins, 1, TAPS * TAPS))?.to_dtype(pixels.dtype())?;
    let gathered = pixels.index_select(&indices, 0)?.reshape((bins, TAPS * TAPS, channels))?;
    weights.matmul(&gathered)?.reshape((taps.len(), output, output, channels))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

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
        let [summed, gathered] = both_forms().map(|ops| roi_align(&ops, &map, &boxes, 0.25, 3).unwrap());
        let gap = (summed.clone() - gathered).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(gap < 1e-5, "{gap}");
        let outside = summed.get(3).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(outside.abs() < 1e-12, "a box beside the map pools zeros");
    }

    #[test]
    fn bins_are_means_of_their_samples() {
        // A value is 4 row + column; rows are sampled at 0.25, 0.75 | 1.25, 1.75 and columns at 1.25, 1.75 | 2.25, 2.75.
        let map = Tensor::from_vec((0..12).map(|i| i as f32).collect(), (3, 4, 1), &Device::Cpu).unwrap();
        for ops in both_forms() {
            let pooled = roi_align(&ops, &map, &[[1.0, 0.0, 3.0, 2.0]], 1.0, 2).unwrap();
            assert_eq!(pooled.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [3.5, 4.5, 7.5, 8.5]);
        }
    }
}
