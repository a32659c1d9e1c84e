//! The table of jobs: its columns, and how they become Rust values.

use rusqlite::{Connection, Row};

use super::{Job, JobError, JobState};

/// What makes each version of the tables from the one before. SQLite's `user_version` is how many have been done.
pub(super) const VERSIONS: [&str; 2] = [TABLE, RUNNING_TIME];

const TABLE: &str = "
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        model TEXT NOT NULL,
        task TEXT NOT NULL,
        request TEXT NOT NULL,
        request_id TEXT NOT NULL,
        inputs TEXT NOT NULL,           -- names, as JSON
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        progress REAL NOT NULL DEFAULT 0,
        created_ms INTEGER NOT NULL,
        started_ms INTEGER,
        finished_ms INTEGER,
        bytes INTEGER NOT NULL,         -- of the inputs until it has ended, then of the result
        failure TEXT,                   -- as JSON
        headers TEXT,                   -- of the result, as JSON
        hash TEXT                       -- of the result
    );
    CREATE INDEX jobs_by_state ON jobs (state, number);
";

const RUNNING_TIME: &str = "
    ALTER TABLE jobs ADD COLUMN ended_at INTEGER;   -- in running time, ms
    UPDATE jobs SET ended_at = 0 WHERE finished_ms IS NOT NULL;
    CREATE TABLE running_time (ms INTEGER NOT NULL);
    INSERT INTO running_time VALUES (0);
";

/// The columns that [`job`] reads.
pub(super) const COLUMNS: &str =
    "id, model, task, state, progress, created_ms, started_ms, finished_ms, bytes, failure, request_id";

/// A queued job that is about to run.
#[derive(Debug)]
pub(super) struct QueuedJob {
    pub(super) id: String,
    pub(super) request: String,
    pub(super) request_id: String,
    pub(super) inputs: Vec<String>,
}

/// A result without its body, which is a file.
#[derive(Debug)]
pub(super) struct StoredResult {
    pub(super) headers: Vec<(String, String)>,
    pub(super) hash: String,
    pub(super) bytes: u64,
}

/// Brings a database to the newest version.
///
/// # Errors
/// If the database fails, or a later version of this program wrote it.
pub(super) fn prepare(connection: &Connection) -> Result<(), JobError> {
    let found = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
    let newer = || JobError::Newer { found, known: VERSIONS.len() as i64 };
    let done = usize::try_from(found).ok().filter(|done| *done <= VERSIONS.len()).ok_or_else(newer)?;
    for (step, statements) in VERSIONS.iter().enumerate().skip(done) {
        connection.execute_batch(&format!("BEGIN; {statements} PRAGMA user_version = {}; COMMIT;", step + 1))?;
    }
    Ok(())
}

/// Reads a row of [`COLUMNS`].
pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let state: String = row.get("state")?;
    let state: JobState = state.parse().map_err(|reason: String| unreadable(reason.into()))?;
    let failure: Option<String> = row.get("failure")?;
    let bytes = row.get::<_, i64>("bytes")?.unsigned_abs();
    Ok(Job {
        id: row.get("id")?,
        model: row.get("model")?,
        task: row.get("task")?,
        state,
        progress: row.get("progress")?,
        created_ms: row.get("created_ms")?,
        started_ms: row.get("started_ms")?,
        finished_ms: row.get("finished_ms")?,
        failure: failure.as_deref().map(from_json).transpose()?,
        result_bytes: (state == JobState::Done).then_some(bytes),
        request_id: row.get("request_id")?,
    })
}

/// SQLite's integers are signed; larger numbers become the largest of those.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("lists of texts and failures have no map keys that JSON cannot hold")
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| unreadable(Box::new(error)))
}

fn unreadable(reason: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, reason)
}
