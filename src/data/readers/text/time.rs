//! The column of time stamps, its unit, and the rate.

use std::fmt;
use std::str::FromStr;

use super::grid::{self, Grid};
use super::rows::{Column, Parsed};
use crate::data::readers::{MAX_FS_HZ, ReadOptions};
use crate::error::{Error, Result};

/// Units of time stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Hours.
    Hours,
    /// Minutes.
    Minutes,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

impl TimeUnit {
    /// Seconds in one.
    pub fn seconds(self) -> f64 {
        match self {
            TimeUnit::Hours => 3600.0,
            TimeUnit::Minutes => 60.0,
            TimeUnit::Seconds => 1.0,
            TimeUnit::Milliseconds => 1e-3,
            TimeUnit::Microseconds => 1e-6,
            TimeUnit::Nanoseconds => 1e-9,
        }
    }
}

impl fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimeUnit::Hours => "h",
            TimeUnit::Minutes => "min",
            TimeUnit::Seconds => "s",
            TimeUnit::Milliseconds => "ms",
            TimeUnit::Microseconds => "us",
            TimeUnit::Nanoseconds => "ns",
        })
    }
}

impl FromStr for TimeUnit {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.to_lowercase().as_str() {
            "h" | "hr" | "hours" => Ok(TimeUnit::Hours),
            "min" | "minutes" => Ok(TimeUnit::Minutes),
            "s" | "sec" | "secs" | "second" | "seconds" => Ok(TimeUnit::Seconds),
            "ms" | "msec" | "millisecond" | "milliseconds" => Ok(TimeUnit::Milliseconds),
            "us" | "usec" | "\u{b5}s" | "\u{3bc}s" | "microsecond" | "microseconds" => {
                Ok(TimeUnit::Microseconds)
            }
            "ns" | "nsec" | "nanosecond" | "nanoseconds" => Ok(TimeUnit::Nanoseconds),
            _ => Err(format!("'{text}' is none of s, ms, us, ns, min, h")),
        }
    }
}

/// The even time axis of the rows, and how it was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Timing {
    pub(super) grid: Axis,
    pub(super) said: String,
    pub(super) rate_said: String,
}

/// A rate, with gaps if stamps showed any.
#[derive(Clone, Debug, Default)]
pub(super) struct Axis {
    pub(super) fs_hz: f64,
    grid: Option<Grid>,
}

impl Axis {
    /// Where a row lies on the axis.
    pub(super) fn place(&self, row: usize) -> usize {
        let before = |g: &Grid| g.gaps.iter().take_while(|(r, _)| *r <= row).map(|g| g.1).sum::<usize>();
        row + self.grid.as_ref().map_or(0, before)
    }

    /// The values of `rows` rows with missing samples in the gaps.
    pub(super) fn fill(&self, values: Vec<f64>, rows: usize) -> Vec<f64> {
        match &self.grid {
            Some(grid) if values.len() == rows => grid.fill(values),
            _ => values,
        }
    }
}

/// Words that name a column of time.
const TIME_WORDS: [&str; 24] = [
    "TIME",
    "TIMES",
    "TIMESTAMP",
    "TIMESTAMPS",
    "SECONDS",
    "SEC",
    "DAQTIME",
    "DATETIME",
    "DATE",
    "ELAPSED",
    "ZEIT",
    "ZEITSTEMPEL",
    "UHRZEIT",
    "DATUM",
    "TEMPS",
    "TIEMPO",
    "HORA",
    "TEMPO",
    "EPOCH",
    "CLOCK",
    "TS",
    "UNIX",
    "MILLIS",
    "MICROS",
];
/// Words that name a numbering of samples.
const COUNT_WORDS: [&str; 9] =
    ["SAMPLE", "SAMPLES", "INDEX", "NSEQ", "SEQ", "COUNTER", "FRAME", "ROW", "SAMPLENUMBER"];
/// Rates of an ECG.
const LIKELY_HZ: std::ops::RangeInclusive<f64> = 30.0..=10_000.0;

fn words(label: &str) -> Vec<String> {
    label
        .to_uppercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(|w| w.trim_end_matches(|c: char| c.is_ascii_digit()).to_string())
        .collect()
}

