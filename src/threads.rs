//! The threads that kernels run on: rayon's, one per processor that the process may use.

use std::io;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Starts rayon's global threads, each bound to a processor of its own, unless they have been started already.
///
/// If they were not bound, the system might wake two of them on one processor after a pause and leave another processor idle
/// for ten milliseconds or more, a third of a small network's pass. With fewer threads than processors (a container's share
/// of a large machine, or `RAYON_NUM_THREADS`), the system chooses the processors.
pub fn start() {
    // An error means that the threads have been started already, which is fine.
    let _ = ThreadPoolBuilder::new()
        .thread_name(|index| format!("kernel-{index}"))
        .start_handler(|index| bind(index, rayon::current_num_threads()))
        .build_global();
}

/// Runs `work` on one of these threads, so that its parallel parts begin at once instead of after another thread has woken
/// up.
pub fn run<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

/// The threads of one of several devices that are parts of this machine.
#[derive(Debug)]
pub struct Team(Option<ThreadPool>);

impl Team {
    /// Divides the threads among so many devices: all of them for one, equal parts for several, at least one each. Devices that ran on
    /// the same threads would take up each other's work in the middle of their own.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn divide(devices: usize) -> io::Result<Vec<Self>> {
        start();
        if devices <= 1 {
            return Ok(vec![Self(None)]);
        }
        let part = (rayon::current_num_threads() / devices).max(1);
        let team = |device: usize| {
            let pool = ThreadPoolBuilder::new()
                .num_threads(part)
                .thread_name(move |index| format!("kernel-{device}-{index}"))
                .start_handler(move |index| bind(device * part + index, devices * part));
            Ok(Self(Some(pool.build().map_err(io::Error::other)?)))
        };
        (0..devices).map(team).collect()
    }

    /// Runs `work` on one of these threads, as [`run`] does on all.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => run(work),
        }
    }
}

/// Binds the calling thread, one of `threads`, to a processor of its own if there is one for each.
#[cfg(target_os = "linux")]
fn bind(index: usize, threads: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let Ok(allowed) = sched_getaffinity(None) else { return };
    let processors: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect();
    if processors.len() == threads
        && let Some(processor) = processors.get(index)
    {
        let mut own = CpuSet::new();
        own.set(*processor);
        // If the system refuses, the thread stays unbound.
        let _ = sched_setaffinity(None, &own);
    }
}

#[cfg(not(target_os = "linux"))]
fn bind(_index: usize, _threads: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_on_one_of_them() {
        assert!(rayon::current_thread_index().is_none());
        assert!(run(|| rayon::current_thread_index().is_some()));
    }

    #[test]
    fn devices_side_by_side_have_threads_of_their_own() {
        let teams = Team::divide(2).unwrap();
        let threads = teams.iter().map(|team| team.run(|| (std::thread::current().id(), rayon::current_num_threads())));
        let [first, second] = threads.collect::<Vec<_>>()[..] else { panic!("there are two") };
        assert_ne!(first.0, second.0);
        assert_eq!([first.1, second.1], [(rayon::current_num_threads() / 2).max(1); 2]);
        assert_eq!(Team::divide(1).unwrap()[0].run(rayon::current_num_threads), rayon::current_num_threads());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn each_thread_has_a_processor_of_its_own_unless_they_are_fewer_or_more() {
        use rustix::thread::{CpuSet, sched_getaffinity};

        let processors = || {
            let allowed = sched_getaffinity(None).unwrap();
            (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect::<Vec<_>>()
        };
        let all = processors();
        for threads in [all.len(), all.len() + 1] {
            let bound = move |index| bind(index, threads);
            let pool = ThreadPoolBuilder::new().num_threads(threads).start_handler(bound).build().unwrap();
            let mut found = pool.broadcast(|_| processors());
            found.sort_unstable();
            let own: Vec<Vec<usize>> = all.iter().map(|processor| vec![*processor]).collect();
            assert_eq!(found, if threads == all.len() { own } else { vec![all.clone(); threads] });
        }
        assert_eq!(processors(), all);
    }
}
