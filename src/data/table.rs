//! A folder of one's own: a table that says which file belongs to whom, and the labels.
//!
//! ```text
//! file,subject,trial,start_s,end_s,channel,arousal,valence
//! p01/film1.csv,P01,film1,60,240,ECG,7,3
//! p01/film2.edf,P01,film2,,,,2,
//! ```
//!
//! `file` (relative to the table) and `subject` are required: without a subject no split can be honest. Optional:
//! `dataset`, `trial`, `record` (in a file that holds several; in a MATLAB file a path such as `joined_data{3}`, in a `.npz`
//! the array's name), `start_s`, `end_s` (a part of the recording), `channel`, `unit`, `fs_hz`; of text tables also
//! `delimiter`, `decimal`, `encoding`, `time_column`, `time_unit`, `skip_rows`. Every other column is a label, but names that
//! are likely to mean one of these (`start`, `units`) are refused. An empty field, or one that [`is_missing`] knows (`NaN`,
//! `NA`, `null`, ...), is "not given" or "label missing".

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use crate::data::files::{FileId, file_id};
use crate::data::names::{is_missing, name_key};
use crate::data::readers::packed::Manifest as Packed;
use crate::data::readers::read_whole;
use crate::data::readers::text::TextOptions;
use crate::data::recording::Unit;
use crate::error::{Error, Result};

/// How much is known of whose recording it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Naming {
    /// The person and the data set were named.
    #[default]
    Person,
    /// The person was named, the data set after the table's file: another table of the same study has another name.
    Table,
    /// Nobody was named: the file's name stands for the person, and the same person may be in other files.
    File,
}

/// One recording, or a part of one, to be prepared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Item {
    /// File to read.
    pub file: PathBuf,
    /// Record in a file that holds several.
    pub record: Option<String>,
    /// Data set.
    pub dataset: String,
    /// Person within the data set.
    pub subject: String,
    /// Trial of the person; the recording's name if not given.
    pub trial: Option<String>,
    /// First second to use.
    pub start_s: Option<f64>,
    /// Second to stop at.
    pub end_s: Option<f64>,
    /// Channel to use instead of the one that looks like an ECG.
    pub channel: Option<String>,
    /// Unit, for files that name none.
    pub unit: Option<Unit>,
    /// Sampling rate, for files that name none.
    pub fs_hz: Option<f64>,
    /// Column of time stamps of a text table.
    pub time_column: Option<String>,
    /// How a text table is written.
    pub text: TextOptions,
    /// One entry per label column.
    pub labels: Vec<Option<String>>,
    /// How much is known of whose recording it is.
    pub naming: Naming,
}

/// Recordings to prepare, and the names of their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Items {
    /// Names of the labels.
    pub label_names: Vec<String>,
    /// The recordings.
    pub items: Vec<Item>,
}

const KNOWN: [&str; 16] = [
    "file",
    "subject",
    "dataset",
    "trial",
    "record",
    "start_s",
    "end_s",
    "channel",
    "unit",
    "fs_hz",
    "delimiter",
    "decimal",
    "encoding",
    "time_column",
    "time_unit",
    "skip_rows",
];

/// Names of columns that people write for another: as labels they would be wrong in silence, and the whole of each recording
/// would be used.
const MEANT: [(&str, &str); 19] = [
    ("start", "start_s"),
    ("begin", "start_s"),
    ("onset", "start_s"),
    ("start_time", "start_s"),
    ("start_sec", "start_s"),
    ("start_seconds", "start_s"),
    ("end", "end_s"),
    ("stop", "end_s"),
    ("end_time", "end_s"),
    ("end_sec", "end_s"),
    ("end_seconds", "end_s"),
    ("fs", "fs_hz"),
    ("rate_hz", "fs_hz"),
    ("sampling_rate", "fs_hz"),
    ("sample_rate", "fs_hz"),
    ("units", "unit"),
    ("lead", "channel"),
    ("channels", "channel"),
    ("records", "record"),
];

impl Item {
    /// What two items have in common that are parts of one signal.
    pub(crate) fn signal(&self) -> (FileId, Option<&str>, Option<&str>) {
        (file_id(&self.file), self.record.as_deref(), self.channel.as_deref())
    }
}

