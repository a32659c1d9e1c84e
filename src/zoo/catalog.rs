//! The built-in models: `zoo.json` (the public checkpoints) and the demo bundle's `demo.json`, read into [`ModelSpec`]s.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::spec::{
    Activation, Backbone, Band, FpnSpec, Head, HeadKind, Layout, ModelSpec, Origin, Task, TaskType, UpsampleSpec,
    WeightsSpec,
};
use crate::error::ErrorKind;

const ZOO: &str = include_str!("zoo.json");
const PRETRAIN_LICENCE: &str = "ODC-BY 1.0";
const PRETRAIN_SOURCE: &str = "https://huggingface.co/allenai/satlas-pretrain";
const FINE_TUNED_SOURCE: &str = "https://github.com/allenai/satlas/blob/main/SatlasExplorerDatasets.md";

/// Channels of pyramid and decoder in every public checkpoint.
const PUBLIC_UPSAMPLE_CHANNELS: usize = 128;

/// A catalogue that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Not the expected JSON.
    #[error("the model catalogue {catalog} cannot be read: {source}")]
    Json {
        /// Which catalogue.
        catalog: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A name that stands for nothing.
    #[error("model {model}: {what} {name:?} is not known")]
    UnknownName {
        /// The model that names it.
        model: String,
        /// The kind of thing named.
        what: &'static str,
        /// The name found.
        name: String,
    },
}

