//! The hot CPU loops: pure functions over slices of f32, channels-last, with weights packed once at load.
//!
//! Every kernel is written once over [`simd`]'s vector operations and compiled for each instruction set; the best set that
//! the processor has is chosen at run time. On processors with tile registers (AMX), matrix products and convolutions use
//! separate code ([`factors`], [`direct`], `gemm::tiled`). Threads are rayon's. They are a crate of their own, so that a change of the program does
//! not compile them again; only its modules `ops`, `vectors` and `fit` call them.
//! Each is tested against a slow reference on odd sizes, with every instruction set of the test machine. The portable form
//! also runs under Miri, and all forms run under the address sanitizer (whose unoptimised kernels need
//! RUST_MIN_STACK=268435456).
#![expect(unsafe_code, reason = "vector instructions and disjoint writes from several threads")]

mod attention;
mod bins;
mod direct;
mod dot;
mod double;
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
#[cfg(test)]
mod reference;
mod rows;
mod simd;
mod winograd;

pub use attention::WindowAttentionKernel;
pub use bins::{BinPixels, WeightedPixel, sum_bins};
pub use direct::DirectConvolution;
pub use dot::{dot, dot_codes, largest_query};
pub use double::{add_scaled, dots};
pub use elementwise::{sigmoid, softmax};
pub use gathered::{GatheredConvolution, Walk};
pub use gemm::PackedMatrix;
pub use maps::Maps;
pub use memory::LARGE_PAGE;
pub use norm::layer_norm;
pub use pool::{max_over_captures, max_pool, nearest_add};
pub use rows::{Residual, RowPlan, RowStep};
pub use winograd::Winograd;

/// The activation that a layer applies to its result as it writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayerActivation {
    /// No activation.
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `x Φ(x)`, the exact (erf) form that torchvision's Swin uses.
    Gelu,
}

/// Outputs in a panel of weights on the widest processors: two vectors.
const PANEL: usize = 32;

/// The type that factors are rounded to before they are multiplied. Sums, inputs and outputs are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Factors stay f32.
    #[default]
    F32,
    /// Both factors are rounded to bf16.
    Bf16,
}

/// Upper bound on the bytes of packed weights, for a matrix (`taps` 1) or a convolution with `taps` taps.
pub fn most_weight_bytes(outputs: usize, inputs: usize, taps: usize, precision: Precision) -> usize {
    let factors = factors::Factors::new(precision, simd::InstructionSet::detect());
    // Without tile registers, Winograd's form of a 3x3 kernel stores 36 values instead of 9, that of the decoder's 4x4 kernel 144.
    let values = match taps {
        9 if !factors.tiled() => 36,
        16 if !factors.tiled() => 144,
        _ => taps,
    };
    outputs.next_multiple_of(PANEL) * factors.words(inputs) * values * size_of::<f32>()
}

/// Cuts `rows` rows of `width` values into ranges large enough to be worth a thread's time.
fn row_shares(rows: usize, width: usize) -> Vec<std::ops::Range<usize>> {
    const WORTH: usize = 1 << 14;
    let most = 4 * rayon::current_num_threads();
    let parts = (rows * width / WORTH).clamp(1, most);
    (0..parts).map(|part| gemm::share(rows, 1, part, parts)).collect()
}
