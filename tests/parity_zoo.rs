//! Every public model against PyTorch, with synthetic weights: feature maps and all heads of all head variants, odd sizes,
//! the package's heads (`tests/fixtures/zoo`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and may report figures"
)]

mod parity;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use candle_core::{DType, Tensor};
use parity::{DENSE_F32, DENSE_HALF, DEVICE, Detections, MATCHED, Matching, PROBABILITY};
use safetensors::SafeTensors;
use satlas_serve::nn::{Features, HeadOutput, Network};
use satlas_serve::ops::OpsContext;
use satlas_serve::prediction::Object;
use satlas_serve::weights::Weights;
use satlas_serve::zoo::{
    Activation, Backbone, Band, FpnSpec, Head, HeadKind, Layer, Layout, ModelSpec, Task, TaskType, UpsampleSpec,
    pretrained_models,
};
use serde::Deserialize;

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct File {
        cases: Vec<Case>,
    }
    serde_json::from_str::<File>(include_str!("fixtures/zoo/cases.json")).unwrap().cases
});
static GOLDENS: LazyLock<SafeTensors<'static>> =
    LazyLock::new(|| SafeTensors::deserialize(include_bytes!("fixtures/zoo/goldens.safetensors")).unwrap());

#[derive(Deserialize)]
struct Case {
    name: String,
    layout: Layout,
    model: Option<String>,
    #[serde(default)]
    variant: usize,
    seed: u64,
    /// Captures x bands, rows, columns.
    input: [usize; 3],
    outputs: BTreeMap<String, Output>,
    parameters: Parameters,
    /// Of the package's cases.
    package: Option<PackageCase>,
}

#[derive(Deserialize)]
struct Output {
    shape: Vec<usize>,
    mean_abs: Option<f32>,
}

#[derive(Deserialize)]
struct Parameters {
    count: usize,
    hash: String,
}

#[derive(Deserialize)]
struct PackageCase {
    backbone: String,
    fpn: bool,
    head: String,
    num_categories: Option<usize>,
    multi_image: bool,
    channels: usize,
}

/// The worst deviations of a case.
#[derive(Debug, Default)]
struct Worst {
    /// In mean magnitudes: feature maps and dense heads.
    relative: f32,
    relative_of: String,
    /// The same as a mean over the sampled values.
    mean: f32,
    /// Of probabilities.
    absolute: f32,
    absolute_of: String,
    /// Share of detections found again.
    matched: Option<f32>,
    /// The same where the type has fewer digits than float32.
    matched_half: Option<f32>,
}

/// Deviations of one map in its mean magnitudes.
#[derive(Clone, Copy)]
struct Gap {
    max: f32,
    mean: f32,
}

impl Worst {
    fn relative(&mut self, name: &str, Gap { max: gap, mean }: Gap) {
        self.mean = self.mean.max(mean);
        if gap > self.relative {
            (self.relative, self.relative_of) = (gap, name.to_owned());
        }
    }

    fn absolute(&mut self, name: &str, gap: f32) {
        if gap > self.absolute {
            (self.absolute, self.absolute_of) = (gap, name.to_owned());
        }
    }
}

impl Case {
    fn spec(&self) -> ModelSpec {
        let models = pretrained_models().unwrap();
        match (&self.model, &self.package) {
            (Some(id), _) => models.into_iter().find(|model| model.id == *id).unwrap(),
            (None, Some(package)) => package.spec(models.into_iter().next().unwrap()),
            (None, None) => panic!("{} names no model", self.name),
        }
    }

    fn network(&self, ops: OpsContext) -> Network {
        Network::load_with(Weights::synthetic(self.seed), &self.spec(), self.variant, ops).unwrap()
    }

    fn features(&self, network: &Network, bands: usize) -> Features {
        let [stacked, height, width] = self.input;
        let values = synthetic_input(&self.input, self.seed);
        network.features(&parity::channels_last(values, bands, height, width), stacked / bands).unwrap()
    }

    fn golden(&self, name: &str) -> Vec<f32> {
        parity::values(&GOLDENS, &format!("{}/{name}", self.name))
    }

