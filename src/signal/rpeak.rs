//! R-peak detection by derivative energy, in the family of Pan and Tompkins (IEEE TBME 32(3), 1985, 230-236).
//!
//! 1. Band-pass 5-30 Hz, zero-phase: keeps the QRS complex, drops baseline wander, P and T waves and mains hum.
//! 2. Square of the derivative, averaged over 100 ms: one hump per QRS complex.
//! 3. Humps above 0.8 times the mean energy within one second to each side count, the larger one first, none nearer
//!    than 0.3 s to a larger one.
//! 4. A hump within 0.4 s after a kept one and with less than a quarter of its energy (half its slope, as in the paper,
//!    which looks 0.36 s back) is a T wave and dropped.
//! 5. The R peak is the extremum of the filtered signal within 80 ms, all of one polarity: that which is larger in the
//!    median beat (a lead may be upside down, and jumping between R and S would be read as variability).
//!
//! Pan and Tompkins adapt two thresholds causally; here the whole recording is at hand, so the local mean does. The factor,
//! the refractory time and the T-wave rule were chosen on MIT-BIH records 100 and 208 (128 Hz, tolerance 150 ms as in
//! ANSI/AAMI EC57) and on the heart rates of 636 recordings of three other data sets (`tests/signal.rs`).
//!
//! On all annotated recordings at hand, each at its own rate (`tests/baseline_real.rs`, tolerance 150 ms):
//!
//! | recording | beats | missed | extra | sensitivity | positive predictivity |
//! |---|---|---|---|---|---|
//! | MIT-BIH 100 (tuned on) | 2273 | 0 | 0 | 100 % | 100 % |
//! | MIT-BIH 208 (tuned on) | 2955 | 9 | 4 | 99.70 % | 99.86 % |
//! | ECG-ID, persons 1 and 2, 42 recordings | 420 | 0 | - | 100 % | - |
//!
//! The first two are no test of generalisation, since settings were chosen on them. In ECG-ID ten beats of each recording
//! are annotated, by a program and unaudited, so detections elsewhere say nothing.

use super::{Band, butterworth, median_in_place, sosfiltfilt};
use crate::{Error, Result};

/// Lowest accepted sampling rate: below it the QRS band is cut.
pub const MIN_FS_HZ: f64 = 50.0;

const QRS_BAND_HZ: (f64, f64) = (5.0, 30.0);
const ENERGY_HALF_WIDTH_S: f64 = 0.05;
const LEVEL_HALF_WIDTH_S: f64 = 1.0;
const LEVEL_FACTOR: f64 = 0.8;
const REFRACTORY_S: f64 = 0.3;
const T_WAVE_S: f64 = 0.4;
const T_WAVE_ENERGY: f64 = 0.25;
const REFINE_S: f64 = 0.08;

/// The QRS-band signal with the peaks found in it.
pub(crate) struct Detection {
    pub(crate) filtered: Vec<f64>,
    pub(crate) peaks: Vec<usize>,
}

/// Indices of the R peaks in `x`, increasing. The unit of `x` and its polarity do not matter. Flat input has none.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a sampling rate below [`MIN_FS_HZ`];
/// [`Kind::Data`](crate::error::Kind::Data) for fewer than 22 samples or one that is not finite (naming the first).
///
/// ```
/// use heartlore::signal::{detect_r_peaks, simulate::{EcgParameters, simulate_ecg}};
/// let ecg = simulate_ecg(&EcgParameters::default(), 30.0, 256.0, 1)?;
/// let peaks = detect_r_peaks(&ecg.signal_mv, 256.0)?;
/// assert!(peaks.len().abs_diff(ecg.r_times_s.len()) <= 1);
/// # Ok::<(), heartlore::Error>(())
/// ```
pub fn detect_r_peaks(x: &[f64], fs_hz: f64) -> Result<Vec<usize>> {
    Ok(detect(x, fs_hz)?.peaks)
}

/// Fails for a sampling rate below [`MIN_FS_HZ`].
pub(crate) fn require_rate(fs_hz: f64) -> Result<()> {
    if !(fs_hz >= MIN_FS_HZ && fs_hz.is_finite()) {
        return Err(Error::usage(format!(
            "R peaks cannot be found at {fs_hz} Hz: {MIN_FS_HZ} Hz are needed"
        ))
        .remedy("resample the recording first"));
    }
    Ok(())
}

