//! A prediction on uploaded rasters, from the client's parameters to the encoded answer; shared by synchronous requests and
//! background jobs.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::dto::{EmbeddingParams, PixelParams, RenderParams, images};
use super::error::{Problem, ProblemKind};
use super::negotiate;
use super::upload::{self, File};
use crate::engine::{Engine, ScenePlan, SceneProgress, SceneRequest};
use crate::error::ErrorKind;
use crate::jobs::{JobFailure, JobOutcome, Work, WorkItem};
use crate::outputs::{Format, OutputError, RenderOptions, dense_sink};
use crate::raster::Limits;

/// What a client asks of its rasters, in the client's own words: these stay the same from one version of this program to the
/// next, so a job can be kept as them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PredictCall {
    /// Model id.
    pub model: String,
    /// Task name, or `embedding`.
    pub task: String,
    /// Extension of the answer's format.
    pub format: String,
    /// Captures stacked in one file.
    pub images: Option<String>,
    /// Bands and scaling.
    pub pixels: PixelParams,
    /// Layers and pooling.
    pub embedding: EmbeddingParams,
    /// Filters and colours.
    pub render: RenderParams,
}

/// A call that has been checked and can be answered as soon as its rasters are there.
pub(super) struct PredictPlan {
    scene: ScenePlan,
    format: Format,
    images: Option<usize>,
    render: RenderOptions,
}

/// What answers calls.
#[derive(Clone)]
pub(super) struct Predictor {
    engine: Arc<Engine>,
    limits: Limits,
}

impl Predictor {
    /// A predictor whose rasters may be as large as `limits` say.
    pub(super) fn new(engine: Arc<Engine>, limits: Limits) -> Self {
        Self { engine, limits }
    }

    /// Checks a call before its rasters are there.
    ///
    /// # Errors
    /// Unknown models and tasks, formats the task does not have, values out of range.
    pub(super) fn plan(&self, call: &PredictCall) -> Result<PredictPlan, Problem> {
        let model = self.engine.models().task(&call.model, &call.task)?;
        let format = negotiate::by_extension(&model.task, &call.format)?;
        if format == Format::Mvt {
            return Err(OutputError::NoTile.into());
        }
        let (images, render) = (images(call.images.as_deref())?, call.render.options(&model.task)?);
        let (pixels, embedding) = (call.pixels.upload_options()?, call.embedding.options()?);
        let scene = self.engine.plan_scene(SceneRequest { model, pixels, embedding });
        Ok(PredictPlan { scene, format, images, render })
    }

    /// Runs a plan on `files`; `report` hears the progress.
    ///
    /// # Errors
    /// Files that are no usable rasters, and what reading, running and encoding say.
    pub(super) async fn answer(
        &self,
        plan: PredictPlan,
        files: Vec<File>,
        report: impl Fn(SceneProgress) + Send,
    ) -> Result<Answer, Problem> {
        let PredictPlan { scene, format, images, render } = plan;
        let limits = self.limits;
        let captures = tokio::task::spawn_blocking(move || upload::open(files, images, &limits))
            .await
            .map_err(Problem::internal)??;
        let task = scene.task().clone();
        let sink = dense_sink(&task, format, &render);
        let (prediction, timings) = self.engine.predict_scene(&scene, &captures, sink, report).await?;
        Answer::encode(prediction, task, format, render, scene.weights(), timings).await
    }
}

impl Work for Predictor {
    fn run(&self, item: WorkItem) -> BoxFuture<'static, Result<JobOutcome, JobFailure>> {
        let predictor = self.clone();
        Box::pin(async move {
            let WorkItem { request, inputs, progress } = item;
            let call: PredictCall = serde_json::from_str(&request).map_err(|error| JobFailure {
                kind: ErrorKind::Internal,
                detail: format!("the stored request cannot be read: {error}"),
            })?;
            let files = inputs.into_iter().map(|(name, path)| File::on_disk(name, path)).collect();
            let report = |SceneProgress { done, total }| progress.set(done, total);
            let plan = predictor.plan(&call).map_err(failure)?;
            let answer = predictor.answer(plan, files, report).await.map_err(failure)?;
            let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
                Some((name.to_string(), value.to_str().ok()?.to_owned()))
            };
            Ok(JobOutcome { headers: answer.headers.iter().filter_map(header).collect(), body: answer.body })
        })
    }
}

/// A problem as jobs keep it.
fn failure(problem: Problem) -> JobFailure {
    let kind = match problem.kind {
        ProblemKind::Domain(kind) => kind,
        ProblemKind::Unauthorized | ProblemKind::MethodNotAllowed => ErrorKind::Internal,
    };
    JobFailure { kind, detail: problem.detail }
}
