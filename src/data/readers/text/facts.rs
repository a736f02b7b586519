//! What a header block says in words: sampling rate, unit, lead, start, and the layouts of single programs.
//!
//! ```text
//! rate     = ("sample" | "sampling") ... number [Hz | hertz | S/s]      Sample Rate,512 hertz   %Sample Rate = 250 Hz
//!          | "fs" (= | :) number  |  any line that ends in: number (Hz | hertz)
//!          | number (msec | sec | usec | min) "/sample"                 4 msec/sample           (AcqKnowledge)
//!          | "Interval=" number (s | ms | us)                           Interval= <tab> 0.001 s (LabChart)
//! unit     = ("unit" | "units") (, | = | : | tab) unit                  Unit,µV
//! lead     = "lead" (, | = | : | tab) name                              Lead,Lead I
//! start    = key with "date" or "start", then a stamp                   Recorded Date,2021-05-05 09:30:00 +0200
//! ```

use super::number::{Decimal, number};
use super::stamps::stamp;
use crate::data::readers::MAX_FS_HZ;
use crate::data::recording::Unit;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    /// Sampling rate in Hz, and the line that names it.
    pub(super) rate: Option<(f64, usize)>,
    /// Unit of the only signal.
    pub(super) unit: Option<Unit>,
    /// Name of the only signal.
    pub(super) lead: Option<String>,
    /// Date and time of the first sample, as written.
    pub(super) start: Option<String>,
    /// Names of the columns where a program's layout gives them otherwise than in a row before the numbers.
    pub(super) names: Option<Vec<String>>,
    /// Their units.
    pub(super) units: Option<Vec<String>>,
}

impl Facts {
    /// Reads the lines of a header block, each with its number.
    pub(super) fn of(lines: &[(usize, &str)]) -> Self {
        let mut out = Self::default();
        for (n, line) in lines {
            let line = line.trim_start_matches(['#', '%', '/', ' ']).trim();
            let lower = line.to_lowercase();
            if out.rate.is_none() {
                out.rate = rate(&lower).map(|fs| (fs, *n));
            }
            let Some((key, value)) = key_value(line) else { continue };
            match key.to_lowercase().as_str() {
                "unit" | "units" | "einheit" if out.unit.is_none() => {
                    out.unit = Some(Unit::parse(value)).filter(|u| !matches!(u, Unit::Unknown(_)));
                }
                "lead" | "channel" | "ableitung"
                    if out.lead.is_none() && number(value, Decimal::Point).is_none() =>
                {
                    out.lead = Some(value.chars().take(80).collect());
                }
                key if (key.contains("date") || key.contains("start")) && out.start.is_none() => {
                    let is_stamp = stamp(value).is_some_and(|s| s.day.is_some() && s.clock.is_some());
                    out.start = is_stamp.then(|| value.to_string());
                }
                _ => {}
            }
        }
        out.acqknowledge(lines);
        out.labchart(lines);
        out
    }

    /// AcqKnowledge text: `4 msec/sample`, `2 channels`, then a line with the name and one with the unit of each.
    fn acqknowledge(&mut self, lines: &[(usize, &str)]) {
        let Some(at) = lines.iter().position(|(_, l)| l.to_lowercase().contains("/sample")) else { return };
        let count = lines.get(at + 1).and_then(|(_, l)| l.trim().strip_suffix("channels"));
        let Some(count) = count.and_then(|c| c.trim().parse::<usize>().ok()) else { return };
        let own = &lines[at + 2..];
        if count == 0 || count > own.len() / 2 {
            return;
        }
        let text = |i: usize| own[i].1.trim().to_string();
        let (mut names, mut units): (Vec<String>, Vec<String>) =
            (0..count).map(|c| (text(2 * c), text(2 * c + 1))).unzip();
        // A line such as `min <tab> CH1 <tab>` shows that the time stands first.
        let time = own[2 * count..].iter().find_map(|(_, l)| l.split(['\t', ',']).next().map(str::trim));
        if let Some(unit) = time.filter(|u| ["min", "sec", "msec", "usec", "hr"].contains(u)) {
            names.insert(0, "time".into());
            units.insert(0, unit.into());
        }
        (self.names, self.units) = (Some(names), Some(units));
    }

    /// LabChart text: `ChannelTitle=` and `UnitName=` or `Range=`, tabs between the channels; the time stands first, in s.
    fn labchart(&mut self, lines: &[(usize, &str)]) {
        let of = |key: &str| -> Option<Vec<String>> {
            let (_, line) = lines.iter().find(|(_, l)| l.starts_with(key))?;
            Some(line.split('\t').skip(1).map(|f| f.trim().to_string()).collect())
        };
        let Some(mut names) = of("ChannelTitle=") else { return };
        while names.last().is_some_and(String::is_empty) {
            names.pop();
        }
        let ranges = || -> Option<Vec<String>> {
            let ranges = of("Range=")?;
            Some(ranges.iter().map(|r| r.rsplit(' ').next().unwrap_or("").to_string()).collect())
        };
        let units = of("UnitName=").or_else(ranges).unwrap_or_default();
        let units = (0..names.len()).map(|i| units.get(i).cloned().unwrap_or_default());
        self.units = Some(std::iter::once("s".to_string()).chain(units).collect());
        names.insert(0, "time".into());
        self.names = Some(names);
    }
}