impl CatalogError {
    /// The catalogues are part of the program.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

#[derive(Deserialize)]
struct Zoo {
    tasks: HashMap<String, Task>,
    pretrained: Vec<Entry>,
    fine_tuned: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    hub: Option<HubFile>,
    archive: Option<String>,
    file: Option<String>,
    sensor: String,
    native_gsd_m: f64,
    native_zoom_512: u8,
    bands: Vec<String>,
    normalization: Vec<Normalization>,
    backbone: String,
    multi_image: bool,
    trained_images: usize,
    max_images: usize,
    fpn: FpnSpec,
    head_variants: Vec<Variant>,
}

#[derive(Deserialize)]
struct HubFile {
    repo: String,
    file: String,
}

#[derive(Deserialize)]
struct Normalization {
    offset: f32,
    scale: f32,
}

#[derive(Deserialize)]
struct Variant {
    heads: Vec<HeadEntry>,
}

#[derive(Deserialize)]
struct HeadEntry {
    index: usize,
    task: String,
    head: String,
    activation: Option<Activation>,
    use_layers: Option<Vec<usize>>,
    anchor_sizes: Option<Vec<[f32; 1]>>,
    class_mask: Option<Vec<String>>,
}

/// The 22 SatlasPretrain checkpoints and the 4 fine-tuned Satlas models.
///
/// # Errors
/// [`CatalogError`] where the embedded catalogue contradicts itself; a test keeps that from shipping.
pub fn pretrained_models() -> Result<Vec<ModelSpec>, CatalogError> {
    let zoo: Zoo = serde_json::from_str(ZOO).map_err(|source| CatalogError::Json { catalog: "zoo.json", source })?;
    let tasks: HashMap<String, Arc<Task>> = zoo
        .tasks
        .into_iter()
        .map(|(name, mut task)| {
            task.name.clone_from(&name);
            (name, Arc::new(task))
        })
        .collect();
    let pretrained = zoo.pretrained.into_iter().map(|entry| (entry, Origin::Pretrained));
    let fine_tuned = zoo.fine_tuned.into_iter().map(|entry| (entry, Origin::FineTuned));
    pretrained.chain(fine_tuned).map(|(entry, origin)| entry.into_spec(origin, &tasks)).collect()
}

impl Entry {
    fn into_spec(self, origin: Origin, tasks: &HashMap<String, Arc<Task>>) -> Result<ModelSpec, CatalogError> {
        let unknown = |what, name: &str| CatalogError::UnknownName { model: self.id.clone(), what, name: name.to_owned() };
        let backbone = Backbone::by_name(&self.backbone).ok_or_else(|| unknown("backbone", &self.backbone))?;
        let weights = match (&self.hub, &self.archive, &self.file) {
            (Some(hub), _, _) => WeightsSpec::Hub { repo: hub.repo.clone(), file: hub.file.clone() },
            (None, Some(archive), Some(file)) => WeightsSpec::Archive { archive: archive.clone(), file: file.clone() },
            _ => return Err(unknown("weights location", "")),
        };
        let head = |entry: &HeadEntry| -> Result<Head, CatalogError> {
            let task = tasks.get(&entry.task).ok_or_else(|| unknown("task", &entry.task))?;
            let kind = head_kind(&entry.head, entry.activation, entry.use_layers.as_ref(), entry.anchor_sizes.as_ref())
                .ok_or_else(|| unknown("head", &entry.head))?;
            Ok(Head { index: entry.index, task: task.clone(), kind, class_mask: entry.class_mask.clone() })
        };
        let head_variants = self
            .head_variants
            .iter()
            .map(|variant| variant.heads.iter().map(head).collect())
            .collect::<Result<Vec<Vec<Head>>, _>>()?;
        let bands = self
            .bands
            .iter()
            .zip(&self.normalization)
            .map(|(name, norm)| Band { name: name.clone(), offset: norm.offset, scale: norm.scale })
            .collect();
        Ok(ModelSpec {
            title: title(&self.sensor, &self.backbone, self.multi_image, &self.bands, origin, &self.id),
            id: self.id,
            origin,
            sensor: self.sensor,
            native_gsd_m: self.native_gsd_m,
            native_zoom_512: self.native_zoom_512,
            bands,
            backbone,
            multi_image: self.multi_image,
            trained_images: self.trained_images,
            max_images: self.max_images,
            fpn: Some(self.fpn),
            upsample: Some(UpsampleSpec { out_channels: PUBLIC_UPSAMPLE_CHANNELS }),
            layout: Layout::Satlas,
            head_variants,
            weights,
            licence: PRETRAIN_LICENCE.to_owned(),
            source: if origin == Origin::Pretrained { PRETRAIN_SOURCE } else { FINE_TUNED_SOURCE }.to_owned(),
        })
    }
}

fn head_kind(
    name: &str,
    activation: Option<Activation>,
    use_layers: Option<&Vec<usize>>,
    anchor_sizes: Option<&Vec<[f32; 1]>>,
) -> Option<HeadKind> {
    match name {
        "simple" => Some(HeadKind::Simple { activation: activation? }),
        "classify" => Some(HeadKind::Classify { activation: activation? }),
        "frcnn" => Some(HeadKind::Frcnn {
            use_layers: use_layers?.clone(),
            anchor_sizes: anchor_sizes?.iter().map(|[size]| *size).collect(),
        }),
        _ => None,
    }
}

fn title(sensor: &str, backbone: &str, multi_image: bool, bands: &[String], origin: Origin, id: &str) -> String {
    let sensor = match sensor {
        "sentinel2" => "Sentinel-2",
        "sentinel1" => "Sentinel-1",
        "landsat" => "Landsat 8/9",
        "aerial" => "Aerial 0.5-2 m",
        other => other,
    };
    let backbone = match backbone {
        "swin_v2_b" => "Swin-v2-B",
        "swin_v2_t" => "Swin-v2-T",
        "resnet50" => "ResNet-50",
        "resnet152" => "ResNet-152",
        other => other,
    };
    let images = if multi_image { "multi-image" } else { "single-image" };
    let bands = bands.len();
    match origin {
        Origin::FineTuned => {
            let task = id.trim_start_matches("Satlas_").replace('_', " ");
            format!("Satlas {task}: {sensor}, {backbone}, {images}, {bands} bands")
        }
        _ => format!("SatlasPretrain: {sensor}, {backbone}, {images}, {bands} bands"),
    }
}

#[derive(Deserialize)]
struct DemoBundle {
    models: HashMap<String, DemoModel>,
}

#[derive(Deserialize)]
struct DemoModel {
    weights: String,
    architecture: DemoArchitecture,
    input: DemoInput,
}

#[derive(Deserialize)]
struct DemoInput {
    bands: Vec<String>,
}

#[derive(Deserialize)]
struct DemoArchitecture {
    backbone: DemoBackbone,
    fpn: FpnSpec,
    upsample: UpsampleSpec,
    heads: Vec<DemoHead>,
}

#[derive(Deserialize)]
struct DemoBackbone {
    patch_size: usize,
    embed_dim: usize,
    depths: [usize; 4],
    num_heads: [usize; 4],
    window_size: [usize; 2],
}

#[derive(Deserialize)]
struct DemoHead {
    index: usize,
    name: String,
    head: String,
    #[serde(rename = "type")]
    task_type: TaskType,
    categories: Option<Vec<String>>,
    colors: Option<Vec<[u8; 3]>>,
    use_layers: Option<Vec<usize>>,
    anchor_sizes: Option<Vec<[f32; 1]>>,
}

/// What `demo.json` leaves to prose: title, sensor, ground resolution and the zoom that has it with 512 px tiles.
const DEMO_MODELS: [(&str, &str, &str, f64, u8); 2] = [
    ("world", "Demo: water, elevation and coast on global imagery", "blue_marble", 9783.9, 3),
    ("trees", "Demo: tree crowns on 10 cm aerial imagery", "aerial", 0.1, 19),
];

/// The models of the demo bundle, described by the text of its `demo.json`.
///
/// # Errors
/// [`CatalogError`] where the text is not that file.
pub fn demo_models(demo_json: &str) -> Result<Vec<ModelSpec>, CatalogError> {
    let mut bundle: DemoBundle =
        serde_json::from_str(demo_json).map_err(|source| CatalogError::Json { catalog: "demo.json", source })?;
    let mut specs = Vec::new();
    for (id, title, sensor, native_gsd_m, native_zoom_512) in DEMO_MODELS {
        let unknown = |what, name: &str| CatalogError::UnknownName { model: id.to_owned(), what, name: name.to_owned() };
        let model = bundle.models.remove(id).ok_or_else(|| unknown("demo model", id))?;
        let DemoArchitecture { backbone, fpn, upsample, heads } = model.architecture;
        let heads = heads
            .into_iter()
            .map(|head| {
                let activation = match head.task_type {
                    TaskType::Segment => Some(Activation::Softmax),
                    TaskType::BinSegment => Some(Activation::Sigmoid),
                    TaskType::Regress => Some(Activation::Times255),
                    _ => None,
                };
                let kind = head_kind(&head.head, activation, head.use_layers.as_ref(), head.anchor_sizes.as_ref())
                    .ok_or_else(|| unknown("head", &head.head))?;
                let task = Arc::new(Task {
                    name: head.name,
                    task_type: head.task_type,
                    categories: head.categories.unwrap_or_default(),
                    colors: head.colors.unwrap_or_default(),
                    background_invalid: false,
                });
                Ok(Head { index: head.index, task, kind, class_mask: None })
            })
            .collect::<Result<Vec<Head>, CatalogError>>()?;
        let bands = model.input.bands.into_iter().map(|name| Band { name, offset: 0.0, scale: 255.0 }).collect();
        specs.push(ModelSpec {
            id: id.to_owned(),
            title: title.to_owned(),
            origin: Origin::Demo,
            sensor: sensor.to_owned(),
            native_gsd_m,
            native_zoom_512,
            bands,
            backbone: Backbone::SwinV2 {
                patch_size: backbone.patch_size,
                embed_dim: backbone.embed_dim,
                depths: backbone.depths,
                num_heads: backbone.num_heads,
                window_size: backbone.window_size[0],
            },
            multi_image: false,
            trained_images: 1,
            max_images: 1,
            fpn: Some(fpn),
            upsample: Some(upsample),
            layout: Layout::Satlas,
            head_variants: vec![heads],
            weights: WeightsSpec::Embedded { file: model.weights },
            licence: "MIT".to_owned(),
            source: "npm three-globe 2.45.2 and PyPI deepforest 2.1.0 (training imagery)".to_owned(),
        });
    }
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zoo_holds_every_public_checkpoint() {
        let models = pretrained_models().expect("the embedded zoo is readable");
        let count = |origin| models.iter().filter(|model| model.origin == origin).count();
        assert_eq!((count(Origin::Pretrained), count(Origin::FineTuned)), (22, 4));
        for model in &models {
            assert_eq!(model.multi_image, model.max_images > 1, "{}", model.id);
            assert!(model.trained_images <= model.max_images, "{}", model.id);
            for head in model.head_variants.iter().flatten() {
                let task = &head.task;
                assert!(task.colors.is_empty() || task.colors.len() == task.categories.len(), "{}", task.name);
                assert_eq!(task.categories.is_empty(), task.task_type == TaskType::Regress, "{}", task.name);
            }
        }
    }

    #[test]
    fn the_largest_variant_is_the_one_with_most_heads() {
        let models = pretrained_models().expect("the embedded zoo is readable");
        let heads = |id: &str| {
            let model = models.iter().find(|model| model.id == id).expect("a model of the zoo");
            model.head_variants[model.largest_variant()].len()
        };
        assert_eq!(
            (heads("Sentinel2_SwinB_SI_MS"), heads("Aerial_SwinB_SI"), heads("Sentinel2_SwinB_MI_MS")),
            (19, 17, 17)
        );
    }

    #[test]
    fn the_demo_bundle_describes_its_models() {
        let models = demo_models(include_str!("../../static/demo/demo.json")).expect("the demo bundle is readable");
        let tasks: Vec<&str> =
            models.iter().flat_map(|m| &m.head_variants[0]).map(|head| head.task.name.as_str()).collect();
        assert_eq!(tasks, ["water", "elevation", "coast", "tree_crown"]);
    }
}
