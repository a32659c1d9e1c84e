//! `torch.nn.Linear`, with its activation.

use candle_core::{Result, Tensor};

use super::activation::activate;
use super::fused::{self, Subject};
use super::{LayerActivation, OpsContext, kernel};
use crate::kernels::PackedMatrix;

/// `activation(x · weightᵀ + bias)` over the last dimension.
#[derive(Debug)]
pub(crate) struct Linear {
    form: LinearForm,
    activation: LayerActivation,
}

#[derive(Debug)]
enum LinearForm {
    /// `weight` is `[in, out]`.
    Plain {
        weight: Tensor,
        bias: Option<Tensor>,
    },
    /// As `Plain`, with bias and GELU in one kernel.
    FusedGelu {
        weight: Tensor,
        bias: Tensor,
    },
    Kernel(PackedMatrix),
}

impl Linear {
    /// Prepares `weight [out, in]` and `bias [out]`.
    ///
    /// # Errors
    /// If the shapes do not match or the device is out of memory.
    pub(crate) fn new(
        ops: &OpsContext,
        weight: &Tensor,
        bias: Option<&Tensor>,
        activation: LayerActivation,
    ) -> Result<Self> {
        let (out, inputs) = weight.dims2()?;
        if let Some(bias) = bias
            && bias.dims() != [out]
        {
            candle_core::bail!("a linear layer with {out} outputs has a bias of shape {:?}", bias.dims());
        }
        let form = match ops.kernels() {
            Some(precision) => {
                let bias = kernel::values_or_none(bias)?;
                let pack = |weight: &[f32]| PackedMatrix::new(weight, &bias, out, inputs, precision);
                LinearForm::Kernel(kernel::with_values(weight, pack)?)
            }
            None => {
                let bias = bias.map(|bias| ops.place(bias)).transpose()?;
                let weight = ops.place(&weight.t()?)?;
                return Self::plain_or_fused(ops, weight, bias, activation);
            }
        };
        Ok(Self { form, activation })
    }

    fn plain_or_fused(ops: &OpsContext, weight: Tensor, bias: Option<Tensor>, activation: LayerActivation) -> Result<Self> {
        let (inputs, outputs) = weight.dims2()?;
        let fused = match (ops.fused(), &bias) {
            (Some(fused), Some(bias)) if activation == LayerActivation::Gelu && fused::gelu_fits(outputs, ops.dtype()) => {
                let form = LinearForm::FusedGelu { weight: weight.clone(), bias: bias.clone() };
                Some((fused, Self { form, activation }))
            }
            _ => None,
        };
        let plain = Self { form: LinearForm::Plain { weight, bias }, activation };
        let Some((fused, layer)) = fused else { return Ok(plain) };
        let sample = fused::sample(&[3, 5, inputs], ops.device(), ops.dtype())?;
        let subject = Subject { operator: "bias and GELU", sizes: vec![outputs] };
        fused.choose(subject, plain, layer, |layer| layer.forward(&sample))
    }

    /// Bytes of the prepared weights.
    pub(crate) fn bytes(&self) -> usize {
        match &self.form {
            LinearForm::Plain { weight, bias } => OpsContext::bytes([weight].into_iter().chain(bias)),
            LinearForm::FusedGelu { weight, bias } => OpsContext::bytes([weight, bias]),
            LinearForm::Kernel(matrix) => matrix.bytes(),
        }
    }

    /// The shape of the result for an input of the given shape.
    pub(super) fn output_shape(&self, shape: &[usize]) -> Result<Vec<usize>> {
        let (inputs, outputs) = match &self.form {
            LinearForm::Plain { weight, .. } | LinearForm::FusedGelu { weight, .. } => weight.dims2()?,
            LinearForm::Kernel(matrix) => (matrix.inputs(), matrix.outputs()),
        };
        output_shape(shape, inputs, outputs)
    }

    #[cfg(test)]
    pub(super) fn is_fused(&self) -> bool {
        matches!(self.form, LinearForm::FusedGelu { .. })
    }

    /// How many values the layer reads at a time.
    pub(super) fn inputs(&self) -> Result<usize> {
        Ok(match &self.form {
            LinearForm::Plain { weight, .. } | LinearForm::FusedGelu { weight, .. } => weight.dims2()?.0,
            LinearForm::Kernel(matrix) => matrix.inputs(),
        })
    }

    /// The packed matrix and its activation, if the layer runs as a kernel.
    pub(super) fn kernel(&self) -> Option<(&PackedMatrix, LayerActivation)> {
        match &self.form {
            LinearForm::Plain { .. } | LinearForm::FusedGelu { .. } => None,
            LinearForm::Kernel(matrix) => Some((matrix, self.activation)),
        }
    }

    /// `[…, in] -> […, out]`
    ///
    /// # Errors
    /// If the last dimension is not `in`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.form {
            LinearForm::Plain { weight, bias } => activate(product(x, weight, bias.as_ref())?, self.activation),
            LinearForm::FusedGelu { weight, bias } => fused::bias_gelu(&product(x, weight, None)?, bias),
            LinearForm::Kernel(matrix) => {
                let shape = output_shape(x.dims(), matrix.inputs(), matrix.outputs())?;
                kernel::map("linear", x, shape, |x| matrix.forward(x, None, self.activation))
            }
        }
    }

    /// As [`Linear::forward`], but for the bias where the layer can leave it to what follows: then returns it, to be added.
    ///
    /// # Errors
    /// If the last dimension is not `in`.
    pub(super) fn forward_leaving_bias(&self, x: &Tensor) -> Result<(Tensor, Option<&Tensor>)> {
        match &self.form {
            LinearForm::Plain { weight, bias } if self.activation == LayerActivation::None => {
                Ok((product(x, weight, None)?, bias.as_ref()))
            }
            _ => Ok((self.forward(x)?, None)),
        }
    }

    /// As [`Linear::forward`], with `residual […, out]` added before the activation.
    ///
    /// # Errors
    /// If the shapes do not match.
    pub(crate) fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match &self.form {
            LinearForm::Plain { weight, bias } => {
                activate((product(x, weight, bias.as_ref())? + residual)?, self.activation)
            }
            LinearForm::FusedGelu { weight, bias } => fused::bias_gelu(&(product(x, weight, None)? + residual)?, bias),
            LinearForm::Kernel(matrix) => {
                let shape = output_shape(x.dims(), matrix.inputs(), matrix.outputs())?;
                if residual.dims() != shape {
                    candle_core::bail!("a residual of shape {:?} cannot be added to {shape:?}", residual.dims());
                }
                kernel::map2("linear", x, residual, shape, |x, residual| matrix.forward(x, Some(residual), self.activation))
            }
        }
    }
}

/// `[…, in] -> […, out]`
fn output_shape(shape: &[usize], inputs: usize, outputs: usize) -> Result<Vec<usize>> {
    let mut shape = shape.to_vec();
    match shape.last_mut() {
        Some(last) if *last == inputs => *last = outputs,
        _ => candle_core::bail!("a linear layer reads {inputs} values at a time, not a tensor of shape {shape:?}"),
    }
    Ok(shape)
}

fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (inputs, outputs) = weight.dims2()?;
    let shape = output_shape(x.dims(), inputs, outputs)?;
    // [.., in] -> [rows, in]: one large product is faster than a batch of small ones.
    let rows = x.elem_count() / inputs.max(1);
    let y = x.reshape((rows, inputs))?.matmul(weight)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    y.reshape(shape)
}
