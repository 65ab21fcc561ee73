//! Means, quantiles and how sure one may be of a mean.

use fastrand::Rng;

/// A mean and the interval in which it lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

/// Resamples of a bootstrap.
const RESAMPLES: usize = 1000;

impl Mean {
    /// The mean of `values`, with the 2.5 % and 97.5 % quantiles of bootstrapped means (Efron, 1979) around it: the
    /// times are far from normally distributed. Everything is zero when there are no values.
    pub fn of(values: &[f64], dice: &mut Rng) -> Self {
        if values.is_empty() {
            return Self { mean: 0.0, low: 0.0, high: 0.0 };
        }
        let resampled = (0..RESAMPLES)
            .map(|_| mean((0..values.len()).map(|_| values[dice.usize(0..values.len())]), values.len()))
            .collect::<Vec<_>>();
        Self {
            mean: mean(values.iter().copied(), values.len()),
            low: quantile(&resampled, 25, 1000),
            high: quantile(&resampled, 975, 1000),
        }
    }
}

fn mean(values: impl Iterator<Item = f64>, count: usize) -> f64 {
    // Counts here are far below 2³², above which a float could not tell them apart.
    values.sum::<f64>() / f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The smallest value that at least `part` of `whole` of the values do not exceed; zero when there are none.
pub fn quantile(values: &[f64], part: usize, whole: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (sorted.len() * part).div_ceil(whole).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_there() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&values, 50, 100), 50.0);
        assert_eq!(quantile(&values, 95, 100), 95.0);
        assert_eq!(quantile(&values, 0, 100), 1.0);
        assert_eq!(quantile(&[], 50, 100), 0.0);
    }

    #[test]
    fn the_true_mean_lies_in_about_95_of_100_intervals() {
        let mut dice = Rng::with_seed(1);
        let hits = (0..200)
            .filter(|_| {
                // Exponential with mean 1: as skewed as waiting times are.
                let values: Vec<f64> = (0..200).map(|_| -(1.0 - dice.f64()).ln()).collect();
                let mean = Mean::of(&values, &mut dice);
                mean.low <= 1.0 && 1.0 <= mean.high
            })
            .count();
        assert!((180..=200).contains(&hits), "{hits} of 200");
    }

    #[test]
    fn a_constant_is_certain_and_nothing_is_nothing() {
        let mut dice = Rng::with_seed(1);
        assert_eq!(Mean::of(&[2.0; 10], &mut dice), Mean { mean: 2.0, low: 2.0, high: 2.0 });
        assert_eq!(Mean::of(&[], &mut dice).mean, 0.0);
    }
}
