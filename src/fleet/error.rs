//! What can go wrong between a database and its workers. A block that fails is no error of the fleet.

use crate::areas::AreaError;
use crate::error::ErrorKind;

/// An error of submitting, leasing or looking at jobs.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// An option or a job cannot be used.
    #[error("{detail}")]
    Invalid {
        /// What was found and what is needed.
        detail: String,
    },
    /// There is no such job.
    #[error("job: found {id}, which does not exist; `satlas-serve jobs` lists them")]
    UnknownJob {
        /// The number asked for.
        id: i64,
    },
    /// The job's state does not allow what was asked for.
    #[error("{detail}")]
    Conflict {
        /// What was found and what is needed.
        detail: String,
    },
    /// The database cannot be used by this program.
    #[error("{detail}")]
    Unusable {
        /// What was found and what is needed.
        detail: String,
    },
    /// The database did not answer, or refused. It may answer later.
    #[error("the database failed: {reason}")]
    Database {
        /// What it, or the connection, said.
        reason: String,
    },
    /// Planning failed, or the destination cannot be written.
    #[error(transparent)]
    Area(#[from] AreaError),
}

impl FleetError {
    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::UnknownJob { .. } => ErrorKind::NotFound,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Unusable { .. } => ErrorKind::NotProvided,
            Self::Database { .. } => ErrorKind::Unavailable,
            Self::Area(error) => error.kind(),
        }
    }

    /// For errors of a database: the texts of an error and of its causes, which PostgreSQL's own message is one of.
    pub(super) fn database(error: &dyn std::error::Error) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            cause = error.source();
        }
        if reason.contains("invalid peer certificate") {
            reason +=
                "; SSL_CERT_FILE names the authority of its certificate, and ?sslmode=disable in the URL does without TLS";
        }
        Self::Database { reason }
    }
}
