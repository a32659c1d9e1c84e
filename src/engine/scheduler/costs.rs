//! What passes cost, measured, so that the scheduler can tell when an answer would be there.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// Passes of one kind cost in proportion to their size: those of one model for one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Kind(u64);

impl Kind {
    /// The kind with this name.
    pub(in crate::engine) fn of(name: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The passes that a request needs.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Workload {
    pub(in crate::engine) kind: Kind,
    /// Of each pass: pixels times captures.
    pub(in crate::engine) size: f64,
    pub(in crate::engine) passes: usize,
}

/// What the passes of one request have taken so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    ended: usize,
    fastest: Option<Duration>,
}

impl Pace {
    /// The first pass may also fill caches, so one says little.
    const ENOUGH: usize = 2;

    /// Notes what a pass has cost.
    pub(super) fn note(&mut self, cost: Duration) {
        self.ended += 1;
        self.fastest = Some(self.fastest.map_or(cost, |fastest| fastest.min(cost)));
    }

    /// The least that so many further passes will take; `None` as long as that is not known.
    pub(super) fn at_least(&self, passes: usize) -> Option<Duration> {
        let fastest = self.fastest.filter(|_| self.ended >= Self::ENOUGH)?;
        Some(fastest.saturating_mul(u32::try_from(passes).unwrap_or(u32::MAX)))
    }
}

/// What the passes of a kind have cost.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Seconds per unit of size, averaged.
    average: f64,
    /// How many were measured.
    passes: u32,
    /// When the latest one ended.
    latest: Instant,
}

/// A pass that has not ended.
struct UnderWay {
    started: Instant,
    batch: Vec<Workload>,
}

impl UnderWay {
    fn elapsed_s(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.started).as_secs_f64()
    }
}

/// What a device does.
#[derive(Default)]
struct Running {
    under_way: Option<UnderWay>,
    /// End of the latest pass.
    ended: Option<Instant>,
}

/// Costs by kind, and the passes under way.
pub(super) struct Costs {
    measured: HashMap<Kind, Measured>,
    /// Over all kinds, for those that have not been measured.
    overall: Option<f64>,
    /// Of each device.
    devices: Vec<Running>,
}

impl Costs {
    /// The weight of the latest pass in an average: high enough to follow a change within a few passes.
    const LATEST: f64 = 0.25;
    /// One pass says little: it may have filled caches, or met a machine that did something else.
    const SURE_PASSES: u32 = 2;
    /// Averages that are older may be of a machine that was busier than it is now.
    const SURE_FOR: Duration = Duration::from_secs(300);
    /// Kinds that are remembered. There are as many as tasks in use; models that come and go must not add up.
    const MOST_KINDS: usize = 4096;

    /// Nothing measured yet, on so many devices: at least one.
    pub(super) fn new(devices: usize) -> Self {
        let devices = (0..devices).map(|_| Running::default()).collect();
        Self { measured: HashMap::new(), overall: None, devices }
    }

    /// How many devices there are.
    pub(super) fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Notes that a device starts a pass over these requests.
    pub(super) fn start(&mut self, device: usize, at: Instant, batch: Vec<Workload>) {
        self.devices[device].under_way = Some(UnderWay { started: at, batch });
    }

