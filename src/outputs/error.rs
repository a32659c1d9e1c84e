//! What can go wrong between a prediction and its bytes.

use super::Format;
use crate::error::ErrorKind;
use crate::zoo::{Task, TaskType};

/// What can go wrong in encoding.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The format does not exist for the kind of task.
    #[error("{task} cannot be answered as {format}; it can be {available}")]
    NotAvailable {
        /// The task's name.
        task: String,
        /// The format wanted.
        format: &'static str,
        /// The formats there are.
        available: String,
    },
    /// A vector tile was asked of an image that is no XYZ tile.
    #[error("mvt answers exist only for XYZ tiles, and this image is not one; take geojson")]
    NoTile,
    /// A format of one array was asked to hold several layers.
    #[error("npy holds one array, but {layers} layers were asked for; choose one layer, or take safetensors")]
    OneLayer {
        /// Layers found.
        layers: usize,
    },
    /// The rendering does not exist for the task.
    #[error("{task} cannot be rendered so: {reason}")]
    NotRenderable {
        /// The task's name.
        task: String,
        /// What is missing.
        reason: String,
    },
    /// The image exceeds what the format can hold.
    #[error("{width} x {height} pixels do not fit into {format}: {limit}")]
    TooLarge {
        /// The format.
        format: &'static str,
        /// Columns found.
        width: usize,
        /// Rows found.
        height: usize,
        /// The format's limit in words.
        limit: &'static str,
    },
    /// A text or vector answer would hold too much.
    #[error("{task} as {format} would hold more than {limit} {what}, which is the limit; {way_out}")]
    TooMuch {
        /// The task's name.
        task: String,
        /// The format.
        format: &'static str,
        /// The things counted.
        what: &'static str,
        /// The most there may be.
        limit: usize,
        /// What helps.
        way_out: &'static str,
    },
    /// An encoder failed.
    #[error("the {format} answer could not be written: {reason}")]
    Encode {
        /// The format.
        format: &'static str,
        /// What the encoder says.
        reason: String,
    },
}

impl OutputError {
    /// Probabilities are wanted of a scene that was reduced to categories.
    pub(super) fn reduced(task: &Task) -> Self {
        Self::NotRenderable { task: task.name.clone(), reason: "only categories were kept, no probabilities".to_owned() }
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAvailable { .. } | Self::NoTile | Self::OneLayer { .. } => ErrorKind::NotAcceptable,
            Self::NotRenderable { .. } => ErrorKind::Invalid,
            Self::TooLarge { .. } | Self::TooMuch { .. } => ErrorKind::TooLarge,
            Self::Encode { .. } => ErrorKind::Internal,
        }
    }

    /// The error of a format that a task does not have.
    pub(super) fn not_available(task: &Task, format: Format) -> Self {
        let names: Vec<&str> = Format::of(task.task_type).iter().map(|format| format.extension()).collect();
        Self::NotAvailable { task: task.name.clone(), format: format.extension(), available: names.join(", ") }
    }

    /// The error of an encoder.
    pub(super) fn encode(format: Format, reason: impl std::fmt::Display) -> Self {
        Self::Encode { format: format.extension(), reason: reason.to_string() }
    }

    /// The error of a prediction that is not what its task type produces.
    pub(super) fn mismatch(format: Format, task_type: TaskType) -> Self {
        Self::encode(format, format_args!("the prediction does not hold what a {task_type:?} task produces"))
    }
}
