//! Timing of forward passes on a synthetic image, without reading, queueing or encoding.

use std::time::Instant;

use candle_core::{Device, Tensor};

use super::device;
use super::error::EngineError;
use super::loaded::LoadedModel;
use super::model_task::EMBEDDING;
use crate::nn::{Network, NnError};
use crate::zoo::Layer;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchRequest {
    /// Task name, or `embedding` for the backbone alone.
    pub task: String,
    /// Side of the images.
    pub size_px: usize,
    /// Captures per item.
    pub images: usize,
    /// Items per pass.
    pub batch: usize,
}

/// The largest image: 8192 px a side in f32 is 800 MB for three bands.
const MAX_SIZE_PX: usize = 8192;
const MAX_BATCH: usize = 64;

/// A model on the first device with its input. [`Bench::pass`] can be called any number of times.
#[derive(Debug)]
pub struct Bench<'a> {
    network: &'a Network,
    /// `None` runs the backbone alone.
    head: Option<usize>,
    /// `[batch * captures, size, size, bands]`.
    input: Tensor,
    captures: usize,
}

impl<'a> Bench<'a> {
    /// Makes the input for `request`.
    ///
    /// # Errors
    /// If the model does not have the task, or a size is out of range.
    pub fn new(model: &'a LoadedModel, request: &BenchRequest) -> Result<Self, EngineError> {
        let BenchRequest { task, size_px, images, batch } = request;
        for (what, found, most) in
            [("size", *size_px, MAX_SIZE_PX), ("images", *images, model.spec.max_images), ("batch", *batch, MAX_BATCH)]
        {
            if !(1..=most).contains(&found) {
                return Err(EngineError::Invalid {
                    detail: format!("{what}: found {found}; a number from 1 to {most} is needed"),
                });
            }
        }
        let head = if task == EMBEDDING { None } else { Some(model.head(task)?) };
        let shape = (batch * images, *size_px, *size_px, model.spec.bands.len());
        let values = synthetic_image(batch * images * size_px * size_px * model.spec.bands.len());
        let network = model.network(0);
        let input = Tensor::from_vec(values, shape, &Device::Cpu)
            .and_then(|input| input.to_device(network.device()))
            .map_err(NnError::from)?;
        Ok(Self { network, head, input, captures: *images })
    }

    /// Runs one pass, blocking, and returns its time in seconds. The first pass is slower: leave it out of statistics.
    ///
    /// # Errors
    /// If the network fails.
    pub fn pass(&self) -> Result<f64, EngineError> {
        let started = Instant::now();
        device::run(self.network.device(), || self.run())?;
        Ok(started.elapsed().as_secs_f64())
    }

    fn run(&self) -> Result<(), EngineError> {
        let features = self.network.features(&self.input, self.captures)?;
        match self.head {
            Some(head) => drop(self.network.predict(&features, head)?),
            // Fetching one value waits until a GPU has finished.
            None => drop(
                self.network
                    .embedding(&features, Layer::Backbone(3))?
                    .sum_all()
                    .and_then(|sum| sum.to_scalar::<f32>())
                    .map_err(NnError::from)?,
            ),
        }
        Ok(())
    }

    /// `cpu`, `cuda` or `metal`.
    pub fn device(&self) -> &'static str {
        device_name(self.network.device())
    }

    /// `f32`, `bf16` or `f16`.
    pub fn dtype(&self) -> &'static str {
        self.network.dtype().as_str()
    }
}

/// Pseudo-random numbers between 0 and 1, from a linear congruential generator.
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
