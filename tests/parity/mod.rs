//! Comparing answers with PyTorch's: dense values, probabilities, detections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and may report figures"
)]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::sync::LazyLock;

use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use satlas_serve::engine::DeviceChoice;
use satlas_serve::prediction::Object;

/// Where the networks run: the processor, or what `SATLAS_TEST_DEVICE` names (`cuda`, say, in a build for it).
pub static DEVICE: LazyLock<Device> = LazyLock::new(|| {
    let choice = std::env::var("SATLAS_TEST_DEVICE").map_or(DeviceChoice::Cpu, |name| name.parse().unwrap());
    choice.open().unwrap_or_else(|error| panic!("SATLAS_TEST_DEVICE: {error}"))
});

/// Largest deviation of a dense map in f32, in mean magnitudes of the reference; PyTorch's own float32 is within 2e-5.
pub const DENSE_F32: f32 = 2e-4;
/// Mean deviation of a map in bf16 and f16, in mean magnitudes of the reference. The largest deviation cannot be bounded so:
/// PyTorch's own bfloat16 autocast has 9e-2 at the largest and 1.5e-2 in the mean on the maps compared here.
pub const DENSE_HALF: f32 = 3e-2;
/// Largest deviation of a probability in f32.
pub const PROBABILITY: f32 = 1e-4;
/// Share of the reference's detections that must be found again in f32.
pub const MATCHED: f32 = 0.99;
/// The same in bf16 and f16. PyTorch's own bfloat16 autocast finds 0.69 of the demo model's trees again, and 0.93 where its
/// detection head stays in f32: each has many neighbours of nearly its score, among which suppression chooses anew.
pub const MATCHED_HALF: f32 = 0.9;

/// When two detections of one label are the same.
#[derive(Clone, Copy)]
pub struct Matching {
    least_iou: f32,
    most_score_gap: f32,
}

impl Matching {
    /// In float32.
    pub const EXACT: Self = Self { least_iou: 0.98, most_score_gap: 1e-3 };
    /// In bfloat16 and float16: scores as near as every other value, and boxes that a person would call the same.
    pub const HALF: Self = Self { least_iou: 0.8, most_score_gap: DENSE_HALF };
}

/// The largest absolute deviation.
pub fn max_gap(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len(), "as many values as the reference");
    // NaN must not pass, as it would with f32::max.
    let gap = |(a, b): (&f32, &f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
    ours.iter().zip(theirs).map(gap).fold(0.0, f32::max)
}

/// The mean absolute deviation.
pub fn mean_gap(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len(), "as many values as the reference");
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).sum::<f32>() / theirs.len().max(1) as f32
}

/// The mean absolute value.
pub fn mean_magnitude(values: &[f32]) -> f32 {
    values.iter().map(|value| value.abs()).sum::<f32>() / values.len().max(1) as f32
}

/// PyTorch's detections of one image.
pub struct Detections {
    /// `x0, y0, x1, y1` of one after the other.
    pub boxes: Vec<f32>,
    /// One a box.
    pub scores: Vec<f32>,
    /// One a box.
    pub labels: Vec<f32>,
}

/// For every reference detection the index of ours with the same label, nearly the same box and score.
pub fn matches(ours: &[Object], theirs: &Detections, matching: Matching) -> Vec<Option<usize>> {
    let mut taken = vec![false; ours.len()];
    let mut find = |index: usize| {
        let reference = &theirs.boxes[4 * index..4 * index + 4];
        let fits = |i: &usize| {
            let object = &ours[*i];
            !taken[*i]
                && object.category_id == theirs.labels[index] as usize
                && (object.score - theirs.scores[index]).abs() < matching.most_score_gap
                && iou(&object.bbox_px, reference) > matching.least_iou
        };
        let found = (0..ours.len()).find(fits)?;
        taken[found] = true;
        Some(found)
    };
    (0..theirs.scores.len()).map(&mut find).collect()
}

/// The share of the reference found again; detections that the reference does not have count as misses.
pub fn matched_share(ours: &[Object], theirs: &Detections, matching: Matching) -> f32 {
    let found = matches(ours, theirs, matching).iter().flatten().count();
    let expected = theirs.scores.len().max(ours.len());
    if expected == 0 { 1.0 } else { found as f32 / expected as f32 }
}

fn iou(a: &[f32], b: &[f32]) -> f32 {
    let side = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    let area = |c: &[f32]| (c[2] - c[0]) * (c[3] - c[1]);
    let intersection = side(0) * side(1);
    intersection / (area(a) + area(b) - intersection)
}

/// A reference tensor as float32 values.
pub fn values(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let bytes = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::I64 => bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as f32).collect(),
        other => panic!("{name} is {other:?}"),
    }
}

/// `[images · bands, height, width]`, as PyTorch stacks captures, to `[images, height, width, bands]`.
pub fn channels_last(values: Vec<f32>, bands: usize, height: usize, width: usize) -> Tensor {
    let images = values.len() / (bands * height * width);
    let stack = Tensor::from_vec(values, (images, bands, height, width), &Device::Cpu).unwrap();
    stack.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

/// `[height, width, channels]`, as our maps lie in memory, to PyTorch's `[channels, height, width]`.
pub fn channels_first(values: &[f32], channels: usize) -> Vec<f32> {
    let pixels = values.len() / channels;
    (0..values.len()).map(|i| values[i % pixels * channels + i / pixels]).collect()
}
