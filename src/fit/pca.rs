//! Principal components: the directions in which vectors differ most, as scikit-learn's `PCA` finds them.
//!
//! The leading eigenvectors of the covariance are found by subspace iteration from fixed vectors (Golub and Van Loan, Matrix
//! Computations, 8.2.4), with some directions more than wanted, and are then told apart by a Rayleigh-Ritz step.

use rayon::prelude::*;

/// Directions beside those that are wanted, with which the iteration converges faster.
const SPARE: usize = 8;

/// Steps of the iteration. What two directions of nearly the same variance lack in precision after these, no use of them can tell.
const STEPS: usize = 60;

/// Sweeps of Jacobi's method over the small matrix; it converges in about ten.
const SWEEPS: usize = 30;

/// What is subtracted from vectors, and what they are then multiplied with.
#[derive(Clone, Debug, PartialEq)]
pub struct Components {
    /// `[dims]`.
    pub mean: Vec<f32>,
    /// `[components, dims]`: orthonormal rows, those of the greatest variance first, each with its greatest entry positive.
    pub directions: Vec<Vec<f32>>,
    /// The part of the variance that each explains.
    pub explained_variance_ratio: Vec<f32>,
}

/// The first `count` components of `vectors`, `[rows, dims]`, all of them finite. Directions beyond the rank of the vectors are zero.
pub fn principal_components(vectors: &[f32], dims: usize, count: usize) -> Components {
    let rows = (vectors.len() / dims.max(1)).max(1) as f64;
    let mean: Vec<f64> = (0..dims)
        .map(|dim| vectors.iter().skip(dim).step_by(dims).map(|value| f64::from(*value)).sum::<f64>() / rows)
        .collect();
    let centred: Vec<Vec<f64>> = (0..dims)
        .map(|dim| vectors.iter().skip(dim).step_by(dims).map(|value| f64::from(*value) - mean[dim]).collect())
        .collect();
    let covariance: Vec<Vec<f64>> =
        centred.par_iter().map(|row| centred.iter().map(|other| dot(row, other) / rows).collect()).collect();
    let total: f64 = (0..dims).map(|dim| covariance[dim][dim]).sum();
    let mut basis = first_vectors((count + SPARE).min(dims), dims);
    orthonormalise(&mut basis);
    for _ in 0..STEPS {
        basis = basis.par_iter().map(|vector| product(&covariance, vector)).collect();
        orthonormalise(&mut basis);
    }
    let images: Vec<Vec<f64>> = basis.par_iter().map(|vector| product(&covariance, vector)).collect();
    let small = basis.iter().map(|left| images.iter().map(|right| dot(left, right)).collect()).collect();
    let (values, mixtures) = eigenvectors(small);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    order.truncate(count);
    let direction = |of: &usize| {
        let mut direction = vec![0.0; dims];
        for (vector, share) in basis.iter().zip(&mixtures[*of]) {
            direction.iter_mut().zip(vector).for_each(|(sum, value)| *sum += share * value);
        }
        let greatest = direction.iter().copied().reduce(|a, b| if b.abs() > a.abs() { b } else { a }).unwrap_or(0.0);
        direction.iter().map(|value| (value * greatest.signum()) as f32).collect()
    };
    let ratio = |of: &usize| if total > 0.0 { (values[*of] / total) as f32 } else { 0.0 };
    Components {
        mean: mean.iter().map(|value| *value as f32).collect(),
        directions: order.iter().map(direction).collect(),
        explained_variance_ratio: order.iter().map(ratio).collect(),
    }
}

/// A sum in eight parts, which the processor adds at once. Their order is fixed.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut parts = [0.0; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in left.zip(right) {
        parts.iter_mut().zip(a.iter().zip(b)).for_each(|(part, (a, b))| *part += a * b);
    }
    parts.iter().sum::<f64>() + rest
}

fn product(matrix: &[Vec<f64>], vector: &[f64]) -> Vec<f64> {
    matrix.iter().map(|row| dot(row, vector)).collect()
}

/// Vectors that are in no special relation to any data: numbers of a linear congruential generator (Knuth's MMIX).
fn first_vectors(count: usize, dims: usize) -> Vec<Vec<f64>> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    (0..count).map(|_| (0..dims).map(|_| next()).collect()).collect()
}

