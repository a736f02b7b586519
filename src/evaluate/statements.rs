//! Every sentence the program prints about results, each made from the numbers that make it true.
//!
//! One function decides what is said of an [`super::Evaluation`]; terminal, report, JSON and model card
//! print what it returns. The test beside holds each sentence against its condition, worked out a second way from the
//! predictions, on studies drawn on both sides of it.

use std::fmt;

use super::comparison::{Comparison, Difference, PairedTest};
use super::predictions::Scope;
use super::scores::{Metric, Score};
use crate::metrics::Interval;

/// How a statement is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// A result.
    Result,
    /// What a reader must know.
    Note,
    /// What puts the figures in doubt.
    Warning,
}

/// One sentence about results.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Statement {
    /// There is one person.
    OnePerson,
    /// All test windows are of one state.
    OneState {
        /// Its name.
        state: String,
    },
    /// There are both states, but in no fold.
    NoFoldHoldsBoth,
    /// Some people have no fold with both states; scores are within people.
    PeopleLeftOut {
        /// How many are left out.
        left_out: usize,
        /// Of how many.
        people: usize,
    },
    /// Fewer than half of the people have windows of both states in one fold; scores are within folds.
    WithinFolds {
        /// How many have.
        with_both: usize,
        /// Of how many.
        people: usize,
        /// Folds that hold both states.
        folds: usize,
        /// Of how many.
        of: usize,
    },
    /// A baseline could not be measured in some test windows.
    Unmeasured {
        /// Its name.
        baseline: String,
        /// In how many.
        windows: usize,
    },
    /// The model says the same of all windows of some folds.
    Constant {
        /// Folds with two test windows or more, all of them given one probability.
        folds: usize,
        /// Folds with two test windows or more.
        of: usize,
    },
    /// Everybody scores the same, so that the interval has no width.
    NoWidth {
        /// The score.
        metric: Metric,
        /// The value.
        value: f64,
    },
    /// Model minus another method.
    Differences {
        /// The other method.
        against: String,
        /// The scores.
        differences: Vec<Difference>,
    },
    /// What the people one by one say.
    Paired {
        /// The other method.
        against: String,
        /// The test.
        test: PairedTest,
    },
    /// There are so few people that the sign-flip test cannot fall below the usual 0.05.
    SmallestP {
        /// People tested.
        people: usize,
    },
    /// Something said elsewhere: of the split, of the data, of the weights at the start.
    Other(String, bool),
}

/// "1 person", "2 people".
pub(crate) fn people(n: usize) -> String {
    counted(n, "person", "people")
}

/// With a capital letter at its start.
pub(crate) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |c| c.to_uppercase().chain(letters).collect())
}

/// A count with the right form of its noun.
pub(crate) fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The three scores that compare the states, in words.
const STATE_SCORES: &str = "balanced accuracy, AUC and average precision";

