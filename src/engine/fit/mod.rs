//! Heads fitted to labels on a source: the features under the labels, the fit, a registered model.
//!
//! Labels lie on the pixels of the model's native zoom. Their features come from the windows from which tiles are cut, by way of the
//! same caches, and are interpolated as the head does it on the map: at a label's pixel the map says what the fit has said.

mod chips;
mod fitting;
mod head_file;
mod labels;
mod mask_pixels;
mod masks;
mod sampling;
mod suggest;
mod usable;

use std::sync::Arc;

pub use self::chips::ChipFitRequest;
pub use self::fitting::FitMethod;
use self::fitting::{Fitted, Fitting};
use self::head_file::head_file;
pub use self::labels::{Label, LabelShape, LabelValue, MAX_LABELS};
use self::labels::{LabelUnit, Placed, WorldPixel, place};
pub use self::masks::{FoundValues, MaskFitRequest, MaskRule, MaskedChip};
use self::sampling::Sampling;
pub use self::suggest::{SuggestRequest, Suggestion, Suggestions};
use self::usable::{Lost, Usable};
use super::caller::Caller;
use super::error::EngineError;
use super::models::ModelStatus;
use super::options::{EmbeddingOptions, Layers, ObjectLimit, PixelOptions};
use super::{EMBEDDING, Engine, ModelTask, ScenePlan, SceneRequest, manifests};
use crate::fit::{HeldOut, LinearFit, Penalty};
use crate::zoo::{FitReport, Head, HeadKind, HeadNetwork, Layer, MAX_EXAMPLES, Manifest, ModelSpec, Task, TaskType};

/// What to fit.
#[derive(Clone, Debug)]
pub struct FitRequest {
    /// The model to register: one linear head over a base model. What the method makes of it, weights and report are filled in.
    pub manifest: Manifest,
    /// How the head is made of the labels.
    pub method: FitMethod,
    /// Id of the source that the labels are about.
    pub source: String,
    /// Bands, scaling, captures.
    pub pixels: PixelOptions,
    /// The labels; their categories are those of the head.
    pub labels: Vec<Label>,
}

/// How far chips lie from each other for the folds, which hold out whole chips: nothing is known of where they were taken.
const APART_PX: f64 = 1e6;

/// Bytes that a fit takes per value of a feature: float32 as it is, and as float64 standardised, once more by columns, and those held out.
const BYTES_PER_VALUE: usize = 32;

/// Bytes that it takes per product of two channels, or of two labels if these are fewer: the products, and a factor for each penalty.
const BYTES_PER_PRODUCT: usize = 64;

impl Engine {
    /// Checks what can be checked of a fit without running anything; blocks for as long as it takes to find the pixels of its labels.
    ///
    /// # Errors
    /// If the id is taken, the manifest describes no such model, labels contradict each other, or there are more than the method takes.
    pub fn check_fit(&self, request: &FitRequest) -> Result<(), EngineError> {
        let FitRequest { manifest, labels, method, .. } = request;
        let FitPlan { base, task, .. } = self.plan_new(manifest)?;
        let placed = place(labels, base.native_zoom_512, unit_of(task.task_type), &task.categories)?;
        method.check(placed.labels.len())
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
        let FitRequest { manifest, method, source, pixels, labels } = request;
        let plan = self.plan_fit(&manifest)?;
        let FitPlan { base, layers, task, .. } = &plan;
        let (zoom, unit, names) = (base.native_zoom_512, unit_of(task.task_type), task.categories.clone());
        let placed = tokio::task::spawn_blocking(move || place(&labels, zoom, unit, &names));
        let Placed { labels, beyond, warnings } = placed.await.map_err(|_| EngineError::Panicked)??;
        method.check(labels.len())?;
        let _memory = self.memory().answer("the features of the labels", plan.bytes(labels.len())).await?;
        let sampling = Sampling { engine: self, caller, base, source: &source, pixels: &pixels, layers, unit };
        let places: Vec<WorldPixel> = labels.iter().map(|label| label.place).collect();
        // And one more for the fit itself.
        let report = |done, all| report(done, all + 1);
        let samples = sampling.run(&places, &report).await?;
        let labels = labels.into_iter().map(|label| (label.says, label.place.at.map(|at| at as f64)));
        let usable = Usable::of(labels, samples, (Lost::Places, beyond), task)?;
        let report = FitReport { source: Some(source), warnings, ..FitReport::default() };
        self.finish_fit(manifest, plan, usable, (method, report)).await
    }

