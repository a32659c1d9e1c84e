//! Errors of encoding a prediction.

use super::format::Format;
use crate::error::ErrorKind;
use crate::zoo::{Task, TaskType};

/// An error of encoding a prediction.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The task type has no such format.
    #[error("{task} cannot be answered as {format}; it can be {available}")]
    NotAvailable {
        /// The task's name.
        task: String,
        /// The format that was asked for.
        format: &'static str,
        /// The formats the task type has.
        available: String,
    },
    /// A vector tile was asked for, but the image is not an XYZ tile.
    #[error("mvt answers exist only for XYZ tiles, and this image is not one; take geojson")]
    NoTile,
    /// Several layers were asked for in a format that holds one array.
    #[error("npy holds one array, but {layers} layers were asked for; choose one layer, or take safetensors")]
    OneLayer {
        /// How many layers were asked for.
        layers: usize,
    },
    /// The task cannot be rendered as asked for.
    #[error("{task} cannot be rendered so: {reason}")]
    NotRenderable {
        /// The task's name.
        task: String,
        /// Why not.
        reason: String,
    },
    /// The format cannot hold an image of this size.
    #[error("{width} x {height} pixels do not fit into {format}: {limit}")]
    TooLarge {
        /// The format.
        format: &'static str,
        /// The image's columns.
        width: usize,
        /// The image's rows.
        height: usize,
        /// The format's limit, in words.
        limit: &'static str,
    },
    /// A text or vector answer would be too large.
    #[error("{task} as {format} would hold more than {limit} {what}, which is the limit; {way_out}")]
    TooMuch {
        /// The task's name.
        task: String,
        /// The format.
        format: &'static str,
        /// What is counted.
        what: &'static str,
        /// How many there may be.
        limit: usize,
        /// What the caller can do instead.
        way_out: &'static str,
    },
    /// An encoder failed, or the prediction contradicts itself.
    #[error("the {format} answer could not be written: {reason}")]
    Encode {
        /// The format.
        format: &'static str,
        /// What went wrong.
        reason: String,
    },
}

impl OutputError {
    /// Probabilities were asked for, but the scene was reduced to categories.
    pub(super) fn reduced(task: &Task) -> Self {
        Self::NotRenderable { task: task.name.clone(), reason: "only categories were kept, no probabilities".to_owned() }
    }

    /// How the HTTP layer classifies the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAvailable { .. } | Self::NoTile | Self::OneLayer { .. } => ErrorKind::NotAcceptable,
            Self::NotRenderable { .. } => ErrorKind::Invalid,
            Self::TooLarge { .. } | Self::TooMuch { .. } => ErrorKind::TooLarge,
            Self::Encode { .. } => ErrorKind::Internal,
        }
    }

    pub(super) fn not_available(task: &Task, format: Format) -> Self {
        let names: Vec<&str> = Format::of(task.task_type).iter().map(|format| format.extension()).collect();
        Self::NotAvailable { task: task.name.clone(), format: format.extension(), available: names.join(", ") }
    }

    pub(super) fn encode(format: Format, reason: impl std::fmt::Display) -> Self {
        Self::Encode { format: format.extension(), reason: reason.to_string() }
    }

    /// The prediction is not of the kind that the task type produces.
    pub(super) fn mismatch(format: Format, task_type: TaskType) -> Self {
        Self::encode(format, format_args!("the prediction does not hold what a {task_type:?} task produces"))
    }
}
