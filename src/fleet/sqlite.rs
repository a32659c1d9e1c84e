//! Jobs in a SQLite file, for the workers of one machine. The same rules as in PostgreSQL, without pgmq.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::queue::{SendProgress, not_running, nothing_to_retry, still_running};
use super::{BlockQueue, FleetError, FleetJob, FleetJobState, JobId, Lease, Message, NewFleetJob, StoredJob, schema};
use crate::sync::IgnorePoison;

/// Longest wait while another process writes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The version of the tables.
const VERSION: i32 = 1;

/// Messages between two reports of progress.
const BATCH: usize = 10_000;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, identity TEXT NOT NULL, destination TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'running', blocks INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0, submitted_s REAL NOT NULL DEFAULT (unixepoch('subsec')), first_done_s REAL,
        last_done_s REAL) STRICT;
    CREATE TABLE IF NOT EXISTS messages (
        number INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL REFERENCES jobs (id), reads INTEGER NOT NULL DEFAULT 0,
        visible_s REAL NOT NULL DEFAULT 0, message TEXT NOT NULL) STRICT;
    CREATE INDEX IF NOT EXISTS messages_of_job ON messages (job, number);
    CREATE TABLE IF NOT EXISTS failures (
        job INTEGER NOT NULL REFERENCES jobs (id), block TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (job, block)) STRICT;";

/// Jobs in a file.
pub(super) struct SqliteQueue {
    connection: Arc<Mutex<Connection>>,
}

impl SqliteQueue {
    /// # Errors
    /// If the file cannot be used.
    pub(super) async fn open(file: PathBuf) -> Result<Self, FleetError> {
        let opened = tokio::task::spawn_blocking(move || open(&file));
        let connection = opened.await.map_err(|error| FleetError::database(&error))??;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Does `work` in one transaction, off the runtime. An error takes everything back.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, FleetError> + Send + 'static,
    ) -> Result<T, FleetError> {
        let connection = self.connection.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock().ignore_poison();
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let answer = work(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        });
        done.await.map_err(|error| FleetError::database(&error))?
    }
}

impl From<rusqlite::Error> for FleetError {
    fn from(error: rusqlite::Error) -> Self {
        Self::database(&error)
    }
}

