//! Faster R-CNN (Ren et al. 2015) over a list of feature maps, as torchvision's `RegionProposalNetwork` and `RoIHeads`.
//!
//! Convolutions and products run on the network's device. The arithmetic on boxes runs on the CPU in float32, whatever the
//! type of the network. The public code pads every image to a multiple of 32 before it derives strides, clips boxes and
//! infers the maps' scales, so boxes may reach into that padding.

use candle_core::{DType, Result, Tensor};
use rayon::prelude::*;

use super::HeadOutput;
use super::mask_rcnn::{self, MaskHead};
use crate::nn::LoadError;
use crate::nn::detect::{ANCHORS_PER_CELL, Anchors, BoxCoder, ImageSize, best, clip, is_at_least, pyramid_level, suppress};
use crate::nn::loader::Loader;
use crate::ops::{Conv2d, ConvShape, LayerActivation, Linear, OpsContext, roi_align, softmax};
use crate::prediction::Object;

/// The multiple that the public code pads images to.
const IMAGE_MULTIPLE: usize = 32;
/// Anchors per level that become boxes, by best score.
const PROPOSALS_PER_LEVEL: usize = 2000;
/// Most boxes of an image that reach the second stage.
const PROPOSALS: usize = 2000;
const PROPOSAL_MAX_IOU: f32 = 0.7;
const PROPOSAL_MIN_SIDE_PX: f32 = 1e-3;
const DETECTION_MIN_SCORE: f32 = 0.05;
const DETECTION_MIN_SIDE_PX: f32 = 1e-2;
const DETECTION_MAX_IOU: f32 = 0.5;
/// Most objects of an image by default, as torchvision's `box_detections_per_img`.
pub const DETECTIONS: usize = 100;
/// Bins per side that proposals are pooled to.
const POOLED_SIDE: usize = 7;
const HIDDEN: usize = 1024;

#[derive(Debug)]
pub(in crate::nn) struct FasterRcnn {
    proposals: ProposalNetwork,
    boxes: BoxHead,
    masks: Option<MaskHead>,
}

/// A box with its score and category.
#[derive(Clone, Copy, Debug)]
struct Detection {
    bbox_px: [f32; 4],
    score: f32,
    category: usize,
}

/// Checks that maps with these channels can carry a detection head; the error says what is needed.
pub(super) fn check(channels: &[usize], anchor_sizes: &[f32], categories: usize) -> std::result::Result<(), String> {
    if !channels.first().is_some_and(|first| channels.iter().all(|other| other == first)) {
        return Err(format!(
            "a detection head reads maps of one width, not of {channels:?} channels (a feature pyramid gives them)"
        ));
    }
    if anchor_sizes.len() != channels.len() || categories < 2 {
        return Err(format!(
            "a detection head with {} maps, {} anchor sizes and {categories} categories; needed are one size a map, and the \
             background with at least one more category",
            channels.len(),
            anchor_sizes.len()
        ));
    }
    Ok(())
}

impl FasterRcnn {
    /// Loads `rpn.head` and `roi_heads`, for maps with this number of channels.
    pub(super) fn load(
        loader: &Loader<'_>,
        channels: usize,
        anchor_sizes: &[f32],
        categories: usize,
        masks: bool,
    ) -> std::result::Result<Self, LoadError> {
        let roi_heads = loader.pp("roi_heads");
        Ok(Self {
            proposals: ProposalNetwork::load(&loader.pp("rpn.head"), channels, anchor_sizes)?,
            boxes: BoxHead::load(&roi_heads, channels, categories)?,
            masks: if masks { Some(MaskHead::load(&roi_heads, channels, categories)?) } else { None },
        })
    }

