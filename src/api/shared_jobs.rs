//! Area jobs that servers and workers share through a database. Servers put them there and workers do their blocks. All that is known of
//! such a job is in the database, so any server answers for any of them, and a restart loses nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

use super::error::Problem;
use super::results::{Results, is_plain};
use crate::areas::{AreaJob, AreaPlan, Destination, ResultFile};
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::fleet::{self, BlockQueue, DatabaseUrl, FleetError, FleetJob, FleetJobState, JobId};
use crate::jobs::{JobError, JobState};

/// Ids of shared jobs begin with it, and the number follows that `satlas-serve jobs` prints. Ids of a server's own jobs have no dash.
const PREFIX: &str = "shared-";

/// Failures that a job's description lists.
const MOST_FAILURES: u32 = 100;

/// Jobs that are looked through for those of one state.
const MOST_SEARCHED: u32 = 1000;

/// A list that has more to show waits no longer for the database.
const LIST_PATIENCE: Duration = Duration::from_secs(3);

/// The shared jobs of a database.
pub(super) struct SharedJobs {
    url: DatabaseUrl,
    /// Opened at the first question that the database answers.
    queue: OnceCell<Arc<dyn BlockQueue>>,
    results: Results,
}

/// A shared job as its owner sees it.
pub(super) struct SharedJob {
    pub(super) job: FleetJob,
    /// Blocks that failed, at most 100, with their reasons; a failure without a block is that of the collection. `None` in lists.
    pub(super) failures: Option<Vec<(Option<String>, String)>>,
    /// Whether its results lie where this server has a place for results.
    pub(super) is_readable: bool,
}

impl SharedJob {
    /// The id in URLs.
    pub(super) fn id(&self) -> String {
        id_of(self.job.id)
    }

    /// How far it is, in the words that all jobs have.
    pub(super) fn state(&self) -> JobState {
        let FleetJob { state, done, failed, in_work, .. } = self.job;
        match state {
            FleetJobState::Running if done + failed + in_work == 0 => JobState::Queued,
            FleetJobState::Running => JobState::Running,
            FleetJobState::Done => JobState::Done,
            // Nothing is there, or nothing over it: without a failed block, it was the collection that failed.
            FleetJobState::DoneWithFailures if done == 0 || failed == 0 => JobState::Failed,
            FleetJobState::DoneWithFailures => JobState::Done,
            FleetJobState::Cancelled => JobState::Cancelled,
        }
    }
}

/// The id in URLs of the job with this number.
fn id_of(number: JobId) -> String {
    format!("{PREFIX}{number}")
}

/// The number of the shared job with this id; `None` for other ids.
pub(super) fn number_of(id: &str) -> Option<JobId> {
    let number = id.strip_prefix(PREFIX)?.parse().ok()?;
    (id_of(number) == id).then_some(number)
}

impl SharedJobs {
    /// Those of the database at `url`, which is asked nothing yet.
    pub(super) fn new(url: DatabaseUrl, results: Results) -> Self {
        Self { url, queue: OnceCell::new(), results }
    }

    async fn queue(&self) -> Result<&dyn BlockQueue, FleetError> {
        Ok(&**self.queue.get_or_try_init(|| self.url.open()).await?)
    }

    fn seen(&self, job: FleetJob, failures: Option<Vec<(Option<String>, String)>>) -> SharedJob {
        let is_readable = self.results.has(&job.destination);
        SharedJob { job, failures, is_readable }
    }

    /// Puts a planned job into the queue, and its plan into its destination.
    ///
    /// # Errors
    /// If workers cannot have its source, the destination cannot be written or holds another job, or the database does not answer.
    pub(super) async fn submit(
        &self,
        engine: &Engine,
        (job, plan): (&AreaJob, &AreaPlan),
        destination: &str,
    ) -> Result<SharedJob, Problem> {
        let source = &job.request.source;
        if engine.sources().is_here_alone(source) {
            let detail = format!(
                "source: {source:?} is known to this server alone, and workers do the jobs that have a destination; a source that they \
                 have is needed, named at their start or registered by path or url where servers share PostgreSQL. Without a \
                 destination, this server does the job"
            );
            return Err(Problem::invalid(detail));
        }
        let queue = self.queue().await?;
        let submitted = fleet::submit_plan(queue, (job, plan), destination, Arc::new(|_| ())).await?;
        self.get(submitted.id).await
    }

    /// The newest `limit` jobs, of one state if `state` is given.
    ///
    /// # Errors
    /// If the database does not answer in time for a list.
    pub(super) async fn list(&self, state: Option<JobState>, limit: usize) -> Result<Vec<SharedJob>, FleetError> {
        let most = if state.is_some() { MOST_SEARCHED } else { u32::try_from(limit).unwrap_or(MOST_SEARCHED) };
        let listed = async { self.queue().await?.jobs(None, most).await };
        let away = |_| FleetError::Database { reason: format!("no answer within {} s", LIST_PATIENCE.as_secs()) };
        let jobs = tokio::time::timeout(LIST_PATIENCE, listed).await.map_err(away)??;
        let jobs = jobs.into_iter().map(|job| self.seen(job, None));
        Ok(jobs.filter(|job| state.is_none_or(|state| job.state() == state)).take(limit).collect())
    }

