//! Reaching a shared cache.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisError};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::url::RedisUrl;
use crate::storage::Authorities;

/// Longest wait for a connection that can be used: name, TCP, TLS, login and the answer to a first question.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection and the task that reads and writes it, which ends with it.
pub(super) struct Connection {
    /// Clones share it.
    pub(super) line: MultiplexedConnection,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("it cannot be reached: {0}")]
    Network(#[from] io::Error),
    #[error("TLS cannot be spoken: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Refused(#[from] RedisError),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    TooSlow,
}

/// A connection that has answered a question.
pub(super) async fn connect(url: &RedisUrl, authorities: &Authorities) -> Result<Connection, ConnectError> {
    tokio::time::timeout(PATIENCE, dial(url, authorities)).await.unwrap_or(Err(ConnectError::TooSlow))
}

async fn dial(url: &RedisUrl, authorities: &Authorities) -> Result<Connection, ConnectError> {
    let stream = TcpStream::connect(url.endpoint()).await?;
    stream.set_nodelay(true)?;
    if !url.has_tls() {
        return log_in(url, stream).await;
    }
    let authorities = authorities.clone();
    // Reads files.
    let config = tokio::task::spawn_blocking(move || authorities.client_config()).await.map_err(io::Error::other)??;
    let name = ServerName::try_from(url.endpoint().0.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    log_in(url, stream).await
}

async fn log_in<S>(url: &RedisUrl, stream: S) -> Result<Connection, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Each question has its own bound.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let (mut line, driver) = MultiplexedConnection::new_with_config(url.login(), stream, config).await?;
    let connection = Connection { line: line.clone(), driver: tokio::spawn(driver).abort_handle() };
    // Of the kind that tiles ask: a server that is starting, or a user who may not read, answers a PING.
    let mut question = Cmd::new();
    question.arg("GETRANGE").arg("satlas:probe").arg(0).arg(0);
    let _: Vec<u8> = question.query_async(&mut line).await?;
    Ok(connection)
}
