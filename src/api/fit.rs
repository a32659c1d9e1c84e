//! Fits of heads to labels, from the client's request to the description of the new model. They run as jobs.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dto::{FitBody, ModelDto};
use super::error::Problem;
use super::stored_body;
use crate::engine::{Caller, Class, Engine, FitRequest};
use crate::error::ErrorKind;
use crate::jobs::{JobOutcome, JobProgress};
use crate::zoo::ModelOrigin;

/// What a job keeps of a fit beside its input, which is the request's body.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FitCall {
    /// Id of the base model.
    pub base: String,
}

impl FitCall {
    /// What is to be fitted. Blocks: labels may be many.
    ///
    /// # Errors
    /// If the body cannot be used or there is no such built-in model.
    pub(super) fn plan(&self, engine: &Engine, body: &FitBody) -> Result<FitRequest, Problem> {
        let base = engine.models().spec(&self.base)?;
        if base.origin == ModelOrigin::Registered {
            let detail = format!("model {:?} was registered; a built-in model is needed to put a head on", self.base);
            return Err(Problem::new(ErrorKind::Unusable, detail));
        }
        body.request(&base)
    }

    /// Runs the fit whose body is in the only input.
    ///
    /// # Errors
    /// As [`FitCall::plan`], and if imagery cannot be read, the network fails, or the labels do not suffice.
    pub(super) async fn run(
        self,
        engine: Arc<Engine>,
        inputs: Vec<(String, PathBuf)>,
        progress: JobProgress,
    ) -> Result<JobOutcome, Problem> {
        let planner = engine.clone();
        let plan = move || self.plan(&planner, &stored_body::read(&inputs)?);
        let request = tokio::task::spawn_blocking(plan).await.map_err(Problem::internal)??;
        let report = |done, total| progress.set(done, total);
        let model = engine.fit_model(request, &Caller::patient(Class::Job), report).await?;
        stored_body::outcome(&ModelDto::from(model))
    }
}
