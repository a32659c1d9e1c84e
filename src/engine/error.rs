//! Everything that can go wrong between a request and its prediction.

use std::sync::Arc;
use std::time::Duration;

use super::near_match::nearest;
use crate::budget::BudgetError;
use crate::error::ErrorKind;
use crate::georef::CrsError;
use crate::nn::{LoadError, NnError};
use crate::raster::RasterError;
use crate::tiles::TileError;
use crate::vectors::VectorError;
use crate::weights::WeightsError;
use crate::zoo::{CatalogError, ManifestError};

/// An error of the engine. Cheap to clone, because all requests that waited for one load get its error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// No such model.
    #[error("there is no model {id:?} among the {count} there are{}", did_you_mean(.suggestion))]
    UnknownModel {
        /// The id found.
        id: String,
        /// How many there are.
        count: usize,
        /// The most similar id.
        suggestion: Option<String>,
    },
    /// The model has no such task.
    #[error("model {model} has no task {task:?}{}; it has {}", did_you_mean(&meant(task, available)), available.join(", "))]
    UnknownTask {
        /// The model.
        model: String,
        /// The task found.
        task: String,
        /// The tasks it has.
        available: Vec<String>,
    },
    /// No such source.
    #[error("there is no source {id:?}{}", did_you_mean(.suggestion))]
    UnknownSource {
        /// The id found.
        id: String,
        /// The most similar id.
        suggestion: Option<String>,
    },
    /// No such index.
    #[error("there is no index {id:?}{}", did_you_mean(.suggestion))]
    UnknownIndex {
        /// The id found.
        id: String,
        /// The most similar id.
        suggestion: Option<String>,
    },
    /// A source that is known but has not been opened yet.
    #[error("source {id:?} is not open yet; try again in a moment")]
    SourceNotOpen {
        /// The id.
        id: String,
    },
    /// A zoom outside the range of the tile set.
    #[error("zoom {zoom} is outside {min_zoom} to {max_zoom}, the zooms of this tile set")]
    ZoomOutOfRange {
        /// Zoom found.
        zoom: u8,
        /// Least zoom served.
        min_zoom: u8,
        /// Greatest zoom served.
        max_zoom: u8,
    },
    /// The id is taken.
    #[error("{what} {id:?} exists already")]
    Exists {
        /// `model` or `source`.
        what: &'static str,
        /// The id.
        id: String,
    },
    /// A built-in model or source cannot be removed.
    #[error("{what} {id:?} is built in and cannot be removed")]
    BuiltIn {
        /// `model` or `source`.
        what: &'static str,
        /// The id.
        id: String,
    },
    /// A request value that contradicts the model.
    #[error("{detail}")]
    Invalid {
        /// What was found and what is needed.
        detail: String,
    },
    /// A raster that can be read but does not fit the model or the other captures.
    #[error("{detail}")]
    Unusable {
        /// What was found and what is needed.
        detail: String,
    },
    /// One of several chips cannot be answered.
    #[error("chip {index} (they are counted from 0): {source}")]
    Chip {
        /// Its place among the chips.
        index: usize,
        /// Why not.
        source: Arc<EngineError>,
    },
    /// More pixels or values than allowed.
    #[error("{what}: {found} is more than the limit of {limit}")]
    TooLarge {
        /// The thing counted.
        what: &'static str,
        /// The count found.
        found: u64,
        /// The most allowed.
        limit: u64,
    },
    /// The queue of the device is full, or too long for an answer in time.
    #[error("{waiting} requests wait for the device already; try again in {} s", retry_after.as_secs())]
    Overloaded {
        /// Requests in the queue.
        waiting: usize,
        /// Time until the work that waits now is likely to be done.
        retry_after: Duration,
    },
    /// The request takes longer than its time even if nobody else asks for anything, as is known on arrival or from its first passes.
    #[error("this takes about {} s, and a request has {} s", expected.as_secs(), limit.as_secs())]
    TooLong {
        /// Time for all its passes.
        expected: Duration,
        /// Time that the request has.
        limit: Duration,
    },
    /// The weights file was replaced between planning and loading.
    #[error("the weights of model {id} were replaced while this request was being answered; ask again")]
    WeightsReplaced {
        /// The model.
        id: String,
    },
    /// The server is shutting down.
    #[error("the server is stopping")]
    Stopping,
    /// A worker panicked; the details are in the log.
    #[error("an internal fault stopped this request; it has been logged")]
    Panicked,
    /// Writing under the data directory failed.
    #[error("{what} could not be stored: {source}")]
    Store {
        /// The thing to be stored.
        what: String,
        /// What the file system says.
        source: Arc<std::io::Error>,
    },
    /// The database that servers share does not answer, so that nothing can be registered or removed.
    #[error("the database that servers share does not answer: {reason}")]
    Registry {
        /// What it, or the connection, said.
        reason: String,
    },
    /// There is no memory for the answer.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// A raster failed.
    #[error(transparent)]
    Raster(Arc<RasterError>),
    /// Weights failed.
    #[error(transparent)]
    Weights(Arc<WeightsError>),
    /// The weights do not fit the model.
    #[error(transparent)]
    Load(Arc<LoadError>),
    /// The network failed.
    #[error(transparent)]
    Network(Arc<NnError>),
    /// The catalogue failed.
    #[error(transparent)]
    Catalog(Arc<CatalogError>),
    /// A manifest is not valid.
    #[error(transparent)]
    Manifest(Arc<ManifestError>),
    /// A coordinate system failed.
    #[error(transparent)]
    Crs(Arc<CrsError>),
    /// Stored vectors failed.
    #[error(transparent)]
    Vectors(#[from] VectorError),
    /// A tile that cannot exist.
    #[error(transparent)]
    Tile(Arc<TileError>),
}

