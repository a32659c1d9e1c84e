use super::*;
use crate::zoo::{Activation, Backbone, HeadKind, HeadsFile, Task, TaskType, WeightsSpec, demo_models};

const DEMO: &str = include_str!("../../../static/demo/demo.json");
const WORLD: &[u8] = include_bytes!("../../../static/demo/world.safetensors");

fn world() -> Network {
    let spec = &demo_models(DEMO).unwrap()[0];
    Network::load(Weights::embedded("world", WORLD).unwrap(), spec, &Device::Cpu, DType::F32).unwrap()
}

fn images(count: usize, height: usize, width: usize) -> Tensor {
    let values = (0..count * height * width * 3).map(|i| ((i * 7919) % 1009) as f32 / 1009.0).collect();
    Tensor::from_vec(values, (count, height, width, 3), &Device::Cpu).unwrap()
}

fn dense(output: &HeadOutput) -> &[f32] {
    let HeadOutput::Dense(dense) = output else { panic!("the world's heads are dense") };
    &dense.values
}

#[test]
fn a_batch_answers_as_its_items_do_alone() {
    let network = world();
    let batch = images(2, 64, 96);
    let together = network.predict(&network.features(&batch, 1).unwrap(), 0).unwrap();
    assert_eq!(together.len(), 2);
    for (item, together) in together.iter().enumerate() {
        let features = network.features(&batch.narrow(0, item, 1).unwrap(), 1).unwrap();
        let alone = network.predict(&features, 0).unwrap();
        let gap = dense(together).iter().zip(dense(&alone[0])).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(gap < 1e-5, "item {item}: {gap}");
    }
}

#[test]
fn a_batch_has_the_very_features_of_its_items() {
    let network = world();
    let batch = images(3, 64, 96);
    let together = network.features(&batch, 1).unwrap();
    let values = |map: &Tensor| map.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for item in 0..3 {
        let alone = network.features(&batch.narrow(0, item, 1).unwrap(), 1).unwrap();
        let together = together.item(item).unwrap();
        for layer in Layer::ALL {
            let [found, expected] =
                [&together, &alone].map(|features| values(&network.embedding(features, layer).unwrap()));
            assert!(found == expected, "{layer} of item {item}: heads fitted to them would differ");
        }
    }
}

#[test]
fn heads_of_their_own_file_stand_on_one_network() {
    let network = world();
    let mut spec = demo_models(DEMO).unwrap().swap_remove(0);
    spec.weights = WeightsSpec::OnBase { base: Arc::new(spec.clone()), heads: HeadsFile::Path("heads".into()) };
    spec.head_variants[0].truncate(1);
    spec.head_variants[0][0].kind =
        HeadKind::Linear { layers: vec![Layer::Fpn(1), Layer::Backbone(2)], activation: Activation::Softmax };
    let other = network.with_heads(Weights::synthetic(5), &spec).unwrap();
    assert_eq!(other.weight_bytes(), 0, "the backbone is the other's");
    let features = network.features(&images(2, 60, 101), 1).unwrap();
    let outputs = other.predict(&features, 0).unwrap();
    let HeadOutput::Dense(found) = &outputs[1] else { panic!("a linear head is dense") };
    assert_eq!((found.width, found.height, found.channels), (101, 60, 2));
    assert!(found.values.chunks(2).all(|pixel| (pixel[0] + pixel[1] - 1.0).abs() < 1e-5));
    let names: Vec<String> = other.parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["heads.0.bias", "heads.0.weight"]);
}

#[test]
fn only_what_a_head_reads_is_computed_and_kept() {
    let network = world();
    let features = network.features(&images(1, 64, 64), 1).unwrap();
    network.embedding(&features, Layer::Backbone(3)).unwrap();
    let backbone = features.bytes();
    network.predict_many(&features, &[0, 1, 2]).unwrap();
    let with_pyramid = features.bytes();
    assert!(with_pyramid > backbone, "the pyramid stays");
    network.embedding(&features, Layer::Upsample).unwrap();
    assert_eq!(features.bytes(), with_pyramid, "the full-resolution map does not");
}