    /// Notes the end of a device's pass, whose input was asked for at `begun`. Returns what it cost: the time since then, or since
    /// the device's last pass ended if that was later. It includes waiting for input, which keeps others waiting too.
    pub(super) fn end(&mut self, device: usize, at: Instant, begun: Instant) -> Duration {
        let running = &mut self.devices[device];
        let from = running.ended.replace(at).map_or(begun, |ended| ended.max(begun));
        let cost = at.saturating_duration_since(from);
        if let Some(UnderWay { batch, .. }) = running.under_way.take() {
            let size: f64 = batch.iter().map(|work| work.size).sum();
            let latest = cost.as_secs_f64() / size.max(f64::MIN_POSITIVE);
            let follow = |average: f64, weight: f64| average + weight * (latest - average);
            self.overall = Some(self.overall.map_or(latest, |average| follow(average, Self::LATEST)));
            if self.measured.len() >= Self::MOST_KINDS {
                self.measured.clear();
            }
            if let Some(Workload { kind, .. }) = batch.first() {
                let before =
                    self.measured.get(kind).copied().unwrap_or(Measured { average: latest, passes: 0, latest: at });
                let passes = before.passes.saturating_add(1);
                // The first few count alike.
                let average = follow(before.average, Self::LATEST.max(1.0 / f64::from(passes)));
                self.measured.insert(*kind, Measured { average, passes, latest: at });
            }
        }
        cost
    }

    /// Whether what is said of a kind is no guess: it has been measured more than once, and lately.
    pub(super) fn is_sure(&self, kind: Kind, now: Instant) -> bool {
        self.measured.get(&kind).is_some_and(|measured| {
            measured.passes >= Self::SURE_PASSES && now.saturating_duration_since(measured.latest) < Self::SURE_FOR
        })
    }

    /// How long the longest pass under way has run.
    pub(super) fn running(&self, now: Instant) -> Option<Duration> {
        self.under_way().map(|pass| now.saturating_duration_since(pass.started)).max()
    }

    /// True if a device has nothing to do.
    pub(super) fn is_one_free(&self) -> bool {
        self.under_way().count() < self.devices()
    }

    fn under_way(&self) -> impl Iterator<Item = &UnderWay> {
        self.devices.iter().filter_map(|device| device.under_way.as_ref())
    }

    /// Seconds of a device for all passes of this work.
    pub(super) fn device_s(&self, work: &Workload, now: Instant) -> f64 {
        self.pass_s(work, now) * work.passes as f64
    }

    /// Seconds until all passes of this work are done, where nothing else is: the devices run them side by side.
    pub(super) fn alone_s(&self, work: &Workload, now: Instant) -> f64 {
        self.pass_s(work, now) * work.passes.div_ceil(self.devices()) as f64
    }

    /// Seconds for one pass of this work; 0 before anything has been measured.
    pub(super) fn pass_s(&self, work: &Workload, now: Instant) -> f64 {
        let alike = self.under_way().filter(|pass| pass.batch.iter().any(|running| running.kind == work.kind));
        // A pass that has already taken longer than usual says more about those who wait than the average does.
        let so_far = alike.map(|pass| {
            let size: f64 = pass.batch.iter().map(|running| running.size).sum();
            pass.elapsed_s(now) / size.max(f64::MIN_POSITIVE) * work.size
        });
        so_far.fold(self.usual_s(work), f64::max)
    }

    /// Seconds until a device is free that has nothing else to do once the devices together have spent `waiting_s` on what waits.
    pub(super) fn free_after_s(&self, waiting_s: f64, now: Instant) -> f64 {
        let left = |device: &Running| {
            let Some(pass) = &device.under_way else { return 0.0 };
            let usual: f64 = pass.batch.iter().map(|work| self.usual_s(work)).sum();
            (usual - pass.elapsed_s(now)).max(0.0)
        };
        let mut left: Vec<f64> = self.devices.iter().map(left).collect();
        left.sort_by(f64::total_cmp);
        // Those that are free first take what waits until the next one is free as well.
        let (mut busy, mut free_after) = (0.0, f64::INFINITY);
        for (before, left) in left.iter().enumerate() {
            if *left >= free_after {
                break;
            }
            busy += left;
            free_after = (busy + waiting_s) / (before + 1) as f64;
        }
        free_after
    }

