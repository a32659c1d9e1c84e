//! How heads were fitted to labels and how well they do: a part of a model's description.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the heads of a model were fitted to labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FitReport {
    /// Id of the source whose pixels the labels are about.
    #[schema(example = "world")]
    pub source: String,
    /// Number of labels that were learnt from.
    #[schema(example = 40)]
    pub labels: usize,
    /// Inverse strength of the penalty on large weights, as scikit-learn's `C`; chosen by the held-out labels.
    #[schema(example = 0.1)]
    pub c: f64,
    /// What is doubtful about the labels or the imagery under them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Scores on labels that were held out. Missing if no label of some category could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOutScores>,
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
    /// Part of the labels whose likeliest category is right.
    pub accuracy: f64,
    /// Mean over categories of the harmonic mean of precision and recall.
    pub macro_f1: f64,
    /// Mean over categories of the intersection over union.
    pub mean_iou: f64,
    /// Mean difference between the probability of the likeliest category and how often it is right, in ten bins of that probability.
    pub calibration_error: f64,
    /// For each category (row), how many of its labels were predicted as which category (column).
    pub confusion: Vec<Vec<usize>>,
    /// Scores of each category.
    pub categories: Vec<CategoryScores>,
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
