//! Whether weights fit a model, and with which of its head variants: decided by names and shapes.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::error::WeightsError;
use super::fit::{Fit, Misshapen};
use super::keys::{self, Naming};
use super::parameters::{backbone_prefix, parameters};
use super::tensors::Weights;
use crate::zoo::{ModelSpec, TensorChoice, WeightsSpec};

/// How many entries of a file are named in an error.
const LISTED: usize = 8;

impl Weights {
    /// The same weights, with the tensors of the file chosen and named so that as many as possible fit a model: whatever
    /// dictionary they are in, whatever prefix their names have, and also if the file holds the backbone alone. What a manifest
    /// states is taken as it is.
    ///
    /// # Errors
    /// [`WeightsError::Refused`] if the file has nothing of what the manifest states.
    pub(crate) fn suited_to(mut self, spec: &ModelSpec) -> Result<Self, WeightsError> {
        let naming = match &spec.weights {
            WeightsSpec::File { choice, .. } if *choice != TensorChoice::default() => {
                let stated = self.stated(choice)?;
                if choice.prefix.is_some() { stated } else { self.naming_for(spec, &stated) }
            }
            _ => self.naming_for(spec, self.naming()),
        };
        if naming != *self.naming() {
            self.rename(naming);
        }
        Ok(self)
    }

    /// The naming that a manifest states.
    fn stated(&self, TensorChoice { select, prefix, rename }: &TensorChoice) -> Result<Naming, WeightsError> {
        let refused = |reason: String| Err(WeightsError::Refused { file: self.file().to_owned(), reason });
        let mut naming = Naming::default();
        if let Some(entry) = select {
            let starts = |start: &String| self.in_file().any(|(name, _)| name.starts_with(start));
            let Some(found) = ["/", "."].map(|end| format!("{entry}{end}")).into_iter().find(starts) else {
                let names = self.in_file().filter_map(|(name, _)| name.rsplit_once('/')).map(|(entry, _)| entry);
                let entries = names.collect::<BTreeSet<_>>();
                let has = match entries.len() {
                    0 => "its tensors are in no entry; leave select out".to_owned(),
                    _ => format!("it has {}", entries.into_iter().take(LISTED).collect::<Vec<_>>().join(", ")),
                };
                return refused(format!("checkpoint.select is {entry:?}, and the file has no such entry: {has}"));
            };
            naming.from = found;
        }
        let example = |naming: &Naming| self.in_file().find_map(|(name, _)| naming.stated(name)).unwrap_or_default();
        if let Some(prefix) = prefix {
            let inside = Naming { from: format!("{}{}", naming.from, keys::unwrapped(prefix)), ..Naming::default() };
            if !self.in_file().any(|(name, _)| name.starts_with(&inside.from)) {
                let like = example(&naming);
                return refused(format!(
                    "checkpoint.prefix is {prefix:?}, and no name begins with it: names are like {like:?}"
                ));
            }
            naming = inside;
        }
        for old in rename.keys() {
            if !self.in_file().any(|(name, _)| naming.stated(name).is_some_and(|name| name.starts_with(old))) {
                let like = example(&naming);
                return refused(format!(
                    "checkpoint.rename has {old:?}, and no name begins with it: names are like {like:?}"
                ));
            }
        }
        let naming = Naming { rename: rename.clone(), ..naming };
        let mut names = BTreeSet::new();
        let mut stated = self.in_file().filter_map(|(name, _)| naming.stated(name));
        if let Some(twice) = stated.find(|name| !names.insert(name.clone())) {
            return refused(format!("checkpoint.rename gives several tensors the name {twice:?}"));
        }
        drop(stated);
        Ok(naming)
    }

    /// The naming under which most tensors have name and shape of one that the model needs, with what `present` states. Of
    /// equals the present one, then the first in alphabetical order.
    pub(super) fn naming_for(&self, spec: &ModelSpec, present: &Naming) -> Naming {
        let variants = 0..spec.head_variants.len().max(1);
        let needed: HashSet<(String, Vec<usize>)> = variants
            .flat_map(|variant| parameters(spec, variant))
            .map(|parameter| (parameter.name, parameter.shape))
            .collect();
        let backbone = format!("{}.", backbone_prefix(spec));
        let mut votes: BTreeMap<(String, &str), usize> = BTreeMap::new();
        for (name, shape) in self.in_file() {
            let Some(name) = present.stated(name) else { continue };
            let steps = name.match_indices(['.', '/']).map(|(at, _)| at + 1);
            for at in std::iter::once(0).chain(steps) {
                let (strip, rest) = name.split_at(at);
                if rest.contains('/') {
                    continue;
                }
                for add in ["", backbone.as_str()] {
                    if needed.contains(&(format!("{add}{rest}"), shape.to_vec())) {
                        *votes.entry((strip.to_owned(), add)).or_default() += 1;
                    }
                }
            }
        }
        let most = votes.values().copied().max().unwrap_or(0);
        let best = votes.into_iter().filter(|(_, count)| *count == most);
        let mut best: Vec<Naming> =
            best.map(|((strip, add), _)| Naming { strip, add: add.to_owned(), ..present.clone() }).collect();
        if best.is_empty() || best.contains(present) {
            return present.clone();
        }
        if best.len() > 1 {
            let found: Vec<&str> = best.iter().map(|naming| naming.strip.as_str()).collect();
            tracing::warn!(
                file = self.file(),
                ?found,
                "several sets of tensors fit equally well; the first is used: a manifest's checkpoint.select says which"
            );
        }
        best.swap_remove(0)
    }

