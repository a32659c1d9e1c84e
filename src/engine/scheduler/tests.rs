//! The scheduler over a scripted pass: the test decides when a pass ends, how, and what time it is. Nothing sleeps.

mod devices;
mod order;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use futures::FutureExt;

use super::*;
use crate::engine::caller::{Class, ClientId};
use crate::error::ErrorKind;

const HOUR: Duration = Duration::from_secs(3600);

/// The longest that a test waits for the scheduler's thread before it fails; no assertion depends on it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A number, what it shares passes with (requests of the same shape, or nothing where there is none), and the only device that can run
/// it where not all can.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Numbered {
    number: u32,
    shape: Option<char>,
    device: Option<usize>,
}

const fn shaped(number: u32, shape: char) -> Numbered {
    Numbered { number, shape: Some(shape), device: None }
}

const fn alone(number: u32) -> Numbered {
    Numbered { number, shape: None, device: None }
}

/// How a pass ends.
enum End {
    /// Ten times each number.
    Answers,
    /// No answer for the last request.
    OneTooFew,
    Fails,
    Panics,
}

/// A pass that tells the test what it was given, and then does as it is told.
struct Scripted {
    started: Sender<(usize, Vec<u32>)>,
    /// Of each device.
    ends: Vec<Mutex<Receiver<End>>>,
    /// Told whenever a device's thread asks for the time.
    looked: Sender<()>,
    time: Arc<Mutex<Instant>>,
}

impl Pass for Scripted {
    type Request = Numbered;
    type Answer = u32;

    fn can_share(&self, first: &Numbered, other: &Numbered) -> bool {
        first.shape.is_some() && first.shape == other.shape
    }

    fn can_run(&self, device: usize, request: &Numbered) -> bool {
        request.device.is_none_or(|only| only == device)
    }

    fn run(&self, device: usize, requests: Vec<Numbered>) -> Result<Vec<u32>, EngineError> {
        let numbers = requests.iter().map(|request| request.number).collect();
        self.started.send((device, numbers)).expect("the test listens");
        let mut answers: Vec<u32> = requests.iter().map(|request| request.number * 10).collect();
        let end = self.ends[device].lock().expect("no panic").recv_timeout(PATIENCE).expect("the test says how it ends");
        match end {
            End::Answers => Ok(answers),
            End::OneTooFew => {
                answers.pop();
                Ok(answers)
            }
            End::Fails => Err(EngineError::Invalid { detail: "no such head".to_owned() }),
            End::Panics => panic!("as the test wants"),
        }
    }

    fn now(&self) -> Instant {
        if std::thread::current().name().is_some_and(|name| name.starts_with("device")) {
            // A test that does not wait for it may have ended.
            let _ = self.looked.send(());
        }
        *self.time.lock().expect("no panic")
    }
}

type Asking = Pin<Box<dyn Future<Output = Outcome<u32>>>>;

/// A request that has been accepted; dropping it is what a caller does that goes away.
struct Ticket(Rc<RefCell<Option<Asking>>>);

/// A scheduler over a scripted pass, from the test's side. It goes last: a failed test leaves no pass waiting for its end.
struct Rig {
    /// Of each device.
    ends: Vec<Sender<End>>,
    started: Receiver<(usize, Vec<u32>)>,
    /// The device of the pass that started last.
    latest: Cell<usize>,
    looked: Receiver<()>,
    time: Arc<Mutex<Instant>>,
    client: ClientId,
    asking: RefCell<Vec<Weak<RefCell<Option<Asking>>>>>,
    scheduler: Scheduler<Scripted>,
}

impl Rig {
    fn new(queue_capacity: usize, max_batch: usize, max_delay: Duration) -> Self {
        Self::on(1, BatchOptions { queue_capacity, max_batch, max_delay })
    }

    fn on(devices: usize, options: BatchOptions) -> Self {
        let ((started_in, started), (looked_in, looked)) = (channel(), channel());
        let (ends, ends_out): (Vec<_>, Vec<_>) = (0..devices).map(|_| channel()).unzip();
        let time = Arc::new(Mutex::new(Instant::now()));
        let ends_out = ends_out.into_iter().map(Mutex::new).collect();
        let pass = Scripted { started: started_in, ends: ends_out, looked: looked_in, time: time.clone() };
        let names: Vec<String> = (0..devices).map(|device| device.to_string()).collect();
        let scheduler = Scheduler::start(&names, pass, options).expect("a thread");
        let client = ClientId::named("somebody");
        Self { scheduler, started, latest: Cell::new(0), ends, looked, time, client, asking: RefCell::default() }
    }

