//! Indexes of areas, from the client's request to the description of the new index. They run as jobs.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::dto::{AreaParams, EmbeddingParams, IndexDto, PixelParams};
use super::error::Problem;
use super::extract::Query;
use super::stored_body;
use crate::engine::{AreaIndexRequest, Caller, Class, EMBEDDING, Engine, ObjectLimit, SceneRequest};
use crate::jobs::{JobOutcome, JobProgress};

/// Side of cells that are asked for nothing else.
const CELL_PX: usize = 64;

/// What a job keeps of an index beside its input, which is the request's body.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct IndexCall {}

/// The members that such a request has beside those of predictions.
#[derive(Deserialize)]
struct IndexMembers {
    id: Option<String>,
    title: Option<String>,
    model: Option<String>,
    cell_px: Option<usize>,
}

/// Their names.
const MEMBERS: [&str; 4] = ["id", "title", "model", "cell_px"];

/// Reads a request for an index of an area.
///
/// # Errors
/// If a member is missing, unknown, malformed or out of range, or there is no such model.
pub(super) fn area_index(engine: &Engine, text: Map<String, Value>) -> Result<AreaIndexRequest, Problem> {
    let (own, others): (Map<_, _>, Map<_, _>) = text.into_iter().partition(|(name, _)| MEMBERS.contains(&name.as_str()));
    let IndexMembers { id, title, model, cell_px } =
        serde_json::from_value(own.into()).map_err(|error| Problem::invalid(format!("the index: {error}")))?;
    let needed =
        |name: &str| Problem::invalid(format!("{name}: found none; an index needs id, model, source and bbox or geometry"));
    let (id, model) = (id.ok_or_else(|| needed("id"))?, model.ok_or_else(|| needed("model"))?);
    let (area, options) = AreaParams::split(others)?;
    let Query((pixels, embedding)) = Query::<(PixelParams, EmbeddingParams)>::of(&options)?;
    let model = engine.models().task(&model, EMBEDDING)?;
    let pixels = pixels.options(area.datetime()?, area.resampling()?)?;
    let embedding = embedding.options()?.in_cells(&model.spec, Some(cell_px.unwrap_or(CELL_PX)))?;
    let scene = engine.plan_scene(SceneRequest { model, pixels, embedding, limit: ObjectLimit::default() });
    Ok(AreaIndexRequest { id, title, scene, area: area.request()? })
}

impl IndexCall {
    /// Makes the index whose request is in the only input.
    ///
    /// # Errors
    /// As [`area_index`], and if imagery cannot be read, the network fails, or no cell has data.
    pub(super) async fn run(
        self,
        engine: Arc<Engine>,
        inputs: Vec<(String, PathBuf)>,
        progress: JobProgress,
    ) -> Result<JobOutcome, Problem> {
        let text = stored_body::read(inputs).await?;
        let request = area_index(&engine, text)?;
        let report = |done, total| progress.set(done, total);
        let index = engine.index_area(request, &Caller::patient(Class::Job), report).await?;
        stored_body::outcome(&IndexDto::from(&*index))
    }
}
