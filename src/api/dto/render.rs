//! Query parameters that filter and draw a prediction.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::api::error::Problem;
use crate::outputs::{Colormap, Format, Render, RenderOptions};
use crate::zoo::Task;

/// Most objects a caller may ask for; the networks give 100 a window.
const MAX_DETECTIONS: usize = 100_000;

/// Most pixels that outlines may be moved by; beyond that they say nothing of what was found.
const MAX_SIMPLIFY_PX: f32 = 64.0;

/// How a prediction is filtered and drawn.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RenderParams {
    /// Least score of objects and least probability of binary categories. Default: 0.5; for json and safetensors the
    /// network's own 0.05.
    #[param(value_type = Option<f32>, minimum = 0.0, maximum = 1.0, example = 0.5)]
    #[arg(long)]
    pub threshold: Option<String>,
    /// Categories to show, by name, separated by commas; all by default.
    #[param(example = "water")]
    #[arg(long)]
    pub categories: Option<String>,
    /// Most objects in the answer, best first.
    #[param(value_type = Option<u32>, minimum = 0, maximum = 100000, example = 100)]
    #[arg(long)]
    pub max_detections: Option<String>,
    /// What an image's pixels say: `color` of the category, its `index`, or the `probability` of one category.
    #[param(example = "color", default = "color")]
    #[arg(long)]
    pub render: Option<String>,
    /// The category of `render=probability`.
    #[param(example = "water")]
    #[arg(long)]
    pub category: Option<String>,
    /// Colours of regressions and probabilities: `viridis`, `gray`, `inferno` or `terrain`.
    #[param(example = "viridis", default = "viridis")]
    #[arg(long)]
    pub colormap: Option<String>,
    /// From 0 (invisible) to 1.
    #[param(value_type = Option<f32>, minimum = 0.0, maximum = 1.0, example = 1.0)]
    #[arg(long)]
    pub opacity: Option<String>,
    /// Vector answers only: how far, in pixels, outlines of regions and masks may stray from pixel edges. Polygons stay valid and
    /// neighbours keep sharing their borders. 0 keeps pixel edges exactly.
    #[param(value_type = Option<f32>, minimum = 0.0, maximum = 64.0, example = 1.0, default = 0.0)]
    #[arg(long)]
    pub simplify: Option<String>,
}

impl RenderParams {
    /// The checked options for an answer of `task`.
    ///
    /// # Errors
    /// Values out of range, and categories that the task does not have.
    pub fn options(&self, task: &Task) -> Result<RenderOptions, Problem> {
        let defaults = RenderOptions::default();
        let categories = match &self.categories {
            None => None,
            Some(names) => Some(names.split(',').map(|name| category(task, "categories", name)).collect::<Result<_, _>>()?),
        };
        let max_detections = match &self.max_detections {
            None => None,
            Some(text) => {
                let count = text.parse::<usize>().ok().filter(|count| *count <= MAX_DETECTIONS);
                Some(count.ok_or_else(|| {
                    Problem::parameter("max_detections", text, format!("a number from 0 to {MAX_DETECTIONS}"))
                })?)
            }
        };
        Ok(RenderOptions {
            threshold: self.threshold.as_deref().map(|text| fraction("threshold", text)).transpose()?,
            categories,
            max_detections,
            render: self.render(task)?,
            colormap: self.colormap.as_deref().map(colormap).transpose()?.unwrap_or(defaults.colormap),
            opacity: self.opacity.as_deref().map(|text| fraction("opacity", text)).transpose()?.unwrap_or(1.0),
            simplify_px: self.simplify.as_deref().map(tolerance).transpose()?.unwrap_or(0.0),
        })
    }

    fn render(&self, task: &Task) -> Result<Render, Problem> {
        let render = match (self.render.as_deref(), &self.category) {
            (None | Some("color"), None) => Render::Color,
            (Some("index"), None) => Render::Index,
            (Some("probability"), Some(name)) => Render::Probability { category_id: category(task, "category", name)? },
            (Some("probability"), None) => match task.categories.as_slice() {
                [_] => Render::Probability { category_id: 0 },
                several => {
                    let needed = several.join(", ");
                    return Err(Problem::invalid(format!(
                        "category: found none; render=probability needs one of {needed}"
                    )));
                }
            },
            (None | Some("color" | "index"), Some(found)) => {
                return Err(Problem::parameter(
                    "category",
                    found,
                    "render=probability beside it, or categories= to filter,",
                ));
            }
            (Some(found), _) => return Err(Problem::parameter("render", found, "color, index or probability")),
        };
        Ok(render)
    }
}