    fn now(&self) -> Instant {
        *self.time.lock().expect("no panic")
    }

    /// A caller who has as much time as it takes.
    fn caller(&self, class: Class, client: ClientId) -> Caller {
        Caller { class, client, arrived: self.now(), deadline: None }
    }

    fn work(passes: usize) -> Workload {
        Workload { kind: Kind::of("scripted"), size: 1.0, passes }
    }

    /// Asks for one pass.
    fn ask(&self, caller: &Caller, request: Numbered) -> Result<Ticket, EngineError> {
        let place = self.scheduler.enter(caller, Self::work(1))?;
        let asking: Asking = Box::pin(async move { place.turn().await?.run(request).await });
        let ticket = Ticket(Rc::new(RefCell::new(Some(asking))));
        self.asking.borrow_mut().push(Rc::downgrade(&ticket.0));
        self.read();
        Ok(ticket)
    }

    /// Lets every request read whose turn it is.
    fn read(&self) {
        for asking in self.asking.borrow().iter().filter_map(Weak::upgrade) {
            let mut asking = asking.borrow_mut();
            if let Some(mut future) = asking.take() {
                *asking = match (&mut future).now_or_never() {
                    Some(outcome) => Some(Box::pin(std::future::ready(outcome))),
                    None => Some(future),
                };
            }
        }
    }

    fn submit(&self, request: Numbered) -> Ticket {
        let caller = self.caller(Class::Upload, self.client);
        self.ask(&caller, request).unwrap_or_else(|error| panic!("{request:?}: {error}"))
    }

    fn refusal(&self, request: Numbered) -> EngineError {
        self.ask(&self.caller(Class::Upload, self.client), request).err().expect("it is refused")
    }

    /// The requests of the next pass, once it runs.
    fn next_pass(&self) -> Vec<u32> {
        let (device, started) = self.started.recv_timeout(PATIENCE).expect("a pass starts");
        self.latest.set(device);
        self.read();
        started
    }

    /// Ends the pass that started last.
    fn end(&self, end: End) {
        self.end_on(self.latest.get(), end);
    }

    fn end_on(&self, device: usize, end: End) {
        self.ends[device].send(end).expect("the pass listens");
    }

    fn pass_time(&self, passed: Duration) {
        *self.time.lock().expect("no panic") += passed;
    }

    /// A request that is under way, so that others have to wait.
    fn occupy(&self, number: u32) -> Ticket {
        let ticket = self.submit(alone(number));
        assert_eq!(self.next_pass(), [number]);
        ticket
    }

    /// One pass of `seconds`, so that the scheduler knows what passes cost.
    fn measure(&self, seconds: u64) {
        let ticket = self.occupy(0);
        self.pass_time(Duration::from_secs(seconds));
        self.end(End::Answers);
        answer(ticket);
    }
}

/// Waits for what needs neither time nor files.
fn block_on<T>(asked: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(asked)
}

fn outcome(ticket: Ticket) -> Outcome<u32> {
    let asking = ticket.0.borrow_mut().take().expect("nobody has asked for it yet");
    block_on(asking)
}

fn answer(ticket: Ticket) -> u32 {
    outcome(ticket).expect("an answer").answer
}

fn retry_after_s(refusal: &EngineError) -> u64 {
    let EngineError::Overloaded { retry_after, .. } = refusal else { panic!("{refusal}") };
    assert_eq!(*retry_after, Duration::from_secs(retry_after.as_secs()), "whole seconds, as the header takes them");
    retry_after.as_secs()
}

#[test]
fn a_full_queue_refuses_until_the_time_it_names_has_passed() {
    let rig = Rig::new(2, 1, Duration::ZERO);
    let first = rig.occupy(1);
    rig.pass_time(Duration::from_secs(3));
    rig.end(End::Answers);
    answer(first);

    let _under_way = rig.occupy(2);
    let _waiting = [rig.submit(alone(3)), rig.submit(alone(4))];
    rig.pass_time(Duration::from_secs(1));
    let refusal = rig.refusal(alone(5));
    assert_eq!(refusal.kind(), ErrorKind::Overloaded);
    assert!(refusal.to_string().starts_with("2 requests wait for the device already"), "{refusal}");
    // Two seconds are left of the pass under way; three seconds each for the two that wait.
    assert_eq!(retry_after_s(&refusal), 8);

    let mut left_s = 8;
    for (lasts_s, next) in [(2, 3), (3, 4)] {
        rig.pass_time(Duration::from_secs(lasts_s));
        left_s -= lasts_s;
        rig.end(End::Answers);
        assert_eq!(rig.next_pass(), [next]);
    }
    rig.pass_time(Duration::from_secs(left_s));
    rig.end(End::Answers);
    let accepted = rig.occupy(5);
    rig.end(End::Answers);
    assert_eq!(answer(accepted), 50);
}

