//! The scores of one method: each figure with where it is computed and its interval over people.
//!
//! Balanced accuracy, AUC and average precision compare the two states, so they are computed where both are answered by one
//! model: in each *cell*, the test windows of one person in one fold; the mean over a person's cells is the person's score,
//! and the mean over people is the figure ([`Scope::WithinPerson`]). People without a cell are left out and counted. Where
//! fewer than half of the people have a cell (each has one state only, say), the figure is the mean over the folds that hold
//! both states ([`Scope::WithinFold`]). By both definitions a method that says the same of every window of a fold scores
//! exactly 1/2 and a perfect ranking 1, whatever the protocol and the class balance; average precision weighs the states
//! equally for that ([`crate::metrics::balanced_average_precision`]).
//!
//! Over all windows together neither holds: the outputs of several models are ranked against each other, and by
//! leave-one-out the share of positives in the training part falls as that in the test part rises, which puts a constant far
//! below 1/2. Those values are given beside, as *pooled*. Macro F1, accuracy, the Matthews correlation and the Brier score
//! are of all test windows ([`Scope::Pooled`]): they are shares and means of single windows, and there is no 1/2 to keep.
//!
//! Intervals are Student's t with the jackknife over people ([`crate::metrics::jackknife_t`]), on the logit scale for scores
//! from 0 to 1 ([`crate::metrics::on_logit_scale`]); percentiles of the bootstrap
//! over people and BCa are in the JSON beside. All of them take the fitted models as given: what the score would be for other
//! people, not what it would be after training on others. `benches/NOTES.md` has their measured coverage.

use super::predictions::{Design, Predictions, Scope, Settings};
use crate::error::Result;
use crate::metrics::{
    Confusion, Interval, auc, balanced_average_precision, bootstrap, brier, jackknife_t, mean_roc,
    on_logit_scale, roc_curve,
};

/// A figure of merit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Mean of the two recalls.
    BalancedAccuracy,
    /// Mean of the two F1.
    MacroF1,
    /// Area under the ROC curve.
    Auc,
    /// Share of windows predicted right.
    Accuracy,
    /// Average precision with both classes weighed equally.
    AveragePrecision,
    /// Matthews correlation.
    Mcc,
    /// Mean squared error of the probability.
    Brier,
}

impl Metric {
    /// All, in the order of tables.
    pub const ALL: [Metric; 7] = [
        Metric::BalancedAccuracy,
        Metric::MacroF1,
        Metric::Auc,
        Metric::Accuracy,
        Metric::AveragePrecision,
        Metric::Mcc,
        Metric::Brier,
    ];

    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Metric::BalancedAccuracy => "balanced accuracy",
            Metric::MacroF1 => "macro F1",
            Metric::Auc => "AUC",
            Metric::Accuracy => "accuracy",
            Metric::AveragePrecision => "average precision",
            Metric::Mcc => "MCC",
            Metric::Brier => "Brier score",
        }
    }

    /// Whether it compares the two states, is 1/2 for a constant, and is therefore computed within people or folds.
    pub fn compares_states(self) -> bool {
        matches!(self, Metric::BalancedAccuracy | Metric::Auc | Metric::AveragePrecision)
    }

    /// Lowest and highest value.
    pub fn range(self) -> (f64, f64) {
        if self == Metric::Mcc { (-1.0, 1.0) } else { (0.0, 1.0) }
    }

    /// The figure of some windows; `None` where it is not defined ([`crate::metrics`] has the definitions). Those that
    /// compare the states need both.
    pub fn of(self, labels: &[bool], probabilities: &[f64], threshold: f64) -> Option<f64> {
        let counts = || Confusion::from_probabilities(labels, probabilities, threshold).ok();
        let both = || labels.contains(&true) && labels.contains(&false);
        match self {
            Metric::BalancedAccuracy => counts().filter(|_| both())?.balanced_accuracy(),
            Metric::MacroF1 => counts()?.macro_f1(),
            Metric::Auc => auc(labels, probabilities).ok()?,
            Metric::Accuracy => counts()?.accuracy(),
            Metric::AveragePrecision => balanced_average_precision(labels, probabilities).ok()?,
            Metric::Mcc => counts()?.matthews(),
            Metric::Brier => brier(labels, probabilities).ok()?,
        }
    }
}

