//! Layers that see one row at a time, one after the other, for a block of rows that stays in the cache: what lies between two of them
//! is neither written to memory nor read from it.
//!
//! A product whose result the next product reads writes it in the form that it is multiplied in.

use std::ops::Range;

use rayon::prelude::*;

use super::Activation;
use super::factors::{CHUNK, Groups};
use super::gemm::{Block, Dense, Left, PackedMatrix, Piece, Target, pack_rows, share};
use super::memory::{Out, Scratch};
use super::norm::Norm;
use super::simd::{Level, Simd, Task};

/// Words between two products that a job keeps, and the groups of rows it takes at least: weights are read once a job.
const JOB_WORDS: usize = 200_000;
const LEAST_GROUPS: usize = 10;

/// What becomes of every row.
#[derive(Debug, Clone, Copy)]
pub enum RowStep<'a> {
    /// act(row Wᵀ + bias + residual); the residual is `[rows, outputs]`.
    Product {
        /// W and the bias.
        matrix: &'a PackedMatrix,
        /// Added before the activation.
        residual: Option<Residual<'a>>,
        /// Applied to the sum.
        activation: Activation,
    },
    /// residual + norm(row), as [`super::layer_norm`] computes it; without a residual, what the norm before this one gave is added.
    Norm {
        /// Factors of the normalised values.
        weight: &'a [f32],
        /// Added to them.
        bias: &'a [f32],
        /// Added to the variance.
        epsilon: f32,
        /// Added to the result.
        residual: Option<Residual<'a>>,
    },
    /// The rows as they are now become a result.
    Keep,
}

/// What is added to every row.
#[derive(Debug, Clone, Copy)]
pub enum Residual<'a> {
    /// `[rows, width]`
    Values(&'a [f32]),
    /// What the memory of the first result holds before: half as much passes through the cache as if the result had memory of its own.
    Replaced,
}

/// Steps that are better run in one go than one by one.
#[derive(Debug)]
pub struct RowPlan<'a> {
    steps: &'a [RowStep<'a>],
    rows: usize,
    width: usize,
    /// Lengths of the results.
    kept: Vec<usize>,
    /// Whether the first of them replaces a residual.
    replaces: bool,
    jobs: usize,
    groups: Groups,
    level: Level,
}

impl<'a> RowPlan<'a> {
    /// The steps for `rows` rows of `width` values. None where running them one by one is as fast: in tiles, whose products finish
    /// their sums row by row as it is, and for so few rows that threads would be idle, or weights read too often.
    ///
    /// # Panics
    /// If the sizes of two steps do not fit together, the first norm has no residual, or the first result replaces a residual of
    /// another width or one that is read after it.
    pub fn new(rows: usize, width: usize, steps: &'a [RowStep<'a>]) -> Option<Self> {
        let (mut now, mut normed, mut widest, mut replaced) = (width, None, width, None);
        let mut kept = Vec::new();
        let mut add = |residual: Option<Residual<'_>>, now: usize, kept: &[usize]| match residual {
            Some(Residual::Values(values)) => assert_eq!(values.len(), rows * now, "a residual is as large as the rows"),
            Some(Residual::Replaced) => {
                assert!(
                    kept.is_empty() && replaced.is_none_or(|width| width == now),
                    "the first result replaces a residual"
                );
                replaced = Some(now);
            }
            None => {}
        };
        for step in steps {
            match step {
                RowStep::Product { matrix, residual, .. } => {
                    assert_eq!(now, matrix.inputs(), "a product reads the row before it");
                    now = matrix.outputs();
                    widest = widest.max(now);
                    add(*residual, now, &kept);
                }
                RowStep::Norm { weight, bias, residual, .. } => {
                    assert!(now > 0 && weight.len() == now && bias.len() == now, "a norm is as wide as the row before it");
                    assert!(residual.is_some() || normed == Some(now), "the first norm has a residual");
                    add(*residual, now, &kept);
                    normed = Some(now);
                }
                RowStep::Keep => kept.push(rows * now),
            }
        }
        assert!(
            replaced.is_none_or(|width| kept.first() == Some(&(rows * width))),
            "a replaced residual is as wide as the result"
        );
        let made = |index: usize| index > 0 && !matches!(steps[index - 1], RowStep::Keep);
        assert!(
            (0..steps.len()).all(|index| made(index) || !matches!(steps[index], RowStep::Keep)),
            "only results are kept"
        );
        let matrices = || {
            steps.iter().filter_map(|step| if let RowStep::Product { matrix, .. } = step { Some(*matrix) } else { None })
        };
        let threads = rayon::current_num_threads();
        let first = matrices().next()?;
        let (factors, level, groups) = (first.factors(), first.level(), first.groups());
        let alike = matrices().all(|m| m.factors() == factors && m.level() == level && m.inputs() > 0 && m.outputs() > 0);
        if !alike || factors.tiled() || rows < threads * LEAST_GROUPS * groups.full {
            return None;
        }
        let most = JOB_WORDS / factors.padded_words(widest) / groups.full * groups.full;
        let jobs = rows.div_ceil(most.max(LEAST_GROUPS * groups.full)).next_multiple_of(threads);
        Some(Self { steps, rows, width, kept, replaces: replaced.is_some(), jobs, groups, level })
    }

    /// What the steps keep of `x` [rows, width]. The first result takes the place of `replaced`, if there is that.
    ///
    /// # Panics
    /// If a length is another than was planned for, or nothing is there to be replaced.
    pub fn run(&self, x: &[f32], replaced: Option<Vec<f32>>) -> Vec<Vec<f32>> {
        assert_eq!(x.len(), self.rows * self.width, "x is [rows, width]");
        match &replaced {
            Some(replaced) => assert_eq!(Some(&replaced.len()), self.kept.first(), "the first result is as large"),
            None => assert!(!self.replaces, "a residual is there to be replaced"),
        }
        // SAFETY: the jobs cover every row once, and every step writes all values of its rows.
        unsafe {
            Out::collect_all(&self.kept, replaced, |kept| {
                (0..self.jobs).into_par_iter().with_max_len(1).for_each(|job| {
                    let rows = share(self.rows, self.groups.full, job, self.jobs);
                    self.level.run(Job { x, width: self.width, steps: self.steps, rows, kept });
                });
            })
        }
    }
}

