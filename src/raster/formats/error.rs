//! Why a decoder cannot go on.

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
}

/// A [`DecodeError::Damaged`].
pub(crate) fn damaged(reason: impl Into<String>) -> DecodeError {
    DecodeError::Damaged(reason.into())
}

/// A [`DecodeError::Unsupported`].
pub(crate) fn unsupported(feature: impl Into<String>) -> DecodeError {
    DecodeError::Unsupported(feature.into())
}

impl DecodeError {
    /// The same with words put in front; a failure of what holds the bytes stays as it is.
    pub(crate) fn prefixed(self, words: &str) -> Self {
        match self {
            Self::Damaged(reason) => Self::Damaged(format!("{words}: {reason}")),
            Self::Unsupported(feature) => Self::Unsupported(format!("{words}: {feature}")),
            Self::Read(error) => Self::Read(error),
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
        }
    }
}