#[test]
fn the_time_named_follows_the_passes_as_they_are_now() {
    let rig = Rig::new(1, 4, Duration::ZERO);
    // Nothing has been measured and no time has passed: the least that the header can say.
    let first = rig.occupy(1);
    let gone = rig.submit(alone(2));
    assert_eq!(retry_after_s(&rig.refusal(alone(3))), 1);
    // The first pass has taken 10 s and is not over: the one that waits will hardly take less.
    rig.pass_time(Duration::from_secs(10));
    assert_eq!(retry_after_s(&rig.refusal(alone(3))), 10);
    drop(gone);
    rig.end(End::Answers);
    answer(first);
    // Quick passes wear the first one down.
    for number in 0..40 {
        let ticket = rig.occupy(number);
        rig.pass_time(Duration::from_millis(100));
        rig.end(End::Answers);
        answer(ticket);
    }
    let _under_way = rig.occupy(50);
    let _waiting = rig.submit(alone(51));
    assert_eq!(retry_after_s(&rig.refusal(alone(52))), 1);
    rig.end(End::Answers);
    assert_eq!(rig.next_pass(), [51]);
    rig.end(End::Answers);
}

#[test]
fn a_caller_that_has_gone_costs_no_pass() {
    let rig = Rig::new(8, 1, Duration::ZERO);
    let first = rig.occupy(1);
    let gone = rig.submit(alone(2));
    let stays = rig.submit(alone(3));
    drop(gone);
    rig.end(End::Answers);
    assert_eq!(rig.next_pass(), [3]);
    rig.end(End::Answers);
    assert_eq!((answer(first), answer(stays)), (10, 30));
}

#[test]
fn a_caller_that_has_gone_leaves_its_place_to_the_next_at_once() {
    let rig = Rig::new(1, 1, Duration::ZERO);
    let _under_way = rig.occupy(1);
    let gone = rig.submit(alone(2));
    rig.refusal(alone(3));
    drop(gone);
    let accepted = rig.submit(alone(4));
    assert_eq!(rig.scheduler.waiting(), 1);
    rig.end(End::Answers);
    assert_eq!(rig.next_pass(), [4]);
    rig.end(End::Answers);
    assert_eq!(answer(accepted), 40);
}

#[test]
fn equal_shapes_share_a_pass_up_to_the_limit_and_each_gets_its_own_answer() {
    let rig = Rig::new(8, 3, Duration::ZERO);
    let first = rig.occupy(1);
    let requests = [shaped(2, 'a'), shaped(3, 'b'), shaped(4, 'a'), alone(5), shaped(6, 'a'), shaped(7, 'a'), alone(8)];
    let tickets = requests.map(|request| rig.submit(request));
    rig.end(End::Answers);
    answer(first);
    for batch in [vec![2, 4, 6], vec![3], vec![5], vec![7], vec![8]] {
        assert_eq!(rig.next_pass(), batch);
        rig.pass_time(Duration::from_secs(1));
        rig.end(End::Answers);
    }
    for (ticket, (request, queued_s)) in tickets.into_iter().zip(requests.into_iter().zip([0, 1, 0, 2, 0, 3, 4])) {
        let answered = outcome(ticket).expect("an answer");
        assert_eq!(answered.answer, request.number * 10);
        assert_eq!((answered.queued, answered.ran), (Duration::from_secs(queued_s), Duration::from_secs(1)), "{request:?}");
    }
}

#[test]
fn the_first_waits_for_others_until_the_batch_is_full() {
    let rig = Rig::new(8, 2, HOUR);
    let first = rig.submit(shaped(1, 'a'));
    rig.looked.recv_timeout(PATIENCE).expect("the thread has seen the first alone");
    let second = rig.submit(shaped(2, 'a'));
    assert_eq!(rig.next_pass(), [1, 2]);
    rig.end(End::Answers);
    assert_eq!((answer(first), answer(second)), (10, 20));
}

