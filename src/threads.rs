//! The threads that kernels run on: rayon's, one per processor that the process may use.

/// Starts rayon's global threads, each bound to a processor of its own, unless they have been started already.
///
/// If they were not bound, the system might wake two of them on one processor after a pause and leave another processor idle
/// for ten milliseconds or more, a third of a small network's pass. With fewer threads than processors (a container's share
/// of a large machine, or `RAYON_NUM_THREADS`), the system chooses the processors.
pub fn start() {
    // An error means that the threads have been started already, which is fine.
    let _ =
        rayon::ThreadPoolBuilder::new().thread_name(|index| format!("kernel-{index}")).start_handler(bind).build_global();
}

/// Runs `work` on one of these threads, so that its parallel parts begin at once instead of after another thread has woken
/// up.
pub fn run<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

#[cfg(target_os = "linux")]
fn bind(index: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let Ok(allowed) = sched_getaffinity(None) else { return };
    let processors: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect();
    if processors.len() == rayon::current_num_threads()
        && let Some(processor) = processors.get(index)
    {
        let mut own = CpuSet::new();
        own.set(*processor);
        // If the system refuses, the thread stays unbound.
        let _ = sched_setaffinity(None, &own);
    }
}

#[cfg(not(target_os = "linux"))]
fn bind(_index: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_on_one_of_them() {
        assert!(rayon::current_thread_index().is_none());
        assert!(run(|| rayon::current_thread_index().is_some()));
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
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).start_handler(bind).build().unwrap();
            let mut found = pool.broadcast(|_| processors());
            found.sort_unstable();
            let own: Vec<Vec<usize>> = all.iter().map(|processor| vec![*processor]).collect();
            assert_eq!(found, if threads == all.len() { own } else { vec![all.clone(); threads] });
        }
        assert_eq!(processors(), all);
    }
}
