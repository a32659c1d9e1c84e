//! Single kernels at the sizes that the networks use, beside candle's own form where there is one.
//!
//! `cargo bench --bench kernels -- gemm` runs one group. Throughput is counted in the multiplications and additions of
//! the direct form (1 Gelem/s = 1 GFLOP/s), so that Winograd and plain forms can be compared.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use satlas_serve::kernels::{
    GatheredConvolution, LayerActivation, Maps, PackedMatrix, Precision, Residual, RowPlan, RowStep, Walk,
    WindowAttentionKernel, Winograd, layer_norm, max_pool,
};

fn noise(len: usize) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

fn gemm(c: &mut Criterion) {
    let mut group = c.benchmark_group("gemm");
    // Rows, inputs, outputs: the matrix products of Swin-v2-B at 512 px, and the 3x3 convolution of the decoder's rows.
    for (m, k, n) in [
        (16384, 128, 384),
        (16384, 512, 128),
        (4096, 256, 1024),
        (1024, 512, 2048),
        (1024, 2048, 512),
        (1024, 512, 512),
        (256, 1024, 4096),
        (256, 4096, 1024),
    ] {
        let (x, w, bias) = (noise(m * k), noise(n * k), noise(n));
        group.throughput(Throughput::Elements(2 * (m * k * n) as u64));
        for precision in [Precision::F32, Precision::Bf16] {
            let packed = PackedMatrix::new(&w, &bias, n, k, precision);
            group.bench_function(format!("{m}x{k}x{n}/{precision:?}"), |b| {
                b.iter(|| black_box(packed.forward(&x, None, LayerActivation::None)));
            });
        }
        let (a, b) = (
            Tensor::from_slice(&x, (m, k), &Device::Cpu).unwrap(),
            Tensor::from_slice(&w, (n, k), &Device::Cpu).unwrap().t().unwrap().contiguous().unwrap(),
        );
        group.bench_function(format!("{m}x{k}x{n}/candle"), |bench| bench.iter(|| black_box(a.matmul(&b).unwrap())));
    }
    let (m, k, n) = (1024, 512, 2048);
    let packed = PackedMatrix::new(&noise(n * k), &noise(n), n, k, Precision::F32);
    let x = noise(m * k);
    group.bench_function(format!("{m}x{k}x{n}/F32 gelu"), |b| {
        b.iter(|| black_box(packed.forward(&x, None, LayerActivation::Gelu)))
    });
    group.finish();
}

/// The decoder's maps (128 channels), its last layer (12 classes), and the 3x3 layers of ResNet-50, at 512 px.
fn winograd(c: &mut Criterion) {
    let mut group = c.benchmark_group("winograd");
    for (side, inputs, outputs) in
        [(512, 128, 128), (256, 128, 128), (512, 128, 12), (128, 64, 64), (64, 128, 128), (32, 256, 256), (16, 512, 512)]
    {
        let maps = Maps { count: 1, height: side, width: side };
        let layer = Winograd::convolution(&noise(9 * inputs * outputs), &noise(outputs), outputs, inputs, Precision::F32);
        let x = noise(maps.pixels() * inputs);
        group.throughput(Throughput::Elements(2 * 9 * (maps.pixels() * inputs * outputs) as u64));
        group.bench_function(format!("3x3 {side} {inputs}-{outputs}"), |b| {
            b.iter(|| black_box(layer.forward(&x, maps, None, LayerActivation::Relu)));
        });
    }
    for side in [128, 256] {
        let maps = Maps { count: 1, height: side, width: side };
        let layer = Winograd::transposed(&noise(16 * 128 * 128), &noise(128), 128, 128, Precision::F32);
        let x = noise(maps.pixels() * 128);
        group.throughput(Throughput::Elements(2 * 16 * (maps.pixels() * 128 * 128) as u64));
        group.bench_function(format!("4x4 transposed {side} 128-128"), |b| {
            b.iter(|| black_box(layer.forward(&x, maps, None, LayerActivation::Relu)));
        });
    }
    group.finish();
}

