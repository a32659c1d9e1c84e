//! Layers that work on single rows, run one after the other for a block of rows that stays in the cache, so intermediate
//! results are neither written to memory nor read from it.
//!
//! A product whose result is the next product's input writes it in the packed form that the next product reads.

mod task;

use rayon::prelude::*;

use self::task::RowsTask;
use super::LayerActivation;
use super::factors::Groups;
use super::gemm::{PackedMatrix, share};
use super::memory::Out;
use super::simd::InstructionSet;

/// Words between two products that a task keeps, and the least groups of rows in a task: every task reads all weights once.
const JOB_WORDS: usize = 200_000;
const LEAST_GROUPS: usize = 10;

/// One step in the processing of every row.
#[derive(Debug, Clone, Copy)]
pub enum RowStep<'a> {
    /// `act(row Wᵀ + bias + residual)`; the residual is `[rows, outputs]`.
    Product {
        /// W and the bias, packed.
        matrix: &'a PackedMatrix,
        /// Added before the activation.
        residual: Option<Residual<'a>>,
        /// Applied to the sum with the residual.
        activation: LayerActivation,
    },
    /// `residual + norm(row)`, as [`super::layer_norm`] computes it. Without a residual, the result of the previous norm is
    /// added.
    Norm {
        /// Factors of the normalised values.
        weight: &'a [f32],
        /// Added to the scaled values.
        bias: &'a [f32],
        /// Added to the variance.
        epsilon: f32,
        /// Added to the result.
        residual: Option<Residual<'a>>,
    },
    /// Makes the present rows one of the results.
    Keep,
}

/// The values that a step adds to its rows.
#[derive(Debug, Clone, Copy)]
pub enum Residual<'a> {
    /// `[rows, width]`
    Values(&'a [f32]),
    /// The values that the first result's memory holds before it is overwritten. Half as much memory then passes through the
    /// cache.
    Replaced,
}

/// Steps that are faster run together than one by one.
#[derive(Debug)]
pub struct RowPlan<'a> {
    steps: &'a [RowStep<'a>],
    rows: usize,
    width: usize,
    /// Values in each result.
    kept: Vec<usize>,
    /// Whether the first result replaces a residual.
    replaces: bool,
    jobs: usize,
    groups: Groups,
    instructions: InstructionSet,
}

