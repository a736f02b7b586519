//! Do the predicted probabilities of the positive class mean what they say?

use super::check_pair;
use crate::error::{Error, Result};

fn check_probabilities(labels: &[bool], probabilities: &[f64]) -> Result<()> {
    check_pair(labels.len(), probabilities, "probabilities")?;
    match probabilities.iter().position(|p| !(0.0..=1.0).contains(p)) {
        None => Ok(()),
        Some(i) => Err(Error::numeric(format!("probability {i} is {}, outside 0 to 1", probabilities[i]))
            .remedy("pass probabilities, not logits")),
    }
}

fn mean_over(labels: &[bool], probabilities: &[f64], loss: impl Fn(f64, f64) -> f64) -> Result<Option<f64>> {
    check_probabilities(labels, probabilities)?;
    let sum: f64 = labels.iter().zip(probabilities).map(|(&y, &p)| loss(if y { 1.0 } else { 0.0 }, p)).sum();
    Ok((!labels.is_empty()).then(|| sum / labels.len() as f64))
}

/// Brier score (G. W. Brier, 1950; the binary form): mean of (p - y)^2, between 0 and 1, lower is better; a constant
/// 0.5 scores 0.25. `None` without items.
///
/// # Errors
/// If the lengths differ or a probability is not in 0 to 1.
pub fn brier(labels: &[bool], probabilities: &[f64]) -> Result<Option<f64>> {
    mean_over(labels, probabilities, |y, p| (p - y) * (p - y))
}

/// Mean negative log-likelihood, -mean(y ln p + (1 - y) ln(1 - p)), in nats. As in scikit-learn's `log_loss`, p is
/// first clipped to [e, 1 - e] with e = 2^-52, so a certain mistake costs 36 and not infinity. `None` without items.
///
/// # Errors
/// If the lengths differ or a probability is not in 0 to 1.
pub fn log_loss(labels: &[bool], probabilities: &[f64]) -> Result<Option<f64>> {
    mean_over(labels, probabilities, |y, p| {
        let p = p.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        -(if y == 1.0 { p } else { 1.0 - p }).ln()
    })
}

/// One bin of a reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Items in the bin.
    pub count: u64,
    /// Their mean predicted probability; `None` if the bin is empty.
    pub mean_probability: Option<f64>,
    /// Their share of positives; `None` if the bin is empty.
    pub positive_rate: Option<f64>,
}

/// A reliability diagram and its summary.
#[derive(Clone, Debug, PartialEq)]
pub struct Reliability {
    /// Equal bins from 0 to 1: the first [0, 1/m], the others (i/m, (i+1)/m].
    pub bins: Vec<Bin>,
    /// Expected calibration error: mean over items of |positive rate - mean probability| of their bin (M. P. Naeini et
    /// al., 2015; C. Guo et al., 2017). Of the positive class, not of the winning class's confidence.
    pub expected_error: f64,
    /// The largest |positive rate - mean probability| of any bin that has items.
    pub maximum_error: f64,
}

/// The reliability diagram with `bins` equal bins; `None` without items. Bins as in scikit-learn's
/// `calibration_curve(strategy="uniform")`, which leaves empty ones out.
///
/// # Errors
/// If the lengths differ, a probability is not in 0 to 1, or `bins` is 0.
pub fn reliability(labels: &[bool], probabilities: &[f64], bins: usize) -> Result<Option<Reliability>> {
    check_probabilities(labels, probabilities)?;
    if bins == 0 {
        return Err(Error::usage("a reliability diagram needs at least one bin"));
    }
    let mut sums = vec![(0u64, 0.0f64, 0u64); bins];
    for (&y, &p) in labels.iter().zip(probabilities) {
        // The index of the first upper edge that is not below p; the rounding of p * bins may be one off.
        let mut i = ((p * bins as f64).ceil() as usize).saturating_sub(1).min(bins - 1);
        while i > 0 && p <= i as f64 / bins as f64 {
            i -= 1;
        }
        while i + 1 < bins && p > (i + 1) as f64 / bins as f64 {
            i += 1;
        }
        sums[i].0 += 1;
        sums[i].1 += p;
        sums[i].2 += u64::from(y);
    }
    if labels.is_empty() {
        return Ok(None);
    }
    let (mut expected_error, mut maximum_error) = (0.0, 0.0f64);
    let bins = sums
        .into_iter()
        .map(|(count, probability, positives)| {
            let over = |x: f64| (count > 0).then(|| x / count as f64);
            let gap = (positives as f64 - probability).abs();
            expected_error += gap / labels.len() as f64;
            maximum_error = maximum_error.max(over(gap).unwrap_or(0.0));
            Bin { count, mean_probability: over(probability), positive_rate: over(positives as f64) }
        })
        .collect();
    Ok(Some(Reliability { bins, expected_error, maximum_error }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let y = [true, false, true, false];
        let p = [0.9, 0.1, 0.6, 0.6];
        assert!((brier(&y, &p).unwrap().unwrap() - (0.01 + 0.01 + 0.16 + 0.36) / 4.0).abs() < 1e-15);
        let r = reliability(&y, &p, 2).unwrap().unwrap();
        assert_eq!((r.bins[0].count, r.bins[1].count), (1, 3));
        assert!((r.expected_error - (0.1 + 0.1) / 4.0).abs() < 1e-15);
        assert!((r.maximum_error - 0.1).abs() < 1e-15);
        assert_eq!(log_loss(&[true], &[0.0]).unwrap(), Some(-f64::EPSILON.ln()));
        assert!(log_loss(&[false], &[0.0]).unwrap().unwrap() < 1e-15);
    }

    #[test]
    fn edges_fall_into_the_lower_bin() {
        let p: Vec<f64> = (0..=10).map(|i| f64::from(i) / 10.0).collect();
        let r = reliability(&[false; 11], &p, 10).unwrap().unwrap();
        let counts: Vec<u64> = r.bins.iter().map(|b| b.count).collect();
        assert_eq!(counts, [2, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn bad_input() {
        assert_eq!(brier(&[], &[]).unwrap(), None);
        assert_eq!(reliability(&[], &[], 10).unwrap(), None);
        assert!(reliability(&[], &[], 0).is_err());
        assert!(brier(&[true], &[1.1]).unwrap_err().to_string().contains("not logits"));
        assert!(log_loss(&[true], &[f64::NAN]).is_err());
        assert!(log_loss(&[true, false], &[0.5]).is_err());
    }
}
