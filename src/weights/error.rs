//! What can go wrong between a file name and a tensor.

use std::path::PathBuf;

use super::Fit;
use crate::error::ErrorKind;

/// Weights that cannot be found, read or used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is cut short, damaged, or not what its name says.
    #[error("{file} is not a readable checkpoint: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// What was found and what is needed.
        reason: String,
    },
    /// A checkpoint in a form that is refused on purpose.
    #[error("{file}: {reason}")]
    Refused {
        /// The file.
        file: String,
        /// Why, and what to do instead.
        reason: String,
    },
    /// The file was written to while a model used it.
    #[error("{file} has been written to since the model was loaded; ask again, and it is loaded anew")]
    Changed {
        /// The file.
        file: String,
    },
    /// The network asks for a tensor that the file lacks.
    #[error("{file} holds no tensor {name:?}")]
    Missing {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
    },
    /// A tensor of another shape.
    #[error("{file}: tensor {name:?} has shape {found:?}, and {needed:?} is needed")]
    Misshapen {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape the network needs.
        needed: Vec<usize>,
    },
    /// A tensor whose element type no network can use.
    #[error("{file}: tensor {name:?} holds {found}, and a floating-point type is needed")]
    ElementType {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// Its element type in the file.
        found: String,
    },
    /// The file is of another model.
    #[error("{file} does not fit model {model}: {fit}")]
    DoesNotFit {
        /// The file.
        file: String,
        /// The model.
        model: String,
        /// Missing, misshapen and unused tensors by name.
        fit: Box<Fit>,
    },
    /// A file would have to be downloaded, and may not.
    #[error("{file} is not on this machine, and the server runs offline")]
    Offline {
        /// The file.
        file: String,
    },
    /// The hub does not give the file.
    #[error("{url}: {reason}")]
    Download {
        /// Where it was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// A file that the user has to bring.
    #[error("{file} is not in {models_dir}: {advice}", models_dir = models_dir.display())]
    NotHere {
        /// The file.
        file: String,
        /// Where it was looked for.
        models_dir: PathBuf,
        /// What to download, from where, and where to put it.
        advice: String,
    },
    /// A tensor could not be placed on the device.
    #[error("tensor {name:?} could not be placed on the device: {source}")]
    Device {
        /// The tensor.
        name: String,
        /// What candle says.
        source: candle_core::Error,
    },
}

impl WeightsError {
    /// Why, as far as a caller can act on it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Offline { .. } | Self::NotHere { .. } | Self::Changed { .. } => ErrorKind::Unavailable,
            Self::Download { .. } => ErrorKind::Upstream,
            Self::Io { .. } | Self::Device { .. } => ErrorKind::Internal,
            Self::Damaged { .. }
            | Self::Refused { .. }
            | Self::Missing { .. }
            | Self::DoesNotFit { .. }
            | Self::Misshapen { .. }
            | Self::ElementType { .. } => ErrorKind::Unusable,
        }
    }
}
