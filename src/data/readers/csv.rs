//! Text tables: comma, semicolon or tab, with or without a header row, with or without time stamps; and OpenSignals text,
//! which names its columns and rate in comments.
//!
//! * **Comments**: lines beginning with `#` are skipped.
//! * **Delimiter**: of tab, semicolon and comma the first that occurs, equally often, in each of the first 20 lines.
//!   With a semicolon or a tab, `1,5` is read as 1.5.
//! * **Header**: the first row is one if it holds a field that is neither a number nor a missing value. A unit may
//!   follow the name: `ecg [mV]`, `ecg (uV)`, `ecg_mV`. Without a header columns are named `column 1`, `column 2`, ...
//! * **Missing values**: as [`is_missing`] knows them (an empty field, `nan`, `NA`, `null`, ...). Anything else that is no
//!   finite number is an error with line and column.
//! * **Time**: the column named by the user, else one called `time`, `t`, `timestamp`, `seconds` or `daqtime`. Seconds,
//!   unless its name says `ms` or `us`. The rate is (rows - 1) / (last - first), rounded to a whole number when it is
//!   within 1e-4 of one. Every stamp must lie within half a sample of its place on that even grid (plus the rounding of
//!   the stamps themselves), so a gap or a change of rate is an error with its line. A rate given by the user must agree.
//!
//! Memory: 8 bytes per value, which takes at least two in the text, in vectors that grow by doubling: at most 32 times the
//! file, with the file itself.

use std::path::Path;

use super::opensignals::{self, is_sequence};
use super::{MAX_FS_HZ, ReadOptions, Reader, read_whole, stem};
use crate::data::names::is_missing;
use crate::data::recording::{Channel, Recording, Unit};
use crate::error::{Error, Result};

/// The CSV reader.
#[derive(Debug)]
pub struct Csv;

impl Reader for Csv {
    fn name(&self) -> &'static str {
        "CSV"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["csv", "tsv", "txt", "dat", "asc"]
    }
    /// Text whose first line that is no comment holds a number or at least a delimiter.
    fn sniff(&self, _path: &Path, head: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(head).or_else(|e| std::str::from_utf8(&head[..e.valid_up_to()]))
        else {
            return false;
        };
        if opensignals::begins(text) {
            return true;
        }
        if text.is_empty() || text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return false;
        }
        let mut lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
        // The second line is data whether or not the first is a header.
        let line = lines.next().map(|first| lines.next().unwrap_or(first)).unwrap_or("");
        let mut fields = line.split(['\t', ';', ',']);
        fields.any(|f| f.trim().parse::<f64>().is_ok())
    }
    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Recording> {
        let bytes = read_whole(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|e| {
            Error::format("not UTF-8 text")
                .in_file(path)
                .at(format!("byte {}", e.valid_up_to()))
                .remedy("save the table as UTF-8")
        })?;
        parse(text.strip_prefix('\u{feff}').unwrap_or(text), path, options).map_err(|e| e.in_file(path))
    }
}

/// More columns than any recording has. A label takes more memory than the delimiter that stands for it.
const MAX_COLUMNS: usize = 4096;

/// A column while it is being read.
struct Column {
    label: String,
    suffix: Option<String>,
    values: Vec<f64>,
}

