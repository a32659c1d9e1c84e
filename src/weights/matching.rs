//! Whether weights fit a model, and with which of its head variants: decided by names and shapes.

use std::collections::BTreeMap;

use super::error::WeightsError;
use super::fit::{Fit, Misshapen};
use super::keys;
use super::parameters::parameters;
use super::tensors::Weights;
use crate::zoo::ModelSpec;

impl Weights {
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
        fit.missing = needed.into_keys().filter(|name| !self.contains(name)).collect();
        fit
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn synthetic_weights_take_the_variant_with_most_heads() {
        let models = pretrained_models().unwrap();
        let aerial = models.iter().find(|model| model.id == "Aerial_SwinB_SI").unwrap();
        let fit = Weights::synthetic(7).fit(aerial);
        assert_eq!(fit.variant, aerial.largest_variant());
        assert!(Weights::synthetic(7).require(aerial, fit.variant).is_ok());
    }
}
