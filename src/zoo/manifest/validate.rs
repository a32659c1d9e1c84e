//! From a manifest to a [`ModelSpec`]: every field checked, with the defaults of the two public code bases.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{BackboneChoice, Checkpoint, HeadNetwork, Manifest, ManifestError, ManifestHead};
use crate::zoo::{
    Activation, Backbone, FIRST_NEW_HEAD, FpnSpec, Head, HeadKind, Layout, ModelSpec, Origin, Task, TaskType, UpsampleSpec,
    WeightsSpec,
};

const MAX_ID_LEN: usize = 64;
const MAX_HEADS: usize = 32;
const MAX_CATEGORIES: usize = 1000;
const MAX_BANDS: usize = 64;
const MAX_IMAGES: usize = 32;
const MAX_CHANNELS: usize = 2048;
const MAX_TEXT_LEN: usize = 1000;
/// Channels of pyramid and decoder in every public checkpoint.
const PUBLIC_CHANNELS: usize = 128;
/// Side of the anchors in pixels, one a level, in both public code bases.
const ANCHOR_SIZES: [f32; 4] = [32.0, 64.0, 128.0, 256.0];

fn field(field: impl Into<String>, found: impl ToString, needed: impl Into<String>) -> ManifestError {
    ManifestError::Field { field: field.into(), found: found.to_string(), needed: needed.into() }
}

fn check(ok: bool, name: impl Into<String>, found: impl ToString, needed: impl Into<String>) -> Result<(), ManifestError> {
    if ok { Ok(()) } else { Err(field(name, found, needed)) }
}

/// Names that are safe as a URL segment and as a file name.
fn check_name(at: &str, name: &str) -> Result<(), ManifestError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let ok = (1..=MAX_ID_LEN).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.');
    check(ok, at, format!("{name:?}"), format!("1 to {MAX_ID_LEN} of A-Z a-z 0-9 _ . -, not starting with a dot"))
}

impl Manifest {
    /// Checks every field and describes the model. `base` looks a built-in model up; paths are below `models_dir`.
    ///
    /// # Errors
    /// [`ManifestError`] naming the field, what was found, and what is needed.
    pub fn to_spec(
        &self,
        models_dir: &Path,
        base: impl FnOnce(&str) -> Option<ModelSpec>,
    ) -> Result<ModelSpec, ManifestError> {
        check_name("id", &self.id)?;
        for (name, text) in [("title", &self.title), ("sensor", &self.sensor), ("licence", &self.licence)] {
            let len = text.as_ref().map_or(0, String::len);
            check(len <= MAX_TEXT_LEN, name, format!("{len} bytes"), format!("at most {MAX_TEXT_LEN}"))?;
        }
        let mut spec = match (&self.base, &self.checkpoint) {
            (Some(name), None) => {
                self.on_base(base(name).ok_or_else(|| ManifestError::UnknownBase { base: name.clone() })?)?
            }
            (None, Some(checkpoint)) => self.on_checkpoint(checkpoint, models_dir)?,
            (Some(_), Some(_)) => return Err(field("base", "base and checkpoint", "one of them")),
            (None, None) => return Err(field("base", "neither base nor checkpoint", "one of them")),
        };
        spec.head_variants = vec![self.heads(&spec)?];
        Ok(spec)
    }

