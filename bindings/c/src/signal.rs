//! Beats and signal quality, without a model.

use heartlore::error::Result;
use heartlore::signal::hrv::{NnSeries, NnSettings, TimeDomain};
use heartlore::signal::{QualitySettings, find_beats};

use crate::error::{guard, heartlore_error};
use crate::handle::{borrow_mut, slice, slice_mut};
use crate::model::given;
use crate::quality_code;

/// R peaks of `samples` (NaN where one is missing): their sample numbers, ascending, in `out`, and how many there are in
/// `found`. If there are more than `out_len`, the first `out_len` are written and `found` says how much room it takes; `out` may
/// be null when `out_len` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_beats(
    samples: *const f64,
    samples_len: usize,
    fs_hz: f64,
    out: *mut usize,
    out_len: usize,
    found: *mut usize,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid for their lengths, as the header asks.
    unsafe {
        guard(error, || {
            let found = borrow_mut(found, "found")?;
            *found = 0;
            let out = slice_mut(out, out_len, "out")?;
            let beats = find_beats(slice(samples, samples_len, "samples")?, fs_hz)?;
            for (i, beat) in beats.samples().enumerate() {
                if let Some(slot) = out.get_mut(i) {
                    *slot = beat;
                }
                *found = i + 1;
            }
            Ok(())
        })
    }
}

/// The quality gate's judgement of one stretch of signal.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct heartlore_quality {
    /// HEARTLORE_QUALITY_OK or the first reason against it: see heartlore_quality_name.
    pub quality: i32,
    /// From 0 (no ECG) to 1 (clean).
    pub index: f64,
    /// Median heart rate in beats per minute; NaN if it could not be taken.
    pub heart_rate_bpm: f64,
    /// R peaks that were found.
    pub beats: usize,
    /// Samples that are missing.
    pub missing: usize,
}

/// Judges `samples`. `mv_per_unit`: millivolts per unit of the samples, 0 if nobody knows (amplitudes are then not judged).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_judge(
    samples: *const f64,
    samples_len: usize,
    fs_hz: f64,
    mv_per_unit: f64,
    out: *mut heartlore_quality,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid for their lengths, as the header asks.
    unsafe {
        guard(error, || -> Result<()> {
            let out = borrow_mut(out, "out")?;
            let samples = slice(samples, samples_len, "samples")?;
            let verdict = QualitySettings::default().judge(samples, fs_hz, given(mv_per_unit))?;
            *out = heartlore_quality {
                quality: quality_code(verdict.reasons.first().map_or("ok", |r| r.name())),
                index: verdict.index(),
                heart_rate_bpm: verdict.measures.heart_rate_bpm.unwrap_or(f64::NAN),
                beats: verdict.measures.beats,
                missing: verdict.measures.non_finite,
            };
            Ok(())
        })
    }
}

/// Heart rate and heart-rate variability in the time domain (Task Force 1996). NaN where there are too few beats.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct heartlore_hrv {
    /// 60000 over the mean normal interval in ms: beats per minute.
    pub mean_bpm: f64,
    /// Standard deviation of the normal intervals, ms.
    pub sdnn_ms: f64,
    /// Root of the mean squared difference of successive normal intervals, ms.
    pub rmssd_ms: f64,
    /// Successive differences of more than 50 ms, percent.
    pub pnn50_percent: f64,
    /// Normal intervals.
    pub intervals: usize,
    /// Intervals left out as not normal.
    pub dropped: usize,
}

/// Measures of the beats at `beats_s` (seconds, ascending).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_measure_hrv(
    beats_s: *const f64,
    beats_len: usize,
    out: *mut heartlore_hrv,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid for their lengths, as the header asks.
    unsafe {
        guard(error, || -> Result<()> {
            let out = borrow_mut(out, "out")?;
            let beats_s = slice(beats_s, beats_len, "beats_s")?;
            let nn = NnSeries::from_beats(beats_s, &NnSettings::default())?;
            let time = TimeDomain::of(&nn);
            let or_nan = |f: fn(&TimeDomain) -> f64| time.as_ref().map_or(f64::NAN, f);
            *out = heartlore_hrv {
                mean_bpm: or_nan(|t| t.mean_bpm),
                sdnn_ms: or_nan(|t| t.sdnn_ms),
                rmssd_ms: or_nan(|t| t.rmssd_ms),
                pnn50_percent: or_nan(|t| t.pnn50_percent),
                intervals: nn.intervals_ms().len(),
                dropped: nn.dropped(),
            };
            Ok(())
        })
    }
}