    /// Compares the names and shapes of parameters and every recorded output.
    fn compare(&self, ops: OpsContext) -> Worst {
        let network = self.network(ops);
        let features = self.features(&network, self.spec().bands.len());
        let mut worst = Worst::default();
        for (name, output) in &self.outputs {
            let layer = match name.split_once('/') {
                Some(("backbone" | "features", index)) => Layer::Backbone(index.parse().unwrap()),
                Some(("fpn", index)) => Layer::Fpn(index.parse().unwrap()),
                None if name == "upsample" => Layer::Upsample,
                _ => continue,
            };
            let map = network.embedding(&features, layer).unwrap();
            let [_, channels, height, width] = output.shape[..] else { panic!("{name} is a map") };
            assert_eq!(map.dims(), [1, height, width, channels], "{} {name}", self.name);
            worst.relative(name, self.sampled_gap(name, output, &map_values(&map), channels));
        }
        let heads: Vec<usize> = (0..network.heads().len()).collect();
        let answers = network.predict_many(&features, &heads).unwrap();
        for ((index, head), mut answers) in network.heads().enumerate().zip(answers) {
            let name = match self.layout {
                Layout::Satlas => format!("heads/{index}/{}", head.task.name),
                Layout::Package => "head".to_owned(),
            };
            self.compare_head(&name, &answers.remove(0), &mut worst);
        }
        self.check_parameters(&network);
        worst
    }

    fn compare_head(&self, name: &str, answer: &HeadOutput, worst: &mut Worst) {
        match answer {
            HeadOutput::Dense(dense) => {
                let output = &self.outputs[name];
                // The package's regression leaves out all values but the first.
                let first = output.shape.len() == 2;
                let values: Vec<f32> = match first {
                    true => dense.values.iter().step_by(dense.channels).copied().collect(),
                    false => dense.values.clone(),
                };
                let channels = if first { 1 } else { dense.channels };
                let expected = match output.shape[..] {
                    [height, width] => [1, height, width],
                    [channels, height, width] => [channels, height, width],
                    _ => panic!("{name} is dense"),
                };
                assert_eq!([channels, dense.height, dense.width], expected, "{} {name}", self.name);
                let gap = self.sampled_gap(name, output, &values, channels);
                worst.relative(name, gap);
                if output.shape.len() == 3 {
                    worst.absolute(name, gap.max * output.mean_abs.unwrap());
                }
            }
            HeadOutput::Scores(scores) => worst.absolute(name, parity::max_gap(scores, &self.golden(name))),
            HeadOutput::Objects(objects) => {
                let of = |part: &str| self.golden(&format!("{name}/{part}"));
                let theirs = Detections { boxes: of("boxes"), scores: of("scores"), labels: of("labels") };
                let least = |worst: Option<f32>, matching| {
                    let share = parity::matched_share(objects, &theirs, matching);
                    Some(worst.map_or(share, |other| other.min(share)))
                };
                worst.matched = least(worst.matched, Matching::EXACT);
                worst.matched_half = least(worst.matched_half, Matching::HALF);
                if let Some(output) = self.outputs.get(&format!("{name}/masks")) {
                    self.compare_masks(&format!("{name}/masks"), output, objects, &theirs, worst);
                }
            }
        }
    }

    /// Masks of the detections that both sides have, at the sampled positions.
    fn compare_masks(&self, name: &str, output: &Output, ours: &[Object], theirs: &Detections, worst: &mut Worst) {
        let matches = parity::matches(ours, theirs, Matching::EXACT);
        let [count, 1, side, _] = output.shape[..] else { panic!("{name} are masks") };
        let golden = self.golden(name);
        for (theirs, position) in golden.iter().zip(sample_positions(count * side * side)) {
            let Some(object) = matches[position / (side * side)] else { continue };
            let mask = ours[object].mask.as_ref().expect("instances have masks");
            assert_eq!(mask.side, side);
            worst.absolute(name, parity::max_gap(&[mask.values[position % (side * side)]], &[*theirs]));
        }
    }

    /// Deviations of the sampled values of a map `[H, W, C]` in mean magnitudes of the whole map.
    fn sampled_gap(&self, name: &str, output: &Output, ours: &[f32], channels: usize) -> Gap {
        let golden = self.golden(name);
        let pixels = ours.len() / channels;
        assert_eq!(ours.len(), output.shape.iter().product::<usize>(), "{} {name}", self.name);
        let sampled: Vec<f32> = sample_positions(ours.len()).map(|i| ours[i % pixels * channels + i / pixels]).collect();
        let magnitude = output.mean_abs.unwrap();
        Gap { max: parity::max_gap(&sampled, &golden) / magnitude, mean: parity::mean_gap(&sampled, &golden) / magnitude }
    }

