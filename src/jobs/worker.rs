//! The thread that runs jobs, the oldest first, and removes expired ones.
//!
//! It has a tokio runtime of its own: jobs do not depend on the runtime that serves requests, and end with the
//! [`Jobs`](super::Jobs) that own them. Work only waits on this runtime; long computations run on blocking threads and on
//! the device's thread.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::queue::{JobQueue, RunningJob, now_ms};
use super::rows::QueuedJob;
use super::{JobError, JobFailure, JobOutcome, JobProgress, JobRunner, WorkItem};
use crate::error::ErrorKind;

/// How often expired jobs are removed.
const SWEEP: Duration = Duration::from_secs(60);

/// How long shutting down waits for steps that cannot be interrupted, such as reading a window.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How often a job is tried again when the device's queue is full.
const OVERLOAD_RETRIES: u32 = 30;
/// The longest pause before such an attempt; it ends sooner if the work says so.
const OVERLOAD_PAUSE: Duration = Duration::from_secs(60);

/// Starts the thread.
///
/// # Errors
/// If the system cannot create a thread or its runtime.
pub(super) fn start(queue: Arc<JobQueue>, work: Arc<dyn JobRunner>) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("jobs".to_owned()).spawn(move || serve(runtime, &queue, &work))
}

fn serve(runtime: Runtime, queue: &Arc<JobQueue>, work: &Arc<dyn JobRunner>) {
    runtime.block_on(async {
        let mut jobs = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP);
        while !queue.is_stopping() {
            if let Err(error) = fill(queue, work, &mut jobs) {
                tracing::error!(%error, "the next job cannot be taken");
            }
            tokio::select! {
                () = queue.wake.notified() => {}
                // `run` has stored how the job ended, even if it panicked.
                Some(_) = jobs.join_next() => {}
                _ = sweep.tick() => if let Err(error) = queue.expire() {
                    tracing::error!(%error, "old jobs cannot be removed");
                }
            }
        }
        jobs.shutdown().await;
    });
    if let Err(error) = queue.database().put_back_running() {
        tracing::error!(%error, "jobs under way cannot be queued again");
    }
    runtime.shutdown_timeout(STOP_GRACE);
}

/// Starts queued jobs until `max_running` are running.
fn fill(queue: &Arc<JobQueue>, work: &Arc<dyn JobRunner>, jobs: &mut JoinSet<()>) -> Result<(), JobError> {
    while jobs.len() < queue.options.max_running {
        // Locked until the job is in the map, so that a cancellation finds it there.
        let mut running = queue.running();
        let Some(turn) = queue.database().take_next(now_ms())? else { break };
        let (id, progress) = (turn.id.clone(), JobProgress::default());
        let abort = jobs.spawn(run(queue.clone(), work.clone(), turn, progress.clone()));
        running.insert(id, RunningJob { abort, progress });
    }
    Ok(())
}

async fn run(queue: Arc<JobQueue>, work: Arc<dyn JobRunner>, turn: QueuedJob, progress: JobProgress) {
    let QueuedJob { id, request, request_id, inputs } = turn;
    let count = inputs.len();
    let item =
        WorkItem { request, inputs: queue.inputs(&id, inputs), folder: queue.files.work(&id), progress: progress.clone() };
    tracing::info!(job = id, request_id, "begun");
    let ended = patiently(work, item).await;
    match &ended {
        Ok(outcome) => tracing::info!(job = id, request_id, bytes = outcome.body.len(), "done"),
        Err(JobFailure { kind, detail }) => tracing::warn!(job = id, request_id, ?kind, detail, "failed"),
    }
    let finished = {
        let (queue, id) = (queue.clone(), id.clone());
        tokio::task::spawn_blocking(move || queue.finish(&id, count, ended, &progress))
    };
    if finished.await.is_err() {
        tracing::error!(job = id, "storing the end of a job panicked");
    }
    queue.running().remove(&id);
}

/// Runs the work, in a task of its own so that a panic becomes a failure, and again while the device is overloaded.
async fn patiently(work: Arc<dyn JobRunner>, item: WorkItem) -> Result<JobOutcome, JobFailure> {
    let mut retries = 0;
    loop {
        let mut attempt = JoinSet::new();
        let (attempted, item) = (work.clone(), item.clone());
        attempt.spawn(async move { attempted.run(item).await });
        let ended = match attempt.join_next().await {
            Some(Ok(ended)) => ended,
            _ => Err(JobFailure { kind: ErrorKind::Internal, detail: "a fault stopped this job".to_owned() }),
        };
        match ended {
            Err(JobFailure { kind: ErrorKind::Overloaded, .. }) if retries < OVERLOAD_RETRIES => retries += 1,
            ended => return ended,
        }
        tokio::time::sleep(work.busy_for().min(OVERLOAD_PAUSE)).await;
    }
}
