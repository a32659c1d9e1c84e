//! Errors of submitting and managing jobs. An error inside a job's own work is a [`JobFailure`](super::JobFailure).

use std::io;
use std::path::PathBuf;

use super::JobState;
use crate::error::ErrorKind;

/// An error of submitting or managing jobs.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// There is no such job here, or it has expired.
    #[error(
        "there is no job {id:?} at this server; GET /v1/jobs lists those it knows, and a job is known to the server alone that took it, \
             unless its id begins with shared-"
    )]
    Unknown {
        /// The id that was asked for.
        id: String,
    },
    /// The job has no result, or none yet.
    #[error("job {id:?} is {state} and has no result; its state must be done")]
    NoResult {
        /// The job's id.
        id: String,
        /// Its state.
        state: JobState,
    },
    /// Too many jobs are queued.
    #[error("{waiting} jobs wait already, which is the limit; try again later")]
    QueueFull {
        /// How many are queued.
        waiting: usize,
    },
    /// The inputs of queued and running jobs leave no room.
    #[error("{needed} bytes are needed, but {used} of {limit} bytes are taken by the inputs of jobs; try again later")]
    StorageFull {
        /// Size of the new job's inputs.
        needed: u64,
        /// Size of all other jobs' inputs.
        used: u64,
        /// The limit on the sum of both.
        limit: u64,
    },
    /// The server is shutting down.
    #[error("the server is stopping")]
    Stopping,
    /// Another process uses the same directory.
    #[error("{} is in use by another server; each needs a data directory of its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A later version of this program wrote the database.
    #[error("the jobs store has version {found}, and this program knows {known}; a newer program is needed")]
    Newer {
        /// The database's version.
        found: i64,
        /// The newest version that this program reads.
        known: i64,
    },
    /// The database failed.
    #[error("the jobs database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// A file or thread of jobs failed.
    #[error("{what} failed: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

impl JobError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } => ErrorKind::NotFound,
            Self::NoResult { .. } => ErrorKind::Conflict,
            Self::QueueFull { .. } | Self::StorageFull { .. } => ErrorKind::Overloaded,
            Self::Stopping => ErrorKind::Unavailable,
            Self::InUse { .. } | Self::Newer { .. } | Self::Database(_) | Self::Io { .. } => ErrorKind::Internal,
        }
    }

    /// For `map_err`: turns an I/O error into the error of an attempt to do `what`.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
