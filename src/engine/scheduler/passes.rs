//! Which pass a device runs next, and with whom in it.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::line::{Line, READING, State, Step};
use super::{Outcome, Pass};
use crate::engine::caller::{Caller, Class};

/// One caller's part of a pass.
pub(super) struct Member<P: Pass> {
    pub(super) request: P::Request,
    pub(super) reply: oneshot::Sender<Outcome<P::Answer>>,
    pub(super) caller: Caller,
    pub(super) order: u64,
    pub(super) queued: Duration,
    pub(super) reading_since: Instant,
}

/// What a device does next.
pub(super) enum Next {
    /// The pass of the step at this index, and of those that can share it.
    Pass(usize),
    /// Waits so long for the input of a class whose turn it is, or for others to share a pass.
    Hold(Duration),
    /// Nothing is ready.
    Nothing,
}

impl<P: Pass> Line<P> {
    /// What a device does now.
    pub(super) fn choose(&mut self, pass: &P, device: usize, now: Instant) -> Next {
        let mut classes = Class::ALL;
        classes.sort_by(|a, b| self.classes.had(*a).total_cmp(&self.classes.had(*b)));
        let mut held = None;
        for class in classes {
            if let Some(index) = self.first_ready(pass, device, class) {
                if let Some((slow, wait)) = held.filter(|(preferred, _)| *preferred < class) {
                    self.held[device].get_or_insert((slow, now));
                    return Next::Hold(wait);
                }
                return self.batch_or_wait(pass, index, now);
            }
            let mut reading: Vec<Duration> = self
                .steps
                .iter()
                .filter(|step| step.class == class)
                .filter_map(|step| match step.state {
                    State::InputInProgress { since } => Some(READING.saturating_sub(now.saturating_duration_since(since))),
                    State::Waiting(_) | State::Ready { .. } => None,
                })
                .filter(|left| !left.is_zero())
                .collect();
            reading.sort_unstable_by(|a, b| b.cmp(a));
            // For each of them one device waits.
            held = held.or(reading.get(self.held_beside(device, class)).map(|left| (class, *left)));
        }
        self.held[device] = None;
        Next::Nothing
    }

    /// How many other devices wait for inputs of a class.
    fn held_beside(&self, device: usize, class: Class) -> usize {
        let others = self.held.iter().enumerate().filter(|(other, _)| *other != device);
        others.filter(|(_, held)| held.is_some_and(|(of, _)| of == class)).count()
    }

    /// The step of a class that was let in first, of those that are ready for a device.
    fn first_ready(&self, pass: &P, device: usize, class: Class) -> Option<usize> {
        let ready = self.steps.iter().enumerate().filter_map(|(index, step)| match &step.state {
            State::Ready { request, reading_since, .. } if step.class == class && pass.can_run(device, request) => {
                Some((*reading_since, step.id, index))
            }
            _ => None,
        });
        ready.min().map(|(.., index)| index)
    }

    /// A pass at once, or later if others may come to share it.
    fn batch_or_wait(&self, pass: &P, index: usize, now: Instant) -> Next {
        let State::Ready { request: first, since, .. } = &self.steps[index].state else { return Next::Nothing };
        let sharing = self
            .steps
            .iter()
            .filter(|step| matches!(&step.state, State::Ready { request, .. } if pass.can_share(first, request)));
        let age = now.saturating_duration_since(*since);
        if (1..self.options.max_batch).contains(&sharing.count()) && age < self.options.max_delay {
            return Next::Hold(self.options.max_delay - age);
        }
        Next::Pass(index)
    }

    /// Takes the step at `index` for a device, and those that can share its pass. Steps whose answer would come too late are refused
    /// instead, so the batch may be empty.
    pub(super) fn take(&mut self, pass: &P, device: usize, index: usize, now: Instant) -> Vec<Member<P>> {
        let mut sharing = vec![self.steps[index].id];
        if let State::Ready { request: first, .. } = &self.steps[index].state {
            let others = self.steps.iter().filter(|step| {
                step.id != sharing[0]
                    && matches!(&step.state, State::Ready { request, .. } if pass.can_share(first, request))
            });
            let others: Vec<u64> = others.map(|step| step.id).take(self.options.max_batch - 1).collect();
            sharing.extend(others);
        }
        let (mut batch, mut works) = (Vec::new(), Vec::new());
        for id in sharing {
            let Some(index) = self.steps.iter().position(|step| step.id == id) else { continue };
            let Some(at) = self.orders.iter().position(|order| order.id == self.steps[index].order) else { continue };
            if let Some(error) = self.too_late(&self.orders[at], now) {
                self.refuse(at, error);
                continue;
            }
            let Step { order, asked, state, .. } = self.steps.remove(index);
            let State::Ready { request, reply, reading_since, since } = state else { continue };
            let queued = reading_since.saturating_duration_since(asked) + now.saturating_duration_since(since);
            works.push(self.orders[at].work);
            batch.push(Member { request, reply, caller: self.orders[at].caller, order, queued, reading_since });
            self.one_less(order);
        }
        if !batch.is_empty() {
            // A pass of the class that was waited for pays for the wait as part of its cost.
            if let Some((class, since)) = self.held[device].take()
                && batch[0].caller.class != class
            {
                self.classes.charge(class, now.saturating_duration_since(since).as_secs_f64() / class.share());
            }
            self.costs.start(device, now, works);
        }
        self.count();
        batch
    }

    /// A device's pass has ended; its members were of these orders and classes, and the first input was asked for at `begun`.
    pub(super) fn ended(&mut self, device: usize, members: &[(u64, Class)], begun: Instant, now: Instant) {
        let cost = self.costs.end(device, now, begun) / u32::try_from(members.len().max(1)).unwrap_or(u32::MAX);
        for (order, class) in members {
            self.classes.charge(*class, cost.as_secs_f64() / class.share());
            if let Some(order) = self.orders.iter_mut().find(|known| known.id == *order) {
                order.pace.note(cost);
            }
        }
    }
}
