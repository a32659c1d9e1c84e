//! Jobs in PostgreSQL, their messages in pgmq: a queue per job, which ends with it.
//!
//! pgmq leases a message by hiding it for a while. Its own functions for removing and hiding do not ask who holds the lease, so these
//! two are statements on its table that name the number of reads too. Statements lock a job's queue before the job's row, in this
//! order everywhere, so that none waits in a circle.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connection::{Connection, Parameter};
use super::queue::SendProgress;
use super::{BlockQueue, FleetError, FleetJob, FleetJobState, JobId, Lease, Message, NewFleetJob, StoredJob, schema};

/// Messages per statement when a job is submitted.
const BATCH: usize = 10_000;

/// Jobs in PostgreSQL.
pub(super) struct PostgresQueue {
    connection: Connection,
}

/// The name of a job's queue, for pgmq's functions.
fn queue(id: JobId) -> String {
    format!("satlas_{id}")
}

/// The table that pgmq keeps it in.
fn table(id: JobId) -> String {
    format!("pgmq.q_satlas_{id}")
}

/// pgmq counts leases in whole seconds.
fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs_f64().ceil() as u64).unwrap_or(i32::MAX).max(1)
}

fn count(row: &Row, column: usize) -> u64 {
    row.get::<_, i64>(column).unsigned_abs()
}

/// What follows the removal of a block's message, which is a row of `ended`: the job's columns change as `change` says, and if that
/// was the last block, the message for the collection is sent.
fn counted(id: JobId, change: &str) -> String {
    let queue = queue(id);
    format!(
        "counted AS (UPDATE satlas.jobs SET {change} FROM ended WHERE id = {id} AND state = 'running'
             RETURNING done + failed = blocks AS is_last)
         SELECT CASE WHEN is_last THEN (SELECT pgmq.send('{queue}', '{{}}'::jsonb)) END FROM counted"
    )
}

impl PostgresQueue {
    /// # Errors
    /// If the database cannot be reached or used.
    pub(super) async fn open(connection: Connection) -> Result<Self, FleetError> {
        schema::prepare(&connection).await?;
        Ok(Self { connection })
    }

