//! What the values of masks say of their pixels.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fit::categories_of;
use super::said::{LabelKind, Said, short};
use crate::api::error::Problem;
use crate::engine::LabelValue;

/// What values say, and the categories that they name.
#[derive(Debug, Default)]
pub(super) struct Meanings {
    /// In alphabetical order.
    pub(super) categories: Vec<String>,
    pub(super) meanings: BTreeMap<i32, LabelValue>,
    pub(super) warnings: Vec<String>,
}

impl Meanings {
    /// The meanings of the values that were `found`, each with the number of the first mask that has it. They are those that are `given`,
    /// or else each value is a category, and where there may be none 0 stands for none.
    ///
    /// # Errors
    /// If a given value or what it says is malformed, one that was found is not among them, or there are too few categories or too many.
    pub(super) fn of(
        given: Option<&BTreeMap<String, Value>>,
        found: &BTreeMap<i32, usize>,
        mask_names: &[&str],
        kind: LabelKind,
    ) -> Result<Self, Problem> {
        let mut warnings = Vec::new();
        let said = match given {
            Some(given) => {
                let mut said = read(given, kind)?;
                if let Some((value, mask)) = found.iter().find(|(value, _)| !said.contains_key(value)) {
                    let known = said.keys().map(i32::to_string).collect::<Vec<_>>().join(", ");
                    let name = mask_names.get(*mask).unwrap_or(&"a mask");
                    return Err(Problem::unusable(format!(
                        "values: found {value} in {name}; one of {known} is needed, or {value} among ignore"
                    )));
                }
                let absent: Vec<String> =
                    said.keys().filter(|value| !found.contains_key(value)).map(i32::to_string).collect();
                if !absent.is_empty() {
                    warnings.push(format!("no mask has the values {}, and nothing is learnt of them", absent.join(", ")));
                }
                said.retain(|value, _| found.contains_key(value));
                said
            }
            None => {
                let itself = |value: &i32| match value {
                    0 if kind.is_any_number() => Said::Names(Vec::new()),
                    value => Said::Names(vec![value.to_string()]),
                };
                found.keys().map(|value| (*value, itself(value))).collect()
            }
        };
        let categories = categories_of(said.values(), "the masks", kind)?;
        let meanings = said.into_iter().map(|(value, said)| (value, said.value(&categories, kind))).collect();
        Ok(Self { categories, meanings, warnings })
    }
}

/// What each given value says.
fn read(given: &BTreeMap<String, Value>, kind: LabelKind) -> Result<BTreeMap<i32, Said>, Problem> {
    let read = |(value, says): (&String, &Value)| {
        let number = value.parse::<i32>().map_err(|_| {
            Problem::unusable(format!(
                "values: found {:?}; whole numbers, the values of masks, are needed",
                short(&value.as_str().into())
            ))
        })?;
        let said = Said::of(says, value, kind)
            .map_err(|needed| Problem::unusable(format!("values: {number}: found {}; {needed}", short(says))))?;
        Ok((number, said))
    };
    given.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(given: Value, found: &[i32], kind: &str) -> Result<Meanings, String> {
        let found = found.iter().enumerate().map(|(mask, value)| (*value, mask)).collect();
        let given = serde_json::from_value::<Option<BTreeMap<String, Value>>>(given).unwrap();
        let kind = LabelKind::of(kind).map_err(|problem| problem.detail)?;
        Meanings::of(given.as_ref(), &found, &["one.png", "two.png"], kind).map_err(|problem| problem.detail)
    }

    #[test]
    fn values_are_named_or_name_themselves() {
        let named = of(json!({"0": "land", "1": "water", "2": "water", "9": "ice"}), &[0, 1, 2], "segment").unwrap();
        assert_eq!(named.categories, ["land", "water"]);
        assert_eq!(named.meanings.into_values().collect::<Vec<_>>(), [0, 1, 1].map(LabelValue::Category));
        assert!(named.warnings[0].contains("values 9"), "{:?}", named.warnings);
        let themselves = of(json!(null), &[-1, 7], "segment").unwrap();
        assert_eq!((themselves.categories, themselves.warnings), (vec!["-1".to_owned(), "7".to_owned()], Vec::new()));
    }

    #[test]
    fn of_any_number_of_categories_zero_is_none() {
        let sets = |meanings: Meanings| meanings.meanings.into_values().collect::<Vec<_>>();
        let itself = of(json!(null), &[0, 255], "bin_segment").unwrap();
        assert_eq!(itself.categories, ["255"]);
        assert_eq!(sets(itself), [vec![], vec![0]].map(LabelValue::Categories));
        let several = of(json!({"0": [], "1": "road", "3": ["road", "bridge"]}), &[0, 1, 3], "bin_segment").unwrap();
        assert_eq!(several.categories, ["bridge", "road"]);
        assert_eq!(sets(several), [vec![], vec![1], vec![0, 1]].map(LabelValue::Categories));
    }

    #[test]
    fn values_that_say_nothing_are_told() {
        for (given, found, kind, told) in [
            (json!({"0": "land", "1": "water"}), vec![0, 7], "segment", "found 7 in two.png; one of 0, 1 is needed"),
            (json!({"0": "land", "x": "water"}), vec![0], "segment", "whole numbers"),
            (json!({"0": "land", "1": ["water"]}), vec![0, 1], "segment", "values: 1: found [\"water\"]"),
            (json!({"0": "land", "1": "land"}), vec![0, 1], "segment", "found 1 categories in the masks; 2 to 64"),
            (json!(null), (0..65).collect(), "segment", "found 65 categories"),
            (json!(null), vec![0], "bin_segment", "found 0 categories"),
        ] {
            let problem = of(given, &found, kind).unwrap_err();
            assert!(problem.contains(told), "{problem}");
        }
    }
}
