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
            Self::Places => format!(
                "{count} of the labels lie outside the source, beyond the latitudes of the map (85.05 degrees), or where there is no data"
            ),
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
            // What is said of the imagery may be why there is no data: captures that were not chosen, for one.
            let why: Vec<String> = (missing > 0).then_some(lost).into_iter().chain(samples.warnings).collect();
            let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
            return Err(EngineError::Unusable { detail: format!("labels: {lacking}{why}") });
        }
        usable.warnings.extend((missing > 0).then(|| format!("{lost} and do not count")));
        usable.warnings.extend(samples.warnings);
        Ok(usable)
    }

    /// The lowest and the highest number; `None` for categories, and if there is but one.
    pub(super) fn range(&self) -> Option<[f32; 2]> {
        let number = |says: &LabelValue| if let LabelValue::Number(number) = says { Some(*number as f32) } else { None };
        let mut numbers = self.labels.iter().filter_map(number);
        let first = numbers.next()?;
        let (least, greatest) = numbers.fold((first, first), |(least, most), number| (least.min(number), most.max(number)));
        (least < greatest && (greatest - least).is_finite()).then_some([least, greatest])
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
