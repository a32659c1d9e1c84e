//! One connection at a time: a circuit breaker. Once the cache has failed, nobody asks it until a new connection answers.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisError};

use super::connection::{Connection, connect};
use super::url::RedisUrl;
use crate::storage::Authorities;
use crate::sync::IgnorePoison;
use crate::telemetry::{SHARED_CACHE_SECONDS, SHARED_CACHE_UP};

/// Questions in a row that are not answered in time, or with an error, until the connection is given up.
const MOST_FAILURES: u32 = 3;

/// Pauses between attempts to connect, each twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The connection, or the lack of one.
pub(super) struct Link {
    url: RedisUrl,
    authorities: Authorities,
    state: Mutex<State>,
    /// True from a change that the cache refused, because its memory is full, say, until one that it took.
    refuses_changes: AtomicBool,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// Counts connections, so that a question that was asked over an earlier one does not close a later one.
    generation: u64,
    /// Unanswered questions since the last answer.
    failures: u32,
    /// True while a task tries to connect.
    is_connecting: bool,
    /// Since when there is no connection, once that has been logged.
    away_since: Option<Instant>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)
    }
}

impl Link {
    pub(super) fn new(url: RedisUrl, authorities: Authorities) -> Arc<Self> {
        Arc::new(Self { url, authorities, state: Mutex::default(), refuses_changes: AtomicBool::new(false) })
    }

    /// The answer to a question; `None` if there is none in time, the cache fails, or it has failed and not come back yet.
    pub(super) async fn ask<T: FromRedisValue>(
        self: &Arc<Self>,
        call: &'static str,
        patience: Duration,
        question: &Cmd,
    ) -> Option<T> {
        self.send(call, patience, question).await?.ok()
    }

    /// Asks for a change, which the cache may refuse while it goes on answering questions. `None` as with [`Link::ask`].
    pub(super) async fn change<T: FromRedisValue>(
        self: &Arc<Self>,
        call: &'static str,
        patience: Duration,
        change: &Cmd,
    ) -> Option<T> {
        match self.send(call, patience, change).await? {
            Ok(answer) => {
                self.refuses_changes.store(false, Ordering::Relaxed);
                Some(answer)
            }
            Err(error) => {
                if !self.refuses_changes.swap(true, Ordering::Relaxed) {
                    tracing::warn!(cache = %self.url, %error, "the shared cache takes no new tiles");
                }
                None
            }
        }
    }

    /// The connection and its generation; if there is none, one is being made.
    pub(super) fn connection(self: &Arc<Self>) -> Option<(MultiplexedConnection, u64)> {
        let mut state = self.state.lock().ignore_poison();
        if state.connection.is_none()
            && !state.is_connecting
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            state.is_connecting = true;
            runtime.spawn(reconnect(Arc::downgrade(self)));
        }
        state.connection.as_ref().map(|connection| (connection.line.clone(), state.generation))
    }

    /// The inner error is the cache's own; it leaves the connection in use.
    async fn send<T: FromRedisValue>(
        self: &Arc<Self>,
        call: &'static str,
        patience: Duration,
        command: &Cmd,
    ) -> Option<Result<T, RedisError>> {
        let (mut line, generation) = self.connection()?;
        let asked = Instant::now();
        let answer = tokio::time::timeout(patience, command.query_async::<T>(&mut line)).await;
        metrics::histogram!(SHARED_CACHE_SECONDS, "call" => call).record(asked.elapsed());
        match answer {
            Ok(Ok(answer)) => {
                self.state.lock().ignore_poison().failures = 0;
                Some(Ok(answer))
            }
            Ok(Err(error)) if error.is_connection_dropped() || error.is_io_error() => {
                self.give_up(generation, MOST_FAILURES, &error.to_string());
                None
            }
            Ok(Err(error)) => {
                if call == "read" {
                    self.give_up(generation, 1, &error.to_string());
                }
                Some(Err(error))
            }
            Err(_) => {
                self.give_up(generation, 1, &format!("no answer within {} ms", patience.as_millis()));
                None
            }
        }
    }

    /// Counts failures and closes the connection if they are too many.
    fn give_up(&self, generation: u64, failures: u32, reason: &str) {
        let mut state = self.state.lock().ignore_poison();
        if state.generation != generation {
            return;
        }
        state.failures += failures;
        if state.failures >= MOST_FAILURES && state.connection.take().is_some() {
            self.note_away(&mut state, reason);
        }
    }

    /// Logs the begin of an outage, once.
    fn note_away(&self, state: &mut State, reason: &str) {
        metrics::gauge!(SHARED_CACHE_UP).set(0.0);
        if state.away_since.is_none() {
            state.away_since = Some(Instant::now());
            tracing::warn!(cache = %self.url, reason, "the shared cache is away; tiles are made without it");
        }
    }

    fn connected(&self, connection: Connection) {
        let mut state = self.state.lock().ignore_poison();
        let State { away_since, generation, .. } = std::mem::take(&mut *state);
        *state = State { connection: Some(connection), generation: generation + 1, ..State::default() };
        metrics::gauge!(SHARED_CACHE_UP).set(1.0);
        if let Some(since) = away_since {
            let away_s = since.elapsed().as_secs();
            tracing::info!(cache = %self.url, away_s, "the shared cache is back");
        }
    }
}

/// Tries to connect until it succeeds, or nobody needs the link any more.
async fn reconnect(link: Weak<Link>) {
    let mut pause = FIRST_PAUSE;
    while let Some(held) = link.upgrade() {
        match connect(&held.url, &held.authorities).await {
            Ok(connection) => return held.connected(connection),
            Err(error) => held.note_away(&mut held.state.lock().ignore_poison(), &error.to_string()),
        }
        drop(held);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
