//! Names and units of columns.

use crate::data::recording::Unit;

/// The rows above the numbers.
#[derive(Default)]
pub(super) struct Header {
    pub(super) names: Vec<String>,
    pub(super) units: Vec<String>,
    pub(super) names_line: Option<usize>,
    pub(super) units_line: Option<usize>,
}

/// Units of time in names and rows of units.
const TIME_UNITS: [&str; 24] = [
    "s",
    "sec",
    "secs",
    "second",
    "seconds",
    "ms",
    "msec",
    "millisecond",
    "milliseconds",
    "us",
    "usec",
    "\u{b5}s",
    "\u{3bc}s",
    "microsecond",
    "microseconds",
    "ns",
    "nsec",
    "nanosecond",
    "nanoseconds",
    "min",
    "minutes",
    "hr",
    "h",
    "hours",
];

pub(super) fn is_known_unit(text: &str) -> bool {
    !matches!(Unit::parse(text), Unit::Unknown(_)) || TIME_UNITS.contains(&text.to_lowercase().as_str())
}

/// Whether a field of a row of units may be one.
pub(super) fn is_unit(text: &str) -> bool {
    const OTHERS: [&str; 33] = [
        "",
        "-",
        "no_units",
        "n/a",
        "none",
        "unitless",
        "local_flux",
        "kohms",
        "kohm",
        "ohms",
        "ohm",
        "bpm",
        "beats/min",
        "1/min",
        "hz",
        "%",
        "g",
        "mg",
        "m/(s^2)",
        "m/s^2",
        "m/s2",
        "deg/s",
        "dps",
        "\u{b0}c",
        "c",
        "degrees celsius",
        "celsius",
        "mmhg",
        "u",
        "counts",
        "adu",
        "nu",
        "lsb",
    ];
    is_known_unit(text)
        || OTHERS.contains(&text.to_lowercase().as_str())
        || text.to_lowercase().ends_with("siemens")
        || text.ends_with(['S', '\u{3a9}'])
        || ["hh:mm:ss", "yyyy", "mm:ss"].iter().any(|p| text.to_lowercase().starts_with(p))
}

/// Splits `ecg [mV]`, `ecg (mV)`, `ecg/mV` and `ecg_mV` into name and unit.
pub(super) fn name_and_unit(text: &str) -> (String, Option<String>) {
    let text = text.trim();
    for (open, close) in [('[', ']'), ('(', ')')] {
        let split = text.strip_suffix(close).and_then(|t| t.rsplit_once(open));
        if let Some((name, unit)) = split.filter(|(name, _)| !name.trim().is_empty()) {
            return (name.trim().into(), Some(unit.trim().into()));
        }
    }
    for mark in ['_', '/'] {
        if let Some((name, unit)) = text.rsplit_once(mark) {
            // "lead_v" and "lead_V" are a lead's name more often than volts.
            let known = is_known_unit(unit) && !["v", "h", "au"].contains(&unit.to_lowercase().as_str());
            if known && !name.trim().is_empty() {
                return (name.trim().into(), Some(unit.into()));
            }
        }
    }
    (text.into(), None)
}