/// One score of one method. No value in it is NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Which.
    pub metric: Metric,
    /// Where it is computed; `None` if the folds allow it nowhere.
    pub scope: Option<Scope>,
    /// The value; `None` where it is not defined.
    pub estimate: Option<f64>,
    /// Student's t over people with the jackknife, on the logit scale for scores from 0 to 1; `None` for fewer than two people or
    /// where a person's absence leaves the score undefined.
    pub interval: Option<Interval>,
    /// Percentiles of the bootstrap over people.
    pub percentile: Option<Interval>,
    /// Bias-corrected and accelerated bootstrap; `None` also where that correction is not defined.
    pub bca: Option<Interval>,
    /// The value over all windows together.
    pub pooled: Option<f64>,
}

/// The value for some items; `None` where it is not defined.
pub(super) type Value<'a> = Box<dyn Fn(&[usize]) -> Option<f64> + 'a>;

/// A figure as a function of items, some of them repeated or missing when people are resampled.
pub(super) struct Statistic<'a> {
    /// Person of each item.
    pub clusters: Vec<usize>,
    /// The value for some items.
    pub value: Value<'a>,
}

/// The score of each person who has a cell: the mean over the cells.
pub(super) fn by_person(
    metric: Metric,
    p: &Predictions,
    q: &[f64],
    design: &Design,
    threshold: f64,
) -> Vec<(usize, f64)> {
    let of = |items: &Vec<usize>| {
        let (l, q): (Vec<bool>, Vec<f64>) = items.iter().map(|&i| (p.label[i], q[i])).unzip();
        metric.of(&l, &q, threshold)
    };
    design
        .cells
        .iter()
        .filter_map(|(who, cells)| {
            let values: Option<Vec<f64>> = cells.iter().map(of).collect();
            Some((*who, mean(&values?)?))
        })
        .collect()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// `metric` of the probabilities `q` in `scope`, as a function of people.
pub(super) fn statistic<'a>(
    metric: Metric,
    scope: Scope,
    p: &'a Predictions,
    q: &'a [f64],
    design: &'a Design,
    threshold: f64,
) -> Statistic<'a> {
    match scope {
        Scope::WithinPerson => {
            let values: Vec<f64> =
                by_person(metric, p, q, design, threshold).into_iter().map(|(_, v)| v).collect();
            Statistic {
                clusters: (0..values.len()).collect(),
                value: Box::new(move |who| {
                    (!who.is_empty()).then(|| who.iter().map(|&i| values[i]).sum::<f64>() / who.len() as f64)
                }),
            }
        }
        Scope::WithinFold => Statistic {
            clusters: design.person.clone(),
            value: Box::new(move |items| {
                let mut folds: std::collections::BTreeMap<usize, (Vec<bool>, Vec<f64>)> = Default::default();
                for &i in items {
                    let fold = folds.entry(design.fold[i]).or_default();
                    fold.0.push(p.label[i]);
                    fold.1.push(q[i]);
                }
                let values: Vec<f64> =
                    folds.values().filter_map(|(l, q)| metric.of(l, q, threshold)).collect();
                mean(&values)
            }),
        },
        Scope::Pooled => Statistic {
            clusters: design.person.clone(),
            value: Box::new(move |items| {
                let (l, q): (Vec<bool>, Vec<f64>) = items.iter().map(|&i| (p.label[i], q[i])).unzip();
                metric.of(&l, &q, threshold)
            }),
        },
    }
}

/// The scope of `metric` in this design.
pub(super) fn scope_of(metric: Metric, design: &Design) -> Option<Scope> {
    if metric.compares_states() { design.scope } else { Some(Scope::Pooled) }
}

