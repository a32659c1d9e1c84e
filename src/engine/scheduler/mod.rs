//! The scheduler: who gets a device, in which order, and who is told at once that it would take too long.
//!
//! A request takes a [`Place`] before anything is read for it. For each forward pass that it needs, it waits for its [`Turn`], reads
//! the input, and hands it over. Dropping a place or a turn gives it back, so a caller that has gone costs nothing more. What a pass
//! does is up to [`Pass`]: a network's forward pass in [`super::device`], a scripted one in the tests. One line feeds all devices.
//!
//! # The rules
//!
//! 1. **Admission.** The cost of passes is measured by kind ([`costs`]). From it and from everything that waits follows when a
//!    request would be answered ([`admission`]). If that is later than four fifths of its time, it is refused at once, and told when
//!    the work that waits now will be done. A free device takes anything that may be one pass. Several devices do what waits
//!    together, and the passes of one request side by side.
//! 2. **Classes.** When several [`Class`](super::caller::Class)es want the device, each gets its share of the time, measured in
//!    seconds of all devices. A class that wanted nothing before comes first, so a cold tile waits for at most the pass under way of
//!    any scene or job.
//! 3. **Clients.** Within a class, clients get equal time; what one client asks is served in order of arrival. In a full queue, the
//!    latest request of the client with the most places gives way to a client with fewer.
//! 4. **Reading ahead.** Of each class, one batch for each device and two more inputs are read or lie ready. An input that takes
//!    longer than half a second does not count any more: it waits for a remote host. One device waits for each input of a class that is
//!    more interactive and has its turn, but no longer than that.
//! 5. **Lateness.** A pass whose answer would come after the caller's deadline is not begun, unless nobody else waits. A request of
//!    many passes ends as soon as two of them have shown that the others cannot be done in its time.
//! 6. **Batches.** A pass takes along what is ready and can share it, up to the batch limit, whatever its class.
//! 7. **Devices.** A device that is free takes the next pass; what lies in the memory of one device waits for that one.

mod admission;
mod costs;
mod line;
mod passes;
mod serve;
mod shares;

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub(super) use costs::{Kind, Workload};

use super::caller::Caller;
use super::error::EngineError;
use crate::sync::IgnorePoison;
use crate::telemetry;
use line::Line;

/// Bounds of the queue and of its batches.
#[derive(Clone, Copy, Debug)]
pub struct BatchOptions {
    /// Requests that may wait; further ones are refused.
    pub queue_capacity: usize,
    /// Most requests in one pass.
    pub max_batch: usize,
    /// How long the first request of a batch waits for others to share its pass.
    pub max_delay: Duration,
}

/// The work that is scheduled.
pub(super) trait Pass: Send + Sync + 'static {
    /// What one caller asks.
    type Request: Send;
    /// What that caller gets.
    type Answer: Send;

    /// True if both requests can run in one pass. A request that cannot share even with one like itself never waits for others.
    fn can_share(&self, first: &Self::Request, other: &Self::Request) -> bool;

    /// True unless the request needs what lies in the memory of another device.
    fn can_run(&self, _device: usize, _request: &Self::Request) -> bool {
        true
    }

    /// Runs one pass on a device. Answers come in the order of the requests, one for each.
    fn run(&self, device: usize, requests: Vec<Self::Request>) -> Result<Vec<Self::Answer>, EngineError>;

    /// Called on a device's thread whenever nothing has been asked for a while.
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
    /// Time spent waiting for the turn and for the pass.
    pub(super) queued: Duration,
    /// Time that the pass took, for the whole batch.
    pub(super) ran: Duration,
}

type Outcome<A> = Result<Answered<A>, EngineError>;

/// What callers and the devices' threads share.
struct Desk<P: Pass> {
    pass: P,
    line: Mutex<Line<P>>,
    changed: Condvar,
}

impl<P: Pass> Desk<P> {
    /// A panic elsewhere leaves nothing half done that matters: a step without an order is removed when it is found.
    fn lock(&self) -> MutexGuard<'_, Line<P>> {
        self.line.lock().ignore_poison()
    }

    /// Changes the line, and lets follow what now can.
    fn change<T>(&self, change: impl FnOnce(&mut Line<P>, Instant) -> T) -> T {
        let changed = {
            let (mut line, now) = (self.lock(), self.pass.now());
            let changed = change(&mut line, now);
            line.grant(now);
            changed
        };
        // Not each device can do what one of them cannot.
        self.changed.notify_all();
        changed
    }
}

/// The queue with the devices' threads.
pub(super) struct Scheduler<P: Pass> {
    desk: Arc<Desk<P>>,
    threads: Vec<JoinHandle<()>>,
}

