//! When an answer would be there, and who is refused because that is too late.

use std::time::{Duration, Instant};

use super::Pass;
use super::costs::Workload;
use super::line::{Line, Order};
use crate::engine::caller::{Caller, Class};
use crate::engine::error::EngineError;

/// The time of a request that is left for what estimates do not cover: encoding, sending, and their errors.
const SPARE: u32 = 5;

impl<P: Pass> Line<P> {
    /// Accepts a request if its answer is expected in four fifths of its time.
    pub(super) fn admit(&self, caller: &Caller, work: &Workload, now: Instant) -> Result<(), EngineError> {
        let (alone, total) = (self.alone(work, now), self.expected(caller, work, now));
        if self.closing.is_some_and(|closing| now + total > closing) {
            return Err(EngineError::Stopping);
        }
        let Some(deadline) = caller.deadline else { return Ok(()) };
        let time = deadline.saturating_duration_since(caller.arrived);
        let usable = time - time / SPARE;
        // A guess refuses nobody for ever: the request's own first passes show whether it can be done.
        if work.passes > 1 && alone > usable && self.costs.is_sure(work.kind, now) {
            return Err(EngineError::TooLong { expected: alone, limit: time });
        }
        // A free device tries it: otherwise an estimate that is wrong would never be measured again.
        let is_free = self.depth() == 0 && self.costs.is_one_free();
        if is_free || now + total <= caller.arrived + usable { Ok(()) } else { Err(self.overloaded(caller, work, now)) }
    }

    /// The refusal of a request that nobody has time for.
    pub(super) fn overloaded(&self, caller: &Caller, work: &Workload, now: Instant) -> EngineError {
        let ahead = self.expected(caller, work, now).saturating_sub(self.alone(work, now));
        EngineError::Overloaded { waiting: self.depth(), retry_after: whole_seconds(ahead.as_secs_f64()) }
    }

    /// Time until all that waits now will be done.
    pub(super) fn busy_for(&self, now: Instant) -> Duration {
        let waiting = self.orders().map(|Order { work, .. }| self.costs.device_s(work, now));
        whole_seconds(self.costs.free_after_s(waiting.sum(), now))
    }

    /// Why the next pass of an order is not worth beginning; `None` if it is.
    pub(super) fn too_late(&self, order: &Order, now: Instant) -> Option<EngineError> {
        let end = now + Duration::from_secs_f64(self.costs.pass_s(&order.work, now));
        // If nobody else waits, a try costs nothing.
        let is_late = |limit: Instant| now >= limit || end > limit && self.depth() > 1;
        if self.closing.is_some_and(is_late) {
            return Some(EngineError::Stopping);
        }
        if let Some(error) = order.too_long(self.costs.devices(), now) {
            return Some(error);
        }
        order.caller.deadline.is_some_and(is_late).then(|| self.overloaded(&order.caller, &order.work, now))
    }

    /// Time that a request takes where no other is.
    fn alone(&self, work: &Workload, now: Instant) -> Duration {
        Duration::from_secs_f64(self.costs.alone_s(work, now))
    }

    /// Time until a request is answered that comes after so many seconds of others.
    pub(super) fn after(&self, ahead_s: f64, work: &Workload, now: Instant) -> Duration {
        Duration::from_secs_f64(self.costs.free_after_s(ahead_s, now) + self.costs.alone_s(work, now))
    }

    /// Time until a request that comes now would be answered, after all that goes before it.
    ///
    /// Within a class, everybody else gets as much time as this client meanwhile, or less if they want less. The other classes get
    /// their share of the time that this class takes, or less likewise.
    pub(super) fn expected(&self, caller: &Caller, work: &Workload, now: Instant) -> Duration {
        let mut clients: Vec<(Class, _, f64)> = Vec::new();
        for Order { caller, work, .. } in self.orders() {
            let seconds = self.costs.device_s(work, now);
            match clients.iter_mut().find(|(class, client, _)| (*class, *client) == (caller.class, caller.client)) {
                Some((.., waiting)) => *waiting += seconds,
                None => clients.push((caller.class, caller.client, seconds)),
            }
        }
        let same_class = || clients.iter().filter(|(class, ..)| *class == caller.class);
        let before: f64 = same_class().filter(|(_, client, _)| *client == caller.client).map(|(.., waiting)| waiting).sum();
        let own = before + self.costs.device_s(work, now);
        let beside = same_class().filter(|(_, client, _)| *client != caller.client).map(|(.., waiting)| waiting.min(own));
        let beside: f64 = beside.sum();
        let in_class = own + beside;
        let others = Class::ALL.into_iter().filter(|class| *class != caller.class).map(|other| {
            let waiting: f64 = clients.iter().filter(|(class, ..)| *class == other).map(|(.., waiting)| waiting).sum();
            waiting.min(in_class * other.share() / caller.class.share())
        });
        self.after(before + beside + others.sum::<f64>(), work, now)
    }
}

impl Order {
    /// The refusal of a request whose passes that have not begun cannot be done in its time, as those before have shown.
    fn too_long(&self, devices: usize, now: Instant) -> Option<EngineError> {
        let deadline = self.caller.deadline.filter(|_| self.work.passes > 1)?;
        let left = self.pace.at_least(self.work.passes.div_ceil(devices))?;
        let since_arrival = |at: Instant| at.saturating_duration_since(self.caller.arrived);
        (now + left > deadline)
            .then(|| EngineError::TooLong { expected: since_arrival(now) + left, limit: since_arrival(deadline) })
    }
}

/// As the header takes them, and at least one.
fn whole_seconds(seconds: f64) -> Duration {
    Duration::from_secs(seconds.ceil().max(1.0) as u64)
}