/// The task that was probably meant.
fn meant(task: &str, available: &[String]) -> Option<String> {
    nearest(task, available.iter().map(String::as_str))
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|id| format!(" (did you mean {id:?}?)")).unwrap_or_default()
}

impl EngineError {
    /// Checks a count against a limit.
    ///
    /// # Errors
    /// [`EngineError::TooLarge`].
    pub(super) fn limit(what: &'static str, found: u64, limit: u64) -> Result<(), Self> {
        if found > limit { Err(Self::TooLarge { what, found, limit }) } else { Ok(()) }
    }

    /// True if a remote file has changed since its source was opened.
    pub(super) fn is_changed_file(&self) -> bool {
        matches!(self, Self::Raster(error) if error.is_changed_file())
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownModel { .. }
            | Self::UnknownTask { .. }
            | Self::UnknownSource { .. }
            | Self::UnknownIndex { .. }
            | Self::ZoomOutOfRange { .. } => ErrorKind::NotFound,
            Self::Exists { .. } | Self::BuiltIn { .. } => ErrorKind::Conflict,
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Unusable { .. } => ErrorKind::Unusable,
            Self::Chip { source, .. } => source.kind(),
            Self::TooLarge { .. } | Self::TooLong { .. } => ErrorKind::TooLarge,
            Self::Overloaded { .. } => ErrorKind::Overloaded,
            Self::Stopping | Self::Registry { .. } | Self::SourceNotOpen { .. } | Self::WeightsReplaced { .. } => {
                ErrorKind::Unavailable
            }
            Self::Panicked | Self::Store { .. } => ErrorKind::Internal,
            Self::Budget(error) => error.kind(),
            Self::Raster(error) => error.kind(),
            Self::Weights(error) => error.kind(),
            Self::Load(error) => error.kind(),
            Self::Network(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::Manifest(error) => error.kind(),
            Self::Crs(error) => error.kind(),
            Self::Vectors(error) => error.kind(),
            Self::Tile(error) => error.kind(),
        }
    }
}

macro_rules! from_shared {
    ($($error:ty => $variant:ident),* $(,)?) => {
        $(impl From<$error> for EngineError {
            fn from(error: $error) -> Self {
                Self::$variant(Arc::new(error))
            }
        })*
    };
}

from_shared! {
    RasterError => Raster,
    WeightsError => Weights,
    LoadError => Load,
    NnError => Network,
    CatalogError => Catalog,
    ManifestError => Manifest,
    CrsError => Crs,
    TileError => Tile,
}

impl From<Arc<EngineError>> for EngineError {
    fn from(error: Arc<EngineError>) -> Self {
        Arc::unwrap_or_clone(error)
    }
}
