//! Errors of area jobs. A block that fails is no error of the job.

use std::io;

use crate::engine::EngineError;
use crate::error::ErrorKind;
use crate::outputs::OutputError;
use crate::raster::RasterError;
use crate::storage::BucketError;

/// An error of an area job.
#[derive(Debug, thiserror::Error)]
pub enum AreaError {
    /// The job contradicts itself or the task.
    #[error("{detail}")]
    Invalid {
        /// What was found and what is needed.
        detail: String,
    },
    /// The destination holds the results of another job.
    #[error("{detail}")]
    Conflict {
        /// What was found and what is needed.
        detail: String,
    },
    /// There are more blocks than a plan may have.
    #[error("the area has {found} blocks, and the limit is {limit}; a larger block_px or a smaller area is needed")]
    TooManyBlocks {
        /// How many were found.
        found: String,
        /// Most blocks.
        limit: usize,
    },
    /// The results are larger than a zip file of them may be.
    #[error(
        "the results have {found} bytes, and the limit is {limit}; `satlas-serve run` writes areas of any size to a folder or a bucket"
    )]
    TooManyBytes {
        /// Bytes found.
        found: u64,
        /// Most bytes.
        limit: u64,
    },
    /// A file of the folder failed.
    #[error("{what} failed: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// An object of the bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The rasters of a run could not be read.
    #[error(transparent)]
    Raster(#[from] RasterError),
    /// A block could not be encoded.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl AreaError {
    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::TooManyBlocks { .. } | Self::TooManyBytes { .. } => ErrorKind::TooLarge,
            Self::Io { .. } => ErrorKind::Internal,
            Self::Raster(error) => error.kind(),
            Self::Bucket(_) => ErrorKind::Upstream,
            Self::Engine(error) => error.kind(),
            Self::Output(error) => error.kind(),
        }
    }

    /// For `map_err`: turns an I/O error into the error of an attempt to do `what`.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
