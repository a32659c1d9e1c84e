//! What can keep the server from running.

use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::engine::EngineError;
use crate::fleet::FleetError;
use crate::jobs::JobError;
use crate::zoo::CatalogError;

/// What can keep the server from running.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The catalogue cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The engine did not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A source named at start cannot be read.
    #[error("source {id} cannot be used: {source}")]
    Source {
        /// Its id.
        id: String,
        /// What reading it says.
        source: EngineError,
    },
    /// The stored jobs cannot be used.
    #[error(transparent)]
    Jobs(#[from] JobError),
    /// The database that servers share cannot be used.
    #[error(transparent)]
    Database(#[from] FleetError),
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The server stopped with an error.
    #[error("the server stopped: {0}")]
    Io(#[from] std::io::Error),
}