/// ResNet's stem and the pooling after it, and a 3x3 layer that halves the map, at 512 px.
fn convolution(c: &mut Criterion) {
    let mut group = c.benchmark_group("convolution");
    for (side, inputs, outputs, kernel) in [(512, 3, 64, 7), (128, 128, 128, 3)] {
        let maps = Maps { count: 1, height: side, width: side };
        let walk = Walk { kernel, stride: 2, padding: kernel / 2 };
        let weight = noise(kernel * kernel * inputs * outputs);
        let layer = GatheredConvolution::new(&weight, &noise(outputs), outputs, inputs, walk, Precision::F32);
        let x = noise(maps.pixels() * inputs);
        group.throughput(Throughput::Elements(2 * (walk.output_maps(maps).pixels() * weight.len()) as u64));
        group.bench_function(format!("{kernel}x{kernel} stride 2 {side} {inputs}-{outputs}"), |b| {
            b.iter(|| black_box(layer.forward(&x, maps, None, LayerActivation::Relu)));
        });
    }
    let (maps, channels) = (Maps { count: 1, height: 256, width: 256 }, 64);
    let x = noise(maps.pixels() * channels);
    group.throughput(Throughput::Elements(x.len() as u64));
    group.bench_function("max_pool 256 64", |b| b.iter(|| black_box(max_pool(&x, maps, channels))));
    group.finish();
}

/// The layers after the attention of a Swin-v2-B block, together and one by one.
fn rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("rows");
    for (count, width) in [(16384, 128), (1024, 512)] {
        let matrix =
            |inputs, outputs| PackedMatrix::new(&noise(inputs * outputs), &noise(outputs), outputs, inputs, Precision::F32);
        let (up, down) = (matrix(width, 4 * width), matrix(4 * width, width));
        let (x, weight, bias) = (noise(count * width), noise(width), noise(width));
        let product = |matrix, activation| RowStep::Product { matrix, residual: None, activation };
        let steps = [
            product(&up, LayerActivation::Gelu),
            product(&down, LayerActivation::None),
            RowStep::Norm { weight: &weight, bias: &bias, epsilon: 1e-5, residual: Some(Residual::Values(&x)) },
            RowStep::Keep,
        ];
        group.throughput(Throughput::Elements(16 * (count * width * width) as u64));
        if let Some(plan) = RowPlan::new(count, width, &steps) {
            group.bench_function(format!("mlp {count}x{width} together"), |b| b.iter(|| black_box(plan.run(&x, None))));
        }
        group.bench_function(format!("mlp {count}x{width} one by one"), |b| {
            b.iter(|| {
                let y = down.forward(&up.forward(&x, None, LayerActivation::Gelu), None, LayerActivation::None);
                black_box(layer_norm(&y, Some(&x), &weight, &bias, 1e-5))
            });
        });
    }
    group.finish();
}

/// The windows of Swin-v2-B's first and third stage at 512 px, shifted.
fn attention(c: &mut Criterion) {
    let mut group = c.benchmark_group("attention");
    for (side, heads) in [(128, 4), (32, 16)] {
        let (window, head_channels, maps) = (8, 32, Maps { count: 1, height: side, width: side });
        let (tokens, channels) = (window * window, heads * head_channels);
        let layer = WindowAttentionKernel {
            window,
            head_channels,
            scale: vec![10.0; heads],
            position_bias: noise(heads * tokens * tokens),
            padding: vec![0.0; 3 * channels],
            precision: Precision::F32,
        };
        let qkv = noise(maps.pixels() * 3 * channels);
        group.throughput(Throughput::Elements(4 * (maps.pixels() * tokens * channels) as u64));
        group.bench_function(format!("{side} {channels}"), |b| b.iter(|| black_box(layer.forward(&qkv, maps, [4, 4]))));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    targets = gemm, winograd, convolution, rows, attention
}
criterion_main!(benches);
