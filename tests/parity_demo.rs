//! The embedded demo models against what PyTorch returns for the same image (`tests/fixtures/demo`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and may report figures"
)]

mod parity;

use candle_core::DType;
use parity::{
    DENSE_F32, DENSE_HALF, DEVICE, Detections, MATCHED, MATCHED_HALF, Matching, PROBABILITY, channels_first, channels_last,
    values,
};
use safetensors::SafeTensors;
use satlas_serve::nn::{HeadOutput, Network};
use satlas_serve::prediction::{Dense, Object};
use satlas_serve::weights::Weights;
use satlas_serve::zoo::{ModelSpec, demo_models};

const SIDE: usize = 256;

fn spec(id: &str) -> ModelSpec {
    let models = demo_models(include_str!("../static/demo/demo.json")).unwrap();
    models.into_iter().find(|model| model.id.contains(id)).unwrap_or_else(|| panic!("no demo model {id}"))
}

/// Every head's answer to the reference's image.
fn run(id: &str, weights: &'static [u8], reference: &SafeTensors<'_>, dtype: DType) -> Vec<HeadOutput> {
    let weights = Weights::embedded(id, weights).unwrap();
    let network = Network::load(weights, &spec(id), &DEVICE, dtype).unwrap();
    assert!(network.unused().is_empty(), "unused: {:?}", network.unused());
    let input = channels_last(values(reference, "input"), 3, SIDE, SIDE);
    let features = network.features(&input, 1).unwrap();
    let heads: Vec<usize> = (0..network.heads().len()).collect();
    let outputs = network.predict_many(&features, &heads).unwrap();
    outputs.into_iter().map(|mut items| items.remove(0)).collect()
}

fn world(dtype: DType) -> Vec<(String, Dense, Vec<f32>)> {
    let file = std::fs::read("tests/fixtures/demo/ref_world.safetensors").unwrap();
    let reference = SafeTensors::deserialize(&file).unwrap();
    let outputs = run("world", include_bytes!("../static/demo/world.safetensors"), &reference, dtype);
    let names = ["out.0.water", "out.1.elevation", "out.2.coast"];
    names
        .into_iter()
        .zip(outputs)
        .map(|(name, output)| {
            let HeadOutput::Dense(dense) = output else { panic!("{name} is not dense") };
            (name.to_owned(), dense, values(&reference, name))
        })
        .collect()
}

fn trees(dtype: DType) -> (Vec<Object>, Detections) {
    let file = std::fs::read("tests/fixtures/demo/ref_trees.safetensors").unwrap();
    let reference = SafeTensors::deserialize(&file).unwrap();
    let mut outputs = run("trees", include_bytes!("../static/demo/trees.safetensors"), &reference, dtype);
    let HeadOutput::Objects(objects) = outputs.remove(0) else { panic!("trees are not objects") };
    let of = |name: &str| values(&reference, &format!("out.0.{name}"));
    (objects, Detections { boxes: of("boxes"), scores: of("scores"), labels: of("labels") })
}

#[test]
fn the_world_is_what_pytorch_sees() {
    for (name, dense, theirs) in world(DType::F32) {
        assert_eq!((dense.height, dense.width), (SIDE, SIDE));
        let ours = channels_first(&dense.values, dense.channels);
        let absolute = parity::max_gap(&ours, &theirs);
        let relative = absolute / parity::mean_magnitude(&theirs);
        println!("world {name}: {relative:.1e} of the mean magnitude, {absolute:.1e}");
        assert!(relative <= DENSE_F32, "{name}: {relative}");
        assert!(name.ends_with("elevation") || absolute <= PROBABILITY, "{name}: {absolute}");
    }
}

#[test]
fn the_trees_are_those_that_pytorch_finds() {
    let (ours, theirs) = trees(DType::F32);
    let share = parity::matched_share(&ours, &theirs, Matching::EXACT);
    println!("trees: {} of ours and {} of theirs, {share} matched", ours.len(), theirs.scores.len());
    assert!(share >= MATCHED, "{share}");
}

#[test]
fn half_precision_sees_nearly_the_same_world() {
    for dtype in [DType::BF16, DType::F16] {
        for (name, dense, theirs) in world(dtype) {
            let ours = channels_first(&dense.values, dense.channels);
            let magnitude = parity::mean_magnitude(&theirs);
            let (mean, max) = (parity::mean_gap(&ours, &theirs) / magnitude, parity::max_gap(&ours, &theirs) / magnitude);
            println!("{name} in {dtype:?}: {mean:.1e} in the mean, {max:.1e} at the largest");
            assert!(mean <= DENSE_HALF, "{name} in {dtype:?}: {mean}");
        }
    }
}

#[test]
fn half_precision_finds_nearly_the_same_trees() {
    for dtype in [DType::BF16, DType::F16] {
        let (ours, theirs) = trees(dtype);
        let share = parity::matched_share(&ours, &theirs, Matching::HALF);
        println!("trees in {dtype:?}: {} of ours and {} of theirs, {share} matched", ours.len(), theirs.scores.len());
        assert!(share >= MATCHED_HALF, "{dtype:?}: {share}");
    }
}
