//! Multi-segment records: a header that names other records, one after the other.
//!
//! *Fixed layout*: every segment holds the same signals in the same order. *Variable layout*: the first segment is empty
//! (length 0); its header, the layout, lists every signal that occurs, and each later segment holds some of them, found by
//! their description. A signal that a segment lacks, and a segment called `~`, become missing samples, so time stays even.
//!
//! What may be missing is bounded: of a channel's samples at most 15 in 16, or the record is refused. So no more than 128
//! bytes are ever allocated for the samples in one byte of the files.

use std::collections::BTreeSet;
use std::path::Path;

use super::header::{Body, Header, Segment, Signal};
use super::signals::{decode, is_plain_name};
use super::{Parts, read_header};
use crate::data::readers::ReadOptions;
use crate::data::recording::{Channel, Unit};
use crate::error::{Error, Result};

/// Largest ratio of all samples of a channel to those that are in the files.
const MAX_STRETCH: usize = 16;

/// One channel while its segments are gathered.
struct Line {
    channel: Channel,
    per_frame: usize,
    /// First sample of each piece, and the piece.
    pieces: Vec<(usize, Vec<f64>)>,
}

pub(super) fn read(
    header: &Header,
    count: usize,
    list: &[Segment],
    hea: &Path,
    options: &ReadOptions,
) -> Result<Parts> {
    let layout = checked_layout(header, count, list, hea)?;
    if options.only.is_none() {
        return gather(header, list, &layout, &(0..count).collect::<Vec<_>>(), hea, options);
    }
    let labels: Vec<&str> = layout.iter().map(|s| s.label.as_str()).collect();
    let mut doubts = Vec::new();
    let mut read: Vec<Parts> = Vec::new();
    let channels = options.choose(&labels, &mut doubts, |i| {
        let mut parts = gather(header, list, &layout, &[i], hea, options)?;
        let channel = parts.channels.pop();
        let channel = channel.ok_or_else(|| Error::data("the record holds no readable signal"))?;
        parts.warnings.insert(0, channel.label.clone());
        read.push(parts);
        Ok(channel)
    })?;
    let own =
        read.into_iter().find(|p| channels.first().is_some_and(|c| Some(&c.label) == p.warnings.first()));
    let mut parts = own.unwrap_or_default();
    parts.warnings.drain(..1.min(parts.warnings.len()));
    parts.warnings.extend(doubts);
    parts.channels = channels;
    Ok(parts)
}

/// The signals of the record, from its layout or its first segment, once the list of segments is safe to follow.
fn checked_layout(header: &Header, count: usize, list: &[Segment], hea: &Path) -> Result<Vec<Signal>> {
    let mut names = BTreeSet::new();
    for segment in list.iter().filter(|s| s.name != "~") {
        if !is_plain_name(&segment.name) {
            let name = segment.name.escape_default();
            return Err(Error::format(format!("'{name}' is no name of a segment")));
        }
        // Repeating one small file could stand for any amount of memory.
        if !names.insert(&segment.name) {
            return Err(Error::format(format!("segment '{}' occurs twice", segment.name)));
        }
    }
    // The signals come from the layout, or from the first segment that is not a gap.
    let lead = list.iter().find(|s| s.name != "~");
    let lead = lead.ok_or_else(|| Error::data("the record consists of gaps only"))?;
    let layout = signals_of(lead, hea, header.fs_hz)?.1;
    if layout.len() != count {
        return Err(Error::format(format!(
            "the record has {count} signals, its segment '{}' {}",
            lead.name,
            layout.len()
        )));
    }
    Ok(layout)
}

