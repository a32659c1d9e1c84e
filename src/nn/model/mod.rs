//! A whole network, built from a [`ModelSpec`] and named tensors.

mod trunk;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use self::trunk::Trunk;
use crate::nn::detect::ImageSize;
use crate::nn::error::{LoadError, NnError};
use crate::nn::features::{Features, Part};
use crate::nn::heads::{Crop, DETECTIONS, HeadOnDemand, HeadOutput, PreparedHead};
use crate::nn::layout::{head_prefix, readable_maps};
use crate::nn::loader::{Loader, Tally};
use crate::nn::strips;
use crate::ops::OpsContext;
use crate::weights::{Fit, Weights, parameters};
use crate::zoo::{Head, Layer, ModelSpec};

/// More than the distance from which a pixel can affect the decoder's map and a convolution after it.
const PART_MARGIN_PX: usize = 32;

/// Backbone, pyramid, decoder and heads of one model on one device. Models may share all but their heads.
///
/// Backbone, pyramid and decoder are prepared at load, each head at its first use.
#[derive(Debug)]
pub struct Network {
    id: String,
    trunk: Arc<Trunk>,
    heads: Vec<HeadOnDemand>,
    weights: Weights,
    tally: Tally,
    most_bytes: usize,
    unused: Vec<String>,
}

impl Network {
    /// Prepares `weights` as `spec` says, with the head variant whose shapes match them (the largest variant for synthetic
    /// weights).
    ///
    /// Tensors that the network does not use are not an error: see [`Network::unused`].
    ///
    /// # Errors
    /// If tensors are missing or have the wrong shape, those of heads included (the error names each); if the specification
    /// cannot be built, a tensor cannot be read, or the device is out of memory.
    pub fn load(weights: Weights, spec: &ModelSpec, device: &Device, dtype: DType) -> Result<Self, LoadError> {
        Self::load_in(weights, spec, OpsContext::new(device, dtype))
    }

