//! A job from outside and from within: its description, what it is made of, what it ends in.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Waiting for its turn.
    Queued,
    /// Being worked on.
    Running,
    /// It has a result.
    Done,
    /// It has a [`Failure`].
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl JobState {
    /// All states, in the order a job may take them.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// Its name in the API and in the database.
    pub fn as_str(self) -> &'static str {
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

/// A job as it is described to its owner. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its name in URLs.
    pub id: String,
    /// The model it runs.
    pub model: String,
    /// The task it runs.
    pub task: String,
    /// Where it stands.
    pub state: JobState,
    /// The part of the work that is done, 0 … 1.
    pub progress: f64,
    /// When it was handed in.
    pub created_ms: i64,
    /// When work on it began, the last time.
    pub started_ms: Option<i64>,
    /// When it was done, failed or cancelled.
    pub finished_ms: Option<i64>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Bytes of its result.
    pub result_bytes: Option<u64>,
    /// The id of the request that handed it in, which the log knows.
    pub request_id: String,
}

/// A job to be.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The model it will run.
    pub model: String,
    /// The task it will run.
    pub task: String,
    /// Everything [`Work`] needs beside the inputs.
    pub request: String,
    /// The id of the request that hands it in.
    pub request_id: String,
}

/// An input file of a job to be.
pub struct Input {
    /// The client's name for it.
    pub name: String,
    /// Where its bytes are.
    pub content: InputContent,
}

/// Where the bytes of an input are.
pub enum InputContent {
    /// In memory.
    Memory(Bytes),
    /// In a file, which the job takes over; whoever holds the path keeps it until then.
    File(Arc<dyn AsRef<Path> + Send + Sync>),
}

impl InputContent {
    /// How many bytes there are.
    ///
    /// # Errors
    /// When the file cannot be asked.
    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => Ok((**path).as_ref().metadata()?.len()),
        }
    }
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind, as of any other error.
    pub kind: ErrorKind,
    /// What was found and what is needed.
    pub detail: String,
}

/// What a job ends in when all goes well: the answer as a request that waited would have got it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Names and values of its headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// A stored outcome.
#[derive(Debug)]
pub struct JobAnswer {
    /// Names and values of its headers.
    pub headers: Vec<(String, String)>,
    /// A hash of the body.
    pub hash: String,
    /// Bytes of the body.
    pub bytes: u64,
    /// The body.
    pub file: File,
}

/// A job's turn, as [`Work`] gets it.
#[derive(Clone, Debug)]
pub struct WorkItem {
    /// [`NewJob::request`].
    pub request: String,
    /// Names and places of the inputs, in their order.
    pub inputs: Vec<(String, PathBuf)>,
    /// Where to tell how far the work is.
    pub progress: Progress,
}

/// What jobs do.
pub trait Work: Send + Sync + 'static {
    /// Does one job's work. The future is dropped where the job is cancelled, and run again from the start where the server went
    /// down meanwhile; it must not block.
    fn run(&self, item: WorkItem) -> BoxFuture<'static, Result<Outcome, Failure>>;
}

/// How far a running job is; clones tell and read the same value.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU32>);

/// Progress is counted in millionths.
const MILLION: f64 = 1e6;

impl Progress {
    /// `done` of `total` steps are done.
    pub fn set(&self, done: usize, total: usize) {
        let part = done as f64 / total.max(1) as f64;
        self.0.store((part.clamp(0.0, 1.0) * MILLION) as u32, Ordering::Relaxed);
    }

    /// The part that is done, 0 … 1.
    pub fn get(&self) -> f64 {
        f64::from(self.0.load(Ordering::Relaxed)) / MILLION
    }
}