    fn on_base(&self, base: ModelSpec) -> Result<ModelSpec, ManifestError> {
        let taken = [
            ("backbone", self.backbone.is_some()),
            ("bands", !self.bands.is_empty()),
            ("fpn_channels", self.fpn_channels.is_some()),
            ("upsample_channels", self.upsample_channels.is_some()),
            ("multi_image", self.multi_image.is_some_and(|multi| multi != base.multi_image)),
        ];
        for (name, given) in taken {
            check(!given, name, "a value", format!("none: it is taken from {}", base.id))?;
        }
        check(!self.heads.is_empty(), "heads", "none", format!("at least one: without one, {} does the same", base.id))?;
        check(base.origin != Origin::Registered, "base", format!("{:?}", base.id), "a built-in model")?;
        let max_images = self.max_images.unwrap_or(base.max_images);
        check((1..=base.max_images).contains(&max_images), "max_images", max_images, format!("1 to {}", base.max_images))?;
        Ok(ModelSpec {
            id: self.id.clone(),
            title: self.title.clone().unwrap_or_else(|| format!("{} with new heads", base.title)),
            origin: Origin::Registered,
            sensor: self.sensor.clone().unwrap_or(base.sensor),
            native_gsd_m: self.gsd(base.native_gsd_m)?,
            native_zoom_512: self.zoom(base.native_zoom_512)?,
            max_images,
            trained_images: base.trained_images.min(max_images),
            // The Python package, whose new heads these are, does not hand the backbone's maps on.
            fpn: base.fpn.filter(|_| self.fpn).map(|fpn| FpnSpec { prepend: false, ..fpn }),
            upsample: base.upsample.filter(|_| self.fpn),
            licence: self.licence.clone().unwrap_or(base.licence),
            weights: WeightsSpec::NewHeads { base: Box::new(base.weights), seed: self.seed.unwrap_or(0).into() },
            ..base
        })
    }

    fn on_checkpoint(&self, checkpoint: &Checkpoint, models_dir: &Path) -> Result<ModelSpec, ManifestError> {
        check(self.seed.is_none(), "seed", "a value", "none: a checkpoint's heads are trained")?;
        let backbone = match &self.backbone {
            Some(BackboneChoice::Name(name)) => Backbone::by_name(name).ok_or_else(|| {
                field(
                    "backbone",
                    format!("{name:?}"),
                    "swin_v2_t, swin_v2_b, resnet18, resnet34, resnet50, resnet101, resnet152 or a table",
                )
            })?,
            Some(BackboneChoice::Sizes(backbone)) => check_backbone(backbone)?,
            None => return Err(field("backbone", "nothing", "a name or a table")),
        };
        check((1..=MAX_BANDS).contains(&self.bands.len()), "bands", self.bands.len(), format!("1 to {MAX_BANDS}"))?;
        for (i, band) in self.bands.iter().enumerate() {
            check_name(&format!("bands[{i}].name"), &band.name)?;
            check(
                band.scale.is_finite() && band.scale != 0.0,
                format!("bands[{i}].scale"),
                band.scale,
                "a number other than 0",
            )?;
            check(band.offset.is_finite(), format!("bands[{i}].offset"), band.offset, "a number")?;
        }
        let multi_image = self.multi_image.unwrap_or(false);
        let max_images = self.max_images.unwrap_or(if multi_image { 8 } else { 1 });
        check((1..=MAX_IMAGES).contains(&max_images), "max_images", max_images, format!("1 to {MAX_IMAGES}"))?;
        check(multi_image || max_images == 1, "max_images", max_images, "1, or multi_image = true")?;
        let is_package = checkpoint.layout == Layout::Package;
        check(is_package || self.fpn, "fpn", "false", "true: only the package layout has models without a pyramid")?;
        let channels = |name: &str, value: Option<usize>| {
            let value = value.unwrap_or(PUBLIC_CHANNELS);
            check((1..=MAX_CHANNELS).contains(&value), name, value, format!("1 to {MAX_CHANNELS}")).map(|()| value)
        };
        let fpn = FpnSpec { out_channels: channels("fpn_channels", self.fpn_channels)?, prepend: false };
        let upsample = UpsampleSpec { out_channels: channels("upsample_channels", self.upsample_channels)? };
        Ok(ModelSpec {
            id: self.id.clone(),
            title: self.title.clone().unwrap_or_else(|| self.id.clone()),
            origin: Origin::Registered,
            sensor: self.sensor.clone().unwrap_or_else(|| "other".to_owned()),
            native_gsd_m: self.gsd(10.0)?,
            native_zoom_512: self.zoom(13)?,
            bands: self.bands.clone(),
            backbone,
            multi_image,
            trained_images: max_images,
            max_images,
            fpn: self.fpn.then_some(fpn),
            upsample: self.fpn.then_some(upsample),
            layout: checkpoint.layout,
            head_variants: Vec::new(),
            weights: WeightsSpec::File { path: below(models_dir, &checkpoint.path)? },
            licence: self.licence.clone().unwrap_or_else(|| "not stated".to_owned()),
            source: checkpoint.path.clone(),
        })
    }

