//! What a model is: sensor, bands, network, heads, and where its weights lie.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Everything there is to know about a model without opening its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The name in URLs.
    pub id: String,
    /// One line for people.
    pub title: String,
    /// Where the model comes from.
    pub origin: Origin,
    /// `sentinel2`, `sentinel1`, `landsat`, `aerial` or the manifest's own word.
    pub sensor: String,
    /// Metres per pixel the model was trained on.
    pub native_gsd_m: f64,
    /// The Web Mercator zoom whose 512 px tiles have that resolution.
    pub native_zoom_512: u8,
    /// Input bands in order.
    pub bands: Vec<Band>,
    /// The network that turns pixels into feature maps.
    pub backbone: Backbone,
    /// Whether the backbone runs on several captures whose maps are max-pooled.
    pub multi_image: bool,
    /// Captures a training example had.
    pub trained_images: usize,
    /// Captures accepted.
    pub max_images: usize,
    /// The feature pyramid; `None` only in the package layout without one.
    pub fpn: Option<FpnSpec>,
    /// The decoder to full resolution; `None` only in the package layout without a pyramid.
    pub upsample: Option<UpsampleSpec>,
    /// How tensors are named and heads are wired.
    pub layout: Layout,
    /// Sets of heads a checkpoint of this model may hold; the one whose shapes fit the file is used, and with synthetic
    /// weights the one with the most heads.
    pub head_variants: Vec<Vec<Head>>,
    /// Where the weights are found.
    pub weights: WeightsSpec,
    /// Licence of the weights.
    pub licence: String,
    /// Where model and licence are described.
    pub source: String,
}

impl ModelSpec {
    /// The head variant with the most heads, the first of equals.
    pub fn largest_variant(&self) -> usize {
        let heads = |index: &usize| self.head_variants[*index].len();
        (0..self.head_variants.len()).rev().max_by_key(heads).unwrap_or(0)
    }

    /// Names of the input bands in order.
    pub fn band_names(&self) -> impl Iterator<Item = &str> {
        self.bands.iter().map(|band| band.name.as_str())
    }
}

/// Where a model comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A SatlasPretrain checkpoint.
    Pretrained,
    /// One of the four fine-tuned Satlas models.
    FineTuned,
    /// Embedded in the binary.
    Demo,
    /// A user's manifest.
    Registered,
}

/// One input band: `value = clip((pixel - offset) / scale, 0, 1)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Band {
    /// Lower-case name such as `tci_r`, `b05`, `vh`, `red`.
    pub name: String,
    /// Subtracted from the pixel value.
    pub offset: f32,
    /// Divides the difference.
    pub scale: f32,
}

/// The architecture of the backbone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Backbone {
    /// Swin Transformer v2 (torchvision's `swin_v2_*`).
    SwinV2 {
        /// Side of a patch in pixels.
        patch_size: usize,
        /// Channels of the first stage; each further stage doubles them.
        embed_dim: usize,
        /// Blocks a stage.
        depths: [usize; 4],
        /// Attention heads a stage.
        num_heads: [usize; 4],
        /// Side of an attention window in tokens.
        window_size: usize,
    },
    /// ResNet (torchvision's `resnet18 … resnet152`).
    Resnet {
        /// 18, 34, 50, 101 or 152.
        depth: usize,
    },
}

impl Backbone {
    /// torchvision's `swin_v2_t`.
    pub fn swin_v2_t() -> Self {
        Self::SwinV2 { patch_size: 4, embed_dim: 96, depths: [2, 2, 6, 2], num_heads: [3, 6, 12, 24], window_size: 8 }
    }

    /// torchvision's `swin_v2_b`.
    pub fn swin_v2_b() -> Self {
        Self::SwinV2 { patch_size: 4, embed_dim: 128, depths: [2, 2, 18, 2], num_heads: [4, 8, 16, 32], window_size: 8 }
    }

    /// A backbone by its usual name (`swin_v2_b`, `resnet50`, …; also `swint`, `swinb` as the Python package writes them).
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "swin_v2_t" | "swint" => Some(Self::swin_v2_t()),
            "swin_v2_b" | "swinb" => Some(Self::swin_v2_b()),
            _ => {
                let depth = name.strip_prefix("resnet")?.parse().ok()?;
                [18, 34, 50, 101, 152].contains(&depth).then_some(Self::Resnet { depth })
            }
        }
    }

    /// Channels of the four feature maps (at 1/4, 1/8, 1/16, 1/32).
    pub fn channels(&self) -> [usize; 4] {
        match self {
            Self::SwinV2 { embed_dim, .. } => [1, 2, 4, 8].map(|factor| embed_dim * factor),
            Self::Resnet { depth: 18 | 34 } => [64, 128, 256, 512],
            Self::Resnet { .. } => [256, 512, 1024, 2048],
        }
    }
}

