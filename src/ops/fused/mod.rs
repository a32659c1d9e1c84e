//! Operators that a GPU runs as one kernel where candle would launch many over intermediate copies.
//!
//! The kernels are CUDA C++ in `src/kernels/cuda`; [`launch`] describes how one is started, [`operator`] makes that an operator of
//! candle, [`attention`] and [`rows`] are those of networks. [`convolution`] has no kernel of ours: cuDNN runs it, in builds that have
//! it. [`trust`] compares each with its plain form when a model is loaded.
//! Plain operations remain the reference, and what runs wherever a fused operator is not available, does not fit or is not trusted.

mod attention;
mod convolution;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cudnn")]
mod cudnn;
#[cfg(test)]
mod emulator;
mod launch;
mod operator;
mod rows;
#[cfg(test)]
mod tests;
mod trust;

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

pub(super) use attention::FusedAttention;
pub(super) use convolution::FusedConvolution;
#[cfg(test)]
pub(crate) use emulator::kernels_can_be_emulated;
pub(super) use rows::{bias_gelu, gelu_fits, norm_fits, residual_norm};
pub(super) use trust::{Subject, sample};

use trust::Trust;

/// The fused operators of one network.
#[derive(Clone, Debug, Default)]
pub(super) struct FusedOps {
    trust: Arc<Trust>,
}

impl FusedOps {
    /// Those for `device`, if this build has kernels for it.
    pub(super) fn on(device: &Device) -> Option<Self> {
        (cfg!(feature = "cuda") && device.is_cuda()).then(Self::default)
    }

    /// Whether `fused` gives what `plain` gives. Each subject is compared once; the first failure is logged.
    ///
    /// # Errors
    /// If the plain form fails.
    pub(super) fn trusts(
        &self,
        subject: Subject,
        plain: impl FnOnce() -> Result<Tensor>,
        fused: impl FnOnce() -> Result<Tensor>,
    ) -> Result<bool> {
        self.trust.holds(subject, plain, fused)
    }

    /// The fused form of an operator if `run` gives the same with both forms, else the plain one.
    ///
    /// # Errors
    /// If the plain form fails.
    pub(super) fn choose<T>(&self, subject: Subject, plain: T, fused: T, run: impl Fn(&T) -> Result<Tensor>) -> Result<T> {
        let trusted = self.trusts(subject, || run(&plain), || run(&fused))?;
        Ok(if trusted { fused } else { plain })
    }
}
