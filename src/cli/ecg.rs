//! One ECG from a file, with its beats: shared by `beats`, `features` and `quality`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::windows::{self, RecordingArgs};
use crate::data::readers::wfdb::annotations::is_beat;
use crate::data::readers::{self, Only};
use crate::data::recording::{Annotation, Unit};
use crate::error::{Error, Result};
use crate::report::plots::{QualitySpan, RecordingOverview, WindowMark, recording_overview};
use crate::signal::{MAX_BRIDGE_S, Rhythm, bridge_losses};

/// The ECG of one recording, as in the file.
pub(super) struct Ecg {
    pub(super) file: PathBuf,
    pub(super) record: String,
    pub(super) label: String,
    pub(super) unit: Unit,
    pub(super) fs_hz: f64,
    /// Samples in the file's unit; NaN where missing, but for short losses, which are filled in.
    pub(super) samples: Vec<f64>,
    /// Where short losses were filled in.
    pub(super) bridged: Vec<Range<usize>>,
    /// Samples that the file lacks, filled in or not.
    pub(super) missing: usize,
    /// Times of annotated heart beats, in seconds.
    pub(super) annotated_s: Vec<f64>,
    pub(super) warnings: Vec<String>,
}

impl Ecg {
    /// Reads the channel that looks like an ECG, or the one named.
    ///
    /// # Errors
    /// A unit that is not known, and whatever the reader refuses.
    pub(super) fn read(file: &Path, args: &RecordingArgs) -> Result<Self> {
        let unit = args.unit()?;
        let options = args.read_options(Some(args.channel.clone().map_or(Only::Ecg, Only::Label)))?;
        let recording = readers::open(file, &options)?;
        // Words beside the numbers of a text table are events, whatever letter they begin with.
        let coded = recording.layout.is_empty();
        let is_beat = |a: &&Annotation| coded && is_beat(a.text.split(' ').next().unwrap_or(""));
        let beats = recording.annotations.iter().filter(is_beat);
        let annotated_s = beats.map(|a| a.time_s).collect();
        let channel = recording.channels.into_iter().next();
        let channel = channel.ok_or_else(|| Error::data("no channel was read").in_file(file))?;
        let (mut samples, mut warnings) = (channel.samples, recording.warnings);
        let missing = samples.iter().filter(|v| !v.is_finite()).count();
        let bridged = bridge_losses(&mut samples, channel.fs_hz);
        warnings.extend(bridge_note(&bridged, missing));
        Ok(Self {
            file: file.to_path_buf(),
            record: recording.record,
            label: channel.label,
            unit: unit.unwrap_or(channel.unit),
            fs_hz: channel.fs_hz,
            samples,
            bridged,
            missing,
            annotated_s,
            warnings,
        })
    }

    /// Seconds of the whole recording.
    pub(super) fn duration_s(&self) -> f64 {
        self.samples.len() as f64 / self.fs_hz
    }

    /// Millivolts per unit of the samples, if the unit means an amplitude.
    pub(super) fn mv_per_unit(&self) -> Option<f64> {
        if self.unit == Unit::Arbitrary { None } else { self.unit.to_millivolt() }
    }

    /// Beats and the parts of the recording that the quality gate rejects.
    ///
    /// # Errors
    /// A sampling rate too low for the detector.
    pub(super) fn rhythm(&self) -> Result<Rhythm> {
        Rhythm::of(&self.samples, self.fs_hz, self.mv_per_unit()).map_err(|e| e.in_file(&self.file))
    }

    /// Samples that were filled in within `range`.
    pub(super) fn bridged_in(&self, range: &Range<usize>) -> usize {
        let common = |b: &Range<usize>| b.end.min(range.end).saturating_sub(b.start.max(range.start));
        self.bridged.iter().map(common).sum()
    }

