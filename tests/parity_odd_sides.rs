//! Images whose sides are no multiples of 4 or 32, through the whole server against PyTorch (`tests/fixtures/zoo`): nothing is
//! padded that the network could see or pool.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and may report figures"
)]

mod common;
mod parity;

use axum::Router;
use common::{post_to, router_with, settings};
use parity::{DENSE_F32, Detections, MATCHED, Matching, PROBABILITY, matched_share, max_gap};
use satlas_serve::prediction::Object;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Case {
    model: String,
    height: usize,
    width: usize,
    #[serde(flatten)]
    answers: serde_json::Map<String, Value>,
}

/// Values of a map `[channels, rows, columns]`: of its `n`, those at floor((j + 0.5) n / m), j < m = min(n, 64).
#[derive(Deserialize)]
struct Sampled {
    shape: Vec<usize>,
    mean_abs: f32,
    values: Vec<f32>,
}

#[derive(Deserialize)]
struct Boxes {
    boxes: Vec<f32>,
    scores: Vec<f32>,
    labels: Vec<f32>,
}

impl Case {
    fn golden<T: serde::de::DeserializeOwned>(&self, name: &str) -> T {
        serde_json::from_value(self.answers[name].clone()).unwrap()
    }

    /// The script's image as a `.npy` file of bytes, `[3, height, width]`.
    fn image(&self) -> Vec<u8> {
        let (height, width) = (self.height, self.width);
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': (3, {height}, {width}), }}");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        for band in 0..3 {
            for row in 0..height {
                file.extend((0..width).map(|col| (61 * band + col * col / 7 + 5 * row + row * col / 11) as u8));
            }
        }
        file
    }

    async fn answer(&self, router: &Router, task: &str) -> Vec<u8> {
        let path = format!("/v1/predict/{}/{task}", self.model);
        let reply = post_to(router, &path, "application/x-npy", self.image()).await;
        assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
        reply.body
    }

    /// Largest deviation from a sampled map in its mean magnitudes, where both have values: PyTorch's may end before the image
    /// (Swin) or reach beyond it (ResNet).
    fn gap(&self, name: &str, (shape, map): &(Vec<usize>, Vec<f32>)) -> f32 {
        let golden: Sampled = self.golden(name);
        let [rows, cols] = [1, 2].map(|axis| golden.shape.get(golden.shape.len().wrapping_sub(3 - axis)).copied());
        let (rows, cols) = (rows.unwrap_or(1), cols.unwrap_or(1));
        let (height, width) = match shape[..] {
            [.., height, width] => (height, width),
            _ => (1, 1),
        };
        let count: usize = golden.shape.iter().product();
        let places = (0..golden.values.len())
            .map(|j| ((j as f64 + 0.5) * count as f64 / golden.values.len() as f64) as usize)
            .map(|at| (at / (rows * cols), at / cols % rows, at % cols));
        let (ours, theirs): (Vec<f32>, Vec<f32>) = places
            .zip(&golden.values)
            .filter(|((_, row, col), _)| *row < height && *col < width)
            .map(|((channel, row, col), theirs)| (map[(channel * height + row) * width + col], theirs))
            .unzip();
        assert!(ours.len() * 2 >= golden.values.len(), "{name}: most samples lie within the image");
        max_gap(&ours, &theirs) / golden.mean_abs
    }
}

/// Shape and values of a `.npy` file of float32.
fn npy(bytes: &[u8]) -> (Vec<usize>, Vec<f32>) {
    let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + header_len]).unwrap();
    assert!(header.contains("<f4"), "{header}");
    let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let shape = shape.split(',').filter_map(|side| side.trim().parse().ok()).collect();
    let values = bytes[10 + header_len..].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    (shape, values)
}