impl Statement {
    /// How it is shown.
    pub fn weight(&self) -> Weight {
        match self {
            Self::Differences { .. } | Self::Paired { .. } | Self::SmallestP { .. } => Weight::Result,
            Self::Constant { .. } | Self::Other(_, true) => Weight::Warning,
            _ => Weight::Note,
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnePerson => f.write_str("There is one person only: no interval over people can be given."),
            Self::OneState { state } => {
                write!(f, "All test windows are '{state}': {STATE_SCORES} are undefined.")
            }
            Self::NoFoldHoldsBoth => write!(
                f,
                "In no fold do the test windows hold both states: {STATE_SCORES} can only be computed over all folds \
                 together (pooled), which compares the outputs of different models; they are undefined here."
            ),
            Self::PeopleLeftOut { left_out, people: n } => write!(
                f,
                "{left_out} of {} {} windows of both states in no fold: left out of {STATE_SCORES}, which are means over \
                 people.",
                people(*n),
                if *left_out == 1 { "has" } else { "have" }
            ),
            Self::WithinFolds { with_both, people: n, folds, of } => write!(
                f,
                "Only {with_both} of {} {} windows of both states in one fold: {STATE_SCORES} are means over the {folds} \
                 of {} whose test windows hold both.",
                people(*n),
                if *with_both == 1 { "has" } else { "have" },
                counted(*of, "fold", "folds")
            ),
            Self::Unmeasured { baseline, windows } => write!(
                f,
                "In {} the features of '{baseline}' could not be measured and were taken to be the training part's mean.",
                counted(*windows, "test window", "test windows")
            ),
            Self::Constant { folds, of } => write!(
                f,
                "The model gives all test windows the same probability in {folds} of {}: it tells nothing apart there. \
                 Look at its loss and at the size of its weights.",
                counted(*of, "fold", "folds")
            ),
            Self::NoWidth { metric, value } => write!(
                f,
                "Without any one person the {} of the model is still {value:.3}: the interval has no width, which does not \
                 mean that new people would score the same.",
                metric.name()
            ),
            Self::Differences { against, differences } => {
                write!(f, "Model minus {against}:")?;
                for (i, d) in differences.iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    write!(f, "{comma} {} {}", d.metric.name(), difference_text(d))?;
                }
                f.write_str(".")
            }
            Self::Paired { against, test } => match test {
                PairedTest::TooFewPeople { people: n } => write!(
                    f,
                    "Against {against}: {} {} windows of both states in one fold; a paired test needs two.",
                    if *n == 0 { "no person".into() } else { people(*n) },
                    if *n < 2 { "has" } else { "have" }
                ),
                PairedTest::AllZero { people: n } => write!(
                    f,
                    "Against {against}: the differences in balanced accuracy are zero for all {}: no test.",
                    people(*n)
                ),
                PairedTest::Tested { people: n, mean, wilcoxon, sign_flip } => write!(
                    f,
                    "Against {against}, over the {} with windows of both states in one fold: balanced accuracy differs by \
                     {mean:+.3} on average; {} (Wilcoxon signed rank), {} (sign flips), two-sided.",
                    people(*n),
                    p_text(*wilcoxon),
                    p_text(*sign_flip)
                ),
            },
            Self::SmallestP { people: n } => write!(
                f,
                "With {} a sign-flip test cannot give a p below {:.3}, whatever the scores.",
                people(*n),
                smallest_p(*n)
            ),
            Self::Other(text, _) => f.write_str(text),
        }
    }
}

/// The least p of a two-sided sign-flip test of `n` differences: the observed signs and their mirror image of 2^n.
pub(super) fn smallest_p(n: usize) -> f64 {
    2.0 / 2f64.powi(n.min(1000) as i32)
}

/// "p = 0.044", and "p < 0.001" where three decimals would say zero.
pub(crate) fn p_text(p: f64) -> String {
    if p < 0.001 { "p < 0.001".into() } else { format!("p = {p:.3}") }
}

/// "0.612 (0.553 to 0.671)", "0.612 (no interval)", "undefined".
pub fn score_text(estimate: Option<f64>, interval: Option<&Interval>, decimals: usize) -> String {
    match (estimate, interval) {
        (None, _) => "undefined".into(),
        (Some(v), Some(i)) => format!("{v:.decimals$} ({:.decimals$} to {:.decimals$})", i.low, i.high),
        (Some(v), None) => format!("{v:.decimals$} (no interval)"),
    }
}

fn difference_text(d: &Difference) -> String {
    match (d.estimate, &d.interval) {
        (None, _) => "undefined".into(),
        (Some(v), Some(i)) => format!("{v:+.3} ({:+.3} to {:+.3})", i.low, i.high),
        (Some(v), None) => format!("{v:+.3} (no interval)"),
    }
}

/// What the scores that compare the states are means over, for captions.
pub fn scope_words(scope: Option<Scope>) -> &'static str {
    match scope {
        Some(Scope::WithinPerson) => "computed in each person's windows of one fold; mean over people",
        Some(Scope::WithinFold) => "computed in each fold that holds both states; mean over folds",
        Some(Scope::Pooled) => "computed over all test windows together",
        None => "undefined: no fold's test windows hold both states",
    }
}

