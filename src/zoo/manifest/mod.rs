//! A user's own model, as the body of `POST /v1/models` and as a `.toml` file in the models directory.
//!
//! Either a checkpoint of one's own, or a built-in model's backbone (and pyramid) with new heads drawn from a seed, wired as
//! the public Python package wires its seven.

mod validate;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::spec::{Activation, Backbone, Band, Layout, TaskType};
use crate::error::ErrorKind;

/// A model that a user adds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name in URLs: letters, digits, `_`, `.`, `-`, at most 64.
    pub id: String,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A built-in model whose backbone (and pyramid) is used; this or `checkpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Names the random numbers of new heads on a base model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// Whether the pyramid and the decoder are used; default true.
    #[serde(default = "yes")]
    pub fpn: bool,
    /// Channels of the pyramid's maps; default 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fpn_channels: Option<usize>,
    /// Channels of the full-resolution map; default 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upsample_channels: Option<usize>,
    /// `sentinel2`, `sentinel1`, `landsat`, `aerial` or any other word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensor: Option<String>,
    /// Metres per pixel the model was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native_gsd_m: Option<f64>,
    /// The Web Mercator zoom whose 512 px tiles have that resolution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native_zoom_512: Option<u8>,
    /// Whether captures are pooled by their maximum; default false, or the base model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_image: Option<bool>,
    /// Captures accepted; default 1, or 8 for a multi-image model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_images: Option<usize>,
    /// Licence of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The user's own weights; this or `base`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// The checkpoint's backbone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone: Option<BackboneChoice>,
    /// The checkpoint's input bands in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bands: Vec<Band>,
    /// The heads, in checkpoint order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<ManifestHead>,
}

fn yes() -> bool {
    true
}

/// A file with weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// A `.pth` or `.safetensors` file, relative to the models directory.
    pub path: String,
    /// Which code base wrote it.
    pub layout: Layout,
}

/// A backbone by name (`swin_v2_t`, `swin_v2_b`, `resnet18` … `resnet152`) or by its sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum BackboneChoice {
    /// A usual one.
    Name(String),
    /// One described in full.
    Sizes(Backbone),
}

/// One head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestHead {
    /// The name of its task in URLs.
    pub task: String,
    /// The kind of answer.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Category names, one an output; for `detect` and `instance` the first is the background. May be left out for `regress`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// Red, green, blue per category.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub colors: Vec<[u8; 3]>,
    /// Whether category 0 means "no valid label" and is drawn transparent.
    #[serde(default)]
    pub background_invalid: bool,
    /// The network; default by type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<HeadNetwork>,
    /// What follows the last layer; default by type and layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// Maps that a detection head reads (0 the full-resolution map, 1 … 4 the pyramid); default by layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_layers: Option<Vec<usize>>,
    /// Anchor side in pixels, one a map; default 32, 64, 128, 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor_sizes: Option<Vec<f32>>,
}

/// The network of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadNetwork {
    /// Two convolutions over the first map.
    Simple,
    /// Mean of the last map, then linear.
    Classify,
    /// Faster or Mask R-CNN.
    Frcnn,
}

/// A manifest that describes no usable model.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the expected TOML.
    #[error("the manifest cannot be read: {0}")]
    Toml(#[from] toml::de::Error),
    /// It cannot be written as TOML.
    #[error("the manifest cannot be written: {0}")]
    Unwritable(#[from] toml::ser::Error),
    /// A field with an unusable value.
    #[error("{field}: found {found}, needed {needed}")]
    Field {
        /// Its path in the manifest.
        field: String,
        /// What it holds.
        found: String,
        /// What it should hold.
        needed: String,
    },
    /// The base model does not exist.
    #[error("base: no model {base:?}")]
    UnknownBase {
        /// The name found.
        base: String,
    },
}

impl ManifestError {
    /// Why, as far as a caller can act on it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unwritable(_) => ErrorKind::Internal,
            Self::Toml(_) | Self::Field { .. } | Self::UnknownBase { .. } => ErrorKind::Invalid,
        }
    }
}

impl Manifest {
    /// Reads a manifest file's text.
    ///
    /// # Errors
    /// [`ManifestError::Toml`] with line and column.
    pub fn from_toml(text: &str) -> Result<Self, ManifestError> {
        Ok(toml::from_str(text)?)
    }

    /// The text of a manifest file that [`Manifest::from_toml`] reads back.
    ///
    /// # Errors
    /// [`ManifestError::Unwritable`] where TOML cannot express a value.
    pub fn to_toml(&self) -> Result<String, ManifestError> {
        Ok(toml::to_string_pretty(self)?)
    }
}