    fn usual_s(&self, work: &Workload) -> f64 {
        self.measured.get(&work.kind).map(|measured| measured.average).or(self.overall).unwrap_or(0.0) * work.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(kind: &str, size: f64) -> Workload {
        Workload { kind: Kind::of(kind), size, passes: 1 }
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_pass_costs_by_its_kind_and_size_and_is_divided_among_those_who_shared_it() {
        let (mut costs, start) = (Costs::new(1), Instant::now());
        costs.start(0, start, vec![work("a", 1.0); 4]);
        costs.end(0, start + seconds(8.0), start);
        assert_eq!(costs.pass_s(&work("a", 3.0), start), 6.0);
        assert_eq!(costs.pass_s(&work("b", 1.0), start), 2.0, "what is not known costs like the rest");
        costs.start(0, start + seconds(8.0), vec![work("b", 1.0)]);
        costs.end(0, start + seconds(9.0), start);
        assert_eq!([costs.pass_s(&work("a", 1.0), start), costs.pass_s(&work("b", 1.0), start)], [2.0, 1.0]);
    }

    #[test]
    fn a_pass_that_takes_longer_than_usual_changes_what_is_expected() {
        let (mut costs, start) = (Costs::new(1), Instant::now());
        costs.start(0, start, vec![work("a", 1.0)]);
        assert_eq!(
            (costs.free_after_s(0.0, start + seconds(5.0)), costs.pass_s(&work("a", 2.0), start + seconds(5.0))),
            (0.0, 10.0)
        );
        costs.end(0, start + seconds(6.0), start);
        costs.start(0, start + seconds(6.0), vec![work("a", 1.0)]);
        let now = start + seconds(8.0);
        assert_eq!((costs.free_after_s(0.0, now), costs.running(now)), (4.0, Some(seconds(2.0))));
        assert_eq!(costs.pass_s(&work("b", 1.0), start + seconds(20.0)), 6.0, "it says nothing about other kinds");
    }

    #[test]
    fn a_kind_is_sure_after_two_passes_and_for_a_while() {
        let (mut costs, start) = (Costs::new(1), Instant::now());
        let kind = Kind::of("a");
        for (at, sure) in [(1.0, false), (2.0, true)] {
            costs.start(0, start + seconds(at - 1.0), vec![work("a", 1.0)]);
            costs.end(0, start + seconds(at), start + seconds(at - 1.0));
            assert_eq!(costs.is_sure(kind, start + seconds(at)), sure);
        }
        assert!(!costs.is_sure(Kind::of("b"), start + seconds(2.0)));
        assert!(!costs.is_sure(kind, start + seconds(302.0)));
    }

    #[test]
    fn waiting_for_input_is_part_of_the_cost() {
        let (mut costs, start) = (Costs::new(1), Instant::now());
        costs.start(0, start + seconds(2.0), vec![work("a", 1.0)]);
        assert_eq!(costs.end(0, start + seconds(3.0), start), seconds(3.0));
        costs.start(0, start + seconds(3.0), vec![work("a", 1.0)]);
        assert_eq!(costs.end(0, start + seconds(4.0), start), seconds(1.0), "read while the other ran");
    }

    #[test]
    fn devices_do_what_waits_together_from_when_each_is_free() {
        let (mut costs, start) = (Costs::new(2), Instant::now());
        let mut long = work("a", 1.0);
        costs.start(0, start, vec![long]);
        costs.end(0, start + seconds(1.0), start);
        let now = start + seconds(1.0);
        long.size = 10.0;
        costs.start(1, now, vec![long]);
        let free_after = |waiting_s| costs.free_after_s(waiting_s, now);
        assert_eq!([0.0, 4.0, 10.0, 20.0].map(free_after), [0.0, 4.0, 10.0, 15.0]);
        long.passes = 5;
        assert_eq!((costs.device_s(&long, now), costs.alone_s(&long, now)), (50.0, 30.0));
        assert!(costs.is_one_free());
        costs.start(0, now, vec![long]);
        assert!(!costs.is_one_free());
        assert_eq!(costs.running(now + seconds(2.0)), Some(seconds(2.0)));
    }
}
