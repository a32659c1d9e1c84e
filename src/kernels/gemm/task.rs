//! The share of a product that one thread computes.

use std::ops::Range;

use super::PackedMatrix;
use crate::LayerActivation;
use crate::memory::Out;

/// The rows and panels that one thread multiplies.
pub(super) struct GemmTask<'a, R> {
    pub(super) matrix: &'a PackedMatrix,
    pub(super) x: &'a R,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) activation: LayerActivation,
    pub(super) rows: Range<usize>,
    pub(super) panels: Range<usize>,
    pub(super) out: Out<'a>,
}
