//! What a checkpoint file holds and which model it fits, for `models inspect`.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::error::WeightsError;
use super::fit::Fit;
use super::kind::WeightsKind;
use super::suggest;
use super::tensors::{TensorInfo, Weights};
use crate::zoo::{Layout, ModelSpec};

/// How many models are named.
const MAX_CANDIDATES: usize = 3;

/// What a checkpoint file holds, and which models it fits best.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Inspection {
    /// The file's path.
    pub(crate) file: String,
    /// What the names in the file begin with, such as `module.`. It is left out of `tensors`, and so are tensors without
    /// it.
    pub(crate) prefix: String,
    /// The code base that wrote it, if that is clear from the names.
    pub(crate) layout: Option<Layout>,
    /// Its tensors, in alphabetical order.
    pub(crate) tensors: Vec<TensorInfo>,
    /// The models that it fits best, the best first.
    pub(crate) candidates: Vec<Candidate>,
    /// The text of a manifest that serves the file as it is, if there is one.
    pub(crate) manifest: Option<String>,
}

/// A model that the file may belong to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Candidate {
    /// The model's id.
    pub(crate) model: String,
    /// The tasks of the head variant that fits best.
    pub(crate) tasks: Vec<String>,
    pub(crate) fit: Fit,
}

/// Reads the names and shapes in a file and compares them with each of `models`.
///
/// # Errors
/// [`WeightsError`] if the file cannot be read.
pub(crate) fn inspect(path: &Path, models: &[ModelSpec]) -> Result<Inspection, WeightsError> {
    let mut weights = Weights::open(path, WeightsKind::FineTuned)?;
    let usual = weights.naming().clone();
    let mut candidates: Vec<Candidate> = models
        .iter()
        .map(|spec| {
            weights.rename(weights.naming_for(spec, &usual));
            let fit = weights.fit(spec);
            let heads = spec.head_variants.get(fit.variant);
            let tasks = heads.into_iter().flatten().map(|head| head.task.name.clone()).collect();
            Candidate { model: spec.id.clone(), tasks, fit }
        })
        // Models share some names, such as those of heads. A model of which less than half of the tensors fit is left out.
        .filter(|candidate| candidate.fit.matched > candidate.fit.missing.len() + candidate.fit.misshapen.len())
        .collect();
    candidates.sort_by_key(|Candidate { fit, .. }| (fit.missing.len() + fit.misshapen.len(), fit.unused.len()));
    candidates.truncate(MAX_CANDIDATES);
    let best = candidates.first().and_then(|best| models.iter().find(|spec| spec.id == best.model));
    weights.rename(best.map_or_else(|| usual.clone(), |spec| weights.naming_for(spec, &usual)));
    let complete = candidates.first().filter(|candidate| candidate.fit.is_complete());
    let known = best.zip(complete).map(|(spec, candidate)| (spec, candidate.fit.variant));
    Ok(Inspection {
        file: path.display().to_string(),
        prefix: weights.prefix(),
        layout: layout(&weights),
        tensors: weights.tensors().collect(),
        candidates,
        manifest: suggest::manifest(path, weights, models, known),
    })
}

fn layout(weights: &Weights) -> Option<Layout> {
    let has = |prefix: &str| weights.names().any(|name| name.starts_with(prefix));
    match (has("intermediates.") || has("heads."), has("fpn.fpn.") || has("head.") || has("upsample.")) {
        (true, false) => Some(Layout::Satlas),
        (false, true) => Some(Layout::Package),
        _ => None,
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for TensorInfo { name, dtype, shape } in &self.tensors {
            writeln!(f, "{dtype:>5}  {name}  {shape:?}")?;
        }
        let layout = match self.layout {
            Some(Layout::Satlas) => "layout satlas",
            Some(Layout::Package) => "layout package",
            None => "layout not clear from the names",
        };
        write!(f, "{}: {} tensors, {layout}", self.file, self.tensors.len())?;
        if !self.prefix.is_empty() {
            write!(f, ", names start with {:?}", self.prefix)?;
        }
        writeln!(f)?;
        if self.candidates.is_empty() && self.manifest.is_none() {
            writeln!(f, "It fits no known model; describe it with a manifest.")?;
        }
        // If a model fits, the others are not listed.
        let fits = self.candidates.iter().any(|candidate| candidate.fit.is_complete());
        for Candidate { model, tasks, fit } in
            self.candidates.iter().filter(|candidate| !fits || candidate.fit.is_complete())
        {
            let verdict = if fits { "It fits" } else { "It nearly fits" };
            writeln!(f, "{verdict} {model} (tasks {}): {fit}", tasks.join(", "))?;
        }
        if let Some(manifest) = &self.manifest {
            let advice = "This manifest serves it, as a .toml file beside it in the models directory. Whether the bands and their \
                          scaling are right is not in the file, nor what its categories are.";
            writeln!(f, "# {advice}\n{manifest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::demo_models;

    #[test]
    fn a_file_is_recognised_by_its_shapes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let models = demo_models(include_str!("../../static/demo/demo.json")).unwrap();
        let inspection = inspect(&root.join("static/demo/trees.safetensors"), &models).unwrap();
        let best = &inspection.candidates[0];
        assert_eq!((best.model.as_str(), best.fit.is_complete()), ("trees", true));
        assert_eq!(inspection.layout, Some(Layout::Satlas));
        assert!(inspection.to_string().contains("It fits trees (tasks tree_crown)"), "{inspection}");
    }

    #[test]
    fn a_foreign_file_fits_nothing_and_its_prefix_is_told() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints/nested_module_bf16.pth");
        let models = demo_models(include_str!("../../static/demo/demo.json")).unwrap();
        let inspection = inspect(&path, &models).unwrap();
        assert!(inspection.candidates.is_empty());
        assert_eq!(inspection.prefix, "model/module.");
        assert!(inspection.tensors.iter().any(|tensor| tensor.dtype == "bf16" && tensor.shape == [2, 3]));
    }
}