    /// Maps `[N, h, w, C]` from fine to coarse -> the objects of every item, at most `detections` of each.
    pub(super) fn forward(
        &self,
        ops: &OpsContext,
        maps: &[Tensor],
        image: ImageSize,
        detections: usize,
    ) -> Result<Vec<HeadOutput>> {
        let image = ImageSize {
            height: image.height.next_multiple_of(IMAGE_MULTIPLE),
            width: image.width.next_multiple_of(IMAGE_MULTIPLE),
        };
        let levels = self.proposals.forward(maps)?;
        let items = maps.first().map_or(Ok(0), |map| map.dim(0))?;
        let mut outputs = Vec::with_capacity(items);
        for item in 0..items {
            let maps = maps.iter().map(|map| map.get(item)).collect::<Result<Vec<_>>>()?;
            let proposals = self.proposals.select(&levels, item, image)?;
            let pyramid = MultiScaleRoiAlign::new(ops, &maps, image)?;
            let found = self.boxes.forward(&pyramid, &proposals, image, detections)?;
            outputs.push(HeadOutput::Objects(self.objects(&pyramid, &found)?));
        }
        Ok(outputs)
    }

    fn objects(&self, pyramid: &MultiScaleRoiAlign<'_>, detections: &[Detection]) -> Result<Vec<Object>> {
        let mut objects: Vec<Object> = detections
            .iter()
            .map(|found| Object { bbox_px: found.bbox_px, score: found.score, category_id: found.category, mask: None })
            .collect();
        if let (Some(head), false) = (&self.masks, detections.is_empty()) {
            let boxes: Vec<[f32; 4]> = detections.iter().map(|found| found.bbox_px).collect();
            let categories: Vec<usize> = detections.iter().map(|found| found.category).collect();
            let pooled = pyramid.pool(&boxes, mask_rcnn::POOLED_SIDE)?;
            for (object, mask) in objects.iter_mut().zip(head.forward(pyramid.ops, &pooled, &categories)?) {
                object.mask = Some(mask);
            }
        }
        Ok(objects)
    }
}

/// The region proposal network: which anchors hold an object, and its box relative to the anchor.
#[derive(Debug)]
struct ProposalNetwork {
    conv: Conv2d,
    /// Logits and offsets of all anchors of a cell, in one 1x1 convolution.
    predict: Conv2d,
    anchor_sizes: Vec<f32>,
}

/// The proposal network's predictions for one level.
struct LevelPredictions {
    rows: usize,
    cols: usize,
    /// `[N, h, w, (logits, offsets)]`, float32, on the CPU.
    values: Tensor,
}

impl ProposalNetwork {
    fn load(loader: &Loader<'_>, channels: usize, anchor_sizes: &[f32]) -> std::result::Result<Self, LoadError> {
        let conv = loader.pp("conv.0.0").conv2d(channels, channels, ConvShape::SAME_3X3, LayerActivation::Relu)?;
        let (logits, offsets) = (loader.pp("cls_logits"), loader.pp("bbox_pred"));
        let tensors = |loader: &Loader<'_>, outputs: usize| {
            Ok::<_, LoadError>((loader.tensor("weight", &[outputs, channels, 1, 1])?, loader.tensor("bias", &[outputs])?))
        };
        let (logits_weight, logits_bias) = tensors(&logits, ANCHORS_PER_CELL)?;
        let (offsets_weight, offsets_bias) = tensors(&offsets, 4 * ANCHORS_PER_CELL)?;
        let weight = loader.rearrange(|| Tensor::cat(&[logits_weight, offsets_weight], 0))?;
        let bias = loader.rearrange(|| Tensor::cat(&[logits_bias, offsets_bias], 0))?;
        let predict = loader.conv2d_from(&weight, Some(&bias), ConvShape::POINTWISE, LayerActivation::None)?;
        Ok(Self { conv, predict, anchor_sizes: anchor_sizes.to_vec() })
    }

    fn forward(&self, maps: &[Tensor]) -> Result<Vec<LevelPredictions>> {
        let level = |map: &Tensor| {
            let values = self.predict.forward(&self.conv.forward(map)?)?;
            let values = values.to_dtype(DType::F32)?.to_device(&candle_core::Device::Cpu)?;
            let (_, rows, cols, _) = values.dims4()?;
            Ok(LevelPredictions { rows, cols, values })
        };
        maps.iter().map(level).collect()
    }

    /// The proposals of one item, by descending score.
    fn select(&self, levels: &[LevelPredictions], item: usize, image: ImageSize) -> Result<Vec<[f32; 4]>> {
        let of_level = |(level, size): (&LevelPredictions, &f32)| {
            let anchors = Anchors::new(*size, level.rows, level.cols, image);
            let values = level.values.get(item)?.flatten_all()?.to_vec1::<f32>()?;
            Ok(best_proposals(&values, &anchors, image))
        };
        // Boxes of different levels do not suppress each other.
        let levels: Vec<(&LevelPredictions, &f32)> = levels.iter().zip(&self.anchor_sizes).collect();
        let of_levels = levels.into_par_iter().map(of_level).collect::<Result<Vec<_>>>()?;
        let (scores, boxes): (Vec<f32>, Vec<[f32; 4]>) = of_levels.into_iter().flatten().unzip();
        Ok(best(&scores, PROPOSALS).into_iter().map(|index| boxes[index]).collect())
    }
}

