//! Work that blocks, off the runtime's threads.

use super::error::EngineError;

/// Runs work that blocks on a thread for it.
///
/// # Errors
/// What `work` says, and [`EngineError::Panicked`].
pub(crate) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<EngineError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(EngineError::Panicked.into()))
}
