//! JSON descriptions of models.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{limit, words};
use crate::api::error::Problem;
use crate::engine::{EMBEDDING, ModelStatus, WeightsState, zoom_range};
use crate::outputs::Format;
use crate::zoo::{Backbone, FitReport, Layer, ModelSpec, Task, TaskType};

/// Models, by id.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// Built-in and registered models.
    pub models: Vec<ModelDto>,
    /// There are more models, and this is the `after` to ask for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A page ends before a model with which it would have more bytes of JSON than this, unless that is its first.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// Which models to list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ModelListParams {
    /// Only models whose ids come after this one: the `next` of the page before.
    pub after: Option<String>,
    /// Maximum number of models in the answer. A page may be shorter, as it has at most 4 MiB.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<String>,
}

impl ModelListParams {
    /// The wanted number of models, or the default.
    ///
    /// # Errors
    /// If `limit` is not a number that can be.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        limit::parse(self.limit.as_deref())
    }
}

impl ModelList {
    /// The page with the first of these models.
    pub(crate) fn page(models: impl IntoIterator<Item = ModelDto>, limit: usize) -> Self {
        let mut page = Self { models: Vec::new(), next: None };
        let mut bytes = 0;
        for model in models {
            bytes += serde_json::to_vec(&model).map_or(0, |json| json.len());
            if page.models.len() == limit || (bytes > MAX_PAGE_BYTES && !page.models.is_empty()) {
                page.next = page.models.last().map(|last| last.id.clone());
                break;
            }
            page.models.push(model);
        }
        page
    }
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
    #[schema(value_type = words::ModelOrigin)]
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
    #[schema(value_type = Vec<words::Layer>)]
    pub layers: Vec<String>,
    /// State and kind of its weights.
    pub weights: WeightsDto,
    /// True if it still exists after a restart; false if it was registered with a server that has no models directory.
    pub persistent: bool,
    /// How its heads were fitted to labels, with scores; only of models that were registered by a fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitReport>,
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

/// The network that turns pixels into feature maps, with the sizes of its kind.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Backbone)]
pub(crate) struct BackboneDto {
    /// `swin_v2` (Swin Transformer v2) or `resnet`.
    #[schema(value_type = words::BackboneKind)]
    pub kind: &'static str,
    /// Swin: side of a patch in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_size: Option<usize>,
    /// Swin: channels of the first stage; each further stage has twice as many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embed_dim: Option<usize>,
    /// Swin: number of blocks in each of the four stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depths: Option<[usize; 4]>,
    /// Swin: number of attention heads in each of the four stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_heads: Option<[usize; 4]>,
    /// Swin: side of an attention window in patches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_size: Option<usize>,
    /// ResNet: number of layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
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
    #[schema(value_type = TaskType)]
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
    /// Available formats, the default first. Tiles have all but `parquet`, other predictions all but `mvt`.
    #[schema(value_type = Vec<words::AnswerFormat>)]
    pub formats: Vec<String>,
}

/// State and kind of a model's weights.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Weights)]
pub(crate) struct WeightsDto {
    /// `remote`, `cached`, `loading` or `loaded`.
    #[schema(value_type = words::WeightsState)]
    pub state: String,
    /// `pretrained`, `fine-tuned`, `untrained-heads` (random heads on a trained backbone), `fitted-heads` (heads with a file of their
    /// own on a trained backbone), `demo` or `synthetic` (made-up numbers, for tests and benchmarks).
    #[schema(value_type = words::WeightsKind)]
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
            fit: spec.fit.clone(),
            licence: spec.licence.clone(),
            homepage: spec.source.clone(),
        }
    }
}

impl From<&Backbone> for BackboneDto {
    fn from(backbone: &Backbone) -> Self {
        match *backbone {
            Backbone::SwinV2 { patch_size, embed_dim, depths, num_heads, window_size } => Self {
                kind: "swin_v2",
                patch_size: Some(patch_size),
                embed_dim: Some(embed_dim),
                depths: Some(depths),
                num_heads: Some(num_heads),
                window_size: Some(window_size),
                depth: None,
            },
            Backbone::Resnet { depth } => Self { kind: "resnet", depth: Some(depth), ..Self::default() },
        }
    }
}

impl From<&Task> for TaskDto {
    fn from(task: &Task) -> Self {
        let (least, greatest) = task.shown_range();
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
        value_range: None,
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
