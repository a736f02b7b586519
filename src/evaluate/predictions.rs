//! Test windows with the probabilities a model gave them, and how they fall into people and folds.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// What else an evaluation needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Decision threshold: a probability of at least this counts as positive.
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
    /// Whether windows of one recording lie on both sides of a fold.
    pub leaks: bool,
}

/// Where a score is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In each person's windows of one fold; mean over the person's folds, then over people.
    WithinPerson,
    /// In each fold; mean over folds.
    WithinFold,
    /// Over all test windows together.
    Pooled,
}

impl Scope {
    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Scope::WithinPerson => "within person",
            Scope::WithinFold => "within fold",
            Scope::Pooled => "pooled",
        }
    }
}

/// Test windows with the model's probabilities; every list has one entry per window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Row of the store, if known.
    pub row: Vec<Option<usize>>,
    /// Person, unique over data sets.
    pub subject: Vec<String>,
    /// Fold whose test part the window is in: one fold is one model.
    pub fold: Vec<usize>,
    /// True class.
    pub label: Vec<bool>,
    /// Probability of the positive class.
    pub probability: Vec<f64>,
}

impl Predictions {
    /// Number of test windows.
    pub fn len(&self) -> usize {
        self.label.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.label.is_empty()
    }

    /// Checks that the lists fit together and that probabilities are probabilities.
    ///
    /// # Errors
    /// No windows, lists of different lengths, a value outside 0 to 1.
    pub fn check(&self) -> Result<()> {
        let n = self.len();
        if n == 0 {
            return Err(Error::data("there are no predictions to evaluate"));
        }
        for (name, len) in [
            ("rows", self.row.len()),
            ("subjects", self.subject.len()),
            ("folds", self.fold.len()),
            ("probabilities", self.probability.len()),
        ] {
            if len != n {
                return Err(Error::shape(format!("{n} labels but {len} {name}")));
            }
        }
        check_probabilities(&self.probability)
    }
}

/// Every value must be in 0 to 1.
pub(super) fn check_probabilities(values: &[f64]) -> Result<()> {
    match values.iter().position(|p| !(0.0..=1.0).contains(p)) {
        None => Ok(()),
        Some(i) => Err(Error::numeric(format!("prediction {i} is {}, no probability", values[i]))
            .remedy("look at the weights of the model and at its windows for NaN and infinity")),
    }
}

/// How test windows fall into people, folds and *cells*: the windows of one person in one fold, if they hold both states.
///
/// Outputs of two folds come from two models, and what a person's windows have in common is no answer to a question about
/// states. A score that compares the two states is therefore computed inside a cell, where neither plays a part.
#[derive(Clone, Debug, PartialEq)]
pub struct Design {
    /// Names of the people, ascending.
    pub people: Vec<String>,
    /// Person of each window, as a position in `people`.
    pub person: Vec<usize>,
    /// Fold of each window.
    pub fold: Vec<usize>,
    /// Folds whose test windows hold both states, and all folds.
    pub folds: (usize, usize),
    /// Cells of each person who has any: (person, windows of each cell).
    pub cells: Vec<(usize, Vec<Vec<usize>>)>,
    /// Where scores that compare the states are computed; `None` if no fold holds both states.
    pub scope: Option<Scope>,
}

impl Design {
    /// Sorts the windows of `p`.
    ///
    /// The scope is chosen by labels and folds alone, never by scores: within people if at least half of them have a cell,
    /// else within folds if any fold holds both states.
    pub fn of(p: &Predictions) -> Self {
        let mut ids: BTreeMap<&str, usize> = p.subject.iter().map(|s| (s.as_str(), 0)).collect();
        ids.values_mut().enumerate().for_each(|(i, id)| *id = i);
        let person: Vec<usize> = p.subject.iter().map(|s| ids[s.as_str()]).collect();
        let mut by_cell: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        let mut by_fold: BTreeMap<usize, [bool; 2]> = BTreeMap::new();
        for (i, &who) in person.iter().enumerate() {
            by_cell.entry((who, p.fold[i])).or_default().push(i);
            by_fold.entry(p.fold[i]).or_default()[usize::from(p.label[i])] = true;
        }
        let mut cells: Vec<(usize, Vec<Vec<usize>>)> = Vec::new();
        for ((who, _), items) in by_cell {
            let positives = items.iter().filter(|&&i| p.label[i]).count();
            if positives == 0 || positives == items.len() {
                continue;
            }
            match cells.last_mut() {
                Some((last, list)) if *last == who => list.push(items),
                _ => cells.push((who, vec![items])),
            }
        }
        let both = by_fold.values().filter(|c| c[0] && c[1]).count();
        let scope = if !cells.is_empty() && 2 * cells.len() >= ids.len() {
            Some(Scope::WithinPerson)
        } else {
            (both > 0).then_some(Scope::WithinFold)
        };
        let people = ids.keys().map(|s| (*s).to_string()).collect();
        Self { people, person, fold: p.fold.clone(), folds: (both, by_fold.len()), cells, scope }
    }
}