/// The `wanted` signals of all segments, one after the other.
fn gather(
    header: &Header,
    list: &[Segment],
    layout: &[Signal],
    wanted: &[usize],
    hea: &Path,
    options: &ReadOptions,
) -> Result<Parts> {
    let count = layout.len();
    let mut parts = Parts::default();
    let variable = list.first().is_some_and(|s| s.frames == 0);
    let mut lines: Vec<Line> = wanted.iter().map(|&i| Line::of(&layout[i], header.fs_hz, options)).collect();
    let mut frames = 0usize;
    for segment in list.iter().skip(usize::from(variable)) {
        let too_long = || Error::format("the segments are longer than any file").at(segment.name.clone());
        frames = frames.checked_add(segment.frames).ok_or_else(too_long)?;
        if segment.name == "~" {
            continue;
        }
        let (path, signals) = signals_of(segment, hea, header.fs_hz)?;
        if !variable && signals.len() != count {
            return Err(Error::format(format!(
                "segment '{}' has {} signals, the record {count}",
                segment.name,
                signals.len()
            )));
        }
        // Where each wanted signal stands in this segment.
        let places: Vec<Option<usize>> = wanted
            .iter()
            .map(
                |&i| if variable { signals.iter().position(|s| s.label == layout[i].label) } else { Some(i) },
            )
            .collect();
        let read = |m: usize| places.contains(&Some(m));
        let named = |e: Error| e.in_file(&path);
        let decoded = decode(&signals, read, Some(segment.frames), header.fs_hz, &path, options);
        let decoded = decoded.map_err(named)?;
        parts.files.push(path.clone());
        parts.files.extend(decoded.files);
        let warnings = decoded.warnings.into_iter().map(|w| format!("segment '{}': {w}", segment.name));
        parts.warnings.extend(warnings);
        for (m, channel) in decoded.channels {
            for (line, _) in lines.iter_mut().zip(&places).filter(|(_, place)| **place == Some(m)) {
                line.add(&channel, signals[m].per_frame, frames - segment.frames).map_err(named)?;
            }
        }
    }
    if header.samples.is_some_and(|n| n != frames) {
        let claimed = header.samples.unwrap_or(0);
        parts.warnings.push(format!("the header claims {claimed} samples, its segments have {frames}"));
    }
    for line in lines {
        if line.pieces.is_empty() {
            parts.warnings.push(format!("signal '{}' occurs in no segment", line.channel.label));
        } else {
            parts.channels.push(line.join(frames)?);
        }
    }
    Ok(parts)
}

/// The signals in a segment's own header, and its path.
fn signals_of(segment: &Segment, hea: &Path, fs_hz: f64) -> Result<(std::path::PathBuf, Vec<Signal>)> {
    let path = hea.with_file_name(format!("{}.hea", segment.name));
    let header = read_header(&path)?;
    if (header.fs_hz - fs_hz).abs() > 1e-9 * fs_hz {
        return Err(
            Error::format(format!("{} Hz, but the record says {fs_hz} Hz", header.fs_hz)).in_file(path)
        );
    }
    match header.body {
        Body::Signals(signals) => Ok((path, signals)),
        Body::Segments { .. } => Err(Error::format("a segment that consists of segments").in_file(path)),
    }
}

impl Line {
    fn of(signal: &Signal, fs_hz: f64, options: &ReadOptions) -> Self {
        let own = Unit::parse(&signal.unit);
        let unit = if matches!(own, Unit::Unknown(_)) { options.unit.clone().unwrap_or(own) } else { own };
        let fs_hz = fs_hz * signal.per_frame as f64;
        let channel = Channel { label: signal.label.clone(), unit, fs_hz, samples: Vec::new() };
        Self { channel, per_frame: signal.per_frame, pieces: Vec::new() }
    }

    /// Adds what a segment that begins at frame `begin` holds of this signal.
    fn add(&mut self, part: &Channel, per_frame: usize, begin: usize) -> Result<()> {
        if per_frame != self.per_frame {
            return Err(Error::format(format!("signal '{}' changes its sampling rate", part.label)));
        }
        if part.unit != self.channel.unit {
            return Err(Error::format(format!(
                "signal '{}' is in {} here and in {} before",
                part.label, part.unit, self.channel.unit
            )));
        }
        self.pieces.push((begin.saturating_mul(per_frame), part.samples.clone()));
        Ok(())
    }

    /// The channel of `frames` frames, missing samples where no piece lies.
    fn join(mut self, frames: usize) -> Result<Channel> {
        let present: usize = self.pieces.iter().map(|(_, p)| p.len()).sum();
        let due = frames.checked_mul(self.per_frame);
        let due = due.filter(|n| *n <= present.saturating_mul(MAX_STRETCH)).ok_or_else(|| {
            Error::data(format!(
                "signal '{}' is there for less than 1 in {MAX_STRETCH} of its samples",
                self.channel.label
            ))
            .remedy("read the segments one by one")
        })?;
        let samples = &mut self.channel.samples;
        samples.reserve_exact(due);
        for (begin, piece) in self.pieces {
            samples.resize(begin, f64::NAN);
            samples.extend(piece);
        }
        samples.resize(due, f64::NAN);
        Ok(self.channel)
    }
}
