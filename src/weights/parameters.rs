//! Names and shapes of the parameters of a model, in the order of its layers.
//!
//! They are those of torchvision's `swin_v2_*`, `resnet*`, `FeaturePyramidNetwork`, `RPNHead`, `RoIHeads` and of the heads
//! of the two public code bases. They give the size of a model whose file is not there yet, and tell which model a file
//! holds.

use crate::zoo::{Backbone, FpnSpec, Head, HeadKind, Layer, Layout, ModelSpec, TaskType, UpsampleSpec};

/// A tensor that a network reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in a checkpoint.
    pub name: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
}

/// Every tensor that a model with the heads of one of its variants reads from its own file: for heads that stand on another model,
/// theirs alone. A variant that does not exist has no heads.
pub fn parameters(spec: &ModelSpec, variant: usize) -> Vec<Parameter> {
    let mut list = List::default();
    let heads = spec.head_variants.get(variant).map_or(&[][..], Vec::as_slice);
    if spec.base().is_none() {
        list.trunk(spec);
    }
    let channels = map_channels(spec);
    for head in heads {
        let prefix = match spec.layout {
            Layout::Satlas => format!("heads.{}", head.index),
            Layout::Package => "head".to_owned(),
        };
        list.head(&prefix, head, &channels, spec);
    }
    list.0
}

/// The prefix of the backbone's own names: one step for the network class of the code base, and one more if captures are
/// pooled. ResNets lack the first step, and the Python package does not pool theirs.
pub(super) fn backbone_prefix(spec: &ModelSpec) -> String {
    match (&spec.backbone, spec.layout, spec.multi_image) {
        (Backbone::SwinV2 { .. }, _, true) => "backbone.backbone.backbone",
        (Backbone::SwinV2 { .. }, _, false) => "backbone.backbone",
        (Backbone::Resnet { .. }, Layout::Satlas, true) => "backbone.backbone.resnet",
        (Backbone::Resnet { .. }, _, _) => "backbone.resnet",
    }
    .to_owned()
}

/// Channels of the maps that heads may read, in order.
fn map_channels(spec: &ModelSpec) -> Vec<usize> {
    let backbone = spec.backbone.channels();
    let Some(fpn) = spec.fpn else { return backbone.to_vec() };
    let mut channels: Vec<usize> = Layer::Upsample.channels(spec).into_iter().collect();
    channels.extend([fpn.out_channels; 4]);
    if fpn.prepend {
        channels.extend(backbone);
    }
    channels
}

/// How many decoder layers, each of which doubles the resolution, it takes to reach that of the input.
fn upsample_layers(backbone: &Backbone) -> u32 {
    let stride = match backbone {
        Backbone::SwinV2 { patch_size, .. } => *patch_size,
        Backbone::Resnet { .. } => 4,
    };
    stride.next_power_of_two().ilog2()
}

#[derive(Default)]
struct List(Vec<Parameter>);

impl List {
    fn add(&mut self, name: String, shape: &[usize]) {
        self.0.push(Parameter { name, shape: shape.to_vec() });
    }

    fn weight(&mut self, stem: &str, shape: &[usize]) {
        self.add(format!("{stem}.weight"), shape);
    }

    /// A convolution or linear layer with one bias per output.
    fn layer(&mut self, stem: &str, shape: &[usize]) {
        self.weight(stem, shape);
        self.add(format!("{stem}.bias"), &shape[..1]);
    }

    fn batch_norm(&mut self, stem: &str, channels: usize) {
        for leaf in ["weight", "bias", "running_mean", "running_var"] {
            self.add(format!("{stem}.{leaf}"), &[channels]);
        }
    }

    /// Backbone, pyramid and decoder.
    fn trunk(&mut self, spec: &ModelSpec) {
        self.backbone(&backbone_prefix(spec), &spec.backbone, spec.bands.len());
        let (fpn, upsample) = match spec.layout {
            Layout::Satlas => ("intermediates.0.fpn", "intermediates.1.layers"),
            Layout::Package => ("fpn.fpn", "upsample.layers"),
        };
        if let Some(spec_fpn) = spec.fpn {
            self.fpn(fpn, &spec.backbone, spec_fpn);
            if let Some(spec_upsample) = spec.upsample {
                self.upsample(upsample, &spec.backbone, spec_fpn, spec_upsample);
            }
        }
    }

