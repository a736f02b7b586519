//! Paired tests: two models on the same folds, seeds or windows. All p values are two-sided.
//!
//! `differences` are score of A minus score of B, one per independent unit (subject, seed). Windows of one subject are
//! not independent: average over the subject first.

use super::check_finite;
use super::intervals::moments;
use super::rng::SplitMix64;
use super::special::{ln_gamma, normal_cdf, t_upper};
use crate::error::{Error, Result};

/// Most pairs for which [`wilcoxon`] counts all rankings.
pub const WILCOXON_EXACT: usize = 25;
/// Most pairs for which [`permutation`] goes through all sign flips.
pub const PERMUTATION_EXACT: usize = 18;

/// Result of [`wilcoxon`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wilcoxon {
    /// Sum of the ranks of the positive differences.
    pub w_plus: f64,
    /// Sum of the ranks of the negative differences.
    pub w_minus: f64,
    /// Differences other than zero.
    pub n: usize,
    /// Two-sided p value.
    pub p: f64,
    /// Whether all rankings were counted.
    pub exact: bool,
}

/// Wilcoxon's signed rank test (F. Wilcoxon, 1945). Zero differences are dropped, equal ones share their mean rank.
/// Exact for at most [`WILCOXON_EXACT`] differences without ties, else by the normal approximation with the variance
/// corrected for ties and no continuity correction (as SciPy's `wilcoxon(method="asymptotic")`). `None` if no
/// difference is left.
///
/// # Errors
/// If a difference is NaN or infinite.
pub fn wilcoxon(differences: &[f64]) -> Result<Option<Wilcoxon>> {
    check_finite(differences, "differences")?;
    let mut d: Vec<f64> = differences.iter().copied().filter(|x| *x != 0.0).collect();
    d.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let n = d.len();
    if n == 0 {
        return Ok(None);
    }
    let (mut w_plus, mut w_minus, mut ties, mut before) = (0.0, 0.0, 0.0, 0.0);
    for group in d.chunk_by(|a, b| a.abs() == b.abs()) {
        // The ranks of this group follow those of all smaller ones; each member gets their mean.
        let size = group.len() as f64;
        let rank = before + (size + 1.0) / 2.0;
        before += size;
        ties += size * size * size - size;
        group.iter().for_each(|x| if *x > 0.0 { w_plus += rank } else { w_minus += rank });
    }
    let exact = ties == 0.0 && n <= WILCOXON_EXACT;
    let smaller: f64 = f64::min(w_plus, w_minus);
    let p = if exact {
        (2.0 * rankings_up_to(n, smaller as usize)).min(1.0)
    } else {
        let n = n as f64;
        let mean = n * (n + 1.0) / 4.0;
        let variance = n * (n + 1.0) * (2.0 * n + 1.0) / 24.0 - ties / 48.0;
        (2.0 * normal_cdf((smaller - mean) / variance.sqrt())).min(1.0)
    };
    Ok(Some(Wilcoxon { w_plus, w_minus, n, p, exact }))
}

/// Share of the 2^n sets of ranks 1..=n whose sum is at most `sum`; counts exactly for n <= 25.
fn rankings_up_to(n: usize, sum: usize) -> f64 {
    let mut ways = vec![0u64; n * (n + 1) / 2 + 1];
    ways[0] = 1;
    for rank in 1..=n {
        for s in (rank..ways.len()).rev() {
            ways[s] += ways[s - rank];
        }
    }
    ways[..=sum].iter().sum::<u64>() as f64 / (1u64 << n) as f64
}

/// Result of [`permutation`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Permutation {
    /// Mean difference.
    pub mean: f64,
    /// Two-sided p value.
    pub p: f64,
    /// Whether all sign flips were gone through.
    pub exact: bool,
}

