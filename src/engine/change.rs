//! What has changed on an area between two sets of captures of one source: the same question is asked of both, on one grid, and the
//! answers are compared.
//!
//! - Embeddings: the cosine distance of the vectors of each cell, from 0 (the same direction) over 1 to 2 (opposite ones).
//! - `segment`: pixels whose likeliest category is another one afterwards, both with at least the wanted probability.
//! - `bin_segment`: pixels where a category has appeared or gone: its probability reaches the wanted one on one side, and is at most
//!   1 less that on the other.

use super::area::{Area, AreaRequest};
use super::caller::Caller;
use super::error::EngineError;
use super::plan::ScenePlan;
use super::scene::SceneProgress;
use super::scene_imagery::SceneImagery;
use super::window::Timings;
use super::{Engine, blocking};
use crate::budget::MemoryGrant;
use crate::prediction::{CellMap, ClassMap, Dense, DenseSink, NO_CATEGORY, Output, Prediction};
use crate::raster::CaptureSelection;
use crate::zoo::{Task, TaskType};

/// Most categories of a segment task whose changes pixels can tell apart: 15 x 15 and `unchanged`.
const MAX_CATEGORIES: usize = 15;

/// The same for a bin_segment task, each of whose categories may appear or go.
const MAX_SWITCHES: usize = 127;

/// The category of pixels without a sure change.
const UNCHANGED: u8 = 0;

/// How two answers are compared.
#[derive(Clone, Copy, Debug)]
pub struct ChangeOptions {
    /// Least probability of categories, or least distance of cells that count as changed.
    pub threshold: f32,
    /// Whether the distances of cells become regions of changed cells.
    pub as_regions: bool,
}

/// A comparison: it is encoded as the prediction of a task of its own, a regression of distances or a segmentation of changes.
pub struct Change {
    /// The distances or changes.
    pub prediction: Prediction,
    /// Their task.
    pub task: Task,
    /// Time spent on both answers.
    pub timings: Timings,
    /// What they take, held until they are encoded.
    pub memory: MemoryGrant,
}

impl Engine {
    /// Checks that an area can be compared, before that becomes a job.
    ///
    /// # Errors
    /// If answers of the task are not compared, the source is not known or does not fit, or the grid cannot be had.
    pub async fn check_change(
        &self,
        plan: &ScenePlan,
        request: &AreaRequest,
        captures: &[CaptureSelection; 2],
    ) -> Result<(), EngineError> {
        self.plan_change(plan, request, captures.clone()).await.map(drop)
    }

    /// The area before and after.
    async fn plan_change(
        &self,
        plan: &ScenePlan,
        request: &AreaRequest,
        [before, after]: [CaptureSelection; 2],
    ) -> Result<[(ScenePlan, Area); 2], EngineError> {
        check(plan)?;
        let plans = [plan.of_captures(before), plan.of_captures(after)];
        let areas = [self.plan_area(&plans[0], request.clone()).await?, self.plan_area(&plans[1], request.clone()).await?];
        let ([first, second], [before, after]) = (plans, areas);
        Ok([(first, before), (second, after)])
    }

    /// Compares what a planned scene says of an area before and after. `sink` makes a sink for each of the two answers: one that keeps
    /// categories with their probabilities for a segment task, every value for others. `report` is called with the windows of both.
    ///
    /// # Errors
    /// As [`Engine::predict_area`], and if answers of the task are not compared.
    pub async fn predict_change(
        &self,
        plan: &ScenePlan,
        (request, caller): (AreaRequest, &Caller),
        captures: [CaptureSelection; 2],
        (sink, report): (impl Fn() -> Box<dyn DenseSink>, impl Fn(SceneProgress)),
        options: ChangeOptions,
    ) -> Result<Change, EngineError> {
        let [(before, area_before), (after, area_after)] = self.plan_change(plan, &request, captures).await?;
        // Both at once: of several requests that each hold one, none would get its second.
        let needed = self.memory_of(&before, &SceneImagery::Area(area_before.clone()), &*sink());
        let memory = self.memory_for(needed.map(|needed| needed.bytes(2))).await?;
        let first_half = |SceneProgress { done, total }| report(SceneProgress { done, total: 2 * total });
        let (first, mut timings) = self.predict_area(&before, caller, &area_before, sink(), first_half).await?;
        let second_half = |SceneProgress { done, total }| report(SceneProgress { done: done + total, total: 2 * total });
        let (second, spent) = self.predict_area(&after, caller, &area_after, sink(), second_half).await?;
        timings.add(&spent);
        let task = plan.task().clone();
        let (prediction, task) = blocking(move || compare(&task, [first, second], options)).await?;
        Ok(Change { prediction, task, timings, memory })
    }
}

