//! The rows of a table to columns of numbers, once its layout is known.

use std::path::Path;

use super::fields::{is_comment, split};
use super::layout::{self, Kind, Layout};
use super::number::{is_missing, number};
use super::stamps::{Stamp, stamp};
use super::{Delimiter, stem};
use crate::error::{Error, Result};

/// A column of values.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) label: String,
    pub(super) named: bool,
    pub(super) unit: Option<String>,
    /// Whether the values are seconds that stamps gave.
    pub(super) is_stamp: bool,
    /// One per row; NaN where missing.
    pub(super) values: Vec<f64>,
    /// First field that is no number: its line, and the field.
    pub(super) bad: Option<(usize, String)>,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub(super) struct Parsed {
    pub(super) columns: Vec<Column>,
    /// (row, text) where a column of text changes to something.
    pub(super) events: Vec<(usize, String)>,
    pub(super) rows: usize,
    /// Line of the first row.
    pub(super) first_line: usize,
}

impl Layout {
    /// Rows of numbers under these names, after comments (OpenSignals).
    pub(super) fn of_names(text: &str, names: &[String], delimiter: Delimiter) -> Self {
        let column = |name: &String| layout::Column {
            label: name.clone(),
            named: true,
            unit: None,
            kind: Kind::Number(super::Decimal::Point),
        };
        let comments: usize = text.split_inclusive('\n').take_while(|l| is_comment(l)).count();
        let at = text.split_inclusive('\n').take(comments).map(str::len).sum();
        Layout {
            delimiter,
            columns: names.iter().map(column).collect(),
            trailing: true,
            first: (at, comments + 1),
            names_line: None,
            units_line: None,
            facts: super::facts::Facts::default(),
        }
    }
}

/// Reads every row.
///
/// # Errors
/// A row with another number of fields; no rows.
pub(super) fn read(text: &str, layout: &Layout, warnings: &mut Vec<String>) -> Result<Parsed> {
    let due = layout.columns.len();
    let mut columns: Vec<Column> = layout
        .columns
        .iter()
        .map(|c| Column {
            label: c.label.clone(),
            named: c.named,
            unit: c.unit.clone(),
            is_stamp: c.kind == Kind::Stamp,
            values: Vec::new(),
            bad: None,
        })
        .collect();
    let mut out = Parsed { first_line: layout.first.1, ..Parsed::default() };
    let mut fields: Vec<&str> = Vec::new();
    let mut last_text: Vec<&str> = vec![""; due];
    let mut stamps: Vec<Clock> = vec![Clock::default(); due];
    let body = &text[layout.first.0..];
    let mut end = 0;
    for (n, line) in body.split_inclusive('\n').enumerate() {
        end += line.len();
        let line = line.trim_end_matches(['\n', '\r']);
        let number_of_line = layout.first.1 + n;
        if line.trim().is_empty() || is_comment(line) {
            continue;
        }
        split(line, layout.delimiter, &mut fields);
        if fields.len() == due + 1
            && (layout.trailing && fields[due].is_empty() || fields[due].starts_with('#'))
        {
            // LabChart writes comments behind a row.
            if let Some(text) = fields[due].strip_prefix('#') {
                out.events.push((out.rows, text.trim_start_matches(['*', ' ']).to_string()));
            }
            fields.truncate(due);
        }
        if fields.len() != due {
            let cut_off = end == body.len() && !body.ends_with('\n') && fields.len() < due && out.rows > 0;
            if cut_off {
                warnings.push(format!(
                    "line {number_of_line} is cut off at the end of the file and was left out"
                ));
                break;
            }
            return Err(Error::format(format!("{} fields where {due} are due", fields.len()))
                .at(format!("line {number_of_line}"))
                .remedy(
                    "every row needs the same number of fields; is the end of the file cut off, or the header longer \
                     (--skip-rows)?",
                ));
        }
        for (i, (field, column)) in fields.iter().zip(&mut columns).enumerate() {
            let value = match layout.columns[i].kind {
                Kind::Number(mark) => match number(field, mark) {
                    Some(value) => value,
                    None if is_missing(field) => f64::NAN,
                    None => bad(column, number_of_line, field),
                },
                Kind::Stamp => match stamp(field) {
                    Some(s) => stamps[i].seconds(s),
                    None if is_missing(field) => f64::NAN,
                    None => bad(column, number_of_line, field),
                },
                Kind::Text | Kind::Empty => {
                    if !field.is_empty() && *field != last_text[i] {
                        out.events.push((out.rows, field.to_string()));
                    }
                    last_text[i] = field;
                    continue;
                }
            };
            column.values.push(value);
        }
        out.rows += 1;
    }
    if out.rows == 0 {
        return Err(Error::data("the table holds no rows of numbers"));
    }
    // A date and the time of day beside it are one stamp.
    let mut i = 0;
    while i + 1 < columns.len() {
        if columns[i].is_stamp && columns[i + 1].is_stamp && stamps[i].dates_only && stamps[i + 1].clocks_only
        {
            let clock = columns.remove(i + 1);
            stamps.remove(i + 1);
            columns[i].values.iter_mut().zip(&clock.values).for_each(|(d, c)| *d += c);
            columns[i].bad = columns[i].bad.take().or(clock.bad);
        }
        i += 1;
    }
    let is_signal = |c: &Column| c.values.len() == out.rows;
    out.columns = columns.into_iter().filter(is_signal).collect();
    Ok(out)
}

