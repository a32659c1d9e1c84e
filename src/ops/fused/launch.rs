//! What the start of a kernel consists of. The same description drives the GPU and, in tests, the emulator.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

/// Kernels read and write this many bytes at a time, at multiples of it.
pub(super) const CHUNK_BYTES: usize = 16;

/// The start of a kernel of `src/kernels/cuda/fused.cu`.
#[derive(Debug)]
pub(super) struct Launch {
    /// The entry point, without its suffix for the type.
    pub(super) kernel: &'static str,
    /// The type of activations.
    pub(super) dtype: DType,
    pub(super) blocks: u32,
    /// Threads of a block.
    pub(super) threads: u32,
    /// Shared memory of a block.
    pub(super) shared_bytes: u32,
    /// The bits of the arguments that follow the tensors: whole numbers and float32.
    pub(super) scalars: Vec<u32>,
}

/// A number that a kernel takes as an `int`.
pub(super) fn int(number: usize) -> Result<u32> {
    match i32::try_from(number) {
        Ok(number) => Ok(number.cast_unsigned()),
        Err(_) => candle_core::bail!("{number} is too much for a fused operator"),
    }
}

impl Launch {
    /// The name of the entry point.
    pub(super) fn entry_point(&self) -> String {
        format!("{}_{}", self.kernel, self.dtype.as_str())
    }

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
fn in_chunks(tensor: &Tensor) -> Result<Tensor> {
    let tensor = tensor.contiguous()?;
    let start = tensor.layout().start_offset() * tensor.dtype().size_in_bytes();
    if start.is_multiple_of(CHUNK_BYTES) { Ok(tensor) } else { tensor.force_contiguous() }
}

pub(super) struct Started<'a> {
    pub(super) launch: &'a Launch,
    pub(super) others: Vec<Option<Tensor>>,
    pub(super) shape: Shape,
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