    fn gsd(&self, default: f64) -> Result<f64, ManifestError> {
        let gsd = self.native_gsd_m.unwrap_or(default);
        check(gsd > 0.0 && gsd < 1e6, "native_gsd_m", gsd, "metres above 0").map(|()| gsd)
    }

    fn zoom(&self, default: u8) -> Result<u8, ManifestError> {
        let zoom = self.native_zoom_512.unwrap_or(default);
        check(zoom <= 22, "native_zoom_512", zoom, "0 to 22").map(|()| zoom)
    }

    fn heads(&self, spec: &ModelSpec) -> Result<Vec<Head>, ManifestError> {
        check(self.heads.len() <= MAX_HEADS, "heads", self.heads.len(), format!("at most {MAX_HEADS}"))?;
        let is_new = matches!(spec.weights, WeightsSpec::NewHeads { .. });
        let package = is_new || spec.layout == Layout::Package;
        let one_only = package && !is_new;
        check(!one_only || self.heads.len() <= 1, "heads", self.heads.len(), "at most one in the package layout")?;
        let mut heads = Vec::new();
        for (i, head) in self.heads.iter().enumerate() {
            let at = |name: &str| format!("heads[{i}].{name}");
            check_name(&at("task"), &head.task)?;
            check(head.task != "embedding", at("task"), "\"embedding\"", "another name: every model has that task")?;
            let is_repeated = self.heads[..i].iter().any(|other| other.task == head.task);
            check(!is_repeated, at("task"), format!("{:?} again", head.task), "a name for each head")?;
            heads.push(Head {
                index: if is_new { FIRST_NEW_HEAD + i } else { i },
                task: Arc::new(head.task(&at)?),
                kind: head.kind(&at, package, spec)?,
                class_mask: None,
            });
        }
        Ok(heads)
    }
}

impl ManifestHead {
    fn task(&self, at: &impl Fn(&str) -> String) -> Result<Task, ManifestError> {
        let count = self.categories.len();
        let least = match self.task_type {
            TaskType::Embedding => return Err(field(at("type"), "embedding", "a kind of answer that a head gives")),
            TaskType::Regress => 0,
            TaskType::Detect | TaskType::Instance => 2,
            _ => 1,
        };
        check((least..=MAX_CATEGORIES).contains(&count), at("categories"), count, format!("{least} to {MAX_CATEGORIES}"))?;
        let colors = self.colors.len();
        check(colors == 0 || colors == count, at("colors"), colors, format!("none or {count}, one a category"))?;
        for (i, category) in self.categories.iter().enumerate() {
            let ok = !category.is_empty() && category.len() <= MAX_TEXT_LEN && !self.categories[..i].contains(category);
            check(ok, at(&format!("categories[{i}]")), format!("{category:?}"), "a name for each category")?;
        }
        Ok(Task {
            name: self.task.clone(),
            task_type: self.task_type,
            categories: self.categories.clone(),
            colors: self.colors.clone(),
            background_invalid: self.background_invalid,
        })
    }

