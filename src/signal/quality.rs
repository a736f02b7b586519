//! The quality gate: is this stretch an ECG one can learn from? What it drops is counted, by reason.
//!
//! Run it on the signal as recorded where possible: filtering and resampling round off clipped and flat stretches, which
//! are then harder to see. The beat measures filter for themselves. [`Verdict::index`] sums a judgement up in one number.
//!
//! Many windows are best judged by one call of [`QualitySettings::judge_all`]: filter and tables are made once, eight windows
//! pass the detector side by side (`rpeak.rs`), and no measure sorts a window or asks for a sine. On one core of an Intel
//! Emerald Rapids VM (`cargo bench --bench signal`) the gate takes 16 ns a sample, and 35 when each
//! window is judged by a call of its own.

use super::lanes::{self, LANES, each};
use super::rpeak::{Detection, Detector, Scratch};
use super::{finite_runs, median_in_place};
use crate::error::{Error, Result};
use heartlore_kernels::isa::{Simd, Task};
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
    /// Its waves are no QRS complexes: too smooth (a pulse wave, breathing) or a square wave.
    Shape,
    /// Samples wrapped around from one end of the converter's range to the other: an integer overflow.
    Wrapped,
    /// Most of it is power-line interference.
    Powerline,
}

impl Reason {
    /// All reasons, in the order in which they are checked and listed.
    pub const ALL: [Self; 14] = [
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
        Self::Shape,
        Self::Wrapped,
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
            Self::Shape => "waves unlike QRS complexes",
            Self::Wrapped => "amplitude wrapped around by overflow",
            Self::Powerline => "power-line interference",
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
    /// Largest share of power-line interference. Default 0.9: a wave of three times the ECG's own size is still taken out whole by a
    /// low-pass or a notch; what is left beyond that has lost digits in the converter.
    pub max_powerline_share: f64,
}

impl QualitySettings {
    /// Every threshold by name, for files and messages; [`QualitySettings::from_named`] reads them back.
    pub fn named(&self) -> [(&'static str, f64); 14] {
        // Taken apart without `..`, so that a new threshold cannot be forgotten.
        let Self {
            min_length_s,
            flat_run_s,
            max_flat_share,
            clip_run_s,
            max_clip_share,
            min_peak_to_peak_mv,
            max_peak_to_peak_mv,
            max_spike_ratio,
            min_beats,
            min_heart_rate_bpm,
            max_heart_rate_bpm,
            min_template_correlation,
            min_kurtosis,
            max_powerline_share,
        } = *self;
        [
            ("min_length_s", min_length_s),
            ("flat_run_s", flat_run_s),
            ("max_flat_share", max_flat_share),
            ("clip_run_s", clip_run_s),
            ("max_clip_share", max_clip_share),
            ("min_peak_to_peak_mv", min_peak_to_peak_mv),
            ("max_peak_to_peak_mv", max_peak_to_peak_mv),
            ("max_spike_ratio", max_spike_ratio),
            ("min_beats", min_beats as f64),
            ("min_heart_rate_bpm", min_heart_rate_bpm),
            ("max_heart_rate_bpm", max_heart_rate_bpm),
            ("min_template_correlation", min_template_correlation),
            ("min_kurtosis", min_kurtosis),
            ("max_powerline_share", max_powerline_share),
        ]
    }

    /// The thresholds that `value` gives for each name; `None` if it has none for one of them. Thresholds that a file of
    /// an earlier version does not know could be given their meaning then here.
    pub fn from_named(mut value: impl FnMut(&str) -> Option<f64>) -> Option<Self> {
        Some(Self {
            min_length_s: value("min_length_s")?,
            flat_run_s: value("flat_run_s")?,
            max_flat_share: value("max_flat_share")?,
            clip_run_s: value("clip_run_s")?,
            max_clip_share: value("max_clip_share")?,
            min_peak_to_peak_mv: value("min_peak_to_peak_mv")?,
            max_peak_to_peak_mv: value("max_peak_to_peak_mv")?,
            max_spike_ratio: value("max_spike_ratio")?,
            min_beats: value("min_beats").filter(|n| n.fract() == 0.0 && (0.0..1e9).contains(n))? as usize,
            min_heart_rate_bpm: value("min_heart_rate_bpm")?,
            max_heart_rate_bpm: value("max_heart_rate_bpm")?,
            min_template_correlation: value("min_template_correlation")?,
            min_kurtosis: value("min_kurtosis")?,
            max_powerline_share: value("max_powerline_share")?,
        })
    }
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
    /// How much of the waves is QRS band: the range of the 5-30 Hz signal over that of the signal about its line, averaged
    /// over 20 ms, from 0.2 s before to 0.35 s after R, in the median beat; or, if that is at least 0.6, over the whole range.
    pub qrs_share: Option<f64>,
    /// Jumps from one end of the range to the other, out and back, in the middle of a steady rise or fall.
    pub wraps: usize,
    /// Share of the samples near the upper or near the lower end of the range (5 % of that between the 1st and 99th
    /// percentile), whichever is less: near 0 in an ECG, whose peaks are rare on one side.
    pub two_level_share: Option<f64>,
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
    /// What can be said before anything is measured.
    fn of_missing(non_finite: usize) -> Self {
        let reasons = if non_finite > 0 { vec![Reason::NonFinite] } else { Vec::new() };
        Self { reasons, measures: Measures { non_finite, ..Measures::default() } }
    }
    /// Whether nothing speaks against it.
    pub fn usable(&self) -> bool {
        self.reasons.is_empty()
    }
    /// One number from 0 (no ECG) to 1 (clean): the correlation of the beats with the median beat, times the shares of
    /// samples that are neither flat nor clipped and of the variance that is not power-line interference. 0 when any other reason speaks
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
        let mut verdicts = self.judge_all(&[x], fs_hz, mv_per_unit)?;
        verdicts.pop().ok_or_else(|| Error::numeric("no verdict"))
    }

