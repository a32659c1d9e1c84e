//! A model and one of its tasks, as requests name them and as plans carry them.

use std::sync::{Arc, LazyLock};

use super::error::EngineError;
use crate::weights::WeightsKind;
use crate::zoo::{ModelSpec, Task, TaskType};

/// The task every model has.
pub const EMBEDDING: &str = "embedding";

static EMBEDDING_TASK: LazyLock<Arc<Task>> = LazyLock::new(|| {
    Arc::new(Task {
        name: EMBEDDING.to_owned(),
        task_type: TaskType::Embedding,
        categories: Vec::new(),
        colors: Vec::new(),
        background_invalid: false,
        value_range: None,
    })
});

/// A model and one of its tasks, looked up by name.
#[derive(Clone, Debug)]
pub struct ModelTask {
    /// The model.
    pub spec: Arc<ModelSpec>,
    /// The task.
    pub task: Arc<Task>,
}

impl ModelTask {
    /// The task called `name` in any head variant of the model. Which variant a weights file holds is known only once it is
    /// loaded.
    ///
    /// # Errors
    /// [`EngineError::UnknownTask`].
    pub(super) fn find(spec: Arc<ModelSpec>, name: &str) -> Result<Self, EngineError> {
        if name == EMBEDDING {
            return Ok(Self { spec, task: EMBEDDING_TASK.clone() });
        }
        let mut heads = spec.head_variants.iter().flatten();
        if let Some(head) = heads.find(|head| head.task.name == name) {
            let task = head.task.clone();
            return Ok(Self { spec, task });
        }
        let heads = spec.head_variants.iter().flatten();
        let mut available: Vec<String> = heads.map(|head| head.task.name.clone()).collect();
        available.sort();
        available.dedup();
        available.push(EMBEDDING.to_owned());
        Err(EngineError::UnknownTask { model: spec.id.clone(), task: name.to_owned(), available })
    }
}

/// A [`ModelTask`] and the weights that will answer it.
#[derive(Clone, Debug)]
pub(super) struct PlannedModel {
    pub(super) model: ModelTask,
    /// Identifies the specification and the weights; only a network of this revision may answer.
    pub(super) revision: Arc<str>,
    pub(super) kind: WeightsKind,
}
