//! `torch.nn.Linear` and what follows it.

use candle_core::{Result, Tensor};

use super::{Activation, OpsContext};

/// `activation(x · weightᵀ + bias)` over the last dimension.
#[derive(Debug)]
pub struct Linear {
    /// `[in, out]`
    weight: Tensor,
    bias: Option<Tensor>,
    activation: Activation,
}

impl Linear {
    /// Prepares `weight [out, in]` and `bias [out]`.
    ///
    /// # Errors
    /// Where the shapes do not belong together or the device is out of memory.
    pub fn new(ops: &OpsContext, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Self> {
        let (out, _) = weight.dims2()?;
        if let Some(bias) = bias
            && bias.dims() != [out]
        {
            candle_core::bail!("a linear layer with {out} outputs has a bias of shape {:?}", bias.dims());
        }
        Ok(Self { weight: ops.place(&weight.t()?)?, bias: bias.map(|bias| ops.place(bias)).transpose()?, activation })
    }

    /// `[…, in] -> […, out]`
    ///
    /// # Errors
    /// Where the last dimension is not `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.product(x)?;
        self.activation.apply(y)
    }

    /// The same with `residual […, out]` added before the activation.
    ///
    /// # Errors
    /// Where the shapes do not fit.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let y = (self.product(x)? + residual)?;
        self.activation.apply(y)
    }

    fn product(&self, x: &Tensor) -> Result<Tensor> {
        let (inputs, outputs) = self.weight.dims2()?;
        let mut shape = x.dims().to_vec();
        // [.., in] -> [rows, in]: one large product is faster than a batch of small ones.
        let rows = x.elem_count() / inputs.max(1);
        let y = x.reshape((rows, inputs))?.matmul(&self.weight)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        y.reshape(shape)
    }
}
