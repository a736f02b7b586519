//! Predictions beside baselines: the figures of `evaluate`, without files and pictures.
//!
//! Baselines are fitted in the same folds as the model, on the same training windows: the larger class; logistic
//! regression on the heart rate of a window; and on heart rate with three measures of its variability. A window whose
//! heart rate cannot be measured gets the training part's mean, and is counted in a note.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::data::source::WindowSource;
use crate::error::{Error, Result};
use crate::metrics::baseline::LogisticSettings;
use crate::metrics::{
    Confusion, Interval, LogisticRegression, Majority, Scaler, auc, average_precision, bootstrap, brier,
    paired, roc_curve,
};
use crate::signal::{HeartRate, detect_r_peaks};

/// Names of the scores, in the order of [`Method::intervals`].
pub const METRICS: [&str; 7] =
    ["balanced accuracy", "macro F1", "AUC", "accuracy", "average precision", "MCC", "Brier score"];

/// Test windows with the model's probabilities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Row of the store, if known.
    pub row: Vec<Option<usize>>,
    /// Person, unique over data sets.
    pub subject: Vec<String>,
    /// Fold whose test part the window is in.
    pub fold: Vec<usize>,
    /// True class.
    pub label: Vec<bool>,
    /// Probability of the positive class.
    pub probability: Vec<f64>,
}

/// Training part of a fold, for baselines.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FoldRows {
    /// Its name.
    pub name: String,
    /// Rows of the store trained on.
    pub train: Vec<usize>,
    /// Their classes.
    pub train_labels: Vec<bool>,
}

/// What else a judgement needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Decision threshold.
    pub threshold: f64,
    /// Resamples of the bootstrap.
    pub resamples: usize,
    /// Level of intervals.
    pub level: f64,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Name of the positive class.
    pub positive: String,
    /// Name of the negative class.
    pub negative: String,
    /// How folds were made.
    pub protocol: String,
    /// Whether they leak.
    pub leaks: bool,
}

/// A reason why the figures may be better than the model: shown with every score, table, figure, card and JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// A few words that follow a title: "LEAK: labels seen before".
    pub short: String,
    /// What happened and what it means.
    pub sentence: String,
}

/// One method's scores.
#[derive(Clone, Debug)]
pub struct Method {
    /// Name.
    pub name: String,
    /// Whether it is a baseline.
    pub baseline: bool,
    /// One per [`METRICS`], by percentiles of the bootstrap; `None` where undefined.
    pub intervals: Vec<Option<Interval>>,
    /// The same, bias-corrected and accelerated (BCa); `None` also where that correction is not defined.
    pub bca: Vec<Option<Interval>>,
    /// Counts, row-major: true class, predicted class; negative first.
    pub confusion: [u64; 4],
    /// Points of the ROC curve; empty where undefined.
    pub roc: Vec<(f64, f64)>,
    /// False and true positive rate at the threshold.
    pub operating_point: Option<(f64, f64)>,
    /// Balanced accuracy of each person with windows of both classes.
    pub by_subject: Vec<(String, f64)>,
}

/// The judgement.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The model first, then baselines.
    pub methods: Vec<Method>,
    /// Test windows.
    pub windows: usize,
    /// Of them positive.
    pub positives: usize,
    /// People.
    pub subjects: usize,
    /// Level of intervals.
    pub level: f64,
    /// Resamples.
    pub resamples: usize,
    /// Names and protocol, from the settings.
    pub positive: String,
    /// Negative class.
    pub negative: String,
    /// Protocol.
    pub protocol: String,
    /// Whether it leaks.
    pub leaks: bool,
    /// Paired comparisons with the heart-rate baseline, as sentences.
    pub comparisons: Vec<String>,
    /// The same as data.
    pub tests: serde_json::Value,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// What may make the figures look better than they are, apart from folds that leak.
    pub warnings: Vec<String>,
    /// Reasons to doubt all figures.
    pub marks: Vec<Mark>,
}

