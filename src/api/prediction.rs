//! A prediction on uploaded rasters or on an area of a source, from the client's parameters to the encoded result; shared by
//! synchronous requests and background jobs.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::answer::EncodedAnswer;
use super::dto::{AreaParams, CellParams, EmbeddingParams, PixelParams, RenderParams, images};
use super::error::Problem;
use super::negotiate;
use super::upload::{self, UploadedFile};
use crate::engine::{AreaRequest, Caller, Class, Engine, ObjectLimit, ScenePlan, SceneProgress, SceneRequest};
use crate::jobs::{JobOutcome, JobProgress};
use crate::outputs::{Format, OutputError, RenderOptions, dense_sink, least_score};
use crate::raster::Limits;

/// A request for a prediction, as the texts that the client sent. Jobs store it as JSON: the API's parameters stay the same across
/// versions of this program, while the parsed options may change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PredictCall {
    /// Model id.
    pub model: String,
    /// Task name, or `embedding`.
    pub task: String,
    /// Format of the result, by its extension.
    pub format: String,
    /// Number of captures stacked in each file.
    pub images: Option<String>,
    pub pixels: PixelParams,
    pub embedding: EmbeddingParams,
    #[serde(default)]
    pub cells: CellParams,
    pub render: RenderParams,
    /// The area of a source to run on, instead of files.
    #[serde(default)]
    pub area: Option<AreaParams>,
}

/// A checked [`PredictCall`], which needs only its rasters to run.
pub(super) struct PredictPlan {
    scene: ScenePlan,
    format: Format,
    images: Option<usize>,
    render: RenderOptions,
    area: Option<AreaRequest>,
}

/// Plans and runs predictions on uploads and areas.
#[derive(Clone)]
pub(super) struct Predictor {
    engine: Arc<Engine>,
    limits: Limits,
}

impl Predictor {
    /// `limits` apply to every uploaded raster.
    pub(super) fn new(engine: Arc<Engine>, limits: Limits) -> Self {
        Self { engine, limits }
    }

    /// Those of every uploaded raster.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Checks everything that can be checked without the rasters.
    ///
    /// # Errors
    /// If the model or task is unknown, the task does not have the format, or a value is malformed or out of range.
    pub(super) fn plan(&self, call: &PredictCall) -> Result<PredictPlan, Problem> {
        let model = self.engine.models().task(&call.model, &call.task)?;
        let format = negotiate::for_scene(&model.task, &call.format)?;
        if format == Format::Mvt {
            return Err(OutputError::NoTile.into());
        }
        let (images, mut render) = (images(call.images.as_deref())?, call.render.options(&model.task)?);
        render.precision = call.cells.precision()?;
        let embedding = call.cells.options(call.embedding.options()?, &model, format)?;
        let (pixels, area) = match &call.area {
            None => (call.pixels.upload_options()?, None),
            Some(_) if images.is_some() => {
                return Err(Problem::invalid("images: an area of a source has captures of its own; leave it out"));
            }
            Some(area) => (call.pixels.options(area.datetime()?, area.resampling()?)?, Some(area.request()?)),
        };
        let limit = ObjectLimit::new(render.max_detections, least_score(format, &render));
        let scene = self.engine.plan_scene(SceneRequest { model, pixels, embedding, limit });
        Ok(PredictPlan { scene, format, images, render, area })
    }

    /// Checks that a planned area can be had, before it becomes a job.
    ///
    /// # Errors
    /// If its source is not known or does not fit, or the grid cannot be had.
    pub(super) async fn check_area(&self, plan: &PredictPlan) -> Result<(), Problem> {
        if let Some(request) = &plan.area {
            self.engine.plan_area(&plan.scene, request.clone()).await?;
        }
        Ok(())
    }

    /// Checks whether a plan would be accepted now, before its files are received.
    ///
    /// # Errors
    /// If the answer would come too late.
    pub(super) fn check_room(&self, plan: &PredictPlan, caller: &Caller) -> Result<(), Problem> {
        Ok(self.engine.check_room(&plan.scene, caller)?)
    }

    /// Runs a plan for `caller` on its area, else on `files`; `report` is called with the progress.
    ///
    /// # Errors
    /// If a file is not a usable raster, or if reading, inference or encoding fails.
    pub(super) async fn answer(
        &self,
        plan: PredictPlan,
        caller: &Caller,
        files: Vec<UploadedFile>,
        report: impl Fn(SceneProgress) + Send,
    ) -> Result<EncodedAnswer, Problem> {
        let PredictPlan { scene, format, images, render, area } = plan;
        let task = scene.task().clone();
        let sink = || dense_sink(&task, format, &render);
        let engine = &self.engine;
        // Held until the answer is encoded.
        let (_memory, (prediction, timings)) = match area {
            Some(request) => {
                let area = engine.plan_area(&scene, request).await?;
                let memory = engine.area_memory(&scene, &area, &*sink());
                (memory.await?, engine.predict_area(&scene, caller, &area, sink(), report).await?)
            }
            None => {
                let limits = self.limits;
                let chunks = upload::chunk_cache(engine.memory());
                let captures = engine.read_upload(move || upload::open(files, images, &limits, chunks)).await?;
                let memory = engine.scene_memory(&scene, &captures, &*sink());
                (memory.await?, engine.predict_scene(&scene, caller, &captures, sink(), report).await?)
            }
        };
        EncodedAnswer::encode(prediction, task, format, render, scene.weights(), timings).await
    }

    /// Runs a prediction as a job.
    ///
    /// # Errors
    /// As [`Predictor::plan`] and [`Predictor::answer`].
    pub(super) async fn run_job(
        &self,
        call: PredictCall,
        inputs: Vec<(String, PathBuf)>,
        progress: JobProgress,
    ) -> Result<JobOutcome, Problem> {
        let files = inputs.into_iter().map(|(name, path)| UploadedFile::on_disk(name, path)).collect();
        let report = |SceneProgress { done, total }| progress.set(done, total);
        Ok(self.answer(self.plan(&call)?, &Caller::patient(Class::Job), files, report).await?.into())
    }
}
