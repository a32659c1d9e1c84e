//! Standardised features: every channel with mean 0 and variance 1, as scikit-learn's `StandardScaler` makes them.

/// Mean and deviation of every channel over the rows that were learnt from.
#[derive(Clone, Debug)]
pub(super) struct Standard {
    mean: Vec<f64>,
    /// 1 for a channel that does not vary.
    deviation: Vec<f64>,
}

impl Standard {
    /// Learns from the chosen rows of `features`, `[labels, channels]`.
    pub(super) fn of(features: &[f32], channels: usize, rows: &[usize]) -> Self {
        let count = rows.len().max(1) as f64;
        let mut mean = vec![0.0; channels];
        for row in rows {
            let values = &features[row * channels..][..channels];
            mean.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        mean.iter_mut().for_each(|sum| *sum /= count);
        let mut deviation = vec![0.0; channels];
        for row in rows {
            let values = features[row * channels..][..channels].iter().zip(&mean);
            deviation.iter_mut().zip(values).for_each(|(sum, (value, mean))| *sum += (f64::from(*value) - mean).powi(2));
        }
        for (variance, mean) in deviation.iter_mut().zip(&mean) {
            let found = *variance / count;
            // What rounding leaves of a channel that does not vary.
            let is_constant = found <= 10.0 * f64::EPSILON * mean * mean;
            *variance = if is_constant { 1.0 } else { found.sqrt() };
        }
        Self { mean, deviation }
    }

    /// The chosen rows, standardised: `[rows, channels]`.
    pub(super) fn apply(&self, features: &[f32], rows: &[usize]) -> Vec<f64> {
        let channels = self.mean.len();
        let mut standardised = Vec::with_capacity(rows.len() * channels);
        for row in rows {
            let values = features[row * channels..][..channels].iter();
            let values = values.zip(&self.mean).zip(&self.deviation);
            standardised.extend(values.map(|((value, mean), deviation)| (f64::from(*value) - mean) / deviation));
        }
        standardised
    }

    /// Weights and bias that give on raw features what `weights` and `bias` of one class give on standardised ones.
    pub(super) fn unfold(&self, weights: &[f64], bias: f64) -> (Vec<f64>, f64) {
        let raw: Vec<f64> = weights.iter().zip(&self.deviation).map(|(weight, deviation)| weight / deviation).collect();
        let shift: f64 = raw.iter().zip(&self.mean).map(|(weight, mean)| weight * mean).sum();
        (raw, bias - shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_does_not_vary_is_left_alone() {
        let features = [1.0f32, 0.1, 3.0, 0.1, 5.0, 0.1, 99.0, 99.0];
        let standard = Standard::of(&features, 2, &[0, 1, 2]);
        let values = standard.apply(&features, &[0, 2]);
        let expected = 2.0 / (8.0f64 / 3.0).sqrt();
        assert!((values[0] + expected).abs() < 1e-12 && (values[2] - expected).abs() < 1e-12);
        assert!(values[1].abs() < 1e-9 && values[3].abs() < 1e-9);
    }

    #[test]
    fn weights_say_the_same_of_raw_features() {
        let features = [1.0f32, 10.0, 3.0, 30.0, 4.0, -20.0];
        let rows = [0, 1, 2];
        let standard = Standard::of(&features, 2, &rows);
        let (weights, bias) = standard.unfold(&[0.5, -2.0], 0.25);
        for (row, values) in standard.apply(&features, &rows).chunks(2).enumerate() {
            let standardised = 0.5 * values[0] - 2.0 * values[1] + 0.25;
            let raw = weights[0] * f64::from(features[2 * row]) + weights[1] * f64::from(features[2 * row + 1]) + bias;
            assert!((standardised - raw).abs() < 1e-12);
        }
    }
}
