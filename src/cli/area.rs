//! `satlas-serve plan` and `satlas-serve run`: areas of any size, in blocks.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use super::{CommandError, engine_config, print, progress_bar, runtime};
use crate::api;
use crate::areas::{AreaJob, AreaPlan, Destination, Progress, RunOptions, Shard, run};
use crate::config::{EngineSettings, Given, ServerSettings};
use crate::engine::Engine;
use crate::server;

#[derive(Args)]
pub(super) struct PlanArgs {
    /// The job: a JSON file with model, task, source, bbox or geometry, and the options that POST /v1/predict takes
    #[arg(value_name = "JOB.json")]
    job: PathBuf,
    /// File to write the plan to [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Measure no window: the plan then has no estimate of the time
    #[arg(long)]
    no_estimate: bool,
    #[command(flatten)]
    server: Given<ServerSettings>,
    #[command(flatten)]
    engine: Given<EngineSettings>,
}

#[derive(Args)]
pub(super) struct RunArgs {
    /// The job, or a plan that `satlas-serve plan` made of it
    #[arg(value_name = "JOB.json")]
    job: PathBuf,
    /// Folder for the results, or a location such as s3://bucket/prefix [default: the job's destination]; what it holds already is not
    /// done again
    #[arg(long, value_name = "PLACE")]
    destination: Option<String>,
    /// The share of the blocks to do, such as 1/4 for the first of four runs [default: that of JOB_COMPLETION_INDEX,
    /// SLURM_ARRAY_TASK_ID or AWS_BATCH_JOB_ARRAY_INDEX, else all]
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Do only the block of this name
    #[arg(long, value_name = "NAME", conflicts_with = "shard")]
    block: Option<String>,
    /// Show no progress bar (there is none anyway if stderr is not a terminal)
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    server: Given<ServerSettings>,
    #[command(flatten)]
    engine: Given<EngineSettings>,
}

pub(super) fn plan(arguments: PlanArgs) -> Result<(), CommandError> {
    let config = engine_config(arguments.engine, arguments.server)?;
    let engine = server::engine(&config)?;
    let Job { job, .. } = read(&engine, &arguments.job)?;
    let plan = runtime()?.block_on(async {
        let (mut plan, area) = AreaPlan::new(&engine, &job).await?;
        if !arguments.no_estimate {
            plan.measure(&engine, &job, &area).await?;
        }
        Ok::<_, CommandError>(plan)
    })?;
    let text = serde_json::to_string_pretty(&plan)? + "\n";
    match arguments.output {
        Some(output) => Ok(std::fs::write(&output, text).map_err(|error| format!("{}: {error}", output.display()))?),
        None => print(&text),
    }
}

/// Runs a job and prints its report. Failed blocks make the command fail.
pub(super) fn execute(arguments: RunArgs) -> Result<(), CommandError> {
    let config = engine_config(arguments.engine, arguments.server)?;
    let shard = match (&arguments.block, arguments.shard) {
        (Some(_), _) => Shard::default(),
        (None, Some(shard)) => shard,
        (None, None) => Shard::of_environment(|name| std::env::var(name).ok())?.unwrap_or_default(),
    };
    let options = RunOptions { shard, block: arguments.block };
    let engine = server::engine(&config)?;
    let Job { job, named_destination, identity } = read(&engine, &arguments.job)?;
    let named = named_destination.map(|place| Destination::beside(&arguments.job, place));
    let destination = arguments.destination.or(named).ok_or("destination: found none; --destination PLACE is needed")?;
    let destination = Destination::open(&destination)?;
    let bar = progress_bar(arguments.quiet, "{wide_bar} {pos}/{len} blocks, {msg}")?;
    let show = |Progress { done, failed, total, left, .. }: Progress| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        let left = left.map_or_else(String::new, |left| format!(", {} s left", left.as_secs()));
        bar.set_message(format!("{failed} failed{left}"));
    };
    let report = runtime()?.block_on(async {
        let (plan, area) = AreaPlan::new(&engine, &job).await?;
        if identity.is_some_and(|identity| identity != plan.identity) {
            let changed = "the plan was made for another version of the source, the model or this program; plan again";
            return Err(changed.into());
        }
        Ok::<_, CommandError>(run(&engine, (&job, &plan, &area), &destination, &options, show).await?)
    })?;
    bar.finish_and_clear();
    print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
    match report.failed.first() {
        None => Ok(()),
        Some(first) => {
            let (count, name) = (report.failed.len(), &first.block);
            Err(format!("{count} blocks failed, and another run tries them again; {name}: {}", first.reason).into())
        }
    }
}

/// A job file.
pub(super) struct Job {
    pub(super) job: AreaJob,
    /// As it is written there.
    pub(super) named_destination: Option<String>,
    /// Of the plan that the file is, if it is one.
    pub(super) identity: Option<String>,
}

/// Reads a job, or the job of a plan, from a file.
pub(super) fn read(engine: &Engine, file: &Path) -> Result<Job, CommandError> {
    let failed = |reason: String| format!("{}: {reason}", file.display());
    let text = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
    let parsed: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| failed(format!("no JSON object: {error}")))?;
    let identity = parsed.get("identity").and_then(Value::as_str).map(str::to_owned);
    let job = match parsed.get("job") {
        Some(Value::Object(job)) if identity.is_some() => job.clone(),
        _ => parsed,
    };
    let (job, named_destination) = api::area_job(engine, job).map_err(|problem| failed(problem.detail))?;
    Ok(Job { job, named_destination, identity })
}
