//! A worker: leases blocks, makes them, acknowledges them. Two are in work at a time: while one is on the device, the next is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};

use super::prepared::{PreparedJob, PreparedJobs};
use super::renewal::keep;
use super::{BlockQueue, FleetError, JobReader, Lease, MAX_ATTEMPTS, fail, hand_back};
use crate::areas::{AreaError, cover, is_made, make, note_failure};
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::telemetry::{FLEET_BLOCK_SECONDS, FLEET_BLOCKS_TOTAL, FLEET_QUEUE_SECONDS};

/// Blocks in work at a time.
const LEASES: usize = 2;

/// The wait after the queue was found empty, or the database failed; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Pause after the destination could not be written.
const DESTINATION_PAUSE: Duration = Duration::from_secs(5);

/// How long the database may take over what a worker that stops hands back.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How a worker works.
#[derive(Clone, Copy, Debug)]
pub struct WorkerOptions {
    /// How long a block stays with a worker that has vanished.
    pub lease: Duration,
}

/// Whether a worker can work.
#[derive(Debug, Default)]
pub struct WorkerStatus {
    is_ready: AtomicBool,
}

impl WorkerStatus {
    /// True if the database has answered last time, and the worker is not stopping.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
    }
}

/// A worker.
pub struct Worker {
    engine: Arc<Engine>,
    queue: Arc<dyn BlockQueue>,
    read: JobReader,
    options: WorkerOptions,
    status: Arc<WorkerStatus>,
    jobs: Mutex<PreparedJobs>,
}

/// What became of a message.
enum Made {
    /// The block or the collection was made, and counts as done.
    Made,
    /// The block was there already.
    There,
}

impl Worker {
    /// A worker on `queue`. `read` reads the texts of jobs.
    pub fn new(engine: Arc<Engine>, queue: Arc<dyn BlockQueue>, read: JobReader, options: WorkerOptions) -> Self {
        let jobs = Mutex::new(PreparedJobs::default());
        Self { engine, queue, read, options, status: Arc::default(), jobs }
    }

    /// Whether it can work.
    pub fn status(&self) -> Arc<WorkerStatus> {
        self.status.clone()
    }

    /// Works until `stop` is true, then hands back what is in work.
    pub async fn work(&self, stop: watch::Receiver<bool>) {
        let slots = (0..LEASES).map(|_| self.slot(stop.clone()));
        futures::future::join_all(slots).await;
        self.status.set_ready(false);
    }

