//! EDF and EDF+ (European Data Format; Kemp et al. 1992, Kemp and Olivan 2003, <https://www.edfplus.info/specs/>), BDF and
//! BDF+ (BioSemi's form of it with 24-bit samples, <https://www.biosemi.com/faq/file_format.htm>).
//!
//! The header is 256 bytes, then 256 bytes per signal, all ASCII. Data follow in records; in each record every signal has
//! its own number of samples, little endian, 16 bits in EDF and 24 in BDF. With the limits of this file's header,
//!
//! ```text
//! physical = gain (digital + pmax / gain - dmax),   gain = (pmax - pmin) / (dmax - dmin)
//! ```
//!
//! in this order of operations, which is EDFlib's, so values equal pyedflib's to the last bit.
//!
//! Written by hand, although there are crates. `edf-rs` 0.2.0 panics on files that occur: a time-keeping annotation
//! written `+0`, 0x14, 0x00 (slice beyond the end), signals whose physical minimum is above the maximum (`clamp`), and a
//! header with no samples per record (division by zero); it reads annotations past the end of their record, clamps
//! samples to the header's range, and refuses files whose anonymised date is not a date. `edfplus` 0.1 panics on many
//! damaged headers.
//!
//! EDF+ specials, the same in BDF+: annotations are read, their times counted from the first sample (the first record may
//! begin a fraction of a second after the header's start); a discontinuous file (EDF+D) has its gaps filled with NaN so
//! that time stays even, as long as no more than three quarters of the result would be gap.
//!
//! Memory: 8 bytes per 16-bit sample and at most three times as much for gaps, so at most 20 times the file.

use std::path::Path;

use super::{MAX_FS_HZ, ReadOptions, Reader, read_whole, stem};
use crate::data::recording::{Annotation, Channel, Recording, Unit};
use crate::error::{Error, Result};

/// The EDF, EDF+, BDF and BDF+ reader.
#[derive(Debug)]
pub struct Edf;

impl Reader for Edf {
    fn name(&self) -> &'static str {
        "EDF"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["edf", "bdf", "rec"]
    }
    fn sniff(&self, _path: &Path, head: &[u8]) -> bool {
        head.len() >= 256 && Kind::of(head).is_some() && field(head, 184, 8).parse::<u32>().is_ok()
    }
    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Recording> {
        parse(&read_whole(path)?, path, options).map_err(|e| e.in_file(path))
    }
}

/// Most signals accepted; the format allows 9999.
const MAX_SIGNALS: usize = 9999;

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Edf,
    Bdf,
}

impl Kind {
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes.get(..8) {
            Some(b"0       ") => Some(Kind::Edf),
            Some(b"\xffBIOSEMI") => Some(Kind::Bdf),
            _ => None,
        }
    }

    /// Bytes of a sample.
    fn width(self) -> usize {
        match self {
            Kind::Edf => 2,
            Kind::Bdf => 3,
        }
    }

    /// Label of a signal that holds annotations.
    fn annotations(self) -> &'static str {
        match self {
            Kind::Edf => "EDF Annotations",
            Kind::Bdf => "BDF Annotations",
        }
    }

    /// Whether the header says that records may lie apart.
    fn discontinuous(self, reserved: &str) -> bool {
        reserved.starts_with(if self == Kind::Edf { "EDF+D" } else { "BDF+D" })
    }

    /// The samples in `bytes`.
    fn samples(self, bytes: &[u8]) -> impl Iterator<Item = i32> {
        bytes.chunks_exact(self.width()).map(move |b| match self {
            Kind::Edf => i32::from(i16::from_le_bytes([b[0], b[1]])),
            Kind::Bdf => i32::from_le_bytes([0, b[0], b[1], b[2]]) >> 8,
        })
    }
}