/// An estimate with its three intervals, cut off at `range`.
pub(super) struct OverPeople {
    pub estimate: Option<f64>,
    pub interval: Option<Interval>,
    pub percentile: Option<Interval>,
    pub bca: Option<Interval>,
}

/// Estimate and intervals of a statistic.
pub(super) fn over_people(f: &Statistic<'_>, range: (f64, f64), s: &Settings) -> Result<OverPeople> {
    let all: Vec<usize> = (0..f.clusters.len()).collect();
    // Shares and areas have their interval on the logit scale; correlations and differences are cut off at the ends.
    let clip = |i: Interval| match range {
        (0.0, 1.0) => on_logit_scale(i),
        (low, high) => Interval { low: i.low.max(low), high: i.high.min(high), ..i },
    };
    let found = bootstrap(&f.clusters, &f.value, s.resamples, s.level, s.seed)?;
    Ok(OverPeople {
        estimate: (f.value)(&all),
        interval: jackknife_t(&f.clusters, &f.value, s.level)?.map(clip),
        percentile: found.as_ref().map(|b| b.percentile),
        bca: found.and_then(|b| b.bca),
    })
}

/// One score.
pub(super) fn score(
    metric: Metric,
    p: &Predictions,
    q: &[f64],
    design: &Design,
    s: &Settings,
) -> Result<Score> {
    let all = |scope| statistic(metric, scope, p, q, design, s.threshold);
    let everything: Vec<usize> = (0..p.len()).collect();
    let pooled = (all(Scope::Pooled).value)(&everything);
    let scope = scope_of(metric, design);
    let found = match scope {
        Some(scope) => over_people(&all(scope), metric.range(), s)?,
        None => OverPeople { estimate: None, interval: None, percentile: None, bca: None },
    };
    Ok(Score {
        metric,
        scope,
        estimate: found.estimate,
        interval: found.interval,
        percentile: found.percentile,
        bca: found.bca,
        pooled,
    })
}

/// Windows among which the states are compared: for each person the cells, or each fold by itself.
fn groups(p: &Predictions, design: &Design) -> Vec<Vec<Vec<usize>>> {
    match design.scope {
        Some(Scope::WithinPerson) => design.cells.iter().map(|(_, cells)| cells.clone()).collect(),
        Some(_) => {
            let mut folds: std::collections::BTreeMap<usize, Vec<usize>> = Default::default();
            (0..p.len()).for_each(|i| folds.entry(p.fold[i]).or_default().push(i));
            let both = |items: &Vec<usize>| {
                let positives = items.iter().filter(|&&i| p.label[i]).count();
                positives > 0 && positives < items.len()
            };
            folds.into_values().filter(both).map(|items| vec![items]).collect()
        }
        None => Vec::new(),
    }
}

/// False and true positive rate.
type Rates = (f64, f64);

/// The mean ROC curve in the design's scope, and the mean (false, true) positive rate at the threshold. Its area is the
/// AUC.
pub(super) fn roc(
    p: &Predictions,
    q: &[f64],
    design: &Design,
    threshold: f64,
) -> Result<(Vec<Rates>, Option<Rates>)> {
    let groups = groups(p, design);
    let (mut curves, mut point) = (Vec::new(), (0.0, 0.0));
    for cells in &groups {
        let mut own = Vec::new();
        for items in cells {
            let (l, q): (Vec<bool>, Vec<f64>) = items.iter().map(|&i| (p.label[i], q[i])).unzip();
            let curve = roc_curve(&l, &q)?.unwrap_or_default();
            own.push(curve.iter().map(|r| (r.false_positive_rate, r.true_positive_rate)).collect());
            let c = Confusion::from_probabilities(&l, &q, threshold)?;
            let weight = 1.0 / (groups.len() * cells.len()) as f64;
            point.0 += weight * (1.0 - c.specificity(1).unwrap_or(0.0));
            point.1 += weight * c.recall(1).unwrap_or(0.0);
        }
        curves.push(mean_roc(&own));
    }
    let at = (!curves.is_empty()).then_some(point);
    Ok((mean_roc(&curves), at))
}
