//! Running a plan: the blocks of a shard, and what is put over all that are there.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::block;
use super::destination::Destination;
use super::error::AreaError;
use super::job::AreaJob;
use super::plan::{AreaPlan, Block};
use super::shard::Shard;
use super::{encoding, mosaic, names, stac};
use crate::engine::{Area, Engine};
use crate::error::ErrorKind;

/// Blocks under way at a time: while one is encoded and written, the next is read.
const BLOCKS_IN_FLIGHT: usize = 2;

/// How often a block is tried in a run.
const ATTEMPTS: usize = 2;

/// Which blocks a run does.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The share of the blocks.
    pub shard: Shard,
    /// Only the block of this name.
    pub block: Option<String>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Blocks of the share that are there, those that were there before included.
    pub done: usize,
    /// Blocks that failed.
    pub failed: usize,
    /// Blocks of the share.
    pub total: usize,
    /// Blocks per second in this run; 0 before the first.
    pub rate: f64,
    /// Time left at that rate.
    pub left: Option<Duration>,
}

/// A block that could not be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedBlock {
    /// The block.
    pub block: String,
    /// Why.
    pub reason: String,
}

/// What a run ended in.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `done`, `done with failures`, or `in progress` if blocks of other shards are missing.
    pub state: &'static str,
    /// Blocks of the plan.
    pub blocks: usize,
    /// Blocks that are there.
    pub done: usize,
    /// Blocks that this run has made.
    pub made: usize,
    /// Blocks that failed in this run.
    pub failed: Vec<FailedBlock>,
    /// Seconds that this run took.
    pub seconds: f64,
    /// Warnings about the imagery of the blocks made.
    pub warnings: Vec<String>,
}

/// Does the blocks of a share that `destination` does not hold yet, and puts a STAC collection and a mosaic over all that are there. A
/// block that fails is tried once more, then noted under `failed/` and left out; the next run tries it again.
///
/// # Errors
/// If the destination holds another job or cannot be written, there is no such block, or the engine is stopping.
pub async fn run(
    engine: &Engine,
    (job, plan, area): (&AreaJob, &AreaPlan, &Area),
    destination: &Destination,
    options: &RunOptions,
    report: impl Fn(Progress),
) -> Result<Report, AreaError> {
    let started = Instant::now();
    let plan = &agreed(plan, destination).await?;
    let wanted = wanted(plan, options)?;
    let total = wanted.len();
    let there = done_blocks(destination).await?;
    let is_missing = |block: &&Block| !there.contains(&block.name);
    let missing: Vec<Block> = wanted.into_iter().filter(is_missing).cloned().collect();
    let before = total - missing.len();
    let (mut made, mut failed, mut warnings) = (0, Vec::new(), Vec::new());
    let progress = |made: usize, failed: usize| {
        let rate = made as f64 / started.elapsed().as_secs_f64().max(1e-9);
        let left = (made > 0).then(|| Duration::from_secs_f64((total - before - made - failed) as f64 / rate));
        Progress { done: before + made, failed, total, rate, left }
    };
    report(progress(0, 0));
    let mut answers = futures::stream::iter(missing)
        .map(|block: Block| async move {
            let made = make(engine, (job, plan, area), &block, destination).await;
            (block, made)
        })
        .buffer_unordered(BLOCKS_IN_FLIGHT);
    while let Some((block, answer)) = answers.next().await {
        match answer {
            Ok(found) => {
                made += 1;
                for warning in found {
                    if !warnings.contains(&warning) {
                        warnings.push(warning);
                    }
                }
            }
            // What stops every block stops the run; the next one goes on.
            Err(error @ (AreaError::Io { .. } | AreaError::Bucket(_))) => return Err(error),
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            Err(error) => {
                tracing::warn!(block = block.name, %error, "a block has failed");
                failed.push(note_failure(&block.name, error.to_string(), destination).await?);
            }
        }
        report(progress(made, failed.len()));
    }
    let done = cover(engine, (job, plan, area), destination).await?;
    let state = match (done == plan.blocks.len(), failed.is_empty()) {
        (true, _) => "done",
        (false, false) => "done with failures",
        (false, true) => "in progress",
    };
    let seconds = started.elapsed().as_secs_f64();
    let report = Report { state, blocks: plan.blocks.len(), done, made, failed, seconds, warnings };
    destination.replace(names::REPORT, json!(report).to_string()).await?;
    if done == plan.blocks.len() {
        destination.clean().await;
    }
    Ok(report)
}

/// Writes down why a block failed.
///
/// # Errors
/// If the destination cannot be written.
pub(crate) async fn note_failure(block: &str, reason: String, destination: &Destination) -> Result<FailedBlock, AreaError> {
    let failure = FailedBlock { block: block.to_owned(), reason };
    destination.replace(&names::failure(block), json!(failure).to_string()).await?;
    Ok(failure)
}

