//! The process's memory for work on requests, in two shares with a line each.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use futures::channel::oneshot;

use super::work::Work;
use crate::error::ErrorKind;
use crate::sync::IgnorePoison;

/// Longest wait of a thread for memory to decode; others give theirs back within a chunk's time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a waiting thread looks whether its request has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Why memory is not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// More than there will ever be.
    #[error("{what} needs {needed} bytes of memory at once; the limit is {limit} (half of --request-memory)")]
    TooLarge {
        /// What the memory is for.
        what: &'static str,
        /// Bytes asked for.
        needed: u64,
        /// Bytes that there are at most.
        limit: u64,
    },
    /// Other requests hold it, and none gave enough back in time.
    #[error("{what} needs {needed} bytes of memory, which other requests hold (--request-memory); try again")]
    Busy {
        /// What the memory is for.
        what: &'static str,
        /// Bytes asked for.
        needed: u64,
    },
    /// The request has ended while it waited.
    #[error("the request has ended")]
    Ended,
}

impl BudgetError {
    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Busy { .. } => ErrorKind::Overloaded,
            Self::Ended => ErrorKind::TimedOut,
        }
    }
}

/// The memory for work on requests; clones share it.
#[derive(Clone)]
pub struct MemoryBudget {
    decoding: Arc<Share>,
    answers: Arc<Share>,
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = |share: &Share| share.state.lock().ignore_poison().free;
        f.debug_struct("MemoryBudget")
            .field("free_decoding", &free(&self.decoding))
            .field("free_answers", &free(&self.answers))
            .finish()
    }
}

impl MemoryBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Self {
        let share =
            |bytes| Arc::new(Share { limit: bytes, state: Mutex::new(Ledger { free: bytes, line: VecDeque::new() }) });
        Self { decoding: share(bytes / 2), answers: share(bytes / 2) }
    }

    /// No limit, for the command line and for tests.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Waits for memory to decode with. The thread must not wait for other memory while it holds it.
    ///
    /// # Errors
    /// [`BudgetError`] if it is more than there is, if no one gives enough back for a minute, or if the request ends.
    pub fn decoding(&self, what: &'static str, bytes: u64) -> Result<MemoryGrant, BudgetError> {
        let mut granted = self.decoding.ask(what, bytes)?;
        let (started, waker) = (Instant::now(), Waker::from(Arc::new(Unpark(std::thread::current()))));
        let mut context = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut granted).poll(&mut context) {
                Poll::Ready(Ok(grant)) => return Ok(grant),
                Poll::Pending if Work::check().is_err() => return Err(BudgetError::Ended),
                Poll::Pending if started.elapsed() < PATIENCE => std::thread::park_timeout(LOOK),
                _ => return Err(BudgetError::Busy { what, needed: bytes }),
            }
        }
    }

    /// Waits for the memory of an answer. Dropping the future gives the place in line back.
    ///
    /// # Errors
    /// [`BudgetError::TooLarge`].
    pub async fn answer(&self, what: &'static str, bytes: u64) -> Result<MemoryGrant, BudgetError> {
        let granted = self.answers.ask(what, bytes)?;
        granted.await.map_err(|_| BudgetError::Busy { what, needed: bytes })
    }

    /// The bytes of the answers' share, free or not.
    pub fn most_for_answers(&self) -> u64 {
        self.answers.limit
    }

    /// Memory of the answers' share if that much is free now.
    pub fn spare(&self, bytes: u64) -> Option<MemoryGrant> {
        let mut state = self.answers.state.lock().ignore_poison();
        if !state.line.is_empty() {
            return None;
        }
        state.free = state.free.checked_sub(bytes)?;
        Some(MemoryGrant { share: self.answers.clone(), bytes })
    }
}

/// Memory that its owner may use until this is dropped.
pub struct MemoryGrant {
    share: Arc<Share>,
    bytes: u64,
}

