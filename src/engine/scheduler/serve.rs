//! A device's thread: pass after pass until the scheduler stops.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::passes::{Member, Next};
use super::{Desk, Pass};
use crate::engine::error::EngineError;
use crate::sync::IgnorePoison;
use crate::telemetry;

/// How long nothing must be asked before [`Pass::idle`] is called, and the time between such calls.
const IDLE: Duration = Duration::from_secs(10);

/// Runs passes on the device of this name until the scheduler stops.
pub(super) fn serve<P: Pass>(desk: &Desk<P>, device: usize, name: &str) {
    while let Some((batch, started)) = next_batch(desk, device) {
        metrics::histogram!(telemetry::BATCH_SIZE).record(batch.len() as f64);
        let members: Vec<_> = batch.iter().map(|member| (member.order, member.caller.class)).collect();
        let begun = batch.iter().map(|member| member.reading_since).min().unwrap_or(started);
        let (requests, callers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|Member { request, reply, queued, .. }| (request, (reply, queued))).unzip();
        let outcome = catch_unwind(AssertUnwindSafe(|| desk.pass.run(device, requests)));
        let now = desk.pass.now();
        let ran = now.saturating_duration_since(started);
        desk.lock().ended(device, &members, begun, now);
        metrics::histogram!(telemetry::FORWARD_SECONDS, "device" => name.to_owned()).record(ran.as_secs_f64());
        let failure = match outcome {
            Ok(Ok(answers)) if answers.len() == callers.len() => {
                for (answer, (reply, queued)) in answers.into_iter().zip(callers) {
                    // Fails if the caller has gone, who then needs no answer.
                    let _ = reply.send(Ok(super::Answered { answer, queued, ran }));
                }
                continue;
            }
            Ok(Ok(answers)) => {
                tracing::error!(
                    answers = answers.len(),
                    requests = callers.len(),
                    "a pass answered another number of requests"
                );
                EngineError::Panicked
            }
            Ok(Err(error)) => error,
            Err(panic) => {
                let message = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                tracing::error!(message, "a pass panicked");
                EngineError::Panicked
            }
        };
        for (reply, _) in callers {
            let _ = reply.send(Err(failure.clone()));
        }
    }
}

/// Waits for requests and takes a batch of them for a device, with the time at which its pass starts; `None` once the scheduler stops.
fn next_batch<P: Pass>(desk: &Desk<P>, device: usize) -> Option<(Vec<Member<P>>, Instant)> {
    let mut line = desk.lock();
    loop {
        if line.stopping {
            return None;
        }
        let now = desk.pass.now();
        line.grant(now);
        match line.choose(&desk.pass, device, now) {
            Next::Pass(index) => {
                let batch = line.take(&desk.pass, device, index, now);
                // The places of those that run may be prepared now.
                line.grant(now);
                if !batch.is_empty() {
                    return Some((batch, now));
                }
            }
            Next::Hold(time) => line = desk.changed.wait_timeout(line, time).ignore_poison().0,
            Next::Nothing => {
                let (now, waited) = desk.changed.wait_timeout(line, IDLE).ignore_poison();
                line = now;
                let is_idle = line.depth() == 0 && line.costs.running(desk.pass.now()).is_none();
                // One device's thread is enough for that.
                if waited.timed_out() && device == 0 && is_idle && !line.stopping {
                    // Not under the lock: callers need not wait for it.
                    drop(line);
                    desk.pass.idle();
                    line = desk.lock();
                }
            }
        }
    }
}
