//! Connections to PostgreSQL: a pool that connects again by itself, TLS, and a bound on every answer.
//!
//! Statements are sent unnamed with the types of their parameters, and nothing is set for a session, so that pgbouncer may give every
//! transaction another connection.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::FleetError;
use crate::storage::Authorities;

/// Longest wait for a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two blocks in work, each of which renews its lease meanwhile.
const MAX_CONNECTIONS: usize = 4;

/// A parameter of a statement and its type.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Where statements go.
pub(super) struct Connection {
    pool: Pool,
}

impl Connection {
    /// Connects at the first statement.
    ///
    /// # Errors
    /// If there can be no TLS.
    pub(super) fn new(config: &Config, authorities: &Authorities) -> Result<Self, FleetError> {
        let mut config = config.clone();
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(PATIENCE);
        }
        if config.get_application_name().is_none() {
            config.application_name("satlas-serve");
        }
        let tls = authorities.client_config().map_err(|error| FleetError::Unusable { detail: error.to_string() })?;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, MakeRustlsConnect::new(tls), recycling);
        let pool = Pool::builder(manager)
            .max_size(MAX_CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .recycle_timeout(Some(PATIENCE))
            .build();
        Ok(Self { pool: pool.map_err(|error| FleetError::database(&error))? })
    }

    /// A connection of one's own, for transactions.
    ///
    /// # Errors
    /// If there is none in time.
    pub(super) async fn take(&self) -> Result<Object, FleetError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => FleetError::database(&error),
            PoolError::Timeout(_) => {
                FleetError::Database { reason: format!("no connection within {} s", PATIENCE.as_secs()) }
            }
            error => FleetError::database(&error),
        })
    }

    /// The rows of one statement, which is a transaction of its own.
    ///
    /// # Errors
    /// If the database fails or does not answer in time; what was asked for may have been done even so.
    pub(super) async fn rows(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, FleetError> {
        self.try_rows(sql, parameters).await?.map_err(|error| FleetError::database(&error))
    }

    /// The rows of one statement about the queue of a job; `None` if the job has ended, and its queue with it.
    ///
    /// # Errors
    /// As [`Connection::rows`].
    pub(super) async fn queue_rows(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Option<Vec<Row>>, FleetError> {
        match self.try_rows(sql, parameters).await? {
            Ok(rows) => Ok(Some(rows)),
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
            Err(error) => Err(FleetError::database(&error)),
        }
    }

    /// The outer error is that of the connection, the inner one that of the statement.
    async fn try_rows(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Result<Vec<Row>, tokio_postgres::Error>, FleetError> {
        let client = self.take().await?;
        match tokio::time::timeout(PATIENCE, client.query_typed(sql, parameters)).await {
            Ok(answer) => Ok(answer),
            Err(_) => {
                // Whatever it is stuck at, the next statement must not wait for it.
                drop(Object::take(client));
                Err(FleetError::Database { reason: format!("no answer within {} s", PATIENCE.as_secs()) })
            }
        }
    }
}
