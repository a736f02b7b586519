//! What the scores are when the labels mean nothing: the whole procedure again under labels permuted within people.
//!
//! A score of one half is what a *constant* has, not what a method without any effect has: features centred within people
//! fall below it by leave-one-out, imbalance and leaks lift above it. The distribution under permuted labels is what
//! "nothing there" looks like for this study, these folds and this method, and the share of permutations that score at least
//! as high as the true labels is a p value that needs no assumption (P. Good, Permutation Tests, 1994; M. Ojala and
//! G. C. Garriga, Permutation tests for studying classifier performance, JMLR 11, 2010, their test 1, within people).
//!
//! Labels are exchanged where they could have fallen otherwise: the windows of a trial share one label, so the labels of a
//! person's *trials* are permuted. Only where trials hold both labels are single windows permuted.

use std::collections::BTreeMap;

use super::baselines::{Baseline, FeatureTable, FoldRows, fit};
use super::predictions::{Design, Predictions};
use super::scores::{Metric, scope_of, statistic};
use crate::data::rng::SplitMix64;
use crate::error::Result;

/// What is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// The labels of whole trials.
    Trials,
    /// The labels of single windows: some trial holds both.
    Windows,
}

/// Permutes labels within people.
#[derive(Clone, Debug)]
pub struct Permuter {
    /// What is exchanged.
    pub exchange: Exchange,
    /// People whose labels can change: those with two labels or more.
    pub people: usize,
    /// For each person the blocks of windows that keep together.
    blocks: Vec<Vec<Vec<usize>>>,
}

impl Permuter {
    /// `person`, `trial` and `label` of each window.
    pub fn new(person: &[u32], trial: &[u32], label: &[bool]) -> Self {
        let mut trials: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
        for (i, key) in person.iter().copied().zip(trial.iter().copied()).enumerate() {
            trials.entry(key).or_default().push(i);
        }
        let mixed = trials.values().any(|t| t.iter().any(|&i| label[i] != label[t[0]]));
        let exchange = if mixed { Exchange::Windows } else { Exchange::Trials };
        let mut blocks: BTreeMap<u32, Vec<Vec<usize>>> = BTreeMap::new();
        for ((who, _), windows) in trials {
            let own = blocks.entry(who).or_default();
            match exchange {
                Exchange::Trials => own.push(windows),
                Exchange::Windows => own.extend(windows.into_iter().map(|i| vec![i])),
            }
        }
        let both = |b: &Vec<Vec<usize>>| {
            b.iter().flatten().any(|&i| label[i]) && b.iter().flatten().any(|&i| !label[i])
        };
        let blocks: Vec<Vec<Vec<usize>>> = blocks.into_values().collect();
        Self { exchange, people: blocks.iter().filter(|b| both(b)).count(), blocks }
    }

    /// Permutation `index` of `seed`: window i is to get the label of window `order[i]`, one of the same person.
    pub fn order(&self, seed: u64, index: u64) -> Vec<usize> {
        let n = self.blocks.iter().flatten().map(Vec::len).sum();
        let mut order = vec![0; n];
        let mut random = SplitMix64::keyed(seed, NULL_STREAM + index);
        for blocks in &self.blocks {
            let mut from: Vec<usize> = (0..blocks.len()).collect();
            random.shuffle(&mut from);
            for (block, from) in blocks.iter().zip(from) {
                // A block has one label, so the label of its first window is that of all.
                block.iter().for_each(|&i| order[i] = blocks[from][0]);
            }
        }
        order
    }
}

/// Apart from the streams of splits, batches and folds.
const NULL_STREAM: u64 = 1 << 33;

/// One score under true and under permuted labels.
#[derive(Clone, Debug, PartialEq)]
pub struct NullDistribution {
    /// The method.
    pub method: String,
    /// The score.
    pub metric: Metric,
    /// Its value under the true labels; `None` where undefined.
    pub observed: Option<f64>,
    /// Its values under permuted labels, in the order of the permutations.
    pub permuted: Vec<f64>,
    /// Permutations under which it is not defined.
    pub undefined: usize,
}

