//! Least squares with a quadratic penalty, solved exactly through a Cholesky factor: of the channels' products or, where there are
//! fewer labels than channels, of the labels' products (Saunders, Gammerman and Vovk 1998).

use rayon::prelude::*;

use super::cholesky::{Cholesky, products, turned};
use super::lbfgs::add;

/// Products that are the same for all penalties.
pub(super) struct Ridge<'a> {
    /// `[labels, channels]`, each channel with mean 0.
    features: &'a [f64],
    channels: usize,
    /// With mean 0.
    values: &'a [f64],
    /// Of labels rather than channels.
    of_labels: bool,
    /// Lower triangle of the products, `[side, side]`.
    products: Vec<f64>,
    side: usize,
}

impl<'a> Ridge<'a> {
    pub(super) fn of(features: &'a [f64], channels: usize, values: &'a [f64]) -> Self {
        let of_labels = values.len() < channels;
        let (products, side) = if of_labels {
            (products(features, channels), values.len())
        } else {
            (products(&turned(features, channels), values.len()), channels)
        };
        Self { features, channels, values, of_labels, products, side }
    }

    /// The weights for each of `penalties`, `[channels]`.
    pub(super) fn solve(&self, penalties: &[f64]) -> Vec<Vec<f64>> {
        let mut right = vec![0.0; self.channels];
        if self.of_labels {
            right = self.values.to_vec();
        } else {
            self.rows().zip(self.values).for_each(|(row, value)| add(&mut right, *value, row));
        }
        let weights = |penalty: &f64| {
            let mut solved = right.clone();
            Cholesky::of(&self.products, self.side, 1.0, *penalty).solve(&mut [&mut solved]);
            if !self.of_labels {
                return solved;
            }
            let mut weights = vec![0.0; self.channels];
            self.rows().zip(&solved).for_each(|(row, part)| add(&mut weights, *part, row));
            weights
        };
        penalties.par_iter().map(weights).collect()
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.features.chunks_exact(self.channels)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lbfgs::dot;
    use super::*;

    #[test]
    fn both_ways_solve_the_same_equations() {
        for (labels, channels) in [(40, 7), (7, 40), (33, 33), (300, 70)] {
            let value = |i: usize| ((i * 7919 % 1009) as f64 / 504.5 - 1.0) * (1.0 + (i % 3) as f64);
            let features: Vec<f64> = (0..labels * channels).map(value).collect();
            let values: Vec<f64> = (0..labels).map(|i| value(i * 31 + 5)).collect();
            for (penalty, weights) in [0.5, 20.0].iter().zip(Ridge::of(&features, channels, &values).solve(&[0.5, 20.0])) {
                // The gradient of the squares and the penalty is zero.
                let mut gradient: Vec<f64> = weights.iter().map(|weight| penalty * weight).collect();
                for (row, value) in features.chunks(channels).zip(&values) {
                    add(&mut gradient, dot(row, &weights) - value, row);
                }
                assert!(gradient.iter().all(|slope| slope.abs() < 1e-9), "{labels} {channels}: {gradient:?}");
            }
        }
    }
}
