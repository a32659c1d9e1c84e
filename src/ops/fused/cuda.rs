//! Starts kernels on a CUDA device, from PTX that the driver compiles for it at the first use.

use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg, SyncOnDrop,
};
use candle_core::cuda_backend::{CudaDType, CudaStorageSlice, WrapErr};
use candle_core::{CudaStorage, DType, Layout, Result, Storage};
use half::{bf16, f16};

use super::launch::Started;

/// Made from the sources beside it by `make_ptx.py`.
const PTX: &str = include_str!("../../kernels/cuda/fused.ptx");
/// The name under which candle keeps the compiled kernels.
const MODULE: &str = "satlas_fused";

/// Runs a launch; `first` is its first input.
pub(super) fn run(started: &Started<'_>, first: &CudaStorage, layout: &Layout) -> Result<CudaStorage> {
    match started.launch.dtype {
        DType::F32 => run_as::<f32>(started, first, layout),
        DType::BF16 => run_as::<bf16>(started, first, layout),
        DType::F16 => run_as::<f16>(started, first, layout),
        other => candle_core::bail!("no kernel computes in {other:?}"),
    }
}

#[expect(unsafe_code, reason = "a kernel is foreign code that is given addresses")]
fn run_as<T: CudaDType + DeviceRepr>(started: &Started<'_>, first: &CudaStorage, layout: &Layout) -> Result<CudaStorage> {
    let (launch, device) = (started.launch, &first.device);
    let function = device.get_or_load_custom_func(&launch.entry_point(), MODULE, PTX)?;
    let stream = device.cuda_stream();
    // SAFETY: the kernel writes every value; until then nothing reads them.
    let output = unsafe { device.alloc::<T>(started.shape.elem_count())? };

    let others: Vec<_> =
        started.others.iter().map(|other| other.as_ref().map(|other| other.storage_and_layout())).collect();
    let mut addresses = vec![address(first, layout, &stream)?];
    for other in &others {
        addresses.push(match other {
            None => (0, None),
            Some((storage, layout)) => match &**storage {
                Storage::Cuda(storage) => address(storage, layout, &stream)?,
                _ => candle_core::bail!("{} was given a tensor in main memory", launch.kernel),
            },
        });
    }

    let mut arguments = function.builder();
    arguments.arg(&output);
    for (address, _) in &addresses {
        arguments.arg(address);
    }
    for scalar in &launch.scalars {
        arguments.arg(scalar);
    }
    let config = LaunchConfig {
        grid_dim: (launch.blocks, 1, 1),
        block_dim: (launch.threads, 1, 1),
        shared_mem_bytes: launch.shared_bytes,
    };
    // SAFETY: the arguments are those that the entry point declares, in number, order and size: the emulator calls it with the
    // same ones, and counts them. It stays within their bounds for shapes that the operator has checked, which the tests look at
    // with a sanitizer of addresses. The storages stay locked, and so allocated, until the kernel is in the stream.
    unsafe { arguments.launch(config) }.w()?;
    drop(arguments);
    drop(addresses);
    Ok(CudaStorage::wrap_cuda_slice(output, device.clone()))
}

/// The address of a tensor on the device, and what marks the end of its use.
fn address<'a>(storage: &'a CudaStorage, layout: &Layout, stream: &'a CudaStream) -> Result<(u64, Option<SyncOnDrop<'a>>)> {
    match &storage.slice {
        CudaStorageSlice::F32(values) => address_of(values, layout, stream),
        CudaStorageSlice::BF16(values) => address_of(values, layout, stream),
        CudaStorageSlice::F16(values) => address_of(values, layout, stream),
        _ => candle_core::bail!("no kernel reads such a tensor"),
    }
}

fn address_of<'a, T>(
    values: &'a CudaSlice<T>,
    layout: &Layout,
    stream: &'a CudaStream,
) -> Result<(u64, Option<SyncOnDrop<'a>>)> {
    let Some((start, _)) = layout.contiguous_offsets() else {
        candle_core::bail!("a kernel was given a tensor with gaps: {layout:?}");
    };
    let (address, end_of_use) = values.device_ptr(stream);
    Ok((address + (start * size_of::<T>()) as u64, Some(end_of_use)))
}
