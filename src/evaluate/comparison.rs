//! The model against one other method, person by person.

use super::predictions::{Design, Predictions, Scope, Settings};
use super::scores::{Metric, OverPeople, by_person, over_people, scope_of, statistic};
use crate::error::Result;
use crate::metrics::{Interval, paired};

/// Model minus another method in one score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Which score.
    pub metric: Metric,
    /// Where it is computed; `None` if the folds allow it nowhere.
    pub scope: Option<Scope>,
    /// The difference; `None` where a score is not defined.
    pub estimate: Option<f64>,
    /// Student's t over people with the jackknife.
    pub interval: Option<Interval>,
    /// Percentiles of the bootstrap over people.
    pub percentile: Option<Interval>,
    /// Bias-corrected and accelerated bootstrap.
    pub bca: Option<Interval>,
}

/// What can be said of the differences of the people one by one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PairedTest {
    /// Fewer than two people have windows of both states in one fold.
    TooFewPeople {
        /// How many have.
        people: usize,
    },
    /// Every difference is zero: no test is defined.
    AllZero {
        /// How many people.
        people: usize,
    },
    /// The tests.
    Tested {
        /// How many people.
        people: usize,
        /// Mean difference.
        mean: f64,
        /// Two-sided p of Wilcoxon's signed-rank test.
        wilcoxon: f64,
        /// Two-sided p of the sign-flip permutation test.
        sign_flip: f64,
    },
}

/// The model against one other method.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The other method.
    pub against: String,
    /// Balanced accuracy and AUC.
    pub differences: Vec<Difference>,
    /// Paired tests of the balanced accuracy of each person.
    pub test: PairedTest,
    /// p of the sign-flip test by Holm's method over all methods compared with.
    pub holm: Option<f64>,
}

/// Tests the differences of people, one each.
///
/// # Errors
/// If a difference is NaN or infinite.
pub fn paired_test(differences: &[f64], seed: u64) -> Result<PairedTest> {
    let people = differences.len();
    if people < 2 {
        return Ok(PairedTest::TooFewPeople { people });
    }
    match (paired::wilcoxon(differences)?, paired::permutation(differences, 10_000, seed)?) {
        (Some(w), Some(q)) => Ok(PairedTest::Tested { people, mean: q.mean, wilcoxon: w.p, sign_flip: q.p }),
        // Wilcoxon's test drops zeros; none is left.
        _ => Ok(PairedTest::AllZero { people }),
    }
}

/// Compares the model's probabilities `own` with those of each of `others`.
pub(super) fn compare(
    p: &Predictions,
    own: &[f64],
    others: &[(&str, &[f64])],
    design: &Design,
    s: &Settings,
) -> Result<Vec<Comparison>> {
    let mut out = Vec::new();
    for (name, theirs) in others {
        let mut differences = Vec::new();
        for metric in [Metric::BalancedAccuracy, Metric::Auc] {
            let scope = scope_of(metric, design);
            let found = match scope {
                None => OverPeople { estimate: None, interval: None, percentile: None, bca: None },
                Some(scope) => {
                    let mut a = statistic(metric, scope, p, own, design, s.threshold);
                    let b = statistic(metric, scope, p, theirs, design, s.threshold);
                    let (x, y) = (a.value, b.value);
                    a.value = Box::new(move |items| Some(x(items)? - y(items)?));
                    let (low, high) = metric.range();
                    over_people(&a, (low - high, high - low), s)?
                }
            };
            differences.push(Difference {
                metric,
                scope,
                estimate: found.estimate,
                interval: found.interval,
                percentile: found.percentile,
                bca: found.bca,
            });
        }
        let of = |q| by_person(Metric::BalancedAccuracy, p, q, design, s.threshold);
        let each: Vec<f64> = of(own).iter().zip(of(theirs)).map(|(a, b)| a.1 - b.1).collect();
        let test = paired_test(&each, s.seed)?;
        out.push(Comparison { against: (*name).into(), differences, test, holm: None });
    }
    let tested: Vec<(usize, f64)> = out
        .iter()
        .enumerate()
        .filter_map(|(i, c)| match c.test {
            PairedTest::Tested { sign_flip, .. } => Some((i, sign_flip)),
            _ => None,
        })
        .collect();
    let p_values: Vec<f64> = tested.iter().map(|t| t.1).collect();
    for ((i, _), adjusted) in tested.iter().zip(paired::holm(&p_values)?) {
        out[*i].holm = Some(adjusted);
    }
    Ok(out)
}
