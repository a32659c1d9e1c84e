//! JSON descriptions of models.

use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::{EMBEDDING, ModelStatus, WeightsState, zoom_range};
use crate::nn::Layer;
use crate::outputs::Format;
use crate::zoo::{Backbone, ModelSpec, Task, TaskType};

/// Every model, by id.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// Built-in and registered models.
    pub models: Vec<ModelDto>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Model)]
pub(crate) struct ModelDto {
    /// Identifier in URLs.
    #[schema(example = "world")]
    pub id: String,
    /// Short description.
    pub title: String,
    /// `pretrained`, `fine-tuned`, `demo` or `registered`.
    #[schema(example = "demo")]
    pub origin: String,
    /// Sensor whose imagery it was trained on.
    #[schema(example = "sentinel2")]
    pub sensor: String,
    /// Input bands in order. The network's input is `clip((pixel - offset) / scale, 0, 1)`.
    pub bands: Vec<BandDto>,
    /// Resolution of the training imagery, in metres per pixel.
    pub native_gsd_m: f64,
    /// Web Mercator zoom at which 512 px tiles have about that resolution.
    pub native_zoom_512: u8,
    /// Lowest zoom of 256 px tiles.
    pub minzoom: u8,
    /// Highest zoom of 256 px tiles.
    pub maxzoom: u8,
    /// True if the input may be several captures of the same place.
    pub multi_image: bool,
    /// Number of captures per training example.
    pub trained_images: usize,
    /// Maximum number of captures per request.
    pub max_images: usize,
    /// Network that turns pixels into feature maps.
    pub backbone: BackboneDto,
    /// Tasks, the last of which is always `embedding`.
    pub tasks: Vec<TaskDto>,
    /// Values of `layer=` for the task `embedding`.
    pub layers: Vec<String>,
    /// State and kind of its weights.
    pub weights: WeightsDto,
    /// True if it still exists after a restart; false if it was registered with a server that has no models directory.
    pub persistent: bool,
    /// Licence of the weights.
    pub licence: String,
    /// Web page about the model and its licence.
    pub homepage: String,
}

/// An input band.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelBand)]
pub(crate) struct BandDto {
    /// Name, compared with the band descriptions of rasters.
    #[schema(example = "red")]
    pub name: String,
    /// Subtracted from pixel values.
    pub offset: f32,
    /// Divisor, applied after the offset.
    pub scale: f32,
}

/// The network that turns pixels into feature maps.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backbone)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum BackboneDto {
    /// Swin Transformer v2.
    SwinV2 {
        /// Side of a patch in pixels.
        patch_size: usize,
        /// Channels of the first stage.
        embed_dim: usize,
        /// Number of blocks per stage.
        depths: Vec<usize>,
        /// Number of attention heads per stage.
        num_heads: Vec<usize>,
        /// Side of an attention window in tokens.
        window_size: usize,
    },
    /// ResNet.
    Resnet {
        /// Number of layers.
        depth: usize,
    },
}

/// A task of a model: what it predicts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub(crate) struct TaskDto {
    /// Identifier in URLs.
    #[schema(example = "water")]
    pub name: String,
    /// `segment`, `bin_segment`, `regress`, `detect`, `instance`, `classification`, `multi_label_classification` or `embedding`.
    #[serde(rename = "type")]
    #[schema(example = "segment")]
    pub task_type: String,
    /// Category names by category id; empty for regressions and embeddings.
    pub categories: Vec<String>,
    /// Red, green and blue (0 to 255) of each category.
    pub colors: Vec<[u8; 3]>,
    /// True if category 0 means "no valid label" and is drawn transparent.
    pub background_invalid: bool,
    /// Lowest and highest value of a regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_range: Option<[f32; 2]>,
    /// Available formats, the default first.
    pub formats: Vec<String>,
}