fn parse(text: &str, path: &Path, options: &ReadOptions) -> Result<Recording> {
    let known = opensignals::header(text)?;
    let delimiter = if known.is_some() { b'\t' } else { detect_delimiter(text) };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        // Fields are trimmed where they are looked at: the crate's own trimming makes every record anew.
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let mut columns: Vec<Column> = match &known {
        Some(header) => header.columns.iter().map(|label| Column::named(label)).collect(),
        None => Vec::new(),
    };
    // Line of each row, for messages about time stamps.
    let mut first_line = 0;
    let mut rows = 0usize;
    let mut record = csv::StringRecord::new();
    loop {
        let more = reader.read_record(&mut record).map_err(|e| {
            let line = e.position().map_or(0, |p| p.line());
            Error::format(e.to_string()).at(format!("line {line}"))
        })?;
        if !more {
            break;
        }
        let line = record.position().map_or(0, |p| p.line());
        if columns.len().max(record.len()) > MAX_COLUMNS {
            return Err(Error::format(format!("more than {MAX_COLUMNS} columns"))
                .at(format!("line {line}"))
                .remedy("a recording has a sample per row; is the table turned on its side?"));
        }
        // OpenSignals ends its lines with a tab.
        if known.is_some() && record.len() == columns.len() + 1 && record[columns.len()].trim().is_empty() {
            record.truncate(columns.len());
        }
        if columns.is_empty() {
            let header = record.iter().any(|f| parse_field(f, delimiter).is_none());
            columns = record.iter().enumerate().map(|(i, f)| Column::new(header.then_some(f), i)).collect();
            if header {
                continue;
            }
        }
        if record.len() != columns.len() {
            return Err(Error::format(format!("{} fields where {} are due", record.len(), columns.len()))
                .at(format!("line {line}"))
                .remedy("every row needs the same number of fields; is the end of the file cut off?"));
        }
        if rows == 0 {
            first_line = line;
        }
        for (field, column) in record.iter().zip(&mut columns) {
            let value = parse_field(field, delimiter).ok_or_else(|| {
                let shown: String = field.trim().chars().take(40).collect();
                Error::format(format!("'{shown}' is no finite number"))
                    .at(format!("line {line}, column '{}'", column.label))
                    .remedy("leave missing values empty or write nan")
            })?;
            column.values.push(value);
        }
        rows += 1;
    }
    if rows == 0 {
        return Err(Error::data("the table holds no rows of numbers"));
    }
    let mut warnings = Vec::new();
    if known.is_some() {
        let lost: usize =
            columns.iter().filter(|c| is_sequence(&c.label)).map(|c| opensignals::jumps(&c.values)).sum();
        if lost > 0 {
            warnings.push(format!("the numbering of the samples jumps {lost} times: samples were lost"));
        }
        columns.retain(|c| !is_sequence(&c.label));
    }
    let time = if known.is_some() { None } else { find_time(&columns, options)? };
    let fs_hz = match (time, &known) {
        (_, Some(header)) => {
            options.agree_fs(header.fs_hz)?;
            header.fs_hz
        }
        (Some(i), None) => {
            let scale = time_scale(&columns[i], &mut warnings);
            let fs_hz = rate_from_stamps(&columns[i].values, scale, first_line)?;
            options.agree_fs(fs_hz)?;
            fs_hz
        }
        (None, None) => options.checked_fs()?.ok_or_else(|| {
            Error::usage("the table has no column of time stamps, so its sampling rate is unknown")
                .remedy("give the rate (fs_hz = 256), or the name of the column of time stamps")
        })?,
    };
    let columns: Vec<Column> =
        columns.into_iter().enumerate().filter(|(i, _)| Some(*i) != time).map(|(_, c)| c).collect();
    let labels: Vec<&str> = columns.iter().map(|c| c.label.as_str()).collect();
    let only = options.pick(&labels)?;
    let channels = columns
        .into_iter()
        .enumerate()
        .filter(|(i, _)| only.is_none_or(|o| o == *i))
        .map(|(_, c)| {
            let own = c.suffix.as_deref().map(Unit::parse).filter(|u| !matches!(u, Unit::Unknown(_)));
            let unit = own
                .or_else(|| options.unit.clone())
                .unwrap_or_else(|| Unit::Unknown(c.suffix.clone().unwrap_or_default()));
            Channel { label: c.label, unit, fs_hz, samples: c.values }
        })
        .collect();
    Ok(Recording {
        path: path.into(),
        files: vec![path.into()],
        record: stem(path),
        channels,
        start: known.and_then(|header| header.start),
        warnings,
        ..Recording::default()
    })
}

impl Column {
    fn named(label: &str) -> Self {
        Self { label: label.into(), suffix: None, values: Vec::new() }
    }

    /// Splits `ecg [mV]`, `ecg (mV)` and `ecg_mV` into name and unit.
    fn new(header: Option<&str>, index: usize) -> Self {
        let Some(text) = header.map(str::trim).filter(|t| !t.is_empty()) else {
            return Self { label: format!("column {}", index + 1), suffix: None, values: Vec::new() };
        };
        for (open, close) in [('[', ']'), ('(', ')')] {
            let split = text.strip_suffix(close).and_then(|t| t.rsplit_once(open));
            if let Some((name, unit)) = split.filter(|(name, _)| !name.trim().is_empty()) {
                return Self {
                    label: name.trim().into(),
                    suffix: Some(unit.trim().into()),
                    values: Vec::new(),
                };
            }
        }
        if let Some((name, unit)) = text.rsplit_once('_') {
            let known = !matches!(Unit::parse(unit), Unit::Unknown(_)) || ["s", "ms", "us"].contains(&unit);
            // "lead_v" and "lead_V" are a lead's name more often than volts.
            if known && !name.is_empty() && !unit.eq_ignore_ascii_case("v") {
                return Self { label: name.into(), suffix: Some(unit.into()), values: Vec::new() };
            }
        }
        Self { label: text.into(), suffix: None, values: Vec::new() }
    }
}

/// A number, NaN for a missing value, None for anything else.
fn parse_field(field: &str, delimiter: u8) -> Option<f64> {
    let field = field.trim();
    let number = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite());
    if let Some(value) = number(field) {
        return Some(value);
    }
    if is_missing(field) {
        return Some(f64::NAN);
    }
    let decimal_comma = delimiter != b',' && field.matches(',').count() == 1;
    decimal_comma.then(|| number(&field.replace(',', "."))).flatten()
}

