//! Evaluation: laws of the scores for every protocol and class balance, and every sentence against its condition.
#![cfg(feature = "formats")]

use std::collections::{BTreeMap, BTreeSet};

use heartlore::data::split::{Group, Keys, Protocol, Split};
use heartlore::evaluate::{
    BaselinePredictions, Evaluation, FoldRows, Mark, Metric, PairedTest, Predictions, Scope, Settings,
    Statement, baselines, evaluate,
};
use heartlore::metrics::{auc, paired};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

fn settings() -> Settings {
    Settings {
        threshold: 0.5,
        resamples: 40,
        level: 0.95,
        seed: 1,
        positive: "aroused".into(),
        negative: "calm".into(),
        protocol: "5-fold by subject".into(),
        leaks: false,
    }
}

/// Windows of people, with trials and stimuli.
#[derive(Clone, Debug)]
struct Windows {
    person: Vec<u32>,
    trial: Vec<u32>,
    stimulus: Vec<u32>,
    label: Vec<bool>,
}

impl Windows {
    fn keys(&self) -> Keys {
        Keys {
            subject: self.person.clone(),
            trial: self.trial.clone(),
            stimulus: self.stimulus.clone(),
            class: self.label.iter().map(|l| u32::from(*l)).collect(),
        }
    }

    /// Test windows of every fold of `protocol` with the probability `of(fold, its training labels, window)`.
    fn predictions(
        &self,
        protocol: Protocol,
        of: impl Fn(usize, &[bool], usize) -> f64,
    ) -> Option<Predictions> {
        let split = Split::new(&self.keys(), protocol, 0.0, 1).ok()?;
        let mut p = Predictions::default();
        for (f, fold) in split.folds.iter().enumerate() {
            let train: Vec<bool> = fold.train.iter().map(|&i| self.label[i]).collect();
            for &i in &fold.test {
                p.row.push(Some(i));
                p.subject.push(format!("s{:02}", self.person[i]));
                p.fold.push(f);
                p.label.push(self.label[i]);
                p.probability.push(of(f, &train, i));
            }
        }
        (!p.label.is_empty()).then_some(p)
    }
}

/// Up to seven people with up to four trials of up to three windows each; `labels` by window, `by_trial` by trial.
fn windows() -> impl Strategy<Value = Windows> {
    let person = prop::collection::vec((1usize..4, any::<bool>()), 1..5);
    (prop::collection::vec(person, 2..8), any::<u64>(), 0u8..4).prop_map(|(people, bits, kind)| {
        let mut w = Windows { person: vec![], trial: vec![], stimulus: vec![], label: vec![] };
        let mut trial = 0;
        for (who, trials) in people.iter().enumerate() {
            for (k, (n, state)) in trials.iter().enumerate() {
                for j in 0..*n {
                    let own = bits.rotate_left((trial * 3 + j as u32) % 64) & 1 == 1;
                    w.person.push(who as u32);
                    w.trial.push(trial);
                    w.stimulus.push(k as u32);
                    w.label.push(match kind {
                        0 => own,                          // by window
                        1 => *state,                       // by trial
                        2 => who.is_multiple_of(2),        // by person: everybody has one state
                        _ => own && who.is_multiple_of(3), // rare
                    });
                }
                trial += 1;
            }
        }
        w
    })
}

fn protocols(k: usize) -> Vec<Protocol> {
    let mut all =
        vec![Protocol::LeakingWindows { k }, Protocol::SubjectAndStimulus { subjects: k, stimuli: 2 }];
    for group in [Group::Subject, Group::Trial, Group::Stimulus] {
        all.push(Protocol::KFold { group, k });
        all.push(Protocol::LeaveOneOut { group });
        all.push(Protocol::Single { group, test_fraction: 0.4 });
    }
    all
}

