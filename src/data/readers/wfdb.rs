//! WFDB records, the format of PhysioNet: a text header `.hea`, signal files, annotations `.atr`
//! (<https://physionet.org/physiotools/wag/header-5.htm>, `signal-5.htm`, `annot-5.htm`).
//!
//! Written by hand, although there is a crate. `wfdb` 0.1.6 seeks and refills its buffer for every single sample of an
//! interleaved file, takes a frame of an odd number of 12-bit signals to fill whole bytes (format 212 packs across
//! frames), follows `../` in the header's file names, and reads neither checksums nor annotations.
//!
//! Formats: 16, 61, 24, 32, 80, 160 and 212, with several samples per frame. physical = (digital - baseline) / gain. The
//! most negative value of a format marks a missing sample. A MATLAB v4 file described as `16+24` (CinC challenges) is
//! format 16 after 24 bytes. A checksum that differs is a warning: 22 of the 620 in the ECG-ID database are wrong
//! although the files are intact.

use std::collections::BTreeMap;
use std::path::Path;

use super::{MAX_FS_HZ, ReadOptions, Reader, read_whole, stem};
use crate::data::recording::{Annotation, Channel, Recording, Unit};
use crate::{Error, Result};

/// The WFDB reader. Opens the `.hea`, or the `.dat` or `.mat` beside one.
#[derive(Debug)]
pub struct Wfdb;

impl Reader for Wfdb {
    fn name(&self) -> &'static str {
        "WFDB"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["hea"]
    }
    fn sniff(&self, path: &Path, _head: &[u8]) -> bool {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        extension.eq_ignore_ascii_case("hea")
            || (["dat", "mat"].iter().any(|e| extension.eq_ignore_ascii_case(e))
                && path.with_extension("hea").is_file())
    }
    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Recording> {
        let hea = path.with_extension("hea");
        let text = read_whole(&hea)?;
        let text: String = text.iter().map(|b| char::from(*b)).collect();
        let header = parse_header(&text).map_err(|e| e.in_file(&hea))?;
        read_signals(&header, &hea, options).map_err(|e| e.in_file(&hea))
    }
}

/// Sampling rate when the header gives none, by the format's rule.
const DEFAULT_FS_HZ: f64 = 250.0;
/// Gain when the header gives none or 0, in digital units per mV.
const DEFAULT_GAIN: f64 = 200.0;
/// More signals than any recording has.
const MAX_SIGNALS: usize = 4096;

struct Header {
    record: String,
    fs_hz: f64,
    samples: Option<usize>,
    start: Option<String>,
    signals: Vec<Signal>,
}

#[derive(Clone)]
struct Signal {
    file: String,
    format: Format,
    per_frame: usize,
    skew: usize,
    byte_offset: usize,
    gain: f64,
    baseline: f64,
    unit: String,
    checksum: Option<i64>,
    label: String,
}

/// How samples are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    F16,
    F61,
    F24,
    F32,
    F80,
    F160,
    F212,
}

impl Format {
    fn parse(code: &str) -> Option<Self> {
        Some(match code {
            "16" => Format::F16,
            "61" => Format::F61,
            "24" => Format::F24,
            "32" => Format::F32,
            "80" => Format::F80,
            "160" => Format::F160,
            "212" => Format::F212,
            _ => return None,
        })
    }

    /// Whole samples in `bytes` bytes.
    fn samples_in(self, bytes: usize) -> usize {
        match self {
            Format::F16 | Format::F61 | Format::F160 => bytes / 2,
            Format::F24 => bytes / 3,
            Format::F32 => bytes / 4,
            Format::F80 => bytes,
            // Two samples in three bytes; a single last one takes two.
            Format::F212 => bytes / 3 * 2 + usize::from(bytes % 3 == 2),
        }
    }

    /// Sample `i` of the packed bytes, which hold it.
    fn sample(self, bytes: &[u8], i: usize) -> i32 {
        let at = |n: usize| i32::from(bytes[n]);
        match self {
            Format::F16 => i32::from(i16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])),
            Format::F61 => i32::from(i16::from_be_bytes([bytes[2 * i], bytes[2 * i + 1]])),
            Format::F160 => i32::from(u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])) - 32_768,
            Format::F24 => (at(3 * i) << 8 | at(3 * i + 1) << 16 | at(3 * i + 2) << 24) >> 8,
            Format::F32 => {
                i32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
            }
            Format::F80 => at(i) - 128,
            Format::F212 => {
                let pair = i / 2 * 3;
                let twelve = match i % 2 {
                    0 => at(pair) | (at(pair + 1) & 0x0f) << 8,
                    _ => at(pair + 2) | (at(pair + 1) & 0xf0) << 4,
                };
                // Sign of the twelfth bit.
                twelve << 20 >> 20
            }
        }
    }

    /// The value that marks a missing sample.
    fn missing(self) -> i32 {
        match self {
            Format::F16 | Format::F61 | Format::F160 => -32_768,
            Format::F24 => -(1 << 23),
            Format::F32 => i32::MIN,
            Format::F80 => -128,
            Format::F212 => -2048,
        }
    }
}

