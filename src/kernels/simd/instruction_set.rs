//! The instruction sets that kernels are compiled for, and the choice among them at run time.

use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use super::neon;
use super::{Simd, SimdTask, portable};
#[cfg(target_arch = "x86_64")]
use super::{amx, avx2, avx512};

/// The supported instruction sets, from slowest to fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    Portable,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// AVX-512 with bf16, plus tile registers.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl InstructionSet {
    /// The fastest set that this processor has.
    pub(crate) fn detect() -> Self {
        static LEVEL: OnceLock<InstructionSet> = OnceLock::new();
        *LEVEL.get_or_init(|| Self::supported().last().copied().unwrap_or(Self::Portable))
    }

    /// Every set that this processor has, from slowest to fastest.
    pub(crate) fn supported() -> Vec<Self> {
        let mut sets = vec![Self::Portable];
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        sets.push(Self::Neon);
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            sets.push(Self::Avx2);
            let base = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
            if base && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl") {
                sets.push(Self::Avx512);
                if is_x86_feature_detected!("avx512bf16") {
                    sets.push(Self::Avx512Bf16);
                    if amx::available() {
                        sets.push(Self::Amx);
                    }
                }
            }
        }
        sets
    }

    /// f32 values in a register of this set.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::Portable => portable::Portable::LANES,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::Neon::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx512Bf16 | Self::Amx => avx512::Avx512::<true, true>::LANES,
        }
    }

    /// [`Simd::ROWS`] of this set.
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Portable => portable::Portable::ROWS,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::Neon::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx512Bf16 | Self::Amx => avx512::Avx512::<true, true>::ROWS,
        }
    }

    /// Whether there are tile registers.
    pub(crate) fn has_tiles(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => true,
            _ => false,
        }
    }

    /// Whether vectors multiply bf16 pairs faster than f32 values. (Processors with tile registers have bf16 dot products
    /// too, but at half the rate of f32.)
    pub(crate) fn gains_from_bf16(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => true,
            _ => false,
        }
    }

    /// Runs a task with this instruction set, which must be one of [`InstructionSet::supported`].
    #[inline]
    pub(crate) fn run<T: SimdTask>(self, task: T) -> T::Output {
        match self {
            Self::Portable => task.run(portable::Portable),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => task.run(neon::Neon::new()),
            // SAFETY (all four): every set other than `Portable` comes from `supported`, which checked the processor.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::run(task) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::run(task) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => unsafe { avx512::run_bf16(task) },
            #[cfg(target_arch = "x86_64")]
            Self::Amx => unsafe { if T::TILES { avx512::run_amx(task) } else { avx512::run_bf16(task) } },
        }
    }
}

/// Runs a task with the fastest instruction set of this processor.
#[inline]
pub(crate) fn dispatch<T: SimdTask>(task: T) -> T::Output {
    InstructionSet::detect().run(task)
}