fn state_scores(e: &Evaluation) -> impl Iterator<Item = (&'static str, Option<f64>)> {
    let scores = e.methods[0].scores.iter().filter(|s| s.metric.compares_states());
    scores.map(|s| (s.metric.name(), s.estimate)).collect::<Vec<_>>().into_iter()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// What is the same for all windows of a fold scores one half, to the bit, and a perfect ranking scores one.
    #[test]
    fn a_constant_scores_one_half_and_a_perfect_ranking_one(w in windows(), k in 2usize..4, level in 0.0f64..1.0) {
        for protocol in protocols(k) {
            let name = protocol.to_string();
            // The majority class; the same number everywhere; a number of each fold's own.
            let share = |_: usize, train: &[bool], _: usize| {
                train.iter().filter(|l| **l).count() as f64 / train.len() as f64
            };
            let constants = [
                w.predictions(protocol.clone(), share),
                w.predictions(protocol.clone(), |_, _, _| level),
                w.predictions(protocol.clone(), |f, _, _| (f as f64 * 0.37 + level).fract()),
            ];
            for p in constants.into_iter().flatten() {
                let e = evaluate(&p, &[], &settings()).unwrap();
                for (metric, value) in state_scores(&e) {
                    prop_assert!(value.is_none_or(|v| v == 0.5), "{name}: {metric} of a constant is {value:?}");
                    prop_assert_eq!(value.is_some(), e.folds_with_both > 0, "{} {}", name, metric);
                }
                prop_assert!(e.comparisons.is_empty());
            }
            // Each fold's scores on a scale of its own, right within it.
            let right = w.predictions(protocol.clone(), |f, _, i| {
                let low = if f % 2 == 0 { 0.0 } else { 0.25 };
                low + 0.1 * f64::from(u8::from(w.label[i])) + 0.01 * (i % 5) as f64
            });
            if let Some(p) = right {
                let e = evaluate(&p, &[], &settings()).unwrap();
                for metric in [Metric::Auc, Metric::AveragePrecision] {
                    let s = e.methods[0].score(metric).unwrap();
                    prop_assert!(s.estimate.is_none_or(|v| v == 1.0), "{name}: {metric:?} {s:?}");
                    prop_assert_eq!(s.estimate.is_some(), e.folds_with_both > 0);
                }
                let area: f64 =
                    e.methods[0].roc.windows(2).map(|w| (w[1].0 - w[0].0) * (w[1].1 + w[0].1) / 2.0).sum();
                prop_assert!(e.methods[0].roc.is_empty() || (area - 1.0).abs() < 1e-12);
            }
            // The truth as probabilities: every score that compares the states is one.
            let truth = w.predictions(protocol, |_, _, i| f64::from(u8::from(w.label[i])));
            if let Some(p) = truth {
                let e = evaluate(&p, &[], &settings()).unwrap();
                prop_assert!(state_scores(&e).all(|(_, v)| v.is_none_or(|v| v == 1.0)));
            }
        }
    }

    /// The scores by their definition, written a second time; and no number in the JSON is made up.
    #[test]
    fn the_scores_are_those_of_the_definition(w in windows(), seed in any::<u32>()) {
        let noise = |i: usize| f64::from((i as u32).wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) / 255.0;
        for protocol in protocols(2) {
            let Some(p) = w.predictions(protocol, |_, _, i| noise(i)) else { continue };
            let e = evaluate(&p, &[], &settings()).unwrap();
            let mut people: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
            let mut folds = Vec::new();
            let names: BTreeSet<&str> = p.subject.iter().map(String::as_str).collect();
            for f in p.fold.iter().collect::<BTreeSet<_>>() {
                let of = |who: Option<&str>| {
                    let items = (0..p.len()).filter(|&i| p.fold[i] == *f && who.is_none_or(|w| w == p.subject[i]));
                    let (l, q): (Vec<bool>, Vec<f64>) = items.map(|i| (p.label[i], p.probability[i])).unzip();
                    auc(&l, &q).unwrap()
                };
                folds.extend(of(None));
                for who in &names {
                    people.entry(who).or_default().extend(of(Some(who)));
                }
            }
            people.retain(|_, v| !v.is_empty());
            let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
            let expected = if !people.is_empty() && 2 * people.len() >= names.len() {
                Some(mean(&people.values().map(|v| mean(v)).collect::<Vec<_>>()))
            } else {
                (!folds.is_empty()).then(|| mean(&folds))
            };
            let got = e.methods[0].score(Metric::Auc).unwrap();
            match (got.estimate, expected) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-12, "{a} {b}"),
                (a, b) => prop_assert_eq!(a, b),
            }
            let area: f64 =
                e.methods[0].roc.windows(2).map(|w| (w[1].0 - w[0].0) * (w[1].1 + w[0].1) / 2.0).sum();
            prop_assert!(got.estimate.is_none_or(|v| (v - area).abs() < 1e-12));
            let text = e.json().to_string() + &e.text();
            prop_assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            for s in e.methods.iter().flat_map(|m| &m.scores) {
                let (low, high) = s.metric.range();
                for i in [s.interval, s.percentile, s.bca].into_iter().flatten() {
                    prop_assert!(low <= i.low && i.low <= i.high && i.high <= high, "{s:?}");
                }
            }
        }
    }
}

