//! How heads were fitted to labels and how well they do: a part of a model's description.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the heads of a model were fitted to labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FitReport {
    /// Id of the source whose pixels the labels are about; missing where chips were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "world")]
    pub source: Option<String>,
    /// Number of labels that were learnt from.
    #[schema(example = 40)]
    pub labels: usize,
    /// Inverse strength of the penalty on large weights, as scikit-learn's `C`; chosen by the held-out labels. Of categories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 0.1)]
    pub c: Option<f64>,
    /// Strength of the penalty on large weights, as scikit-learn's `alpha`; chosen by the held-out labels. Of values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Number of the most similar labels that are asked; chosen by the held-out labels. Of the method `knn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<usize>,
    /// What is doubtful about the labels or the imagery under them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Scores on labels that were held out. Missing if no label of some category could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOutScores>,
    /// Errors on labels that were held out, of a `regress` head. Missing if none could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_errors: Option<HeldOutErrors>,
}

/// Scores on held-out labels: the labels are divided into folds, and each fold is predicted by a fit to the others. The penalty was
/// chosen by the same folds, which flatters the scores a little.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldOutScores {
    /// Number of folds.
    pub folds: usize,
    /// Labels of different folds are at least that many pixels apart, since neighbours look alike.
    pub apart_px: f64,
    /// Part of the labels whose likeliest category is right; of labels with any number of categories, whose categories are all right at a
    /// threshold of 0.5.
    pub accuracy: f64,
    /// Mean over categories of the harmonic mean of precision and recall.
    pub macro_f1: f64,
    /// Mean over categories of the intersection over union.
    pub mean_iou: f64,
    /// Mean difference between the probability of the likeliest category and how often it is right, in ten bins of that probability.
    pub calibration_error: f64,
    /// For each category (row), how many of its labels were predicted as which category (column). Missing where labels have any number
    /// of categories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confusion: Vec<Vec<usize>>,
    /// Scores of each category.
    pub categories: Vec<CategoryScores>,
    /// The scores of fits to fewer labels, and to as many as for the scores above: whether more labels would help.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learning_curve: Vec<LearningPoint>,
}

/// Scores of fits to a number of labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LearningPoint {
    /// Labels that were learnt from, on average.
    pub labels: usize,
    /// [`HeldOutScores::accuracy`].
    pub accuracy: f64,
    /// [`HeldOutScores::macro_f1`].
    pub macro_f1: f64,
}

impl HeldOutScores {
    /// These scores as those of fits to so many labels.
    pub fn learning_point(&self, labels: usize) -> LearningPoint {
        LearningPoint { labels, accuracy: self.accuracy, macro_f1: self.macro_f1 }
    }
}

/// Errors of values on held-out labels: the labels are divided into folds, and each fold is predicted by a fit to the others. The
/// penalty was chosen by the same folds, which flatters them a little.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldOutErrors {
    /// Number of folds.
    pub folds: usize,
    /// Labels of different folds are at least that many pixels apart, since neighbours look alike.
    pub apart_px: f64,
    /// Mean distance of predicted from labelled values.
    pub mean_absolute_error: f64,
    /// Root of the mean squared distance.
    pub root_mean_square_error: f64,
    /// Part of the labels' variance that is explained: 1 is perfect, 0 no better than their mean.
    pub r2: f64,
    /// The errors of fits to fewer labels, and to as many as for the errors above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learning_curve: Vec<ErrorPoint>,
}

/// Errors of fits to a number of labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorPoint {
    /// Labels that were learnt from, on average.
    pub labels: usize,
    /// [`HeldOutErrors::mean_absolute_error`].
    pub mean_absolute_error: f64,
}

impl HeldOutErrors {
    /// These errors as those of fits to so many labels.
    pub fn learning_point(&self, labels: usize) -> ErrorPoint {
        ErrorPoint { labels, mean_absolute_error: self.mean_absolute_error }
    }
}

/// Scores of one category on held-out labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CategoryScores {
    /// Its name.
    pub category: String,
    /// Number of its labels.
    pub labels: usize,
    /// Part of what was predicted as it that is it.
    pub precision: f64,
    /// Part of its labels that were found.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Labels found, divided by labels of it and labels predicted as it.
    pub iou: f64,
}
