//! Running a [`TilePlan`]: the tile's part of its window's answer.

use super::caller::Caller;
use super::device::{ModelAnswer, ModelQuery};
use super::embedding::pooled;
use super::error::EngineError;
use super::models::Models;
use super::neighbourhood::Neighbourhood;
use super::plan::{ObjectRule, TilePlan};
use super::sources::Sources;
use super::window::{Asked, Timings, WindowAnswer, Windows};
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
        warnings: plan.source.unmatched(&plan.key.pixels.captures).into_iter().collect(),
    };
    if !plan.is_covered() || !prediction.warnings.is_empty() {
        return Ok((prediction, Timings::default()));
    }
    let model = models.load_planned(&plan.planned).await?;
    // The network sees the whole window, but scores are about the tile.
    let query =
        ModelQuery::new(&model, plan.task(), (&plan.embedding, plan.limit))?.about(Some(plan.area), plan.task().task_type);
    let asked = Asked { model: &model, source: &plan.source, caller };
    let answered = windows.answer(plan.key.clone(), asked, query.clone()).await;
    let (answer, mut timings) = answered.inspect_err(|error| {
        if error.is_changed_file() {
            sources.close(&plan.source);
        }
    })?;
    prediction.warnings.clone_from(&answer.warnings);
    prediction.warnings.extend(plan.limit.warning(answer.least_score));
    if matches!(&answer.answer, Some(ModelAnswer::Head(HeadOutput::Objects(_)))) {
        let mut seen = Neighbourhood::new(answer, plan, asked, &query, (sources, windows));
        let found = match plan.objects {
            ObjectRule::Centre => seen.owned().await?,
            ObjectRule::Touching => seen.touching().await?,
        };
        timings.add(&seen.spent);
        prediction.output = Output::Objects(found.into_iter().map(|object| placed(object, plan.area)).collect());
    } else if let Some(output) = cut(&answer, plan.area, windows.grid().input_px(), plan.embedding.pool) {
        prediction.output = output;
    }
    Ok((prediction, timings))
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

/// The part `area` of a window's answer; `None` if it has no data, or if it consists of objects, which are not cut.
fn cut(window: &WindowAnswer, area: Part, input_px: usize, pool: Pool) -> Option<Output> {
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
        ModelAnswer::Head(HeadOutput::Objects(_)) | ModelAnswer::Batch(_) => return None,
        ModelAnswer::Maps(maps) => Output::Embedding(maps.iter().map(|map| pooled(&map.cropped(area), pool)).collect()),
    })
}

/// The object in the pixel coordinates of a part of its window.
pub(super) fn placed(object: Object, area: Part) -> Object {
    let [x0, y0, x1, y1] = object.bbox_px;
    let (left, top) = (area.col as f32, area.row as f32);
    Object { bbox_px: [x0 - left, y0 - top, x1 - left, y1 - top], ..object }
}

/// The rectangle `area` of a row-major `[_, width, channels]` array.
pub(super) fn rows<T: Copy>(values: &[T], width: usize, channels: usize, area: Part) -> Vec<T> {
    (area.row..area.row + area.height)
        .flat_map(|row| {
            let start = (row * width + area.col) * channels;
            &values[start..start + area.width * channels]
        })
        .copied()
        .collect()
}