/// Leave-one-out on unbalanced people: pooled, the majority class ranks far below chance; the figure is one half.
#[test]
fn the_majority_class_is_not_below_chance_by_leave_one_out() {
    let mut w = Windows { person: vec![], trial: vec![], stimulus: vec![], label: vec![] };
    for who in 0..12u32 {
        for j in 0..10u32 {
            w.person.push(who);
            w.trial.push(who * 10 + j);
            w.stimulus.push(j);
            w.label.push(j <= (who * 7) % 9);
        }
    }
    let share =
        |_: usize, train: &[bool], _: usize| train.iter().filter(|l| **l).count() as f64 / train.len() as f64;
    let p = w.predictions(Protocol::LeaveOneOut { group: Group::Subject }, share).unwrap();
    let e = evaluate(&p, &[], &settings()).unwrap();
    let s = e.methods[0].score(Metric::Auc).unwrap();
    assert_eq!((s.estimate, s.scope), (Some(0.5), Some(Scope::WithinPerson)));
    assert!(s.pooled.unwrap() < 0.3, "{s:?}");
    assert_eq!(e.json()["methods"]["model"]["AUC"]["pooled"], s.pooled.unwrap());
    assert_eq!(e.methods[0].score(Metric::BalancedAccuracy).unwrap().estimate, Some(0.5));
}

#[test]
fn a_tie_at_the_threshold_is_positive_everywhere() {
    assert!(
        heartlore::metrics::is_positive(0.5, 0.5)
            && !heartlore::metrics::is_positive(0.5f64.next_down(), 0.5)
    );
    let p = study(&[("a", 0, true, 0.5), ("a", 0, false, 0.5)]);
    let e = evaluate(&p, &[], &settings()).unwrap();
    assert_eq!(e.methods[0].confusion, [0, 1, 0, 1]);
    assert_eq!(e.methods[0].operating_point, Some((1.0, 1.0)));
    assert!(heartlore::metrics::Majority::fit(&[true, false]).unwrap().predict());
    let low = Settings { threshold: 0.4, ..settings() };
    let p = study(&[("a", 0, true, 0.4), ("a", 0, false, 0.4f64.next_down())]);
    assert_eq!(evaluate(&p, &[], &low).unwrap().methods[0].confusion, [1, 0, 0, 1]);
    for bad in [-0.5, 1.5, f64::NAN] {
        let e = evaluate(&p, &[], &Settings { threshold: bad, ..settings() }).unwrap_err();
        assert!(e.to_string().contains("threshold"), "{e}");
    }
}

/// (person, fold, label, probability) of each window.
fn study(windows: &[(&str, usize, bool, f64)]) -> Predictions {
    let mut p = Predictions::default();
    for (i, (who, fold, label, q)) in windows.iter().enumerate() {
        p.row.push(Some(i));
        p.subject.push((*who).into());
        p.fold.push(*fold);
        p.label.push(*label);
        p.probability.push(*q);
    }
    p
}

#[test]
fn a_mark_is_on_every_line_and_object() {
    let p = study(&[("a", 0, true, 0.9), ("a", 0, false, 0.6), ("b", 0, true, 0.8), ("b", 0, false, 0.1)]);
    let mut e = evaluate(&p, &[], &settings()).unwrap();
    assert!(!e.text().contains("LEAK") && e.json()["methods"]["model"]["AUC"].get("marks").is_none());
    e.mark(Mark { short: "LEAK: labels seen".into(), sentence: "The labels of a had been seen.".into() });
    let text = e.text();
    let line = text.lines().find(|l| l.trim_start().starts_with("model")).unwrap();
    assert!(
        line.contains("[LEAK: labels seen]") && text.contains("The labels of a had been seen."),
        "{text}"
    );
    let json = e.json();
    for metric in Metric::ALL {
        assert_eq!(json["methods"]["model"][metric.name()]["marks"][0], "LEAK: labels seen");
    }
    assert_eq!(e.marked("ROC"), "ROC [LEAK: labels seen]");
    let leaks = evaluate(&p, &[], &Settings { leaks: true, ..settings() }).unwrap();
    assert!(leaks.text().contains("LEAK") && leaks.json()["leaks"] == true && leaks.marks.len() == 1);
}

