//! Dense predictions as pictures.
//!
//! A map of categories or of one value needs at most 256 colours, so it is kept as palette indices unless a format needs
//! RGBA. A palette PNG has a quarter of the bytes before compression, and takes a quarter of the time to write.

use super::classes::{self, class_map, has_data};
use super::error::OutputError;
use super::filter::draws;
use super::format::Format;
use super::options::{Render, RenderOptions};
use crate::prediction::{ClassMap, Dense, NO_CATEGORY};
use crate::zoo::{Task, TaskType};

/// Red, green, blue, opacity.
pub(super) type Rgba = [u8; 4];

/// Transparent; black for readers that ignore opacity.
pub(super) const TRANSPARENT: Rgba = [0; 4];

/// Steps of a colour map, which leaves one palette index for transparent pixels.
const COLOR_STEPS: u8 = 255;

/// A picture that PNG and WebP can write.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    /// `[height, width]`, row-major.
    pub(super) pixels: Pixels,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pixels {
    /// Indices into a palette of at most 256 colours.
    Indexed {
        /// `[height, width]`.
        indices: Vec<u8>,
        palette: Vec<Rgba>,
    },
    /// `[height, width]`: numbers rather than colours, of which [`NO_CATEGORY`] is transparent.
    Numbers(Vec<u8>),
    /// `[height, width, 4]`.
    Rgba(Vec<u8>),
}

/// Draws a dense prediction.
///
/// # Errors
/// [`OutputError::NotRenderable`] if the task cannot be rendered as the options say.
pub(super) fn dense(dense: &Dense, task: &Task, format: Format, options: &RenderOptions) -> Result<Picture, OutputError> {
    classes::check(dense, task, format)?;
    let refuse = |reason: &str| OutputError::NotRenderable { task: task.name.clone(), reason: reason.to_owned() };
    let regress = task.task_type == TaskType::Regress;
    let pixels = match options.render {
        Render::Color if regress => regressed(dense, 0, task, options),
        Render::Color => category_colors(class_map(dense, task, options), task, options),
        Render::Index if regress => return Err(refuse("render index shows categories, and a regression has none")),
        Render::Index => Pixels::Numbers(class_map(dense, task, options).labels),
        Render::Probability { category_id } if category_id >= dense.channels => {
            return Err(refuse(&format!("render probability names category {category_id} of {}", dense.channels)));
        }
        Render::Probability { category_id } if regress => regressed(dense, category_id, task, options),
        Render::Probability { category_id } => {
            let [low, high] = options.rescale.unwrap_or([0.0, 1.0]);
            color_mapped(dense, category_id, options, |value| Some((value - low) / (high - low)))
        }
    };
    Ok(Picture { width: dense.width, height: dense.height, pixels })
}

/// An opacity from 0 to 1 as an alpha value.
pub(super) fn alpha(opacity: f32) -> u8 {
    (opacity.clamp(0.0, 1.0) * 255.0).round() as u8
}

/// Draws a map of categories.
///
/// # Errors
/// [`OutputError::NotRenderable`] for `render=probability`: the probabilities have not been kept.
pub(super) fn categories(map: ClassMap, task: &Task, options: &RenderOptions) -> Result<Picture, OutputError> {
    let (width, height) = (map.width, map.height);
    let pixels = match options.render {
        Render::Color => category_colors(map, task, options),
        Render::Index => Pixels::Numbers(map.labels),
        Render::Probability { .. } => return Err(OutputError::reduced(task)),
    };
    Ok(Picture { width, height, pixels })
}

fn category_colors(map: ClassMap, task: &Task, options: &RenderOptions) -> Pixels {
    let mut palette: Vec<Rgba> = (0..task.categories.len())
        .map(|category_id| {
            let [r, g, b] = task.color(category_id);
            if draws(task, options, category_id) { [r, g, b, alpha(options.opacity)] } else { TRANSPARENT }
        })
        .collect();
    let transparent = palette.len() as u8;
    palette.push(TRANSPARENT);
    let mut indices = map.labels;
    indices.iter_mut().filter(|index| **index == NO_CATEGORY).for_each(|index| *index = transparent);
    Pixels::Indexed { indices, palette }
}

/// One value of a regression through the colour map, over the task's range.
fn regressed(dense: &Dense, channel: usize, task: &Task, options: &RenderOptions) -> Pixels {
    let (low, high) = task.shown_range();
    let [low, high] = options.rescale.unwrap_or([low, high]);
    // In such a task 0 means "no valid label". Labels are whole numbers, so 0.5 separates 0 from the rest.
    let least = if task.background_invalid { 0.5 } else { f32::NEG_INFINITY };
    color_mapped(dense, channel, options, |value| (value >= least).then(|| (value - low) / (high - low)))
}

/// One channel through the colour map. `position` gives the place of a value on the map, from 0 to 1, or `None` for a value
/// that is not drawn.
fn color_mapped(dense: &Dense, channel: usize, options: &RenderOptions, position: impl Fn(f32) -> Option<f32>) -> Pixels {
    let last = f32::from(COLOR_STEPS - 1);
    let mut palette: Vec<Rgba> = (0..COLOR_STEPS)
        .map(|step| {
            let [r, g, b] = options.colormap.color(f32::from(step) / last);
            [r, g, b, alpha(options.opacity)]
        })
        .collect();
    palette.push(TRANSPARENT);
    let values = dense.values.iter().skip(channel).step_by(dense.channels);
    let indices = values
        .enumerate()
        .map(|(pixel, value)| match position(*value).filter(|position| !position.is_nan()) {
            Some(position) if has_data(dense, pixel) => (position.clamp(0.0, 1.0) * last).round() as u8,
            _ => COLOR_STEPS,
        })
        .collect();
    Pixels::Indexed { indices, palette }
}

impl Picture {
    /// The pixels as `[height, width, 4]`.
    pub(super) fn into_rgba(self) -> Vec<u8> {
        match self.pixels {
            Pixels::Rgba(rgba) => rgba,
            Pixels::Numbers(numbers) => {
                let color = |n: u8| if n == NO_CATEGORY { TRANSPARENT } else { [n, n, n, 255] };
                numbers.into_iter().flat_map(color).collect()
            }
            Pixels::Indexed { indices, palette } => {
                indices.into_iter().flat_map(|index| palette[usize::from(index)]).collect()
            }
        }
    }
}