/// A text field of the header, trimmed. Bytes that are no ASCII are UTF-8 if they are valid, else their Latin-1 character.
fn field(bytes: &[u8], start: usize, len: usize) -> String {
    let raw = bytes.get(start..start.saturating_add(len)).unwrap_or(&[]);
    let text = match std::str::from_utf8(raw) {
        Ok(text) => text.to_string(),
        Err(_) => raw.iter().map(|b| char::from(*b)).collect(),
    };
    text.trim_matches([' ', '\0']).to_string()
}

/// A number in the header. EDF writes decimals with a point; some writers use a comma.
fn number(bytes: &[u8], start: usize, what: &str) -> Result<f64> {
    let text = field(bytes, start, 8);
    let value = text.replace(',', ".").parse::<f64>().ok().filter(|v| v.is_finite());
    value.map(|v| as_edflib(&text, v)).ok_or_else(|| {
        Error::format(format!("{what} is '{}', not a number", text.escape_default()))
            .at(format!("byte {start}"))
    })
}

/// EDFlib reads `22.46692` as 22 + 46692 / 100000, which may be the double beside the nearest one. Limits scale every
/// sample, so they are read alike; numbers in any other form are left as they are.
fn as_edflib(text: &str, value: f64) -> f64 {
    let unsigned = text.trim_start_matches(['+', '-']);
    let Some((whole, decimals)) = unsigned.split_once(['.', ',']) else { return value };
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.is_empty() {
        return value;
    }
    // The field has eight characters, so both are exact.
    let number = |t: &str| t.parse::<u32>().map_or(0.0, f64::from);
    let magnitude = number(whole) + number(decimals) / 10f64.powi(decimals.len() as i32);
    magnitude.copysign(value)
}

/// A whole number in the header.
fn integer(bytes: &[u8], start: usize, len: usize, what: &str) -> Result<i64> {
    let text = field(bytes, start, len);
    text.parse::<i64>().map_err(|_| {
        Error::format(format!("{what} is '{}', not a whole number", text.escape_default()))
            .at(format!("byte {start}"))
    })
}

/// One signal's header and where its samples lie in a record.
struct Signal {
    label: String,
    unit: String,
    per_record: usize,
    /// Offset in samples from the start of the record.
    offset: usize,
    scale: std::result::Result<(f64, f64), String>,
}