    /// [`QualitySettings::judge`] of many stretches: the same verdicts, sooner. Stretches of one length are filtered eight
    /// at a time, and filter and tables are made once.
    ///
    /// # Errors
    /// As [`QualitySettings::judge`].
    pub fn judge_all(&self, xs: &[&[f64]], fs_hz: f64, mv_per_unit: Option<f64>) -> Result<Vec<Verdict>> {
        let mut verdicts = vec![Verdict { reasons: Vec::new(), measures: Measures::default() }; xs.len()];
        self.judge_each(xs, fs_hz, mv_per_unit, |i, verdict, _| verdicts[i] = verdict.clone())?;
        Ok(verdicts)
    }

    /// Hands each verdict to `visit`, in no particular order, with the index of its stretch and the beats found in the
    /// longest finite part of it (`None` where that is too short to search).
    pub(super) fn judge_each(
        &self,
        xs: &[&[f64]],
        fs_hz: f64,
        mv_per_unit: Option<f64>,
        mut visit: impl FnMut(usize, &Verdict, Option<Detection>),
    ) -> Result<()> {
        if let Some(mv) = mv_per_unit
            && !(mv > 0.0 && mv.is_finite())
        {
            return Err(Error::usage(format!("{mv} millivolts per unit is not a positive number")));
        }
        let detector = Detector::new(fs_hz)?;
        let power_line = PowerLine::new(fs_hz);
        let mut judged: Vec<(usize, &[f64], usize)> = Vec::with_capacity(xs.len());
        for (i, x) in xs.iter().enumerate() {
            let runs = finite_runs(x);
            let longest =
                runs.iter().max_by_key(|r| (r.len(), std::cmp::Reverse(r.start))).cloned().unwrap_or(0..0);
            let non_finite = x.len() - runs.iter().map(ExactSizeIterator::len).sum::<usize>();
            let y = &x[longest];
            if (y.len() as f64) < self.min_length_s * fs_hz || y.len() < 64 {
                let mut verdict = Verdict::of_missing(non_finite);
                verdict.reasons.push(Reason::TooShort);
                visit(i, &verdict, None);
            } else {
                judged.push((i, y, non_finite));
            }
        }
        judged.sort_by_key(|(i, y, _)| (y.len(), *i));
        let mut scratch = Scratch::default();
        for same in judged.chunk_by(|(_, a, _), (_, b, _)| a.len() == b.len()) {
            for group in same.chunks(LANES) {
                let found = if group.len() < WORTH_LANES {
                    group.iter().map(|(_, y, _)| detector.humps(y)).collect::<Result<Vec<_>>>()?
                } else {
                    let windows: Vec<&[f64]> = group.iter().map(|(_, y, _)| *y).collect();
                    detector.windows(&windows, &mut scratch)
                };
                for ((i, y, non_finite), found) in group.iter().zip(found) {
                    let detection = found.detection();
                    let measuring = Measuring {
                        settings: self,
                        y,
                        detection: &detection,
                        fs_hz,
                        power_line: &power_line,
                    };
                    let m = lanes::best(measuring);
                    let mut verdict = Verdict::of_missing(*non_finite);
                    verdict.measures = Measures { non_finite: *non_finite, ..m };
                    self.decide(mv_per_unit, &mut verdict);
                    visit(*i, &verdict, Some(detection));
                }
            }
        }
        Ok(())
    }

