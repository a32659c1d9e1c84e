//! A whole network, put together from a [`ModelSpec`] and named tensors.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::backbone::Backbone;
use super::detect::ImageSize;
use super::error::{LoadError, NnError};
use super::features::{Features, Layer, Part};
use super::fpn::Fpn;
use super::heads::{HeadNetwork, HeadOutput, MapSpec};
use super::loader::{Loader, Parameters, Tally};
use super::strips;
use super::upsample::Upsample;
use crate::ops::OpsContext;
use crate::weights::Weights;
use crate::zoo::{Backbone as Architecture, Head, Layout, ModelSpec};

/// The coarsest map is at 1/32, and holds at least one cell.
const MIN_SIDE_PX: usize = 32;

/// Backbone, pyramid, decoder and heads of one model on one device.
#[derive(Debug)]
pub struct Network {
    ops: OpsContext,
    bands: usize,
    multi_image: bool,
    backbone: Backbone,
    fpn: Option<Fpn>,
    upsample: Option<Upsample>,
    heads: Vec<(Head, HeadNetwork)>,
    parameters: Parameters,
    prepared_bytes: usize,
    unused: Vec<String>,
}

impl Network {
    /// Prepares `weights` as `spec` says, with the head variant whose shapes fit them (the largest for synthetic weights).
    ///
    /// Tensors that the network does not use are no error: see [`Network::unused`].
    ///
    /// # Errors
    /// [`LoadError`] with every missing and misshapen tensor by name; also where the specification cannot be built, a tensor
    /// cannot be read or the device is out of memory.
    pub fn load(weights: &Weights, spec: &ModelSpec, device: &Device, dtype: DType) -> Result<Self, LoadError> {
        Self::load_variant(weights, spec, weights.require(spec)?, device, dtype)
    }

    /// As [`Network::load`] with the given one of the specification's head variants.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn load_variant(
        weights: &Weights,
        spec: &ModelSpec,
        variant: usize,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, LoadError> {
        let device_error = |source| LoadError::Device { model: spec.id.clone(), source };
        let ops = OpsContext::new(device, dtype).map_err(device_error)?;
        Self::load_with(weights, spec, variant, ops)
    }

    /// As [`Network::load_variant`] with operators in a form of one's choosing.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn load_with(weights: &Weights, spec: &ModelSpec, variant: usize, ops: OpsContext) -> Result<Self, LoadError> {
        let tally = Tally::default();
        let root = Loader::new(weights, &ops, &tally, &spec.id);

        let backbone = Backbone::load(&root, spec)?;
        let (fpn, upsample, maps) = pyramid(&root, spec)?;
        let no_heads = Vec::new();
        let heads = spec.head_variants.get(variant).unwrap_or(&no_heads);
        let heads = heads
            .par_iter()
            .map(|head| Ok((head.clone(), HeadNetwork::load(&root.pp(head_prefix(spec, head)), head, &maps)?)))
            .collect::<Result<Vec<_>, LoadError>>()?;