fn open(file: &Path) -> Result<Connection, FleetError> {
    let mut connection = Connection::open(file)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let is_empty: bool = transaction.query_row("SELECT count(*) = 0 FROM sqlite_master", [], |row| row.get(0))?;
    match version {
        VERSION => {}
        0 if is_empty => {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        other => return Err(schema::version_differs(Some(other), VERSION)),
    }
    transaction.commit()?;
    Ok(connection)
}

/// Removes a lease's message; false if it is not the last on it.
fn end(transaction: &Transaction<'_>, held: &Lease) -> Result<bool, FleetError> {
    let sql = "DELETE FROM messages WHERE number = ?1 AND reads = ?2";
    Ok(transaction.execute(sql, params![held.number, held.reads])? == 1)
}

fn send(transaction: &Transaction<'_>, id: JobId, message: &Message) -> Result<(), FleetError> {
    let mut statement = transaction.prepare_cached("INSERT INTO messages (job, message) VALUES (?1, ?2)")?;
    statement.execute(params![id, message.to_json()])?;
    Ok(())
}

/// Sends the message for the collection if no block is left.
fn send_if_last(transaction: &Transaction<'_>, id: JobId) -> Result<(), FleetError> {
    let sql = "SELECT done + failed = blocks FROM jobs WHERE id = ?1";
    if transaction.query_row(sql, [id], |row| row.get(0))? {
        send(transaction, id, &Message::default())?;
    }
    Ok(())
}

fn is_running(transaction: &Transaction<'_>, id: JobId) -> Result<bool, FleetError> {
    let state = transaction.query_row("SELECT state FROM jobs WHERE id = ?1", [id], |row| row.get::<_, String>(0));
    Ok(state.optional()?.ok_or(FleetError::UnknownJob { id })? == FleetJobState::Running.as_str())
}

fn set_state(transaction: &Transaction<'_>, id: JobId, state: FleetJobState) -> Result<(), FleetError> {
    transaction.execute("UPDATE jobs SET state = ?2 WHERE id = ?1", params![id, state.as_str()])?;
    Ok(())
}

#[async_trait]
impl BlockQueue for SqliteQueue {
    async fn submit(&self, job: NewFleetJob, progress: SendProgress) -> Result<JobId, FleetError> {
        self.with(move |transaction| {
            let blocks = i64::try_from(job.blocks.len()).unwrap_or(i64::MAX);
            let sql = "INSERT INTO jobs (job, identity, destination, blocks) VALUES (?1, ?2, ?3, ?4) RETURNING id";
            let row = params![job.text, job.identity, job.destination, blocks];
            let id = transaction.query_row(sql, row, |row| row.get(0))?;
            for (number, batch) in job.blocks.chunks(BATCH).enumerate() {
                for block in batch {
                    send(transaction, id, &Message::of_block(block))?;
                }
                progress(number * BATCH + batch.len());
            }
            Ok(id)
        })
        .await
    }

    async fn jobs(&self, only: Option<JobId>, most: u32) -> Result<Vec<FleetJob>, FleetError> {
        self.with(move |transaction| {
            let sql = "SELECT id, state, blocks, done, failed, destination, submitted_s, first_done_s, last_done_s,
                (SELECT count(*) FROM messages WHERE messages.job = jobs.id AND visible_s > unixepoch('subsec')
                    AND coalesce(message ->> 'ended', 0) < reads),
                coalesce(job ->> 'model', ''), coalesce(job ->> 'task', '')
                FROM jobs WHERE ?2 IS NULL OR id = ?2 ORDER BY id DESC LIMIT ?1";
            let mut statement = transaction.prepare_cached(sql)?;
            let rows = statement.query_map(params![most, only], |row| {
                let count = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
                let done = count(3)?;
                let job = FleetJob {
                    id: row.get(0)?,
                    model: row.get(10)?,
                    task: row.get(11)?,
                    state: FleetJobState::Running,
                    blocks: count(2)?,
                    done,
                    failed: count(4)?,
                    in_work: count(9)?,
                    rate: FleetJob::rate(done, row.get(7)?, row.get(8)?),
                    submitted_s: row.get(6)?,
                    last_done_s: row.get(8)?,
                    destination: row.get(5)?,
                };
                Ok((job, row.get::<_, String>(1)?))
            })?;
            rows.map(|row| {
                let (job, state) = row?;
                Ok(FleetJob { state: FleetJobState::stored(&state)?, ..job })
            })
            .collect()
        })
        .await
    }

    async fn stored(&self, id: JobId) -> Result<StoredJob, FleetError> {
        self.with(move |transaction| {
            let sql = "SELECT job, identity, destination FROM jobs WHERE id = ?1";
            let job = transaction.query_row(sql, [id], |row| {
                Ok(StoredJob { text: row.get(0)?, identity: row.get(1)?, destination: row.get(2)? })
            });
            job.optional()?.ok_or(FleetError::UnknownJob { id })
        })
        .await
    }

    async fn failures(&self, id: JobId, most: u32) -> Result<Vec<(Option<String>, String)>, FleetError> {
        self.with(move |transaction| {
            let sql = "SELECT nullif(block, ''), reason FROM failures WHERE job = ?1 ORDER BY block LIMIT ?2";
            let mut statement = transaction.prepare_cached(sql)?;
            let rows = statement.query_map(params![id, most], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn running(&self, most: u32) -> Result<Vec<JobId>, FleetError> {
        self.with(move |transaction| {
            let sql = "SELECT id FROM jobs WHERE state = 'running' ORDER BY id LIMIT ?1";
            let mut statement = transaction.prepare_cached(sql)?;
            let rows = statement.query_map([most], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn claim(&self, id: JobId, lease: Duration) -> Result<Option<Lease>, FleetError> {
        self.with(move |transaction| {
            let sql = "UPDATE messages SET reads = reads + 1, visible_s = unixepoch('subsec') + ?2
                WHERE number = (SELECT number FROM messages WHERE job = ?1 AND visible_s <= unixepoch('subsec')
                    ORDER BY number LIMIT 1)
                RETURNING number, reads, message";
            let found = transaction.query_row(sql, params![id, lease.as_secs_f64()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?))
            });
            let lease = |(number, reads, message): (i64, i32, String)| {
                Ok(Lease { job: id, number, reads, message: Message::parse(&message)? })
            };
            found.optional()?.map(lease).transpose()
        })
        .await
    }

    async fn renew(&self, held: &Lease, lease: Duration) -> Result<bool, FleetError> {
        let held = held.clone();
        self.with(move |transaction| {
            let sql = "UPDATE messages SET visible_s = unixepoch('subsec') + ?3 WHERE number = ?1 AND reads = ?2";
            Ok(transaction.execute(sql, params![held.number, held.reads, lease.as_secs_f64()])? == 1)
        })
        .await
    }

    async fn complete(&self, held: &Lease) -> Result<bool, FleetError> {
        let held = held.clone();
        self.with(move |transaction| {
            if !end(transaction, &held)? {
                return Ok(false);
            }
            if held.message.block.is_some() {
                let sql = "UPDATE jobs SET done = done + 1, first_done_s = coalesce(first_done_s, unixepoch('subsec')),
                    last_done_s = unixepoch('subsec') WHERE id = ?1";
                transaction.execute(sql, [held.job])?;
                send_if_last(transaction, held.job)?;
            } else {
                let sql = "SELECT count(*) > 0 FROM failures WHERE job = ?1";
                let has_failures = transaction.query_row(sql, [held.job], |row| row.get(0))?;
                let state = if has_failures { FleetJobState::DoneWithFailures } else { FleetJobState::Done };
                set_state(transaction, held.job, state)?;
            }
            Ok(true)
        })
        .await
    }

    async fn put_off(&self, held: &Lease, message: &Message, pause: Duration) -> Result<bool, FleetError> {
        let (held, message) = (held.clone(), message.to_json());
        self.with(move |transaction| {
            let sql =
                "UPDATE messages SET visible_s = unixepoch('subsec') + ?3, message = ?4 WHERE number = ?1 AND reads = ?2";
            Ok(transaction.execute(sql, params![held.number, held.reads, pause.as_secs_f64(), message])? == 1)
        })
        .await
    }

    async fn bury(&self, held: &Lease, reason: &str) -> Result<bool, FleetError> {
        let (held, reason) = (held.clone(), reason.to_owned());
        self.with(move |transaction| {
            if !end(transaction, &held)? {
                return Ok(false);
            }
            let block = held.message.block.as_deref().unwrap_or_default();
            let sql = "INSERT OR REPLACE INTO failures (job, block, reason) VALUES (?1, ?2, ?3)";
            transaction.execute(sql, params![held.job, block, reason])?;
            if held.message.block.is_some() {
                transaction.execute("UPDATE jobs SET failed = failed + 1 WHERE id = ?1", [held.job])?;
                send_if_last(transaction, held.job)?;
            } else {
                set_state(transaction, held.job, FleetJobState::DoneWithFailures)?;
            }
            Ok(true)
        })
        .await
    }

    async fn cancel(&self, id: JobId) -> Result<(), FleetError> {
        self.with(move |transaction| {
            if !is_running(transaction, id)? {
                return Err(not_running(id));
            }
            transaction.execute("DELETE FROM messages WHERE job = ?1", [id])?;
            set_state(transaction, id, FleetJobState::Cancelled)
        })
        .await
    }

    async fn retry(&self, id: JobId, block: Option<&str>) -> Result<u64, FleetError> {
        let block = block.map(str::to_owned);
        self.with(move |transaction| {
            let is_running = is_running(transaction, id)?;
            // The failure of the collection goes in any case: it is written again after the blocks.
            let sql = "DELETE FROM failures WHERE job = ?1 AND (?2 IS NULL OR block IN (?2, '')) RETURNING block";
            let mut statement = transaction.prepare_cached(sql)?;
            let taken = statement.query_map(params![id, block], |row| row.get::<_, String>(0))?;
            let taken = taken.collect::<Result<Vec<_>, _>>()?;
            let blocks: Vec<&String> = taken.iter().filter(|block| !block.is_empty()).collect();
            if is_running || taken.is_empty() || (block.is_some() && blocks.is_empty()) {
                return Err(nothing_to_retry(id, block.as_deref()));
            }
            for block in &blocks {
                send(transaction, id, &Message::of_block(block))?;
            }
            if blocks.is_empty() {
                send(transaction, id, &Message::default())?;
            }
            let sql = "UPDATE jobs SET state = 'running', failed = failed - ?2 WHERE id = ?1";
            transaction.execute(sql, params![id, i64::try_from(blocks.len()).unwrap_or(i64::MAX)])?;
            Ok(blocks.len().max(1) as u64)
        })
        .await
    }
    async fn remove(&self, id: JobId) -> Result<(), FleetError> {
        self.with(move |transaction| {
            if is_running(transaction, id)? {
                return Err(still_running(id));
            }
            transaction.execute("DELETE FROM failures WHERE job = ?1", [id])?;
            transaction.execute("DELETE FROM jobs WHERE id = ?1", [id])?;
            Ok(())
        })
        .await
    }
}
