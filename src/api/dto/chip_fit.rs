//! The request to fit a head to chips.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::fit::{HeadWords, categories_of, method, unusable};
use super::imagery_body::pixel_body;
use super::said::{LabelKind, Said, short};
use super::words;
use crate::api::error::Problem;
use crate::engine::ChipFitRequest;
use crate::zoo::{Layer, ModelSpec};

pixel_body! {
    /// A fit of a new head to chips, as the part `fit` of a form whose part `chips` holds them.
    #[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    #[schema(as = ChipFit, example = json!({
        "id": "kinds", "type": "classification", "labels": ["forest", "forest", "desert", "desert"]
    }))]
    pub(crate) struct ChipFitBody {
        /// Id of the model to register: at most 64 letters, digits, `_`, `.`, `-`.
        #[schema(pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$", example = "kinds")]
        pub id: String,
        /// Kind of the head: `classification`, or `multi_label_classification` for chips with any number of categories.
        #[serde(rename = "type")]
        #[schema(value_type = words::FitType, example = "classification")]
        pub task_type: String,
        /// What each chip shows, in order: a category, or a list of them. Default: the names of the folders that the files of a zip file are in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = json!(["forest", "desert"]))]
        pub labels: Option<Vec<Value>>,
        /// Red, green and blue of each category. Default: eight distinct colours in turn.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub colors: BTreeMap<String, [u8; 3]>,
        /// Name of the task.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(default = "fit", example = "kind")]
        pub task: Option<String>,
        /// Short description of the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub title: Option<String>,
        /// Feature maps of the base model whose means the head reads, joined. Default: `backbone.3`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<Vec<String>>, example = json!(["backbone.3"]))]
        pub layers: Option<Vec<Layer>>,
        /// How the head is made of the labels. `knn` takes at most 500 chips.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<words::FitMethod>, default = "auto", example = "auto")]
        pub method: Option<String>,
    }
}

impl ChipFitBody {
    /// The fit of a head on the model `base` to chips with these paths, which are those of a zip file if `in_folders`.
    ///
    /// # Errors
    /// If a value is malformed or out of range, or there are no labels.
    pub(crate) fn request(&self, base: &ModelSpec, paths: &[String], in_folders: bool) -> Result<ChipFitRequest, Problem> {
        let kind = LabelKind::of(&self.task_type)?;
        let said = match &self.labels {
            Some(labels) => {
                let read = |(index, value): (usize, &Value)| {
                    let wrong = |needed| unusable(format!("labels: label {index}: found {}; {needed}", short(value)));
                    Said::of(value, "label", kind).map_err(wrong)
                };
                labels.iter().enumerate().map(read).collect::<Result<Vec<_>, Problem>>()?
            }
            None if in_folders => {
                let of_folder = |path: &String| {
                    let folder = path.rsplit('/').nth(1).filter(|folder| !folder.is_empty());
                    let name = folder.ok_or_else(|| {
                        let needed = "a folder with the name of its category is needed, or labels";
                        unusable(format!("{path}: found no folder; {needed}"))
                    })?;
                    Said::of(&Value::from(name), "folder", kind)
                        .map_err(|needed| unusable(format!("{path}: found the folder {name:?}; {needed}")))
                };
                paths.iter().map(of_folder).collect::<Result<Vec<_>, Problem>>()?
            }
            None => {
                let needed = "one for each chip is needed, or a zip file with a folder for each category";
                return Err(unusable(format!("labels: found none; {needed}")));
            }
        };
        let categories = categories_of(said.iter(), "the labels", kind)?;
        let labels = said.into_iter().map(|said| said.value(&categories, kind)).collect();
        let Self { id, task, title, layers, colors, .. } = self;
        let words = HeadWords { id, task, title, layers, colors };
        let manifest = words.manifest(base, kind, categories, "chips")?;
        let method = method(self.method.as_deref())?;
        Ok(ChipFitRequest { manifest, method, pixels: self.pixel_params(None).upload_options()?, labels })
    }
}
