//! What can go wrong with stored vectors.

use std::io;
use std::sync::Arc;

use crate::budget::Ended;
use crate::error::ErrorKind;

/// An error of writing, opening or searching vectors.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VectorError {
    /// A row that has no direction or no numbers.
    #[error("row {row} (they are counted from 0): {reason}")]
    Row {
        /// Its place in the table.
        row: usize,
        /// Why it cannot be stored.
        reason: String,
    },
    /// A query that no stored vector can be compared with.
    #[error("{detail}")]
    Query {
        /// What was found and what is needed.
        detail: String,
    },
    /// More than allowed.
    #[error("{what}: {found} is more than the limit of {limit}")]
    TooLarge {
        /// The thing counted.
        what: &'static str,
        /// The count found.
        found: u64,
        /// The most allowed.
        limit: u64,
    },
    /// A stored file is not as it was written.
    #[error("the stored vectors are damaged: {reason}")]
    Damaged {
        /// What is wrong with them.
        reason: String,
    },
    /// The request has ended, so nobody waits for the search.
    #[error("the request has ended")]
    Ended,
    /// The file system failed.
    #[error("stored vectors: {0}")]
    Io(Arc<io::Error>),
}

impl From<Ended> for VectorError {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}

impl VectorError {
    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Row { .. } => ErrorKind::Unusable,
            Self::Query { .. } => ErrorKind::Invalid,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Damaged { .. } | Self::Ended | Self::Io(_) => ErrorKind::Internal,
        }
    }
}

impl From<io::Error> for VectorError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}
