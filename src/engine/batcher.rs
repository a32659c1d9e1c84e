//! A bounded queue and the thread that works it off, one batch at a time.
//!
//! Requests wait in order of arrival. The thread takes the first one together with every waiting request that can share its
//! pass, up to the batch limit. A request whose caller has gone gives its place back before it costs a pass. What a pass does is
//! up to [`Pass`]: a network's forward pass in [`super::device`], a scripted one in the tests.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::error::EngineError;
use crate::sync::IgnorePoison;
use crate::telemetry;

/// Bounds of the queue and of its batches.
#[derive(Clone, Copy, Debug)]
pub struct BatchOptions {
    /// Requests that may wait; one more is refused.
    pub queue_capacity: usize,
    /// Most requests in one pass.
    pub max_batch: usize,
    /// How long the first request of a batch waits for others to share its pass.
    pub max_delay: Duration,
}

/// How long the queue must be empty before [`Pass::idle`] is called, and the time between such calls.
const IDLE: Duration = Duration::from_secs(10);

/// The work that the queue is for.
pub(super) trait Pass: Send + Sync + 'static {
    /// What one caller asks.
    type Request: Send;
    /// What that caller gets.
    type Answer: Send;

    /// True if both requests can run in one pass. A request that cannot share even with one like itself never waits for others.
    fn can_share(&self, first: &Self::Request, other: &Self::Request) -> bool;

    /// Runs one pass. Answers come in the order of the requests, one for each.
    fn run(&self, requests: Vec<Self::Request>) -> Result<Vec<Self::Answer>, EngineError>;

    /// Called on the queue's thread whenever no request has come for [`IDLE`].
    fn idle(&self) {}

    /// The time. Tests set their own.
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// An answer, and where its time went.
#[derive(Debug)]
pub(super) struct Answered<A> {
    /// The answer.
    pub(super) answer: A,
    /// Time spent in the queue.
    pub(super) queued: Duration,
    /// Time that the pass took, for the whole batch.
    pub(super) ran: Duration,
}

type Outcome<A> = Result<Answered<A>, EngineError>;

/// An accepted request. Dropping it gives its place in the queue back.
pub(super) struct Ticket<A>(oneshot::Receiver<Outcome<A>>);

impl<A> Ticket<A> {
    /// The answer, once its pass has ended.
    ///
    /// # Errors
    /// [`EngineError::Stopping`] if the queue stops before the request's turn, [`EngineError::Panicked`] if the pass panics, and
    /// whatever error the pass returns.
    pub(super) async fn answer(self) -> Outcome<A> {
        self.0.await.unwrap_or(Err(EngineError::Stopping))
    }
}

/// A request in the queue.
struct Waiting<P: Pass> {
    request: P::Request,
    arrived: Instant,
    reply: oneshot::Sender<Outcome<P::Answer>>,
}

/// What the lock protects.
struct Line<P: Pass> {
    waiting: VecDeque<Waiting<P>>,
    pace: Pace,
    stopping: bool,
}

/// What callers and the thread share.
struct Desk<P: Pass> {
    pass: P,
    options: BatchOptions,
    line: Mutex<Line<P>>,
    changed: Condvar,
}

impl<P: Pass> Desk<P> {
    /// Every change to the line is a single push, pop or assignment, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Line<P>> {
        self.line.lock().ignore_poison()
    }
}

/// The queue with its thread.
pub(super) struct Batcher<P: Pass> {
    desk: Arc<Desk<P>>,
    thread: Option<JoinHandle<()>>,
}

impl<P: Pass> Batcher<P> {
    /// Starts the thread under `name`.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(super) fn start(name: &str, pass: P, options: BatchOptions) -> std::io::Result<Self> {
        let line = Line { waiting: VecDeque::new(), pace: Pace::default(), stopping: false };
        let desk = Arc::new(Desk { pass, options, line: Mutex::new(line), changed: Condvar::new() });
        let served = desk.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || serve(&served))?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// Puts a request in the queue.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`] if the queue is full, [`EngineError::Stopping`] after [`Batcher::stop`].
    pub(super) fn submit(&self, request: P::Request) -> Result<Ticket<P::Answer>, EngineError> {
        let (reply, ticket) = oneshot::channel();
        let capacity = self.desk.options.queue_capacity;
        let arrived = self.desk.pass.now();
        {
            let mut line = self.desk.lock();
            if line.stopping {
                return Err(EngineError::Stopping);
            }
            if line.waiting.len() >= capacity {
                line.waiting.retain(|waiting| !waiting.reply.is_closed());
            }
            let waiting = line.waiting.len();
            if waiting >= capacity {
                metrics::counter!(telemetry::QUEUE_REFUSED_TOTAL).increment(1);
                return Err(EngineError::Overloaded { waiting, retry_after: line.pace.retry_after(waiting, arrived) });
            }
            line.waiting.push_back(Waiting { request, arrived, reply });
            metrics::gauge!(telemetry::QUEUE_DEPTH).set(line.waiting.len() as f64);
        }
        self.desk.changed.notify_one();
        Ok(Ticket(ticket))
    }

    /// Requests that wait now.
    pub(super) fn waiting(&self) -> usize {
        self.desk.lock().waiting.len()
    }

    /// Refuses what waits and what comes. A pass under way still ends, and its callers get their answers.
    pub(super) fn stop(&self) {
        let mut line = self.desk.lock();
        line.stopping = true;
        line.waiting.clear();
        drop(line);
        self.desk.changed.notify_all();
    }
}