    /// The network with the public code's defaults: the package's two-category segmentation is a softmax and its detection
    /// reads maps 0-3, where the training code has a sigmoid and maps 1-4.
    fn kind(&self, at: &impl Fn(&str) -> String, package: bool, spec: &ModelSpec) -> Result<HeadKind, ManifestError> {
        let is_detection = matches!(self.task_type, TaskType::Detect | TaskType::Instance);
        let is_label = matches!(self.task_type, TaskType::Classification | TaskType::MultiLabelClassification);
        let network = self.network.unwrap_or(match (is_detection, is_label && !package) {
            (true, _) => HeadNetwork::Frcnn,
            (false, true) => HeadNetwork::Classify,
            (false, false) => HeadNetwork::Simple,
        });
        let fits = match network {
            HeadNetwork::Frcnn => is_detection,
            HeadNetwork::Classify => is_label && !package,
            HeadNetwork::Simple => !is_detection,
        };
        check(
            fits,
            at("network"),
            format!("{network:?}").to_lowercase(),
            format!("one that answers {:?}", self.task_type),
        )?;
        if network == HeadNetwork::Frcnn {
            check(self.activation.is_none(), at("activation"), "a value", "none for detection")?;
            check(spec.fpn.is_some(), at("type"), format!("{:?} without a pyramid", self.task_type), "fpn = true")?;
            // One head reads maps of one width: the decoder's only where it is as wide as the pyramid's, as in the package.
            let same_width = spec.upsample.map(|upsample| upsample.out_channels) == spec.fpn.map(|fpn| fpn.out_channels);
            let default_layers = if package && same_width { vec![0, 1, 2, 3] } else { vec![1, 2, 3, 4] };
            let use_layers = self.use_layers.clone().unwrap_or(default_layers);
            let anchor_sizes = self.anchor_sizes.clone().unwrap_or_else(|| ANCHOR_SIZES.to_vec());
            let layers_fit = (1..=5).contains(&use_layers.len())
                && use_layers.is_sorted_by(|a, b| a < b)
                && use_layers[use_layers.len() - 1] <= 4;
            check(layers_fit, at("use_layers"), format!("{use_layers:?}"), "rising numbers of 0 to 4")?;
            let anchors_fit =
                anchor_sizes.len() == use_layers.len() && anchor_sizes.iter().all(|size| *size > 0.0 && *size < 1e4);
            check(
                anchors_fit,
                at("anchor_sizes"),
                format!("{anchor_sizes:?}"),
                format!("{} sizes above 0", use_layers.len()),
            )?;
            return Ok(HeadKind::Frcnn { use_layers, anchor_sizes });
        }
        let for_detection = self.use_layers.is_some() || self.anchor_sizes.is_some();
        check(!for_detection, at("use_layers"), "a value", "none: only detection chooses maps and anchors")?;
        let activation = self.activation.unwrap_or(match self.task_type {
            TaskType::MultiLabelClassification => Activation::Sigmoid,
            TaskType::BinSegment if !package => Activation::Sigmoid,
            TaskType::Regress => Activation::Times255,
            _ => Activation::Softmax,
        });
        let is_value = matches!(activation, Activation::Times255 | Activation::Identity);
        check(
            is_value == (self.task_type == TaskType::Regress),
            at("activation"),
            format!("{activation:?}").to_lowercase(),
            format!("one for {:?}", self.task_type),
        )?;
        Ok(match network {
            HeadNetwork::Classify => HeadKind::Classify { activation },
            _ => HeadKind::Simple { activation },
        })
    }
}

fn check_backbone(backbone: &Backbone) -> Result<Backbone, ManifestError> {
    match backbone {
        Backbone::Resnet { depth } => {
            check([18, 34, 50, 101, 152].contains(depth), "backbone.depth", depth, "18, 34, 50, 101 or 152")?;
        }
        Backbone::SwinV2 { patch_size, embed_dim, depths, num_heads, window_size } => {
            check([2, 4, 8].contains(patch_size), "backbone.patch_size", patch_size, "2, 4 or 8")?;
            check((8..=512).contains(embed_dim), "backbone.embed_dim", embed_dim, "8 to 512")?;
            check(
                depths.iter().all(|depth| (1..=48).contains(depth)),
                "backbone.depths",
                format!("{depths:?}"),
                "1 to 48 each",
            )?;
            let divides =
                backbone.channels().iter().zip(num_heads).all(|(channels, heads)| *heads > 0 && channels % heads == 0);
            check(
                divides,
                "backbone.num_heads",
                format!("{num_heads:?}"),
                format!("divisors of {:?}", backbone.channels()),
            )?;
            check((2..=32).contains(window_size), "backbone.window_size", window_size, "2 to 32")?;
        }
    }
    Ok(backbone.clone())
}