/// The fixed part of the header and the signals' own.
struct Header {
    kind: Kind,
    len: usize,
    /// Records that the header claims; negative while recording.
    claimed: i64,
    duration_s: f64,
    reserved: String,
    signals: Vec<Signal>,
    record_bytes: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < 256 {
            return Err(Error::format(format!("{} bytes are less than an EDF header (256)", bytes.len())));
        }
        let kind = Kind::of(bytes).ok_or_else(|| {
            Error::format("neither EDF (it does not begin with '0') nor BDF (255, 'BIOSEMI')").at("byte 0")
        })?;
        let count = integer(bytes, 252, 4, "the number of signals")?;
        if count == 0 {
            return Err(Error::data("the file has no signals").at("byte 252"));
        }
        let count = usize::try_from(count).ok().filter(|c| (1..=MAX_SIGNALS).contains(c));
        let count =
            count.ok_or_else(|| Error::format("the number of signals is not in 1..9999").at("byte 252"))?;
        let len = 256 * (count + 1);
        if bytes.len() < len {
            return Err(Error::format(format!(
                "{count} signals need a header of {len} bytes, the file has {}",
                bytes.len()
            ))
            .at("byte 252")
            .remedy("the file is cut off or damaged"));
        }
        let claimed = integer(bytes, 184, 8, "the header's length")?;
        if claimed != len as i64 {
            return Err(Error::format(format!(
                "the header claims {claimed} bytes, {count} signals make {len}"
            ))
            .at("byte 184"));
        }
        let signals = read_signals(bytes, count)?;
        let record_samples = signals.iter().try_fold(0usize, |a, s| a.checked_add(s.per_record));
        let record_bytes = record_samples.and_then(|n| n.checked_mul(kind.width())).filter(|n| *n > 0);
        Ok(Self {
            kind,
            len,
            claimed: integer(bytes, 236, 8, "the number of records")?,
            duration_s: number(bytes, 244, "the duration of a record")?,
            reserved: field(bytes, 192, 44),
            signals,
            record_bytes: record_bytes.ok_or_else(|| Error::format("a record holds no samples"))?,
        })
    }

    /// The signals that are no annotations.
    fn recorded(&self) -> Vec<&Signal> {
        self.signals.iter().filter(|s| s.label != self.kind.annotations()).collect()
    }

    /// The whole records in `data`, whatever the header claims: its number is wrong in files that were not closed
    /// properly (0, -1, or the number at the last save). MNE goes by the size of the file as well.
    fn records<'a>(&self, data: &'a [u8], warnings: &mut Vec<String>) -> Result<&'a [u8]> {
        let present = data.len() / self.record_bytes;
        if present == 0 {
            return Err(Error::data("the file holds no whole record").at(format!("byte {}", self.len)));
        }
        let seconds = |records: usize| records as f64 * self.duration_s;
        match usize::try_from(self.claimed) {
            Ok(claimed) if present < claimed => warnings.push(format!(
                "the header claims {claimed} records, the file holds {present}: it is cut off"
            )),
            Ok(claimed) if present > claimed => warnings.push(format!(
                "the header claims {claimed} records ({} s), the file holds {present} ({} s): all are read",
                seconds(claimed),
                seconds(present)
            )),
            Ok(_) => {}
            // -1 stands for "still recording".
            Err(_) => warnings
                .push(format!("the header does not say how many records there are; {present} are read")),
        }
        let left = data.len() - present * self.record_bytes;
        if left > 0 {
            warnings.push(format!("{left} bytes after the last whole record were ignored"));
        }
        Ok(&data[..present * self.record_bytes])
    }

    /// The samples of `signal`, NaN in gaps.
    fn channel(
        &self,
        signal: &Signal,
        data: &[u8],
        gaps: &[(usize, f64)],
        options: &ReadOptions,
    ) -> Result<Channel> {
        let named = |why: String| Error::format(format!("signal '{}': {why}", signal.label));
        let (gain, offset) = signal.scale.clone().map_err(named)?;
        let fs_hz = signal.per_record as f64 / self.duration_s;
        if !(fs_hz > 0.0 && fs_hz <= MAX_FS_HZ) {
            return Err(named(format!("its rate is {fs_hz} Hz")));
        }
        let records = data.len() / self.record_bytes;
        let mut samples = Vec::with_capacity(records * signal.per_record);
        let mut due = gaps.iter().peekable();
        for (r, record) in data.chunks_exact(self.record_bytes).enumerate() {
            if let Some((_, start_s)) = due.next_if(|(at, _)| *at == r) {
                // From the first sample, so that roundings do not add up.
                let start = (start_s * fs_hz).round() as usize;
                samples.resize(start.max(samples.len()), f64::NAN);
            }
            let digital = self.kind.samples(signal.bytes(record, self.kind));
            samples.extend(digital.map(|d| gain * (offset + f64::from(d))));
        }
        let own = Unit::parse(&signal.unit);
        let unit = if matches!(own, Unit::Unknown(_)) { options.unit.clone().unwrap_or(own) } else { own };
        Ok(Channel { label: signal.label.clone(), unit, fs_hz, samples })
    }
}

