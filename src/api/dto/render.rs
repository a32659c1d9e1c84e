//! Query parameters that filter and render a prediction.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::{parsed, words};
use crate::api::error::Problem;
use crate::outputs::{
    RenderChoice, RenderOptions, parse_max_detections, parse_opacity, parse_rescale, parse_simplify, parse_threshold,
};
use crate::zoo::Task;

/// How a prediction is filtered and rendered.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RenderParams {
    /// Minimum score of objects and minimum probability of binary categories. Default: 0.5; for json and safetensors 0.05, the
    /// network's own.
    #[param(value_type = Option<f32>, minimum = 0.0, maximum = 1.0)]
    pub threshold: Option<String>,
    /// Categories to show, by name, separated by commas; all by default.
    #[param(min_length = 1)]
    pub categories: Option<String>,
    /// Maximum number of objects, best first. A number above 100 also lets a window have more than 100, up to 2000.
    #[param(value_type = Option<u32>, minimum = 0, maximum = 100000)]
    pub max_detections: Option<String>,
    /// What the pixels of an image show: `color` (of the category, the default), `index` (of the category) or `probability` (of one category).
    #[param(value_type = Option<words::Render>)]
    pub render: Option<String>,
    /// The category whose probability `render=probability` shows; with another `render` it is an error.
    #[param(min_length = 1)]
    pub category: Option<String>,
    /// Colour map of regressions and probabilities: `viridis` (the default), `gray`, `inferno` or `terrain`.
    #[param(value_type = Option<words::Colormap>)]
    pub colormap: Option<String>,
    /// The values at the two ends of the colour map, the lower one first. Default: the range of the task's values, which
    /// `GET /v1/models` gives; 0 and 1 for probabilities. Values beyond them get the colours of the ends. `0,120` stretches 0 to 120.
    #[param(pattern = "^[^,]+,[^,]+$")]
    pub rescale: Option<String>,
    /// Opacity of an image's pixels, from 0 (invisible) to 1.
    #[param(value_type = Option<f32>, minimum = 0.0, maximum = 1.0)]
    pub opacity: Option<String>,
    /// Vector formats only: maximum distance in pixels between a simplified outline and the exact pixel edges. Polygons stay valid
    /// and neighbours keep their shared borders. 0 follows pixel edges exactly.
    #[param(value_type = Option<f32>, minimum = 0.0, maximum = 64.0, default = 0.0)]
    pub simplify: Option<String>,
}

impl RenderParams {
    /// The parsed options for a result of `task`.
    ///
    /// # Errors
    /// If a value is out of range or a category is not one of the task's.
    pub(crate) fn options(&self, task: &Task) -> Result<RenderOptions, Problem> {
        let choice = RenderChoice {
            threshold: self.threshold.as_deref().map(parse_threshold).transpose()?,
            categories: parsed(&self.categories)?,
            max_detections: self.max_detections.as_deref().map(parse_max_detections).transpose()?,
            render: parsed(&self.render)?.unwrap_or_default(),
            category: self.category.clone(),
            colormap: parsed(&self.colormap)?.unwrap_or_default(),
            rescale: self.rescale.as_deref().map(parse_rescale).transpose()?,
            opacity: self.opacity.as_deref().map(parse_opacity).transpose()?,
            simplify_px: self.simplify.as_deref().map(parse_simplify).transpose()?,
        };
        Ok(choice.resolve(task)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::{Colormap, Render};
    use crate::prediction::CellPrecision;
    use crate::zoo::TaskType;

    fn task(categories: &[&str]) -> Task {
        let categories = categories.iter().map(|name| (*name).to_owned()).collect();
        Task {
            name: "cover".into(),
            task_type: TaskType::Segment,
            categories,
            colors: vec![],
            background_invalid: false,
            value_range: None,
        }
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
            ("rescale", "-5, 120"),
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
                rescale: Some([-5.0, 120.0]),
                opacity: 0.5,
                simplify_px: 1.5,
                precision: CellPrecision::Float32,
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
            (&[("category", "water")], "render probability"),
            (&[("colormap", "jet")], "viridis"),
            (&[("rescale", "120,0")], "the lower one first"),
            (&[("rescale", "0")], "two numbers"),
            (&[("rescale", "0,inf")], "two numbers"),
            (&[("simplify", "65")], "from 0 to 64"),
            (&[("simplify", "nan")], "from 0 to 64"),
            (&[("simplify", "-1")], "from 0 to 64"),
        ] {
            let problem = params(pairs).options(&task(&["land", "water"])).unwrap_err();
            assert!(problem.detail.contains(word), "{}", problem.detail);
        }
    }
}