/// The proposals of one level with their scores, from the predictions for its cells.
fn best_proposals(values: &[f32], anchors: &Anchors, image: ImageSize) -> Vec<(f32, [f32; 4])> {
    let cells: Vec<&[f32]> = values.chunks_exact(5 * ANCHORS_PER_CELL).collect();
    let logits: Vec<f32> = cells.iter().flat_map(|cell| &cell[..ANCHORS_PER_CELL]).copied().collect();
    let (mut scores, mut boxes) = (Vec::new(), Vec::new());
    for index in best(&logits, PROPOSALS_PER_LEVEL) {
        let offsets = ANCHORS_PER_CELL + 4 * (index % ANCHORS_PER_CELL);
        let offsets = &cells[index / ANCHORS_PER_CELL][offsets..offsets + 4];
        let offsets = [offsets[0], offsets[1], offsets[2], offsets[3]];
        let found = clip(BoxCoder::PROPOSALS.decode(offsets, anchors.get(index)), image);
        if is_at_least(found, PROPOSAL_MIN_SIDE_PX) {
            boxes.push(found);
            scores.push(1.0 / (1.0 + (-logits[index]).exp()));
        }
    }
    let kept = suppress(&boxes, &scores, &vec![0; boxes.len()], PROPOSAL_MAX_IOU, PROPOSALS);
    kept.into_iter().map(|index| (scores[index], boxes[index])).collect()
}

/// The second stage: the category of each proposal, and its refined box.
#[derive(Debug)]
struct BoxHead {
    fc6: Linear,
    fc7: Linear,
    /// Logits and offsets of all categories, in one product.
    predict: Linear,
    categories: usize,
}

impl BoxHead {
    fn load(loader: &Loader<'_>, channels: usize, categories: usize) -> std::result::Result<Self, LoadError> {
        let head = loader.pp("box_head");
        let fc6 = head.pp("fc6");
        let bins = POOLED_SIDE * POOLED_SIDE;
        let weight = fc6.tensor("weight", &[HIDDEN, channels * bins])?;
        let bias = fc6.tensor("bias", &[HIDDEN])?;
        // [hidden, (channel, bin)] -> [hidden, (bin, channel)], the order of a pooled channels-last map
        let weight = fc6
            .rearrange(|| weight.reshape((HIDDEN, channels, bins))?.transpose(1, 2)?.reshape((HIDDEN, bins * channels)))?;
        let predictor = loader.pp("box_predictor");
        let tensors = |name: &str, outputs: usize| {
            let loader = predictor.pp(name);
            Ok::<_, LoadError>((loader.tensor("weight", &[outputs, HIDDEN])?, loader.tensor("bias", &[outputs])?))
        };
        let (score_weight, score_bias) = tensors("cls_score", categories)?;
        let (offset_weight, offset_bias) = tensors("bbox_pred", 4 * categories)?;
        let predict_weight = predictor.rearrange(|| Tensor::cat(&[score_weight, offset_weight], 0))?;
        let predict_bias = predictor.rearrange(|| Tensor::cat(&[score_bias, offset_bias], 0))?;
        Ok(Self {
            fc6: fc6.linear_from(&weight, &bias, LayerActivation::Relu)?,
            fc7: head.pp("fc7").linear(HIDDEN, HIDDEN, LayerActivation::Relu)?,
            predict: predictor.linear_from(&predict_weight, &predict_bias, LayerActivation::None)?,
            categories,
        })
    }

