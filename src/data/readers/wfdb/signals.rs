//! The signal files of one segment: frames of interleaved samples to physical values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::flac;
use super::format::{Format, ReadAll};
use super::header::Signal;
use crate::data::readers::{ReadOptions, read_whole};
use crate::data::recording::{Channel, Unit};
use crate::error::{Error, Result};

/// The channels of one segment, each with its place in the header.
pub(super) struct Decoded {
    pub(super) channels: Vec<(usize, Channel)>,
    pub(super) files: Vec<PathBuf>,
    pub(super) warnings: Vec<String>,
}

/// Whether `name` may be the name of a file beside the header. A header is not to be trusted with paths.
pub(super) fn is_plain_name(name: &str) -> bool {
    !(name.is_empty() || name == "-" || name.starts_with('.') || name.contains(['/', '\\', ':', '\0']))
}

/// Reads the signals of the header at `hea`: those that `wanted` names, or all. `claimed` is the header's number of
/// frames.
pub(super) fn decode(
    signals: &[Signal],
    wanted: impl Fn(usize) -> bool,
    claimed: Option<usize>,
    fs_hz: f64,
    hea: &Path,
    options: &ReadOptions,
) -> Result<Decoded> {
    // Signals of one file are interleaved frame by frame.
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, signal) in signals.iter().enumerate() {
        groups.entry(&signal.file).or_default().push(i);
    }
    let mut out = Decoded { channels: Vec::new(), files: Vec::new(), warnings: Vec::new() };
    for (file, members) in groups {
        if !members.iter().any(|m| wanted(*m)) {
            continue;
        }
        if file == "~" {
            out.warnings.push("a signal without a file was left out".into());
            continue;
        }
        // Whatever folder a header names, only its own is looked into (PTB-XL+ names the one its files came from).
        let plain = file.rsplit(['/', '\\']).next().unwrap_or("");
        if !is_plain_name(plain) {
            return Err(Error::format(format!("'{}' is no name of a signal file", file.escape_default()))
                .remedy("signal files must lie beside the header"));
        }
        let path = hea.with_file_name(plain);
        if plain != file && !path.is_file() {
            return Err(Error::format(format!(
                "the header names '{}', and there is no '{plain}' beside it",
                file.escape_default()
            ))
            .remedy("put the signal file beside the header: nothing outside its folder is opened"));
        }
        let bytes = read_whole(&path)?;
        out.files.push(path.clone());
        let lead = &signals[members[0]];
        if members.iter().any(|m| signals[*m].format != lead.format) {
            return Err(Error::format(format!("signals of different formats share the file '{file}'")));
        }
        let frame: usize = members.iter().map(|m| signals[*m].per_frame).sum();
        let source = match lead.format {
            Format::Flac(bits) => {
                let even = members.iter().all(|m| signals[*m].per_frame == lead.per_frame);
                unpack(&bytes, bits, members.len(), even, lead.byte_offset, &mut out.warnings)
            }
            _ => bytes.get(lead.byte_offset..).map(Source::Packed).ok_or_else(|| {
                let (begin, len) = (lead.byte_offset, bytes.len());
                Error::format(format!("the samples begin at byte {begin}, the file has {len}"))
            }),
        };
        let source = source.map_err(|e| e.in_file(&path))?;
        let present = match &source {
            Source::Packed(bytes) => lead.format.samples_in(bytes.len()) / frame,
            Source::Unpacked(channels) => channels[0].len() / lead.per_frame,
        };
        let frames = claimed.map_or(present, |c| c.min(present));
        match claimed {
            Some(claimed) if claimed > present => out.warnings.push(format!(
                "the header claims {claimed} samples, '{file}' holds {present}: it is cut off"
            )),
            Some(claimed) if (present - frames) * frame >= lead.format.group() && present > claimed => {
                out.warnings.push(format!(
                    "'{file}' holds {present} samples, the header names {claimed}; the rest is ignored"
                ))
            }
            _ => {}
        }
        if frames == 0 {
            return Err(Error::data("the signal file holds no samples").in_file(&path));
        }
        let whole = claimed.is_none_or(|c| c == frames);
        let mut start = 0;
        for (k, m) in members.into_iter().enumerate() {
            let signal = &signals[m];
            let place = start;
            start += signal.per_frame;
            if !wanted(m) {
                continue;
            }
            let (samples, sum) = column(signal, &source, frames, frame, (k, place));
            // The checksum is the sum of the samples as a signed 16-bit number.
            if let Some(checksum) = signal.checksum.filter(|c| whole && *c as i16 != sum) {
                let label = &signal.label;
                out.warnings
                    .push(format!("signal '{label}': checksum {sum} where the header says {checksum}"));
            }
            let own = Unit::parse(&signal.unit);
            let unit =
                if matches!(own, Unit::Unknown(_)) { options.unit.clone().unwrap_or(own) } else { own };
            let fs_hz = fs_hz * signal.per_frame as f64;
            out.channels.push((m, Channel { label: signal.label.clone(), unit, fs_hz, samples }));
        }
    }
    out.channels.sort_by_key(|(m, _)| *m);
    Ok(out)
}

