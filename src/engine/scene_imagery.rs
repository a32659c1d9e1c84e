//! What a scene is predicted on: uploaded captures in their own grid, or an area of a source on the grid that was chosen for it.

use std::sync::Arc;
use std::time::Instant;

use super::area::Area;
use super::assembly::SceneWindowAnswer;
use super::data_extent::cut_to_data;
use super::device::{DevicePlace, Input, ModelAnswer, ModelQuery};
use super::error::EngineError;
use super::loaded::LoadedModel;
use super::options::PixelOptions;
use super::pixels::{WindowPixels, check_captures, chosen_captures, read_scene_window};
use super::plan::ScenePlan;
use super::reading::Reading;
use super::scene_options::SceneOptions;
use super::scheduler::Workload;
use super::strips::goes_by_columns;
use super::tile::{placed, rows};
use super::window::Timings;
use crate::georef::Georef;
use crate::nn::{HeadOutput, Part};
use crate::prediction::{Dense, Object};
use crate::raster::{PixelWindow, Raster};
use crate::tiles::{AreaWindow, SceneWindow, scene_windows};
use crate::zoo::ModelSpec;

/// The pixels of a scene.
pub(super) enum SceneImagery {
    /// One raster per capture, in time order.
    Captures(Vec<Arc<dyn Raster>>),
    /// A part of a source.
    Area(Area),
}

/// A window of a scene, and what is read for it.
pub(super) enum SceneInput {
    /// The window itself.
    Window(SceneWindow),
    /// The window with its halo.
    WithHalo(AreaWindow),
}

impl SceneImagery {
    /// The captures that are asked for.
    ///
    /// # Errors
    /// If there are fewer.
    pub(super) fn of_captures(captures: &[Arc<dyn Raster>], pixels: &PixelOptions) -> Result<Self, EngineError> {
        Ok(Self::Captures(chosen_captures(captures, &pixels.captures)?))
    }

    /// Columns and rows.
    ///
    /// # Errors
    /// If the captures do not fit the model or each other.
    pub(super) fn size(&self, spec: &ModelSpec) -> Result<(usize, usize), EngineError> {
        match self {
            Self::Captures(captures) => check_captures(spec, captures),
            Self::Area(area) => Ok(area.size()),
        }
    }

    /// True if windows must come column by column, which takes less memory. In an area that holds for all of its blocks: the order
    /// decides how sums are rounded.
    pub(super) fn goes_by_columns(&self, (width, height): (usize, usize)) -> bool {
        match self {
            Self::Captures(_) => goes_by_columns(width, height),
            Self::Area(area) => goes_by_columns(area.grid().width, area.grid().height),
        }
    }

    /// True if there is no imagery beyond the scene.
    pub(super) fn is_all_there_is(&self) -> bool {
        matches!(self, Self::Captures(_))
    }

    /// Side of the windows.
    pub(super) fn window_px(&self, options: &SceneOptions) -> usize {
        match self {
            Self::Captures(_) => options.window_px,
            Self::Area(area) => area.window_px(),
        }
    }

    /// The windows in the order in which they must come.
    pub(super) fn windows(&self, (width, height): (usize, usize), options: &SceneOptions) -> Vec<SceneInput> {
        let mut windows: Vec<SceneInput> = match self {
            Self::Captures(_) => {
                let windows = scene_windows(width, height, options.window_px, options.overlap_px);
                windows.into_iter().map(SceneInput::Window).collect()
            }
            Self::Area(area) => area.windows().into_iter().map(SceneInput::WithHalo).collect(),
        };
        if self.goes_by_columns((width, height)) {
            windows.sort_by_key(|input| (input.window().cols.start, input.window().rows.start));
        }
        windows
    }

    /// The passes over all windows.
    ///
    /// # Errors
    /// As [`SceneImagery::size`].
    pub(super) fn work(&self, plan: &ScenePlan, options: &SceneOptions) -> Result<Workload, EngineError> {
        let ScenePlan { model, pixels, .. } = plan;
        Ok(match self {
            Self::Captures(captures) => options.work(plan, self.size(&model.spec)?, captures.len()),
            Self::Area(area) => {
                let windows = area.windows();
                let most = windows.iter().map(|window| window.width * window.height).max().unwrap_or_default();
                let pixels = most * area.capture_count(&model.spec, pixels);
                Workload::images(&model.spec.id, &model.task.name, pixels, area.window_count())
            }
        })
    }

    /// Where the scene lies.
    pub(super) fn georef(&self) -> Option<Georef> {
        match self {
            Self::Captures(captures) => captures.first().and_then(|raster| raster.info().georef.clone()),
            Self::Area(area) => Some(area.georef()),
        }
    }

    /// Column and row of the first pixel in the area that the scene is a part of.
    pub(super) fn first_px(&self) -> (usize, usize) {
        match self {
            Self::Captures(_) => (0, 0),
            Self::Area(area) => area.first_px(),
        }
    }

    /// True if an object belongs to the scene.
    pub(super) fn owns(&self, object: &Object) -> bool {
        let [x0, y0, x1, y1] = object.bbox_px;
        match self {
            Self::Captures(_) => true,
            Self::Area(area) => area.owns((f32::midpoint(x0, x1), f32::midpoint(y0, y1))),
        }
    }