/// A line `key, value`, with any of the usual marks between.
fn key_value(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once([',', '\t', '=', ';']).or_else(|| line.split_once(':'))?;
    let value = value.trim().trim_matches(['"', ',', ';', '\t', ' ']);
    let key = key.trim().trim_matches(['"', ' ', ':', '=']);
    (!key.is_empty() && !value.is_empty()).then_some((key, value))
}

/// The sampling rate that a line, in lower case, names.
fn rate(line: &str) -> Option<f64> {
    let possible = |fs: f64| (fs > 0.0 && fs <= MAX_FS_HZ).then_some(fs);
    if let Some((before, _)) = line.split_once("/sample") {
        let (value, unit) = last_number(before)?;
        return possible(1.0 / (value * seconds_per(unit)?));
    }
    if let Some(rest) = line.strip_prefix("interval=") {
        let (value, unit) = first_number(rest)?;
        return possible(1.0 / (value * seconds_per(unit)?));
    }
    let keys = [
        "sample rate",
        "sampling rate",
        "samplerate",
        "sampling frequency",
        "samplingrate",
        "sample_rate",
        "sampling_rate",
        "sampling_frequency",
        "samplingfrequency",
        "sample frequency",
        "samples per second",
        "samples/s",
        "abtastrate",
        "fs_hz",
        "fs (hz)",
    ];
    for key in keys {
        if let Some((_, rest)) = line.split_once(key)
            && let Some((value, unit)) = first_number(rest)
        {
            let factor = if unit.starts_with("khz") { 1000.0 } else { 1.0 };
            return possible(value * factor);
        }
    }
    if let Some(rest) =
        line.strip_prefix("fs").map(str::trim_start).and_then(|r| r.strip_prefix(['=', ':', ',']))
    {
        return first_number(rest).and_then(|(value, _)| possible(value));
    }
    let end = line.trim_end_matches(['"', ',', ';', '\t', ' ', '.']);
    let before = ["hertz", "hz"].iter().find_map(|u| end.strip_suffix(u))?;
    // "0.5-40 Hz" is a filter, not a rate.
    let filter = ["filter", "pass", "cut", "notch", "band", "mains"].iter().any(|w| before.contains(w));
    let (value, rest) = last_number(before).filter(|_| !filter)?;
    rest.trim().is_empty().then(|| possible(value)).flatten()
}

fn seconds_per(unit: &str) -> Option<f64> {
    match unit {
        "s" | "sec" | "seconds" => Some(1.0),
        "ms" | "msec" | "milliseconds" => Some(1e-3),
        "us" | "usec" | "\u{b5}s" | "\u{3bc}s" | "microseconds" => Some(1e-6),
        "min" => Some(60.0),
        _ => None,
    }
}

/// The first number of a text, and the word behind it.
fn first_number(text: &str) -> Option<(f64, &str)> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let rest = &text[start..];
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ',')).unwrap_or(rest.len());
    let digits = rest[..end].trim_end_matches(['.', ',']);
    let value = number(digits, Decimal::Point).or_else(|| number(digits, Decimal::Comma))?;
    // "512,414" is a rate with decimals, not half a million samples a second.
    let value = match digits.split_once(',') {
        Some((a, b)) if !b.contains(['.', ',']) => number(&format!("{a}.{b}"), Decimal::Point)?,
        _ => value,
    };
    let unit = rest[end..].trim_start_matches([' ', '\t', '[', '(', '"']);
    let unit = unit.split(|c: char| !c.is_alphabetic()).next().unwrap_or("");
    Some((value, unit))
}

/// The last number of a text, and what follows it.
fn last_number(text: &str) -> Option<(f64, &str)> {
    let last = text.rfind(|c: char| c.is_ascii_digit())?;
    let start = text[..last]
        .rfind(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','))
        .map_or(0, |i| i + text[i..].chars().next().map_or(1, char::len_utf8));
    let (value, _) = first_number(&text[start..=last])?;
    Some((value, text[last + 1..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_in_words() {
        for (line, expected) in [
            ("Sample Rate,512 hertz", Some(512.0)),
            ("Sample Rate,510.834 hertz", Some(510.834)),
            ("Abtastrate,\"512,414 Hertz\"", Some(512.414)),
            ("Fr\u{e9}quence,\"512,414 hertz\"", Some(512.414)),
            ("%Sample Rate = 250 Hz", Some(250.0)),
            ("# Sampling frequency (Hz): 1000", Some(1000.0)),
            ("4 msec/sample", Some(250.0)),
            ("0,5 msec/sample", Some(2000.0)),
            ("Interval=\t0.001 s", Some(1000.0)),
            ("# fs = 130", Some(130.0)),
            ("Sampling rate: 1 kHz", Some(1000.0)),
            ("Band-pass filter 0.5-40 Hz", None),
            ("Device,Watch6,1", None),
            ("Software Version,1.90", None),
        ] {
            let facts = Facts::of(&[(1, line)]);
            assert_eq!(facts.rate.map(|r| r.0), expected, "{line}");
        }
    }
}
