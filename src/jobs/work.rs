//! What the worker runs: the [`JobRunner`] that the API supplies, what it is given, and what it ends in.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;

/// Computes the answers of jobs.
pub(crate) trait JobRunner: Send + Sync + 'static {
    /// Computes one job's answer without blocking. The future is dropped if the job is cancelled, and the job is run again
    /// from the start if the server went down meanwhile.
    fn run(&self, item: WorkItem) -> BoxFuture<'static, Result<JobOutcome, JobFailure>>;

    /// Time until work that failed with [`ErrorKind::Overloaded`] is worth another try.
    fn busy_for(&self) -> Duration;
}

/// One job, as [`JobRunner`] receives it.
#[derive(Clone, Debug)]
pub(crate) struct WorkItem {
    /// [`NewJob::request`](super::NewJob::request).
    pub(crate) request: String,
    /// Name and path of each input, in the order they were submitted.
    pub(crate) inputs: Vec<(String, PathBuf)>,
    /// A folder that does not exist yet, or holds what an earlier run of the job has left. It is removed when the job has ended.
    pub(crate) folder: PathBuf,
    /// To be updated while the work proceeds.
    pub(crate) progress: JobProgress,
}

/// The answer of a job that succeeded: what a synchronous request would have received.
#[derive(Clone, Debug)]
pub(crate) struct JobOutcome {
    /// Names and values.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobFailure {
    pub(crate) kind: ErrorKind,
    /// What was found and what is needed.
    pub(crate) detail: String,
}

/// How much of a running job is done. Clones share one value.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobProgress(Arc<AtomicU32>);

/// The value is stored in millionths.
const MILLION: f64 = 1e6;

impl JobProgress {
    pub(crate) fn set(&self, done_steps: usize, total_steps: usize) {
        let part = done_steps as f64 / total_steps.max(1) as f64;
        self.0.store((part.clamp(0.0, 1.0) * MILLION) as u32, Ordering::Relaxed);
    }

    /// From 0 (nothing) to 1 (all of it).
    pub(crate) fn get(&self) -> f64 {
        f64::from(self.0.load(Ordering::Relaxed)) / MILLION
    }
}
