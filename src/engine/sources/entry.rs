//! What is known of one source: where it came from, and whether it is open.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::store::SourceRecord;
use crate::engine::error::EngineError;
use crate::raster::{Location, Source};

#[derive(Clone)]
pub(super) struct SourceEntry {
    pub(super) built_in: bool,
    pub(super) origin: SourceOrigin,
    /// The directory to remove with the source.
    pub(super) stored: Option<PathBuf>,
    /// The version of the document that servers share about it.
    pub(super) shared: Option<i64>,
    pub(super) state: SourceState,
    /// Held while the source is being opened, so that concurrent requests open it once.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

/// How a source can be opened again.
#[derive(Clone)]
pub(super) enum SourceOrigin {
    /// It cannot: its file of so many bytes is in memory only.
    Memory { bytes: u64 },
    /// As the operator named it.
    Locations(Vec<Location>),
    /// As a client registered it.
    Record(SourceRecord),
}

#[derive(Clone)]
pub(super) enum SourceState {
    Open(Arc<Source>),
    Closed { failure: Option<(Instant, EngineError)> },
}

/// A source that is known but not open.
#[derive(Clone, Debug)]
pub struct UnavailableSource {
    /// Its id.
    pub id: String,
    /// True if it came with the server's command line.
    pub built_in: bool,
    /// The error of the last attempt to open it; `None` before the first.
    pub failure: Option<EngineError>,
}

impl SourceEntry {
    pub(super) fn closed(built_in: bool, origin: SourceOrigin, stored: Option<PathBuf>) -> Self {
        Self { built_in, origin, stored, shared: None, state: SourceState::Closed { failure: None }, turn: Arc::default() }
    }

    /// The open source, or the error of an attempt less than `retry_after` ago; `None` if it should be opened now.
    pub(super) fn settled(&self, retry_after: Duration) -> Option<Result<Arc<Source>, EngineError>> {
        match &self.state {
            SourceState::Open(source) => Some(Ok(source.clone())),
            SourceState::Closed { failure: Some((at, error)) } if at.elapsed() < retry_after => Some(Err(error.clone())),
            SourceState::Closed { .. } => None,
        }
    }
}
