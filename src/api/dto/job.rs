//! JSON descriptions of jobs, and the query of the job list.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{limit, words};
use crate::api::base_url::PathPrefix;
use crate::api::error::{Problem, ProblemBody};
use crate::api::shared_jobs::SharedJob;
use crate::jobs::{Job, JobState};

/// Jobs, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobList {
    /// At most `limit` jobs, in the wanted state.
    pub jobs: Vec<JobDto>,
    /// Why the jobs that workers share are not in the list: their database does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

/// A prediction or a fit that runs in the background.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobDto {
    /// Identifier in URLs.
    #[schema(example = "9f2c51d07ab34e86c1d05a7e")]
    pub id: String,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    #[schema(value_type = words::JobState)]
    pub state: &'static str,
    /// Completed part of the work, from 0 to 1.
    #[schema(minimum = 0.0, maximum = 1.0, example = 0.25)]
    pub progress: f64,
    /// Model id; of a fit, that of the model to register.
    #[schema(example = "trees")]
    pub model: String,
    /// Task name.
    #[schema(example = "tree_crown")]
    pub task: String,
    /// Time of submission.
    #[schema(format = DateTime, example = "2024-06-01T10:40:21Z")]
    pub created: String,
    /// Time at which it started to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub started: Option<String>,
    /// Time at which it was done, failed or cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub finished: Option<String>,
    /// Why it failed: the problem that a synchronous request would have got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ProblemBody>,
    /// Size of the result in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_bytes: Option<u64>,
    /// The blocks of an area job that workers do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<JobBlocks>,
    /// Where the files of such a job lie: a folder that workers see, or a prefix of a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "s3://bucket/results/water/2024")]
    pub destination: Option<String>,
    /// What a job waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Related addresses.
    pub links: JobLinks,
}

/// Blocks of an area job that workers do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobBlocks {
    /// All of them.
    pub total: u64,
    /// Those that are there.
    pub done: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that a worker has now.
    pub in_work: u64,
    /// Blocks done per second, of all workers together; 0 before the second.
    pub per_second: f64,
    /// Time left at that rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<f64>,
    /// Why blocks failed, at most 100 of them; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<Vec<BlockFailure>>,
}

/// Why a block failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BlockFailure {
    /// The block; left out if it was the collection over all blocks that could not be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "block-0004096-0008192")]
    pub block: Option<String>,
    /// Why.
    pub reason: String,
}

/// What an area job that workers did has ended in: its result.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SharedAreaReport {
    /// `done` or `done with failures`.
    #[schema(example = "done")]
    pub state: &'static str,
    /// Blocks of the plan.
    pub blocks: u64,
    /// Blocks that are there.
    pub done: u64,
    /// Blocks that failed, at most 100 of them.
    pub failed: Vec<BlockFailure>,
    /// Where the files lie.
    #[schema(example = "s3://bucket/results/water/2024")]
    pub destination: String,
    /// The address of the STAC collection over them, if this server reads them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/v1/jobs/shared-7/files/collection.json")]
    pub collection: Option<String>,
}

/// Addresses of a job and its result.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobLinks {
    /// The job: GET describes it, DELETE cancels or removes it.
    #[serde(rename = "self")]
    #[schema(example = "/v1/jobs/9f2c51d07ab34e86c1d05a7e")]
    pub this: String,
    /// The result, once the job is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/v1/jobs/9f2c51d07ab34e86c1d05a7e/result")]
    pub result: Option<String>,
    /// The STAC collection over the files of an area job that workers did, if this server reads them. Its links lead to the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/v1/jobs/shared-7/files/collection.json")]
    pub collection: Option<String>,
}

/// What a job without a worker waits for.
const WAITS: &str = "waits for a worker: `satlas-serve worker` with the same database, model and source does its blocks";

impl JobDto {
    /// The job as a client sees it that reaches the server under `prefix`.
    pub(crate) fn of(job: Job, prefix: &PathPrefix) -> Self {
        let this = format!("{}/v1/jobs/{}", prefix.0, job.id);
        let result = (job.state == JobState::Done).then(|| format!("{this}/result"));
        let request_id = job.request_id;
        Self {
            id: job.id,
            state: job.state.as_str(),
            progress: job.progress,
            model: job.model,
            task: job.task,
            created: rfc_3339(job.created_ms),
            started: job.started_ms.map(rfc_3339),
            finished: job.finished_ms.map(rfc_3339),
            error: job.failure.map(|failure| Problem::new(failure.kind, failure.detail).body(&request_id, prefix)),
            result_bytes: job.result_bytes,
            blocks: None,
            destination: None,
            note: None,
            links: JobLinks { this, result, collection: None },
        }
    }

