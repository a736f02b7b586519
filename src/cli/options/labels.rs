//! From a label column of a store to two classes.

use std::collections::{BTreeMap, BTreeSet};

use crate::data::index::Index;
use crate::data::names::{class_key, obvious_class};
use crate::data::split::{Fold, Split};
use crate::error::{Error, Result};

/// Flags of the labels.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Labels")]
pub struct LabelArgs {
    /// Label column of the store
    #[arg(long)]
    pub label: String,
    /// Value of the column that is the positive class [default: that of an obvious pair, such as 1 of 1/0, true of
    /// true/false, yes of yes/no, high of high/low; any other pair needs this]
    #[arg(long)]
    pub positive: Option<String>,
    /// Value that is the negative class; windows with any other value are left out [default: the other value]
    #[arg(long)]
    pub negative: Option<String>,
    /// Split ratings in two: positive above a number, above the training part's mean, or above the midpoint of --scale
    #[arg(long, value_name = "NUMBER|mean|midpoint")]
    pub threshold: Option<String>,
    /// Leave out ratings this close to the threshold, half the band's width (with --threshold)
    #[arg(long, value_name = "HALF_WIDTH")]
    pub drop_middle: Option<f64>,
    /// Lowest and highest rating there can be, such as 1,9; a rating outside is an error
    #[arg(long, value_name = "LOW,HIGH", allow_hyphen_values = true)]
    pub scale: Option<String>,
    /// What to call the positive class
    #[arg(long)]
    pub positive_name: Option<String>,
    /// What to call the negative class
    #[arg(long)]
    pub negative_name: Option<String>,
}

/// How ratings become classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Classes are given.
    Given,
    /// Positive above this number.
    Above(f64),
    /// Positive above the mean rating of each fold's training part.
    AboveTrainingMean,
}

/// Labelled windows.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// Rows of the store that have a label.
    pub rows: Vec<usize>,
    /// Their classes; with [`Rule::AboveTrainingMean`] by the mean over all rows, and only for stratification.
    pub classes: Vec<bool>,
    /// Their ratings; empty unless there is a threshold.
    pub ratings: Vec<f64>,
    /// How ratings become classes.
    pub rule: Rule,
    /// Name of the positive class.
    pub positive: String,
    /// Name of the negative class.
    pub negative: String,
    /// Windows without a label.
    pub missing: usize,
    /// Windows with a value that is neither class, or within the band around a threshold that is a number.
    pub other: usize,
    /// Half the width of the band around the threshold that is left out; 0 for none.
    pub band: f64,
}

impl LabelArgs {
    /// Reads the labels of the windows `among` (all rows that are considered).
    ///
    /// # Errors
    /// No such column, no labels, values that are no two classes, ratings that are no numbers or outside the scale, one
    /// class only. Each names rows or values and what to do.
    pub fn resolve(&self, index: &Index, among: &[usize]) -> Result<Labels> {
        let column = index.label_column(&self.label)?;
        let at = || format!("label column '{}'", self.label);
        let mut values: BTreeMap<&str, usize> = BTreeMap::new();
        let mut missing = 0;
        for &row in among {
            match index.label(column, row) {
                Some(value) => *values.entry(value).or_default() += 1,
                None => missing += 1,
            }
        }
        if values.is_empty() {
            return Err(Error::data(format!("none of {} windows has a label", among.len()))
                .at(at())
                .remedy("fill the column in the table given to `heartlore prepare --table`, or choose another --label"));
        }
        let mut labels = match &self.threshold {
            Some(rule) => self.ratings(rule, index, column, among)?,
            None => self.given(index, column, among, &values)?,
        };
        labels.missing = missing;
        let positives = labels.classes.iter().filter(|c| **c).count();
        if positives == 0 || positives == labels.classes.len() {
            let only = if positives == 0 { &labels.negative } else { &labels.positive };
            return Err(Error::data(format!("all {} labelled windows are '{only}'", labels.classes.len()))
                .at(at())
                .remedy("two classes are needed: choose another column or threshold"));
        }
        Ok(labels)
    }

