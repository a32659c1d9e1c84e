//! The threads that read and warp. They are separate from the kernels' threads, because a warp may wait for a slow host and must
//! not hold up inference.

use std::sync::LazyLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Least number of threads; they spend part of their time waiting.
const MIN_THREADS: usize = 8;

static READERS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).max(MIN_THREADS);
    let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("reader-{index}")).build();
    pool.inspect_err(|error| tracing::warn!("no threads for reading: {error}; those of the networks read")).ok()
});

/// Runs `work` and its parallel parts on the reader threads, or on the caller's if they could not be started.
pub(crate) fn on_readers<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    match &*READERS {
        Some(readers) => readers.install(work),
        None => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn readers_that_wait_leave_the_other_threads_alone() {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).max(MIN_THREADS);
        let (gates, waits): (Vec<_>, Vec<_>) = (0..2 * threads).map(|_| mpsc::channel::<()>()).unzip();
        let readers: Vec<_> = waits
            .into_iter()
            .map(|wait| std::thread::spawn(move || on_readers(move || wait.recv_timeout(Duration::from_secs(60)))))
            .collect();
        let (done, finished) = mpsc::channel();
        rayon::spawn(move || done.send(rayon::current_num_threads()).expect("the test waits"));
        assert!(finished.recv_timeout(Duration::from_secs(20)).is_ok(), "a kernel waits for a reader");
        gates.iter().for_each(|gate| gate.send(()).expect("a reader waits"));
        assert!(readers.into_iter().all(|reader| reader.join().is_ok_and(|answer| answer.is_ok())));
    }
}
