//! Layers that work on single pixels (tokens), run one after the other. Where kernels can do so, the intermediate results
//! never become tensors.

use candle_core::{Error, Result, Tensor};

use super::{LayerActivation, LayerNorm, Linear, kernel};
use crate::kernels::{self, Residual, RowPlan, RowStep};

/// A step in the processing of every row, which is the last dimension of a tensor. Residuals are consumed: nobody may read
/// them, or a view of them, afterwards, because the result may overwrite one.
#[derive(Debug)]
pub(crate) enum RowLayer<'a> {
    /// A linear layer and its activation.
    Linear(&'a Linear),
    /// As `Linear`, with a residual added before the activation.
    LinearAdd(&'a Linear, Tensor),
    /// Normalises and adds a residual; without one, adds the result of the previous norm.
    AddNorm(&'a LayerNorm, Option<Tensor>),
}

impl RowLayer<'_> {
    fn residual(&self) -> Option<&Tensor> {
        match self {
            Self::LinearAdd(_, residual) | Self::AddNorm(_, Some(residual)) => Some(residual),
            Self::Linear(_) | Self::AddNorm(_, None) => None,
        }
    }
}

/// Runs `x […, in]` through the layers. Returns their result, and the output of `then` for that result.
///
/// # Errors
/// If the shapes of two layers do not match, or the first norm has no residual.
pub(crate) fn forward_rows(
    x: &Tensor,
    layers: Vec<RowLayer<'_>>,
    then: Option<&Linear>,
) -> Result<(Tensor, Option<Tensor>)> {
    let in_kernels = |layer: &RowLayer<'_>| match layer {
        RowLayer::Linear(linear) | RowLayer::LinearAdd(linear, _) => linear.kernel().is_some(),
        RowLayer::AddNorm(norm, _) => norm.kernel().is_some(),
    };
    if layers.iter().all(in_kernels)
        && then.is_none_or(|then| then.kernel().is_some())
        && let Some(results) = together(x, &layers, then)?
    {
        return Ok(results);
    }
    one_by_one(x, layers, then)
}

/// Runs all layers together; `None` if one by one is as fast.
fn together(x: &Tensor, layers: &[RowLayer<'_>], then: Option<&Linear>) -> Result<Option<(Tensor, Option<Tensor>)>> {
    let shape = result_shape(x, layers)?;
    let then_shape = then.map(|then| then.output_shape(&shape)).transpose()?;
    let residuals: Vec<&Tensor> = layers.iter().filter_map(RowLayer::residual).collect();
    // The result overwrites the last residual, if nothing else uses its storage.
    let (replaced, others) = match residuals.split_last() {
        Some((last, others)) if last.dims() == shape && kernel::is_free(last, others.iter().copied().chain([x])) => {
            (Some(*last), others)
        }
        _ => (None, &residuals[..]),
    };
    let tensors: Vec<Tensor> = [x].into_iter().chain(others.iter().copied()).cloned().collect();
    let kept = kernel::with_all_values(&tensors, |values| {
        let mut residuals = values[1..].iter().copied().map(Residual::Values).chain(replaced.map(|_| Residual::Replaced));
        let mut steps = Vec::with_capacity(layers.len() + 3);
        for layer in layers {
            let residual = layer.residual().and_then(|_| residuals.next());
            steps.extend(match layer {
                RowLayer::Linear(linear) | RowLayer::LinearAdd(linear, _) => {
                    linear.kernel().map(|kernel| product(kernel, residual))
                }
                RowLayer::AddNorm(norm, _) => {
                    norm.kernel().map(|(weight, bias, epsilon)| RowStep::Norm { weight, bias, epsilon, residual })
                }
            });
        }
        steps.push(RowStep::Keep);
        if let Some(kernel) = then.and_then(Linear::kernel) {
            steps.extend([product(kernel, None), RowStep::Keep]);
        }
        let width = x.dims().last().copied().unwrap_or(0);
        let rows = values[0].len().checked_div(width).unwrap_or(0);
        let plan = RowPlan::new(rows, width, &steps);
        plan.map(|plan| Ok::<_, Error>(plan.run(values[0], replaced.map(kernel::take_values).transpose()?))).transpose()
    })??;
    let mut kept = kept.into_iter().flatten();
    let Some(result) = kept.next() else { return Ok(None) };
    let result = Tensor::from_vec(result, shape, x.device())?;
    let after = kept.next().zip(then_shape).map(|(values, shape)| Tensor::from_vec(values, shape, x.device()));
    Ok(Some((result, after.transpose()?)))
}

fn product<'a>(
    (matrix, activation): (&'a kernels::PackedMatrix, LayerActivation),
    residual: Option<Residual<'a>>,
) -> RowStep<'a> {
    RowStep::Product { matrix, residual, activation }
}

