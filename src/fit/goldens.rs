//! What scikit-learn fits to the same features, for tests; `tests/fixtures/fit/make.py` has made it.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
struct Goldens {
    classes: Vec<ClassGolden>,
    sets: SetGolden,
    values: Vec<ValueGolden>,
    nearest: Vec<NearestGolden>,
}

#[derive(Deserialize)]
pub(super) struct ClassGolden {
    pub(super) name: String,
    pub(super) channels: usize,
    pub(super) classes: Vec<usize>,
    pub(super) c: f64,
    pub(super) coefficients: Vec<Vec<f64>>,
    pub(super) intercepts: Vec<f64>,
    pub(super) probabilities: Vec<Vec<f64>>,
    pub(super) folds: Vec<usize>,
    pub(super) best_c: f64,
    pub(super) held_out: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
pub(super) struct SetGolden {
    pub(super) channels: usize,
    pub(super) sets: Vec<Vec<usize>>,
    /// For each C, the probability of each category at each label, after a fit to all.
    pub(super) by_c: BTreeMap<String, Vec<Vec<f64>>>,
}

#[derive(Deserialize)]
pub(super) struct ValueGolden {
    pub(super) name: String,
    pub(super) channels: usize,
    pub(super) values: Vec<f64>,
    pub(super) alpha: f64,
    pub(super) coefficients: Vec<f64>,
    pub(super) intercept: f64,
    pub(super) predictions: Vec<f64>,
    pub(super) folds: Vec<usize>,
    pub(super) best_alpha: f64,
    pub(super) held_out: Vec<f64>,
    /// Mean absolute, root mean square, R².
    pub(super) errors: [f64; 3],
}

#[derive(Deserialize)]
pub(super) struct NearestGolden {
    pub(super) name: String,
    pub(super) channels: usize,
    pub(super) groups: Vec<usize>,
    /// What each label says.
    pub(super) values: Vec<Vec<f64>>,
    /// What so many neighbours in three folds of four say of the labels in the other one.
    pub(super) held_out: BTreeMap<String, Vec<Vec<f64>>>,
    /// The number of neighbours with the least squares.
    pub(super) best: usize,
    /// What five neighbours among all labels say of each.
    pub(super) predictions: Vec<Vec<f64>>,
}

fn goldens() -> Goldens {
    serde_json::from_str(include_str!("../../tests/fixtures/fit/sklearn.json")).unwrap()
}

pub(super) fn classes() -> Vec<ClassGolden> {
    goldens().classes
}

pub(super) fn sets() -> SetGolden {
    goldens().sets
}

pub(super) fn values() -> Vec<ValueGolden> {
    goldens().values
}

pub(super) fn nearest() -> Vec<NearestGolden> {
    goldens().nearest
}

impl SetGolden {
    /// What the features have a trace of.
    pub(super) fn groups(&self) -> Vec<usize> {
        self.sets.iter().map(|set| set.iter().map(|category| 1 << category).sum()).collect()
    }
}

impl ValueGolden {
    pub(super) fn groups(&self) -> Vec<usize> {
        (0..self.values.len()).map(|label| label % 3).collect()
    }
}

/// `[labels, channels]`, as the script makes them: noise with a trace of each label's group.
pub(super) fn features(groups: &[usize], channels: usize) -> Vec<f32> {
    let mut state = 7u32;
    let group_count = groups.iter().max().unwrap() + 1;
    let mut features = Vec::new();
    for group in groups {
        for channel in 0..channels {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = f64::from(state >> 8) / f64::from(1 << 24);
            let trace = if *group == channel % group_count { 0.4 } else { 0.0 };
            let value = (noise + trace) * (1 + channel % 5) as f64 + channel as f64;
            features.push(if channel == 3 { 0.1 } else { value as f32 });
        }
    }
    features
}

/// Places so far apart that every label is a block of its own.
pub(super) fn apart(labels: usize) -> Vec<[f64; 2]> {
    (0..labels).map(|i| [1000.0 * i as f64, 0.0]).collect()
}