    /// The job with this number.
    ///
    /// # Errors
    /// If there is none, or the database does not answer.
    pub(super) async fn get(&self, number: JobId) -> Result<SharedJob, Problem> {
        let job = self.job(number).await?;
        let failures = self.queue().await?.failures(number, MOST_FAILURES).await?;
        Ok(self.seen(job, Some(failures)))
    }

    async fn job(&self, number: JobId) -> Result<FleetJob, FleetError> {
        self.queue().await?.jobs(Some(number), 1).await?.pop().ok_or(FleetError::UnknownJob { id: number })
    }

    /// The job with this number, which has a result.
    ///
    /// # Errors
    /// If it has none (yet), there is no such job, or the database does not answer.
    pub(super) async fn done(&self, number: JobId) -> Result<SharedJob, Problem> {
        let job = self.get(number).await?;
        match job.state() {
            JobState::Done => Ok(job),
            state => Err(JobError::NoResult { id: job.id(), state }.into()),
        }
    }

    /// Cancels a job that has not ended, and returns it; or forgets one that has, and returns `None`. Its results stay where they are.
    ///
    /// # Errors
    /// If there is no such job, or the database does not answer.
    pub(super) async fn cancel_or_remove(&self, number: JobId) -> Result<Option<SharedJob>, Problem> {
        let queue = self.queue().await?;
        match queue.cancel(number).await {
            Ok(()) => Ok(Some(self.get(number).await?)),
            Err(FleetError::Conflict { .. }) => {
                queue.remove(number).await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Lets a job go on with its failed blocks, or with one of them.
    ///
    /// # Errors
    /// If it has no such failure, there is no such job, or the database does not answer.
    pub(super) async fn retry(&self, number: JobId, block: Option<&str>) -> Result<SharedJob, Problem> {
        self.queue().await?.retry(number, block).await?;
        self.get(number).await
    }

    /// A file of a job's results.
    ///
    /// # Errors
    /// If this server does not see it, there is no such job, or the database or the place of the results does not answer.
    pub(super) async fn file(&self, number: JobId, name: &str) -> Result<ResultFile, Problem> {
        // Without its failures: readers of rasters ask for one part after another.
        let SharedJob { job, is_readable, .. } = self.seen(self.job(number).await?, None);
        let missing = |what: &str| {
            let detail = format!(
                "this server sees no {name:?} of job {:?}{what}; its results lie at {}",
                id_of(number),
                job.destination
            );
            Problem::new(ErrorKind::NotFound, detail)
        };
        if !is_readable {
            return Err(missing(", as they are not below its --result-root"));
        }
        if !is_plain(name) || !Destination::exists(&job.destination) {
            return Err(missing(""));
        }
        let found = ResultFile::open(&Destination::open(&job.destination)?, name).await?;
        found.ok_or_else(|| missing(""))
    }
}

impl From<FleetError> for Problem {
    fn from(error: FleetError) -> Self {
        match error {
            FleetError::UnknownJob { id } => {
                let detail = format!("there is no job {:?}; GET /v1/jobs lists those there are", id_of(id));
                Self::new(ErrorKind::NotFound, detail)
            }
            error => Self::new(error.kind(), error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_shared_jobs_apart() {
        assert_eq!(number_of(&id_of(7)), Some(7));
        for id in ["7", "shared-", "shared-07", "shared-+7", "shared-x", "9f2c51d07ab34e86c1d05a7e"] {
            assert_eq!(number_of(id), None, "{id}");
        }
    }

    #[test]
    fn states_are_those_that_all_jobs_have() {
        let state = |state: FleetJobState, done: u64, failed: u64, in_work: u64| {
            let job = FleetJob {
                id: 1,
                model: "world".into(),
                task: "water".into(),
                state,
                blocks: 4,
                done,
                failed,
                in_work,
                rate: 0.0,
                submitted_s: 0.0,
                last_done_s: None,
                destination: "/results".into(),
            };
            SharedJob { job, failures: None, is_readable: false }.state()
        };
        use FleetJobState::{Cancelled, Done, DoneWithFailures, Running};
        assert_eq!(state(Running, 0, 0, 0), JobState::Queued);
        assert_eq!((state(Running, 0, 0, 2), state(Running, 4, 0, 0)), (JobState::Running, JobState::Running));
        assert_eq!((state(Done, 4, 0, 0), state(DoneWithFailures, 3, 1, 0)), (JobState::Done, JobState::Done));
        assert_eq!(state(DoneWithFailures, 0, 4, 0), JobState::Failed);
        assert_eq!(state(DoneWithFailures, 4, 0, 0), JobState::Failed, "the collection could not be written");
        assert_eq!(state(Cancelled, 1, 0, 0), JobState::Cancelled);
    }
}
