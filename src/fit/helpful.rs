//! Which places to label next: those that a model is unsure of and that differ from each other (uncertainty with the farthest-point
//! rule of core-set selection, Sener and Savarese 2018).

use super::logistic::softmax;
use super::scores::likeliest;
use super::standard::Standard;

/// How unsure the probabilities of classes are, one of which is there, and the likeliest: from 0 to 1, where two are equally likely.
pub fn doubt_between(mut probabilities: Vec<f64>) -> (f64, usize) {
    let best = likeliest(&probabilities);
    let most = std::mem::take(&mut probabilities[best]);
    (1.0 - (most - probabilities[likeliest(&probabilities)]), best)
}

/// How unsure the probabilities of categories are, each of which may be there, and the likeliest one that is: from 0 to 1, where the
/// chances of one are even.
pub fn doubt_of_each(probabilities: &[f64]) -> (f64, Option<usize>) {
    // 1 less the distance of its probability from that of its absence.
    let doubt = |probability: &f64| 1.0 - (2.0 * probability - 1.0).abs();
    let best = likeliest(probabilities);
    (probabilities.iter().map(doubt).fold(0.0, f64::max), (probabilities[best] >= 0.5).then_some(best))
}

/// The probabilities of classes, one of which is there, that a linear head gives with these logits.
pub fn chances_between(mut logits: Vec<f64>) -> Vec<f64> {
    softmax(&mut logits);
    logits
}

/// The probabilities of categories, each of which may be there, that a linear head gives with these logits.
pub fn chances_of_each(logits: &[f64]) -> Vec<f64> {
    logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect()
}

/// The indices of up to `count` candidates with `features`, `[candidates, channels]`, whose labels would help most, the most helpful
/// first. The first is the one of most `uncertainty` (0 to 1, one for each candidate); each next one has the greatest product of
/// uncertainty and distance to the nearest one that was chosen before, or of equal products the greatest distance. Of equals, the first
/// is taken.
pub fn most_helpful(features: &[f32], channels: usize, uncertainty: &[f64], count: usize) -> Vec<usize> {
    let rows: Vec<usize> = (0..uncertainty.len()).collect();
    let standardised = Standard::of(features, channels, &rows).apply(features, &rows);
    let row = |index: usize| &standardised[index * channels..][..channels];
    let distance = |a: usize, b: usize| row(a).iter().zip(row(b)).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let mut nearest = vec![f64::INFINITY; uncertainty.len()];
    let mut chosen = Vec::with_capacity(count.min(uncertainty.len()));
    while chosen.len() < count.min(uncertainty.len()) {
        // Infinity times nothing is no number.
        let help = |index: usize| if chosen.is_empty() { uncertainty[index] } else { uncertainty[index] * nearest[index] };
        let left = rows.iter().copied().filter(|index| nearest[*index] > 0.0);
        // The last of equals is the maximum: from the end, that is the first.
        // Where the model is sure of all, they differ from each other at least.
        let better = |a: &usize, b: &usize| help(*a).total_cmp(&help(*b)).then(nearest[*a].total_cmp(&nearest[*b]));
        let Some(next) = left.rev().max_by(better) else { break };
        for (index, nearest) in nearest.iter_mut().enumerate() {
            *nearest = nearest.min(distance(index, next));
        }
        chosen.push(next);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unsure_and_different_comes_first() {
        // Three alike and unsure, one far away and a little unsure, one far away and sure.
        let features = [0.0f32, 0.0, 0.1, 0.0, 0.0, 0.1, 5.0, 5.0, -9.0, 9.0];
        let uncertainty = [0.8, 0.9, 0.9, 0.5, 0.0];
        assert_eq!(most_helpful(&features, 2, &uncertainty, 2), [1, 3]);
        assert_eq!(most_helpful(&features, 2, &uncertainty, 9).len(), 5);
    }

    #[test]
    fn what_is_sure_is_different_at_least() {
        assert_eq!(most_helpful(&[0.0, 0.1, 0.2, 9.0, 5.0], 1, &[0.0; 5], 3), [0, 3, 4]);
    }

    #[test]
    fn a_place_is_not_suggested_for_what_another_shows() {
        assert_eq!(most_helpful(&[1.0, 1.0, 1.0], 1, &[0.1, 0.2, 0.2], 3), [1]);
        assert!(most_helpful(&[], 4, &[], 3).is_empty());
    }

    #[test]
    fn even_chances_are_the_least_sure() {
        let (doubt, best) = doubt_between(chances_between(vec![1.0, 1.0, -9.0]));
        assert!(doubt > 0.999, "{doubt}");
        assert_eq!(best, 0);
        assert!(doubt_between(chances_between(vec![0.0, 9.0])).0 < 0.01);
        let (doubt, best) = doubt_of_each(&chances_of_each(&[-8.0, -0.1]));
        assert!(doubt > 0.9, "{doubt}");
        assert_eq!((best, doubt_of_each(&chances_of_each(&[-8.0, 3.0])).1), (None, Some(1)));
    }
}