impl<'a> RowPlan<'a> {
    /// Plans the steps for `rows` rows of `width` values. `None` if running them one by one is as fast: with tile registers,
    /// whose products already finish their sums row by row, and for so few rows that threads would be idle or weights would
    /// be read too often.
    ///
    /// # Panics
    /// If the sizes of two steps do not match, the first norm has no residual, or the first result replaces a residual that
    /// has another width or is read after it.
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
        let (factors, instructions, groups) = (first.factors(), first.instructions(), first.groups());
        let alike = matrices()
            .all(|m| m.factors() == factors && m.instructions() == instructions && m.inputs() > 0 && m.outputs() > 0);
        if !alike || factors.tiled() || rows < threads * LEAST_GROUPS * groups.full {
            return None;
        }
        let most = JOB_WORDS / factors.padded_words(widest) / groups.full * groups.full;
        let jobs = rows.div_ceil(most.max(LEAST_GROUPS * groups.full)).next_multiple_of(threads);
        Some(Self { steps, rows, width, kept, replaces: replaced.is_some(), jobs, groups, instructions })
    }

    /// Runs the steps on `x` [rows, width] and returns their results. The first result overwrites `replaced`, if given.
    ///
    /// # Panics
    /// If a length differs from the plan, or the plan replaces a residual and `replaced` is `None`.
    pub fn run(&self, x: &[f32], replaced: Option<Vec<f32>>) -> Vec<Vec<f32>> {
        assert_eq!(x.len(), self.rows * self.width, "x is [rows, width]");
        match &replaced {
            Some(replaced) => assert_eq!(Some(&replaced.len()), self.kept.first(), "the first result is as large"),
            None => assert!(!self.replaces, "a residual is there to be replaced"),
        }
        // SAFETY: the tasks cover every row once, and every step writes all values of its rows.
        unsafe {
            Out::collect_all(&self.kept, replaced, |kept| {
                (0..self.jobs).into_par_iter().with_max_len(1).for_each(|job| {
                    let rows = share(self.rows, self.groups.full, job, self.jobs);
                    self.instructions.run(RowsTask { x, width: self.width, steps: self.steps, rows, kept });
                });
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use crate::{Precision, layer_norm, reference};

    #[test]
    fn steps_in_one_go_give_what_they_give_one_by_one() {
        let sizes = [(1, 3, 5), (400, 40, 70), (1300, 17, 96), (700, 128, 48)];
        let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        // Sums in another order differ in their last bit, which sometimes changes the bf16 value that they are rounded to in
        // the next step.
        let tolerances = [(Precision::F32, 3e-6), (Precision::Bf16, 1e-2)];
        for (instructions, (precision, tolerance)) in
            InstructionSet::supported().into_iter().flat_map(|instructions| tolerances.map(|t| (instructions, t)))
        {
            for (rows, width, hidden) in if cfg!(miri) { &sizes[..1] } else { &sizes[..] }.iter().copied() {
                let matrix = |outputs: usize, inputs: usize, seed: u64| {
                    let (weight, bias) = (reference::noise(outputs * inputs, seed), reference::noise(outputs, seed + 1));
                    PackedMatrix::with_instructions(instructions, &weight, &bias, outputs, inputs, precision)
                };
                let product = |matrix, activation| RowStep::Product { matrix, residual: None, activation };
                let (first, expand, contract) =
                    (matrix(width, width, 1), matrix(hidden, width, 3), matrix(width, hidden, 5));
                let x = reference::noise(rows * width, 7);
                let (weight, bias) = (reference::noise(width, 8), reference::noise(width, 9));
                let norm = |residual| RowStep::Norm { weight: &weight, bias: &bias, epsilon: 1e-5, residual };
                let steps = |residual| {
                    [
                        product(&first, LayerActivation::None),
                        norm(Some(residual)),
                        product(&expand, LayerActivation::Gelu),
                        product(&contract, LayerActivation::None),
                        norm(None),
                        RowStep::Keep,
                        RowStep::Product {
                            matrix: &first,
                            residual: Some(Residual::Values(&x)),
                            activation: LayerActivation::Relu,
                        },
                        RowStep::Keep,
                        product(&expand, LayerActivation::None),
                        RowStep::Keep,
                    ]
                };
                // A pool of two threads, for which there are enough rows whatever the machine.
                let run = |residual, replaced| {
                    let steps = steps(residual);
                    threads.install(|| RowPlan::new(rows, width, &steps).map(|plan| plan.run(&x, replaced)))
                };
                let Some(together) = run(Residual::Values(&x), None) else {
                    assert!(
                        rows < 400 || first.factors().tiled(),
                        "{instructions:?} {precision:?} {rows}x{width}x{hidden}"
                    );
                    continue;
                };
                assert_eq!(run(Residual::Replaced, Some(x.clone())).as_ref(), Some(&together));
                let normed = layer_norm(&first.forward(&x, None, LayerActivation::None), Some(&x), &weight, &bias, 1e-5);
                let branch =
                    contract.forward(&expand.forward(&normed, None, LayerActivation::Gelu), None, LayerActivation::None);
                let result = layer_norm(&branch, Some(&normed), &weight, &bias, 1e-5);
                let second = first.forward(&result, Some(&x), LayerActivation::Relu);
                let third = expand.forward(&second, None, LayerActivation::None);
                let apart = [result, second, third];
                for (a, b) in together.iter().zip(&apart) {
                    reference::assert_close(
                        a,
                        b,
                        tolerance,
                        &format!("{instructions:?} {precision:?} {rows}x{width}x{hidden}"),
                    );
                }
            }
        }
    }
}