    fn check_parameters(&self, network: &Network) {
        let mut lines: Vec<String> =
            network.parameters().iter().map(|(name, shape)| format!("{name} {shape:?}\n")).collect();
        lines.sort();
        assert_eq!(lines.len(), self.parameters.count, "{}: number of parameters", self.name);
        let hash = lines
            .concat()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        assert_eq!(format!("{hash:016x}"), self.parameters.hash, "{}: names and shapes of parameters", self.name);
    }
}

impl PackageCase {
    /// What the public Python package builds for these arguments.
    fn spec(&self, base: ModelSpec) -> ModelSpec {
        let simple = |activation| HeadKind::Simple { activation };
        let frcnn = || HeadKind::Frcnn { use_layers: vec![0, 1, 2, 3], anchor_sizes: vec![32.0, 64.0, 128.0, 256.0] };
        let head = match self.head.as_str() {
            "classify" => Some((TaskType::Classification, simple(Activation::Softmax))),
            "multiclassify" => Some((TaskType::MultiLabelClassification, simple(Activation::Sigmoid))),
            "segment" => Some((TaskType::Segment, simple(Activation::Softmax))),
            "binsegment" => Some((TaskType::BinSegment, simple(Activation::Softmax))),
            "regress" => Some((TaskType::Regress, simple(Activation::Times255))),
            "detect" => Some((TaskType::Detect, frcnn())),
            "instance" => Some((TaskType::Instance, frcnn())),
            "none" => None,
            other => panic!("the package has no head {other}"),
        };
        let heads = head.into_iter().map(|(task_type, kind)| {
            let categories = (0..self.num_categories.unwrap_or(0)).map(|i| i.to_string()).collect();
            let (colors, background_invalid) = (Vec::new(), false);
            let task = Arc::new(Task {
                name: self.head.clone(),
                task_type,
                categories,
                colors,
                background_invalid,
                value_range: None,
            });
            Head { index: 0, task, kind, class_mask: None }
        });
        let band = |i: usize| Band { name: format!("band_{i}"), offset: 0.0, scale: 1.0 };
        ModelSpec {
            bands: (0..self.channels).map(band).collect(),
            backbone: Backbone::by_name(&self.backbone).unwrap(),
            multi_image: self.multi_image,
            fpn: self.fpn.then_some(FpnSpec { out_channels: 128, prepend: false }),
            upsample: self.fpn.then_some(UpsampleSpec { out_channels: 128 }),
            layout: Layout::Package,
            head_variants: vec![heads.collect()],
            ..base
        }
    }
}

/// The rule's input stack: `u` in [0, 1) by splitmix64.
fn synthetic_input(shape: &[usize], seed: u64) -> Vec<f32> {
    let count = shape.iter().product::<usize>() as u64;
    let key = "input"
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        ^ seed;
    let uniform = |i: u64| {
        let mut z = key.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 * (-24f32).exp2()
    };
    (0..count).map(uniform).collect()
}

fn map_values(map: &Tensor) -> Vec<f32> {
    map.flatten_all().unwrap().to_vec1().unwrap()
}

/// Which of `count` elements the goldens hold.
fn sample_positions(count: usize) -> impl Iterator<Item = usize> {
    let samples = count.min(512);
    (0..samples).map(move |j| ((j as f64 + 0.5) * count as f64 / samples as f64) as usize)
}

/// Runs the cases whose name starts so with the device's fastest operators, and fails once all have been printed.
fn compare(prefix: &str) {
    let fastest = OpsContext::new(&DEVICE, DType::F32).unwrap();
    compare_all(CASES.iter().filter(|case| case.name.starts_with(prefix)), &fastest);
}

fn compare_all<'a>(cases: impl Iterator<Item = &'a Case>, ops: &OpsContext) {
    let mut failed = Vec::new();
    for case in cases {
        let started = std::time::Instant::now();
        let worst = case.compare(ops.clone());
        let seconds = started.elapsed().as_secs_f32();
        println!(
            "{}: maps {:.1e} ({}), probabilities {:.1e} ({}), detections {:?}, {seconds:.1} s",
            case.name, worst.relative, worst.relative_of, worst.absolute, worst.absolute_of, worst.matched
        );
        let fits = worst.relative <= DENSE_F32 && worst.absolute <= PROBABILITY;
        if !fits || worst.matched.is_some_and(|share| share < MATCHED) {
            failed.push(&case.name);
        }
    }
    assert!(failed.is_empty(), "beyond the tolerance: {failed:?}");
}

