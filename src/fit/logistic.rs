//! Multinomial logistic regression with a quadratic penalty on the weights, not on the intercepts: scikit-learn's
//! `LogisticRegression(penalty="l2", C=…)`.
//!
//! The minimised function is `sum(s · loss) / sum(s) + |W|² / (2 C sum(s))`, over labels with weights `s`. With two classes
//! scikit-learn has one vector of weights where this has two of opposite sign, whose penalty is half of that one's: `C` is halved to
//! make up for it.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::cholesky::{Cholesky, products, turned};
use super::error::FitError;
use super::lbfgs::{Tolerance, add, dot, minimise};
use crate::kernels::{add_scaled, dots};

/// Labels to learn from.
pub(super) struct Examples<'a> {
    /// `[labels, channels]`, standardised.
    pub(super) features: &'a [f64],
    pub(super) channels: usize,
    /// The class of each label.
    pub(super) classes: &'a [usize],
    pub(super) class_count: usize,
    /// The weight of each label.
    pub(super) weights: &'a [f64],
    /// What the loss curves like, if that is known.
    pub(super) curvature: Option<&'a Curvature>,
}

/// The mean of the products of all pairs of channels, over labels with weights. Near any point the loss of each class curves like it,
/// but for a factor that depends on how sure the classifier is (Böhning 1992).
pub(super) struct Curvature {
    /// Lower triangle, `[channels, channels]`.
    products: Vec<f64>,
}

impl Curvature {
    /// Of `features`, `[labels, channels]`; `None` where the labels are too few to say what all channels are like: the loss is quickly
    /// computed then.
    pub(super) fn of(features: &[f64], channels: usize, weights: &[f64]) -> Option<Self> {
        (weights.len() >= channels && channels > 0).then(|| {
            let total: f64 = weights.iter().sum();
            let mut turned = turned(features, channels);
            let roots: Vec<f64> = weights.iter().map(|weight| (weight / total).sqrt()).collect();
            for channel in turned.chunks_exact_mut(weights.len()) {
                channel.iter_mut().zip(&roots).for_each(|(value, root)| *value *= root);
            }
            Self { products: products(&turned, weights.len()) }
        })
    }
}

/// One linear function per class.
#[derive(Clone, Debug)]
pub(super) struct LinearClassifier {
    /// For each class, its weights followed by its intercept: `[classes, channels + 1]`.
    parameters: Vec<f64>,
    channels: usize,
}

impl LinearClassifier {
    /// All zeros.
    pub(super) fn new(class_count: usize, channels: usize) -> Self {
        Self { parameters: vec![0.0; class_count * (channels + 1)], channels }
    }

    /// Weights and intercept of each class.
    pub(super) fn classes(&self) -> impl Iterator<Item = (&[f64], f64)> {
        self.parameters.chunks_exact(self.channels + 1).map(|class| (&class[..self.channels], class[self.channels]))
    }

    /// The probability of each class for one row of features.
    pub(super) fn probabilities(&self, features: &[f64]) -> Vec<f64> {
        let mut logits: Vec<f64> = self.classes().map(|(weights, bias)| dot(weights, features) + bias).collect();
        softmax(&mut logits);
        logits
    }

    /// Improves these functions until they are the best for `examples` with the inverse penalty `c`.
    ///
    /// # Errors
    /// [`FitError::Stopped`].
    pub(super) fn learn(
        &mut self,
        examples: &Examples<'_>,
        c: f64,
        tolerance: Tolerance,
        stop: &AtomicBool,
    ) -> Result<(), FitError> {
        let c = if examples.class_count == 2 { c / 2.0 } else { c };
        let objective = |at: &[f64], gradient: &mut [f64]| {
            (!stop.load(Ordering::Relaxed)).then(|| objective(examples, c, at, gradient))
        };
        let Some(curvature) = examples.curvature else {
            return minimise(&mut self.parameters, tolerance, |_| (), objective).ok_or(FitError::Stopped);
        };
        let (channels, doubt) = (self.channels, self.doubt(examples).max(LEAST_DOUBT));
        let penalty = 1.0 / (c * examples.weights.iter().sum::<f64>());
        let factor = Cholesky::of(&curvature.products, channels, doubt, penalty);
        let divide = |vector: &mut [f64]| {
            vector.iter_mut().skip(channels).step_by(channels + 1).for_each(|bias| *bias /= doubt);
            let classes = vector.chunks_exact_mut(channels + 1).map(|class| &mut class[..channels]);
            factor.solve(&mut classes.collect::<Vec<_>>());
        };
        minimise(&mut self.parameters, tolerance, divide, objective).ok_or(FitError::Stopped)
    }

    /// The variance of a class's probability, in the mean over classes and over labels with weights.
    fn doubt(&self, examples: &Examples<'_>) -> f64 {
        let rows = examples.features.chunks_exact(examples.channels.max(1));
        let of_row = |(features, weight): (&[f64], &f64)| {
            weight * self.probabilities(features).iter().map(|chance| chance * (1.0 - chance)).sum::<f64>()
        };
        let sum: f64 = rows.zip(examples.weights).map(of_row).sum();
        sum / (examples.weights.iter().sum::<f64>() * examples.class_count as f64)
    }
}