/// Checks that answers to a plan are compared.
///
/// # Errors
/// [`EngineError::Invalid`] if not.
fn check(plan: &ScenePlan) -> Result<(), EngineError> {
    let task = plan.task();
    let invalid = |detail: String| Err(EngineError::Invalid { detail });
    match task.task_type {
        TaskType::Embedding if plan.cells().is_some() => Ok(()),
        TaskType::Segment | TaskType::BinSegment => {
            let most = if task.task_type == TaskType::Segment { MAX_CATEGORIES } else { MAX_SWITCHES };
            match (&task.name, task.categories.len()) {
                (name, found) if found > most => {
                    invalid(format!("task: {name} has {found} categories; changes of at most {most} can be told apart"))
                }
                _ => Ok(()),
            }
        }
        _ => invalid(format!(
            "task: found {}; changes are those of embedding and of segment and bin_segment tasks",
            task.name
        )),
    }
}

fn compare(
    task: &Task,
    [before, after]: [Prediction; 2],
    options: ChangeOptions,
) -> Result<(Prediction, Task), EngineError> {
    let Prediction { width, height, georef, warnings, .. } = before;
    let mut answer = Prediction { output: Output::Scores(Vec::new()), width, height, georef, warnings };
    answer.warnings.extend(after.warnings);
    let mut seen = Vec::new();
    answer.warnings.retain(|warning| {
        let is_new = !seen.contains(warning);
        seen.extend(is_new.then(|| warning.clone()));
        is_new
    });
    let (output, task) = match (before.output, after.output) {
        (Output::Cells(before), Output::Cells(after)) if before.values.len() == after.values.len() => {
            answer.georef = answer.georef.map(|image| before.georef(&image));
            (answer.width, answer.height) = (before.width, before.height);
            distances(&before, &after, options)
        }
        (Output::Classes(before), Output::Classes(after)) if before.labels.len() == after.labels.len() => {
            (Output::Classes(changes(task, &before, &after, options.threshold)), category_task(task))
        }
        (Output::Dense(before), Output::Dense(after)) if before.values.len() == after.values.len() => {
            (Output::Classes(appearances(&before, &after, options.threshold)), appearance_task(task))
        }
        // Not reached while both plans ask for the same.
        _ => return Err(EngineError::Panicked),
    };
    answer.output = output;
    Ok((answer, task))
}

/// The cosine distance of each cell's vectors.
fn distances(before: &CellMap, after: &CellMap, options: ChangeOptions) -> (Output, Task) {
    let (width, height) = (before.width, before.height);
    let distance = |(row, col): (usize, usize)| Some(cosine_distance(&before.vector(row, col)?, &after.vector(row, col)?));
    let found: Vec<Option<f32>> = before.places().map(distance).collect();
    let plain = Task { background_invalid: false, ..change_task(Vec::new(), Vec::new()) };
    if options.as_regions {
        let is_changed = |distance: &Option<f32>| distance.is_some_and(|distance| distance >= options.threshold);
        let labels = found.iter().map(|distance| if is_changed(distance) { 0 } else { NO_CATEGORY }).collect();
        let scores = found.iter().map(|distance| to_steps(distance.unwrap_or(0.0))).collect();
        let map = ClassMap { width, height, labels, scores: Some(scores) };
        return (Output::Classes(map), Task { categories: vec!["changed".to_owned()], ..plain });
    }
    let valid: Vec<bool> = found.iter().map(Option::is_some).collect();
    let values = found.into_iter().map(Option::unwrap_or_default).collect();
    let valid = valid.contains(&false).then_some(valid);
    (Output::Dense(Dense { width, height, channels: 1, values, valid }), Task { task_type: TaskType::Regress, ..plain })
}

