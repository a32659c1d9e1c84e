//! The kernels for GPUs, run on the CPU by the emulator, beside the plain operations that they stand for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::fs;
use std::path::Path;

use candle_core::{CpuStorage, DType, Device, Layout, Result, Tensor};
use sha2::{Digest, Sha256};

use super::launch::{Launch, int};
use super::trust::difference;
use super::{FusedOps, Subject, kernels_can_be_emulated, residual_norm, sample};
use crate::ops::{
    Conv2d, ConvShape, LayerActivation, LayerNorm, Linear, OpsContext, RowLayer, WindowAttention, WindowAttentionWeights,
    forward_rows,
};

const TYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// The largest difference over the largest value. Less than what is tolerated on a device, whose products are not those of the
/// CPU.
fn tolerance(dtype: DType) -> f32 {
    match dtype {
        DType::BF16 => 1e-2,
        DType::F16 => 1.5e-3,
        _ => 2e-5,
    }
}

/// Values of every size up to `most`, float32.
fn weights(shape: &[usize], most: f64) -> Tensor {
    (sample(shape, &Device::Cpu, DType::F32).unwrap() * most).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// A tensor of candle's memory.
pub(super) fn tensor_of(storage: &CpuStorage, layout: &Layout) -> Result<Tensor> {
    let Some((start, end)) = layout.contiguous_offsets() else { candle_core::bail!("{layout:?} has gaps") };
    let shape = layout.shape();
    match storage {
        CpuStorage::F32(values) => Tensor::from_slice(&values[start..end], shape, &Device::Cpu),
        CpuStorage::BF16(values) => Tensor::from_slice(&values[start..end], shape, &Device::Cpu),
        CpuStorage::F16(values) => Tensor::from_slice(&values[start..end], shape, &Device::Cpu),
        _ => candle_core::bail!("activations are f32, bf16 or f16"),
    }
}

/// Both forms of an operator, and their results.
fn compare<T>(
    what: &str,
    dtype: DType,
    load: impl Fn(&OpsContext) -> T,
    run: impl Fn(&T) -> Result<Tensor>,
    is_fused: impl Fn(&T) -> bool,
) {
    let (plain, fused) =
        (load(&OpsContext::plain(&Device::Cpu, dtype).unwrap()), load(&OpsContext::emulated(dtype).unwrap()));
    assert!(!is_fused(&plain) && is_fused(&fused), "{what} in {dtype:?} runs as plain operations");
    let (plain, fused) = (run(&plain).unwrap(), run(&fused).unwrap());
    assert_eq!((plain.dims(), plain.dtype()), (fused.dims(), fused.dtype()), "{what}");
    if let Some(difference) = difference(&values(&fused), &values(&plain), tolerance(dtype)) {
        panic!("{what} in {dtype:?}: {difference}");
    }
}

#[test]
fn the_ptx_was_made_from_these_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels/cuda");
    let mut sources: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "cu" || extension == "cuh"));
    sources.sort();
    assert!(sources.len() > 4, "{sources:?}");
    let mut hash = Sha256::new();
    for source in sources {
        let name = source.file_name().unwrap().to_str().unwrap();
        hash.update([name.as_bytes(), b"\0", &fs::read(&source).unwrap(), b"\0"].concat());
    }
    let expected: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let ptx = fs::read_to_string(folder.join("fused.ptx")).unwrap();
    let found = ptx.lines().next().and_then(|line| line.strip_prefix("// sha256 of the sources: "));
    assert_eq!(found, Some(expected.as_str()), "run src/kernels/cuda/make_ptx.py");
    for kernel in ["window_attention", "residual_norm", "bias_gelu"] {
        for dtype in TYPES {
            assert!(ptx.contains(&format!(".visible .entry {kernel}_{}(", dtype.as_str())), "{kernel} in {dtype:?}");
        }
    }
}

