//! The labels that can be learnt from: those with data under them, if they suffice.

use super::labels::LabelValue;
use super::sampling::PlaceFeatures;
use crate::engine::error::EngineError;
use crate::zoo::{Task, TaskType};

/// What is missing where a label has no features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Places,
    Chips,
    Pixels,
}

impl Lost {
    fn told(self, count: usize) -> String {
        match self {
            Self::Places => format!("{count} of the labels lie outside the source or where it has no data"),
            Self::Chips => format!("{count} of the chips have no data"),
            Self::Pixels => format!("{count} of the pixels have no data"),
        }
    }
}

/// The labels that can be learnt from.
#[derive(Default)]
pub(super) struct Usable {
    /// `[labels, channels]`
    pub(super) features: Vec<f32>,
    pub(super) labels: Vec<LabelValue>,
    /// In pixels.
    pub(super) places: Vec<[f64; 2]>,
    pub(super) warnings: Vec<String>,
}

impl Usable {
    /// Takes the labels, each with its place in pixels, that have features; `beyond` others have been left out.
    ///
    /// # Errors
    /// If what is left does not tell categories or values apart.
    pub(super) fn of(
        labels: impl Iterator<Item = (LabelValue, [f64; 2])>,
        samples: PlaceFeatures,
        (lost, beyond): (Lost, usize),
        task: &Task,
    ) -> Result<Self, EngineError> {
        let mut usable = Self::default();
        let mut missing = beyond;
        for ((says, place), features) in labels.zip(samples.features) {
            let Some(features) = features else {
                missing += 1;
                continue;
            };
            usable.features.extend(features);
            usable.labels.push(says);
            usable.places.push(place);
        }
        let lost = lost.told(missing);
        if let Some(lacking) = usable.lacking(task) {
            let detail = if missing > 0 { format!("labels: {lacking} ({lost})") } else { format!("labels: {lacking}") };
            return Err(EngineError::Unusable { detail });
        }
        usable.warnings.extend((missing > 0).then(|| format!("{lost} and do not count")));
        usable.warnings.extend(samples.warnings);
        Ok(usable)
    }

    /// What was found and is needed, if these labels do not suffice.
    fn lacking(&self, task: &Task) -> Option<String> {
        let (names, all) = (&task.categories, self.labels.len());
        let with = |category: usize| self.labels.iter().filter(|says| says.categories().contains(&category)).count();
        let mut indices = 0..names.len();
        match task.task_type {
            TaskType::Regress => {
                let is_another = |says: &LabelValue| Some(says) != self.labels.first();
                let varies = self.labels.iter().any(is_another);
                (!varies).then(|| format!("found {all} with one value or none; two different values are needed"))
            }
            TaskType::BinSegment | TaskType::MultiLabelClassification => {
                let one_sided = indices.find(|category| [0, all].contains(&with(*category)))?;
                let (name, found) = (&names[one_sided], with(one_sided));
                let place = "where there is data; at least one of each is needed";
                Some(format!("found {found} with {name:?} and {} without it {place}", all - found))
            }
            _ => {
                let without = indices.find(|category| with(*category) == 0);
                match without {
                    Some(category) => {
                        Some(format!("found none of {:?} where there is data; at least one is needed", names[category]))
                    }
                    None if names.len() < 2 => {
                        Some(format!("found one category, {:?}; two or more are needed", names.concat()))
                    }
                    None => None,
                }
            }
        }
    }
}
