//! A number for each label: ridge regression on standardised features, its penalty chosen by the folds.

use std::sync::atomic::{AtomicBool, Ordering};

use super::classes::best_of;
use super::error::FitError;
use super::folds::Folds;
use super::lbfgs::dot;
use super::linear::{HeldOut, LinearFit, Penalty, check_finite};
use super::ridge::Ridge;
use super::scores::value_errors;
use super::standard::Standard;
use crate::zoo::{ErrorPoint, HeldOutErrors};

/// The penalties that are tried, the strongest first: scikit-learn's `alpha`.
const PENALTIES: [f64; 7] = [1e4, 1e3, 1e2, 1e1, 1e0, 1e-1, 1e-2];
/// What is used where nothing can be held out: scikit-learn's default.
const USUAL_PENALTY: f64 = 1.0;

/// Labelled features.
#[derive(Clone, Debug)]
pub struct ValueLabels<'a> {
    /// `[labels, channels]`.
    pub features: &'a [f32],
    /// Values per label.
    pub channels: usize,
    /// The number that each label says.
    pub values: &'a [f64],
    /// Where each label lies, in pixels.
    pub places: &'a [[f64; 2]],
}

/// Fits `weights · features + bias`. The penalty is the one under which the numbers of held-out labels are met best, in the mean of
/// squares.
///
/// # Errors
/// [`FitError::NotFinite`], and [`FitError::Stopped`] soon after `stop` is set.
pub fn fit_values(labels: &ValueLabels<'_>, stop: &AtomicBool) -> Result<LinearFit, FitError> {
    let ValueLabels { features, channels, values, places } = *labels;
    check_finite(features, channels)?;
    let (alpha, held) = match Folds::of(places, &vec![vec![0]; values.len()], 1) {
        Some(folds) => {
            let (alpha, found) = choose(labels, &folds, stop)?;
            let mut held: HeldOutErrors = value_errors(&found, values, &folds);
            let point = |parts: usize, seen: usize| -> Result<ErrorPoint, FitError> {
                let found = held_out(labels, &folds, parts, &[alpha], stop)?.swap_remove(0);
                Ok(value_errors(&found, values, &folds).learning_point(seen))
            };
            held.learning_curve = folds.learning_curve(point, |seen| held.learning_point(seen))?;
            (alpha, Some(HeldOut::Errors(held)))
        }
        None => (USUAL_PENALTY, None),
    };
    let rows: Vec<usize> = (0..values.len()).collect();
    let (standard, mut fits) = fit_rows(labels, &rows, &[alpha], stop)?;
    let (weights, bias) = fits.swap_remove(0);
    let mut fit = LinearFit::empty(Penalty::Alpha(alpha), held);
    fit.push(standard.unfold(&weights, bias));
    Ok(fit)
}

/// The best penalty, and what the fits with it say about the labels that they have not seen.
fn choose(labels: &ValueLabels<'_>, folds: &Folds, stop: &AtomicBool) -> Result<(f64, Vec<f64>), FitError> {
    let mut given = held_out(labels, folds, folds.count - 1, &PENALTIES, stop)?;
    let squares = |found: &Vec<f64>| found.iter().zip(labels.values).map(|(a, b)| (a - b).powi(2)).sum();
    let best = best_of(given.iter().map(squares));
    Ok((PENALTIES[best], given.swap_remove(best)))
}

/// What fits with each of `penalties` to `parts` other folds say about the labels of each fold: `[penalties][labels]`.
fn held_out(
    labels: &ValueLabels<'_>,
    folds: &Folds,
    parts: usize,
    penalties: &[f64],
    stop: &AtomicBool,
) -> Result<Vec<Vec<f64>>, FitError> {
    let mut given = vec![vec![0.0; labels.values.len()]; penalties.len()];
    for fold in 0..folds.count {
        let (seen, held) = folds.split(fold, parts);
        let (standard, fits) = fit_rows(labels, &seen, penalties, stop)?;
        let held_features = standard.apply(labels.features, &held);
        for (given, (weights, bias)) in given.iter_mut().zip(&fits) {
            for (label, features) in held.iter().zip(held_features.chunks_exact(labels.channels)) {
                given[*label] = dot(weights, features) + bias;
            }
        }
    }
    Ok(given)
}

