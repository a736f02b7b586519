//! Heart rate and its simplest variability measures from RR intervals.
//!
//! Definitions after the Task Force of the European Society of Cardiology and the North American Society of Pacing and
//! Electrophysiology, Heart rate variability: standards of measurement, Circulation 93 (1996) 1043-1065, table 1. Only
//! measures in the time domain that are meaningful on windows of tens of seconds live here; spectral and nonlinear ones
//! need minutes and would be siblings of this file.

use crate::error::{Error, Result};

/// RR intervals in seconds outside this range (33 to 182 beats per minute) are taken for detection errors by
/// [`plausible_rr_s`].
pub const PLAUSIBLE_RR_S: (f64, f64) = (0.33, 1.8);

/// Intervals between successive R peaks, in seconds, from their sample indices.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a sampling rate that is not positive,
/// [`Kind::Data`](crate::error::Kind::Data) for peaks that do not increase.
pub fn rr_intervals_s(peaks: &[usize], fs_hz: f64) -> Result<Vec<f64>> {
    if !(fs_hz > 0.0 && fs_hz.is_finite()) {
        return Err(Error::usage(format!("sampling rate {fs_hz} Hz is not a positive number")));
    }
    let interval = |w: &[usize]| match w[1].checked_sub(w[0]) {
        Some(d) if d > 0 => Ok(d as f64 / fs_hz),
        _ => Err(Error::data(format!("R peaks at samples {} and {} are not in order", w[0], w[1]))),
    };
    peaks.windows(2).map(interval).collect()
}

/// The intervals inside [`PLAUSIBLE_RR_S`], in order, and how many were dropped.
pub fn plausible_rr_s(rr_s: &[f64]) -> (Vec<f64>, usize) {
    let (low, high) = PLAUSIBLE_RR_S;
    let kept: Vec<f64> = rr_s.iter().copied().filter(|v| (low..=high).contains(v)).collect();
    let dropped = rr_s.len() - kept.len();
    (kept, dropped)
}

/// Heart rate and variability of a run of RR intervals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeartRate {
    /// 60 over the mean interval, in beats per minute.
    pub mean_bpm: f64,
    /// Standard deviation of the intervals, in milliseconds, divided by n - 1.
    pub sdnn_ms: f64,
    /// Root of the mean squared difference of successive intervals, in milliseconds.
    pub rmssd_ms: f64,
    /// Longest minus shortest interval, in milliseconds.
    pub range_ms: f64,
    /// How many intervals.
    pub intervals: usize,
}

impl HeartRate {
    /// Measures of at least two intervals, in seconds.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind::Data) for fewer than two intervals or one that is not a positive number.
    ///
    /// ```
    /// let hr = heartlore::signal::HeartRate::of(&[1.0, 0.9, 1.1])?;
    /// assert!((hr.mean_bpm - 60.0).abs() < 1e-9 && (hr.sdnn_ms - 100.0).abs() < 1e-9);
    /// # Ok::<(), heartlore::Error>(())
    /// ```
    pub fn of(rr_s: &[f64]) -> Result<Self> {
        if rr_s.len() < 2 {
            return Err(Error::data(format!(
                "{} RR intervals are too few for a heart rate with variability",
                rr_s.len()
            )));
        }
        if let Some(i) = rr_s.iter().position(|v| !(*v > 0.0 && v.is_finite())) {
            return Err(Error::data(format!("RR interval of {} s", rr_s[i])).at(format!("interval {i}")));
        }
        let n = rr_s.len() as f64;
        let mean = rr_s.iter().sum::<f64>() / n;
        let squares: f64 = rr_s.iter().map(|v| (v - mean) * (v - mean)).sum();
        let steps: f64 = rr_s.windows(2).map(|w| (w[1] - w[0]) * (w[1] - w[0])).sum();
        let (low, high) = rr_s.iter().fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(*v), h.max(*v)));
        Ok(Self {
            mean_bpm: 60.0 / mean,
            sdnn_ms: 1000.0 * (squares / (n - 1.0)).sqrt(),
            rmssd_ms: 1000.0 * (steps / (n - 1.0)).sqrt(),
            range_ms: 1000.0 * (high - low),
            intervals: rr_s.len(),
        })
    }

    /// From R peaks: intervals, implausible ones dropped, measured. `None` when fewer than two remain. Successive
    /// differences across a dropped interval count as successive.
    ///
    /// # Errors
    /// As [`rr_intervals_s`].
    pub fn from_peaks(peaks: &[usize], fs_hz: f64) -> Result<Option<Self>> {
        let (kept, _) = plausible_rr_s(&rr_intervals_s(peaks, fs_hz)?);
        if kept.len() < 2 { Ok(None) } else { Self::of(&kept).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn measures_by_hand() {
        // Intervals 800, 900, 700, 800 ms: mean 800, squares 0 + 10^4 + 10^4 + 0, steps 100, -200, 100.
        let hr = HeartRate::of(&[0.8, 0.9, 0.7, 0.8]).unwrap();
        assert!((hr.mean_bpm - 75.0).abs() < 1e-12);
        assert!((hr.sdnn_ms - (20_000.0f64 / 3.0).sqrt()).abs() < 1e-9);
        assert!((hr.rmssd_ms - (60_000.0f64 / 3.0).sqrt()).abs() < 1e-9);
        assert!((hr.range_ms - 200.0).abs() < 1e-9);
        assert_eq!(hr.intervals, 4);
    }

    #[test]
    fn implausible_intervals_are_dropped_and_counted() {
        assert_eq!(plausible_rr_s(&[0.8, 0.1, 2.5, 0.9]), (vec![0.8, 0.9], 2));
        let hr = HeartRate::from_peaks(&[0, 100, 105, 205], 100.0).unwrap().unwrap();
        assert_eq!((hr.intervals, hr.mean_bpm), (2, 60.0));
        assert!(HeartRate::from_peaks(&[5], 100.0).unwrap().is_none());
    }

    #[test]
    fn bad_input() {
        assert_eq!(HeartRate::of(&[0.8]).unwrap_err().kind(), Kind::Data);
        assert_eq!(HeartRate::of(&[0.8, f64::NAN]).unwrap_err().kind(), Kind::Data);
        assert_eq!(rr_intervals_s(&[3, 3], 100.0).unwrap_err().kind(), Kind::Data);
        assert_eq!(rr_intervals_s(&[3, 4], 0.0).unwrap_err().kind(), Kind::Usage);
    }
}
