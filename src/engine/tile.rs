//! Running a [`TilePlan`]: the tile's part of its window's answer.

use super::borders::{self, Side};
use super::caller::Caller;
use super::device::{ModelAnswer, ModelQuery};
use super::embedding::pooled;
use super::error::EngineError;
use super::loaded::LoadedModel;
use super::models::Models;
use super::plan::{ObjectRule, TilePlan};
use super::sources::Sources;
use super::window::{Asked, Timings, WindowAnswer, WindowKey, Windows};
use crate::nn::{HeadOutput, Part};
use crate::prediction::{Dense, Object, Output, Pool, Prediction};
use crate::zoo::{Task, TaskType};

/// Predicts a planned tile.
///
/// # Errors
/// If the planned weights are gone, the answer would come too late, or reading or running fails.
pub(super) async fn predict(
    plan: &TilePlan,
    caller: &Caller,
    models: &Models,
    sources: &Sources,
    windows: &Windows,
) -> Result<(Prediction, Timings), EngineError> {
    let size = plan.tile_size_px;
    let mut prediction = Prediction {
        output: empty(plan.task(), size),
        width: size,
        height: size,
        georef: Some(plan.tile.georef(size)),
        warnings: Vec::new(),
    };
    if !plan.is_covered {
        return Ok((prediction, Timings::default()));
    }
    let model = models.load_planned(&plan.planned).await?;
    let query = query(plan, &model)?;
    let asked = Asked { model: &model, source: &plan.source, caller };
    let answered = windows.answer(plan.key.clone(), asked, query.clone()).await;
    let (answer, mut timings) = answered.inspect_err(|error| {
        if error.is_changed_file() {
            sources.close(&plan.source);
        }
    })?;
    prediction.warnings.clone_from(&answer.warnings);
    let owned = match &answer.answer {
        Some(ModelAnswer::Head(HeadOutput::Objects(own))) if plan.objects == ObjectRule::Centre => {
            let (owned, spent) = owned_objects(own, plan, asked, &query, sources, windows).await?;
            timings.add(&spent);
            Some(owned)
        }
        _ => None,
    };
    let input_px = windows.grid().input_px();
    if let Some(output) = cut(&answer, owned, plan.area, input_px, plan.embedding.pool) {
        prediction.output = output;
    }
    Ok((prediction, timings))
}

fn query(plan: &TilePlan, model: &LoadedModel) -> Result<ModelQuery, EngineError> {
    let task = plan.task();
    Ok(match task.task_type {
        TaskType::Embedding => ModelQuery::Embedding(plan.embedding.layers.0.clone()),
        // The network sees the whole window, but the scores are about the tile.
        TaskType::Classification | TaskType::MultiLabelClassification => {
            ModelQuery::Head { head: model.head(&task.name)?, crop: Some(plan.area) }
        }
        _ => ModelQuery::Head { head: model.head(&task.name)?, crop: None },
    })
}

/// The objects that the tile reports, chosen from its window's `own` ones and those of neighbouring windows.
async fn owned_objects(
    own: &[Object],
    plan: &TilePlan,
    asked: Asked<'_>,
    query: &ModelQuery,
    sources: &Sources,
    windows: &Windows,
) -> Result<(Vec<Object>, Timings), EngineError> {
    let (grid, mut timings) = (windows.grid(), Timings::default());
    let mut answers = Vec::new();
    for side in borders::neighbours(own, plan.area, &grid) {
        let Some(window) = plan.key.window.neighbour(side.0, side.1) else { continue };
        let target = grid.georef(window);
        // A source that is searched per place may have other captures there.
        let source = sources.opened(&plan.source.id).await?;
        let source = sources.at(source, &target, plan.key.pixels.captures.datetime).await?;
        if !source.covers(&target) {
            continue;
        }
        let source_version = source.version.clone();
        let key = WindowKey { window, source_version, ..plan.key.clone() };
        let (answer, spent) = windows.answer(key, Asked { source: &source, ..asked }, query.clone()).await?;
        timings.add(&spent);
        answers.push((side, answer));
    }
    let others = answers.iter().filter_map(|(side, answer)| match &answer.answer {
        Some(ModelAnswer::Head(HeadOutput::Objects(objects))) => Some((*side, objects.as_slice())),
        _ => None,
    });
    let others: Vec<(Side, &[Object])> = others.collect();
    Ok((borders::deduplicate(own, &others, plan.area, &grid), timings))
}

