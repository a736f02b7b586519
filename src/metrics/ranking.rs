//! How well scores rank positives above negatives, whatever the threshold.

use super::check_pair;
use crate::error::Result;

/// A point of the ROC curve: what happens if everything with a score of at least `threshold` is called positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RocPoint {
    /// The threshold; infinite for the first point.
    pub threshold: f64,
    /// Share of the negatives called positive (1 - specificity).
    pub false_positive_rate: f64,
    /// Share of the positives called positive (recall).
    pub true_positive_rate: f64,
}

/// The number of (positives, negatives) at or above each distinct score, scores falling.
fn cumulative(labels: &[bool], scores: &[f64]) -> Vec<(f64, u64, u64)> {
    let mut order: Vec<(f64, bool)> = scores.iter().copied().zip(labels.iter().copied()).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut out: Vec<(f64, u64, u64)> = Vec::new();
    let (mut positives, mut negatives) = (0, 0);
    for (score, positive) in order {
        if positive {
            positives += 1
        } else {
            negatives += 1
        }
        match out.last_mut() {
            // `==` joins 0 and -0, which total_cmp keeps apart but neighbours.
            Some(last) if last.0 == score => (last.1, last.2) = (positives, negatives),
            _ => out.push((score, positives, negatives)),
        }
    }
    out
}

/// The ROC curve from (0, 0) to (1, 1), one point per distinct score; `None` if only one class occurs (scikit-learn:
/// NaN and a warning). Equal to scikit-learn's `roc_curve(drop_intermediate=False)`.
///
/// # Errors
/// If the lengths differ or a score is NaN or infinite.
pub fn roc_curve(labels: &[bool], scores: &[f64]) -> Result<Option<Vec<RocPoint>>> {
    check_pair(labels.len(), scores, "scores")?;
    let steps = cumulative(labels, scores);
    let Some(&(_, all_positive, all_negative)) = steps.last() else { return Ok(None) };
    if all_positive == 0 || all_negative == 0 {
        return Ok(None);
    }
    let first = RocPoint { threshold: f64::INFINITY, false_positive_rate: 0.0, true_positive_rate: 0.0 };
    let rest = steps.into_iter().map(|(threshold, p, n)| RocPoint {
        threshold,
        false_positive_rate: n as f64 / all_negative as f64,
        true_positive_rate: p as f64 / all_positive as f64,
    });
    Ok(Some(std::iter::once(first).chain(rest).collect()))
}

/// Area under the ROC curve: the probability that a random positive scores above a random negative, ties counting
/// half (the Mann-Whitney statistic over its maximum; J. A. Hanley and B. J. McNeil, 1982). Computed exactly in
/// integers up to the last division. `None` if only one class occurs (scikit-learn: NaN and a warning).
///
/// # Errors
/// If the lengths differ or a score is NaN or infinite.
pub fn auc(labels: &[bool], scores: &[f64]) -> Result<Option<f64>> {
    check_pair(labels.len(), scores, "scores")?;
    let (mut before, mut twice_pairs) = ((0u64, 0u64), 0u128);
    for (_, p, n) in cumulative(labels, scores) {
        // Negatives of this score lose to all positives before it and tie with its own.
        let (new_p, new_n) = (p - before.0, n - before.1);
        twice_pairs += u128::from(new_n) * u128::from(2 * before.0 + new_p);
        before = (p, n);
    }
    let pairs = before.0 as f64 * before.1 as f64;
    Ok((pairs > 0.0).then(|| twice_pairs as f64 / 2.0 / pairs))
}

/// Average precision: the sum over falling thresholds of (recall gained) x (precision there); the area under the
/// precision-recall curve without interpolation. `None` without positives (scikit-learn: 0 and a warning).
///
/// # Errors
/// If the lengths differ or a score is NaN or infinite.
pub fn average_precision(labels: &[bool], scores: &[f64]) -> Result<Option<f64>> {
    check_pair(labels.len(), scores, "scores")?;
    let (mut sum, mut before) = (0.0, 0);
    for (_, p, n) in cumulative(labels, scores) {
        sum += (p - before) as f64 * (p as f64 / (p + n) as f64);
        before = p;
    }
    Ok((before > 0).then(|| sum / before as f64))
}

