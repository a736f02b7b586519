//! Heart-rate variability from beat times: time domain, frequency domain, Poincare plot, sample entropy.
//!
//! Definitions after the Task Force of the European Society of Cardiology and the North American Society of Pacing and
//! Electrophysiology, Heart rate variability: standards of measurement, physiological interpretation and clinical use,
//! Circulation 93 (1996) 1043-1065. Intervals are in milliseconds, powers in ms^2, frequencies in Hz.
//!
//! ```text
//! beats --NnSeries--> NN intervals --TimeDomain, FrequencyDomain, Poincare, sample_entropy--> numbers with units
//! ```
//!
//! NN means normal to normal: [`NnSettings`] says which intervals are kept out as artefacts. What is left out is counted,
//! never replaced; differences of successive intervals are taken only where both are there and one follows the other. A
//! spectrum is `None` where intervals cover less than half of the series (Lomb-Scargle) or four fifths of it (Welch).
//!
//! Agreement with NeuroKit2 0.2.13 on the same beats is tested (`tests/hrv.rs`). Deliberate differences:
//!
//! * **Normalised units** are LF / (LF + HF) in percent, the Task Force's LF / (total - VLF); NeuroKit divides by the total
//!   from 0 to 0.5 Hz.
//! * **Total power** is VLF + LF + HF (0.0033 to 0.4 Hz): no stretch of minutes measures less than that.
//! * **Lomb-Scargle** powers are in ms^2, scaled so that the spectrum of a sine has the area of its variance. NeuroKit
//!   returns astropy's unnormalised `psd`, which grows with the number of beats; multiply it by 2 mean(NN) to compare.
//! * **Resampling** for Welch's spectrum is a cubic spline at 4 Hz; NeuroKit's default is a quadratic one at 100 Hz, whose
//!   powers differ by a few percent of HF. With its options set alike the two agree.
//! * **VLF** is taken whole; NeuroKit's default leaves out what lies below 8 / span, most of it in five minutes.
//! * **A band that is longer than the recording** is `None`: HF needs 60 s, LF 120 s, VLF 298 s (nearly five minutes, since
//!   five minutes of beats span a little less). NeuroKit returns a number.

mod nn;
mod nonlinear;
mod spectrum;
mod spline;
mod time;

pub use nn::{NnSeries, NnSettings};
pub use nonlinear::{Poincare, SAMPLE_ENTROPY_MAX, sample_entropy};
pub use spectrum::{FrequencyDomain, HF_HZ, LF_HZ, Spectrum, SpectrumMethod, VLF_HZ, spectrum};
pub use time::TimeDomain;

pub(crate) use spectrum::lomb_scargle;

use crate::error::Result;

/// Everything at once; a part that the beats are too few for is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hrv {
    /// Time domain, from three intervals on.
    pub time: Option<TimeDomain>,
    /// Frequency domain by Lomb-Scargle, from 60 s on.
    pub lomb: Option<FrequencyDomain>,
    /// Frequency domain by Welch's method, from 60 s on.
    pub welch: Option<FrequencyDomain>,
    /// Poincare plot.
    pub poincare: Option<Poincare>,
    /// Sample entropy of length 2 within 0.2 standard deviations, from 100 intervals on.
    pub sample_entropy: Option<f64>,
}

impl Hrv {
    /// All measures of a series.
    ///
    /// # Errors
    /// None that is about too few beats; a series always holds valid numbers.
    pub fn of(nn: &NnSeries) -> Result<Self> {
        let time = TimeDomain::of(nn);
        let tolerance = time.map(|t| 0.2 * t.sdnn_ms);
        // Below about 10^m intervals (m = 2) the estimate has no meaning (Richman and Moorman 2000).
        let enough = (100..=SAMPLE_ENTROPY_MAX).contains(&nn.intervals_ms().len());
        Ok(Self {
            time,
            lomb: FrequencyDomain::of(nn, SpectrumMethod::LombScargle),
            welch: FrequencyDomain::of(nn, SpectrumMethod::Welch),
            poincare: Poincare::of(nn),
            sample_entropy: match tolerance {
                Some(r) if enough && r > 0.0 => sample_entropy(nn.intervals_ms(), 2, r)?,
                _ => None,
            },
        })
    }
}