/// Judges `p`; with `source` (windows and their rate) and `folds` beside baselines.
///
/// # Errors
/// No windows, labels and probabilities that make no sense, windows that cannot be read.
pub fn judge(
    p: &Predictions,
    folds: Option<(&dyn WindowSource, f64, &[FoldRows])>,
    s: &Settings,
) -> Result<Evaluation> {
    if p.label.is_empty() {
        return Err(Error::data("there are no predictions to judge"));
    }
    let mut ids = BTreeMap::new();
    let clusters: Vec<usize> = p
        .subject
        .iter()
        .map(|name| {
            let next = ids.len();
            *ids.entry(name.as_str()).or_insert(next)
        })
        .collect();
    let mut notes = Vec::new();
    let mut scores = vec![("model".to_string(), p.probability.clone())];
    if let Some((source, fs_hz, folds)) = folds {
        let (baselines, unmeasured) = baselines(p, source, fs_hz, folds)?;
        if unmeasured > 0 {
            notes.push(format!(
                "In {unmeasured} windows no heart rate could be measured; for the baselines they have the training mean."
            ));
        }
        scores.extend(baselines);
    }
    if ids.len() < 2 {
        notes.push("There is one person only: no interval over people can be given.".into());
    }
    let positives = p.label.iter().filter(|l| **l).count();
    if positives == 0 || positives == p.label.len() {
        notes.push("The test windows hold one class only: AUC and balanced accuracy are undefined.".into());
    }
    let mut methods = Vec::new();
    for (i, (name, probability)) in scores.iter().enumerate() {
        methods.push(method(name, i > 0, p, probability, &clusters, s)?);
    }
    let (comparisons, tests) = compare(p, &scores, &methods, &clusters, s)?;
    Ok(Evaluation {
        methods,
        windows: p.label.len(),
        positives,
        subjects: ids.len(),
        level: s.level,
        resamples: s.resamples,
        positive: s.positive.clone(),
        negative: s.negative.clone(),
        protocol: s.protocol.clone(),
        leaks: s.leaks,
        comparisons,
        tests,
        notes,
        warnings: Vec::new(),
        marks: Vec::new(),
    })
}

fn counts(label: &[bool], probability: &[f64], items: &[usize], threshold: f64) -> [u64; 4] {
    let mut c = [0u64; 4];
    for &i in items {
        c[2 * usize::from(label[i]) + usize::from(probability[i] >= threshold)] += 1;
    }
    c
}

/// Balanced accuracy of counts; `None` unless both classes occur.
fn balanced(c: &[u64; 4]) -> Option<f64> {
    let (negatives, positives) = (c[0] + c[1], c[2] + c[3]);
    (negatives > 0 && positives > 0)
        .then(|| 0.5 * (c[0] as f64 / negatives as f64 + c[3] as f64 / positives as f64))
}

/// One score, by its place in [`METRICS`], of the windows `items`.
fn score(metric: usize, label: &[bool], probability: &[f64], items: &[usize], threshold: f64) -> Option<f64> {
    let c = counts(label, probability, items, threshold);
    let [tn, fp, fn_, tp] = c.map(|n| n as f64);
    let pick = || -> (Vec<bool>, Vec<f64>) { items.iter().map(|&i| (label[i], probability[i])).unzip() };
    match metric {
        0 => balanced(&c),
        1 => {
            let f1 = |t: f64, miss: f64, wrong: f64| {
                (t + miss + wrong > 0.0).then(|| 2.0 * t / (2.0 * t + miss + wrong))
            };
            Some(0.5 * (f1(tp, fn_, fp)? + f1(tn, fp, fn_)?))
        }
        2 => {
            let (l, q) = pick();
            auc(&l, &q).ok().flatten()
        }
        3 => (!items.is_empty()).then(|| (tp + tn) / items.len() as f64),
        4 => {
            let (l, q) = pick();
            average_precision(&l, &q).ok().flatten()
        }
        5 => {
            let d = ((tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_)).sqrt();
            (d > 0.0).then(|| (tp * tn - fp * fn_) / d)
        }
        _ => {
            let (l, q) = pick();
            brier(&l, &q).ok().flatten()
        }
    }
}

