//! One of several classes for each label: folds, the choice of the penalty, the fit itself.

use std::sync::atomic::AtomicBool;

use super::balance::balanced_weights;
use super::error::FitError;
use super::folds::Folds;
use super::lbfgs::Tolerance;
use super::linear::{HeldOut, LinearFit, Penalty, check_finite};
use super::logistic::{Curvature, Examples, LinearClassifier};
use super::scores::{log_loss, scores};
use super::standard::Standard;

/// The inverse penalties that are tried, the strongest penalty first: scikit-learn's `C`.
pub(super) const PENALTIES: [f64; 7] = [1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2];
/// What is used where nothing can be held out: scikit-learn's default.
pub(super) const USUAL_PENALTY: f64 = 1.0;
/// Exact to well below what float32 weights can tell.
pub(super) const EXACT: Tolerance = Tolerance { gradient: 1e-10, iterations: 5000 };
/// Exact enough to compare penalties, whose scores differ by far more.
const ROUGH: Tolerance = Tolerance { gradient: 1e-8, iterations: 2000 };

/// Labelled features.
#[derive(Clone, Debug)]
pub struct ClassLabels<'a> {
    /// `[labels, channels]`.
    pub features: &'a [f32],
    /// Values per label.
    pub channels: usize,
    /// The class of each label: an index into `categories`, each of which occurs.
    pub classes: &'a [usize],
    /// Names of the classes.
    pub categories: &'a [String],
    /// Where each label lies, in pixels.
    pub places: &'a [[f64; 2]],
}

/// Fits a classifier, `softmax(weights · features + bias)`. The penalty is the one under which held-out labels are likeliest.
///
/// # Errors
/// [`FitError::NotFinite`], and [`FitError::Stopped`] soon after `stop` is set.
pub fn fit_classes(labels: &ClassLabels<'_>, stop: &AtomicBool) -> Result<LinearFit, FitError> {
    let ClassLabels { features, channels, classes, categories, places } = *labels;
    check_finite(features, channels)?;
    let groups: Vec<Vec<usize>> = classes.iter().map(|class| vec![*class]).collect();
    let (c, held_out) = match Folds::of(places, &groups, categories.len()) {
        Some(folds) => {
            let (c, probabilities) = choose(labels, &folds, stop)?;
            let mut held_out = scores(&probabilities, classes, categories, &folds);
            let point = |parts: usize, seen: usize| {
                let given = self::held_out(labels, &folds, parts, &[c], stop)?.swap_remove(0);
                Ok::<_, FitError>(scores(&given, classes, categories, &folds).learning_point(seen))
            };
            held_out.learning_curve = folds.learning_curve(point, |seen| held_out.learning_point(seen))?;
            (c, Some(HeldOut::Scores(held_out)))
        }
        None => (USUAL_PENALTY, None),
    };
    let rows: Vec<usize> = (0..classes.len()).collect();
    let training = Training::of(labels, &rows);
    let mut linear = LinearClassifier::new(training.present.len(), channels);
    training.learn(&mut linear, c, EXACT, stop)?;
    let mut fit = LinearFit::empty(Penalty::C(c), held_out);
    for (weights, bias) in linear.classes() {
        fit.push(training.standard.unfold(weights, bias));
    }
    Ok(fit)
}

/// The best penalty, and what the classifiers with it say about the labels that they have not seen.
fn choose(labels: &ClassLabels<'_>, folds: &Folds, stop: &AtomicBool) -> Result<(f64, Vec<Vec<f64>>), FitError> {
    let ClassLabels { classes, categories, .. } = *labels;
    let mut given = held_out(labels, folds, folds.count - 1, &PENALTIES, stop)?;
    let weights = balanced_weights(classes, categories.len());
    let losses = given.iter().map(|given| log_loss(given, classes, &weights));
    let best = best_of(losses);
    Ok((PENALTIES[best], given.swap_remove(best)))
}

/// The index of the least loss; of equals the first, which has the strongest penalty.
pub(super) fn best_of(losses: impl Iterator<Item = f64>) -> usize {
    losses.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(index, _)| index)
}

/// What classifiers that were fitted with each of `penalties` to `parts` other folds say about the labels of each fold:
/// `[penalties][labels][categories]`.
pub(super) fn held_out(
    labels: &ClassLabels<'_>,
    folds: &Folds,
    parts: usize,
    penalties: &[f64],
    stop: &AtomicBool,
) -> Result<Vec<Vec<Vec<f64>>>, FitError> {
    let ClassLabels { features, channels, classes, categories, .. } = *labels;
    let mut given = vec![vec![Vec::new(); classes.len()]; penalties.len()];
    for fold in 0..folds.count {
        let (seen, held) = folds.split(fold, parts);
        let training = Training::of(labels, &seen);
        let held_features = training.standard.apply(features, &held);
        let mut linear = LinearClassifier::new(training.present.len(), channels);
        // Each penalty begins where the stronger one before it has ended.
        for (given, c) in given.iter_mut().zip(penalties) {
            training.learn(&mut linear, *c, ROUGH, stop)?;
            for (label, features) in held.iter().zip(held_features.chunks_exact(channels)) {
                let mut probabilities = vec![0.0; categories.len()];
                for (class, probability) in training.present.iter().zip(linear.probabilities(features)) {
                    probabilities[*class] = probability;
                }
                given[*label] = probabilities;
            }
        }
    }
    Ok(given)
}

/// Some of the labels, ready to learn from.
pub(super) struct Training {
    pub(super) standard: Standard,
    features: Vec<f64>,
    channels: usize,
    /// The classes that occur, in order.
    pub(super) present: Vec<usize>,
    /// The class of each label, as an index into `present`.
    classes: Vec<usize>,
    weights: Vec<f64>,
    curvature: Option<Curvature>,
}

impl Training {
    pub(super) fn of(labels: &ClassLabels<'_>, rows: &[usize]) -> Self {
        let standard = Standard::of(labels.features, labels.channels, rows);
        let features = standard.apply(labels.features, rows);
        let mut present: Vec<usize> = rows.iter().map(|row| labels.classes[*row]).collect();
        present.sort_unstable();
        present.dedup();
        let class = |row: &usize| present.binary_search(&labels.classes[*row]).unwrap_or(0);
        let classes: Vec<usize> = rows.iter().map(class).collect();
        let weights = balanced_weights(&classes, present.len());
        let curvature = Curvature::of(&features, labels.channels, &weights);
        Self { standard, features, channels: labels.channels, present, classes, weights, curvature }
    }

    pub(super) fn learn(
        &self,
        linear: &mut LinearClassifier,
        c: f64,
        tolerance: Tolerance,
        stop: &AtomicBool,
    ) -> Result<(), FitError> {
        let examples = Examples {
            features: &self.features,
            channels: self.channels,
            classes: &self.classes,
            class_count: self.present.len(),
            weights: &self.weights,
            curvature: self.curvature.as_ref(),
        };
        linear.learn(&examples, c, tolerance, stop)
    }
}

#[cfg(test)]
mod tests;