fn attention(ops: &OpsContext, window: usize, shift: usize, heads: usize, head_channels: usize) -> WindowAttention {
    const HIDDEN: usize = 12;
    let channels = heads * head_channels;
    let weights = WindowAttentionWeights {
        qkv_weight: weights(&[3 * channels, channels], 0.3),
        qkv_bias: weights(&[3 * channels], 0.5),
        proj_weight: weights(&[channels, channels], 0.3),
        proj_bias: weights(&[channels], 0.5),
        // Up to the largest scale that is not cut off.
        logit_scale: (weights(&[heads, 1, 1], 2.3) + 2.3).unwrap(),
        position_hidden_weight: weights(&[HIDDEN, 2], 1.0),
        position_hidden_bias: weights(&[HIDDEN], 0.5),
        position_out_weight: weights(&[heads, HIDDEN], 1.0),
    };
    WindowAttention::new(ops, &weights, window, shift, heads).unwrap()
}

#[test]
fn attention_is_that_of_plain_operations() {
    if !kernels_can_be_emulated() {
        return;
    }
    // Window, shift, heads, channels of a head, and maps: with padding on either side or none, windows that cover one side or both, and
    // tokens and channels that do not fill the kernel's tiles.
    let cases = [
        (8, 4, 2, 32, [1, 19, 9]),
        (8, 0, 1, 32, [1, 16, 8]),
        (8, 4, 1, 8, [1, 8, 3]),
        (7, 3, 2, 16, [1, 13, 15]),
        (4, 2, 1, 24, [2, 5, 12]),
        (4, 2, 1, 8, [1, 4, 9]),
        (2, 1, 2, 32, [1, 3, 5]),
    ];
    for (window, shift, heads, head_channels, [count, height, width]) in cases {
        let what = format!("windows of {window} shifted by {shift} over {count} x {height} x {width}");
        for dtype in TYPES {
            let x = sample(&[count, height, width, heads * head_channels], &Device::Cpu, dtype).unwrap();
            let load = |ops: &OpsContext| attention(ops, window, shift, heads, head_channels);
            compare(&what, dtype, load, |layer| layer.gather(&x, None), WindowAttention::is_fused);
        }
    }
}

#[test]
fn windows_and_heads_that_the_kernel_is_not_made_for_stay_plain() {
    let ops = OpsContext::emulated(DType::F32).unwrap();
    for (window, heads, head_channels) in [(9, 1, 32), (8, 1, 40), (8, 2, 12)] {
        assert!(!attention(&ops, window, 0, heads, head_channels).is_fused());
    }
}

#[test]
fn norms_at_the_end_of_a_branch_are_those_of_plain_operations() {
    if !kernels_can_be_emulated() {
        return;
    }
    for width in [8, 24, 96, 136, 1000, 1024] {
        for dtype in TYPES {
            let load = |ops: &OpsContext| LayerNorm::new(ops, &weights(&[width], 1.5), &weights(&[width], 0.5)).unwrap();
            let branch = (sample(&[3, 7, width], &Device::Cpu, dtype).unwrap() + 1.0).unwrap();
            let (residual, bias) =
                (sample(&[3, 7, width], &Device::Cpu, dtype).unwrap(), sample(&[width], &Device::Cpu, dtype).unwrap());
            let what = format!("the norm of {width} values");
            compare(&what, dtype, load, |norm| norm.forward(&branch), LayerNorm::takes_bias);
            let end = |norm: &LayerNorm| norm.forward_branch(&residual, &branch, Some(&bias));
            compare(&what, dtype, load, end, LayerNorm::takes_bias);
            let end = |norm: &LayerNorm| norm.forward_branch(&residual, &branch, None);
            compare(&what, dtype, load, end, LayerNorm::takes_bias);
        }
    }
    let ops = OpsContext::emulated(DType::F32).unwrap();
    for width in [6, 1028] {
        assert!(!LayerNorm::new(&ops, &weights(&[width], 1.0), &weights(&[width], 1.0)).unwrap().takes_bias());
    }
}

