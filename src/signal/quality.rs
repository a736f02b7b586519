//! The quality gate: is this stretch an ECG one can learn from? What it drops is counted, by reason.
//!
//! Run it on the signal as recorded where possible: filtering and resampling round off clipped and flat stretches, which
//! are then harder to see. The beat measures filter for themselves. [`Verdict::index`] sums a judgement up in one number.

use super::rpeak::{Detection, detect, require_rate};
use super::{finite_runs, median_in_place};
use crate::{Error, Result};
use std::f64::consts::TAU;
use std::fmt;

/// Why a stretch is no usable ECG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It holds NaN or infinite samples.
    NonFinite,
    /// It is shorter than [`QualitySettings::min_length_s`].
    TooShort,
    /// Too much of it does not change at all: electrode off, cable out.
    Flat,
    /// Too much of it sticks to its largest or smallest value: the amplifier or converter was at its limit.
    Clipped,
    /// Smaller than any surface ECG (only when the unit is known).
    AmplitudeLow,
    /// Larger than any surface ECG (only when the unit is known).
    AmplitudeHigh,
    /// A few samples tower over all others: a spike, a switched gain. Needs no unit.
    Spike,
    /// Too few beats to judge.
    FewBeats,
    /// The median heart rate is out of range.
    HeartRate,
    /// The beats do not look like each other.
    Template,
    /// The distribution of the samples lacks the heavy tails that QRS complexes give it.
    Kurtosis,
    /// Most of it is hum from the mains.
    Powerline,
}

impl Reason {
    /// All reasons, in the order in which they are checked and listed.
    pub const ALL: [Self; 12] = [
        Self::NonFinite,
        Self::TooShort,
        Self::Flat,
        Self::Clipped,
        Self::AmplitudeLow,
        Self::AmplitudeHigh,
        Self::Spike,
        Self::FewBeats,
        Self::HeartRate,
        Self::Template,
        Self::Kurtosis,
        Self::Powerline,
    ];
}