/// torchvision's `FeaturePyramidNetwork` without extra levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FpnSpec {
    /// Channels of every map.
    pub out_channels: usize,
    /// Whether the backbone maps follow the pyramid's maps in the list that heads read.
    #[serde(default)]
    pub prepend: bool,
}

/// The decoder: 3x3 convolution, ReLU, 4x4 stride-2 transposed convolution, ReLU, until full resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpsampleSpec {
    /// Channels of the full-resolution map (a layer halves its channels, but never below this).
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

/// Index of the first head that a manifest adds to another model's checkpoint: beyond any that a checkpoint holds.
pub const FIRST_NEW_HEAD: usize = 100;

/// One trained head.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Position among the checkpoint's heads.
    pub index: usize,
    /// What it predicts.
    pub task: Arc<Task>,
    /// The network.
    pub kind: HeadKind,
    /// Categories its training examples were annotated with, where that is not all of the task's.
    pub class_mask: Option<Vec<String>>,
}

/// The network of a head.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadKind {
    /// Two 3x3 convolutions over the first map (for classification: maximum over space, then linear).
    Simple {
        /// What follows the last layer.
        activation: Activation,
    },
    /// Mean over space of the last map, then linear.
    Classify {
        /// What follows the last layer.
        activation: Activation,
    },
    /// torchvision's Faster R-CNN, or Mask R-CNN where the task is `instance`.
    Frcnn {
        /// Indices into the list of maps (upsample, fpn.0 … fpn.3, then backbone maps where prepended).
        use_layers: Vec<usize>,
        /// Anchor side in pixels, one a level.
        anchor_sizes: Vec<f32>,
    },
}

/// What turns a dense or classification head's last layer into its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Over categories.
    Softmax,
    /// Per category.
    Sigmoid,
    /// Channel 0 times 255.
    #[serde(rename = "times_255")]
    Times255,
    /// Channel 0 as it is.
    Identity,
}

/// A kind of answer with its categories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The name in URLs.
    #[serde(default)]
    pub name: String,
    /// The kind of answer.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Category names; empty for regression.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Red, green, blue per category.
    #[serde(default)]
    pub colors: Vec<[u8; 3]>,
    /// Whether category 0 (or value 0) means "no valid label" and is drawn transparent.
    #[serde(default)]
    pub background_invalid: bool,
}

impl Task {
    /// The colour of a category: the task's own, else a fixed rotation of distinct hues.
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

    /// Values of a regression that mean something: tree cover is trained on 0-200, everything else on 0-255.
    pub fn value_range(&self) -> (f32, f32) {
        if self.name == "tree_cover" { (0.0, 200.0) } else { (0.0, 255.0) }
    }
}

/// The kinds of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskType {
    /// One category a pixel.
    Segment,
    /// Any number of categories a pixel.
    BinSegment,
    /// One value a pixel.
    Regress,
    /// Boxes.
    Detect,
    /// Boxes with masks.
    Instance,
    /// One category an image.
    Classification,
    /// Any number of categories an image.
    #[serde(alias = "multi-label-classification")]
    MultiLabelClassification,
    /// Feature maps.
    Embedding,
}

/// Where weights are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightsSpec {
    /// A file of a Hugging Face hub repository.
    Hub {
        /// `owner/name`.
        repo: String,
        /// The file in it.
        file: String,
    },
    /// A member of a published archive, which the user unpacks.
    Archive {
        /// The archive's file name.
        archive: String,
        /// The path inside it.
        file: String,
    },
    /// Embedded in the binary under this name.
    Embedded {
        /// File name in the demo bundle.
        file: String,
    },
    /// A file on this machine.
    File {
        /// Its path.
        path: std::path::PathBuf,
    },
    /// Another model's checkpoint, with heads that are drawn at random until someone trains them.
    NewHeads {
        /// Where the other model's checkpoint is found.
        base: Box<WeightsSpec>,
        /// Names the random numbers.
        seed: u64,
    },
}

impl WeightsSpec {
    /// Where the trained numbers lie: for new heads, those of the model they stand on.
    pub fn checkpoint(&self) -> &Self {
        match self {
            Self::NewHeads { base, .. } => base.checkpoint(),
            _ => self,
        }
    }
}