/// State and kind of a model's weights.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Weights)]
pub(crate) struct WeightsDto {
    /// `remote`, `cached`, `loading` or `loaded`.
    #[schema(example = "loaded")]
    pub state: String,
    /// `pretrained`, `fine-tuned`, `untrained-heads` (random heads on a trained backbone), `demo` or `synthetic` (made-up numbers,
    /// for tests and benchmarks).
    #[schema(example = "demo")]
    pub kind: String,
    /// Memory used in bytes, while loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
}

impl From<ModelStatus> for ModelDto {
    fn from(status: ModelStatus) -> Self {
        let spec = &*status.spec;
        let (minzoom, maxzoom) = zoom_range(spec, 256);
        let bands = spec.bands.iter();
        Self {
            id: spec.id.clone(),
            title: spec.title.clone(),
            origin: word(&spec.origin),
            sensor: spec.sensor.clone(),
            bands: bands.map(|band| BandDto { name: band.name.clone(), offset: band.offset, scale: band.scale }).collect(),
            native_gsd_m: spec.native_gsd_m,
            native_zoom_512: spec.native_zoom_512,
            minzoom,
            maxzoom,
            multi_image: spec.multi_image,
            trained_images: spec.trained_images,
            max_images: spec.max_images,
            backbone: BackboneDto::from(&spec.backbone),
            tasks: tasks(spec),
            layers: layers(spec),
            weights: WeightsDto {
                state: match status.state {
                    WeightsState::Remote => "remote",
                    WeightsState::Cached => "cached",
                    WeightsState::Loading => "loading",
                    WeightsState::Loaded => "loaded",
                }
                .to_owned(),
                kind: status.kind.as_str().to_owned(),
                bytes: status.loaded_bytes,
            },
            persistent: status.persistent,
            licence: spec.licence.clone(),
            homepage: spec.source.clone(),
        }
    }
}

impl From<&Backbone> for BackboneDto {
    fn from(backbone: &Backbone) -> Self {
        match backbone {
            Backbone::SwinV2 { patch_size, embed_dim, depths, num_heads, window_size } => Self::SwinV2 {
                patch_size: *patch_size,
                embed_dim: *embed_dim,
                depths: depths.to_vec(),
                num_heads: num_heads.to_vec(),
                window_size: *window_size,
            },
            Backbone::Resnet { depth } => Self::Resnet { depth: *depth },
        }
    }
}

impl From<&Task> for TaskDto {
    fn from(task: &Task) -> Self {
        let (least, greatest) = task.value_range();
        Self {
            name: task.name.clone(),
            task_type: word(&task.task_type),
            categories: task.categories.clone(),
            colors: (0..task.categories.len()).map(|category_id| task.color(category_id)).collect(),
            background_invalid: task.background_invalid,
            value_range: (task.task_type == TaskType::Regress).then_some([least, greatest]),
            formats: Format::of(task.task_type).iter().map(|format| format.extension().to_owned()).collect(),
        }
    }
}

/// The tasks of the largest head variant, then those that only other variants have, then `embedding`.
fn tasks(spec: &ModelSpec) -> Vec<TaskDto> {
    let largest = spec.head_variants.get(spec.largest_variant()).into_iter().flatten();
    let mut tasks: Vec<TaskDto> = Vec::new();
    for head in largest.chain(spec.head_variants.iter().flatten()) {
        if !tasks.iter().any(|task| task.name == head.task.name) {
            tasks.push(TaskDto::from(&*head.task));
        }
    }
    let embedding = Task {
        name: EMBEDDING.to_owned(),
        task_type: TaskType::Embedding,
        categories: Vec::new(),
        colors: Vec::new(),
        background_invalid: false,
    };
    tasks.push(TaskDto::from(&embedding));
    tasks
}

/// The layers that this model has: not every model has an FPN and an upsampling head.
fn layers(spec: &ModelSpec) -> Vec<String> {
    let exists = |layer: &Layer| match layer {
        Layer::Backbone(_) => true,
        Layer::Fpn(_) => spec.fpn.is_some(),
        Layer::Upsample => spec.upsample.is_some(),
    };
    Layer::ALL.iter().filter(|layer| exists(layer)).map(ToString::to_string).collect()
}

/// The string to which a unit variant is serialised.
fn word<T: Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
