//! Scores of a classifier on labels that it has not seen.

use crate::zoo::{CategoryScores, HeldOutScores};

/// Bins of the calibration error, as usual.
const BINS: usize = 10;
/// Least probability that a logarithm is taken of.
const LEAST: f64 = 1e-15;

/// The mean negative logarithm of the probability that the label's class was given, over labels with weights.
pub(super) fn log_loss(probabilities: &[Vec<f64>], classes: &[usize], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let losses = probabilities.iter().zip(classes).zip(weights);
    losses.map(|((given, class), weight)| -weight * given[*class].max(LEAST).ln()).sum::<f64>() / total
}

/// The likeliest class, the first of equals.
fn likeliest(probabilities: &[f64]) -> usize {
    (0..probabilities.len()).rev().max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b])).unwrap_or(0)
}

/// All scores: `probabilities` holds those of the `categories` for each label.
pub(super) fn scores(
    probabilities: &[Vec<f64>],
    classes: &[usize],
    categories: &[String],
    (folds, apart_px): (usize, f64),
) -> HeldOutScores {
    let count = categories.len();
    let mut confusion = vec![vec![0usize; count]; count];
    for (given, class) in probabilities.iter().zip(classes) {
        confusion[*class][likeliest(given)] += 1;
    }
    let ratio = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let of_category = |index: usize| {
        let right = confusion[index][index];
        let labels: usize = confusion[index].iter().sum();
        let predicted: usize = confusion.iter().map(|row| row[index]).sum();
        CategoryScores {
            category: categories[index].clone(),
            labels,
            precision: ratio(right, predicted),
            recall: ratio(right, labels),
            f1: ratio(2 * right, labels + predicted),
            iou: ratio(right, labels + predicted - right),
        }
    };
    let categories: Vec<CategoryScores> = (0..count).map(of_category).collect();
    let mean = |score: fn(&CategoryScores) -> f64| categories.iter().map(score).sum::<f64>() / count.max(1) as f64;
    HeldOutScores {
        folds,
        apart_px,
        accuracy: ratio((0..count).map(|index| confusion[index][index]).sum(), classes.len()),
        macro_f1: mean(|category| category.f1),
        mean_iou: mean(|category| category.iou),
        calibration_error: calibration_error(probabilities, classes),
        categories,
        confusion,
    }
}

/// The expected calibration error (Guo et al. 2017): by how much the probability of the likeliest class differs from how often it is
/// right, over bins of that probability.
fn calibration_error(probabilities: &[Vec<f64>], classes: &[usize]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for (given, class) in probabilities.iter().zip(classes) {
        let chosen = likeliest(given);
        let bin = &mut bins[((given[chosen] * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += given[chosen];
        bin.1 += f64::from(u8::from(chosen == *class));
    }
    bins.iter().map(|(sure, right)| (sure - right).abs()).sum::<f64>() / classes.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_confusion() {
        let given = [[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]].map(Vec::from);
        let names = ["a", "b"].map(str::to_owned);
        let found = scores(&given, &[0, 0, 1, 1], &names, (2, 64.0));
        assert_eq!(found.confusion, [[2, 0], [1, 1]]);
        // sklearn.metrics on y = [0, 0, 1, 1] and predictions [0, 0, 0, 1]
        assert_eq!((found.accuracy, found.categories[0].precision), (0.75, 2.0 / 3.0));
        assert!((found.macro_f1 - 0.7333333333333334).abs() < 1e-12);
        assert!((found.mean_iou - (2.0 / 3.0 + 0.5) / 2.0).abs() < 1e-12);
        let expected = ((0.9f64 - 1.0).abs() + (0.6f64 - 1.0).abs() + (0.7f64 - 0.0).abs() + (0.8f64 - 1.0).abs()) / 4.0;
        assert!((found.calibration_error - expected).abs() < 1e-12);
        let loss = log_loss(&given, &[0, 0, 1, 1], &[1.0, 1.0, 1.0, 3.0]);
        // sklearn.metrics.log_loss with sample_weight [1, 1, 1, 3]
        assert!((loss - -(0.9f64.ln() + 0.6f64.ln() + 0.3f64.ln() + 3.0 * 0.8f64.ln()) / 6.0).abs() < 1e-12);
    }
}
