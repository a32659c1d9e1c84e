//! Window attention as one kernel, `window_attention.cuh`.

use candle_core::{DType, Result, Tensor};

use super::launch::{Launch, int};
use crate::ops::OpsContext;

/// As in the kernel: tokens of a window and channels of a head are filled up to these.
const MOST_TOKENS: usize = 64;
const MOST_CHANNELS: usize = 32;
const THREADS: u32 = 128;
/// Numbers of 4 bytes that the kernel keeps of every token.
const NUMBERS_PER_TOKEN: usize = 5;
/// A head's channels are read in whole chunks of 16 bytes, of 8 values in 16-bit types.
const CHANNELS_AT_A_TIME: usize = 8;

/// Attention of the windows of a map from queries, keys and values to what it gathers.
#[derive(Debug)]
pub(in crate::ops) struct FusedAttention {
    window: usize,
    heads: usize,
    head_channels: usize,
    /// `[heads]`, float32
    scale: Tensor,
    /// `[heads, side, side]` with `side = 2 window - 1`, float32
    position_bias: Tensor,
}

impl FusedAttention {
    /// Prepares the constants: `scale` has a value for each head, `position_bias` is `[heads, side, side]`, the bias by the rows
    /// and columns of the query after the key. `None` if the kernel is not made for such windows or heads.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub(in crate::ops) fn new(
        ops: &OpsContext,
        window: usize,
        head_channels: usize,
        scale: &Tensor,
        position_bias: &Tensor,
    ) -> Result<Option<Self>> {
        let heads = scale.elem_count();
        let fits = window * window <= MOST_TOKENS
            && head_channels <= MOST_CHANNELS
            && head_channels.is_multiple_of(CHANNELS_AT_A_TIME)
            && position_bias.elem_count() == heads * (2 * window - 1).pow(2);
        if !fits {
            return Ok(None);
        }
        let (scale, position_bias) = (ops.place_f32(&scale.flatten_all()?)?, ops.place_f32(position_bias)?);
        Ok(Some(Self { window, heads, head_channels, scale, position_bias }))
    }

    /// Bytes of the constants.
    pub(in crate::ops) fn bytes(&self) -> usize {
        OpsContext::bytes([&self.scale, &self.position_bias])
    }

    /// `[N, H, W, 3C] -> [N, H, W, C]`; `bias [3C]` has not been added to `qkv`. `shift` is that of rows and columns.
    ///
    /// # Errors
    /// If the shapes or types do not match, or the device refuses the kernel.
    pub(in crate::ops) fn forward(&self, qkv: &Tensor, bias: &Tensor, shift: [usize; 2]) -> Result<Tensor> {
        let (count, height, width, inputs) = qkv.dims4()?;
        let (channels, dtype) = (self.heads * self.head_channels, qkv.dtype());
        if inputs != 3 * channels
            || bias.dims() != [inputs]
            || bias.dtype() != dtype
            || shift.iter().any(|shift| *shift >= self.window)
        {
            candle_core::bail!(
                "{:?} with a bias of {:?} are not the values of {} heads",
                qkv.dims(),
                bias.dims(),
                self.heads
            );
        }
        let [rows, cols] = [height, width].map(|side| side.div_ceil(self.window));
        // Pixels are counted in whole numbers of 32 bits.
        int(count * height * width)?;
        let launch = Launch {
            kernel: "window_attention",
            dtype,
            blocks: int(count * rows * cols * self.heads)?,
            threads: THREADS,
            shared_bytes: int(self.shared_bytes(dtype))?,
            scalars: [height, width, self.window, shift[0], shift[1], self.heads, self.head_channels]
                .into_iter()
                .map(int)
                .collect::<Result<_>>()?,
        };
        let others = [Some(bias), Some(&self.scale), Some(&self.position_bias)];
        launch.run(qkv, &others, (count, height, width, channels))
    }

    /// Queries, keys and values, then the numbers of every token, then the head's position biases.
    fn shared_bytes(&self, dtype: DType) -> usize {
        // Rows are apart by some values more than they have, so that they begin in different banks: `Tiles::STRIDE`.
        let stride = MOST_CHANNELS + if dtype == DType::F32 { 4 } else { 8 };
        let strips = 3 * MOST_TOKENS * stride * dtype.size_in_bytes();
        strips + size_of::<f32>() * (MOST_TOKENS * NUMBERS_PER_TOKEN + (2 * self.window - 1).pow(2))
    }
}