impl fmt::Debug for MemoryGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryGrant").field("bytes", &self.bytes).finish()
    }
}

impl Drop for MemoryGrant {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.share.state.lock().ignore_poison().free += self.bytes;
            Share::serve(&self.share);
        }
    }
}

/// Wakes a thread that waits for a grant.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

struct Share {
    limit: u64,
    state: Mutex<Ledger>,
}

struct Ledger {
    free: u64,
    /// How many bytes everyone who waits needs, the longest wait first.
    line: VecDeque<(u64, oneshot::Sender<MemoryGrant>)>,
}

impl Share {
    fn ask(self: &Arc<Self>, what: &'static str, bytes: u64) -> Result<oneshot::Receiver<MemoryGrant>, BudgetError> {
        if bytes > self.limit {
            return Err(BudgetError::TooLarge { what, needed: bytes, limit: self.limit });
        }
        let (send, granted) = oneshot::channel();
        if bytes == 0 {
            // The receiver is here, so it cannot fail.
            let _ = send.send(MemoryGrant { share: self.clone(), bytes });
            return Ok(granted);
        }
        self.state.lock().ignore_poison().line.push_back((bytes, send));
        Self::serve(self);
        Ok(granted)
    }

    /// Serves the line from its front for as long as the free memory reaches. Small ones do not overtake, or large ones would
    /// wait for ever.
    fn serve(share: &Arc<Self>) {
        let mut state = share.state.lock().ignore_poison();
        while let Some((bytes, asked)) = state.line.pop_front() {
            if asked.is_canceled() {
                continue;
            }
            if bytes > state.free {
                state.line.push_front((bytes, asked));
                return;
            }
            state.free -= bytes;
            if let Err(mut undelivered) = asked.send(MemoryGrant { share: share.clone(), bytes }) {
                // Given back here, because its end would take the lock that is held.
                undelivered.bytes = 0;
                state.free += bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn memory_is_given_in_the_order_it_was_asked_for() {
        let budget = MemoryBudget::new(20);
        let first = budget.answer("a", 6).now_or_never().unwrap().unwrap();
        let mut large = Box::pin(budget.answer("b", 8));
        let mut small = Box::pin(budget.answer("c", 1));
        assert!(large.as_mut().now_or_never().is_none() && small.as_mut().now_or_never().is_none());
        assert!(budget.spare(1).is_none(), "nobody overtakes");
        drop(first);
        let large = large.now_or_never().unwrap().unwrap();
        assert!(small.now_or_never().is_some());
        drop(large);
        assert!(budget.spare(10).is_some());
    }

    #[test]
    fn who_leaves_the_line_leaves_nothing_behind() {
        let budget = MemoryBudget::new(20);
        let held = budget.spare(10).unwrap();
        let mut waiting = Box::pin(budget.answer("a", 10));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(waiting);
        drop(held);
        assert!(budget.spare(10).is_some());
    }

    #[test]
    fn what_can_never_fit_is_too_large_and_says_the_limit() {
        let budget = MemoryBudget::new(20);
        let refused = budget.decoding("a chunk", 11).unwrap_err();
        assert_eq!(refused, BudgetError::TooLarge { what: "a chunk", needed: 11, limit: 10 });
        assert!(refused.to_string().contains("the limit is 10"));
    }

    #[test]
    fn a_thread_waits_until_another_gives_back_or_its_request_ends() {
        let budget = MemoryBudget::new(20);
        let held = budget.decoding("a", 10).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| budget.decoding("b", 10).map(drop));
            std::thread::sleep(Duration::from_millis(5));
            drop(held);
            assert_eq!(other.join().unwrap(), Ok(()));
        });
        let held = budget.decoding("a", 10).unwrap();
        let request = Work::default();
        let work = request.of(|| budget.decoding("b", 1).map(drop));
        drop(request);
        assert_eq!(work(), Err(BudgetError::Ended));
        drop(held);
        assert!(budget.decoding("a", 10).is_ok());
    }
}