    /// What `beats` and `features` say of the search: stretches not searched, parts rejected, no beats at all.
    pub(super) fn remarks(&self, rhythm: &Rhythm) -> Vec<String> {
        let mut out = Vec::new();
        if !rhythm.too_short.is_empty() {
            out.push(format!("{} stretches of less than 2 s were not searched", rhythm.too_short.len()));
        }
        let (rejected_s, reasons) = rhythm.rejected_in(&(0..self.samples.len()), self.fs_hz);
        if rejected_s > 0.0 {
            let parts: Vec<String> = merged(rhythm.rejected().map(|j| j.range.clone()))
                .iter()
                .map(|r| format!("{:.1}-{:.1} s", r.start as f64 / self.fs_hz, r.end as f64 / self.fs_hz))
                .collect();
            let shown = parts.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
            let more = if parts.len() > 8 { format!(" and {} more", parts.len() - 8) } else { String::new() };
            out.push(format!(
                "the quality gate rejects {rejected_s:.1} of {:.1} s ({shown}{more}): {}; intervals there do not count",
                self.duration_s(),
                reasons.iter().map(|r| r.name()).collect::<Vec<_>>().join(", ")
            ));
        }
        if rhythm.beats().next().is_none() {
            out.push(format!(
                "no beat was found in {:.1} s of '{}'; `heartlore inspect` shows all channels, `heartlore quality` why",
                self.duration_s(),
                self.label
            ));
        }
        out
    }

    /// The picture of the recording, written to `path`.
    ///
    /// # Errors
    /// The file exists and may not be overwritten, or cannot be written.
    pub(super) fn plot(
        &self,
        path: &Path,
        overwrite: bool,
        beats_s: &[f64],
        quality: &[QualitySpan],
        marks: &[WindowMark],
    ) -> Result<()> {
        windows::check_free(path, overwrite)?;
        let ecg: Vec<f32> = self.samples.iter().map(|v| *v as f32).collect();
        let unit = self.unit.to_string();
        let svg = recording_overview(&RecordingOverview {
            title: &format!("{}, {}", self.record, self.label),
            fs_hz: self.fs_hz,
            ecg: &ecg,
            unit: if unit.is_empty() { "unit unknown" } else { &unit },
            beats_s,
            quality,
            windows: marks,
            detail: None,
        });
        crate::checkpoint::write_bytes(path, svg.to_string().as_bytes())
    }
}

/// Ranges that touch, joined.
fn merged(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for r in ranges {
        match out.last_mut() {
            Some(last) if last.end == r.start => last.end = r.end,
            _ => out.push(r),
        }
    }
    out
}

/// What is said of short losses.
fn bridge_note(bridged: &[Range<usize>], missing: usize) -> Option<String> {
    let filled: usize = bridged.iter().map(Range::len).sum();
    (filled > 0).then(|| {
        format!(
            "{filled} of {missing} missing samples were filled in, in {} losses of at most {:.0} ms",
            bridged.len(),
            1000.0 * MAX_BRIDGE_S
        )
    })
}

/// Windows of `window_s` seconds, one every `hop_s`, over `duration_s`: (start, end) in seconds. Without a window the whole
/// recording is one.
///
/// # Errors
/// A length or step that is not positive.
pub(super) fn grid(window_s: Option<f64>, hop_s: Option<f64>, duration_s: f64) -> Result<Vec<(f64, f64)>> {
    let Some(window_s) = window_s else { return Ok(vec![(0.0, duration_s)]) };
    let hop_s = hop_s.unwrap_or(window_s);
    for (flag, value) in [("window-s", window_s), ("hop-s", hop_s)] {
        if !(value.is_finite() && value >= 0.1) {
            return Err(super::bad_flag(flag, format!("{value} s; at least 0.1 is needed")));
        }
    }
    if window_s > duration_s {
        return Err(Error::data(format!(
            "the recording of {duration_s:.1} s holds no window of {window_s} s"
        ))
        .remedy("choose shorter windows with --window-s"));
    }
    // A thousandth of a sample for rounding.
    let count = ((duration_s - window_s) / hop_s + 1e-6).floor() as usize + 1;
    Ok((0..count).map(|i| (i as f64 * hop_s, i as f64 * hop_s + window_s)).collect())
}
