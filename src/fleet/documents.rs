//! Documents in PostgreSQL: what servers that share a database register. pgmq is not needed for them.

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tokio_postgres::types::Type;

use super::FleetError;
use super::connection::Connection;
use crate::engine::{Document, DocumentKind, DocumentName, DocumentStore, DocumentStoreError};

/// Most documents that are listed: more than servers register.
const MOST_DOCUMENTS: i64 = 4096;

/// Makes what is missing. The lock is that of the other tables.
const TABLE: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(hashtext('satlas.version'));
    CREATE SCHEMA IF NOT EXISTS satlas;
    CREATE TABLE IF NOT EXISTS satlas.documents (
        kind text NOT NULL,
        id text NOT NULL,
        version bigint GENERATED ALWAYS AS IDENTITY,
        document text NOT NULL,
        weights bytea,
        registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (kind, id)
    );
    COMMIT;";

/// The table of documents.
pub(super) struct PostgresDocuments {
    connection: Connection,
    is_prepared: OnceCell<()>,
}

impl PostgresDocuments {
    /// Connects, and makes the table if it is missing, at the first question.
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, is_prepared: OnceCell::new() }
    }

    async fn prepared(&self) -> Result<&Connection, FleetError> {
        let prepare = async || {
            let rows = self.connection.rows("SELECT to_regclass('satlas.documents') IS NOT NULL", &[]).await?;
            // Whoever may not make tables can use the one that is there.
            if !rows.first().is_some_and(|row| row.get(0)) {
                let made = self.connection.take().await?.batch_execute(TABLE).await;
                made.map_err(|error| FleetError::database(&error))?;
            }
            Ok(())
        };
        self.is_prepared.get_or_try_init(prepare).await.map(|()| &self.connection)
    }
}

#[async_trait]
impl DocumentStore for PostgresDocuments {
    async fn list(&self) -> Result<Vec<DocumentName>, DocumentStoreError> {
        let sql = "SELECT kind, id, version FROM satlas.documents ORDER BY version LIMIT $1";
        let rows = self.prepared().await?.rows(sql, &[(&MOST_DOCUMENTS, Type::INT8)]).await?;
        let kind = |text: &str| [DocumentKind::Source, DocumentKind::Model].into_iter().find(|kind| kind.as_str() == text);
        // Those of a later version of this program are left alone.
        let name =
            |row: &tokio_postgres::Row| Some(DocumentName { kind: kind(row.get(0))?, id: row.get(1), version: row.get(2) });
        Ok(rows.iter().filter_map(name).collect())
    }

    async fn read(&self, name: &DocumentName) -> Result<Option<Document>, DocumentStoreError> {
        let sql = "SELECT document, weights FROM satlas.documents WHERE kind = $1 AND id = $2 AND version = $3";
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
            [(&name.kind.as_str(), Type::TEXT), (&name.id, Type::TEXT), (&name.version, Type::INT8)];
        let rows = self.prepared().await?.rows(sql, &parameters).await?;
        Ok(rows.first().map(|row| Document { text: row.get(0), weights: row.get(1) }))
    }

    async fn create(&self, kind: DocumentKind, id: &str, document: &Document) -> Result<Option<i64>, DocumentStoreError> {
        let sql = "INSERT INTO satlas.documents (kind, id, document, weights) VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING RETURNING version";
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] = [
            (&kind.as_str(), Type::TEXT),
            (&id, Type::TEXT),
            (&document.text, Type::TEXT),
            (&document.weights, Type::BYTEA),
        ];
        let rows = self.prepared().await?.rows(sql, &parameters).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    async fn remove(&self, name: &DocumentName) -> Result<(), DocumentStoreError> {
        let sql = "DELETE FROM satlas.documents WHERE kind = $1 AND id = $2 AND version = $3";
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
            [(&name.kind.as_str(), Type::TEXT), (&name.id, Type::TEXT), (&name.version, Type::INT8)];
        self.prepared().await?.rows(sql, &parameters).await?;
        Ok(())
    }
}

impl From<FleetError> for DocumentStoreError {
    fn from(error: FleetError) -> Self {
        Self { reason: error.to_string() }
    }
}
