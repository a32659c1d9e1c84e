//! Comparisons of an area at two dates, from the client's request to the encoded answer; shared by synchronous requests and jobs.

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answer::EncodedAnswer;
use super::dto::{AreaParams, CellParams, ChangeParams, EmbeddingParams, PixelParams, RenderParams, take_captures};
use super::error::Problem;
use super::extract::Query;
use super::{negotiate, stored_body};
use crate::engine::{
    AreaRequest, Caller, ChangeOptions, Class, Engine, ObjectLimit, ScenePlan, SceneProgress, SceneRequest,
};
use crate::jobs::{JobOutcome, JobProgress};
use crate::outputs::{Format, RenderOptions, dense_sink};
use crate::prediction::{DenseSink, WholeMap};
use crate::raster::CaptureSelection;
use crate::zoo::{Task, TaskType};

/// The least probability of categories and the least distance of cells that are asked for nothing else.
const THRESHOLD: f32 = 0.5;

/// Ends of the colour map of distances.
const DISTANCES: [f32; 2] = [0.0, 1.0];

/// A request for a comparison as the client sent it. Jobs store it as their input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ChangeCall {
    pub(super) model: String,
    pub(super) task: String,
    /// The query of its address.
    pub(super) query: String,
    pub(super) body: Map<String, Value>,
    /// The format that was agreed on; `None` while it is to be found.
    pub(super) format: Option<String>,
}

/// What a job keeps of a comparison beside its input, which is the call.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ChangeWork {}

/// A checked [`ChangeCall`].
pub(super) struct ChangePlan {
    pub(super) format: Format,
    scene: ScenePlan,
    area: AreaRequest,
    captures: [CaptureSelection; 2],
    drawn: RenderOptions,
    options: ChangeOptions,
}

impl ChangeCall {
    /// Checks everything that can be checked without the imagery.
    ///
    /// # Errors
    /// If the model or task is unknown, answers of the task are not compared, it does not have the format, or a value is malformed.
    pub(super) fn plan(&self, engine: &Engine, headers: &HeaderMap) -> Result<ChangePlan, Problem> {
        let mut body = self.body.clone();
        let captures = take_captures(&mut body)?;
        let (area, options) = AreaParams::split(body)?;
        let uri: Uri = format!("/?{}", self.query).parse().map_err(Problem::internal)?;
        let Query((params, pixels, embedding, cells, render)) =
            Query::<(ChangeParams, PixelParams, EmbeddingParams, CellParams, RenderParams)>::with(&uri, options)?;
        let model = engine.models().task(&self.model, &self.task)?;
        let task = model.task.clone();
        let is_embedding = task.task_type == TaskType::Embedding;
        let format = format(&task, self.format.as_deref().or(params.format.as_deref()), headers)?;
        let mut drawn = render.options(&task)?;
        check(&pixels, &cells, &drawn)?;
        // Embeddings are always compared in cells, whatever is made of that.
        let cells_in = if is_embedding { Format::Tif } else { format };
        let embedding = cells.options(embedding.options()?, &model, cells_in)?;
        let pixels = pixels.options(None, area.resampling()?)?;
        let scene = engine.plan_scene(SceneRequest { model, pixels, embedding, limit: ObjectLimit::default() });
        let threshold = drawn.threshold.take().unwrap_or(THRESHOLD);
        if is_embedding {
            drawn.rescale.get_or_insert(DISTANCES);
        }
        let options = ChangeOptions { threshold, as_regions: is_embedding && format == Format::Geojson };
        Ok(ChangePlan { format, scene, area: area.request()?, captures, drawn, options })
    }
}

impl ChangePlan {
    /// Checks that the area can be had at both dates, before it becomes a job.
    ///
    /// # Errors
    /// If its source is not known or does not fit, the grid cannot be had, or answers of the task are not compared.
    pub(super) async fn check(&self, engine: &Engine) -> Result<(), Problem> {
        Ok(engine.check_change(&self.scene, &self.area, &self.captures).await?)
    }

    /// Runs the comparison for `caller`; `report` is called with the progress.
    ///
    /// # Errors
    /// If reading, inference or encoding fails.
    pub(super) async fn answer(
        self,
        engine: &Engine,
        caller: &Caller,
        report: impl Fn(SceneProgress) + Send + Sync,
    ) -> Result<EncodedAnswer, Problem> {
        let Self { format, scene, area, captures, drawn, options } = self;
        let task = scene.task().clone();
        let sink = || -> Box<dyn DenseSink> {
            match task.task_type {
                // Categories and their probabilities.
                TaskType::Segment => dense_sink(&task, Format::Geojson, &RenderOptions::default()),
                _ => Box::<WholeMap>::default(),
            }
        };
        let change = engine.predict_change(&scene, (area, caller), captures, (sink, report), options).await?;
        // Held until the answer is encoded.
        let _memory = change.memory;
        let (prediction, task) = (change.prediction, change.task.into());
        EncodedAnswer::encode(prediction, task, format, drawn, scene.weights(), change.timings).await
    }
}

impl ChangeWork {
    /// Runs the comparison whose call is in the only input.
    ///
    /// # Errors
    /// As [`ChangeCall::plan`] and [`ChangePlan::answer`].
    pub(super) async fn run(
        self,
        engine: Arc<Engine>,
        inputs: Vec<(String, PathBuf)>,
        progress: JobProgress,
    ) -> Result<JobOutcome, Problem> {
        let call: ChangeCall = stored_body::read(inputs).await?;
        let plan = call.plan(&engine, &HeaderMap::new())?;
        let report = |SceneProgress { done, total }| progress.set(done, total);
        Ok(plan.answer(&engine, &Caller::patient(Class::Job), report).await?.into())
    }
}

/// The format of a comparison, which is that of a regression of distances or of a segmentation of changes.
fn format(task: &Task, wanted: Option<&str>, headers: &HeaderMap) -> Result<Format, Problem> {
    let is_embedding = task.task_type == TaskType::Embedding;
    if is_embedding && wanted == Some(Format::Geojson.extension()) {
        return Ok(Format::Geojson);
    }
    let task_type = if is_embedding { TaskType::Regress } else { TaskType::Segment };
    let comparison = Task { name: "change".to_owned(), task_type, ..task.clone() };
    let can_be = |format| is_embedding || !matches!(format, Format::Mvt | Format::Npy);
    let format = negotiate::choose(&comparison, wanted, headers, can_be)?;
    if can_be(format) {
        Ok(format)
    } else {
        Err(Problem::parameter("format", format.extension(), "png, webp, tif or geojson"))
    }
}

/// Refuses options that mean nothing for a comparison.
fn check(pixels: &PixelParams, cells: &CellParams, drawn: &RenderOptions) -> Result<(), Problem> {
    let given = [
        ("captures", pixels.captures.is_some(), "before and after say which captures are meant"),
        ("precision", cells.precision.is_some(), "the answer is no embedding"),
        ("categories", drawn.categories.is_some(), "all categories are compared"),
        ("render", drawn.render != RenderOptions::default().render, "a comparison has one picture"),
        ("max_detections", drawn.max_detections.is_some(), "a comparison has no objects"),
    ];
    match given.iter().find(|(_, is_given, _)| *is_given) {
        Some((name, _, reason)) => Err(Problem::invalid(format!("{name}: {reason}; leave it out"))),
        None => Ok(()),
    }
}
