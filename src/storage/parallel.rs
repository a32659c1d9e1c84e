//! Work that waits for other machines, several pieces at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::budget::Work;
use crate::sync::IgnorePoison;

/// Requests under way for one caller.
const PARALLEL: usize = 8;

/// The results of `work` for `0 .. count` in order, from threads of their own because they wait for the network, not the CPU.
pub(crate) fn in_parallel<T: Send, E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    if count <= 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<T, E>)>> = Mutex::default();
    let take_turns = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            let result = work(index);
            if result.is_err() {
                // Start no more work after a failure.
                next.store(count, Ordering::Relaxed);
            }
            done.lock().ignore_poison().push((index, result));
        }
    };
    let helper = Work::shared(take_turns);
    std::thread::scope(|scope| {
        // This thread is one of them. If the system refuses others, it does the work alone.
        for _ in 1..count.min(PARALLEL) {
            let started = std::thread::Builder::new().spawn_scoped(scope, &helper);
            if started.is_err() {
                break;
            }
        }
        helper();
    });
    drop(helper);
    let mut done = done.into_inner().ignore_poison();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_results_keep_their_order_and_an_error_ends_them() {
        let squares = in_parallel(100, |index| Ok::<_, ()>(index * index)).expect("no error");
        assert_eq!(squares, (0..100).map(|index| index * index).collect::<Vec<_>>());
        assert_eq!(in_parallel(100, |index| if index == 50 { Err(index) } else { Ok(index) }), Err(50));
    }
}
