//! A recording's samples into a model's windows: filter, resample, cut, judge, normalise.
//!
//! Order of the steps, and why:
//!
//! 1. Losses of a few samples are filled in ([`bridge_losses`]: at most 40 ms, counted); the stretches between longer ones are
//!    treated apart.
//! 2. Band-pass at the recording's own rate, then resampling.
//! 3. The quality gate looks at the samples as recorded under each window: filtering and resampling round off clipped and
//!    flat stretches.
//! 4. Normalisation last.
//!
//! The prepared store, prediction from files and [`crate::model::Stream`] all take these steps, so a model sees windows
//! made in one way only.

use std::ops::Range;

use super::sos::zero_phase;
use super::{
    Band, Normalisation, QualitySettings, Reason, Resampler, Scaler, Sos, SosFilter, Window, Windows,
    bridge_losses, butterworth, finite_runs, windows,
};
use crate::error::{Error, Result};

/// A Butterworth band-pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BandPass {
    /// Order per edge: 4 makes 8 poles, as `scipy.signal.butter(4, ..., 'bandpass')`.
    pub order: usize,
    /// Lower cut-off, Hz.
    pub low_hz: f64,
    /// Upper cut-off, Hz.
    pub high_hz: f64,
    /// Forward and backward (no delay) or forward only.
    pub zero_phase: bool,
}

impl BandPass {
    /// The filter for samples at `fs_hz`.
    ///
    /// # Errors
    /// As [`butterworth`].
    pub fn design(&self, fs_hz: f64) -> Result<Sos> {
        butterworth(self.order, Band::Bandpass { low_hz: self.low_hz, high_hz: self.high_hz }, fs_hz)
    }
}

/// How windows are made of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Preparation {
    /// Samples per second of the windows.
    pub rate_hz: f64,
    /// Applied at the recording's own rate before resampling.
    pub filter: Option<BandPass>,
    /// Samples per window.
    pub window: usize,
    /// Samples from one window's start to the next.
    pub hop: usize,
    /// Over what windows are centred and scaled.
    pub normalisation: Normalisation,
    /// The quality gate; `None` judges nothing.
    pub quality: Option<QualitySettings>,
}

/// Windows of 10 s at 128 Hz side by side, band-pass of order 4 from 0.8 to 50 Hz with zero phase, each normalised by itself,
/// with the quality gate.
impl Default for Preparation {
    fn default() -> Self {
        Self {
            rate_hz: 128.0,
            filter: Some(BandPass { order: 4, low_hz: 0.8, high_hz: 50.0, zero_phase: true }),
            window: 1280,
            hop: 1280,
            normalisation: Normalisation::Window,
            quality: Some(QualitySettings::default()),
        }
    }
}

/// What the quality gate says about one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// There was no gate.
    Unchecked,
    /// It passed.
    Usable,
    /// It failed, first of all for this reason.
    Failed(Reason),
}

impl Judgement {
    /// `unchecked`, `ok`, or the reason in a few words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Usable => "ok",
            Self::Failed(reason) => reason.name(),
        }
    }

    /// Whether nothing speaks against the window.
    pub fn is_usable(self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

/// A stretch without missing samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// The samples as recorded, at the recording's rate.
    pub raw: Range<usize>,
    /// Filtered and resampled to the windows' rate.
    pub ready: Vec<f64>,
}

/// A recording filtered and resampled, not yet cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Filtered {
    /// Sampling rate of the recording, Hz.
    pub fs_hz: f64,
    /// The stretches long enough for a window, in order.
    pub stretches: Vec<Stretch>,
    /// Samples that are missing (not finite) and were not filled in, at the recording's rate.
    pub missing: usize,
    /// Where short losses were filled in.
    pub bridged: Vec<Range<usize>>,
    /// The samples with these filled in, if there are any.
    filled: Option<Vec<f64>>,
    /// Samples of stretches too short for a window, at the windows' rate.
    pub left_over: usize,
}

/// A window that is judged but not yet normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// Seconds from the first sample of the recording.
    pub start_s: f64,
    /// The gate's judgement.
    pub quality: Judgement,
    /// Filtered samples at the windows' rate.
    pub samples: &'a [f64],
}

impl Filtered {
    /// The scaler of all stretches together.
    ///
    /// # Errors
    /// As [`Scaler::z_score_over`]; no stretch.
    pub fn scaler(&self) -> Result<Scaler> {
        let parts: Vec<&[f64]> = self.stretches.iter().map(|s| s.ready.as_slice()).collect();
        Scaler::z_score_over(&parts)
    }
}

