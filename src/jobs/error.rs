//! What can go wrong with jobs themselves; what goes wrong within one is a [`super::Failure`].

use std::io;
use std::path::PathBuf;

use super::JobState;
use crate::error::ErrorKind;

/// What can go wrong with jobs themselves.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// No such job, or it has expired.
    #[error("there is no job {id:?}; GET /v1/jobs lists those there are")]
    Unknown {
        /// The id found.
        id: String,
    },
    /// The job has no result, or not yet.
    #[error("job {id:?} is {state} and has no result; its state must be done")]
    NoResult {
        /// The job.
        id: String,
        /// Its state.
        state: JobState,
    },
    /// Too many jobs wait.
    #[error("{waiting} jobs wait already, which is the limit; try again later")]
    QueueFull {
        /// Jobs found waiting.
        waiting: usize,
    },
    /// The inputs of waiting jobs leave no room.
    #[error("{needed} bytes are needed, but {used} of {limit} bytes are taken by the inputs of jobs; try again later")]
    StorageFull {
        /// Bytes of the new job's inputs.
        needed: u64,
        /// Bytes that other jobs' inputs take.
        used: u64,
        /// The most there may be.
        limit: u64,
    },
    /// The server is on its way out.
    #[error("the server is stopping")]
    Stopping,
    /// Another process works on the same jobs.
    #[error("{} is in use by another server; each needs a data directory of its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The store was written by a later version.
    #[error("the jobs store has version {found}, and this program knows {known}; a newer program is needed")]
    Newer {
        /// Version found.
        found: i64,
        /// Version known.
        known: i64,
    },
    /// The database failed.
    #[error("the jobs database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// A file of a job cannot be read or written.
    #[error("{what} failed: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        source: io::Error,
    },
}

impl JobError {
    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } => ErrorKind::NotFound,
            Self::NoResult { .. } => ErrorKind::Conflict,
            Self::QueueFull { .. } | Self::StorageFull { .. } => ErrorKind::Overloaded,
            Self::Stopping => ErrorKind::Unavailable,
            Self::InUse { .. } | Self::Newer { .. } | Self::Database(_) | Self::Io { .. } => ErrorKind::Internal,
        }
    }

    /// For `map_err`: the error of an attempt to do `what`.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
