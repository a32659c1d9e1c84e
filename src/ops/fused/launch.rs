//! What the start of a kernel consists of. The same description drives the GPU and, in tests, the emulator.

use candle_core::{DType, Result, Shape, Tensor};

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
}

/// A launch with its tensors, but for the first.
pub(super) struct Started<'a> {
    pub(super) launch: &'a Launch,
    pub(super) others: Vec<Option<Tensor>>,
    pub(super) shape: Shape,
}
