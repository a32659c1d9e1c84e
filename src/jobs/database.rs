//! The rows of jobs, in SQLite. Every change of state is one statement that names the states it may start from: if a job is
//! cancelled at the moment it ends, the change that came first wins.
//!
//! How long jobs are kept is measured in running time: how long servers have had the database open, as a clock that nobody sets
//! tells it. The system's clock may be wrong and then jump, which must not remove a result.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::{COLUMNS, QueuedJob, StoredResult, from_json, job, prepare, signed, to_json};
use super::{Job, JobError, JobFailure, JobState, NewJob};

/// A job that was running this often when the server died is assumed to be the cause, and fails.
const MAX_ATTEMPTS: i64 = 2;

/// The rows of all jobs.
#[derive(Debug)]
pub(super) struct JobDatabase {
    connection: Connection,
    opened: Instant,
    /// Running time until then.
    before: Duration,
}

impl JobDatabase {
    /// Opens the database in `file`, or a new one in memory.
    ///
    /// # Errors
    /// If it cannot be opened, or a later version of this program wrote it.
    pub(super) fn open(file: Option<&Path>) -> Result<Self, JobError> {
        let connection = match file {
            Some(file) => Connection::open(file)?,
            None => Connection::open_in_memory()?,
        };
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        prepare(&connection)?;
        let before = connection.query_row("SELECT ms FROM running_time", [], |row| row.get::<_, i64>(0))?;
        Ok(Self { connection, opened: Instant::now(), before: Duration::from_millis(before.unsigned_abs()) })
    }

    /// Milliseconds for which servers have had the database open.
    fn running_time(&self) -> i64 {
        i64::try_from((self.before + self.opened.elapsed()).as_millis()).unwrap_or(i64::MAX)
    }