#[test]
fn sentinel2_swin_b_agrees() {
    compare("Sentinel2_SwinB");
}

#[test]
fn sentinel2_swin_t_agrees_at_odd_sizes_too() {
    compare("Sentinel2_SwinT");
}

#[test]
fn sentinel2_resnet50_agrees_at_odd_sizes_too() {
    compare("Sentinel2_Resnet50");
}

#[test]
fn sentinel2_resnet152_agrees() {
    compare("Sentinel2_Resnet152");
}

#[test]
fn sentinel1_agrees() {
    compare("Sentinel1");
}

#[test]
fn landsat_agrees() {
    compare("Landsat");
}

#[test]
fn aerial_agrees() {
    compare("Aerial");
}

#[test]
fn the_fine_tuned_models_agree() {
    compare("Satlas_");
}

#[test]
fn the_package_agrees() {
    compare("package");
}

/// Each kind of block once: both Swins and both ResNets, one and several captures, odd sizes, every head of both code bases. What
/// is left out has the same blocks with other bands.
const ON_PLAIN_OPERATIONS: [&str; 11] = [
    "Sentinel2_SwinT_MI_MS.",
    "Sentinel2_SwinT_SI_RGB.0.1x96x136",
    "Sentinel2_Resnet50_MI_RGB.",
    "Sentinel2_Resnet50_SI_RGB.0.1x96x136",
    "Sentinel2_Resnet152_SI_MS.",
    "Landsat_SwinB_MI.",
    "Aerial_SwinB_SI.0",
    "Aerial_SwinB_SI.1",
    "Aerial_SwinB_SI.2",
    "Satlas_solar_farm.",
    "package.",
];

/// Plain candle operations are what GPUs run; they take several times as long as the kernels.
#[test]
fn plain_operations_agree_too() {
    let plain = OpsContext::plain(&DEVICE, DType::F32).unwrap();
    let starts_with_one = |case: &&Case| ON_PLAIN_OPERATIONS.iter().any(|start| case.name.starts_with(start));
    compare_all(CASES.iter().filter(starts_with_one), &plain);
}

#[test]
#[ignore = "minutes: what GPUs run, for every model"]
fn plain_operations_agree_for_every_model() {
    compare_all(CASES.iter(), &OpsContext::plain(&DEVICE, DType::F32).unwrap());
}

/// A Swin and a ResNet, dense heads and detections, both code bases.
const IN_HALF: [&str; 5] = [
    "Sentinel2_SwinT_SI_RGB.0.1x96x136",
    "Sentinel2_Resnet50_SI_RGB.0.1x96x136",
    "package.resnet50.backbone.segment.1x128x128",
    "package.resnet50.fpn.instance.1x128x160",
    "package.swint.fpn.detect.1x128x128",
];

/// Compares in bfloat16 and float16, in the mean; the largest deviation only in types of which that is asked. Which of many
/// nearly equal boxes of random weights are kept is a matter of the last digit, so detections are counted but bounded only with
/// trained weights (`parity_demo`).
fn compare_half(ops: impl Fn(DType) -> OpsContext, largest_too: &[DType]) {
    let mut failed = Vec::new();
    for name in IN_HALF {
        let case = CASES.iter().find(|case| case.name == name).unwrap();
        for dtype in [DType::BF16, DType::F16] {
            let worst = case.compare(ops(dtype));
            let Worst { mean, relative, relative_of, matched_half, .. } = &worst;
            println!(
                "{name} in {dtype:?}: {mean:.1e} in the mean, {relative:.1e} at the largest ({relative_of}), detections \
                 {matched_half:?}"
            );
            let most = if largest_too.contains(&dtype) { DENSE_HALF } else { f32::MAX };
            if worst.mean > DENSE_HALF || worst.relative > most {
                failed.push(format!("{name} in {dtype:?}: {worst:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "beyond the tolerance: {failed:#?}");
}

#[test]
fn half_precision_is_near() {
    // The processor's kernels compute float16 in float32.
    let exact = if DEVICE.is_cpu() { &[DType::F16][..] } else { &[] };
    compare_half(|dtype| OpsContext::new(&DEVICE, dtype).unwrap(), exact);
}

/// What GPUs run by default.
#[test]
fn plain_operations_in_half_precision_are_near() {
    compare_half(|dtype| OpsContext::plain(&DEVICE, dtype).unwrap(), &[]);
}