/// True if a block's files are there: the item is written last.
///
/// # Errors
/// If the destination cannot be asked.
pub(crate) async fn is_made(block: &Block, destination: &Destination) -> Result<bool, AreaError> {
    destination.has(&names::item(&block.name)).await
}

/// The plan that the destination holds, which is put there first if it holds none.
///
/// # Errors
/// If it holds that of another job, or cannot be written.
pub(crate) async fn agreed(plan: &AreaPlan, destination: &Destination) -> Result<AreaPlan, AreaError> {
    let found = match destination.read(names::PLAN).await? {
        Some(found) => found,
        None => {
            let text = serde_json::to_vec_pretty(plan).map_err(|error| AreaError::Invalid { detail: error.to_string() })?;
            destination.put_new(names::PLAN, text).await?;
            // That of another run may have come first.
            destination.read(names::PLAN).await?.unwrap_or_default()
        }
    };
    let conflict = |what: &str| AreaError::Conflict {
        detail: format!("the destination holds {what}; an empty folder is needed, or the job that it was begun with"),
    };
    let found: AreaPlan = serde_json::from_slice(&found).map_err(|_| conflict("a plan that cannot be read"))?;
    if found.identity == plan.identity && found.blocks == plan.blocks {
        Ok(found)
    } else {
        Err(conflict("results of another job, or of another version of its source, its model or this program"))
    }
}

fn wanted<'a>(plan: &'a AreaPlan, options: &RunOptions) -> Result<Vec<&'a Block>, AreaError> {
    match &options.block {
        None => {
            let numbered = plan.blocks.iter().enumerate();
            Ok(numbered.filter(|(number, _)| options.shard.has(*number)).map(|(_, block)| block).collect())
        }
        Some(name) => plan.blocks.iter().find(|block| block.name == *name).map(|block| vec![block]).ok_or_else(|| {
            let first = plan.blocks.first().map_or("none", |block| &block.name);
            AreaError::Invalid { detail: format!("block: found {name:?}; one of the plan's is needed, such as {first}") }
        }),
    }
}

/// Makes a block and writes its files: the data, then the item that says that it is whole. Returns warnings about its imagery.
///
/// # Errors
/// If it fails as often as it is tried, the destination cannot be written, or the engine is stopping.
pub(crate) async fn make(
    engine: &Engine,
    (job, plan, area): (&AreaJob, &AreaPlan, &Area),
    block: &Block,
    destination: &Destination,
) -> Result<Vec<String>, AreaError> {
    let part = block.of(area);
    let encoding = encoding::agreed(engine, (job, area), destination).await?;
    let mut attempt = 1;
    let (bytes, warnings) = loop {
        match block::predict(engine, (job, &part), encoding.clone()).await {
            Err(error) if attempt < ATTEMPTS && error.kind() != ErrorKind::Unavailable => {
                tracing::warn!(block = block.name, %error, "a block is tried again");
                attempt += 1;
            }
            answer => break answer?,
        }
    };
    let item = stac::item((job, plan, area), block, encoding.as_deref(), &warnings);
    destination.put_new(&job.kind.file(&block.name), bytes).await?;
    destination.put_new(&names::item(&block.name), item.to_string()).await?;
    destination.remove(&names::failure(&block.name)).await;
    Ok(warnings)
}

/// The blocks that are there: those with an item.
async fn done_blocks(destination: &Destination) -> Result<HashSet<String>, AreaError> {
    let items = destination.names(names::ITEMS).await?;
    Ok(items.iter().filter_map(|item| Some(item.strip_suffix(".json")?.to_owned())).collect())
}

/// Writes the collection and the mosaic over the blocks that are there; returns how many are.
///
/// # Errors
/// If the destination cannot be written.
pub(crate) async fn cover(
    engine: &Engine,
    (job, plan, area): (&AreaJob, &AreaPlan, &Area),
    destination: &Destination,
) -> Result<usize, AreaError> {
    let mut there = done_blocks(destination).await?;
    loop {
        let blocks: Vec<&Block> = plan.blocks.iter().filter(|block| there.contains(&block.name)).collect();
        let collection = stac::collection((job, plan, area), &blocks);
        destination.replace(names::COLLECTION, collection.to_string()).await?;
        if mosaic::exists(job, plan) {
            let encoding = encoding::agreed(engine, (job, area), destination).await?;
            destination.replace(names::MOSAIC, mosaic::vrt((job, plan), &blocks, encoding.as_deref())).await?;
        }
        // A run beside this one may have come to its end meanwhile, and then been written over.
        let now = done_blocks(destination).await?;
        if now.len() == there.len() {
            return Ok(blocks.len());
        }
        there = now;
    }
}
