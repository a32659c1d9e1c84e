//! What a queue of blocks can do, and the rules that hold on any database.
//!
//! A lease is told apart from later ones on its message by the number of reads: every change that its holder makes names both, so
//! that of a worker whose lease has ended changes nothing. The time of leases is the database's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::FleetError;

/// The number of a job.
pub type JobId = i64;

/// How often a block is begun, by whichever worker, before it counts as failed.
pub const MAX_ATTEMPTS: u32 = 5;

/// The wait before the second attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest reason that is stored, in bytes.
const MAX_REASON_BYTES: usize = 2000;

/// A job as it is submitted.
#[derive(Clone, Debug)]
pub struct NewFleetJob {
    /// The job as it was written, without its destination: JSON.
    pub text: String,
    /// The identity of its plan.
    pub identity: String,
    /// A place that every worker sees under this name.
    pub destination: String,
    /// The names of its blocks.
    pub blocks: Vec<String>,
}

/// What workers need to know of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredJob {
    /// The job as it was written, without its destination: JSON.
    pub text: String,
    /// The identity of its plan.
    pub identity: String,
    /// A place that every worker sees under this name.
    pub destination: String,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FleetJobState {
    /// Blocks are missing, or the files over them.
    Running,
    /// All blocks are there.
    Done,
    /// All blocks are there but those that failed.
    #[serde(rename = "done with failures")]
    DoneWithFailures,
    /// Somebody did not want the rest.
    Cancelled,
}

impl FleetJobState {
    /// As it is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::DoneWithFailures => "done with failures",
            Self::Cancelled => "cancelled",
        }
    }

    /// # Errors
    /// If another program wrote it.
    pub(super) fn stored(text: &str) -> Result<Self, FleetError> {
        [Self::Running, Self::Done, Self::DoneWithFailures, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| FleetError::Unusable { detail: format!("the state of a job is {text:?}, which is none") })
    }
}

impl fmt::Display for FleetJobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A job and its progress.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FleetJob {
    /// Its number.
    pub id: JobId,
    /// Its model.
    pub model: String,
    /// Its task.
    pub task: String,
    /// How far it is.
    pub state: FleetJobState,
    /// Blocks of its plan.
    pub blocks: u64,
    /// Blocks that are there.
    pub done: u64,
    /// Blocks that failed.
    pub failed: u64,
    /// Messages under lease.
    pub in_work: u64,
    /// Blocks per second between the first and the last that was done; 0 before the second.
    pub rate: f64,
    /// When it was submitted, in seconds since 1970.
    pub submitted_s: f64,
    /// When the last block so far was done, in seconds since 1970.
    pub last_done_s: Option<f64>,
    /// Where its results are.
    pub destination: String,
}

impl FleetJob {
    /// Blocks per second, from the seconds since 1970 of the first and the last block done.
    pub(super) fn rate(done: u64, first_s: Option<f64>, last_s: Option<f64>) -> f64 {
        match (first_s, last_s) {
            (Some(first), Some(last)) if done > 1 && last > first => (done - 1) as f64 / (last - first),
            _ => 0.0,
        }
    }
}

/// What a message says. Without a block it asks for the files over all blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The block to make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    /// Reads that do not count as attempts, as their holder handed the message back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub returned: i32,
    /// The last read whose holder has put the message off: a message that waits is not in work.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ended: i32,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl Message {
    /// That of a block.
    pub(super) fn of_block(block: &str) -> Self {
        Self { block: Some(block.to_owned()), ..Self::default() }
    }

    /// # Errors
    /// If another program wrote it.
    pub(super) fn parse(text: &str) -> Result<Self, FleetError> {
        serde_json::from_str(text).map_err(|error| FleetError::Unusable { detail: format!("a message is {text}: {error}") })
    }

    /// As it is stored.
    pub(super) fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

/// A message that nobody else reads until the lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its job.
    pub job: JobId,
    /// Its number in the job's queue.
    pub number: i64,
    /// How often it has been read, this time included: what fences off those who read it before.
    pub reads: i32,
    /// What it says.
    pub message: Message,
}

impl Lease {
    /// Counted from 1; leases that were handed back do not count.
    pub fn attempt(&self) -> u32 {
        u32::try_from(self.reads - self.message.returned).unwrap_or(1)
    }

    /// True if it has been begun too often already, by workers that did not live to tell why.
    pub(super) fn is_spent(&self) -> bool {
        self.attempt() > MAX_ATTEMPTS
    }

    /// The block, or what else is asked for.
    pub(super) fn title(&self) -> &str {
        self.message.block.as_deref().unwrap_or("the collection")
    }

    /// The message once this lease has ended without success.
    fn after(&self, is_counted: bool, reason: Option<&str>) -> Message {
        let mut message = Message { ended: self.reads, ..self.message.clone() };
        message.returned += i32::from(!is_counted);
        message.reason = reason.map(shortened).or(message.reason);
        message
    }
}

