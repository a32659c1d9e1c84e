//! The rows of jobs, in SQLite. Every change of state is one statement that names the states it may come from, so that a job
//! which is cancelled in the same moment as it ends keeps whichever came first.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Failure, Job, JobError, JobState, NewJob};

/// Version of the tables, kept in SQLite's `user_version`.
const VERSION: i64 = 1;

const TABLES: &str = "
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
    PRAGMA user_version = 1;
";

const COLUMNS: &str = "id, model, task, state, progress, created_ms, started_ms, finished_ms, bytes, failure, request_id";

/// A job interrupted so often is taken for what interrupts it.
const MAX_ATTEMPTS: i64 = 2;

/// A queued job whose turn has come.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) id: String,
    pub(super) request: String,
    pub(super) request_id: String,
    pub(super) inputs: Vec<String>,
}

/// What the database knows of a result, whose body is a file.
#[derive(Debug)]
pub(super) struct StoredResult {
    pub(super) headers: Vec<(String, String)>,
    pub(super) hash: String,
    pub(super) bytes: u64,
}

/// The database.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
}

impl Store {
    /// The database in `file`, or in memory.
    ///
    /// # Errors
    /// When it cannot be opened, or a later version of this program wrote it.
    pub(super) fn open(file: Option<&Path>) -> Result<Self, JobError> {
        let connection = match file {
            Some(file) => Connection::open(file)?,
            None => Connection::open_in_memory()?,
        };
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let found = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
        match found {
            0 => connection.execute_batch(&format!("BEGIN; {TABLES} COMMIT;"))?,
            VERSION => {}
            _ => return Err(JobError::Newer { found, known: VERSION }),
        }
        Ok(Self { connection })
    }

