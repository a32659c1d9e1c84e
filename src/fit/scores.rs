//! Scores of a classifier on labels that it has not seen.

use super::folds::Folds;
use crate::zoo::{CategoryScores, HeldOutErrors, HeldOutScores};

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
pub(super) fn likeliest(probabilities: &[f64]) -> usize {
    (0..probabilities.len()).rev().max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b])).unwrap_or(0)
}

/// All scores: `probabilities` holds those of the `categories` for each label.
pub(super) fn scores(probabilities: &[Vec<f64>], classes: &[usize], categories: &[String], folds: &Folds) -> HeldOutScores {
    let count = categories.len();
    let mut confusion = vec![vec![0usize; count]; count];
    for (given, class) in probabilities.iter().zip(classes) {
        confusion[*class][likeliest(given)] += 1;
    }
    let of_category = |index: usize| {
        let labels = confusion[index].iter().sum();
        let predicted = confusion.iter().map(|row| row[index]).sum();
        category_scores(&categories[index], confusion[index][index], labels, predicted)
    };
    let of_categories = (0..count).map(of_category).collect();
    let right = (0..count).map(|index| confusion[index][index]).sum();
    let sure = probabilities.iter().zip(classes).map(|(given, class)| {
        let chosen = likeliest(given);
        (given[chosen], chosen == *class)
    });
    summary(of_categories, confusion, ratio(right, classes.len()), calibration_error(sure), folds)
}

/// All scores where labels have any number of categories: `probabilities` holds that of each of them for each label.
pub(super) fn set_scores(
    probabilities: &[Vec<f64>],
    sets: &[Vec<usize>],
    categories: &[String],
    folds: &Folds,
) -> HeldOutScores {
    const LEAST: f64 = 0.5;
    let of_category = |index: usize| {
        let found = probabilities.iter().map(|given| given[index] >= LEAST);
        let true_ones = sets.iter().map(|set| set.contains(&index));
        let right = found.clone().zip(true_ones.clone()).filter(|(found, there)| *found && *there).count();
        category_scores(
            &categories[index],
            right,
            true_ones.filter(|there| *there).count(),
            found.filter(|found| *found).count(),
        )
    };
    let of_categories = (0..categories.len()).map(of_category).collect();
    let is_right = |(given, set): (&Vec<f64>, &Vec<usize>)| {
        (0..given.len()).all(|index| (given[index] >= LEAST) == set.contains(&index))
    };
    let right = probabilities.iter().zip(sets).filter(|pair| is_right(*pair)).count();
    let sure = probabilities.iter().zip(sets).flat_map(|(given, set)| {
        given.iter().enumerate().map(|(index, given)| (given.max(1.0 - given), (*given >= LEAST) == set.contains(&index)))
    });
    summary(of_categories, Vec::new(), ratio(right, sets.len()), calibration_error(sure), folds)
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn category_scores(category: &str, right: usize, labels: usize, predicted: usize) -> CategoryScores {
    CategoryScores {
        category: category.to_owned(),
        labels,
        precision: ratio(right, predicted),
        recall: ratio(right, labels),
        f1: ratio(2 * right, labels + predicted),
        iou: ratio(right, labels + predicted - right),
    }
}

fn summary(
    categories: Vec<CategoryScores>,
    confusion: Vec<Vec<usize>>,
    accuracy: f64,
    calibration_error: f64,
    folds: &Folds,
) -> HeldOutScores {
    let count = categories.len().max(1) as f64;
    let mean = |score: fn(&CategoryScores) -> f64| categories.iter().map(score).sum::<f64>() / count;
    HeldOutScores {
        folds: folds.count,
        apart_px: folds.apart_px,
        accuracy,
        macro_f1: mean(|category| category.f1),
        mean_iou: mean(|category| category.iou),
        calibration_error,
        categories,
        confusion,
        learning_curve: Vec::new(),
    }
}

/// How far the numbers that were `found` lie from those of the labels.
pub(super) fn value_errors(found: &[f64], values: &[f64], folds: &Folds) -> HeldOutErrors {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let sum = |of: &dyn Fn((&f64, &f64)) -> f64| found.iter().zip(values).map(of).sum::<f64>();
    let squares = sum(&|(found, value)| (found - value).powi(2));
    let spread = sum(&|(_, value)| (value - mean).powi(2));
    HeldOutErrors {
        folds: folds.count,
        apart_px: folds.apart_px,
        mean_absolute_error: sum(&|(found, value)| (found - value).abs()) / count,
        root_mean_square_error: (squares / count).sqrt(),
        r2: if spread > 0.0 { 1.0 - squares / spread } else { 0.0 },
        learning_curve: Vec::new(),
    }
}

/// The expected calibration error (Guo et al. 2017): by how much the probability of a decision differs from how often it is right, over
/// bins of that probability. `decisions` are probabilities with whether the decision was right.
fn calibration_error(decisions: impl Iterator<Item = (f64, bool)>) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    let mut count = 0usize;
    for (sure, is_right) in decisions {
        let bin = &mut bins[((sure * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += sure;
        bin.1 += f64::from(u8::from(is_right));
        count += 1;
    }
    bins.iter().map(|(sure, right)| (sure - right).abs()).sum::<f64>() / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_confusion() {
        let given = [[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]].map(Vec::from);
        let names = ["a", "b"].map(str::to_owned);
        let folds = Folds { of: vec![0, 1, 0, 1], count: 2, apart_px: 64.0 };
        let found = scores(&given, &[0, 0, 1, 1], &names, &folds);
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

    #[test]
    fn scores_of_sets_count_each_category() {
        let given = [[0.9, 0.2], [0.6, 0.7], [0.3, 0.8]].map(Vec::from);
        let names = ["a", "b"].map(str::to_owned);
        let folds = Folds { of: vec![0, 1, 0], count: 2, apart_px: 64.0 };
        let found = set_scores(&given, &[vec![0], vec![1], vec![0, 1]], &names, &folds);
        // sklearn.metrics on [[1, 0], [0, 1], [1, 1]] and predictions [[1, 0], [1, 1], [0, 1]]
        assert_eq!((found.accuracy, found.categories[0].f1, found.categories[1].f1), (1.0 / 3.0, 0.5, 1.0));
        assert_eq!((found.categories[0].labels, found.confusion.len()), (2, 0));
    }
}