    fn given(
        &self,
        index: &Index,
        column: usize,
        among: &[usize],
        values: &BTreeMap<&str, usize>,
    ) -> Result<Labels> {
        let list = values.iter().map(|(v, n)| format!("'{v}' ({n})")).collect::<Vec<_>>().join(", ");
        let fail = |what: String, remedy: &str| {
            Error::data(format!("{what}; the values are {list}"))
                .at(format!("label column '{}'", self.label))
                .remedy(remedy)
        };
        // `1`, `01` and `1.0` are one class, and so are `True` and `true`.
        let classes: BTreeSet<String> = values.keys().map(|v| class_key(v)).collect();
        let named = |flag: &str, value: &Option<String>| match value.as_deref().map(class_key) {
            Some(key) if !classes.contains(&key) => Err(fail(
                format!("no window has the value '{}' of --{flag}", value.as_deref().unwrap_or("")),
                "name one of them",
            )),
            key => Ok(key),
        };
        let (positive, negative) = (named("positive", &self.positive)?, named("negative", &self.negative)?);
        let only_other = |one: &str| {
            let mut others = classes.iter().filter(|c| *c != one);
            (others.next().cloned(), others.next().is_some())
        };
        let (positive, negative) = match (positive, negative) {
            (Some(p), Some(n)) => (p, n),
            (Some(p), None) => match only_other(&p) {
                (_, true) => return Err(self.too_many(&fail, classes.len())),
                (other, _) => (p, other.unwrap_or_default()),
            },
            (None, Some(n)) => match only_other(&n) {
                (_, true) => return Err(self.too_many(&fail, classes.len())),
                (Some(p), _) => (p, n),
                (None, _) => (String::new(), n),
            },
            (None, None) => {
                let two: Vec<&String> = classes.iter().collect();
                let which =
                    || fail("which value is the positive class?".into(), "say so with --positive VALUE");
                match two[..] {
                    [one] => match obvious_class(one, None).ok_or_else(which)? {
                        true => (one.clone(), String::new()),
                        false => (String::new(), one.clone()),
                    },
                    [a, b] => match obvious_class(a, Some(b)).ok_or_else(which)? {
                        true => (a.clone(), b.clone()),
                        false => (b.clone(), a.clone()),
                    },
                    _ => return Err(self.too_many(&fail, classes.len())),
                }
            }
        };
        if positive == negative {
            return Err(fail(format!("both classes are '{positive}'"), "name two"));
        }
        let (mut rows, mut is_positive, mut other) = (Vec::new(), Vec::new(), 0);
        let keys: BTreeMap<&str, String> = values.keys().map(|v| (*v, class_key(v))).collect();
        for &row in among {
            match index.label(column, row).and_then(|v| keys.get(v)) {
                Some(v) if *v == positive || *v == negative => {
                    rows.push(row);
                    is_positive.push(*v == positive);
                }
                Some(_) => other += 1,
                None => {}
            }
        }
        // As it stands in the column; "1" and "0" say nothing without the column's name.
        let spelt = |key: &str| {
            let found = keys.iter().filter(|(_, k)| *k == key).max_by_key(|(v, _)| values[*v]);
            found.map_or(key, |(v, _)| *v).to_string()
        };
        let name = |key: &str, positive: bool| match (key, positive) {
            ("1" | "true" | "yes" | "t" | "y", true) => self.label.clone(),
            ("0" | "-1" | "false" | "no" | "f" | "n" | "", false) => format!("not {}", self.label),
            (key, _) if key.parse::<f64>().is_ok() => format!("{} {key}", self.label),
            ("", true) => self.label.clone(),
            _ => spelt(key),
        };
        Ok(Labels {
            rows,
            classes: is_positive,
            ratings: Vec::new(),
            rule: Rule::Given,
            positive: self.positive_name.clone().unwrap_or_else(|| name(&positive, true)),
            negative: self.negative_name.clone().unwrap_or_else(|| name(&negative, false)),
            missing: 0,
            other,
            band: 0.0,
        })
    }

    fn too_many(&self, fail: &dyn Fn(String, &str) -> Error, n: usize) -> Error {
        fail(
            format!("{n} values are no two classes"),
            "name both with --positive and --negative, or split ratings with --threshold",
        )
    }

