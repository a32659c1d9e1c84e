//! The nearest labels: a place is what those labels say that look most like it, by the cosine between standardised features
//! (scikit-learn's `KNeighborsClassifier` and `KNeighborsRegressor` with `metric="cosine"` after a `StandardScaler`).

use std::sync::atomic::{AtomicBool, Ordering};

use super::classes::{ClassLabels, best_of};
use super::error::FitError;
use super::folds::Folds;
use super::linear::{HeldOut, check_finite};
use super::scores::{scores, set_scores, value_errors};
use super::sets::{SetLabels, groups};
use super::standard::Standard;
use super::values::ValueLabels;
use crate::kernels::dots;
use crate::zoo::{ErrorPoint, HeldOutScores};

/// The numbers of neighbours that are tried, the most first: of equally good ones, that is taken.
const COUNTS: [usize; 7] = [25, 15, 9, 7, 5, 3, 1];
/// What is used where nothing can be held out, as far as there are so many labels of each kind: scikit-learn's default.
const USUAL_COUNT: usize = 5;

/// Labels that are kept as examples.
#[derive(Clone, Debug, PartialEq)]
pub struct NearestFit {
    /// `[examples, channels]`: products with features, with `bias`, are in the order of the cosines.
    pub weights: Vec<f32>,
    /// `[examples]`.
    pub bias: Vec<f32>,
    /// What each example says, `[examples, outputs]`: 1 for its categories and 0 for others, or its number.
    pub values: Vec<f32>,
    /// How many examples are asked.
    pub neighbours: usize,
    /// How good it is; `None` if too few labels lie apart from each other.
    pub held_out: Option<HeldOut>,
}

/// Keeps labels of one category each. The number of neighbours is the one whose shares of categories are nearest to what held-out labels
/// say, in the mean of squares (the Brier score).
///
/// # Errors
/// [`FitError::NotFinite`], and [`FitError::Stopped`] soon after `stop` is set.
pub fn nearest_classes(labels: &ClassLabels<'_>, stop: &AtomicBool) -> Result<NearestFit, FitError> {
    let ClassLabels { features, channels, classes, categories, places } = *labels;
    let sets: Vec<Vec<usize>> = classes.iter().map(|class| vec![*class]).collect();
    let examples = Examples::new(features, channels, presence(&sets, categories.len()), categories.len())?;
    let folds = Folds::of(places, &sets, categories.len());
    let score = |given: &[Vec<f64>], folds: &Folds| scores(given, classes, categories, folds);
    examples.with_categories(folds.as_ref(), score, fewest(&sets, categories.len()), stop)
}

/// Keeps labels of any number of categories each. The number of neighbours is chosen as for [`nearest_classes`].
///
/// # Errors
/// As [`nearest_classes`].
pub fn nearest_sets(labels: &SetLabels<'_>, stop: &AtomicBool) -> Result<NearestFit, FitError> {
    let SetLabels { features, channels, sets, categories, places } = *labels;
    let examples = Examples::new(features, channels, presence(sets, categories.len()), categories.len())?;
    let groups = groups(sets, categories.len());
    let folds = Folds::of(places, &groups, 2 * categories.len());
    let score = |given: &[Vec<f64>], folds: &Folds| set_scores(given, sets, categories, folds);
    examples.with_categories(folds.as_ref(), score, fewest(&groups, 2 * categories.len()), stop)
}

/// Keeps labels that say a number each. The number of neighbours is the one whose mean meets held-out numbers best, in the mean of squares.
///
/// # Errors
/// As [`nearest_classes`].
pub fn nearest_values(labels: &ValueLabels<'_>, stop: &AtomicBool) -> Result<NearestFit, FitError> {
    let ValueLabels { features, channels, values, places } = *labels;
    let examples = Examples::new(features, channels, values.to_vec(), 1)?;
    let Some(folds) = Folds::of(places, &vec![vec![0]; values.len()], 1) else {
        return Ok(examples.fit(USUAL_COUNT.min(values.len()), None));
    };
    let errors_of = |given: &[Vec<f64>]| value_errors(&given.concat(), values, &folds);
    let (count, given) = examples.choose(&folds, stop)?;
    let mut held = errors_of(&given);
    let point = |parts: usize, seen: usize| -> Result<ErrorPoint, FitError> {
        Ok(errors_of(&examples.held_out(&folds, parts, &[count], stop)?[0]).learning_point(seen))
    };
    held.learning_curve = folds.learning_curve(point, |seen| held.learning_point(seen))?;
    Ok(examples.fit(count, Some(HeldOut::Errors(held))))
}

/// What sets of categories say, as numbers: `[sets, categories]`.
fn presence(sets: &[Vec<usize>], categories: usize) -> Vec<f64> {
    let row = |set: &Vec<usize>| (0..categories).map(|category| f64::from(u8::from(set.contains(&category)))).collect();
    sets.iter().flat_map(|set| -> Vec<f64> { row(set) }).collect()
}