/// All steps for some rows.
struct Job<'a> {
    x: &'a [f32],
    width: usize,
    steps: &'a [RowStep<'a>],
    rows: Range<usize>,
    kept: &'a [Out<'a>],
}

impl Residual<'_> {
    /// Where it begins for some rows of `width` values.
    #[inline(always)]
    fn of(self, rows: &Range<usize>, width: usize, kept: &[Out<'_>]) -> *const f32 {
        match self {
            Self::Values(values) => values[rows.start * width..rows.end * width].as_ptr(),
            Self::Replaced => kept[0].at(rows.start * width, rows.len() * width),
        }
    }
}

/// Where the rows of a job lie.
#[derive(Clone, Copy)]
struct Rows {
    values: *const f32,
    width: usize,
}

impl Task for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Job { x, width, steps, rows, kept } = self;
        if rows.is_empty() {
            return;
        }
        let count = rows.len();
        let mut now = Rows { values: x[rows.start * width..rows.end * width].as_ptr(), width };
        // A product's sums, until a norm has read them; words for the next product; results of norms, which later ones may add.
        let mut sums: Option<Scratch> = None;
        let mut words: Option<Words> = None;
        let mut held: Vec<Scratch> = Vec::new();
        let mut normed = now;
        let mut keeping = 0;
        for (index, step) in steps.iter().enumerate() {
            let kept_next = matches!(steps.get(index + 1), Some(RowStep::Keep));
            match *step {
                RowStep::Keep => keeping += 1,
                RowStep::Product { matrix, residual, activation } => {
                    let left = match words.take() {
                        Some(words) => words,
                        // SAFETY: `now` are values of these rows.
                        None => unsafe { pack(s, matrix, now, count) },
                    };
                    let outputs = matrix.outputs();
                    let residual = residual.map(|residual| residual.of(&rows, outputs, kept));
                    let product = Product { matrix, left: &left, count, activation };
                    // A result that is kept is written where it stays.
                    if kept_next {
                        let out = kept[keeping].part(rows.start * outputs, count * outputs);
                        product.run(s, Target::Matrix { out, residual });
                        now = Rows { values: out.at(0, 0), width: outputs };
                    } else if residual.is_none() && matches!(steps.get(index + 1), Some(RowStep::Product { .. })) {
                        words = Some(product.further(s));
                    } else {
                        let sums = sums.insert(Scratch::take(count * outputs));
                        product.run(s, Target::Matrix { out: Out::over(sums), residual });
                        now = Rows { values: sums.as_ptr(), width: outputs };
                    }
                }
                RowStep::Norm { weight, bias, epsilon, residual } => {
                    let width = weight.len();
                    let to = if kept_next {
                        kept[keeping].at(rows.start * width, count * width)
                    } else {
                        let mut scratch = Scratch::take(count * width);
                        let to = scratch.as_mut_ptr();
                        held.push(scratch);
                        to
                    };
                    let residual = residual.map_or(normed.values, |residual| residual.of(&rows, width, kept));
                    let norm = Norm { weight, bias, epsilon };
                    for row in 0..count {
                        // SAFETY: both have these rows, which `RowPlan` has checked; the result belongs to this job.
                        unsafe {
                            let x = std::slice::from_raw_parts(now.values.add(row * width), width);
                            norm.run(s, x, Some(residual.add(row * width)), to.add(row * width));
                        }
                    }
                    now = Rows { values: to, width };
                    normed = now;
                }
            }
        }
    }
}

/// Rows as the left-hand side of a product, [group][chunk][row in group][CHUNK].
struct Words {
    words: Scratch,
    row_words: usize,
}

