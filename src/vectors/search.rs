//! The exact scan: every code is compared with the query on all cores, and the best candidates again with all their digits.

use std::cell::RefCell;
use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::error::VectorError;
use super::store::{FACTOR_BYTES, VectorStore, unit};
use crate::budget::Work;
use crate::kernels::{dot, dot_codes, largest_query};

/// Bytes of codes that a thread reads at once: they stay in its own cache.
const BLOCK_BYTES: usize = 128 << 10;

/// Most results of one search.
pub const MAX_RESULTS: usize = 10_000;

/// Candidates for each result wanted, and some more: their order by codes is only nearly that by all digits.
const CANDIDATES: usize = 3;
const MORE_CANDIDATES: usize = 64;

/// A stored vector that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Its row.
    pub row: u32,
    /// The mean of its cosines with the positive examples, less that with the negative ones.
    pub score: f32,
}

/// What to look for: the sum of the directions of examples, so that one product with it gives a score.
#[derive(Clone, Debug)]
pub struct Query {
    values: Vec<f32>,
    /// The values as whole numbers, and what to multiply products with them by.
    codes: Vec<i16>,
    factor: f32,
}

impl Query {
    /// A query for what is like `positive` and unlike `negative` examples.
    ///
    /// # Errors
    /// [`VectorError::Query`] without a positive example, for one of other than `dims` dimensions or without a direction, and if
    /// the examples cancel each other.
    pub fn new(dims: usize, positive: &[Vec<f32>], negative: &[Vec<f32>]) -> Result<Self, VectorError> {
        let refused = |detail: String| VectorError::Query { detail };
        if positive.is_empty() {
            return Err(refused("positive: found no example; at least one is needed".to_owned()));
        }
        let mut sums = vec![0.0; dims];
        for (examples, sign, name) in [(positive, 1.0, "positive"), (negative, -1.0, "negative")] {
            for (index, example) in examples.iter().enumerate() {
                let place = format!("{name} example {index}");
                if example.len() != dims {
                    let found = example.len();
                    return Err(refused(format!("{place} has {found} values; {dims}, as the index has, are needed")));
                }
                let unit = unit(example).map_err(|reason| refused(format!("{place}: {reason}")))?;
                let weight = sign / examples.len() as f64;
                sums.iter_mut().zip(unit).for_each(|(sum, value)| *sum += weight * f64::from(value));
            }
        }
        let values: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
        let most = values.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
        if most == 0.0 {
            return Err(refused("the positive and the negative examples cancel each other".to_owned()));
        }
        let factor = most / f32::from(largest_query(dims));
        let codes = values.iter().map(|value| (value / factor).round() as i16).collect();
        Ok(Self { values, codes, factor })
    }
}

/// The `limit` best vectors that `keep` is true for and that score at least `min_score`, the best first; of equal scores the
/// one with the lower row. Blocks, and uses all threads of the kernels.
///
/// # Errors
/// Those of reading, [`VectorError::TooLarge`] beyond [`MAX_RESULTS`], and [`VectorError::Query`] for a query of another store.
pub fn search(
    store: &VectorStore,
    query: &Query,
    (limit, min_score): (usize, f32),
    keep: impl Fn(u32) -> Result<bool, VectorError> + Sync,
) -> Result<Vec<Hit>, VectorError> {
    if limit > MAX_RESULTS {
        return Err(VectorError::TooLarge { what: "limit", found: limit as u64, limit: MAX_RESULTS as u64 });
    }
    if query.values.len() != store.dims() {
        let detail = format!("the query has {} dimensions, and the index {}", query.values.len(), store.dims());
        return Err(VectorError::Query { detail });
    }
    let candidates = limit * CANDIDATES + MORE_CANDIDATES;
    let row_bytes = store.dims() + FACTOR_BYTES;
    let block = (BLOCK_BYTES / row_bytes).max(1);
    let blocks = store.rows().div_ceil(block);
    let check = Work::shared(Work::check);
    let best = (0..blocks)
        .into_par_iter()
        .try_fold(
            || Best::new(candidates),
            |mut best, index| {
                let first = index * block;
                check()?;
                scan(store, query, first, block.min(store.rows() - first), &mut best, &keep)?;
                Ok::<_, VectorError>(best)
            },
        )
        .try_reduce(|| Best::new(candidates), |a, b| Ok(a.join(b)))?;
    let mut hits = best
        .into_hits()
        .into_par_iter()
        .map(|Hit { row, .. }| Ok(Hit { row, score: dot(&query.values, &store.vector(row as usize)?) }))
        .collect::<Result<Vec<Hit>, VectorError>>()?;
    hits.retain(|hit| hit.score >= min_score);
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
    hits.truncate(limit);
    Ok(hits)
}

