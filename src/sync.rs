//! Taking locks that a panic may have poisoned.

use std::sync::{LockResult, PoisonError};

/// Takes what a lock guards, whether or not a thread panicked while it held the lock.
///
/// A panic in one request must not fail every later one. Code in this crate holds its locks for single look-ups, inserts and
/// removals, which leave no value half changed, so a poisoned lock guards a usable value.
pub(crate) trait IgnorePoison {
    /// The guard, or the value itself when the lock is taken apart.
    type Guarded;

    /// The guarded value, poisoned or not.
    fn ignore_poison(self) -> Self::Guarded;
}

impl<Guarded> IgnorePoison for LockResult<Guarded> {
    type Guarded = Guarded;

    fn ignore_poison(self) -> Guarded {
        self.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_panic_under_the_lock_leaves_the_value_in_reach() {
        let count = Mutex::new(1);
        let panicked = std::thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let _held = count.lock();
                std::panic::resume_unwind(Box::new("while the lock is held"));
            });
            holder.join()
        });
        assert!(panicked.is_err() && count.is_poisoned());
        assert_eq!(*count.lock().ignore_poison(), 1);
    }
}
