//! Heads fitted to labels on a source: the features under the labels, the fit, a registered model.
//!
//! Labels lie on the pixels of the model's native zoom. Their features come from the windows from which tiles are cut, by way of the
//! same caches, and are interpolated as the head does it on the map: at a label's pixel the map says what the fit has said.

mod head_file;
mod labels;
mod sampling;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use self::head_file::head_file;
pub use self::labels::{Label, LabelShape, MAX_LABELS};
use self::labels::{Placed, PlacedLabel, place};
use self::sampling::{LabelFeatures, Sampling};
use super::caller::Caller;
use super::error::EngineError;
use super::models::ModelStatus;
use super::options::PixelOptions;
use super::{Engine, manifests};
use crate::fit::{ClassFit, ClassLabels, FitError, fit_classes};
use crate::zoo::{FitReport, Head, HeadKind, Layer, Manifest, ModelSpec};

/// What to fit.
#[derive(Clone, Debug)]
pub struct FitRequest {
    /// The model to register: one linear `segment` head over a base model. Weights and report are filled in.
    pub manifest: Manifest,
    /// Id of the source that the labels are about.
    pub source: String,
    /// Bands, scaling, captures.
    pub pixels: PixelOptions,
    /// The labels; their categories are those of the head.
    pub labels: Vec<Label>,
}

/// Bytes that a fit takes per value of a feature: float32 as it is, float64 standardised, and again in each fold.
const BYTES_PER_VALUE: usize = 24;

impl Engine {
    /// Checks what can be checked of a fit without running anything; blocks for as long as it takes to find the pixels of its labels.
    ///
    /// # Errors
    /// If the id is taken, the manifest describes no such model, or labels contradict each other.
    pub fn check_fit(&self, request: &FitRequest) -> Result<(), EngineError> {
        let FitRequest { manifest, labels, .. } = request;
        if self.models.spec(&manifest.id).is_ok() {
            return Err(EngineError::Exists { what: "model", id: manifest.id.clone() });
        }
        let FitPlan { base, categories, .. } = FitPlan::of(manifests::describe_fitted(manifest, &self.models)?)?;
        place(labels, base.native_zoom_512, &categories).map(drop)
    }

    /// Fits a head and registers the model that has it. `report` is called with the windows that are done and all there are.
    ///
    /// The same labels on the same imagery give the same weights. If the very model that comes out is registered already, because
    /// a job runs again after a crash, that is returned.
    ///
    /// # Errors
    /// If the manifest describes no such model, its id is taken, the source or its imagery cannot be read, the network fails, or the
    /// labels are too few, contradict each other, or lie on no data.
    pub async fn fit_model(
        &self,
        request: FitRequest,
        caller: &Caller,
        report: impl Fn(usize, usize) + Send + Sync,
    ) -> Result<ModelStatus, EngineError> {
        let FitRequest { mut manifest, source, pixels, labels } = request;
        let FitPlan { base, layers, categories, channels } =
            FitPlan::of(manifests::describe_fitted(&manifest, &self.models)?)?;
        let (zoom, names) = (base.native_zoom_512, categories.clone());
        let placed = tokio::task::spawn_blocking(move || place(&labels, zoom, &names));
        let Placed { labels, beyond, warnings } = placed.await.map_err(|_| EngineError::Panicked)??;
        let bytes = labels.len() * channels * BYTES_PER_VALUE;
        let _memory = self.memory().answer("the features of the labels", bytes as u64).await?;
        let sampling = Sampling { engine: self, caller, base: &base, source: &source, pixels: &pixels, layers: &layers };
        let samples = sampling.run(&labels, &report).await?;
        let mut usable = Usable { warnings, ..Usable::default() };
        usable.take(&labels, samples, beyond, &categories)?;

        let Usable { features, classes, places, mut warnings } = usable;
        let count = classes.len();
        let fit = Fitting { features, channels, classes, categories, places }.run().await?;
        if fit.held_out.is_none() {
            let missing =
                "there are no scores: every category needs two labels apart from each other, one of which is held out";
            warnings.push(missing.to_owned());
        }
        let weights = head_file(&fit)?;
        manifest.fit = Some(FitReport { source, labels: count, c: fit.c, warnings, held_out: fit.held_out });
        manifests::register_fitted(&self.models, self.models_dir.as_deref(), manifest, weights).await
    }
}