impl Reason {
    /// In a few words.
    pub fn name(self) -> &'static str {
        match self {
            Self::NonFinite => "non-finite samples",
            Self::TooShort => "too short",
            Self::Flat => "flat line",
            Self::Clipped => "clipped",
            Self::AmplitudeLow => "amplitude too low for an ECG",
            Self::AmplitudeHigh => "amplitude too high for an ECG",
            Self::Spike => "spike",
            Self::FewBeats => "too few beats",
            Self::HeartRate => "heart rate out of range",
            Self::Template => "beats unlike each other",
            Self::Kurtosis => "kurtosis too low",
            Self::Powerline => "powerline hum",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Thresholds of the gate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QualitySettings {
    /// Shortest stretch judged, in seconds. Default 5: four beats at 48 per minute.
    pub min_length_s: f64,
    /// A run of equal samples this long is flat, in seconds. Default 0.5: longer than any isoelectric segment that is
    /// exactly constant in a digitised ECG with some noise.
    pub flat_run_s: f64,
    /// Largest share of samples in flat runs. Default 0.1 (one second of ten).
    pub max_flat_share: f64,
    /// A run of samples at the extreme value this long is clipped, in seconds (and at least three samples). Default 0.02:
    /// an R peak is narrower at its tip.
    pub clip_run_s: f64,
    /// Largest share of clipped samples. Default 0.01.
    pub max_clip_share: f64,
    /// Smallest peak-to-peak amplitude, in mV. Default 0.1, a tenth of the usual calibration height; low-voltage ECG is
    /// defined by 0.5 mV peak to peak in limb leads (Kligfield et al. 2007, Circulation 115).
    pub min_peak_to_peak_mv: f64,
    /// Largest peak-to-peak amplitude, in mV. Default 20: twice the 10 mV input range that IEC 60601-2-25 asks of
    /// electrocardiographs, so wander does not count.
    pub max_peak_to_peak_mv: f64,
    /// Largest ratio of the full range to the range between the 1st and 99th percentile. Default 10; QRS complexes fill
    /// several percent of the time, so a clean ECG has a ratio of 1 to 3.
    pub max_spike_ratio: f64,
    /// Fewest beats for the measures below. Default 4, which any allowed heart rate reaches in 7 s.
    pub min_beats: usize,
    /// Exclusive lower limit of the median heart rate, in beats per minute. Default 35 (Orphanidou et al. 2015, IEEE JBHI
    /// 19(3), use 40 to 180; athletes and arrhythmia go beyond).
    pub min_heart_rate_bpm: f64,
    /// Exclusive upper limit of the median heart rate, in beats per minute. Default 200.
    pub max_heart_rate_bpm: f64,
    /// Smallest median correlation of the beats with the median beat. Default 0.8 (Orphanidou et al. 2015 choose 0.66 for
    /// the mean correlation on wearable recordings).
    pub min_template_correlation: f64,
    /// Kurtosis (normal distribution: 3) of the QRS band must exceed this. Default 4 (Li, Mark and Clifford 2008, Physiol.
    /// Meas. 29, take 5 on the unfiltered signal).
    pub min_kurtosis: f64,
    /// Largest share of mains hum. Default 0.9: hum of three times the ECG's own size is still taken out whole by a
    /// low-pass or a notch; what is left beyond that has lost digits in the converter.
    pub max_powerline_share: f64,
}

impl Default for QualitySettings {
    fn default() -> Self {
        Self {
            min_length_s: 5.0,
            flat_run_s: 0.5,
            max_flat_share: 0.1,
            clip_run_s: 0.02,
            max_clip_share: 0.01,
            min_peak_to_peak_mv: 0.1,
            max_peak_to_peak_mv: 20.0,
            max_spike_ratio: 10.0,
            min_beats: 4,
            min_heart_rate_bpm: 35.0,
            max_heart_rate_bpm: 200.0,
            min_template_correlation: 0.8,
            min_kurtosis: 4.0,
            max_powerline_share: 0.9,
        }
    }
}

/// What was measured. A measure that could not be taken is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measures {
    /// Number of non-finite samples.
    pub non_finite: usize,
    /// Share of samples in flat runs.
    pub flat_share: Option<f64>,
    /// Share of samples in clipped runs.
    pub clip_share: Option<f64>,
    /// Largest minus smallest sample, in the signal's unit.
    pub peak_to_peak: Option<f64>,
    /// Full range over the range between the 1st and 99th percentile.
    pub spike_ratio: Option<f64>,
    /// Number of R peaks found.
    pub beats: usize,
    /// 60 over the median RR interval, in beats per minute.
    pub heart_rate_bpm: Option<f64>,
    /// Median over the beats of the correlation with the median beat (0.2 s before to 0.35 s after R, QRS band).
    pub template_correlation: Option<f64>,
    /// Fourth central moment over squared variance, in the QRS band (5-30 Hz).
    pub kurtosis: Option<f64>,
    /// Share of the variance within seconds that lies at 50 or at 60 Hz, whichever is more. `None` when the sampling rate
    /// is too low to hold either.
    pub powerline_share: Option<f64>,
}

/// The gate's judgement of one stretch.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Why not; empty when usable.
    pub reasons: Vec<Reason>,
    /// The numbers behind it.
    pub measures: Measures,
}

impl Verdict {
    /// Whether nothing speaks against it.
    pub fn usable(&self) -> bool {
        self.reasons.is_empty()
    }
    /// One number from 0 (no ECG) to 1 (clean): the correlation of the beats with the median beat, times the shares of
    /// samples that are neither flat nor clipped and of the variance that is no hum. 0 when a reason other than hum speaks
    /// against the stretch.
    pub fn index(&self) -> f64 {
        if self.reasons.iter().any(|r| *r != Reason::Powerline) {
            return 0.0;
        }
        let m = &self.measures;
        let share = |v: Option<f64>| (1.0 - v.unwrap_or(0.0)).clamp(0.0, 1.0);
        let alike = m.template_correlation.unwrap_or(0.0).clamp(0.0, 1.0);
        alike * share(m.flat_share) * share(m.clip_share) * share(m.powerline_share)
    }
}

