//! What the heads of a model stand on: backbone, pyramid and decoder.

use candle_core::Tensor;

use crate::nn::backbone::BackboneNetwork;
use crate::nn::error::{LoadError, NnError};
use crate::nn::features::Features;
use crate::nn::fpn::Fpn;
use crate::nn::layout::pyramid;
use crate::nn::loader::Loader;
use crate::nn::upsample::Upsample;
use crate::ops::OpsContext;
use crate::zoo::{Backbone, Layer, ModelSpec};

#[derive(Debug)]
pub(super) struct Trunk {
    pub(super) ops: OpsContext,
    bands: usize,
    multi_image: bool,
    pub(super) architecture: Backbone,
    backbone: BackboneNetwork,
    fpn: Option<Fpn>,
    pub(super) upsample: Option<Upsample>,
}

impl Trunk {
    /// Prepares the tensors, whose shapes have been compared with those that `spec` needs.
    ///
    /// # Errors
    /// If the specification cannot be built, a tensor cannot be read, or the device is out of memory.
    pub(super) fn load(root: &Loader<'_>, spec: &ModelSpec, ops: OpsContext) -> Result<Self, LoadError> {
        let backbone = BackboneNetwork::load(root, spec)?;
        let (fpn, upsample) = pyramid(root, spec)?;
        let (bands, multi_image, architecture) = (spec.bands.len(), spec.multi_image, spec.backbone.clone());
        Ok(Self { ops, bands, multi_image, architecture, backbone, fpn, upsample })
    }

    /// [`Network::features`](super::Network::features).
    pub(super) fn features(&self, images: &Tensor, captures: usize) -> Result<Features, NnError> {
        let dims = images.dims();
        let least_px = self.architecture.least_side_px();
        let needed = || {
            let times = if self.multi_image { "captures of each place in succession" } else { "one capture a place" };
            format!("[images, height, width, {}] with sides of at least {least_px} px, {times}", self.bands)
        };
        let refuse = || Err(NnError::Input { found: format!("{dims:?} with {captures} captures"), needed: needed() });
        let [images_count, height, width, bands] = dims[..] else { return refuse() };
        let whole = captures > 0 && images_count > 0 && images_count % captures == 0;
        if !whole || bands != self.bands || height.min(width) < least_px || (captures > 1 && !self.multi_image) {
            return refuse();
        }
        let images = images.to_device(self.ops.device())?.to_dtype(self.ops.activations())?.contiguous()?;
        let backbone = self.backbone.forward(&self.ops, &images, captures)?;
        let stride = self.architecture.stride_px();
        Ok(Features { height, width, stride, backbone, fpn: std::sync::OnceLock::new() })
    }

    /// A feature map as `[N, h, w, C]`, in the type of activations.
    ///
    /// # Errors
    /// [`NnError::Absent`] if the model has no such map.
    pub(super) fn map(&self, features: &Features, layer: Layer) -> Result<Tensor, NnError> {
        let absent = || NnError::Absent { what: format!("feature map {layer}") };
        match layer {
            Layer::Backbone(index) => features.backbone.get(index).cloned().ok_or_else(absent),
            Layer::Fpn(index) => self.pyramid(features, layer)?.get(index).cloned().ok_or_else(absent),
            Layer::Upsample => {
                let upsample = self.upsample.as_ref().ok_or_else(absent)?;
                Ok(upsample.forward(self.finest(features)?)?)
            }
        }
    }

    /// The finest map of the pyramid, which the decoder starts from.
    pub(super) fn finest<'a>(&self, features: &'a Features) -> Result<&'a Tensor, NnError> {
        let absent = || NnError::Absent { what: format!("feature map {}", Layer::Upsample) };
        self.pyramid(features, Layer::Upsample)?.first().ok_or_else(absent)
    }

    /// The pyramid's maps, computed at their first use. `layer` is named in the error if there is no pyramid.
    pub(super) fn pyramid<'a>(&self, features: &'a Features, layer: Layer) -> Result<&'a [Tensor], NnError> {
        if let Some(maps) = features.fpn.get() {
            return Ok(maps);
        }
        let fpn = self.fpn.as_ref().ok_or_else(|| NnError::Absent { what: format!("feature map {layer}") })?;
        let maps = fpn.forward(&self.ops, &features.backbone)?;
        Ok(features.fpn.get_or_init(|| maps))
    }
}
