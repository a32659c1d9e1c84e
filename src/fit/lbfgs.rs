//! L-BFGS (Nocedal 1980) with a bisection for the weak Wolfe conditions (Lewis and Overton 2013): minimises smooth convex functions. The
//! better the curvature is known beforehand, the fewer steps it takes.

use std::collections::VecDeque;

/// Pairs of steps and changes of the gradient that stand for the curvature, as in scikit-learn.
const MEMORY: usize = 10;
/// How much of the promised decrease a step must bring.
const DECREASE: f64 = 1e-4;
/// How much of the slope may be left after a step.
const SLOPE_LEFT: f64 = 0.9;
/// Halvings of a step before rounding is taken to be in the way.
const MAX_TRIALS: usize = 60;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    /// Largest entry of the gradient at the minimum.
    pub(super) gradient: f64,
    pub(super) iterations: usize,
}

/// Steps and changes of the gradient, with the products of both.
type Pairs = VecDeque<(Vec<f64>, Vec<f64>, f64)>;

/// Moves `point` to the minimum of a function that returns its value and writes its gradient. `None` from the function ends it.
/// `divide` divides a vector by a guess at the function's curvature; it may leave it as it is.
pub(super) fn minimise(
    point: &mut Vec<f64>,
    tolerance: Tolerance,
    divide: impl Fn(&mut [f64]),
    mut function: impl FnMut(&[f64], &mut [f64]) -> Option<f64>,
) -> Option<()> {
    let mut gradient = vec![0.0; point.len()];
    let mut value = function(point, &mut gradient)?;
    let mut pairs = Pairs::with_capacity(MEMORY);
    // By how much the guess is too small.
    let mut scale = 1.0;
    for iteration in 0..tolerance.iterations {
        if gradient.iter().all(|entry| entry.abs() <= tolerance.gradient) {
            break;
        }
        let mut direction = descent(&gradient, &pairs, scale, &divide);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            // Rounding has spoilt the curvature: begin again with the steepest descent.
            pairs.clear();
            scale = 1.0;
            direction = gradient.iter().map(|entry| -entry).collect();
            slope = -dot(&gradient, &gradient);
        }
        let (mut low, mut high) = (0.0, f64::INFINITY);
        // The first direction has no scale yet.
        let mut step = if iteration == 0 { 1.0 / dot(&direction, &direction).sqrt().max(1.0) } else { 1.0 };
        let (mut next, mut next_gradient) = (point.clone(), vec![0.0; point.len()]);
        let mut accepted = None;
        for _ in 0..MAX_TRIALS {
            next.iter_mut().zip(&*point).zip(&direction).for_each(|((next, at), along)| *next = at + step * along);
            let next_value = function(&next, &mut next_gradient)?;
            // What is no number is not lower either.
            let is_lower = next_value <= value + DECREASE * step * slope;
            if !is_lower {
                high = step;
            } else if dot(&next_gradient, &direction) < SLOPE_LEFT * slope {
                low = step;
            } else {
                accepted = Some(next_value);
                break;
            }
            step = if high.is_finite() { (low + high) / 2.0 } else { 2.0 * low };
        }
        // Nothing that float64 can tell apart is lower.
        let Some(next_value) = accepted else { break };
        let moved: Vec<f64> = next.iter().zip(&*point).map(|(next, at)| next - at).collect();
        let turned: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(next, at)| next - at).collect();
        let curvature = dot(&moved, &turned);
        if curvature > f64::EPSILON * dot(&turned, &turned) {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            let mut divided = turned.clone();
            divide(&mut divided);
            scale = curvature / dot(&turned, &divided);
            pairs.push_back((moved, turned, curvature));
        }
        (*point, gradient, value) = (next, next_gradient, next_value);
    }
    Some(())
}

/// The two-loop recursion: minus the inverse of the curvature, as far as it is known, times the gradient.
fn descent(gradient: &[f64], pairs: &Pairs, scale: f64, divide: &impl Fn(&mut [f64])) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|entry| -entry).collect();
    let mut factors = Vec::with_capacity(pairs.len());
    for (moved, turned, curvature) in pairs.iter().rev() {
        let factor = dot(moved, &direction) / curvature;
        add(&mut direction, -factor, turned);
        factors.push(factor);
    }
    divide(&mut direction);
    direction.iter_mut().for_each(|entry| *entry *= scale);
    for ((moved, turned, curvature), factor) in pairs.iter().zip(factors.into_iter().rev()) {
        let correction = dot(turned, &direction) / curvature;
        add(&mut direction, factor - correction, moved);
    }
    direction
}

/// The sum of products, in eight sums that a processor can form side by side.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let (a_parts, b_parts) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a_parts.remainder().iter().zip(b_parts.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0; LANES];
    for (a, b) in a_parts.zip(b_parts) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    sums.iter().sum::<f64>() + rest
}

/// `to += factor * values`
pub(super) fn add(to: &mut [f64], factor: f64, values: &[f64]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += factor * value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance { gradient: 1e-10, iterations: 500 };

    #[test]
    fn a_narrow_valley_is_followed_to_its_end() {
        // Axes whose curvatures differ by a factor of a hundred.
        let mut point = vec![3.0; 20];
        let curvature = |i: usize| 10f64.powf(i as f64 * 2.0 / 19.0);
        minimise(
            &mut point,
            TOLERANCE,
            |_| (),
            |x, gradient| {
                gradient.iter_mut().enumerate().for_each(|(i, entry)| *entry = curvature(i) * (x[i] - 1.0));
                Some((0..20).map(|i| 0.5 * curvature(i) * (x[i] - 1.0).powi(2)).sum())
            },
        );
        assert!(point.iter().all(|x| (x - 1.0).abs() < 1e-9), "{point:?}");
    }

    #[test]
    fn a_function_that_gives_up_ends_it() {
        let mut calls = 0;
        let ended = minimise(
            &mut vec![1.5],
            TOLERANCE,
            |_| (),
            |x, gradient| {
                calls += 1;
                gradient[0] = 4.0 * x[0].powi(3);
                (calls < 4).then(|| x[0].powi(4))
            },
        );
        assert_eq!((ended, calls), (None, 4));
    }
}