impl<P: Pass> Scheduler<P> {
    /// Starts a thread for each of `devices`, which are the names of those that `pass` runs on. At least one is needed.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(super) fn start(devices: &[String], pass: P, options: BatchOptions) -> std::io::Result<Self> {
        let line = Mutex::new(Line::new(options, devices.len()));
        let desk = Arc::new(Desk { pass, line, changed: Condvar::new() });
        // If the system refuses one, those before end with this.
        let mut scheduler = Self { desk, threads: Vec::new() };
        for (device, name) in devices.iter().enumerate() {
            let (desk, name) = (scheduler.desk.clone(), name.clone());
            let thread = std::thread::Builder::new().name(format!("device {name}"));
            scheduler.threads.push(thread.spawn(move || serve::serve(&desk, device, &name))?);
        }
        Ok(scheduler)
    }

    /// Takes a place for a request.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`] if its answer would come too late or the queue is full, [`EngineError::TooLong`] if it takes longer
    /// than its time even on a free device, [`EngineError::Stopping`] after [`Scheduler::close`] and [`Scheduler::stop`].
    pub(super) fn enter(&self, caller: &Caller, work: Workload) -> Result<Place<P>, EngineError> {
        let entered = self.desk.change(|line, now| line.enter(*caller, work, now));
        let order = entered.inspect_err(|_| metrics::counter!(telemetry::QUEUE_REFUSED_TOTAL).increment(1))?;
        Ok(Place { desk: self.desk.clone(), order })
    }

    /// Checks whether a request would get a place now.
    ///
    /// # Errors
    /// Those of [`Scheduler::enter`].
    pub(super) fn check(&self, caller: &Caller, work: &Workload) -> Result<(), EngineError> {
        self.desk.lock().admit(caller, work, self.desk.pass.now())
    }

    /// Time until a request that comes now would be answered; 0 while nothing has been measured.
    pub(super) fn expected(&self, caller: &Caller, work: &Workload) -> Duration {
        self.desk.lock().expected(caller, work, self.desk.pass.now())
    }

    /// Time until all that waits now is likely to be done, in whole seconds, at least one.
    pub(super) fn busy_for(&self) -> Duration {
        self.desk.lock().busy_for(self.desk.pass.now())
    }

    /// Requests that wait for a pass.
    pub(super) fn waiting(&self) -> usize {
        self.desk.lock().depth()
    }

    /// How long the pass under way has run, of several devices the longest; `None` between passes.
    pub(super) fn running(&self) -> Option<Duration> {
        self.desk.lock().costs.running(self.desk.pass.now())
    }

    /// Refuses what will not be answered by `at`, of what waits and of what comes.
    pub(super) fn close(&self, at: Instant) {
        self.desk.change(|line, now| line.close(at, now));
    }

    /// Refuses what waits and what comes. Passes under way still end, and their callers get their answers.
    pub(super) fn stop(&self) {
        self.desk.change(|line, _| line.stop());
    }
}

impl<P: Pass> Drop for Scheduler<P> {
    /// Waits for the passes under way.
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            // Passes that panic are caught and reported to their callers; nothing is left to say here.
            let _ = thread.join();
        }
    }
}

/// An accepted request's place in the queue, which dropping it gives back.
pub(super) struct Place<P: Pass> {
    desk: Arc<Desk<P>>,
    order: u64,
}

impl<P: Pass> Place<P> {
    /// Waits until the input of the request's next pass may be read.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`] if the answer would come too late by now or the place went to another client,
    /// [`EngineError::TooLong`] if the passes so far have shown that the others take too long, and [`EngineError::Stopping`] if the
    /// scheduler stops before.
    pub(super) fn turn(&self) -> impl Future<Output = Result<Turn<P>, EngineError>> + use<P> {
        let (granted, turn) = oneshot::channel();
        let id = self.desk.change(|line, now| line.ask(self.order, granted, now));
        let input = Arc::new(InputOfStep { desk: self.desk.clone(), id });
        let asked = Turn { input: Some(input), id, desk: self.desk.clone() };
        async move { turn.await.unwrap_or(Err(EngineError::Stopping)).map(|()| asked) }
    }
}

impl<P: Pass> Drop for Place<P> {
    fn drop(&mut self) {
        self.desk.change(|line, _| line.leave(self.order));
    }
}

/// The turn to read the input of one pass and to have it run. Dropping it gives the pass up.
pub(super) struct Turn<P: Pass> {
    desk: Arc<Desk<P>>,
    id: u64,
    input: Option<Arc<InputOfStep<P>>>,
}

impl<P: Pass> Turn<P> {
    /// To be held while the input is read, also by a reader that goes on after its caller has gone.
    pub(super) fn reading(&self) -> Option<impl Send + 'static> {
        self.input.clone()
    }

    /// Runs the pass.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`] if the answer would come too late by now, [`EngineError::Stopping`] if the scheduler stops before,
    /// [`EngineError::Panicked`] if the pass panics, and whatever error the pass returns.
    pub(super) async fn run(mut self, request: P::Request) -> Outcome<P::Answer> {
        let (reply, answer) = oneshot::channel();
        self.desk.change(|line, now| line.ready(self.id, request, reply, now));
        self.input = None;
        answer.await.unwrap_or(Err(EngineError::Stopping))
    }
}

impl<P: Pass> Drop for Turn<P> {
    fn drop(&mut self) {
        self.desk.change(|line, _| line.forget(self.id));
    }
}

/// Input that is being read.
struct InputOfStep<P: Pass> {
    desk: Arc<Desk<P>>,
    id: u64,
}

impl<P: Pass> Drop for InputOfStep<P> {
    fn drop(&mut self) {
        self.desk.change(|line, _| line.has_read(self.id));
    }
}

#[cfg(test)]
mod tests;