/// How the intervals were made, for captions; says so where there is none.
pub fn interval_words(level: f64, any: bool) -> String {
    if any {
        format!("Intervals are {:.0} % over people (Student's t, jackknife).", 100.0 * level)
    } else {
        "No interval could be given.".into()
    }
}

/// What a model's card says of the figures on it: they are of the folds' models, and the saved one is another, or the one
/// of a single split.
pub fn card_note(of_all_windows: bool) -> &'static str {
    if of_all_windows {
        "The figures are of the folds' models; this model was fitted on all labelled windows."
    } else {
        "This is the model the figures are of: it was fitted on the training part of the split, not on its test windows."
    }
}

/// What `predict` says of a model whose output does not depend on the window: at least two windows, all given one
/// probability to the last bit.
pub fn constant_output(probabilities: &[f64]) -> Option<String> {
    let first = *probabilities.first()?;
    (probabilities.len() > 1 && probabilities.iter().all(|p| *p == first)).then(|| {
        format!(
            "all {} windows got the same probability, {first}: the model tells none of them apart; look at the size of its \
             weights",
            probabilities.len()
        )
    })
}

/// What the statements are made from.
pub(super) struct Facts<'a> {
    pub comparisons: &'a [Comparison],
    pub scope: Option<Scope>,
    pub windows: usize,
    pub positives: usize,
    /// Names of the negative and the positive state.
    pub classes: [&'a str; 2],
    pub people: usize,
    pub people_with_both: usize,
    pub folds: usize,
    pub folds_with_both: usize,
    /// The model's.
    pub balanced_accuracy: Option<&'a Score>,
    /// Methods with the number of test windows they could not measure, if any.
    pub unmeasured: Vec<(&'a str, usize)>,
    /// The model's.
    pub constant_folds: (usize, usize),
}

/// The statements that the facts support.
pub(super) fn statements(f: &Facts<'_>) -> Vec<Statement> {
    let mut out = Vec::new();
    for c in f.comparisons {
        out.extend(of_comparison(c));
    }
    let tested = f.comparisons.iter().filter_map(|c| match c.test {
        PairedTest::Tested { people, .. } => Some(people),
        _ => None,
    });
    if let Some(people) = tested.min().filter(|n| smallest_p(*n) > 0.05) {
        out.push(Statement::SmallestP { people });
    }
    if f.people == 1 {
        out.push(Statement::OnePerson);
    }
    match f.scope {
        _ if f.positives == 0 => out.push(Statement::OneState { state: f.classes[0].into() }),
        _ if f.positives == f.windows => out.push(Statement::OneState { state: f.classes[1].into() }),
        None => out.push(Statement::NoFoldHoldsBoth),
        Some(Scope::WithinPerson) if f.people_with_both < f.people => {
            out.push(Statement::PeopleLeftOut { left_out: f.people - f.people_with_both, people: f.people })
        }
        Some(Scope::WithinFold) => out.push(Statement::WithinFolds {
            with_both: f.people_with_both,
            people: f.people,
            folds: f.folds_with_both,
            of: f.folds,
        }),
        _ => {}
    }
    out.extend(f.balanced_accuracy.and_then(of_width));
    for (name, windows) in &f.unmeasured {
        out.push(Statement::Unmeasured { baseline: (*name).into(), windows: *windows });
    }
    if f.constant_folds.0 > 0 {
        out.push(Statement::Constant { folds: f.constant_folds.0, of: f.constant_folds.1 });
    }
    out
}

fn of_comparison(c: &Comparison) -> [Statement; 2] {
    [
        Statement::Differences { against: c.against.clone(), differences: c.differences.clone() },
        Statement::Paired { against: c.against.clone(), test: c.test },
    ]
}

fn of_width(score: &Score) -> Option<Statement> {
    let (i, value) = (score.interval?, score.estimate?);
    // Of the interval before it is cut off at the ends of the scale a width of 0 is left over only if there was none.
    (i.low == i.high).then_some(Statement::NoWidth { metric: score.metric, value })
}
