//! A manifest that serves a checkpoint file as it is, for `models inspect`: made from the model that the file fits, or else from
//! the names and shapes of its tensors.

use std::collections::BTreeMap;
use std::path::Path;

use super::tensors::Weights;
use crate::zoo::{Backbone, BackboneChoice, Checkpoint, HeadNetwork, Layout, Manifest, ManifestHead, ModelSpec, TaskType};

/// Names in checkpoint order and shapes of a file's tensors.
type Shapes = BTreeMap<String, Vec<usize>>;

/// A manifest for the file at `path`, as the text of a `.toml` file. `known` is a model that the file fits, with the head variant;
/// `models` gives bands and scaling to files of no known model. `None` if no manifest that was tried fits.
pub(super) fn manifest(
    path: &Path,
    weights: Weights,
    models: &[ModelSpec],
    known: Option<(&ModelSpec, usize)>,
) -> Option<String> {
    let mut manifest = match known {
        Some((spec, variant)) => of_model(spec, variant)?,
        None => of_shapes(&weights, models)?,
    };
    let name = path.file_name()?.to_str()?;
    let stem = name.split('.').next().unwrap_or_default();
    let letters = stem.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' });
    manifest.id = letters.take(60).collect();
    if manifest.id.is_empty() || models.iter().any(|model| model.id == manifest.id) {
        manifest.id += "-own";
    }
    let layout = manifest.checkpoint.as_ref().map_or(Layout::Package, |checkpoint| checkpoint.layout);
    manifest.checkpoint = Some(checkpoint(name, layout));
    let spec = manifest.to_spec(Path::new(""), |_| None).ok()?;
    let naming = weights.naming_for(&spec, weights.naming());
    // Said outright, so that the same tensors are taken if more are added to the file.
    if naming.add.is_empty() && !naming.strip.is_empty() {
        manifest.checkpoint = Some(Checkpoint { prefix: Some(naming.strip), ..checkpoint(name, layout) });
    }
    let spec = manifest.to_spec(Path::new(""), |_| None).ok()?;
    weights.suited_to(&spec).ok().filter(|weights| weights.fit(&spec).is_complete())?;
    manifest.to_toml().ok()
}

fn checkpoint(path: &str, layout: Layout) -> Checkpoint {
    Checkpoint { path: path.to_owned(), layout, prefix: None, select: None, rename: BTreeMap::new() }
}

/// The manifest of a known model.
fn of_model(spec: &ModelSpec, variant: usize) -> Option<Manifest> {
    let heads = spec.head_variants.get(variant).map_or(&[][..], Vec::as_slice);
    Some(Manifest {
        title: Some(spec.title.clone()),
        licence: Some(spec.licence.clone()),
        backbone: Some(named(&spec.backbone)),
        fpn: spec.fpn.is_some(),
        fpn_channels: spec.fpn.map(|fpn| fpn.out_channels),
        fpn_prepend: spec.fpn.map(|fpn| fpn.prepend).filter(|prepend| *prepend),
        upsample_channels: spec.upsample.map(|upsample| upsample.out_channels),
        multi_image: Some(spec.multi_image),
        max_images: Some(spec.max_images),
        heads: heads.iter().map(ManifestHead::of).collect(),
        ..like(spec, spec.layout)
    })
}

/// What files of no known model take from one: bands, scaling and resolution.
fn like(spec: &ModelSpec, layout: Layout) -> Manifest {
    Manifest {
        id: String::new(),
        title: None,
        base: None,
        seed: None,
        fpn: true,
        fpn_channels: None,
        fpn_prepend: None,
        upsample_channels: None,
        sensor: Some(spec.sensor.clone()),
        native_gsd_m: Some(spec.native_gsd_m),
        native_zoom_512: Some(spec.native_zoom_512),
        multi_image: None,
        max_images: None,
        licence: None,
        checkpoint: Some(checkpoint("", layout)),
        head_weights: None,
        fit: None,
        backbone: None,
        bands: spec.bands.clone(),
        heads: Vec::new(),
    }
}