fn method(
    name: &str,
    baseline: bool,
    p: &Predictions,
    probability: &[f64],
    clusters: &[usize],
    s: &Settings,
) -> Result<Method> {
    // Checks lengths and values once, and counts a second way.
    let confusion = Confusion::from_probabilities(&p.label, probability, s.threshold)?;
    let (mut intervals, mut bca) = (Vec::new(), Vec::new());
    for metric in 0..METRICS.len() {
        let statistic = |items: &[usize]| score(metric, &p.label, probability, items, s.threshold);
        let all: Vec<usize> = (0..p.label.len()).collect();
        let found = bootstrap(clusters, statistic, s.resamples, s.level, s.seed)?;
        bca.push(found.as_ref().and_then(|b| b.bca));
        let interval = match found {
            Some(b) => Some(b.percentile),
            // Without an interval the estimate still stands.
            None => statistic(&all).map(|v| Interval {
                estimate: v,
                low: f64::NAN,
                high: f64::NAN,
                level: s.level,
            }),
        };
        intervals.push(interval);
    }
    let roc = roc_curve(&p.label, probability)?.unwrap_or_default();
    let rate = |true_class: usize| {
        let n = confusion.count(true_class, 0) + confusion.count(true_class, 1);
        (n > 0).then(|| confusion.count(true_class, 1) as f64 / n as f64)
    };
    let mut people: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    p.subject.iter().enumerate().for_each(|(i, name)| people.entry(name).or_default().push(i));
    let by_subject = people
        .iter()
        .filter_map(|(name, items)| {
            Some((name.to_string(), balanced(&counts(&p.label, probability, items, s.threshold))?))
        })
        .collect();
    Ok(Method {
        name: name.into(),
        baseline,
        intervals,
        bca,
        confusion: [
            confusion.count(0, 0),
            confusion.count(0, 1),
            confusion.count(1, 0),
            confusion.count(1, 1),
        ],
        roc: roc.iter().map(|r| (r.false_positive_rate, r.true_positive_rate)).collect(),
        operating_point: rate(0).zip(rate(1)),
        by_subject,
    })
}

type Scores = Vec<(String, Vec<f64>)>;