    /// Runs a statement about a job's queue that returns a row if it has changed something.
    async fn changes(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<bool, FleetError> {
        Ok(self.connection.queue_rows(sql, parameters).await?.is_some_and(|rows| !rows.is_empty()))
    }

    /// The removal of a lease's message, as the beginning of a statement whose first two parameters are those of [`held_by`].
    fn ended(held: &Lease) -> String {
        let table = table(held.job);
        format!("WITH ended AS (DELETE FROM {table} WHERE msg_id = $1 AND read_ct = $2 RETURNING msg_id)")
    }

    /// Ends the job with the message for the collection. A job that is done needs its queue no more.
    async fn end(&self, held: &Lease) -> Result<bool, FleetError> {
        let id = held.job;
        let sql = format!(
            "{}, failing AS (SELECT count(*) > 0 AS has_failures FROM satlas.failures WHERE job = {id})
             UPDATE satlas.jobs SET state = CASE WHEN has_failures THEN 'done with failures' ELSE 'done' END
             FROM ended, failing WHERE id = {id} AND state = 'running' RETURNING has_failures",
            Self::ended(held)
        );
        let failed = |error: tokio_postgres::Error| FleetError::database(&error);
        let mut client = self.connection.take().await?;
        let transaction = client.transaction().await.map_err(failed)?;
        let rows = match transaction.query_typed(&sql, &held_by(held)).await {
            Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::UNDEFINED_TABLE) => return Ok(false),
            answer => answer.map_err(failed)?,
        };
        let Some(row) = rows.first() else { return Ok(false) };
        if !row.get::<_, bool>(0) {
            transaction.execute_typed("SELECT pgmq.drop_queue($1)", &[(&queue(id), Type::TEXT)]).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(true)
    }
}

/// The parameters that fence a statement.
fn held_by(held: &Lease) -> [Parameter<'_>; 2] {
    [(&held.number, Type::INT8), (&held.reads, Type::INT4)]
}

#[async_trait]
impl BlockQueue for PostgresQueue {
    async fn submit(&self, job: NewFleetJob, progress: SendProgress) -> Result<JobId, FleetError> {
        const INSERT: &str =
            "INSERT INTO satlas.jobs (job, identity, destination, blocks) VALUES ($1, $2, $3, $4) RETURNING id";
        const SEND: &str = "SELECT count(*) FROM pgmq.send_batch($1,
            (SELECT array_agg(jsonb_build_object('block', name)) FROM unnest($2::text[]) AS name))";
        let failed = |error: tokio_postgres::Error| FleetError::database(&error);
        let mut client = self.connection.take().await?;
        let transaction = client.transaction().await.map_err(failed)?;
        let blocks = i64::try_from(job.blocks.len()).unwrap_or(i64::MAX);
        let row: [Parameter<'_>; 4] =
            [(&job.text, Type::TEXT), (&job.identity, Type::TEXT), (&job.destination, Type::TEXT), (&blocks, Type::INT8)];
        let id: JobId = transaction.query_typed_one(INSERT, &row).await.map_err(failed)?.get(0);
        let queue = queue(id);
        transaction.execute_typed("SELECT pgmq.create($1)", &[(&queue, Type::TEXT)]).await.map_err(failed)?;
        for (number, batch) in job.blocks.chunks(BATCH).enumerate() {
            let sent: [Parameter<'_>; 2] = [(&queue, Type::TEXT), (&batch, Type::TEXT_ARRAY)];
            transaction.execute_typed(SEND, &sent).await.map_err(failed)?;
            progress(number * BATCH + batch.len());
        }
        transaction.commit().await.map_err(failed)?;
        Ok(id)
    }

    async fn jobs(&self, only: Option<JobId>, most: u32) -> Result<Vec<FleetJob>, FleetError> {
        const SELECT: &str =
            "SELECT id, state, blocks, done, failed, destination, extract(epoch FROM submitted_at)::float8,
            extract(epoch FROM first_done_at)::float8, extract(epoch FROM last_done_at)::float8,
            coalesce(job::json->>'model', ''), coalesce(job::json->>'task', '')
            FROM satlas.jobs WHERE $2::bigint IS NULL OR id = $2 ORDER BY id DESC LIMIT $1";
        let mut jobs = Vec::new();
        for row in self.connection.rows(SELECT, &[(&i64::from(most), Type::INT8), (&only, Type::INT8)]).await? {
            let done = count(&row, 3);
            let mut job = FleetJob {
                id: row.get(0),
                model: row.get(9),
                task: row.get(10),
                state: FleetJobState::stored(row.get(1))?,
                blocks: count(&row, 2),
                done,
                failed: count(&row, 4),
                in_work: 0,
                rate: FleetJob::rate(done, row.get(7), row.get(8)),
                submitted_s: row.get(6),
                last_done_s: row.get(8),
                destination: row.get(5),
            };
            if job.state == FleetJobState::Running {
                let leased = format!(
                    "SELECT count(*) FROM {} WHERE vt > clock_timestamp() AND coalesce((message->>'ended')::int, 0) < read_ct",
                    table(job.id)
                );
                let rows = self.connection.queue_rows(&leased, &[]).await?.unwrap_or_default();
                job.in_work = rows.first().map_or(0, |row| count(row, 0));
            }
            jobs.push(job);
        }
        Ok(jobs)
    }

    async fn stored(&self, id: JobId) -> Result<StoredJob, FleetError> {
        const SELECT: &str = "SELECT job, identity, destination FROM satlas.jobs WHERE id = $1";
        let rows = self.connection.rows(SELECT, &[(&id, Type::INT8)]).await?;
        let row = rows.first().ok_or(FleetError::UnknownJob { id })?;
        Ok(StoredJob { text: row.get(0), identity: row.get(1), destination: row.get(2) })
    }

    async fn failures(&self, id: JobId, most: u32) -> Result<Vec<(Option<String>, String)>, FleetError> {
        const SELECT: &str = "SELECT nullif(block, ''), reason FROM satlas.failures WHERE job = $1 ORDER BY block LIMIT $2";
        let rows = self.connection.rows(SELECT, &[(&id, Type::INT8), (&i64::from(most), Type::INT8)]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    async fn running(&self, most: u32) -> Result<Vec<JobId>, FleetError> {
        const SELECT: &str = "SELECT id FROM satlas.jobs WHERE state = 'running' ORDER BY id LIMIT $1";
        let rows = self.connection.rows(SELECT, &[(&i64::from(most), Type::INT8)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn claim(&self, id: JobId, lease: Duration) -> Result<Option<Lease>, FleetError> {
        const READ: &str = "SELECT msg_id, read_ct, message::text FROM pgmq.read($1, $2, 1)";
        let parameters: [Parameter<'_>; 2] = [(&queue(id), Type::TEXT), (&seconds(lease), Type::INT4)];
        let rows = self.connection.queue_rows(READ, &parameters).await?.unwrap_or_default();
        let lease =
            |row: &Row| Ok(Lease { job: id, number: row.get(0), reads: row.get(1), message: Message::parse(row.get(2))? });
        rows.first().map(lease).transpose()
    }

    async fn renew(&self, held: &Lease, lease: Duration) -> Result<bool, FleetError> {
        let table = table(held.job);
        let sql = format!(
            "UPDATE {table} SET vt = clock_timestamp() + make_interval(secs => $3)
             WHERE msg_id = $1 AND read_ct = $2 RETURNING msg_id"
        );
        let [number, reads] = held_by(held);
        self.changes(&sql, &[number, reads, (&f64::from(seconds(lease)), Type::FLOAT8)]).await
    }

    async fn complete(&self, held: &Lease) -> Result<bool, FleetError> {
        if held.message.block.is_none() {
            return self.end(held).await;
        }
        let change = "done = done + 1, first_done_at = coalesce(first_done_at, clock_timestamp()), \
            last_done_at = clock_timestamp()";
        let sql = format!("{}, {}", Self::ended(held), counted(held.job, change));
        self.changes(&sql, &held_by(held)).await
    }

    async fn put_off(&self, held: &Lease, message: &Message, pause: Duration) -> Result<bool, FleetError> {
        let table = table(held.job);
        let sql = format!(
            "UPDATE {table} SET vt = clock_timestamp() + make_interval(secs => $3), message = $4::text::jsonb
             WHERE msg_id = $1 AND read_ct = $2 RETURNING msg_id"
        );
        let [number, reads] = held_by(held);
        let pause = pause.as_secs_f64();
        self.changes(&sql, &[number, reads, (&pause, Type::FLOAT8), (&message.to_json(), Type::TEXT)]).await
    }

    async fn bury(&self, held: &Lease, reason: &str) -> Result<bool, FleetError> {
        let id = held.job;
        let block = held.message.block.as_deref().unwrap_or_default();
        let failure = format!(
            "{}, failure AS (INSERT INTO satlas.failures (job, block, reason) SELECT {id}, $3, $4 FROM ended
             ON CONFLICT (job, block) DO UPDATE SET reason = excluded.reason)",
            Self::ended(held)
        );
        let sql = match &held.message.block {
            Some(_) => format!("{failure}, {}", counted(id, "failed = failed + 1")),
            None => format!(
                "{failure} UPDATE satlas.jobs SET state = 'done with failures' FROM ended
                 WHERE id = {id} AND state = 'running' RETURNING id"
            ),
        };
        let [number, reads] = held_by(held);
        self.changes(&sql, &[number, reads, (&block, Type::TEXT), (&reason, Type::TEXT)]).await
    }

    async fn cancel(&self, id: JobId) -> Result<(), FleetError> {
        self.stored(id).await?;
        let failed = |error: tokio_postgres::Error| FleetError::database(&error);
        let mut client = self.connection.take().await?;
        let transaction = client.transaction().await.map_err(failed)?;
        transaction.execute_typed("SELECT pgmq.drop_queue($1)", &[(&queue(id), Type::TEXT)]).await.map_err(failed)?;
        let sql = "UPDATE satlas.jobs SET state = 'cancelled' WHERE id = $1 AND state = 'running' RETURNING id";
        let rows = transaction.query_typed(sql, &[(&id, Type::INT8)]).await.map_err(failed)?;
        if rows.is_empty() {
            // Dropping the transaction takes the queue's end back.
            return Err(super::queue::not_running(id));
        }
        transaction.commit().await.map_err(failed)
    }

    async fn retry(&self, id: JobId, block: Option<&str>) -> Result<u64, FleetError> {
        self.stored(id).await?;
        let failed = |error: tokio_postgres::Error| FleetError::database(&error);
        let mut client = self.connection.take().await?;
        let transaction = client.transaction().await.map_err(failed)?;
        // The row is locked first, which is in order: nobody holds a lease of a job that has ended.
        let job = "SELECT id FROM satlas.jobs WHERE id = $1 AND state = 'done with failures' FOR UPDATE";
        let ended = transaction.query_typed(job, &[(&id, Type::INT8)]).await.map_err(failed)?;
        // The failure of the collection goes in any case: it is written again after the blocks.
        let taken =
            "DELETE FROM satlas.failures WHERE job = $1 AND ($2::text IS NULL OR block IN ($2, '')) RETURNING block";
        let taken = transaction.query_typed(taken, &[(&id, Type::INT8), (&block, Type::TEXT)]).await.map_err(failed)?;
        let blocks: Vec<&str> = taken.iter().map(|row| row.get(0)).filter(|block: &&str| !block.is_empty()).collect();
        if ended.is_empty() || taken.is_empty() || (block.is_some() && blocks.is_empty()) {
            return Err(super::queue::nothing_to_retry(id, block));
        }
        let mut messages: Vec<String> = blocks.iter().map(|block| Message::of_block(block).to_json()).collect();
        if messages.is_empty() {
            messages.push(Message::default().to_json());
        }
        let send = "SELECT count(*) FROM pgmq.send_batch($1, $2::text[]::jsonb[])";
        let sent: [Parameter<'_>; 2] = [(&queue(id), Type::TEXT), (&messages, Type::TEXT_ARRAY)];
        transaction.execute_typed(send, &sent).await.map_err(failed)?;
        let count = i64::try_from(blocks.len()).unwrap_or(i64::MAX);
        let go_on = "UPDATE satlas.jobs SET state = 'running', failed = failed - $2 WHERE id = $1";
        transaction.execute_typed(go_on, &[(&id, Type::INT8), (&count, Type::INT8)]).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(messages.len() as u64)
    }

    async fn remove(&self, id: JobId) -> Result<(), FleetError> {
        const REMOVE: &str = "DELETE FROM satlas.jobs WHERE id = $1 AND state <> 'running' RETURNING state";
        self.stored(id).await?;
        let failed = |error: tokio_postgres::Error| FleetError::database(&error);
        let mut client = self.connection.take().await?;
        let transaction = client.transaction().await.map_err(failed)?;
        // The row goes first, which is in order: nobody holds a lease of a job that has ended.
        let rows = transaction.query_typed(REMOVE, &[(&id, Type::INT8)]).await.map_err(failed)?;
        let Some(row) = rows.first() else { return Err(super::queue::still_running(id)) };
        // Every other end has taken the queue along.
        if FleetJobState::stored(row.get(0))? == FleetJobState::DoneWithFailures {
            transaction.execute_typed("SELECT pgmq.drop_queue($1)", &[(&queue(id), Type::TEXT)]).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }
}
