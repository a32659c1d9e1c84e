//! What a worker keeps of the jobs it works on: their plans, made again from their texts, so that a plan that differs shows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{BlockQueue, FleetError, JobId, Lease, StoredJob};
use crate::areas::{AreaJob, AreaPlan, Block, Destination, agreed};
use crate::engine::{Area, Engine};
use crate::telemetry::FLEET_QUEUE_SECONDS;

/// Reads a job's text for an engine, or says why that has no such job.
pub type JobReader = Box<dyn Fn(&Engine, &str) -> Result<AreaJob, String> + Send + Sync>;

/// Running jobs that are looked at: the oldest.
const MOST_JOBS: u32 = 64;

/// A job that was left to other workers is looked at again after this, as its source may have been mended.
const REFUSAL: Duration = Duration::from_secs(60);

/// A job, ready for its blocks.
pub(super) struct PreparedJob {
    pub(super) job: AreaJob,
    pub(super) plan: AreaPlan,
    pub(super) area: Area,
    pub(super) destination: Destination,
}

impl PreparedJob {
    pub(super) fn block(&self, name: &str) -> Option<&Block> {
        self.plan.blocks.iter().find(|block| block.name == name)
    }

    /// As the functions of areas take it.
    pub(super) fn parts(&self) -> (&AreaJob, &AreaPlan, &Area) {
        (&self.job, &self.plan, &self.area)
    }
}

enum Preparation {
    Ready(Arc<PreparedJob>),
    /// Left to other workers since then.
    Refused(Instant),
}

/// The jobs of a worker.
#[derive(Default)]
pub(super) struct PreparedJobs {
    jobs: BTreeMap<JobId, Preparation>,
    /// Jobs about which a warning was logged.
    warned: BTreeSet<JobId>,
    /// The job of the last lease.
    current: Option<JobId>,
}

impl PreparedJobs {
    /// Leases the next message of a job that this worker can do: of the job it works on, else of the oldest. `None` if there is none,
    /// or `stop` became true while a job was planned.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn next(
        &mut self,
        queue: &dyn BlockQueue,
        engine: &Engine,
        read: &JobReader,
        lease: Duration,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Option<(Arc<PreparedJob>, Lease)>, FleetError> {
        if let Some(found) = self.claim(queue, self.current, lease).await? {
            return Ok(Some(found));
        }
        let running = queue.running(MOST_JOBS).await?;
        self.jobs.retain(|id, _| running.contains(id));
        self.warned.retain(|id| running.contains(id));
        for id in running {
            match self.jobs.get(&id) {
                Some(Preparation::Ready(_)) => {}
                Some(Preparation::Refused(since)) if since.elapsed() < REFUSAL => continue,
                _ => {
                    let stored = queue.stored(id).await?;
                    let prepared = tokio::select! {
                        prepared = prepare(engine, read, &stored) => prepared,
                        _ = stop.wait_for(|is_stopping| *is_stopping) => return Ok(None),
                    };
                    let preparation = self.judged(id, prepared);
                    self.jobs.insert(id, preparation);
                }
            }
            if let Some(found) = self.claim(queue, Some(id), lease).await? {
                self.current = Some(id);
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// What is kept of a job that could be prepared, or could not, which is logged once.
    fn judged(&mut self, id: JobId, prepared: Result<PreparedJob, String>) -> Preparation {
        match prepared {
            Ok(job) => Preparation::Ready(Arc::new(job)),
            Err(reason) => {
                if self.warned.insert(id) {
                    tracing::warn!(job = id, reason, "a job is left to other workers");
                }
                Preparation::Refused(Instant::now())
            }
        }
    }

    async fn claim(
        &self,
        queue: &dyn BlockQueue,
        id: Option<JobId>,
        lease: Duration,
    ) -> Result<Option<(Arc<PreparedJob>, Lease)>, FleetError> {
        let Some(Preparation::Ready(job)) = id.and_then(|id| self.jobs.get(&id)) else { return Ok(None) };
        let asked = Instant::now();
        let leased = queue.claim(id.unwrap_or_default(), lease).await?;
        metrics::histogram!(FLEET_QUEUE_SECONDS, "call" => "claim").record(asked.elapsed());
        Ok(leased.map(|leased| (job.clone(), leased)))
    }
}

/// # Errors
/// Why this worker cannot do the job, or would do another one.
async fn prepare(engine: &Engine, read: &JobReader, stored: &StoredJob) -> Result<PreparedJob, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let job = match read(engine, &stored.text) {
        Ok(job) => job,
        // What a server has registered a moment ago is known here once that has been looked at; if it cannot be, the first reason stands.
        Err(reason) => {
            engine.follow().await.map_err(|_| reason)?;
            read(engine, &stored.text)?
        }
    };
    let (plan, area) = AreaPlan::new(engine, &job).await.map_err(|error| text(&error))?;
    if plan.identity != stored.identity {
        let differs = "the job was submitted with another version of its source, its model or this program";
        return Err(differs.to_owned());
    }
    let destination = Destination::open(&stored.destination).map_err(|error| text(&error))?;
    let plan = agreed(&plan, &destination).await.map_err(|error| text(&error))?;
    Ok(PreparedJob { job, plan, area, destination })
}
