//! The beats of a whole recording, and which of the intervals between them can be trusted: the one road from samples to
//! heart-rate variability, used by `heartlore beats` and `heartlore features`.
//!
//! 1. Beats are sought in every stretch without missing samples ([`bridge_losses`](super::bridge_losses) comes before) of at least 2 s.
//! 2. The quality gate judges windows of 10 s side by side from each stretch's beginning, as `heartlore quality` does; what
//!    is left at the end is judged with the 10 s that it ends, a stretch of 5 to 10 s as a whole, a shorter one not at all.
//! 3. A beat whose shape has a correlation below 0.5 with the median beat of its window is set apart: ectopic, or noise.
//! 4. Intervals reach neither across a gap nor across a rejected window nor to a beat that is set apart.

use std::ops::Range;

use super::beats::SHORTEST_SEARCHED_S;
use super::finite_runs;
use super::lanes::{self, LANES};
use super::quality::{QualitySettings, Reason, Verdict, median_beat};
use super::rpeak::{Detection, Detector};
use crate::error::Result;

/// Length of the windows that are judged, in seconds.
pub const JUDGED_S: f64 = 10.0;
/// Correlation with the median beat below which a beat is set apart.
const LEAST_LIKENESS: f64 = 0.5;

/// A part of the recording with the gate's verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Samples that the verdict decides about.
    pub range: Range<usize>,
    /// The verdict; of windows that are judged with what comes before them, of the whole window.
    pub verdict: Verdict,
}

/// A beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Sample of the R peak.
    pub sample: usize,
    /// Whether the quality gate accepts where it lies.
    pub usable: bool,
    /// Whether it looks like the other beats of its window; also false where the window is not usable.
    pub typical: bool,
}

/// Beats of a recording by stretch without missing samples, and what the gate says of each part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rhythm {
    /// Beats of each stretch that was searched, in order.
    pub stretches: Vec<Vec<Beat>>,
    /// Stretches too short to search.
    pub too_short: Vec<Range<usize>>,
    /// All parts that were judged, in order.
    pub judged: Vec<Judged>,
}

impl Rhythm {
    /// Searches and judges `x`, in which missing samples are not finite. `mv_per_unit` is as for [`QualitySettings::judge`].
    ///
    /// # Errors
    /// As [`QualitySettings::judge`].
    ///
    /// ```
    /// use heartlore::signal::{Rhythm, simulate::{EcgParameters, simulate_ecg}};
    /// let mut ecg = simulate_ecg(&EcgParameters::default(), 40.0, 250.0, 1)?.signal_mv;
    /// ecg[2500..5000].iter_mut().enumerate().for_each(|(i, v)| *v += 30.0 * ((i * i) as f64).sin());
    /// let rhythm = Rhythm::of(&ecg, 250.0, Some(1.0))?;
    /// assert_eq!(rhythm.rejected().map(|j| j.range.clone()).collect::<Vec<_>>(), [2500..5000]);
    /// assert_eq!(rhythm.trusted(0..ecg.len()).len(), 2);
    /// # Ok::<(), heartlore::Error>(())
    /// ```
    pub fn of(x: &[f64], fs_hz: f64, mv_per_unit: Option<f64>) -> Result<Self> {
        let settings = QualitySettings::default();
        let detector = Detector::new(fs_hz)?;
        let window = (JUDGED_S * fs_hz).round() as usize;
        let mut out = Self::default();
        for run in finite_runs(x) {
            if (run.len() as f64) < SHORTEST_SEARCHED_S * fs_hz {
                out.too_short.push(run);
                continue;
            }
            // Which windows are looked at, and the part that each decides about.
            let whole = run.len() / window;
            let mut looks: Vec<(Range<usize>, Range<usize>)> = (0..whole)
                .map(|i| run.start + i * window..run.start + (i + 1) * window)
                .map(|r| (r.clone(), r))
                .collect();
            let rest = run.start + whole * window..run.end;
            if !rest.is_empty() {
                looks.push((run.end - run.len().min(window)..run.end, rest));
            }
            let windows: Vec<&[f64]> = looks.iter().map(|(look, _)| &x[look.clone()]).collect();
            let verdicts = settings.judge_all(&windows, fs_hz, mv_per_unit)?;
            let Detection { filtered, peaks } = detector.humps(&x[run.clone()])?.detection();
            let mut beats = Vec::with_capacity(peaks.len());
            for ((look, range), verdict) in looks.into_iter().zip(verdicts) {
                let usable = verdict.usable();
                let inside = |r: &Range<usize>| {
                    let (a, b) = (r.start - run.start, r.end - run.start);
                    &peaks[peaks.partition_point(|p| *p < a)..peaks.partition_point(|p| *p < b)]
                };
                let unlike = if usable { unlike(&filtered, inside(&look), fs_hz) } else { Vec::new() };
                beats.extend(inside(&range).iter().map(|&p| Beat {
                    sample: p + run.start,
                    usable,
                    typical: usable && !unlike.contains(&p),
                }));
                out.judged.push(Judged { range, verdict });
            }
            out.stretches.push(beats);
        }
        Ok(out)
    }