/// Probabilities of the baselines for each prediction, and how many windows had no heart rate.
fn baselines(
    p: &Predictions,
    source: &dyn WindowSource,
    fs_hz: f64,
    folds: &[FoldRows],
) -> Result<(Scores, usize)> {
    let mut features: BTreeMap<usize, Option<[f64; 4]>> = BTreeMap::new();
    let mut window = vec![0.0f32; source.samples()];
    for &row in folds.iter().flat_map(|f| &f.train).chain(p.row.iter().flatten()) {
        if let Entry::Vacant(entry) = features.entry(row) {
            source.read(row, &mut window)?;
            let x: Vec<f64> = window.iter().map(|v| f64::from(*v)).collect();
            let peaks = detect_r_peaks(&x, fs_hz)?;
            let hr = HeartRate::from_peaks(&peaks, fs_hz)?;
            entry.insert(hr.map(|h| [h.mean_bpm, h.sdnn_ms, h.rmssd_ms, h.range_ms]));
        }
    }
    let n = p.label.len();
    let mut out: Scores = vec![
        ("heart rate".into(), vec![f64::NAN; n]),
        ("heart rate and variability".into(), vec![f64::NAN; n]),
        ("larger class".into(), vec![f64::NAN; n]),
    ];
    let mut unmeasured = 0;
    for (f, fold) in folds.iter().enumerate() {
        let test: Vec<usize> = (0..n).filter(|&i| p.fold[i] == f).collect();
        if test.is_empty() {
            continue;
        }
        let majority = Majority::fit(&fold.train_labels)?;
        for &i in &test {
            out[2].1[i] = majority.positive_share;
        }
        let known: Vec<[f64; 4]> = fold.train.iter().filter_map(|r| features[r]).collect();
        if known.is_empty() {
            return Err(Error::data("no heart rate can be measured in the training part")
                .at(format!("fold '{}'", fold.name))
                .remedy("look at the windows, or leave the baselines out with --baselines=false"));
        }
        let mean: [f64; 4] =
            std::array::from_fn(|k| known.iter().map(|x| x[k]).sum::<f64>() / known.len() as f64);
        for (which, columns) in [(0, 1), (1, 4)] {
            let table = |rows: &mut dyn Iterator<Item = usize>| -> Vec<f64> {
                rows.flat_map(|r| features[&r].unwrap_or(mean)[..columns].to_vec()).collect()
            };
            let train = table(&mut fold.train.iter().copied());
            let scaler = Scaler::fit(&train, columns)?;
            let settings = LogisticSettings { balanced: true, ..LogisticSettings::default() };
            let fitted =
                LogisticRegression::fit(&scaler.transform(&train)?, columns, &fold.train_labels, settings)?;
            let rows: Vec<usize> = test.iter().filter_map(|&i| p.row[i]).collect();
            if rows.len() != test.len() {
                return Err(Error::data("a prediction names no row of the store"));
            }
            let x = scaler.transform(&table(&mut rows.iter().copied()))?;
            for (&i, q) in test.iter().zip(fitted.probabilities(&x)?) {
                out[which].1[i] = q;
            }
            if which == 0 {
                unmeasured += rows.iter().filter(|r| features[r].is_none()).count();
            }
        }
    }
    if out[0].1.iter().any(|q| q.is_nan()) {
        return Err(Error::data("a prediction belongs to no fold of the split"));
    }
    Ok((out, unmeasured))
}

/// Paired comparison of the model with the heart-rate baseline, person by person.
fn compare(
    p: &Predictions,
    scores: &Scores,
    methods: &[Method],
    clusters: &[usize],
    s: &Settings,
) -> Result<(Vec<String>, serde_json::Value)> {
    let (Some(baseline), Some(theirs)) = (methods.get(1), scores.get(1)) else {
        return Ok((Vec::new(), serde_json::Value::Null));
    };
    let mut lines = Vec::new();
    let mut tests = serde_json::Map::new();
    for metric in [0, 2] {
        let difference = |items: &[usize]| {
            let own = score(metric, &p.label, &scores[0].1, items, s.threshold)?;
            Some(own - score(metric, &p.label, &theirs.1, items, s.threshold)?)
        };
        if let Some(b) = bootstrap(clusters, difference, s.resamples, s.level, s.seed)? {
            let i = b.percentile;
            lines.push(format!(
                "Model minus heart rate, {}: {:+.3} ({:+.3} to {:+.3}).",
                METRICS[metric], i.estimate, i.low, i.high
            ));
            tests.insert(
                format!("{} difference", METRICS[metric]),
                serde_json::json!({ "estimate": i.estimate, "low": i.low, "high": i.high }),
            );
        }
    }
    let own = &methods[0].by_subject;
    let differences: Vec<f64> = own.iter().zip(&baseline.by_subject).map(|((_, a), (_, b))| a - b).collect();
    let wilcoxon = paired::wilcoxon(&differences)?;
    let permutation = paired::permutation(&differences, 10_000, s.seed)?;
    if let (Some(w), Some(q)) = (&wilcoxon, &permutation) {
        lines.push(format!(
            "Over the {} people with windows of both states, the balanced accuracy differs by {:+.3} on average; p = {:.3} \
             (Wilcoxon signed rank), p = {:.3} (sign flips), two-sided.",
            differences.len(),
            q.mean,
            w.p,
            q.p
        ));
        tests.insert("wilcoxon_p".into(), serde_json::json!(w.p));
        tests.insert("sign_flip_p".into(), serde_json::json!(q.p));
        tests.insert("people_with_both_states".into(), serde_json::json!(differences.len()));
    } else {
        lines.push("Too few people have windows of both states for a paired test.".into());
    }
    Ok((lines, serde_json::Value::Object(tests)))
}

