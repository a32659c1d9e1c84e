//! Time to encode an answer, and its bytes: a smooth 256 px tile, a smooth and a noisy 512 px map.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use satlas_serve::georef::Georef;
use satlas_serve::outputs::{Format, RenderOptions, encode, polygonize};
use satlas_serve::prediction::{Dense, Object, ObjectMask, Output, Prediction};
use satlas_serve::tiles::TileCoord;
use satlas_serve::zoo::{Task, TaskType};

const CATEGORIES: usize = 12;

fn place(side: usize) -> Option<Georef> {
    TileCoord::try_new(13, 4250, 2850).ok().map(|tile| tile.georef(side))
}

fn task(task_type: TaskType, categories: usize) -> Task {
    Task {
        name: "bench".to_owned(),
        task_type,
        categories: (0..categories).map(|id| format!("category_{id}")).collect(),
        colors: Vec::new(),
        background_invalid: true,
        value_range: None,
    }
}

/// Waves of `period` pixels with a little noise, in 0 … 1.
fn field(side: usize, period: f32, phase: f32) -> impl Iterator<Item = f32> {
    (0..side * side).map(move |pixel| {
        let (x, y) = ((pixel % side) as f32 / period, (pixel / side) as f32 / period);
        let noise = (pixel as u32).wrapping_mul(2_654_435_761) >> 24;
        0.5 + 0.4 * (x + phase + (y * 1.7).sin()).sin() * (y - phase).cos() + noise as f32 / 255.0 * 0.01
    })
}

fn dense(side: usize, channels: usize, period: f32, scale: f32) -> Prediction {
    let planes: Vec<Vec<f32>> = (0..channels).map(|channel| field(side, period, channel as f32).collect()).collect();
    let values = (0..side * side).flat_map(|pixel| planes.iter().map(move |plane| plane[pixel] * scale)).collect();
    let output = Output::Dense(Dense { width: side, height: side, channels, values, valid: None });
    Prediction { output, width: side, height: side, georef: place(side), warnings: Vec::new() }
}

fn instances(side: usize) -> Prediction {
    let mask = ObjectMask { side: 28, values: field(28, 8.0, 0.5).collect() };
    let object = |i: usize| {
        let (x, y) = ((i * 37 % 200) as f32, (i * 53 % 200) as f32);
        Object { bbox_px: [x, y, x + 30.5, y + 24.25], score: 0.9, category_id: 1 + i % 11, mask: Some(mask.clone()) }
    };
    let output = Output::Objects((0..100).map(object).collect());
    Prediction { output, width: side, height: side, georef: place(side), warnings: Vec::new() }
}

fn formats(criterion: &mut Criterion) {
    let segment = task(TaskType::Segment, CATEGORIES);
    let regress = task(TaskType::Regress, 0);
    let instance = task(TaskType::Instance, CATEGORIES);
    let cases = [
        ("segment_256", &segment, dense(256, CATEGORIES, 40.0, 1.0)),
        ("segment_512", &segment, dense(512, CATEGORIES, 40.0, 1.0)),
        ("segment_512_noisy", &segment, dense(512, CATEGORIES, 1.5, 1.0)),
        ("regress_256", &regress, dense(256, 1, 40.0, 255.0)),
        ("instance_256", &instance, instances(256)),
    ];
    let options = RenderOptions::default();
    for (name, task, prediction) in &cases {
        let mut group = criterion.benchmark_group(*name);
        for format in Format::of(task.task_type) {
            let write = || encode(black_box(prediction), task, *format, &options).expect("the format is the task's");
            let id = format!("{}_{}_bytes", format.extension(), write().bytes.len());
            group.bench_function(id, |bencher| bencher.iter(write));
        }
    }
}

fn polygons(criterion: &mut Criterion) {
    for (name, period) in [("smooth", 40.0), ("noisy", 1.5)] {
        let labels: Vec<u8> = field(512, period, 0.0).map(|value| (value * 6.0) as u8).collect();
        let id = format!("polygonize_512_{name}_{}_regions", polygonize(&labels, (512, 512), 255, |_| 1.0).len());
        criterion.bench_function(&id, |bencher| {
            bencher.iter(|| polygonize(black_box(&labels), (512, 512), 255, |_| 1.0));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1))
        .sample_size(20);
    targets = formats, polygons
}
criterion_main!(benches);