fn names_time(column: &Column) -> bool {
    let words = words(&column.label);
    let unit_of_time = column.unit.as_deref().is_some_and(|u| u.parse::<TimeUnit>().is_ok() && u != "h");
    let bare = ["T", "X"].contains(&words.first().map_or("", String::as_str)) && words.len() == 1;
    words.iter().any(|w| TIME_WORDS.contains(&w.as_str()))
        || (bare && words[0] == "T")
        || (unit_of_time && (bare || !column.named))
}

/// Whether the values count samples: they rise by 1 in all rows (or start again, as counters of 8 bits do).
fn counts(column: &Column) -> bool {
    let v = &column.values;
    let ones = v.windows(2).filter(|w| w[1] - w[0] == 1.0).count();
    let again = v.windows(2).filter(|w| w[1] < w[0]).count();
    v.len() > 2 && ones > 1 && ones + again == v.len() - 1 && again * 100 < v.len().max(100)
}

/// Step of the first rows if the values rise by a constant step (to the rounding of their text) in all rows.
fn constant_step(column: &Column) -> Option<f64> {
    let v = &column.values;
    let (first, last) = (*v.first()?, *v.last()?);
    let step = (last - first) / (v.len() as f64 - 1.0);
    let even = |(i, t): (usize, &f64)| (t - first - i as f64 * step).abs() <= 0.51 * step + 1e-9 * last.abs();
    let rises =
        v.len() > 3 && step > 0.0 && v.windows(2).all(|w| w[1] > w[0]) && v.iter().enumerate().all(even);
    rises.then_some(step)
}

/// Finds the stamps, removes every column of time from the signals, and lays the rows on an even axis. `header`: rate in
/// the header block and its line.
///
/// # Errors
/// A column that was named and is not there; a unit that could be two; no rate from anywhere; rates that contradict each
/// other; whatever [`grid::lay`] refuses.
pub(super) fn of(
    parsed: &mut Parsed,
    header: Option<(f64, usize)>,
    options: &ReadOptions,
    warnings: &mut Vec<String>,
) -> Result<Timing> {
    let given = options.checked_fs()?;
    let ignore = options.time_column.as_deref().is_some_and(|c| c.eq_ignore_ascii_case("none"));
    let chosen = match &options.time_column {
        Some(name) if !ignore => Some(find_named(&parsed.columns, name)?),
        _ => None,
    };
    let alone = parsed.columns.len() == 1;
    let is_opensignals = header.is_some_and(|(_, line)| line == 0);
    let mut candidates: Vec<usize> = match chosen {
        Some(i) => vec![i],
        None if is_opensignals => Vec::new(),
        None => (0..parsed.columns.len())
            .filter(|&i| parsed.columns[i].is_stamp || (!alone && names_time(&parsed.columns[i])))
            .collect(),
    };
    let counters: Vec<usize> = (0..parsed.columns.len())
        .filter(|&i| {
            let c = &parsed.columns[i];
            let named = words(&c.label).iter().any(|w| COUNT_WORDS.contains(&w.as_str()));
            !alone && !candidates.contains(&i) && counts(c) && (named || !c.named)
        })
        .collect();
    // Without a name: a first column that rises evenly.
    if candidates.is_empty() && !alone && !ignore && !is_opensignals && !counters.contains(&0) {
        let first = &parsed.columns[0];
        if !first.named && constant_step(first).is_some() {
            candidates.push(0);
        }
    }
    let named_time = candidates.clone();
    let rows: Vec<usize> = if ignore { Vec::new() } else { candidates };
    let line = |first: usize| move |i: usize| format!("about line {}", first + i);
    let place = line(parsed.first_line);
    let mut laid: Vec<(Grid, String, Vec<String>)> = Vec::new();
    let mut first_error = None;
    for &i in &rows {
        let mut own = Vec::new();
        match of_column(&parsed.columns[i], given, header, options, &place, &mut own) {
            Ok((grid, said)) => laid.push((grid, said, own)),
            Err(e) => first_error = first_error.or(Some(e)),
        }
    }
    // The most even of several; a rate that was given or is named in the header settles what is left open.
    laid.sort_by(|a, b| {
        let off = |g: &Grid| (g.jitter_s.unwrap_or(0.0), g.rounding_s);
        off(&a.0).partial_cmp(&off(&b.0)).unwrap_or(std::cmp::Ordering::Equal)
    });
    let best = laid.into_iter().next();
    if best.is_none()
        && let Some(e) = first_error
    {
        return Err(e);
    }
    let timing = match best {
        Some((grid, said, own)) => {
            warnings.extend(own);
            from_grid(grid, said, header, options, warnings)?
        }
        None => without_stamps(parsed, header, options, ignore)?,
    };
    // Whole numbers that rise by 1 are the signal where there is no other.
    let only_counters = (0..parsed.columns.len()).all(|c| named_time.contains(&c) || counters.contains(&c));
    let mut i = 0;
    parsed.columns.retain(|_| {
        i += 1;
        !(named_time.contains(&(i - 1)) || counters.contains(&(i - 1)) && !only_counters)
    });
    Ok(timing)
}

