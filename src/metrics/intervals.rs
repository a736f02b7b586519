//! How far the truth may be from an estimate.
//!
//! Windows of one person are alike, so an interval over windows is far too narrow: give the subject of each window to
//! [`bootstrap`] as its cluster.

use super::rng::SplitMix64;
use super::special::{normal_cdf, normal_quantile, t_quantile};
use super::{check_finite, check_pair};
use crate::error::{Error, Result};

/// An interval with its confidence level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The estimate; not always in the middle.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence level, for example 0.95.
    pub level: f64,
}

fn check_level(level: f64) -> Result<()> {
    if level > 0.0 && level < 1.0 {
        return Ok(());
    }
    Err(Error::usage(format!("the confidence level {level} is not between 0 and 1")).remedy("use 0.95"))
}

/// Mean and standard deviation (n - 1); the values must be at least two and finite.
pub(super) fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
    (mean, (squares / (n - 1.0)).sqrt())
}

/// Mean of `values` (one per fold or seed) with Student's interval, mean +- t s / sqrt(n), n - 1 degrees of freedom.
/// It assumes independent values; folds share training data, so over folds it is too narrow, and is given because
/// papers give it. `None` for fewer than two values.
///
/// # Errors
/// If a value is NaN or infinite or `level` is not between 0 and 1.
pub fn mean_interval(values: &[f64], level: f64) -> Result<Option<Interval>> {
    check_level(level)?;
    check_finite(values, "values")?;
    if values.len() < 2 {
        return Ok(None);
    }
    let (estimate, sd) = moments(values);
    let n = values.len() as f64;
    let half = -t_quantile((1.0 - level) / 2.0, n - 1.0) * sd / n.sqrt();
    Ok(Some(Interval { estimate, low: estimate - half, high: estimate + half, level }))
}

/// Wilson's score interval for a proportion of `successes` in `n` independent trials (E. B. Wilson, 1927):
/// (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n). Sensible at 0 and n. `None` for n = 0.
///
/// # Errors
/// If `successes` > `n` or `level` is not between 0 and 1.
pub fn wilson(successes: u64, n: u64, level: f64) -> Result<Option<Interval>> {
    check_level(level)?;
    if successes > n {
        return Err(Error::usage(format!("{successes} successes in {n} trials")));
    }
    if n == 0 {
        return Ok(None);
    }
    let (p, n_) = (successes as f64 / n as f64, n as f64);
    let z = normal_quantile((1.0 - level) / 2.0);
    let scale = 1.0 + z * z / n_;
    let centre = (p + z * z / (2.0 * n_)) / scale;
    let half = -z * (p * (1.0 - p) / n_ + z * z / (4.0 * n_ * n_)).sqrt() / scale;
    // At the ends the formula gives 0 and 1 exactly; do not let rounding step outside.
    let low = if successes == 0 { 0.0 } else { centre - half };
    let high = if successes == n { 1.0 } else { centre + half };
    Ok(Some(Interval { estimate: p, low, high, level }))
}

