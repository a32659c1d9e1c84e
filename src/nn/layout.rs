//! Where the parts of a model lie in a checkpoint of either code base, and which maps its heads can read.

use super::LoadError;
use super::fpn::Fpn;
use super::heads::MapSpec;
use super::loader::Loader;
use super::upsample::Upsample;
use crate::zoo::{Head, HeadKind, Layer, Layout, ModelSpec};

/// Loads pyramid and decoder, if the model has them.
pub(super) fn pyramid(root: &Loader<'_>, spec: &ModelSpec) -> Result<(Option<Fpn>, Option<Upsample>), LoadError> {
    let channels = spec.backbone.channels();
    let Some(fpn_spec) = spec.fpn else { return Ok((None, None)) };
    let (fpn_prefix, upsample_prefix) = match spec.layout {
        Layout::Satlas => ("intermediates.0.fpn", "intermediates.1"),
        Layout::Package => ("fpn.fpn", "upsample"),
    };
    let fpn = Fpn::load(&root.pp(fpn_prefix), &channels, fpn_spec.out_channels)?;
    let upsample = match spec.upsample {
        Some(upsample) => {
            let loader = root.pp(upsample_prefix);
            let stride = spec.backbone.stride_px().max(1);
            Some(Upsample::load(&loader, stride, fpn_spec.out_channels, upsample.out_channels)?)
        }
        None => None,
    };
    Ok((Some(fpn), upsample))
}

/// The maps that a head can read. A linear or nearest head names any of the model's; others count in a list: decoder, pyramid, backbone (if
/// `prepend` is set), or the backbone's alone if there is no pyramid.
pub(super) fn readable_maps(spec: &ModelSpec, head: &Head) -> Vec<MapSpec> {
    let (backbone, above): (Vec<Layer>, Vec<Layer>) =
        Layer::ALL.into_iter().partition(|layer| matches!(layer, Layer::Backbone(_)));
    let (decoder, fpn): (Vec<Layer>, Vec<Layer>) = above.into_iter().partition(|layer| *layer == Layer::Upsample);
    let with_backbone = match (&head.kind, spec.fpn) {
        (HeadKind::Linear { .. } | HeadKind::Nearest { .. }, _) | (_, None) => true,
        (_, Some(fpn)) => fpn.prepend,
    };
    let listed = decoder.into_iter().chain(fpn).chain(backbone.into_iter().filter(|_| with_backbone));
    let map =
        |layer: Layer| Some(MapSpec { layer, channels: layer.channels(spec)?, stride_px: layer.stride_px(&spec.backbone) });
    listed.filter_map(map).collect()
}

/// The prefix of a head's tensors.
pub(super) fn head_prefix(spec: &ModelSpec, head: &Head) -> String {
    match spec.layout {
        Layout::Satlas => format!("heads.{}", head.index),
        Layout::Package => "head".to_owned(),
    }
}