/// A study of up to six people in up to four folds, with a model and one baseline.
fn small_study() -> impl Strategy<Value = (Predictions, Vec<f64>)> {
    let window = (0usize..6, 0usize..4, any::<bool>(), 0u8..3, 0u8..3);
    (prop::collection::vec(window, 1..24), 1usize..7, 1usize..5, 0u8..4).prop_map(
        |(list, people, folds, kind)| {
            let mut p = Predictions::default();
            let mut other = Vec::new();
            for (i, (who, fold, label, a, b)) in list.into_iter().enumerate() {
                let (who, fold) = (who % people, fold % folds);
                p.row.push(Some(i));
                p.subject.push(format!("s{who}"));
                p.fold.push(fold);
                p.label.push(if kind == 1 { who % 2 == 0 } else { label });
                // Sometimes constant by fold, sometimes the same as the baseline.
                let b = if b == 2 { 0.5 } else { f64::from(b) };
                p.probability.push(match kind {
                    2 => 0.25 * fold as f64,
                    3 => b,
                    _ => f64::from(a) / 2.0,
                });
                other.push(b);
            }
            (p, other)
        },
    )
}

/// What the sentences depend on, worked out from the predictions without the library's own bookkeeping.
struct Facts {
    people: usize,
    with_both: usize,
    positives: usize,
    windows: usize,
    folds_with_both: usize,
    constant: usize,
    differences: Vec<f64>,
    compared: bool,
}

impl Facts {
    fn of(p: &Predictions, other: &[f64]) -> Self {
        let names: BTreeSet<&String> = p.subject.iter().collect();
        let folds: BTreeSet<usize> = p.fold.iter().copied().collect();
        let both = |items: &[usize]| items.iter().any(|&i| p.label[i]) && items.iter().any(|&i| !p.label[i]);
        let recall = |items: &[usize], q: &[f64], class: bool| {
            let own: Vec<&usize> = items.iter().filter(|&&i| p.label[i] == class).collect();
            own.iter().filter(|&&&i| (q[i] >= 0.5) == class).count() as f64 / own.len() as f64
        };
        let score = |items: &[usize], q: &[f64]| (recall(items, q, true) + recall(items, q, false)) / 2.0;
        let mut differences = Vec::new();
        for who in &names {
            let cells: Vec<Vec<usize>> = folds
                .iter()
                .map(|f| {
                    (0..p.len()).filter(|&i| p.fold[i] == *f && p.subject[i] == **who).collect::<Vec<_>>()
                })
                .filter(|items| both(items))
                .collect();
            if !cells.is_empty() {
                let mean = |q: &[f64]| cells.iter().map(|c| score(c, q)).sum::<f64>() / cells.len() as f64;
                differences.push(mean(&p.probability) - mean(other));
            }
        }
        let in_fold = |f: &usize| (0..p.len()).filter(|&i| p.fold[i] == *f).collect::<Vec<_>>();
        let same = |items: &[usize], q: &[f64]| items.len() > 1 && items.iter().all(|&i| q[i] == q[items[0]]);
        Self {
            people: names.len(),
            with_both: differences.len(),
            positives: p.label.iter().filter(|l| **l).count(),
            windows: p.len(),
            folds_with_both: folds.iter().filter(|f| both(&in_fold(f))).count(),
            constant: folds.iter().filter(|f| same(&in_fold(f), &p.probability)).count(),
            compared: folds.iter().any(|f| in_fold(f).len() > 1 && !same(&in_fold(f), other)),
            differences,
        }
    }

    fn one_state(&self) -> bool {
        self.positives == 0 || self.positives == self.windows
    }

    fn within_people(&self) -> bool {
        self.with_both > 0 && 2 * self.with_both >= self.people
    }
}

type Condition = fn(&Facts) -> bool;

