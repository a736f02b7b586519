//! Text tables, as devices, spreadsheets and programs write them: what is understood is found out from the file, shown by
//! `heartlore inspect` ([`Recording::layout`]), and can be told otherwise ([`TextOptions`]). Where two readings are equally
//! likely the file is refused with both.
//!
//! ```text
//! file      = [byte order mark] [sep-line] { block } [names] [units] { row | comment | empty line }
//! sep-line  = "sep=" delimiter                        (spreadsheets)
//! block     = any lines; searched for rate, unit, lead, start (see `facts`)
//! names     = fields of text, as many as a row has; the unit may be part of a name: ecg [mV], ecg (uV), ecg/mV, ecg_mV
//! units     = fields that are units                   'seconds','mV'
//! row       = field { delimiter field } [delimiter]
//! delimiter = tab | ";" | "|" | "," | blanks          (or none: one column)
//! field     = ['"' | "'"] (number | missing | stamp | text) ['"' | "'"]
//! comment   = ("#" | "%" | "//") text
//! ```
//!
//! `number` and `missing` are defined in `number`, `stamp` (dates and times of day) in `stamps`. The rules:
//!
//! * **Encoding**: by the byte order mark; else by the zero bytes of UTF-16; else UTF-8 if it is valid, or Windows-1252.
//! * **Delimiter**: the first of tab, semicolon, pipe, comma, blanks, none with which most lines of the file's body have
//!   equally many fields, at least one column holds numbers, and no field holds two numbers. Lines such as `1,25` are one
//!   column with decimal commas when the second part has leading zeros or the only name says so, two columns when the
//!   first counts up; else an error shows both.
//! * **Decimal mark**: for each column the one with which its fields are numbers; a comma may stand between thousands.
//!   `1,234` alone is ambiguous.
//! * **Columns** hold numbers, stamps, or text; text becomes annotations where it changes. A field that is no number in a
//!   column of numbers is an error if that column is asked for.
//! * **Time**: the column named by the user, else one called time, timestamp, date, seconds, ...; of several the one that
//!   is most even. Without names a first column that rises by a constant step (but not by 1). A column that counts samples
//!   is no signal either.
//! * **Unit of time**: by name or row of units; a point in time since 1970 by its size; else the unit (s, ms, us, ns) that
//!   makes the usual step a rate of 30 to 10,000 Hz, which is said. A step of 0.1 to 1 could be both ms and s of a slow
//!   signal: that is an error which shows both.
//! * **Rate**: from the stamps (`grid`); else from the header block; else from the user. The rate of the user must agree
//!   with the file's within 0.5 % and is then used. Gaps are filled with missing samples; jitter is accepted and said.
//!
//! Layouts of single programs, by public descriptions: OpenSignals, AcqKnowledge, LabChart, Empatica (two rows of start and
//! rate), Apple Watch, Shimmer Consensys, Polar Sensor Logger, OpenBCI, rdsamp. Others follow the same grammar.
//!
//! Memory: 8 bytes per value, which takes at least two in the text, in vectors that grow by doubling, and gaps of up to
//! three times the samples: at most 48 times the file, with the file itself.

use std::path::Path;

use super::opensignals::{self, is_sequence};
use super::{ReadOptions, Reader, read_whole, stem};
use crate::data::recording::{Annotation, Channel, Recording, Unit};
use crate::error::{Error, Result};

mod encoding;
mod facts;
mod fields;
mod grid;
mod layout;
mod names;
mod number;
mod rows;
mod stamps;
mod time;

pub use encoding::Encoding;
pub use fields::Delimiter;
pub use number::Decimal;
pub use time::TimeUnit;

use layout::Layout;
use rows::Parsed;
use time::Timing;

/// What the user says about a text table; nothing by default, so that it is found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextOptions {
    /// What stands between fields.
    pub delimiter: Option<Delimiter>,
    /// Decimal mark of all columns.
    pub decimal: Option<Decimal>,
    /// Encoding of the file.
    pub encoding: Option<Encoding>,
    /// Unit of the column of time stamps.
    pub time_unit: Option<TimeUnit>,
    /// Lines at the head of the file that are left out.
    pub skip_rows: usize,
}