impl Items {
    /// Looks for mistakes that make a study wrong without an error. Returns what is doubtful: people whose names are two
    /// spellings of one ([`name_key`]: `P1` and `p-01`, `1` and `1.0` are two people to a split), and parts of one recording
    /// that overlap, by whatever path its file is reached. What only the samples can tell is found when they are read.
    ///
    /// # Errors
    /// The same samples under two people: no split could keep them apart.
    pub fn check(&self) -> Result<Vec<String>> {
        let mut doubts = Vec::new();
        let mut names: BTreeMap<_, (&str, &str)> = BTreeMap::new();
        // Parts by signal: (start, end, item).
        let mut signals: BTreeMap<_, Vec<(f64, f64, &Item)>> = BTreeMap::new();
        for item in &self.items {
            let own = (item.dataset.as_str(), item.subject.as_str());
            match names.entry((name_key(&item.dataset), name_key(&item.subject))) {
                Entry::Vacant(e) => {
                    e.insert(own);
                }
                Entry::Occupied(e) if *e.get() != own => {
                    let (dataset, subject) = *e.get();
                    let doubt = if dataset == item.dataset {
                        format!(
                            "people '{subject}' and '{}' of {dataset} count as two; if they are one, give them one name",
                            item.subject
                        )
                    } else {
                        format!(
                            "people '{dataset}/{subject}' and '{}/{}' count as two; if they are one, give them one name",
                            item.dataset, item.subject
                        )
                    };
                    if !doubts.contains(&doubt) {
                        doubts.push(doubt);
                    }
                }
                Entry::Occupied(_) => {}
            }
            let part = (item.start_s.unwrap_or(0.0), item.end_s.unwrap_or(f64::INFINITY), item);
            signals.entry(item.signal()).or_default().push(part);
        }
        for mut parts in signals.into_values() {
            parts.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
            // The part that reaches furthest so far: whatever starts before its end shares samples with it.
            let mut furthest: Option<(f64, f64, &Item)> = None;
            for part in parts {
                if let Some(before) = furthest.filter(|b| part.0 < b.1) {
                    let (a, b) = (before.2, part.2);
                    let file = &b.file;
                    let end = |e: f64| if e.is_finite() { format!("{e} s") } else { "the end".into() };
                    let (from, to) = (part.0, end(part.1.min(before.1)));
                    if (&a.dataset, &a.subject) != (&b.dataset, &b.subject) {
                        return Err(Error::data(format!(
                            "{from} s to {to} belong to '{}' and to '{}'",
                            a.subject, b.subject
                        ))
                        .in_file(file)
                        .remedy(
                            "give every stretch of a recording to one person, or name the channel of each",
                        ));
                    }
                    let trial = |i: &Item| i.trial.clone().unwrap_or_else(|| "without a name".into());
                    doubts.push(format!(
                        "{}: trials {} and {} of '{}' overlap from {from} s to {to}",
                        file.display(),
                        trial(a),
                        trial(b),
                        a.subject
                    ));
                }
                if furthest.is_none_or(|f| part.1 > f.1) {
                    furthest = Some(part);
                }
            }
        }
        Ok(doubts)
    }
}

/// Reads a table. All bad rows are reported together (the first ten in full).
///
/// # Errors
/// No column `file` or `subject`; rows with a missing file, a missing subject, or times that are no numbers or run
/// backwards. Each names line and column.
pub fn read_table(path: &Path) -> Result<Items> {
    let bytes = read_whole(path)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Error::format("not UTF-8 text").in_file(path).remedy("save the table as UTF-8"))?;
    let base = path.parent().unwrap_or(Path::new(""));
    let dataset = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    parse(text.trim_start_matches('\u{feff}'), base, &dataset).map_err(|e| e.in_file(path))
}