/// Average precision with both classes weighed equally: precision is TPR / (TPR + FPR) at each threshold, as if there
/// were as many negatives as positives ("calibrated" average precision at the prior 1/2: W. Siblini et al., Master your
/// metrics with calibration, IDA 2020). A constant scores exactly 1/2 and a perfect ranking 1 whatever the class balance,
/// so that people and folds of different balance can be averaged. `None` if only one class occurs.
///
/// # Errors
/// If the lengths differ or a score is NaN or infinite.
pub fn balanced_average_precision(labels: &[bool], scores: &[f64]) -> Result<Option<f64>> {
    check_pair(labels.len(), scores, "scores")?;
    let steps = cumulative(labels, scores);
    let Some(&(_, positives, negatives)) = steps.last().filter(|s| s.1 > 0 && s.2 > 0) else {
        return Ok(None);
    };
    let (mut sum, mut before) = (0.0, 0);
    for (_, p, n) in steps {
        // p / P over p / P + n / N, with both fractions brought to the denominator P N.
        let (own, other) = (p as f64 * negatives as f64, n as f64 * positives as f64);
        sum += (p - before) as f64 * (own / (own + other));
        before = p;
    }
    Ok(Some(sum / positives as f64))
}

/// The mean of several ROC curves: at each false positive rate the mean of the true positive rates (T. Fawcett, An
/// introduction to ROC analysis, 2006, vertical averaging). The area below is the mean of the areas, because every point of
/// every curve is kept. Curves without points are left out; none gives none. Points are (false, true) positive rates, and
/// each curve runs from (0, 0) to (1, 1).
pub fn mean_roc(curves: &[Vec<(f64, f64)>]) -> Vec<(f64, f64)> {
    let curves: Vec<&Vec<(f64, f64)>> = curves.iter().filter(|c| !c.is_empty()).collect();
    let mut rates: Vec<f64> = curves.iter().flat_map(|c| c.iter().map(|p| p.0)).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let mut out: Vec<(f64, f64)> = Vec::with_capacity(2 * rates.len());
    for x in rates {
        // Where a curve rises straight up it has two values: all lower ends, then all upper ends.
        let (mut low, mut high) = (0.0, 0.0);
        for c in &curves {
            let first = c.partition_point(|p| p.0 < x);
            let after = c.partition_point(|p| p.0 <= x);
            if first < after {
                low += c[first].1;
                high += c[after - 1].1;
            } else {
                let (a, b) = (c[first - 1], c[first]);
                let y = a.1 + (x - a.0) / (b.0 - a.0) * (b.1 - a.1);
                (low, high) = (low + y, high + y);
            }
        }
        let n = curves.len() as f64;
        out.push((x, low / n));
        if high > low {
            out.push((x, high / n));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges() {
        assert_eq!(auc(&[], &[]).unwrap(), None);
        assert_eq!(auc(&[true, true], &[0.1, 0.2]).unwrap(), None);
        assert_eq!(roc_curve(&[false], &[0.1]).unwrap(), None);
        assert_eq!(average_precision(&[false], &[0.1]).unwrap(), None);
        assert_eq!(average_precision(&[true], &[0.1]).unwrap(), Some(1.0));
        assert_eq!(auc(&[true, false], &[0.0, -0.0]).unwrap(), Some(0.5));
        assert_eq!(auc(&[true, false], &[1.0, 0.0]).unwrap(), Some(1.0));
        assert!(auc(&[true], &[]).is_err());
        assert!(auc(&[true, false], &[f64::NAN, 0.0]).unwrap_err().to_string().contains("element 0 is NaN"));
    }

    #[test]
    fn equal_weights_make_average_precision_independent_of_balance() {
        let scores = [0.9, 0.8, 0.3, 0.2];
        let labels = [true, false, true, false];
        // By hand: half the positives at precision 1, half at 1 / (1 + 1/2).
        assert_eq!(balanced_average_precision(&labels, &scores).unwrap(), Some((1.0 + 1.0 / 1.5) / 2.0));
        assert_eq!(average_precision(&labels, &scores).unwrap(), Some((1.0 + 2.0 / 3.0) / 2.0));
        // Each negative ten times: plain average precision falls, this one does not.
        let many: Vec<(bool, f64)> = labels
            .iter()
            .zip(scores)
            .flat_map(|(l, s)| std::iter::repeat_n((*l, s), if *l { 1 } else { 10 }))
            .collect();
        let (l, s): (Vec<bool>, Vec<f64>) = many.into_iter().unzip();
        assert_eq!(balanced_average_precision(&l, &s).unwrap(), Some((1.0 + 1.0 / 1.5) / 2.0));
        assert!(average_precision(&l, &s).unwrap().unwrap() < 0.6);
        assert_eq!(balanced_average_precision(&[true], &[0.5]).unwrap(), None);
        assert!(balanced_average_precision(&[true], &[f64::NAN]).is_err());
    }

    proptest! {
        #[test]
        fn the_mean_curve_has_the_mean_area(
            data in prop::collection::vec(prop::collection::vec((any::<bool>(), -3i32..3), 2..12), 1..5)
        ) {
            let (mut curves, mut areas) = (Vec::new(), Vec::new());
            for d in &data {
                let labels: Vec<bool> = d.iter().map(|d| d.0).collect();
                let scores: Vec<f64> = d.iter().map(|d| f64::from(d.1)).collect();
                let curve = roc_curve(&labels, &scores).unwrap().unwrap_or_default();
                curves.push(curve.iter().map(|p| (p.false_positive_rate, p.true_positive_rate)).collect());
                areas.extend(auc(&labels, &scores).unwrap());
            }
            let mean = mean_roc(&curves);
            prop_assert_eq!(mean.is_empty(), areas.is_empty());
            if !areas.is_empty() {
                let area: f64 = mean.windows(2).map(|w| (w[1].0 - w[0].0) * (w[1].1 + w[0].1) / 2.0).sum();
                prop_assert!((area - areas.iter().sum::<f64>() / areas.len() as f64).abs() < 1e-12);
                prop_assert!(mean.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1 <= w[1].1 + 1e-12));
                prop_assert_eq!((mean[0].0, mean.last().copied()), (0.0, Some((1.0, 1.0))));
            }
        }

        #[test]
        fn auc_counts_pairs_and_is_the_area(data in prop::collection::vec((any::<bool>(), -5i32..5), 0..40)) {
            let labels: Vec<bool> = data.iter().map(|d| d.0).collect();
            let scores: Vec<f64> = data.iter().map(|d| f64::from(d.1)).collect();
            let (mut wins, mut pairs) = (0.0, 0.0);
            for (i, j) in (0..data.len()).flat_map(|i| (0..data.len()).map(move |j| (i, j))) {
                if labels[i] && !labels[j] {
                    pairs += 1.0;
                    wins += if scores[i] > scores[j] { 1.0 } else if scores[i] == scores[j] { 0.5 } else { 0.0 };
                }
            }
            let got = auc(&labels, &scores).unwrap();
            prop_assert_eq!(got, (pairs > 0.0).then(|| wins / pairs));
            if let Some(curve) = roc_curve(&labels, &scores).unwrap() {
                let area: f64 = curve.windows(2).map(|w| {
                    (w[1].false_positive_rate - w[0].false_positive_rate)
                        * (w[1].true_positive_rate + w[0].true_positive_rate) / 2.0
                }).sum();
                prop_assert!((area - got.unwrap()).abs() < 1e-12);
            }
        }
    }
}
