//! Layers that see one pixel (token) at a time, run one after the other without what lies between them ever being a tensor, where
//! kernels can do so.

use candle_core::{Result, Tensor};

use super::{LayerNorm, Linear, kernel};
use crate::kernels::{self, RowStep};

/// What becomes of every row, the last dimension of a tensor.
#[derive(Clone, Copy, Debug)]
pub enum RowLayer<'a> {
    /// A linear layer and its activation.
    Linear(&'a Linear),
    /// The same with a residual added before the activation.
    LinearAdd(&'a Linear, &'a Tensor),
    /// Normalised, and added to a residual; without one, to what the norm before this one gave.
    AddNorm(&'a LayerNorm, Option<&'a Tensor>),
}

/// Runs `x […, in]` through the layers; their result, and what `then` makes of it.
///
/// # Errors
/// Where the shapes of two layers do not fit together, or the first norm has no residual.
pub fn forward_rows(x: &Tensor, layers: &[RowLayer<'_>], then: Option<&Linear>) -> Result<(Tensor, Option<Tensor>)> {
    let in_kernels = |layer: &RowLayer<'_>| match layer {
        RowLayer::Linear(linear) | RowLayer::LinearAdd(linear, _) => linear.kernel().is_some(),
        RowLayer::AddNorm(norm, _) => norm.kernel().is_some(),
    };
    if layers.iter().all(in_kernels)
        && then.is_none_or(|then| then.kernel().is_some())
        && let Some(results) = together(x, layers, then)?
    {
        return Ok(results);
    }
    one_by_one(x, layers, then)
}

/// In one go, if that is faster.
fn together(x: &Tensor, layers: &[RowLayer<'_>], then: Option<&Linear>) -> Result<Option<(Tensor, Option<Tensor>)>> {
    let shape = result_shape(x, layers)?;
    let then_shape = then.map(|then| then.output_shape(&shape)).transpose()?;
    let residuals = layers.iter().filter_map(|layer| match layer {
        RowLayer::LinearAdd(_, residual) | RowLayer::AddNorm(_, Some(residual)) => Some((*residual).clone()),
        _ => None,
    });
    let tensors: Vec<Tensor> = [x.clone()].into_iter().chain(residuals).collect();
    let kept = kernel::with_all_values(&tensors, |values| {
        let mut residuals = values[1..].iter().copied();
        let mut steps = Vec::with_capacity(layers.len() + 3);
        for layer in layers {
            steps.extend(match *layer {
                RowLayer::Linear(linear) => linear.kernel().map(|kernel| product(kernel, None)),
                RowLayer::LinearAdd(linear, _) => linear.kernel().map(|kernel| product(kernel, residuals.next())),
                RowLayer::AddNorm(norm, residual) => norm.kernel().map(|(weight, bias, epsilon)| {
                    let residual = residual.and_then(|_| residuals.next());
                    RowStep::Norm { weight, bias, epsilon, residual }
                }),
            });
        }
        steps.push(RowStep::Keep);
        if let Some(kernel) = then.and_then(Linear::kernel) {
            steps.extend([product(kernel, None), RowStep::Keep]);
        }
        kernels::forward_rows(values[0], x.dims().last().copied().unwrap_or(0), &steps)
    })?;
    let mut kept = kept.into_iter().flatten();
    let Some(result) = kept.next() else { return Ok(None) };
    let result = Tensor::from_vec(result, shape, x.device())?;
    let after = kept.next().zip(then_shape).map(|(values, shape)| Tensor::from_vec(values, shape, x.device()));
    Ok(Some((result, after.transpose()?)))
}

fn product<'a>(
    (matrix, activation): (&'a kernels::PackedMatrix, kernels::Activation),
    residual: Option<&'a [f32]>,
) -> RowStep<'a> {
    RowStep::Product { matrix, residual, activation }
}