    /// Adds what is to say of the whole scene; `is_empty` if no window had data.
    pub(super) fn add_warnings(&self, warnings: &mut Vec<String>, pixels: &PixelOptions, is_empty: bool) {
        if let Self::Area(area) = self {
            warnings.extend(area.warning().map(str::to_owned));
            warnings.extend(is_empty.then(|| area.nothing_found(pixels)));
        }
    }

    /// Reads a window and runs it; without an answer if it has no data or nothing of it is wanted.
    ///
    /// # Errors
    /// If reading or the network fails.
    pub(super) async fn answer(
        &self,
        input: SceneInput,
        plan: &ScenePlan,
        (model, query): (&Arc<LoadedModel>, &ModelQuery),
        (place, reading): (&DevicePlace, &Reading),
    ) -> Result<(SceneWindow, Option<SceneWindowAnswer>, Timings), EngineError> {
        let (window, options) = (input.window(), &plan.pixels);
        let mut timings = Timings::default();
        let wanted = match (self, &input) {
            (Self::Area(area), SceneInput::WithHalo(input)) => area.within(input),
            _ => None,
        };
        if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&true)) {
            return Ok((window, None, timings));
        }
        let turn = place.turn().await?;
        let started = Instant::now();
        let held = turn.reading();
        let pixels = match (self, &input) {
            (Self::Captures(captures), _) => {
                let (captures, spec, options) = (captures.clone(), model.spec.clone(), options.clone());
                let read = move || {
                    let _held = held;
                    read_scene_window(&captures, &spec, raster_window(window), &options)
                };
                reading.upload(read).await?
            }
            (Self::Area(area), SceneInput::WithHalo(input)) => {
                area.read(input, &model.spec, (options, reading), held).await?
            }
            // Not reached: windows come from the same imagery.
            (Self::Area(_), SceneInput::Window(_)) => None,
        };
        timings.read = started.elapsed();
        let Some(WindowPixels { values, shape, valid, warnings }) = pixels else { return Ok((window, None, timings)) };
        let parts = match (self, &input) {
            (Self::Area(area), SceneInput::WithHalo(input)) => Some(area.parts_of(input)),
            _ => None,
        };
        // The network sees the halo, but scores are not about it.
        let asked = query.clone().about(parts.map(|(_, core)| core), plan.task().task_type);
        let reply = turn.forward(model.clone(), Input::Images { values, shape }, asked).await?;
        let few = plan.limit.warning(query.least_score(&reply.answer));
        let warnings = warnings.into_iter().chain(few).collect();
        timings.queue = reply.queued;
        timings.infer = reply.ran;
        let mut answer = reply.answer;
        cut_to_data(&mut answer, valid.as_deref(), shape[2]);
        let (answer, valid, valid_width) = match parts {
            Some((part, _)) => {
                let valid = valid.map(|valid| rows(&valid, shape[2], 1, part));
                (cropped(answer, part), both(valid, wanted.as_deref()), part.width)
            }
            None => (answer, valid, shape[2]),
        };
        Ok((window, Some(SceneWindowAnswer { answer, valid, valid_width, wanted, warnings }), timings))
    }
}

impl SceneInput {
    fn window(&self) -> SceneWindow {
        match self {
            Self::Window(window) => *window,
            Self::WithHalo(input) => input.window,
        }
    }
}

fn raster_window(window: SceneWindow) -> PixelWindow {
    let SceneWindow { cols, rows } = window;
    PixelWindow { col: cols.start as i64, row: rows.start as i64, width: cols.len, height: rows.len }
}

/// The part of a window's answer; objects keep what reaches beyond it.
fn cropped(answer: ModelAnswer, part: Part) -> ModelAnswer {
    match answer {
        ModelAnswer::Head(HeadOutput::Dense(Dense { width, channels, values, .. })) => {
            let values = rows(&values, width, channels, part);
            let (width, height) = (part.width, part.height);
            ModelAnswer::Head(HeadOutput::Dense(Dense { width, height, channels, values, valid: None }))
        }
        ModelAnswer::Head(HeadOutput::Objects(objects)) => {
            let objects = objects.into_iter().map(|object| placed(object, part)).collect();
            ModelAnswer::Head(HeadOutput::Objects(objects))
        }
        ModelAnswer::Head(HeadOutput::Scores(scores)) => ModelAnswer::Head(HeadOutput::Scores(scores)),
        ModelAnswer::Maps(maps) => ModelAnswer::Maps(maps.iter().map(|map| map.cropped(part)).collect()),
        ModelAnswer::Batch(answers) => {
            ModelAnswer::Batch(answers.into_iter().map(|answer| cropped(answer, part)).collect())
        }
    }
}

/// Pixels that have data and are wanted; `None` if all do.
fn both(valid: Option<Vec<bool>>, wanted: Option<&[bool]>) -> Option<Vec<bool>> {
    match (valid, wanted) {
        (Some(mut valid), Some(wanted)) => {
            valid.iter_mut().zip(wanted).for_each(|(valid, wanted)| *valid &= wanted);
            Some(valid)
        }
        (valid, wanted) => valid.or_else(|| wanted.map(<[bool]>::to_vec)),
    }
}