    /// Adds the reasons that the measures give.
    fn decide(&self, mv_per_unit: Option<f64>, verdict: &mut Verdict) {
        let Verdict { reasons, measures: m } = verdict;
        let mut flag = |broken: bool, reason| {
            if broken {
                reasons.push(reason);
            }
        };
        let above = |value: Option<f64>, limit: f64| value.is_some_and(|v| v > limit);
        flag(above(m.flat_share, self.max_flat_share), Reason::Flat);
        flag(above(m.clip_share, self.max_clip_share), Reason::Clipped);
        if let (Some(mv), Some(range)) = (mv_per_unit, m.peak_to_peak) {
            flag(range * mv < self.min_peak_to_peak_mv, Reason::AmplitudeLow);
            flag(range * mv > self.max_peak_to_peak_mv, Reason::AmplitudeHigh);
        }
        flag(above(m.spike_ratio, self.max_spike_ratio), Reason::Spike);
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
        let smooth = m.qrs_share.is_some_and(|v| v < MIN_QRS_SHARE);
        flag(smooth || above(m.two_level_share, MAX_TWO_LEVEL_SHARE), Reason::Shape);
        flag(m.wraps > 0, Reason::Wrapped);
        flag(above(m.powerline_share, self.max_powerline_share), Reason::Powerline);
    }
}

/// Smallest share of the QRS band in a beat. Of 15,500 windows of six data sets that pass the other thresholds the least has
/// 0.37, 99 % of each set have 0.47 and more; pulse waves have 0.1 to 0.37.
const MIN_QRS_SHARE: f64 = 0.37;
/// From this share of the whole range on the beats need not be looked at one by one.
const ENOUGH_QRS_SHARE: f64 = 0.6;
/// Largest share of samples at both ends of the range. A sine has 0.14, a square wave its duty.
const MAX_TWO_LEVEL_SHARE: f64 = 0.18;
/// A wrapped sample jumps over this share of the range and lands within [`WRAP_MARGIN`] of its other end.
const WRAP_JUMP: f64 = 0.8;
const WRAP_MARGIN: f64 = 0.15;
/// Longest excursion beyond the converter's range, in seconds.
const WRAP_S: f64 = 0.25;

/// Fewer windows than this go through the detector one by one: eight lanes take about three times as long as one signal.
const WORTH_LANES: usize = 3;

/// The measures of one finite stretch in which beats were sought. A task, so that its loops run on wide vectors.
struct Measuring<'a> {
    settings: &'a QualitySettings,
    y: &'a [f64],
    detection: &'a Detection,
    fs_hz: f64,
    power_line: &'a PowerLine,
}

impl Task for Measuring<'_> {
    type Out = Measures;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Measures {
        let Measuring { settings, y, detection, fs_hz, power_line } = self;
        let mut m = Measures::default();
        settings.measure_amplitude(y, fs_hz, &mut m);
        measure_beats(detection, fs_hz, settings.min_beats, &mut m);
        if m.template_correlation.is_some() {
            m.qrs_share = qrs_share(y, detection, fs_hz);
        }
        m.wraps = wraps(y, fs_hz);
        m.powerline_share = power_line.share(y);
        m
    }
}