pub(crate) fn detect(x: &[f64], fs_hz: f64) -> Result<Detection> {
    let found = detect_humps(x, fs_hz)?;
    let peaks = found.peaks(polarity(&found.extents()));
    Ok(Detection { filtered: found.filtered, peaks })
}

/// The QRS-band signal with the humps of energy in it: one per beat, its peak not yet chosen.
pub(crate) struct Humps {
    filtered: Vec<f64>,
    pub(crate) humps: Vec<usize>,
    reach: usize,
}

pub(crate) fn detect_humps(x: &[f64], fs_hz: f64) -> Result<Humps> {
    require_rate(fs_hz)?;
    let (low_hz, high_hz) = (QRS_BAND_HZ.0, QRS_BAND_HZ.1.min(0.45 * fs_hz));
    let filtered = sosfiltfilt(&butterworth(3, Band::Bandpass { low_hz, high_hz }, fs_hz)?, x)?;
    let largest = |v: &[f64]| v.iter().fold(0.0f64, |m, s| m.max(s.abs()));
    if largest(&filtered) <= 1e-9 * largest(x) {
        // A constant leaves only the filter's rounding noise, which has peaks, too.
        return Ok(Humps { filtered, humps: vec![], reach: 0 });
    }
    let samples = |seconds: f64| (seconds * fs_hz).round() as usize;
    let squared: Vec<f64> = gradient(&filtered).into_iter().map(|d| d * d).collect();
    let energy = moving_mean(&squared, samples(ENERGY_HALF_WIDTH_S));
    let level = moving_mean(&energy, samples(LEVEL_HALF_WIDTH_S));
    let mut humps = spaced_maxima(&energy, samples(REFRACTORY_S));
    humps.retain(|&p| energy[p] > LEVEL_FACTOR * level[p]);
    drop_t_waves(&mut humps, &energy, samples(T_WAVE_S));
    Ok(Humps { filtered, humps, reach: samples(REFINE_S) })
}

/// Central differences, one-sided at the ends (NumPy's `gradient`). At least two samples.
fn gradient(y: &[f64]) -> Vec<f64> {
    let last = y.len() - 1;
    (0..y.len())
        .map(|i| {
            let (a, b) = (i.saturating_sub(1), (i + 1).min(last));
            (y[b] - y[a]) / (b - a) as f64
        })
        .collect()
}

/// Mean of the samples within `half` of each; of those that exist, at the ends.
fn moving_mean(x: &[f64], half: usize) -> Vec<f64> {
    let mut sums = Vec::with_capacity(x.len() + 1);
    let mut sum = 0.0;
    sums.push(0.0);
    for v in x {
        sum += v;
        sums.push(sum);
    }
    (0..x.len())
        .map(|i| {
            let (a, b) = (i.saturating_sub(half), (i + half + 1).min(x.len()));
            ((sums[b] - sums[a]) / (b - a) as f64).max(0.0)
        })
        .collect()
}

/// Local maxima (the middle of a plateau) such that none lies nearer than `distance` to a larger one that is kept.
fn spaced_maxima(x: &[f64], distance: usize) -> Vec<usize> {
    let mut maxima = Vec::new();
    let mut i = 1;
    while i + 1 < x.len() {
        if x[i - 1] < x[i] {
            let mut end = i;
            while end + 1 < x.len() && x[end + 1] == x[i] {
                end += 1;
            }
            if end + 1 < x.len() && x[end + 1] < x[i] {
                maxima.push(i.midpoint(end));
            }
            i = end + 1;
        } else {
            i += 1;
        }
    }
    let mut by_height: Vec<usize> = (0..maxima.len()).collect();
    by_height.sort_by(|&a, &b| x[maxima[b]].total_cmp(&x[maxima[a]]).then(a.cmp(&b)));
    let mut keep = vec![true; maxima.len()];
    for k in by_height {
        if !keep[k] {
            continue;
        }
        let near = |j: usize| maxima[j].abs_diff(maxima[k]) < distance;
        (0..k).rev().take_while(|&j| near(j)).for_each(|j| keep[j] = false);
        (k + 1..maxima.len()).take_while(|&j| near(j)).for_each(|j| keep[j] = false);
    }
    maxima.into_iter().zip(keep).filter_map(|(m, k)| k.then_some(m)).collect()
}