impl QualitySettings {
    /// Judges one stretch, a window or a whole recording. `mv_per_unit` says how many millivolts one unit of `x` is, if
    /// that is known; otherwise amplitude limits are not applied. Non-finite samples are a reason; the other measures are
    /// then taken on the longest finite stretch.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for a sampling rate below [`MIN_FS_HZ`](super::MIN_FS_HZ) or a
    /// `mv_per_unit` that is not positive. Bad data are a verdict, never an error.
    pub fn judge(&self, x: &[f64], fs_hz: f64, mv_per_unit: Option<f64>) -> Result<Verdict> {
        if let Some(mv) = mv_per_unit
            && !(mv > 0.0 && mv.is_finite())
        {
            return Err(Error::usage(format!("{mv} millivolts per unit is not a positive number")));
        }
        require_rate(fs_hz)?;
        let runs = finite_runs(x);
        let longest =
            runs.iter().max_by_key(|r| (r.len(), std::cmp::Reverse(r.start))).cloned().unwrap_or(0..0);
        let mut m = Measures {
            non_finite: x.len() - runs.iter().map(ExactSizeIterator::len).sum::<usize>(),
            ..Measures::default()
        };
        let mut reasons = Vec::new();
        let mut flag = |broken: bool, reason| {
            if broken {
                reasons.push(reason);
            }
        };
        flag(m.non_finite > 0, Reason::NonFinite);
        let y = &x[longest];
        let too_short = (y.len() as f64) < self.min_length_s * fs_hz || y.len() < 64;
        flag(too_short, Reason::TooShort);
        if too_short {
            return Ok(Verdict { reasons, measures: m });
        }
        self.measure_amplitude(y, fs_hz, &mut m);
        let above = |value: Option<f64>, limit: f64| value.is_some_and(|v| v > limit);
        let flat = above(m.flat_share, self.max_flat_share);
        flag(flat, Reason::Flat);
        flag(above(m.clip_share, self.max_clip_share), Reason::Clipped);
        if let (Some(mv), Some(range)) = (mv_per_unit, m.peak_to_peak) {
            flag(range * mv < self.min_peak_to_peak_mv, Reason::AmplitudeLow);
            flag(range * mv > self.max_peak_to_peak_mv, Reason::AmplitudeHigh);
        }
        flag(above(m.spike_ratio, self.max_spike_ratio), Reason::Spike);
        measure_beats(&detect(y, fs_hz)?, fs_hz, self.min_beats, &mut m);
        // A measure of numbers near the end of f64's range is not finite and counts as not taken.
        let taken = |v: Option<f64>| v.filter(|v| v.is_finite());
        match (taken(m.heart_rate_bpm), taken(m.template_correlation), taken(m.kurtosis)) {
            (Some(bpm), Some(correlation), Some(kurtosis)) => {
                flag(bpm <= self.min_heart_rate_bpm || bpm >= self.max_heart_rate_bpm, Reason::HeartRate);
                flag(correlation < self.min_template_correlation, Reason::Template);
                flag(kurtosis <= self.min_kurtosis, Reason::Kurtosis);
            }
            _ => flag(true, Reason::FewBeats),
        }
        m.powerline_share = powerline_share(y, fs_hz);
        flag(above(m.powerline_share, self.max_powerline_share), Reason::Powerline);
        Ok(Verdict { reasons, measures: m })
    }