/// The value below which the share `p` of `sorted` lies, with linear interpolation (NumPy's default, type 7 of
/// R. J. Hyndman and Y. Fan, 1996).
fn percentile(sorted: &[f64], p: f64) -> f64 {
    let at = p.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

/// Percentile interval from bootstrap `replicates` (B. Efron, 1981). `None` without replicates.
///
/// # Errors
/// If a replicate is NaN or infinite or `level` is not between 0 and 1.
pub fn percentile_interval(estimate: f64, replicates: &[f64], level: f64) -> Result<Option<Interval>> {
    check_level(level)?;
    check_finite(replicates, "replicates")?;
    if replicates.is_empty() {
        return Ok(None);
    }
    let sorted = sort(replicates);
    let tail = (1.0 - level) / 2.0;
    Ok(Some(Interval {
        estimate,
        low: percentile(&sorted, tail),
        high: percentile(&sorted, 1.0 - tail),
        level,
    }))
}

/// Bias-corrected and accelerated interval (B. Efron, 1987) from bootstrap `replicates` and the `jackknife` values,
/// each the statistic without one cluster:
///
/// ```text
/// z0 = Phi^-1(share of replicates below the estimate, ties half)
/// a  = sum d^3 / (6 (sum d^2)^(3/2)),  d = mean(jackknife) - jackknife
/// ends at the percentiles Phi(z0 + (z0 +- z) / (1 - a (z0 +- z)))
/// ```
///
/// `None` where it is not defined: all replicates on one side of the estimate, or all jackknife values equal (SciPy:
/// NaN and a warning).
///
/// # Errors
/// As [`percentile_interval`].
pub fn bca_interval(
    estimate: f64,
    replicates: &[f64],
    jackknife: &[f64],
    level: f64,
) -> Result<Option<Interval>> {
    check_level(level)?;
    check_finite(replicates, "replicates")?;
    check_finite(jackknife, "jackknife values")?;
    let n = jackknife.len() as f64;
    let mean = jackknife.iter().sum::<f64>() / n;
    let power = |k: i32| jackknife.iter().map(|x| (mean - x).powi(k)).sum::<f64>();
    let twice_below: f64 = replicates
        .iter()
        .map(|r| if *r < estimate { 2.0 } else { f64::from(u8::from(*r == estimate)) })
        .sum();
    let z0 = normal_quantile(twice_below / 2.0 / replicates.len() as f64);
    let acceleration = power(3) / (6.0 * power(2).powf(1.5));
    if !z0.is_finite() || !acceleration.is_finite() {
        return Ok(None);
    }
    let sorted = sort(replicates);
    let end = |tail: f64| {
        let z = z0 + normal_quantile(tail);
        percentile(&sorted, normal_cdf(z0 + z / (1.0 - acceleration * z)))
    };
    let tail = (1.0 - level) / 2.0;
    Ok(Some(Interval { estimate, low: end(tail), high: end(1.0 - tail), level }))
}

fn sort(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// What [`bootstrap`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrap {
    /// Percentile interval.
    pub percentile: Interval,
    /// Bias-corrected and accelerated interval, `None` where it is not defined.
    pub bca: Option<Interval>,
    /// Number of clusters.
    pub clusters: usize,
    /// Resamples on which the statistic was defined.
    pub used: usize,
    /// Resamples on which it was not, for example AUC with one class; they are left out, so report them.
    pub undefined: usize,
}

/// Bootstrap over clusters: draws as many clusters as there are, with replacement, `resamples` times, and computes the
/// statistic of all their items. `clusters[i]` is the cluster (subject) of item i; `statistic` gets the indices of the
/// items, with repetitions, and says `None` where it is not defined. The same seed gives the same interval.
///
/// `None` if the statistic of all items is not defined, or there are fewer than two clusters, or fewer than half of
/// the resamples are defined.
///
/// # Errors
/// If the statistic is NaN or infinite or `level` is not between 0 and 1.
pub fn bootstrap(
    clusters: &[usize],
    statistic: impl Fn(&[usize]) -> Option<f64>,
    resamples: usize,
    level: f64,
    seed: u64,
) -> Result<Option<Bootstrap>> {
    check_level(level)?;
    let members = members(clusters);
    let all: Vec<usize> = (0..clusters.len()).collect();
    let Some(estimate) = statistic(&all).filter(|_| members.len() > 1) else { return Ok(None) };
    check_finite(&[estimate], "statistic")?;
    let mut random = SplitMix64::new(seed);
    let mut items = Vec::with_capacity(clusters.len());
    let mut replicates = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        items.clear();
        for _ in 0..members.len() {
            items.extend_from_slice(&members[random.below(members.len())]);
        }
        replicates.extend(statistic(&items));
    }
    let used = replicates.len();
    if used * 2 < resamples {
        return Ok(None);
    }
    let Some(percentile) = percentile_interval(estimate, &replicates, level)? else { return Ok(None) };
    let jackknife = leave_one_out(&members, &statistic);
    let bca = match jackknife {
        Some(jackknife) => bca_interval(estimate, &replicates, &jackknife, level)?,
        None => None,
    };
    let undefined = resamples - used;
    Ok(Some(Bootstrap { percentile, bca, clusters: members.len(), used, undefined }))
}

