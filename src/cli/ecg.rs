//! One ECG from a file, with its beats: shared by `beats`, `features` and `quality`.

use std::path::{Path, PathBuf};

use super::windows::{self, RecordingArgs};
use crate::data::readers::wfdb::annotations::is_beat;
use crate::data::readers::{self, Only};
use crate::data::recording::{Annotation, Unit};
use crate::error::{Error, Result};
use crate::report::plots::{QualitySpan, RecordingOverview, WindowMark, recording_overview};
use crate::signal::{FoundBeats, find_beats};

/// The ECG of one recording, as in the file.
pub(super) struct Ecg {
    pub(super) file: PathBuf,
    pub(super) record: String,
    pub(super) label: String,
    pub(super) unit: Unit,
    pub(super) fs_hz: f64,
    /// Samples in the file's unit; NaN where missing.
    pub(super) samples: Vec<f64>,
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
        Ok(Self {
            file: file.to_path_buf(),
            record: recording.record,
            label: channel.label,
            unit: unit.unwrap_or(channel.unit),
            fs_hz: channel.fs_hz,
            samples: channel.samples,
            annotated_s,
            warnings: recording.warnings,
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

    /// R peaks (samples) of each stretch without missing samples, and the stretches too short to search.
    ///
    /// # Errors
    /// A sampling rate too low for the detector.
    pub(super) fn beats(&self) -> Result<FoundBeats> {
        find_beats(&self.samples, self.fs_hz).map_err(|e| e.in_file(&self.file))
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
