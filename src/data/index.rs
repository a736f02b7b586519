//! The index of a prepared store: for each window where it comes from, held as columns of interned strings.

use std::collections::HashMap;

use crate::data::names::is_missing;
use crate::error::{Error, Result};

/// Columns that every index has, in this order; label columns follow.
pub const COLUMNS: [&str; 7] = ["row", "dataset", "subject", "trial", "record", "start_s", "quality"];

/// A missing label.
const MISSING: u32 = u32::MAX;

/// Where one window comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Data set.
    pub dataset: String,
    /// Person within the data set.
    pub subject: String,
    /// Trial of the person.
    pub trial: String,
    /// Recording it was cut from.
    pub record: String,
    /// Seconds from the start of the recording to the first sample.
    pub start_s: f64,
    /// `ok`, or why the quality gate would have dropped it.
    pub quality: String,
    /// One entry per label column. A text that [`is_missing`] knows, such as `NaN`, is a missing label.
    pub labels: Vec<Option<String>>,
}

/// The index in memory: about 30 bytes per window, whatever the names' length.
#[derive(Clone, Debug, Default)]
pub struct Index {
    strings: Vec<String>,
    lookup: HashMap<String, u32>,
    dataset: Vec<u32>,
    subject: Vec<u32>,
    trial: Vec<u32>,
    record: Vec<u32>,
    quality: Vec<u32>,
    start_s: Vec<f64>,
    label_names: Vec<String>,
    labels: Vec<Vec<u32>>,
}

impl Index {
    /// An empty index with these label columns.
    ///
    /// # Errors
    /// A label named like a fixed column, twice, or not at all.
    pub fn new(label_names: &[String]) -> Result<Self> {
        for (i, name) in label_names.iter().enumerate() {
            if name.is_empty() || COLUMNS.contains(&name.as_str()) || label_names[..i].contains(name) {
                return Err(Error::usage(format!("'{name}' cannot be the name of a label column"))
                    .remedy(format!("names must differ from each other and from {}", COLUMNS.join(", "))));
            }
        }
        Ok(Self {
            label_names: label_names.to_vec(),
            labels: vec![Vec::new(); label_names.len()],
            ..Self::default()
        })
    }

    fn intern(&mut self, text: &str) -> u32 {
        if let Some(id) = self.lookup.get(text) {
            return *id;
        }
        let id = self.strings.len() as u32;
        self.strings.push(text.to_string());
        self.lookup.insert(text.to_string(), id);
        id
    }

    /// Appends a window.
    ///
    /// # Errors
    /// Another number of labels than there are label columns, or a start that is not finite.
    pub fn push(&mut self, row: &Row) -> Result<()> {
        if row.labels.len() != self.labels.len() {
            return Err(Error::shape(format!(
                "{} labels for {} columns",
                row.labels.len(),
                self.labels.len()
            )));
        }
        if !row.start_s.is_finite() {
            return Err(Error::data(format!("a window starts at {} s", row.start_s)));
        }
        let ids = [&row.dataset, &row.subject, &row.trial, &row.record, &row.quality].map(|t| self.intern(t));
        self.dataset.push(ids[0]);
        self.subject.push(ids[1]);
        self.trial.push(ids[2]);
        self.record.push(ids[3]);
        self.quality.push(ids[4]);
        self.start_s.push(row.start_s);
        for (c, label) in row.labels.iter().enumerate() {
            let id = label.as_deref().filter(|l| !is_missing(l)).map_or(MISSING, |l| self.intern(l));
            self.labels[c].push(id);
        }
        Ok(())
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.start_s.len()
    }
    /// Whether there are no windows.
    pub fn is_empty(&self) -> bool {
        self.start_s.is_empty()
    }
    /// Names of the label columns.
    pub fn label_names(&self) -> &[String] {
        &self.label_names
    }
    fn text(&self, column: &[u32], i: usize) -> &str {
        &self.strings[column[i] as usize]
    }
    /// Data set of window `i`. Panics outside `0..len()`, as do all that follow.
    pub fn dataset(&self, i: usize) -> &str {
        self.text(&self.dataset, i)
    }
    /// Person.
    pub fn subject(&self, i: usize) -> &str {
        self.text(&self.subject, i)
    }
    /// Trial.
    pub fn trial(&self, i: usize) -> &str {
        self.text(&self.trial, i)
    }
    /// Recording.
    pub fn record(&self, i: usize) -> &str {
        self.text(&self.record, i)
    }
    /// Quality: `ok` or a reason.
    pub fn quality(&self, i: usize) -> &str {
        self.text(&self.quality, i)
    }
    /// Seconds from the start of the recording.
    pub fn start_s(&self, i: usize) -> f64 {
        self.start_s[i]
    }

