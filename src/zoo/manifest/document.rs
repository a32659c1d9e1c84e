//! The fields of a manifest, and the errors of reading one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ErrorKind;
use crate::zoo::backbone::Backbone;
use crate::zoo::fit_report::FitReport;
use crate::zoo::layer::Layer;
use crate::zoo::spec::{Activation, Band, Layout, ModelSpec, Task, TaskType};

/// The description of a model that a user adds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The model's name in URLs: at most 64 letters, digits, `_`, `.`, `-`.
    pub id: String,
    /// One line that describes the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A built-in model whose backbone (and pyramid) is used. Either this or `checkpoint` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Seed of the random weights of new heads on a base model; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// Whether the model has the feature pyramid and the decoder; default true.
    #[serde(default = "yes")]
    pub fpn: bool,
    /// Channels of the pyramid's maps; default 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fpn_channels: Option<usize>,
    /// Whether a `classify` head reads the backbone's coarsest map, not the pyramid's, as in the aerial models; default false.
    /// Only in the `satlas` layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fpn_prepend: Option<bool>,
    /// Channels of the full-resolution map; default 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upsample_channels: Option<usize>,
    /// `sentinel2`, `sentinel1`, `landsat`, `aerial` or any other word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensor: Option<String>,
    /// Metres per pixel of the imagery the model was trained on; default 10, or the base model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native_gsd_m: Option<f64>,
    /// The Web Mercator zoom whose 512 px tiles have this resolution; default 13, or the base model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native_zoom_512: Option<u8>,
    /// Whether the model takes several captures, whose feature maps are pooled by their maximum; default false, or the base
    /// model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_image: Option<bool>,
    /// The most captures it accepts; default 1, or 8 for a multi-image model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_images: Option<usize>,
    /// The licence of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The user's own weights. Either this or `base` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// A safetensors file with the weights of the heads on a base model, relative to the models directory. Without it they are
    /// random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_weights: Option<String>,
    /// The checkpoint's backbone: a name (`swin_v2_t`, `swin_v2_b`, `resnet18` … `resnet152`), or an object with the sizes, as in a
    /// model's `backbone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value, required = false)]
    pub backbone: Option<BackboneChoice>,
    /// The checkpoint's input bands, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bands: Vec<Band>,
    /// The heads, in checkpoint order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<ManifestHead>,
    /// How the weights of `head_weights` were fitted; `POST /v1/models/{model}/fit` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitReport>,
}

fn yes() -> bool {
    true
}

/// A file of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Path of a `.pth` or `.safetensors` file, or of a folder with the shards of one and their `.index.json`, relative to the
    /// models directory.
    pub path: String,
    /// The code base that wrote it, which decides the names of its tensors.
    pub layout: Layout,
    /// What the names of the model's tensors begin with, if the file holds several sets of them: keys of nested dictionaries, each
    /// followed by `/`, and prefixes, as in `model_ema/module.`. The default is the prefix under which most tensors fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The entry of the file that holds the state dict, as in `model_ema` or `checkpoints/best`, if several would fit. `prefix`
    /// then applies to the names inside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<String>,
    /// What the beginnings of tensors' names become, as in `{"encoder." = "backbone.backbone."}`. It applies after `select` and
    /// `prefix`; of several beginnings that match a name, the longest counts, and other names stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
}

/// A backbone by name (`swin_v2_t`, `swin_v2_b`, `resnet18` … `resnet152`) or by its sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BackboneChoice {
    /// A usual backbone.
    Name(String),
    /// Any Swin-v2 or ResNet.
    Sizes(Backbone),
}

/// A head of a user's model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestHead {
    /// The task's name in URLs.
    pub task: String,
    /// The kind of its answer.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Category names, one for each output. For `detect` and `instance` the first is the background. May be left out for
    /// `regress`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// Red, green and blue of each category.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub colors: Vec<[u8; 3]>,
    /// Whether category 0 means "no valid label" and is drawn transparent.
    #[serde(default)]
    pub background_invalid: bool,
    /// Lowest and highest value of a regression, which pictures of it show; 0 to 255 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_range: Option<[f32; 2]>,
    /// The network; the default depends on type and layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<HeadNetwork>,
    /// What follows the last layer; the default depends on type and layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// The maps that a detection head reads: 0 is the full-resolution map, 1 to 4 are the pyramid's. The default depends on
    /// the layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_layers: Option<Vec<usize>>,
    /// Anchor side in pixels for each of these maps; default 32, 64, 128, 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor_sizes: Option<Vec<f32>>,
    /// The maps that a `linear` or `nearest` head reads, joined in this order: `backbone.0` … `backbone.3`, `fpn.0` … `fpn.3`, `upsample`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, example = json!(["fpn.0"]))]
    pub layers: Vec<Layer>,
    /// Number of examples of a `nearest` head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 500)]
    pub examples: Option<usize>,
    /// How many of them it asks, the most similar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 32)]
    pub neighbours: Option<usize>,
}