impl QualitySettings {
    #[inline(always)]
    fn measure_amplitude(&self, y: &[f64], fs_hz: f64, m: &mut Measures) {
        let (low, high) = lanes::range(y);
        let range = high - low;
        let n = y.len() as f64;
        m.peak_to_peak = Some(range);
        let flat_run = (self.flat_run_s * fs_hz).ceil() as usize;
        m.flat_share = Some(in_runs(y, flat_run, |a, b| a == b) as f64 / n);
        let clip_run = ((self.clip_run_s * fs_hz).ceil() as usize).max(3);
        let at_limit = |a: f64, b: f64| a == b && (a == low || a == high);
        m.clip_share = Some(if range > 0.0 { in_runs(y, clip_run, at_limit) as f64 / n } else { 0.0 });
        let rank = |q: f64| (q * (n - 1.0)).round() as usize;
        let inner = order_statistics(y, rank(0.01), rank(0.99));
        // An inner range of 0 with an outer range above 0 is the extreme case of a spike on a flat line.
        m.spike_ratio = if range > 0.0 { Some(range / (inner.1 - inner.0)) } else { None };
        let near = 0.05 * (inner.1 - inner.0);
        if near > 0.0 {
            let (below, above) = (inner.0 + near, inner.1 - near);
            let share = |count: f64| count / n;
            let lower = lanes::sum(y, |v| f64::from(u8::from(v <= below)));
            let upper = lanes::sum(y, |v| f64::from(u8::from(v >= above)));
            m.two_level_share = Some(share(lower.min(upper)));
        }
    }
}

/// The samples of ranks `low` and `high` of all, counted from the smallest.
///
/// Sorting would cost more than all other measures together. The samples are dealt into some hundred hands; of the hands'
/// smallest samples the one of rank `low` is an upper bound for what is sought, and only hands that begin at or below
/// it hold smaller samples: of those there are `low` + 1, if none are equal. Likewise from the top.
#[inline(always)]
fn order_statistics(y: &[f64], low: usize, high: usize) -> (f64, f64) {
    const EACH: usize = 16;
    let from_top = y.len() - 1 - high;
    let hands = y.len() / EACH;
    let pick = |v: &mut [f64], rank: usize| *v.select_nth_unstable_by(rank, f64::total_cmp).1;
    if low.max(from_top) >= hands {
        let mut all = y.to_vec();
        return (pick(&mut all, low), pick(&mut all, high));
    }
    let (dealt, rest) = y.split_at(hands * EACH);
    let (mut smallest, mut largest) = (dealt[..hands].to_vec(), dealt[..hands].to_vec());
    for round in dealt.chunks_exact(hands).skip(1) {
        for ((v, small), large) in round.iter().zip(&mut smallest).zip(&mut largest) {
            *small = if *v < *small { *v } else { *small };
            *large = if *v > *large { *v } else { *large };
        }
    }
    let lower = pick(&mut smallest.clone(), low);
    let upper = pick(&mut largest.clone(), hands - 1 - from_top);
    let hand = |h: usize| dealt[h..].iter().step_by(hands).copied();
    let mut small: Vec<f64> = rest.to_vec();
    let mut large: Vec<f64> = rest.to_vec();
    for h in 0..hands {
        if smallest[h] <= lower {
            small.extend(hand(h).filter(|v| *v <= lower));
        }
        if largest[h] >= upper {
            large.extend(hand(h).filter(|v| *v >= upper));
        }
    }
    let at = large.len() - 1 - from_top;
    (pick(&mut small, low), pick(&mut large, at))
}

/// Power-line interference: waves of 50 and 60 Hz over one second.
struct PowerLine {
    second: usize,
    /// Cosine and sine of each frequency that the sampling rate can hold.
    waves: Vec<[Vec<f64>; 2]>,
}

impl PowerLine {
    fn new(fs_hz: f64) -> Self {
        let second = fs_hz.round() as usize;
        // At half the sampling rate the coefficient depends on the wave's phase.
        let held = [50.0, 60.0].into_iter().filter(|f_hz| *f_hz <= 0.45 * fs_hz);
        let wave = |f_hz: f64| {
            let angle = move |i: usize| TAU * f_hz * i as f64 / fs_hz;
            [(0..second).map(|i| angle(i).cos()).collect(), (0..second).map(|i| angle(i).sin()).collect()]
        };
        Self { second, waves: held.map(wave).collect() }
    }

    /// Share of the variance at 50 or 60 Hz, whichever is more: in each whole second, which holds a whole number of
    /// periods of either, the squared Fourier coefficient against the variance about the second's mean, both summed over
    /// the seconds.
    #[inline(always)]
    fn share(&self, y: &[f64]) -> Option<f64> {
        let n = self.second as f64;
        let mut at_mains = [0.0; 2];
        let mut all = 0.0;
        let mut centred = vec![0.0; self.second];
        for part in y.chunks_exact(self.second) {
            let mean = lanes::sum(part, |v| v) / n;
            centred.iter_mut().zip(part).for_each(|(c, v)| *c = v - mean);
            all += lanes::dot(&centred, &centred);
            for (power, [cosine, sine]) in at_mains.iter_mut().zip(&self.waves) {
                let (re, im) = (lanes::dot(&centred, cosine), lanes::dot(&centred, sine));
                // A sine of amplitude a has |X| = n a / 2 and a sum of squares of n a^2 / 2.
                *power += 2.0 * (re * re + im * im) / n;
            }
        }
        let share = |power: &f64| (all > 0.0).then(|| (power / all).min(1.0)).filter(|s| s.is_finite());
        at_mains.iter().take(self.waves.len()).filter_map(share).reduce(f64::max)
    }
}