        let ((parameters, prepared_bytes), unused) = (tally.finish(), weights.unused());
        let (bands, multi_image) = (spec.bands.len(), spec.multi_image);
        Ok(Self { ops, bands, multi_image, backbone, fpn, upsample, heads, parameters, prepared_bytes, unused })
    }

    /// The heads of the chosen variant, in the order that [`Network::predict`] counts them.
    pub fn heads(&self) -> impl ExactSizeIterator<Item = &Head> {
        self.heads.iter().map(|(head, _)| head)
    }

    /// Names and shapes of the tensors that the network was made of, in alphabetical order.
    pub fn parameters(&self) -> &[(String, Vec<usize>)] {
        &self.parameters
    }

    /// Names of the weights' tensors that the network does not use.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Memory that the prepared weights take; the tensors they were made of are not kept.
    ///
    /// On the processor that is more than the checkpoint holds: the Winograd form of a 3x3 kernel has 36 values for 9, that of
    /// the decoder's 4x4 kernel 144 for 16.
    pub fn weight_bytes(&self) -> usize {
        self.prepared_bytes
    }

    /// The type that weights and activations have.
    pub fn dtype(&self) -> DType {
        self.ops.dtype()
    }

    /// Where the network runs.
    pub fn device(&self) -> &Device {
        self.ops.device()
    }

    /// Runs the backbone: `images` is `[N·T, H, W, bands]`, normalised to 0-1, the `captures` T of an item in succession.
    ///
    /// # Errors
    /// [`NnError::Input`] where the bands, the size or the number of captures are not what the network reads.
    pub fn features(&self, images: &Tensor, captures: usize) -> Result<Features, NnError> {
        let dims = images.dims();
        let needed = || {
            let times = if self.multi_image { "captures of each place in succession" } else { "one capture a place" };
            format!("[images, height, width, {}] with sides of at least {MIN_SIDE_PX} px, {times}", self.bands)
        };
        let refuse = || Err(NnError::Input { found: format!("{dims:?} with {captures} captures"), needed: needed() });
        let [images_count, height, width, bands] = dims[..] else { return refuse() };
        let whole = captures > 0 && images_count > 0 && images_count % captures == 0;
        if !whole || bands != self.bands || height.min(width) < MIN_SIDE_PX || (captures > 1 && !self.multi_image) {
            return refuse();
        }
        let images = images.to_device(self.ops.device())?.to_dtype(self.ops.activations())?.contiguous()?;
        let backbone = self.backbone.forward(&self.ops, &images, captures)?;
        Ok(Features { height, width, backbone, fpn: std::sync::OnceLock::new() })
    }

    /// What one head says about every item of `features`.
    ///
    /// # Errors
    /// [`NnError::Absent`] where there is no such head.
    pub fn predict(&self, features: &Features, head: usize) -> Result<Vec<HeadOutput>, NnError> {
        Ok(self.predict_many(features, &[head])?.pop().unwrap_or_default())
    }

    /// What several heads say, in their order; they share the decoder's work as far as its maps are worth keeping.
    ///
    /// # Errors
    /// [`NnError::Absent`] where there is no such head.
    pub fn predict_many(&self, features: &Features, heads: &[usize]) -> Result<Vec<Vec<HeadOutput>>, NnError> {
        let (mut halfway, mut upsampled) = (None, None);
        let image = ImageSize { height: features.height, width: features.width };
        let predict = |head: &usize| {
            let absent = || NnError::Absent { what: format!("head {head} of {}", self.heads.len()) };
            let (_, network) = self.heads.get(*head).ok_or_else(absent)?;
            if let (Some(head), Some(upsample)) = (network.over_full_resolution(), &self.upsample) {
                let map = match halfway.take() {
                    Some(map) => map,
                    None => upsample.all_but_last(self.finest(features)?)?,
                };
                return Ok(strips::forward(&self.ops, upsample, head, halfway.insert(map))?);
            }
            let mut maps = Vec::with_capacity(network.inputs().len());
            for layer in network.inputs() {
                maps.push(match (layer, &upsampled) {
                    (Layer::Upsample, Some(map)) => Tensor::clone(map),
                    (layer, _) => {
                        let map = self.map(features, *layer)?;
                        if *layer == Layer::Upsample {
                            upsampled = Some(map.clone());
                        }
                        map
                    }
                });
            }
            Ok(network.forward(&self.ops, &maps, image)?)
        };
        heads.iter().map(predict).collect()
    }

    /// What one head says of a rectangle of the images, in pixels; a rectangle that covers part of a cell gets the whole cell.
    ///
    /// The pyramid sees the whole images: only its maps are cut. The decoder, which reaches a few pixels far, runs on the part.
    ///
    /// # Errors
    /// [`NnError::Absent`] where there is no such head; also where the rectangle reaches beyond the images.
    pub fn predict_part(&self, features: &Features, head: usize, part: Part) -> Result<Vec<HeadOutput>, NnError> {
        let inputs = self.heads.get(head).map_or(&[][..], |(_, network)| network.inputs());
        if let Some(layer) = inputs.iter().find(|layer| !matches!(layer, Layer::Backbone(_))) {
            self.pyramid(features, *layer)?;
        }
        self.predict(&features.crop(part)?, head)
    }

    /// A feature map as `[N, h, w, C]`, float32.
    ///
    /// # Errors
    /// [`NnError::Absent`] where the model has no such map.
    pub fn embedding(&self, features: &Features, layer: Layer) -> Result<Tensor, NnError> {
        Ok(self.map(features, layer)?.to_dtype(DType::F32)?)
    }

    fn map(&self, features: &Features, layer: Layer) -> Result<Tensor, NnError> {
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

    /// The map that the decoder starts from.
    fn finest<'a>(&self, features: &'a Features) -> Result<&'a Tensor, NnError> {
        let absent = || NnError::Absent { what: format!("feature map {}", Layer::Upsample) };
        self.pyramid(features, Layer::Upsample)?.first().ok_or_else(absent)
    }

    /// The pyramid's maps, computed at the first call.
    fn pyramid<'a>(&self, features: &'a Features, layer: Layer) -> Result<&'a [Tensor], NnError> {
        if let Some(maps) = features.fpn.get() {
            return Ok(maps);
        }
        let fpn = self.fpn.as_ref().ok_or_else(|| NnError::Absent { what: format!("feature map {layer}") })?;
        let maps = fpn.forward(&self.ops, &features.backbone)?;
        Ok(features.fpn.get_or_init(|| maps))
    }
}