/// Drops humps that come within `reach` after a kept one and are much smaller.
fn drop_t_waves(humps: &mut Vec<usize>, energy: &[f64], reach: usize) {
    let mut last: Option<usize> = None;
    humps.retain(|&p| {
        let t_wave = last.is_some_and(|q| p - q < reach && energy[p] < T_WAVE_ENERGY * energy[q]);
        if !t_wave {
            last = Some(p);
        }
        !t_wave
    });
}

impl Humps {
    fn around(&self, p: usize) -> std::ops::Range<usize> {
        p.saturating_sub(self.reach)..(p + self.reach + 1).min(self.filtered.len())
    }

    /// For each hump, how far the signal goes up and down within reach.
    pub(crate) fn extents(&self) -> Vec<[f64; 2]> {
        let highest = |p: usize, sign: f64| {
            self.filtered[self.around(p)].iter().fold(f64::NEG_INFINITY, |m, v| m.max(sign * v))
        };
        self.humps.iter().map(|&p| [highest(p, 1.0), highest(p, -1.0)]).collect()
    }

    /// Moves each hump to the extremum within reach, upward for a `sign` of 1 and downward for -1.
    pub(crate) fn peaks(&self, sign: f64) -> Vec<usize> {
        let y = &self.filtered;
        let best = |&p: &usize| {
            let by_height = |a: &usize, b: &usize| (sign * y[*a]).total_cmp(&(sign * y[*b])).then(b.cmp(a));
            self.around(p).max_by(by_height).unwrap_or(p)
        };
        let mut peaks: Vec<usize> = self.humps.iter().map(best).collect();
        peaks.dedup();
        peaks
    }
}

/// The polarity of the median beat: 1 if its peak is the larger extremum, -1 if its trough is.
pub(crate) fn polarity(extents: &[[f64; 2]]) -> f64 {
    if extents.is_empty() {
        return 1.0;
    }
    let median = |i: usize| median_in_place(&mut extents.iter().map(|e| e[i]).collect::<Vec<_>>());
    if median(1) > median(0) { -1.0 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn maxima_keep_their_distance_largest_first() {
        let x = [0.0, 3.0, 0.0, 5.0, 0.0, 4.0, 4.0, 4.0, 0.0, 1.0, 0.0, 2.0];
        assert_eq!(spaced_maxima(&x, 1), [1, 3, 6, 9]);
        assert_eq!(spaced_maxima(&x, 3), [3, 6, 9]);
        assert_eq!(spaced_maxima(&x, 4), [3, 9]);
        assert!(spaced_maxima(&[1.0, 1.0, 1.0], 1).is_empty());
    }

    #[test]
    fn small_humps_soon_after_a_large_one_are_t_waves() {
        let mut energy = vec![0.0; 100];
        for (p, e) in [(10, 8.0), (20, 1.9), (30, 1.9), (40, 8.0), (45, 2.1), (90, 1.0)] {
            energy[p] = e;
        }
        let mut humps = vec![10, 20, 30, 40, 45, 90];
        drop_t_waves(&mut humps, &energy, 15);
        assert_eq!(humps, [10, 30, 40, 45, 90]);
    }

    #[test]
    fn moving_mean_at_the_ends() {
        assert_eq!(moving_mean(&[1.0, 2.0, 6.0, 3.0], 1), [1.5, 3.0, 11.0 / 3.0, 4.5]);
        assert_eq!(gradient(&[1.0, 2.0, 6.0]), [1.0, 2.5, 4.0]);
    }

    #[test]
    fn upside_down_gives_the_same_peaks() {
        let ecg = crate::signal::simulate::simulate_ecg(&Default::default(), 20.0, 250.0, 3).unwrap();
        let turned: Vec<f64> = ecg.signal_mv.iter().map(|v| 1e4 - 3e3 * v).collect();
        assert_eq!(detect_r_peaks(&ecg.signal_mv, 250.0).unwrap(), detect_r_peaks(&turned, 250.0).unwrap());
    }

    #[test]
    fn flat_and_bad_input() {
        assert!(detect_r_peaks(&[7.3; 1000], 128.0).unwrap().is_empty());
        assert!(detect_r_peaks(&[0.0; 1000], 128.0).unwrap().is_empty());
        assert_eq!(detect_r_peaks(&[0.0; 1000], 49.0).unwrap_err().kind(), Kind::Usage);
        assert_eq!(detect_r_peaks(&[0.0; 21], 128.0).unwrap_err().kind(), Kind::Data);
        assert_eq!(detect_r_peaks(&[f64::NAN; 1000], 128.0).unwrap_err().kind(), Kind::Data);
    }
}
