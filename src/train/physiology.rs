//! What the detectors of [`crate::signal`] measure on a window, as standardised targets of pre-training.

use crate::error::Result;
use crate::signal::{Physiology, physiology_all};

/// The values, in order. Each is standardised by round numbers near the mean and deviation of adults at rest:
///
/// | value | centre | scale |
/// |---|---|---|
/// | heart rate, per minute | 75 | 15 |
/// | ln RMSSD of milliseconds | 3.4 | 0.8 |
/// | ln SDNN of milliseconds | 3.6 | 0.7 |
/// | quality index, 0 to 1 | 0.85 | 0.1 |
/// | breaths per minute | 15 | 5 |
/// | amplitude of breathing, of the beats' height | 0.1 | 0.1 |
pub const VALUES: [&str; 6] =
    ["heart rate", "ln RMSSD", "ln SDNN", "quality", "breathing rate", "breathing amplitude"];

const CENTRE: [f64; 6] = [75.0, 3.4, 3.6, 0.85, 15.0, 0.1];
const SCALE: [f64; 6] = [15.0, 0.8, 0.7, 0.1, 5.0, 0.1];

/// A window's targets.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Targets {
    /// Samples of the R peaks; empty where the window's beats are not trusted.
    pub beats: Vec<usize>,
    /// [`VALUES`], standardised; `None` where a value has no trustworthy basis.
    pub values: [Option<f32>; 6],
}

impl Targets {
    /// From the figures of a window.
    pub fn of(p: &Physiology) -> Self {
        let raw =
            [p.heart_rate_bpm, p.log_rmssd, p.log_sdnn, p.quality, p.breaths_per_min, p.breath_amplitude];
        let values =
            std::array::from_fn(|i| raw[i].map(|v| ((v - CENTRE[i]) / SCALE[i]).clamp(-5.0, 5.0) as f32));
        // Without a heart rate the beats are not trusted either.
        let beats = if p.heart_rate_bpm.is_some() { p.r_peaks.clone() } else { Vec::new() };
        Self { beats, values }
    }

    /// Of many windows sampled at `fs_hz`, `[n, samples]`.
    ///
    /// # Errors
    /// As [`physiology_all`].
    pub fn of_windows(windows: &[f32], samples: usize, fs_hz: f64) -> Result<Vec<Self>> {
        let wide: Vec<f64> = windows.iter().map(|v| f64::from(*v)).collect();
        let views: Vec<&[f64]> = wide.chunks_exact(samples).collect();
        Ok(physiology_all(&views, fs_hz)?.iter().map(Self::of).collect())
    }

    /// How many values are trusted.
    pub fn trusted(&self) -> usize {
        self.values.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::simulate::{EcgParameters, simulate_ecg};

    #[test]
    fn targets_are_the_figures_standardised_and_absent_where_not_trusted() {
        let ecg = simulate_ecg(&EcgParameters::default(), 10.0, 128.0, 1).unwrap().signal_mv;
        let mut windows: Vec<f32> = ecg.iter().map(|v| *v as f32).collect();
        windows.resize(2560, 0.0);
        let found = Targets::of_windows(&windows, 1280, 128.0).unwrap();
        let p = crate::signal::physiology(&ecg, 128.0).unwrap();
        let hr = (p.heart_rate_bpm.unwrap() - 75.0) / 15.0;
        assert!((f64::from(found[0].values[0].unwrap()) - hr).abs() < 0.01);
        assert_eq!(found[0].beats.len(), p.r_peaks.len());
        // Ten seconds say nothing of breathing, and silence nothing of beats.
        assert_eq!(found[0].values[4], None);
        assert_eq!((found[1].beats.len(), found[1].values[0]), (0, None));
    }
}
