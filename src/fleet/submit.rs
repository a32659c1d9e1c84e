//! From a job to its row and its messages.

use super::queue::SendProgress;
use super::{BlockQueue, FleetError, JobId, NewFleetJob};
use crate::areas::{AreaJob, AreaPlan, Destination, agreed};
use crate::engine::Engine;

/// A job that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its number.
    pub id: JobId,
    /// Blocks that workers will look at; those that are there already are soon acknowledged.
    pub blocks: usize,
}

/// Plans a job, puts the plan into its destination, and submits it.
///
/// # Errors
/// If the destination is relative, cannot be written or holds another job, planning fails, or the database does.
pub async fn submit(
    engine: &Engine,
    queue: &dyn BlockQueue,
    job: &AreaJob,
    destination: &str,
    progress: SendProgress,
) -> Result<Submitted, FleetError> {
    let (plan, _) = AreaPlan::new(engine, job).await?;
    submit_plan(queue, (job, &plan), destination, progress).await
}

/// Puts the plan of a job into its destination, and submits the job.
///
/// # Errors
/// If the destination is relative, cannot be written or holds another job, or the database fails.
pub async fn submit_plan(
    queue: &dyn BlockQueue,
    (job, plan): (&AreaJob, &AreaPlan),
    destination: &str,
    progress: SendProgress,
) -> Result<Submitted, FleetError> {
    if !Destination::is_shared(destination) {
        let detail = format!(
            "destination: found {destination:?}; a place that every worker sees under the same name is needed: an absolute path such as \
             /mnt/results/water, or a bucket such as s3://results/water"
        );
        return Err(FleetError::Invalid { detail });
    }
    let text = job.text.to_string();
    if text.contains("\\u0000") {
        return Err(FleetError::Invalid { detail: "the job holds the character NUL, which no database stores".to_owned() });
    }
    // A job that is refused because the database is away claims no destination.
    queue.jobs(None, 1).await?;
    let plan = agreed(plan, &Destination::open(destination)?).await?;
    let blocks: Vec<String> = plan.blocks.into_iter().map(|block| block.name).collect();
    let count = blocks.len();
    let (text, identity, destination) = (text, plan.identity, destination.to_owned());
    let id = queue.submit(NewFleetJob { text, identity, destination, blocks }, progress).await?;
    Ok(Submitted { id, blocks: count })
}
