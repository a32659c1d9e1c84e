//! Blocking work that ends with its request.
//!
//! A thread that decodes cannot be stopped from outside, so it asks between pieces. The question is kept with the thread,
//! because it concerns every reader of every format, and none of them passes it on.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// The work that this thread does now.
    static CURRENT: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// The request has ended, so nobody waits for the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request has ended")]
pub struct Ended;

/// A request's hold on the work that was started for it: the work is told to end when this is dropped.
#[derive(Debug, Default)]
pub struct Work {
    ended: Arc<AtomicBool>,
}

impl Work {
    /// Wraps blocking work, which must run on one thread, so that [`Work::check`] within it tells whether `self` is gone.
    pub fn of<T, W: FnOnce() -> T>(&self, work: W) -> impl FnOnce() -> T + use<T, W> {
        let ended = self.ended.clone();
        move || {
            let before = CURRENT.replace(Some(ended));
            let _restore = Restore(before);
            work()
        }
    }

    /// Wraps what this thread does on other threads, so that they learn of the end of its work as well.
    pub fn shared<T>(work: impl Fn() -> T) -> impl Fn() -> T {
        let ended = CURRENT.with_borrow(Clone::clone);
        move || {
            let _restore = Restore(CURRENT.replace(ended.clone()));
            work()
        }
    }

    /// To be asked between pieces of work that may take long.
    ///
    /// # Errors
    /// [`Ended`] if nobody waits for the work that this thread does.
    pub fn check() -> Result<(), Ended> {
        let ended = CURRENT.with_borrow(|current| current.as_ref().is_some_and(|ended| ended.load(Ordering::Relaxed)));
        if ended { Err(Ended) } else { Ok(()) }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Puts back what the thread did before, also after a panic.
struct Restore(Option<Arc<AtomicBool>>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_threads_that_help_learn_it_too() {
        let request = Work::default();
        let work = request.of(|| {
            let helper = Work::shared(Work::check);
            std::thread::scope(|scope| scope.spawn(helper).join().unwrap())
        });
        drop(request);
        assert_eq!(work(), Err(Ended));
    }

    #[test]
    fn work_learns_that_its_request_is_gone() {
        let request = Work::default();
        assert_eq!(request.of(Work::check)(), Ok(()));
        let work = request.of(Work::check);
        drop(request);
        assert_eq!(work(), Err(Ended));
        assert_eq!(Work::check(), Ok(()), "the thread is free again");
    }
}
