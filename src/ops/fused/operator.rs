//! A launch as one of candle's operators, which runs on the device that its tensors are on.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::launch::{CHUNK_BYTES, Launch, Started};

impl Launch {
    /// Runs the kernel. It gets the output, of the given shape and [`Launch::dtype`], then `first` and `others`, then the
    /// scalars. An input that is absent is a null pointer.
    ///
    /// Kernels trust their arguments: the caller has compared the shapes.
    ///
    /// # Errors
    /// If the device refuses the kernel.
    pub(super) fn run(&self, first: &Tensor, others: &[Option<&Tensor>], shape: impl Into<Shape>) -> Result<Tensor> {
        let others: Vec<Option<Tensor>> =
            others.iter().map(|other| other.map(in_chunks).transpose()).collect::<Result<_>>()?;
        in_chunks(first)?.apply_op1_no_bwd(&Started { launch: self, others, shape: shape.into() })
    }
}

/// The tensor without gaps, from a multiple of [`CHUNK_BYTES`] on.
pub(super) fn in_chunks(tensor: &Tensor) -> Result<Tensor> {
    let tensor = tensor.contiguous()?;
    let start = tensor.layout().start_offset() * tensor.dtype().size_in_bytes();
    if start.is_multiple_of(CHUNK_BYTES) { Ok(tensor) } else { tensor.force_contiguous() }
}

impl CustomOp1 for Started<'_> {
    fn name(&self) -> &'static str {
        self.launch.kernel
    }

    #[cfg(not(test))]
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("{} runs on a GPU", self.launch.kernel)
    }

    #[cfg(test)]
    fn cpu_fwd(&self, first: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((super::emulator::run(self, first, layout)?, self.shape.clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, first: &candle_core::CudaStorage, layout: &Layout) -> Result<(candle_core::CudaStorage, Shape)> {
        Ok((super::cuda::run(self, first, layout)?, self.shape.clone()))
    }
}
