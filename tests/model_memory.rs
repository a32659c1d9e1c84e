//! What a loaded model costs in real memory: one prepared copy of the weights that are used. One test alone in its process,
//! so that nothing else is measured.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and may report figures"
)]

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device};
use safetensors::tensor::{Dtype, TensorView};
use satlas_serve::nn::Network;
use satlas_serve::weights::{Weights, WeightsKind, parameters, synthetic_values};
use satlas_serve::zoo::{ModelSpec, pretrained_models};

/// Allocator's slack and what the process needs besides.
const SLACK_BYTES: usize = 16 << 20;

/// Memory of this process that no file stands behind.
fn anonymous_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// Writes a checkpoint of the model with synthetic weights; returns the size of its tensors.
fn write(spec: &ModelSpec, path: &Path) -> usize {
    let tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = parameters(spec, spec.largest_variant())
        .into_iter()
        .map(|parameter| {
            let values = synthetic_values(&parameter.name, &parameter.shape, 7);
            (parameter.name, (parameter.shape, values.into_iter().flat_map(f32::to_le_bytes).collect()))
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes))| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()))
        .collect::<Vec<_>>();
    safetensors::serialize_to_file(views, None, path).unwrap();
    tensors.values().map(|(_, bytes)| bytes.len()).sum()
}

#[test]
fn a_loaded_model_takes_one_copy_of_what_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let spec = pretrained_models().unwrap().into_iter().find(|spec| spec.id == "Sentinel2_SwinT_SI_RGB").unwrap();
    let file_bytes = std::thread::scope(|scope| scope.spawn(|| write(&spec, &path)).join().unwrap());

    let before = anonymous_bytes();
    let weights = Weights::open(&path, WeightsKind::FineTuned).unwrap();
    let network = Network::load(weights, &spec, &Device::Cpu, DType::F32).unwrap();
    let loaded = anonymous_bytes().saturating_sub(before);
    let counted = network.weight_bytes();
    println!("file {} MiB, counted {} MiB, resident {} MiB", file_bytes >> 20, counted >> 20, loaded >> 20);
    assert!(loaded <= counted + SLACK_BYTES, "{loaded} bytes in memory for {counted} counted");
    assert!(loaded >= counted / 2, "the measure is of no use: {loaded} of {counted}");

    let heads = network.heads().len();
    network.prepare(0).unwrap();
    let with_a_head = anonymous_bytes().saturating_sub(before);
    assert!(with_a_head <= network.weight_bytes() + SLACK_BYTES, "{with_a_head} of {}", network.weight_bytes());
    for head in 1..heads {
        network.prepare(head).unwrap();
    }
    let (all, counted) = (anonymous_bytes().saturating_sub(before), network.weight_bytes());
    println!("with one head {} MiB, with all {heads} {} MiB, counted {} MiB", with_a_head >> 20, all >> 20, counted >> 20);
    assert!(all <= counted + SLACK_BYTES, "{all} bytes in memory for {counted} counted");
}
