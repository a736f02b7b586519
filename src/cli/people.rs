//! Who is in the data: leaving people out by name, and noticing when a model is tested on people it was pre-trained on.
//!
//! People are told apart by data set and the name their data set gives them. One person under two names is two people
//! here; nothing in a recording could tell.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::data::store::Store;
use crate::error::{Error, IoContext, Result};
use crate::model::Model;
use crate::model::People;

/// The people of some rows of a store.
pub fn of_rows(store: &Store, rows: impl IntoIterator<Item = usize>) -> People {
    let index = store.index();
    let mut people = People::new();
    for row in rows {
        let names = people.entry(index.dataset(row).to_string()).or_default();
        if !names.contains(index.subject(row)) {
            names.insert(index.subject(row).to_string());
        }
    }
    people
}

/// How many they are.
pub fn count(people: &People) -> usize {
    people.values().map(BTreeSet::len).sum()
}

/// Both together.
pub fn union(mut a: People, b: &People) -> People {
    for (dataset, names) in b {
        a.entry(dataset.clone()).or_default().extend(names.iter().cloned());
    }
    a
}

/// The names given by `--exclude-subject`: SUBJECT, DATASET/SUBJECT, or @FILE with one of these per line.
///
/// # Errors
/// A file that cannot be read or holds no name.
pub fn read_names(given: &[String]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for item in given {
        let Some(file) = item.strip_prefix('@') else {
            names.push(item.clone());
            continue;
        };
        let before = names.len();
        let text = std::fs::read_to_string(file).with_file(file)?;
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        names.extend(lines.map(str::to_string));
        if names.len() == before {
            return Err(Error::data("the file names nobody")
                .in_file(file)
                .remedy("write one SUBJECT or DATASET/SUBJECT per line"));
        }
    }
    Ok(names)
}

/// Leaves the rows of the named people out.
///
/// # Errors
/// A name that nobody in the store has: a slip of the pen must not let a test person in.
pub fn leave_out(store: &Store, rows: Vec<usize>, names: &[String]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok(rows);
    }
    let everybody = of_rows(store, 0..store.index().len());
    let is = |name: &str, dataset: &str, subject: &str| {
        name == subject || name.strip_prefix(dataset).and_then(|n| n.strip_prefix('/')) == Some(subject)
    };
    for name in names {
        let known = everybody.iter().any(|(d, all)| all.iter().any(|s| is(name, d, s)));
        if !known {
            let some = everybody.iter().flat_map(|(d, all)| all.iter().map(move |s| format!("{d}/{s}")));
            let some: Vec<String> = some.take(8).collect();
            return Err(Error::data(format!("nobody in the store is called '{name}'"))
                .in_file(store.dir())
                .at("--exclude-subject")
                .remedy(format!(
                    "people are called {}{}",
                    some.join(", "),
                    if some.len() == 8 { ", ..." } else { "" }
                )));
        }
    }
    let index = store.index();
    let left: Vec<usize> = rows
        .into_iter()
        .filter(|&i| !names.iter().any(|n| is(n, index.dataset(i), index.subject(i))))
        .collect();
    if left.is_empty() {
        return Err(Error::data("no window is left after --exclude-subject").in_file(store.dir()));
    }
    Ok(left)
}

/// What is known of the weights a run started from, and of the people it tests: part of `split.json` and `run.json`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitProvenance {
    /// The model; `None` for weights drawn at random.
    pub model: Option<PathBuf>,
    /// People that are tested here.
    pub tested: usize,
    /// Those of them whose recordings the model had seen, as DATASET/SUBJECT; `None` if the model does not say whom it
    /// saw.
    pub seen_before: Option<Vec<String>>,
}

impl InitProvenance {
    /// Compares the people tested with those the model says it saw.
    pub fn of(init: Option<(&Path, &Model)>, tested: &People) -> Self {
        let both = |seen: &People| {
            let of = |(dataset, names): (&String, &BTreeSet<String>)| -> Vec<String> {
                let other = seen.get(dataset);
                let shared = names.iter().filter(|n| other.is_some_and(|o| o.contains(*n)));
                shared.map(|n| format!("{dataset}/{n}")).collect()
            };
            tested.iter().flat_map(of).collect::<Vec<_>>()
        };
        Self {
            model: init.map(|(dir, _)| std::path::absolute(dir).unwrap_or_else(|_| dir.into())),
            tested: count(tested),
            seen_before: match init {
                None => Some(Vec::new()),
                Some((_, model)) => model.card.people.as_ref().map(both),
            },
        }
    }

    /// One sentence for people, and whether it is a warning.
    pub fn sentence(&self) -> (String, bool) {
        let n = self.tested;
        match (&self.model, &self.seen_before) {
            (None, _) => {
                ("The weights at the start were random: no person tested had been seen before.".into(), false)
            }
            (Some(_), Some(seen)) if seen.is_empty() => (
                format!("Pre-training saw none of the {n} people tested (by the names in their data sets)."),
                false,
            ),
            (Some(_), Some(seen)) => {
                let some = seen.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
                let more = if seen.len() > 5 { ", ..." } else { "" };
                (
                    format!(
                        "Pre-training saw {} of the {n} people tested, without their labels: {some}{more}. The figures \
                         may be higher than for new people; pre-train again with --exclude-subject or \
                         --exclude-dataset to know.",
                        seen.len()
                    ),
                    true,
                )
            }
            (Some(model), None) => (
                format!(
                    "Whether pre-training saw any of the {n} people tested is not known: the model in {} does not say \
                     whom it was trained on.",
                    model.display()
                ),
                true,
            ),
        }
    }
}