fn bad(column: &mut Column, line: usize, field: &str) -> f64 {
    if column.bad.is_none() {
        column.bad = Some((line, field.chars().take(40).collect()));
    }
    f64::NAN
}

/// Stamps of one column to seconds from the first day.
#[derive(Clone, Debug, Default)]
struct Clock {
    first_day: Option<i64>,
    days: i64,
    last: f64,
    dates_only: bool,
    clocks_only: bool,
    any: bool,
}

impl Clock {
    fn seconds(&mut self, stamp: Stamp) -> f64 {
        if !self.any {
            (self.any, self.dates_only, self.clocks_only) =
                (true, stamp.clock.is_none(), stamp.day.is_none());
        }
        self.dates_only &= stamp.clock.is_none();
        self.clocks_only &= stamp.day.is_none();
        let clock = stamp.clock.unwrap_or(0.0);
        let day = match stamp.day {
            Some(day) => (day - *self.first_day.get_or_insert(day)) as f64,
            None => {
                // Midnight: a time of day that falls by more than half a day.
                if clock < self.last - 43_200.0 {
                    self.days += 1;
                }
                self.last = clock;
                self.days as f64
            }
        };
        day * 86_400.0 + clock
    }
}

/// A file of the Empatica wristbands: the first row is the start in seconds since 1970, the second the rate, in every
/// column; there are no names, so the file's is taken. Returns start and rate, and takes the two rows away.
pub(super) fn empatica(parsed: &mut Parsed, layout: &Layout, path: &Path) -> Option<(f64, f64)> {
    let same = |row: usize| -> Option<f64> {
        let first = *parsed.columns.first()?.values.get(row)?;
        parsed.columns.iter().all(|c| c.values[row] == first).then_some(first)
    };
    let unnamed = parsed.columns.iter().all(|c| !c.named && !c.is_stamp);
    if !unnamed || layout.names_line.is_some() || parsed.rows < 3 || !parsed.events.is_empty() {
        return None;
    }
    let start = same(0).filter(|t| (9e8..4e9).contains(t))?;
    let rate = same(1).filter(|fs| (0.1..=10_000.0).contains(fs))?;
    let far = |c: &Column| c.values[2..].iter().any(|v| (9e8..4e9).contains(v));
    if parsed.columns.iter().any(far) {
        return None;
    }
    let single = parsed.columns.len() == 1;
    for (i, column) in parsed.columns.iter_mut().enumerate() {
        column.values.drain(..2);
        column.label = if single { stem(path) } else { format!("{} {}", stem(path), i + 1) };
        column.named = true;
    }
    parsed.rows -= 2;
    parsed.first_line += 2;
    Some((start, rate))
}
