//! Symmetric systems of equations: products of rows, their Cholesky factor, block by block, and solutions through it.

use rayon::prelude::*;

use crate::kernels::{add_scaled, dots};

/// Rows whose products one thread forms, and values of a row that are multiplied at a time: together they fit a processor's cache.
const ROWS: usize = 64;
const VALUES: usize = 256;

/// Columns of the factor that are found together.
const BLOCK: usize = 64;

/// The products of all pairs of rows, `[rows, length]`, as a lower triangle `[rows, rows]`. Sums are formed in an order that depends on
/// the shape alone.
pub(super) fn products(rows: &[f64], length: usize) -> Vec<f64> {
    let count = rows.len() / length.max(1);
    let mut products = vec![0.0; count * count];
    let part = |index: usize, first: usize| &rows[index * length..][first..(first + VALUES).min(length)];
    products.par_chunks_mut(ROWS * count.max(1)).enumerate().for_each(|(block, products)| {
        let (from, to) = (block * ROWS, (block * ROWS + ROWS).min(count));
        let mut found = vec![0.0; (to - from) * to];
        for first in (0..length).step_by(VALUES) {
            let others: Vec<&[f64]> = (0..to).map(|index| part(index, first)).collect();
            dots(&others[from..], &others, &mut found);
            for (within, (products, found)) in products.chunks_exact_mut(count).zip(found.chunks_exact(to)).enumerate() {
                let triangle = products[..=from + within].iter_mut().zip(found);
                triangle.for_each(|(product, found)| *product += found);
            }
        }
    });
    products
}

/// Columns of a matrix that are turned to rows at a time: whole cache lines of it.
const COLUMNS: usize = 8;

/// The columns of a matrix, `[rows, columns]`, one after the other.
pub(super) fn turned(matrix: &[f64], columns: usize) -> Vec<f64> {
    let rows = matrix.len() / columns.max(1);
    let mut turned = vec![0.0; matrix.len()];
    turned.par_chunks_mut(COLUMNS * rows.max(1)).enumerate().for_each(|(block, turned)| {
        for (row, values) in matrix.chunks_exact(columns).enumerate() {
            let values = values[block * COLUMNS..].iter().take(COLUMNS);
            values.enumerate().for_each(|(column, value)| turned[column * rows + row] = *value);
        }
    });
    turned
}

/// The lower triangle of which a matrix is the product with its own transpose.
pub(super) struct Cholesky {
    /// `[side, side]`, of which the lower triangle counts.
    factor: Vec<f64>,
    side: usize,
}

impl Cholesky {
    /// Of `scale * products + penalty`, where `products` is a lower triangle, `[side, side]`.
    pub(super) fn of(products: &[f64], side: usize, scale: f64, penalty: f64) -> Self {
        let mut factor: Vec<f64> = products.iter().map(|product| scale * product).collect();
        (0..side).for_each(|i| factor[i * side + i] += penalty);
        for first in (0..side).step_by(BLOCK) {
            let end = (first + BLOCK).min(side);
            // What the columns before have to say about this block.
            let before: Vec<&[f64]> = factor.chunks_exact(side).skip(first).map(|row| &row[..first]).collect();
            let mut known = vec![0.0; before.len() * (end - first)];
            dots(&before, &before[..end - first], &mut known);
            for (i, known) in (first..side).zip(known.chunks_exact(end - first)) {
                let (above, from_row) = factor.split_at_mut(i * side);
                let row = &mut from_row[first..end];
                row.iter_mut().zip(known).for_each(|(value, known)| *value -= known);
                for j in 0..row.len().min(i - first) {
                    let other = &above[(first + j) * side + first..][..=j];
                    row[j] = (row[j] - product(&row[..j], other)) / other[j];
                }
                if i < end {
                    let j = i - first;
                    // Rounding may take the rest of a tiny penalty.
                    row[j] = (row[j] - product(&row[..j], &row[..j])).max(f64::MIN_POSITIVE).sqrt();
                }
            }
        }
        Self { factor, side }
    }

    /// Solves the equations for several right sides, which become the solutions.
    pub(super) fn solve(&self, sides: &mut [&mut [f64]]) {
        let side = self.side;
        let row = |i: usize| &self.factor[i * side..][..=i];
        let blocks = (0..side).step_by(BLOCK).map(|first| (first, (first + BLOCK).min(side)));
        for (first, end) in blocks.clone() {
            let rows: Vec<&[f64]> = (first..end).map(|i| &row(i)[..first]).collect();
            let count = sides.len();
            let mut found = vec![0.0; rows.len() * count];
            dots(&rows, &sides.iter().map(|right| &right[..first]).collect::<Vec<_>>(), &mut found);
            for (index, right) in sides.iter_mut().enumerate() {
                for i in first..end {
                    let within = product(&row(i)[first..i], &right[first..i]);
                    right[i] = (right[i] - found[(i - first) * count + index] - within) / row(i)[i];
                }
            }
        }
        for (first, end) in blocks.rev() {
            let count = sides.len();
            let mut scales = vec![0.0; (end - first) * count];
            for (index, right) in sides.iter_mut().enumerate() {
                for i in (first..end).rev() {
                    right[i] /= row(i)[i];
                    let value = right[i];
                    right[first..i].iter_mut().zip(&row(i)[first..i]).for_each(|(right, part)| *right -= value * part);
                    scales[(i - first) * count + index] = -value;
                }
            }
            let rows: Vec<&[f64]> = (first..end).map(|i| &row(i)[..first]).collect();
            let mut before: Vec<&mut [f64]> = sides.iter_mut().map(|right| &mut right[..first]).collect();
            add_scaled(&rows, &scales, &mut before);
        }
    }
}

/// The sum of products of two short rows of one length.
fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_right_sides_are_solved_on_sides_of_whole_and_broken_blocks() {
        for (side, length, count) in [(1, 3, 1), (7, 20, 2), (64, 300, 3), (130, 200, 5)] {
            let value = |i: usize| (i * 7919 % 1009) as f64 / 504.5 - 1.0;
            let rows: Vec<f64> = (0..side * length).map(value).collect();
            let products = products(&turned(&turned(&rows, length), side), length);
            let (scale, penalty) = (0.5, 0.25);
            let right: Vec<f64> = (0..side * count).map(|i| value(i * 31 + 5)).collect();
            let mut solved = right.clone();
            let mut sides: Vec<&mut [f64]> = solved.chunks_mut(side).collect();
            Cholesky::of(&products, side, scale, penalty).solve(&mut sides);
            for (solved, right) in solved.chunks(side).zip(right.chunks(side)) {
                for (i, right) in right.iter().enumerate() {
                    let of_pair = |j: usize| products[i.max(j) * side + i.min(j)];
                    let found = (0..side).map(|j| scale * of_pair(j) * solved[j]).sum::<f64>() + penalty * solved[i];
                    assert!((found - right).abs() < 1e-9, "{side} {length}: {found} {right}");
                }
            }
        }
    }
}
