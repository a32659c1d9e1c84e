//! Heads fitted to chips that a client has sent: a label for each chip as a whole.

use std::sync::Arc;

use futures::StreamExt;

use super::labels::LabelValue;
use super::sampling::PlaceFeatures;
use super::usable::{Lost, Usable};
use super::{APART_PX, FitMethod, MAX_LABELS};
use crate::engine::Engine;
use crate::engine::caller::Caller;
use crate::engine::error::EngineError;
use crate::engine::models::ModelStatus;
use crate::engine::options::PixelOptions;
use crate::prediction::Output;
use crate::raster::Raster;
use crate::zoo::{FitReport, Manifest};

/// What to fit to chips.
#[derive(Clone, Debug)]
pub struct ChipFitRequest {
    /// The model to register, as for [`super::FitRequest`]; its task is a classification.
    pub manifest: Manifest,
    /// How the head is made of the labels.
    pub method: FitMethod,
    /// Bands and scaling.
    pub pixels: PixelOptions,
    /// What each chip shows; its categories are those of the head.
    pub labels: Vec<LabelValue>,
}

/// Chips, each with its captures.
type Chips = Vec<Vec<Arc<dyn Raster>>>;

impl Engine {
    /// Checks what can be checked of a fit to chips without the network. Blocks: it looks at every chip.
    ///
    /// # Errors
    /// If the id is taken, the manifest describes no such model, labels and chips are not equally many or too many, or a chip cannot be used.
    pub fn check_chip_fit(&self, request: &ChipFitRequest, chips: Chips) -> Result<(), EngineError> {
        let ChipFitRequest { manifest, method, pixels, labels } = request;
        let plan = self.plan_new(manifest)?;
        if !plan.task.task_type.is_label() {
            let needed = "classification or multi_label_classification, whose labels are about whole chips, is needed";
            return Err(EngineError::Unusable { detail: format!("type: found one with values per pixel; {needed}") });
        }
        if chips.len() != labels.len() {
            let (found, needed) = (labels.len(), chips.len());
            return Err(EngineError::Unusable {
                detail: format!("labels: found {found}; {needed} are needed, one for each chip"),
            });
        }
        EngineError::limit("chips of a fit", chips.len() as u64, MAX_LABELS as u64)?;
        method.check(labels.len())?;
        match plan.layers.first() {
            Some(layer) => self.check_chips(&self.layers_of_chips(&plan, pixels, vec![*layer])?, chips).map(drop),
            None => Ok(()),
        }
    }

    /// Fits a head to chips and registers the model that has it. `report` is called with the chips that are done and all there are, each
    /// counted once for every layer.
    ///
    /// # Errors
    /// As [`Engine::check_chip_fit`], and if the network fails or the labels do not suffice.
    pub async fn fit_chips(
        self: &Arc<Self>,
        request: ChipFitRequest,
        chips: Chips,
        caller: &Caller,
        report: impl Fn(usize, usize) + Send + Sync,
    ) -> Result<ModelStatus, EngineError> {
        let plan = self.plan_fit(&request.manifest)?;
        let bytes = plan.bytes(request.labels.len());
        let _memory = self.memory().answer("the features of the chips", bytes).await?;
        // And one more for the fit itself.
        let total = chips.len() * plan.layers.len() + 1;
        let mut features: Vec<Option<Vec<f32>>> = vec![Some(Vec::with_capacity(plan.channels)); chips.len()];
        let (mut warnings, mut done) = (Vec::new(), 0);
        report(0, total);
        for layer in &plan.layers {
            let scene = self.layers_of_chips(&plan, &request.pixels, vec![*layer])?;
            let (engine, planned, of_layer) = (self.clone(), scene.clone(), chips.clone());
            let looked_at = self.read_upload(move || engine.check_chips(&planned, of_layer)).await?;
            for warning in looked_at.warnings() {
                if !warnings.contains(warning) {
                    warnings.push(warning.clone());
                }
            }
            let mut answers = self.predict_chips(&scene, caller, looked_at).await?;
            let mut index = 0;
            while let Some(batch) = answers.next().await {
                for answer in batch? {
                    let vector = match &answer.output {
                        Output::Embedding(layers) => layers.first().filter(|layer| !layer.values.is_empty()),
                        _ => None,
                    };
                    match (&mut features[index], vector) {
                        (Some(features), Some(vector)) => features.extend(&vector.values),
                        (of_chip, _) => *of_chip = None,
                    }
                    index += 1;
                    done += 1;
                }
                report(done, total);
            }
        }
        let places = (0..chips.len()).map(|chip| [APART_PX * chip as f64, 0.0]);
        let labels = request.labels.into_iter().zip(places);
        let usable = Usable::of(labels, PlaceFeatures { features, warnings }, (Lost::Chips, 0), &plan.task)?;
        self.finish_fit(request.manifest, plan, usable, (request.method, FitReport::default())).await
    }
}