/// The output of a tile without data.
fn empty(task: &Task, size: usize) -> Output {
    match task.task_type {
        TaskType::Segment | TaskType::BinSegment | TaskType::Regress => {
            let channels = task.categories.len().max(1);
            let values = vec![0.0; size * size * channels];
            Output::Dense(Dense { width: size, height: size, channels, values, valid: Some(vec![false; size * size]) })
        }
        TaskType::Detect | TaskType::Instance => Output::Objects(Vec::new()),
        TaskType::Classification | TaskType::MultiLabelClassification => Output::Scores(Vec::new()),
        TaskType::Embedding => Output::Embedding(Vec::new()),
    }
}

/// The part `area` of a window's answer; `None` if it has no data. Its objects are `owned` if given, else all that touch it.
fn cut(window: &WindowAnswer, owned: Option<Vec<Object>>, area: Part, input_px: usize, pool: Pool) -> Option<Output> {
    let valid = window.valid.as_deref().map(|valid| rows(valid, input_px, 1, area));
    if valid.as_ref().is_some_and(|valid| !valid.contains(&true)) {
        return None;
    }
    Some(match window.answer.as_ref()? {
        ModelAnswer::Head(HeadOutput::Dense(Dense { values, width, channels, .. })) => Output::Dense(Dense {
            width: area.width,
            height: area.height,
            channels: *channels,
            values: rows(values, *width, *channels, area),
            valid,
        }),
        ModelAnswer::Head(HeadOutput::Scores(scores)) => Output::Scores(scores.clone()),
        ModelAnswer::Head(HeadOutput::Objects(objects)) => {
            let has_data = |object: &Object| {
                let [x0, y0, x1, y1] = object.bbox_px;
                let at = ((y0 + y1) / 2.0) as usize * input_px + ((x0 + x1) / 2.0) as usize;
                window.valid.as_deref().is_none_or(|valid| valid.get(at).copied().unwrap_or(false))
            };
            let touching = || objects.iter().filter(|object| touches(object, area)).cloned().collect();
            let found: Vec<Object> = owned.unwrap_or_else(touching);
            Output::Objects(found.into_iter().filter(has_data).map(|object| placed(object, area)).collect())
        }
        ModelAnswer::Maps(maps) => Output::Embedding(maps.iter().map(|map| pooled(&map.cropped(area), pool)).collect()),
    })
}

fn touches(object: &Object, area: Part) -> bool {
    let [x0, y0, x1, y1] = object.bbox_px;
    let (left, top) = (area.col as f32, area.row as f32);
    x0 < left + area.width as f32 && x1 > left && y0 < top + area.height as f32 && y1 > top
}

/// The object in the tile's pixel coordinates.
fn placed(object: Object, area: Part) -> Object {
    let [x0, y0, x1, y1] = object.bbox_px;
    let (left, top) = (area.col as f32, area.row as f32);
    Object { bbox_px: [x0 - left, y0 - top, x1 - left, y1 - top], ..object }
}

/// The rectangle `area` of a row-major `[_, width, channels]` array.
fn rows<T: Copy>(values: &[T], width: usize, channels: usize, area: Part) -> Vec<T> {
    (area.row..area.row + area.height)
        .flat_map(|row| {
            let start = (row * width + area.col) * channels;
            &values[start..start + area.width * channels]
        })
        .copied()
        .collect()
}