    /// The same of a job that workers share.
    pub(crate) fn shared(shared: SharedJob, prefix: &PathPrefix) -> Self {
        let (id, state) = (shared.id(), shared.state());
        let this = format!("{}/v1/jobs/{id}", prefix.0);
        let is_done = state == JobState::Done;
        let collection = (is_done && shared.is_readable).then(|| collection(&this));
        let SharedJob { job, failures, .. } = shared;
        let failures: Option<Vec<BlockFailure>> =
            failures.map(|failures| failures.into_iter().map(block_failure).collect());
        let first = failures.as_ref().and_then(|failures| failures.first()).filter(|_| state == JobState::Failed);
        let error = first.map(|first| Problem::unusable(&first.reason).body(&id, prefix));
        let left = job.blocks.saturating_sub(job.done + job.failed);
        let is_over = !matches!(state, JobState::Queued | JobState::Running);
        let seconds_left = (job.rate > 0.0 && !is_over).then(|| left as f64 / job.rate);
        let milliseconds = |seconds: f64| rfc_3339((seconds * 1000.0) as i64);
        Self {
            state: state.as_str(),
            progress: if is_done { 1.0 } else { (job.done + job.failed) as f64 / job.blocks.max(1) as f64 },
            model: job.model,
            task: job.task,
            created: milliseconds(job.submitted_s),
            started: None,
            finished: job.last_done_s.filter(|_| is_over && state != JobState::Cancelled).map(milliseconds),
            error,
            result_bytes: None,
            blocks: Some(JobBlocks {
                total: job.blocks,
                done: job.done,
                failed: job.failed,
                in_work: job.in_work,
                per_second: job.rate,
                seconds_left,
                failures,
            }),
            destination: Some(job.destination),
            note: (state == JobState::Queued).then(|| WAITS.to_owned()),
            links: JobLinks { result: is_done.then(|| format!("{this}/result")), this, collection },
            id,
        }
    }
}

impl SharedAreaReport {
    /// The result of a shared job that is done.
    pub(crate) fn of(shared: SharedJob, prefix: &PathPrefix) -> Self {
        let collection = shared.is_readable.then(|| collection(&format!("{}/v1/jobs/{}", prefix.0, shared.id())));
        let SharedJob { job, failures, .. } = shared;
        let failed = failures.unwrap_or_default().into_iter().map(block_failure).collect();
        let (state, destination) = (job.state.as_str(), job.destination);
        Self { state, blocks: job.blocks, done: job.done, failed, destination, collection }
    }
}

fn collection(job: &str) -> String {
    format!("{job}/files/collection.json")
}

fn block_failure((block, reason): (Option<String>, String)) -> BlockFailure {
    BlockFailure { block, reason }
}

fn rfc_3339(milliseconds: i64) -> String {
    // With all three digits, so that times sort as texts.
    format!("{:.3}", Timestamp::from_millisecond(milliseconds).unwrap_or_default())
}

/// Which jobs to list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobListParams {
    /// Only jobs that are `queued`, `running`, `done`, `failed` or `cancelled`.
    #[param(value_type = Option<words::JobState>)]
    pub state: Option<String>,
    /// Maximum number of jobs in the answer.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<String>,
}

impl JobListParams {
    /// The wanted state, if any.
    ///
    /// # Errors
    /// If `state` is not the name of a state.
    pub(crate) fn state(&self) -> Result<Option<JobState>, Problem> {
        let parse = |text: &str| text.parse().map_err(|error: String| Problem::invalid(format!("state: {error}")));
        self.state.as_deref().map(parse).transpose()
    }

    /// The wanted number of jobs, or the default.
    ///
    /// # Errors
    /// If `limit` is not a number that can be.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        limit::parse(self.limit.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::jobs::JobFailure;

    #[test]
    fn a_failed_job_carries_its_problem_and_no_result() {
        let job = Job {
            id: "a".into(),
            model: "m".into(),
            task: "t".into(),
            state: JobState::Failed,
            progress: 0.5,
            created_ms: 1_717_238_421_000,
            started_ms: Some(1_717_238_421_500),
            finished_ms: None,
            failure: Some(JobFailure { kind: ErrorKind::Unusable, detail: "found 4 bands".into() }),
            result_bytes: None,
            request_id: "r-1".into(),
        };
        let json = serde_json::to_value(JobDto::of(job, &PathPrefix::default())).unwrap();
        assert_eq!(
            (&json["created"], &json["started"]),
            (&"2024-06-01T10:40:21.000Z".into(), &"2024-06-01T10:40:21.500Z".into())
        );
        assert_eq!((&json["error"]["status"], &json["error"]["request_id"]), (&422.into(), &"r-1".into()));
        assert_eq!(json["links"], serde_json::json!({"self": "/v1/jobs/a"}));
    }

    #[test]
    fn limits_and_states_that_cannot_be_are_told_what_can() {
        let with = |state: Option<&str>, limit: Option<&str>| JobListParams {
            state: state.map(str::to_owned),
            limit: limit.map(str::to_owned),
        };
        assert_eq!((with(None, None).limit().unwrap(), with(None, Some("1000")).limit().unwrap()), (100, 1000));
        for limit in ["0", "1001", "-1", "x"] {
            assert!(with(None, Some(limit)).limit().unwrap_err().detail.contains("1 to 1000"), "{limit}");
        }
        assert_eq!(with(Some("failed"), None).state().unwrap(), Some(JobState::Failed));
        assert!(with(Some("lost"), None).state().unwrap_err().detail.contains("queued, running, done"));
    }
}
