//! The metrics of a run, row by row, as `metrics.csv` and `metrics.jsonl`.
//!
//! The first column is always `step`. How a value is written:
//!
//! | value | CSV | JSON lines |
//! |---|---|---|
//! | finite number | shortest text that reads back to the same f64 | the same |
//! | NaN, infinity | `NaN`, `inf`, `-inf` | `null`, and a second field `<name>_nonfinite` with that word |
//! | text | as is, quoted where RFC 4180 asks for it | string |
//! | missing | empty | field left out |
//!
//! Rows are written and cut by hand and not by the csv crate: a row is one write per file, so that a kill leaves at most one
//! broken row; going on keeps the rows before it byte for byte; and what counts as a broken last row is ours to say. The
//! crate reads whole files, and would refuse or repair such a row. The quoting is RFC 4180's, four lines.
//!
//! JSON has no NaN, and leaving the field out would hide that the loss exploded; hence the second field.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::checkpoint::write_bytes;
use crate::error::{Error, IoContext, Result};

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number, finite or not.
    Number(f64),
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
    /// Not measured in this row.
    Missing,
}

impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Self::Number(v)
    }
}
impl From<f32> for Value {
    fn from(v: f32) -> Self {
        Self::Number(f64::from(v))
    }
}
impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::Integer(v)
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::Text(v.to_string())
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Self {
        v.map_or(Self::Missing, Into::into)
    }
}

/// What [`MetricsLog::resume`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Rows kept in `metrics.csv`.
    pub csv_rows: usize,
    /// Rows kept in `metrics.jsonl`.
    pub jsonl_rows: usize,
    /// Rows cut off in `metrics.csv`, a half-written last one included.
    pub csv_dropped: usize,
    /// Rows cut off in `metrics.jsonl`, a half-written last one included.
    pub jsonl_dropped: usize,
}

/// A row read back, as [`MetricsLog::resume_where`] shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoggedRow {
    /// Its step.
    pub step: u64,
    values: Vec<(String, String)>,
}

