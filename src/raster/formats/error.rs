//! Why a decoder cannot go on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::budget::BudgetError;
use crate::raster::error::RasterError;
use crate::storage::ReadError;

/// Why bytes do not become pixels.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    /// The file is damaged, or not what it seems.
    #[error("{0}")]
    Damaged(String),
    /// The file uses something that is not decoded here.
    #[error("{0}")]
    Unsupported(String),
    /// Its bytes cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no memory for it.
    #[error(transparent)]
    Budget(#[from] BudgetError),
}

/// A [`DecodeError::Damaged`].
pub(crate) fn damaged(reason: impl Into<String>) -> DecodeError {
    DecodeError::Damaged(reason.into())
}

/// A [`DecodeError::Unsupported`].
pub(crate) fn unsupported(feature: impl Into<String>) -> DecodeError {
    DecodeError::Unsupported(feature.into())
}

/// Runs a decoder that may break an assertion of its own on damaged bytes, which must cost this file and nothing else. The
/// panic has been logged by then.
///
/// # Errors
/// What `decode` says, and [`DecodeError::Damaged`] if it panics.
pub(crate) fn without_panic<T>(decode: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(damaged("its decoder gave up on it, so it is damaged or very unusual")))
}

impl DecodeError {
    /// The same with words put in front; a failure of what holds the bytes stays as it is.
    pub(crate) fn prefixed(self, words: &str) -> Self {
        match self {
            Self::Damaged(reason) => Self::Damaged(format!("{words}: {reason}")),
            Self::Unsupported(feature) => Self::Unsupported(format!("{words}: {feature}")),
            Self::Read(_) | Self::Budget(_) => self,
        }
    }

    /// The error of the file `name` of a format.
    pub(crate) fn in_file(self, name: &str, format: &'static str) -> RasterError {
        let name = name.to_owned();
        match self {
            Self::Damaged(reason) => RasterError::Undecodable { name, format, reason },
            // A file that ends before what it promises is damaged.
            Self::Read(error @ ReadError::BeyondEnd { .. }) => {
                RasterError::Undecodable { name, format, reason: error.to_string() }
            }
            Self::Unsupported(feature) => RasterError::Unsupported {
                name,
                feature,
                needed: "convert it, for example with: gdal_translate -of COG -co COMPRESS=DEFLATE in.tif out.tif",
            },
            Self::Read(error) => RasterError::of_read(&name, error),
            Self::Budget(source) => RasterError::Budget { name, source },
        }
    }
}