impl<P: Pass> Drop for Batcher<P> {
    /// Waits for the pass under way.
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // Passes that panic are caught and reported to their callers; nothing is left to say here.
            let _ = thread.join();
        }
    }
}

/// The thread: batch after batch until the queue stops.
fn serve<P: Pass>(desk: &Desk<P>) {
    while let Some((batch, started)) = next_batch(desk) {
        metrics::histogram!(telemetry::BATCH_SIZE).record(batch.len() as f64);
        let (requests, callers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.request, (waiting.arrived, waiting.reply))).unzip();
        let outcome = catch_unwind(AssertUnwindSafe(|| desk.pass.run(requests)));
        let ran = desk.pass.now().saturating_duration_since(started);
        desk.lock().pace.ended(ran);
        metrics::histogram!(telemetry::FORWARD_SECONDS).record(ran.as_secs_f64());
        let failure = match outcome {
            Ok(Ok(answers)) if answers.len() == callers.len() => {
                for (answer, (arrived, reply)) in answers.into_iter().zip(callers) {
                    let queued = started.saturating_duration_since(arrived);
                    // Fails if the caller has gone, who then needs no answer.
                    let _ = reply.send(Ok(Answered { answer, queued, ran }));
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
        for (_, reply) in callers {
            let _ = reply.send(Err(failure.clone()));
        }
    }
}

/// Waits for requests and takes a batch of them, with the time at which its pass starts; `None` once the queue stops.
fn next_batch<P: Pass>(desk: &Desk<P>) -> Option<(Vec<Waiting<P>>, Instant)> {
    let BatchOptions { max_batch, max_delay, .. } = desk.options;
    let mut line = desk.lock();
    loop {
        line.waiting.retain(|waiting| !waiting.reply.is_closed());
        if line.stopping {
            return None;
        }
        let Some(first) = line.waiting.front() else {
            let (now, waited) = desk.changed.wait_timeout(line, IDLE).ignore_poison();
            line = now;
            if waited.timed_out() && line.waiting.is_empty() && !line.stopping {
                // Not under the lock: callers need not wait for it.
                drop(line);
                desk.pass.idle();
                line = desk.lock();
            }
            continue;
        };
        let sharing = line.waiting.iter().filter(|other| desk.pass.can_share(&first.request, &other.request)).count();
        let now = desk.pass.now();
        let age = now.saturating_duration_since(first.arrived);
        if (1..max_batch).contains(&sharing) && age < max_delay {
            line = desk.changed.wait_timeout(line, max_delay - age).ignore_poison().0;
            continue;
        }
        let mut batch = Vec::from_iter(line.waiting.pop_front());
        let mut index = 0;
        while index < line.waiting.len() && batch.len() < max_batch {
            if desk.pass.can_share(&batch[0].request, &line.waiting[index].request) {
                batch.extend(line.waiting.remove(index));
            } else {
                index += 1;
            }
        }
        metrics::gauge!(telemetry::QUEUE_DEPTH).set(line.waiting.len() as f64);
        line.pace.started(now, batch.len());
        return Some((batch, now));
    }
}

/// How fast requests are answered, measured, so that a refusal can tell its caller when to come back.
#[derive(Default)]
struct Pace {
    /// Seconds per request, averaged over recent passes; `None` before the first has ended.
    request_s: Option<f64>,
    /// When the pass under way started, and how many requests it answers.
    under_way: Option<(Instant, usize)>,
}

impl Pace {
    /// The weight of the latest pass in the average: high enough to follow a change of model within a few passes.
    const LATEST: f64 = 0.25;

    fn started(&mut self, at: Instant, requests: usize) {
        self.under_way = Some((at, requests));
    }

    fn ended(&mut self, ran: Duration) {
        let Some((_, requests)) = self.under_way.take() else { return };
        let latest = ran.as_secs_f64() / requests.max(1) as f64;
        self.request_s = Some(self.request_s.map_or(latest, |average| average + Self::LATEST * (latest - average)));
    }

    /// The time by which the pass under way and those who wait will be done at this pace, in whole seconds, at least one.
    fn retry_after(&self, waiting: usize, now: Instant) -> Duration {
        let (elapsed_s, running) = self
            .under_way
            .map_or((0.0, 0), |(started, requests)| (now.saturating_duration_since(started).as_secs_f64(), requests));
        // A pass that has already taken longer than the average says more about those who wait than the average does.
        let request_s = self.request_s.unwrap_or(0.0).max(elapsed_s / running.max(1) as f64);
        let left_s = (request_s * running as f64 - elapsed_s).max(0.0) + request_s * waiting as f64;
        Duration::from_secs(left_s.ceil().max(1.0) as u64)
    }
}

#[cfg(test)]
mod tests;