fn parse(text: &str, base: &Path, dataset: &str) -> Result<Items> {
    let first = text.lines().find(|l| !l.trim().is_empty() && !l.starts_with('#')).unwrap_or("");
    let delimiter = [b'\t', b';', b','].into_iter().find(|d| first.as_bytes().contains(d)).unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let bad = |e: csv::Error| {
        let line = e.position().map_or(0, |p| p.line());
        Error::format(e.to_string()).at(format!("line {line}"))
    };
    let header = reader.headers().map_err(bad)?.clone();
    let column = |name: &str| header.iter().position(|h| h == name);
    for need in ["file", "subject"] {
        if column(need).is_none() {
            let have: Vec<&str> = header.iter().collect();
            return Err(Error::format(format!(
                "the table has no column '{need}'; it has: {}",
                have.join(", ")
            ))
            .at("line 1")
            .remedy("the first line must name the columns, at least file and subject"));
        }
    }
    for (c, name) in header.iter().enumerate() {
        let plain = name.trim().to_lowercase().replace([' ', '-', '.'], "_");
        let meant = MEANT.iter().find(|(said, meant)| *said == plain || (*meant == plain && plain != name));
        if let Some((_, meant)) = meant.filter(|(_, meant)| column(meant).is_none()) {
            return Err(Error::format(format!(
                "column {} is called '{name}', which would be a label",
                c + 1
            ))
            .at("line 1")
            .remedy(format!("call it '{meant}', or, if it is a label, by another name")));
        }
    }
    let label_columns: Vec<usize> = (0..header.len()).filter(|&c| !KNOWN.contains(&&header[c])).collect();
    let label_names: Vec<String> = label_columns.iter().map(|&c| header[c].to_string()).collect();
    crate::data::index::Index::new(&label_names).map_err(|e| e.at("line 1"))?;
    let mut faults: Vec<String> = Vec::new();
    let mut items = Vec::new();
    for row in reader.records() {
        let row = match row {
            Ok(row) => row,
            Err(e) => {
                // A row with another number of fields; the reader can go on after it.
                faults.push(bad(e).to_string());
                continue;
            }
        };
        let line = row.position().map_or(0, |p| p.line());
        let text = |name: &str| {
            let field = column(name).and_then(|c| row.get(c)).unwrap_or("");
            Some(field.to_string()).filter(|f| !is_missing(f))
        };
        let before = faults.len();
        let mut fault =
            |name: &str, what: String| faults.push(format!("line {line}, column '{name}': {what}"));
        let mut number = |name: &str| {
            let text = text(name)?;
            let value = text.parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0);
            if value.is_none() {
                fault(name, format!("'{text}' is no number of at least 0"));
            }
            value
        };
        let (start_s, end_s, fs_hz) = (number("start_s"), number("end_s"), number("fs_hz"));
        let skip_rows = number("skip_rows");
        if let (Some(a), Some(b)) = (start_s, end_s)
            && b <= a
        {
            fault("end_s", format!("{b} s is not after the start, {a} s"));
        }
        let unit = text("unit").map(|u| Unit::parse(&u));
        if let Some(Unit::Unknown(u)) = &unit {
            fault("unit", format!("'{u}' is none of mV, uV, V, arbitrary"));
        }
        let file = text("file").map(|f| base.join(f));
        match &file {
            None => fault("file", "empty".into()),
            Some(file) if !file.exists() => fault("file", format!("there is no '{}'", file.display())),
            Some(_) => {}
        }
        let subject = text("subject");
        if subject.is_none() {
            fault(
                "subject",
                "empty, or a word for a missing value; a split must know whose recording it is".into(),
            );
        }
        let text_options = {
            let mut fault =
                |name: &str, what: String| faults.push(format!("line {line}, column '{name}': {what}"));
            TextOptions {
                delimiter: parsed(&text, "delimiter", &mut fault),
                decimal: parsed(&text, "decimal", &mut fault),
                encoding: parsed(&text, "encoding", &mut fault),
                time_unit: parsed(&text, "time_unit", &mut fault),
                skip_rows: skip_rows.map_or(0, |n| n as usize),
            }
        };
        if faults.len() > before {
            continue;
        }
        items.push(Item {
            file: file.unwrap_or_default(),
            record: text("record"),
            naming: if text("dataset").is_some() { Naming::Person } else { Naming::Table },
            dataset: text("dataset").unwrap_or_else(|| dataset.to_string()),
            subject: subject.unwrap_or_default(),
            trial: text("trial"),
            start_s,
            end_s,
            channel: text("channel"),
            unit,
            fs_hz,
            time_column: text("time_column"),
            text: text_options,
            labels: label_columns
                .iter()
                .map(|&c| row.get(c).map(str::to_string).filter(|l| !is_missing(l)))
                .collect(),
        });
    }
    if !faults.is_empty() {
        let more = faults.len().saturating_sub(10);
        let mut what = faults.iter().take(10).cloned().collect::<Vec<_>>().join("\n  ");
        if more > 0 {
            what.push_str(&format!("\n  and {more} more"));
        }
        return Err(Error::format(what));
    }
    if items.is_empty() {
        return Err(Error::data("the table names no recordings"));
    }
    Ok(Items { label_names, items })
}

/// The field `name` as a setting; what it cannot be is a fault.
fn parsed<T: std::str::FromStr<Err = String>>(
    text: &dyn Fn(&str) -> Option<String>,
    name: &str,
    fault: &mut dyn FnMut(&str, String),
) -> Option<T> {
    match text(name)?.parse() {
        Ok(value) => Some(value),
        Err(what) => {
            fault(name, what);
            None
        }
    }
}

/// The records of a packed data set as items, with one label column `label`. Records that the maker's gate rejected are
/// included: the quality gate of `prepare` decides.
///
/// # Errors
/// As [`Packed::open`].
pub fn packed_items(path: &Path) -> Result<Items> {
    let manifest = Packed::open(path)?;
    let items = manifest.entries.iter().map(|e| Item {
        file: manifest.path().to_path_buf(),
        record: Some(e.qualified()),
        dataset: e.source.clone(),
        subject: e.subject.clone(),
        trial: Some(e.record.clone()),
        labels: vec![e.label.clone()],
        ..Item::default()
    });
    Ok(Items { label_names: vec!["label".into()], items: items.collect() })
}

/// Single recordings without labels, for pre-training: each file counts as a subject of its own.
pub fn file_items(files: &[PathBuf], dataset: &str) -> Items {
    let items = files.iter().map(|file| Item {
        file: file.clone(),
        dataset: dataset.into(),
        subject: file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default(),
        naming: Naming::File,
        ..Item::default()
    });
    Items { label_names: Vec::new(), items: items.collect() }
}