/// The shape of the layers' result, if all shapes match.
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

/// Runs the layers one by one.
fn one_by_one(x: &Tensor, layers: Vec<RowLayer<'_>>, then: Option<&Linear>) -> Result<(Tensor, Option<Tensor>)> {
    let (mut now, mut normed) = (x.clone(), None);
    // What the last layer has left for the next norm to add.
    let mut bias = None;
    let mut layers = layers.into_iter().peekable();
    while let Some(layer) = layers.next() {
        let leaves_bias = matches!(layers.peek(), Some(RowLayer::AddNorm(norm, _)) if norm.takes_bias());
        match layer {
            RowLayer::Linear(linear) if leaves_bias => (now, bias) = linear.forward_leaving_bias(&now)?,
            RowLayer::Linear(linear) => now = linear.forward(&now)?,
            RowLayer::LinearAdd(linear, residual) => now = linear.forward_add(&now, &residual)?,
            RowLayer::AddNorm(norm, residual) => {
                let Some(residual) = residual.or(normed) else {
                    candle_core::bail!("the first norm needs a residual");
                };
                now = norm.forward_branch(&residual, &now, bias.take())?;
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
    use crate::ops::OpsContext;

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
            let (first, second) = (linear(4, 6, LayerActivation::None), linear(4, 4, LayerActivation::Gelu));
            let norm = LayerNorm::new(&ops, &ramp(&[4]), &ramp(&[4])).unwrap();
            assert!(forward_rows(&x, vec![RowLayer::Linear(&second)], None).is_err());
            assert!(forward_rows(&x, vec![RowLayer::Linear(&first), RowLayer::AddNorm(&norm, None)], None).is_err());
            assert!(forward_rows(&x, vec![RowLayer::LinearAdd(&first, x.clone())], None).is_err());
            assert!(forward_rows(&x, vec![RowLayer::Linear(&first)], Some(&first)).is_err());
            let layers = |residual: Tensor| {
                vec![
                    RowLayer::LinearAdd(&first, (&residual * 0.5).unwrap()),
                    RowLayer::AddNorm(&norm, Some(residual)),
                    RowLayer::Linear(&second),
                    RowLayer::AddNorm(&norm, None),
                ]
            };
            // A residual that is only part of its storage, or that is the input itself, must stay as it is.
            let two = Tensor::stack(&[&residual, &residual], 0).unwrap();
            let part = two.get(1).unwrap();
            let (from_part, _) = forward_rows(&x, layers(part.clone()), Some(&second)).unwrap();
            let same = (&part - &residual).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(same == 0.0);
            let narrow = ramp(&[2, 25, 30, 4]);
            let (input_too, _) = forward_rows(&narrow, vec![RowLayer::LinearAdd(&second, narrow.clone())], None).unwrap();
            assert_eq!(input_too.dims(), narrow.dims());
            assert_eq!(narrow.flatten_all().unwrap().to_vec1::<f32>().unwrap().len(), narrow.elem_count());
            let (result, after) = forward_rows(&x, layers(residual.copy().unwrap()), Some(&second)).unwrap();
            let gap = (&from_part - &result).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(gap == 0.0, "{gap}");
            [result, after.unwrap()]
        });
        for (ours, plain) in results[0].iter().zip(&results[1]) {
            assert_eq!(ours.dims(), [2, 25, 30, 4]);
            let gap = (ours - plain).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(gap < 1e-5, "{gap}");
        }
    }
}
