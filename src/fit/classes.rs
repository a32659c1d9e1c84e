//! A classifier for labelled features: folds, the choice of the penalty, the fit itself.

use std::sync::atomic::AtomicBool;

use super::balance::balanced_weights;
use super::error::FitError;
use super::folds::Folds;
use super::lbfgs::Tolerance;
use super::logistic::{Examples, LinearClassifier};
use super::scores::{log_loss, scores};
use super::standard::Standard;
use crate::zoo::HeldOutScores;

/// The inverse penalties that are tried, the strongest penalty first: scikit-learn's `C`.
const PENALTIES: [f64; 7] = [1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2];
/// What is used where nothing can be held out: scikit-learn's default.
const USUAL_PENALTY: f64 = 1.0;
/// Exact to well below what float32 weights can tell.
const EXACT: Tolerance = Tolerance { gradient: 1e-10, iterations: 5000 };
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

/// A fitted classifier: `softmax(weights · features + bias)`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassFit {
    /// `[classes, channels]`.
    pub weights: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
    /// The chosen inverse penalty, scikit-learn's `C`.
    pub c: f64,
    /// Scores on held-out labels, with the chosen penalty; `None` if a class has no two labels apart from each other.
    pub held_out: Option<HeldOutScores>,
}

/// Fits a classifier. The penalty is the one under which held-out labels are likeliest.
///
/// # Errors
/// [`FitError::NotFinite`], and [`FitError::Stopped`] soon after `stop` is set.
pub fn fit_classes(labels: &ClassLabels<'_>, stop: &AtomicBool) -> Result<ClassFit, FitError> {
    let ClassLabels { features, channels, classes, categories, places } = *labels;
    if let Some(at) = features.iter().position(|value| !value.is_finite()) {
        return Err(FitError::NotFinite { label: at / channels.max(1) });
    }
    let (c, held_out) = match Folds::of(places, classes, categories.len()) {
        Some(folds) => {
            let (c, probabilities) = choose(labels, &folds, stop)?;
            (c, Some(scores(&probabilities, classes, categories, (folds.count, folds.apart_px))))
        }
        None => (USUAL_PENALTY, None),
    };
    let rows: Vec<usize> = (0..classes.len()).collect();
    let training = Training::of(labels, &rows);
    let mut linear = LinearClassifier::new(training.present.len(), channels);
    training.learn(&mut linear, c, EXACT, stop)?;
    let (mut weights, mut bias) = (Vec::with_capacity(categories.len() * channels), Vec::with_capacity(categories.len()));
    for (class_weights, class_bias) in linear.classes() {
        let (raw, shifted) = training.standard.unfold(class_weights, class_bias);
        weights.extend(raw.into_iter().map(|weight| weight as f32));
        bias.push(shifted as f32);
    }
    Ok(ClassFit { weights, bias, c, held_out })
}

/// The best penalty, and what the classifiers with it say about the labels that they have not seen.
fn choose(labels: &ClassLabels<'_>, folds: &Folds, stop: &AtomicBool) -> Result<(f64, Vec<Vec<f64>>), FitError> {
    let ClassLabels { features, channels, classes, categories, .. } = *labels;
    let mut given = vec![vec![Vec::new(); classes.len()]; PENALTIES.len()];
    for fold in 0..folds.count {
        let (held, seen): (Vec<usize>, Vec<usize>) = (0..classes.len()).partition(|label| folds.of[*label] == fold);
        let training = Training::of(labels, &seen);
        let held_features = training.standard.apply(features, &held);
        let mut linear = LinearClassifier::new(training.present.len(), channels);
        // Each penalty begins where the stronger one before it has ended.
        for (given, c) in given.iter_mut().zip(PENALTIES) {
            training.learn(&mut linear, c, ROUGH, stop)?;
            for (label, features) in held.iter().zip(held_features.chunks_exact(channels)) {
                let mut probabilities = vec![0.0; categories.len()];
                for (class, probability) in training.present.iter().zip(linear.probabilities(features)) {
                    probabilities[*class] = probability;
                }
                given[*label] = probabilities;
            }
        }
    }
    let weights = balanced_weights(classes, categories.len());
    let losses = given.iter().map(|given| log_loss(given, classes, &weights));
    // Of equals the first, which has the strongest penalty.
    let best = losses.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(index, _)| index);
    Ok((PENALTIES[best], given.swap_remove(best)))
}

/// Some of the labels, ready to learn from.
struct Training {
    standard: Standard,
    features: Vec<f64>,
    channels: usize,
    /// The classes that occur, in order.
    present: Vec<usize>,
    /// The class of each label, as an index into `present`.
    classes: Vec<usize>,
    weights: Vec<f64>,
}

impl Training {
    fn of(labels: &ClassLabels<'_>, rows: &[usize]) -> Self {
        let standard = Standard::of(labels.features, labels.channels, rows);
        let features = standard.apply(labels.features, rows);
        let mut present: Vec<usize> = rows.iter().map(|row| labels.classes[*row]).collect();
        present.sort_unstable();
        present.dedup();
        let class = |row: &usize| present.binary_search(&labels.classes[*row]).unwrap_or(0);
        let classes: Vec<usize> = rows.iter().map(class).collect();
        let weights = balanced_weights(&classes, present.len());
        Self { standard, features, channels: labels.channels, present, classes, weights }
    }

    fn learn(
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
        };
        linear.learn(&examples, c, tolerance, stop)
    }
}

#[cfg(test)]
mod tests;
