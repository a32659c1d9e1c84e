//! Who waits, and whose turn it is: the scheduler's state, and the decisions that its rules lead to.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::costs::{Costs, Pace, Workload};
use super::shares::Shares;
use super::{BatchOptions, Outcome, Pass};
use crate::engine::caller::{Caller, Class, ClientId};
use crate::engine::error::EngineError;
use crate::telemetry;

/// Reading that takes longer than this waits for something else than this machine, such as a remote host: others may read meanwhile,
/// and no pass is kept waiting for it.
pub(super) const READING: Duration = Duration::from_millis(500);

/// A request with a place in the queue.
pub(super) struct Order {
    pub(super) id: u64,
    pub(super) caller: Caller,
    /// `passes` counts those that have not begun.
    pub(super) work: Workload,
    pub(super) pace: Pace,
    /// Why it is not served any more.
    refused: Option<EngineError>,
}

/// One pass that an order asks for.
pub(super) struct Step<P: Pass> {
    pub(super) id: u64,
    pub(super) order: u64,
    pub(super) class: Class,
    pub(super) asked: Instant,
    pub(super) state: State<P>,
}

pub(super) enum State<P: Pass> {
    /// Waits until it may read its input.
    Waiting(oneshot::Sender<Result<(), EngineError>>),
    /// Reads its input.
    InputInProgress { since: Instant },
    /// Waits for its pass.
    Ready { request: P::Request, reply: oneshot::Sender<Outcome<P::Answer>>, reading_since: Instant, since: Instant },
}

/// Input that is being read. It outlives the step of a caller that has gone.
pub(super) struct InputInProgress {
    step: u64,
    class: Class,
    since: Instant,
}

/// What the scheduler's lock protects.
pub(super) struct Line<P: Pass> {
    pub(super) options: BatchOptions,
    pub(super) orders: Vec<Order>,
    pub(super) steps: Vec<Step<P>>,
    pub(super) reading: Vec<InputInProgress>,
    pub(super) classes: Shares<Class>,
    /// Of each class, in the order of [`Class::ALL`].
    clients: [Shares<ClientId>; Class::ALL.len()],
    pub(super) costs: Costs,
    /// Of each device: the class for whose input it is kept waiting, since then.
    pub(super) held: Vec<Option<(Class, Instant)>>,
    /// Answers that would come later are refused, because the server stops then.
    pub(super) closing: Option<Instant>,
    pub(super) stopping: bool,
    next_id: u64,
}

impl<P: Pass> Line<P> {
    pub(super) fn new(options: BatchOptions, devices: usize) -> Self {
        Self {
            options,
            orders: Vec::new(),
            steps: Vec::new(),
            reading: Vec::new(),
            classes: Shares::new(),
            clients: Class::ALL.map(|_| Shares::new()),
            costs: Costs::new(devices),
            held: vec![None; devices],
            closing: None,
            stopping: false,
            next_id: 0,
        }
    }

    /// Requests with a pass that has not begun.
    pub(super) fn depth(&self) -> usize {
        self.orders.iter().filter(|order| order.is_waiting()).count()
    }

    pub(super) fn orders(&self) -> impl Iterator<Item = &Order> {
        self.orders.iter().filter(|order| order.is_waiting())
    }

