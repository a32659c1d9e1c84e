//! A whole network, put together from a [`ModelSpec`] and named tensors.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::backbone::Backbone;
use super::detect::ImageSize;
use super::error::{LoadError, NnError};
use super::features::{Features, Layer, Part};
use super::fpn::Fpn;
use super::heads::{HeadNetwork, HeadOnDemand, HeadOutput};
use super::layout::{head_prefix, pyramid};
use super::loader::{Loader, Tally};
use super::strips;
use super::upsample::Upsample;
use crate::ops::OpsContext;
use crate::weights::{Weights, parameters};
use crate::zoo::{Head, ModelSpec};

/// The coarsest map is at 1/32, and holds at least one cell.
const MIN_SIDE_PX: usize = 32;

/// What can reach a pixel of the decoder's map and of a convolution behind it lies nearer than this.
const PART_MARGIN_PX: usize = 32;

/// Backbone, pyramid, decoder and heads of one model on one device.
///
/// Backbone, pyramid and decoder are prepared at once, a head when it is first asked for.
#[derive(Debug)]
pub struct Network {
    id: String,
    ops: OpsContext,
    bands: usize,
    multi_image: bool,
    backbone: Backbone,
    fpn: Option<Fpn>,
    upsample: Option<Upsample>,
    heads: Vec<HeadOnDemand>,
    weights: Weights,
    tally: Tally,
    most_bytes: usize,
    unused: Vec<String>,
}

impl Network {
    /// Prepares `weights` as `spec` says, with the head variant whose shapes fit them (the largest for synthetic weights).
    ///
    /// Tensors that the network does not use are no error: see [`Network::unused`].
    ///
    /// # Errors
    /// [`LoadError`] with every missing and misshapen tensor by name, those of heads included; also where the specification
    /// cannot be built, a tensor cannot be read or the device is out of memory.
    pub fn load(weights: Weights, spec: &ModelSpec, device: &Device, dtype: DType) -> Result<Self, LoadError> {
        let device_error = |source| LoadError::Device { model: spec.id.clone(), source };
        let ops = OpsContext::new(device, dtype).map_err(device_error)?;
        let variant = weights.fit(spec).variant;
        Self::load_with(weights, spec, variant, ops)
    }

    /// As [`Network::load`] with the given one of the specification's head variants, and operators in a form of one's
    /// choosing.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub fn load_with(weights: Weights, spec: &ModelSpec, variant: usize, ops: OpsContext) -> Result<Self, LoadError> {
        let fit = weights.require(spec, variant)?;
        let tally = Tally::default();
        let root = Loader::new(&weights, &ops, &tally, &spec.id);

        let backbone = Backbone::load(&root, spec)?;
        let (fpn, upsample, maps) = pyramid(&root, spec)?;
        let heads = spec.head_variants.get(variant).map_or(&[][..], Vec::as_slice);
        let heads = heads
            .iter()
            .map(|head| HeadOnDemand::new(&root, head_prefix(spec, head), head, &maps))
            .collect::<Result<Vec<_>, LoadError>>()?;

