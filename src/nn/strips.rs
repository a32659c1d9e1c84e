//! Dense heads at full resolution, one strip of rows at a time.
//!
//! The decoder's last map has 128 channels per pixel, 134 MB for 512 x 512, and the head makes another map of that size. So
//! the last doubling and the head run on strips of rows, which overlap by the rows that the convolutions see beyond a
//! strip's edge. The result is exact.

use candle_core::{Result, Tensor};

use super::heads::{DenseHead, HeadOutput};
use super::upsample::Upsample;
use crate::ops::OpsContext;
use crate::prediction::Dense;

/// Most bytes of a strip of the full-resolution map.
const STRIP_BYTES: usize = 64 << 20;
/// Extra rows on either side of a strip, counted before the doubling. The last doubling sees one row further, the head's two
/// convolutions two of the doubled rows.
const HALO: usize = 2;

/// The output of `head` for every item, from the map that [`Upsample::all_but_last`] returns.
pub(super) fn forward(ops: &OpsContext, upsample: &Upsample, head: &DenseHead, map: &Tensor) -> Result<Vec<HeadOutput>> {
    forward_in(STRIP_BYTES, ops, upsample, head, map)
}

fn forward_in(
    strip_bytes: usize,
    ops: &OpsContext,
    upsample: &Upsample,
    head: &DenseHead,
    map: &Tensor,
) -> Result<Vec<HeadOutput>> {
    let (items, rows, cols, _) = map.dims4()?;
    let scale = upsample.last_scale();
    let row_bytes = scale * scale * cols * upsample.channels() * map.dtype().size_in_bytes();
    let most_rows = (strip_bytes / row_bytes.max(1)).max(4 * HALO);
    let strip_rows = rows.div_ceil(rows.div_ceil(most_rows).max(1)).max(1);
    let mut answers = Vec::with_capacity(items);
    for item in 0..items {
        let map = map.narrow(0, item, 1)?;
        let (mut values, mut channels) = (Vec::new(), 0);
        for first in (0..rows).step_by(strip_rows) {
            let end = (first + strip_rows).min(rows);
            let (from, to) = (first.saturating_sub(HALO), (end + HALO).min(rows));
            let strip = upsample.last(&map.narrow(1, from, to - from)?)?;
            let strip = head.values(ops, &strip)?.narrow(1, (first - from) * scale, (end - first) * scale)?;
            channels = strip.dim(3)?;
            values.reserve_exact(rows * scale * cols * scale * channels - values.len());
            values.extend(strip.flatten_all()?.to_vec1::<f32>()?);
        }
        let (width, height) = (cols * scale, rows * scale);
        answers.push(HeadOutput::Dense(Dense { width, height, channels, values, valid: None }));
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::loader::{Loader, Tally};
    use super::*;
    use crate::weights::Weights;
    use crate::zoo::Activation;

    #[test]
    fn strips_give_what_the_whole_map_gives() {
        let (weights, tally) = (Weights::synthetic(5), Tally::default());
        let ops = OpsContext::new(&Device::Cpu, DType::F32).unwrap();
        let root = Loader::new(&weights, &ops, &tally, "test");
        let upsample = Upsample::load(&root.pp("upsample"), 4, 8, 8).unwrap();
        let head = DenseHead::load(&root.pp("head"), 8, 3, Activation::Softmax).unwrap();
        let values = (0..2 * 35 * 9 * 8).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5).collect();
        let map = Tensor::from_vec(values, (2, 35, 9, 8), &Device::Cpu).unwrap();
        let whole = forward_in(usize::MAX, &ops, &upsample, &head, &map).unwrap();
        let strips = forward_in(0, &ops, &upsample, &head, &map).unwrap();
        for (whole, strips) in whole.iter().zip(&strips) {
            let (HeadOutput::Dense(whole), HeadOutput::Dense(strips)) = (whole, strips) else { panic!("dense heads") };
            assert_eq!((strips.width, strips.height, strips.channels), (18, 70, 3));
            let gap = whole.values.iter().zip(&strips.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(gap < 1e-6, "{gap}");
        }
    }
}
