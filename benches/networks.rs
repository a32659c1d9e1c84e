//! Whole networks at 512 px with synthetic weights: wall time and processor time, median of the runs.
//!
//! `cargo bench --bench networks -- [model filter] [f32|bf16] [runs] [captures]`. Processor time counts every thread and
//! hardly depends on other programs, so it can compare changes on a busy machine.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use satlas_serve::nn::Network;
use satlas_serve::weights::Weights;

const MODELS: [&str; 4] =
    ["Sentinel2_SwinT_SI_RGB", "Sentinel2_SwinB_SI_RGB", "Sentinel2_Resnet50_SI_RGB", "Sentinel2_Resnet152_SI_RGB"];
const SIDE: usize = 512;

/// User and system time of the process so far, in seconds.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn time(name: &str, runs: usize, work: impl Fn()) {
    work();
    let mut walls = Vec::new();
    let before = processor_seconds();
    for _ in 0..runs {
        let start = Instant::now();
        work();
        walls.push(start.elapsed().as_secs_f64());
    }
    let processor = (processor_seconds() - before) / runs as f64;
    walls.sort_by(f64::total_cmp);
    println!(
        "{name:50} median {:7.1} ms  least {:7.1} ms  processor {:7.1} ms",
        1e3 * walls[runs / 2],
        1e3 * walls[0],
        1e3 * processor
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let argument = |i: usize| arguments.get(i).map_or("", String::as_str);
    let dtype = if argument(1) == "bf16" { DType::BF16 } else { DType::F32 };
    let runs = argument(2).parse().unwrap_or(5);
    let zoo = satlas_serve::zoo::pretrained_models().unwrap();
    for id in MODELS.iter().filter(|id| id.contains(argument(0))) {
        let spec = zoo.iter().find(|spec| spec.id == *id).unwrap();
        let network = Network::load(Weights::synthetic(7), spec, &Device::Cpu, dtype).unwrap();
        let heads: Vec<String> = network.heads().map(|head| head.task.name.clone()).collect();
        let values: Vec<f32> = (0..SIDE * SIDE * 3).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect();
        let image = Tensor::from_vec(values, (1, SIDE, SIDE, 3), &Device::Cpu).unwrap();
        time(&format!("{id} {dtype:?} backbone"), runs, || drop(network.features(&image, 1).unwrap()));
        for task in ["land_cover", "polygon"] {
            if let Some(head) = heads.iter().position(|head| head == task) {
                time(&format!("{id} {dtype:?} {task}"), runs, || {
                    drop(network.predict(&network.features(&image, 1).unwrap(), head).unwrap());
                });
            }
        }
    }
}
