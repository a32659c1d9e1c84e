//! Dot products of many rows with one vector: the scan of a search by similarity.
//!
//! Both give the same bits on every machine: whole numbers are exact, and sums of f32 are added in one fixed order.

use super::simd::{Simd, SimdTask, dispatch};

/// Sums that run side by side; the order in which an f32 dot product is added depends on it.
const SUMS: usize = 32;

/// The largest magnitude of a query's values for which no sum of [`dot_codes`] overflows.
pub fn largest_query(dims: usize) -> i16 {
    let most = i32::MAX as usize / (usize::from(i8::MAX.unsigned_abs()) * dims.max(1));
    i16::try_from(most).unwrap_or(i16::MAX)
}

/// The products of rows of codes with a query of values up to [`largest_query`]. A row has `skipped` other bytes and then, as bytes,
/// `query.len()` codes from -127 to 127.
pub fn dot_codes(rows: &[u8], skipped: usize, query: &[i16], products: &mut [i32]) {
    dispatch(Codes { rows, skipped, query, products });
}

/// The product of two vectors of one length.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    dispatch(Values { a, b })
}

struct Codes<'a> {
    rows: &'a [u8],
    skipped: usize,
    query: &'a [i16],
    products: &'a mut [i32],
}

impl SimdTask for Codes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let row_bytes = self.skipped + self.query.len();
        for (rows, products) in self.rows.chunks(4 * row_bytes).zip(self.products.chunks_mut(4)) {
            // Of a last group of fewer rows, the last row stands in for those that are not there.
            let row = |index: usize| &rows[row_bytes * index.min(products.len() - 1)..][self.skipped..row_bytes];
            let found = s.dot_codes(std::array::from_fn(row), self.query);
            products.copy_from_slice(&found[..products.len()]);
        }
    }
}

struct Values<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl SimdTask for Values<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f32 {
        let ((a, rest_a), (b, rest_b)) = (self.a.as_chunks::<SUMS>(), self.b.as_chunks::<SUMS>());
        let mut sums = [0.0; SUMS];
        for (a, b) in a.iter().zip(b) {
            for lane in 0..SUMS {
                sums[lane] += a[lane] * b[lane];
            }
        }
        let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
        sums.iter().sum::<f32>() + rest
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::InstructionSet;
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits_as_plain_loops() {
        for dims in [1, 7, 31, 32, 33, 100, 128, 768] {
            let most = i64::from(largest_query(dims));
            // Every code but -128.
            let codes: Vec<u8> = (0..5 * (dims + 4)).map(|i| ((i * 7919 % 255) as i32 - 127) as u8).collect();
            let query: Vec<i16> = (0..dims).map(|i| ((i as i64 * 31_337) % (2 * most) - most) as i16).collect();
            let (a, b): (Vec<f32>, Vec<f32>) = (0..dims).map(|i| ((i as f32).sin(), (i as f32 * 0.7).cos())).unzip();
            let plain: Vec<i32> = codes
                .chunks_exact(dims + 4)
                .map(|row| row[4..].iter().zip(&query).map(|(c, q)| i32::from(*c as i8) * i32::from(*q)).sum())
                .collect();
            let exact: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let first = InstructionSet::Portable.run(Values { a: &a, b: &b });
            assert!((f64::from(first) - exact).abs() < 1e-4, "{dims}");
            for set in InstructionSet::supported() {
                let mut products = vec![0; 5];
                set.run(Codes { rows: &codes, skipped: 4, query: &query, products: &mut products });
                assert_eq!(products, plain, "{set:?} {dims}");
                assert_eq!(set.run(Values { a: &a, b: &b }).to_bits(), first.to_bits(), "{set:?} {dims}");
            }
        }
    }

    #[test]
    fn the_largest_products_fit() {
        for dims in [1, 128, 768, 4096, 65_536] {
            let (codes, query) = (vec![127; dims], vec![largest_query(dims); dims]);
            let mut products = [0];
            dot_codes(&codes, 0, &query, &mut products);
            assert_eq!(i64::from(products[0]), 127 * i64::from(query[0]) * dims as i64);
        }
    }
}