fn find_named(columns: &[Column], wanted: &str) -> Result<usize> {
    let number = wanted.strip_prefix('#').and_then(|n| n.parse::<usize>().ok());
    let found = columns
        .iter()
        .position(|c| c.label.eq_ignore_ascii_case(wanted))
        .or_else(|| {
            columns.iter().position(|c| {
                let unit = c.unit.as_deref().unwrap_or("");
                [
                    format!("{}_{unit}", c.label),
                    format!("{} [{unit}]", c.label),
                    format!("{} ({unit})", c.label),
                ]
                .iter()
                .any(|n| n.eq_ignore_ascii_case(wanted))
            })
        })
        .or(number.filter(|n| (1..=columns.len()).contains(n)).map(|n| n - 1));
    found.ok_or_else(|| {
        let names: Vec<String> = columns.iter().map(|c| format!("'{}'", c.label)).collect();
        Error::usage(format!(
            "no column '{wanted}' for the time stamps; the columns are: {}",
            names.join(", ")
        ))
        .remedy("name one of them, or '#1' for the first, or none to ignore time stamps")
    })
}

/// The grid of one column, and what is said of it.
fn of_column(
    column: &Column,
    given: Option<f64>,
    header: Option<(f64, usize)>,
    options: &ReadOptions,
    place: &dyn Fn(usize) -> String,
    warnings: &mut Vec<String>,
) -> Result<(Grid, String)> {
    if let Some((line, text)) = &column.bad {
        return Err(Error::format(format!("'{text}' is no time stamp"))
            .at(format!("line {line}, column '{}'", column.label))
            .remedy("correct the file, or ignore the stamps: --time-column none with --fs-hz"));
    }
    if let Some(i) = column.values.iter().position(|t| t.is_nan()) {
        return Err(Error::data("a time stamp is missing").at(place(i)));
    }
    let nominal = given.or(header.map(|h| h.0));
    let name = match column.named {
        true => format!("column '{}'", column.label),
        false => column.label.clone(),
    };
    let (scale, unit) = if column.is_stamp {
        (1.0, "dates and times of day".to_string())
    } else {
        let (unit, how) = unit_of(column, nominal, options, place, warnings)?;
        (unit.seconds(), format!("{unit}{how}"))
    };
    // From the first stamp: points in time since 1970 leave few digits for fractions.
    let first = column.values.iter().copied().find(|v| !v.is_nan()).unwrap_or(0.0);
    let seconds: Vec<f64> = column.values.iter().map(|t| (t - first) * scale).collect();
    let mut grid = grid::lay(&seconds, nominal, place)?;
    if grid.fs_hz > MAX_FS_HZ {
        return Err(Error::data(format!("the time stamps mean {:.0} Hz", grid.fs_hz))
            .remedy("say their unit with --time-unit: s, ms, us or ns"));
    }
    let measured = 1.0 / grid.step_s;
    if let Some(fs) = nominal {
        // What the stamps can tell: the rounding of the first and last over the whole length.
        let span = grid.len(seconds.len()) as f64 * grid.step_s;
        let known_to = (0.005 + (grid.rounding_s + grid.jitter_s.unwrap_or(0.0)) / span).min(0.05);
        if (measured - fs).abs() > known_to * fs {
            let measured = round(measured);
            return Err(match (given, header) {
                (None, Some((_, line))) => Error::data(format!(
                    "line {line} says {fs} Hz, but the time stamps mean {measured} Hz"
                ))
                .remedy(format!("say which: --fs-hz {fs} --time-column none, or --fs-hz {measured}")),
                _ => Error::data(format!(
                    "the sampling rate given is {fs} Hz, but the file says {measured} Hz (by its time stamps)"
                ))
                .remedy(
                    "leave --fs-hz out, say the unit of the stamps with --time-unit, or ignore them with --time-column none",
                ),
            });
        }
        if given.is_none() {
            // The header's rate only settles what jitter is; the stamps tell the rate to more digits.
            grid.fs_hz = if (measured - fs).abs() <= 1e-3 * fs { fs } else { measured };
        }
    }
    Ok((grid, format!("{name}, {unit}")))
}