    fn measure_amplitude(&self, y: &[f64], fs_hz: f64, m: &mut Measures) {
        let (low, high) =
            y.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        let range = high - low;
        let n = y.len() as f64;
        m.peak_to_peak = Some(range);
        let flat_run = (self.flat_run_s * fs_hz).ceil() as usize;
        m.flat_share = Some(in_runs(y, flat_run, |a, b| a == b) as f64 / n);
        let clip_run = ((self.clip_run_s * fs_hz).ceil() as usize).max(3);
        let at_limit = |a: f64, b: f64| a == b && (a == low || a == high);
        m.clip_share = Some(if range > 0.0 { in_runs(y, clip_run, at_limit) as f64 / n } else { 0.0 });
        let mut sorted = y.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let quantile = |q: f64| sorted[(q * (n - 1.0)).round() as usize];
        let inner = quantile(0.99) - quantile(0.01);
        // An inner range of 0 with an outer range above 0 is the extreme case of a spike on a flat line.
        m.spike_ratio = if range > 0.0 { Some(range / inner) } else { None };
    }
}

/// Share of the variance at 50 or 60 Hz, whichever is more: in each whole second, which holds a whole number of periods of
/// either, the squared Fourier coefficient against the variance about the second's mean, both summed over the seconds.
fn powerline_share(y: &[f64], fs_hz: f64) -> Option<f64> {
    let second = fs_hz.round() as usize;
    let share = |f_hz: f64| {
        // At half the sampling rate the coefficient depends on the hum's phase.
        if f_hz > 0.45 * fs_hz {
            return None;
        }
        let (mut hum, mut all) = (0.0, 0.0);
        for part in y.chunks_exact(second) {
            let n = part.len() as f64;
            let mean = part.iter().sum::<f64>() / n;
            let (mut re, mut im) = (0.0, 0.0);
            for (i, v) in part.iter().enumerate() {
                let (sin, cos) = (TAU * f_hz * i as f64 / fs_hz).sin_cos();
                re += (v - mean) * cos;
                im += (v - mean) * sin;
                all += (v - mean) * (v - mean);
            }
            // A sine of amplitude a has |X| = n a / 2 and a sum of squares of n a^2 / 2.
            hum += 2.0 * (re * re + im * im) / n;
        }
        (all > 0.0).then(|| (hum / all).min(1.0)).filter(|s| s.is_finite())
    };
    [share(50.0), share(60.0)].into_iter().flatten().reduce(f64::max)
}

/// How many samples lie in runs of at least `shortest`, a run being samples of which each neighbouring pair is `alike`.
fn in_runs(y: &[f64], shortest: usize, alike: impl Fn(f64, f64) -> bool) -> usize {
    let runs = y.chunk_by(|a, b| alike(*a, *b));
    runs.map(<[f64]>::len).filter(|n| *n >= shortest.max(2)).sum()
}

fn measure_beats(d: &Detection, fs_hz: f64, min_beats: usize, m: &mut Measures) {
    let (y, peaks) = (&d.filtered, &d.peaks);
    m.beats = peaks.len();
    let n = y.len() as f64;
    let mean = y.iter().sum::<f64>() / n;
    let moment = |k: i32| y.iter().map(|v| (v - mean).powi(k)).sum::<f64>() / n;
    let variance = moment(2);
    if variance > 0.0 {
        m.kurtosis = Some(moment(4) / (variance * variance));
    }
    let (before, after) = ((0.2 * fs_hz) as usize, (0.35 * fs_hz) as usize);
    let mut beats: Vec<Vec<f64>> = peaks
        .iter()
        .filter(|&&p| p >= before && p + after < y.len())
        .map(|&p| y[p - before..p + after].to_vec())
        .collect();
    if peaks.len() < min_beats.max(2) || beats.len() < min_beats.max(2) {
        return;
    }
    let mut rr: Vec<f64> = peaks.windows(2).map(|w| (w[1] - w[0]) as f64 / fs_hz).collect();
    m.heart_rate_bpm = Some(60.0 / median_in_place(&mut rr));
    for beat in &mut beats {
        let mean = beat.iter().sum::<f64>() / beat.len() as f64;
        beat.iter_mut().for_each(|v| *v -= mean);
    }
    let mut column = vec![0.0; beats.len()];
    let template: Vec<f64> = (0..before + after)
        .map(|i| {
            column.iter_mut().zip(&beats).for_each(|(c, b)| *c = b[i]);
            median_in_place(&mut column)
        })
        .collect();
    let norm = |v: &[f64]| v.iter().map(|a| a * a).sum::<f64>().sqrt();
    let size = norm(&template);
    let mut correlations: Vec<f64> = beats
        .iter()
        .map(|b| {
            let product = norm(b) * size;
            let dot: f64 = b.iter().zip(&template).map(|(p, q)| p * q).sum();
            if product > 0.0 { dot / product } else { 0.0 }
        })
        .collect();
    m.template_correlation = Some(median_in_place(&mut correlations));
}