fn detect_delimiter(text: &str) -> u8 {
    let lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
    let lines: Vec<&str> = lines.take(20).collect();
    let count = |line: &str, d: u8| line.bytes().filter(|b| *b == d).count();
    for d in [b'\t', b';', b','] {
        let first = lines.first().map_or(0, |l| count(l, d));
        if first > 0 && lines.iter().all(|l| count(l, d) == first) {
            return d;
        }
    }
    // Uneven lines: take the one that occurs at all, and let the count of fields give the error with its line.
    [b'\t', b';', b','].into_iter().find(|d| lines.iter().any(|l| count(l, *d) > 0)).unwrap_or(b',')
}

/// Index of the column of time stamps.
fn find_time(columns: &[Column], options: &ReadOptions) -> Result<Option<usize>> {
    if let Some(wanted) = &options.time_column {
        let number = wanted.strip_prefix('#').and_then(|n| n.parse::<usize>().ok());
        let found = columns
            .iter()
            .position(|c| c.label.eq_ignore_ascii_case(wanted))
            .or(number.filter(|n| (1..=columns.len()).contains(n)).map(|n| n - 1));
        return found.map(Some).ok_or_else(|| {
            let names: Vec<String> = columns.iter().map(|c| format!("'{}'", c.label)).collect();
            Error::usage(format!(
                "no column '{wanted}' for the time stamps; the columns are: {}",
                names.join(", ")
            ))
        });
    }
    let names = ["time", "t", "timestamp", "timestamps", "seconds", "sec", "daqtime"];
    Ok(columns.iter().position(|c| names.iter().any(|n| c.label.eq_ignore_ascii_case(n))))
}

/// Seconds per unit of the time column.
fn time_scale(column: &Column, warnings: &mut Vec<String>) -> f64 {
    match column.suffix.as_deref().map(str::to_lowercase).as_deref() {
        Some("ms" | "msec" | "milliseconds") => 1e-3,
        Some("us" | "\u{b5}s" | "\u{3bc}s" | "microseconds") => 1e-6,
        Some("s" | "sec" | "seconds") => 1.0,
        _ if ["seconds", "sec"].iter().any(|n| column.label.eq_ignore_ascii_case(n)) => 1.0,
        _ => {
            warnings.push(format!("column '{}' does not say its unit; seconds are assumed", column.label));
            1.0
        }
    }
}

/// The rate of evenly spaced stamps, in Hz.
fn rate_from_stamps(stamps: &[f64], scale: f64, first_line: u64) -> Result<f64> {
    let line = |i: usize| format!("about line {}", first_line + i as u64);
    if let Some(i) = stamps.iter().position(|t| t.is_nan()) {
        return Err(Error::data("a time stamp is missing").at(line(i)));
    }
    let (n, first) = (stamps.len(), stamps[0]);
    let span = (stamps[n - 1] - first) * scale;
    if n < 2 || !span.is_finite() || span <= 0.0 {
        return Err(
            Error::data("the time stamps do not increase, so they give no sampling rate").at(line(n - 1))
        );
    }
    if let Some(i) = (1..n).find(|&i| stamps[i] < stamps[i - 1]) {
        return Err(Error::data("time runs backwards").at(line(i)));
    }
    let fs = (n - 1) as f64 / span;
    if fs > MAX_FS_HZ {
        return Err(Error::data(format!("the time stamps mean {fs:.0} Hz"))
            .remedy("name the unit in the column's header: time_ms or time_us"));
    }
    // Stamps are often rounded to a few decimals: the smallest step between unlike stamps bounds that rounding.
    let step = 1.0 / fs;
    let rounding = decimals_step(stamps) * scale;
    let allowed = 0.5 * step + rounding;
    let off = |i: usize| ((stamps[i] - first) * scale - i as f64 * step).abs();
    if (0..n).any(|i| off(i) > allowed) {
        // The place to name is the longest step, not where the drift is largest.
        let gap = |i: usize| (stamps[i] - stamps[i - 1]) * scale;
        let worst = (1..n).max_by(|&a, &b| gap(a).total_cmp(&gap(b))).unwrap_or(1);
        return Err(Error::data(format!(
            "time stamps are not evenly spaced: a step of {:.6} s where {step:.6} s is the mean",
            gap(worst)
        ))
        .at(line(worst))
        .remedy("cut the file at the gap, or fill it with rows of missing values"));
    }
    let whole = fs.round();
    Ok(if whole > 0.0 && (fs - whole).abs() <= 1e-4 * whole { whole } else { fs })
}

/// The decimal place to which all stamps seem rounded (1, 0.1, 0.01, ... down to 1e-9), in the stamps' unit.
fn decimals_step(stamps: &[f64]) -> f64 {
    let mut step = 1.0;
    for _ in 0..9 {
        let whole = |t: f64| (t / step - (t / step).round()).abs() < 1e-6 * (t / step).abs().max(1.0);
        if stamps.iter().take(200).all(|t| whole(*t)) {
            return step;
        }
        step *= 0.1;
    }
    step
}
