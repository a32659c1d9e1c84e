//! The size of a model's feature maps.

use super::layer::Layer;
use super::spec::ModelSpec;

impl Layer {
    /// How many values the map of an image of `width` x `height` pixels has; 0 if the model has no such map.
    pub fn values(self, spec: &ModelSpec, width: usize, height: usize) -> usize {
        let stride = self.stride_px(&spec.backbone).max(1);
        width.div_ceil(stride) * height.div_ceil(stride) * self.channels(spec).unwrap_or(0)
    }

    /// Channels of the map; `None` if the model has no such map.
    pub fn channels(self, spec: &ModelSpec) -> Option<usize> {
        match self {
            Self::Backbone(index) => spec.backbone.channels().get(index).copied(),
            Self::Fpn(_) => spec.fpn.map(|fpn| fpn.out_channels),
            Self::Upsample => {
                let (fpn, upsample) = (spec.fpn?, spec.upsample?);
                let doublings = 0..spec.backbone.stride_px().max(1).ilog2();
                Some(doublings.fold(fpn.out_channels, |channels, _| (channels / 2).max(upsample.out_channels)))
            }
        }
    }
}