    /// Adds a queued job whose inputs have `bytes` in total.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn insert(&self, id: &str, job: &NewJob, inputs: &[String], bytes: u64, now: i64) -> Result<(), JobError> {
        let sql = "INSERT INTO jobs (id, model, task, request, request_id, inputs, state, created_ms, bytes)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'queued', ?7, ?8)";
        let inputs = to_json(&inputs);
        let values = params![id, job.model, job.task, job.request, job.request_id, inputs, now, signed(bytes)];
        self.connection.execute(sql, values)?;
        Ok(())
    }

    /// Marks the oldest queued job as running and returns it; `None` if none is queued.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn take_next(&self, now: i64) -> Result<Option<QueuedJob>, JobError> {
        let sql = "UPDATE jobs SET state = 'running', attempts = attempts + 1, started_ms = ?1
            WHERE number = (SELECT min(number) FROM jobs WHERE state = 'queued')
            RETURNING id, request, request_id, inputs";
        let turn = |row: &Row<'_>| {
            let inputs: String = row.get(3)?;
            Ok(QueuedJob { id: row.get(0)?, request: row.get(1)?, request_id: row.get(2)?, inputs: from_json(&inputs)? })
        };
        Ok(self.connection.query_row(sql, params![now], turn).optional()?)
    }

    /// Marks a job as done, with a result of `bytes`. Returns false if it has been cancelled or removed meanwhile.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn set_done(
        &self,
        id: &str,
        headers: &[(String, String)],
        hash: &str,
        bytes: u64,
        now: i64,
    ) -> Result<bool, JobError> {
        // A server that stops queues its running jobs again; a result that arrives just then is still accepted.
        let sql = "UPDATE jobs SET state = 'done', progress = 1, finished_ms = ?2, bytes = ?3, headers = ?4, hash = ?5, ended_at = ?6
            WHERE id = ?1 AND state IN ('running', 'queued')";
        let values = params![id, now, signed(bytes), to_json(&headers), hash, self.running_time()];
        Ok(self.connection.execute(sql, values)? == 1)
    }

    /// Marks a job as failed. Returns false if it has ended otherwise meanwhile.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn set_failed(&self, id: &str, failure: &JobFailure, progress: f64, now: i64) -> Result<bool, JobError> {
        let sql =
            "UPDATE jobs SET state = 'failed', progress = ?2, finished_ms = ?3, bytes = 0, failure = ?4, ended_at = ?5
            WHERE id = ?1 AND state = 'running'";
        Ok(self.connection.execute(sql, params![id, progress, now, to_json(failure), self.running_time()])? == 1)
    }

    /// Marks a job as cancelled. Returns false if it has already ended or does not exist.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn set_cancelled(&self, id: &str, progress: f64, now: i64) -> Result<bool, JobError> {
        let sql = "UPDATE jobs SET state = 'cancelled', progress = ?2, finished_ms = ?3, bytes = 0, ended_at = ?4
            WHERE id = ?1 AND state IN ('queued', 'running')";
        Ok(self.connection.execute(sql, params![id, progress, now, self.running_time()])? == 1)
    }

    /// Queues all running jobs again because the server shuts down; this does not count as one of their attempts.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn put_back_running(&self) -> Result<(), JobError> {
        let sql = "UPDATE jobs SET state = 'queued', attempts = attempts - 1, started_ms = NULL WHERE state = 'running'";
        self.connection.execute(sql, [])?;
        Ok(())
    }

    /// Handles jobs that were running when the previous server died: they are queued again, or marked as failed after
    /// [`MAX_ATTEMPTS`] attempts.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn recover(&self, failure: &JobFailure, now: i64) -> Result<(), JobError> {
        let failed = "UPDATE jobs SET state = 'failed', finished_ms = ?1, bytes = 0, failure = ?2, ended_at = ?4
            WHERE state = 'running' AND attempts >= ?3";
        self.connection.execute(failed, params![now, to_json(failure), MAX_ATTEMPTS, self.running_time()])?;
        self.connection.execute("UPDATE jobs SET state = 'queued', started_ms = NULL WHERE state = 'running'", [])?;
        Ok(())
    }

    /// Removes a job that has ended. Returns false if it has not, or does not exist.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn remove_ended(&self, id: &str) -> Result<bool, JobError> {
        let sql = "DELETE FROM jobs WHERE id = ?1 AND state IN ('done', 'failed', 'cancelled')";
        Ok(self.connection.execute(sql, params![id])? == 1)
    }

    /// Removes ended jobs: those that have been kept for longer than `retention`, and the oldest while there are more than `count` or their
    /// results exceed `bytes` in total. The newest one is never removed for its size. Returns the ids of the removed jobs.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn expire(&self, retention: Duration, count: usize, bytes: u64) -> Result<Vec<String>, JobError> {
        let now = self.running_time();
        let before = now.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
        // Without an ended job, time need not be counted.
        let counted = "UPDATE running_time SET ms = ?1 WHERE EXISTS (SELECT 1 FROM jobs WHERE ended_at IS NOT NULL)";
        self.connection.execute(counted, params![now])?;
        let sql = "DELETE FROM jobs WHERE number IN (
            SELECT number FROM (
                SELECT number, ended_at, row_number() OVER newest AS place, sum(bytes) OVER newest AS total
                FROM jobs WHERE state IN ('done', 'failed', 'cancelled')
                WINDOW newest AS (ORDER BY ended_at DESC, number DESC)
            ) WHERE ended_at < ?1 OR place > ?2 OR (total > ?3 AND place > 1)
        ) RETURNING id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let ids = statement.query_map(params![before, signed(count as u64), signed(bytes)], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// The job with this id, if it exists.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn get(&self, id: &str) -> Result<Option<Job>, JobError> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1");
        Ok(self.connection.prepare_cached(&sql)?.query_row(params![id], job).optional()?)
    }

    /// The newest `limit` jobs, of one state if `state` is given.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn list(&self, state: Option<JobState>, limit: usize) -> Result<Vec<Job>, JobError> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE ?1 IS NULL OR state = ?1 ORDER BY number DESC LIMIT ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let jobs = statement.query_map(params![state.map(JobState::as_str), signed(limit as u64)], job)?;
        Ok(jobs.collect::<Result<_, _>>()?)
    }

    /// The result of a job; `None` if the job is not done or does not exist.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn result(&self, id: &str) -> Result<Option<StoredResult>, JobError> {
        let sql = "SELECT headers, hash, bytes FROM jobs WHERE id = ?1 AND state = 'done'";
        let result = |row: &Row<'_>| {
            let headers: String = row.get(0)?;
            let bytes = row.get::<_, i64>(2)?.unsigned_abs();
            Ok(StoredResult { headers: from_json(&headers)?, hash: row.get(1)?, bytes })
        };
        Ok(self.connection.query_row(sql, params![id], result).optional()?)
    }

    /// The number of queued jobs, and the total input bytes of queued and running ones.
    ///
    /// # Errors
    /// If the database fails.
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
    /// If the database fails.
    pub(super) fn ids(&self) -> Result<std::collections::BTreeSet<String>, JobError> {
        let mut statement = self.connection.prepare("SELECT id FROM jobs")?;
        let ids = statement.query_map([], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests;