        let of_heads = parameters(spec, variant);
        let of_heads = of_heads.iter().filter(|parameter| heads.iter().any(|head| head.owns(&parameter.name)));
        let most_bytes = of_heads.map(|parameter| ops.most_bytes(&parameter.shape)).sum::<usize>();
        Ok(Self {
            id: spec.id.clone(),
            bands: spec.bands.len(),
            multi_image: spec.multi_image,
            backbone,
            fpn,
            upsample,
            heads,
            most_bytes: tally.prepared_bytes() + most_bytes,
            unused: fit.unused,
            ops,
            weights,
            tally,
        })
    }

    /// The heads of the chosen variant, in the order that [`Network::predict`] counts them.
    pub fn heads(&self) -> impl ExactSizeIterator<Item = &Head> {
        self.heads.iter().map(HeadOnDemand::head)
    }

    /// Prepares a head now, so that its first answer takes no longer than the next.
    ///
    /// # Errors
    /// [`NnError::Absent`] where there is no such head, [`NnError::Prepare`] where it cannot be prepared.
    pub fn prepare(&self, head: usize) -> Result<(), NnError> {
        self.head(head).map(|_| ())
    }

    fn head(&self, index: usize) -> Result<(&HeadOnDemand, Arc<HeadNetwork>), NnError> {
        let absent = || NnError::Absent { what: format!("head {index} of {}", self.heads.len()) };
        let head = self.heads.get(index).ok_or_else(absent)?;
        let root = Loader::new(&self.weights, &self.ops, &self.tally, &self.id);
        Ok((head, head.prepare(&root)?))
    }

    /// Names and shapes of the tensors read so far, in alphabetical order: those of heads once they are prepared.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        self.tally.parameters()
    }

    /// Names of the weights' tensors that the network does not use.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Memory that the prepared weights take now; the tensors they were made of are not kept.
    ///
    /// On the processor that is more than the checkpoint holds: the Winograd form of a 3x3 kernel has 36 values for 9, that of
    /// the decoder's 4x4 kernel 144 for 16.
    pub fn weight_bytes(&self) -> usize {
        self.tally.prepared_bytes()
    }

    /// What [`Network::weight_bytes`] does not exceed, however many heads are asked for.
    pub fn most_weight_bytes(&self) -> usize {
        self.most_bytes
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
            let (head, network) = self.head(*head)?;
            let full_resolution_alone = head.layers().eq([Layer::Upsample]);
            if let (true, Some(head), Some(upsample)) = (full_resolution_alone, network.as_dense(), &self.upsample) {
                let map = match halfway.take() {
                    Some(map) => map,
                    None => upsample.all_but_last(self.finest(features)?)?,
                };
                return Ok(strips::forward(&self.ops, upsample, head, halfway.insert(map))?);
            }
            let mut maps = Vec::with_capacity(head.layers().len());
            for layer in head.layers() {
                maps.push(match (layer, &upsampled) {
                    (Layer::Upsample, Some(map)) => Tensor::clone(map),
                    (layer, _) => {
                        let map = self.map(features, layer)?;
                        if layer == Layer::Upsample {
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

    /// The scores that a classification head gives a rectangle of the images, in pixels; of a cell that it covers in part it
    /// gets the whole.
    ///
    /// Everything but the summing up sees what lies around the rectangle: the pyramid the whole images, the decoder and the
    /// head's own convolution as much as can reach it.
    ///
    /// # Errors
    /// [`NnError::Absent`] where there is no such head or it gives no scores; also where the rectangle reaches beyond the
    /// images.
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
        let seen = part.with_margin(margin, MIN_SIDE_PX, image);
        let beyond =
            part.col.saturating_add(part.width) > image.width || part.row.saturating_add(part.height) > image.height;
        if !network.is_pooled() || beyond {
            let what = format!("classification of {part:?} of {} x {} px by head {index}", image.height, image.width);
            return Err(NnError::Absent { what });
        }
        if let Some(layer) = head.layers().find(|layer| !matches!(layer, Layer::Backbone(_))) {
            self.pyramid(features, layer)?;
        }
        let features = features.crop(seen)?;
        let maps = head.layers().map(|layer| self.map(&features, layer)).collect::<Result<Vec<_>, _>>()?;
        let image = ImageSize { height: seen.height, width: seen.width };
        Ok(network.classify(&self.ops, &maps, image, part.within(seen))?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::{Activation, Backbone as Architecture, HeadKind, Task, TaskType, demo_models};

    const DEMO: &str = include_str!("../../static/demo/demo.json");
    const WORLD: &[u8] = include_bytes!("../../static/demo/world.safetensors");

    fn world() -> Network {
        let spec = &demo_models(DEMO).unwrap()[0];
        Network::load(Weights::embedded("world", WORLD).unwrap(), spec, &Device::Cpu, DType::F32).unwrap()
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

    /// The world's network with a classification head of each kind: over the full-resolution map, and over the pyramid's last.
    fn classifiers() -> Network {
        let mut spec = demo_models(DEMO).unwrap().swap_remove(0);
        let kinds =
            [HeadKind::Simple { activation: Activation::Softmax }, HeadKind::Classify { activation: Activation::Softmax }];
        for (head, kind) in spec.head_variants[0].iter_mut().zip(kinds) {
            let task = Task { task_type: TaskType::Classification, ..Task::clone(&head.task) };
            (head.task, head.kind) = (Arc::new(task), kind);
        }
        spec.head_variants[0].truncate(2);
        for head in &mut spec.head_variants[0] {
            let categories = ["a", "b", "c"].map(str::to_owned).to_vec();
            head.task = Arc::new(Task { categories, ..Task::clone(&head.task) });
        }
        Network::load(Weights::synthetic(3), &spec, &Device::Cpu, DType::F32).unwrap()
    }

    fn scores(outputs: &[HeadOutput]) -> &[f32] {
        let [HeadOutput::Scores(scores)] = outputs else { panic!("one image's scores") };
        scores
    }

    #[test]
    fn a_part_is_classified_as_in_its_surroundings() {
        let network = classifiers();
        let (image, part) = (images(1, 192, 192), Part { col: 64, row: 96, width: 64, height: 32 });
        let features = network.features(&image, 1).unwrap();
        for head in 0..2 {
            let usual = network.classify_part(&features, head, part).unwrap();
            let all_around = network.classify_with_margin(&features, head, part, 192).unwrap();
            let nothing_around = network.classify_with_margin(&features, head, part, 0).unwrap();
            let gap = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(gap(scores(&usual), scores(&all_around)) < 1e-6, "head {head}: {usual:?}, {all_around:?}");
            let differs = gap(scores(&nothing_around), scores(&all_around)) > 1e-6;
            assert_eq!(differs, head == 0, "head {head} convolves or does not: {nothing_around:?}, {all_around:?}");

            let whole = Part { col: 0, row: 0, width: 192, height: 192 };
            let of_whole = network.classify_part(&features, head, whole).unwrap();
            assert!(gap(scores(&of_whole), scores(&network.predict(&features, head).unwrap())) < 1e-6);
            let beyond = Part { col: 160, ..part };
            assert!(network.classify_part(&features, head, beyond).is_err());
        }
        let dense = world();
        assert!(dense.classify_part(&dense.features(&image, 1).unwrap(), 0, part).is_err(), "a map is no score");
    }

    #[test]
    fn heads_are_prepared_when_first_asked_for_and_counted() {
        let network = world();
        let (at_first, most) = (network.weight_bytes(), network.most_weight_bytes());
        assert!(network.parameters().iter().all(|(name, _)| !name.starts_with("heads.")), "no head has been read");
        network.prepare(1).unwrap();
        let with_one = network.weight_bytes();
        assert!(with_one > at_first);
        network.prepare(1).unwrap();
        assert_eq!(network.weight_bytes(), with_one, "once");
        network.predict_many(&network.features(&images(1, 64, 64), 1).unwrap(), &[0, 1, 2]).unwrap();
        let with_all = network.weight_bytes();
        assert!(with_one < with_all && with_all <= most, "{with_all} of {most}");
        let stored: usize = network.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>() * 4).sum();
        assert!((stored..9 * stored).contains(&with_all), "{with_all} of {stored}");

        let spec = &demo_models(DEMO).unwrap()[0];
        let plain = OpsContext::plain(&Device::Cpu, DType::BF16).unwrap();
        let weights = Weights::embedded("world", WORLD).unwrap();
        let plain = Network::load_with(weights, spec, 0, plain).unwrap();
        assert!(plain.weight_bytes() < at_first / 2, "{}", plain.weight_bytes());
    }

    #[test]
    fn no_kind_of_head_takes_more_memory_than_foreseen() {
        let demo = &demo_models(DEMO).unwrap()[1];
        // Every kind of head there is, over a backbone that is quickly made up.
        let mut zoo = crate::zoo::pretrained_models().unwrap().into_iter();
        let aerial = zoo.find(|spec| spec.id == "Aerial_SwinB_SI").unwrap();
        let small = ModelSpec { backbone: Architecture::Resnet { depth: 18 }, ..aerial };
        for spec in [demo, &small] {
            let network = Network::load(Weights::synthetic(7), spec, &Device::Cpu, DType::F32).unwrap();
            for head in 0..network.heads().len() {
                network.prepare(head).unwrap();
            }
            let (all, most) = (network.weight_bytes(), network.most_weight_bytes());
            assert!((all..all + all / 4).contains(&most), "{}: {all} of {most}", spec.id);
        }
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
        let network = Network::load(Weights::synthetic(3), &spec, &Device::Cpu, DType::F32).unwrap();
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
        let error = Network::load(weights, trees, &Device::Cpu, DType::F32).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Unusable);
        assert!(error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn a_detection_head_without_a_pyramid_is_refused() {
        let spec = ModelSpec { fpn: None, upsample: None, ..demo_models(DEMO).unwrap()[1].clone() };
        let error = Network::load(Weights::synthetic(3), &spec, &Device::Cpu, DType::F32).unwrap_err();
        assert!(matches!(error, LoadError::Specification { .. }), "{error}");
    }

    #[test]
    fn a_network_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Network>();
        shared::<Features>();
    }
}