/// Every sentence an evaluation can hold, by a part of its text, and when it is true.
const SENTENCES: &[(&str, Condition)] = &[
    ("There is one person only: no interval", |f| f.people == 1),
    ("All test windows are '", Facts::one_state),
    ("In no fold do the test windows hold both states", |f| !f.one_state() && f.folds_with_both == 0),
    ("windows of both states in no fold: left out", |f| f.within_people() && f.with_both < f.people),
    ("are means over the", |f| !f.one_state() && f.folds_with_both > 0 && !f.within_people()),
    ("the features of 'other' could not be measured", |f| f.windows.is_multiple_of(2)),
    ("The model gives all test windows the same probability in", |f| f.constant > 0),
    ("Model minus other:", |f| f.compared),
    ("a paired test needs two", |f| f.compared && f.with_both < 2),
    ("are zero for all", |f| f.compared && f.with_both > 1 && f.differences.iter().all(|d| *d == 0.0)),
    ("(Wilcoxon signed rank)", |f| f.compared && f.with_both > 1 && f.differences.iter().any(|d| *d != 0.0)),
    ("cannot give a p below", |f| {
        f.compared && (2..6).contains(&f.with_both) && f.differences.iter().any(|d| *d != 0.0)
    }),
];

/// Holds every sentence against its condition, in both directions, on studies drawn on both sides of each.
#[test]
fn every_sentence_is_said_exactly_when_it_is_true() {
    let mut seen = vec![[0usize; 2]; SENTENCES.len()];
    let mut width = [0usize; 2];
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for round in 0..1200 {
        let (p, other): (Predictions, Vec<f64>) = small_study().new_tree(&mut runner).unwrap().current();
        let facts = Facts::of(&p, &other);
        let unmeasured = if p.len().is_multiple_of(2) { 3 } else { 0 };
        let others = [BaselinePredictions { name: "other".into(), probability: other, unmeasured }];
        let e = evaluate(&p, &others, &settings()).unwrap();
        let said: Vec<String> = e.statements.iter().map(ToString::to_string).collect();
        for ((part, condition), seen) in SENTENCES.iter().zip(&mut seen) {
            let is_true = condition(&facts);
            let n = said.iter().filter(|s| s.contains(part)).count();
            assert_eq!(n, usize::from(is_true), "round {round}: '{part}' in {said:#?}\n{p:?}");
            seen[usize::from(is_true)] += 1;
        }
        // The interval without width is held against the interval itself.
        let model = e.methods[0].score(Metric::BalancedAccuracy).unwrap();
        let flat = model.interval.is_some_and(|i| i.low == i.high);
        assert_eq!(said.iter().filter(|s| s.contains("has no width")).count(), usize::from(flat));
        width[usize::from(flat)] += 1;
        // Nothing else is said, and the renderings say all of it.
        let known =
            |s: &String| SENTENCES.iter().any(|(part, _)| s.contains(part)) || s.contains("has no width");
        assert!(said.iter().all(known), "a sentence without a condition: {said:#?}");
        let (text, json) = (e.text(), e.json());
        let listed: Vec<&str> = ["results", "notes", "warnings"]
            .iter()
            .flat_map(|k| json[k].as_array().unwrap())
            .map(|s| s.as_str().unwrap())
            .collect();
        assert!(said.iter().all(|s| text.contains(s) && listed.contains(&s.as_str())), "{text}");
        numbers_in_sentences(&e, &facts);
    }
    for ((part, _), [no, yes]) in SENTENCES.iter().zip(&seen) {
        assert!(
            *no > 5 && *yes > 5,
            "'{part}' was true {yes} times and untrue {no} times: draw other studies"
        );
    }
    assert!(width[0] > 5 && width[1] > 5, "{width:?}");
}

/// The numbers in the sentences are those of the facts.
fn numbers_in_sentences(e: &Evaluation, f: &Facts) {
    for s in &e.statements {
        match s {
            Statement::PeopleLeftOut { left_out, people } => {
                assert_eq!((*left_out, *people), (f.people - f.with_both, f.people));
            }
            Statement::WithinFolds { with_both, people, folds, .. } => {
                assert_eq!((*with_both, *people, *folds), (f.with_both, f.people, f.folds_with_both));
            }
            Statement::Constant { folds, .. } => assert_eq!(*folds, f.constant),
            Statement::SmallestP { people } => assert_eq!(*people, f.with_both),
            Statement::Paired { test, .. } => match *test {
                PairedTest::TooFewPeople { people } | PairedTest::AllZero { people } => {
                    assert_eq!(people, f.with_both);
                }
                PairedTest::Tested { people, mean, wilcoxon, sign_flip } => {
                    let n = f.differences.len();
                    assert!(
                        people == n && (mean - f.differences.iter().sum::<f64>() / n as f64).abs() < 1e-12
                    );
                    assert_eq!(wilcoxon, paired::wilcoxon(&f.differences).unwrap().unwrap().p);
                    assert!(sign_flip >= 2.0 / 2f64.powi(n as i32) - 1e-12);
                }
            },
            _ => {}
        }
    }
}

