//! Least squares with a quadratic penalty, solved exactly through a Cholesky factor: of the channels' products or, where there are
//! fewer labels than channels, of the labels' products (Saunders, Gammerman and Vovk 1998).

use rayon::prelude::*;

use super::lbfgs::{add, dot};

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

/// Rows whose products one thread forms, and values of a row that are multiplied at a time: together they fit a processor's cache.
const ROWS: usize = 32;
const VALUES: usize = 128;

impl<'a> Ridge<'a> {
    pub(super) fn of(features: &'a [f64], channels: usize, values: &'a [f64]) -> Self {
        let of_labels = values.len() < channels;
        let turned: Vec<f64>;
        let (rows, length) = if of_labels {
            (features, channels)
        } else {
            turned =
                (0..channels * values.len()).map(|at| features[at % values.len() * channels + at / values.len()]).collect();
            (&turned[..], values.len())
        };
        let side = if of_labels { values.len() } else { channels };
        Self { features, channels, values, of_labels, products: products(rows, length), side }
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
            solve_in_place(self.products.clone(), self.side, *penalty, &mut solved);
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

/// The products of all pairs of rows, `[rows, length]`, as a lower triangle. Sums are formed in an order that depends on the shape alone.
fn products(rows: &[f64], length: usize) -> Vec<f64> {
    let count = rows.len() / length.max(1);
    let mut products = vec![0.0; count * count];
    let row = |index: usize| &rows[index * length..][..length];
    products.par_chunks_mut(ROWS * count.max(1)).enumerate().for_each(|(block, products)| {
        for first in (0..length).step_by(VALUES) {
            let values = first..(first + VALUES).min(length);
            for (within, products) in products.chunks_exact_mut(count).enumerate() {
                let index = block * ROWS + within;
                for (other, product) in products[..=index].iter_mut().enumerate() {
                    *product += dot(&row(index)[values.clone()], &row(other)[values.clone()]);
                }
            }
        }
    });
    products
}

/// Solves `(products + penalty) x = right` for a lower triangle of `products`; `right` becomes `x`.
fn solve_in_place(mut factor: Vec<f64>, side: usize, penalty: f64, right: &mut [f64]) {
    for i in 0..side {
        let (above, from_row) = factor.split_at_mut(i * side);
        let row = &mut from_row[..side];
        row[i] += penalty;
        for j in 0..i {
            let other = &above[j * side..][..=j];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        // Rounding may take the rest of a tiny penalty.
        row[i] = (row[i] - dot(&row[..i], &row[..i])).max(f64::MIN_POSITIVE).sqrt();
    }
    for i in 0..side {
        let row = &factor[i * side..][..=i];
        right[i] = (right[i] - dot(&row[..i], &right[..i])) / row[i];
    }
    for i in (0..side).rev() {
        let row = &factor[i * side..][..=i];
        right[i] /= row[i];
        let value = right[i];
        add(&mut right[..i], -value, &row[..i]);
    }
}

#[cfg(test)]
mod tests {
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