/// The task of a map of changes, whose first category is `unchanged`.
fn change_task(categories: Vec<String>, colors: Vec<[u8; 3]>) -> Task {
    let (name, task_type) = ("change".to_owned(), TaskType::Segment);
    Task { name, task_type, categories, colors, background_invalid: true, value_range: None }
}

/// 1 less the cosine of the angle; 0 for two vectors without direction, 1 for one of them.
fn cosine_distance(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let (left, right) = (dot(a, a), dot(b, b));
    if left == 0.0 || right == 0.0 {
        return f32::from(u8::from(left != right));
    }
    (1.0 - dot(a, b) / (left * right).sqrt()).clamp(0.0, 2.0) as f32
}

/// Pixels whose category has changed.
fn changes(task: &Task, before: &ClassMap, after: &ClassMap, threshold: f32) -> ClassMap {
    let least = to_steps(threshold);
    let count = task.categories.len();
    let score = |map: &ClassMap, pixel: usize| map.scores.as_ref().map_or(u16::MAX, |scores| scores[pixel]);
    let pixels = before.labels.iter().zip(&after.labels).enumerate();
    let (labels, scores) = pixels
        .map(|(pixel, (from, to))| {
            let sure = score(before, pixel).min(score(after, pixel));
            match (*from, *to) {
                (NO_CATEGORY, _) | (_, NO_CATEGORY) => (NO_CATEGORY, 0),
                (from, to) if from == to || sure < least => (UNCHANGED, sure),
                (from, to) => ((1 + usize::from(from) * count + usize::from(to)) as u8, sure),
            }
        })
        .unzip();
    ClassMap { width: before.width, height: before.height, labels, scores: Some(scores) }
}

fn category_task(task: &Task) -> Task {
    let names = &task.categories;
    let pairs = || names.iter().flat_map(|from| names.iter().enumerate().map(move |(to_id, to)| (from, to_id, to)));
    let name = |from: &String, to: &String| if from == to { from.clone() } else { format!("{from} to {to}") };
    let categories = std::iter::once("unchanged".to_owned()).chain(pairs().map(|(from, _, to)| name(from, to)));
    let colors = std::iter::once([0; 3]).chain(pairs().map(|(_, to_id, _)| task.color(to_id)));
    change_task(categories.collect(), colors.collect())
}

/// Pixels where a category has appeared or gone; of several, the one whose probability has changed most.
fn appearances(before: &Dense, after: &Dense, threshold: f32) -> ClassMap {
    let on = threshold.max(0.5);
    let channels = before.channels.max(1);
    let has_data = |map: &Dense, pixel: usize| map.valid.as_ref().is_none_or(|valid| valid[pixel]);
    let pixels = before.values.chunks_exact(channels).zip(after.values.chunks_exact(channels)).enumerate();
    let (labels, scores) = pixels
        .map(|(pixel, (from, to))| {
            if !(has_data(before, pixel) && has_data(after, pixel)) {
                return (NO_CATEGORY, 0);
            }
            let (mut label, mut most) = (UNCHANGED, 0.0);
            for (category_id, (from, to)) in from.iter().zip(to).enumerate() {
                let (appeared, gone) = (*to >= on && *from <= 1.0 - on, *from >= on && *to <= 1.0 - on);
                let difference = (to - from).abs();
                if (appeared || gone) && difference > most {
                    (label, most) = ((1 + 2 * category_id + usize::from(gone)) as u8, difference);
                }
            }
            (label, to_steps(most))
        })
        .unzip();
    ClassMap { width: before.width, height: before.height, labels, scores: Some(scores) }
}

fn appearance_task(task: &Task) -> Task {
    let ids = || 0..task.categories.len();
    let names = |category_id: usize| {
        let name = task.category_name(category_id);
        [format!("{name} appeared"), format!("{name} gone")]
    };
    let colors = |category_id: usize| {
        let color = task.color(category_id);
        // What has gone is darker.
        [color, color.map(|channel| channel / 2)]
    };
    let categories = std::iter::once("unchanged".to_owned()).chain(ids().flat_map(names));
    change_task(categories.collect(), std::iter::once([0; 3]).chain(ids().flat_map(colors)).collect())
}

