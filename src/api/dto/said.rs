//! What labels say in a property of GeoJSON features.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::api::error::Problem;
use crate::engine::LabelValue;
use crate::zoo::TaskType;

/// Most categories of a fit.
const MAX_CATEGORIES: usize = 64;
/// Longest name of a category, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// What labels have to say for a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelKind {
    pub(super) task_type: TaskType,
}

/// The tasks that a head can be fitted for.
const FITTED: [(&str, TaskType); 5] = [
    ("segment", TaskType::Segment),
    ("bin_segment", TaskType::BinSegment),
    ("regress", TaskType::Regress),
    ("classification", TaskType::Classification),
    ("multi_label_classification", TaskType::MultiLabelClassification),
];

impl LabelKind {
    /// # Errors
    /// If no head is fitted for tasks of this type.
    pub(super) fn of(task_type: &str) -> Result<Self, Problem> {
        let found = FITTED.iter().find(|(name, _)| *name == task_type);
        found.map(|(_, task_type)| Self { task_type: *task_type }).ok_or_else(|| {
            let names = FITTED.map(|(name, _)| name).join(", ");
            Problem::invalid(format!("type: found {task_type:?}; one of {names} is needed"))
        })
    }

    /// Whether a label has any number of categories.
    pub(super) fn is_any_number(self) -> bool {
        matches!(self.task_type, TaskType::BinSegment | TaskType::MultiLabelClassification)
    }

    /// How many categories all labels together may have.
    pub(super) fn category_count(self) -> RangeInclusive<usize> {
        match self.task_type {
            TaskType::Regress => 0..=0,
            _ if self.is_any_number() => 1..=MAX_CATEGORIES,
            _ => 2..=MAX_CATEGORIES,
        }
    }
}

/// What one feature says.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Names(Vec<String>),
    Number(f64),
}

impl Said {
    /// Reads the value of `property`.
    ///
    /// # Errors
    /// With what is needed.
    pub(super) fn of(value: &Value, property: &str, kind: LabelKind) -> Result<Self, String> {
        if kind.task_type == TaskType::Regress {
            let number = value.as_f64().filter(|number| number.abs() <= f64::from(f32::MAX));
            return number.map(Self::Number).ok_or_else(|| "a number is needed".to_owned());
        }
        let needed = || format!("a name of 1 to {MAX_NAME_BYTES} bytes or a number is needed");
        match value {
            Value::Bool(is_there) if kind.is_any_number() => {
                Ok(Self::Names(is_there.then(|| property.to_owned()).into_iter().collect()))
            }
            Value::Array(values) if kind.is_any_number() => {
                let names: Option<Vec<String>> = values.iter().take(MAX_CATEGORIES + 1).map(name).collect();
                names.map(Self::Names).ok_or_else(|| format!("in a list, {}", needed()))
            }
            value => name(value).map(|name| Self::Names(vec![name])).ok_or_else(needed),
        }
    }

    pub(super) fn names(&self) -> &[String] {
        match self {
            Self::Names(names) => names,
            Self::Number(_) => &[],
        }
    }

    /// As the fit takes it, where `categories` are all names, sorted.
    pub(super) fn value(self, categories: &[String], kind: LabelKind) -> LabelValue {
        match self {
            Self::Number(number) => LabelValue::Number(number),
            Self::Names(names) => {
                let mut set: Vec<usize> = names.iter().filter_map(|name| categories.binary_search(name).ok()).collect();
                set.sort_unstable();
                set.dedup();
                match set[..] {
                    [category] if !kind.is_any_number() => LabelValue::Category(category),
                    _ => LabelValue::Categories(set),
                }
            }
        }
    }
}

fn name(value: &Value) -> Option<String> {
    match value {
        Value::String(name) if !name.trim().is_empty() && name.len() <= MAX_NAME_BYTES => Some(name.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A value as messages show it.
pub(super) fn short(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= MOST { text } else { format!("{} …", text.chars().take(MOST).collect::<String>()) }
}
