//! The description of a model: sensor, bands, network, heads, and where its weights are found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::backbone::Backbone;
use super::fit_report::FitReport;
use super::layer::Layer;

/// A model, as far as it is known without opening its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The model's name in URLs.
    pub id: String,
    /// One line that describes it.
    pub title: String,
    /// Who supplied it.
    pub origin: ModelOrigin,
    /// `sentinel2`, `sentinel1`, `landsat`, `aerial`, or any word of a manifest.
    pub sensor: String,
    /// Metres per pixel of the imagery it was trained on.
    pub native_gsd_m: f64,
    /// The Web Mercator zoom whose 512 px tiles have this resolution.
    pub native_zoom_512: u8,
    /// Its input bands, in order.
    pub bands: Vec<Band>,
    /// The network that turns pixels into four feature maps.
    pub backbone: Backbone,
    /// Whether it takes several captures: the backbone runs on each, and the maximum of their maps is used.
    pub multi_image: bool,
    /// The number of captures in a training example.
    pub trained_images: usize,
    /// The most captures it accepts.
    pub max_images: usize,
    /// The feature pyramid. `None` only for models of the package layout that have none.
    pub fpn: Option<FpnSpec>,
    /// The decoder to full resolution. `None` exactly if there is no pyramid.
    pub upsample: Option<UpsampleSpec>,
    /// How the checkpoint names its tensors, and which maps its heads read.
    pub layout: Layout,
    /// The sets of heads that a checkpoint of this model may hold. The one whose shapes fit the file is used; with
    /// synthetic weights, the one with the most heads.
    pub head_variants: Vec<Vec<Head>>,
    /// Where its weights are found.
    pub weights: WeightsSpec,
    /// The licence of its weights.
    pub licence: String,
    /// Where the model and its licence are described.
    pub source: String,
    /// How its heads were fitted, if this server did that.
    pub fit: Option<FitReport>,
}

impl ModelSpec {
    /// Index of the head variant with the most heads, the first of equals.
    pub fn largest_variant(&self) -> usize {
        let heads = |index: &usize| self.head_variants[*index].len();
        (0..self.head_variants.len()).rev().max_by_key(heads).unwrap_or(0)
    }

    /// The model whose network this one's heads stand on, if it has none of its own.
    pub(crate) fn base(&self) -> Option<&Arc<Self>> {
        match &self.weights {
            WeightsSpec::OnBase { base, .. } => Some(base),
            _ => None,
        }
    }

    /// Names of the input bands, in order.
    pub fn band_names(&self) -> impl Iterator<Item = &str> {
        self.bands.iter().map(|band| band.name.as_str())
    }
}

/// Who supplied a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelOrigin {
    /// AllenAI: a SatlasPretrain checkpoint.
    Pretrained,
    /// AllenAI: one of the four fine-tuned Satlas models.
    FineTuned,
    /// This program: a model of the demo bundle.
    Demo,
    /// A user, with a manifest.
    Registered,
}

/// One input band: `value = clip((pixel - offset) / scale, 0, 1)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Band {
    /// Lower-case name such as `tci_r`, `b05`, `vh`, `red`.
    pub name: String,
    /// Subtracted from each pixel value.
    pub offset: f32,
    /// Divisor of the pixel value, after `offset` has been subtracted.
    pub scale: f32,
}

/// torchvision's `FeaturePyramidNetwork` without extra levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FpnSpec {
    /// Channels of each of its maps.
    pub out_channels: usize,
    /// Whether the backbone's maps follow the pyramid's maps in the list that heads read.
    #[serde(default)]
    pub prepend: bool,
}

/// The decoder: 3x3 convolution, ReLU, 4x4 transposed convolution of stride 2, ReLU, repeated until full resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpsampleSpec {
    /// Channels of the full-resolution map. Each repetition halves the channels, but not below this number.
    pub out_channels: usize,
}

