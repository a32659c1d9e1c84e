//! A limit on simultaneous requests per host.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::sync::IgnorePoison;

/// Simultaneous requests per host.
const MAX_PER_HOST: usize = 16;

/// Counts the requests under way at each host.
#[derive(Debug, Default)]
pub(super) struct HostLimiter {
    under_way: Mutex<HashMap<String, usize>>,
    freed: Condvar,
}

/// Permission for one request, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    limiter: &'a HostLimiter,
    host: String,
}

impl HostLimiter {
    /// Waits until a request may be sent to `host`; `None` if that takes longer than `timeout`.
    pub(super) fn enter(&self, host: &str, timeout: Duration) -> Option<Permit<'_>> {
        let deadline = Instant::now() + timeout;
        let mut under_way = self.under_way.lock().ignore_poison();
        loop {
            let count = under_way.entry(host.to_owned()).or_default();
            if *count < MAX_PER_HOST {
                *count += 1;
                return Some(Permit { limiter: self, host: host.to_owned() });
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            under_way = self.freed.wait_timeout(under_way, left).ignore_poison().0;
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut under_way = self.limiter.under_way.lock().ignore_poison();
        if let Some(count) = under_way.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.host);
            }
        }
        drop(under_way);
        self.limiter.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_gets_so_many_requests_and_others_do_not_wait_for_it() {
        let limiter = HostLimiter::default();
        let permits: Vec<_> = (0..MAX_PER_HOST).map(|_| limiter.enter("a", Duration::ZERO).expect("a place")).collect();
        assert!(limiter.enter("a", Duration::from_millis(5)).is_none());
        assert!(limiter.enter("b", Duration::ZERO).is_some());
        drop(permits);
        assert!(limiter.enter("a", Duration::ZERO).is_some());
        assert!(limiter.under_way.lock().expect("no panic").is_empty());
    }
}
