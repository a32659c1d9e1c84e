//! Who makes a value that is missing: whoever gets its lease. The others ask again until the value is there or the lease ends.
//!
//! A lease is a key with the holder's token and a short expiry, which the holder renews while it works: if it dies, others go on after
//! [`LENGTH`]. It is renewed and removed by comparing tokens, so that one that was slow does not touch another's lease.

use std::time::Duration;

use bytes::Bytes;
use redis::Cmd;

use super::{Looked, SharedCache, Unanswered, value_key};

/// How long a lease outlives its last renewal.
const LENGTH: Duration = Duration::from_secs(2);

/// Longest wait for another server's value. Then it is made here, too: two equal values do no harm.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Pauses between questions for another server's value, each half as long again as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Longest wait for what no request waits for: a value to be written, a lease to be renewed.
const WRITE_PATIENCE: Duration = Duration::from_secs(1);

/// Renews the lease at KEYS[1] with the token ARGV[1] for ARGV[2] milliseconds.
const RENEW: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";

/// Removes the lease at KEYS[1] with the token ARGV[1].
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// The right to make a value; others wait for it if it has a lease. The lease ends with it.
pub struct Turn {
    cache: SharedCache,
    name: String,
    /// `None` if the value may be made by several at once.
    token: Option<String>,
}

/// Takes the lease of a value that is not there, or waits for the value while another one has the lease.
pub(super) async fn take_or_wait(cache: &SharedCache, name: &str) -> Looked {
    let turn = |token: Option<&String>| Turn { cache: cache.clone(), name: name.to_owned(), token: token.cloned() };
    let Ok(token) = getrandom::u64().map(|token| format!("{token:016x}")) else { return Looked::Missing(turn(None)) };
    let ended = tokio::time::Instant::now() + LONGEST_WAIT;
    let mut pause = FIRST_PAUSE;
    loop {
        let mut take = Cmd::new();
        take.arg("SET").arg(lease_key(name)).arg(&token).arg("NX").arg("PX").arg(LENGTH.as_millis() as u64);
        let taken: Option<Option<String>> = cache.shared.link.change("lease", cache.shared.patience, &take).await;
        let Some(taken) = taken else { return Looked::Missing(turn(None)) };
        let turn = turn(taken.is_some().then_some(&token));
        match cache.read(name).await {
            // It came between the two questions; a lease that was taken is given back.
            Ok(Some(found)) => return Looked::Found(found),
            Err(Unanswered) => return Looked::Missing(turn),
            Ok(None) if taken.is_some() => return Looked::Missing(turn),
            Ok(None) if tokio::time::Instant::now() + pause > ended => return Looked::Missing(turn),
            Ok(None) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

impl Turn {
    pub(super) fn without_lease(cache: SharedCache, name: &str) -> Self {
        Self { cache, name: name.to_owned(), token: None }
    }

    /// Does the work, and keeps the lease meanwhile.
    pub async fn during<W: Future>(&self, work: W) -> W::Output {
        tokio::select! {
            made = work => made,
            made = self.keep() => made,
        }
    }

    /// Keeps the lease for ever.
    async fn keep<T>(&self) -> T {
        loop {
            tokio::time::sleep(LENGTH / 3).await;
            let Some(token) = &self.token else { continue };
            let mut renew = script(RENEW, &self.name, token);
            renew.arg(LENGTH.as_millis() as u64);
            // If it is lost, the worst is that somebody else makes the same value.
            let _: Option<i64> = self.cache.shared.link.change("lease", WRITE_PATIENCE, &renew).await;
        }
    }

    /// Stores the value in the background, unless it is too large or too many are being stored, and then ends the lease.
    pub fn store(self, value: Bytes) {
        let shared = self.cache.shared.clone();
        if value.is_empty() || value.len() as u64 > shared.max_entry_bytes {
            return;
        }
        let Ok(place) = shared.writes.clone().try_acquire_owned() else { return };
        let turn = self;
        tokio::spawn(async move {
            let mut write = Cmd::new();
            let expiry_ms = shared.expiry.as_millis().max(1) as u64;
            write.arg("SET").arg(value_key(&turn.name)).arg(&value[..]).arg("PX").arg(expiry_ms);
            let _: Option<()> = shared.link.change("write", WRITE_PATIENCE, &write).await;
            // The lease ends when the value is there.
            drop((turn, place));
        });
    }
}

impl Drop for Turn {
    /// Ends the lease at once, so that others need not wait for a value that does not come.
    fn drop(&mut self) {
        // Without a runtime the process ends, and the lease soon after.
        let (Some(token), Ok(runtime)) = (self.token.take(), tokio::runtime::Handle::try_current()) else { return };
        let (shared, name) = (self.cache.shared.clone(), std::mem::take(&mut self.name));
        runtime.spawn(async move {
            let _: Option<i64> = shared.link.change("lease", WRITE_PATIENCE, &script(RELEASE, &name, &token)).await;
        });
    }
}

/// A script on the lease of a value, with a token as its first argument.
fn script(text: &str, name: &str, token: &str) -> Cmd {
    let mut command = Cmd::new();
    command.arg("EVAL").arg(text).arg(1).arg(lease_key(name)).arg(token);
    command
}

fn lease_key(name: &str) -> String {
    format!("satlas:lease:{name}")
}
