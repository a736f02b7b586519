//! The experiment file: what is compared, declared in TOML; a key that is not known is an error.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::split::{Group, Protocol};
use crate::error::{Error, IoContext, Result};
use crate::model::reading::{Reading, Reference};
use crate::train::read::Rest;

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct File {
    /// What it is, for the report.
    pub(super) title: String,
    /// Remarks for the report, such as that the folds leak.
    #[serde(default)]
    pub(super) notes: Vec<String>,
    /// A prepared store, or a folder of recordings that is prepared into the results folder.
    pub(crate) data: PathBuf,
    /// The label column.
    pub(super) label: String,
    /// The value of the positive class.
    pub(super) positive: String,
    /// The value of the negative class.
    pub(super) negative: String,
    /// kfold, loo or windows.
    #[serde(default = "loo")]
    pub(super) protocol: String,
    /// Number of folds of kfold and windows.
    #[serde(default = "five")]
    pub(super) folds: usize,
    /// Seeds: of folds, random weights, people drawn, and of the folds inside the training people.
    #[serde(default = "one_seed")]
    pub(super) seeds: Vec<u64>,
    /// Training people with labels; 0 for all.
    #[serde(default = "all_people")]
    pub(super) people: Vec<usize>,
    /// Resamples of the bootstrap over people.
    #[serde(default = "resamples")]
    pub(super) resamples: usize,
    /// The model that the others are compared with, by name.
    pub(super) against: String,
    /// What is known of a person.
    #[serde(rename = "reading")]
    pub(super) readings: Vec<ReadingRow>,
    /// What is compared.
    #[serde(rename = "model")]
    pub(super) models: Vec<ModelRow>,
}

fn loo() -> String {
    "loo".into()
}
fn five() -> usize {
    5
}
fn one_seed() -> Vec<u64> {
    vec![1]
}
fn all_people() -> Vec<usize> {
    vec![0]
}
fn resamples() -> usize {
    2000
}

/// A row of what is known of a person.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ReadingRow {
    /// Its name in tables.
    pub(super) name: String,
    /// none, rest or past.
    #[serde(default = "none")]
    pub(super) reference: String,
    /// Seconds of rest, or of past needed.
    #[serde(default = "thirty")]
    pub(super) reference_s: f64,
    /// Which windows are rest: first, or COLUMN=VALUE.
    #[serde(default = "first")]
    pub(super) rest: String,
    /// Seconds that features are averaged over.
    #[serde(default)]
    pub(super) context_s: f64,
}

fn none() -> String {
    "none".into()
}
fn thirty() -> f64 {
    30.0
}
fn first() -> String {
    "first".into()
}

impl ReadingRow {
    pub(super) fn resolve(&self) -> Result<(Reading, Rest)> {
        let reference: Reference =
            self.reference.parse().map_err(|e: Error| e.at(format!("reading '{}'", self.name)))?;
        let reading = Reading { reference, reference_s: self.reference_s, context_s: self.context_s };
        Ok((reading, Rest::parse(&self.rest)?))
    }
}

/// A row of what is compared: one of `baseline`, `init` and `random`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ModelRow {
    /// Its name in tables.
    pub(super) name: String,
    /// `heart rate`, or `heart rate and variability`.
    pub(super) baseline: Option<String>,
    /// A model directory whose encoder is frozen, or `pretrained` for the one that comes with the program.
    pub(super) init: Option<String>,
    /// A preset whose encoder is frozen at random weights, drawn by the seed.
    pub(super) random: Option<String>,
    /// `both` (heart rate and variability beside the embedding) or `embedding`.
    pub(super) inputs: Option<String>,
    /// cls, mean, max, last or mean-deviation.
    pub(super) pooling: Option<String>,
}

impl File {
    /// Reads and checks `path`. Relative paths are relative to the current directory.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key (named, with its line), values that make no sense.
    pub(super) fn read(path: &Path) -> Result<(Self, String)> {
        let text = std::fs::read_to_string(path).with_file(path)?;
        Self::parse(&text, path).map(|file| (file, text))
    }

