//! Any number of categories for each label: one logistic regression per category, with one penalty for all.

use std::sync::atomic::AtomicBool;

use super::balance::balanced_weights;
use super::classes::{ClassLabels, EXACT, PENALTIES, Training, USUAL_PENALTY, best_of, held_out};
use super::error::FitError;
use super::folds::Folds;
use super::linear::{HeldOut, LinearFit, Penalty, check_finite};
use super::logistic::LinearClassifier;
use super::scores::{log_loss, set_scores};
use crate::zoo::{HeldOutScores, LearningPoint};

/// Labelled features.
#[derive(Clone, Debug)]
pub struct SetLabels<'a> {
    /// `[labels, channels]`.
    pub features: &'a [f32],
    /// Values per label.
    pub channels: usize,
    /// The categories of each label, as rising indices into `categories`. Each is there at one label and missing at another.
    pub sets: &'a [Vec<usize>],
    /// Names of the categories.
    pub categories: &'a [String],
    /// Where each label lies, in pixels.
    pub places: &'a [[f64; 2]],
}

/// Fits `sigmoid(weights · features + bias)` for each category. The penalty is the one under which held-out labels are likeliest.
///
/// # Errors
/// [`FitError::NotFinite`], and [`FitError::Stopped`] soon after `stop` is set.
pub fn fit_sets(labels: &SetLabels<'_>, stop: &AtomicBool) -> Result<LinearFit, FitError> {
    let SetLabels { features, channels, sets, categories, places } = *labels;
    check_finite(features, channels)?;
    let presence: Vec<Vec<usize>> = (0..categories.len()).map(|category| presence(sets, category)).collect();
    let groups = groups(sets, categories.len());
    let names = ["absent", "present"].map(str::to_owned);
    let of_category = |there| ClassLabels { features, channels, classes: there, categories: &names, places };
    let (c, held) = match Folds::of(places, &groups, 2 * categories.len()) {
        Some(folds) => {
            let chance = |parts: usize, penalties: &[f64]| -> Result<Vec<Vec<Vec<f64>>>, FitError> {
                presence.iter().map(|there| present(&of_category(there), &folds, parts, penalties, stop)).collect()
            };
            let given = chance(folds.count - 1, &PENALTIES)?;
            let loss = |penalty: usize| -> f64 {
                let of_category = |(given, there): (&Vec<Vec<f64>>, &Vec<usize>)| {
                    let both: Vec<Vec<f64>> = given[penalty].iter().map(|there| vec![1.0 - there, *there]).collect();
                    log_loss(&both, there, &balanced_weights(there, 2))
                };
                given.iter().zip(&presence).map(of_category).sum()
            };
            let best = best_of((0..PENALTIES.len()).map(loss));
            let scores_of = |given: &[Vec<Vec<f64>>], penalty: usize| -> HeldOutScores {
                let chances: Vec<Vec<f64>> =
                    (0..sets.len()).map(|label| given.iter().map(|given| given[penalty][label]).collect()).collect();
                set_scores(&chances, sets, categories, &folds)
            };
            let mut held = scores_of(&given, best);
            let point = |parts: usize, seen: usize| -> Result<LearningPoint, FitError> {
                Ok(scores_of(&chance(parts, &[PENALTIES[best]])?, 0).learning_point(seen))
            };
            held.learning_curve = folds.learning_curve(point, |seen| held.learning_point(seen))?;
            (PENALTIES[best], Some(HeldOut::Scores(held)))
        }
        None => (USUAL_PENALTY, None),
    };
    let rows: Vec<usize> = (0..sets.len()).collect();
    let mut fit = LinearFit::empty(Penalty::C(c), held);
    for there in &presence {
        let training = Training::of(&of_category(there), &rows);
        let mut linear = LinearClassifier::new(training.present.len(), channels);
        training.learn(&mut linear, c, EXACT, stop)?;
        // Of two classes, the softmax is the sigmoid of the difference.
        let (mut weights, mut bias) = (vec![0.0; channels], 0.0);
        for (sign, (class_weights, class_bias)) in [-1.0, 1.0].into_iter().zip(linear.classes()) {
            weights.iter_mut().zip(class_weights).for_each(|(sum, weight)| *sum += sign * weight);
            bias += sign * class_bias;
        }
        fit.push(training.standard.unfold(&weights, bias));
    }
    Ok(fit)
}

/// The groups of each label, of which every fold should have a share: for each category those with it and those without it.
pub(super) fn groups(sets: &[Vec<usize>], categories: usize) -> Vec<Vec<usize>> {
    let of_set = |set: &Vec<usize>| (0..categories).map(|id| 2 * id + usize::from(set.contains(&id))).collect();
    sets.iter().map(of_set).collect()
}

/// For each label 1 if it has the category, else 0.
fn presence(sets: &[Vec<usize>], category: usize) -> Vec<usize> {
    sets.iter().map(|set| usize::from(set.contains(&category))).collect()
}

/// [`held_out`], but of the second class alone: `[penalties][labels]`.
fn present(
    labels: &ClassLabels<'_>,
    folds: &Folds,
    parts: usize,
    penalties: &[f64],
    stop: &AtomicBool,
) -> Result<Vec<Vec<f64>>, FitError> {
    let given = held_out(labels, folds, parts, penalties, stop)?;
    Ok(given.into_iter().map(|given| given.into_iter().map(|both| both[1]).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::super::goldens;
    use super::*;

    #[test]
    fn each_category_is_what_scikit_learn_fits_to_it() {
        let golden = goldens::sets();
        let features = goldens::features(&golden.groups(), golden.channels);
        let names = ["a", "b", "c"].map(str::to_owned);
        let places = goldens::apart(golden.sets.len());
        let labels = SetLabels {
            features: &features,
            channels: golden.channels,
            sets: &golden.sets,
            categories: &names,
            places: &places,
        };
        let fit = fit_sets(&labels, &AtomicBool::new(false)).unwrap();
        let Penalty::C(c) = fit.penalty else { panic!("{fit:?}") };
        let of_c = &golden.by_c[&format!("{c}")];
        for (label, expected) in of_c.iter().enumerate() {
            let values = &features[label * golden.channels..][..golden.channels];
            for (category, expected) in expected.iter().enumerate() {
                let weights = &fit.weights[category * golden.channels..][..golden.channels];
                let logit: f64 = weights.iter().zip(values).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                let found = 1.0 / (1.0 + (-logit - f64::from(fit.bias[category])).exp());
                assert!((found - expected).abs() < 1e-5, "{label} {category}: {found} {expected}");
            }
        }
        let Some(HeldOut::Scores(held)) = fit.held_out else { panic!("no scores") };
        assert_eq!((held.categories.len(), held.confusion.len(), held.learning_curve.len()), (3, 0, held.folds - 1));
        assert!(held.macro_f1 > 0.5, "{held:?}");
    }
}