    /// What a fit needs to know of the model that it makes.
    ///
    /// # Errors
    /// If the manifest describes no such model.
    fn plan_fit(&self, manifest: &Manifest) -> Result<FitPlan, EngineError> {
        FitPlan::of(manifests::describe_fitted(manifest, &self.models)?)
    }

    /// The same, where the model must be new.
    ///
    /// # Errors
    /// [`EngineError::Exists`] if its id is taken, and as [`Engine::plan_fit`].
    fn plan_new(&self, manifest: &Manifest) -> Result<FitPlan, EngineError> {
        match self.models.spec(&manifest.id) {
            Ok(_) => Err(EngineError::Exists { what: "model", id: manifest.id.clone() }),
            Err(_) => self.plan_fit(manifest),
        }
    }

    /// What is asked of chips: these layers of the base model.
    fn layers_of_chips(&self, plan: &FitPlan, pixels: &PixelOptions, layers: Vec<Layer>) -> Result<ScenePlan, EngineError> {
        let model = ModelTask::find(plan.base.clone(), EMBEDDING)?;
        let embedding = EmbeddingOptions { layers: Layers(layers), ..EmbeddingOptions::default() };
        Ok(self.plan_scene(SceneRequest { model, pixels: pixels.clone(), embedding, limit: ObjectLimit::default() }))
    }

    /// Makes a head of features with labels, and registers the model that has it.
    async fn finish_fit(
        &self,
        mut manifest: Manifest,
        FitPlan { task, channels, .. }: FitPlan,
        usable: Usable,
        (method, mut report): (FitMethod, FitReport),
    ) -> Result<ModelStatus, EngineError> {
        report.labels = usable.labels.len();
        for head in &mut manifest.heads {
            head.value_range = usable.range();
        }
        report.warnings.extend(usable.warnings.iter().cloned());
        let fit = Fitting { usable, channels, task, method }.run().await?;
        match &fit {
            Fitted::Linear(LinearFit { penalty: Penalty::C(c), .. }) => report.c = Some(*c),
            Fitted::Linear(LinearFit { penalty: Penalty::Alpha(alpha), .. }) => report.alpha = Some(*alpha),
            Fitted::Nearest(fit) => {
                report.neighbours = Some(fit.neighbours);
                for head in &mut manifest.heads {
                    head.network = Some(HeadNetwork::Nearest);
                    (head.examples, head.neighbours) = (Some(fit.bias.len()), Some(fit.neighbours));
                }
            }
        }
        match fit.held_out() {
            Some(HeldOut::Scores(scores)) => report.held_out = Some(scores.clone()),
            Some(HeldOut::Errors(errors)) => report.held_out_errors = Some(errors.clone()),
            None => report.warnings.push(
                "there are no scores: every category needs two labels apart from each other, one of which is held out"
                    .to_owned(),
            ),
        }
        let weights = head_file(&fit)?;
        manifest.fit = Some(report);
        self.register_fitted(manifest, weights).await
    }
}

impl FitMethod {
    /// # Errors
    /// [`EngineError::TooLarge`] if there are more labels than the method takes.
    fn check(self, labels: usize) -> Result<(), EngineError> {
        match self {
            Self::Linear => Ok(()),
            Self::Nearest => EngineError::limit("labelled pixels of the method knn", labels as u64, MAX_EXAMPLES as u64),
        }
    }
}

/// What the labels of a task are about.
fn unit_of(task_type: TaskType) -> LabelUnit {
    if task_type.is_label() { LabelUnit::Tile } else { LabelUnit::Pixel }
}

/// What is fitted.
#[derive(Clone)]
struct FitPlan {
    base: Arc<ModelSpec>,
    layers: Vec<Layer>,
    task: Arc<Task>,
    /// Of all layers together.
    channels: usize,
}

impl FitPlan {
    /// What a fit to so many labels takes.
    fn bytes(&self, labels: usize) -> u64 {
        let side = labels.min(self.channels);
        (labels * self.channels * BYTES_PER_VALUE + side * side * BYTES_PER_PRODUCT) as u64
    }

    /// # Errors
    /// If the model is not one linear head on a base model.
    fn of(spec: ModelSpec) -> Result<Self, EngineError> {
        let head = spec.head_variants.first().and_then(|heads| heads.first());
        match (spec.base(), head) {
            (Some(base), Some(Head { kind: HeadKind::Linear { layers, .. }, task, .. })) => Ok(Self {
                base: base.clone(),
                layers: layers.clone(),
                task: task.clone(),
                channels: layers.iter().filter_map(|layer| layer.channels(base)).sum(),
            }),
            _ => Err(EngineError::Invalid { detail: "a linear head on a base model is needed".to_owned() }),
        }
    }
}
