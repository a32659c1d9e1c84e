//! The request to fit a head to chips.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::fit::{HeadWords, categories_of, method};
use super::imagery_body::pixel_body;
use super::mask_values::Meanings;
use super::said::{LabelKind, Said, short};
use super::words;
use crate::api::error::Problem;
use crate::engine::{ChipFitRequest, FoundValues, MaskFitRequest, MaskRule};
use crate::zoo::{Layer, ModelSpec, TaskType};

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
        /// Kind of the head: `classification`, or `multi_label_classification` for chips with any number of categories; with masks
        /// `segment`, `bin_segment` or `regress` for categories or a number per pixel.
        #[serde(rename = "type")]
        #[schema(value_type = words::FitType, example = "classification")]
        pub task_type: String,
        /// What each chip shows, in order: a category, or a list of them. Default: the names of the folders that the files of a zip file are in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = json!(["forest", "desert"]))]
        pub labels: Option<Vec<Value>>,
        /// What the values of masks say: a category, or for `bin_segment` a list of them, which may be empty. Default: each value is a
        /// category of its own, but for `bin_segment` 0 stands for none. Masks of numbers have no such values.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<BTreeMap<String, Value>>, example = json!({"0": "land", "1": "water"}))]
        pub values: Option<BTreeMap<String, Value>>,
        /// Values of masks that say nothing of their pixels. Pixels without data never do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = json!([255]))]
        pub ignore: Option<Vec<f64>>,
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
        /// Feature maps of the base model that the head reads, joined; for classification their means. Default: `backbone.3` for
        /// classification, else `fpn.0`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<Vec<String>>, example = json!(["backbone.3"]))]
        pub layers: Option<Vec<Layer>>,
        /// How the head is made of the labels. `knn` takes at most 500 chips, and learns from at most 500 pixels of masks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<words::FitMethod>, default = "auto", example = "auto")]
        pub method: Option<String>,
    }
}

impl ChipFitBody {
    /// The kind of the head.
    ///
    /// # Errors
    /// If no head is fitted for such tasks.
    fn kind(&self) -> Result<LabelKind, Problem> {
        LabelKind::of(&self.task_type)
    }

    /// How masks are read, if the kind of the head needs such.
    ///
    /// # Errors
    /// If there are members for the other kinds.
    pub(crate) fn mask_rule(&self) -> Result<Option<MaskRule>, Problem> {
        let kind = self.kind()?;
        let unwanted = |member: &str, needed: &str| {
            Err(Problem::unusable(format!("{member}: found some for the type {}, which {needed}", self.task_type)))
        };
        let has_names = self.values.is_some();
        if kind.task_type.is_label() {
            return match (has_names, self.ignore.is_some()) {
                (true, _) => unwanted("values", "has labels for whole chips and no masks"),
                (_, true) => unwanted("ignore", "has labels for whole chips and no masks"),
                _ => Ok(None),
            };
        }
        let are_numbers = kind.task_type == TaskType::Regress;
        match (self.labels.is_some(), are_numbers && has_names) {
            (true, _) => unwanted("labels", "needs a mask for each chip instead"),
            (_, true) => unwanted("values", "learns the values of masks themselves"),
            _ => {
                let ignore = self.ignore.iter().flatten().map(|value| *value as f32).collect();
                Ok(Some(MaskRule { ignore, are_numbers }))
            }
        }
    }

    /// The fit of a head on the model `base` to what was `found` in the masks with these names.
    ///
    /// # Errors
    /// If a value is malformed, out of range, or says nothing, or the masks have too few categories or too many.
    pub(crate) fn mask_request(
        &self,
        base: &ModelSpec,
        (rule, found): (MaskRule, FoundValues),
        mask_names: &[&str],
    ) -> Result<MaskFitRequest, Problem> {
        let kind = self.kind()?;
        let Meanings { categories, meanings, warnings } = if rule.are_numbers {
            Meanings::default()
        } else {
            Meanings::of(self.values.as_ref(), &found.first_masks(), mask_names, kind)?
        };
        let manifest = self.words().manifest(base, kind, categories, "masks")?;
        let method = method(self.method.as_deref())?;
        let pixels = self.pixel_params(None).upload_options()?;
        Ok(MaskFitRequest { manifest, method, pixels, rule, found, meanings, warnings })
    }

    fn words(&self) -> HeadWords<'_> {
        let Self { id, task, title, layers, colors, .. } = self;
        HeadWords { id, task, title, layers, colors }
    }

    /// The fit of a head on the model `base` to chips with these paths, which are those of a zip file if `in_folders`.
    ///
    /// # Errors
    /// If a value is malformed or out of range, or there are no labels.
    pub(crate) fn request(&self, base: &ModelSpec, paths: &[String], in_folders: bool) -> Result<ChipFitRequest, Problem> {
        let kind = self.kind()?;
        let said = match &self.labels {
            Some(labels) => {
                let read = |(index, value): (usize, &Value)| {
                    let wrong =
                        |needed| Problem::unusable(format!("labels: label {index}: found {}; {needed}", short(value)));
                    Said::of(value, "label", kind).map_err(wrong)
                };
                labels.iter().enumerate().map(read).collect::<Result<Vec<_>, Problem>>()?
            }
            None if in_folders => {
                let of_folder = |path: &String| {
                    let folder = path.rsplit('/').nth(1).filter(|folder| !folder.is_empty());
                    let name = folder.ok_or_else(|| {
                        let needed = "a folder with the name of its category is needed, or labels";
                        Problem::unusable(format!("{path}: found no folder; {needed}"))
                    })?;
                    Said::of(&Value::from(name), "folder", kind)
                        .map_err(|needed| Problem::unusable(format!("{path}: found the folder {name:?}; {needed}")))
                };
                paths.iter().map(of_folder).collect::<Result<Vec<_>, Problem>>()?
            }
            None => {
                let needed = "one for each chip is needed, or a zip file with a folder for each category";
                return Err(Problem::unusable(format!("labels: found none; {needed}")));
            }
        };
        let categories = categories_of(said.iter(), "the labels", kind)?;
        let labels = said.into_iter().map(|said| said.value(&categories, kind)).collect();
        let manifest = self.words().manifest(base, kind, categories, "chips")?;
        let method = method(self.method.as_deref())?;
        Ok(ChipFitRequest { manifest, method, pixels: self.pixel_params(None).upload_options()?, labels })
    }
}