impl NullDistribution {
    /// Share of permutations that score at least as high as the true labels, the true labels among them:
    /// (b + 1) / (m + 1), never 0 (B. Phipson and G. K. Smyth, 2010). `None` without an observed value or permutations.
    pub fn p(&self) -> Option<f64> {
        let observed = self.observed.filter(|_| !self.permuted.is_empty())?;
        // Sums in another order may differ by rounding.
        let hits = self.permuted.iter().filter(|v| **v >= observed - 1e-12).count();
        Some((hits + 1) as f64 / (self.permuted.len() + 1) as f64)
    }

    /// Mean under permuted labels: the score expected if there is no effect.
    pub fn mean(&self) -> Option<f64> {
        let n = self.permuted.len();
        (n > 0).then(|| self.permuted.iter().sum::<f64>() / n as f64)
    }

    /// An interval around the observed score, as wide as the scores scatter under permuted labels:
    ///
    /// ```text
    /// k-th smallest and k-th largest permuted score, k = floor((1 - level) / 2 (m + 1))
    /// ends = observed - (k-th largest - mean), observed - (k-th smallest - mean)
    /// ```
    ///
    /// It leaves the mean under permuted labels out exactly when the observed score is more extreme than those two, so in
    /// 2 k / (m + 1) of studies without an effect, whatever the method; an interval over people, which takes the fitted
    /// models as given, has no such guarantee (features centred within people: see `benches/NOTES.md`). `None` for fewer
    /// permutations than 2 / (1 - level) - 1, which is 39 for 95 %.
    pub fn interval(&self, level: f64) -> Option<(f64, f64)> {
        let (observed, mean, m) = (self.observed?, self.mean()?, self.permuted.len());
        // The slack undoes rounding, as in 0.025 x 40 = 1.0000000000000009.
        let k = ((1.0 - level) / 2.0 * (m + 1) as f64 + 1e-9).floor() as usize;
        let mut sorted = self.permuted.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.get(k.checked_sub(1)?)?, sorted.get(m.checked_sub(k)?)?);
        Some((observed - (high - mean), observed - (low - mean)))
    }

    /// The value below which the share `p` of the permutations lies.
    pub fn quantile(&self, p: f64) -> Option<f64> {
        let mut sorted = self.permuted.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        Some(sorted[(p.clamp(0.0, 1.0) * last as f64).round() as usize])
    }
}

/// The scores a null study follows.
pub const METRICS: [Metric; 2] = [Metric::BalancedAccuracy, Metric::Auc];

/// Balanced accuracy and AUC of the probabilities `q`, where [`super::evaluate`] computes them.
pub fn state_scores(p: &Predictions, q: &[f64], threshold: f64) -> [Option<f64>; 2] {
    let design = Design::of(p);
    METRICS.map(|metric| {
        let f = statistic(metric, scope_of(metric, &design)?, p, q, &design, threshold);
        (f.value)(&(0..f.clusters.len()).collect::<Vec<_>>())
    })
}

/// Collects the scores of methods over permutations.
#[derive(Clone, Debug, Default)]
pub struct NullStudy {
    /// Two per method, in the order of [`METRICS`].
    pub distributions: Vec<NullDistribution>,
}

impl NullStudy {
    /// Adds a method with its scores under the true labels; returns its number.
    pub fn method(&mut self, name: &str, observed: [Option<f64>; 2]) -> usize {
        for (metric, observed) in METRICS.into_iter().zip(observed) {
            let (method, permuted) = (name.to_string(), Vec::new());
            self.distributions.push(NullDistribution { method, metric, observed, permuted, undefined: 0 });
        }
        self.distributions.len() / METRICS.len() - 1
    }

    /// Adds the scores of a method under one permutation.
    pub fn add(&mut self, method: usize, scores: [Option<f64>; 2]) {
        for (k, score) in scores.into_iter().enumerate() {
            let d = &mut self.distributions[METRICS.len() * method + k];
            match score {
                Some(v) => d.permuted.push(v),
                None => d.undefined += 1,
            }
        }
    }
}