fn parse(bytes: &[u8], path: &Path, options: &ReadOptions) -> Result<Recording> {
    let header = Header::parse(bytes)?;
    let recorded = header.recorded();
    if recorded.is_empty() {
        return Err(Error::data("the file holds annotations only, no signal")
            .remedy("give the file with the signals; a hypnogram lies beside its recording"));
    }
    if header.duration_s <= 0.0 {
        return Err(Error::format(format!("a record lasts {} s", header.duration_s)).at("byte 244"));
    }
    let mut warnings = Vec::new();
    let data = header.records(&bytes[header.len..], &mut warnings)?;
    let records = data.len() / header.record_bytes;
    let (annotations, onsets) =
        read_annotations(header.kind, data, header.record_bytes, &header.signals, &mut warnings);
    let gaps = if header.kind.discontinuous(&header.reserved) {
        gap_records(&onsets, header.duration_s, records, &mut warnings)?
    } else {
        Vec::new()
    };
    let channels = match options.only {
        None => {
            let mut out = Vec::new();
            for signal in recorded {
                match header.channel(signal, data, &gaps, options) {
                    Ok(channel) => out.push(channel),
                    Err(e) => warnings.push(format!("{} is left out", e.what())),
                }
            }
            out
        }
        Some(_) => {
            let labels: Vec<&str> = recorded.iter().map(|s| s.label.as_str()).collect();
            let mut channels = options
                .choose(&labels, &mut warnings, |i| header.channel(recorded[i], data, &gaps, options))?;
            for channel in &mut channels {
                channel.fs_hz = options.rate_near(channel.fs_hz)?;
            }
            channels
        }
    };
    if channels.is_empty() {
        return Err(Error::data("the file holds no usable signal").remedy(warnings.join("; ")));
    }
    let patient = field(bytes, 8, 80);
    // EDF+ gives "code sex birthdate name"; plain EDF gives free text. X stands for "not known".
    let subject = match ["EDF+", "BDF+"].iter().any(|p| header.reserved.starts_with(p)) {
        true => patient.split(' ').next().map(str::to_string),
        false => Some(patient),
    };
    Ok(Recording {
        path: path.into(),
        files: vec![path.into()],
        subject: subject.filter(|s| !s.is_empty() && s != "X"),
        record: stem(path),
        channels,
        start: start_time(bytes),
        annotations,
        warnings,
        ..Recording::default()
    })
}

fn read_signals(bytes: &[u8], count: usize) -> Result<Vec<Signal>> {
    // The header holds all labels, then all transducers, and so on: a table stored by columns.
    let at = |column: usize, width: usize, i: usize| 256 + column * count + width * i;
    let mut signals = Vec::with_capacity(count);
    let mut offset = 0usize;
    for i in 0..count {
        let label = field(bytes, at(0, 16, i), 16);
        let per_record =
            integer(bytes, at(216, 8, i), 8, &format!("the number of samples of signal '{label}'"))?;
        let per_record = usize::try_from(per_record).map_err(|_| {
            Error::format(format!("signal '{label}' has {per_record} samples per record"))
                .at(format!("byte {}", at(216, 8, i)))
        })?;
        let scale = scale_of(bytes, [at(104, 8, i), at(112, 8, i), at(120, 8, i), at(128, 8, i)]);
        let unit = field(bytes, at(96, 8, i), 8);
        signals.push(Signal { label, unit, per_record, offset, scale: scale.map_err(|e| e.to_string()) });
        offset = offset.checked_add(per_record).ok_or_else(|| Error::format("records too long"))?;
    }
    Ok(signals)
}

impl Signal {
    /// Its bytes in a record.
    fn bytes<'a>(&self, record: &'a [u8], kind: Kind) -> &'a [u8] {
        &record[kind.width() * self.offset..kind.width() * (self.offset + self.per_record)]
    }
}

/// (gain, offset) with physical = gain (offset + digital). `at` holds the places of physical and digital limits.
fn scale_of(bytes: &[u8], at: [usize; 4]) -> Result<(f64, f64)> {
    let pmin = number(bytes, at[0], "the physical minimum")?;
    let pmax = number(bytes, at[1], "the physical maximum")?;
    let dmin = number(bytes, at[2], "the digital minimum")?;
    let dmax = number(bytes, at[3], "the digital maximum")?;
    let gain = (pmax - pmin) / (dmax - dmin);
    if !gain.is_finite() || gain == 0.0 {
        return Err(Error::format(format!(
            "physical limits {pmin}..{pmax} and digital limits {dmin}..{dmax} give no scale"
        )));
    }
    Ok((gain, pmax / gain - dmax))
}

