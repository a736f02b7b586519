//! One recording into windows.
//!
//! Order of the steps, and why:
//!
//! 1. The part from `start_s` to `end_s` is taken first, so that a zero-phase filter cannot carry one trial into the next.
//! 2. Then the steps of [`Preparation`]: finite stretches, band-pass, resampling, windows, quality gate, normalisation.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use super::PrepareSettings;
use crate::data::content::Sketch;
use crate::data::manifest::sha256_samples;
use crate::data::readers::{self, Only, ReadOptions};
use crate::data::recording::{Channel, Recording, Unit};
use crate::data::table::Item;
use crate::error::{Error, Result};
use crate::signal::{Filtered, Judgement, MAX_BRIDGE_S, Normalisation, Preparation, Scaler};

/// What one recording gave.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    /// Name of the recording.
    pub record: String,
    /// (seconds from the recording's start, quality, samples)
    pub windows: Vec<(f64, &'static str, Vec<f32>)>,
    /// Windows not kept. One that fails several checks counts under the first.
    pub dropped: BTreeMap<String, usize>,
    /// Missing samples, at the recording's rate; without those that were filled in.
    pub missing: usize,
    /// Samples in short losses that were filled in.
    pub bridged: usize,
    /// Samples that fill no window, at the store's rate.
    pub left_over: usize,
    /// Whether amplitudes are in mV.
    pub calibrated: bool,
    /// Sampling rate of the recording, Hz.
    pub fs_hz: f64,
    /// Unit of the recording's samples.
    pub unit: String,
    /// What the reader and the cutting noticed.
    pub warnings: Vec<String>,
    /// Files that were read.
    pub files: Vec<PathBuf>,
    /// Seconds of signal that were looked at.
    pub duration_s: f64,
    /// What the samples are: [`RecordingContent::samples_sha256`](crate::data::manifest::RecordingContent) and sketch.
    /// Only of recordings that are to be stored.
    pub content: (Option<String>, Sketch),
}

impl Cut {
    /// Why there are no windows.
    pub fn why_empty(&self) -> String {
        if self.dropped.is_empty() {
            return format!(
                "shorter than a window: {:.1} s with {} missing samples",
                self.duration_s, self.missing
            );
        }
        self.dropped.iter().map(|(reason, n)| format!("{n} windows: {reason}")).collect::<Vec<_>>().join("; ")
    }
}

/// A recording read and filtered, not yet cut.
struct Ready {
    cut: Cut,
    preparation: Preparation,
    /// Samples of the recording, in mV if calibrated.
    mv: Vec<f64>,
    /// The part of them that was asked for.
    part: Range<usize>,
    filtered: Filtered,
}

/// Reads the one channel of a recording that is to be used.
pub(super) fn open(item: &Item, settings: &PrepareSettings) -> Result<Recording> {
    let wanted = item.channel.as_ref().or(settings.channel.as_ref());
    let options = ReadOptions {
        fs_hz: item.fs_hz.or(settings.fs_hz),
        unit: item.unit.clone().or_else(|| settings.unit.clone()),
        time_column: item.time_column.clone().or_else(|| settings.time_column.clone()),
        record: item.record.clone().or_else(|| settings.record.clone()),
        only: Some(wanted.map_or(Only::Ecg, |label| Only::Label(label.clone()))),
        strict: settings.strict,
        text: item.text.or(&settings.text),
    };
    readers::open(&item.file, &options)
}

/// The samples of the part from `start_s` to `end_s`, of `total`.
pub(super) fn part(item: &Item, total: usize, fs_hz: f64) -> Result<Range<usize>> {
    let at = |s: f64| (s * fs_hz).round().min(total as f64) as usize;
    let (from, to) = (item.start_s.map_or(0, at), item.end_s.map_or(total, at));
    if from >= to {
        return Err(Error::data(format!(
            "the part from {} s lies beyond the recording, which lasts {:.3} s",
            item.start_s.unwrap_or(0.0),
            total as f64 / fs_hz
        )));
    }
    Ok(from..to)
}

/// The samples in mV. Amplitudes that cannot be an ECG's are an error, unless the user has said what the unit really is.
fn as_millivolts(
    channel: &mut Channel,
    item: &Item,
    settings: &PrepareSettings,
    warnings: &mut Vec<String>,
) -> Result<Vec<f64>> {
    let mv = channel.take_millivolts()?;
    let Err(impossible) = channel.check_amplitude(&mv) else { return Ok(mv) };
    // Samples that were moved are as the file has them.
    if channel.samples.is_empty() {
        channel.samples = mv;
    }
    match item.unit.as_ref().or(settings.unit.as_ref()) {
        Some(unit) if *unit != channel.unit => {
            warnings.push(format!(
                "the file says {}, which its amplitudes rule out; taken as {unit}, as was said",
                channel.unit
            ));
            channel.unit = unit.clone();
            let mv = channel.to_millivolts(None)?;
            channel.check_amplitude(&mv)?;
            Ok(mv)
        }
        _ => Err(impossible),
    }
}