    fn clients(&mut self, class: Class) -> &mut Shares<ClientId> {
        &mut self.clients[class as usize]
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Gives a request a place, or says why not.
    pub(super) fn enter(&mut self, caller: Caller, work: Workload, now: Instant) -> Result<u64, EngineError> {
        if self.stopping {
            return Err(EngineError::Stopping);
        }
        self.admit(&caller, &work, now)?;
        if self.depth() >= self.options.queue_capacity {
            let Some(displaced) = self.displaced_by(&caller) else { return Err(self.overloaded(&caller, &work, now)) };
            let (caller, work) = (self.orders[displaced].caller, self.orders[displaced].work);
            let error = self.overloaded(&caller, &work, now);
            self.refuse(displaced, error);
        }
        let id = self.new_id();
        self.classes.join(caller.class);
        self.clients(caller.class).join(caller.client);
        self.orders.push(Order { id, caller, work, pace: Pace::default(), refused: None });
        self.count();
        Ok(id)
    }

    /// The latest order of whoever has the most places, where that is more than the newcomer would have.
    fn displaced_by(&self, newcomer: &Caller) -> Option<usize> {
        let places = |of: &Caller| self.orders().filter(|order| order.caller.is_beside(of)).count();
        let untouched = |order: &&Order| {
            order.is_waiting()
                && order.caller.class != Class::Job
                && self.steps.iter().all(|step| step.order != order.id || matches!(step.state, State::Waiting(_)))
        };
        let latest = self.orders.iter().filter(untouched).max_by_key(|order| (places(&order.caller), order.id))?;
        (places(&latest.caller) > places(newcomer) + 1)
            .then(|| self.orders.iter().position(|order| order.id == latest.id))?
    }

    /// Ends an order with an error, which its next or waiting step gets.
    pub(super) fn refuse(&mut self, index: usize, error: EngineError) {
        metrics::counter!(telemetry::QUEUE_DROPPED_TOTAL).increment(1);
        let order = self.orders[index].id;
        // One that is being read gets the error when it is ready.
        let ends = |step: &mut Step<P>| step.order == order && !matches!(step.state, State::InputInProgress { .. });
        for step in self.steps.extract_if(.., ends) {
            match step.state {
                // A caller that has gone needs no error.
                State::Waiting(turn) => drop(turn.send(Err(error.clone()))),
                State::Ready { reply, .. } => drop(reply.send(Err(error.clone()))),
                State::InputInProgress { .. } => {}
            }
        }
        self.orders[index].refused = Some(error);
        self.count();
    }

    /// Removes a request's place, and what it still asks for.
    pub(super) fn leave(&mut self, id: u64) {
        let Some(index) = self.orders.iter().position(|order| order.id == id) else { return };
        let Caller { class, client, .. } = self.orders.remove(index).caller;
        self.steps.retain(|step| step.order != id);
        if self.orders.iter().all(|order| order.caller.class != class) {
            self.classes.leave(class);
        }
        if self.orders.iter().all(|order| (order.caller.class, order.caller.client) != (class, client)) {
            self.clients(class).leave(client);
        }
        self.count();
    }

    /// Asks for the turn of an order's next pass, of which the receiver hears.
    pub(super) fn ask(&mut self, order: u64, turn: oneshot::Sender<Result<(), EngineError>>, now: Instant) -> u64 {
        let id = self.new_id();
        let known = self.orders.iter().find(|known| known.id == order);
        match known.map(|order| (order.caller.class, order.refused.clone())) {
            // Fails if the caller has gone.
            Some((_, Some(error))) => drop(turn.send(Err(error))),
            Some((class, None)) => {
                self.steps.push(Step { id, order, class, asked: now, state: State::Waiting(turn) });
            }
            // Dropping the sender tells that the queue has stopped.
            None => {}
        }
        id
    }

    /// The input has been read. If the step is not there any more, dropping `reply` tells its caller that the queue has stopped.
    pub(super) fn ready(&mut self, id: u64, request: P::Request, reply: oneshot::Sender<Outcome<P::Answer>>, now: Instant) {
        let Some(index) = self.steps.iter().position(|step| step.id == id) else { return };
        let step = &mut self.steps[index];
        let order = self.orders.iter().find(|order| order.id == step.order);
        match (order.and_then(|order| order.refused.clone()), &step.state) {
            (Some(error), _) => {
                self.steps.remove(index);
                // Fails if the caller has gone.
                drop(reply.send(Err(error)));
            }
            (None, State::InputInProgress { since: reading_since }) => {
                step.state = State::Ready { request, reply, reading_since: *reading_since, since: now };
            }
            (None, _) => {}
        }
    }

    /// The reading for a step has ended.
    pub(super) fn has_read(&mut self, id: u64) {
        self.reading.retain(|reading| reading.step != id);
    }

    /// Removes a step whose caller has gone or which needs no pass; without effect once its pass has begun.
    pub(super) fn forget(&mut self, id: u64) {
        let Some(index) = self.steps.iter().position(|step| step.id == id) else { return };
        let order = self.steps.remove(index).order;
        self.one_less(order);
        self.count();
    }

    pub(super) fn one_less(&mut self, order: u64) {
        if let Some(order) = self.orders.iter_mut().find(|known| known.id == order) {
            order.work.passes = order.work.passes.saturating_sub(1);
        }
    }

    /// Lets waiting steps read, as many of each class as may be prepared ahead of the devices.
    pub(super) fn grant(&mut self, now: Instant) {
        // One batch for each and two more, so that no device need wait for the next input.
        let ahead = self.options.max_batch * self.costs.devices() + 2;
        for class in Class::ALL {
            while self.prepared(class, now) < ahead
                && let Some(index) = self.next_to_read(class)
            {
                let (id, order) = (self.steps[index].id, self.steps[index].order);
                let Some(at) = self.orders.iter().position(|known| known.id == order) else {
                    self.steps.remove(index);
                    continue;
                };
                if let Some(error) = self.too_late(&self.orders[at], now) {
                    self.refuse(at, error);
                    continue;
                }
                let Order { caller, work, .. } = self.orders[at];
                let seconds = self.costs.pass_s(&work, now);
                // Where nothing has been measured, each pass counts the same.
                self.clients(class).charge(caller.client, if seconds > 0.0 { seconds } else { 1.0 });
                let step = &mut self.steps[index];
                if let State::Waiting(turn) = std::mem::replace(&mut step.state, State::InputInProgress { since: now })
                    && turn.send(Ok(())).is_err()
                {
                    // The caller is about to forget it.
                    self.steps.remove(index);
                    self.one_less(order);
                    continue;
                }
                self.reading.push(InputInProgress { step: id, class, since: now });
            }
        }
    }

    /// Inputs of a class that are being read, or have been read and wait for their pass.
    fn prepared(&self, class: Class, now: Instant) -> usize {
        let is_quick =
            |reading: &&InputInProgress| reading.class == class && now.saturating_duration_since(reading.since) < READING;
        let is_ready = |step: &&Step<P>| step.class == class && matches!(step.state, State::Ready { .. });
        self.reading.iter().filter(is_quick).count() + self.steps.iter().filter(is_ready).count()
    }

    fn next_to_read(&self, class: Class) -> Option<usize> {
        let clients = &self.clients[class as usize];
        let key = |step: &Step<P>| {
            let order = self.orders.iter().find(|order| order.id == step.order)?;
            Some((clients.had(order.caller.client), order.caller.arrived, step.id))
        };
        let waiting = self
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| step.class == class && matches!(step.state, State::Waiting(_)));
        let least = waiting.min_by(|(_, a), (_, b)| {
            let (a, b) = (key(a), key(b));
            a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal)
        });
        least.map(|(index, _)| index)
    }

    /// Refuses what will not be answered by `at`, now and from now on.
    pub(super) fn close(&mut self, at: Instant, now: Instant) {
        self.closing = Some(at);
        let mut ahead_s = 0.0;
        for index in 0..self.orders.len() {
            let Order { work, ref refused, .. } = self.orders[index];
            if refused.is_none() && work.passes > 0 {
                let answered = now + self.after(ahead_s, &work, now);
                ahead_s += self.costs.device_s(&work, now);
                if answered > at {
                    self.refuse(index, EngineError::Stopping);
                }
            }
        }
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.steps.clear();
        self.orders.clear();
        self.count();
    }

    pub(super) fn count(&self) {
        metrics::gauge!(telemetry::QUEUE_DEPTH).set(self.depth() as f64);
    }
}

impl Order {
    fn is_waiting(&self) -> bool {
        self.refused.is_none() && self.work.passes > 0
    }
}

impl Caller {
    /// True for callers between whom nothing is to be shared out.
    fn is_beside(&self, other: &Caller) -> bool {
        (self.class, self.client) == (other.class, other.client)
    }
}