fn category(task: &Task, parameter: &str, name: &str) -> Result<usize, Problem> {
    let name = name.trim();
    task.categories.iter().position(|category| category == name).ok_or_else(|| match task.categories.as_slice() {
        [] => Problem::invalid(format!("{parameter}: found {name:?}; {} has no categories", task.name)),
        categories => Problem::parameter(parameter, name, format!("one of {}", categories.join(", "))),
    })
}

fn fraction(name: &str, text: &str) -> Result<f32, Problem> {
    let value = text.parse::<f32>().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| Problem::parameter(name, text, "a number from 0 to 1"))
}

fn tolerance(text: &str) -> Result<f32, Problem> {
    let value = text.parse::<f32>().ok().filter(|value| (0.0..=MAX_SIMPLIFY_PX).contains(value));
    value.ok_or_else(|| Problem::parameter("simplify", text, format!("a number of pixels from 0 to {MAX_SIMPLIFY_PX}")))
}

fn colormap(name: &str) -> Result<Colormap, Problem> {
    match name {
        "viridis" => Ok(Colormap::Viridis),
        "gray" => Ok(Colormap::Gray),
        "inferno" => Ok(Colormap::Inferno),
        "terrain" => Ok(Colormap::Terrain),
        found => Err(Problem::parameter("colormap", found, "viridis, gray, inferno or terrain")),
    }
}

/// A text that differs wherever two encodings of one prediction may differ.
pub(crate) fn render_identity(format: Format, options: &RenderOptions) -> String {
    format!("{format:?} {options:?} {}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::TaskType;

    fn task(categories: &[&str]) -> Task {
        let categories = categories.iter().map(|name| (*name).to_owned()).collect();
        Task { name: "cover".into(), task_type: TaskType::Segment, categories, colors: vec![], background_invalid: false }
    }

    fn params(pairs: &[(&str, &str)]) -> RenderParams {
        let json: serde_json::Map<_, _> = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        serde_json::from_value(json.into()).expect("the names are known")
    }

    #[test]
    fn options_are_read_by_name() {
        let all = params(&[
            ("threshold", "0.3"),
            ("categories", "water, land"),
            ("max_detections", "7"),
            ("render", "probability"),
            ("category", "water"),
            ("colormap", "inferno"),
            ("opacity", "0.5"),
            ("simplify", "1.5"),
        ]);
        let options = all.options(&task(&["land", "water"])).unwrap();
        assert_eq!(
            options,
            RenderOptions {
                threshold: Some(0.3),
                categories: Some(vec![1, 0]),
                max_detections: Some(7),
                render: Render::Probability { category_id: 1 },
                colormap: Colormap::Inferno,
                opacity: 0.5,
                simplify_px: 1.5,
            }
        );
        assert_eq!(params(&[]).options(&task(&[])).unwrap(), RenderOptions::default());
    }

    #[test]
    fn wrong_values_are_told_what_is_needed() {
        for (pairs, word) in [
            (&[("threshold", "2")][..], "from 0 to 1"),
            (&[("threshold", "nan")], "from 0 to 1"),
            (&[("opacity", "-0.1")], "from 0 to 1"),
            (&[("categories", "lava")], "land, water"),
            (&[("categories", "")], "land, water"),
            (&[("max_detections", "-1")], "from 0 to"),
            (&[("render", "sculpture")], "color, index or probability"),
            (&[("render", "probability")], "one of land, water"),
            (&[("category", "water")], "render=probability"),
            (&[("colormap", "jet")], "viridis"),
            (&[("simplify", "65")], "from 0 to 64"),
            (&[("simplify", "nan")], "from 0 to 64"),
            (&[("simplify", "-1")], "from 0 to 64"),
        ] {
            let problem = params(pairs).options(&task(&["land", "water"])).unwrap_err();
            assert!(problem.detail.contains(word), "{}", problem.detail);
        }
    }
}