    /// Adds a queued job with inputs of `bytes`.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn insert(&self, id: &str, job: &NewJob, inputs: &[String], bytes: u64, now: i64) -> Result<(), JobError> {
        let sql = "INSERT INTO jobs (id, model, task, request, request_id, inputs, state, created_ms, bytes)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'queued', ?7, ?8)";
        let inputs = to_json(&inputs);
        let values = params![id, job.model, job.task, job.request, job.request_id, inputs, now, signed(bytes)];
        self.connection.execute(sql, values)?;
        Ok(())
    }

    /// The oldest queued job, which is running from now on.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn take_next(&self, now: i64) -> Result<Option<Turn>, JobError> {
        let sql = "UPDATE jobs SET state = 'running', attempts = attempts + 1, started_ms = ?1
            WHERE number = (SELECT min(number) FROM jobs WHERE state = 'queued')
            RETURNING id, request, request_id, inputs";
        let turn = |row: &Row<'_>| {
            let inputs: String = row.get(3)?;
            Ok(Turn { id: row.get(0)?, request: row.get(1)?, request_id: row.get(2)?, inputs: from_json(&inputs)? })
        };
        Ok(self.connection.query_row(sql, params![now], turn).optional()?)
    }

    /// A job has a result of `bytes`; false where it has been cancelled or removed meanwhile.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn set_done(
        &self,
        id: &str,
        headers: &[(String, String)],
        hash: &str,
        bytes: u64,
        now: i64,
    ) -> Result<bool, JobError> {
        // A server that stops queues its running jobs again; a result that comes in just then counts all the same.
        let sql = "UPDATE jobs SET state = 'done', progress = 1, finished_ms = ?2, bytes = ?3, headers = ?4, hash = ?5
            WHERE id = ?1 AND state IN ('running', 'queued')";
        Ok(self.connection.execute(sql, params![id, now, signed(bytes), to_json(&headers), hash])? == 1)
    }

    /// A job has failed; false where it has ended otherwise meanwhile.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn set_failed(&self, id: &str, failure: &Failure, progress: f64, now: i64) -> Result<bool, JobError> {
        let sql = "UPDATE jobs SET state = 'failed', progress = ?2, finished_ms = ?3, bytes = 0, failure = ?4
            WHERE id = ?1 AND state = 'running'";
        Ok(self.connection.execute(sql, params![id, progress, now, to_json(failure)])? == 1)
    }

    /// A job is cancelled; false where it has ended already or does not exist.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn set_cancelled(&self, id: &str, progress: f64, now: i64) -> Result<bool, JobError> {
        let sql = "UPDATE jobs SET state = 'cancelled', progress = ?2, finished_ms = ?3, bytes = 0
            WHERE id = ?1 AND state IN ('queued', 'running')";
        Ok(self.connection.execute(sql, params![id, progress, now])? == 1)
    }

    /// Running jobs are queued again because the server stops in good order, which is no fault of theirs.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn put_back_running(&self) -> Result<(), JobError> {
        let sql = "UPDATE jobs SET state = 'queued', attempts = attempts - 1, started_ms = NULL WHERE state = 'running'";
        self.connection.execute(sql, [])?;
        Ok(())
    }

    /// Jobs that were running when the last server ended without a word: queued again, or failed where that happened before.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn recover(&self, failure: &Failure, now: i64) -> Result<(), JobError> {
        let failed = "UPDATE jobs SET state = 'failed', finished_ms = ?1, bytes = 0, failure = ?2
            WHERE state = 'running' AND attempts >= ?3";
        self.connection.execute(failed, params![now, to_json(failure), MAX_ATTEMPTS])?;
        self.connection.execute("UPDATE jobs SET state = 'queued', started_ms = NULL WHERE state = 'running'", [])?;
        Ok(())
    }

    /// Removes a job that has ended; false where it has not, or does not exist.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn remove_ended(&self, id: &str) -> Result<bool, JobError> {
        let sql = "DELETE FROM jobs WHERE id = ?1 AND state IN ('done', 'failed', 'cancelled')";
        Ok(self.connection.execute(sql, params![id])? == 1)
    }

    /// Removes jobs that ended before `before`, and the oldest beyond the newest `count` or beyond `bytes` of results together;
    /// the newest stays however large it is. Returns their ids.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn expire(&self, before: i64, count: usize, bytes: u64) -> Result<Vec<String>, JobError> {
        let sql = "DELETE FROM jobs WHERE number IN (
            SELECT number FROM (
                SELECT number, finished_ms, row_number() OVER newest AS place, sum(bytes) OVER newest AS total
                FROM jobs WHERE state IN ('done', 'failed', 'cancelled')
                WINDOW newest AS (ORDER BY finished_ms DESC, number DESC)
            ) WHERE finished_ms < ?1 OR place > ?2 OR (total > ?3 AND place > 1)
        ) RETURNING id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let ids = statement.query_map(params![before, signed(count as u64), signed(bytes)], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// One job.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn get(&self, id: &str) -> Result<Option<Job>, JobError> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1");
        Ok(self.connection.prepare_cached(&sql)?.query_row(params![id], job).optional()?)
    }

    /// The newest `limit` jobs, or those of them in one state.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn list(&self, state: Option<JobState>, limit: usize) -> Result<Vec<Job>, JobError> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE ?1 IS NULL OR state = ?1 ORDER BY number DESC LIMIT ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let jobs = statement.query_map(params![state.map(JobState::as_str), signed(limit as u64)], job)?;
        Ok(jobs.collect::<Result<_, _>>()?)
    }

    /// A job's result; `None` where it has none.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn result(&self, id: &str) -> Result<Option<StoredResult>, JobError> {
        let sql = "SELECT headers, hash, bytes FROM jobs WHERE id = ?1 AND state = 'done'";
        let result = |row: &Row<'_>| {
            let headers: String = row.get(0)?;
            let bytes = row.get::<_, i64>(2)?.unsigned_abs();
            Ok(StoredResult { headers: from_json(&headers)?, hash: row.get(1)?, bytes })
        };
        Ok(self.connection.query_row(sql, params![id], result).optional()?)
    }

    /// How many jobs are queued, and the bytes of inputs of all that have not ended.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn load(&self) -> Result<(usize, u64), JobError> {
        let sql = "SELECT count(*) FILTER (WHERE state = 'queued'), coalesce(sum(bytes), 0)
            FROM jobs WHERE state IN ('queued', 'running')";
        let load =
            |row: &Row<'_>| Ok((row.get::<_, i64>(0)?.unsigned_abs() as usize, row.get::<_, i64>(1)?.unsigned_abs()));
        Ok(self.connection.query_row(sql, [], load)?)
    }

    /// The ids of all jobs.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn ids(&self) -> Result<std::collections::BTreeSet<String>, JobError> {
        let mut statement = self.connection.prepare("SELECT id FROM jobs")?;
        let ids = statement.query_map([], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }
}

/// A row of [`COLUMNS`].
fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
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

/// SQLite counts in signed numbers.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("lists of texts and failures have no map keys that JSON cannot hold")
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| unreadable(Box::new(error)))
}