impl TextOptions {
    /// These, and what they leave open from `other`.
    pub fn or(&self, other: &Self) -> Self {
        Self {
            delimiter: self.delimiter.or(other.delimiter),
            decimal: self.decimal.or(other.decimal),
            encoding: self.encoding.or(other.encoding),
            time_unit: self.time_unit.or(other.time_unit),
            skip_rows: if self.skip_rows > 0 { self.skip_rows } else { other.skip_rows },
        }
    }
}

/// The reader of text tables.
#[derive(Debug)]
pub struct Csv;

impl Reader for Csv {
    fn name(&self) -> &'static str {
        "CSV"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["csv", "tsv", "txt", "dat", "asc"]
    }
    /// Text with a line that holds a number.
    fn sniff(&self, _path: &Path, head: &[u8]) -> bool {
        let encoding = encoding::detect(head, false);
        // Any bytes are Windows-1252: that is no sign of a table.
        if encoding == Encoding::Windows1252 && head.contains(&0) {
            return false;
        }
        // A character may be cut in two at the end.
        let end = match std::str::from_utf8(head) {
            Err(e) if encoding == Encoding::Utf8 => e.valid_up_to(),
            _ => head.len() / 2 * 2,
        };
        let end =
            if encoding == Encoding::Utf8 && std::str::from_utf8(head).is_ok() { head.len() } else { end };
        let Ok((text, _)) = encoding::decode(&head[..end], Some(encoding)) else { return false };
        let is_number = |f: &str| number::number(f.trim_matches(['"', '\'', ' ']), Decimal::Point).is_some();
        opensignals::begins(&text) || text.lines().any(|l| l.split(['\t', ';', ',', '|', ' ']).any(is_number))
    }
    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Recording> {
        let bytes = read_whole(path)?;
        let read = || {
            let (text, encoding) = encoding::decode(&bytes, options.text.encoding)?;
            parse(&text, encoding, path, options)
        };
        read().map_err(|e| e.in_file(path))
    }
}

fn parse(text: &str, encoding: Encoding, path: &Path, options: &ReadOptions) -> Result<Recording> {
    let known = opensignals::header(text)?;
    let mut warnings = Vec::new();
    let layout = match &known {
        Some(header) => Layout::of_names(text, &header.columns, Delimiter::Tab),
        None => layout::sniff(text, &options.text)?,
    };
    let mut parsed = rows::read(text, &layout, &mut warnings)?;
    let header_fs = known.as_ref().map(|h| (h.fs_hz, 0)).or(layout.facts.rate);
    let mut start = known.and_then(|h| h.start).or_else(|| layout.facts.start.clone());
    if header_fs.is_some_and(|(_, line)| line == 0) {
        let lost: usize = parsed
            .columns
            .iter()
            .filter(|c| is_sequence(&c.label))
            .map(|c| opensignals::jumps(&c.values))
            .sum();
        if lost > 0 {
            warnings.push(format!("the numbering of the samples jumps {lost} times: samples were lost"));
        }
        parsed.columns.retain(|c| !is_sequence(&c.label));
    }
    let header_fs = match rows::empatica(&mut parsed, &layout, path) {
        Some((begin, fs)) => {
            start = start.or(Some(format!("{begin} s after 1970-01-01")));
            Some((fs, 2))
        }
        None => header_fs,
    };
    let timing = time::of(&mut parsed, header_fs, options, &mut warnings)?;
    let layout_lines = describe(&layout, encoding, &timing);
    let annotations = events(&mut parsed, &timing);
    let channels = channels(parsed, &layout, &timing, options, &mut warnings)?;
    Ok(Recording {
        path: path.into(),
        files: vec![path.into()],
        record: stem(path),
        channels,
        start,
        annotations,
        warnings,
        layout: layout_lines,
        ..Recording::default()
    })
}

