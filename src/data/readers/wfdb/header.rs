//! The text header `.hea` (`header-5.htm` of the WFDB Applications Guide).

use super::format::Format;
use crate::data::readers::MAX_FS_HZ;
use crate::error::{Error, Result};

/// Sampling rate when the header gives none, by the format's rule.
const DEFAULT_FS_HZ: f64 = 250.0;
/// Gain when the header gives none or 0, in digital units per mV.
const DEFAULT_GAIN: f64 = 200.0;
/// More signals than any recording has.
const MAX_SIGNALS: usize = 4096;
/// More segments than any recording has; MIMIC's longest have some thousands.
const MAX_SEGMENTS: usize = 1 << 20;

/// A header.
pub(super) struct Header {
    pub(super) record: String,
    pub(super) fs_hz: f64,
    /// Frames in the record, if the header says.
    pub(super) samples: Option<usize>,
    pub(super) start: Option<String>,
    pub(super) body: Body,
}

/// What a header describes.
pub(super) enum Body {
    /// Signals of one record.
    Signals(Vec<Signal>),
    /// A record of several segments, each with a header of its own.
    Segments {
        /// Number of signals.
        signals: usize,
        /// The segments in order.
        list: Vec<Segment>,
    },
}

/// One line of a multi-segment header.
pub(super) struct Segment {
    /// Record name, or `~` for a stretch in which nothing was recorded.
    pub(super) name: String,
    /// Frames; 0 for the layout segment of a variable-layout record, which comes first.
    pub(super) frames: usize,
}

/// One signal's line.
#[derive(Clone)]
pub(super) struct Signal {
    pub(super) file: String,
    pub(super) format: Format,
    pub(super) per_frame: usize,
    pub(super) skew: usize,
    pub(super) byte_offset: usize,
    pub(super) gain: f64,
    pub(super) baseline: f64,
    pub(super) unit: String,
    pub(super) initial: i32,
    pub(super) checksum: Option<i64>,
    pub(super) label: String,
}

/// Parses a header whose file is called `stem`.hea.
pub(super) fn parse(text: &str, stem: &str) -> Result<Header> {
    // Comments and blank lines may stand anywhere, even between signal lines.
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(n, l)| (n + 1, l.trim()))
        .filter(|(_, l)| !l.is_empty() && !l.starts_with('#'));
    let (number, line) = lines.next().ok_or_else(|| Error::format("the header holds no record line"))?;
    let bad = |what: String| Error::format(what).at(format!("line {number}"));
    let mut words = line.split_whitespace();
    let record = words.next().unwrap_or("");
    // PTB-XL+ names its records with the folder that they came from, in which the last part is the file's own name.
    let last = record.rsplit(['/', '\\']).next().unwrap_or("");
    // `stem/x` is a record of segments whose number is wrong.
    let of_segments = record.split('/').next() == Some(stem) || last.bytes().all(|b| b.is_ascii_digit());
    let is_path = last.len() < record.len() && (last == stem || !of_segments);
    let record = if is_path { last } else { record }.to_string();
    let count = words.next().and_then(|w| w.parse::<usize>().ok()).filter(|c| *c <= MAX_SIGNALS);
    let count = count.ok_or_else(|| bad("the second field is no number of signals".into()))?;
    if count == 0 {
        return Err(Error::data("the record holds annotations only, no signal").at(format!("line {number}")));
    }
    let fs_hz = match words.next() {
        // rate[/counter frequency[(base counter)]]
        Some(word) => match word.split(['/', '(']).next().unwrap_or("").parse::<f64>() {
            Ok(fs) if fs > 0.0 && fs <= MAX_FS_HZ => fs,
            _ => return Err(bad(format!("'{}' is no sampling rate", word.escape_default()))),
        },
        None => DEFAULT_FS_HZ,
    };
    let samples = match words.next() {
        Some(word) => {
            let n = word.parse::<usize>();
            n.map(|n| (n > 0).then_some(n))
                .map_err(|_| bad(format!("'{}' is no number of samples", word.escape_default())))?
        }
        None => None,
    };
    // Time and date; CinC 2017 writes them in the wrong order, so they are kept as they stand.
    let start = words.collect::<Vec<_>>().join(" ");
    let start = (!start.is_empty()).then_some(start);
    if let Some((name, segments)) = record.split_once('/') {
        let segments = segments.parse::<usize>().ok().filter(|n| (1..=MAX_SEGMENTS).contains(n));
        let segments = segments.ok_or_else(|| bad("no number of segments after the '/'".into()))?;
        let mut list = Vec::new();
        for _ in 0..segments {
            let (number, line) = lines.next().ok_or_else(|| {
                Error::format(format!("{segments} segments announced, {} described", list.len()))
            })?;
            list.push(parse_segment(line, list.is_empty()).map_err(|e| e.at(format!("line {number}")))?);
        }
        let body = Body::Segments { signals: count, list };
        return Ok(Header { record: name.to_string(), fs_hz, samples, start, body });
    }
    let mut signals = Vec::new();
    for _ in 0..count {
        let (number, line) = lines.next().ok_or_else(|| {
            Error::format(format!("{count} signals announced, {} described", signals.len()))
        })?;
        signals.push(parse_signal(line).map_err(|e| e.at(format!("line {number}")))?);
    }
    Ok(Header { record, fs_hz, samples, start, body: Body::Signals(signals) })
}