/// How many labels the group has that has the fewest.
fn fewest(groups: &[Vec<usize>], count: usize) -> usize {
    let mut counts = vec![0; count];
    groups.iter().flatten().for_each(|group| counts[*group] += 1);
    counts.into_iter().min().unwrap_or(0)
}

/// Labels that may be asked.
struct Examples<'a> {
    /// `[labels, channels]`
    features: &'a [f32],
    channels: usize,
    /// `[labels, width]`
    values: Vec<f64>,
    width: usize,
}

impl<'a> Examples<'a> {
    fn new(features: &'a [f32], channels: usize, values: Vec<f64>, width: usize) -> Result<Self, FitError> {
        check_finite(features, channels)?;
        Ok(Self { features, channels, values, width })
    }

    fn says(&self, label: usize) -> &[f64] {
        &self.values[label * self.width..][..self.width]
    }

    /// The fit for labels of categories; `fewest` is the number of labels of the rarest kind.
    fn with_categories(
        &self,
        folds: Option<&Folds>,
        score: impl Fn(&[Vec<f64>], &Folds) -> HeldOutScores,
        fewest: usize,
        stop: &AtomicBool,
    ) -> Result<NearestFit, FitError> {
        let Some(folds) = folds else { return Ok(self.fit(USUAL_COUNT.min(fewest).max(1), None)) };
        let (count, given) = self.choose(folds, stop)?;
        let mut held = score(&given, folds);
        let point = |parts: usize, seen: usize| {
            let given = self.held_out(folds, parts, &[count], stop)?.swap_remove(0);
            Ok::<_, FitError>(score(&given, folds).learning_point(seen))
        };
        held.learning_curve = folds.learning_curve(point, |seen| held.learning_point(seen))?;
        Ok(self.fit(count, Some(HeldOut::Scores(held))))
    }

    /// The best number of neighbours, and what so many say about the labels that they are not: `[labels][width]`.
    fn choose(&self, folds: &Folds, stop: &AtomicBool) -> Result<(usize, Vec<Vec<f64>>), FitError> {
        let seen = (0..folds.count).map(|fold| folds.split(fold, folds.count - 1).0.len()).min().unwrap_or(0);
        let counts: Vec<usize> = COUNTS.into_iter().filter(|count| *count <= seen.max(1)).collect();
        let mut given = self.held_out(folds, folds.count - 1, &counts, stop)?;
        let squares = |given: &Vec<Vec<f64>>| -> f64 {
            given.iter().flatten().zip(&self.values).map(|(given, says)| (given - says).powi(2)).sum()
        };
        let best = best_of(given.iter().map(squares));
        Ok((counts[best], given.swap_remove(best)))
    }

    /// What each of `counts` neighbours among the labels of `parts` other folds say about the labels of each fold:
    /// `[counts][labels][width]`.
    fn held_out(
        &self,
        folds: &Folds,
        parts: usize,
        counts: &[usize],
        stop: &AtomicBool,
    ) -> Result<Vec<Vec<Vec<f64>>>, FitError> {
        let labels = self.values.len() / self.width.max(1);
        let mut given = vec![vec![Vec::new(); labels]; counts.len()];
        for fold in 0..folds.count {
            if stop.load(Ordering::Relaxed) {
                return Err(FitError::Stopped);
            }
            let (seen, held) = folds.split(fold, parts);
            let standard = Standard::of(self.features, self.channels, &seen);
            let examples = self.directions(&standard, &seen);
            let features = standard.apply(self.features, &held);
            let channels = self.channels.max(1);
            let asked: Vec<&[f64]> = features.chunks_exact(channels).collect();
            let examples: Vec<&[f64]> = examples.chunks_exact(channels).collect();
            let mut similarities = vec![0.0; held.len() * seen.len()];
            dots(&asked, &examples, &mut similarities);
            for (label, similarities) in held.into_iter().zip(similarities.chunks_exact(seen.len().max(1))) {
                let mut order: Vec<usize> = (0..seen.len()).collect();
                order.sort_by(|a, b| similarities[*b].total_cmp(&similarities[*a]).then(a.cmp(b)));
                for (given, count) in given.iter_mut().zip(counts) {
                    given[label] = self.mean(order.iter().take(*count).map(|index| seen[*index]));
                }
            }
        }
        Ok(given)
    }

    /// The mean of what some labels say.
    fn mean(&self, labels: impl ExactSizeIterator<Item = usize>) -> Vec<f64> {
        let count = labels.len().max(1) as f64;
        let mut sum = vec![0.0; self.width];
        for label in labels {
            sum.iter_mut().zip(self.says(label)).for_each(|(sum, value)| *sum += value);
        }
        sum.into_iter().map(|sum| sum / count).collect()
    }