/// The statement about equal methods is about their people's scores, not about their number.
#[test]
fn equal_methods_are_said_to_be_equal() {
    let mut windows = Vec::new();
    for who in ["a", "b", "c", "d", "e", "f"] {
        windows.extend([(who, 0, true, 0.9), (who, 0, false, 0.3)]);
    }
    let p = study(&windows);
    let others = [BaselinePredictions {
        name: "heart rate".into(),
        probability: p.probability.clone(),
        unmeasured: 0,
    }];
    let e = evaluate(&p, &others, &settings()).unwrap();
    let text = e.text();
    assert!(text.contains("differences in balanced accuracy are zero for all 6 people: no test"), "{text}");
    assert_eq!(e.json()["against_heart_rate"]["people_with_both_states"], 6);
    assert!(!text.contains("needs two"));
}

/// A baseline that reads one number, to be centred.
#[test]
fn centred_features_have_no_level_of_a_person() {
    use heartlore::data::source::MemoryWindows;
    use heartlore::evaluate::baselines::{Baseline, FeatureTable, Study, WindowFeatures, WindowSignal};
    struct Mean;
    impl WindowFeatures for Mean {
        fn columns(&self) -> Vec<String> {
            vec!["mean".into()]
        }
        fn measure(&self, w: &WindowSignal<'_>) -> heartlore::Result<Option<Vec<f64>>> {
            let mean = w.samples.iter().sum::<f64>() / w.samples.len() as f64;
            Ok((mean < 100.0).then(|| vec![mean]))
        }
    }
    // Two people whose levels differ by far more than their states; row 5 cannot be measured.
    let level = |i: usize| if i < 4 { 0.0 } else { 50.0 };
    let values: Vec<f32> = (0..8)
        .flat_map(|i| vec![if i == 5 { 200.0 } else { (level(i) + (i % 2) as f64) as f32 }; 4])
        .collect();
    let source = MemoryWindows::new(values, 4).unwrap();
    let rows = |r: std::ops::Range<usize>| r.collect::<Vec<_>>();
    let truth = |r: std::ops::Range<usize>| r.map(|i| i % 2 == 1).collect::<Vec<_>>();
    let folds = [
        FoldRows { name: "1".into(), train: rows(0..4), train_labels: truth(0..4) },
        FoldRows { name: "2".into(), train: rows(4..8), train_labels: truth(4..8) },
    ];
    let study = Study { source: &source, fs_hz: 128.0, folds: &folds, person: vec![0, 0, 0, 0, 1, 1, 1, 1] };
    let mut p = Predictions::default();
    for i in 0..8 {
        p.row.push(Some(i));
        p.subject.push(if i < 4 { "a" } else { "b" }.into());
        p.fold.push(if i < 4 { 1 } else { 0 });
        p.label.push(i % 2 == 1);
        p.probability.push(0.5);
    }
    let plain = Baseline::new("level", Mean);
    let list = [plain.clone(), plain.centred(), Baseline::majority()];
    let found = baselines::fit_baselines(&list, &p, &study).unwrap();
    assert_eq!(
        found.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(),
        ["level", "level, centred", "majority class"]
    );
    assert_eq!(found.iter().map(|b| b.unmeasured).collect::<Vec<_>>(), [1, 1, 0]);
    let e = evaluate(&p, &found, &settings()).unwrap();
    let ba = |i: usize| e.methods[i].score(Metric::BalancedAccuracy).unwrap().estimate.unwrap();
    assert!(ba(1) == 0.5 && ba(2) > 0.7, "{} {}", ba(1), ba(2));
    let tables = baselines::measure(&list, &study, &baselines::rows_of(&p, &folds)).unwrap();
    let centred: &FeatureTable = tables[1].as_ref().unwrap();
    assert!(centred.rows[&5].is_none() && tables[2].is_none());
    let sum: f64 = (0..4).map(|r| centred.rows[&r].as_ref().unwrap()[0]).sum();
    assert!(sum.abs() < 1e-12);
}
