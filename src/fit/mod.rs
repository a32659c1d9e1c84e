//! Heads from labels: regularised linear classifiers over features, and honest scores for them. Numbers in, numbers out.
//!
//! [`fit_classes`] is the entry point. Everything is computed in float64 and in an order that depends on the data alone, so the same
//! labels give the same bits on any number of threads.

mod balance;
mod classes;
mod error;
mod folds;
mod lbfgs;
mod logistic;
mod scores;
mod standard;

pub use classes::{ClassFit, ClassLabels, fit_classes};
pub use error::FitError;