/// How many samples lie in runs of at least `shortest`, a run being samples of which each neighbouring pair is `alike`.
///
/// A run of that length holds one of the pairs number 0, s, 2 s, ... with s = `shortest` - 1, so only these are looked at,
/// and around those that are alike the whole run.
#[inline(always)]
fn in_runs(y: &[f64], shortest: usize, alike: impl Fn(f64, f64) -> bool) -> usize {
    let shortest = shortest.max(2);
    let pair = |i: usize| alike(y[i], y[i + 1]);
    let (mut total, pairs) = (0, y.len().saturating_sub(1));
    let mut i = 0;
    while i < pairs {
        if !pair(i) {
            i += shortest - 1;
            continue;
        }
        let (mut first, mut last) = (i, i + 1);
        while first > 0 && pair(first - 1) {
            first -= 1;
        }
        while last < pairs && pair(last) {
            last += 1;
        }
        if last - first + 1 >= shortest {
            total += last - first + 1;
        }
        // On to the next pair of the grid: all up to `last` are done.
        i += (last - i).div_ceil(shortest - 1) * (shortest - 1);
    }
    total
}

/// See [`Measures::qrs_share`]. `None` for a range of 0.
#[inline(always)]
fn qrs_share(x: &[f64], d: &Detection, fs_hz: f64) -> Option<f64> {
    let span = |(low, high): (f64, f64)| high - low;
    let whole = span(lanes::range(&d.filtered)) / span(lanes::range(x));
    if whole >= ENOUGH_QRS_SHARE {
        return Some(whole);
    }
    let (before, after) = ((0.2 * fs_hz) as usize, (0.35 * fs_hz) as usize);
    let (width, average) = (before + after, ((0.02 * fs_hz).round() as usize).max(1));
    let inside = d.peaks.iter().filter(|&&p| p >= before && p + after + average <= x.len());
    let mut shares: Vec<f64> = inside
        .map(|p| {
            let begin = p - before;
            let smooth: Vec<f64> = x[begin..begin + width + average - 1]
                .windows(average)
                .map(|w| w.iter().sum::<f64>() / average as f64)
                .collect();
            // About the line through the means of the first and the last tenth, so that wander does not count.
            let tenth = (width / 10).max(1);
            let mean = |w: &[f64]| w.iter().sum::<f64>() / tenth as f64;
            let (a, b) = (mean(&smooth[..tenth]), mean(&smooth[width - tenth..]));
            let slope = (b - a) / (width - tenth) as f64;
            let (low, high) =
                smooth.iter().enumerate().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), (i, v)| {
                    let v = v - slope * i as f64;
                    (l.min(v), h.max(v))
                });
            span(lanes::range(&d.filtered[begin..begin + width])) / (high - low)
        })
        .filter(|v| v.is_finite())
        .collect();
    (!shares.is_empty()).then(|| median_in_place(&mut shares))
}

/// How often the signal leaves at one end of its range, comes back at the other while it goes on rising (or falling), and
/// returns the same way within [`WRAP_S`].
#[inline(always)]
fn wraps(y: &[f64], fs_hz: f64) -> usize {
    let (low, high) = lanes::range(y);
    let range = high - low;
    let jump = WRAP_JUMP * range;
    if range.is_nan() || range <= 0.0 {
        return 0;
    }
    let margin = WRAP_MARGIN * range;
    let reach = (WRAP_S * fs_hz) as usize;
    let (mut count, mut out): (usize, Option<(usize, bool)>) = (0, None);
    for i in 2..y.len() {
        let step = y[i] - y[i - 1];
        if step.abs() < jump {
            continue;
        }
        let upward = step > 0.0;
        let (from, to) = if upward { (y[i - 1] - low, high - y[i]) } else { (high - y[i - 1], y[i] - low) };
        // A jump down belongs to a rise beyond the top.
        let goes_on = |d: f64| if upward { d < -0.01 * range } else { d > 0.01 * range };
        if from > margin || to > margin || !goes_on(y[i - 1] - y[i - 2]) {
            continue;
        }
        match out {
            Some((at, was_upward)) if was_upward != upward && i - at <= reach => {
                count += 1;
                out = None;
            }
            _ => out = Some((i, upward)),
        }
    }
    count
}

