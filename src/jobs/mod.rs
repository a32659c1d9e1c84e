//! Jobs: work that outlives its request, and the server's restart.
//!
//! A job is a request's text, its input files and, in the end, one answer. What the text means is the caller's business: a
//! [`Work`] turns it into an answer, so that a job computes exactly as a request that waits. [`Jobs`] is the facade; the `store`
//! keeps rows in SQLite, `files` keeps inputs and results beside it, and the `worker` thread runs what is queued.
//!
//! With a data directory everything lies under it, and a restart runs what was queued or interrupted. Without one, rows live in
//! memory and files in a temporary directory, until the process ends.

mod error;
mod files;
mod job;
mod queue;
mod store;
mod worker;

pub use error::JobError;
pub use job::{Failure, Input, InputContent, Job, JobAnswer, JobState, NewJob, Outcome, Progress, Work, WorkItem};
pub use queue::{JobOptions, Jobs};
