//! Waits between attempts at something that may pass: doubled each time, or as long as the host asks.

use std::time::Duration;

/// Attempts at one answer.
#[derive(Clone, Debug)]
pub(crate) struct Retries {
    attempts: u32,
    first_delay: Duration,
    max_delay: Duration,
    failed: u32,
}

impl Retries {
    /// At most `attempts` in a row that bring nothing. The first wait takes `first_delay`, and no wait takes longer than `max_delay`.
    pub(crate) fn new(attempts: u32, first_delay: Duration, max_delay: Duration) -> Self {
        Self { attempts, first_delay, max_delay, failed: 0 }
    }

    /// Waits until the next attempt, `asked` if the host has named a time; false without waiting if all attempts are spent.
    pub(crate) fn wait(&mut self, asked: Option<Duration>) -> bool {
        let Some(delay) = self.delay(asked) else { return false };
        std::thread::sleep(delay);
        true
    }

    /// How many attempts have failed in a row.
    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }

    /// Counts from the beginning, because the last attempt brought a part.
    pub(crate) fn progressed(&mut self) {
        self.failed = 0;
    }

    fn delay(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.failed += 1;
        let doubled = self.first_delay.saturating_mul(1u32.checked_shl(self.failed - 1).unwrap_or(u32::MAX));
        (self.failed < self.attempts).then(|| asked.unwrap_or(doubled).min(self.max_delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_limit_and_attempts_end() {
        let second = Duration::from_secs(1);
        let mut retries = Retries::new(4, second, 3 * second);
        assert_eq!([(); 4].map(|()| retries.delay(None)), [Some(second), Some(2 * second), Some(3 * second), None]);
        retries.progressed();
        assert_eq!(retries.delay(Some(second / 2)), Some(second / 2));
        assert_eq!(retries.delay(Some(9 * second)), Some(3 * second));
        assert_eq!(retries.failed(), 2);
    }
}
