//! The tables of jobs in PostgreSQL, and whether pgmq is there.

use tokio_postgres::types::Type;

use super::FleetError;
use super::connection::Connection;

/// The version of the tables.
const VERSION: i32 = 1;

/// Makes what is missing. The lock keeps several that start at once from making it twice.
const TABLES: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(hashtext('satlas.version'));
    CREATE SCHEMA IF NOT EXISTS satlas;
    CREATE TABLE IF NOT EXISTS satlas.version (version int NOT NULL);
    INSERT INTO satlas.version SELECT 1 WHERE NOT EXISTS (SELECT FROM satlas.version);
    CREATE TABLE IF NOT EXISTS satlas.jobs (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        job text NOT NULL,
        identity text NOT NULL,
        destination text NOT NULL,
        state text NOT NULL DEFAULT 'running',
        blocks bigint NOT NULL,
        done bigint NOT NULL DEFAULT 0,
        failed bigint NOT NULL DEFAULT 0,
        submitted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        first_done_at timestamptz,
        last_done_at timestamptz
    ) WITH (fillfactor = 50);
    CREATE INDEX IF NOT EXISTS jobs_running ON satlas.jobs (id) WHERE state = 'running';
    CREATE TABLE IF NOT EXISTS satlas.failures (
        job bigint NOT NULL REFERENCES satlas.jobs (id) ON DELETE CASCADE,
        -- Empty for the collection.
        block text NOT NULL,
        reason text NOT NULL,
        PRIMARY KEY (job, block)
    );
    COMMIT;";

/// Makes the tables that are missing.
///
/// # Errors
/// If pgmq is missing, or a later version of this program made the tables.
pub(super) async fn prepare(connection: &Connection) -> Result<(), FleetError> {
    const FOUND: &str = "SELECT to_regprocedure('pgmq.send_batch(text, jsonb[])') IS NOT NULL
        AND to_regprocedure('pgmq.drop_queue(text)') IS NOT NULL, to_regclass('satlas.failures') IS NOT NULL";
    let rows = connection.rows(FOUND, &[]).await?;
    let found = |column: usize| rows.first().is_some_and(|row| row.get(column));
    if !found(0) {
        let detail = "the database has no pgmq 1.5 or later, which keeps the queues; CREATE EXTENSION pgmq installs it \
            where the server offers it, and elsewhere its one SQL file does, from https://github.com/pgmq/pgmq \
            (pgmq-extension/sql/pgmq.sql)";
        return Err(FleetError::Unusable { detail: detail.to_owned() });
    }
    // Whoever may not make tables can use those that are there.
    if !found(1) {
        let made = connection.take().await?.batch_execute(TABLES).await;
        made.map_err(|error| FleetError::database(&error))?;
    }
    let rows = connection.rows("SELECT max(version) FROM satlas.version WHERE $1", &[(&true, Type::BOOL)]).await?;
    match rows.first().and_then(|row| row.get::<_, Option<i32>>(0)) {
        Some(VERSION) => Ok(()),
        found => Err(version_differs(found, VERSION)),
    }
}

/// The tables are of a version that this program does not know.
pub(super) fn version_differs(found: Option<i32>, known: i32) -> FleetError {
    let found = found.map_or("none".to_owned(), |version| version.to_string());
    let detail = format!(
        "the database's tables have version {found}, and this program knows {known}; the program that made them, or a database \
         of its own, is needed"
    );
    FleetError::Unusable { detail }
}
