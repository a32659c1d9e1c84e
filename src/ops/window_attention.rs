//! Shifted-window cosine attention of Swin v2, after torchvision's `shifted_window_attention`.
//!
//! A map `[N, H, W, C]` is padded with zeros to whole windows, rolled by the shift and cut into windows of `T` tokens; every
//! window attends to itself. Logits are `cos(q, k) · exp(min(scale, ln 100)) + bias`, in float32 whatever the type of the
//! network: the factor may reach 100 and would magnify bfloat16's error beyond the differences that matter.

use std::sync::Mutex;

use candle_core::{D, DType, Result, Tensor};

use super::fused::{self, FusedAttention, Subject};
use super::{LayerActivation, Linear, OpsContext, kernel, pad_to_multiple};
use crate::kernels::{self, Maps};
use crate::sync::IgnorePoison;

/// Added to the logits of token pairs that are neighbours only because of the roll.
const MASKED: f32 = -100.0;
/// Upper bound of the logits' learned scale.
const MAX_SCALE: f32 = 100.0;
/// The least value that `torch.nn.functional.normalize` divides by.
const MIN_NORM: f64 = 1e-12;

/// The tensors of torchvision's `ShiftedWindowAttentionV2`, float32.
#[derive(Debug)]
pub(crate) struct WindowAttentionWeights {
    /// `[3C, C]`
    pub qkv_weight: Tensor,
    /// `[3C]`; its middle third, the key bias, is ignored.
    pub qkv_bias: Tensor,
    /// `[C, C]`
    pub proj_weight: Tensor,
    /// `[C]`
    pub proj_bias: Tensor,
    /// `[heads, 1, 1]`, a natural logarithm.
    pub logit_scale: Tensor,
    /// `cpb_mlp.0.weight`, `[hidden, 2]`
    pub position_hidden_weight: Tensor,
    /// `cpb_mlp.0.bias`, `[hidden]`
    pub position_hidden_bias: Tensor,
    /// `cpb_mlp.2.weight`, `[heads, hidden]`
    pub position_out_weight: Tensor,
}

/// Attention within windows of `window x window` tokens, `[N, H, W, C] -> [N, H, W, C]`.
#[derive(Debug)]
pub(crate) struct WindowAttention {
    window: usize,
    shift: usize,
    heads: usize,
    qkv: Linear,
    proj: Linear,
    form: AttentionForm,
}

#[derive(Debug)]
enum AttentionForm {
    Plain {
        /// `[1, heads, 1, 1]`, float32
        scale: Tensor,
        /// `[1, heads, T, T]`, float32
        position_bias: Tensor,
        /// The mask of the last map, which usually has the size of the next one.
        mask: Mutex<Option<AttentionMask>>,
    },
    /// On a GPU, where it gives what `Plain` gives.
    Fused(FusedAttention),
    Kernel(kernels::WindowAttentionKernel),
}

#[derive(Clone, Debug)]
struct AttentionMask {
    layout: MaskLayout,
    /// `[1, windows, 1, T, T]`, float32
    values: Tensor,
}

/// What a mask depends on: height and width of the padded map, and the shift along each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MaskLayout {
    height: usize,
    width: usize,
    shift_rows: usize,
    shift_cols: usize,
}

impl WindowAttention {
    /// Prepares the weights; `shift` is 0 or half a window.
    ///
    /// # Errors
    /// If the shapes do not match or the device is out of memory.
    pub(crate) fn new(
        ops: &OpsContext,
        weights: &WindowAttentionWeights,
        window: usize,
        shift: usize,
        heads: usize,
    ) -> Result<Self> {
        let channels = weights.proj_bias.dims1()?;
        if heads == 0 || channels % heads != 0 || window < 2 {
            candle_core::bail!("{channels} channels cannot attend with {heads} heads in windows of {window}");
        }
        let no_key_bias = Tensor::cat(
            &[
                &weights.qkv_bias.narrow(0, 0, channels)?,
                &weights.qkv_bias.narrow(0, channels, channels)?.zeros_like()?,
                &weights.qkv_bias.narrow(0, 2 * channels, channels)?,
            ],
            0,
        )?;
        let scale = weights.logit_scale.reshape((1, heads, 1, 1))?.minimum(f64::from(MAX_SCALE.ln()))?.exp()?;
        let offset_bias = offset_bias(weights, window, heads)?;
        let position_bias = position_bias(&offset_bias, window, heads)?;
        let form = match ops.kernels() {
            Some(precision) => AttentionForm::Kernel(kernels::WindowAttentionKernel {
                window,
                head_channels: channels / heads,
                scale: kernel::values(&scale)?,
                position_bias: kernel::values(&position_bias)?,
                padding: kernel::values(&no_key_bias)?,
                precision,
            }),
            None => AttentionForm::Plain {
                scale: ops.place_f32(&scale)?,
                position_bias: ops.place_f32(&position_bias)?,
                mask: Mutex::default(),
            },
        };
        let attention = Self {
            window,
            shift,
            heads,
            qkv: Linear::new(ops, &weights.qkv_weight, Some(&no_key_bias), LayerActivation::None)?,
            proj: Linear::new(ops, &weights.proj_weight, Some(&weights.proj_bias), LayerActivation::None)?,
            form,
        };
        attention.fused_if_trusted(ops, &scale, offset_bias)
    }