    fn forward(
        &self,
        pyramid: &MultiScaleRoiAlign<'_>,
        proposals: &[[f32; 4]],
        image: ImageSize,
        detections: usize,
    ) -> Result<Vec<Detection>> {
        if proposals.is_empty() {
            return Ok(Vec::new());
        }
        let hidden = self.fc6.forward(&pyramid.pool(proposals, POOLED_SIDE)?.flatten_from(1)?)?;
        let predicted = self.predict.forward(&self.fc7.forward(&hidden)?)?.to_dtype(DType::F32)?;
        let scores = softmax(pyramid.ops, &predicted.narrow(1, 0, self.categories)?)?.flatten_all()?.to_vec1::<f32>()?;
        let predicted = predicted.flatten_all()?.to_vec1::<f32>()?;
        let found = proposals
            .par_iter()
            .zip(scores.par_chunks_exact(self.categories))
            .zip(predicted.par_chunks_exact(5 * self.categories))
            .flat_map_iter(|((proposal, scores), predicted)| {
                let offsets = predicted[self.categories..].chunks_exact(4).map(|of| [of[0], of[1], of[2], of[3]]);
                // Category 0 is the background.
                let likely =
                    scores.iter().zip(offsets).enumerate().skip(1).filter(|(_, (score, _))| **score > DETECTION_MIN_SCORE);
                likely.map(|(category, (score, offsets))| Detection {
                    bbox_px: clip(BoxCoder::DETECTIONS.decode(offsets, *proposal), image),
                    score: *score,
                    category,
                })
            })
            .filter(|found| is_at_least(found.bbox_px, DETECTION_MIN_SIDE_PX))
            .collect::<Vec<Detection>>();
        let boxes: Vec<[f32; 4]> = found.iter().map(|found| found.bbox_px).collect();
        let scores: Vec<f32> = found.iter().map(|found| found.score).collect();
        let categories: Vec<usize> = found.iter().map(|found| found.category).collect();
        let kept = suppress(&boxes, &scores, &categories, DETECTION_MAX_IOU, detections);
        Ok(kept.into_iter().map(|index| found[index]).collect())
    }
}

/// The maps of one item, each pooled for the boxes of its size (torchvision's `MultiScaleRoIAlign`).
struct MultiScaleRoiAlign<'a> {
    ops: &'a OpsContext,
    /// `[h, w, C]`, from fine to coarse.
    maps: &'a [Tensor],
    /// Each map's reduction, as a base-2 logarithm.
    exponents: Vec<i32>,
}

impl<'a> MultiScaleRoiAlign<'a> {
    fn new(ops: &'a OpsContext, maps: &'a [Tensor], image: ImageSize) -> Result<Self> {
        // torchvision infers the scale from the height and rounds it to a power of two.
        let exponent = |map: &Tensor| Ok((image.height as f32 / map.dim(0)? as f32).log2().round_ties_even() as i32);
        Ok(Self { ops, maps, exponents: maps.iter().map(exponent).collect::<Result<_>>()? })
    }

    /// Pools `boxes` to `[R, side, side, C]`.
    ///
    /// Levels are counted from the finest map's exponent without gaps. Where the maps skip one (the package's heads read
    /// 1/1, 1/4, 1/8, 1/16), larger boxes are pooled from a finer map than their size asks for, and those beyond the last
    /// map get zeros, as in torchvision.
    fn pool(&self, boxes: &[[f32; 4]], side: usize) -> Result<Tensor> {
        let (finest, coarsest) = match self.exponents[..] {
            [finest, .., coarsest] => (finest, coarsest.max(finest)),
            _ => (0, 0),
        };
        let single = self.maps.len() == 1;
        let level = |found: &[f32; 4]| if single { 0 } else { pyramid_level(*found, finest, coarsest) };
        let levels: Vec<usize> = boxes.iter().map(level).collect();
        let scales: Vec<f32> = self.exponents.iter().map(|exponent| (-*exponent as f32).exp2()).collect();
        roi_align(self.ops, self.maps, &scales, boxes, &levels, side)
    }
}
