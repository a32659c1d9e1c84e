//! Holding on to a lease.

use std::time::{Duration, Instant};

use super::{BlockQueue, Lease};
use crate::telemetry::FLEET_QUEUE_SECONDS;

/// Pause after a renewal that the database did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Renews a lease every third of its length; ends when it is lost: it ended and somebody else has the message, the job was
/// cancelled, or the database has been away for the length of the lease.
pub(super) async fn keep(queue: &dyn BlockQueue, held: &Lease, length: Duration) {
    // By the worker's clock the lease ends early rather than late: it is counted from before the question.
    let mut renewed = Instant::now();
    let mut pause = length / 3;
    loop {
        tokio::time::sleep(pause).await;
        let asked = Instant::now();
        let left = length.saturating_sub(renewed.elapsed());
        let answer = tokio::time::timeout(left, queue.renew(held, length)).await;
        metrics::histogram!(FLEET_QUEUE_SECONDS, "call" => "renew").record(asked.elapsed());
        match answer {
            Ok(Ok(true)) => (renewed, pause) = (asked, length / 3),
            Ok(Ok(false)) | Err(_) => return,
            Ok(Err(error)) => {
                tracing::warn!(job = held.job, block = held.title(), %error, "a lease could not be renewed yet");
                pause = PAUSE.min(length / 10);
            }
        }
    }
}