/// Paired permutation test of the mean difference: under the null hypothesis every difference is as likely with the
/// other sign. p is the share of sign flips whose |mean| is at least the one observed; over all 2^n flips for at most
/// [`PERMUTATION_EXACT`] differences, else over `resamples` random ones and the observed one itself, (b + 1)/(m + 1),
/// so that p is never 0 (B. Phipson and G. K. Smyth, 2010). `None` without differences.
///
/// # Errors
/// If a difference is NaN or infinite.
pub fn permutation(differences: &[f64], resamples: u64, seed: u64) -> Result<Option<Permutation>> {
    check_finite(differences, "differences")?;
    let n = differences.len();
    if n == 0 {
        return Ok(None);
    }
    let total: f64 = differences.iter().sum();
    let mean = total / n as f64;
    // Equal sums may differ by rounding; the slack is that of a sum of n numbers.
    let slack = differences.iter().map(|x| x.abs()).sum::<f64>() * n as f64 * f64::EPSILON;
    let extreme = |sum: f64| sum.abs() >= total.abs() - slack;
    let exact = n <= PERMUTATION_EXACT;
    let p = if exact {
        let flips = 1u64 << n;
        let sum =
            |f: u64| differences.iter().enumerate().map(|(i, x)| if f >> i & 1 == 1 { -x } else { *x }).sum();
        (0..flips).filter(|&f| extreme(sum(f))).count() as f64 / flips as f64
    } else {
        let mut random = SplitMix64::new(seed);
        let mut flipped = || {
            let chunks = differences.chunks(64).map(|chunk| {
                let bits = random.next();
                chunk.iter().enumerate().map(|(i, x)| if bits >> i & 1 == 1 { -x } else { *x }).sum::<f64>()
            });
            chunks.sum::<f64>()
        };
        let hits = (0..resamples).filter(|_| extreme(flipped())).count();
        (hits as f64 + 1.0) / (resamples as f64 + 1.0)
    };
    Ok(Some(Permutation { mean, p, exact }))
}

/// Result of [`mcnemar`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct McNemar {
    /// Exact conditional p value; conservative.
    pub exact: f64,
    /// Mid-p value (M. W. Fagerland, S. Lydersen, P. Laake, 2013): closer to the nominal level.
    pub mid: f64,
}

/// McNemar's test for two classifiers on the same items: `only_a` items only A got right, `only_b` only B. Under the
/// null hypothesis `only_a` is binomial(n, 1/2) with n = `only_a` + `only_b`; the exact p is the probability of a split
/// at least as uneven, the mid-p counts splits exactly as uneven half. With n = 0 the exact p is 1 and the mid-p 1/2.
/// The items must be independent, so it is for one window per subject, or to be read with that in mind.
pub fn mcnemar(only_a: u64, only_b: u64) -> McNemar {
    let (n, k) = (only_a as f64 + only_b as f64, only_a.min(only_b));
    let ln_half_n = n * 0.5f64.ln();
    let probability =
        |i: f64| (ln_gamma(n + 1.0) - ln_gamma(i + 1.0) - ln_gamma(n - i + 1.0) + ln_half_n).exp();
    let tail = lower_tail(k, n, probability(k as f64));
    let at = probability(k as f64);
    if only_a == only_b {
        return McNemar { exact: 1.0, mid: 1.0 - at / 2.0 };
    }
    McNemar { exact: (2.0 * tail).min(1.0), mid: (2.0 * tail - at).min(1.0) }
}

/// P(X <= k) for X binomial(n, 1/2), from P(X = k) downwards: each term is the one above times i / (n - i + 1).
fn lower_tail(k: u64, n: f64, at_k: f64) -> f64 {
    let (mut term, mut sum, mut i) = (at_k, at_k, k as f64);
    while i > 0.0 && term > 1e-18 * sum {
        term *= i / (n - i + 1.0);
        sum += term;
        i -= 1.0;
    }
    sum
}

/// Result of a t test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TTest {
    /// Mean difference.
    pub mean: f64,
    /// The statistic.
    pub t: f64,
    /// Degrees of freedom.
    pub df: f64,
    /// Two-sided p value.
    pub p: f64,
}

/// Student's paired t test: t = mean / (s / sqrt(n)). `None` for fewer than two differences or if all are equal
/// (SciPy: NaN or infinite t).
///
/// # Errors
/// If a difference is NaN or infinite.
pub fn paired_t(differences: &[f64]) -> Result<Option<TTest>> {
    t_test(differences, 0.0)
}