impl LoggedRow {
    /// The text of the column `name`, if the row has a value there.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Appends rows to both files; each row is one write per file, so a killed process loses at most the row in writing.
#[derive(Debug)]
pub struct MetricsLog {
    columns: Vec<String>,
    csv: (PathBuf, File),
    jsonl: (PathBuf, File),
}

impl MetricsLog {
    /// Starts new files in `dir`, replacing old ones. `columns` are the names after `step`.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for empty, repeated or reserved column names,
    /// [`Kind::Io`](crate::error::Kind::Io) when a file cannot be written.
    pub fn create(dir: impl AsRef<Path>, columns: &[&str]) -> Result<Self> {
        check_columns(columns)?;
        let (csv, jsonl) = paths(dir.as_ref());
        write_bytes(&csv, header(columns).as_bytes())?;
        write_bytes(&jsonl, b"")?;
        Self::open(csv, jsonl, columns)
    }
    /// Goes on after `step`: rows of later steps, and a half-written last row, are cut off; the rest stays byte for byte.
    /// A missing file is started anew, as the returned counts show. Files are replaced by renaming, so an interruption
    /// leaves the old or the new one whole.
    ///
    /// # Errors
    /// As [`MetricsLog::create`]; [`Kind::Format`](crate::error::Kind::Format) when `metrics.csv` has other columns or a
    /// row without a step.
    pub fn resume(dir: impl AsRef<Path>, columns: &[&str], step: u64) -> Result<(Self, Kept)> {
        Self::resume_where(dir, columns, |row| row.step <= step)
    }
    /// As [`MetricsLog::resume`], keeping the rows that `wanted` says yes to: where a step alone does not tell whether
    /// the resumed run knows of a row.
    ///
    /// # Errors
    /// As [`MetricsLog::resume`].
    pub fn resume_where(
        dir: impl AsRef<Path>,
        columns: &[&str],
        wanted: impl Fn(&LoggedRow) -> bool,
    ) -> Result<(Self, Kept)> {
        check_columns(columns)?;
        let (csv, jsonl) = paths(dir.as_ref());
        let mut kept = Kept::default();
        let text = read_or_empty(&csv)?;
        let head = header(columns);
        let rows = csv_rows(&text);
        let mut out = head.clone();
        match rows.first() {
            // A file cut inside its header holds no row.
            None => {}
            Some((row, whole)) if !*whole && rows.len() == 1 && head.starts_with(row) => {}
            Some((row, _)) if *row == head => {
                (kept.csv_rows, kept.csv_dropped) =
                    keep(&rows[1..], 2, &wanted, &mut out, |row| csv_row(columns, row))
                        .map_err(|e| e.in_file(&csv))?;
            }
            Some((row, _)) => {
                return Err(Error::format(format!(
                    "columns are {:?}, expected {:?}",
                    row.trim_end(),
                    head.trim_end()
                ))
                .in_file(&csv)
                .at("line 1")
                .remedy("resume with the settings the run was started with, or move the old metrics away"));
            }
        }
        write_bytes(&csv, out.as_bytes())?;
        let text = read_or_empty(&jsonl)?;
        let lines: Vec<(&str, bool)> = text.split_inclusive('\n').map(|l| (l, l.ends_with('\n'))).collect();
        out.clear();
        (kept.jsonl_rows, kept.jsonl_dropped) =
            keep(&lines, 1, &wanted, &mut out, json_row).map_err(|e| e.in_file(&jsonl))?;
        write_bytes(&jsonl, out.as_bytes())?;
        Ok((Self::open(csv, jsonl, columns)?, kept))
    }
    /// Appends one row; `values` in the order of the columns.
    ///
    /// # Errors
    /// [`Kind::Shape`](crate::error::Kind::Shape) for another number of values than columns,
    /// [`Kind::Io`](crate::error::Kind::Io) when a file cannot be written.
    pub fn row(&mut self, step: u64, values: &[Value]) -> Result<()> {
        if values.len() != self.columns.len() {
            let (got, want) = (values.len(), self.columns.len());
            return Err(Error::shape(format!("{got} values for {want} metric columns")).in_file(&self.csv.0));
        }
        let (mut line, mut object) = (step.to_string(), format!("{{\"step\":{step}"));
        for (name, value) in self.columns.iter().zip(values) {
            line.push(',');
            let mut field = |name: &str, json: String| {
                object.push_str(&format!(",{}:{json}", Json::from(name)));
            };
            match value {
                Value::Missing => {}
                Value::Text(t) => {
                    line.push_str(&quoted(t));
                    field(name, Json::from(t.as_str()).to_string());
                }
                Value::Integer(i) => {
                    line.push_str(&i.to_string());
                    field(name, i.to_string());
                }
                Value::Number(v) => match serde_json::Number::from_f64(*v) {
                    Some(n) => {
                        line.push_str(&n.to_string());
                        field(name, n.to_string());
                    }
                    None => {
                        let word = match *v {
                            v if v.is_nan() => "NaN",
                            v if v > 0.0 => "inf",
                            _ => "-inf",
                        };
                        line.push_str(word);
                        field(name, "null".into());
                        field(&format!("{name}_nonfinite"), format!("\"{word}\""));
                    }
                },
            }
        }
        line.push('\n');
        object.push_str("}\n");
        self.csv.1.write_all(line.as_bytes()).with_file(&self.csv.0)?;
        self.jsonl.1.write_all(object.as_bytes()).with_file(&self.jsonl.0)
    }
    fn open(csv: PathBuf, jsonl: PathBuf, columns: &[&str]) -> Result<Self> {
        let append = |p: &Path| OpenOptions::new().append(true).open(p).with_file(p);
        let (a, b) = (append(&csv)?, append(&jsonl)?);
        Ok(Self {
            columns: columns.iter().map(|c| c.to_string()).collect(),
            csv: (csv, a),
            jsonl: (jsonl, b),
        })
    }
}

fn paths(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("metrics.csv"), dir.join("metrics.jsonl"))
}

