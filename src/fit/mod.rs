//! Heads from labels: regularised linear functions of features, or the labels themselves as examples, and honest scores for them.
//! Numbers in, numbers out.
//!
//! [`fit_classes`], [`fit_sets`] and [`fit_values`] are the entry points, and [`nearest_classes`] and its like;
//! [`most_helpful`] says what to label next. Everything is computed in float64 and in an order that depends on the data alone, so the same
//! labels give the same bits on any number of threads. [`principal_components`] needs no labels.

mod balance;
mod cholesky;
mod classes;
mod error;
mod folds;
#[cfg(test)]
mod goldens;
mod helpful;
mod lbfgs;
mod linear;
mod logistic;
mod nearest;
mod pca;
mod ridge;
mod scores;
mod sets;
mod standard;
mod values;

pub use classes::{ClassLabels, fit_classes};
pub use error::FitError;
pub use helpful::{chances_between, chances_of_each, doubt_between, doubt_of_each, most_helpful};
pub use linear::{HeldOut, LinearFit, Penalty};
pub use nearest::{NearestFit, nearest_classes, nearest_sets, nearest_values};
pub use pca::{Components, principal_components};
pub use sets::{SetLabels, fit_sets};
pub use values::{ValueLabels, fit_values};