    /// With the fused form in place of the plain one, if this device has it and it gives the same.
    fn fused_if_trusted(mut self, ops: &OpsContext, scale: &Tensor, offset_bias: Vec<f32>) -> Result<Self> {
        let Some(fused) = ops.fused() else { return Ok(self) };
        let (window, inputs, side) = (self.window, self.qkv.inputs()?, 2 * self.window - 1);
        let offset_bias = Tensor::from_vec(offset_bias, (self.heads, side, side), &candle_core::Device::Cpu)?;
        let Some(layer) = FusedAttention::new(ops, window, inputs / self.heads, scale, &offset_bias)? else {
            return Ok(self);
        };
        // With padding on both sides, and four windows to shift between.
        let sample = fused::sample(&[1, window + 1, window + 2, inputs], ops.device(), ops.dtype())?;
        let subject = Subject { operator: "window attention", sizes: vec![window, self.shift, self.heads, inputs] };
        if fused.trusts(subject, || self.gather(&sample, None), || self.gather_fused(&sample, &layer))? {
            self.form = AttentionForm::Fused(layer);
        }
        Ok(self)
    }

    /// Bytes of the prepared weights, without the plain form's mask, whose size depends on the map.
    pub(crate) fn bytes(&self) -> usize {
        let own = match &self.form {
            AttentionForm::Plain { scale, position_bias, .. } => OpsContext::bytes([scale, position_bias]),
            AttentionForm::Fused(layer) => layer.bytes(),
            AttentionForm::Kernel(kernels::WindowAttentionKernel { scale, position_bias, padding, .. }) => {
                [scale, position_bias, padding].into_iter().map(|values| size_of_val(&values[..])).sum()
            }
        };
        own + self.qkv.bytes() + self.proj.bytes()
    }

    #[cfg(test)]
    pub(super) fn is_fused(&self) -> bool {
        matches!(self.form, AttentionForm::Fused(_))
    }

    /// The layer that computes queries, keys and values, if it can be run apart from [`WindowAttention::gather`].
    pub(crate) fn reader(&self) -> Option<&Linear> {
        matches!(self.form, AttentionForm::Kernel(_)).then_some(&self.qkv)
    }

    /// The linear layer that follows [`WindowAttention::gather`].
    pub(crate) fn projection(&self) -> &Linear {
        &self.proj
    }

    /// Attention before the projection: `[N, H, W, C] -> [N, H, W, C]`. `read` is the output of [`WindowAttention::reader`]
    /// for `x`, if it has been computed already.
    ///
    /// # Errors
    /// If either has the wrong number of channels.
    pub(crate) fn gather(&self, x: &Tensor, read: Option<Tensor>) -> Result<Tensor> {
        match &self.form {
            AttentionForm::Kernel(layer) => {
                let (count, height, width, channels) = x.dims4()?;
                let shift = self.shifts(height, width);
                let maps = Maps { count, height, width };
                let qkv = read.map_or_else(|| self.qkv.forward(x), Ok)?;
                if qkv.dims() != [count, height, width, 3 * channels] {
                    candle_core::bail!("{:?} are not the queries, keys and values of {:?}", qkv.dims(), x.dims());
                }
                kernel::map("window_attention", &qkv, x.shape(), |qkv| layer.forward(qkv, maps, shift))
            }
            AttentionForm::Fused(layer) => self.gather_fused(x, layer),
            AttentionForm::Plain { scale, position_bias, mask } => self.gather_plain(x, scale, position_bias, mask),
        }
    }