/// What is fitted.
struct FitPlan {
    base: Arc<ModelSpec>,
    layers: Vec<Layer>,
    categories: Vec<String>,
    /// Of all layers together.
    channels: usize,
}

impl FitPlan {
    /// # Errors
    /// If the model is not one linear head on a base model.
    fn of(spec: ModelSpec) -> Result<Self, EngineError> {
        let head = spec.head_variants.first().and_then(|heads| heads.first());
        match (spec.base(), head) {
            (Some(base), Some(Head { kind: HeadKind::Linear { layers, .. }, task, .. })) => Ok(Self {
                base: base.clone(),
                layers: layers.clone(),
                categories: task.categories.clone(),
                channels: layers.iter().filter_map(|layer| layer.channels(base)).sum(),
            }),
            _ => Err(EngineError::Invalid { detail: "a linear head on a base model is needed".to_owned() }),
        }
    }
}

/// The labels that can be learnt from.
#[derive(Default)]
struct Usable {
    features: Vec<f32>,
    classes: Vec<usize>,
    places: Vec<[f64; 2]>,
    warnings: Vec<String>,
}

impl Usable {
    /// Takes the labels that have features.
    ///
    /// # Errors
    /// If a category has none left, or there is only one.
    fn take(
        &mut self,
        labels: &[PlacedLabel],
        samples: LabelFeatures,
        beyond: usize,
        categories: &[String],
    ) -> Result<(), EngineError> {
        let mut missing = beyond;
        for (label, features) in labels.iter().zip(samples.features) {
            let Some(features) = features else {
                missing += 1;
                continue;
            };
            self.features.extend(features);
            self.classes.push(label.category);
            self.places.push(label.pixel.map(|at| at as f64));
        }
        let lost = format!("{missing} of the labels lie outside the source or where it has no data");
        let without = (0..categories.len()).find(|category| !self.classes.contains(category));
        let detail = match without {
            Some(category) if missing > 0 => {
                format!(
                    "labels: found none of {:?} on the source's data ({lost}); at least one is needed",
                    categories[category]
                )
            }
            Some(category) => format!("labels: found none of {:?}; at least one is needed", categories[category]),
            None if categories.len() < 2 => {
                format!("labels: found one category, {:?}; two or more are needed", categories.concat())
            }
            None => {
                self.warnings.extend((missing > 0).then(|| format!("{lost} and do not count")));
                self.warnings.extend(samples.warnings);
                return Ok(());
            }
        };
        Err(EngineError::Unusable { detail })
    }
}

/// A fit, with all it needs.
struct Fitting {
    features: Vec<f32>,
    channels: usize,
    classes: Vec<usize>,
    categories: Vec<String>,
    places: Vec<[f64; 2]>,
}

impl Fitting {
    /// Fits on a blocking thread. Dropping the future ends it.
    async fn run(self) -> Result<ClassFit, EngineError> {
        let stop = Arc::new(AtomicBool::new(false));
        let _dropped = StopOnDrop(stop.clone());
        let fit = move || {
            let Self { features, channels, classes, categories, places } = &self;
            let labels = ClassLabels { features, channels: *channels, classes, categories, places };
            fit_classes(&labels, &stop)
        };
        let fitted = tokio::task::spawn_blocking(fit).await.map_err(|_| EngineError::Panicked)?;
        fitted.map_err(|error| match error {
            FitError::Stopped => EngineError::Stopping,
            FitError::NotFinite { .. } => EngineError::Unusable { detail: error.to_string() },
        })
    }
}

/// Ends a fit that nobody waits for any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
