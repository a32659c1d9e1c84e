use serde::Deserialize;

use super::*;

/// What scikit-learn fits to the same features; `tests/fixtures/fit/make.py` has made it.
const GOLDENS: &str = include_str!("../../../tests/fixtures/fit/sklearn.json");

#[derive(Deserialize)]
struct Golden {
    name: String,
    channels: usize,
    classes: Vec<usize>,
    c: f64,
    coefficients: Vec<Vec<f64>>,
    intercepts: Vec<f64>,
    probabilities: Vec<Vec<f64>>,
    folds: Vec<usize>,
    best_c: f64,
    held_out: Vec<Vec<f64>>,
}

fn goldens() -> Vec<Golden> {
    serde_json::from_str(GOLDENS).unwrap()
}

impl Golden {
    fn features(&self) -> Vec<f32> {
        let mut state = 7u32;
        let class_count = self.categories().len();
        let mut features = Vec::new();
        for class in &self.classes {
            for channel in 0..self.channels {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = f64::from(state >> 8) / f64::from(1 << 24);
                let trace = if *class == channel % class_count { 0.4 } else { 0.0 };
                let value = (noise + trace) * (1 + channel % 5) as f64 + channel as f64;
                features.push(if channel == 3 { 0.1 } else { value as f32 });
            }
        }
        features
    }

    fn categories(&self) -> Vec<String> {
        (0..=*self.classes.iter().max().unwrap()).map(|class| format!("class {class}")).collect()
    }

    /// Places so far apart that every label is a block of its own.
    fn places(&self) -> Vec<[f64; 2]> {
        (0..self.classes.len()).map(|i| [1000.0 * i as f64, 0.0]).collect()
    }
}

fn check<T>(golden: &Golden, with: impl FnOnce(&ClassLabels<'_>) -> T) -> T {
    let (features, categories, places) = (golden.features(), golden.categories(), golden.places());
    with(&ClassLabels {
        features: &features,
        channels: golden.channels,
        classes: &golden.classes,
        categories: &categories,
        places: &places,
    })
}

fn gap(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn coefficients_and_predictions_are_those_of_scikit_learn() {
    for golden in goldens() {
        check(&golden, |labels| {
            let rows: Vec<usize> = (0..golden.classes.len()).collect();
            let training = Training::of(labels, &rows);
            let mut linear = LinearClassifier::new(training.present.len(), golden.channels);
            training.learn(&mut linear, golden.c, EXACT, &AtomicBool::new(false)).unwrap();
            let mut found: Vec<(Vec<f64>, f64)> = linear.classes().map(|(w, b)| (w.to_vec(), b)).collect();
            if found.len() == 2 {
                // scikit-learn keeps the difference only.
                let first = found.swap_remove(0);
                let second = found.pop().unwrap();
                found.push((second.0.iter().zip(&first.0).map(|(b, a)| b - a).collect(), second.1 - first.1));
            } else {
                // Intercepts are free up to a constant.
                let mean = |of: &mut dyn Iterator<Item = f64>| of.sum::<f64>() / golden.intercepts.len() as f64;
                let shift = mean(&mut golden.intercepts.iter().copied()) - mean(&mut found.iter().map(|class| class.1));
                found.iter_mut().for_each(|class| class.1 += shift);
            }
            for ((weights, bias), (expected, intercept)) in
                found.iter().zip(golden.coefficients.iter().zip(&golden.intercepts))
            {
                let largest = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
                assert!(gap(weights, expected) <= 1e-4 * largest, "{}: {}", golden.name, gap(weights, expected));
                assert!((bias - intercept).abs() <= 1e-4 * largest.max(intercept.abs()), "{}", golden.name);
            }
            for (features, expected) in training.features.chunks(golden.channels).zip(&golden.probabilities) {
                let gap = gap(&linear.probabilities(features), expected);
                assert!(gap < 1e-5, "{}: {gap}", golden.name);
            }
        });
    }
}

#[test]
fn the_penalty_is_the_one_that_scikit_learn_finds_with_the_same_folds() {
    for golden in goldens() {
        check(&golden, |labels| {
            let folds = Folds { of: golden.folds.clone(), count: 4, apart_px: 64.0 };
            let (c, given) = choose(labels, &folds, &AtomicBool::new(false)).unwrap();
            assert_eq!(c, golden.best_c, "{}", golden.name);
            for (given, expected) in given.iter().zip(&golden.held_out) {
                assert!(gap(given, expected) < 1e-5, "{}: {}", golden.name, gap(given, expected));
            }
        });
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let golden = goldens().swap_remove(1);
    let fit = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| check(&golden, |labels| fit_classes(labels, &AtomicBool::new(false)).unwrap()))
    };
    let one = fit(1);
    assert!(one.held_out.is_some());
    assert_eq!(one, fit(3));
}

#[test]
fn what_cannot_be_fitted_is_told() {
    let golden = goldens().swap_remove(0);
    let stopped = check(&golden, |labels| fit_classes(labels, &AtomicBool::new(true)));
    assert_eq!(stopped, Err(FitError::Stopped));
    let mut features = golden.features();
    features[5 * golden.channels + 2] = f32::NAN;
    let bad = check(&golden, |labels| {
        fit_classes(&ClassLabels { features: &features, ..labels.clone() }, &AtomicBool::new(false))
    });
    assert_eq!(bad, Err(FitError::NotFinite { label: 5 }));
}