    /// Compares the weights with a model, using the head variant that fits best: with the fewest faults, then with the
    /// fewest unused tensors. Synthetic weights fit every model, with its largest variant.
    pub fn fit(&self, spec: &ModelSpec) -> Fit {
        if self.is_synthetic() {
            let variant = spec.largest_variant();
            let matched = parameters(spec, variant).len();
            return Fit { variant, matched, missing: Vec::new(), misshapen: Vec::new(), unused: Vec::new() };
        }
        let fits = (0..spec.head_variants.len().max(1)).map(|variant| self.fit_variant(spec, variant));
        fits.min_by_key(|fit| (fit.faults(), fit.unused.len())).unwrap_or_else(|| self.fit_variant(spec, 0))
    }

    /// Compares the weights with one head variant of a model.
    ///
    /// # Errors
    /// [`WeightsError::DoesNotFit`], which names missing, misshapen and unused tensors, if the model cannot be loaded.
    pub fn require(&self, spec: &ModelSpec, variant: usize) -> Result<Fit, WeightsError> {
        let fit = self.fit_variant(spec, variant);
        if fit.is_complete() {
            return Ok(fit);
        }
        Err(WeightsError::DoesNotFit { file: self.file().to_owned(), model: spec.id.clone(), fit: Box::new(fit) })
    }

    fn fit_variant(&self, spec: &ModelSpec, variant: usize) -> Fit {
        let mut needed: BTreeMap<String, Vec<usize>> =
            parameters(spec, variant).into_iter().map(|parameter| (parameter.name, parameter.shape)).collect();
        let mut fit = Fit { variant, matched: 0, missing: Vec::new(), misshapen: Vec::new(), unused: Vec::new() };
        for name in self.names() {
            match (needed.remove(name), self.shape(name)) {
                (Some(needed), Some(found)) if found != needed => {
                    fit.misshapen.push(Misshapen { name: name.to_owned(), found, needed });
                }
                (Some(_), _) => fit.matched += 1,
                (None, _) if !keys::is_ignored(name) => fit.unused.push(name.to_owned()),
                (None, _) => {}
            }
        }
        let left_out = self.in_file().map(|(name, _)| name).filter(|name| self.naming().name(name).is_none());
        fit.unused.extend(left_out.filter(|name| !keys::is_ignored(name)).map(str::to_owned));
        fit.missing = needed.into_keys().filter(|name| !self.contains(name)).collect();
        fit
    }
}

#[cfg(test)]
mod tests {
    use ::safetensors::tensor::{SafeTensors, serialize};

    use super::*;
    use crate::zoo::{demo_models, pretrained_models};

    const DEMO: &str = include_str!("../../static/demo/demo.json");

    #[test]
    fn the_demo_files_fit_their_models_and_no_other() {
        let models = demo_models(DEMO).unwrap();
        let world = Weights::embedded("world", include_bytes!("../../static/demo/world.safetensors")).unwrap();
        let trees = Weights::embedded("trees", include_bytes!("../../static/demo/trees.safetensors")).unwrap();
        for (weights, model) in [(&world, &models[0]), (&trees, &models[1])] {
            let fit = weights.fit(model);
            assert!(fit.is_complete() && fit.unused.is_empty(), "{}: {fit}", model.id);
        }
        let error = world.require(&models[1], 0).unwrap_err().to_string();
        assert!(error.contains("missing") && error.contains("trees"), "{error}");
    }

    /// The demo's weights under other names.
    fn renamed(name: impl Fn(&str) -> Option<String>) -> Weights {
        let bytes = include_bytes!("../../static/demo/world.safetensors");
        let tensors = SafeTensors::deserialize(bytes).unwrap();
        let named = tensors.iter().filter_map(|(found, tensor)| Some((name(found)?, tensor)));
        Weights::embedded("renamed", serialize(named, None).unwrap().leak()).unwrap()
    }

    #[test]
    fn tensors_are_found_under_any_key_and_prefix_and_beside_others() {
        let world = &demo_models(DEMO).unwrap()[0];
        let same: Vec<String> = renamed(|name| Some(name.to_owned())).names().map(str::to_owned).collect();
        for prefix in ["net/", "state_dict/model.", "model_ema/module.", "lit.encoder.", "weights/"] {
            let weights = renamed(|name| Some(format!("{prefix}{name}"))).suited_to(world).unwrap();
            assert!(weights.fit(world).is_complete() && weights.fit(world).unused.is_empty(), "{prefix}");
            assert_eq!(weights.prefix(), prefix);
            assert!(weights.names().eq(same.iter().map(String::as_str)), "{prefix}");
        }
        let beside = renamed(|name| {
            let is_last = name == "heads.0.layers.0.0.bias";
            Some(if is_last { "state_dict/criterion.weight".to_owned() } else { format!("state_dict/model.{name}") })
        });
        let fit = beside.suited_to(world).unwrap().fit(world);
        assert_eq!(fit.unused, ["state_dict/criterion.weight"]);
        assert_eq!(fit.missing, ["heads.0.layers.0.0.bias"]);
    }

