//! The mask branch of Mask R-CNN (He et al. 2017), as torchvision's `MaskRCNNHeads` and `MaskRCNNPredictor`.

use candle_core::{DType, Device, Result, Tensor};

use crate::nn::LoadError;
use crate::nn::loader::Loader;
use crate::ops::{Conv2d, ConvShape, ConvTranspose2d, LayerActivation, OpsContext, TransposeShape, sigmoid};
use crate::prediction::ObjectMask;

/// Bins per side that boxes are pooled to.
pub(super) const POOLED_SIDE: usize = 14;
const CHANNELS: usize = 256;
const CONVOLUTIONS: usize = 4;
/// Boxes per pass: 32 take 26 MB per layer.
const BOXES: usize = 32;

#[derive(Debug)]
pub(super) struct MaskHead {
    convolutions: Vec<Conv2d>,
    double: ConvTranspose2d,
    logits: Conv2d,
}

impl MaskHead {
    /// Loads `mask_head.N.0` and `mask_predictor`.
    pub(super) fn load(loader: &Loader<'_>, channels: usize, categories: usize) -> std::result::Result<Self, LoadError> {
        let convolution = |index: usize| {
            let inputs = if index == 0 { channels } else { CHANNELS };
            loader.pp("mask_head").pp(index).pp(0).conv2d(inputs, CHANNELS, ConvShape::SAME_3X3, LayerActivation::Relu)
        };
        let predictor = loader.pp("mask_predictor");
        Ok(Self {
            convolutions: (0..CONVOLUTIONS).map(convolution).collect::<std::result::Result<_, _>>()?,
            double: predictor.pp("conv5_mask").conv_transpose2d(
                CHANNELS,
                CHANNELS,
                TransposeShape::Disjoint2,
                LayerActivation::Relu,
            )?,
            logits: predictor.pp("mask_fcn_logits").conv2d(
                CHANNELS,
                categories,
                ConvShape::POINTWISE,
                LayerActivation::None,
            )?,
        })
    }

    /// Pooled boxes `[R, 14, 14, C]` -> the 28x28 mask of each box's category.
    pub(super) fn forward(&self, ops: &OpsContext, pooled: &Tensor, categories: &[usize]) -> Result<Vec<ObjectMask>> {
        let mut masks = Vec::with_capacity(categories.len());
        for (chunk, categories) in categories.chunks(BOXES).enumerate() {
            let mut x = pooled.narrow(0, chunk * BOXES, categories.len())?;
            for convolution in &self.convolutions {
                x = convolution.forward(&x)?;
            }
            let logits = self.logits.forward(&self.double.forward(&x)?)?;
            // One transfer from the device for all masks of the chunk.
            let logits = logits.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
            for (index, category) in categories.iter().enumerate() {
                // [28, 28, K] -> [28, 28]
                let logits = logits.get(index)?.narrow(2, *category, 1)?.squeeze(2)?;
                let side = logits.dim(0)?;
                masks.push(ObjectMask { side, values: sigmoid(ops, &logits)?.flatten_all()?.to_vec1()? });
            }
        }
        Ok(masks)
    }
}