/// Compares a block of codes with the query.
fn scan(
    store: &VectorStore,
    query: &Query,
    first: usize,
    rows: usize,
    best: &mut Best,
    keep: &(impl Fn(u32) -> Result<bool, VectorError> + Sync),
) -> Result<(), VectorError> {
    thread_local!(static BUFFERS: RefCell<(Vec<u8>, Vec<i32>)> = RefCell::default());
    let row_bytes = store.dims() + FACTOR_BYTES;
    BUFFERS.with_borrow_mut(|(bytes, products)| {
        store.codes(first, rows, bytes)?;
        products.resize(rows, 0);
        dot_codes(bytes, FACTOR_BYTES, &query.codes, products);
        for (index, (row, product)) in bytes.chunks_exact(row_bytes).zip(&*products).enumerate() {
            let factor = row.first_chunk().map_or(0.0, |factor| f32::from_le_bytes(*factor));
            let score = *product as f32 * factor * query.factor;
            // Nearly all rows end here, after one comparison.
            if score < best.bar {
                continue;
            }
            let hit = Hit { row: (first + index) as u32, score };
            if best.would_take(&hit) && keep(hit.row)? {
                best.put(hit);
            }
        }
        Ok(())
    })
}

/// The best hits so far, at most so many.
struct Best {
    most: usize,
    /// Hits with a lower score are not among the best.
    bar: f32,
    /// The worst one on top.
    heap: BinaryHeap<Worst>,
}

/// A hit, in the order of which the worst is the greatest.
struct Worst(Hit);

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.0.score.total_cmp(&self.0.score).then(self.0.row.cmp(&other.0.row))
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Worst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Worst {}

impl Best {
    fn new(most: usize) -> Self {
        Self { most, bar: f32::NEG_INFINITY, heap: BinaryHeap::new() }
    }

    fn would_take(&self, hit: &Hit) -> bool {
        self.heap.len() < self.most || self.heap.peek().is_some_and(|worst| Worst(*hit) < *worst)
    }

    fn put(&mut self, hit: Hit) {
        if self.would_take(&hit) {
            if self.heap.len() == self.most {
                self.heap.pop();
            }
            self.heap.push(Worst(hit));
            if let Some(Worst(worst)) = self.heap.peek().filter(|_| self.heap.len() == self.most) {
                self.bar = worst.score;
            }
        }
    }

    fn join(mut self, other: Self) -> Self {
        other.heap.into_iter().for_each(|Worst(hit)| self.put(hit));
        self
    }

    fn into_hits(self) -> Vec<Hit> {
        self.heap.into_iter().map(|Worst(hit)| hit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::VectorWriter;

    /// Reproducible numbers between -1 and 1.
    fn numbers(seed: u32) -> impl FnMut() -> f32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        }
    }

    fn vectors(rows: usize, dims: usize) -> Vec<Vec<f32>> {
        let mut next = numbers(7);
        (0..rows).map(|_| (0..dims).map(|_| next()).collect()).collect()
    }