    /// As [`Network::load`], on a GPU without fused kernels: in plain operations, which they are compared with.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn load_unfused(weights: Weights, spec: &ModelSpec, device: &Device, dtype: DType) -> Result<Self, LoadError> {
        Self::load_in(weights, spec, OpsContext::new(device, dtype).map(OpsContext::without_fusion))
    }

    fn load_in(weights: Weights, spec: &ModelSpec, ops: candle_core::Result<OpsContext>) -> Result<Self, LoadError> {
        let ops = ops.map_err(|source| LoadError::Device { model: spec.id.clone(), source })?;
        let variant = weights.fit(spec).variant;
        Self::load_with(weights, spec, variant, ops)
    }

    /// As [`Network::load`], with the head variant and the form of the operators chosen by the caller.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn load_with(weights: Weights, spec: &ModelSpec, variant: usize, ops: OpsContext) -> Result<Self, LoadError> {
        let fit = weights.require(spec, variant)?;
        let tally = Tally::default();
        let trunk = Trunk::load(&Loader::new(&weights, &ops, &tally, &spec.id), spec, ops.clone())?;
        Self::assemble(Arc::new(trunk), weights, spec, fit, tally)
    }

    /// The heads of `spec`, from `weights` that hold nothing else, on the backbone, pyramid and decoder of this network, which both
    /// share.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn with_heads(&self, weights: Weights, spec: &ModelSpec) -> Result<Self, LoadError> {
        let fit = weights.require(spec, 0)?;
        Self::assemble(self.trunk.clone(), weights, spec, fit, Tally::default())
    }

    /// Adds the heads; the tally has counted what `weights` has given to the trunk.
    fn assemble(trunk: Arc<Trunk>, weights: Weights, spec: &ModelSpec, fit: Fit, tally: Tally) -> Result<Self, LoadError> {
        let root = Loader::new(&weights, &trunk.ops, &tally, &spec.id);
        let heads = spec.head_variants.get(fit.variant).map_or(&[][..], Vec::as_slice);
        let heads = heads
            .iter()
            .map(|head| HeadOnDemand::new(&root, head_prefix(spec, head), head, &readable_maps(spec, head)))
            .collect::<Result<Vec<_>, LoadError>>()?;

        let of_heads = parameters(spec, fit.variant);
        let of_heads = of_heads.iter().filter(|parameter| heads.iter().any(|head| head.owns(&parameter.name)));
        let most_bytes = of_heads.map(|parameter| trunk.ops.most_bytes(&parameter.shape)).sum::<usize>();
        Ok(Self {
            id: spec.id.clone(),
            trunk,
            heads,
            most_bytes: tally.prepared_bytes() + most_bytes,
            unused: fit.unused,
            weights,
            tally,
        })
    }

    /// Estimate of [`Network::most_weight_bytes`] before anything is read: what every tensor takes in its prepared form, with the
    /// variant of most heads.
    ///
    /// # Errors
    /// If networks do not run in `dtype`.
    pub fn most_bytes(spec: &ModelSpec, device: &Device, dtype: DType) -> Result<usize, LoadError> {
        let ops = OpsContext::new(device, dtype).map_err(|source| LoadError::Device { model: spec.id.clone(), source })?;
        let needed = parameters(spec, spec.largest_variant());
        Ok(needed.iter().map(|parameter| ops.most_bytes(&parameter.shape)).sum())
    }

    /// The heads of the chosen variant, in the order of their indices in [`Network::predict`].
    pub fn heads(&self) -> impl ExactSizeIterator<Item = &Head> {
        self.heads.iter().map(HeadOnDemand::head)
    }

    /// Prepares a head now, so that its first use is as fast as later ones.
    ///
    /// # Errors
    /// [`NnError::Absent`] if there is no such head, [`NnError::Prepare`] if it cannot be prepared.
    pub fn prepare(&self, head: usize) -> Result<(), NnError> {
        self.head(head).map(|_| ())
    }

    fn head(&self, index: usize) -> Result<(&HeadOnDemand, Arc<PreparedHead>), NnError> {
        let absent = || NnError::Absent { what: format!("head {index} of {}", self.heads.len()) };
        let head = self.heads.get(index).ok_or_else(absent)?;
        let root = Loader::new(&self.weights, &self.trunk.ops, &self.tally, &self.id);
        Ok((head, head.prepare(&root)?))
    }

    /// Names and shapes of the tensors read so far, in alphabetical order. A head's tensors are read when it is prepared.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        self.tally.parameters()
    }

    /// Names of tensors in the weights that the network does not use.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Bytes of the weights prepared so far; the tensors that they were made from are not kept.
    ///
    /// On the CPU that is more than the checkpoint holds: the Winograd form of a 3x3 kernel stores 36 values for 9, that of
    /// the decoder's 4x4 kernel 144 for 16.
    pub fn weight_bytes(&self) -> usize {
        self.tally.prepared_bytes()
    }

    /// Upper bound on [`Network::weight_bytes`] with all heads prepared.
    pub fn most_weight_bytes(&self) -> usize {
        self.most_bytes
    }

    /// The type that the network was loaded with.
    pub fn dtype(&self) -> DType {
        self.trunk.ops.dtype()
    }

    /// The device that the network runs on.
    pub fn device(&self) -> &Device {
        self.trunk.ops.device()
    }

    /// Runs the backbone. `images` is `[N·T, H, W, bands]`, scaled to 0-1, with the `captures` (T) of an item in succession.
    ///
    /// # Errors
    /// [`NnError::Input`] if the bands, the size or the number of captures do not match the network.
    pub fn features(&self, images: &Tensor, captures: usize) -> Result<Features, NnError> {
        self.trunk.features(images, captures)
    }

    /// The output of one head for every item of `features`.
    ///
    /// # Errors
    /// [`NnError::Absent`] if there is no such head.
    pub fn predict(&self, features: &Features, head: usize) -> Result<Vec<HeadOutput>, NnError> {
        self.predict_at_most(features, head, DETECTIONS)
    }

    /// As [`Network::predict`], with at most `detections` objects per item instead of [`DETECTIONS`].
    ///
    /// # Errors
    /// As [`Network::predict`].
    pub fn predict_at_most(&self, features: &Features, head: usize, detections: usize) -> Result<Vec<HeadOutput>, NnError> {
        Ok(self.outputs(features, &[head], detections)?.pop().unwrap_or_default())
    }

    /// The outputs of several heads, in the order of `heads`. They share the decoder's work, except for maps too large to
    /// keep.
    ///
    /// # Errors
    /// [`NnError::Absent`] if there is no such head.
    pub fn predict_many(&self, features: &Features, heads: &[usize]) -> Result<Vec<Vec<HeadOutput>>, NnError> {
        self.outputs(features, heads, DETECTIONS)
    }

    fn outputs(&self, features: &Features, heads: &[usize], detections: usize) -> Result<Vec<Vec<HeadOutput>>, NnError> {
        let (mut halfway, mut upsampled) = (None, None);
        let image = ImageSize { height: features.height, width: features.width };
        let predict = |head: &usize| {
            let (head, network) = self.head(*head)?;
            let full_resolution_alone = head.layers().eq([Layer::Upsample]);
            if let (true, Some(head), Some(upsample)) = (full_resolution_alone, network.as_dense(), &self.trunk.upsample) {
                let map = match halfway.take() {
                    Some(map) => map,
                    None => upsample.all_but_last(self.trunk.finest(features)?)?,
                };
                return Ok(strips::forward(&self.trunk.ops, upsample, head, halfway.insert(map))?);
            }
            let mut maps = Vec::with_capacity(head.layers().len());
            for layer in head.layers() {
                maps.push(match (layer, &upsampled) {
                    (Layer::Upsample, Some(map)) => Tensor::clone(map),
                    (layer, _) => {
                        let map = self.trunk.map(features, layer)?;
                        if layer == Layer::Upsample {
                            upsampled = Some(map.clone());
                        }
                        map
                    }
                });
            }
            Ok(network.forward(&self.trunk.ops, &maps, image, detections)?)
        };
        heads.iter().map(predict).collect()
    }

    /// The scores of a classification head for a rectangle of the images, in pixels. Cells of the map that the rectangle
    /// covers in part count fully.
    ///
    /// Only the final pooling is limited to the rectangle: the pyramid sees the whole images, the decoder and the head's own
    /// convolution as many pixels around the rectangle as can affect it.
    ///
    /// # Errors
    /// [`NnError::Absent`] if there is no such head, if it gives no scores, or if the rectangle reaches beyond the images.
    pub fn classify_part(&self, features: &Features, head: usize, part: Part) -> Result<Vec<HeadOutput>, NnError> {
        self.classify_with_margin(features, head, part, PART_MARGIN_PX)
    }

    fn classify_with_margin(
        &self,
        features: &Features,
        index: usize,
        part: Part,
        margin: usize,
    ) -> Result<Vec<HeadOutput>, NnError> {
        let (head, network) = self.head(index)?;
        let image = ImageSize { height: features.height, width: features.width };
        let coarsest_stride = features.stride << 3;
        let seen = part.with_margin(margin, coarsest_stride, image);
        let beyond =
            part.col.saturating_add(part.width) > image.width || part.row.saturating_add(part.height) > image.height;
        if !network.is_pooled() || beyond {
            let what = format!("classification of {part:?} of {} x {} px by head {index}", image.height, image.width);
            return Err(NnError::Absent { what });
        }
        if let Some(layer) = head.layers().find(|layer| !matches!(layer, Layer::Backbone(_))) {
            self.trunk.pyramid(features, layer)?;
        }
        let features = features.crop(seen)?;
        let maps = head.layers().map(|layer| self.trunk.map(&features, layer)).collect::<Result<Vec<_>, _>>()?;
        let strides = head.layers().map(|layer| features.stride_px(layer));
        let crop = strides.map(|stride| Crop { part: part.within(seen), stride }).next();
        Ok(network.classify(&self.trunk.ops, &maps, crop)?)
    }

    /// How many pixels of a side one value of a dense head's answer covers: 1 if there is a decoder.
    ///
    /// A Swin leaves out the pixels that do not fill a patch, so the answer may end up to a patch before the image does; a
    /// ResNet's may reach up to as far beyond it.
    pub fn dense_stride_px(&self) -> usize {
        if self.trunk.upsample.is_some() { 1 } else { self.trunk.architecture.stride_px() }
    }

    /// A feature map as `[N, h, w, C]`, float32.
    ///
    /// # Errors
    /// [`NnError::Absent`] if the model has no such map.
    pub fn embedding(&self, features: &Features, layer: Layer) -> Result<Tensor, NnError> {
        Ok(self.trunk.map(features, layer)?.to_dtype(DType::F32)?)
    }
}

#[cfg(test)]
mod tests;