    fn ratings(&self, rule: &str, index: &Index, column: usize, among: &[usize]) -> Result<Labels> {
        let flag = |name: &str, what: String| Error::usage(what).at(format!("--{name}"));
        let band = self.drop_middle.unwrap_or(0.0);
        if !(band.is_finite() && band >= 0.0) {
            return Err(flag("drop-middle", format!("{band} is no width of a band")));
        }
        if self.positive.is_some() || self.negative.is_some() {
            return Err(flag("threshold", "a threshold needs no --positive and --negative".into()));
        }
        let scale = match &self.scale {
            None => None,
            Some(text) => {
                let two: Vec<f64> = text.split(',').filter_map(|t| t.trim().parse().ok()).collect();
                match two[..] {
                    [low, high] if low < high && text.split(',').count() == 2 => Some((low, high)),
                    _ => return Err(flag("scale", format!("'{text}' is not LOW,HIGH, such as 1,9"))),
                }
            }
        };
        let mut faults = Vec::new();
        let (mut rows, mut ratings) = (Vec::new(), Vec::new());
        for &row in among {
            let Some(text) = index.label(column, row) else { continue };
            match text.parse::<f64>().ok().filter(|v| v.is_finite()) {
                None => faults.push(format!("row {row}: '{text}' is no number")),
                Some(v) if scale.is_some_and(|(low, high)| v < low || v > high) => faults.push(format!(
                    "row {row}: {v} is outside the scale {}",
                    self.scale.as_deref().unwrap_or("")
                )),
                Some(v) => {
                    rows.push(row);
                    ratings.push(v);
                }
            }
        }
        if !faults.is_empty() {
            let more = faults.len().saturating_sub(5);
            faults.truncate(5);
            let mut text = faults.join("; ");
            if more > 0 {
                text.push_str(&format!("; and {more} more"));
            }
            return Err(Error::data(text)
                .at(format!("label column '{}'", self.label))
                .remedy("correct the labels and prepare the store again, or change --scale"));
        }
        let mean = ratings.iter().sum::<f64>() / ratings.len().max(1) as f64;
        let (rule, line) = match (rule, scale) {
            ("mean", _) => (Rule::AboveTrainingMean, mean),
            ("midpoint", Some((low, high))) => (Rule::Above((low + high) / 2.0), (low + high) / 2.0),
            ("midpoint", None) => {
                return Err(
                    flag("threshold", "the midpoint needs a scale".into()).remedy("give --scale LOW,HIGH")
                );
            }
            (text, _) => match text.parse::<f64>().ok().filter(|v| v.is_finite()) {
                Some(v) => (Rule::Above(v), v),
                None => return Err(flag("threshold", format!("'{text}' is no number, mean or midpoint"))),
            },
        };
        let mut other = 0;
        if let Rule::Above(line) = rule
            && band > 0.0
        {
            let outside: Vec<bool> = ratings.iter().map(|r| (r - line).abs() > band).collect();
            let mut keep = outside.iter();
            rows.retain(|_| keep.next() == Some(&true));
            let mut keep = outside.iter();
            ratings.retain(|_| keep.next() == Some(&true));
            other = outside.len() - rows.len();
        }
        Ok(Labels {
            classes: ratings.iter().map(|r| *r > line).collect(),
            rows,
            ratings,
            rule,
            positive: self.positive_name.clone().unwrap_or_else(|| format!("high {}", self.label)),
            negative: self.negative_name.clone().unwrap_or_else(|| format!("low {}", self.label)),
            missing: 0,
            other,
            band,
        })
    }
}

impl Labels {
    /// The threshold that a fold with this training part (positions in `rows`) uses: the number, or the mean of the
    /// training part's ratings and of nothing else. None when classes are given.
    pub fn threshold(&self, train: &[usize]) -> Option<f64> {
        match self.rule {
            Rule::Given => None,
            Rule::Above(line) => Some(line),
            Rule::AboveTrainingMean if train.is_empty() => None,
            Rule::AboveTrainingMean => {
                Some(train.iter().map(|&i| self.ratings[i]).sum::<f64>() / train.len() as f64)
            }
        }
    }

    /// Classes for a fold with this training part (positions in `rows`): as given, or by the training part's mean.
    pub fn for_training(&self, train: &[usize]) -> Vec<bool> {
        match self.threshold(train) {
            Some(line) if self.rule == Rule::AboveTrainingMean => {
                self.ratings.iter().map(|r| *r > line).collect()
            }
            _ => self.classes.clone(),
        }
    }

    /// Takes the windows within the band around each fold's own threshold out of all its parts: those of the test part by
    /// the training part's threshold too. Returns how many windows of how many folds' parts were taken out. Call it after
    /// [`Labels::for_training`], whose mean is that of the whole training part.
    pub fn leave_out_middle(&self, split: &mut Split) -> usize {
        if self.rule != Rule::AboveTrainingMean || self.band == 0.0 {
            return 0;
        }
        let mut out = 0;
        for fold in &mut split.folds {
            let Some(line) = self.threshold(&fold.train) else { continue };
            let Fold { train, validation, test, unused, .. } = fold;
            for part in [train, validation, test] {
                let before = unused.len();
                part.retain(|&i| {
                    let middle = (self.ratings[i] - line).abs() <= self.band;
                    if middle {
                        unused.push(i);
                    }
                    !middle
                });
                out += unused.len() - before;
            }
        }
        out
    }