    fn backbone(&mut self, prefix: &str, backbone: &Backbone, bands: usize) {
        match backbone {
            Backbone::SwinV2 { patch_size, depths, num_heads, .. } => {
                let channels = backbone.channels();
                self.layer(&format!("{prefix}.features.0.0"), &[channels[0], bands, *patch_size, *patch_size]);
                self.layer(&format!("{prefix}.features.0.2"), &[channels[0]]);
                for stage in 0..4 {
                    for block in 0..depths[stage] {
                        let block = format!("{prefix}.features.{}.{block}", 2 * stage + 1);
                        self.swin_block(&block, channels[stage], num_heads[stage]);
                    }
                    if stage < 3 {
                        let merging = format!("{prefix}.features.{}", 2 * stage + 2);
                        self.weight(&format!("{merging}.reduction"), &[2 * channels[stage], 4 * channels[stage]]);
                        self.layer(&format!("{merging}.norm"), &[2 * channels[stage]]);
                    }
                }
            }
            Backbone::Resnet { depth } => self.resnet(prefix, *depth, bands),
        }
    }

    fn swin_block(&mut self, prefix: &str, channels: usize, heads: usize) {
        /// Hidden width of the network that computes position biases.
        const POSITION_HIDDEN: usize = 512;
        self.layer(&format!("{prefix}.norm1"), &[channels]);
        self.add(format!("{prefix}.attn.logit_scale"), &[heads, 1, 1]);
        self.layer(&format!("{prefix}.attn.cpb_mlp.0"), &[POSITION_HIDDEN, 2]);
        self.weight(&format!("{prefix}.attn.cpb_mlp.2"), &[heads, POSITION_HIDDEN]);
        self.layer(&format!("{prefix}.attn.qkv"), &[3 * channels, channels]);
        self.layer(&format!("{prefix}.attn.proj"), &[channels, channels]);
        self.layer(&format!("{prefix}.norm2"), &[channels]);
        self.layer(&format!("{prefix}.mlp.0"), &[4 * channels, channels]);
        self.layer(&format!("{prefix}.mlp.3"), &[channels, 4 * channels]);
    }

    fn resnet(&mut self, prefix: &str, depth: usize, bands: usize) {
        const STEM: usize = 64;
        let blocks = match depth {
            18 => [2, 2, 2, 2],
            101 => [3, 4, 23, 3],
            152 => [3, 8, 36, 3],
            _ => [3, 4, 6, 3],
        };
        self.weight(&format!("{prefix}.conv1"), &[STEM, bands, 7, 7]);
        self.batch_norm(&format!("{prefix}.bn1"), STEM);
        let mut inputs = STEM;
        for (stage, count) in blocks.into_iter().enumerate() {
            let width = STEM << stage;
            // With less than 50 layers, blocks are two 3x3 convolutions; else 1x1, 3x3, and a 1x1 with four times the
            // channels.
            let convolutions: &[(usize, usize)] =
                if depth < 50 { &[(width, 3), (width, 3)] } else { &[(width, 1), (width, 3), (4 * width, 1)] };
            let outputs = convolutions[convolutions.len() - 1].0;
            for block in 0..count {
                let block_prefix = format!("{prefix}.layer{}.{block}", stage + 1);
                let mut channels = inputs;
                for (i, (out, kernel)) in convolutions.iter().enumerate() {
                    self.weight(&format!("{block_prefix}.conv{}", i + 1), &[*out, channels, *kernel, *kernel]);
                    self.batch_norm(&format!("{block_prefix}.bn{}", i + 1), *out);
                    channels = *out;
                }
                if block == 0 && (stage > 0 || inputs != outputs) {
                    self.weight(&format!("{block_prefix}.downsample.0"), &[outputs, inputs, 1, 1]);
                    self.batch_norm(&format!("{block_prefix}.downsample.1"), outputs);
                }
                inputs = outputs;
            }
        }
    }

