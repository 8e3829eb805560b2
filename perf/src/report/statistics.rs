//! Medians, and ratios of what was measured in the same round.
//!
//! The machine drifts: a figure of the morning and one of the evening differ by
//! more than the engines do. So two engines are compared within each round, in
//! which they ran next to each other, and only those ratios are summed up. The
//! ratio of two medians would mix rounds.

/// A median and what it was taken from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle value; of an even number of values the mean of the middle two.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// The number of values.
    pub count: usize,
}

impl Spread {
    /// The spread of `values`; `None` if there are none, or one is not finite.
    pub fn of(values: &[f64]) -> Option<Spread> {
        if values.is_empty() || !values.iter().all(|value| value.is_finite()) {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (middle, count) = (sorted.len() / 2, sorted.len());
        let median = match count % 2 {
            1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Some(Spread { median, min: sorted[0], max: sorted[count - 1], count })
    }

    /// How far a value lies from the median at most, as a part of the median.
    pub fn deviation(&self) -> f64 {
        if self.median == 0.0 {
            return 0.0;
        }
        (self.max - self.median).max(self.median - self.min) / self.median
    }
}

/// The median of `values`; `None` if there are none.
pub fn median(values: &[f64]) -> Option<f64> {
    Spread::of(values).map(|spread| spread.median)
}

/// The spread of `numerators[i] / denominators[i]` over the rounds `i` that have
/// both. A round whose denominator is zero says nothing and is left out.
pub fn paired_ratios(numerators: &[Option<f64>], denominators: &[Option<f64>]) -> Option<Spread> {
    let ratios: Vec<f64> = numerators
        .iter()
        .zip(denominators)
        .filter_map(|pair| match pair {
            (Some(numerator), Some(denominator)) if *denominator > 0.0 => {
                Some(numerator / denominator)
            }
            _ => None,
        })
        .collect();
    Spread::of(&ratios)
}
