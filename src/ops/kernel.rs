//! Converts tensors to the slices that the CPU kernels work on, and back.

use std::cell::Cell;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, InplaceOp1, Layout, Result, Shape, Storage, Tensor};

/// The float32 values of a weight, row-major.
pub(super) fn values(weight: &Tensor) -> Result<Vec<f32>> {
    weight.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// Runs `work` on the float32 values of a tensor, which are copied only if they are not row-major float32 already.
pub(super) fn with_values<T>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> T) -> Result<T> {
    with_all_values(std::slice::from_ref(tensor), |values| work(values[0]))
}

/// As [`with_values`] for several tensors.
pub(super) fn with_all_values<T>(tensors: &[Tensor], work: impl FnOnce(&[&[f32]]) -> T) -> Result<T> {
    let tensors: Vec<Tensor> =
        tensors.iter().map(|tensor| tensor.to_dtype(DType::F32)?.contiguous()).collect::<Result<_>>()?;
    let stored: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let values = stored.iter().map(|(storage, layout)| match &**storage {
        Storage::Cpu(storage) => contiguous(storage, layout),
        _ => candle_core::bail!("kernels work in main memory"),
    });
    Ok(work(&values.collect::<Result<Vec<_>>>()?))
}

/// Whether a tensor is the whole of its storage, row-major float32 in main memory, and shares it with none of `others`.
pub(super) fn is_free<'a>(tensor: &Tensor, others: impl IntoIterator<Item = &'a Tensor>) -> bool {
    let (storage, layout) = tensor.storage_and_layout();
    let whole = match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => layout.contiguous_offsets() == Some((0, values.len())),
        _ => false,
    };
    whole && others.into_iter().all(|other| !std::ptr::eq(&*storage, &*other.storage_and_layout().0))
}

/// Takes the values of a tensor that [`is_free`]. Its storage is left empty, so it must not be read afterwards.
pub(super) fn take_values(tensor: &Tensor) -> Result<Vec<f32>> {
    let taken = Take::default();
    tensor.inplace_op1(&taken)?;
    Ok(taken.0.into_inner())
}

#[derive(Default)]
struct Take(Cell<Vec<f32>>);

impl InplaceOp1 for Take {
    fn name(&self) -> &'static str {
        "take"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match storage {
            CpuStorage::F32(values) if layout.contiguous_offsets() == Some((0, values.len())) => {
                self.0.set(std::mem::take(values));
                Ok(())
            }
            _ => candle_core::bail!("{layout:?} is not all of a float32 storage"),
        }
    }
}

/// The float32 values of a bias; empty if there is none.
pub(super) fn values_or_none(bias: Option<&Tensor>) -> Result<Vec<f32>> {
    bias.map_or(Ok(Vec::new()), values)
}

/// Runs a kernel on `x`; `shape` is the shape of the result.
pub(super) fn map<F>(name: &'static str, x: &Tensor, shape: impl Into<Shape>, kernel: F) -> Result<Tensor>
where
    F: Fn(&[f32]) -> Vec<f32> + Send + Sync,
{
    x.contiguous()?.apply_op1_no_bwd(&KernelOp { name, shape: shape.into(), kernel })
}

/// Runs a kernel on `x` and `y`; `shape` is the shape of the result.
pub(super) fn map2<F>(name: &'static str, x: &Tensor, y: &Tensor, shape: impl Into<Shape>, kernel: F) -> Result<Tensor>
where
    F: Fn(&[f32], &[f32]) -> Vec<f32> + Send + Sync,
{
    x.contiguous()?.apply_op2_no_bwd(&y.contiguous()?, &KernelOp { name, shape: shape.into(), kernel })
}

struct KernelOp<F> {
    name: &'static str,
    shape: Shape,
    kernel: F,
}

impl<F: Fn(&[f32]) -> Vec<f32> + Send + Sync> CustomOp1 for KernelOp<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32((self.kernel)(contiguous(x, layout)?)), self.shape.clone()))
    }
}

impl<F: Fn(&[f32], &[f32]) -> Vec<f32> + Send + Sync> CustomOp2 for KernelOp<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_at: &Layout, y: &CpuStorage, y_at: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, y) = (contiguous(x, x_at)?, contiguous(y, y_at)?);
        Ok((CpuStorage::F32((self.kernel)(x, y)), self.shape.clone()))
    }
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("a kernel was given a tensor with gaps: {layout:?}"),
    }
}