/// Pyramid and decoder, where the model has them, and the maps that heads read.
type Pyramid = (Option<Fpn>, Option<Upsample>, Vec<MapSpec>);

/// Pyramid and decoder, and the list of maps that heads read: decoder, pyramid, backbone (where `prepend` is set), or the
/// backbone's alone.
fn pyramid(root: &Loader<'_>, spec: &ModelSpec) -> Result<Pyramid, LoadError> {
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
            let stride = match spec.backbone {
                Architecture::SwinV2 { patch_size, .. } => patch_size,
                Architecture::Resnet { .. } => 4,
            };
            let loader = root.pp(upsample_prefix);
            let upsample = Upsample::load(&loader, stride.max(1), fpn_spec.out_channels, upsample.out_channels)?;
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

/// Where a head's tensors lie.
fn head_prefix(spec: &ModelSpec, head: &Head) -> String {
    match spec.layout {
        Layout::Satlas => format!("heads.{}", head.index),
        Layout::Package => "head".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::demo_models;

    const DEMO: &str = include_str!("../../static/demo/demo.json");
    const WORLD: &[u8] = include_bytes!("../../static/demo/world.safetensors");

    fn world() -> Network {
        let spec = &demo_models(DEMO).unwrap()[0];
        Network::load(&Weights::embedded("world", WORLD).unwrap(), spec, &Device::Cpu, DType::F32).unwrap()
    }

    fn images(count: usize, height: usize, width: usize) -> Tensor {
        let values = (0..count * height * width * 3).map(|i| ((i * 7919) % 1009) as f32 / 1009.0).collect();
        Tensor::from_vec(values, (count, height, width, 3), &Device::Cpu).unwrap()
    }

    fn dense(output: &HeadOutput) -> &[f32] {
        let HeadOutput::Dense(dense) = output else { panic!("the world's heads are dense") };
        &dense.values
    }

    #[test]
    fn a_batch_answers_as_its_items_do_alone() {
        let network = world();
        let batch = images(2, 64, 96);
        let together = network.predict(&network.features(&batch, 1).unwrap(), 0).unwrap();
        assert_eq!(together.len(), 2);
        for (item, together) in together.iter().enumerate() {
            let features = network.features(&batch.narrow(0, item, 1).unwrap(), 1).unwrap();
            let alone = network.predict(&features, 0).unwrap();
            let gap = dense(together).iter().zip(dense(&alone[0])).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(gap < 1e-5, "item {item}: {gap}");
        }
    }

    #[test]
    fn only_what_a_head_reads_is_computed_and_kept() {
        let network = world();
        let features = network.features(&images(1, 64, 64), 1).unwrap();
        network.embedding(&features, Layer::Backbone(3)).unwrap();
        let backbone = features.bytes();
        network.predict_many(&features, &[0, 1, 2]).unwrap();
        let with_pyramid = features.bytes();
        assert!(with_pyramid > backbone, "the pyramid stays");
        network.embedding(&features, Layer::Upsample).unwrap();
        assert_eq!(features.bytes(), with_pyramid, "the full-resolution map does not");
    }

    #[test]
    fn a_part_is_cut_from_a_pyramid_that_saw_the_whole() {
        let network = world();
        let (image, part) = (images(1, 128, 128), Part { col: 32, row: 32, width: 64, height: 64 });
        let pass = || network.features(&image, 1).unwrap();
        let fresh = network.predict_part(&pass(), 0, part).unwrap();
        let seen = pass();
        network.embedding(&seen, Layer::Fpn(0)).unwrap();
        assert_eq!(fresh, network.predict_part(&seen, 0, part).unwrap(), "whether the pyramid was there before or not");
        let beyond = Part { col: 96, ..part };
        assert!(network.predict_part(&seen, 0, beyond).is_err());
    }

    #[test]
    fn what_is_prepared_is_counted() {
        let network = world();
        let stored: usize = network.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>() * 4).sum();
        assert!((stored..9 * stored).contains(&network.weight_bytes()), "{} of {stored}", network.weight_bytes());
        let spec = &demo_models(DEMO).unwrap()[0];
        let plain = OpsContext::plain(&Device::Cpu, DType::BF16).unwrap();
        let weights = Weights::embedded("world", WORLD).unwrap();
        let plain = Network::load_with(&weights, spec, 0, plain).unwrap();
        assert!(plain.weight_bytes() < network.weight_bytes() / 2, "{}", plain.weight_bytes());
    }

    #[test]
    fn images_that_the_network_cannot_read_are_refused_with_what_is_needed() {
        let network = world();
        let four_bands = Tensor::zeros((1, 64, 64, 4), DType::F32, &Device::Cpu).unwrap();
        for (images, captures) in [
            (four_bands, 1),
            (images(1, 31, 64), 1),
            (images(2, 64, 64), 2),
            (images(2, 64, 64), 0),
            (images(0, 64, 64), 1),
        ] {
            let error = network.features(&images, captures).unwrap_err();
            assert!(matches!(error, NnError::Input { .. }), "{error}");
            assert!(error.to_string().contains("[images, height, width, 3]"), "{error}");
        }
        let features = network.features(&images(1, 64, 64), 1).unwrap();
        assert!(matches!(network.predict(&features, 3), Err(NnError::Absent { .. })));
    }

    #[test]
    fn the_maximum_over_equal_captures_is_the_capture() {
        let spec = ModelSpec { multi_image: true, ..demo_models(DEMO).unwrap()[0].clone() };
        let network = Network::load(&Weights::synthetic(3), &spec, &Device::Cpu, DType::F32).unwrap();
        let one = images(1, 64, 64);
        let three = Tensor::cat(&[&one, &one, &one], 0).unwrap();
        let deepest = |images: &Tensor, captures| {
            let features = network.features(images, captures).unwrap();
            network.embedding(&features, Layer::Backbone(3)).unwrap()
        };
        let gap = (deepest(&one, 1) - deepest(&three, 3)).unwrap().abs().unwrap().max_all().unwrap();
        assert!(gap.to_scalar::<f32>().unwrap() < 1e-4);
    }

    #[test]
    fn the_weights_of_another_model_are_refused_by_name() {
        let trees = &demo_models(DEMO).unwrap()[1];
        let weights = Weights::embedded("world", WORLD).unwrap();
        let error = Network::load(&weights, trees, &Device::Cpu, DType::F32).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Unusable);
        assert!(error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn a_detection_head_without_a_pyramid_is_refused() {
        let spec = ModelSpec { fpn: None, upsample: None, ..demo_models(DEMO).unwrap()[1].clone() };
        let error = Network::load(&Weights::synthetic(3), &spec, &Device::Cpu, DType::F32).unwrap_err();
        assert!(matches!(error, LoadError::Specification { .. }), "{error}");
    }

    #[test]
    fn a_network_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Network>();
        shared::<Features>();
    }
}
