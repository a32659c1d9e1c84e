//! The hot CPU loops: pure functions over slices of f32, channels-last, with weights packed once at load.
//!
//! Every kernel is written once over [`simd`]'s vector vocabulary and compiled for each instruction set; the best one
//! the processor has is chosen at run time. Where it has tile registers (AMX), products and convolutions have a form of their own
//! for them ([`factors`], [`direct`], the gemm's `tiled`). Threads are rayon's. Only [`crate::ops`] calls these, and each is tested
//! against a slow reference on odd sizes, on every instruction set at hand; the portable form also runs under Miri, and all of them
//! under the address sanitizer (whose unoptimised kernels need RUST_MIN_STACK=268435456).
#![expect(unsafe_code, reason = "vector instructions and disjoint writes from several threads")]

mod attention;
mod bins;
mod direct;
mod elementwise;
mod factors;
mod gathered;
mod gemm;
mod maps;
mod math;
mod memory;
mod micro;
mod norm;
mod pool;
mod recycle;
#[cfg(test)]
mod reference;
mod rows;
mod simd;
mod winograd;

pub use attention::WindowAttentionKernel;
pub use bins::{BinPixels, WeightedPixel, sum_bins};
pub use direct::DirectConvolution;
pub use elementwise::{sigmoid, softmax};
pub use gathered::{GatheredConvolution, Walk};
pub use gemm::PackedMatrix;
pub use maps::Maps;
pub use norm::layer_norm;
pub use pool::{max_over_captures, max_pool, nearest_add};
pub use recycle::Recycler;
pub use rows::{Residual, RowPlan, RowStep};
pub use winograd::Winograd;

/// What is applied to a result as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayerActivation {
    /// Nothing.
    #[default]
    None,
    /// max(x, 0)
    Relu,
    /// x Φ(x), in the erf form.
    Gelu,
}

/// Outputs of a panel of weights on the widest processors: two vectors.
const PANEL: usize = 32;

/// What numbers are multiplied in; sums, inputs and outputs are f32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// f32
    #[default]
    F32,
    /// Both factors rounded to bf16.
    Bf16,
}

/// The most bytes that the packed weights of a matrix (one tap) or a convolution of so many taps take.
pub fn most_weight_bytes(outputs: usize, inputs: usize, taps: usize, precision: Precision) -> usize {
    let factors = factors::Factors::new(precision, simd::InstructionSet::detect());
    // Without tiles, Winograd's form of a 3x3 kernel has 36 values for 9.
    let values = if taps == 9 && !factors.tiled() { 36 } else { taps };
    outputs.next_multiple_of(PANEL) * factors.words(inputs) * values * size_of::<f32>()
}

/// Cuts `rows` of `width` values into ranges worth a thread's attention each.
fn row_shares(rows: usize, width: usize) -> Vec<std::ops::Range<usize>> {
    const WORTH: usize = 1 << 14;
    let most = 4 * rayon::current_num_threads();
    let parts = (rows * width / WORTH).clamp(1, most);
    (0..parts).map(|part| gemm::share(rows, 1, part, parts)).collect()
}