/// The shape of the layers' result, where everything fits together.
fn result_shape(x: &Tensor, layers: &[RowLayer<'_>]) -> Result<Vec<usize>> {
    let (mut now, mut normed) = (x.dims().to_vec(), None);
    for layer in layers {
        let residual = match layer {
            RowLayer::Linear(linear) => {
                now = linear.output_shape(&now)?;
                continue;
            }
            RowLayer::LinearAdd(linear, residual) => {
                now = linear.output_shape(&now)?;
                residual.dims()
            }
            RowLayer::AddNorm(norm, residual) => {
                norm.fits(&now)?;
                let last = normed.replace(now.clone());
                match (residual, last) {
                    (Some(residual), _) => residual.dims(),
                    (None, Some(last)) if last == now => continue,
                    (None, Some(last)) => candle_core::bail!("{last:?} cannot be added to {now:?}"),
                    (None, None) => candle_core::bail!("the first norm needs a residual"),
                }
            }
        };
        if residual != now {
            candle_core::bail!("a residual of shape {residual:?} cannot be added to {now:?}");
        }
    }
    Ok(now)
}

/// The same layer by layer.
fn one_by_one(x: &Tensor, layers: &[RowLayer<'_>], then: Option<&Linear>) -> Result<(Tensor, Option<Tensor>)> {
    let (mut now, mut normed) = (x.clone(), None);
    for layer in layers {
        match layer {
            RowLayer::Linear(linear) => now = linear.forward(&now)?,
            RowLayer::LinearAdd(linear, residual) => now = linear.forward_add(&now, residual)?,
            RowLayer::AddNorm(norm, residual) => {
                let Some(residual) = residual.or(normed.as_ref()) else {
                    candle_core::bail!("the first norm needs a residual");
                };
                now = norm.forward_residual(residual, &now)?;
                normed = Some(now.clone());
            }
        }
    }
    let after = then.map(|then| then.forward(&now)).transpose()?;
    Ok((now, after))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::ops::{Activation, OpsContext};

    #[test]
    fn both_forms_give_what_the_layers_give_one_by_one_and_refuse_what_does_not_fit() {
        let ramp = |dims: &[usize]| {
            let count: usize = dims.iter().product();
            let values: Vec<f32> = (0..count).map(|i| ((i * 37 + 11) % 101) as f32 / 101.0 - 0.5).collect();
            Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
        };
        let (x, residual) = (ramp(&[2, 25, 30, 6]), ramp(&[2, 25, 30, 4]));
        let forms =
            [OpsContext::new(&Device::Cpu, DType::F32).unwrap(), OpsContext::plain(&Device::Cpu, DType::F32).unwrap()];
        let results = forms.map(|ops| {
            let linear = |outputs: usize, inputs: usize, activation| {
                Linear::new(&ops, &ramp(&[outputs, inputs]), Some(&ramp(&[outputs])), activation).unwrap()
            };
            let (first, second) = (linear(4, 6, Activation::None), linear(4, 4, Activation::Gelu));
            let norm = LayerNorm::new(&ops, &ramp(&[4]), &ramp(&[4])).unwrap();
            assert!(forward_rows(&x, &[RowLayer::Linear(&second)], None).is_err());
            assert!(forward_rows(&x, &[RowLayer::Linear(&first), RowLayer::AddNorm(&norm, None)], None).is_err());
            assert!(forward_rows(&x, &[RowLayer::LinearAdd(&first, &x)], None).is_err());
            assert!(forward_rows(&x, &[RowLayer::Linear(&first)], Some(&first)).is_err());
            let layers = [
                RowLayer::LinearAdd(&first, &residual),
                RowLayer::AddNorm(&norm, Some(&residual)),
                RowLayer::Linear(&second),
                RowLayer::AddNorm(&norm, None),
            ];
            let (result, after) = forward_rows(&x, &layers, Some(&second)).unwrap();
            [result, after.unwrap()]
        });
        for (ours, plain) in results[0].iter().zip(&results[1]) {
            assert_eq!(ours.dims(), [2, 25, 30, 4]);
            let gap = (ours - plain).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(gap < 1e-5, "{gap}");
        }
    }
}
