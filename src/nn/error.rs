//! Why a network cannot be loaded or run.

use std::fmt;

use crate::error::ErrorKind;
use crate::weights::WeightsError;

/// Names listed in an error before the rest is only counted.
const NAMES_SHOWN: usize = 12;

/// Why a network cannot be put together from its weights.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The weights are those of another network.
    #[error(
        "{file} does not fit model {model}: {} tensors are missing{}, {} have another shape{}, {} are not used{}",
        missing.len(), Names(missing), misshapen.len(), Names(misshapen), unused.len(), Names(unused)
    )]
    Tensors {
        /// The weights file.
        file: String,
        /// The model it was opened for.
        model: String,
        /// Names that the network needs and the file has not.
        missing: Vec<String>,
        /// Names whose shape is another, with the shape found and the one needed.
        misshapen: Vec<String>,
        /// Names that the file has and the network does not need.
        unused: Vec<String>,
    },
    /// A tensor cannot be read.
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
            Self::Tensors { .. } => ErrorKind::Unusable,
            Self::Weights(error) => error.kind(),
            Self::Specification { .. } => ErrorKind::Invalid,
            Self::Device { .. } => ErrorKind::Internal,
        }
    }
}

/// A few names in parentheses, the rest as a count.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let shown = &self.0[..self.0.len().min(NAMES_SHOWN)];
        write!(f, " ({}", shown.join(", "))?;
        if shown.len() < self.0.len() {
            write!(f, " and {} more", self.0.len() - shown.len())?;
        }
        write!(f, ")")
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
    /// The device failed.
    #[error("the device failed during the forward pass")]
    Device(#[from] candle_core::Error),
}

impl NnError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Input { .. } => ErrorKind::Unusable,
            Self::Absent { .. } => ErrorKind::NotFound,
            Self::Device(_) => ErrorKind::Internal,
        }
    }
}