/// The unit of a column of numbers, and how it is known.
fn unit_of(
    column: &Column,
    nominal: Option<f64>,
    options: &ReadOptions,
    place: &dyn Fn(usize) -> String,
    warnings: &mut Vec<String>,
) -> Result<(TimeUnit, &'static str)> {
    if let Some(unit) = options.text.time_unit {
        return Ok((unit, " (as was said)"));
    }
    let usual = median_step(&column.values).ok_or_else(|| {
        Error::data("the time stamps do not increase, so they give no sampling rate")
            .at(place(column.values.len().saturating_sub(1)))
            .remedy("give the rate and ignore the stamps: --time-column none with --fs-hz")
    })?;
    let own = column.unit.as_deref().and_then(|u| u.parse::<TimeUnit>().ok());
    let own = own.or_else(|| {
        words(&column.label).iter().any(|w| w == "SECONDS" || w == "SEC").then_some(TimeUnit::Seconds)
    });
    if let Some(unit) = own {
        let rate = 1.0 / (usual * unit.seconds());
        let other = units().into_iter().find(|u| LIKELY_HZ.contains(&(1.0 / (usual * u.seconds()))));
        if let Some(other) = other.filter(|_| rate < 2.0) {
            warnings.push(format!(
                "column '{}' is said to be in {unit}, which means {} Hz; in {other} it would be {} Hz: say so with \
                 --time-unit {other}",
                column.label,
                round(rate),
                round(1.0 / (usual * other.seconds()))
            ));
        }
        return Ok((unit, ""));
    }
    // Points in time since 1970 tell their unit by their size.
    let size = column.values.iter().copied().find(|v| !v.is_nan()).unwrap_or(0.0);
    let since_1970 = units().into_iter().find(|u| (9e8..4e9).contains(&(size * u.seconds())));
    if let Some(unit) = since_1970.filter(|u| LIKELY_HZ.contains(&(1.0 / (usual * u.seconds())))) {
        return Ok((unit, " since 1970 (from the values)"));
    }
    if let Some(fs) = nominal {
        let near = |u: &TimeUnit| (1.0 / (usual * u.seconds()) - fs).abs() <= 0.2 * fs;
        if let Some(unit) = units().into_iter().find(near) {
            return Ok((unit, " (from the values and the rate)"));
        }
    }
    let rate = |u: TimeUnit| 1.0 / (usual * u.seconds());
    let likely = units().into_iter().find(|u| LIKELY_HZ.contains(&rate(*u)));
    match likely {
        Some(TimeUnit::Seconds) => Ok((TimeUnit::Seconds, " (from the values)")),
        Some(unit) => {
            let coarser = rate(unit) / 1000.0;
            let which =
                units().into_iter().rev().skip_while(|u| *u != unit).nth(1).unwrap_or(TimeUnit::Seconds);
            // Above 1 Hz the coarser unit would be that of a slow signal.
            if coarser > 1.0 + 1e-9 {
                return Err(Error::data(format!(
                    "column '{}' does not say its unit: in {which} its stamps mean {} Hz, in {unit} {} Hz",
                    column.label,
                    round(coarser),
                    round(rate(unit))
                ))
                .remedy(format!("say which: --time-unit {which} or --time-unit {unit}")));
            }
            warnings.push(format!(
                "column '{}' does not say its unit; {unit} are taken, which means {} Hz (in {which} it would be {} Hz)",
                column.label,
                round(rate(unit)),
                round(coarser)
            ));
            Ok((unit, " (from the values)"))
        }
        None => {
            warnings.push(format!("column '{}' does not say its unit; seconds are assumed", column.label));
            Ok((TimeUnit::Seconds, " (assumed)"))
        }
    }
}

