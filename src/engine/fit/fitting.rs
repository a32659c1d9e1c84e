//! The fit itself, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::labels::LabelValue;
use super::usable::Usable;
use crate::engine::error::EngineError;
use crate::fit::{ClassLabels, FitError, LinearFit, SetLabels, ValueLabels, fit_classes, fit_sets, fit_values};
use crate::zoo::{Task, TaskType};

/// A fit, with all it needs.
pub(super) struct Fitting {
    pub(super) usable: Usable,
    /// Features of a label.
    pub(super) channels: usize,
    pub(super) task: Arc<Task>,
}

impl Fitting {
    /// Fits on a blocking thread. Dropping the future ends it.
    pub(super) async fn run(self) -> Result<LinearFit, EngineError> {
        let stop = Arc::new(AtomicBool::new(false));
        let _dropped = StopOnDrop(stop.clone());
        let fitted = tokio::task::spawn_blocking(move || self.fit(&stop)).await.map_err(|_| EngineError::Panicked)?;
        fitted.map_err(|error| match error {
            FitError::Stopped => EngineError::Stopping,
            FitError::NotFinite { .. } => EngineError::Unusable { detail: error.to_string() },
        })
    }

    fn fit(&self, stop: &AtomicBool) -> Result<LinearFit, FitError> {
        let Self { usable: Usable { features, labels, places, .. }, channels, task } = self;
        let (channels, categories) = (*channels, &task.categories);
        match task.task_type {
            TaskType::Regress => {
                let values: Vec<f64> = labels.iter().filter_map(number).collect();
                fit_values(&ValueLabels { features, channels, values: &values, places }, stop)
            }
            TaskType::BinSegment | TaskType::MultiLabelClassification => {
                let sets: Vec<Vec<usize>> = labels.iter().map(LabelValue::categories).collect();
                fit_sets(&SetLabels { features, channels, sets: &sets, categories, places }, stop)
            }
            _ => {
                let classes: Vec<usize> = labels.iter().flat_map(LabelValue::categories).collect();
                fit_classes(&ClassLabels { features, channels, classes: &classes, categories, places }, stop)
            }
        }
    }
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