    /// The shift along the rows and columns of a map.
    fn shifts(&self, height: usize, width: usize) -> [usize; 2] {
        [height, width].map(|side| self.shift_of(side.next_multiple_of(self.window)))
    }

    /// The shift along a side of a padded map.
    fn shift_of(&self, side: usize) -> usize {
        // As in torchvision: a window that covers the whole side has no neighbour to exchange tokens with.
        if self.window >= side { 0 } else { self.shift }
    }

    fn gather_fused(&self, x: &Tensor, layer: &FusedAttention) -> Result<Tensor> {
        let (_, height, width, _) = x.dims4()?;
        match self.qkv.forward_leaving_bias(x)? {
            (qkv, Some(bias)) => layer.forward(&qkv, bias, self.shifts(height, width)),
            (_, None) => candle_core::bail!("the bias of queries and values is needed for the padding"),
        }
    }

    fn gather_plain(
        &self,
        x: &Tensor,
        scale: &Tensor,
        position_bias: &Tensor,
        mask: &Mutex<Option<AttentionMask>>,
    ) -> Result<Tensor> {
        let (n, height, width, channels) = x.dims4()?;
        let (window, tokens) = (self.window, self.window * self.window);
        let x = pad_to_multiple(x, window)?;
        let (_, padded_height, padded_width, _) = x.dims4()?;
        let layout = MaskLayout {
            height: padded_height,
            width: padded_width,
            shift_rows: self.shift_of(padded_height),
            shift_cols: self.shift_of(padded_width),
        };
        let (shift_rows, shift_cols) = (layout.shift_rows as i32, layout.shift_cols as i32);
        let x = roll(&x, -shift_rows, -shift_cols)?;

        let (rows, cols) = (padded_height / window, padded_width / window);
        let windows = rows * cols;
        // [N, H, W, C] -> [N, rows, cols, window, window, C] -> [N·windows, T, C]
        let x = x.reshape((n, rows, window, cols, window, channels))?.permute((0, 1, 3, 2, 4, 5))?;
        let x = x.reshape((n * windows, tokens, channels))?;

        let head_channels = channels / self.heads;
        // [B, T, 3C] -> queries and keys [2, B, heads, T, C/heads], and values [B, heads, T, C/heads]
        let qkv = self.qkv.forward(&x)?.reshape((n * windows, tokens, 3, self.heads, head_channels))?;
        let queries_keys = unit(&qkv.narrow(2, 0, 2)?.permute((2, 0, 3, 1, 4))?.contiguous()?)?;
        let values = qkv.narrow(2, 2, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous()?;
        let query = queries_keys.get(0)?.broadcast_mul(scale)?;
        let key = queries_keys.get(1)?;
        let mut logits = query.matmul(&key.transpose(2, 3)?)?.broadcast_add(position_bias)?;
        if layout.shift_rows + layout.shift_cols > 0 {
            let mask = layout.mask(self.window, mask, &x)?;
            let by_image = logits.reshape((n, windows, self.heads, tokens, tokens))?;
            logits = by_image.broadcast_add(&mask)?.reshape((n * windows, self.heads, tokens, tokens))?;
        }
        let gathered = candle_nn::ops::softmax_last_dim(&logits)?.to_dtype(x.dtype())?.matmul(&values)?;
        // [B, heads, T, C/heads] -> [B, T, C]
        let x = gathered.transpose(1, 2)?.reshape((n * windows, tokens, channels))?;

        let x = x.reshape((n, rows, cols, window, window, channels))?.permute((0, 1, 3, 2, 4, 5))?;
        let x = roll(&x.reshape((n, padded_height, padded_width, channels))?, shift_rows, shift_cols)?;
        x.narrow(1, 0, height)?.narrow(2, 0, width)?.contiguous()
    }
}

impl MaskLayout {
    /// The mask `[1, windows, 1, T, T]` on the device of `like`; that of `last` if the layout is the same.
    fn mask(self, window: usize, last: &Mutex<Option<AttentionMask>>, like: &Tensor) -> Result<Tensor> {
        let mut last = last.lock().ignore_poison();
        if let Some(mask) = last.as_ref()
            && mask.layout == self
        {
            return Ok(mask.values.clone());
        }
        let windows = self.height / window * (self.width / window);
        let tokens = window * window;
        let values = Tensor::from_vec(self.values(window), (1, windows, 1, tokens, tokens), like.device())?;
        *last = Some(AttentionMask { layout: self, values: values.clone() });
        Ok(values)
    }