#[inline(always)]
fn measure_beats(d: &Detection, fs_hz: f64, min_beats: usize, m: &mut Measures) {
    let (y, peaks) = (&d.filtered, &d.peaks);
    m.beats = peaks.len();
    let n = y.len() as f64;
    let mean = lanes::sum(y, |v| v) / n;
    let squared = |v: f64| (v - mean) * (v - mean);
    let variance = lanes::sum(y, squared) / n;
    if variance > 0.0 {
        m.kurtosis = Some(lanes::sum(y, |v| squared(v) * squared(v)) / n / (variance * variance));
    }
    let (before, after) = ((0.2 * fs_hz) as usize, (0.35 * fs_hz) as usize);
    let width = before + after;
    let starts: Vec<usize> =
        peaks.iter().filter(|&&p| p >= before && p + after < y.len()).map(|p| p - before).collect();
    let count = starts.len();
    if peaks.len() < min_beats.max(2) || count < min_beats.max(2) {
        return;
    }
    let mut rr: Vec<f64> = peaks.windows(2).map(|w| (w[1] - w[0]) as f64 / fs_hz).collect();
    m.heart_rate_bpm = Some(60.0 / median_in_place(&mut rr));
    // Beats about their means, side by side; rows are padded to whole vectors.
    let row = width.next_multiple_of(LANES);
    let mut beats = vec![0.0; count * row];
    for (beat, start) in beats.chunks_exact_mut(row).zip(starts) {
        let cut = &y[start..start + width];
        let mean = lanes::sum(cut, |v| v) / width as f64;
        beat.iter_mut().zip(cut).for_each(|(b, v)| *b = v - mean);
    }
    let template = median_beat(&beats, count, row);
    let norm = |v: &[f64]| lanes::dot(v, v).sqrt();
    let size = norm(&template);
    let mut correlations: Vec<f64> = beats
        .chunks_exact(row)
        .map(|b| {
            let product = norm(b) * size;
            if product > 0.0 { lanes::dot(b, &template) / product } else { 0.0 }
        })
        .collect();
    m.template_correlation = Some(median_in_place(&mut correlations));
}

/// Beats up to which medians are taken by a sorting network.
const NETWORK: usize = 64;

/// The median over `count` beats at each of `row` samples, a multiple of [`LANES`].
///
/// Eight samples at a time are sorted over the beats by Batcher's merge exchange (Knuth, The Art of Computer Programming
/// 3, 5.2.2, algorithm M), whose comparisons do not depend on the data and so serve all lanes. More than [`NETWORK`]
/// beats are selected from sample by sample.
#[inline(always)]
pub(super) fn median_beat(beats: &[f64], count: usize, row: usize) -> Vec<f64> {
    if count > NETWORK {
        let mut column = vec![0.0; count];
        return (0..row)
            .map(|i| {
                column.iter_mut().enumerate().for_each(|(k, c)| *c = beats[k * row + i]);
                median_in_place(&mut column)
            })
            .collect();
    }
    let pairs = merge_exchange(count);
    let mut template = vec![0.0; row];
    let mut column = [[0.0; LANES]; NETWORK];
    for (g, out) in template.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        for (k, c) in column[..count].iter_mut().enumerate() {
            c.copy_from_slice(&beats[k * row + g * LANES..][..LANES]);
        }
        for &(i, j) in &pairs {
            let (a, b) = (column[usize::from(i) % NETWORK], column[usize::from(j) % NETWORK]);
            column[usize::from(i) % NETWORK] = each(|l| a[l].min(b[l]));
            column[usize::from(j) % NETWORK] = each(|l| a[l].max(b[l]));
        }
        let (lower, upper) = (column[(count - 1) / 2], column[count / 2]);
        *out = each(|l| lower[l] + (upper[l] - lower[l]) / 2.0);
    }
    template
}

