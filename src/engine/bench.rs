//! Forward passes on a made-up image, timed without anything around them.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use super::error::EngineError;
use super::models::{EMBEDDING, LoadedModel};
use crate::nn::{Layer, NnError};

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchRequest {
    /// Task name, or `embedding` for the backbone alone.
    pub task: String,
    /// Side of the image.
    pub size_px: usize,
    /// Captures of the item.
    pub images: usize,
    /// Passes that count.
    pub runs: usize,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Seconds of each pass, in the order they ran.
    pub seconds: Vec<f64>,
    /// `cpu`, `cuda` or `metal`.
    pub device: String,
    /// `f32`, `bf16` or `f16`.
    pub dtype: String,
}

/// The largest image: 8192 px a side in f32 is 800 MB for three bands.
const MAX_SIZE_PX: usize = 8192;
const MAX_RUNS: usize = 100_000;

/// Times `runs` passes after one that warms up; blocks.
///
/// # Errors
/// A task the model does not have, sizes out of range, and what the network says.
pub fn measure(model: &LoadedModel, request: &BenchRequest) -> Result<Measured, EngineError> {
    let BenchRequest { task, size_px, images, runs } = request;
    for (what, found, most) in
        [("size", *size_px, MAX_SIZE_PX), ("images", *images, model.spec.max_images), ("runs", *runs, MAX_RUNS)]
    {
        if !(1..=most).contains(&found) {
            return Err(EngineError::Invalid {
                detail: format!("{what}: found {found}; a number from 1 to {most} is needed"),
            });
        }
    }
    let head = if task == EMBEDDING { None } else { Some(model.head(task)?) };
    let shape = (*images, *size_px, *size_px, model.spec.bands.len());
    let values = synthetic_image(images * size_px * size_px * model.spec.bands.len());
    let network = &model.network;
    let input = Tensor::from_vec(values, shape, &Device::Cpu)
        .and_then(|input| input.to_device(network.device()))
        .map_err(NnError::from)?;
    let pass = || -> Result<(), EngineError> {
        let features = network.features(&input, *images)?;
        match head {
            Some(head) => drop(network.predict(&features, head)?),
            // One value fetched from the last map: GPUs have finished by then.
            None => drop(
                network
                    .embedding(&features, Layer::Backbone(3))?
                    .sum_all()
                    .and_then(|sum| sum.to_scalar::<f32>())
                    .map_err(NnError::from)?,
            ),
        }
        Ok(())
    };
    pass()?;
    let timed = |_| {
        let started = Instant::now();
        pass()?;
        Ok(started.elapsed().as_secs_f64())
    };
    let seconds = (0..*runs).map(timed).collect::<Result<_, EngineError>>()?;
    Ok(Measured {
        seconds,
        device: device_name(network.device()).to_owned(),
        dtype: dtype_name(network.dtype()).to_owned(),
    })
}

/// Numbers between 0 and 1 without a pattern that caches could profit from (a linear congruential generator).
fn synthetic_image(len: usize) -> Vec<f32> {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..len).map(|_| next()).collect()
}

fn device_name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

fn dtype_name(dtype: DType) -> &'static str {
    dtype.as_str()
}
