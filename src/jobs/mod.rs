//! Jobs: work that outlives its request and a restart of the server.
//!
//! A job is the text of a request, its input files and, in the end, one answer. This module does not know what the text
//! means: a [`JobRunner`] turns it into an answer, so a job computes exactly what a synchronous request would. [`Jobs`] is the
//! entry point. It shares a `queue` with the `worker` thread; the queue keeps rows in a SQLite `database` and inputs and
//! results in `files`.
//!
//! With a data directory, everything lies below it, and a restart runs the jobs that were queued or interrupted. Without
//! one, rows live in memory and files in a temporary directory until the process ends.

mod database;
mod error;
mod facade;
mod files;
mod job;
mod options;
mod queue;
mod rows;
mod work;
mod worker;

#[cfg(test)]
mod tests;

pub use error::JobError;
pub(crate) use facade::Jobs;
pub use job::JobState;
pub(crate) use job::{InputContent, Job, JobAnswer, JobInput, NewJob};
pub use options::JobOptions;
pub(crate) use work::{JobFailure, JobOutcome, JobProgress, JobRunner, WorkItem};
