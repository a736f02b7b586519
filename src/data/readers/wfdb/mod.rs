//! WFDB records, the format of PhysioNet: a text header `.hea`, signal files, annotations `.atr`
//! (<https://physionet.org/physiotools/wag/header-5.htm>, `signal-5.htm`, `annot-5.htm`).
//!
//! Written by hand, although there is a crate. `wfdb` 0.1.6 seeks and refills its buffer for every single sample of an
//! interleaved file, takes a frame of an odd number of 12-bit signals to fill whole bytes (format 212 packs across
//! frames), follows `../` in the header's file names, and reads neither checksums nor annotations.
//!
//! * **Formats** 8, 16, 24, 32, 61, 80, 160, 212, 310, 311 and, as FLAC, 508, 516 and 524; several samples per frame,
//!   several signals in a file and several files. A MATLAB v4 file described as `16+24` (CinC challenges) is format 16
//!   after 24 bytes.
//! * **Values**: physical = (digital - baseline) / gain. The most negative value of a format marks a missing sample, which
//!   becomes NaN; format 8 has none.
//! * **Skew**: a signal that is late in the file is moved back; its end is then missing.
//! * **Checksums**: one that differs is a warning: 22 of the 620 in the ECG-ID database are wrong although the files are
//!   intact.
//! * **Segments**: fixed and variable layout, put together on one even time axis.
//! * **Annotations**: of the files beside the header the first of `.atr`, `.ecg`, `.qrs`, `.ari`, `.man`, as `symbol` or
//!   `symbol text`; [`annotations`] gives all that such a file holds.
//! * **Memory**: 8 bytes per sample, so at most 8 times the signal files; with segments at most 128 times. FLAC takes 12
//!   bytes per sample, and may unfold to 1024 samples per byte.

use std::path::{Path, PathBuf};

use super::{ReadOptions, Reader, read_whole, stem};
use crate::data::recording::{Annotation, Channel, Recording};
use crate::error::{Error, Result};

pub mod annotations;
mod flac;
mod format;
mod header;
mod segments;
mod signals;

use header::{Body, Header};

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
        let header = read_header(&hea)?;
        read_record(&header, &hea, options).map_err(|e| e.in_file(&hea))
    }
}

/// Extensions under which beat annotations are found, the most trusted first: `.atr` is checked by people.
const ANNOTATORS: [&str; 5] = ["atr", "ecg", "qrs", "ari", "man"];

/// What a record consists of before it becomes a [`Recording`].
#[derive(Default)]
struct Parts {
    channels: Vec<Channel>,
    files: Vec<PathBuf>,
    warnings: Vec<String>,
}

fn read_header(hea: &Path) -> Result<Header> {
    let text: String = read_whole(hea)?.iter().map(|b| char::from(*b)).collect();
    header::parse(&text, &stem(hea)).map_err(|e| e.in_file(hea))
}

fn read_record(header: &Header, hea: &Path, options: &ReadOptions) -> Result<Recording> {
    let mut parts = match &header.body {
        Body::Segments { signals, list } => segments::read(header, *signals, list, hea, options)?,
        Body::Signals(list) => of_signals(header, list, hea, options)?,
    };
    if options.only.is_some() || options.fs_hz.is_some() {
        for channel in &mut parts.channels {
            // The channel's own rate, which several samples in a frame multiply.
            channel.fs_hz = options.rate_near(channel.fs_hz)?;
        }
    }
    if parts.channels.is_empty() {
        return Err(Error::data("the record holds no readable signal"));
    }
    let mut annotations = Vec::new();
    if let Some(path) = ANNOTATORS.iter().map(|e| hea.with_extension(e)).find(|p| p.is_file()) {
        let read = annotations::parse(&read_whole(&path)?, header.fs_hz);
        parts.files.push(path);
        parts.warnings.extend(read.warnings);
        annotations = read.list.iter().map(|a| in_seconds(a, read.fs_hz)).collect();
    }
    let mut files = vec![hea.to_path_buf()];
    files.extend(parts.files);
    Ok(Recording {
        path: hea.into(),
        files,
        subject: None,
        record: if header.record.is_empty() { stem(hea) } else { header.record.clone() },
        channels: parts.channels,
        start: header.start.clone(),
        annotations,
        warnings: parts.warnings,
        ..Recording::default()
    })
}

/// The signals of a record of one segment.
fn of_signals(header: &Header, list: &[header::Signal], hea: &Path, options: &ReadOptions) -> Result<Parts> {
    if options.only.is_none() {
        let decoded = signals::decode(list, |_| true, header.samples, header.fs_hz, hea, options)?;
        let channels = decoded.channels.into_iter().map(|(_, c)| c).collect();
        return Ok(Parts { channels, files: decoded.files, warnings: decoded.warnings });
    }
    let labels: Vec<&str> = list.iter().map(|s| s.label.as_str()).collect();
    let mut doubts = Vec::new();
    let mut read: Vec<(String, Vec<PathBuf>, Vec<String>)> = Vec::new();
    let channels = options.choose(&labels, &mut doubts, |i| {
        let decoded = signals::decode(list, |m| m == i, header.samples, header.fs_hz, hea, options)?;
        let channel = decoded.channels.into_iter().next().map(|(_, c)| c);
        let channel = channel.ok_or_else(|| Error::data("the record holds no readable signal"))?;
        read.push((channel.label.clone(), decoded.files, decoded.warnings));
        Ok(channel)
    })?;
    // Only what was met in the channel that is taken concerns it.
    let own = read.into_iter().find(|r| channels.first().is_some_and(|c| c.label == r.0));
    let (_, files, mut warnings) = own.unwrap_or_default();
    warnings.extend(doubts);
    Ok(Parts { channels, files, warnings })
}

fn in_seconds(a: &annotations::WfdbAnnotation, fs_hz: f64) -> Annotation {
    let text = if a.aux.is_empty() { a.symbol.clone() } else { format!("{} {}", a.symbol, a.aux) };
    Annotation { time_s: a.sample as f64 / fs_hz, text }
}
