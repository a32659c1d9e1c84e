//! From a manifest to a [`ModelSpec`]: checks every field and fills in the defaults of the two public code bases.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::check::{MAX_TEXT_LEN, check, check_name, field};
use super::document::{BackboneChoice, Checkpoint, Manifest, ManifestError};
use crate::zoo::backbone::Backbone;
use crate::zoo::spec::{FpnSpec, HeadsFile, Layout, ModelOrigin, ModelSpec, TensorChoice, UpsampleSpec, WeightsSpec};

const MAX_BANDS: usize = 64;
const MAX_IMAGES: usize = 32;
const MAX_CHANNELS: usize = 2048;
/// Channels of the pyramid and of the decoder in every public checkpoint.
const PUBLIC_CHANNELS: usize = 128;

impl Manifest {
    /// The model that the manifest describes. `base` looks up a built-in model; the checkpoint's path is relative to
    /// `models_dir`.
    ///
    /// # Errors
    /// If `base` is not found, or a field has a value that it cannot have.
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
        check(self.fit.is_none() || self.head_weights.is_some(), "fit", "a value", "none without head_weights")?;
        let mut spec = match (&self.base, &self.checkpoint) {
            (Some(name), None) => {
                let base = base(name).ok_or_else(|| ManifestError::UnknownBase { base: name.clone() })?;
                match &self.head_weights {
                    Some(path) => self.with_head_weights(base, below(models_dir, "head_weights", path)?)?,
                    None => self.on_base(base)?,
                }
            }
            (None, Some(checkpoint)) => self.on_checkpoint(checkpoint, models_dir)?,
            (Some(_), Some(_)) => return Err(field("base", "base and checkpoint", "one of them")),
            (None, None) => return Err(field("base", "neither base nor checkpoint", "one of them")),
        };
        spec.head_variants = vec![super::heads::heads(&self.heads, &spec)?];
        Ok(spec)
    }

    fn on_base(&self, base: ModelSpec) -> Result<ModelSpec, ManifestError> {
        let taken = [
            ("backbone", self.backbone.is_some()),
            ("bands", !self.bands.is_empty()),
            ("fpn_channels", self.fpn_channels.is_some()),
            ("fpn_prepend", self.fpn_prepend.is_some()),
            ("upsample_channels", self.upsample_channels.is_some()),
            ("multi_image", self.multi_image.is_some_and(|multi| multi != base.multi_image)),
        ];
        for (name, given) in taken {
            check(!given, name, "a value", format!("none: it is taken from {}", base.id))?;
        }
        check(!self.heads.is_empty(), "heads", "none", format!("at least one: without one, {} does the same", base.id))?;
        check(base.origin != ModelOrigin::Registered, "base", format!("{:?}", base.id), "a built-in model")?;
        let max_images = self.max_images.unwrap_or(base.max_images);
        check((1..=base.max_images).contains(&max_images), "max_images", max_images, format!("1 to {}", base.max_images))?;
        Ok(ModelSpec {
            id: self.id.clone(),
            title: self.title.clone().unwrap_or_else(|| format!("{} with new heads", base.title)),
            origin: ModelOrigin::Registered,
            sensor: self.sensor.clone().unwrap_or(base.sensor),
            native_gsd_m: self.gsd(base.native_gsd_m)?,
            native_zoom_512: self.zoom(base.native_zoom_512)?,
            max_images,
            trained_images: base.trained_images.min(max_images),
            // New heads are those of the Python package, which does not give heads the backbone's maps.
            fpn: base.fpn.filter(|_| self.fpn).map(|fpn| FpnSpec { prepend: false, ..fpn }),
            upsample: base.upsample.filter(|_| self.fpn),
            licence: self.licence.clone().unwrap_or(base.licence),
            weights: WeightsSpec::NewHeads { base: Box::new(base.weights), seed: self.seed.unwrap_or(0).into() },
            ..base
        })
    }

    /// As [`Manifest::on_base`], with weights for the heads. The base model's network is used as it is, since others stand on it.
    fn with_head_weights(&self, base: ModelSpec, heads: PathBuf) -> Result<ModelSpec, ManifestError> {
        for (name, given) in [
            ("seed", self.seed.is_some()),
            ("fpn", !self.fpn),
            ("max_images", self.max_images.is_some_and(|most| most != base.max_images)),
        ] {
            check(!given, name, "a value", "none beside head_weights")?;
        }
        let whole = Arc::new(base.clone());
        let weights = WeightsSpec::OnBase { base: whole, heads: HeadsFile::Path(heads) };
        Ok(ModelSpec { weights, fit: self.fit.clone(), ..self.on_base(base)? })
    }

    fn on_checkpoint(&self, checkpoint: &Checkpoint, models_dir: &Path) -> Result<ModelSpec, ManifestError> {
        check(self.seed.is_none(), "seed", "a value", "none: a checkpoint's heads are trained")?;
        check(self.head_weights.is_none(), "head_weights", "a value", "none: a checkpoint holds its heads")?;
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
        let prepend = self.fpn_prepend.unwrap_or(false);
        check(
            !(prepend && is_package),
            "fpn_prepend",
            "true",
            "false: the package's heads do not read the backbone's maps",
        )?;
        let fpn = FpnSpec { out_channels: channels("fpn_channels", self.fpn_channels)?, prepend };
        let upsample = UpsampleSpec { out_channels: channels("upsample_channels", self.upsample_channels)? };
        Ok(ModelSpec {
            id: self.id.clone(),
            title: self.title.clone().unwrap_or_else(|| self.id.clone()),
            origin: ModelOrigin::Registered,
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
            weights: WeightsSpec::File {
                path: below(models_dir, "checkpoint.path", &checkpoint.path)?,
                choice: checkpoint.choice()?,
            },
            licence: self.licence.clone().unwrap_or_else(|| "not stated".to_owned()),
            source: checkpoint.path.clone(),
            fit: None,
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
}

impl Checkpoint {
    fn choice(&self) -> Result<TensorChoice, ManifestError> {
        const MAX_RENAMED: usize = 256;
        let short = |name: &str, text: &str, least: usize| {
            let needed = format!("{least} to {MAX_TEXT_LEN}");
            check((least..=MAX_TEXT_LEN).contains(&text.len()), name, format!("{} bytes", text.len()), needed)
        };
        self.prefix.iter().try_for_each(|prefix| short("checkpoint.prefix", prefix, 0))?;
        self.select.iter().try_for_each(|entry| short("checkpoint.select", entry, 1))?;
        let renamed = self.rename.len();
        check(renamed <= MAX_RENAMED, "checkpoint.rename", renamed, format!("at most {MAX_RENAMED} beginnings of names"))?;
        for (from, to) in &self.rename {
            short("checkpoint.rename", from, 0)?;
            short("checkpoint.rename", to, 0)?;
        }
        Ok(TensorChoice { select: self.select.clone(), prefix: self.prefix.clone(), rename: self.rename.clone() })
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

/// The path of a file in the models directory. A manifest comes from a client and may not name files elsewhere.
fn below(models_dir: &Path, name: &str, path: &str) -> Result<PathBuf, ManifestError> {
    let relative = Path::new(path);
    let is_inside = !path.is_empty() && relative.components().all(|part| matches!(part, Component::Normal(_)));
    check(is_inside, name, format!("{path:?}"), "a path inside the models directory, without \"..\"")?;
    Ok(models_dir.join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::parameters;
    use crate::zoo::pretrained_models;
    use crate::zoo::spec::{Activation, FIRST_NEW_HEAD, HeadKind};

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
        let choice = TensorChoice::default();
        assert_eq!(spec.weights, WeightsSpec::File { path: "/models/roofs/best.pth".into(), choice });
        assert_eq!(spec.head_variants[0][0].kind, HeadKind::Simple { activation: Activation::Softmax });
        assert!(parameters(&spec, 0).iter().any(|parameter| parameter.name == "head.layers.1.weight"));
    }

    #[test]
    fn a_checkpoints_classifier_can_read_the_backbones_coarsest_map() {
        let text = OWN
            .replace(
                "\"package\"",
                "\"satlas\"\n        prefix = \"m.\"\n        select = \"ema\"\n        rename = { \"enc.\" = \"backbone.\" }",
            )
            .replace("\"bin_segment\"", "\"classification\"")
            .replace("backbone = \"swin_v2_t\"", "backbone = \"swin_v2_t\"\n        fpn_prepend = true");
        let model = spec(&text).unwrap();
        let WeightsSpec::File { choice, .. } = &model.weights else { panic!("{:?}", model.weights) };
        assert_eq!((choice.prefix.as_deref(), choice.select.as_deref()), (Some("m."), Some("ema")));
        assert_eq!(choice.rename["enc."], "backbone.");
        let layer = parameters(&model, 0).into_iter().find(|parameter| parameter.name == "heads.0.layer.weight").unwrap();
        assert_eq!(layer.shape, [2, 768]);
        let package = text.replace("\"satlas\"", "\"package\"");
        assert!(matches!(spec(&package), Err(ManifestError::Field { field, .. }) if field == "fpn_prepend"));
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

    const ON_BASE: &str = r#"
        id = "probe"
        base = "Sentinel2_SwinT_SI_RGB"
        head_weights = "probe.safetensors"
        [[heads]]
        task = "ground"
        type = "segment"
        categories = ["desert", "forest"]
        layers = ["backbone.3", "fpn.0"]
    "#;

    #[test]
    fn a_linear_head_stands_on_the_maps_that_it_names() {
        let model = spec(ON_BASE).unwrap();
        let WeightsSpec::OnBase { base, heads } = &model.weights else { panic!("{:?}", model.weights) };
        assert_eq!(
            (base.id.as_str(), heads),
            ("Sentinel2_SwinT_SI_RGB", &HeadsFile::Path("/models/probe.safetensors".into()))
        );
        let parameters: Vec<_> = parameters(&model, 0).into_iter().map(|found| (found.name, found.shape)).collect();
        let expected = [("heads.0.weight", vec![2, 768 + 128]), ("heads.0.bias", vec![2])];
        assert_eq!(parameters, expected.map(|(name, shape)| (name.to_owned(), shape)), "the base is not in its file");
        for (good, bad, name) in [
            ("\"backbone.3\", ", "\"fpn.0\", ", "heads[0].layers[1]"),
            ("\"backbone.3\", \"fpn.0\"", "", "heads[0].layers"),
            ("layers =", "network = \"simple\"\n        layers =", "heads[0].layers"),
            ("\"segment\"", "\"detect\"", "heads[0].network"),
            ("head_weights", "seed = 1\n        head_weights", "seed"),
            ("head_weights", "fpn = false\n        head_weights", "fpn"),
            ("probe.safetensors", "/etc/probe.safetensors", "head_weights"),
        ] {
            let text = if bad.is_empty() {
                ON_BASE.replace(good, bad).replace("segment\"", "segment\"\n        network = \"linear\"")
            } else {
                ON_BASE.replacen(good, bad, 1)
            };
            match spec(&text) {
                Err(ManifestError::Field { field, .. }) => assert_eq!(field, name),
                other => panic!("{bad}: {other:?}"),
            }
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
            ("layout = \"package\"", "layout = \"package\"\nselect = \"\"", "checkpoint.select"),
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