/// Student's t interval around a statistic with the jackknife's standard error (J. W. Tukey, 1958; B. Efron and C. Stein,
/// 1981), one cluster left out at a time:
///
/// ```text
/// se^2 = (n - 1) / n sum_i (theta_(-i) - mean theta_(-i))^2
/// ends = theta +- t_(n-1) se
/// ```
///
/// For the mean of one value per cluster it is [`mean_interval`]. No random numbers. With few clusters it keeps its level
/// where bootstrap intervals are too narrow (`benches/NOTES.md` has the measured coverage). `None` if the statistic is not
/// defined, also without any one cluster, or there are fewer than two clusters.
///
/// # Errors
/// If the statistic is NaN or infinite or `level` is not between 0 and 1.
pub fn jackknife_t(
    clusters: &[usize],
    statistic: impl Fn(&[usize]) -> Option<f64>,
    level: f64,
) -> Result<Option<Interval>> {
    check_level(level)?;
    let members = members(clusters);
    let all: Vec<usize> = (0..clusters.len()).collect();
    let Some(estimate) = statistic(&all).filter(|_| members.len() > 1) else { return Ok(None) };
    check_finite(&[estimate], "statistic")?;
    let Some(left_out) = leave_one_out(&members, &statistic) else { return Ok(None) };
    check_finite(&left_out, "jackknife values")?;
    let n = left_out.len() as f64;
    let mean = left_out.iter().sum::<f64>() / n;
    let squares: f64 = left_out.iter().map(|x| (x - mean).powi(2)).sum();
    let half = -t_quantile((1.0 - level) / 2.0, n - 1.0) * ((n - 1.0) / n * squares).sqrt();
    Ok(Some(Interval { estimate, low: estimate - half, high: estimate + half, level }))
}

/// An interval around a share or an area in (0, 1), carried over to the logit scale and back: with h the half width and m the
/// estimate,
///
/// ```text
/// ends = 1 / (1 + exp(-(ln(m / (1 - m)) +- h / (m (1 - m)))))
/// ```
///
/// (the delta method; the slope of the logit is 1 / (m (1 - m))). The ends never leave 0 to 1, and near them the longer arm
/// points to the middle, as the few people who do badly where most do well are what a small sample lacks. An estimate of 0 or
/// 1 keeps its interval, cut off at the ends of the scale.
pub fn on_logit_scale(i: Interval) -> Interval {
    let m = i.estimate;
    if !(m > 0.0 && m < 1.0) || i.high <= i.low {
        return Interval { low: i.low.max(0.0), high: i.high.min(1.0), ..i };
    }
    let (centre, half) = ((m / (1.0 - m)).ln(), (i.high - i.low) / 2.0 / (m * (1.0 - m)));
    let back = |z: f64| 1.0 / (1.0 + (-z).exp());
    Interval { low: back(centre - half), high: back(centre + half), ..i }
}

/// Items of each cluster.
fn members(clusters: &[usize]) -> Vec<Vec<usize>> {
    let mut members: std::collections::BTreeMap<usize, Vec<usize>> = Default::default();
    clusters.iter().enumerate().for_each(|(item, &c)| members.entry(c).or_default().push(item));
    members.into_values().collect()
}

/// The statistic without each cluster in turn; `None` if it is not defined without one of them.
fn leave_one_out(members: &[Vec<usize>], statistic: impl Fn(&[usize]) -> Option<f64>) -> Option<Vec<f64>> {
    (0..members.len())
        .map(|left_out| {
            let others = members.iter().enumerate().filter(|(c, _)| *c != left_out);
            statistic(&others.flat_map(|(_, m)| m.iter().copied()).collect::<Vec<_>>())
        })
        .collect()
}