fn units() -> [TimeUnit; 4] {
    [TimeUnit::Seconds, TimeUnit::Milliseconds, TimeUnit::Microseconds, TimeUnit::Nanoseconds]
}

/// Six digits are enough for people.
fn round(x: f64) -> f64 {
    format!("{x:.5e}").parse().unwrap_or(x)
}

/// The middle one of the steps; where most are zero (stamps of whole seconds, of packets) the mean.
fn median_step(values: &[f64]) -> Option<f64> {
    let mut steps: Vec<f64> = values.windows(2).map(|w| w[1] - w[0]).filter(|d| !d.is_nan()).collect();
    if steps.is_empty() {
        return None;
    }
    let middle = steps.len() / 2;
    let median = *steps.select_nth_unstable_by(middle, f64::total_cmp).1;
    let mean = steps.iter().sum::<f64>() / steps.len() as f64;
    Some(if median > 0.0 { median } else { mean }).filter(|s| s.is_finite() && *s > 0.0)
}

fn from_grid(
    grid: Grid,
    said: String,
    header: Option<(f64, usize)>,
    options: &ReadOptions,
    warnings: &mut Vec<String>,
) -> Result<Timing> {
    let missing = grid.missing();
    if missing > 0 {
        let (n, seconds) = (grid.gaps.len(), missing as f64 * grid.step_s);
        let gaps = if n == 1 { "gap" } else { "gaps" };
        warnings.push(format!(
            "{n} {gaps} of {seconds:.3} s in all were filled with {missing} missing samples (the usual step is {:.6} s)",
            grid.step_s
        ));
    }
    if let Some(jitter) = grid.jitter_s {
        warnings.push(format!(
            "the time stamps jitter by up to {:.3} ms around the usual step of {:.3} ms: the samples are taken as evenly \
             spaced at {} Hz",
            1000.0 * jitter,
            1000.0 * grid.step_s,
            round(grid.fs_hz)
        ));
    }
    let from = match (options.fs_hz, header) {
        (Some(_), _) => "as was said, and the time stamps agree",
        (None, Some(_)) => "from the time stamps, and the header agrees",
        (None, None) => "from the time stamps",
    };
    let rate_said = format!("{} Hz, {from}", round(grid.fs_hz));
    Ok(Timing { grid: Axis { fs_hz: grid.fs_hz, grid: Some(grid) }, said, rate_said })
}

fn without_stamps(
    parsed: &Parsed,
    header: Option<(f64, usize)>,
    options: &ReadOptions,
    ignored: bool,
) -> Result<Timing> {
    let said = if ignored { "ignored, as was said" } else { "no column" }.to_string();
    if let Some((fs, line)) = header {
        let fs_hz = options.rate_near(fs)?;
        let from = if line == 0 { "from the header".into() } else { format!("from line {line}") };
        return Ok(Timing {
            grid: Axis { fs_hz, grid: None },
            said,
            rate_said: format!("{fs_hz} Hz, {from}"),
        });
    }
    let fs_hz = options.checked_fs()?.ok_or_else(|| {
        let names: Vec<String> = parsed.columns.iter().take(12).map(|c| format!("'{}'", c.label)).collect();
        Error::data(format!(
            "the table has no column of time stamps, so its sampling rate is unknown; the columns are {}",
            names.join(", ")
        ))
        .remedy("give the rate (--fs-hz 256, in a table fs_hz), or the name of the column of time stamps (--time-column)")
    })?;
    Ok(Timing { grid: Axis { fs_hz, grid: None }, said, rate_said: format!("{fs_hz} Hz, as was said") })
}