/// The demo's world network with a classification head of each kind: over the full-resolution map, and over the pyramid's
/// coarsest.
fn classifiers() -> Network {
    let mut spec = demo_models(DEMO).unwrap().swap_remove(0);
    let kinds =
        [HeadKind::Simple { activation: Activation::Softmax }, HeadKind::Classify { activation: Activation::Softmax }];
    for (head, kind) in spec.head_variants[0].iter_mut().zip(kinds) {
        let task = Task { task_type: TaskType::Classification, ..Task::clone(&head.task) };
        (head.task, head.kind) = (Arc::new(task), kind);
    }
    spec.head_variants[0].truncate(2);
    for head in &mut spec.head_variants[0] {
        let categories = ["a", "b", "c"].map(str::to_owned).to_vec();
        head.task = Arc::new(Task { categories, ..Task::clone(&head.task) });
    }
    Network::load(Weights::synthetic(3), &spec, &Device::Cpu, DType::F32).unwrap()
}

fn scores(outputs: &[HeadOutput]) -> &[f32] {
    let [HeadOutput::Scores(scores)] = outputs else { panic!("one image's scores") };
    scores
}

#[test]
fn a_part_is_classified_as_in_its_surroundings() {
    let network = classifiers();
    let (image, part) = (images(1, 192, 192), Part { col: 64, row: 96, width: 64, height: 32 });
    let features = network.features(&image, 1).unwrap();
    for head in 0..2 {
        let usual = network.classify_part(&features, head, part).unwrap();
        let all_around = network.classify_with_margin(&features, head, part, 192).unwrap();
        let nothing_around = network.classify_with_margin(&features, head, part, 0).unwrap();
        let gap = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(gap(scores(&usual), scores(&all_around)) < 1e-6, "head {head}: {usual:?}, {all_around:?}");
        let differs = gap(scores(&nothing_around), scores(&all_around)) > 1e-6;
        assert_eq!(differs, head == 0, "head {head} convolves or does not: {nothing_around:?}, {all_around:?}");

        let whole = Part { col: 0, row: 0, width: 192, height: 192 };
        let of_whole = network.classify_part(&features, head, whole).unwrap();
        assert!(gap(scores(&of_whole), scores(&network.predict(&features, head).unwrap())) < 1e-6);
        let beyond = Part { col: 160, ..part };
        assert!(network.classify_part(&features, head, beyond).is_err());
    }
    let dense = world();
    assert!(dense.classify_part(&dense.features(&image, 1).unwrap(), 0, part).is_err(), "a map is no score");
}

#[test]
fn heads_are_prepared_when_first_asked_for_and_counted() {
    let network = world();
    let (at_first, most) = (network.weight_bytes(), network.most_weight_bytes());
    assert!(network.parameters().iter().all(|(name, _)| !name.starts_with("heads.")), "no head has been read");
    network.prepare(1).unwrap();
    let with_one = network.weight_bytes();
    assert!(with_one > at_first);
    network.prepare(1).unwrap();
    assert_eq!(network.weight_bytes(), with_one, "once");
    network.predict_many(&network.features(&images(1, 64, 64), 1).unwrap(), &[0, 1, 2]).unwrap();
    let with_all = network.weight_bytes();
    assert!(with_one < with_all && with_all <= most, "{with_all} of {most}");
    let stored: usize = network.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>() * 4).sum();
    assert!((stored..9 * stored).contains(&with_all), "{with_all} of {stored}");

    let spec = &demo_models(DEMO).unwrap()[0];
    let plain = OpsContext::plain(&Device::Cpu, DType::BF16).unwrap();
    let weights = Weights::embedded("world", WORLD).unwrap();
    let plain = Network::load_with(weights, spec, 0, plain).unwrap();
    assert!(plain.weight_bytes() < at_first / 2, "{}", plain.weight_bytes());
}

