//! What can go wrong between a file and its pixels.

use std::io;

use crate::budget::BudgetError;
use crate::error::ErrorKind;
use crate::georef::CrsError;
use crate::storage::{ReadError, RemoteError};

/// What can be wrong with a raster.
#[derive(Debug, thiserror::Error)]
pub enum RasterError {
    /// The file is damaged, or has another format than it seems.
    #[error("{name} cannot be read as {format}: {reason}")]
    Undecodable {
        /// The file or upload.
        name: String,
        /// The format tried.
        format: &'static str,
        /// The decoder's message.
        reason: String,
    },
    /// The file is sound but uses something this server cannot decode.
    #[error("{name} uses {feature}, which this server cannot read; {needed}")]
    Unsupported {
        /// The file or upload.
        name: String,
        /// What was found.
        feature: String,
        /// What to do instead.
        needed: &'static str,
    },
    /// The georeference is not finite or cannot be inverted.
    #[error("the georeference of {name} cannot be used: {reason}")]
    BadGeoreference {
        /// The file or upload.
        name: String,
        /// What was found and what is needed.
        reason: String,
    },
    /// The coordinate system is not one this server knows.
    #[error("the coordinate system of {name} cannot be used: {source}")]
    BadCrs {
        /// The file or upload.
        name: String,
        /// What is wrong with it.
        source: CrsError,
    },
    /// A georeference is needed, and the raster has none.
    #[error("{name} has no georeference (a coordinate system and a transform), which is needed here")]
    NotGeoreferenced {
        /// The file or upload.
        name: String,
    },
    /// More bytes, pixels, bands or captures than allowed.
    #[error("{name} has {found} {what}, more than the {limit} allowed")]
    TooLarge {
        /// The file or upload.
        name: String,
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many there may be.
        limit: u64,
    },
    /// A band number that the raster does not have.
    #[error("band {band} was asked for, but the raster has bands 1 to {count}")]
    NoSuchBand {
        /// 1-based number.
        band: usize,
        /// Bands there are.
        count: usize,
    },
    /// A resolution level or a capture that does not exist.
    #[error("{what} {index} was asked for, but there are {count}")]
    NoSuchPart {
        /// `overview` or `capture`.
        what: &'static str,
        /// 0-based number.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// Bands or captures do not fit a model, or each other.
    #[error("{found}; {needed}")]
    BandMismatch {
        /// What the raster has.
        found: String,
        /// What the model needs.
        needed: String,
    },
    /// An option has an invalid value.
    #[error("{what} {value:?} is not valid: {needed}")]
    InvalidOption {
        /// The option.
        what: &'static str,
        /// What was given.
        value: String,
        /// What is accepted.
        needed: String,
    },
    /// Bytes that are no known raster format.
    #[error("{name} is {found}; accepted are GeoTIFF, JPEG 2000, PNG, JPEG and npy")]
    UnsupportedMedia {
        /// The file or upload.
        name: String,
        /// What the first bytes look like.
        found: String,
    },
    /// There is no memory to decode it.
    #[error("{name} cannot be decoded now: {source}")]
    Budget {
        /// The file or upload.
        name: String,
        /// How much it needs.
        source: BudgetError,
    },
    /// A remote file cannot be fetched.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The file system failed.
    #[error("{name} cannot be read: {source}")]
    Io {
        /// The file or upload.
        name: String,
        /// The system's error.
        source: io::Error,
    },
}

impl RasterError {
    /// A failure of this machine's file system.
    pub(crate) fn of_io(name: &str, source: io::Error) -> Self {
        Self::Io { name: name.to_owned(), source }
    }

    /// A failure of what holds the bytes.
    pub(crate) fn of_read(name: &str, error: ReadError) -> Self {
        match error {
            ReadError::Remote(error) => Self::Remote(error),
            ReadError::Io(error) => Self::of_io(name, io::Error::new(error.kind(), error)),
            ReadError::BeyondEnd { .. } => Self::of_io(name, io::Error::new(io::ErrorKind::UnexpectedEof, error)),
        }
    }

    /// True if a remote file has changed since it was opened.
    pub fn is_changed_file(&self) -> bool {
        matches!(self, Self::Remote(RemoteError::Changed { .. }))
    }

    /// True if another attempt would fail, too.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Remote(RemoteError::Status { status, .. }) => {
                (400..500).contains(status) && !matches!(status, 408 | 425 | 429)
            }
            error => !matches!(
                error.kind(),
                ErrorKind::Internal | ErrorKind::Upstream | ErrorKind::TimedOut | ErrorKind::Overloaded
            ),
        }
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Undecodable { .. }
            | Self::Unsupported { .. }
            | Self::BadGeoreference { .. }
            | Self::BadCrs { .. }
            | Self::NotGeoreferenced { .. }
            | Self::BandMismatch { .. } => ErrorKind::Unusable,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::NoSuchBand { .. } | Self::InvalidOption { .. } => ErrorKind::Invalid,
            Self::NoSuchPart { .. } => ErrorKind::NotFound,
            Self::UnsupportedMedia { .. } => ErrorKind::UnsupportedMedia,
            Self::Remote(error) => error.kind(),
            Self::Budget { source, .. } => source.kind(),
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::TimedOut => ErrorKind::TimedOut,
                // A file that ends before what it promises, or is no file, is the file's fault.
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => ErrorKind::Unusable,
                _ => ErrorKind::Internal,
            },
        }
    }
}