    /// `[windows, T, T]`: 0 where two tokens come from the same part of the map, [`MASKED`] elsewhere.
    fn values(self, window: usize) -> Vec<f32> {
        // After the roll, the last window of a side holds `window - shift` tokens from the end and `shift` from the start.
        let part = |i: usize, side: usize, shift: usize| {
            if shift == 0 || i < side - window {
                0
            } else if i < side - shift {
                1
            } else {
                2
            }
        };
        let tokens = window * window;
        let mut values = Vec::with_capacity(self.height * self.width * tokens);
        for top in (0..self.height).step_by(window) {
            for left in (0..self.width).step_by(window) {
                let region = |token: usize| {
                    let (row, col) = (top + token / window, left + token % window);
                    (part(row, self.height, self.shift_rows), part(col, self.width, self.shift_cols))
                };
                let regions: Vec<_> = (0..tokens).map(region).collect();
                for from in &regions {
                    values.extend(regions.iter().map(|to| if from == to { 0.0 } else { MASKED }));
                }
            }
        }
        values
    }
}

fn roll(x: &Tensor, rows: i32, cols: i32) -> Result<Tensor> {
    let x = if rows == 0 { x.clone() } else { x.roll(rows, 1)? };
    if cols == 0 { Ok(x) } else { x.roll(cols, 2) }
}

/// Scales the vectors of the last dimension to length 1, in float32.
fn unit(x: &Tensor) -> Result<Tensor> {
    let x = x.to_dtype(DType::F32)?;
    let norm = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(MIN_NORM)?;
    x.broadcast_div(&norm)
}

/// The continuous position bias `16 sigmoid(mlp(offset))` of every offset of two tokens, `[heads, side, side]` with
/// `side = 2 window - 1`: by the rows and columns of the query after the key.
///
/// It depends on the weights alone, so it is computed once, in float64.
fn offset_bias(weights: &WindowAttentionWeights, window: usize, heads: usize) -> Result<Vec<f32>> {
    let hidden_weight = weights.position_hidden_weight.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let hidden_bias = weights.position_hidden_bias.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let out_weight = weights.position_out_weight.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    // Offsets -(window-1) … window-1 on a logarithmic scale where 8 stands for a whole window (Swin v2, equation 4).
    let side = 2 * window - 1;
    let coordinate = |i: usize| {
        let offset = 8.0 * (i as f64 - (window - 1) as f64) / (window - 1) as f64;
        offset.signum() * (offset.abs() + 1.0).log2() / 3.0
    };
    let mut table = vec![0f32; heads * side * side];
    for row in 0..side {
        for col in 0..side {
            let (y, x) = (coordinate(row), coordinate(col));
            let hidden: Vec<f64> =
                hidden_weight.iter().zip(&hidden_bias).map(|(w, b)| (w[0] * y + w[1] * x + b).max(0.0)).collect();
            for (head, weights) in out_weight.iter().enumerate() {
                let raw: f64 = weights.iter().zip(&hidden).map(|(w, h)| w * h).sum();
                table[(head * side + row) * side + col] = (16.0 / (1.0 + (-raw).exp())) as f32;
            }
        }
    }
    Ok(table)
}

/// [`offset_bias`] of every pair of tokens, `[1, heads, T, T]`.
fn position_bias(offset_bias: &[f32], window: usize, heads: usize) -> Result<Tensor> {
    let (side, tokens) = (2 * window - 1, window * window);
    let mut bias = Vec::with_capacity(heads * tokens * tokens);
    for head in 0..heads {
        for from in 0..tokens {
            for to in 0..tokens {
                let row = from / window + window - 1 - to / window;
                let col = from % window + window - 1 - to % window;
                bias.push(offset_bias[(head * side + row) * side + col]);
            }
        }
    }
    Tensor::from_vec(bias, (1, heads, tokens, tokens), &candle_core::Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_from_both_ends_of_the_map_do_not_see_each_other() {
        let layout = MaskLayout { height: 4, width: 2, shift_rows: 1, shift_cols: 0 };
        let values = layout.values(2);
        // first window: all from the same part; second: its rows come from the end and from the start
        assert!(values[..16].iter().all(|value| *value == 0.0));
        let second: Vec<bool> = values[16..].iter().map(|value| *value == MASKED).collect();
        let (same, other) = ([false, false, true, true], [true, true, false, false]);
        assert_eq!(second, [same, same, other, other].concat());
    }
}