/// Balanced accuracy and AUC of each baseline fitted in `folds` to the labels of `folds` and `p`; `tables` as from
/// [`super::baselines::measure`].
///
/// # Errors
/// As [`fit`].
pub fn baseline_scores(
    list: &[Baseline],
    tables: &[Option<FeatureTable>],
    p: &Predictions,
    folds: &[FoldRows],
    threshold: f64,
) -> Result<Vec<[Option<f64>; 2]>> {
    list.iter()
        .zip(tables)
        .map(|(b, table)| {
            let found = fit(&b.name, table.as_ref(), p, folds)?;
            Ok(state_scores(p, &found.probability, threshold))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_exchanged_within_people_and_trials_keep_together() {
        let person: Vec<u32> = (0..24).map(|i| i / 12).collect();
        let trial: Vec<u32> = (0..24).map(|i| i / 3).collect();
        let label: Vec<bool> = trial.iter().map(|t| t % 4 < 2).collect();
        let permuter = Permuter::new(&person, &trial, &label);
        assert_eq!((permuter.exchange, permuter.people), (Exchange::Trials, 2));
        let mut seen = std::collections::BTreeSet::new();
        for k in 0..200 {
            let order = permuter.order(5, k);
            assert!(order.iter().enumerate().all(|(i, &j)| person[i] == person[j]));
            let new: Vec<bool> = order.iter().map(|&j| label[j]).collect();
            assert!((0..24).all(|i| new[i] == new[i / 3 * 3]), "a trial is torn apart");
            for who in 0..2 {
                let count = |l: &[bool]| (0..24).filter(|&i| person[i] == who && l[i]).count();
                assert_eq!(count(&new), count(&label));
            }
            seen.insert(new);
        }
        // Two of four trials for each of two people: 36 ways, all of which come up.
        assert_eq!(seen.len(), 36);
        assert_eq!(permuter.order(5, 3), permuter.order(5, 3));
        assert_ne!(permuter.order(5, 3), permuter.order(6, 3));
        let mut mixed = label.clone();
        mixed[0] = !mixed[0];
        assert_eq!(Permuter::new(&person, &trial, &mixed).exchange, Exchange::Windows);
        let one = Permuter::new(&person, &trial, &[true; 24]);
        assert_eq!((one.exchange, one.people), (Exchange::Trials, 0));
    }

    #[test]
    fn p_counts_the_observed_labels() {
        let d = |observed, permuted: &[f64]| NullDistribution {
            method: "m".into(),
            metric: Metric::Auc,
            observed,
            permuted: permuted.to_vec(),
            undefined: 0,
        };
        assert_eq!(d(Some(0.9), &[0.5, 0.4, 0.6]).p(), Some(0.25));
        assert_eq!(d(Some(0.5), &[0.5, 0.4, 0.6]).p(), Some(0.75));
        assert_eq!(d(None, &[0.5]).p(), None);
        assert_eq!(d(Some(0.5), &[]).p(), None);
        let spread = d(Some(0.9), &[0.6, 0.5, 0.4]);
        assert!((spread.mean().unwrap() - 0.5).abs() < 1e-12);
        assert_eq!([0.0, 0.5, 1.0].map(|p| spread.quantile(p)), [Some(0.4), Some(0.5), Some(0.6)]);
        assert_eq!(d(None, &[]).quantile(0.5), None);
        // 39 permutations, 0.01 to 0.39: the least and the largest bound 95 %.
        let many: Vec<f64> = (1..40).map(|i| f64::from(i) / 100.0).collect();
        let (low, high) = d(Some(0.5), &many).interval(0.95).unwrap();
        assert!((low - (0.5 - 0.19)).abs() < 1e-12 && (high - (0.5 + 0.19)).abs() < 1e-12, "{low} {high}");
        assert_eq!(d(Some(0.5), &many[1..]).interval(0.95), None);
        assert!(d(Some(0.5), &many[1..]).interval(0.9).is_some());
    }
}
