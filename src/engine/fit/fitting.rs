//! The fit itself, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::labels::LabelValue;
use super::usable::Usable;
use crate::engine::error::EngineError;
use crate::fit::{
    ClassLabels, FitError, HeldOut, LinearFit, NearestFit, SetLabels, ValueLabels, fit_classes, fit_sets, fit_values,
    nearest_classes, nearest_sets, nearest_values,
};
use crate::zoo::{Task, TaskType};

/// How a head is made of labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FitMethod {
    /// A regularised linear layer.
    #[default]
    Linear,
    /// The labels themselves, of which the most similar ones are asked.
    Nearest,
}

/// A head that was made of labels.
pub(super) enum Fitted {
    Linear(LinearFit),
    Nearest(NearestFit),
}

impl Fitted {
    /// How good it is on labels that were held out.
    pub(super) fn held_out(&self) -> Option<&HeldOut> {
        match self {
            Self::Linear(fit) => fit.held_out.as_ref(),
            Self::Nearest(fit) => fit.held_out.as_ref(),
        }
    }
}

/// A fit, with all it needs.
pub(super) struct Fitting {
    pub(super) usable: Usable,
    /// Features of a label.
    pub(super) channels: usize,
    pub(super) task: Arc<Task>,
    pub(super) method: FitMethod,
}

impl Fitting {
    /// Fits on a blocking thread. Dropping the future ends it.
    pub(super) async fn run(self) -> Result<Fitted, EngineError> {
        let stop = Arc::new(AtomicBool::new(false));
        let _dropped = StopOnDrop(stop.clone());
        let fitted = tokio::task::spawn_blocking(move || self.fit(&stop)).await.map_err(|_| EngineError::Panicked)?;
        fitted.map_err(|error| match error {
            FitError::Stopped => EngineError::Stopping,
            FitError::NotFinite { .. } => EngineError::Unusable { detail: error.to_string() },
        })
    }

    fn fit(&self, stop: &AtomicBool) -> Result<Fitted, FitError> {
        let Self { usable: Usable { features, labels, places, .. }, channels, task, method } = self;
        let linear = *method == FitMethod::Linear;
        let (channels, categories) = (*channels, &task.categories);
        match task.task_type {
            TaskType::Regress => {
                let values: Vec<f64> = labels.iter().filter_map(number).collect();
                let labels = ValueLabels { features, channels, values: &values, places };
                either(linear, || fit_values(&labels, stop), || nearest_values(&labels, stop))
            }
            TaskType::BinSegment | TaskType::MultiLabelClassification => {
                let sets: Vec<Vec<usize>> = labels.iter().map(LabelValue::categories).collect();
                let labels = SetLabels { features, channels, sets: &sets, categories, places };
                either(linear, || fit_sets(&labels, stop), || nearest_sets(&labels, stop))
            }
            _ => {
                let classes: Vec<usize> = labels.iter().flat_map(LabelValue::categories).collect();
                let labels = ClassLabels { features, channels, classes: &classes, categories, places };
                either(linear, || fit_classes(&labels, stop), || nearest_classes(&labels, stop))
            }
        }
    }
}

fn either(
    linear: bool,
    fit: impl FnOnce() -> Result<LinearFit, FitError>,
    nearest: impl FnOnce() -> Result<NearestFit, FitError>,
) -> Result<Fitted, FitError> {
    if linear { fit().map(Fitted::Linear) } else { nearest().map(Fitted::Nearest) }
}

fn number(says: &LabelValue) -> Option<f64> {
    match says {
        LabelValue::Number(number) => Some(*number),
        _ => None,
    }
}

/// Ends a fit that nobody waits for any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