/// Gram and Schmidt's method, twice, which is enough. A vector that depends on those before it becomes zero.
fn orthonormalise(vectors: &mut [Vec<f64>]) {
    for index in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(index);
        let vector = &mut rest[0];
        let whole = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for other in before.iter() {
                let share = dot(vector, other);
                vector.iter_mut().zip(other).for_each(|(value, other)| *value -= share * other);
            }
        }
        let length = dot(vector, vector).sqrt();
        let scale = if length > 1e-12 * whole && length > 0.0 { 1.0 / length } else { 0.0 };
        vector.iter_mut().for_each(|value| *value *= scale);
    }
}

/// Eigenvalues of a symmetric matrix and their vectors as rows, by Jacobi's method.
fn eigenvectors(mut matrix: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let size = matrix.len();
    let mut vectors: Vec<Vec<f64>> =
        (0..size).map(|row| (0..size).map(|col| f64::from(u8::from(row == col))).collect()).collect();
    for _ in 0..SWEEPS {
        let off: f64 =
            (0..size).flat_map(|row| (0..row).map(move |col| (row, col))).map(|(r, c)| matrix[r][c].powi(2)).sum();
        let on: f64 = (0..size).map(|at| matrix[at][at].powi(2)).sum();
        if off <= 1e-28 * on {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                rotate(&mut matrix, &mut vectors, (p, q));
            }
        }
    }
    ((0..size).map(|at| matrix[at][at]).collect(), vectors)
}

/// The rotation that makes the entry (p, q) zero (Golub and Van Loan, 8.5.2).
fn rotate(matrix: &mut [Vec<f64>], vectors: &mut [Vec<f64>], (p, q): (usize, usize)) {
    if matrix[p][q] == 0.0 {
        return;
    }
    let tau = (matrix[q][q] - matrix[p][p]) / (2.0 * matrix[p][q]);
    let sign = if tau < 0.0 { -1.0 } else { 1.0 };
    let tangent = sign / (tau.abs() + tau.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    let turned = |a: f64, b: f64| (cosine * a - sine * b, sine * a + cosine * b);
    for row in matrix.iter_mut() {
        (row[p], row[q]) = turned(row[p], row[q]);
    }
    for at in 0..matrix.len() {
        (matrix[p][at], matrix[q][at]) = turned(matrix[p][at], matrix[q][at]);
        (vectors[p][at], vectors[q][at]) = turned(vectors[p][at], vectors[q][at]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows with the variances 9, 4, 1 (and noise) along rotated axes of a space of 20 dimensions.
    fn rows() -> (Vec<f32>, Vec<Vec<f64>>) {
        let mut axes = first_vectors(3, 20);
        orthonormalise(&mut axes);
        let shares = first_vectors(4000, 3);
        let row = |shares: &Vec<f64>| {
            let value = |dim: usize| {
                let along =
                    [3.0, 2.0, 1.0].iter().zip(shares).zip(&axes).map(|((scale, share), axis)| scale * share * axis[dim]);
                (along.sum::<f64>() + dim as f64) as f32
            };
            (0..20).map(value).collect::<Vec<f32>>()
        };
        (shares.iter().flat_map(row).collect(), axes)
    }

    #[test]
    fn components_are_the_axes_along_which_rows_differ() {
        let (rows, axes) = rows();
        let found = principal_components(&rows, 20, 3);
        assert_eq!(found, principal_components(&rows, 20, 3), "the same bits each time");
        for (direction, axis) in found.directions.iter().zip(&axes) {
            let cosine: f64 = direction.iter().zip(axis).map(|(a, b)| f64::from(*a) * b).sum();
            assert!(cosine.abs() > 0.99, "{cosine}");
            let greatest = direction.iter().copied().reduce(|a, b| if b.abs() > a.abs() { b } else { a }).unwrap();
            assert!(greatest > 0.0);
        }
        let ratios = &found.explained_variance_ratio;
        assert!((ratios.iter().sum::<f32>() - 1.0).abs() < 1e-4 && (ratios[0] - 9.0 / 14.0).abs() < 0.03, "{ratios:?}");
        assert!((found.mean[7] - 7.0).abs() < 0.05);
    }

    #[test]
    fn directions_beyond_the_rank_explain_nothing() {
        let rows: Vec<f32> = (0..6).flat_map(|row| [row as f32, 0.0, 0.0, 0.0]).collect();
        let found = principal_components(&rows, 4, 3);
        assert_eq!(found.directions[0], [1.0, 0.0, 0.0, 0.0]);
        assert!(
            found.explained_variance_ratio[1].abs() < 1e-6
                && found.directions.iter().flatten().all(|value| value.is_finite())
        );
    }
}
