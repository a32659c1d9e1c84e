//! The models of the demo bundle, read from its `demo.json` into [`ModelSpec`]s.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::backbone::Backbone;
use super::catalog::{CatalogError, head_kind};
use super::spec::{
    Activation, Band, FpnSpec, Head, Layout, ModelOrigin, ModelSpec, Task, TaskType, UpsampleSpec, WeightsSpec,
};

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

/// What `demo.json` does not say in fields: id, title, sensor, metres per pixel, and the zoom whose 512 px tiles have that
/// resolution.
const DEMO_MODELS: [(&str, &str, &str, f64, u8); 2] = [
    ("world", "Demo: water, elevation and coast on global imagery", "blue_marble", 9783.9, 3),
    ("trees", "Demo: tree crowns on 10 cm aerial imagery", "aerial", 0.1, 19),
];

/// The models of the demo bundle, given the text of its `demo.json`.
///
/// # Errors
/// [`CatalogError`] if the text is not that of such a file.
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
                    value_range: None,
                });
                Ok(Head { index: head.index, task, kind, class_mask: None })
            })
            .collect::<Result<Vec<Head>, CatalogError>>()?;
        let bands = model.input.bands.into_iter().map(|name| Band { name, offset: 0.0, scale: 255.0 }).collect();
        specs.push(ModelSpec {
            id: id.to_owned(),
            title: title.to_owned(),
            origin: ModelOrigin::Demo,
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
            fit: None,
        });
    }
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_bundle_describes_its_models() {
        let models = demo_models(include_str!("../../static/demo/demo.json")).expect("the demo bundle is readable");
        let tasks: Vec<&str> =
            models.iter().flat_map(|m| &m.head_variants[0]).map(|head| head.task.name.as_str()).collect();
        assert_eq!(tasks, ["water", "elevation", "coast", "tree_crown"]);
    }
}