/// # Safety
/// `count` rows must be readable.
#[inline(always)]
unsafe fn pack<S: Simd>(s: S, matrix: &PackedMatrix, rows: Rows, count: usize) -> Words {
    let factors = matrix.factors();
    let row_words = factors.padded_words(rows.width);
    let mut words = Scratch::take(factors.groups(S::ROWS).padded(count) * row_words);
    // SAFETY: the caller's promise.
    let values = unsafe { std::slice::from_raw_parts(rows.values, count * rows.width) };
    for units in matrix.blocks() {
        let before = units.start * factors.unit_chunks() * CHUNK;
        let piece = Piece { rows: 0..count, units, row_words, before };
        pack_rows(s, factors, &Dense { values, width: rows.width }, rows.width, piece, &mut words);
    }
    Words { words, row_words }
}

/// A product over a job's rows, counted from its first.
struct Product<'a> {
    matrix: &'a PackedMatrix,
    left: &'a Words,
    count: usize,
    activation: Activation,
}

impl Product<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, to: Target<'_>) {
        for units in self.matrix.blocks() {
            self.multiply(s, units, to);
        }
    }

    /// As words for the next product: all of the inner dimension at once, because sums are rounded there.
    #[inline(always)]
    fn further<S: Simd>(&self, s: S) -> Words {
        let factors = self.matrix.factors();
        // Whole panels are written.
        let row_words = factors.padded_words(self.matrix.outputs().next_multiple_of(2 * S::LANES));
        let mut words = Scratch::take(factors.groups(S::ROWS).padded(self.count) * row_words);
        self.multiply(s, 0..self.matrix.units(), Target::Further { to: words.as_mut_ptr(), factors, row_words });
        Words { words, row_words }
    }

    #[inline(always)]
    fn multiply<S: Simd>(&self, s: S, units: Range<usize>, to: Target<'_>) {
        let Self { matrix, left, count, activation } = *self;
        let before = units.start * matrix.factors().unit_chunks() * CHUNK;
        let left = Left { words: &left.words, row_words: left.row_words, before };
        let panels = 0..matrix.outputs().div_ceil(2 * S::LANES);
        Block { matrix, left, rows: 0..count, panels, units, activation, to }.multiply(s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::Level;
    use crate::kernels::{Precision, layer_norm, reference};

    #[test]
    fn steps_in_one_go_give_what_they_give_one_by_one() {
        let sizes = [(1, 3, 5), (400, 40, 70), (1300, 17, 96), (700, 128, 48)];
        let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        // Sums in another order differ in their last bit, and then here and there in the bf16 value they are rounded to, step by step.
        let tolerances = [(Precision::F32, 3e-6), (Precision::Bf16, 1e-2)];
        for (level, (precision, tolerance)) in
            Level::supported().into_iter().flat_map(|level| tolerances.map(|t| (level, t)))
        {
            for (rows, width, hidden) in if cfg!(miri) { &sizes[..1] } else { &sizes[..] }.iter().copied() {
                let matrix = |outputs: usize, inputs: usize, seed: u64| {
                    let (weight, bias) = (reference::noise(outputs * inputs, seed), reference::noise(outputs, seed + 1));
                    PackedMatrix::for_level(level, &weight, &bias, outputs, inputs, precision)
                };
                let product = |matrix, activation| RowStep::Product { matrix, residual: None, activation };
                let (first, expand, contract) =
                    (matrix(width, width, 1), matrix(hidden, width, 3), matrix(width, hidden, 5));
                let x = reference::noise(rows * width, 7);
                let (weight, bias) = (reference::noise(width, 8), reference::noise(width, 9));
                let norm = |residual| RowStep::Norm { weight: &weight, bias: &bias, epsilon: 1e-5, residual };
                let steps = |residual| {
                    [
                        product(&first, Activation::None),
                        norm(Some(residual)),
                        product(&expand, Activation::Gelu),
                        product(&contract, Activation::None),
                        norm(None),
                        RowStep::Keep,
                        RowStep::Product {
                            matrix: &first,
                            residual: Some(Residual::Values(&x)),
                            activation: Activation::Relu,
                        },
                        RowStep::Keep,
                        product(&expand, Activation::None),
                        RowStep::Keep,
                    ]
                };
                // Rows are enough for two threads, however many this machine has.
                let run = |residual, replaced| {
                    let steps = steps(residual);
                    threads.install(|| RowPlan::new(rows, width, &steps).map(|plan| plan.run(&x, replaced)))
                };
                let Some(together) = run(Residual::Values(&x), None) else {
                    assert!(rows < 400 || first.factors().tiled(), "{level:?} {precision:?} {rows}x{width}x{hidden}");
                    continue;
                };
                assert_eq!(run(Residual::Replaced, Some(x.clone())).as_ref(), Some(&together));
                let normed = layer_norm(&first.forward(&x, None, Activation::None), Some(&x), &weight, &bias, 1e-5);
                let branch = contract.forward(&expand.forward(&normed, None, Activation::Gelu), None, Activation::None);
                let result = layer_norm(&branch, Some(&normed), &weight, &bias, 1e-5);
                let second = first.forward(&result, Some(&x), Activation::Relu);
                let third = expand.forward(&second, None, Activation::None);
                let apart = [result, second, third];
                for (a, b) in together.iter().zip(&apart) {
                    reference::assert_close(a, b, tolerance, &format!("{level:?} {precision:?} {rows}x{width}x{hidden}"));
                }
            }
        }
    }
}
