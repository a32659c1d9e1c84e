//! From tensors to the slices that the CPU kernels work on, and back.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Storage, Tensor};

/// The float32 values of a weight, row-major.
pub(super) fn values(weight: &Tensor) -> Result<Vec<f32>> {
    weight.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// What `work` makes of the same values, which are not copied where they are row-major float32 already.
pub(super) fn with_values<T>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> T) -> Result<T> {
    with_all_values(std::slice::from_ref(tensor), |values| work(values[0]))
}

/// The same of several tensors.
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

/// The same of a bias that may be absent: then none.
pub(super) fn values_or_none(bias: Option<&Tensor>) -> Result<Vec<f32>> {
    bias.map_or(Ok(Vec::new()), values)
}

/// What a kernel makes of `x`, which has the given shape.
pub(super) fn map<F>(name: &'static str, x: &Tensor, shape: impl Into<Shape>, kernel: F) -> Result<Tensor>
where
    F: Fn(&[f32]) -> Vec<f32> + Send + Sync,
{
    x.contiguous()?.apply_op1_no_bwd(&Kernel { name, shape: shape.into(), kernel })
}

/// What a kernel makes of `x` and `y`, which has the given shape.
pub(super) fn map2<F>(name: &'static str, x: &Tensor, y: &Tensor, shape: impl Into<Shape>, kernel: F) -> Result<Tensor>
where
    F: Fn(&[f32], &[f32]) -> Vec<f32> + Send + Sync,
{
    x.contiguous()?.apply_op2_no_bwd(&y.contiguous()?, &Kernel { name, shape: shape.into(), kernel })
}

struct Kernel<F> {
    name: &'static str,
    shape: Shape,
    kernel: F,
}

impl<F: Fn(&[f32]) -> Vec<f32> + Send + Sync> CustomOp1 for Kernel<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32((self.kernel)(contiguous(x, layout)?)), self.shape.clone()))
    }
}

impl<F: Fn(&[f32], &[f32]) -> Vec<f32> + Send + Sync> CustomOp2 for Kernel<F> {
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