    /// One block after the other.
    async fn slot(&self, mut stop: watch::Receiver<bool>) {
        let mut pause = FIRST_PAUSE;
        while !*stop.borrow() {
            // Not given up at a stop: the database may have leased a block by then, which has to be handed back.
            let mut jobs = self.jobs.lock().await;
            let next = jobs.next(&*self.queue, &self.engine, &self.read, self.options.lease, stop.clone()).await;
            drop(jobs);
            let began = Instant::now();
            self.status.set_ready(next.is_ok());
            match next {
                Ok(Some((job, held))) => {
                    pause = FIRST_PAUSE;
                    let rest = self.attend(&job, &held, &mut stop).await;
                    metrics::histogram!(FLEET_BLOCK_SECONDS).record(began.elapsed());
                    sleep(rest, &mut stop).await;
                }
                Ok(None) => {
                    sleep(spread(pause), &mut stop).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => {
                    tracing::warn!(%error, "the queue cannot be read yet");
                    sleep(spread(pause), &mut stop).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Does what a message asks for while its lease lasts; returns how long to wait before the next.
    async fn attend(&self, job: &Arc<PreparedJob>, held: &Lease, stop: &mut watch::Receiver<bool>) -> Duration {
        let lost = async {
            keep(&*self.queue, held, self.options.lease).await;
            ("lost", Duration::ZERO)
        };
        let stopped = async {
            // The sender lives as long as the worker.
            let _ = stop.wait_for(|is_stopping| *is_stopping).await;
            let _ = tokio::time::timeout(LAST_WORDS, hand_back(&*self.queue, held, Duration::ZERO)).await;
            ("returned", Duration::ZERO)
        };
        // What is in work is dropped when another one wins.
        let (outcome, rest) = tokio::select! {
            biased;
            ended = self.see_through(job, held) => ended,
            ended = lost => ended,
            ended = stopped => ended,
        };
        if outcome == "lost" {
            tracing::warn!(job = held.job, block = held.title(), "a block is given up, as its lease has ended");
        }
        metrics::counter!(FLEET_BLOCKS_TOTAL, "outcome" => outcome).increment(1);
        rest
    }

    /// Makes what a message asks for and tells the queue what became of it.
    async fn see_through(&self, job: &Arc<PreparedJob>, held: &Lease) -> (&'static str, Duration) {
        let made = match held.is_spent() {
            true => {
                let died = "workers that began it ended without a word: killed, or out of memory";
                Err(AreaError::Invalid { detail: held.message.reason.clone().unwrap_or_else(|| died.to_owned()) })
            }
            false => self.make(job, held).await,
        };
        let (outcome, rest, is_ours) = match made {
            Ok(made) => {
                let outcome = if matches!(made, Made::Made) { "made" } else { "there" };
                (outcome, Duration::ZERO, self.tell(held, || self.queue.complete(held)).await)
            }
            // Of this machine, not of the block: others can do it, or this one later.
            Err(error @ (AreaError::Io { .. } | AreaError::Bucket(_))) => {
                tracing::warn!(job = held.job, block = held.title(), %error, "a block is handed back");
                let told = self.tell(held, || Box::pin(hand_back(&*self.queue, held, DESTINATION_PAUSE))).await;
                ("returned", DESTINATION_PAUSE, told)
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let told = self.tell(held, || Box::pin(hand_back(&*self.queue, held, FIRST_PAUSE))).await;
                ("returned", FIRST_PAUSE, told)
            }
            Err(error) => {
                let reason = error.to_string();
                let attempt = held.attempt().min(MAX_ATTEMPTS);
                tracing::warn!(job = held.job, block = held.title(), attempt, reason, "a block has failed");
                let is_final = self.tell(held, || Box::pin(fail(&*self.queue, held, &reason))).await;
                if let (true, Some(block)) = (is_final, &held.message.block) {
                    self.note(job, block, reason).await;
                }
                ("failed", Duration::ZERO, true)
            }
        };
        (if is_ours { outcome } else { "lost" }, rest)
    }

    async fn make(&self, job: &Arc<PreparedJob>, held: &Lease) -> Result<Made, AreaError> {
        let Some(name) = &held.message.block else {
            if cover(&self.engine, job.parts(), &job.destination).await? == job.plan.blocks.len() {
                job.destination.clean().await;
            }
            return Ok(Made::Made);
        };
        let block = job.block(name).ok_or_else(|| AreaError::Invalid {
            detail: format!("block: found {name:?}, which the plan does not have; the job has to be submitted again"),
        })?;
        if is_made(block, &job.destination).await? {
            return Ok(Made::There);
        }
        make(&self.engine, job.parts(), block, &job.destination).await?;
        Ok(Made::Made)
    }

    /// Asks the queue until it answers. The lease is kept meanwhile, and whoever keeps it gives this up.
    async fn tell<'a, F>(&'a self, held: &Lease, ask: impl Fn() -> F) -> bool
    where
        F: Future<Output = Result<bool, FleetError>> + Send + 'a,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = Instant::now();
            let answer = ask().await;
            metrics::histogram!(FLEET_QUEUE_SECONDS, "call" => "end").record(asked.elapsed());
            match answer {
                Ok(is_ours) => return is_ours,
                Err(error) => {
                    tracing::warn!(job = held.job, block = held.title(), %error, "the queue could not be told yet");
                    tokio::time::sleep(spread(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Leaves the reason of a failure in the destination, for those who look there.
    async fn note(&self, job: &Arc<PreparedJob>, block: &str, reason: String) {
        if let Err(error) = note_failure(block, reason, &job.destination).await {
            tracing::warn!(block, %error, "the reason of a failure could not be written");
        }
    }
}

/// Sleeps, but not beyond a stop.
async fn sleep(time: Duration, stop: &mut watch::Receiver<bool>) {
    let stopped = stop.wait_for(|is_stopping| *is_stopping);
    // Either is fine.
    let _ = tokio::time::timeout(time, stopped).await;
}

/// Between half of a pause and all of it, so that workers that were stopped together do not come back together.
fn spread(pause: Duration) -> Duration {
    let chance = getrandom::u32().unwrap_or(u32::MAX);
    pause.mul_f64(0.5 + 0.5 * f64::from(chance) / f64::from(u32::MAX))
}
