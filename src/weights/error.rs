//! Errors of finding, reading and using weights.

use std::path::{Path, PathBuf};

use super::fit::Fit;
use crate::error::ErrorKind;

/// Weights cannot be found, read or used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", shown(path, source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is truncated, damaged, or not a checkpoint.
    #[error("{file} is not a readable checkpoint: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// What was found and what is needed.
        reason: String,
    },
    /// The checkpoint has a form that is not read.
    #[error("{file}: {reason}")]
    Refused {
        /// The file.
        file: String,
        /// Why not, and what the user can do.
        reason: String,
    },
    /// The file was written to while a model was loaded from it, or since.
    #[error("{file} has been written to since it was opened; ask again when it is complete, and it is loaded anew")]
    Changed {
        /// The file.
        file: String,
    },
    /// The file lacks a tensor that the network needs.
    #[error("{file} holds no tensor {name:?}")]
    Missing {
        /// The file.
        file: String,
        /// The tensor's name.
        name: String,
    },
    /// A tensor has another shape than the network needs.
    #[error("{file}: tensor {name:?} has shape {found:?}, and {needed:?} is needed")]
    Misshapen {
        /// The file.
        file: String,
        /// The tensor's name.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape the network needs.
        needed: Vec<usize>,
    },
    /// A tensor has no floating-point type.
    #[error("{file}: tensor {name:?} holds {found}, and a floating-point type is needed")]
    ElementType {
        /// The file.
        file: String,
        /// The tensor's name.
        name: String,
        /// Its element type in the file.
        found: String,
    },
    /// The file belongs to another model.
    #[error("{file} does not fit model {model}: {fit}")]
    DoesNotFit {
        /// The file.
        file: String,
        /// The model.
        model: String,
        /// Missing, misshapen and unused tensors by name.
        fit: Box<Fit>,
    },
    /// The file would have to be downloaded, which is not allowed.
    #[error("{file} is not on this machine, and the server runs offline")]
    Offline {
        /// The file.
        file: String,
    },
    /// The file could not be downloaded.
    #[error("{url}: {reason}")]
    Download {
        /// Its address.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The user has to supply the file.
    #[error("{file} is not in the models directory (--models-dir): {advice}")]
    NotHere {
        /// The file.
        file: String,
        /// What to download, from where, and where to put it.
        advice: String,
    },
    /// A tensor could not be placed on the device.
    #[error("tensor {name:?} could not be placed on the device: {source}")]
    Device {
        /// The tensor's name.
        name: String,
        /// candle's error.
        source: candle_core::Error,
    },
}

/// What messages call a file: its last part, since clients need not know where the server keeps its files.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The whole path where only the log has the message: a missing file is reported to the client.
fn shown(path: &Path, source: &std::io::Error) -> String {
    match source.kind() {
        std::io::ErrorKind::NotFound => file_name(path),
        _ => path.display().to_string(),
    }
}

impl WeightsError {
    /// How the HTTP layer classifies the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Offline { .. } | Self::NotHere { .. } => ErrorKind::NotProvided,
            Self::Changed { .. } => ErrorKind::Unavailable,
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
