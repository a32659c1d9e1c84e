//! Why a network cannot be loaded or run.

use crate::error::ErrorKind;
use crate::weights::WeightsError;

/// Why a network cannot be put together from its weights.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The weights are those of another network, or a tensor cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The specification describes a network that cannot exist.
    #[error("model {model} cannot be built: {reason}")]
    Specification {
        /// The model.
        model: String,
        /// What was found and what is needed.
        reason: String,
    },
    /// The device failed while weights were prepared.
    #[error("model {model} cannot be prepared for the device")]
    Device {
        /// The model.
        model: String,
        /// What the device says.
        #[source]
        source: candle_core::Error,
    },
}

impl LoadError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Weights(error) => error.kind(),
            Self::Specification { .. } => ErrorKind::Invalid,
            Self::Device { .. } => ErrorKind::Internal,
        }
    }
}

/// Why a loaded network gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum NnError {
    /// The images are not what the network reads.
    #[error("the network cannot read these images: {found}; needed: {needed}")]
    Input {
        /// What came.
        found: String,
        /// What is needed.
        needed: String,
    },
    /// The model has no such head or layer.
    #[error("the model has no {what}")]
    Absent {
        /// The head or the layer asked for.
        what: String,
    },
    /// A head that nobody had asked for before could not be prepared.
    #[error(transparent)]
    Prepare(Box<LoadError>),
    /// The device failed.
    #[error("the device failed during the forward pass")]
    Device(#[from] candle_core::Error),
}

impl From<LoadError> for NnError {
    fn from(error: LoadError) -> Self {
        Self::Prepare(Box::new(error))
    }
}

impl NnError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Input { .. } => ErrorKind::Unusable,
            Self::Absent { .. } => ErrorKind::NotFound,
            Self::Prepare(error) => error.kind(),
            Self::Device(_) => ErrorKind::Internal,
        }
    }
}
