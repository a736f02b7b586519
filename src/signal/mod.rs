//! Signal processing for ECG: pure functions on slices, f64 inside, units in names (`fs_hz`, `low_hz`).
//!
//! The usual road of a recording, each step usable alone:
//!
//! 1. [`bridge_losses`] fills in losses of a few samples, and [`finite_runs`] cuts it at longer ones (filters refuse NaN
//!    instead of spreading it);
//! 2. [`butterworth`] designs the band-pass, [`sosfiltfilt`] (zero-phase) or [`SosFilter`] (causal) applies it;
//! 3. [`Resampler`] brings it to the model's rate;
//! 4. [`windows`] cuts windows and says what is left over;
//! 5. [`QualityGate`] decides which windows are ECG and counts why the others are not;
//! 6. [`Scaler`] normalises; [`Normalisation`] says over what, and why per-subject scaling leaks labels.
//!
//! Beside them: [`Rhythm`] for beats and the intervals that can be trusted, [`detect_r_peaks`] and [`HeartRate`] for the heart-rate baseline, [`hrv`] for heart-rate variability after
//! the Task Force, [`respiration`](fn@respiration) derived from the ECG,
//! [`physiology`](fn@physiology), which gives the figures of a window that can be trusted, [`notch`](fn@notch) against power-line interference, [`stream`] for signals that arrive block by
//! block, and [`simulate`], which makes ECG when there is none. Whatever comes from [`simulate`] is simulated and says so.
//!
//! ```
//! use heartlore::signal::{Band, Resampler, Scaler, butterworth, sosfiltfilt, windows};
//! let fs_hz = 256.0;
//! let x: Vec<f64> = (0..7680).map(|i| (i as f64 * 0.05).sin()).collect();
//! let filter = butterworth(4, Band::Bandpass { low_hz: 0.8, high_hz: 50.0 }, fs_hz)?;
//! let y = Resampler::between(fs_hz, 128.0)?.apply(&sosfiltfilt(&filter, &x)?)?;
//! let cut = windows(&y, 1280, 1280)?;
//! assert_eq!(cut.windows.len(), 3);
//! for w in &cut.windows {
//!     let mut z = y[w.range()].to_vec();
//!     Scaler::z_score(&z)?.apply(&mut z);
//! }
//! # Ok::<(), heartlore::Error>(())
//! ```

mod agreement;
mod beats;
mod bridge;
mod butterworth;
mod complex;
mod hr;
pub mod hrv;
mod lanes;
mod normalise;
mod notch;
mod physiology;
mod prepare;
mod quality;
mod resample;
mod respiration;
mod rhythm;
mod rng;
mod rpeak;
mod select;
pub mod simulate;
pub(crate) mod sos;
pub mod stream;
mod window;

pub use agreement::BeatAgreement;
pub use beats::{FoundBeats, SHORTEST_SEARCHED_S, find_beats};
pub use bridge::{MAX_BRIDGE_S, MAX_BRIDGED_SHARE, bridge_losses};
pub use butterworth::{Band, MAX_ORDER, butterworth};
pub use hr::{HeartRate, PLAUSIBLE_RR_S, plausible_rr_s, rr_intervals_s};
pub use normalise::{Normalisation, Scaler};
pub use notch::notch;
pub use physiology::{Physiology, physiology, physiology_all};
pub use prepare::{BandPass, Candidate, Filtered, Judgement, Preparation, Stretch};
pub use quality::{Measures, QualityCounts, QualityGate, QualitySettings, Reason, Verdict};
pub use resample::{DEFAULT_KAISER_BETA, MAX_FACTOR, Resampler, rational_factor, resample_poly};
pub use respiration::{Respiration, respiration};
pub use rhythm::{Beat, JUDGED_S, Judged, Rhythm};
pub use rng::Rng;
pub use rpeak::{MIN_FS_HZ, detect_r_peaks};
pub use sos::{Sos, SosFilter, sosfilt, sosfilt_zi, sosfiltfilt, sosfiltfilt_padded};
pub use window::{Window, Windows, finite_runs, windows};

use crate::error::{Error, Result};

/// Fails naming the first sample that is not finite; `offset` is the index of `x[0]` in what the caller calls the signal.
fn require_finite(x: &[f64], offset: usize) -> Result<()> {
    if lanes::all_finite(x) {
        return Ok(());
    }
    match x.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(i) => Err(Error::data(format!("the signal holds {} there", x[i]))
            .at(format!("sample {}", offset + i))
            .remedy("process the stretches between non-finite samples on their own (signal::finite_runs)")),
    }
}

/// Median of a non-empty slice, which is reordered; the mean of the middle two for an even count.
fn median_in_place(x: &mut [f64]) -> f64 {
    let (n, middle) = (x.len(), x.len() / 2);
    let (below, &mut upper, _) = x.select_nth_unstable_by(middle, f64::total_cmp);
    if n % 2 == 1 {
        return upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lower + (upper - lower) / 2.0
}
