//! Poincare plot and sample entropy.

use super::NnSeries;
use super::time::mean_and_deviation;
use crate::error::{Error, Result};
use std::f64::consts::FRAC_1_SQRT_2;

/// The ellipse in the plot of each interval against the one before (Brennan, Palaniswami and Kamen 2001, IEEE TBME 48).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Poincare {
    /// Standard deviation across the line of identity, in ms: variability from beat to beat.
    pub sd1_ms: f64,
    /// Standard deviation along the line of identity, in ms: slow variability.
    pub sd2_ms: f64,
}

impl Poincare {
    /// `None` for fewer than two pairs of successive intervals.
    pub fn of(nn: &NnSeries) -> Option<Self> {
        let across: Vec<f64> = nn.successive().map(|(a, b)| (a - b) * FRAC_1_SQRT_2).collect();
        let along: Vec<f64> = nn.successive().map(|(a, b)| (a + b) * FRAC_1_SQRT_2).collect();
        (across.len() >= 2)
            .then(|| Self { sd1_ms: mean_and_deviation(&across).1, sd2_ms: mean_and_deviation(&along).1 })
    }
}

/// Most values that [`sample_entropy`] compares, each with each.
pub const SAMPLE_ENTROPY_MAX: usize = 20_000;

/// Sample entropy (Richman and Moorman 2000, Am. J. Physiol. 278): minus the logarithm of the chance that two stretches of
/// `m` values that agree within `tolerance` (in the unit of `x`) also agree in the value after. Without unit; `None` when
/// no stretches agree.
///
/// Of x[0..n] there are n - m stretches that a value follows; with B pairs of them that agree over m values and A over
/// m + 1, the result is -ln(A / B).
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for `m` of 0, a tolerance that is not positive, or more than
/// [`SAMPLE_ENTROPY_MAX`] values, since the time grows with their square.
pub fn sample_entropy(x: &[f64], m: usize, tolerance: f64) -> Result<Option<f64>> {
    if m == 0 || !(tolerance > 0.0 && tolerance.is_finite()) {
        return Err(Error::usage(format!("sample entropy of length {m} within {tolerance}")));
    }
    if x.len() > SAMPLE_ENTROPY_MAX {
        return Err(Error::usage(format!(
            "sample entropy of {} values; at most {SAMPLE_ENTROPY_MAX}",
            x.len()
        ))
        .remedy("take it over windows of some minutes"));
    }
    let templates = x.len().saturating_sub(m);
    let (mut short, mut long) = (0u64, 0u64);
    for i in 0..templates {
        for j in i + 1..templates {
            let alike = |k: usize| (x[i + k] - x[j + k]).abs() <= tolerance;
            if (0..m).all(alike) {
                short += 1;
                long += u64::from(alike(m));
            }
        }
    }
    Ok((long > 0).then(|| -(long as f64 / short as f64).ln()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_by_hand() {
        // Pairs (0,2) of [1,2],[1,2] agree, and so does the value after: A = B = 1.
        assert_eq!(sample_entropy(&[1.0, 2.0, 1.0, 2.0, 1.0], 2, 0.1).unwrap(), Some(0.0));
        // Stretches at 0, 2, 4 are 1,2: 3 pairs; followed by 1, 1, 9: one pair agrees.
        let h = sample_entropy(&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 9.0], 2, 0.1).unwrap().unwrap();
        // The stretches at 1 and 3 are 2,1 and are both followed by 2: one pair more in both counts.
        assert!((h - (4.0f64 / 2.0).ln()).abs() < 1e-15, "{h}");
        assert_eq!(sample_entropy(&[1.0, 5.0, 9.0], 2, 0.1).unwrap(), None);
        assert_eq!(sample_entropy(&[], 2, 0.1).unwrap(), None);
        assert!(sample_entropy(&[1.0], 0, 0.1).is_err() && sample_entropy(&[1.0], 2, f64::NAN).is_err());
    }
}