#[test]
fn norms_far_from_zero_keep_their_digits() {
    if !kernels_can_be_emulated() {
        return;
    }
    // Where the plain form subtracts squares that are nearly equal.
    const FAR: f64 = 300.0;
    let width = 96;
    let branch = (sample(&[width], &Device::Cpu, DType::F32).unwrap() + FAR).unwrap();
    let ones = Tensor::ones(width, DType::F32, &Device::Cpu).unwrap();
    let nothing = ones.zeros_like().unwrap();
    let found = residual_norm(&branch, None, None, (&ones, &nothing), 0.0).unwrap();
    let exact: Vec<f64> = values(&branch).into_iter().map(f64::from).collect();
    let mean = exact.iter().sum::<f64>() / width as f64;
    let deviation = (exact.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / width as f64).sqrt();
    let expected: Vec<f32> = exact.iter().map(|value| ((value - mean) / deviation) as f32).collect();
    assert_eq!(difference(&values(&found), &expected, 1e-4), None);
}

#[test]
fn bias_and_gelu_are_those_of_plain_operations() {
    if !kernels_can_be_emulated() {
        return;
    }
    for (inputs, outputs) in [(4, 8), (12, 136), (3, 1032)] {
        for dtype in TYPES {
            let load = |ops: &OpsContext| {
                let (weight, bias) = (weights(&[outputs, inputs], 2.0), weights(&[outputs], 3.0));
                Linear::new(ops, &weight, Some(&bias), LayerActivation::Gelu).unwrap()
            };
            let x = sample(&[5, 3, inputs], &Device::Cpu, dtype).unwrap();
            let what = format!("GELU of {outputs} values");
            compare(&what, dtype, load, |layer| layer.forward(&x), Linear::is_fused);
            let residual = sample(&[5, 3, outputs], &Device::Cpu, dtype).unwrap();
            compare(&what, dtype, load, |layer| layer.forward_add(&x, &residual), Linear::is_fused);
        }
    }
}

#[test]
fn convolutions_by_cudnn_are_those_of_plain_operations() {
    let shape = |kernel, stride, padding| ConvShape { kernel, stride, padding };
    for shape in [ConvShape::SAME_3X3, shape(3, 2, 1), shape(7, 2, 3), shape(3, 1, 0)] {
        for (activation, bias) in [(LayerActivation::Relu, true), (LayerActivation::None, false)] {
            for dtype in TYPES {
                let load = |ops: &OpsContext| {
                    let (weight, bias) =
                        (weights(&[5, 3, shape.kernel, shape.kernel], 0.4), bias.then(|| weights(&[5], 0.5)));
                    Conv2d::new(ops, &weight, bias.as_ref(), shape, activation).unwrap()
                };
                // A part of a larger batch, so that the maps do not begin where their memory does.
                let x = sample(&[3, 13, 8, 3], &Device::Cpu, dtype).unwrap().narrow(0, 1, 2).unwrap();
                let run = |conv: &Conv2d| conv.forward_add(&x, &conv.forward(&x)?);
                compare(&format!("{shape:?}"), dtype, load, run, Conv2d::is_fused);
            }
        }
    }
    let ops = OpsContext::emulated(DType::F32).unwrap();
    let gelu = Conv2d::new(&ops, &weights(&[2, 2, 3, 3], 1.0), None, ConvShape::SAME_3X3, LayerActivation::Gelu);
    assert!(!gelu.unwrap().is_fused());
}

