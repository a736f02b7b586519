//! What a window of ECG says about the body, in a few numbers, each with the rule that says when it can be trusted: the
//! targets of a physiological pre-training objective, and features of baselines.

use super::hrv::{NnSeries, NnSettings, TimeDomain};
use super::median_in_place;
use super::quality::{QualitySettings, Reason, Verdict};
use super::respiration::{BREATH_CLARITY, respiration};
use super::rpeak::Detection;
use crate::error::Result;

/// Smallest share of intervals between beats that must be normal for any figure taken from them.
const MIN_NORMAL_SHARE: f64 = 0.8;
/// Fewest normal intervals for a heart rate.
const MIN_INTERVALS: usize = 3;
/// Fewest successive differences for a variability.
const MIN_DIFFERENCES: usize = 5;
/// Smallest variability, in ms, that can be told from the timing error of an R peak.
const MIN_VARIABILITY_MS: f64 = 1.0;

/// Figures of one window. A figure without a trustworthy basis is `None`.
///
/// | figure | `None` unless |
/// |---|---|
/// | `quality` | the window lasts at least 5 s |
/// | `r_peaks` (empty instead) | the default quality gate accepts the window; its unit is not judged |
/// | `heart_rate_bpm` | also: at least 3 normal intervals, and 80 % of all intervals are normal |
/// | `log_rmssd`, `log_sdnn` | also: at least 5 successive differences, and the value is at least 1 ms |
/// | `breaths_per_min`, `breath_amplitude` | also: 30 s and 16 beats, and a clarity of at least 0.5 |
///
/// Normal intervals are those of [`NnSettings::default`]. R peaks are timed to a fraction of a sample by the parabola through
/// the three samples around each extremum of the QRS band, so that the variability does not end at the sampling interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Physiology {
    /// 60 000 over the mean normal interval in ms: beats per minute.
    pub heart_rate_bpm: Option<f64>,
    /// Natural logarithm of RMSSD in ms.
    pub log_rmssd: Option<f64>,
    /// Natural logarithm of SDNN in ms.
    pub log_sdnn: Option<f64>,
    /// Breaths per minute, from the swing of the R peaks' height.
    pub breaths_per_min: Option<f64>,
    /// Amplitude of that swing as a share of the median height: no unit.
    pub breath_amplitude: Option<f64>,
    /// [`Verdict::index`]: 0 (no ECG) to 1 (clean).
    pub quality: Option<f64>,
    /// Samples of the R peaks; none where the quality gate rejects the window.
    pub r_peaks: Vec<usize>,
}

/// Figures of one window of samples at `fs_hz`, in any unit, filtered and normalised or not.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a sampling rate below [`MIN_FS_HZ`](super::MIN_FS_HZ). Bad data give `None`.
///
/// ```
/// use heartlore::signal::{physiology, simulate::{EcgParameters, simulate_ecg}};
/// let ecg = simulate_ecg(&EcgParameters::default(), 10.0, 128.0, 1)?;
/// let found = physiology(&ecg.signal_mv, 128.0)?;
/// assert!(found.quality > Some(0.8) && found.heart_rate_bpm.is_some() && found.breaths_per_min.is_none());
/// assert_eq!(physiology(&[0.0; 1280], 128.0)?.heart_rate_bpm, None);
/// # Ok::<(), heartlore::Error>(())
/// ```
pub fn physiology(window: &[f64], fs_hz: f64) -> Result<Physiology> {
    Ok(physiology_all(&[window], fs_hz)?.pop().unwrap_or_default())
}

/// [`physiology`] of many windows: the same figures, sooner, since eight windows of one length pass the detector together.
///
/// # Errors
/// As [`physiology`].
pub fn physiology_all(windows: &[&[f64]], fs_hz: f64) -> Result<Vec<Physiology>> {
    let mut out = vec![Physiology::default(); windows.len()];
    let mut failed = None;
    QualitySettings::default().judge_each(windows, fs_hz, None, |i, verdict, detection| match of_verdict(
        verdict, detection, fs_hz,
    ) {
        Ok(found) => out[i] = found,
        Err(e) => failed = Some(e),
    })?;
    failed.map_or(Ok(out), Err)
}