fn parse_header(text: &str) -> Result<Header> {
    // Comments and blank lines may stand anywhere, even between signal lines.
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(n, l)| (n + 1, l.trim()))
        .filter(|(_, l)| !l.is_empty() && !l.starts_with('#'));
    let (number, line) = lines.next().ok_or_else(|| Error::format("the header holds no record line"))?;
    let bad = |what: String| Error::format(what).at(format!("line {number}"));
    let mut words = line.split_whitespace();
    let record = words.next().unwrap_or("").to_string();
    if record.contains('/') {
        return Err(bad("multi-segment records are not read".into())
            .remedy("read each segment, or convert the record to a single segment (wfdb: xform)"));
    }
    let count = words.next().and_then(|w| w.parse::<usize>().ok()).filter(|c| (1..=MAX_SIGNALS).contains(c));
    let count = count.ok_or_else(|| bad("the second field is no number of signals".into()))?;
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
    let mut signals = Vec::new();
    for _ in 0..count {
        let (number, line) = lines.next().ok_or_else(|| {
            Error::format(format!("{count} signals announced, {} described", signals.len()))
        })?;
        signals.push(parse_signal(line).map_err(|e| e.at(format!("line {number}")))?);
    }
    Ok(Header { record, fs_hz, samples, start: (!start.is_empty()).then_some(start), signals })
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
    let format = Format::parse(&code[..split]).ok_or_else(|| {
        Error::format(format!("signal format '{}' is not read", code.escape_default()))
            .remedy("formats 16, 24, 32, 61, 80, 160 and 212 are; convert the record with wfdb's xform")
    })?;
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
            let value = base.trim_end_matches(')').parse::<i32>();
            baseline = Some(f64::from(value.map_err(|_| bad("baseline", word))?));
        }
        if let Some(name) = name {
            unit = name.to_string();
        }
    }
    let _adc_resolution = next();
    let zero = match next() {
        Some(word) => f64::from(word.parse::<i32>().map_err(|_| bad("ADC zero", word))?),
        None => 0.0,
    };
    let _initial_value = next();
    let checksum = match next() {
        Some(word) => Some(word.parse::<i64>().map_err(|_| bad("checksum", word))?),
        None => None,
    };
    let _block_size = next();
    let label = rest.trim();
    let label = if label.is_empty() { file.clone() } else { label.to_string() };
    let baseline = baseline.unwrap_or(zero);
    Ok(Signal { file, format, per_frame, skew, byte_offset, gain, baseline, unit, checksum, label })
}

