//! The header of OpenSignals text files (PLUX biosignalsplux, BITalino): comment lines, one of which holds JSON.
//!
//! ```text
//! # OpenSignals Text File Format. Version 1
//! # {"00:07:80:...": {"sampling rate": 1000, "column": ["nSeq", "DI", "CH1"], "label": ["CH1"], "sensor": ["ECG"], ...}}
//! # EndOfHeader
//! 0 <tab> 1 <tab> 32768 <tab>
//! ```
//!
//! Columns of several devices stand side by side, in the order of `position`. The samples are the converter's raw counts:
//! how many millivolts one is depends on sensor and device and is not in the file, so the unit stays unknown and the user
//! is asked. `nSeq` numbers the samples and starts again at some power of two; a jump means lost samples and is a warning.

use serde_json::Value;

use super::MAX_FS_HZ;
use crate::error::{Error, Result};

/// What the header says.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    /// Labels of the columns: the sensor before the channel's name, where there is one.
    pub(super) columns: Vec<String>,
    /// Sampling rate, in Hz.
    pub(super) fs_hz: f64,
    /// Date and time of the first sample, as written.
    pub(super) start: Option<String>,
}

/// Whether a file begins as these do.
pub(super) fn begins(text: &str) -> bool {
    text.starts_with("# OpenSignals Text File Format")
}

/// Reads the comment lines at the head of `text`; None for another kind of file.
pub(super) fn header(text: &str) -> Result<Option<Header>> {
    if !begins(text) {
        return Ok(None);
    }
    let comments = text.lines().enumerate().take_while(|(_, l)| l.starts_with('#'));
    let mut json = comments.map(|(n, l)| (n + 1, l[1..].trim())).filter(|(_, l)| l.starts_with('{'));
    let (line, json) = json.next().ok_or_else(|| Error::format("an OpenSignals file without its header"))?;
    let place = |e: Error| e.at(format!("line {line}"));
    let bad = |what: &str| place(Error::format(format!("the OpenSignals header {what}")));
    let value: Value = serde_json::from_str(json).map_err(|e| bad(&format!("is no JSON: {e}")))?;
    let devices = value.as_object().filter(|d| !d.is_empty()).ok_or_else(|| bad("names no device"))?;
    let mut devices: Vec<&Value> = devices.values().collect();
    devices.sort_by_key(|d| d["position"].as_u64().unwrap_or(0));
    let mut columns = Vec::new();
    let mut fs_hz = None;
    for device in &devices {
        let rate = device["sampling rate"].as_f64().filter(|fs| *fs > 0.0 && *fs <= MAX_FS_HZ);
        let rate = rate.ok_or_else(|| bad("gives no sampling rate"))?;
        if fs_hz.is_some_and(|fs| fs != rate) {
            return Err(bad("gives its devices different sampling rates")
                .remedy("save the devices in files of their own"));
        }
        fs_hz = Some(rate);
        let names = |key: &str| -> Vec<String> {
            let list = device[key].as_array().map(Vec::as_slice).unwrap_or(&[]);
            list.iter().map(|v| v.as_str().unwrap_or("").to_string()).collect()
        };
        let (labels, sensors) = (names("label"), names("sensor"));
        let own = names("column");
        if own.is_empty() {
            return Err(bad("names no columns"));
        }
        columns.extend(own.into_iter().map(|name| {
            let sensor = labels.iter().position(|l| *l == name).and_then(|i| sensors.get(i));
            match sensor.filter(|s| !s.is_empty()) {
                Some(sensor) => format!("{sensor} {name}"),
                None => name,
            }
        }));
    }
    let text_of = |key: &str| devices[0][key].as_str().unwrap_or("").to_string();
    let start = [text_of("date"), text_of("time")].join(" ").trim().to_string();
    Ok(Some(Header { columns, fs_hz: fs_hz.unwrap_or(0.0), start: (!start.is_empty()).then_some(start) }))
}

/// How often the numbering of the samples neither goes on by one nor starts again.
pub(super) fn jumps(sequence: &[f64]) -> usize {
    sequence.windows(2).filter(|w| w[1] != w[0] + 1.0 && w[1] != 0.0).count()
}

/// Whether `label` is the numbering's.
pub(super) fn is_sequence(label: &str) -> bool {
    label.eq_ignore_ascii_case("nSeq")
}