fn named(backbone: &Backbone) -> BackboneChoice {
    const NAMES: [&str; 7] = ["swin_v2_t", "swin_v2_b", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"];
    let name = NAMES.into_iter().find(|name| Backbone::by_name(name).as_ref() == Some(backbone));
    name.map_or_else(|| BackboneChoice::Sizes(backbone.clone()), |name| BackboneChoice::Name(name.to_owned()))
}

/// The manifest that names and shapes suggest.
fn of_shapes(weights: &Weights, models: &[ModelSpec]) -> Option<Manifest> {
    let shapes: Shapes = weights.in_file().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect();
    let (root, backbone, bands) = swin(&shapes).or_else(|| resnet(&shapes))?;
    let mut model = root.as_str();
    while let Some(outer) = model.strip_suffix("backbone.").or_else(|| model.strip_suffix("resnet.")) {
        model = outer;
    }
    let has = |start: &str| shapes.keys().any(|name| name.strip_prefix(model).is_some_and(|name| name.starts_with(start)));
    let layout = if has("intermediates.") || has("heads.") { Layout::Satlas } else { Layout::Package };
    let (fpn, upsample) = match layout {
        Layout::Satlas => ("intermediates.0.fpn.", "intermediates.1.layers."),
        Layout::Package => ("fpn.fpn.", "upsample.layers."),
    };
    let fpn_channels = shapes.get(&format!("{model}{fpn}inner_blocks.0.0.weight")).and_then(|shape| shape.first().copied());
    let decoder = (0..4).filter_map(|layer| shapes.get(&format!("{model}{upsample}{layer}.2.bias"))?.first().copied());
    let steps = &root[model.len()..];
    let multi_image = steps == "backbone.backbone.backbone." || steps == "backbone.backbone.resnet.";
    let known =
        models.iter().find(|spec| spec.bands.len() == bands && spec.origin == crate::zoo::ModelOrigin::Pretrained)?;
    let heads: Vec<ManifestHead> = match layout {
        Layout::Package => heads_of(&shapes, &format!("{model}head."), "task").into_iter().collect(),
        Layout::Satlas => {
            (0..).map_while(|i| heads_of(&shapes, &format!("{model}heads.{i}."), &format!("task{i}"))).collect()
        }
    };
    let coarsest = backbone.channels()[3];
    let reads_backbone =
        |start: &str| shapes.get(&format!("{start}layer.weight")).is_some_and(|shape| shape.get(1) == Some(&coarsest));
    let prepend = (0..heads.len()).any(|i| reads_backbone(&format!("{model}heads.{i}.")));
    Some(Manifest {
        backbone: Some(named(&backbone)),
        fpn: fpn_channels.is_some(),
        fpn_channels,
        fpn_prepend: (layout == Layout::Satlas && prepend).then_some(true),
        upsample_channels: decoder.min(),
        multi_image: multi_image.then_some(true),
        heads,
        ..like(known, layout)
    })
}

/// Start of the names, sizes and number of bands of a Swin-v2.
fn swin(shapes: &Shapes) -> Option<(String, Backbone, usize)> {
    const FIRST: &str = "features.0.0.weight";
    const USUAL_WINDOW: usize = 8;
    let (name, shape) = shapes.iter().find(|(name, shape)| name.ends_with(FIRST) && shape.len() == 4)?;
    let root = &name[..name.len() - FIRST.len()];
    let [embed_dim, bands, patch_size, _] = <[usize; 4]>::try_from(shape.as_slice()).ok()?;
    let block = |stage: usize, block: usize| format!("{root}features.{}.{block}.", 2 * stage + 1);
    let depth = |stage| (0..).take_while(|i| shapes.contains_key(&format!("{}norm1.weight", block(stage, *i)))).count();
    let heads = |stage| {
        let scales = shapes.get(&format!("{}attn.logit_scale", block(stage, 0)));
        scales.and_then(|shape| shape.first().copied()).unwrap_or(0)
    };
    // The side of this buffer is that of a window, twice, less one.
    let table = shapes.get(&format!("{}attn.relative_coords_table", block(0, 0)));
    let window_size = table.and_then(|shape| shape.get(1)).map_or(USUAL_WINDOW, |side| side.div_ceil(2));
    let (depths, num_heads) = ([0, 1, 2, 3].map(depth), [0, 1, 2, 3].map(heads));
    Some((root.to_owned(), Backbone::SwinV2 { patch_size, embed_dim, depths, num_heads, window_size }, bands))
}

/// Start of the names, depth and number of bands of a ResNet.
fn resnet(shapes: &Shapes) -> Option<(String, Backbone, usize)> {
    const FIRST: &str = "conv1.weight";
    const STEM: [usize; 2] = [64, 7];
    let is_stem = |shape: &[usize]| matches!(shape, [out, _, side, _] if [*out, *side] == STEM);
    let (name, shape) = shapes.iter().find(|(name, shape)| name.ends_with(FIRST) && is_stem(shape))?;
    let root = &name[..name.len() - FIRST.len()];
    let has = |layer: usize, block: usize, convolution: usize| {
        shapes.contains_key(&format!("{root}layer{layer}.{block}.conv{convolution}.weight"))
    };
    let blocks = [1, 2, 3, 4].map(|layer| (0..).take_while(|block| has(layer, *block, 1)).count());
    let depth = match (blocks, has(1, 0, 3)) {
        ([2, 2, 2, 2], false) => 18,
        ([3, 4, 6, 3], false) => 34,
        ([3, 4, 6, 3], true) => 50,
        ([3, 4, 23, 3], true) => 101,
        ([3, 8, 36, 3], true) => 152,
        _ => return None,
    };
    Some((root.to_owned(), Backbone::Resnet { depth }, shape[1]))
}

/// The head whose names begin with `start`. Whether categories exclude each other is not in the file: they are taken to.
fn heads_of(shapes: &Shapes, start: &str, task: &str) -> Option<ManifestHead> {
    /// No manifest may have nearly so many categories.
    const MOST: usize = 1 << 16;
    let outputs =
        |name: &str| shapes.get(&format!("{start}{name}.weight"))?.first().copied().filter(|count| *count <= MOST);
    let (task_type, count, network) = None
        .or_else(|| Some((TaskType::Instance, outputs("roi_heads.mask_predictor.mask_fcn_logits")?, HeadNetwork::Frcnn)))
        .or_else(|| Some((TaskType::Detect, outputs("roi_heads.box_predictor.cls_score")?, HeadNetwork::Frcnn)))
        .or_else(|| Some((TaskType::Classification, outputs("layer")?, HeadNetwork::Classify)))
        .or_else(|| Some((TaskType::Classification, outputs("extra")?, HeadNetwork::Simple)))
        .or_else(|| Some((TaskType::Segment, outputs("layers.1")?, HeadNetwork::Simple)))?;
    let (task_type, count) =
        if (task_type, count) == (TaskType::Segment, 1) { (TaskType::Regress, 0) } else { (task_type, count) };
    Some(ManifestHead {
        task: task.to_owned(),
        task_type,
        categories: (0..count).map(|i| format!("class{i}")).collect(),
        colors: Vec::new(),
        background_invalid: false,
        value_range: None,
        network: Some(network),
        activation: None,
        use_layers: None,
        anchor_sizes: None,
        layers: Vec::new(),
        examples: None,
        neighbours: None,
    })
}
