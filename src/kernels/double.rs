//! Products of rows of f64: what fits of linear functions spend their time on.
//!
//! Both kernels give the same bits on every machine: multiplications and additions are not fused, and the order of a sum depends on
//! the shapes alone.

use super::simd::{Simd, SimdTask, dispatch};

/// Values that are multiplied side by side; the order in which a sum is added depends on it.
const LANES: usize = 8;

/// Rows of the first list, and of the second, whose products are formed together.
const TILE: [usize; 2] = [4, 2];

/// The products of each row of `a` with each row of `b`, all of one length: `[a, b]`.
pub fn dots(a: &[&[f64]], b: &[&[f64]], products: &mut [f64]) {
    dispatch(Dots { a, b, products });
}

/// Adds every row, times each of its scales, `[rows, sums]`, to the sums: as many as a row has scales, each as long as a row.
pub fn add_scaled(rows: &[&[f64]], scales: &[f64], sums: &mut [&mut [f64]]) {
    dispatch(AddScaled { rows, scales, sums });
}

struct Dots<'a> {
    a: &'a [&'a [f64]],
    b: &'a [&'a [f64]],
    products: &'a mut [f64],
}

impl SimdTask for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { a, b, products } = self;
        let [tall, wide] = TILE;
        for first_a in (0..a.len()).step_by(tall) {
            for first_b in (0..b.len()).step_by(wide) {
                // At the end of a list, its last row stands in for those that are not there.
                let of_a: [&[f64]; TILE[0]] = std::array::from_fn(|i| a[(first_a + i).min(a.len() - 1)]);
                let of_b: [&[f64]; TILE[1]] = std::array::from_fn(|j| b[(first_b + j).min(b.len() - 1)]);
                let found = dot_tile(of_a, of_b);
                for (i, found) in found.iter().enumerate().take(a.len() - first_a) {
                    for (j, found) in found.iter().enumerate().take(b.len() - first_b) {
                        products[(first_a + i) * b.len() + first_b + j] = *found;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn dot_tile(a: [&[f64]; TILE[0]], b: [&[f64]; TILE[1]]) -> [[f64; TILE[1]]; TILE[0]] {
    let length = b[0].len();
    let whole = length / LANES;
    let (a_parts, b_parts) = (
        a.map(|row| &row[..length].as_chunks::<LANES>().0[..whole]),
        b.map(|row| &row[..length].as_chunks::<LANES>().0[..whole]),
    );
    let mut sums = [[[0.0; LANES]; TILE[1]]; TILE[0]];
    for at in 0..whole {
        let of_b = b_parts.map(|row| row[at]);
        for i in 0..TILE[0] {
            let of_a = a_parts[i][at];
            for j in 0..TILE[1] {
                for lane in 0..LANES {
                    sums[i][j][lane] += of_a[lane] * of_b[j][lane];
                }
            }
        }
    }
    // Otherwise compilers lay lanes of different sums side by side, as it suits the few additions below, and shuffle in the loop above.
    let sums = std::hint::black_box(sums);
    let mut found = [[0.0; TILE[1]]; TILE[0]];
    for i in 0..TILE[0] {
        for j in 0..TILE[1] {
            let rest: f64 = (whole * LANES..length).map(|at| a[i][at] * b[j][at]).sum();
            found[i][j] = sums[i][j].iter().sum::<f64>() + rest;
        }
    }
    found
}

struct AddScaled<'a, 'b> {
    rows: &'a [&'a [f64]],
    scales: &'a [f64],
    sums: &'a mut [&'b mut [f64]],
}

/// Sums that are formed together, and vectors of each.
const SUMS: [usize; 2] = [4, 2];

impl SimdTask for AddScaled<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { rows, scales, sums } = self;
        let (count, length) = (sums.len(), sums.first().map_or(0, |sum| sum.len()));
        const WIDE: usize = LANES * SUMS[1];
        let whole = length / WIDE * WIDE;
        for (first, sums) in sums.chunks_mut(SUMS[0]).enumerate().map(|(chunk, sums)| (chunk * SUMS[0], sums)) {
            for at in (0..whole).step_by(WIDE) {
                let mut parts = [[0.0; WIDE]; SUMS[0]];
                for (part, sum) in parts.iter_mut().zip(&*sums) {
                    part.copy_from_slice(&sum[at..at + WIDE]);
                }
                for (row, scales) in rows.iter().zip(scales.chunks_exact(count)) {
                    let Some(values) = row[at..].first_chunk::<WIDE>() else { continue };
                    // Of a last group of fewer sums, the last one stands in for those that are not there.
                    let scale: [f64; SUMS[0]] = std::array::from_fn(|sum| scales[(first + sum).min(count - 1)]);
                    for sum in 0..SUMS[0] {
                        for lane in 0..WIDE {
                            parts[sum][lane] += scale[sum] * values[lane];
                        }
                    }
                }
                for (part, sum) in parts.iter().zip(&mut *sums) {
                    sum[at..at + WIDE].copy_from_slice(part);
                }
            }
            for (index, sum) in sums.iter_mut().enumerate() {
                for (row, scales) in rows.iter().zip(scales.chunks_exact(count)) {
                    let rest = sum[whole..].iter_mut().zip(&row[whole..]);
                    rest.for_each(|(sum, value)| *sum += scales[first + index] * value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::InstructionSet;
    use super::*;

    fn noise(count: usize, seed: u64) -> Vec<f64> {
        let value = |i: u64| ((i + seed).wrapping_mul(6_364_136_223_846_793_005) >> 40) as f64 / f64::from(1 << 23) - 1.0;
        (1..=count as u64).map(value).collect()
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits_as_the_portable_form() {
        for (rows, others, length) in [(1, 1, 1), (4, 2, 8), (5, 3, 17), (9, 5, 40), (3, 64, 33), (2, 1, 0)] {
            let (a, b) = (noise(rows * length, 1), noise(others * length, 2));
            let split = |values: &'static [f64], count: usize| -> Vec<&[f64]> {
                (0..count).map(|row| &values[row * length..][..length]).collect()
            };
            let (a, b): (&'static [f64], &'static [f64]) = (a.leak(), b.leak());
            let (a, b) = (split(a, rows), split(b, others));
            let exact = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| x * y).sum() };
            let (mut first, mut first_sums) = (Vec::new(), Vec::new());
            for set in InstructionSet::supported() {
                let mut products = vec![0.0; rows * others];
                set.run(Dots { a: &a, b: &b, products: &mut products });
                for (i, product) in products.iter().enumerate() {
                    assert!(
                        (product - exact(a[i / others], b[i % others])).abs() < 1e-12,
                        "{set:?} {rows} {others} {length}"
                    );
                }
                // Each row of `a`, times its products, added to as many sums.
                let start = noise(others * length, 3);
                let mut sums = start.clone();
                let mut parts: Vec<&mut [f64]> = sums.chunks_mut(length.max(1)).collect();
                if length > 0 {
                    set.run(AddScaled { rows: &a, scales: &products, sums: &mut parts });
                }
                for (at, sum) in sums.iter().enumerate() {
                    let scaled = |row: usize| products[row * others + at / length] * a[row][at % length];
                    let expected = start[at] + (0..rows).map(scaled).sum::<f64>();
                    assert!((sum - expected).abs() < 1e-12, "{set:?} {rows} {others} {length}");
                }
                if set == InstructionSet::Portable {
                    (first, first_sums) = (bits(&products), bits(&sums));
                }
                assert_eq!((bits(&products), bits(&sums)), (first.clone(), first_sums.clone()), "{set:?}");
            }
        }
    }
}