fn of_verdict(verdict: &Verdict, detection: Option<Detection>, fs_hz: f64) -> Result<Physiology> {
    let judged = !verdict.reasons.contains(&Reason::TooShort);
    let mut out = Physiology { quality: judged.then(|| verdict.index()), ..Physiology::default() };
    let Some(Detection { filtered, peaks }) = detection.filter(|_| verdict.usable()) else { return Ok(out) };
    let (times, heights): (Vec<f64>, Vec<f64>) =
        peaks.iter().map(|&p| vertex(&filtered, p)).map(|(at, height)| (at / fs_hz, height)).unzip();
    out.r_peaks = peaks;
    let nn = NnSeries::from_beats(&times, &NnSettings::default())?;
    let normal = nn.intervals_ms().len();
    if normal < MIN_INTERVALS || (normal as f64) < MIN_NORMAL_SHARE * (normal + nn.dropped()) as f64 {
        return Ok(out);
    }
    out.heart_rate_bpm = Some(60_000.0 * normal as f64 / nn.intervals_ms().iter().sum::<f64>());
    if let Some(time) = TimeDomain::of(&nn).filter(|_| nn.successive().count() >= MIN_DIFFERENCES) {
        let log = |ms: f64| (ms >= MIN_VARIABILITY_MS).then(|| ms.ln());
        (out.log_rmssd, out.log_sdnn) = (log(time.rmssd_ms), log(time.sdnn_ms));
    }
    if let Some(breath) = respiration(&times, &heights)?.filter(|b| b.clarity >= BREATH_CLARITY) {
        let median = median_in_place(&mut heights.iter().map(|h| h.abs()).collect::<Vec<_>>());
        out.breaths_per_min = Some(breath.rate_per_min);
        out.breath_amplitude = (median > 0.0).then(|| breath.amplitude / median);
    }
    Ok(out)
}

/// Place (in samples) and height of the vertex of the parabola through an extremum of `y` and its neighbours.
pub(super) fn vertex(y: &[f64], p: usize) -> (f64, f64) {
    if p == 0 || p + 1 >= y.len() {
        return (p as f64, y[p]);
    }
    let (a, b, c) = (y[p - 1], y[p], y[p + 1]);
    let bend = a - 2.0 * b + c;
    // An extremum within reach but at its border has no vertex here.
    let shift = if bend == 0.0 { 0.0 } else { 0.5 * (a - c) / bend };
    if shift.abs() <= 0.5 { (p as f64 + shift, b - 0.25 * (a - c) * shift) } else { (p as f64, b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Rng;
    use crate::signal::simulate::{EcgParameters, simulate_ecg};

    #[test]
    fn the_vertex_of_a_parabola() {
        let y: Vec<f64> = (0..9).map(|i| 2.0 - 0.5 * (f64::from(i) - 4.3).powi(2)).collect();
        let (at, height) = vertex(&y, 4);
        assert!((at - 4.3).abs() < 1e-12 && (height - 2.0).abs() < 1e-12, "{at} {height}");
        assert_eq!(vertex(&y, 0).0, 0.0);
        assert_eq!(vertex(&[1.0; 5], 2), (2.0, 1.0));
    }

    /// Figures of simulated windows against the simulation's own beats; neither scale, offset nor polarity matters.
    #[test]
    fn figures_follow_the_simulated_beats() {
        let fs_hz = 128.0;
        for seed in 0..8 {
            let bpm = 50.0 + 12.0 * seed as f64;
            let parameters = EcgParameters { mean_heart_rate_bpm: bpm, ..EcgParameters::default() };
            let ecg = simulate_ecg(&parameters, 60.0, fs_hz, seed).unwrap();
            let found = physiology(&ecg.signal_mv, fs_hz).unwrap();
            let nn = NnSeries::from_beats(&ecg.r_times_s, &NnSettings::default()).unwrap();
            let time = TimeDomain::of(&nn).unwrap();
            let near = |got: Option<f64>, want: f64, by: f64| {
                assert!((got.unwrap() - want).abs() < by, "seed {seed}: {got:?} where {want} is true");
            };
            near(found.heart_rate_bpm, time.mean_bpm, 0.01 * time.mean_bpm);
            near(found.log_rmssd, time.rmssd_ms.ln(), 0.15);
            near(found.log_sdnn, time.sdnn_ms.ln(), 0.1);
            let turned: Vec<f64> = ecg.signal_mv.iter().map(|v| 300.0 - 1e3 * v).collect();
            let other = physiology(&turned, fs_hz).unwrap();
            assert_eq!(other.r_peaks, found.r_peaks);
            near(other.log_rmssd, found.log_rmssd.unwrap(), 1e-6);
        }
    }

    #[test]
    fn nothing_is_told_of_what_is_no_ecg() {
        let mut rng = Rng::new(3);
        let noise: Vec<f64> = (0..7680).map(|_| rng.normal()).collect();
        let ecg = simulate_ecg(&EcgParameters::default(), 60.0, 128.0, 2).unwrap().signal_mv;
        let mut gone = ecg.clone();
        gone[500..2500].fill(f64::NAN);
        for window in [&noise[..], &gone, &[0.0; 1280]] {
            let found = physiology(window, 128.0).unwrap();
            assert_eq!(found, Physiology { quality: Some(0.0), ..Physiology::default() });
        }
        assert_eq!(physiology(&ecg[..300], 128.0).unwrap(), Physiology::default());
        assert!(physiology(&ecg, 20.0).is_err());
        // Together as one by one.
        let windows: Vec<&[f64]> = ecg.chunks_exact(1280).chain([&noise[..1280], &[]]).collect();
        for (window, found) in windows.iter().zip(physiology_all(&windows, 128.0).unwrap()) {
            assert_eq!(found, physiology(window, 128.0).unwrap());
        }
    }
}