async fn agrees(router: &Router, case: &Case) {
    let size = [case.height, case.width];
    for layer in ["backbone.0", "backbone.3", "fpn.2", "upsample"] {
        let map = npy(&case.answer(router, &format!("embedding?layer={layer}&pool=none&format=npy")).await);
        assert_eq!(map.0, case.golden::<Sampled>(layer).shape, "{} {size:?} {layer}", case.model);
        let gap = case.gap(layer, &map);
        assert!(gap <= DENSE_F32, "{} {size:?} {layer}: {gap}", case.model);
    }
    let (shape, pooled) = npy(&case.answer(router, "embedding?format=npy").await);
    let mean: Sampled = case.golden("backbone.3 mean");
    assert_eq!(shape, mean.shape);
    let sampled: Vec<f32> = (0..64).map(|j| pooled[((j as f64 + 0.5) * pooled.len() as f64 / 64.0) as usize]).collect();
    assert!(max_gap(&sampled, &mean.values) / mean.mean_abs <= DENSE_F32, "{} {size:?} mean", case.model);

    for task in ["land_cover", "dem"] {
        let map = npy(&case.answer(router, &format!("{task}?format=npy")).await);
        assert!(map.0.ends_with(&size), "{} {size:?} {task} has the image's size: {:?}", case.model, map.0);
        let gap = case.gap(task, &map);
        assert!(gap <= DENSE_F32, "{} {size:?} {task}: {gap}", case.model);
    }
    let scores: Value = serde_json::from_slice(&case.answer(router, "park_sport").await).unwrap();
    let mut ours: Vec<f32> = scores["scores"].as_object().unwrap().values().map(|v| v.as_f64().unwrap() as f32).collect();
    let mut theirs: Vec<f32> = case.golden("park_sport");
    // The object's members have no order.
    ours.sort_by(f32::total_cmp);
    theirs.sort_by(f32::total_cmp);
    assert!(max_gap(&ours, &theirs) <= PROBABILITY, "{} {size:?}: {ours:?} {theirs:?}", case.model);
    found_again(case, &case.answer(router, "point?format=json").await);
}

/// PyTorch's boxes may reach into the padding to a multiple of 32; ours end at the image.
fn found_again(case: &Case, answer: &[u8]) {
    let found: Value = serde_json::from_slice(answer).unwrap();
    let numbers = |value: &Value| -> Vec<f32> { serde_json::from_value(value.clone()).unwrap() };
    let ours = found["boxes"].as_array().unwrap().iter().zip(numbers(&found["scores"])).zip(numbers(&found["labels"]));
    let ours = ours.map(|((bbox, score), label)| {
        let [x0, y0, x1, y1] = numbers(bbox)[..] else { panic!("a box has four sides") };
        Object { bbox_px: [x0, y0, x1, y1], score, category_id: label as usize, mask: None }
    });
    let ours: Vec<Object> = ours.collect();
    let Boxes { boxes, scores, labels } = case.golden("point");
    let mut theirs = Detections { boxes: Vec::new(), scores: Vec::new(), labels: Vec::new() };
    for (bbox, (score, label)) in boxes.as_chunks::<4>().0.iter().zip(scores.into_iter().zip(labels)) {
        let [x0, y0, x1, y1] = *bbox;
        let cut = [x0, y0, x1.min(case.width as f32), y1.min(case.height as f32)];
        // What lies in the padding alone is no object of the image, nor is one centred at its very edge beyond doubt.
        if cut[0] < cut[2] && cut[1] < cut[3] {
            theirs.boxes.extend(cut);
            theirs.scores.push(score);
            theirs.labels.push(label);
        }
    }
    let share = matched_share(&ours, &theirs, Matching::EXACT);
    println!("{} {} x {}: {share} of {} matched", case.model, case.height, case.width, theirs.scores.len());
    assert!(share >= MATCHED, "{} {} x {}: {share}", case.model, case.height, case.width);
}

async fn all_of(model: &str) {
    #[derive(Deserialize)]
    struct File {
        cases: Vec<Case>,
    }
    let file: File = serde_json::from_str(include_str!("fixtures/zoo/odd_sides.json")).unwrap();
    let (mut engine, server) = settings();
    engine.weights = "synthetic:7".parse().unwrap();
    let router = router_with(engine, server);
    for case in file.cases.iter().filter(|case| case.model.contains(model)) {
        agrees(&router, case).await;
    }
}

#[tokio::test]
async fn a_swin_agrees_at_odd_sides() {
    all_of("SwinT").await;
}

#[tokio::test]
async fn a_resnet_agrees_at_odd_sides() {
    all_of("Resnet50").await;
}
