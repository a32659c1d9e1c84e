//! `satlas-serve submit`, `worker` and `jobs`: one job, many machines.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::area::{self, Job};
use super::{CommandError, engine_config, print, progress_bar, runtime};
use crate::api;
use crate::config::{Config, EngineSettings, Given, SecretValue, ServerSettings, Span};
use crate::engine::Engine;
use crate::fleet::{self, BlockQueue, DatabaseUrl, FleetJob, JobId, Worker, WorkerOptions};
use crate::server::{self, WorkerServer};

/// Jobs, and failures of a job, that are listed.
const MOST_LISTED: u32 = 1000;

/// For commands that run no model.
#[derive(Args)]
struct DatabaseArgs {
    /// Where jobs are kept: postgres://USER:PASSWORD@HOST:PORT/DATABASE with pgmq for many machines, or sqlite:FILE for one
    #[arg(long, value_name = "URL", env = "SATLAS_DATABASE_URL", hide_env_values = true, value_parser = SecretValue::<DatabaseUrl>::parser())]
    database_url: DatabaseUrl,
}

#[derive(Args)]
pub(super) struct SubmitArgs {
    /// The job, or a plan that `satlas-serve plan` made of it
    #[arg(value_name = "JOB.json")]
    job: PathBuf,
    /// A place for the results that every worker sees under the same name: an absolute path, or a location such as s3://bucket/prefix
    /// [default: the job's destination]
    #[arg(long, value_name = "PLACE")]
    destination: Option<String>,
    /// Show no progress bar (there is none anyway if stderr is not a terminal)
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    server: Given<ServerSettings>,
    #[command(flatten)]
    engine: Given<EngineSettings>,
}

#[derive(Args)]
pub(super) struct WorkerArgs {
    /// How long a block stays with a worker that has vanished, before another one does it
    #[arg(long, value_name = "TIME", default_value = "2min", env = "SATLAS_LEASE")]
    lease: Span,
    #[command(flatten)]
    server: Given<ServerSettings>,
    #[command(flatten)]
    engine: Given<EngineSettings>,
}