/// Which of the two public code bases wrote the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// The training code: `backbone.backbone.…`, `intermediates.…`, `heads.N.…`.
    Satlas,
    /// The Python package: `backbone.…`, `fpn.fpn.…`, `upsample.layers.…`, `head.…`; detection heads read maps 0-3.
    Package,
}

/// Index of the first head that a manifest adds to another model's checkpoint. No checkpoint holds that many heads.
pub const FIRST_NEW_HEAD: usize = 100;

/// A head of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Its position among the checkpoint's heads.
    pub index: usize,
    /// What it predicts.
    pub task: Arc<Task>,
    /// Its network.
    pub kind: HeadKind,
    /// The categories that its training examples were annotated with. `None`: all categories of the task.
    pub class_mask: Option<Vec<String>>,
}

/// The network of a head.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadKind {
    /// Two 3x3 convolutions over the first map. For classification: one, then the maximum over space and a linear layer.
    Simple {
        /// What follows the last layer.
        activation: Activation,
    },
    /// The mean over space of the last map, then a linear layer.
    Classify {
        /// What follows the last layer.
        activation: Activation,
    },
    /// torchvision's Faster R-CNN, or Mask R-CNN if the task type is `instance`.
    Frcnn {
        /// The maps it reads, as indices into `upsample, fpn.0 … fpn.3`, followed by the backbone's maps if
        /// [`FpnSpec::prepend`] is set.
        use_layers: Vec<usize>,
        /// Anchor side in pixels for each of these maps.
        anchor_sizes: Vec<f32>,
    },
    /// A linear layer over the channels of one or more maps, at every pixel. Between the centres of their cells, maps are
    /// interpolated. For classification, over the mean of the maps.
    Linear {
        /// The maps it reads, in the order of the layer's weights.
        layers: Vec<Layer>,
        /// What follows the layer.
        activation: Activation,
    },
    /// The mean of what the most similar of some examples say, at every pixel; for classification, of the mean of the maps. Similarities
    /// are the outputs of a linear layer as in [`HeadKind::Linear`], one for each example.
    Nearest {
        /// The maps it reads, in the order of the layer's weights.
        layers: Vec<Layer>,
        /// Number of examples.
        examples: usize,
        /// How many of them are asked, the most similar.
        neighbours: usize,
    },
}

impl HeadKind {
    /// The maps that the head reads by name; none if it reads maps by their place in a list.
    pub fn named_layers(&self) -> &[Layer] {
        match self {
            Self::Linear { layers, .. } | Self::Nearest { layers, .. } => layers,
            Self::Simple { .. } | Self::Classify { .. } | Self::Frcnn { .. } => &[],
        }
    }
}

/// Most examples of a [`HeadKind::Nearest`]: each is compared with every pixel.
pub const MAX_EXAMPLES: usize = 500;
/// Most of them that are asked.
pub const MAX_NEIGHBOURS: usize = 32;

/// What turns the last layer of a dense or classification head into its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Softmax over categories.
    Softmax,
    /// Sigmoid of each category.
    Sigmoid,
    /// Each value times 255.
    #[serde(rename = "times_255")]
    Times255,
    /// Each value as it is.
    Identity,
}

/// What a head predicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The task's name in URLs.
    #[serde(default)]
    pub name: String,
    /// The kind of its answer.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Category names; empty for a regression, unless it has several values, whose names they are.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Red, green and blue of each category; empty if the task has no colours of its own.
    #[serde(default)]
    pub colors: Vec<[u8; 3]>,
    /// Whether category 0 (in a regression, value 0) means "no valid label" and is drawn transparent.
    #[serde(default)]
    pub background_invalid: bool,
    /// The lowest and the highest value of a regression, if they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_range: Option<[f32; 2]>,
}