/// What is assumed of a classifier that has no doubt: its loss curves somewhere on the way.
const LEAST_DOUBT: f64 = 1e-4;

/// Logits to probabilities; returns the logarithm of the sum of their exponentials.
pub(super) fn softmax(logits: &mut [f64]) -> f64 {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for logit in &mut *logits {
        *logit = (*logit - most).exp();
        sum += *logit;
    }
    logits.iter_mut().for_each(|part| *part /= sum);
    most + sum.ln()
}

/// Most parts that the labels are divided into. Parts depend on the number of labels alone, and their sums are added in order: the
/// result does not depend on the number of threads.
const MAX_PARTS: usize = 32;
const LEAST_ROWS: usize = 64;

/// Rows that are read twice in a row, for logits and for the gradient: they fit a core's cache.
const ROWS: usize = 32;

fn objective(examples: &Examples<'_>, c: f64, at: &[f64], gradient: &mut [f64]) -> f64 {
    let Examples { features, channels, classes, class_count, weights, .. } = *examples;
    let of_class: Vec<&[f64]> = at.chunks_exact(channels + 1).map(|class| &class[..channels]).collect();
    let part_rows = classes.len().div_ceil(MAX_PARTS).max(LEAST_ROWS);
    let part = |(part, classes): (usize, &[usize])| {
        let (mut loss, mut sums) = (0.0, vec![0.0; at.len()]);
        for (block, classes) in classes.chunks(ROWS).enumerate() {
            let first = part * part_rows + block * ROWS;
            let rows: Vec<&[f64]> = features[first * channels..].chunks_exact(channels).take(classes.len()).collect();
            let mut errors = vec![0.0; rows.len() * class_count];
            dots(&rows, &of_class, &mut errors);
            for (row, (class, errors)) in classes.iter().zip(errors.chunks_exact_mut(class_count)).enumerate() {
                errors.iter_mut().zip(at.chunks_exact(channels + 1)).for_each(|(logit, class)| *logit += class[channels]);
                let (own, weight) = (errors[*class], weights[first + row]);
                loss += weight * (softmax(errors) - own);
                errors[*class] -= 1.0;
                errors.iter_mut().for_each(|error| *error *= weight);
            }
            let mut of_class: Vec<&mut [f64]> =
                sums.chunks_exact_mut(channels + 1).map(|class| &mut class[..channels]).collect();
            add_scaled(&rows, &errors, &mut of_class);
            for errors in errors.chunks_exact(class_count) {
                let biases = sums.iter_mut().skip(channels).step_by(channels + 1);
                biases.zip(errors).for_each(|(sum, error)| *sum += error);
            }
        }
        (loss, sums)
    };
    // Waking other threads takes longer than a single part.
    let parts: Vec<(f64, Vec<f64>)> = if classes.len() <= part_rows {
        classes.chunks(part_rows).enumerate().map(part).collect()
    } else {
        classes.par_chunks(part_rows).enumerate().map(part).collect()
    };
    let total: f64 = weights.iter().sum();
    let mut value = 0.0;
    gradient.fill(0.0);
    for (loss, sums) in parts {
        value += loss / total;
        add(gradient, 1.0 / total, &sums);
    }
    let penalty = 1.0 / (c * total);
    for (class, gradient) in at.chunks_exact(channels + 1).zip(gradient.chunks_exact_mut(channels + 1)) {
        let weights = &class[..channels];
        value += 0.5 * penalty * dot(weights, weights);
        add(&mut gradient[..channels], penalty, weights);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_that_of_the_value() {
        let features: Vec<f64> = (0..30).map(|i| ((i * 7) % 11) as f64 / 5.0 - 1.0).collect();
        let classes: Vec<usize> = (0..10).map(|i| (i * i) % 3).collect();
        let weights: Vec<f64> = (0..10).map(|i| 1.0 + i as f64 / 7.0).collect();
        let examples = Examples {
            features: &features,
            channels: 3,
            classes: &classes,
            class_count: 3,
            weights: &weights,
            curvature: None,
        };
        let at: Vec<f64> = (0..12).map(|i| ((i * 5) % 7) as f64 / 7.0 - 0.4).collect();
        let mut gradient = vec![0.0; 12];
        objective(&examples, 0.3, &at, &mut gradient);
        for i in 0..12 {
            const STEP: f64 = 1e-6;
            let value = |by: f64| {
                let mut moved = at.clone();
                moved[i] += by;
                objective(&examples, 0.3, &moved, &mut [0.0; 12])
            };
            let slope = (value(STEP) - value(-STEP)) / (2.0 * STEP);
            assert!((slope - gradient[i]).abs() < 1e-8, "{i}: {slope} {}", gradient[i]);
        }
    }
}
