//! The thread that works on jobs: takes the oldest that waits while there is room, and removes what has expired.
//!
//! It has a runtime of its own, so that jobs depend on no request's and end with the [`super::Jobs`] that own them. Work only
//! waits there; whatever takes long does so on blocking threads and on the device's.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::queue::{Running, Shared, now_ms};
use super::store::Turn;
use super::{Failure, JobError, Outcome, Progress, Work, WorkItem};
use crate::error::ErrorKind;

/// How often expired jobs are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// How long a stop waits for steps that cannot be interrupted, such as the reading of a window.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Requests come before jobs: a job that finds the device's queue full waits and tries again, so often and after so long.
const OVERLOAD_RETRIES: u32 = 30;
const OVERLOAD_PAUSE: Duration = Duration::from_secs(2);

/// Starts the thread.
///
/// # Errors
/// When the system has no thread left.
pub(super) fn start(shared: Arc<Shared>, work: Arc<dyn Work>) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("jobs".to_owned()).spawn(move || serve(runtime, &shared, &work))
}

fn serve(runtime: Runtime, shared: &Arc<Shared>, work: &Arc<dyn Work>) {
    runtime.block_on(async {
        let mut jobs = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP);
        while !shared.is_stopping() {
            if let Err(error) = fill(shared, work, &mut jobs) {
                tracing::error!(%error, "the next job cannot be taken");
            }
            tokio::select! {
                () = shared.wake.notified() => {}
                // Its end has been stored; a panic too, see `run`.
                Some(_) = jobs.join_next() => {}
                _ = sweep.tick() => if let Err(error) = shared.expire() {
                    tracing::error!(%error, "old jobs cannot be removed");
                }
            }
        }
        jobs.shutdown().await;
    });
    if let Err(error) = shared.store().put_back_running() {
        tracing::error!(%error, "jobs under way cannot be queued again");
    }
    runtime.shutdown_timeout(STOP_GRACE);
}

/// Begins jobs while there is room for them.
fn fill(shared: &Arc<Shared>, work: &Arc<dyn Work>, jobs: &mut JoinSet<()>) -> Result<(), JobError> {
    while jobs.len() < shared.options.max_running {
        // Held until the job is known as running, so that whoever cancels it finds it.
        let mut running = shared.running();
        let Some(turn) = shared.store().take_next(now_ms())? else { break };
        let (id, progress) = (turn.id.clone(), Progress::default());
        let abort = jobs.spawn(run(shared.clone(), work.clone(), turn, progress.clone()));
        running.insert(id, Running { abort, progress });
    }
    Ok(())
}

async fn run(shared: Arc<Shared>, work: Arc<dyn Work>, turn: Turn, progress: Progress) {
    let Turn { id, request, request_id, inputs } = turn;
    let count = inputs.len();
    let item = WorkItem { request, inputs: shared.inputs(&id, inputs), progress: progress.clone() };
    tracing::info!(job = id, request_id, "begun");
    let ended = patiently(work, item).await;
    match &ended {
        Ok(outcome) => tracing::info!(job = id, request_id, bytes = outcome.body.len(), "done"),
        Err(Failure { kind, detail }) => tracing::warn!(job = id, request_id, ?kind, detail, "failed"),
    }
    let finished = {
        let (shared, id) = (shared.clone(), id.clone());
        tokio::task::spawn_blocking(move || shared.finish(&id, count, ended, &progress))
    };
    if finished.await.is_err() {
        tracing::error!(job = id, "storing the end of a job panicked");
    }
    shared.running().remove(&id);
}

/// Does the work, in a task of its own so that a panic is a failure, again and again while the device is overloaded.
async fn patiently(work: Arc<dyn Work>, item: WorkItem) -> Result<Outcome, Failure> {
    let mut retries = 0;
    loop {
        let mut attempt = JoinSet::new();
        let (work, item) = (work.clone(), item.clone());
        attempt.spawn(async move { work.run(item).await });
        let ended = match attempt.join_next().await {
            Some(Ok(ended)) => ended,
            _ => Err(Failure { kind: ErrorKind::Internal, detail: "a fault stopped this job".to_owned() }),
        };
        match ended {
            Err(Failure { kind: ErrorKind::Overloaded, .. }) if retries < OVERLOAD_RETRIES => retries += 1,
            ended => return ended,
        }
        tokio::time::sleep(OVERLOAD_PAUSE).await;
    }
}