    /// The rule in words, with the thresholds that folds with these training parts use.
    pub fn rule_in_words(&self, folds: &[Fold]) -> String {
        let band = if self.band > 0.0 {
            format!(", without those within {} of it", self.band)
        } else {
            String::new()
        };
        match self.rule {
            Rule::Given => "classes as given".into(),
            Rule::Above(line) => format!("ratings above {line}{band}"),
            Rule::AboveTrainingMean => {
                let lines: Vec<String> = folds
                    .iter()
                    .filter_map(|f| Some(format!("{} {:.4}", f.name, self.threshold(&f.train)?)))
                    .collect();
                format!("ratings above the training part's mean{band}; by fold: {}", lines.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::index::Row;
    use crate::data::split::{Group, Keys, Protocol};

    fn args(threshold: &str, drop_middle: Option<f64>) -> LabelArgs {
        LabelArgs {
            label: "arousal".into(),
            positive: None,
            negative: None,
            threshold: Some(threshold.into()),
            drop_middle,
            scale: Some("1,9".into()),
            positive_name: None,
            negative_name: None,
        }
    }

    /// Six people with two windows each.
    fn index(ratings: [f64; 12]) -> Index {
        let mut index = Index::new(&["arousal".to_string()]).unwrap();
        for (i, r) in ratings.iter().enumerate() {
            let (subject, trial) = (format!("s{}", i / 2), i.to_string());
            let row = Row { subject, trial, labels: vec![Some(r.to_string())], ..Row::default() };
            index.push(&row).unwrap();
        }
        index
    }

    fn by_subject(index: &Index, labels: &Labels) -> Split {
        let keys = index.split_keys();
        let take = |list: &[u32]| labels.rows.iter().map(|&r| list[r]).collect::<Vec<u32>>();
        let keys = Keys {
            subject: take(&keys.subject),
            trial: take(&keys.trial),
            stimulus: Vec::new(),
            class: labels.classes.iter().map(|c| u32::from(*c)).collect(),
        };
        Split::new(&keys, Protocol::LeaveOneOut { group: Group::Subject }, 0.0, 1).unwrap()
    }

    const RATINGS: [f64; 12] = [1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 5.0, 5.5, 2.5, 7.5];

    #[test]
    fn a_test_persons_rating_does_not_move_the_threshold() {
        let rows: Vec<usize> = (0..12).collect();
        let (before, mut changed) = (index(RATINGS), RATINGS);
        // Person s0, in the test part of the first fold, says something else altogether.
        (changed[0], changed[1]) = (9.0, 9.0);
        let after = index(changed);
        let labels = [&before, &after].map(|i| args("mean", None).resolve(i, &rows).unwrap());
        let splits = [by_subject(&before, &labels[0]), by_subject(&after, &labels[1])];
        for (a, b) in splits[0].folds.iter().zip(&splits[1].folds) {
            assert_eq!((&a.train, &a.test), (&b.train, &b.test));
            let tests_s0 = a.test.contains(&0);
            let (x, y) = (labels[0].threshold(&a.train).unwrap(), labels[1].threshold(&b.train).unwrap());
            assert_eq!(x == y, tests_s0, "{x} and {y}");
            let same =
                |i: &usize| labels[0].for_training(&a.train)[*i] == labels[1].for_training(&b.train)[*i];
            assert!(!tests_s0 || a.train.iter().all(same));
            // By hand: the mean of the ten ratings of the others.
            let own: f64 = a.train.iter().map(|&i| RATINGS[i]).sum::<f64>() / 10.0;
            assert!((x - own).abs() < 1e-12);
        }
    }

    #[test]
    fn the_middle_is_left_out_by_the_training_parts_threshold() {
        let rows: Vec<usize> = (0..12).collect();
        let index = index(RATINGS);
        let labels = args("mean", Some(1.0)).resolve(&index, &rows).unwrap();
        assert_eq!(labels.rows.len(), 12);
        let mut split = by_subject(&index, &labels);
        let whole = split.clone();
        let out = labels.leave_out_middle(&mut split);
        let mut counted = 0;
        for (a, b) in whole.folds.iter().zip(&split.folds) {
            let line = labels.threshold(&a.train).unwrap();
            for (x, y) in [(&a.train, &b.train), (&a.test, &b.test)] {
                let kept: Vec<usize> =
                    x.iter().copied().filter(|&i| (RATINGS[i] - line).abs() > 1.0).collect();
                assert_eq!(&kept, y);
                counted += x.len() - y.len();
            }
        }
        assert!(out == counted && out > 0, "{out} {counted}");
        // A number is known before the folds: its band is left out at once.
        let fixed = args("5", Some(1.0)).resolve(&index, &rows).unwrap();
        assert_eq!((fixed.rows, fixed.other), (vec![0, 1, 2, 3, 4, 5, 10, 11], 4));
        let midpoint = args("midpoint", None).resolve(&index, &rows).unwrap();
        assert_eq!((midpoint.rule, midpoint.rows.len()), (Rule::Above(5.0), 12));
        assert!(args("mean", Some(-1.0)).resolve(&index, &rows).is_err());
    }
}