/// Reads, filters and resamples.
fn ready(item: &Item, settings: &PrepareSettings) -> Result<Ready> {
    let mut recording = open(item, settings)?;
    // The reader was asked for one channel and has picked it.
    let Some(mut channel) = recording.channels.pop() else {
        return Err(Error::data("the reader delivered no channel"));
    };
    let mv = as_millivolts(&mut channel, item, settings, &mut recording.warnings)?;
    let mut cut = Cut {
        record: recording.record,
        warnings: recording.warnings,
        files: recording.files,
        calibrated: channel.unit != Unit::Arbitrary,
        fs_hz: channel.fs_hz,
        unit: channel.unit.to_string(),
        ..Cut::default()
    };
    let fs_hz = channel.fs_hz;
    let total = mv.len();
    if let Some(end_s) = item.end_s.filter(|end_s| end_s * fs_hz > total as f64 + 1.0) {
        let total_s = total as f64 / fs_hz;
        cut.warnings.push(format!("the part ends at {end_s} s, the recording at {total_s:.3} s"));
    }
    let part = part(item, total, fs_hz)?;
    let samples = &mv[part.clone()];
    cut.duration_s = samples.len() as f64 / fs_hz;
    let preparation = settings.preparation();
    let filtered = preparation.filter(samples, fs_hz)?;
    cut.missing = filtered.missing;
    cut.bridged = filtered.bridged.iter().map(Range::len).sum();
    if cut.bridged > 0 {
        cut.warnings.push(format!(
            "{} missing samples were filled in, in {} losses of at most {:.0} ms",
            cut.bridged,
            filtered.bridged.len(),
            1000.0 * MAX_BRIDGE_S
        ));
    }
    Ok(Ready { cut, preparation, mv, part, filtered })
}

/// Cuts one recording. `subject` is the person's scaler, if windows are normalised by person; `quota` the most windows to
/// keep.
///
/// # Errors
/// The file cannot be read, has no ECG or no known unit, or a rate too low for the filter.
pub fn cut(item: &Item, settings: &PrepareSettings, subject: Option<&Scaler>, quota: usize) -> Result<Cut> {
    cut_or_flag(item, settings, subject, quota, false)
}

/// As [`cut`], but a window that the quality gate would drop is kept, with the reason as its quality: for prediction,
/// where a gap in time must show. Only a window without any variation is still dropped, since it cannot be scaled.
///
/// # Errors
/// As [`cut`].
pub fn cut_flagged(item: &Item, settings: &PrepareSettings, subject: Option<&Scaler>) -> Result<Cut> {
    cut_or_flag(item, settings, subject, usize::MAX, true)
}

fn cut_or_flag(
    item: &Item,
    settings: &PrepareSettings,
    subject: Option<&Scaler>,
    quota: usize,
    keep_flagged: bool,
) -> Result<Cut> {
    let Ready { mut cut, preparation, mv, part, filtered } = ready(item, settings)?;
    let offset_s = part.start as f64 / filtered.fs_hz;
    let samples = &mv[part];
    if !keep_flagged {
        cut.content = (sha256_samples(samples), Sketch::of(samples, filtered.fs_hz));
    }
    let (candidates, left_over) =
        preparation.candidates(samples, &filtered, cut.calibrated.then_some(1.0))?;
    cut.left_over = left_over;
    let mut drop = |reason: String| *cut.dropped.entry(reason).or_insert(0usize) += 1;
    let mut kept = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        match candidate.quality {
            Judgement::Failed(reason) if !keep_flagged => drop(reason.to_string()),
            _ => kept.push(candidate),
        }
    }
    if kept.len() > quota {
        // Evenly spaced: of n windows those numbered floor(i n / quota).
        let n = kept.len();
        let chosen: std::collections::BTreeSet<usize> = (0..quota).map(|i| i * n / quota).collect();
        let mut i = 0;
        kept.retain(|_| {
            i += 1;
            chosen.contains(&(i - 1))
        });
        for _ in quota..n {
            drop("over the cap".into());
        }
    }
    let whole = match settings.normalisation {
        Normalisation::Recording if !filtered.stretches.is_empty() => Some(filtered.scaler()?),
        Normalisation::Subject => subject.copied(),
        _ => None,
    };
    for candidate in kept {
        match preparation.normalised(candidate.samples, whole.as_ref())? {
            Some(scaled) => {
                cut.windows.push((offset_s + candidate.start_s, candidate.quality.name(), scaled));
            }
            None => drop("no variation to normalise by".into()),
        }
    }
    Ok(cut)
}

/// Count, mean and summed squared deviations, which can be joined (Chan, Golub and LeVeque 1983).
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    n: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Joins another part.
    pub fn add(&mut self, other: &Self) {
        let n = self.n + other.n;
        if n == 0.0 {
            return;
        }
        let delta = other.mean - self.mean;
        self.squares += other.squares + delta * delta * self.n * other.n / n;
        self.mean += delta * other.n / n;
        self.n = n;
    }

    /// Mean and population standard deviation. Flat when there is no deviation.
    pub fn scaler(&self) -> Scaler {
        let scale = if self.n > 0.0 { (self.squares / self.n).sqrt() } else { 0.0 };
        let flat = !scale.is_finite() || scale <= 1e-12 * self.mean.abs();
        Scaler { centre: self.mean, scale: if flat { 0.0 } else { scale }, flat }
    }
}

/// The moments of all filtered and resampled samples of one recording.
///
/// # Errors
/// As [`cut`].
pub fn moments(item: &Item, settings: &PrepareSettings) -> Result<Moments> {
    let mut all = Moments::default();
    for stretch in ready(item, settings)?.filtered.stretches {
        let n = stretch.ready.len() as f64;
        let mean = stretch.ready.iter().sum::<f64>() / n;
        let squares = stretch.ready.iter().map(|x| (x - mean) * (x - mean)).sum();
        all.add(&Moments { n, mean, squares });
    }
    Ok(all)
}