    /// The standardised features of labels with length 1, or 0 for a label without any direction: `[labels, channels]`.
    fn directions(&self, standard: &Standard, labels: &[usize]) -> Vec<f64> {
        let mut features = standard.apply(self.features, labels);
        for row in features.chunks_exact_mut(self.channels.max(1)) {
            let length = row.iter().map(|value| value * value).sum::<f64>().sqrt();
            if length > 0.0 {
                row.iter_mut().for_each(|value| *value /= length);
            }
        }
        features
    }

    /// All labels as examples.
    fn fit(&self, neighbours: usize, held_out: Option<HeldOut>) -> NearestFit {
        let all: Vec<usize> = (0..self.values.len() / self.width.max(1)).collect();
        let standard = Standard::of(self.features, self.channels, &all);
        let values = self.values.iter().map(|value| *value as f32).collect();
        let mut fit = NearestFit { weights: Vec::new(), bias: Vec::new(), values, neighbours, held_out };
        for direction in self.directions(&standard, &all).chunks_exact(self.channels.max(1)) {
            let (weights, bias) = standard.unfold(direction, 0.0);
            fit.weights.extend(weights.into_iter().map(|weight| weight as f32));
            fit.bias.push(bias as f32);
        }
        fit
    }
}

#[cfg(test)]
mod tests {
    use super::super::goldens;
    use super::*;

    fn folds(labels: usize) -> Folds {
        Folds { of: (0..labels).map(|label| label % 4).collect(), count: 4, apart_px: 64.0 }
    }

    #[test]
    fn neighbours_say_what_those_of_scikit_learn_say() {
        let stop = AtomicBool::new(false);
        for golden in goldens::nearest() {
            let features = goldens::features(&golden.groups, golden.channels);
            let labels = golden.values.len();
            let width = golden.values[0].len();
            let examples = Examples::new(&features, golden.channels, golden.values.concat(), width).unwrap();
            for (count, expected) in &golden.held_out {
                let given = examples.held_out(&folds(labels), 3, &[count.parse().unwrap()], &stop).unwrap().swap_remove(0);
                for (label, (given, expected)) in given.iter().flatten().zip(expected.iter().flatten()).enumerate() {
                    assert!((given - expected).abs() < 1e-12, "{} {count} {label}: {given} {expected}", golden.name);
                }
            }
            let (best, _) = examples.choose(&folds(labels), &stop).unwrap();
            assert_eq!(best, golden.best, "{}", golden.name);
            // What is kept says the same of the labels themselves.
            let fit = examples.fit(5, None);
            for (label, expected) in golden.predictions.iter().enumerate() {
                let row = &features[label * golden.channels..][..golden.channels];
                let similarity = |(weights, bias): (&[f32], &f32)| {
                    f64::from(*bias) + weights.iter().zip(row).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>()
                };
                let all: Vec<f64> = fit.weights.chunks(golden.channels).zip(&fit.bias).map(similarity).collect();
                let mut order: Vec<usize> = (0..labels).collect();
                order.sort_by(|a, b| all[*b].total_cmp(&all[*a]));
                let given = examples.mean(order.iter().take(5).copied());
                assert!(given.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{} {label}", golden.name);
            }
        }
    }

    #[test]
    fn every_kind_of_label_has_scores() {
        let stop = AtomicBool::new(false);
        let golden = goldens::sets();
        let features = goldens::features(&golden.groups(), golden.channels);
        let (names, places) = (["a", "b", "c"].map(str::to_owned), goldens::apart(golden.sets.len()));
        let (channels, sets) = (golden.channels, &golden.sets);
        let labels = SetLabels { features: &features, channels, sets, categories: &names, places: &places };
        let fit = nearest_sets(&labels, &stop).unwrap();
        let Some(HeldOut::Scores(held)) = fit.held_out else { panic!("no scores") };
        assert_eq!((held.categories.len(), held.learning_curve.len(), held.confusion.len()), (3, held.folds - 1, 0));
        assert!(held.macro_f1 > 0.4, "{held:?}");

        let values: Vec<f64> = (0..sets.len()).map(|label| label as f64).collect();
        let labels = ValueLabels { features: &features, channels, values: &values, places: &places };
        let fit = nearest_values(&labels, &stop).unwrap();
        assert_eq!((fit.values.len(), fit.bias.len()), (sets.len(), sets.len()));
        assert!(matches!(fit.held_out, Some(HeldOut::Errors(_))));

        let classes: Vec<usize> = (0..sets.len()).map(|label| label % 2).collect();
        let near = vec![[0.0, 0.0]; sets.len()];
        let labels =
            ClassLabels { features: &features, channels, classes: &classes, categories: &names[..2], places: &near };
        let fit = nearest_classes(&labels, &stop).unwrap();
        assert_eq!((fit.neighbours, fit.held_out), (5, None));
        assert_eq!(
            nearest_classes(&ClassLabels { places: &places, ..labels }, &AtomicBool::new(true)),
            Err(FitError::Stopped)
        );
    }
}
