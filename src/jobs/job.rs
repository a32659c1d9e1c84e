//! A job as its owner sees it: what is submitted, its description, its stored answer.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use super::JobFailure;

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Waiting to be run.
    Queued,
    /// Being run.
    Running,
    /// Ended with a result.
    Done,
    /// Ended with a failure.
    Failed,
    /// Stopped by its owner.
    Cancelled,
}

impl JobState {
    /// All states, in the order in which a job may pass through them.
    pub(crate) const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// The name used in the API and in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("found {text:?}; one of {names} is needed")
        })
    }
}

/// The description of a job. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) task: String,
    pub(crate) state: JobState,
    /// The part of the work that is done, 0 to 1.
    pub(crate) progress: f64,
    /// When it was submitted.
    pub(crate) created_ms: i64,
    /// When its latest run began.
    pub(crate) started_ms: Option<i64>,
    /// When it was done, failed or cancelled.
    pub(crate) finished_ms: Option<i64>,
    /// Why it failed.
    pub(crate) failure: Option<JobFailure>,
    /// Size of its result.
    pub(crate) result_bytes: Option<u64>,
    /// The id of the request that submitted it, which also appears in the log.
    pub(crate) request_id: String,
}

/// A job to submit.
#[derive(Clone, Debug)]
pub(crate) struct NewJob {
    pub(crate) model: String,
    pub(crate) task: String,
    /// Everything that [`JobRunner`](super::JobRunner) needs besides the inputs.
    pub(crate) request: String,
    /// The id of the request that submits it.
    pub(crate) request_id: String,
}

/// An input file of a job to submit.
pub(crate) struct JobInput {
    /// The client's name for it.
    pub(crate) name: String,
    pub(crate) content: InputContent,
}

/// Where the bytes of an input are.
pub(crate) enum InputContent {
    Memory(Bytes),
    /// In a file, which is moved to the job. The owner of the path keeps the file alive until then.
    File(Arc<dyn AsRef<Path> + Send + Sync>),
}

impl InputContent {
    /// The number of bytes.
    ///
    /// # Errors
    /// If the file's size cannot be read.
    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => Ok((**path).as_ref().metadata()?.len()),
        }
    }
}

/// The stored answer of a job that is done.
#[derive(Debug)]
pub(crate) struct JobAnswer {
    /// Names and values.
    pub(crate) headers: Vec<(String, String)>,
    /// Hash of the body.
    pub(crate) hash: String,
    /// Size of the body.
    pub(crate) bytes: u64,
    /// The body.
    pub(crate) file: File,
}
