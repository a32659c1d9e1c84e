//! Area jobs as JSON: the area and the options of a prediction, with a model, a task, a size of blocks and a destination.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::dto::{AreaParams, CellParams, EmbeddingParams, PixelParams, RenderParams};
use super::error::Problem;
use super::extract::Query;
use crate::areas::{AreaError, AreaJob, BlockKind, BlockOptions};
use crate::engine::{Engine, ObjectLimit, SceneRequest};
use crate::outputs::{Format, least_score};

/// The members that a job has beside those of `POST /v1/predict`.
#[derive(Deserialize)]
struct JobMembers {
    model: Option<String>,
    task: Option<String>,
    block_px: Option<usize>,
    destination: Option<String>,
    format: Option<String>,
    pca: Option<usize>,
}

/// Their names.
const MEMBERS: [&str; 6] = ["model", "task", "block_px", "destination", "format", "pca"];

/// Checks a job; returns it and the folder that it names, if it does.
///
/// # Errors
/// If a member is missing, unknown, malformed or out of range, or there is no such model or task.
pub(crate) fn area_job(engine: &Engine, text: Map<String, Value>) -> Result<(AreaJob, Option<String>), Problem> {
    let mut kept = text.clone();
    // The same job at another place has the same results.
    kept.remove("destination");
    let (own, others): (Map<_, _>, Map<_, _>) = text.into_iter().partition(|(name, _)| MEMBERS.contains(&name.as_str()));
    let JobMembers { model, task, block_px, destination, format, pca } = serde_path_to_error::deserialize(Value::from(own))
        .map_err(|error| {
            // Rust's word for it says nothing to others.
            Problem::invalid(format!("{}: {}", error.path(), error.inner()).replace("usize", "a whole number"))
        })?;
    let needed =
        |name: &str| Problem::invalid(format!("{name}: found none; a job needs model, task, source and bbox or geometry"));
    let (model, task) = (model.ok_or_else(|| needed("model"))?, task.ok_or_else(|| needed("task"))?);
    let (area, options) = AreaParams::split(others)?;
    let known = [&MEMBERS[..], &AreaParams::MEMBERS].concat();
    let Query((pixels, embedding, cells, render)) =
        Query::<(PixelParams, EmbeddingParams, CellParams, RenderParams)>::beside(&known, &options)?;
    let model = engine.models().task(&model, &task)?;
    let mut render = render.options(&model.task)?;
    render.precision = cells.precision()?;
    let pixels = pixels.options(area.datetime()?, area.resampling()?)?;
    let request = area.request()?;
    let kind = BlockKind::of(&model.task, format.as_deref())?;
    let embedding = cells.options(embedding.options()?, &model, kind.format())?;
    // Tables show the objects that GeoJSON does.
    let limit = ObjectLimit::new(render.max_detections, least_score(Format::Geojson, &render));
    let scene = engine.plan_scene(SceneRequest { model, pixels, embedding, limit });
    Ok((AreaJob::new(scene, request, render, BlockOptions { kind, block_px, pca }, kept.into())?, destination))
}

impl From<AreaError> for Problem {
    fn from(error: AreaError) -> Self {
        Self::new(error.kind(), error)
    }
}