/// All annotations, and the onset of each record where its time-keeping annotation gives one.
fn read_annotations(
    kind: Kind,
    data: &[u8],
    record_bytes: usize,
    signals: &[Signal],
    warnings: &mut Vec<String>,
) -> (Vec<Annotation>, Vec<Option<f64>>) {
    let mut out = Vec::new();
    let mut onsets = Vec::new();
    let mut bad = 0usize;
    for record in data.chunks_exact(record_bytes) {
        let mut record_onset = None;
        for signal in signals.iter().filter(|s| s.label == kind.annotations()) {
            let own = signal.bytes(record, kind);
            // Lists end with a zero byte; each is onset [0x15 duration] 0x14 text 0x14 text 0x14 ...
            for list in own.split(|b| *b == 0).filter(|l| !l.is_empty()) {
                let mut parts = list.split(|b| *b == 0x14);
                let head = parts.next().unwrap_or(&[]);
                let onset = head.split(|b| *b == 0x15).next().unwrap_or(&[]);
                let onset = std::str::from_utf8(onset).ok().and_then(|t| t.parse::<f64>().ok());
                let Some(time_s) = onset.filter(|t| t.is_finite()) else {
                    bad += 1;
                    continue;
                };
                record_onset = record_onset.or(Some(time_s));
                for text in parts.filter(|t| !t.is_empty()) {
                    out.push(Annotation { time_s, text: String::from_utf8_lossy(text).into_owned() });
                }
            }
        }
        onsets.push(record_onset);
    }
    // The file starts with its first record, which may be a fraction of a second after the header's whole second.
    let first_s = onsets.first().copied().flatten().unwrap_or(0.0);
    out.iter_mut().for_each(|a: &mut Annotation| a.time_s -= first_s);
    if bad > 0 {
        warnings.push(format!("{bad} annotations without a readable onset were ignored"));
    }
    (out, onsets)
}

/// (record, seconds from the first sample to its own) for each record of a discontinuous file that follows a gap.
fn gap_records(
    onsets: &[Option<f64>],
    duration_s: f64,
    records: usize,
    warnings: &mut Vec<String>,
) -> Result<Vec<(usize, f64)>> {
    let mut gaps = Vec::new();
    let mut total = 0.0;
    for (r, pair) in onsets.windows(2).enumerate() {
        let (Some(a), Some(b)) = (pair[0], pair[1]) else {
            return Err(Error::format("a discontinuous EDF+ file without the time of each record")
                .at(format!("record {}", r + 1)));
        };
        let gap_s = b - a - duration_s;
        if gap_s < -0.5 * duration_s {
            return Err(Error::data(format!("record {} begins before record {r} ends", r + 1)));
        }
        if gap_s > 1e-3 * duration_s {
            gaps.push((r + 1, b - onsets[0].unwrap_or(0.0)));
            total += gap_s;
        }
    }
    if total > 3.0 * duration_s * records as f64 {
        return Err(Error::data(format!(
            "gaps of {total} s between records that hold {} s",
            duration_s * records as f64
        ))
        .remedy("cut the file at its gaps"));
    }
    if !gaps.is_empty() {
        warnings.push(format!("{} gaps of {total} s in all were filled with missing samples", gaps.len()));
    }
    Ok(gaps)
}

/// "dd.mm.yy hh.mm.ss" as "yyyy-mm-ddThh:mm:ss"; years 85 to 99 are 19xx. None for anonymised or odd fields.
fn start_time(bytes: &[u8]) -> Option<String> {
    let triple = |start: usize| -> Option<[u32; 3]> {
        let text = field(bytes, start, 8);
        let mut parts = text.split('.').map(|p| p.parse::<u32>().ok());
        Some([parts.next()??, parts.next()??, parts.next()??])
    };
    let ([day, month, year], [hour, minute, second]) = (triple(168)?, triple(176)?);
    let fits = (1..=31).contains(&day) && (1..=12).contains(&month) && year < 100;
    let fits = fits && hour < 24 && minute < 60 && second < 60;
    let year = if year >= 85 { 1900 + year } else { 2000 + year };
    fits.then(|| format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"))
}