/// The samples of a signal file.
enum Source<'a> {
    /// Frames of all signals.
    Packed(&'a [u8]),
    /// Samples by signal, equally many.
    Unpacked(Vec<Vec<i32>>),
}

/// Unpacks a FLAC stream of `count` channels whose samples have at most `bits` bits, from sample `offset` on. `even`: all
/// signals have as many samples in a frame.
fn unpack(
    bytes: &[u8],
    bits: u32,
    count: usize,
    even: bool,
    offset: usize,
    warnings: &mut Vec<String>,
) -> Result<Source<'static>> {
    if !even {
        return Err(Error::format("signals of different rates share a FLAC stream"));
    }
    let stream = flac::decode(bytes).map_err(Error::format)?;
    if stream.channels.len() != count || stream.bits > bits {
        return Err(Error::format(format!(
            "the FLAC stream has {} channels of {} bits where the header describes {count} of at most {bits}",
            stream.channels.len(),
            stream.bits
        )));
    }
    warnings.extend(stream.damage);
    let mut channels = stream.channels;
    for channel in &mut channels {
        channel.drain(..offset.min(channel.len()));
    }
    Ok(Source::Unpacked(channels))
}

/// One signal's physical values, and the sum of its digital ones in 16 bits. `k` is its number in the file, `place` its
/// first sample in a frame of `frame`.
fn column(
    signal: &Signal,
    source: &Source<'_>,
    frames: usize,
    frame: usize,
    (k, place): (usize, usize),
) -> (Vec<f64>, i16) {
    let (mut samples, sum) = match source {
        Source::Packed(bytes) if signal.format == Format::F16 && frame == 1 => {
            words(signal, &bytes[..2 * frames])
        }
        Source::Packed(bytes) => signal.format.each(Column { signal, bytes, frames, frame, place }),
        Source::Unpacked(channels) => {
            let own = channels[k][..frames * signal.per_frame].iter();
            let sum = own.clone().fold(0i16, |sum, &d| sum.wrapping_add(d as i16));
            let missing = signal.format.missing();
            let physical = |&d: &i32| {
                if missing == Some(d) { f64::NAN } else { (f64::from(d) - signal.baseline) / signal.gain }
            };
            (own.map(physical).collect(), sum)
        }
    };
    // A signal that is `skew` frames late in the file begins with what precedes the record's first sample.
    if signal.skew > 0 {
        let late = signal.skew.saturating_mul(signal.per_frame).min(samples.len());
        samples.drain(..late);
        samples.resize(frames * signal.per_frame, f64::NAN);
    }
    (samples, sum)
}

/// One signal alone in a file of format 16: no places to find, so the compiler makes vectors of it.
fn words(signal: &Signal, bytes: &[u8]) -> (Vec<f64>, i16) {
    let words = bytes.as_chunks::<2>().0;
    let sum = words.iter().fold(0i16, |sum, w| sum.wrapping_add(i16::from_le_bytes(*w)));
    let physical = |w: &[u8; 2]| {
        let digital = i16::from_le_bytes(*w);
        let value = (f64::from(digital) - signal.baseline) / signal.gain;
        if digital == i16::MIN { f64::NAN } else { value }
    };
    (words.iter().map(physical).collect(), sum)
}

/// The loop of [`column`].
struct Column<'a> {
    signal: &'a Signal,
    bytes: &'a [u8],
    frames: usize,
    frame: usize,
    place: usize,
}

impl ReadAll<(Vec<f64>, i16)> for Column<'_> {
    fn all(self, sample: impl Fn(&[u8], usize) -> i32) -> (Vec<f64>, i16) {
        let Column { signal, bytes, frames, frame, place } = self;
        let mut sum = 0i16;
        // For differences; wraps as the WFDB library's int does, so damage cannot make it panic.
        let mut running = signal.initial;
        let differences = signal.format == Format::F8;
        let missing = signal.format.missing();
        let mut samples = Vec::with_capacity(frames * signal.per_frame);
        for f in 0..frames {
            for s in 0..signal.per_frame {
                let mut digital = sample(bytes, f * frame + place + s);
                if differences {
                    running = running.wrapping_add(digital);
                    digital = running;
                }
                sum = sum.wrapping_add(digital as i16);
                let value = (f64::from(digital) - signal.baseline) / signal.gain;
                samples.push(if missing == Some(digital) { f64::NAN } else { value });
            }
        }
        (samples, sum)
    }
}
