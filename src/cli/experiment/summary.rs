//! From the cells' predictions to figures: per row mean over seeds with an interval over people, paired differences to one
//! model, p values corrected for their number.

use std::collections::BTreeMap;

use super::cell::Outcome;
use crate::error::Result;
use crate::metrics::{Interval, auc, bootstrap, paired, reliability};

/// Predictions of one row of the matrix, one per seed, on the same windows.
pub(super) struct Row<'a> {
    pub(super) reading: String,
    pub(super) model: String,
    pub(super) people: usize,
    pub(super) runs: Vec<&'a Outcome>,
    /// Why cells are missing.
    pub(super) holes: Vec<String>,
}

/// The figures of a row.
pub(super) struct Figures {
    pub(super) windows: usize,
    pub(super) subjects: usize,
    /// Balanced accuracy at 0.5, all test windows together.
    pub(super) balanced: Summary,
    /// AUC, all test windows together.
    pub(super) auc: Summary,
    /// AUC within each person with windows of both classes, averaged over them.
    pub(super) auc_within: Summary,
    /// Expected calibration error in ten bins, mean over seeds.
    pub(super) ece: f64,
    /// AUC minus the reference model's; `None` for that model itself, or where either has a hole.
    pub(super) difference: Option<Difference>,
}

/// A score over seeds: mean, range, and an interval over people of the mean.
#[derive(Clone, Copy)]
pub(super) struct Summary {
    pub(super) mean: f64,
    pub(super) low_seed: f64,
    pub(super) high_seed: f64,
    pub(super) interval: Option<Interval>,
}

/// A paired comparison.
#[derive(Clone, Copy)]
pub(super) struct Difference {
    pub(super) auc: Option<Interval>,
    pub(super) balanced: Option<Interval>,
    /// Of the balanced accuracies person by person, by sign flips; two-sided.
    pub(super) p: Option<f64>,
    /// After Holm's correction over all rows.
    pub(super) p_holm: Option<f64>,
}

/// A score of some windows of a run.
type Score = fn(&Outcome, &[usize]) -> Option<f64>;

fn balanced(o: &Outcome, items: &[usize]) -> Option<f64> {
    let mut counts = [[0.0f64; 2]; 2];
    for &i in items {
        counts[usize::from(o.label[i])][usize::from(o.probability[i] >= 0.5)] += 1.0;
    }
    let share = |c: [f64; 2], k: usize| (c[0] + c[1] > 0.0).then(|| c[k] / (c[0] + c[1]));
    Some(0.5 * (share(counts[0], 0)? + share(counts[1], 1)?))
}

fn pooled_auc(o: &Outcome, items: &[usize]) -> Option<f64> {
    let (l, p): (Vec<bool>, Vec<f64>) = items.iter().map(|&i| (o.label[i], o.probability[i])).unzip();
    auc(&l, &p).ok().flatten()
}

/// A person drawn twice by the bootstrap counts twice: their windows come in runs of the same person.
fn within_auc(o: &Outcome, items: &[usize]) -> Option<f64> {
    let mut sum = (0.0, 0.0);
    for part in items.chunk_by(|a, b| o.person[*a] == o.person[*b] && a < b) {
        if let Some(a) = pooled_auc(o, part) {
            sum = (sum.0 + a, sum.1 + 1.0);
        }
    }
    (sum.1 > 0.0).then(|| sum.0 / sum.1)
}

/// Mean of a score over the runs that have it.
fn over_seeds(runs: &[&Outcome], items: &[usize], score: Score) -> Option<f64> {
    let all: Vec<f64> = runs.iter().filter_map(|o| score(o, items)).collect();
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}

/// Numbers of the people of a run's windows.
fn clusters(o: &Outcome) -> Vec<usize> {
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    o.person
        .iter()
        .map(|p| {
            let next = ids.len();
            *ids.entry(p).or_insert(next)
        })
        .collect()
}

fn summarise(runs: &[&Outcome], score: Score, resamples: usize) -> Result<Summary> {
    let all: Vec<usize> = (0..runs[0].row.len()).collect();
    let seeds: Vec<f64> = runs.iter().filter_map(|o| score(o, &all)).collect();
    let found = bootstrap(&clusters(runs[0]), |items| over_seeds(runs, items, score), resamples, 0.95, 1)?;
    Ok(Summary {
        mean: over_seeds(runs, &all, score).unwrap_or(f64::NAN),
        low_seed: seeds.iter().copied().fold(f64::INFINITY, f64::min),
        high_seed: seeds.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        interval: found.map(|b| b.percentile),
    })
}

/// Balanced accuracy of each person with both classes, mean over seeds.
fn by_person(runs: &[&Outcome]) -> BTreeMap<String, f64> {
    let mut items: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    runs[0].person.iter().enumerate().for_each(|(i, p)| items.entry(p).or_default().push(i));
    items.into_iter().filter_map(|(p, i)| Some((p.to_string(), over_seeds(runs, &i, balanced)?))).collect()
}

