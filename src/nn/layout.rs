//! Where the parts of a model lie in a checkpoint of either code base, and which maps its heads can read.

use super::LoadError;
use super::features::Layer;
use super::fpn::Fpn;
use super::heads::MapSpec;
use super::loader::Loader;
use super::upsample::Upsample;
use crate::zoo::{Head, Layout, ModelSpec};

/// Pyramid and decoder, if the model has them, and the maps that heads can read.
pub(super) type Pyramid = (Option<Fpn>, Option<Upsample>, Vec<MapSpec>);

/// Loads pyramid and decoder, and lists the maps that heads can read: decoder, pyramid, backbone (if `prepend` is set), or
/// the backbone's alone if there is no pyramid.
pub(super) fn pyramid(root: &Loader<'_>, spec: &ModelSpec) -> Result<Pyramid, LoadError> {
    let channels = spec.backbone.channels();
    let backbone =
        channels.iter().enumerate().map(|(i, channels)| MapSpec { layer: Layer::Backbone(i), channels: *channels });
    let Some(fpn_spec) = spec.fpn else {
        return Ok((None, None, backbone.collect()));
    };
    let (fpn_prefix, upsample_prefix) = match spec.layout {
        Layout::Satlas => ("intermediates.0.fpn", "intermediates.1"),
        Layout::Package => ("fpn.fpn", "upsample"),
    };
    let fpn = Fpn::load(&root.pp(fpn_prefix), &channels, fpn_spec.out_channels)?;
    let mut maps = Vec::new();
    let upsample = match spec.upsample {
        Some(upsample) => {
            let loader = root.pp(upsample_prefix);
            let upsample =
                Upsample::load(&loader, spec.backbone.stride_px().max(1), fpn_spec.out_channels, upsample.out_channels)?;
            maps.push(MapSpec { layer: Layer::Upsample, channels: upsample.channels() });
            Some(upsample)
        }
        None => None,
    };
    maps.extend((0..channels.len()).map(|i| MapSpec { layer: Layer::Fpn(i), channels: fpn_spec.out_channels }));
    if fpn_spec.prepend {
        maps.extend(backbone);
    }
    Ok((Some(fpn), upsample, maps))
}

/// The prefix of a head's tensors.
pub(super) fn head_prefix(spec: &ModelSpec, head: &Head) -> String {
    match spec.layout {
        Layout::Satlas => format!("heads.{}", head.index),
        Layout::Package => "head".to_owned(),
    }
}
