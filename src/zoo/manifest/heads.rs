//! The heads of a manifest: checks, and the defaults of the two public code bases.

use std::sync::Arc;

use super::check::{MAX_TEXT_LEN, check, check_name, field};
use super::document::{HeadNetwork, ManifestError, ManifestHead};
use crate::zoo::layer::Layer;
use crate::zoo::spec::{
    Activation, FIRST_NEW_HEAD, Head, HeadKind, Layout, MAX_EXAMPLES, MAX_NEIGHBOURS, ModelSpec, Task, TaskType,
    WeightsSpec,
};

const MAX_HEADS: usize = 32;
const MAX_CATEGORIES: usize = 1000;
/// Anchor side in pixels for each map, in both public code bases.
const ANCHOR_SIZES: [f32; 4] = [32.0, 64.0, 128.0, 256.0];

/// The heads that a manifest describes, for a model whose other parts are known.
///
/// # Errors
/// If a field of a head has a value that it cannot have, or there are too many heads.
pub(super) fn heads(given: &[ManifestHead], spec: &ModelSpec) -> Result<Vec<Head>, ManifestError> {
    check(given.len() <= MAX_HEADS, "heads", given.len(), format!("at most {MAX_HEADS}"))?;
    let is_new = matches!(spec.weights, WeightsSpec::NewHeads { .. });
    let is_on_base = is_new || spec.base().is_some();
    let package = is_on_base || spec.layout == Layout::Package;
    let one_only = package && !is_on_base;
    check(!one_only || given.len() <= 1, "heads", given.len(), "at most one in the package layout")?;
    let mut heads = Vec::new();
    for (i, head) in given.iter().enumerate() {
        let at = |name: &str| format!("heads[{i}].{name}");
        check_name(&at("task"), &head.task)?;
        check(head.task != "embedding", at("task"), "\"embedding\"", "another name: every model has that task")?;
        let is_repeated = given[..i].iter().any(|other| other.task == head.task);
        check(!is_repeated, at("task"), format!("{:?} again", head.task), "a name for each head")?;
        heads.push(Head {
            index: if is_new { FIRST_NEW_HEAD + i } else { i },
            task: Arc::new(head.task(&at)?),
            kind: head.kind(&at, package, spec)?,
            class_mask: None,
        });
    }
    Ok(heads)
}

impl ManifestHead {
    /// The description of a head, from which the head can be made again.
    pub fn of(head: &Head) -> Self {
        let task = &head.task;
        let (network, activation, use_layers, anchor_sizes) = match &head.kind {
            HeadKind::Simple { activation } => (HeadNetwork::Simple, Some(*activation), None, None),
            HeadKind::Classify { activation } => (HeadNetwork::Classify, Some(*activation), None, None),
            HeadKind::Frcnn { use_layers, anchor_sizes } => {
                (HeadNetwork::Frcnn, None, Some(use_layers.clone()), Some(anchor_sizes.clone()))
            }
            HeadKind::Linear { activation, .. } => (HeadNetwork::Linear, Some(*activation), None, None),
            HeadKind::Nearest { .. } => (HeadNetwork::Nearest, None, None, None),
        };
        let (examples, neighbours) = match head.kind {
            HeadKind::Nearest { examples, neighbours, .. } => (Some(examples), Some(neighbours)),
            _ => (None, None),
        };
        Self {
            task: task.name.clone(),
            task_type: task.task_type,
            categories: task.categories.clone(),
            colors: task.colors.clone(),
            background_invalid: task.background_invalid,
            value_range: task.value_range,
            network: Some(network),
            activation,
            use_layers,
            anchor_sizes,
            layers: head.kind.named_layers().to_vec(),
            examples,
            neighbours,
        }
    }

    fn task(&self, at: &impl Fn(&str) -> String) -> Result<Task, ManifestError> {
        let count = self.categories.len();
        let least = match self.task_type {
            TaskType::Embedding => return Err(field(at("type"), "embedding", "a kind of answer that a head gives")),
            TaskType::Regress => 0,
            TaskType::Detect | TaskType::Instance => 2,
            _ => 1,
        };
        check((least..=MAX_CATEGORIES).contains(&count), at("categories"), count, format!("{least} to {MAX_CATEGORIES}"))?;
        let colors = self.colors.len();
        check(colors == 0 || colors == count, at("colors"), colors, format!("none or {count}, one a category"))?;
        if let Some([least, greatest]) = self.value_range {
            let needed = "two finite numbers of a regression, the lower one first";
            let ok = self.task_type == TaskType::Regress && least < greatest && (greatest - least).is_finite();
            check(ok, at("value_range"), format!("[{least}, {greatest}]"), needed)?;
        }
        for (i, category) in self.categories.iter().enumerate() {
            let is_name = !category.is_empty() && category.len() <= MAX_TEXT_LEN && !category.contains(char::is_control);
            let ok = is_name && !self.categories[..i].contains(category);
            check(ok, at(&format!("categories[{i}]")), format!("{category:?}"), "a name for each category")?;
        }
        Ok(Task {
            name: self.task.clone(),
            task_type: self.task_type,
            categories: self.categories.clone(),
            colors: self.colors.clone(),
            background_invalid: self.background_invalid,
            value_range: self.value_range,
        })
    }

