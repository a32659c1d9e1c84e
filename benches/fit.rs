//! Fits of 10,000 labels with 1,024 features: the penalty chosen by five folds, the learning curve and the fit itself.
//!
//! `cargo bench --bench fit -- [runs] [folder] [ridge|logistic]` prints the seconds of each run and, with a folder, writes the labels there for
//! `benches/peers/fit.py`, which does the same with scikit-learn.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use satlas_serve::fit::{ClassLabels, LinearFit, ValueLabels, fit_classes, fit_values};

const LABELS: usize = 10_000;
const CHANNELS: usize = 1024;
const CLASSES: usize = 5;
const FOLDS: usize = 5;
/// What features and labels depend on: channels of a network are correlated.
const CAUSES: usize = 64;

/// Values of mean 0 and variance 1: the sum of four evenly distributed numbers.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        let even = |state: &mut u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        (0..4).map(|_| even(&mut self.0)).sum::<f64>() * 3f64.sqrt()
    }

    fn many(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.next()).collect()
    }
}

struct Data {
    features: Vec<f32>,
    classes: Vec<usize>,
    values: Vec<f64>,
    places: Vec<[f64; 2]>,
}

impl Data {
    fn new() -> Self {
        let mut noise = Noise(7);
        let (mixing, of_class) = (noise.many(CAUSES * CHANNELS), noise.many(CAUSES * CLASSES));
        let mut data = Self { features: Vec::new(), classes: Vec::new(), values: Vec::new(), places: Vec::new() };
        for label in 0..LABELS {
            let causes = noise.many(CAUSES);
            let product = |weights: &[f64], outputs: usize, output: usize| -> f64 {
                causes.iter().zip(weights[output..].iter().step_by(outputs)).map(|(cause, weight)| cause * weight).sum()
            };
            // The weaker a channel, the more of it is noise.
            let feature = |noise: &mut Noise, channel: usize| {
                (product(&mixing, CHANNELS, channel) / 8.0 + 0.5 * noise.next()) * (1 + channel % 7) as f64
            };
            data.features.extend((0..CHANNELS).map(|channel| feature(&mut noise, channel) as f32));
            let logits: Vec<f64> =
                (0..CLASSES).map(|class| product(&of_class, CLASSES, class) / 4.0 + noise.next()).collect();
            data.classes.push((0..CLASSES).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap());
            data.values.push(product(&of_class, CLASSES, 0) + 2.0 * noise.next());
            // Each fold is a cluster, far from the others.
            let (fold, within) = (label % FOLDS, label / FOLDS);
            data.places.push([(5000 * fold + 3 * (within % 50)) as f64, (3 * (within / 50)) as f64]);
        }
        data
    }

    fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        let write = |name: &str, bytes: Vec<u8>| std::fs::write(folder.join(name), bytes).unwrap();
        write("features.f32", self.features.iter().flat_map(|value| value.to_le_bytes()).collect());
        write("classes.u64", self.classes.iter().flat_map(|value| (*value as u64).to_le_bytes()).collect());
        write("values.f64", self.values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }
}

/// User and system time of the process so far, in seconds: it hardly depends on other programs.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn time(name: &str, runs: usize, fit: impl Fn() -> LinearFit) {
    for _ in 0..runs {
        let (start, processor) = (Instant::now(), processor_seconds());
        let fit = fit();
        let sum: f64 = fit.weights.iter().map(|weight| f64::from(weight.abs())).sum();
        let (seconds, processor) = (start.elapsed().as_secs_f64(), processor_seconds() - processor);
        println!("{name:10} {seconds:8.2} s   processor {processor:8.2} s   {:?}, sum of magnitudes {sum:.6}", fit.penalty);
    }
}

fn main() {
    // Cargo's own arguments begin with dashes.
    let given: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let runs = given.first().map_or(3, |runs| runs.parse().unwrap());
    let data = Data::new();
    if let Some(folder) = given.get(1) {
        data.write(Path::new(folder));
    }
    let Data { features, classes, values, places } = &data;
    let (channels, categories) = (CHANNELS, (0..CLASSES).map(|class| format!("class {class}")).collect::<Vec<_>>());
    let stop = AtomicBool::new(false);
    let labels = ValueLabels { features, channels, values, places };
    let wanted = |name: &str| given.get(2).is_none_or(|only| only == name);
    if wanted("ridge") {
        time("ridge", runs, || fit_values(&labels, &stop).unwrap());
    }
    let labels = ClassLabels { features, channels, classes, categories: &categories, places };
    if wanted("logistic") {
        time("logistic", runs, || fit_classes(&labels, &stop).unwrap());
    }
}