    fn fpn(&mut self, prefix: &str, backbone: &Backbone, FpnSpec { out_channels, .. }: FpnSpec) {
        for (level, channels) in backbone.channels().into_iter().enumerate() {
            self.layer(&format!("{prefix}.inner_blocks.{level}.0"), &[out_channels, channels, 1, 1]);
            self.layer(&format!("{prefix}.layer_blocks.{level}.0"), &[out_channels, out_channels, 3, 3]);
        }
    }

    fn upsample(&mut self, prefix: &str, backbone: &Backbone, fpn: FpnSpec, UpsampleSpec { out_channels }: UpsampleSpec) {
        let mut channels = fpn.out_channels;
        for layer in 0..upsample_layers(backbone) {
            let next = (channels / 2).max(out_channels);
            self.layer(&format!("{prefix}.{layer}.0"), &[channels, channels, 3, 3]);
            // The weight of a transposed convolution is [in, out, 4, 4], so the length of its bias is the second dimension.
            self.weight(&format!("{prefix}.{layer}.2"), &[channels, next, 4, 4]);
            self.add(format!("{prefix}.{layer}.2.bias"), &[next]);
            channels = next;
        }
    }

    fn head(&mut self, prefix: &str, head: &Head, maps: &[usize], spec: &ModelSpec) {
        let outputs = head.task.categories.len().max(1);
        let first = maps.first().copied().unwrap_or(0);
        match &head.kind {
            HeadKind::Simple { .. } => {
                self.layer(&format!("{prefix}.layers.0.0"), &[first, first, 3, 3]);
                match head.task.task_type {
                    TaskType::Classification | TaskType::MultiLabelClassification => {
                        self.layer(&format!("{prefix}.extra"), &[outputs, first]);
                    }
                    _ => self.layer(&format!("{prefix}.layers.1"), &[outputs, first, 3, 3]),
                }
            }
            HeadKind::Classify { .. } => {
                self.layer(&format!("{prefix}.layer"), &[outputs, maps.last().copied().unwrap_or(0)]);
            }
            HeadKind::Linear { layers, .. } => {
                let inputs = layers.iter().filter_map(|layer| layer.channels(spec)).sum();
                self.layer(prefix, &[outputs, inputs]);
            }
            HeadKind::Nearest { layers, examples, .. } => {
                let inputs = layers.iter().filter_map(|layer| layer.channels(spec)).sum();
                self.layer(prefix, &[*examples, inputs]);
                self.add(format!("{prefix}.values"), &[*examples, outputs]);
            }
            HeadKind::Frcnn { use_layers, .. } => {
                let level = use_layers.first().and_then(|layer| maps.get(*layer)).copied().unwrap_or(0);
                self.frcnn(prefix, level, outputs, head.task.task_type == TaskType::Instance);
            }
        }
    }