#[derive(Args)]
pub(super) struct JobsArgs {
    /// Show this job alone, with the blocks that failed
    #[arg(value_name = "ID", conflicts_with_all = ["cancel", "retry"])]
    id: Option<JobId>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// End this job; workers give its blocks up when they renew their leases
    #[arg(long, value_name = "ID", conflicts_with = "retry")]
    cancel: Option<JobId>,
    /// Try the failed blocks of this job again
    #[arg(long, value_name = "ID")]
    retry: Option<JobId>,
    /// Only the block of this name
    #[arg(long, value_name = "NAME", requires = "retry")]
    block: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Submits a job and prints its number.
pub(super) fn submit(arguments: SubmitArgs) -> Result<(), CommandError> {
    let config = engine_config(arguments.engine, arguments.server)?;
    let engine = server::engine(&config)?;
    let database = database(&config)?;
    let runtime = runtime()?;
    // The job's model or source may be one that a server has registered.
    runtime.block_on(server::share_registrations(&engine, database))?;
    let Job { job, named_destination, .. } = area::read(&engine, &arguments.job)?;
    let destination = arguments.destination.or(named_destination);
    let destination =
        destination.ok_or("destination: found none; --destination PLACE, which every worker sees, is needed")?;
    let bar = progress_bar(arguments.quiet, "{pos} blocks sent")?;
    let shown = bar.clone();
    let submitted = runtime.block_on(async {
        let queue = database.open().await?;
        let progress = Arc::new(move |sent: usize| shown.set_position(sent as u64));
        fleet::submit(&engine, &*queue, &job, &destination, progress).await
    })?;
    bar.finish_and_clear();
    print(&format!("{}\n", submitted.id))
}

/// Works until a signal.
pub(super) fn worker(arguments: WorkerArgs) -> Result<(), CommandError> {
    if arguments.lease.0.as_secs() < 1 {
        return Err(format!("lease: found {}; a second or more is needed", arguments.lease).into());
    }
    let config = Config::resolve(arguments.engine, arguments.server)?;
    crate::telemetry::start_logging(&config.engine.log_level, config.engine.log_format);
    let database = database(&config)?;
    let runtime = runtime()?;
    // Before the engine starts, so that its first metrics count too.
    let listener = runtime.block_on(WorkerServer::bind(config.address()))?;
    let engine = Arc::new(server::engine(&config)?);
    runtime.block_on(async {
        server::share_registrations(&engine, database).await?;
        let queue = database.open().await?;
        let options = WorkerOptions { lease: arguments.lease.0 };
        let worker = Worker::new(engine.clone(), queue, Box::new(read_stored), options);
        let (stop, stopping) = watch::channel(false);
        let serving = async {
            let served = listener.serve(worker.status()).await;
            stop.send_replace(true);
            served
        };
        tokio::select! {
            ((), served) = async { tokio::join!(worker.work(stopping), serving) } => Ok::<_, CommandError>(served?),
            () = server::follow_registrations(&engine) => Ok(()),
        }
    })?;
    // What was given up may still hold threads; nothing that matters is lost with them.
    runtime.shutdown_background();
    Ok(())
}

/// The database of a command that needs one.
fn database(config: &Config) -> Result<&DatabaseUrl, CommandError> {
    let needed = "database-url: found none; --database-url postgres://… or sqlite:FILE, or SATLAS_DATABASE_URL, is needed";
    Ok(config.server.database_url.as_ref().ok_or(needed)?)
}

/// A job from the text that [`submit`] stored.
fn read_stored(engine: &Engine, text: &str) -> Result<crate::areas::AreaJob, String> {
    let members = serde_json::from_str(text).map_err(|error| error.to_string())?;
    api::area_job(engine, members).map(|(job, _)| job).map_err(|problem| problem.detail)
}

/// Lists, cancels, tries again.
pub(super) fn jobs(arguments: JobsArgs) -> Result<(), CommandError> {
    runtime()?.block_on(async {
        let queue = arguments.database.database_url.open().await?;
        match (arguments.cancel, arguments.retry) {
            (Some(id), _) => Ok(queue.cancel(id).await?),
            (None, Some(id)) => {
                let count = queue.retry(id, arguments.block.as_deref()).await?;
                print(&format!("{count}\n"))
            }
            (None, None) => list(&*queue, arguments.id, arguments.json).await,
        }
    })
}

async fn list(queue: &dyn BlockQueue, id: Option<JobId>, is_json: bool) -> Result<(), CommandError> {
    let jobs = queue.jobs(id, MOST_LISTED).await?;
    let mut failures = Vec::new();
    if let Some(id) = id {
        if jobs.is_empty() {
            return Err(fleet::FleetError::UnknownJob { id }.into());
        }
        failures = queue.failures(id, MOST_LISTED).await?;
    }
    if is_json {
        let failures: Vec<Value> =
            failures.iter().map(|(block, reason)| json!({"block": block, "reason": reason})).collect();
        let found = if id.is_some() { json!({"job": jobs.first(), "failures": failures}) } else { json!(jobs) };
        return print(&(serde_json::to_string_pretty(&found)? + "\n"));
    }
    let head = format!(
        "{:>6}  {:18}  {:>9}  {:>9}  {:>7}  {:>7}  {:>9}  {:20}  {}\n",
        "job", "state", "blocks", "done", "failed", "in work", "blocks/s", "submitted", "destination"
    );
    let failed = |(block, reason): &(Option<String>, String)| {
        format!("{}: {reason}\n", block.as_deref().unwrap_or("the collection"))
    };
    print(&(head + &jobs.iter().map(line).collect::<String>() + &failures.iter().map(failed).collect::<String>()))
}

fn line(job: &FleetJob) -> String {
    let submitted = Timestamp::from_second(job.submitted_s as i64).map(|time| time.to_string()).unwrap_or_default();
    format!(
        "{:>6}  {:18}  {:>9}  {:>9}  {:>7}  {:>7}  {:>9.2}  {submitted:20}  {}\n",
        job.id, job.state, job.blocks, job.done, job.failed, job.in_work, job.rate, job.destination
    )
}