/// A probability as a multiple of 1 / 65535.
fn to_steps(probability: f32) -> u16 {
    (probability.clamp(0.0, 1.0) * f32::from(u16::MAX)).round() as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction::Pool;

    fn cells(values: Vec<f32>) -> CellMap {
        let layer = "backbone.3".to_owned();
        CellMap { layer, pool: Pool::Mean, side_px: 32, width: 3, height: 1, dims: 2, values, first_px: (0, 0) }
    }

    #[test]
    fn distances_are_those_of_directions() {
        let nan = f32::NAN;
        let (before, after) = (cells(vec![1.0, 2.0, nan, 0.0, 0.0, nan]), cells(vec![0.0, 8.0, 1.0, 3.0, 0.0, 1.0]));
        let options = ChangeOptions { threshold: 0.5, as_regions: false };
        let (Output::Dense(dense), task) = distances(&before, &after, options) else { panic!("distances are dense") };
        assert_eq!((dense.values, dense.valid), (vec![1.0, 0.0, 0.0], Some(vec![true, true, false])));
        assert_eq!(task.task_type, TaskType::Regress);
        let options = ChangeOptions { as_regions: true, ..options };
        let (Output::Classes(map), _) = distances(&before, &after, options) else { panic!("regions have categories") };
        assert_eq!(map.labels, [0, NO_CATEGORY, NO_CATEGORY]);
    }

    fn task(names: [&str; 2]) -> Task {
        let categories = names.map(str::to_owned).to_vec();
        let (name, colors) = ("land".to_owned(), vec![[1, 2, 3], [4, 5, 6]]);
        Task { name, task_type: TaskType::Segment, categories, colors, background_invalid: false, value_range: None }
    }

    #[test]
    fn only_sure_changes_of_a_category_count() {
        let map = |labels: [u8; 4], scores: [f32; 4]| ClassMap {
            width: 4,
            height: 1,
            labels: labels.to_vec(),
            scores: Some(scores.map(to_steps).to_vec()),
        };
        let (before, after) = (map([0, 0, 1, 255], [0.9; 4]), map([1, 1, 1, 0], [0.8, 0.4, 0.9, 0.9]));
        let (of, task) =
            (changes(&task(["forest", "water"]), &before, &after, 0.5), category_task(&task(["forest", "water"])));
        assert_eq!(of.labels, [2, UNCHANGED, UNCHANGED, NO_CATEGORY]);
        assert_eq!((task.categories[2].as_str(), task.colors[2]), ("forest to water", [4, 5, 6]));
        assert_eq!((task.categories.len(), task.colors.len()), (5, 5));
    }

    #[test]
    fn categories_appear_and_go() {
        let map = |values: Vec<f32>| Dense { width: 2, height: 1, channels: 2, values, valid: None };
        let of = appearances(&map(vec![0.1, 0.9, 0.3, 0.6]), &map(vec![0.9, 0.8, 0.7, 0.1]), 0.7);
        let task = appearance_task(&task(["flood", "smoke"]));
        assert_eq!((of.labels[0], of.labels[1]), (1, 1));
        assert_eq!(task.categories, ["unchanged", "flood appeared", "flood gone", "smoke appeared", "smoke gone"]);
        let of = appearances(&map(vec![0.1, 0.9, 0.3, 0.6]), &map(vec![0.2, 0.0, 0.4, 0.6]), 0.7);
        assert_eq!(of.labels, [4, UNCHANGED]);
        // The last category that is accepted has a label of its own.
        let one = |value: f32| {
            let mut values = vec![0.0; MAX_SWITCHES];
            values[MAX_SWITCHES - 1] = value;
            Dense { width: 1, height: 1, channels: MAX_SWITCHES, values, valid: None }
        };
        let last = appearances(&one(1.0), &one(0.0), 0.7).labels[0];
        assert_eq!((usize::from(last), last < NO_CATEGORY), (2 * MAX_SWITCHES, true));
    }
}