fn compare(own: &[&Outcome], other: &[&Outcome], resamples: usize) -> Result<Difference> {
    let interval = |score: Score| -> Result<Option<Interval>> {
        let statistic =
            |items: &[usize]| Some(over_seeds(own, items, score)? - over_seeds(other, items, score)?);
        Ok(bootstrap(&clusters(own[0]), statistic, resamples, 0.95, 1)?.map(|b| b.percentile))
    };
    let (a, b) = (by_person(own), by_person(other));
    let differences: Vec<f64> = a.iter().filter_map(|(p, x)| Some(x - b.get(p)?)).collect();
    let p = paired::permutation(&differences, 10_000, 1)?.map(|t| t.p);
    Ok(Difference { auc: interval(pooled_auc)?, balanced: interval(balanced)?, p, p_holm: None })
}

/// Holm's step-down correction (S. Holm, 1979): the i-th smallest of m p values times m - i, never below one before it.
pub(super) fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut out, mut highest) = (vec![0.0; p.len()], 0.0f64);
    for (rank, i) in order.into_iter().enumerate() {
        highest = highest.max(p[i] * (p.len() - rank) as f64).min(1.0);
        out[i] = highest;
    }
    out
}

/// Figures of every row; `None` for a row without a finished cell.
///
/// # Errors
/// Probabilities that are none.
pub(super) fn figures(rows: &[Row<'_>], against: &str, resamples: usize) -> Result<Vec<Option<Figures>>> {
    let mut out = Vec::new();
    for row in rows {
        if row.runs.is_empty() {
            out.push(None);
            continue;
        }
        let same = |r: &&Row<'_>| r.reading == row.reading && r.people == row.people && r.model == against;
        let other = rows.iter().find(same).filter(|r| r.model != row.model && !r.runs.is_empty());
        let comparable = other.filter(|r| r.runs[0].row == row.runs[0].row);
        let difference = comparable.map(|r| compare(&row.runs, &r.runs, resamples)).transpose()?;
        let mut ece = 0.0;
        for o in &row.runs {
            ece += reliability(&o.label, &o.probability, 10)?.map_or(f64::NAN, |r| r.expected_error);
        }
        out.push(Some(Figures {
            windows: row.runs[0].row.len(),
            subjects: clusters(row.runs[0]).iter().max().map_or(0, |m| m + 1),
            balanced: summarise(&row.runs, balanced, resamples)?,
            auc: summarise(&row.runs, pooled_auc, resamples)?,
            auc_within: summarise(&row.runs, within_auc, resamples)?,
            ece: ece / row.runs.len() as f64,
            difference,
        }));
    }
    let p: Vec<f64> = out.iter().flatten().filter_map(|f: &Figures| f.difference?.p).collect();
    let mut corrected = holm(&p).into_iter();
    for f in out.iter_mut().flatten() {
        if let Some(d) = f.difference.as_mut().filter(|d| d.p.is_some()) {
            d.p_holm = corrected.next();
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holm_by_hand() {
        let got = holm(&[0.01, 0.04, 0.03, 0.005]);
        let want = [0.03, 0.06, 0.06, 0.02];
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?}");
        assert_eq!(holm(&[0.6, 0.7]), [1.0, 1.0]);
    }

    fn outcome(shift: f64) -> Outcome {
        let n = 80;
        Outcome {
            row: (0..n).collect(),
            person: (0..n).map(|i| format!("p{}", i / 8)).collect(),
            label: (0..n).map(|i| i % 2 == 0).collect(),
            probability: (0..n)
                .map(|i| {
                    let noise = f64::from(((i * 37) % 64) as u32) / 64.0 - 0.5;
                    (0.5 + 0.4 * noise + if i % 2 == 0 { shift } else { -shift }).clamp(0.0, 1.0)
                })
                .collect(),
            ..Outcome::default()
        }
    }

    #[test]
    fn a_better_model_is_told_and_an_equal_one_is_not() {
        let (good, same, base) = (outcome(0.15), outcome(0.02), outcome(0.02));
        let row = |model: &str, o| Row {
            reading: "r".into(),
            model: model.into(),
            people: 0,
            runs: vec![o],
            holes: Vec::new(),
        };
        let rows = [row("base", &base), row("good", &good), row("same", &same)];
        let f = figures(&rows, "base", 300).unwrap();
        let d = |i: usize| f[i].as_ref().unwrap().difference;
        assert!(d(0).is_none());
        let good = d(1).unwrap();
        assert!(good.auc.unwrap().low > 0.0 && good.p_holm.unwrap() < 0.05);
        let same = d(2).unwrap();
        assert_eq!((same.auc.unwrap().estimate, same.p_holm), (0.0, Some(1.0)));
        let own = f[1].as_ref().unwrap();
        assert!((own.auc.mean - own.auc_within.mean).abs() < 0.2 && own.subjects == 10);
    }

    #[test]
    fn a_hole_is_no_figure() {
        let row =
            Row { reading: "r".into(), model: "m".into(), people: 0, runs: vec![], holes: vec!["x".into()] };
        assert!(figures(&[row], "m", 10).unwrap()[0].is_none());
    }
}