/// Weights on standardised features, and an intercept.
type Line = (Vec<f64>, f64);

/// The fits with each of `penalties` to some labels.
fn fit_rows(
    labels: &ValueLabels<'_>,
    rows: &[usize],
    penalties: &[f64],
    stop: &AtomicBool,
) -> Result<(Standard, Vec<Line>), FitError> {
    if stop.load(Ordering::Relaxed) {
        return Err(FitError::Stopped);
    }
    let standard = Standard::of(labels.features, labels.channels, rows);
    let features = standard.apply(labels.features, rows);
    let mean = rows.iter().map(|row| labels.values[*row]).sum::<f64>() / rows.len().max(1) as f64;
    let centred: Vec<f64> = rows.iter().map(|row| labels.values[*row] - mean).collect();
    let weights = Ridge::of(&features, labels.channels, &centred).solve(penalties);
    Ok((standard, weights.into_iter().map(|weights| (weights, mean)).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::goldens;
    use super::*;

    #[test]
    fn coefficients_predictions_and_penalty_are_those_of_scikit_learn() {
        for golden in goldens::values() {
            let features = goldens::features(&golden.groups(), golden.channels);
            let places = goldens::apart(golden.values.len());
            let labels =
                ValueLabels { features: &features, channels: golden.channels, values: &golden.values, places: &places };
            let stop = AtomicBool::new(false);
            let rows: Vec<usize> = (0..golden.values.len()).collect();
            let (standard, fits) = fit_rows(&labels, &rows, &[golden.alpha], &stop).unwrap();
            let (weights, bias) = &fits[0];
            let largest = golden.coefficients.iter().fold(0.0f64, |most, value| most.max(value.abs()));
            for (found, expected) in weights.iter().zip(&golden.coefficients) {
                assert!((found - expected).abs() <= 1e-8 * largest, "{}: {found} {expected}", golden.name);
            }
            assert!((bias - golden.intercept).abs() < 1e-8);
            let standardised = standard.apply(&features, &rows);
            for (values, expected) in standardised.chunks(golden.channels).zip(&golden.predictions) {
                assert!((dot(weights, values) + bias - expected).abs() < 1e-8, "{}", golden.name);
            }
            let folds = Folds { of: golden.folds.clone(), count: 4, apart_px: 64.0 };
            let (alpha, given) = choose(&labels, &folds, &stop).unwrap();
            assert_eq!(alpha, golden.best_alpha, "{}", golden.name);
            for (found, expected) in given.iter().zip(&golden.held_out) {
                assert!((found - expected).abs() < 1e-7, "{}: {found} {expected}", golden.name);
            }
            let errors = value_errors(&given, &golden.values, &folds);
            let found = [errors.mean_absolute_error, errors.root_mean_square_error, errors.r2];
            for (found, expected) in found.iter().zip(&golden.errors) {
                assert!((found - expected).abs() < 1e-7, "{}: {found} {expected}", golden.name);
            }
        }
    }

    #[test]
    fn a_number_for_each_place_is_learnt() {
        let golden = goldens::values().swap_remove(0);
        let features = goldens::features(&golden.groups(), golden.channels);
        let places = goldens::apart(golden.values.len());
        let labels =
            ValueLabels { features: &features, channels: golden.channels, values: &golden.values, places: &places };
        let fit = fit_values(&labels, &AtomicBool::new(false)).unwrap();
        let Some(HeldOut::Errors(errors)) = &fit.held_out else { panic!("no errors") };
        assert_eq!((fit.bias.len(), errors.learning_curve.len()), (1, errors.folds - 1));
        assert_eq!(fit_values(&labels, &AtomicBool::new(true)), Err(FitError::Stopped));
    }
}