/// What was understood, for people.
fn describe(layout: &Layout, encoding: Encoding, timing: &Timing) -> Vec<(String, String)> {
    let line = |n: Option<usize>| n.map_or("none".to_string(), |n| format!("line {n}"));
    let marks: Vec<&layout::Column> =
        layout.columns.iter().filter(|c| matches!(c.kind, layout::Kind::Number(_))).collect();
    let commas = marks.iter().filter(|c| c.kind == layout::Kind::Number(Decimal::Comma)).count();
    let decimal = match commas {
        0 => "point".to_string(),
        n if n == marks.len() => "comma".to_string(),
        n => format!("comma in {n} of {} columns", marks.len()),
    };
    [
        ("encoding", encoding.to_string()),
        ("delimiter", layout.delimiter.to_string()),
        ("decimal mark", decimal),
        ("names", line(layout.names_line)),
        ("units", line(layout.units_line)),
        ("first row", format!("line {}", layout.first.1)),
        ("time", timing.said.clone()),
        ("rate", timing.rate_said.clone()),
    ]
    .map(|(k, v)| (k.to_string(), v))
    .to_vec()
}

/// Columns of text as annotations: one where the text changes to something.
fn events(parsed: &mut Parsed, timing: &Timing) -> Vec<Annotation> {
    let mut out: Vec<Annotation> = std::mem::take(&mut parsed.events)
        .into_iter()
        .map(|(row, text)| Annotation { time_s: timing.grid.place(row) as f64 / timing.grid.fs_hz, text })
        .collect();
    out.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
    out
}

/// The channels that are wanted.
fn channels(
    parsed: Parsed,
    layout: &Layout,
    timing: &Timing,
    options: &ReadOptions,
    warnings: &mut Vec<String>,
) -> Result<Vec<Channel>> {
    let rows = parsed.rows;
    let mut columns = parsed.columns;
    if columns.is_empty() {
        return Err(Error::data("the table holds stamps and text only, no column of a signal"));
    }
    // A header block that names the lead and unit of a single signal.
    if let [only] = &mut columns[..] {
        if !only.named
            && let Some(lead) = &layout.facts.lead
        {
            only.label.clone_from(lead);
        }
        if only.unit.is_none()
            && let Some(unit) = &layout.facts.unit
        {
            only.unit = Some(unit.to_string());
        }
    }
    let labels: Vec<String> = columns.iter().map(|c| c.label.clone()).collect();
    let mut columns: Vec<Option<rows::Column>> = columns.into_iter().map(Some).collect();
    let all = options.only.is_none();
    let mut left_out: Vec<String> = Vec::new();
    let mut make = |i: usize| -> Result<Channel> {
        let Some(column) = columns[i].take() else { return Err(Error::data("a column was asked for twice")) };
        if let Some((line, text)) = &column.bad {
            return Err(Error::format(format!("'{text}' is no finite number"))
                .at(format!("line {line}, column '{}'", column.label))
                .remedy(
                    "leave missing values empty or write nan; if the number is written otherwise, say how: --decimal, \
                     --delimiter",
                ));
        }
        let own = column.unit.as_deref().map(Unit::parse).filter(|u| !matches!(u, Unit::Unknown(_)));
        let unit = own
            .or_else(|| options.unit.clone())
            .unwrap_or_else(|| Unit::Unknown(column.unit.clone().unwrap_or_default()));
        let samples = timing.grid.fill(column.values, rows);
        Ok(Channel { label: column.label, unit, fs_hz: timing.grid.fs_hz, samples })
    };
    if !all {
        return options.choose(&labels, warnings, make);
    }
    let mut out = Vec::new();
    let mut first_error = None;
    for (i, label) in labels.iter().enumerate() {
        match make(i) {
            Ok(channel) => out.push(channel),
            Err(e) => {
                left_out.push(format!("column '{label}' is left out: {e}"));
                // A column that is certainly wanted is not passed over.
                if crate::data::recording::names_ecg(label) {
                    return Err(e);
                }
                first_error = first_error.or(Some(e));
            }
        }
    }
    warnings.extend(left_out);
    match first_error {
        Some(e) if out.is_empty() => Err(e),
        _ => Ok(out),
    }
}
