//! A linear probe: logistic regression on the features of a frozen encoder, fitted fold by fold, its penalty chosen inside
//! the training people of the fold.
//!
//! Features are standardised with the training part's means and deviations; a missing value becomes the mean. The two
//! blocks have penalties of their own: the physiology (heart rate, variability, and their differences to the reference) has 1,
//! as the baselines have; that of the embedding is chosen among [`PENALTIES`], or the embedding is left out, by the balanced
//! log loss of windows of training people that the fit has not seen ([`ProbeSettings::inner_folds`] folds over people). So a
//! probe is the baseline where the embedding has nothing to add, and says so ([`FoldProbe::penalty`]).
//!
//! Every window is embedded once, whatever the number of folds. Leaving each of EEGMAT's 36 people out costs 756 fits.

use super::finetune::Labelled;
use super::shard::Workers;
use crate::data::split::{Group, Keys, Protocol, Split};
use crate::error::{Error, Result};
use crate::metrics::PenalisedLogistic;
use crate::train::Prediction;

/// Penalties of the embedding, strongest first; before them comes leaving it out.
pub const PENALTIES: [f64; 4] = [1e4, 1e3, 1e2, 1e1];

/// The penalty of the physiology: scikit-learn's default, C = 1, as in the baselines.
pub const PHYSIOLOGY_PENALTY: f64 = 1.0;

/// What the head reads of each labelled window, `[windows, columns]`; NaN where a value is missing.
#[derive(Clone, Debug)]
pub struct ProbeFeatures {
    /// Row-major.
    pub x: Vec<f32>,
    /// Values of a window.
    pub columns: usize,
    /// Of them, the first so many are physiology, the others the embedding.
    pub physiology: usize,
}

impl ProbeFeatures {
    /// The columns `keep` (ascending) alone, as physiology: a baseline.
    pub fn only(&self, keep: &[usize]) -> Self {
        let x = self.x.chunks_exact(self.columns).flat_map(|r| keep.iter().map(|&j| r[j])).collect();
        Self { x, columns: keep.len(), physiology: keep.len() }
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.x[i * self.columns..(i + 1) * self.columns]
    }
}

/// How a probe is fitted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ProbeSettings {
    /// Folds over the training people that the penalty is chosen in.
    pub inner_folds: usize,
    /// Whether the embedding may be left out; with physiology only.
    pub may_leave_out: bool,
    /// Seed of those folds.
    pub seed: u64,
    /// Threads; 0 for all. The result does not depend on them.
    pub threads: usize,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self { inner_folds: 4, may_leave_out: true, seed: 1, threads: 0 }
    }
}

/// A fitted probe, in the features' own units.
#[derive(Clone, PartialEq, Debug)]
pub struct FoldProbe {
    /// Name of the fold.
    pub name: String,
    /// The embedding's penalty; `None` if it was left out or there is none.
    pub penalty: Option<f64>,
    /// Balanced log loss of each choice inside the training people: leaving out (NaN if that was no choice), then
    /// [`PENALTIES`]. Empty where nothing was to be chosen.
    pub inner_losses: Vec<f64>,
    /// Weight per column.
    pub weights: Vec<f32>,
    /// Intercept.
    pub bias: f32,
    /// The training part's mean per column, which stands for a missing value.
    pub mean: Vec<f32>,
}

impl FoldProbe {
    /// The probability of the positive class for one row of features.
    pub fn probability(&self, x: &[f32]) -> f64 {
        let filled = x.iter().zip(&self.mean).map(|(x, m)| if x.is_nan() { *m } else { *x });
        let z: f64 = filled.zip(&self.weights).map(|(x, w)| f64::from(x) * f64::from(*w)).sum();
        1.0 / (1.0 + (-(z + f64::from(self.bias))).exp())
    }
}

/// How probing ended.
#[derive(Clone, Debug)]
pub struct ProbeSummary {
    /// One prediction per test window and fold.
    pub predictions: Vec<Prediction>,
    /// One probe per fold.
    pub folds: Vec<FoldProbe>,
    /// Fitted on all labelled windows, if asked for.
    pub whole: Option<FoldProbe>,
}