/// The network of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadNetwork {
    /// Two convolutions over the first map.
    Simple,
    /// The mean over space of the last map, then a linear layer.
    Classify,
    /// Faster or Mask R-CNN.
    Frcnn,
    /// One linear layer over the maps of `layers`, at every pixel; for classification, over their means.
    Linear,
    /// The mean of what those of some examples say that are most similar to a pixel; for classification, to the means of the maps.
    Nearest,
}

/// A manifest that does not describe a usable model.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not the expected TOML.
    #[error("the manifest cannot be read: {0}")]
    Toml(#[from] toml::de::Error),
    /// It cannot be written as TOML.
    #[error("the manifest cannot be written: {0}")]
    Unwritable(#[from] toml::ser::Error),
    /// A field has an unusable value.
    #[error("{field}: found {found}, needed {needed}")]
    Field {
        /// The field's path in the manifest.
        field: String,
        /// What the field holds.
        found: String,
        /// What it must hold.
        needed: String,
    },
    /// The base model does not exist.
    #[error("base: no model {base:?}")]
    UnknownBase {
        /// The name of the base model.
        base: String,
    },
}

impl ManifestError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Unwritable(_) => ErrorKind::Internal,
            Self::Toml(_) | Self::Field { .. } | Self::UnknownBase { .. } => ErrorKind::Invalid,
        }
    }
}

impl Manifest {
    /// A built-in model with one head: a linear layer over `layers`.
    pub fn linear(id: &str, base: &str, task: Task, layers: Vec<Layer>) -> Self {
        let head = ManifestHead {
            task: task.name,
            task_type: task.task_type,
            categories: task.categories,
            colors: task.colors,
            background_invalid: false,
            value_range: None,
            network: Some(HeadNetwork::Linear),
            activation: None,
            use_layers: None,
            anchor_sizes: None,
            layers,
            examples: None,
            neighbours: None,
        };
        Self { heads: vec![head], ..Self::empty(id, base) }
    }

    /// A model on another one, without heads.
    fn empty(id: &str, base: &str) -> Self {
        Self {
            id: id.to_owned(),
            title: None,
            base: Some(base.to_owned()),
            seed: None,
            fpn: true,
            fpn_channels: None,
            fpn_prepend: None,
            upsample_channels: None,
            sensor: None,
            native_gsd_m: None,
            native_zoom_512: None,
            multi_image: None,
            max_images: None,
            licence: None,
            checkpoint: None,
            head_weights: None,
            backbone: None,
            bands: Vec::new(),
            heads: Vec::new(),
            fit: None,
        }
    }

    /// The manifest of a model whose heads stand on another model and have their weights in the file `head_weights`; `None` of other
    /// models.
    pub fn of_fitted(spec: &ModelSpec, head_weights: String) -> Option<Self> {
        let base = spec.base()?;
        let own = |text: &String, of_base: &String| (text != of_base).then(|| text.clone());
        Some(Self {
            title: Some(spec.title.clone()),
            sensor: own(&spec.sensor, &base.sensor),
            native_gsd_m: (spec.native_gsd_m != base.native_gsd_m).then_some(spec.native_gsd_m),
            native_zoom_512: (spec.native_zoom_512 != base.native_zoom_512).then_some(spec.native_zoom_512),
            licence: own(&spec.licence, &base.licence),
            head_weights: Some(head_weights),
            heads: spec.head_variants.first()?.iter().map(ManifestHead::of).collect(),
            fit: spec.fit.clone(),
            ..Self::empty(&spec.id, &base.id)
        })
    }

    /// Reads the text of a manifest file.
    ///
    /// # Errors
    /// [`ManifestError::Toml`], which says line and column, if it is not TOML or has unknown or missing fields.
    pub fn from_toml(text: &str) -> Result<Self, ManifestError> {
        Ok(toml::from_str(text)?)
    }

    /// The text of a manifest file that [`Manifest::from_toml`] reads back.
    ///
    /// # Errors
    /// [`ManifestError::Unwritable`] if TOML cannot express a value.
    pub(crate) fn to_toml(&self) -> Result<String, ManifestError> {
        Ok(toml::to_string_pretty(self)?)
    }
}