fn read_signals(header: &Header, hea: &Path, options: &ReadOptions) -> Result<Recording> {
    let mut warnings = Vec::new();
    let labels: Vec<&str> = header.signals.iter().map(|s| s.label.as_str()).collect();
    let only = options.pick(&labels)?;
    options.agree_fs(header.fs_hz)?;
    // Signals of one file are interleaved frame by frame.
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, signal) in header.signals.iter().enumerate() {
        groups.entry(&signal.file).or_default().push(i);
    }
    let mut channels: Vec<(usize, Channel)> = Vec::new();
    let mut files = vec![hea.to_path_buf()];
    for (file, members) in groups {
        if only.is_some_and(|o| !members.contains(&o)) {
            continue;
        }
        // The header is not to be trusted with paths: a signal file lies beside it.
        if file.is_empty() || file == "-" || file.starts_with('.') || file.contains(['/', '\\', ':', '\0']) {
            if file == "~" {
                warnings.push("a signal without a file was left out".into());
                continue;
            }
            return Err(Error::format(format!("'{}' is no name of a signal file", file.escape_default()))
                .remedy("signal files must lie beside the header"));
        }
        let path = hea.with_file_name(file);
        let bytes = read_whole(&path)?;
        files.push(path.clone());
        let lead = &header.signals[members[0]];
        if members.iter().any(|m| header.signals[*m].format != lead.format) {
            return Err(Error::format(format!("signals of different formats share the file '{file}'")));
        }
        let bytes = bytes.get(lead.byte_offset..).ok_or_else(|| {
            Error::format(format!(
                "the samples begin at byte {}, the file has {}",
                lead.byte_offset,
                bytes.len()
            ))
            .in_file(&path)
        })?;
        let frame: usize = members.iter().map(|m| header.signals[*m].per_frame).sum();
        let present = lead.format.samples_in(bytes.len()) / frame;
        let frames = match header.samples {
            Some(claimed) if claimed > present => {
                warnings.push(format!(
                    "the header claims {claimed} samples, '{file}' holds {present}: it is cut off"
                ));
                present
            }
            Some(claimed) => {
                if present > claimed {
                    warnings.push(format!(
                        "'{file}' holds {present} samples, the header names {claimed}; the rest is ignored"
                    ));
                }
                claimed
            }
            None => present,
        };
        if frames == 0 {
            return Err(Error::data("the signal file holds no samples").in_file(&path));
        }
        let whole = header.samples.is_none_or(|claimed| claimed == frames);
        let mut offset = 0;
        for m in members {
            let signal = &header.signals[m];
            let start = offset;
            offset += signal.per_frame;
            if only.is_some_and(|o| o != m) {
                continue;
            }
            let mut sum = 0i64;
            let mut samples = Vec::with_capacity(frames * signal.per_frame);
            for f in 0..frames {
                for s in 0..signal.per_frame {
                    let digital = signal.format.sample(bytes, f * frame + start + s);
                    sum = sum.wrapping_add(i64::from(digital));
                    samples.push(if digital == signal.format.missing() {
                        f64::NAN
                    } else {
                        (f64::from(digital) - signal.baseline) / signal.gain
                    });
                }
            }
            // The checksum is the sum of the samples as a signed 16-bit number.
            if let Some(checksum) = signal.checksum.filter(|c| whole && *c as i16 != sum as i16) {
                warnings.push(format!(
                    "signal '{}': checksum {} where the header says {checksum}",
                    signal.label, sum as i16
                ));
            }
            if signal.skew > 0 {
                warnings.push(format!(
                    "signal '{}' is {} frames late, which is not corrected",
                    signal.label, signal.skew
                ));
            }
            let own = Unit::parse(&signal.unit);
            let unit =
                if matches!(own, Unit::Unknown(_)) { options.unit.clone().unwrap_or(own) } else { own };
            let fs_hz = header.fs_hz * signal.per_frame as f64;
            channels.push((m, Channel { label: signal.label.clone(), unit, fs_hz, samples }));
        }
    }
    if channels.is_empty() {
        return Err(Error::data("the record holds no readable signal"));
    }
    channels.sort_by_key(|(m, _)| *m);
    let annotations = match hea.with_extension("atr") {
        atr if atr.is_file() => parse_annotations(&read_whole(&atr)?, header.fs_hz, &mut warnings),
        _ => Vec::new(),
    };
    Ok(Recording {
        path: hea.into(),
        files,
        subject: None,
        record: if header.record.is_empty() { stem(hea) } else { header.record.clone() },
        channels: channels.into_iter().map(|(_, c)| c).collect(),
        start: header.start.clone(),
        annotations,
        warnings,
    })
}

/// Mnemonics of the annotation codes 1 to 41 (`ecgcodes.h` of the WFDB library); blank where none is defined.
const CODES: [&str; 42] = [
    "", "N", "L", "R", "a", "V", "F", "J", "A", "S", "E", "j", "/", "Q", "~", "", "|", "", "s", "T", "*",
    "D", "\"", "=", "p", "B", "^", "t", "+", "u", "?", "!", "[", "]", "e", "n", "@", "x", "f", "(", ")", "r",
];

/// The MIT annotation format: 16-bit little-endian words, code in the upper 6 bits, interval to the last in the lower 10.
fn parse_annotations(bytes: &[u8], fs_hz: f64, warnings: &mut Vec<String>) -> Vec<Annotation> {
    let mut out: Vec<Annotation> = Vec::new();
    let word = |i: usize| bytes.get(i..i + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let (mut i, mut sample) = (0usize, 0i64);
    let mut ended = false;
    while let Some(w) = word(i) {
        i += 2;
        let (code, interval) = (w >> 10, i64::from(w & 0x3ff));
        match code {
            _ if w == 0 => {
                ended = true;
                break;
            }
            // SKIP: a 32-bit interval follows, its high half first.
            59 => {
                let (Some(high), Some(low)) = (word(i), word(i + 2)) else { break };
                i += 4;
                sample = sample.saturating_add(i64::from((u32::from(high) << 16 | u32::from(low)) as i32));
            }
            // NUM, SUB, CHN: fields of the annotation before, of no use here.
            60..=62 => {}
            // AUX: text of this many bytes, padded to a whole word.
            63 => {
                let len = (w & 0x3ff) as usize;
                let Some(text) = bytes.get(i..i + len) else { break };
                i += len + len % 2;
                if let Some(last) = out.last_mut() {
                    let text: String = text.iter().filter(|b| **b != 0).map(|b| char::from(*b)).collect();
                    last.text.push(' ');
                    last.text.push_str(text.trim());
                }
            }
            _ => {
                sample = sample.saturating_add(interval);
                let text = match CODES.get(usize::from(code)).filter(|t| !t.is_empty()) {
                    Some(mnemonic) => (*mnemonic).to_string(),
                    None => format!("code {code}"),
                };
                out.push(Annotation { time_s: sample as f64 / fs_hz, text });
            }
        }
    }
    if !ended {
        warnings.push(format!("the annotation file is cut off after {} annotations", out.len()));
    }
    out
}