/// Fits a probe in every fold of `data`, which gives labels and folds, on `features`; `person` numbers the person of each
/// window.
///
/// # Errors
/// Shapes that do not fit, a training part with one class, a fit that does not converge.
pub fn probe(
    data: &Labelled<'_>,
    features: &ProbeFeatures,
    person: &[u32],
    settings: &ProbeSettings,
    whole: bool,
) -> Result<ProbeSummary> {
    let n = data.windows.len();
    if features.x.len() != n * features.columns || person.len() != n || features.physiology > features.columns
    {
        return Err(Error::shape(format!(
            "{} features of {} columns and {} people for {n} windows",
            features.x.len(),
            features.columns,
            person.len()
        )));
    }
    let mut jobs: Vec<Job<'_>> = data
        .split
        .folds
        .iter()
        .enumerate()
        .map(|(f, fold)| Job {
            name: &fold.name,
            train: fold.train.clone(),
            labels: data.labels.of_fold(f),
            done: None,
        })
        .collect();
    if whole {
        let (train, labels) = (data.labels.final_train(), data.labels.of_final_model());
        jobs.push(Job { name: "all labelled windows", train, labels, done: None });
    }
    let workers = Workers::new(settings.threads, || Ok(()))?;
    workers.each(&mut jobs, |(), _, job| {
        job.done = Some(
            fit_one(job.name, features, &job.train, job.labels, person, settings)
                .map_err(|e| e.at(format!("fold '{}'", job.name)))?,
        );
        Ok(())
    })?;
    let mut folds: Vec<FoldProbe> = jobs.into_iter().filter_map(|j| j.done).collect();
    let whole = if whole { folds.pop() } else { None };
    let mut predictions = Vec::new();
    for (f, (fold, fitted)) in data.split.folds.iter().zip(&folds).enumerate() {
        let labels = data.labels.of_fold(f);
        predictions.extend(fold.test.iter().map(|&window| Prediction {
            window,
            fold: f,
            label: labels[window],
            probability: fitted.probability(features.row(window)),
        }));
    }
    Ok(ProbeSummary { predictions, folds, whole })
}

struct Job<'a> {
    name: &'a str,
    train: Vec<usize>,
    labels: &'a [bool],
    done: Option<FoldProbe>,
}

/// Means and deviations of the training rows, and those rows standardised, missing values 0.
struct Standardised {
    mean: Vec<f64>,
    scale: Vec<f64>,
    x: Vec<f32>,
}

impl Standardised {
    fn of(features: &ProbeFeatures, rows: &[usize]) -> Self {
        let columns = features.columns;
        let (mut n, mut mean, mut square) = (vec![0.0; columns], vec![0.0; columns], vec![0.0; columns]);
        for &i in rows {
            for (j, x) in features.row(i).iter().enumerate().filter(|(_, x)| !x.is_nan()) {
                n[j] += 1.0;
                mean[j] += f64::from(*x);
            }
        }
        mean.iter_mut().zip(&n).for_each(|(m, n)| *m /= f64::max(*n, 1.0));
        for &i in rows {
            for (j, x) in features.row(i).iter().enumerate().filter(|(_, x)| !x.is_nan()) {
                square[j] += (f64::from(*x) - mean[j]).powi(2);
            }
        }
        // A constant column is rounding error only: it stays as it is, 0.
        let scale: Vec<f64> = (0..columns)
            .map(|j| {
                let deviation = (square[j] / f64::max(n[j], 1.0)).sqrt();
                if deviation <= 1e-6 * (1.0 + mean[j].abs()) { 1.0 } else { deviation }
            })
            .collect();
        let mut x = Vec::with_capacity(rows.len() * columns);
        for &i in rows {
            x.extend(
                features.row(i).iter().enumerate().map(|(j, v)| {
                    if v.is_nan() { 0.0 } else { ((f64::from(*v) - mean[j]) / scale[j]) as f32 }
                }),
            );
        }
        Self { mean, scale, x }
    }
}

fn fit_one(
    name: &str,
    features: &ProbeFeatures,
    train: &[usize],
    labels: &[bool],
    person: &[u32],
    settings: &ProbeSettings,
) -> Result<FoldProbe> {
    let (columns, physiology) = (features.columns, features.physiology);
    let s = Standardised::of(features, train);
    let y: Vec<bool> = train.iter().map(|&i| labels[i]).collect();
    let people: Vec<u32> = train.iter().map(|&i| person[i]).collect();
    let leave_out = physiology > 0 && (settings.may_leave_out || physiology == columns);
    let (choice, inner_losses) = if physiology == columns {
        (None, Vec::new())
    } else {
        choose(&s.x, columns, physiology, &y, &people, leave_out, settings)?
    };
    let fitted = fit_with(&s.x, columns, physiology, &y, choice, None)?;
    let mut weights = vec![0.0f32; columns];
    let mut bias = fitted.intercept;
    for (j, w) in fitted.weights.iter().enumerate() {
        let raw = w / s.scale[j];
        weights[j] = raw as f32;
        bias -= f64::from(weights[j]) * s.mean[j];
    }
    let mean = s.mean.iter().map(|m| *m as f32).collect();
    Ok(FoldProbe { name: name.into(), penalty: choice, inner_losses, weights, bias: bias as f32, mean })
}