    /// The head's network. Defaults differ between the public code bases: the package ends `bin_segment` with a softmax and
    /// its detection heads read maps 0-3, the training code uses a sigmoid and maps 1-4.
    fn kind(&self, at: &impl Fn(&str) -> String, package: bool, spec: &ModelSpec) -> Result<HeadKind, ManifestError> {
        let is_detection = matches!(self.task_type, TaskType::Detect | TaskType::Instance);
        let is_label = self.task_type.is_label();
        let network = self.network.unwrap_or(match (is_detection, is_label && !package) {
            _ if self.examples.is_some() => HeadNetwork::Nearest,
            _ if !self.layers.is_empty() => HeadNetwork::Linear,
            (true, _) => HeadNetwork::Frcnn,
            (false, true) => HeadNetwork::Classify,
            (false, false) => HeadNetwork::Simple,
        });
        let fits = match network {
            HeadNetwork::Frcnn => is_detection,
            HeadNetwork::Classify => is_label && !package,
            HeadNetwork::Simple => !is_detection,
            HeadNetwork::Linear | HeadNetwork::Nearest => !is_detection,
        };
        check(
            fits,
            at("network"),
            format!("{network:?}").to_lowercase(),
            format!("one that answers {:?}", self.task_type),
        )?;
        if network == HeadNetwork::Frcnn {
            check(self.activation.is_none(), at("activation"), "a value", "none for detection")?;
            check(spec.fpn.is_some(), at("type"), format!("{:?} without a pyramid", self.task_type), "fpn = true")?;
            // All maps that a head reads have the same width. The decoder's is one of them only if it is as wide as the
            // pyramid's, which holds in the package.
            let same_width = spec.upsample.map(|upsample| upsample.out_channels) == spec.fpn.map(|fpn| fpn.out_channels);
            let default_layers = if package && same_width { vec![0, 1, 2, 3] } else { vec![1, 2, 3, 4] };
            let use_layers = self.use_layers.clone().unwrap_or(default_layers);
            let anchor_sizes = self.anchor_sizes.clone().unwrap_or_else(|| ANCHOR_SIZES.to_vec());
            let layers_fit = (1..=5).contains(&use_layers.len())
                && use_layers.is_sorted_by(|a, b| a < b)
                && use_layers[use_layers.len() - 1] <= 4;
            check(layers_fit, at("use_layers"), format!("{use_layers:?}"), "rising numbers of 0 to 4")?;
            let anchors_fit =
                anchor_sizes.len() == use_layers.len() && anchor_sizes.iter().all(|size| *size > 0.0 && *size < 1e4);
            check(
                anchors_fit,
                at("anchor_sizes"),
                format!("{anchor_sizes:?}"),
                format!("{} sizes above 0", use_layers.len()),
            )?;
            return Ok(HeadKind::Frcnn { use_layers, anchor_sizes });
        }
        let for_detection = self.use_layers.is_some() || self.anchor_sizes.is_some();
        check(!for_detection, at("use_layers"), "a value", "none: only detection chooses maps and anchors")?;
        if network == HeadNetwork::Nearest {
            return self.nearest(at, spec);
        }
        let examples = self.examples.or(self.neighbours);
        check(examples.is_none(), at("examples"), "a value", "none, or network = \"nearest\"")?;
        let is_linear = network == HeadNetwork::Linear;
        let activation = self.activation.unwrap_or(match self.task_type {
            TaskType::MultiLabelClassification => Activation::Sigmoid,
            TaskType::BinSegment if !package || is_linear => Activation::Sigmoid,
            TaskType::Regress if is_linear => Activation::Identity,
            TaskType::Regress => Activation::Times255,
            _ => Activation::Softmax,
        });
        let is_value = matches!(activation, Activation::Times255 | Activation::Identity);
        check(
            is_value == (self.task_type == TaskType::Regress),
            at("activation"),
            format!("{activation:?}").to_lowercase(),
            format!("one for {:?}", self.task_type),
        )?;
        check(is_linear || self.layers.is_empty(), at("layers"), "a value", "none, or network = \"linear\"")?;
        Ok(match network {
            HeadNetwork::Linear => HeadKind::Linear { layers: layers(&self.layers, at, spec)?, activation },
            HeadNetwork::Classify => HeadKind::Classify { activation },
            _ => HeadKind::Simple { activation },
        })
    }

    fn nearest(&self, at: &impl Fn(&str) -> String, spec: &ModelSpec) -> Result<HeadKind, ManifestError> {
        check(
            self.activation.is_none(),
            at("activation"),
            "a value",
            "none: a nearest head answers what its examples say",
        )?;
        let number = |name: &str, value: Option<usize>, most: usize| {
            let found = value.map_or("none".to_owned(), |value| value.to_string());
            let known = value.filter(|value| (1..=most).contains(value));
            known.ok_or_else(|| field(at(name), found, format!("1 to {most}")))
        };
        let examples = number("examples", self.examples, MAX_EXAMPLES)?;
        let neighbours = number("neighbours", self.neighbours, examples.min(MAX_NEIGHBOURS))?;
        Ok(HeadKind::Nearest { layers: layers(&self.layers, at, spec)?, examples, neighbours })
    }
}

/// The maps of a linear or nearest head, which the model must have, each once.
fn layers(given: &[Layer], at: &impl Fn(&str) -> String, spec: &ModelSpec) -> Result<Vec<Layer>, ManifestError> {
    let there: Vec<String> =
        Layer::ALL.iter().filter(|layer| layer.channels(spec).is_some()).map(Layer::to_string).collect();
    check(!given.is_empty(), at("layers"), "none", format!("one or more of {}", there.join(", ")))?;
    for (i, layer) in given.iter().enumerate() {
        let is_there = layer.channels(spec).is_some() && !given[..i].contains(layer);
        check(is_there, at(&format!("layers[{i}]")), layer, format!("one of {}, each once", there.join(", ")))?;
    }
    Ok(given.to_vec())
}
