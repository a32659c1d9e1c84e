//! Class weights, by which a class with few labels counts as much as one with many (scikit-learn's `class_weight="balanced"`).

/// The weight of each label: the count of labels over that of its class, divided by the number of classes that occur.
pub(super) fn balanced_weights(classes: &[usize], class_count: usize) -> Vec<f64> {
    let mut counts = vec![0usize; class_count];
    classes.iter().for_each(|class| counts[*class] += 1);
    let present = counts.iter().filter(|count| **count > 0).count();
    let weight = |class: &usize| classes.len() as f64 / (present * counts[*class]) as f64;
    classes.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_weighs_the_same() {
        // sklearn.utils.class_weight.compute_sample_weight("balanced", [0, 0, 0, 2])
        let expected = [2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 2.0];
        assert_eq!(balanced_weights(&[0, 0, 0, 2], 3), expected);
    }
}