/// Fits with this penalty of the embedding; `None` leaves it out, and the result has the physiology's weights only.
fn fit_with(
    x: &[f32],
    columns: usize,
    physiology: usize,
    labels: &[bool],
    penalty: Option<f64>,
    start: Option<&PenalisedLogistic>,
) -> Result<PenalisedLogistic> {
    match penalty {
        Some(p) => {
            let penalties: Vec<f64> =
                (0..columns).map(|j| if j < physiology { PHYSIOLOGY_PENALTY } else { p }).collect();
            PenalisedLogistic::fit(x, labels, &penalties, start)
        }
        None if physiology == columns => {
            PenalisedLogistic::fit(x, labels, &vec![PHYSIOLOGY_PENALTY; physiology], start)
        }
        None => {
            let few: Vec<f32> = x.chunks_exact(columns).flat_map(|r| r[..physiology].to_vec()).collect();
            PenalisedLogistic::fit(&few, labels, &vec![PHYSIOLOGY_PENALTY; physiology], start)
        }
    }
}

/// The penalty with the lowest loss inside the training people, the strongest among equals. With too few people to fold
/// it is the middle of [`PENALTIES`].
fn choose(
    x: &[f32],
    columns: usize,
    physiology: usize,
    labels: &[bool],
    people: &[u32],
    leave_out: bool,
    settings: &ProbeSettings,
) -> Result<(Option<f64>, Vec<f64>)> {
    let keys = Keys {
        subject: people.to_vec(),
        trial: people.to_vec(),
        stimulus: Vec::new(),
        class: labels.iter().map(|l| u32::from(*l)).collect(),
    };
    let mut distinct = people.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let k = settings.inner_folds.min(distinct.len());
    let fallback = (Some(PENALTIES[PENALTIES.len() / 2]), Vec::new());
    if k < 2 {
        return Ok(fallback);
    }
    let split = Split::new(&keys, Protocol::KFold { group: Group::Subject, k }, 0.0, settings.seed)?;
    let mut losses = vec![0.0f64; 1 + PENALTIES.len()];
    if !leave_out {
        losses[0] = f64::NAN;
    }
    let share = |y: bool| 0.5 / labels.iter().filter(|l| **l == y).count().max(1) as f64;
    let share = [share(false), share(true)];
    for fold in &split.folds {
        let gather = |rows: &[usize]| -> (Vec<f32>, Vec<bool>) {
            let x = rows.iter().flat_map(|&i| x[i * columns..(i + 1) * columns].to_vec()).collect();
            (x, rows.iter().map(|&i| labels[i]).collect())
        };
        let ((train, train_y), (test, test_y)) = (gather(&fold.train), gather(&fold.test));
        if train_y.iter().all(|y| *y == train_y[0]) {
            return Ok(fallback);
        }
        let mut start: Option<PenalisedLogistic> = None;
        for c in 0..losses.len() {
            let penalty = c.checked_sub(1).map(|i| PENALTIES[i]);
            if c == 0 && !leave_out {
                continue;
            }
            let fitted = fit_with(&train, columns, physiology, &train_y, penalty, start.as_ref())?;
            let logits = if penalty.is_none() {
                let few: Vec<f32> =
                    test.chunks_exact(columns).flat_map(|r| r[..physiology].to_vec()).collect();
                fitted.logits(&few)
            } else {
                fitted.logits(&test)
            };
            for (z, &y) in logits.iter().zip(&test_y) {
                let margin = if y { *z } else { -z };
                losses[c] += share[usize::from(y)] * ((-margin.abs()).exp().ln_1p() + (-margin).max(0.0));
            }
            if penalty.is_some() {
                start = Some(fitted);
            }
        }
    }
    let best = (0..losses.len())
        .filter(|&c| losses[c].is_finite())
        .min_by(|&a, &b| losses[a].total_cmp(&losses[b]))
        .unwrap_or(PENALTIES.len() / 2);
    Ok((best.checked_sub(1).map(|i| PENALTIES[i]), losses))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::source::MemoryWindows;
    use crate::data::split::Fold;

    /// Twelve people of ten windows, every second one positive. The one physiological value is `strength` times the label
    /// plus noise; so are the values of the embedding with theirs.
    fn study(strength: [f32; 2]) -> (ProbeFeatures, Vec<bool>, Vec<u32>) {
        let mut state = 7u64;
        let mut noise = || {
            let mut sum = 0.0;
            for _ in 0..12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                sum += (state >> 40) as f32 / (1u32 << 24) as f32;
            }
            sum - 6.0
        };
        let labels: Vec<bool> = (0..120).map(|i| i % 2 == 0).collect();
        let mut x = Vec::new();
        for y in &labels {
            let y = if *y { 0.5 } else { -0.5 };
            x.push(strength[0] * y + noise() + 70.0);
            x.extend((0..20).map(|j| strength[1] * y * f32::from(u8::from(j < 3)) + noise()));
        }
        (ProbeFeatures { x, columns: 21, physiology: 1 }, labels, (0..120).map(|i| i / 10).collect())
    }

    fn data<'a>(source: &'a MemoryWindows, labels: &[bool], person: &[u32]) -> Labelled<'a> {
        let keys = Keys {
            subject: person.to_vec(),
            trial: person.to_vec(),
            class: labels.iter().map(|l| u32::from(*l)).collect(),
            ..Keys::default()
        };
        Labelled {
            source,
            windows: (0..labels.len()).collect(),
            labels: labels.to_vec().into(),
            split: Split::new(&keys, Protocol::LeaveOneOut { group: Group::Subject }, 0.0, 1).unwrap(),
            fingerprint: String::new(),
        }
    }

    fn correct(s: &ProbeSummary) -> f64 {
        let right = s.predictions.iter().filter(|p| (p.probability > 0.5) == p.label).count();
        right as f64 / s.predictions.len() as f64
    }

    #[test]
    fn the_embedding_is_used_where_it_helps_and_left_out_where_it_does_not() {
        let source = MemoryWindows::new(vec![0.0; 120], 1).unwrap();
        for (strength, wanted) in [([0.0, 3.0], true), ([4.0, 0.0], false)] {
            let (x, labels, person) = study(strength);
            let s = probe(&data(&source, &labels, &person), &x, &person, &ProbeSettings::default(), true)
                .unwrap();
            assert!(correct(&s) > 0.9, "{strength:?}: {}", correct(&s));
            let used = s.folds.iter().filter(|f| f.penalty.is_some_and(|p| p < 1e3)).count();
            assert_eq!(used > 6, wanted, "{strength:?}: the embedding is used in {used} of 12 folds");
            assert_eq!(s.predictions.len(), 120);
            assert_eq!(s.whole.unwrap().weights.len(), 21);
        }
    }

    /// Neither labels nor features of the test person reach that person's probe.
    #[test]
    fn a_test_person_does_not_move_the_probe() {
        let source = MemoryWindows::new(vec![0.0; 120], 1).unwrap();
        let (x, labels, person) = study([1.0, 1.0]);
        let run = |x: &ProbeFeatures, labels: &[bool]| {
            let mut d = data(&source, labels, &person);
            let first = |f: &Fold| f.test.contains(&0);
            d.split.folds.retain(first);
            let mut s = probe(&d, x, &person, &ProbeSettings::default(), false).unwrap();
            s.folds.remove(0)
        };
        let before = run(&x, &labels);
        let (mut other, mut turned) = (x.clone(), labels.clone());
        other.x[..210].iter_mut().for_each(|v| *v = *v * 3.0 + 1.0);
        turned[..10].iter_mut().for_each(|y| *y = !*y);
        assert_eq!(run(&other, &turned), before);
        // A training person does.
        let mut third = x.clone();
        third.x[500] += 5.0;
        assert_ne!(run(&third, &labels), before);
    }

    #[test]
    fn threads_change_nothing_and_missing_values_take_the_mean() {
        let source = MemoryWindows::new(vec![0.0; 120], 1).unwrap();
        let (mut x, labels, person) = study([2.0, 0.5]);
        for i in (0..120).step_by(7) {
            x.x[i * 21] = f32::NAN;
        }
        let run = |threads| {
            let settings = ProbeSettings { threads, ..ProbeSettings::default() };
            probe(&data(&source, &labels, &person), &x, &person, &settings, true).unwrap()
        };
        let (one, two) = (run(1), run(2));
        assert_eq!((&one.predictions, &one.folds, &one.whole), (&two.predictions, &two.folds, &two.whole));
        assert!(one.predictions.iter().all(|p| p.probability.is_finite()));
        let f = &one.folds[0];
        let mut filled = x.row(0).to_vec();
        assert!(filled[0].is_nan());
        filled[0] = f.mean[0];
        assert_eq!(f.probability(x.row(0)), f.probability(&filled));
        let bare = x.only(&[0]);
        assert_eq!((bare.columns, bare.physiology, bare.x.len()), (1, 1, 120));
    }
}