fn shortened(reason: &str) -> String {
    let cut = reason.char_indices().map(|(at, _)| at).find(|at| *at >= MAX_REASON_BYTES).unwrap_or(reason.len());
    // PostgreSQL stores no NUL.
    reason[..cut].replace('\0', "")
}

/// Told how many messages have been sent so far.
pub type SendProgress = Arc<dyn Fn(usize) + Send + Sync>;

/// Jobs and the messages of their blocks. Methods with a lease return false, and change nothing, if it is not the message's last.
#[async_trait]
pub trait BlockQueue: Send + Sync {
    /// Stores a job with a message for each block, all or nothing.
    ///
    /// # Errors
    /// This and all others: [`FleetError::Database`] if the database fails.
    async fn submit(&self, job: NewFleetJob, progress: SendProgress) -> Result<JobId, FleetError>;

    /// The jobs submitted last, at most `most`; or one of them, if it exists.
    async fn jobs(&self, only: Option<JobId>, most: u32) -> Result<Vec<FleetJob>, FleetError>;

    /// What workers need to know of a job.
    ///
    /// # Errors
    /// [`FleetError::UnknownJob`].
    async fn stored(&self, id: JobId) -> Result<StoredJob, FleetError>;

    /// Blocks of a job that failed, with their reasons, at most `most`. A failure without a block is that of the collection.
    async fn failures(&self, id: JobId, most: u32) -> Result<Vec<(Option<String>, String)>, FleetError>;

    /// The oldest jobs that are running, at most `most`.
    async fn running(&self, most: u32) -> Result<Vec<JobId>, FleetError>;

    /// Leases the next message of a job; `None` if all are leased, or the job has ended.
    async fn claim(&self, id: JobId, lease: Duration) -> Result<Option<Lease>, FleetError>;

    /// Lets a lease end so much later than now.
    async fn renew(&self, held: &Lease, lease: Duration) -> Result<bool, FleetError>;

    /// Acknowledges a message: removes it and counts its block, in one transaction. That of the last block sends the message for
    /// the collection, and that one ends the job.
    async fn complete(&self, held: &Lease) -> Result<bool, FleetError>;

    /// Ends a lease: the message is read again after `pause`, as `message`.
    async fn put_off(&self, held: &Lease, message: &Message, pause: Duration) -> Result<bool, FleetError>;

    /// Removes a message and counts its block as failed, in one transaction.
    async fn bury(&self, held: &Lease, reason: &str) -> Result<bool, FleetError>;

    /// Ends a running job. Its leases end with it, so that workers give their blocks up when they renew them.
    ///
    /// # Errors
    /// [`FleetError::Conflict`] if it is not running.
    async fn cancel(&self, id: JobId) -> Result<(), FleetError>;

    /// Lets a job that is done with failures go on with those blocks, or one of them; returns how many.
    ///
    /// # Errors
    /// [`FleetError::Conflict`] if it has no such failure.
    async fn retry(&self, id: JobId, block: Option<&str>) -> Result<u64, FleetError>;

    /// Forgets a job that has ended. Its results stay where they are.
    ///
    /// # Errors
    /// [`FleetError::Conflict`] if it is running.
    async fn remove(&self, id: JobId) -> Result<(), FleetError>;
}

/// Ends a lease without counting it as an attempt.
///
/// # Errors
/// If the database fails.
pub async fn hand_back(queue: &dyn BlockQueue, held: &Lease, pause: Duration) -> Result<bool, FleetError> {
    queue.put_off(held, &held.after(false, None), pause).await
}

/// Ends a lease whose attempt failed: the block is tried again later or, after the last attempt, counts as failed. Returns true in
/// the latter case.
///
/// # Errors
/// If the database fails.
pub async fn fail(queue: &dyn BlockQueue, held: &Lease, reason: &str) -> Result<bool, FleetError> {
    if held.attempt() >= MAX_ATTEMPTS {
        return queue.bury(held, &shortened(reason)).await;
    }
    let pause = FIRST_PAUSE * 2u32.saturating_pow(held.attempt() - 1);
    queue.put_off(held, &held.after(true, Some(reason)), pause).await?;
    Ok(false)
}

/// For jobs that have ended.
pub(super) fn not_running(id: JobId) -> FleetError {
    FleetError::Conflict { detail: format!("job {id} has ended; a running job is needed") }
}

/// For jobs that have not ended.
pub(super) fn still_running(id: JobId) -> FleetError {
    FleetError::Conflict { detail: format!("job {id} is running; a job that has ended is needed") }
}

/// For jobs without the failure that is to be tried again.
pub(super) fn nothing_to_retry(id: JobId, block: Option<&str>) -> FleetError {
    let block = block.map(|name| format!(" of the block {name}")).unwrap_or_default();
    let detail = format!(
        "job {id} has no failure{block} to try again; a job that is done with failures is needed, and `satlas-serve jobs {id}` \
         lists them"
    );
    FleetError::Conflict { detail }
}