#[test]
fn a_block_of_fused_operators_is_the_block() {
    if !kernels_can_be_emulated() {
        return;
    }
    for dtype in TYPES {
        let load = |ops: &OpsContext| {
            let linear = |inputs: usize, outputs: usize, activation| {
                let (weight, bias) = (weights(&[outputs, inputs], 0.4), weights(&[outputs], 0.5));
                Linear::new(ops, &weight, Some(&bias), activation).unwrap()
            };
            let norm = || LayerNorm::new(ops, &weights(&[32], 1.0), &weights(&[32], 0.5)).unwrap();
            let (wide, narrow) = (linear(32, 128, LayerActivation::Gelu), linear(128, 32, LayerActivation::None));
            (attention(ops, 4, 2, 2, 16), norm(), wide, narrow, norm())
        };
        let x = sample(&[1, 6, 9, 32], &Device::Cpu, dtype).unwrap();
        let run = |(attention, norm, wide, narrow, last): &(WindowAttention, LayerNorm, Linear, Linear, LayerNorm)| {
            let layers = vec![
                RowLayer::Linear(attention.projection()),
                RowLayer::AddNorm(norm, Some(x.clone())),
                RowLayer::Linear(wide),
                RowLayer::Linear(narrow),
                RowLayer::AddNorm(last, None),
            ];
            Ok(forward_rows(&attention.gather(&x, None)?, layers, None)?.0)
        };
        compare("a block", dtype, load, run, |(attention, ..)| attention.is_fused());
    }
}

#[test]
fn what_differs_or_is_refused_stays_plain_and_is_compared_once() {
    let fused = FusedOps::default();
    let tensor = |values: [f32; 3]| Tensor::from_slice(&values, 3, &Device::Cpu);
    let subject = |size: usize| Subject { operator: "test", sizes: vec![size] };
    let plain = || tensor([1.0, -200.0, 3.0]);
    let cases: [(bool, Option<&[f32]>); 5] = [
        (true, Some(&[1.01, -200.0, 3.0])),
        (false, Some(&[1.5, -200.0, 3.0])),
        (false, Some(&[f32::NAN, -200.0, 3.0])),
        (false, Some(&[1.0, -200.0])),
        (false, None),
    ];
    for (size, (trusted, result)) in cases.into_iter().enumerate() {
        let result = || match result {
            Some(values) => Tensor::from_slice(values, values.len(), &Device::Cpu),
            None => candle_core::bail!("the device refuses the kernel"),
        };
        assert_eq!(fused.trusts(subject(size), plain, result).unwrap(), trusted, "case {size}");
        let again = Cell::new(false);
        let known = fused.trusts(subject(size), || tensor([0.0; 3]).inspect(|_| again.set(true)), result);
        assert_eq!((known.unwrap(), again.get()), (trusted, false), "case {size}");
    }
    assert!(fused.trusts(subject(9), || candle_core::bail!("no memory"), plain).is_err(), "the plain form must work");
    assert_eq!(fused.choose(subject(1), "plain", "fused", |_| plain()).unwrap(), "plain");
}

#[test]
fn a_launch_that_goes_beyond_its_memory_or_is_none_is_an_error() {
    if !kernels_can_be_emulated() {
        return;
    }
    let (x, bias) = (sample(&[4, 8], &Device::Cpu, DType::F32).unwrap(), sample(&[8], &Device::Cpu, DType::F32).unwrap());
    let launch = |kernel, chunks: usize| Launch {
        kernel,
        dtype: DType::F32,
        blocks: 1,
        threads: 32,
        shared_bytes: 0,
        scalars: vec![int(chunks).unwrap(), 8],
    };
    let run = |launch: Launch| launch.run(&x, &[Some(&bias)], (4, 8)).map_err(|error| error.to_string());
    assert!(run(launch("bias_gelu", 8)).is_ok());
    assert!(run(launch("bias_gelu", 9)).unwrap_err().contains("heap-buffer-overflow"));
    assert!(run(launch("bias_relu", 8)).unwrap_err().contains("no entry point"));
    assert!(run(Launch { scalars: vec![8], ..launch("bias_gelu", 8) }).unwrap_err().contains("number of parameters"));
    assert!(int(1 << 31).is_err());
}