    /// Number of the label column `name`.
    ///
    /// # Errors
    /// No such column: the message lists those there are.
    pub fn label_column(&self, name: &str) -> Result<usize> {
        self.label_names.iter().position(|n| n == name).ok_or_else(|| {
            let have = if self.label_names.is_empty() { "none".into() } else { self.label_names.join(", ") };
            Error::data(format!("the store has no label '{name}'; its labels are: {have}"))
        })
    }
    /// Label of window `i` in column `column`, as text; None when missing.
    pub fn label(&self, column: usize, i: usize) -> Option<&str> {
        let id = self.labels[column][i];
        (id != MISSING).then(|| self.strings[id as usize].as_str())
    }

    /// Keys for [`crate::data::split`]: a number for each distinct (data set, subject), (data set, subject, trial),
    /// and stimulus (the label column `stimulus`, within a data set; empty if there is none or a window lacks
    /// it). Numbers follow the order of first appearance. `class` is left empty.
    pub fn split_keys(&self) -> crate::data::split::Keys {
        self.split_keys_of("stimulus")
    }

    /// [`Index::split_keys`] with the values of another label column in place of the stimulus, such as `elicitor`: what
    /// several stimuli have in common (amusing, boring, ...), so that a fold holds out a kind of stimulus.
    pub fn split_keys_of(&self, stimulus: &str) -> crate::data::split::Keys {
        fn number<K: std::hash::Hash + Eq>(seen: &mut HashMap<K, u32>, key: K) -> u32 {
            let next = seen.len() as u32;
            *seen.entry(key).or_insert(next)
        }
        let (mut subjects, mut trials, mut stimuli) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut keys = crate::data::split::Keys::default();
        let column = self.label_names.iter().position(|n| n == stimulus);
        let column = column.filter(|&c| !self.labels[c].contains(&MISSING));
        for i in 0..self.len() {
            let person = (self.dataset[i], self.subject[i]);
            keys.subject.push(number(&mut subjects, person));
            keys.trial.push(number(&mut trials, (person, self.trial[i])));
            if let Some(c) = column {
                keys.stimulus.push(number(&mut stimuli, (self.dataset[i], self.labels[c][i])));
            }
        }
        keys
    }

    /// The fields of one line of `index.csv`.
    pub(crate) fn fields(row_number: usize, row: &Row) -> Vec<String> {
        let mut out = vec![
            row_number.to_string(),
            row.dataset.clone(),
            row.subject.clone(),
            row.trial.clone(),
            row.record.clone(),
            row.start_s.to_string(),
            row.quality.clone(),
        ];
        out.extend(row.labels.iter().map(|l| l.clone().filter(|l| !is_missing(l)).unwrap_or_default()));
        out
    }

    /// Reads the text of `index.csv`.
    ///
    /// # Errors
    /// Missing columns, row numbers out of order, bad numbers: each with its line.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new().has_headers(true).from_reader(text);
        let bad = |e: csv::Error| {
            let line = e.position().map_or(0, |p| p.line());
            Error::format(e.to_string()).at(format!("line {line}"))
        };
        let header = reader.headers().map_err(bad)?.clone();
        if header.len() < COLUMNS.len() || header.iter().take(COLUMNS.len()).ne(COLUMNS) {
            return Err(Error::format("the columns are not those of an index")
                .at("line 1")
                .remedy(format!("the first columns must be {}", COLUMNS.join(","))));
        }
        let names: Vec<String> = header.iter().skip(COLUMNS.len()).map(str::to_string).collect();
        let mut index = Self::new(&names).map_err(|e| e.at("line 1"))?;
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(bad)? {
            let line = record.position().map_or(0, |p| p.line());
            // The csv crate has checked the number of fields.
            let field = |c: usize| record.get(c).unwrap_or("");
            if field(0).parse() != Ok(index.len()) {
                return Err(Error::format(format!("row '{}' where {} is due", field(0), index.len()))
                    .at(format!("line {line}, column 'row'")));
            }
            let start_s = field(5).parse::<f64>().ok().filter(|s| s.is_finite()).ok_or_else(|| {
                Error::format(format!("'{}' is no number", field(5)))
                    .at(format!("line {line}, column 'start_s'"))
            })?;
            let row = Row {
                dataset: field(1).into(),
                subject: field(2).into(),
                trial: field(3).into(),
                record: field(4).into(),
                start_s,
                quality: field(6).into(),
                labels: (0..names.len())
                    .map(|c| Some(field(COLUMNS.len() + c).to_string()).filter(|l| !l.is_empty()))
                    .collect(),
            };
            index.push(&row).map_err(|e| e.at(format!("line {line}")))?;
        }
        Ok(index)
    }
}
