//! Area jobs over HTTP: the plan that a dry run shows, and the work of a job, whose result is a zip file of its folder, or a report if
//! its files go elsewhere.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::area_job::area_job;
use super::error::Problem;
use super::results::Results;
use super::stored_body;
use crate::areas::{AreaJob, AreaPlan, Destination, Estimate, Folder, Progress, RunOptions, archive, run};
use crate::engine::{Area, Caller, Class, Engine};
use crate::error::ErrorKind;
use crate::jobs::{JobOutcome, JobProgress};

/// Most bytes of a result, which is in memory while it is made.
const MAX_RESULT_BYTES: u64 = 512 << 20;

/// Most pixels of a job: a byte each, before compression.
const MAX_PIXELS: u64 = MAX_RESULT_BYTES;

/// What a job keeps of an area job beside its input, which is the request's body.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct AreaCall {}

/// A checked job.
pub(super) struct PlannedArea {
    pub(super) job: AreaJob,
    pub(super) plan: AreaPlan,
    area: Area,
    /// Where its files go, if the server does not keep them.
    pub(super) destination: Option<String>,
}

/// Checks a job and plans its blocks, with an estimate of the time if passes of the model have been measured.
///
/// # Errors
/// If the job cannot be used, it names a destination that it may not, or a result without one would be too large.
pub(super) async fn plan(engine: &Engine, text: Map<String, Value>, results: &Results) -> Result<PlannedArea, Problem> {
    let (job, destination) = area_job(engine, text)?;
    let destination = destination.map(|name| results.place(&name)).transpose()?;
    let (mut plan, area) = AreaPlan::new(engine, &job).await?;
    if destination.is_none() {
        check_result(&job, &plan)?;
    }
    let seconds = engine.area_time(&job.scene, &Caller::patient(Class::Job), &area)?.as_secs_f64();
    let windows = plan.windows.max(1) as f64;
    plan.estimate = (seconds > 0.0).then_some(Estimate { seconds_per_window: seconds / windows, seconds });
    Ok(PlannedArea { job, plan, area, destination })
}

/// Checks that a result that the server keeps is not too large.
fn check_result(job: &AreaJob, plan: &AreaPlan) -> Result<(), Problem> {
    let way_out = "a destination, where the server has a place for results, or `satlas-serve run` has no such limit";
    if plan.pixels > MAX_PIXELS {
        let detail =
            format!("the area has {} pixels; the limit for jobs of a server is {MAX_PIXELS}; {way_out}", plan.pixels);
        return Err(Problem::new(ErrorKind::TooLarge, detail));
    }
    if let Some(bytes) = job.cell_bytes(plan.pixels).filter(|bytes| *bytes > MAX_RESULT_BYTES) {
        let detail = format!(
            "the cells have {bytes} bytes; the limit for results of a server's jobs is {MAX_RESULT_BYTES}; {way_out}"
        );
        return Err(Problem::new(ErrorKind::TooLarge, detail));
    }
    Ok(())
}

impl AreaCall {
    /// Runs the job whose text is in the only input. Blocks go to the folder `place`, where a job that is run again finds them, or to the
    /// destination that the job names.
    ///
    /// # Errors
    /// As [`plan`], if no block can be done, or the folder cannot be written.
    pub(super) async fn run(
        self,
        engine: Arc<Engine>,
        (inputs, place, results): (Vec<(String, PathBuf)>, PathBuf, &Results),
        progress: JobProgress,
    ) -> Result<JobOutcome, Problem> {
        let text = stored_body::read(inputs).await?;
        let PlannedArea { job, plan, area, destination } = plan(&engine, text, results).await?;
        let show = |Progress { done, failed, total, .. }: Progress| progress.set(done + failed, total);
        if let Some(named) = destination {
            let destination = Destination::open(&named)?;
            let report = run(&engine, (&job, &plan, &area), &destination, &RunOptions::default(), show).await?;
            return stored_body::outcome(&report);
        }
        let folder = Folder::open(&place)?;
        let files = Destination::Folder(folder.clone());
        let report = run(&engine, (&job, &plan, &area), &files, &RunOptions::default(), show).await?;
        if let (0, Some(first)) = (report.done, report.failed.first()) {
            return Err(Problem::unusable(&first.reason));
        }
        let state = report.state;
        let zipped = tokio::task::spawn_blocking(move || archive(&folder, MAX_RESULT_BYTES));
        let body = Bytes::from(zipped.await.map_err(Problem::internal)??);
        let mut headers = vec![
            ("content-type".to_owned(), "application/zip".to_owned()),
            ("content-disposition".to_owned(), "attachment; filename=\"area.zip\"".to_owned()),
        ];
        let failed = report.failed.len();
        let failures = (failed > 0).then(|| format!("The job is {state}: failed/ says why of {failed} blocks."));
        let warnings: Vec<String> = failures.into_iter().chain(report.warnings).collect();
        if !warnings.is_empty() {
            headers.push(super::answer::warnings_header(&warnings));
        }
        Ok(JobOutcome { headers, body })
    }
}
