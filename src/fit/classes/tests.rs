use super::super::goldens::{self, ClassGolden};
use super::*;

fn categories(golden: &ClassGolden) -> Vec<String> {
    (0..=*golden.classes.iter().max().unwrap()).map(|class| format!("class {class}")).collect()
}

fn check<T>(golden: &ClassGolden, with: impl FnOnce(&ClassLabels<'_>) -> T) -> T {
    let features = goldens::features(&golden.classes, golden.channels);
    let (categories, places) = (categories(golden), goldens::apart(golden.classes.len()));
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
    for golden in goldens::classes() {
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
    for golden in goldens::classes() {
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
    let golden = goldens::classes().swap_remove(1);
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
    let golden = goldens::classes().swap_remove(0);
    let stopped = check(&golden, |labels| fit_classes(labels, &AtomicBool::new(true)));
    assert_eq!(stopped, Err(FitError::Stopped));
    let mut features = goldens::features(&golden.classes, golden.channels);
    features[5 * golden.channels + 2] = f32::NAN;
    let bad = check(&golden, |labels| {
        fit_classes(&ClassLabels { features: &features, ..labels.clone() }, &AtomicBool::new(false))
    });
    assert_eq!(bad, Err(FitError::NotFinite { label: 5 }));
}