    /// The parts that the gate rejects.
    pub fn rejected(&self) -> impl Iterator<Item = &Judged> {
        self.judged.iter().filter(|j| !j.verdict.usable())
    }

    /// All beats, in order.
    pub fn beats(&self) -> impl Iterator<Item = &Beat> {
        self.stretches.iter().flatten()
    }

    /// Beats within `range`, in parts inside which every interval can be trusted.
    pub fn trusted(&self, range: Range<usize>) -> Vec<Vec<usize>> {
        let mut parts: Vec<Vec<usize>> = Vec::new();
        for stretch in &self.stretches {
            let mut open = false;
            for beat in stretch.iter().filter(|b| range.contains(&b.sample)) {
                if !beat.typical {
                    open = false;
                    continue;
                }
                match parts.last_mut() {
                    Some(part) if open && !self.rejects_between(part[part.len() - 1], beat.sample) => {
                        part.push(beat.sample);
                    }
                    _ => parts.push(vec![beat.sample]),
                }
                open = true;
            }
        }
        parts
    }

    /// Whether a rejected part lies between two beats.
    fn rejects_between(&self, a: usize, b: usize) -> bool {
        let from = self.judged.partition_point(|j| j.range.end <= a);
        self.judged[from..].iter().take_while(|j| j.range.start < b).any(|j| !j.verdict.usable())
    }

    /// Seconds of `range` in parts that the gate rejects, and the reasons, each once, in the order of [`Reason::ALL`].
    pub fn rejected_in(&self, range: &Range<usize>, fs_hz: f64) -> (f64, Vec<Reason>) {
        let mut samples = 0;
        let mut given = Vec::new();
        for j in self.rejected() {
            let common = j.range.end.min(range.end).saturating_sub(j.range.start.max(range.start));
            if common > 0 {
                samples += common;
                given.extend_from_slice(&j.verdict.reasons);
            }
        }
        let reasons = Reason::ALL.into_iter().filter(|r| given.contains(r)).collect();
        (samples as f64 / fs_hz, reasons)
    }
}

/// Those of `peaks` that do not look like the others. None of fewer than four.
fn unlike(filtered: &[f64], peaks: &[usize], fs_hz: f64) -> Vec<usize> {
    let half = (0.1 * fs_hz) as usize;
    let width = 2 * half + 1;
    let row = width.next_multiple_of(LANES);
    let whole: Vec<usize> =
        peaks.iter().copied().filter(|p| *p >= half && p + half < filtered.len()).collect();
    if whole.len() < 4 {
        return Vec::new();
    }
    let mut beats = vec![0.0; whole.len() * row];
    for (beat, p) in beats.chunks_exact_mut(row).zip(&whole) {
        let cut = &filtered[p - half..=p + half];
        let mean = cut.iter().sum::<f64>() / width as f64;
        beat.iter_mut().zip(cut).for_each(|(b, v)| *b = v - mean);
    }
    let template = median_beat(&beats, whole.len(), row);
    let size = lanes::dot(&template, &template).sqrt();
    let differs = |beat: &[f64]| {
        let norm = lanes::dot(beat, beat).sqrt() * size;
        norm <= 0.0 || lanes::dot(beat, &template) < LEAST_LIKENESS * norm
    };
    beats.chunks_exact(row).zip(&whole).filter(|(b, _)| differs(b)).map(|(_, p)| *p).collect()
}
