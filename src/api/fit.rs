//! Fits of heads to labels, from the client's request to the description of the new model. They run as jobs.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dto::{FitBody, ModelDto};
use super::error::Problem;
use super::stored_body;
use crate::engine::{Caller, Class, Engine, FitRequest};
use crate::jobs::{JobOutcome, JobProgress};
use crate::zoo::{ModelOrigin, ModelSpec};

/// What a job keeps of a fit beside its input, which is the request's body.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FitCall {
    /// Id of the base model.
    pub base: String,
    /// Whether there is a second input with the chips that it is fitted to.
    #[serde(default)]
    pub chips: bool,
}

/// A model that heads can be put on.
///
/// # Errors
/// If there is no such built-in model.
pub(super) fn built_in(engine: &Engine, id: &str) -> Result<Arc<ModelSpec>, Problem> {
    let base = engine.models().spec(id)?;
    if base.origin == ModelOrigin::Registered {
        let detail = format!("model {id:?} was registered; a built-in model is needed to put a head on");
        return Err(Problem::unusable(detail));
    }
    Ok(base)
}

impl FitCall {
    /// What is to be fitted. Blocks: labels may be many.
    ///
    /// # Errors
    /// If the body cannot be used or there is no such built-in model.
    pub(super) fn plan(&self, engine: &Engine, body: &FitBody) -> Result<FitRequest, Problem> {
        body.request(&*built_in(engine, &self.base)?)
    }

    /// Runs the fit to places whose body is in the only input.
    ///
    /// # Errors
    /// As [`FitCall::plan`], and if imagery cannot be read, the network fails, or the labels do not suffice.
    pub(super) async fn run(
        self,
        engine: Arc<Engine>,
        inputs: Vec<(String, PathBuf)>,
        progress: JobProgress,
    ) -> Result<JobOutcome, Problem> {
        let (planner, body) = (engine.clone(), stored_body::read(inputs).await?);
        let plan = move || self.plan(&planner, &body);
        let request = tokio::task::spawn_blocking(plan).await.map_err(Problem::internal)??;
        let report = |done, total| progress.set(done, total);
        let model = engine.fit_model(request, &Caller::patient(Class::Job), report).await?;
        stored_body::outcome(&ModelDto::from(model))
    }
}