/// The corrected resampled t test for cross-validation (C. Nadeau and Y. Bengio, 2003): the folds' training parts
/// overlap, so the variance of the mean is s^2 (1/k + n_test/n_train) rather than s^2/k. `None` as in [`paired_t`].
///
/// # Errors
/// If a difference is NaN or infinite, or a size is 0.
pub fn nadeau_bengio(differences: &[f64], n_train: usize, n_test: usize) -> Result<Option<TTest>> {
    if n_train == 0 || n_test == 0 {
        return Err(Error::usage("the training and the test part must have items"));
    }
    t_test(differences, n_test as f64 / n_train as f64)
}

fn t_test(differences: &[f64], overlap: f64) -> Result<Option<TTest>> {
    check_finite(differences, "differences")?;
    // Asked of the values themselves: the deviation of equal values from their rounded mean need not be 0.
    if differences.len() < 2 || differences.iter().all(|x| *x == differences[0]) {
        return Ok(None);
    }
    let (mean, sd) = moments(differences);
    let k = differences.len() as f64;
    let t = mean / (sd * (1.0 / k + overlap).sqrt());
    let df = k - 1.0;
    Ok(Some(TTest { mean, t, df, p: 2.0 * t_upper(t.abs(), df) }))
}

/// Holm's step-down correction (S. Holm, 1979) for several tests: adjusted p values in the order given; reject those
/// at most alpha, and the chance of any false rejection is at most alpha.
///
/// # Errors
/// If a p value is not in 0 to 1.
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>> {
    if let Some(p) = p_values.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(Error::numeric(format!("the p value {p} is not between 0 and 1")));
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max(p_values[i] * (p_values.len() - rank) as f64).min(1.0);
        adjusted[i] = largest;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges() {
        assert_eq!(wilcoxon(&[0.0, 0.0]).unwrap(), None);
        assert_eq!(wilcoxon(&[0.0, 1.0]).unwrap().unwrap().p, 1.0);
        assert_eq!(permutation(&[], 10, 1).unwrap(), None);
        assert_eq!(permutation(&[0.0; 3], 10, 1).unwrap().unwrap().p, 1.0);
        // All six of one sign: only that flip and its mirror are as extreme.
        assert_eq!(permutation(&[0.1, 0.2, 0.3, 0.1, 0.2, 0.3], 10, 1).unwrap().unwrap().p, 2.0 / 64.0);
        assert_eq!(paired_t(&[1.0]).unwrap(), None);
        assert_eq!(paired_t(&[0.1; 3]).unwrap(), None);
        assert!(nadeau_bengio(&[1.0, 2.0], 0, 1).is_err());
        assert!(mcnemar(0, 0).exact == 1.0 && (mcnemar(0, 0).mid - 0.5).abs() < 1e-14);
        assert_eq!(mcnemar(3, 8), mcnemar(8, 3));
        assert!(holm(&[0.5, f64::NAN]).is_err());
        assert_eq!(holm(&[]).unwrap(), [0f64; 0]);
        for bad in [f64::NAN, f64::INFINITY] {
            assert!(
                wilcoxon(&[bad]).is_err()
                    && permutation(&[bad], 1, 1).is_err()
                    && paired_t(&[bad, 1.0]).is_err()
            );
        }
    }

    #[test]
    fn random_flips_approach_the_exact_p() {
        let d: Vec<f64> = (0..18).map(|i| (f64::from(i * 37 % 19) - 6.0) / 10.0).collect();
        let exact = permutation(&d, 0, 0).unwrap().unwrap();
        // Two zeros more change no sum, but make the test go over to random flips.
        let long: Vec<f64> = d.iter().copied().chain([0.0; 2]).collect();
        let random = permutation(&long, 40_000, 5).unwrap().unwrap();
        assert!(exact.exact && !random.exact);
        let sd = (exact.p * (1.0 - exact.p) / 40_000.0).sqrt();
        assert!((exact.p - random.p).abs() < 4.0 * sd, "{} {}", exact.p, random.p);
    }
}
