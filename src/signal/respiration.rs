//! Breathing rate from the ECG: the chest moves the electrodes and the heart's axis, so R peaks are higher and lower in
//! turn (Moody, Mukkamala et al. 1985, Computers in Cardiology 12, 113-116).

use super::hrv::lomb_scargle;
use crate::error::{Error, Result};

/// Slowest and fastest breathing looked for, in Hz: 6 to 30 per minute.
const BAND_HZ: (f64, f64) = (0.1, 0.5);

/// Clarity from which a rate is trusted.
pub(super) const BREATH_CLARITY: f64 = 0.5;

/// A breathing rate and how clear it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Respiration {
    /// Breaths per minute.
    pub rate_per_min: f64,
    /// Share of the spectrum from 0.1 to 0.5 Hz that lies within 0.03 Hz of the rate: noise alone gives about 0.3, a
    /// regular breath 0.7 and more.
    pub clarity: f64,
    /// Amplitude of the swing at that rate, in the unit of the amplitudes.
    pub amplitude: f64,
}

/// The rate at which `amplitudes` (any unit) of the beats at `beats_s` (seconds, increasing) swing: the highest peak of
/// their Lomb-Scargle spectrum between 0.1 and 0.5 Hz. `None` for less than 30 s, fewer than 16 beats, or no variation.
/// A heart rate below twice the breathing rate folds the latter into a slower one.
///
/// # Errors
/// [`Kind::Shape`](crate::error::Kind::Shape) for different numbers of times and amplitudes,
/// [`Kind::Data`](crate::error::Kind::Data) for a value that is not finite or times that do not increase.
pub fn respiration(beats_s: &[f64], amplitudes: &[f64]) -> Result<Option<Respiration>> {
    if beats_s.len() != amplitudes.len() {
        return Err(Error::shape(format!("{} beats but {} amplitudes", beats_s.len(), amplitudes.len())));
    }
    super::require_finite(amplitudes, 0)?;
    if beats_s.iter().any(|t| !t.is_finite()) || beats_s.windows(2).any(|w| w[1] <= w[0]) {
        return Err(Error::data("the times of the beats do not increase"));
    }
    let span_s = match (beats_s.first(), beats_s.last()) {
        (Some(a), Some(b)) => b - a,
        _ => 0.0,
    };
    if span_s < 30.0 || beats_s.len() < 16 {
        return Ok(None);
    }
    // Finer than the width of a peak, 1 / span.
    let step = 0.2 / span_s;
    let count = ((BAND_HZ.1 - BAND_HZ.0) / step).floor() as usize;
    let frequencies: Vec<f64> = (0..=count).map(|k| BAND_HZ.0 + k as f64 * step).collect();
    let power = lomb_scargle(beats_s, amplitudes, &frequencies);
    let total: f64 = power.iter().sum();
    let best = (0..power.len()).max_by(|&a, &b| power[a].total_cmp(&power[b]).then(b.cmp(&a)));
    let Some(best) = best.filter(|_| total > 0.0) else { return Ok(None) };
    let near = |k: &usize| (frequencies[*k] - frequencies[best]).abs() <= 0.03;
    let share: f64 = (0..power.len()).filter(near).map(|k| power[k]).sum::<f64>() / total;
    // A sine of amplitude a in n samples has the power n a^2 / 4.
    let amplitude = 2.0 * (power[best] / beats_s.len() as f64).sqrt();
    Ok(Some(Respiration { rate_per_min: 60.0 * frequencies[best], clarity: share, amplitude }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn finds_the_rate_of_a_swing() {
        let beats: Vec<f64> = (0..90).map(|i| 0.8 * f64::from(i) + 0.02 * f64::from(i * i % 5)).collect();
        for rate in [8.0, 15.0, 25.0] {
            let swing = |t: &f64| 1.0 + 0.1 * (std::f64::consts::TAU * rate / 60.0 * t).sin() + 0.002 * t;
            let amplitudes: Vec<f64> = beats.iter().map(swing).collect();
            let found = respiration(&beats, &amplitudes).unwrap().unwrap();
            assert!((found.rate_per_min - rate).abs() < 0.3 && found.clarity > 0.7, "{rate}: {found:?}");
            assert!((found.amplitude - 0.1).abs() < 0.01, "{rate}: {found:?}");
        }
        assert_eq!(respiration(&beats, &[1.0; 90]).unwrap(), None);
        assert_eq!(respiration(&beats[..30], &[1.0; 30]).unwrap(), None);
        assert_eq!(respiration(&beats, &[1.0; 89]).unwrap_err().kind(), Kind::Shape);
        assert_eq!(respiration(&[1.0, 1.0], &[1.0, 1.0]).unwrap_err().kind(), Kind::Data);
    }
}