/// The comparisons that sort n numbers, n at most [`NETWORK`].
fn merge_exchange(n: usize) -> Vec<(u8, u8)> {
    let mut pairs = Vec::new();
    let top = n.next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            pairs.extend((0..n.saturating_sub(d)).filter(|i| i & p == r).map(|i| (i as u8, (i + d) as u8)));
            if q == p {
                break;
            }
            (d, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
    pairs
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Rng;
    use crate::signal::simulate::{EcgParameters, simulate_ecg};
    use proptest::prelude::*;

    proptest! {
        /// Against sorting and against counting runs; few distinct values, so that there are ties and runs of all lengths.
        #[test]
        fn ranks_and_runs_by_their_definitions(
            y in prop::collection::vec(prop::sample::select(vec![-2.0, -1.0, 0.0, 0.5, 3.0]), 64..600),
            spread in prop::bool::ANY, shortest in 0usize..9,
        ) {
            let y: Vec<f64> = y.iter().enumerate().map(|(i, v)| if spread { v + i as f64 * 1e-3 } else { *v }).collect();
            let mut sorted = y.clone();
            sorted.sort_by(f64::total_cmp);
            let n = y.len();
            for (low, high) in [(0, n - 1), (n / 100, n - 1 - n / 100), (n / 3, n / 2)] {
                prop_assert_eq!(order_statistics(&y, low, high), (sorted[low], sorted[high]));
            }
            let runs = y.chunk_by(|a, b| a == b);
            let want: usize = runs.map(<[f64]>::len).filter(|r| *r >= shortest.max(2)).sum();
            prop_assert_eq!(in_runs(&y, shortest, |a, b| a == b), want);
        }
    }

    /// Every count up to the network's largest, and one beyond, against the median of each column.
    #[test]
    fn the_median_beat_is_the_median_of_each_column() {
        let mut rng = Rng::new(4);
        for count in 2..=NETWORK + 1 {
            let row = 2 * LANES;
            let beats: Vec<f64> = (0..count * row).map(|_| rng.normal()).collect();
            let got = median_beat(&beats, count, row);
            for (i, got) in got.iter().enumerate() {
                let mut column: Vec<f64> = (0..count).map(|k| beats[k * row + i]).collect();
                assert_eq!(*got, median_in_place(&mut column), "{count} beats, column {i}");
            }
        }
    }

    /// Any number of stretches, of several lengths and kinds, gets the verdicts of one at a time, to the bit.
    #[test]
    fn many_stretches_get_the_verdicts_of_one_at_a_time() {
        let fs_hz = 250.0;
        let mut x = simulate_ecg(&EcgParameters::default(), 120.0, fs_hz, 8).unwrap().signal_mv;
        x[9000..12_000].fill(0.25);
        x[14_000] = f64::NAN;
        x.iter_mut().skip(20_000).take(4000).enumerate().for_each(|(i, v)| *v += (i as f64 * 1.3).sin());
        let settings = QualitySettings::default();
        let mut some_dropped = false;
        for len in [1300, 2500, 2501] {
            let mut windows: Vec<&[f64]> = x.chunks(len).collect();
            windows.push(&x[5..]);
            windows.push(&[]);
            for count in [1, 2, 3, 8, 9, windows.len()] {
                let together =
                    settings.judge_all(&windows[..count.min(windows.len())], fs_hz, Some(1.0)).unwrap();
                for (window, verdict) in windows.iter().zip(&together) {
                    some_dropped |= !verdict.usable();
                    assert_eq!(*verdict, settings.judge(window, fs_hz, Some(1.0)).unwrap());
                }
            }
        }
        assert!(some_dropped && settings.judge_all(&[], fs_hz, None).unwrap().is_empty());
        assert!(settings.judge_all(&[], 20.0, None).is_err());
    }

    /// The share of a pure wave is 1 at either frequency, and none is measured that the rate cannot hold.
    #[test]
    fn power_line_share_is_measured_where_it_can_be() {
        for (fs_hz, f_hz) in [(256.0, 50.0), (250.0, 60.0), (360.0, 60.0), (125.0, 50.0)] {
            let y: Vec<f64> = (0..2000).map(|i| 3.0 + (TAU * f_hz * f64::from(i) / fs_hz).sin()).collect();
            let share = PowerLine::new(fs_hz).share(&y).unwrap();
            assert!((share - 1.0).abs() < 1e-9, "{fs_hz} {f_hz}: {share}");
        }
        assert_eq!(PowerLine::new(100.0).share(&[1.0; 500]), None);
        assert_eq!(PowerLine::new(256.0).share(&[1.0; 1000]), None);
    }
}
