//! Why a network cannot be loaded or run.

use crate::error::ErrorKind;
use crate::weights::WeightsError;

/// Why a network cannot be built from its weights.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The weights belong to another network, or a tensor cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The specification describes a network that cannot be built.
    #[error("model {model} cannot be built: {reason}")]
    Specification {
        /// The model's id.
        model: String,
        /// What was found and what is needed.
        reason: String,
    },
    /// The device failed while weights were prepared.
    #[error("model {model} cannot be prepared for the device")]
    Device {
        /// The model's id.
        model: String,
        /// The device's error.
        #[source]
        source: candle_core::Error,
    },
}

impl LoadError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Weights(error) => error.kind(),
            Self::Specification { .. } => ErrorKind::Invalid,
            Self::Device { .. } => ErrorKind::Internal,
        }
    }
}

/// Why a loaded network cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum NnError {
    /// The images do not have the shape that the network reads.
    #[error("the network cannot read these images: {found}; needed: {needed}")]
    Input {
        /// The images' shape and captures.
        found: String,
        /// The shape that is needed.
        needed: String,
    },
    /// The model has no such head or layer.
    #[error("the model has no {what}")]
    Absent {
        /// The head or layer that was requested.
        what: String,
    },
    /// A head could not be prepared at its first use.
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
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Input { .. } => ErrorKind::Unusable,
            Self::Absent { .. } => ErrorKind::NotFound,
            Self::Prepare(error) => error.kind(),
            Self::Device(_) => ErrorKind::Internal,
        }
    }
}