    /// As [`File::read`], from text; `path` is for messages.
    ///
    /// # Errors
    /// As [`File::read`].
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self> {
        let file: Self = toml::from_str(text).map_err(|e| {
            Error::usage(e.to_string().trim_end().to_string())
                .in_file(path)
                .remedy("examples/experiments/quick.toml shows every key")
        })?;
        file.check().map_err(|e| e.in_file(path))?;
        Ok(file)
    }

    fn check(&self) -> Result<()> {
        let bad = |what: String, remedy: &str| Err(Error::usage(what).remedy(remedy));
        if self.readings.is_empty()
            || self.models.is_empty()
            || self.seeds.is_empty()
            || self.people.is_empty()
        {
            return bad(
                "there is nothing to run".into(),
                "give at least one [[reading]], [[model]], seed and number of people",
            );
        }
        self.split()?;
        for (what, names) in [
            ("reading", self.readings.iter().map(|r| &r.name).collect::<Vec<_>>()),
            ("model", self.models.iter().map(|m| &m.name).collect()),
        ] {
            if let Some(name) =
                names.iter().enumerate().find(|(i, n)| names[..*i].contains(n)).map(|(_, n)| n)
            {
                return bad(format!("two of the {what}s are called '{name}'"), "give each a name of its own");
            }
        }
        for reading in &self.readings {
            reading.resolve()?;
        }
        if !self.models.iter().any(|m| m.name == self.against) {
            return bad(
                format!("no model is called '{}'", self.against),
                "against names one of the [[model]] tables",
            );
        }
        for m in &self.models {
            let given = [&m.baseline, &m.init, &m.random].iter().filter(|v| v.is_some()).count();
            if given != 1 {
                return bad(
                    format!("model '{}' has {given} of baseline, init and random", m.name),
                    "give exactly one",
                );
            }
            if let Some(b) = &m.baseline
                && !["heart rate", "heart rate and variability"].contains(&b.as_str())
            {
                return bad(
                    format!("'{b}' is no baseline"),
                    "use 'heart rate' or 'heart rate and variability'",
                );
            }
            if let Some(i) = &m.inputs
                && !["both", "embedding"].contains(&i.as_str())
            {
                return bad(format!("'{i}' are no inputs"), "use both or embedding");
            }
        }
        Ok(())
    }

    /// The folds.
    ///
    /// # Errors
    /// An unknown protocol.
    pub(super) fn split(&self) -> Result<Protocol> {
        let group = Group::Subject;
        match self.protocol.as_str() {
            "loo" => Ok(Protocol::LeaveOneOut { group }),
            "kfold" => Ok(Protocol::KFold { group, k: self.folds }),
            "windows" => Ok(Protocol::LeakingWindows { k: self.folds }),
            other => {
                Err(Error::usage(format!("'{other}' is no protocol")).remedy("use loo, kfold or windows"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
title = "t"
data = "store"
label = "state"
positive = "a"
negative = "b"
against = "hr"
[[reading]]
name = "none"
[[model]]
name = "hr"
baseline = "heart rate"
"#;

    fn read(text: &str) -> Result<File> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        File::read(&path).map(|f| f.0)
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        assert_eq!(read(GOOD).unwrap().protocol, "loo");
        for (from, to, says) in [
            ("title", "titel", "unknown field `titel`"),
            ("baseline = ", "basline = ", "unknown field `basline`"),
            ("\"heart rate\"", "\"heart\"", "'heart' is no baseline"),
            ("against = \"hr\"", "against = \"x\"", "no model is called 'x'"),
            ("name = \"none\"", "name = \"none\"\nreference = \"rast\"", "'rast' is no reference"),
            ("name = \"none\"", "name = \"none\"\nrest = \"label\"", "does not say which windows"),
            ("title = \"t\"", "title = \"t\"\nprotocol = \"lo\"", "'lo' is no protocol"),
            ("baseline = \"heart rate\"", "", "0 of baseline, init and random"),
            ("baseline = \"heart rate\"", "baseline = \"heart rate\"\nrandom = \"tiny\"", "2 of baseline"),
            ("title = \"t\"", "title = \"t\"\nseeds = []", "nothing to run"),
        ] {
            let e = read(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(e.contains(says) && e.contains("x.toml"), "{to}: {e}");
        }
    }
}
