//! A cache that several servers share: encoded tiles in Redis or Valkey, behind each server's own cache.
//!
//! It can only help. Every question has a bound of a few ten milliseconds, and once the cache has failed, nobody asks it until it answers
//! again: losing it makes a server slower, and never fails a request. One server at a time makes a value that is missing; the others
//! wait for it, within a bound, as long as it holds its lease.
//!
//! | file | what it does |
//! | --- | --- |
//! | `url` | where the cache is |
//! | `connection` | reaching it, over TLS where asked |
//! | `link` | one connection at a time, its failures, and its return |
//! | `lease` | who makes a value, and who waits |

mod connection;
#[cfg(test)]
pub(crate) mod fake_server;
mod lease;
mod link;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Cmd;
use tokio::sync::Semaphore;

pub use self::lease::Turn;
use self::link::Link;
pub use self::url::RedisUrl;
use crate::storage::Authorities;
use crate::telemetry::CACHE_LOOKUPS_TOTAL;

/// Values that are being written at a time; further ones are not written.
const MOST_WRITES: usize = 32;

/// Where values are, and which are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedCacheOptions {
    /// The server that keeps them.
    pub url: RedisUrl,
    /// Larger values are not kept.
    pub max_entry_bytes: u64,
    /// How long a value is kept.
    pub expiry: Duration,
    /// Longest wait for an answer on a tile's path.
    pub patience: Duration,
}

/// The cache; clones share its connection.
#[derive(Clone)]
pub struct SharedCache {
    shared: Arc<Shared>,
}

struct Shared {
    link: Arc<Link>,
    /// Longest wait for the answer to a question on a tile's path.
    patience: Duration,
    max_entry_bytes: u64,
    expiry: Duration,
    writes: Arc<Semaphore>,
}

impl fmt::Debug for SharedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shared.link)
    }
}

/// What a look-up found.
pub enum Looked {
    /// The value.
    Found(Bytes),
    /// There is none: the caller has to make it, and should then [store](Turn::store) it.
    Missing(Turn),
}

impl SharedCache {
    /// A cache that is connected to in the background, from the first look-up on.
    pub fn new(options: &SharedCacheOptions, authorities: Authorities) -> Self {
        let SharedCacheOptions { url, max_entry_bytes, expiry, patience } = options;
        let shared = Shared {
            link: Link::new(url.clone(), authorities),
            patience: *patience,
            max_entry_bytes: *max_entry_bytes,
            expiry: *expiry,
            writes: Arc::new(Semaphore::new(MOST_WRITES)),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Begins to connect, so that the first look-up finds a connection. Needs a Tokio runtime.
    pub fn connect(&self) {
        // Without a connection, one is begun.
        let _ = self.shared.link.connection();
    }

    /// The value with this name. If another server is making it, waits for it, within a bound.
    pub async fn look_up(&self, name: &str) -> Looked {
        let looked = match self.read(name).await {
            Ok(Some(found)) => Looked::Found(found),
            Ok(None) => lease::take_or_wait(self, name).await,
            Err(Unanswered) => {
                count("failed");
                return Looked::Missing(self.turn(name));
            }
        };
        count(if matches!(looked, Looked::Found(_)) { "hit" } else { "miss" });
        looked
    }

    /// The right to store a value that nobody waits for, for one whose stored value cannot be used.
    pub fn turn(&self, name: &str) -> Turn {
        Turn::without_lease(self.clone(), name)
    }

    /// The value, if there is one that is not too large.
    async fn read(&self, name: &str) -> Result<Option<Bytes>, Unanswered> {
        // Unlike GET, this bounds what another version of the server, or another program, may have put there.
        let mut question = Cmd::new();
        question.arg("GETRANGE").arg(value_key(name)).arg(0).arg(self.shared.max_entry_bytes);
        let value: Vec<u8> = self.shared.link.ask("read", self.shared.patience, &question).await.ok_or(Unanswered)?;
        let is_value = !value.is_empty() && value.len() as u64 <= self.shared.max_entry_bytes;
        Ok(is_value.then(|| value.into()))
    }
}

/// The cache is away, or did not answer in time.
struct Unanswered;

/// Where the value with a name is.
fn value_key(name: &str) -> String {
    format!("satlas:tile:{name}")
}

fn count(outcome: &'static str) {
    metrics::counter!(CACHE_LOOKUPS_TOTAL, "cache" => "shared", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests;