impl Preparation {
    /// Filters and resamples the finite stretches of `samples`, which come at `fs_hz`.
    ///
    /// # Errors
    /// A rate that cannot hold the filter's band or has no usable ratio to the windows' rate.
    pub fn filter(&self, samples: &[f64], fs_hz: f64) -> Result<Filtered> {
        let filter = match &self.filter {
            Some(f) => Some((f.design(fs_hz)?, f.zero_phase)),
            None => None,
        };
        let resampler = Resampler::between(fs_hz, self.rate_hz)?;
        let mut filled = None;
        let mut bridged = Vec::new();
        if !super::lanes::all_finite(samples) {
            let mut copy = samples.to_vec();
            bridged = bridge_losses(&mut copy, fs_hz);
            filled = (!bridged.is_empty()).then_some(copy);
        }
        let samples = filled.as_deref().unwrap_or(samples);
        let runs = finite_runs(samples);
        let missing = samples.len() - runs.iter().map(Range::len).sum::<usize>();
        let (mut stretches, mut left_over) = (Vec::new(), 0);
        for run in runs {
            let length = resampler.output_len(run.len());
            let padding = filter
                .as_ref()
                .map_or(0, |(sos, zero_phase)| if *zero_phase { sos.default_padlen() } else { 0 });
            if length < self.window || run.len() <= padding {
                left_over += length;
                continue;
            }
            let raw = &samples[run.clone()];
            let ready = match &filter {
                Some((sos, true)) => {
                    let y = zero_phase(sos, raw, padding)?;
                    resampler.apply_finite(&y[padding..padding + raw.len()])
                }
                Some((sos, false)) => {
                    let mut y = raw.to_vec();
                    SosFilter::settled_at(sos.clone(), raw[0])?.process(&mut y)?;
                    resampler.apply_finite(&y)
                }
                None => resampler.apply_finite(raw),
            };
            stretches.push(Stretch { raw: run, ready });
        }
        Ok(Filtered { fs_hz, stretches, missing, bridged, filled, left_over })
    }

    /// Cuts and judges windows. `samples` is what was filtered; `mv_per_unit` says how many millivolts one unit of it is,
    /// `None` if nobody knows. Also the samples that fill no window, at the windows' rate.
    ///
    /// # Errors
    /// Samples so large that the filter overflows; a rate too low for the gate.
    pub fn candidates<'a>(
        &self,
        samples: &[f64],
        filtered: &'a Filtered,
        mv_per_unit: Option<f64>,
    ) -> Result<(Vec<Candidate<'a>>, usize)> {
        let fs_hz = filtered.fs_hz;
        let samples = filtered.filled.as_deref().unwrap_or(samples);
        let mut left_over = filtered.left_over;
        let mut places: Vec<(&Stretch, Window)> = Vec::new();
        for stretch in &filtered.stretches {
            let Windows { windows, left_over: rest, non_finite } =
                windows(&stretch.ready, self.window, self.hop)?;
            if non_finite > 0 {
                return Err(overflow());
            }
            left_over += rest;
            places.extend(windows.into_iter().map(|w| (stretch, w)));
        }
        let verdicts = match &self.quality {
            Some(gate) => {
                let as_recorded = |(stretch, place): &(&Stretch, Window)| {
                    let raw = &samples[stretch.raw.clone()];
                    &raw[self.under(*place, fs_hz, raw.len())]
                };
                let windows: Vec<&[f64]> = places.iter().map(as_recorded).collect();
                Some(gate.judge_all(&windows, fs_hz, mv_per_unit)?)
            }
            None => None,
        };
        let candidates = places.into_iter().enumerate().map(|(i, (stretch, place))| Candidate {
            start_s: stretch.raw.start as f64 / fs_hz + place.start_s(self.rate_hz),
            quality: verdicts.as_ref().map_or(Judgement::Unchecked, |v| judgement(&v[i].reasons)),
            samples: &stretch.ready[place.range()],
        });
        Ok((candidates.collect(), left_over))
    }

    /// The samples as recorded under a window, of a stretch of `len` samples.
    pub(crate) fn under(&self, place: Window, fs_hz: f64, len: usize) -> Range<usize> {
        let first = (place.start_s(self.rate_hz) * fs_hz).round() as usize;
        let last = ((place.end_s(self.rate_hz) * fs_hz).round() as usize).min(len);
        first.min(last)..last
    }

    /// A window's values as the model takes them; `None` for a window without variation, which cannot be scaled.
    /// `whole` is the recording's or the subject's scaler, where one is used.
    ///
    /// # Errors
    /// As [`Scaler::z_score`].
    pub fn normalised(&self, window: &[f64], whole: Option<&Scaler>) -> Result<Option<Vec<f32>>> {
        let scaler = match self.normalisation {
            Normalisation::None => return Ok(Some(window.iter().map(|x| *x as f32).collect())),
            Normalisation::Window => Scaler::z_score(window)?,
            Normalisation::Recording | Normalisation::Subject => *whole.ok_or_else(|| {
                Error::usage(format!("windows normalised per {} need its scaler", self.normalisation))
            })?,
        };
        Ok((!scaler.flat).then(|| scaler.applied(window)))
    }
}

/// The first reason decides.
pub(crate) fn judgement(reasons: &[Reason]) -> Judgement {
    reasons.first().map_or(Judgement::Usable, |reason| Judgement::Failed(*reason))
}

/// What finite samples that a filter turns into infinities lead to.
pub(crate) fn overflow() -> Error {
    Error::numeric("filtering overflows: the samples are too large")
        .remedy("check the unit and the gain in the file's header")
}
