//! The evaluation itself: all methods scored, compared and spoken of.

use std::collections::BTreeMap;

use super::baselines::BaselinePredictions;
use super::calibration::calibration;
use super::comparison::{Comparison, compare};
use super::predictions::{Design, Predictions, Scope, Settings, check_probabilities};
use super::scores::{Metric, Score, by_person, roc, score};
use super::statements::{
    Facts, Statement, Weight, counted, interval_words, people, scope_words, score_text, statements,
};
use crate::error::{Error, Result};
use crate::metrics::{Confusion, Reliability};

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
    /// One per [`Metric::ALL`].
    pub scores: Vec<Score>,
    /// Counts over all test windows, row-major: true class, predicted class; negative first.
    pub confusion: [u64; 4],
    /// Points of the mean ROC curve in the evaluation's scope; empty where undefined.
    pub roc: Vec<(f64, f64)>,
    /// Mean false and true positive rate at the threshold.
    pub operating_point: Option<(f64, f64)>,
    /// Balanced accuracy of each person with windows of both states in one fold.
    pub by_subject: Vec<(String, f64)>,
    /// The reliability diagram over all test windows.
    pub calibration: Option<Reliability>,
    /// Test windows whose features could not be measured.
    pub unmeasured: usize,
    /// Folds of two test windows or more that all got one probability, and how many folds of two or more there are.
    pub constant_folds: (usize, usize),
}

impl Method {
    /// One score.
    pub fn score(&self, metric: Metric) -> Option<&Score> {
        self.scores.iter().find(|s| s.metric == metric)
    }
}

/// Scores, comparisons and what can be said of them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Evaluation {
    /// The model first, then the others.
    pub methods: Vec<Method>,
    /// Test windows.
    pub windows: usize,
    /// Of them positive.
    pub positives: usize,
    /// People.
    pub subjects: usize,
    /// People with windows of both states in one fold.
    pub people_with_both: usize,
    /// Folds with test windows.
    pub folds: usize,
    /// Folds whose test windows hold both states.
    pub folds_with_both: usize,
    /// Where balanced accuracy, AUC and average precision are computed; `None` if the folds allow it nowhere.
    pub scope: Option<Scope>,
    /// Level of intervals.
    pub level: f64,
    /// Resamples of the bootstrap.
    pub resamples: usize,
    /// Name of the positive class.
    pub positive: String,
    /// Name of the negative class.
    pub negative: String,
    /// How folds were made.
    pub protocol: String,
    /// Whether windows of one recording lie on both sides of a fold.
    pub leaks: bool,
    /// The model against each other method that is not the same for every window of a fold.
    pub comparisons: Vec<Comparison>,
    /// What may be said, in order.
    pub statements: Vec<Statement>,
    /// Why the figures may be better than the model.
    pub marks: Vec<Mark>,
}

/// Evaluates the model's predictions `p` beside those of `others`.
///
/// # Errors
/// No windows, lists of different lengths, values that are no probabilities, a threshold or level outside 0 to 1.
pub fn evaluate(p: &Predictions, others: &[BaselinePredictions], s: &Settings) -> Result<Evaluation> {
    p.check()?;
    if !(0.0..=1.0).contains(&s.threshold) {
        return Err(Error::usage(format!("the threshold {} is no probability", s.threshold))
            .at("--threshold")
            .remedy("give a number from 0 to 1, such as 0.5"));
    }
    for other in others {
        if other.probability.len() != p.len() {
            let (n, have) = (p.len(), other.probability.len());
            return Err(Error::shape(format!("{have} predictions of '{}' for {n} windows", other.name)));
        }
        check_probabilities(&other.probability).map_err(|e| e.at(format!("baseline '{}'", other.name)))?;
    }
    let design = Design::of(p);
    let mut methods = vec![method("model", false, p, &p.probability, &design, s)?];
    for other in others {
        let mut m = method(&other.name, true, p, &other.probability, &design, s)?;
        m.unmeasured = other.unmeasured;
        methods.push(m);
    }
    // A method that says the same of every window of a fold scores 1/2 by definition: the scores themselves compare.
    let telling: Vec<(&str, &[f64])> = others
        .iter()
        .zip(&methods[1..])
        .filter(|(_, m)| m.constant_folds.0 < m.constant_folds.1)
        .map(|(o, _)| (o.name.as_str(), &o.probability[..]))
        .collect();
    let mut evaluation = Evaluation {
        comparisons: compare(p, &p.probability, &telling, &design, s)?,
        methods,
        windows: p.len(),
        positives: p.label.iter().filter(|l| **l).count(),
        subjects: design.people.len(),
        people_with_both: design.cells.len(),
        folds: design.folds.1,
        folds_with_both: design.folds.0,
        scope: design.scope,
        level: s.level,
        resamples: s.resamples,
        positive: s.positive.clone(),
        negative: s.negative.clone(),
        protocol: s.protocol.clone(),
        leaks: s.leaks,
        statements: Vec::new(),
        marks: Vec::new(),
    };
    if s.leaks {
        evaluation.mark(Mark {
            short: "LEAK: recordings on both sides".into(),
            sentence: "These folds leak: windows of one recording lie on both sides of each split, so the figures are no \
                       measure of generalisation."
                .into(),
        });
    }
    evaluation.statements = statements(&evaluation.facts());
    Ok(evaluation)
}