    #[test]
    fn of_several_sets_the_one_with_the_stated_prefix_is_used() {
        let mut world = demo_models(DEMO).unwrap().swap_remove(0);
        let bytes = include_bytes!("../../static/demo/world.safetensors");
        let tensors = SafeTensors::deserialize(bytes).unwrap();
        let twice = tensors
            .iter()
            .flat_map(|(name, tensor)| ["model/", "ema/"].map(|set| (format!("{set}{name}"), tensor.clone())));
        let twice: &'static [u8] = serialize(twice, None).unwrap().leak();
        let mut choose = |choice: TensorChoice| {
            world.weights = WeightsSpec::File { path: "mine.pth".into(), choice };
            let weights = Weights::embedded("twice", twice).unwrap().suited_to(&world)?;
            assert!(weights.fit(&world).is_complete(), "{}", weights.fit(&world));
            Ok::<_, WeightsError>(weights.prefix())
        };
        let some = |text: &str| Some(text.to_owned());
        for set in ["model", "ema"] {
            let prefix = choose(TensorChoice { prefix: some(&format!("{set}/")), ..TensorChoice::default() });
            let select = choose(TensorChoice { select: some(set), ..TensorChoice::default() });
            assert_eq!((prefix.unwrap(), select.unwrap()), (format!("{set}/"), format!("{set}/")));
        }
        let mut refused = |choice| choose(choice).unwrap_err().to_string();
        let error = refused(TensorChoice { select: some("net"), ..TensorChoice::default() });
        assert!(error.contains("no such entry: it has ema, model"), "{error}");
        let error = refused(TensorChoice { select: some("ema"), prefix: some("m."), ..TensorChoice::default() });
        assert!(error.contains("names are like \"backbone."), "{error}");
        let rename = BTreeMap::from([("enc.".to_owned(), "backbone.".to_owned())]);
        let error = refused(TensorChoice { select: some("ema"), rename, ..TensorChoice::default() });
        assert!(error.contains("checkpoint.rename has \"enc.\""), "{error}");
        let rename = BTreeMap::from([("heads.0.".to_owned(), "heads.1.".to_owned())]);
        let error = refused(TensorChoice { select: some("ema"), rename, ..TensorChoice::default() });
        assert!(error.contains("several tensors the name \"heads.1."), "{error}");
    }

    #[test]
    fn names_are_given_new_beginnings() {
        let mut world = demo_models(DEMO).unwrap().swap_remove(0);
        let other = || {
            renamed(|name| {
                let inner =
                    name.strip_prefix("backbone.").map_or_else(|| name.to_owned(), |rest| format!("enc.net.{rest}"));
                Some(format!("state/wrap.{}", inner.replacen("heads.0.", "decode.", 1)))
            })
        };
        let pairs =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned())).collect();
        let rename: BTreeMap<_, _> = pairs(&[("enc.", "nothing."), ("enc.net.", "backbone."), ("decode.", "heads.0.")]);
        let found: BTreeMap<_, _> = pairs(&[("wrap.enc.net.", "wrap.backbone."), ("wrap.decode.", "wrap.heads.0.")]);
        let select = Some("state".to_owned());
        for choice in [
            TensorChoice { select: select.clone(), prefix: Some("wrap.".to_owned()), rename },
            TensorChoice { select, prefix: None, rename: found },
        ] {
            world.weights = WeightsSpec::File { path: "mine.pth".into(), choice };
            let weights = other().suited_to(&world).unwrap();
            assert!(weights.fit(&world).is_complete() && weights.fit(&world).unused.is_empty(), "{}", weights.fit(&world));
        }
    }

    #[test]
    fn a_bare_backbone_gets_the_models_names() {
        let world = &demo_models(DEMO).unwrap()[0];
        let bare = renamed(|name| name.strip_prefix("backbone.backbone.").map(str::to_owned)).suited_to(world).unwrap();
        let fit = bare.fit(world);
        assert!(fit.matched > 50 && fit.misshapen.is_empty() && bare.contains("backbone.backbone.features.0.0.weight"));
        assert!(fit.missing.iter().all(|name| !name.starts_with("backbone.")), "{fit}");
    }

    #[test]
    fn synthetic_weights_take_the_variant_with_most_heads() {
        let models = pretrained_models().unwrap();
        let aerial = models.iter().find(|model| model.id == "Aerial_SwinB_SI").unwrap();
        let fit = Weights::synthetic(7).fit(aerial);
        assert_eq!(fit.variant, aerial.largest_variant());
        assert!(Weights::synthetic(7).require(aerial, fit.variant).is_ok());
    }
}