impl Task {
    /// The colour of a category: the task's own, else one of eight distinct colours in turn.
    pub fn color(&self, category_id: usize) -> [u8; 3] {
        const FALLBACK: [[u8; 3]; 8] = [
            [31, 119, 180],
            [255, 127, 14],
            [44, 160, 44],
            [214, 39, 40],
            [148, 103, 189],
            [140, 86, 75],
            [227, 119, 194],
            [188, 189, 34],
        ];
        self.colors.get(category_id).copied().unwrap_or(FALLBACK[category_id % FALLBACK.len()])
    }

    /// A category's name; empty if the task has no such category.
    pub(crate) fn category_name(&self, category_id: usize) -> &str {
        self.categories.get(category_id).map_or("", String::as_str)
    }

    /// The range of a regression's values that pictures show: its own; else tree cover was trained on 0 to 200, and everything else on
    /// 0 to 255.
    pub fn shown_range(&self) -> (f32, f32) {
        match self.value_range {
            Some([least, greatest]) => (least, greatest),
            None if self.name == "tree_cover" => (0.0, 200.0),
            None => (0.0, 255.0),
        }
    }
}

/// The kind of a task's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskType {
    /// One category per pixel.
    Segment,
    /// Any number of categories per pixel.
    BinSegment,
    /// One value per pixel.
    Regress,
    /// Boxes.
    Detect,
    /// Boxes with masks.
    Instance,
    /// One category per image.
    Classification,
    /// Any number of categories per image.
    #[serde(alias = "multi-label-classification")]
    MultiLabelClassification,
    /// Feature maps.
    Embedding,
}

impl TaskType {
    /// True if the answer is about an image as a whole.
    pub fn is_label(self) -> bool {
        matches!(self, Self::Classification | Self::MultiLabelClassification)
    }
}

/// Where a model's weights are found.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightsSpec {
    /// A file of a Hugging Face hub repository.
    Hub {
        /// `owner/name`.
        repo: String,
        /// The file's path in the repository.
        file: String,
        /// A published archive that holds the same file. Nothing downloads it, but where the user has put it, it is used.
        archive: Option<ArchiveMember>,
    },
    /// A file that is embedded in the program.
    Embedded {
        /// Its name in the demo bundle.
        file: String,
    },
    /// A file on this machine.
    File {
        /// Its path.
        path: PathBuf,
        /// Which of its tensors are the model's.
        choice: TensorChoice,
    },
    /// Another model's checkpoint with additional heads, whose weights are random until someone trains them.
    NewHeads {
        /// Where the other model's weights are found.
        base: Box<WeightsSpec>,
        /// Seed of the random weights.
        seed: u64,
    },
    /// Another model, which is in memory once for all that stand on it, with heads that have a file of their own.
    OnBase {
        /// The other model.
        base: Arc<ModelSpec>,
        /// The heads' tensors.
        heads: HeadsFile,
    },
}

/// A safetensors file with the tensors of heads alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadsFile {
    /// On this machine.
    Path(PathBuf),
    /// In memory, for a server that keeps nothing.
    Memory(Bytes),
}

/// Which tensors of a file are the model's, and what they are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorChoice {
    /// The entry of the file that holds the state dict: keys of nested dictionaries with `/` between them.
    pub select: Option<String>,
    /// What the names of the model's tensors begin with; `None`: the prefix under which most tensors fit.
    pub prefix: Option<String>,
    /// New beginnings of names, by the present ones. Of several that match a name, the longest counts.
    pub rename: BTreeMap<String, String>,
}

/// A file in a published tar archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveMember {
    /// The archive's file name.
    pub archive: String,
    /// The file's path in it.
    pub file: String,
}

impl WeightsSpec {
    /// Where the trained weights are found: for new heads, those of the model they are added to.
    pub fn checkpoint(&self) -> &Self {
        match self {
            Self::NewHeads { base, .. } => base.checkpoint(),
            Self::OnBase { base, .. } => base.weights.checkpoint(),
            _ => self,
        }
    }
}