fn check_columns(columns: &[&str]) -> Result<()> {
    for (i, name) in columns.iter().enumerate() {
        if name.is_empty() || *name == "step" || name.ends_with("_nonfinite") || columns[..i].contains(name) {
            return Err(Error::usage(format!("metric column {name:?} is empty, repeated or reserved")));
        }
        if name.chars().any(char::is_control) {
            return Err(Error::usage(format!("metric column {name:?} holds a control character")));
        }
    }
    Ok(())
}

fn header(columns: &[&str]) -> String {
    let mut out = String::from("step");
    for name in columns {
        out.push(',');
        out.push_str(&quoted(name));
    }
    out + "\n"
}

/// RFC 4180 quoting.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}

fn read_or_empty(path: &Path) -> Result<String> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(mut f) => f.read_to_end(&mut text).with_file(path)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(Error::io(path, e)),
    };
    // A write cut inside a character leaves a broken last row, which is dropped anyway.
    let good = std::str::from_utf8(&text).map_or_else(|e| e.valid_up_to(), str::len);
    let rest_has_rows = text[good..].contains(&b'\n');
    if rest_has_rows {
        return Err(Error::format("not UTF-8").in_file(path).at(format!("byte {good}")));
    }
    text.truncate(good);
    String::from_utf8(text).map_err(|_| Error::format("not UTF-8").in_file(path))
}

/// Rows with their line ends and whether they are whole; a line end inside quotes does not end a row.
fn csv_rows(text: &str) -> Vec<(&str, bool)> {
    let (mut rows, mut start, mut inside) = (Vec::new(), 0, false);
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'"' => inside = !inside,
            b'\n' if !inside => {
                rows.push((&text[start..=i], true));
                start = i + 1;
            }
            _ => {}
        }
    }
    if start < text.len() {
        rows.push((&text[start..], false));
    }
    rows
}

fn csv_row(columns: &[&str], row: &str) -> Option<LoggedRow> {
    let mut cells = cells(row.trim_end_matches(['\n', '\r'])).into_iter();
    let step = cells.next()?.parse().ok()?;
    let values = columns.iter().zip(cells).filter(|(_, text)| !text.is_empty());
    Some(LoggedRow { step, values: values.map(|(name, text)| (name.to_string(), text)).collect() })
}

fn json_row(row: &str) -> Option<LoggedRow> {
    let Json::Object(members) = serde_json::from_str::<Json>(row).ok()? else { return None };
    let step = members.get("step")?.as_u64()?;
    let text = |v: &Json| v.as_str().map_or_else(|| v.to_string(), str::to_string);
    Some(LoggedRow { step, values: members.iter().map(|(name, v)| (name.clone(), text(v))).collect() })
}

/// The cells of a CSV row, unquoted (RFC 4180).
fn cells(row: &str) -> Vec<String> {
    let (mut out, mut cell, mut inside) = (Vec::new(), String::new(), false);
    let mut chars = row.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if inside && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => inside = !inside,
            ',' if !inside => out.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    out.push(cell);
    out
}

/// Copies the wanted rows to `out`; returns how many were kept and dropped. Only the last row may be broken.
fn keep(
    rows: &[(&str, bool)],
    first_row: usize,
    wanted: &dyn Fn(&LoggedRow) -> bool,
    out: &mut String,
    read: impl Fn(&str) -> Option<LoggedRow>,
) -> Result<(usize, usize)> {
    let (mut kept, mut dropped) = (0, 0);
    for (i, (row, whole)) in rows.iter().enumerate() {
        if !whole {
            dropped += 1;
            continue;
        }
        match read(row) {
            Some(logged) if wanted(&logged) => {
                out.push_str(row);
                kept += 1;
            }
            Some(_) => dropped += 1,
            None => {
                return Err(Error::format("row without a step")
                    .at(format!("row {}", first_row + i))
                    .remedy("repair the row, or move the old metrics away"));
            }
        }
    }
    Ok((kept, dropped))
}