#[test]
fn the_first_waits_no_longer_than_the_delay() {
    let rig = Rig::new(8, 3, HOUR);
    let first = rig.submit(shaped(1, 'a'));
    rig.looked.recv_timeout(PATIENCE).expect("the thread has seen the first alone");
    rig.pass_time(HOUR);
    let second = rig.submit(shaped(2, 'b'));
    assert_eq!(rig.next_pass(), [1]);
    rig.pass_time(HOUR);
    rig.end(End::Answers);
    assert_eq!(rig.next_pass(), [2]);
    rig.end(End::Answers);
    let queued = [first, second].map(|ticket| outcome(ticket).expect("an answer").queued);
    assert_eq!(queued, [HOUR, HOUR]);
}

#[test]
fn a_delay_ends_without_another_request_to_end_it() {
    /// Answers at once, by the system's clock.
    struct Instantly;
    impl Pass for Instantly {
        type Request = u32;
        type Answer = u32;
        fn can_share(&self, _: &u32, _: &u32) -> bool {
            true
        }
        fn run(&self, _: usize, requests: Vec<u32>) -> Result<Vec<u32>, EngineError> {
            Ok(requests)
        }
    }
    let options = BatchOptions { queue_capacity: 1, max_batch: 2, max_delay: Duration::from_millis(1) };
    let scheduler = Scheduler::start(&["instantly".to_owned()], Instantly, options).expect("a thread");
    let place = scheduler.enter(&Caller::patient(Class::Tile), Rig::work(1)).unwrap_or_else(|error| panic!("{error}"));
    let answered = block_on(async { place.turn().await?.run(7).await }).expect("an answer");
    assert!(answered.answer == 7 && answered.queued >= options.max_delay, "{answered:?}");
}

#[test]
fn what_can_share_with_nothing_does_not_wait_for_others() {
    let rig = Rig::new(8, 2, HOUR);
    let ticket = rig.occupy(1);
    rig.end(End::Answers);
    assert_eq!(answer(ticket), 10);
}

#[test]
fn a_pass_that_panics_is_an_internal_error_and_the_next_is_served() {
    let rig = Rig::new(8, 2, Duration::ZERO);
    let first = rig.occupy(1);
    let pair = [shaped(2, 'a'), shaped(3, 'a')].map(|request| rig.submit(request));
    let next = rig.submit(alone(4));
    rig.end(End::Answers);
    answer(first);
    assert_eq!(rig.next_pass(), [2, 3]);
    rig.end(End::Panics);
    for ticket in pair {
        let error = outcome(ticket).expect_err("the pass panicked");
        assert!(matches!(error, EngineError::Panicked), "{error}");
        assert_eq!(error.kind(), ErrorKind::Internal);
    }
    assert_eq!(rig.next_pass(), [4]);
    rig.end(End::Answers);
    assert_eq!(answer(next), 40);
}

#[test]
fn a_pass_that_fails_fails_for_all_who_shared_it() {
    let rig = Rig::new(8, 2, HOUR);
    for (end, kind) in [(End::Fails, ErrorKind::Invalid), (End::OneTooFew, ErrorKind::Internal)] {
        let pair = [shaped(1, 'a'), shaped(2, 'a')].map(|request| rig.submit(request));
        assert_eq!(rig.next_pass(), [1, 2]);
        rig.end(end);
        assert_eq!(pair.map(|ticket| outcome(ticket).expect_err("the pass failed").kind()), [kind, kind]);
    }
}

#[test]
fn stopping_refuses_what_waits_and_what_comes_and_lets_the_pass_under_way_end() {
    let rig = Rig::new(8, 1, Duration::ZERO);
    let under_way = rig.occupy(1);
    let waiting = rig.submit(alone(2));
    rig.scheduler.stop();
    assert!(matches!(outcome(waiting), Err(EngineError::Stopping)));
    let refusal = rig.refusal(alone(3));
    assert!(matches!(refusal, EngineError::Stopping), "{refusal}");
    assert_eq!(refusal.kind(), ErrorKind::Unavailable);
    rig.end(End::Answers);
    assert_eq!(answer(under_way), 10);
    let Rig { scheduler, started, .. } = rig;
    drop(scheduler);
    assert_eq!(started.try_recv(), Err(TryRecvError::Disconnected), "the thread has ended, without another pass");
}
