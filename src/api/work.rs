//! What jobs run: predictions on uploads and areas, comparisons, areas in blocks, fits and indexes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::area_work::AreaCall;
use super::change::ChangeWork;
use super::chip_fit;
use super::error::Problem;
use super::fit::FitCall;
use super::index_work::IndexCall;
use super::prediction::{PredictCall, Predictor};
use super::problem_kind::ProblemKind;
use super::results::Results;
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::jobs::{JobFailure, JobOutcome, JobRunner, WorkItem};

/// The request of a job, as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum StoredCall {
    /// A fit.
    Fit {
        /// The base model; the rest is in the input.
        fit: FitCall,
    },
    /// An area in blocks.
    Blocks {
        /// Everything is in the input.
        blocks: AreaCall,
    },
    /// An index of an area.
    Index {
        /// Everything is in the input.
        index: IndexCall,
    },
    /// A comparison of two dates.
    Change {
        /// Everything is in the input.
        change: ChangeWork,
    },
    /// A prediction, whose inputs are the uploads.
    Predict(Box<PredictCall>),
}

/// Runs jobs.
pub(super) struct JobWork {
    pub(super) engine: Arc<Engine>,
    pub(super) predictor: Predictor,
    pub(super) results: Results,
}

impl JobRunner for JobWork {
    fn run(&self, item: WorkItem) -> BoxFuture<'static, Result<JobOutcome, JobFailure>> {
        let (engine, predictor, results) = (self.engine.clone(), self.predictor.clone(), self.results.clone());
        Box::pin(async move {
            let WorkItem { request, inputs, folder, progress } = item;
            let call: StoredCall = serde_json::from_str(&request).map_err(|error| JobFailure {
                kind: ErrorKind::Internal,
                detail: format!("the stored request cannot be read: {error}"),
            })?;
            let answered = match call {
                StoredCall::Fit { fit } if fit.chips => {
                    chip_fit::run((engine, predictor.limits()), &fit.base, inputs, progress).await
                }
                StoredCall::Fit { fit } => fit.run(engine, inputs, progress).await,
                StoredCall::Blocks { blocks } => blocks.run(engine, (inputs, folder, &results), progress).await,
                StoredCall::Index { index } => index.run(engine, inputs, progress).await,
                StoredCall::Change { change } => change.run(engine, inputs, progress).await,
                StoredCall::Predict(call) => predictor.run_job(*call, inputs, progress).await,
            };
            answered.map_err(failure)
        })
    }

    fn busy_for(&self) -> Duration {
        self.engine.busy_for()
    }
}

/// Converts a problem to the form in which jobs store it.
fn failure(problem: Problem) -> JobFailure {
    let kind = match problem.kind {
        ProblemKind::Domain(kind) => kind,
        ProblemKind::Unauthorized
        | ProblemKind::Forbidden
        | ProblemKind::MethodNotAllowed
        | ProblemKind::UnsatisfiableRange => ErrorKind::Internal,
    };
    JobFailure { kind, detail: problem.detail }
}