impl Evaluation {
    /// Adds a reason to doubt the figures; every rendering shows it.
    pub fn mark(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    /// `title` with the marks behind it: titles of tables and figures, lines of a card.
    pub fn marked(&self, title: &str) -> String {
        self.marks.iter().fold(title.to_string(), |text, m| format!("{text} [{}]", m.short))
    }

    /// As `metrics.json`.
    pub fn json(&self) -> serde_json::Value {
        let finite = |v: f64| if v.is_finite() { serde_json::json!(v) } else { serde_json::Value::Null };
        let methods: serde_json::Map<_, _> = self
            .methods
            .iter()
            .map(|m| {
                let mut scores = serde_json::Map::new();
                if !self.marks.is_empty() {
                    let marks: Vec<&str> = self.marks.iter().map(|m| m.short.as_str()).collect();
                    scores.insert("marks".into(), serde_json::json!(marks));
                }
                for ((name, i), bca) in METRICS.iter().zip(&m.intervals).zip(&m.bca) {
                    let value = i.map(|i| {
                        serde_json::json!({
                            "estimate": finite(i.estimate),
                            "low": finite(i.low),
                            "high": finite(i.high),
                            "bca": bca.map(|b| serde_json::json!({ "low": finite(b.low), "high": finite(b.high) })),
                        })
                    });
                    scores.insert((*name).into(), value.unwrap_or(serde_json::Value::Null));
                }
                scores.insert("confusion".into(), serde_json::json!([[m.confusion[0], m.confusion[1]], [m.confusion[2], m.confusion[3]]]));
                let people: serde_json::Map<_, _> =
                    m.by_subject.iter().map(|(s, v)| (s.clone(), finite(*v))).collect();
                scores.insert("balanced accuracy by person".into(), people.into());
                (m.name.clone(), serde_json::Value::Object(scores))
            })
            .collect();
        serde_json::json!({
            "protocol": self.protocol,
            "leaks": self.leaks,
            "marks": self.marks.iter().map(|m| m.sentence.as_str()).collect::<Vec<_>>(),
            "classes": [self.negative, self.positive],
            "windows": self.windows,
            "positives": self.positives,
            "people": self.subjects,
            "intervals": "low and high: percentiles of the bootstrap over people; bca: bias-corrected and accelerated",
            "interval_level": self.level,
            "resamples": self.resamples,
            "methods": methods,
            "against_heart_rate": self.tests,
            "notes": self.notes,
            "warnings": self.warnings,
        })
    }

    /// As a table for the terminal.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} test windows of {} people, {} '{}'\nprotocol: {}\n",
            self.windows, self.subjects, self.positives, self.positive, self.protocol
        );
        for mark in &self.marks {
            text.push_str(&format!("WARNING: {}\n", mark.sentence));
        }
        let wide = self.methods.iter().map(|m| m.name.len()).max().unwrap_or(0);
        text.push_str(&format!(
            "  {:<wide$}  {:<22} {:<22} {:<22}\n",
            "", METRICS[0], METRICS[1], METRICS[2]
        ));
        for m in &self.methods {
            text.push_str(&format!("  {:<wide$}", m.name));
            for i in m.intervals.iter().take(3) {
                let cell = match i {
                    Some(i) if i.low.is_finite() => format!("{:.3} ({:.3}-{:.3})", i.estimate, i.low, i.high),
                    Some(i) => format!("{:.3}", i.estimate),
                    None => "undefined".into(),
                };
                text.push_str(&format!("  {cell:<21}"));
            }
            if !self.marks.is_empty() {
                text.push_str(&format!(" {}", self.marked("").trim()));
            }
            text.push('\n');
        }
        for line in self.comparisons.iter().chain(&self.notes) {
            text.push_str(&format!("  {line}\n"));
        }
        for line in &self.warnings {
            text.push_str(&format!("  WARNING: {line}\n"));
        }
        text
    }
}