/// A path below the models directory; a manifest comes from a client and may not point anywhere else.
fn below(models_dir: &Path, path: &str) -> Result<PathBuf, ManifestError> {
    let relative = Path::new(path);
    let is_inside = !path.is_empty() && relative.components().all(|part| matches!(part, Component::Normal(_)));
    check(is_inside, "checkpoint.path", format!("{path:?}"), "a path inside the models directory, without \"..\"")?;
    Ok(models_dir.join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::parameters;
    use crate::zoo::pretrained_models;

    fn base(id: &str) -> Option<ModelSpec> {
        pretrained_models().unwrap().into_iter().find(|model| model.id == id)
    }

    fn spec(text: &str) -> Result<ModelSpec, ManifestError> {
        let manifest = Manifest::from_toml(text)?;
        assert_eq!(Manifest::from_toml(&manifest.to_toml()?)?, manifest);
        manifest.to_spec(Path::new("/models"), base)
    }

    const OWN: &str = r#"
        id = "my-roofs"
        backbone = "swin_v2_t"
        native_zoom_512 = 17
        [checkpoint]
        path = "roofs/best.pth"
        layout = "package"
        [[bands]]
        name = "red"
        offset = 0
        scale = 255
        [[heads]]
        task = "roof"
        type = "bin_segment"
        categories = ["other", "roof"]
    "#;

    #[test]
    fn an_own_checkpoint_is_described() {
        let spec = spec(OWN).unwrap();
        assert_eq!(spec.weights, WeightsSpec::File { path: "/models/roofs/best.pth".into() });
        assert_eq!(spec.head_variants[0][0].kind, HeadKind::Simple { activation: Activation::Softmax });
        assert!(parameters(&spec, 0).iter().any(|parameter| parameter.name == "head.layers.1.weight"));
    }

    #[test]
    fn each_of_the_seven_heads_goes_on_a_base_model() {
        for (kind, categories) in [
            ("classification", r#"["a", "b"]"#),
            ("multi_label_classification", r#"["a", "b"]"#),
            ("segment", r#"["a", "b"]"#),
            ("bin_segment", r#"["a", "b"]"#),
            ("regress", "[]"),
            ("detect", r#"["background", "b"]"#),
            ("instance", r#"["background", "b"]"#),
        ] {
            let text = |fpn: bool| {
                format!(
                    "id = \"new\"\nbase = \"Sentinel2_SwinT_SI_RGB\"\nseed = 3\nfpn = {fpn}\n[[heads]]\ntask = \"mine\"\ntype = \"{kind}\"\ncategories = {categories}\n"
                )
            };
            let spec_with = spec(&text(true)).unwrap();
            assert_eq!(spec_with.head_variants[0][0].index, FIRST_NEW_HEAD, "{kind}");
            assert!(matches!(spec_with.weights, WeightsSpec::NewHeads { seed: 3, .. }));
            assert_eq!(spec(&text(false)).is_ok(), !["detect", "instance"].contains(&kind), "{kind} without a pyramid");
        }
    }

    #[test]
    fn a_bad_field_is_named_with_what_is_needed() {
        for (good, bad, name) in [
            ("my-roofs", "../up", "id"),
            ("my-roofs", ".hidden", "id"),
            ("swin_v2_t", "swin_v9", "backbone"),
            ("roofs/best.pth", "/etc/passwd", "checkpoint.path"),
            ("roofs/best.pth", "../best.pth", "checkpoint.path"),
            ("scale = 255", "scale = 0", "bands[0].scale"),
            ("\"roof\"\n", "\"embedding\"\n", "heads[0].task"),
            ("[\"other\", \"roof\"]", "[]", "heads[0].categories"),
            ("native_zoom_512 = 17", "native_zoom_512 = 99", "native_zoom_512"),
            ("native_zoom_512 = 17", "max_images = 4", "max_images"),
            ("\"bin_segment\"", "\"detect\"\nuse_layers = [4, 1]", "heads[0].use_layers"),
        ] {
            let text = OWN.replacen(good, bad, 1);
            assert_ne!(text, OWN, "{good} is in the manifest");
            match spec(&text) {
                Err(ManifestError::Field { field, .. }) => assert_eq!(field, name),
                other => panic!("{bad}: {other:?}"),
            }
        }
        assert!(matches!(spec("id = \"x\"\nbase = \"nobody\"\n"), Err(ManifestError::UnknownBase { .. })));
        assert!(matches!(spec("id = \"x\"\ncolour = 1\n"), Err(ManifestError::Toml(_))));
    }
}