/// How many stretches were judged, kept and dropped, and for which reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QualityCounts {
    /// Stretches judged.
    pub judged: usize,
    /// Stretches kept.
    pub kept: usize,
    by_reason: [usize; Reason::ALL.len()],
}

impl QualityCounts {
    /// Counts one verdict.
    pub fn add(&mut self, verdict: &Verdict) {
        self.judged += 1;
        self.kept += usize::from(verdict.usable());
        for (slot, reason) in self.by_reason.iter_mut().zip(Reason::ALL) {
            *slot += usize::from(verdict.reasons.contains(&reason));
        }
    }
    /// Adds the counts of another part of the data.
    pub fn merge(&mut self, other: &Self) {
        self.judged += other.judged;
        self.kept += other.kept;
        self.by_reason.iter_mut().zip(other.by_reason).for_each(|(a, b)| *a += b);
    }
    /// Stretches dropped.
    pub fn dropped(&self) -> usize {
        self.judged - self.kept
    }
    /// Stretches to which `reason` applied; one stretch may count under several reasons.
    pub fn with_reason(&self, reason: Reason) -> usize {
        Reason::ALL.iter().zip(self.by_reason).find(|(r, _)| **r == reason).map_or(0, |(_, n)| n)
    }
}

impl fmt::Display for QualityCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kept {} of {}", self.kept, self.judged)?;
        if self.dropped() > 0 {
            write!(f, "; dropped {}", self.dropped())?;
            let given = Reason::ALL.iter().zip(self.by_reason).filter(|(_, n)| *n > 0);
            for (i, (reason, n)) in given.enumerate() {
                write!(f, "{}{reason} {n}", if i == 0 { ": " } else { ", " })?;
            }
        }
        Ok(())
    }
}

/// A gate that judges and counts.
///
/// ```
/// use heartlore::signal::{QualityGate, QualitySettings};
/// let mut gate = QualityGate::new(QualitySettings::default());
/// let verdict = gate.judge(&[0.0; 1280], 128.0, None)?;
/// assert!(!verdict.usable());
/// assert_eq!(gate.counts().to_string(), "kept 0 of 1; dropped 1: flat line 1, too few beats 1");
/// # Ok::<(), heartlore::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct QualityGate {
    settings: QualitySettings,
    counts: QualityCounts,
}

impl QualityGate {
    /// A gate that has counted nothing yet.
    pub fn new(settings: QualitySettings) -> Self {
        Self { settings, counts: QualityCounts::default() }
    }
    /// [`QualitySettings::judge`], counted.
    ///
    /// # Errors
    /// As [`QualitySettings::judge`]; nothing is counted then.
    pub fn judge(&mut self, x: &[f64], fs_hz: f64, mv_per_unit: Option<f64>) -> Result<Verdict> {
        let verdict = self.settings.judge(x, fs_hz, mv_per_unit)?;
        self.counts.add(&verdict);
        Ok(verdict)
    }
    /// The thresholds.
    pub fn settings(&self) -> &QualitySettings {
        &self.settings
    }
    /// What was counted so far.
    pub fn counts(&self) -> &QualityCounts {
        &self.counts
    }
}
