//! What a caller chooses about filtering and drawing, before the task is known, and how it is written as text.
//!
//! Query parameters and command-line flags are parsed by the same functions.

use std::str::FromStr;

use super::options::{Colormap, Render, RenderOptions};
use crate::error::InvalidValue;
use crate::prediction::CellPrecision;
use crate::zoo::{Task, TaskType};

/// Most objects a caller may ask for; one window gives at most 2000.
const MAX_DETECTIONS: usize = 100_000;

/// Most pixels that outlines may be moved by; beyond that they say nothing of what was found.
const MAX_SIMPLIFY_PX: f32 = 64.0;

/// A caller's choices; what is `None` or empty is left to the defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RenderChoice {
    /// See [`RenderOptions::threshold`].
    pub threshold: Option<f32>,
    /// Categories to show.
    pub categories: Option<CategoryNames>,
    /// See [`RenderOptions::max_detections`].
    pub max_detections: Option<usize>,
    /// What the pixels of an image mean.
    pub render: RenderMode,
    /// The category of [`RenderMode::Probability`].
    pub category: Option<String>,
    /// See [`RenderOptions::colormap`].
    pub colormap: Colormap,
    /// See [`RenderOptions::rescale`].
    pub rescale: Option<[f32; 2]>,
    /// See [`RenderOptions::opacity`].
    pub opacity: Option<f32>,
    /// See [`RenderOptions::simplify_px`].
    pub simplify_px: Option<f32>,
}

impl RenderChoice {
    /// The options for an answer of `task`.
    ///
    /// # Errors
    /// If a category is not one of the task's, or `category` and `render` contradict each other.
    pub fn resolve(&self, task: &Task) -> Result<RenderOptions, InvalidValue> {
        let categories = self.categories.as_ref().map(|CategoryNames(names)| {
            names.iter().map(|name| category_id(task, "categories", name)).collect::<Result<_, _>>()
        });
        Ok(RenderOptions {
            threshold: self.threshold,
            categories: categories.transpose()?,
            max_detections: self.max_detections,
            render: self.render_of(task)?,
            colormap: self.colormap,
            rescale: self.rescale,
            opacity: self.opacity.unwrap_or(1.0),
            simplify_px: self.simplify_px.unwrap_or(0.0),
            precision: CellPrecision::default(),
        })
    }

    fn render_of(&self, task: &Task) -> Result<Render, InvalidValue> {
        match (self.render, self.category.as_deref()) {
            (RenderMode::Color, None) => Ok(Render::Color),
            (RenderMode::Index, None) => Ok(Render::Index),
            (RenderMode::Color, Some(name)) if task.task_type == TaskType::Regress => {
                Ok(Render::Probability { category_id: category_id(task, "category", name)? })
            }
            (RenderMode::Probability, Some(name)) => {
                Ok(Render::Probability { category_id: category_id(task, "category", name)? })
            }
            (RenderMode::Probability, None) if task.categories.len() == 1 => Ok(Render::Probability { category_id: 0 }),
            (RenderMode::Probability, None) => {
                let names = task.categories.join(", ");
                Err(InvalidValue::new("category", "", format!("with render probability, one of {names}")))
            }
            (RenderMode::Color | RenderMode::Index, Some(found)) => {
                let needed = "render probability beside it (categories filters instead)";
                Err(InvalidValue::new("category", found, needed))
            }
        }
    }
}

fn category_id(task: &Task, option: &'static str, name: &str) -> Result<usize, InvalidValue> {
    let name = name.trim();
    task.categories.iter().position(|category| category == name).ok_or_else(|| match task.categories.as_slice() {
        [] => InvalidValue::new(option, name, format!("a task with categories, which {} is not,", task.name)),
        categories => InvalidValue::new(option, name, format!("one of {}", categories.join(", "))),
    })
}

/// Names of categories, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CategoryNames(pub Vec<String>);

impl FromStr for CategoryNames {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Ok(Self(text.split(',').map(str::to_owned).collect()))
    }
}

/// What the pixels of an image mean, before the task is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenderMode {
    /// The category's colour.
    #[default]
    Color,
    /// The category's index.
    Index,
    /// The probability of one category.
    Probability,
}

impl FromStr for RenderMode {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "color" => Ok(Self::Color),
            "index" => Ok(Self::Index),
            "probability" => Ok(Self::Probability),
            found => Err(InvalidValue::new("render", found, "color, index or probability")),
        }
    }
}

impl FromStr for Colormap {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "viridis" => Ok(Self::Viridis),
            "gray" => Ok(Self::Gray),
            "inferno" => Ok(Self::Inferno),
            "terrain" => Ok(Self::Terrain),
            found => Err(InvalidValue::new("colormap", found, "viridis, gray, inferno or terrain")),
        }
    }
}

/// Reads `threshold`.
///
/// # Errors
/// If the text is not a number from 0 to 1.
pub fn parse_threshold(text: &str) -> Result<f32, InvalidValue> {
    fraction("threshold", text)
}

/// Reads `opacity`.
///
/// # Errors
/// If the text is not a number from 0 to 1.
pub fn parse_opacity(text: &str) -> Result<f32, InvalidValue> {
    fraction("opacity", text)
}

fn fraction(option: &'static str, text: &str) -> Result<f32, InvalidValue> {
    let value = text.parse::<f32>().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| InvalidValue::new(option, text, "a number from 0 to 1"))
}

/// Reads `rescale`: the values at the two ends of the colour map.
///
/// # Errors
/// If the text is not two numbers, the lower one first.
pub fn parse_rescale(text: &str) -> Result<[f32; 2], InvalidValue> {
    let ends = text.split_once(',').and_then(|(low, high)| Some([low.trim().parse().ok()?, high.trim().parse().ok()?]));
    let ends = ends.filter(|[low, high]: &[f32; 2]| low.is_finite() && high.is_finite() && low < high);
    ends.ok_or_else(|| InvalidValue::new("rescale", text, "two numbers, the lower one first, such as 0,120"))
}

/// Reads `max_detections`.
///
/// # Errors
/// If the text is not a whole number within the limit.
pub fn parse_max_detections(text: &str) -> Result<usize, InvalidValue> {
    let count = text.parse::<usize>().ok().filter(|count| *count <= MAX_DETECTIONS);
    count.ok_or_else(|| InvalidValue::new("max_detections", text, format!("a number from 0 to {MAX_DETECTIONS}")))
}

/// Reads `simplify`, in pixels.
///
/// # Errors
/// If the text is not a number within the limit.
pub fn parse_simplify(text: &str) -> Result<f32, InvalidValue> {
    let value = text.parse::<f32>().ok().filter(|value| (0.0..=MAX_SIMPLIFY_PX).contains(value));
    value.ok_or_else(|| InvalidValue::new("simplify", text, format!("a number of pixels from 0 to {MAX_SIMPLIFY_PX}")))
}