/// [`bootstrap`] of the mean of one value per item.
///
/// # Errors
/// As [`bootstrap`], and if the lengths differ or a value is NaN or infinite.
pub fn bootstrap_mean(
    clusters: &[usize],
    values: &[f64],
    resamples: usize,
    level: f64,
    seed: u64,
) -> Result<Option<Bootstrap>> {
    check_pair(clusters.len(), values, "values")?;
    let mean = |items: &[usize]| {
        (!items.is_empty()).then(|| items.iter().map(|&i| values[i]).sum::<f64>() / items.len() as f64)
    };
    bootstrap(clusters, mean, resamples, level, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges() {
        assert_eq!(mean_interval(&[0.5], 0.95).unwrap(), None);
        assert!(mean_interval(&[0.5, f64::NAN], 0.95).is_err());
        assert!(mean_interval(&[0.5, 0.6], 1.0).is_err());
        assert_eq!(wilson(0, 0, 0.95).unwrap(), None);
        assert!(wilson(2, 1, 0.95).is_err());
        assert_eq!(wilson(0, 10, 0.95).unwrap().unwrap().low, 0.0);
        assert_eq!(wilson(10, 10, 0.95).unwrap().unwrap().high, 1.0);
        assert_eq!(bootstrap_mean(&[0, 0], &[1.0, 2.0], 100, 0.95, 1).unwrap(), None);
        assert_eq!(bootstrap_mean(&[], &[], 100, 0.95, 1).unwrap(), None);
        assert!(bootstrap_mean(&[0], &[], 100, 0.95, 1).is_err());
        let j = |c: &[usize], v: &[f64]| {
            jackknife_t(
                c,
                |i| (!i.is_empty()).then(|| i.iter().map(|&i| v[i]).sum::<f64>() / i.len() as f64),
                0.95,
            )
        };
        assert_eq!(j(&[0, 0], &[1.0, 2.0]).unwrap(), None);
        assert_eq!(j(&[], &[]).unwrap(), None);
        let (a, b) =
            (j(&[0, 1, 2], &[1.0, 2.0, 4.0]).unwrap(), mean_interval(&[1.0, 2.0, 4.0], 0.95).unwrap());
        let (a, b) = (a.unwrap(), b.unwrap());
        assert!((a.low - b.low).abs() < 1e-12 && (a.high - b.high).abs() < 1e-12, "{a:?} {b:?}");
        let i = |estimate, low, high| Interval { estimate, low, high, level: 0.95 };
        let middle = on_logit_scale(i(0.5, 0.49, 0.51));
        assert!((middle.low - 0.49).abs() < 1e-5 && (middle.high - 0.51).abs() < 1e-5, "{middle:?}");
        let high = on_logit_scale(i(0.95, 0.88, 1.02));
        assert!(high.low < 0.85 && high.high < 1.0 && high.high > 0.97, "{high:?}");
        assert_eq!(on_logit_scale(i(0.7, 0.7, 0.7)), i(0.7, 0.7, 0.7));
        assert_eq!(on_logit_scale(i(1.0, 0.9, 1.1)), i(1.0, 0.9, 1.0));
        // All values equal: the percentile interval is a point, BCa is not defined.
        let b = bootstrap_mean(&[0, 1, 2], &[2.0; 3], 100, 0.95, 1).unwrap().unwrap();
        assert_eq!((b.percentile.low, b.percentile.high, b.bca), (2.0, 2.0, None));
    }

    #[test]
    fn undefined_resamples_are_counted() {
        let clusters = [0, 1, 2, 3];
        let labels = [true, false, true, false];
        let score = [0.9, 0.2, 0.4, 0.6];
        let auc = |items: &[usize]| {
            let (l, s): (Vec<_>, Vec<_>) = items.iter().map(|&i| (labels[i], score[i])).unzip();
            crate::metrics::auc(&l, &s).ok().flatten()
        };
        let b = bootstrap(&clusters, auc, 4000, 0.95, 3).unwrap().unwrap();
        // Both classes are missed with probability 2 * (1/2)^4 = 1/8; standard deviation of the count is 21.
        assert!(b.undefined.abs_diff(500) < 100, "{b:?}");
        assert_eq!(b.used + b.undefined, 4000);
        assert_eq!(b, bootstrap(&clusters, auc, 4000, 0.95, 3).unwrap().unwrap());
        assert_ne!(b.undefined, bootstrap(&clusters, auc, 4000, 0.95, 4).unwrap().unwrap().undefined);
    }

    /// Coverage of the truth over many data sets: clustered resampling keeps its promise, resampling of items breaks it.
    #[test]
    fn clusters_make_the_interval_honest() {
        let mut random = SplitMix64::new(11);
        let mut normal =
            || (0..12).map(|_| (random.next() >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() - 6.0;
        let (subjects, windows, rounds) = (25, 8, 200);
        let (mut honest, mut naive) = (0, 0);
        for round in 0..rounds {
            let (mut values, mut clusters) = (Vec::new(), Vec::new());
            for s in 0..subjects {
                let trait_ = normal();
                for _ in 0..windows {
                    values.push(trait_ + 0.5 * normal());
                    clusters.push(s);
                }
            }
            let each: Vec<usize> = (0..values.len()).collect();
            let covers = |c: &[usize]| {
                let b = bootstrap_mean(c, &values, 400, 0.95, round).unwrap().unwrap().bca.unwrap();
                usize::from(b.low <= 0.0 && 0.0 <= b.high)
            };
            honest += covers(&clusters);
            naive += covers(&each);
        }
        // 95 % of 200 is 190, standard deviation 3; a bootstrap with 25 clusters is slightly narrow.
        assert!(honest >= 176, "{honest} of {rounds}");
        assert!(naive < 140, "{naive} of {rounds}");
    }
}