#[test]
fn a_network_of_fused_operators_is_as_exact_as_one_of_plain_operations() {
    if !crate::ops::kernels_can_be_emulated() {
        return;
    }
    let mut spec = demo_models(DEMO).unwrap().swap_remove(0);
    // Heads of 24 channels, which the kernels are made for.
    spec.backbone =
        Backbone::SwinV2 { patch_size: 4, embed_dim: 24, depths: [2, 1, 1, 1], num_heads: [1, 2, 4, 8], window_size: 8 };
    let maps = |ops: OpsContext| {
        let network = Network::load_with(Weights::synthetic(3), &spec, 0, ops).unwrap();
        let features = network.features(&images(1, 64, 72), 1).unwrap();
        (0..4).map(|map| network.embedding(&features, Layer::Backbone(map)).unwrap()).collect::<Vec<_>>()
    };
    let fused = maps(OpsContext::emulated(DType::BF16).unwrap());
    let plain = maps(OpsContext::plain(&Device::Cpu, DType::BF16).unwrap());
    let exact = maps(OpsContext::plain(&Device::Cpu, DType::F32).unwrap());
    for ((fused, plain), exact) in fused.iter().zip(&plain).zip(&exact) {
        let gap = |map: &Tensor| (map - exact).unwrap().abs().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(gap(fused) > 0.0 && gap(fused) < 1.1 * gap(plain), "{} {}", gap(fused), gap(plain));
    }
}

#[test]
fn no_kind_of_head_takes_more_memory_than_foreseen() {
    let demo = &demo_models(DEMO).unwrap()[1];
    // Every kind of head, over a backbone whose synthetic weights are quickly made.
    let mut zoo = crate::zoo::pretrained_models().unwrap().into_iter();
    let aerial = zoo.find(|spec| spec.id == "Aerial_SwinB_SI").unwrap();
    let small = ModelSpec { backbone: Backbone::Resnet { depth: 18 }, ..aerial };
    for spec in [demo, &small] {
        let network = Network::load(Weights::synthetic(7), spec, &Device::Cpu, DType::F32).unwrap();
        for head in 0..network.heads().len() {
            network.prepare(head).unwrap();
        }
        let (all, most) = (network.weight_bytes(), network.most_weight_bytes());
        assert!((all..all + all / 4).contains(&most), "{}: {all} of {most}", spec.id);
    }
}

#[test]
fn images_that_the_network_cannot_read_are_refused_with_what_is_needed() {
    let network = world();
    let four_bands = Tensor::zeros((1, 64, 64, 4), DType::F32, &Device::Cpu).unwrap();
    for (images, captures) in
        [(four_bands, 1), (images(1, 3, 64), 1), (images(2, 64, 64), 2), (images(2, 64, 64), 0), (images(0, 64, 64), 1)]
    {
        let error = network.features(&images, captures).unwrap_err();
        assert!(matches!(error, NnError::Input { .. }), "{error}");
        assert!(error.to_string().contains("[images, height, width, 3]"), "{error}");
    }
    let features = network.features(&images(1, 64, 64), 1).unwrap();
    assert!(matches!(network.predict(&features, 3), Err(NnError::Absent { .. })));
}

#[test]
fn the_maximum_over_equal_captures_is_the_capture() {
    let spec = ModelSpec { multi_image: true, ..demo_models(DEMO).unwrap()[0].clone() };
    let network = Network::load(Weights::synthetic(3), &spec, &Device::Cpu, DType::F32).unwrap();
    let one = images(1, 64, 64);
    let three = Tensor::cat(&[&one, &one, &one], 0).unwrap();
    let deepest = |images: &Tensor, captures| {
        let features = network.features(images, captures).unwrap();
        network.embedding(&features, Layer::Backbone(3)).unwrap()
    };
    let gap = (deepest(&one, 1) - deepest(&three, 3)).unwrap().abs().unwrap().max_all().unwrap();
    assert!(gap.to_scalar::<f32>().unwrap() < 1e-4);
}

#[test]
fn the_weights_of_another_model_are_refused_by_name() {
    let trees = &demo_models(DEMO).unwrap()[1];
    let weights = Weights::embedded("world", WORLD).unwrap();
    let error = Network::load(weights, trees, &Device::Cpu, DType::F32).unwrap_err();
    assert_eq!(error.kind(), crate::error::ErrorKind::Unusable);
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn a_detection_head_without_a_pyramid_is_refused() {
    let spec = ModelSpec { fpn: None, upsample: None, ..demo_models(DEMO).unwrap()[1].clone() };
    let error = Network::load(Weights::synthetic(3), &spec, &Device::Cpu, DType::F32).unwrap_err();
    assert!(matches!(error, LoadError::Specification { .. }), "{error}");
}

#[test]
fn a_network_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Network>();
    shared::<Features>();
}
