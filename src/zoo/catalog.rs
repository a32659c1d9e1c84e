//! The public models, read from `zoo.json` into [`ModelSpec`]s.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::backbone::Backbone;
use super::spec::{
    Activation, ArchiveMember, Band, FpnSpec, Head, HeadKind, Layout, ModelOrigin, ModelSpec, Task, UpsampleSpec,
    WeightsSpec,
};
use crate::error::ErrorKind;

const ZOO: &str = include_str!("zoo.json");
const PRETRAIN_LICENCE: &str = "ODC-BY 1.0";
const PRETRAIN_SOURCE: &str = "https://huggingface.co/allenai/satlas-pretrain";
const FINE_TUNED_SOURCE: &str = "https://github.com/allenai/satlas/blob/main/SatlasExplorerDatasets.md";

/// Channels of the decoder in every public checkpoint.
const PUBLIC_UPSAMPLE_CHANNELS: usize = 128;

/// A catalogue of models that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// It is not the expected JSON.
    #[error("the model catalogue {catalog} cannot be read: {source}")]
    Json {
        /// Which catalogue.
        catalog: &'static str,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// It uses a name that is not defined.
    #[error("model {model}: {what} {name:?} is not known")]
    UnknownName {
        /// The model whose entry uses it.
        model: String,
        /// The kind of thing that the name should stand for.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl CatalogError {
    /// Always an internal error: catalogues are part of the program.
    pub(crate) fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

#[derive(Deserialize)]
struct Zoo {
    tasks: HashMap<String, Task>,
    pretrained: Vec<CatalogEntry>,
    fine_tuned: Vec<CatalogEntry>,
}

#[derive(Deserialize)]
struct CatalogEntry {
    id: String,
    hub: HubFile,
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
/// [`CatalogError`] if the embedded catalogue is inconsistent, which a test rules out.
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
    let pretrained = zoo.pretrained.into_iter().map(|entry| (entry, ModelOrigin::Pretrained));
    let fine_tuned = zoo.fine_tuned.into_iter().map(|entry| (entry, ModelOrigin::FineTuned));
    pretrained.chain(fine_tuned).map(|(entry, origin)| entry.into_spec(origin, &tasks)).collect()
}

impl CatalogEntry {
    fn into_spec(self, origin: ModelOrigin, tasks: &HashMap<String, Arc<Task>>) -> Result<ModelSpec, CatalogError> {
        let unknown = |what, name: &str| CatalogError::UnknownName { model: self.id.clone(), what, name: name.to_owned() };
        let backbone = Backbone::by_name(&self.backbone).ok_or_else(|| unknown("backbone", &self.backbone))?;
        let weights = WeightsSpec::Hub {
            repo: self.hub.repo.clone(),
            file: self.hub.file.clone(),
            archive: self.archive.clone().zip(self.file.clone()).map(|(archive, file)| ArchiveMember { archive, file }),
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
            source: if origin == ModelOrigin::Pretrained { PRETRAIN_SOURCE } else { FINE_TUNED_SOURCE }.to_owned(),
            fit: None,
        })
    }
}

/// The head network of a catalogue entry; `None` if its name is unknown or a field it needs is missing.
pub(super) fn head_kind(
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

fn title(sensor: &str, backbone: &str, multi_image: bool, bands: &[String], origin: ModelOrigin, id: &str) -> String {
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
        ModelOrigin::FineTuned => {
            let task = id.trim_start_matches("Satlas_").replace('_', " ");
            format!("Satlas {task}: {sensor}, {backbone}, {images}, {bands} bands")
        }
        _ => format!("SatlasPretrain: {sensor}, {backbone}, {images}, {bands} bands"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::TaskType;

    #[test]
    fn the_zoo_holds_every_public_checkpoint() {
        let models = pretrained_models().expect("the embedded zoo is readable");
        let count = |origin| models.iter().filter(|model| model.origin == origin).count();
        assert_eq!((count(ModelOrigin::Pretrained), count(ModelOrigin::FineTuned)), (22, 4));
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
}
