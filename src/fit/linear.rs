//! What a fit comes to: one linear function per output, and how good it is on labels that were held out.

use super::error::FitError;
use crate::zoo::{HeldOutErrors, HeldOutScores};

/// Linear functions of the features, fitted to labels.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearFit {
    /// `[outputs, channels]`.
    pub weights: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
    /// The chosen penalty on large weights.
    pub penalty: Penalty,
    /// How good it is, with the chosen penalty; `None` if too few labels lie apart from each other.
    pub held_out: Option<HeldOut>,
}

/// The strength of a penalty on large weights, in the terms of scikit-learn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Penalty {
    /// The inverse strength, of logistic regressions.
    C(f64),
    /// The strength, of ridge regressions.
    Alpha(f64),
}

/// How good a fit is on labels that were held out.
#[derive(Clone, Debug, PartialEq)]
pub enum HeldOut {
    /// Of categories.
    Scores(HeldOutScores),
    /// Of values.
    Errors(HeldOutErrors),
}

impl LinearFit {
    /// A fit without outputs.
    pub(super) fn empty(penalty: Penalty, held_out: Option<HeldOut>) -> Self {
        Self { weights: Vec::new(), bias: Vec::new(), penalty, held_out }
    }

    /// Adds an output.
    pub(super) fn push(&mut self, (weights, bias): (Vec<f64>, f64)) {
        self.weights.extend(weights.into_iter().map(|weight| weight as f32));
        self.bias.push(bias as f32);
    }
}

/// # Errors
/// [`FitError::NotFinite`] if a value of `features`, `[labels, channels]`, is none.
pub(super) fn check_finite(features: &[f32], channels: usize) -> Result<(), FitError> {
    match features.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(FitError::NotFinite { label: at / channels.max(1) }),
        None => Ok(()),
    }
}
