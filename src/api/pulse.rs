//! Whether the threads that do the work still do it. Liveness fails when they do not: then only a restart helps.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::sync::IgnorePoison;

/// How often a blocking thread is asked for a sign of life.
const BEAT: Duration = Duration::from_secs(1);
/// Without a sign of life for so long, all blocking threads count as stuck. Reading and encoding take seconds each.
const BLOCKING_LIMIT: Duration = Duration::from_secs(60);
/// A pass that has run for so long counts as stuck. On a slow machine a large one takes a minute.
const PASS_LIMIT: Duration = Duration::from_secs(600);

/// The latest sign of life of the blocking threads; none before they are first asked.
#[derive(Default)]
pub(super) struct Pulse(Mutex<Option<Instant>>);

impl Pulse {
    /// Asks the blocking threads for signs of life, for ever.
    pub(super) async fn keep(&self) {
        *self.0.lock().ignore_poison() = Some(Instant::now());
        loop {
            // Waits while all threads are at work.
            if tokio::task::spawn_blocking(|| ()).await.is_ok() {
                *self.0.lock().ignore_poison() = Some(Instant::now());
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    /// What is stuck, if anything is; `pass` is how long the pass under way has run.
    pub(super) fn stuck(&self, pass: Option<Duration>, now: Instant) -> Option<String> {
        let silent = self.0.lock().ignore_poison().map(|beat| now.saturating_duration_since(beat));
        if let Some(silent) = silent.filter(|silent| *silent > BLOCKING_LIMIT) {
            return Some(format!("no blocking thread has been free for {} s", silent.as_secs()));
        }
        let pass = pass.filter(|pass| *pass > PASS_LIMIT)?;
        Some(format!("a forward pass has run for {} s", pass.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_endless_passes_are_told() {
        let (pulse, now) = (Pulse::default(), Instant::now());
        assert_eq!(pulse.stuck(None, now + 10 * BLOCKING_LIMIT), None, "nobody has asked yet");
        *pulse.0.lock().unwrap() = Some(now);
        assert_eq!(pulse.stuck(Some(PASS_LIMIT), now + BLOCKING_LIMIT), None);
        assert!(pulse.stuck(None, now + 2 * BLOCKING_LIMIT).is_some_and(|stuck| stuck.contains("120 s")));
        assert!(pulse.stuck(Some(2 * PASS_LIMIT), now).is_some_and(|stuck| stuck.contains("1200 s")));
    }

    #[test]
    fn blocking_threads_that_are_all_at_work_give_no_sign_of_life() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
        let pulse = Pulse::default();
        let beat = || *pulse.0.lock().unwrap();
        let scenario = async {
            let (release, held) = std::sync::mpsc::channel::<()>();
            let _stuck = tokio::task::spawn_blocking(move || held.recv());
            // Only then is the other future polled, and its sign of life queued behind.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let first = beat();
            assert!(first.is_some());
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(beat(), first);
            drop(release);
            while beat() == first {
                tokio::task::yield_now().await;
            }
        };
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = scenario => {}
                () = pulse.keep() => {}
            }
        });
    }
}