    fn frcnn(&mut self, prefix: &str, channels: usize, classes: usize, with_masks: bool) {
        const ANCHORS: usize = 3;
        const ROI_SIZE: usize = 7;
        const BOX_HIDDEN: usize = 1024;
        const MASK_HIDDEN: usize = 256;
        self.layer(&format!("{prefix}.rpn.head.conv.0.0"), &[channels, channels, 3, 3]);
        self.layer(&format!("{prefix}.rpn.head.cls_logits"), &[ANCHORS, channels, 1, 1]);
        self.layer(&format!("{prefix}.rpn.head.bbox_pred"), &[4 * ANCHORS, channels, 1, 1]);
        let roi = format!("{prefix}.roi_heads");
        self.layer(&format!("{roi}.box_head.fc6"), &[BOX_HIDDEN, channels * ROI_SIZE * ROI_SIZE]);
        self.layer(&format!("{roi}.box_head.fc7"), &[BOX_HIDDEN, BOX_HIDDEN]);
        self.layer(&format!("{roi}.box_predictor.cls_score"), &[classes, BOX_HIDDEN]);
        self.layer(&format!("{roi}.box_predictor.bbox_pred"), &[4 * classes, BOX_HIDDEN]);
        if with_masks {
            for layer in 0..4 {
                let inputs = if layer == 0 { channels } else { MASK_HIDDEN };
                self.layer(&format!("{roi}.mask_head.{layer}.0"), &[MASK_HIDDEN, inputs, 3, 3]);
            }
            self.layer(&format!("{roi}.mask_predictor.conv5_mask"), &[MASK_HIDDEN, MASK_HIDDEN, 2, 2]);
            self.layer(&format!("{roi}.mask_predictor.mask_fcn_logits"), &[classes, MASK_HIDDEN, 1, 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::weights::keys;
    use crate::zoo::{Manifest, pretrained_models};

    /// FNV-1a hashes of `name:dim,dim,…;` of every parameter in alphabetical order, from state dicts of the public code.
    const REFERENCE: &str = include_str!("../../tests/fixtures/checkpoints/parameters.json");

    fn digest(list: Vec<Parameter>) -> (usize, u64) {
        let sorted: BTreeMap<String, Vec<usize>> =
            list.into_iter().map(|parameter| (parameter.name, parameter.shape)).collect();
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for (name, shape) in &sorted {
            assert!(!keys::is_ignored(name), "{name}");
            let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
            for byte in format!("{name}:{};", dims.join(",")).bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        (sorted.len(), hash)
    }

    #[test]
    fn every_public_model_has_the_parameters_of_the_public_code() {
        let reference: BTreeMap<String, Vec<(usize, u64)>> = serde_json::from_str(REFERENCE).unwrap();
        let models = pretrained_models().unwrap();
        assert_eq!(reference.keys().filter(|name| !name.starts_with("package.")).count(), models.len());
        for model in &models {
            for (variant, expected) in reference[&model.id].iter().enumerate() {
                assert_eq!(digest(parameters(model, variant)), *expected, "{} variant {variant}", model.id);
            }
        }
    }

    /// Cases are named `package.BACKBONE.fpn|backbone.HEAD.…`.
    #[test]
    fn every_head_of_the_python_package_has_its_parameters() {
        let reference: BTreeMap<String, Vec<(usize, u64)>> = serde_json::from_str(REFERENCE).unwrap();
        for (bands, categories, case) in [
            (3, 5, "package.swint.fpn.classify.1x128x128"),
            (3, 5, "package.swint.fpn.multiclassify.1x128x128"),
            (3, 5, "package.swint.fpn.detect.1x128x128"),
            (3, 5, "package.swint.fpn.instance.1x128x128"),
            (3, 5, "package.swint.fpn.segment.1x128x128"),
            (3, 5, "package.swint.fpn.binsegment.1x128x128"),
            (3, 5, "package.swint.fpn.regress.1x128x128"),
            (9, 4, "package.resnet50.backbone.classify.1x128x128"),
            (9, 4, "package.resnet50.backbone.segment.1x128x128"),
            (11, 0, "package.swinb.backbone.none.2x64x64"),
            (3, 3, "package.resnet50.fpn.instance.1x128x160"),
        ] {
            let words: Vec<&str> = case.split('.').collect();
            let kind = match words[3] {
                "classify" => "classification",
                "multiclassify" => "multi_label_classification",
                "binsegment" => "bin_segment",
                other => other,
            };
            let names: Vec<String> = (0..categories).map(|i| format!("\"c{i}\"")).collect();
            let mut manifest = format!(
                "id = \"x\"\nbackbone = \"{}\"\nfpn = {}\nmulti_image = {}\ncheckpoint = {{ path = \"x.pth\", layout = \"package\" }}\n",
                words[1],
                words[2] == "fpn",
                words[4].starts_with('2'),
            );
            for band in 0..bands {
                manifest += &format!("[[bands]]\nname = \"b{band}\"\noffset = 0\nscale = 255\n");
            }
            if kind != "none" {
                manifest += &format!("[[heads]]\ntask = \"t\"\ntype = \"{kind}\"\ncategories = [{}]\n", names.join(", "));
            }
            let spec = Manifest::from_toml(&manifest).unwrap().to_spec(Path::new("/models"), |_| None).unwrap();
            assert_eq!(digest(parameters(&spec, 0)), reference[case][0], "{case}");
        }
    }
}
