//! Whether a file holds the tensors that a model needs, and with which of its head variants: decided by names and shapes.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::parameters::parameters;
use super::{Weights, WeightsError, keys};
use crate::zoo::ModelSpec;

/// A tensor whose shape differs from what the model needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Misshapen {
    /// The tensor.
    pub name: String,
    /// Its shape in the file.
    pub found: Vec<usize>,
    /// The shape the model needs.
    pub needed: Vec<usize>,
}

/// How a file compares with a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// The head variant compared with: the one with the fewest faults.
    pub variant: usize,
    /// Tensors of the right name and shape.
    pub matched: usize,
    /// Tensors the model needs and the file lacks.
    pub missing: Vec<String>,
    /// Tensors of another shape.
    pub misshapen: Vec<Misshapen>,
    /// Tensors the model does not read.
    pub unused: Vec<String>,
}

impl Fit {
    /// Whether the model can be loaded: unused tensors do no harm.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty()
    }

    fn faults(&self) -> usize {
        self.missing.len() + self.misshapen.len()
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Names listed of each sort; a foreign file lacks hundreds.
        const LISTED: usize = 20;
        let list = |names: Vec<String>| {
            let more = names.len().saturating_sub(LISTED);
            let listed = names.into_iter().take(LISTED).collect::<Vec<_>>().join(", ");
            if more == 0 { listed } else { format!("{listed} and {more} more") }
        };
        let misshapen = |fault: &Misshapen| format!("{} is {:?}, needed {:?}", fault.name, fault.found, fault.needed);
        write!(f, "{} tensors fit", self.matched)?;
        if !self.missing.is_empty() {
            write!(f, "; {} missing: {}", self.missing.len(), list(self.missing.clone()))?;
        }
        if !self.misshapen.is_empty() {
            write!(f, "; {} misshapen: {}", self.misshapen.len(), list(self.misshapen.iter().map(misshapen).collect()))?;
        }
        if !self.unused.is_empty() {
            write!(f, "; {} unused: {}", self.unused.len(), list(self.unused.clone()))?;
        }
        Ok(())
    }
}

impl Weights {
    /// Compares the tensors with a model, and takes the head variant that fits best; of equals the one with most heads.
    /// Synthetic weights fit every model, with the largest variant.
    pub fn fit(&self, spec: &ModelSpec) -> Fit {
        if self.is_synthetic() {
            let variant = spec.largest_variant();
            let matched = parameters(spec, variant).len();
            return Fit { variant, matched, missing: Vec::new(), misshapen: Vec::new(), unused: Vec::new() };
        }
        let fits = (0..spec.head_variants.len().max(1)).map(|variant| self.fit_variant(spec, variant));
        fits.min_by_key(|fit| (fit.faults(), fit.unused.len())).unwrap_or_else(|| self.fit_variant(spec, 0))
    }

    /// That the tensors fit one of the model's head variants, and which are left over.
    ///
    /// # Errors
    /// [`WeightsError::DoesNotFit`] with every missing, misshapen and unused tensor by name.
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
