//! Predictions to bytes: the formats of the API, one file each.

use crate::error::ErrorKind;
use crate::zoo::TaskType;

/// The formats an answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Palette or colour-mapped image.
    Png,
    /// The same, lossless WebP.
    Webp,
    /// GeoTIFF with colour table, nodata and category names.
    Tif,
    /// RFC 7946 features.
    Geojson,
    /// Mapbox vector tile.
    Mvt,
    /// NumPy array.
    Npy,
    /// Plain JSON.
    Json,
    /// Named tensors.
    Safetensors,
}

impl Format {
    /// The formats of a task type, the default first.
    pub fn of(task_type: TaskType) -> &'static [Format] {
        use Format::{Geojson, Json, Mvt, Npy, Png, Safetensors, Tif, Webp};
        match task_type {
            TaskType::Segment | TaskType::BinSegment => &[Png, Webp, Tif, Geojson, Mvt, Npy],
            TaskType::Regress => &[Png, Webp, Tif, Npy],
            TaskType::Detect | TaskType::Instance => &[Geojson, Mvt, Png, Json, Safetensors],
            TaskType::Classification | TaskType::MultiLabelClassification => &[Json, Geojson],
            TaskType::Embedding => &[Json, Npy, Safetensors],
        }
    }

    /// The file extension, which is also the name in `format=`.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Tif => "tif",
            Self::Geojson => "geojson",
            Self::Mvt => "mvt",
            Self::Npy => "npy",
            Self::Json => "json",
            Self::Safetensors => "safetensors",
        }
    }

    /// The format of a name such as `png`.
    pub fn by_extension(name: &str) -> Option<Format> {
        use Format::{Geojson, Json, Mvt, Npy, Png, Safetensors, Tif, Webp};
        [Png, Webp, Tif, Geojson, Mvt, Npy, Json, Safetensors].into_iter().find(|format| format.extension() == name)
    }

    /// The media type of answers.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Tif => "image/tiff; application=geotiff",
            Self::Geojson => "application/geo+json",
            Self::Mvt => "application/vnd.mapbox-vector-tile",
            Self::Npy => "application/x-npy",
            Self::Json => "application/json",
            Self::Safetensors => "application/x-safetensors",
        }
    }
}

/// How a prediction is filtered and drawn; the defaults are the API's.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderOptions {
    /// Least score of objects and least probability of binary categories; `None` is 0.5 for images, tiles and vectors and
    /// the network's own 0.05 for raw boxes (json, safetensors).
    pub threshold: Option<f32>,
    /// Categories shown, by index into the task's; `None` shows all.
    pub categories: Option<Vec<usize>>,
    /// Most objects returned, best first.
    pub max_detections: Option<usize>,
    /// What an image's pixels say.
    pub render: Render,
    /// Colours of continuous values.
    pub colormap: Colormap,
    /// 0 (invisible) … 1.
    pub opacity: f32,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self {
            threshold: None,
            categories: None,
            max_detections: None,
            render: Render::Color,
            colormap: Colormap::default(),
            opacity: 1.0,
        }
    }
}

/// What an image's pixels say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Render {
    /// The category's colour.
    #[default]
    Color,
    /// The category's index.
    Index,
    /// The probability of one category, through the colour map.
    Probability {
        /// Index into the task's categories.
        category_id: usize,
    },
}

/// A colour map for continuous values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Colormap {
    /// Perceptually uniform, blue to yellow.
    #[default]
    Viridis,
    /// Black to white.
    Gray,
    /// Perceptually uniform, black over red to yellow.
    Inferno,
    /// Hypsometric: sea green over brown to white.
    Terrain,
}

/// An encoded answer.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The body.
    pub bytes: bytes::Bytes,
    /// Its media type.
    pub media_type: &'static str,
}

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
    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAvailable { .. } => ErrorKind::NotAcceptable,
            Self::Encode { .. } => ErrorKind::Internal,
        }
    }
}
