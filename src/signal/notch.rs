//! A notch against powerline hum.

use super::sos::Sos;
use crate::error::{Error, Result};
use std::f64::consts::{PI, TAU};

/// A second-order notch: gain 0 at `f_hz`, 1/sqrt(2) at the edges of a band `f_hz / quality` wide; equals
/// `scipy.signal.iirnotch(f_hz, quality, fs_hz)`.
///
/// With w the frequency in radians per sample and b the tangent of half the bandwidth, its zeros lie on the unit circle at
/// +-w and its poles behind them (Orfanidis, Introduction to Signal Processing, ch. 11):
///
/// ```text
/// H(z) = (1 - 2 cos w z^-1 + z^-2) / (1 + b - 2 cos w z^-1 + (1 - b) z^-2)
/// ```
///
/// A quality of 30 removes 49.2 to 50.8 Hz and rings for a third of a second; a QRS complex loses little. Hum at harmonics
/// needs a notch each; a low-pass below the mains frequency needs none.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a frequency that is not between 0 and half the sampling rate, or a
/// quality that is not positive or so low that the band would reach half the sampling rate.
///
/// ```
/// use heartlore::signal::{notch, sosfiltfilt};
/// let hum: Vec<f64> = (0..2000).map(|i| (i as f64 * std::f64::consts::TAU * 50.0 / 500.0).sin()).collect();
/// let left = sosfiltfilt(&notch(50.0, 30.0, 500.0)?, &hum)?;
/// assert!(left[900..1100].iter().all(|v| v.abs() < 0.01));
/// # Ok::<(), heartlore::Error>(())
/// ```
pub fn notch(f_hz: f64, quality: f64, fs_hz: f64) -> Result<Sos> {
    if !(fs_hz > 0.0 && fs_hz.is_finite() && f_hz > 0.0 && f_hz < fs_hz / 2.0) {
        return Err(Error::usage(format!("a notch at {f_hz} Hz is not between 0 and half of {fs_hz} Hz"))
            .remedy("a recording sampled that slowly holds no such hum"));
    }
    let width = TAU * f_hz / fs_hz / quality;
    if !(quality > 0.0 && quality.is_finite() && width < PI) {
        return Err(Error::usage(format!("a notch of quality {quality} at {f_hz} Hz"))
            .remedy("30 is a customary quality"));
    }
    let gain = 1.0 / (1.0 + (width / 2.0).tan());
    let cosine = (TAU * f_hz / fs_hz).cos();
    Sos::new(vec![[gain, -2.0 * gain * cosine, gain, 1.0, -2.0 * gain * cosine, 2.0 * gain - 1.0]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// Numbers of scipy.signal.iirnotch (SciPy 1.17.1): b0, b1, a2.
    #[test]
    fn equals_scipy() {
        for (f, q, fs, want) in NUMBERS {
            let sos = notch(f, q, fs).unwrap();
            let [b0, b1, b2, _, a1, a2] = sos.sections()[0];
            for (got, want) in [(b0, want[0]), (b1, want[1]), (b2, want[0]), (a1, want[1]), (a2, want[2])] {
                assert!((got - want).abs() < 1e-15, "{f} {q} {fs}: {got} {want}");
            }
            assert!(sos.gain(f, fs) < 1e-12 && (sos.gain(0.0, fs) - 1.0).abs() < 1e-12);
        }
    }

    type Numbers = (f64, f64, f64, [f64; 3]);
    const NUMBERS: [Numbers; 3] = [
        (50.0, 30.0, 500.0, [0.9896361753628921, -1.6012649682336106, 0.9792723507257841]),
        (60.0, 35.0, 360.0, [0.9852594533807587, -0.9852594533807589, 0.9705189067615174]),
        (50.0, 5.0, 128.0, [0.7996884668409618, 1.236335088603368, 0.5993769336819237]),
    ];

    #[test]
    fn bad_settings() {
        for (f, q, fs) in [
            (50.0, 30.0, 100.0),
            (0.0, 30.0, 500.0),
            (50.0, 0.0, 500.0),
            (50.0, f64::NAN, 500.0),
            (200.0, 0.5, 500.0),
        ] {
            assert_eq!(notch(f, q, fs).unwrap_err().kind(), Kind::Usage, "{f} {q} {fs}");
        }
    }
}