fn method(
    name: &str,
    baseline: bool,
    p: &Predictions,
    q: &[f64],
    design: &Design,
    s: &Settings,
) -> Result<Method> {
    let confusion = Confusion::from_probabilities(&p.label, q, s.threshold)?;
    let count = |truth, predicted| confusion.count(truth, predicted);
    let scores: Result<Vec<Score>> = Metric::ALL.iter().map(|m| score(*m, p, q, design, s)).collect();
    let (roc, operating_point) = roc(p, q, design, s.threshold)?;
    let by_subject = by_person(Metric::BalancedAccuracy, p, q, design, s.threshold)
        .into_iter()
        .map(|(who, v)| (design.people[who].clone(), v))
        .collect();
    let mut folds: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    p.fold.iter().zip(q).for_each(|(f, v)| folds.entry(*f).or_default().push(*v));
    folds.retain(|_, v| v.len() > 1);
    let constant = folds.values().filter(|v| v.iter().all(|x| *x == v[0])).count();
    Ok(Method {
        name: name.into(),
        baseline,
        scores: scores?,
        confusion: [count(0, 0), count(0, 1), count(1, 0), count(1, 1)],
        roc,
        operating_point,
        by_subject,
        calibration: calibration(&p.label, q)?,
        unmeasured: 0,
        constant_folds: (constant, folds.len()),
    })
}

impl Evaluation {
    /// What the statements are made from.
    fn facts(&self) -> Facts<'_> {
        let unmeasured = self.methods.iter().filter(|m| m.unmeasured > 0);
        Facts {
            comparisons: &self.comparisons,
            scope: self.scope,
            windows: self.windows,
            positives: self.positives,
            classes: [&self.negative, &self.positive],
            people: self.subjects,
            people_with_both: self.people_with_both,
            folds: self.folds,
            folds_with_both: self.folds_with_both,
            balanced_accuracy: self.methods.first().and_then(|m| m.score(Metric::BalancedAccuracy)),
            unmeasured: unmeasured.map(|m| (m.name.as_str(), m.unmeasured)).collect(),
            constant_folds: self.methods.first().map_or((0, 0), |m| m.constant_folds),
        }
    }

    /// Adds a reason to doubt the figures; every rendering shows it.
    pub fn mark(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    /// `title` with the marks behind it: titles of tables and figures, lines of a card.
    pub fn marked(&self, title: &str) -> String {
        self.marks.iter().fold(title.to_string(), |text, m| format!("{text} [{}]", m.short))
    }

    /// Adds a sentence of another room: of the split, the data or the weights at the start.
    pub fn say(&mut self, text: impl Into<String>, is_warning: bool) {
        self.statements.push(Statement::Other(text.into(), is_warning));
    }

    /// The statements of one weight, as text.
    pub fn sentences(&self, weight: Weight) -> impl Iterator<Item = String> {
        self.statements.iter().filter(move |s| s.weight() == weight).map(ToString::to_string)
    }

    /// Whether any score of any method has an interval.
    pub fn has_intervals(&self) -> bool {
        self.methods.iter().any(|m| m.scores.iter().any(|s| s.interval.is_some()))
    }

    /// "72 test windows of 6 people, 36 of them 'aroused'."
    pub fn header(&self) -> String {
        format!(
            "{} of {}, {} of them '{}'.",
            counted(self.windows, "test window", "test windows"),
            people(self.subjects),
            self.positives,
            self.positive
        )
    }

    /// As a table for the terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for mark in &self.marks {
            text.push_str(&format!("WARNING: {}\n", mark.sentence));
        }
        text.push_str(&format!("{}\nprotocol: {}\n", self.header(), self.protocol));
        let wide = self.methods.iter().map(|m| m.name.len()).max().unwrap_or(0);
        let shown = [Metric::BalancedAccuracy, Metric::MacroF1, Metric::Auc];
        text.push_str(&format!("  {:<wide$}", ""));
        for metric in shown {
            let pooled = if metric.compares_states() { "" } else { " (pooled)" };
            text.push_str(&format!("  {:<23}", format!("{}{pooled}", metric.name())));
        }
        text.push('\n');
        for m in &self.methods {
            text.push_str(&format!("  {:<wide$}", m.name));
            for score in shown.iter().filter_map(|metric| m.score(*metric)) {
                let cell = score_text(score.estimate, score.interval.as_ref(), 3);
                text.push_str(&format!("  {cell:<23}"));
            }
            if !self.marks.is_empty() {
                text.push_str(&format!(" {}", self.marked("").trim()));
            }
            text.push('\n');
        }
        if self.scope.is_some() {
            text.push_str(&format!(
                "  Balanced accuracy and AUC: {}. {}\n",
                scope_words(self.scope),
                interval_words(self.level, self.has_intervals())
            ));
        }
        for line in self.sentences(Weight::Result).chain(self.sentences(Weight::Note)) {
            text.push_str(&format!("  {line}\n"));
        }
        for line in self.sentences(Weight::Warning) {
            text.push_str(&format!("  WARNING: {line}\n"));
        }
        text
    }
}