fn parse_segment(line: &str, first: bool) -> Result<Segment> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or("").to_string();
    let frames = words.next().and_then(|w| w.parse::<usize>().ok());
    let frames = frames.filter(|n| *n > 0 || first).ok_or_else(|| {
        Error::format(format!("segment '{}' has no number of samples", name.escape_default()))
    })?;
    Ok(Segment { name, frames })
}

fn parse_signal(line: &str) -> Result<Signal> {
    let mut rest = line;
    let mut next = || {
        let trimmed = rest.trim_start();
        let (word, tail) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        rest = tail;
        (!word.is_empty()).then_some(word)
    };
    let bad = |what: &str, word: &str| Error::format(format!("'{}' is no {what}", word.escape_default()));
    let file = next().unwrap_or("").to_string();
    // format[xSAMPLES][:SKEW][+OFFSET]
    let code = next().ok_or_else(|| Error::format("a signal line without a format"))?;
    let split = code.find(|c: char| !c.is_ascii_digit()).unwrap_or(code.len());
    let format = Format::parse(&code[..split]).ok_or_else(|| unknown_format(&code[..split]))?;
    let (mut per_frame, mut skew, mut byte_offset) = (1, 0, 0);
    let mut tail = &code[split..];
    while let Some(mark) = tail.chars().next() {
        let digits = &tail[mark.len_utf8()..];
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let value: usize = digits[..end].parse().map_err(|_| bad("signal format", code))?;
        match mark {
            'x' if (1..=10_000).contains(&value) => per_frame = value,
            ':' => skew = value,
            '+' => byte_offset = value,
            _ => return Err(bad("signal format", code)),
        }
        tail = &digits[end..];
    }
    // gain[(baseline)][/unit]
    let (mut gain, mut baseline, mut unit) = (DEFAULT_GAIN, None, "mV".to_string());
    if let Some(word) = next() {
        let (left, name) = word.split_once('/').map_or((word, None), |(l, u)| (l, Some(u)));
        let (number, base) = left.split_once('(').map_or((left, None), |(n, b)| (n, Some(b)));
        let value: f64 =
            number.parse().ok().filter(|v: &f64| v.is_finite()).ok_or_else(|| bad("gain", word))?;
        gain = if value == 0.0 { DEFAULT_GAIN } else { value };
        if let Some(base) = base {
            // Beyond 32 bits in some converted records; every whole number up to 2^53 is exact.
            let value = base.trim_end_matches(')').parse::<i64>();
            baseline = Some(value.map_err(|_| bad("baseline", word))? as f64);
        }
        if let Some(name) = name {
            unit = name.to_string();
        }
    }
    let _adc_resolution = next();
    let zero = match next() {
        Some(word) => word.parse::<i64>().map_err(|_| bad("ADC zero", word))?,
        None => 0,
    };
    let initial = match next() {
        Some(word) => word.parse::<i64>().map_err(|_| bad("initial value", word))?,
        None => zero,
    };
    // Only the differences of format 8 begin with it, and they wrap as the WFDB library's int does.
    let initial = initial as i32;
    let checksum = match next() {
        Some(word) => Some(word.parse::<i64>().map_err(|_| bad("checksum", word))?),
        None => None,
    };
    let _block_size = next();
    let label = rest.trim();
    let label = if label.is_empty() { file.clone() } else { label.to_string() };
    let baseline = baseline.unwrap_or(zero as f64);
    Ok(Signal { file, format, per_frame, skew, byte_offset, gain, baseline, unit, initial, checksum, label })
}

fn unknown_format(code: &str) -> Error {
    let known = "formats 8, 16, 24, 32, 61, 80, 160, 212, 310, 311, 508, 516 and 524 are read";
    Error::format(format!("signal format '{}' is not read", code.escape_default()))
        .remedy(format!("{known}; convert the record with the WFDB tools: xform"))
}
