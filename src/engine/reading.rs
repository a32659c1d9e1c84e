//! Where imagery is read: on blocking threads, of which no source and no crowd of uploads takes all.
//!
//! A source on a dead host holds its own few threads for as long as the host keeps it waiting; others go on. Work whose request has
//! ended gives its thread back at the next chunk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Semaphore;

use super::error::EngineError;
use crate::budget::Work;
use crate::sync::IgnorePoison;

/// Reads of one source at a time.
const PER_SOURCE: usize = 8;

/// Reads of uploaded rasters at a time.
const UPLOADS: usize = 16;

/// The bounds on threads that read.
pub(super) struct Reading {
    uploads: Arc<Semaphore>,
    /// Those of sources that are being read.
    sources: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Reading {
    pub(super) fn new() -> Self {
        Self { uploads: Arc::new(Semaphore::new(UPLOADS)), sources: Mutex::default() }
    }

    /// Runs what reads uploads. Dropping the future ends the work.
    ///
    /// # Errors
    /// What `read` says, and [`EngineError::Panicked`].
    pub(super) async fn upload<T: Send + 'static, E: From<EngineError> + Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        run(self.uploads.clone(), read).await
    }

    /// Runs what reads a source. Dropping the future ends the work.
    ///
    /// # Errors
    /// As [`Reading::upload`].
    pub(super) async fn source<T: Send + 'static, E: From<EngineError> + Send + 'static>(
        &self,
        id: &str,
        read: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        run(self.turns(id), read).await
    }

    fn turns(&self, id: &str) -> Arc<Semaphore> {
        let mut sources = self.sources.lock().ignore_poison();
        if let Some(turns) = sources.get(id).and_then(Weak::upgrade) {
            return turns;
        }
        sources.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(PER_SOURCE));
        sources.insert(id.to_owned(), Arc::downgrade(&turns));
        turns
    }
}

async fn run<T: Send + 'static, E: From<EngineError> + Send + 'static>(
    turns: Arc<Semaphore>,
    read: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    // The semaphore is never closed.
    let turn = turns.acquire_owned().await.map_err(|_| EngineError::Stopping)?;
    let request = Work::default();
    let work = request.of(read);
    let read = move || {
        // A thread that goes on after its request counts until it is done.
        let _turn = turn;
        work()
    };
    tokio::task::spawn_blocking(read).await.unwrap_or(Err(EngineError::Panicked.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_source_that_hangs_leaves_the_others_alone_and_ends_with_its_requests() {
        let reading = Arc::new(Reading::new());
        let (ended, ends) = mpsc::channel();
        let hanging: Vec<_> = (0..2 * PER_SOURCE)
            .map(|_| {
                let (reading, ended) = (reading.clone(), ended.clone());
                tokio::spawn(async move {
                    let hang = move || {
                        while Work::check().is_ok() {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        ended.send(()).map_err(|_| EngineError::Stopping)
                    };
                    reading.source("dead", hang).await
                })
            })
            .collect();
        let answer: Result<_, EngineError> = reading.source("alive", || Ok(1)).await;
        assert_eq!(answer.unwrap(), 1);
        hanging.iter().for_each(|request| request.abort());
        let ended = tokio::task::spawn_blocking(move || ends.recv_timeout(Duration::from_secs(60)).is_ok());
        assert!(ended.await.unwrap());
        let again: Result<_, EngineError> = reading.source("dead", || Ok(2)).await;
        assert_eq!(again.unwrap(), 2);
    }
}