fn unreadable(reason: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn new_job() -> NewJob {
        NewJob { model: "world".into(), task: "cover".into(), request: "{}".into(), request_id: "r".into() }
    }

    fn store_with(ids: &[&str]) -> Store {
        let store = Store::open(None).unwrap();
        for (at, id) in ids.iter().enumerate() {
            store.insert(id, &new_job(), &["a.tif".to_owned()], 10, at as i64).unwrap();
        }
        store
    }

    fn done(store: &Store, id: &str, bytes: u64, now: i64) {
        assert!(store.set_done(id, &[("content-type".into(), "image/png".into())], "hash", bytes, now).unwrap());
    }

    fn failure() -> Failure {
        Failure { kind: ErrorKind::Unusable, detail: "found 4 bands".into() }
    }

    #[test]
    fn jobs_take_turns_in_the_order_they_came() {
        let store = store_with(&["a", "b"]);
        let turn = store.take_next(5).unwrap().unwrap();
        assert_eq!((turn.id.as_str(), turn.inputs), ("a", vec!["a.tif".to_owned()]));
        assert_eq!(store.take_next(6).unwrap().unwrap().id, "b");
        assert!(store.take_next(7).unwrap().is_none());
        assert_eq!(store.get("a").unwrap().unwrap().started_ms, Some(5));
        assert_eq!(store.load().unwrap(), (0, 20));
    }

    #[test]
    fn whichever_end_comes_first_stays() {
        let store = store_with(&["a", "b"]);
        store.take_next(1).unwrap();
        assert!(store.set_cancelled("a", 0.5, 2).unwrap());
        assert!(!store.set_done("a", &[], "h", 1, 3).unwrap() && !store.set_failed("a", &failure(), 0.5, 3).unwrap());
        assert_eq!(store.get("a").unwrap().unwrap().state, JobState::Cancelled);
        store.take_next(4).unwrap();
        done(&store, "b", 7, 5);
        assert!(!store.set_cancelled("b", 1.0, 6).unwrap());
        assert_eq!(store.get("b").unwrap().unwrap().result_bytes, Some(7));
    }

    #[test]
    fn a_failure_is_kept_word_by_word() {
        let store = store_with(&["a"]);
        store.take_next(1).unwrap();
        assert!(store.set_failed("a", &failure(), 0.25, 2).unwrap());
        let job = store.get("a").unwrap().unwrap();
        assert_eq!((job.state, job.failure, job.progress), (JobState::Failed, Some(failure()), 0.25));
    }

    #[test]
    fn a_job_that_was_interrupted_twice_is_not_run_a_third_time() {
        let store = store_with(&["a"]);
        let state = || store.get("a").unwrap().unwrap().state;
        store.take_next(1).unwrap();
        store.recover(&failure(), 2).unwrap();
        assert_eq!(state(), JobState::Queued);
        store.take_next(3).unwrap();
        // A stop in good order is no attempt.
        store.put_back_running().unwrap();
        store.take_next(4).unwrap();
        store.recover(&failure(), 5).unwrap();
        assert_eq!(state(), JobState::Failed);
    }

    #[test]
    fn old_results_make_room_for_new_ones() {
        let store = store_with(&["a", "b", "c", "d"]);
        for (id, finished) in [("a", 10), ("b", 20), ("c", 30)] {
            store.take_next(1).unwrap();
            done(&store, id, 100, finished);
        }
        assert!(store.expire(0, 10, 300).unwrap().is_empty());
        assert_eq!(store.expire(11, 10, 300).unwrap(), ["a"], "by age");
        assert_eq!(store.expire(0, 10, 199).unwrap(), ["b"], "by size");
        assert!(store.expire(0, 10, 1).unwrap().is_empty(), "the newest stays");
        assert_eq!(store.expire(0, 0, 300).unwrap(), ["c"], "by number");
        assert_eq!(store.list(None, 10).unwrap().len(), 1, "what waits is never removed");
    }

    #[test]
    fn the_list_is_bounded_and_newest_first() {
        let store = store_with(&["a", "b", "c"]);
        store.take_next(1).unwrap();
        let ids = |state, limit| store.list(state, limit).unwrap().into_iter().map(|job| job.id).collect::<Vec<_>>();
        assert_eq!(ids(None, 2), ["c", "b"]);
        assert_eq!(ids(Some(JobState::Running), 2), ["a"]);
    }

    #[test]
    fn a_database_of_a_later_version_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        Store::open(Some(file.path())).unwrap().connection.pragma_update(None, "user_version", 9).unwrap();
        assert!(Store::open(Some(file.path())).unwrap_err().to_string().contains("version 9"));
    }
}