    fn stored(vectors: &[Vec<f32>]) -> (tempfile::TempDir, VectorStore) {
        let directory = tempfile::tempdir().unwrap();
        let dims = vectors[0].len();
        let mut writer = VectorWriter::create(directory.path(), dims).unwrap();
        vectors.iter().for_each(|vector| writer.add(vector).unwrap());
        writer.finish().unwrap();
        let store = VectorStore::open(directory.path(), dims).unwrap();
        (directory, store)
    }

    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn the_best_are_those_of_a_plain_loop() {
        for (rows, dims) in [(5000, 128), (3000, 33), (100, 1), (1, 768)] {
            let vectors = vectors(rows, dims);
            let (_directory, store) = stored(&vectors);
            let example = vectors[rows / 2].clone();
            let mut wanted: Vec<(usize, f64)> = vectors.iter().map(|vector| cosine(vector, &example)).enumerate().collect();
            wanted.sort_by(|a, b| (b.1 as f32).total_cmp(&(a.1 as f32)).then(a.0.cmp(&b.0)));
            let query = Query::new(dims, &[example], &[]).unwrap();
            let hits = search(&store, &query, (100, -1.0), |_| Ok(true)).unwrap();
            assert_eq!(hits.len(), rows.min(100));
            for (hit, (_, score)) in hits.iter().zip(&wanted) {
                assert!((f64::from(hit.score) - score).abs() < 1e-6, "{dims} dimensions: {hit:?}, {score}");
            }
            assert!((hits[0].score - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn equal_scores_come_in_the_order_of_their_rows() {
        let example = vec![0.6, -0.8, 0.0];
        let rows: Vec<Vec<f32>> =
            (0..40_000).map(|row| if row % 3 == 0 { vec![3.0, -4.0, 0.0] } else { vec![1.0, 0.0, 0.0] }).collect();
        let (_directory, store) = stored(&rows);
        let query = Query::new(3, &[example], &[]).unwrap();
        for _ in 0..3 {
            let hits = search(&store, &query, (1000, 0.9), |_| Ok(true)).unwrap();
            let found: Vec<u32> = hits.iter().map(|hit| hit.row).collect();
            assert_eq!(found, (0..1000).map(|index| 3 * index).collect::<Vec<u32>>());
        }
        let kept = search(&store, &query, (2, -1.0), |row| Ok(row % 2 == 1)).unwrap();
        assert_eq!(kept.iter().map(|hit| hit.row).collect::<Vec<_>>(), [3, 9]);
    }

    #[test]
    fn what_negative_examples_are_like_comes_later() {
        let rows = vec![vec![1.0, 1.0, 0.0], vec![1.0, 0.0, 1.0], vec![0.0, 0.0, 1.0]];
        let (_directory, store) = stored(&rows);
        let query = Query::new(3, &[vec![2.0, 0.0, 0.0]], &[vec![0.0, 0.0, 5.0]]).unwrap();
        let hits = search(&store, &query, (3, f32::NEG_INFINITY), |_| Ok(true)).unwrap();
        assert_eq!(hits.iter().map(|hit| hit.row).collect::<Vec<_>>(), [0, 1, 2]);
        assert!((hits[0].score - 0.5_f32.sqrt()).abs() < 1e-6 && hits[1].score.abs() < 1e-6 && hits[2].score == -1.0);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let query =
            |positive: &[Vec<f32>], negative: &[Vec<f32>]| Query::new(2, positive, negative).unwrap_err().to_string();
        let (one, nan) = (vec![1.0, 2.0], vec![1.0, f32::NAN]);
        assert!(query(&[], std::slice::from_ref(&one)).contains("at least one"));
        assert!(query(&[vec![1.0]], &[]).contains("has 1 values; 2"));
        assert!(query(&[one.clone(), nan], &[]).contains("positive example 1: value 1 is NaN"));
        assert!(query(&[vec![0.0, 0.0]], &[]).contains("no direction"));
        assert!(query(std::slice::from_ref(&one), std::slice::from_ref(&one)).contains("cancel"));
        let directory = tempfile::tempdir().unwrap();
        let mut writer = VectorWriter::create(directory.path(), 2).unwrap();
        writer.add(&one).unwrap();
        assert!(writer.add(&[1.0]).unwrap_err().to_string().contains("row 1"));
        assert!(writer.add(&[f32::INFINITY, 0.0]).unwrap_err().to_string().contains("row 1"));
        writer.finish().unwrap();
        let store = VectorStore::open(directory.path(), 2).unwrap();
        let query = Query::new(2, &[one], &[]).unwrap();
        assert!(search(&store, &query, (MAX_RESULTS + 1, 0.0), |_| Ok(true)).is_err());
        assert!(VectorStore::open(directory.path(), 3).is_err());
    }

    #[test]
    fn a_file_that_is_cut_while_it_is_searched_is_an_error() {
        let vectors = vectors(1000, 64);
        let (directory, store) = stored(&vectors);
        let query = Query::new(64, &vectors[..1], &[]).unwrap();
        for path in VectorStore::paths(directory.path()) {
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(10).unwrap();
        }
        let error = search(&store, &query, (10, 0.0), |_| Ok(true)).unwrap_err();
        assert!(matches!(error, VectorError::Damaged { .. }), "{error}");
    }
}
