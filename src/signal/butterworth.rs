//! Butterworth filters as second-order sections.
//!
//! The road is the textbook one (Oppenheim and Schafer, Discrete-Time Signal Processing, ch. 7; Parks and Burrus,
//! Digital Filter Design, ch. 7):
//!
//! 1. the analogue low-pass prototype of order n has its n poles evenly spread on the left half of the unit circle,
//!    `p_m = -exp(i pi m / 2n)`, `m = -n+1, -n+3, ..., n-1`, no zeros, gain 1;
//! 2. a substitution in s turns it into a low-pass, high-pass, band-pass or band-stop filter at the wanted frequencies;
//! 3. the bilinear transform `s = 2 fs (z - 1) / (z + 1)` makes it digital. It bends the frequency axis, so the
//!    cut-offs are bent the other way first: `w = 2 fs tan(pi f / fs)`;
//! 4. poles and zeros are grouped into sections of order two. Pole by pole, beginning with the one nearest to the unit
//!    circle, each conjugate pair takes the zeros nearest to it; the sharpest section comes last, the gain sits in the
//!    first. This is the grouping of `scipy.signal.butter(..., output="sos")`, so the coefficients agree too. (Where
//!    two poles are equally near to the circle, as in a band-pass symmetric about fs/4, rounding decides the order of
//!    sections, there and here.)
//!
//! Why not numerator and denominator polynomials: the roots of a polynomial of high degree whose roots crowd near z = 1
//! move by more than their distance to the unit circle when its coefficients are rounded to f64. The 0.8-50 Hz band-pass
//! of prototype order 8 is unstable in that form at 256 Hz (`tests/signal.rs` shows it), at 1000 Hz one of order 4 has lost
//! all but three digits; as sections both are exact.

use super::complex::Complex;
use super::sos::Sos;
use crate::error::{Error, Result};
use std::f64::consts::PI;

/// Largest accepted order of the prototype; a band-pass or band-stop filter has twice the order of its prototype.
pub const MAX_ORDER: usize = 24;

/// What passes the filter. Cut-offs are the frequencies at which the gain is 1/sqrt(2) (-3 dB).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Band {
    /// Frequencies below `high_hz` pass.
    Lowpass {
        /// Cut-off, in Hz.
        high_hz: f64,
    },
    /// Frequencies above `low_hz` pass.
    Highpass {
        /// Cut-off, in Hz.
        low_hz: f64,
    },
    /// Frequencies from `low_hz` to `high_hz` pass.
    Bandpass {
        /// Lower cut-off, in Hz.
        low_hz: f64,
        /// Upper cut-off, in Hz.
        high_hz: f64,
    },
    /// Frequencies from `low_hz` to `high_hz` are stopped.
    Bandstop {
        /// Lower cut-off, in Hz.
        low_hz: f64,
        /// Upper cut-off, in Hz.
        high_hz: f64,
    },
}

/// Zeros, poles and gain of a rational transfer function.
struct Zpk {
    zeros: Vec<Complex>,
    poles: Vec<Complex>,
    gain: f64,
}

impl Zpk {
    /// How many zeros lie at infinity.
    fn degree(&self) -> usize {
        self.poles.len() - self.zeros.len()
    }
}

/// Designs a digital Butterworth filter; equals `scipy.signal.butter(order, band, btype, fs=fs_hz, output="sos")`.
///
/// `order` is the order of the prototype. A band-pass or band-stop filter doubles it: the band-pass of 0.8-50 Hz that
/// is called "8th order" in the literature is `order` 4 here and in SciPy.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for an order of 0 or above [`MAX_ORDER`], a sampling rate that is not
/// positive, a cut-off that is not within (0, fs/2), or a band whose lower edge is not below its upper edge.
///
/// ```
/// use heartlore::signal::{Band, butterworth};
/// let sos = butterworth(4, Band::Bandpass { low_hz: 0.8, high_hz: 50.0 }, 256.0)?;
/// assert_eq!(sos.sections().len(), 4);
/// assert!((sos.gain(50.0, 256.0) - 0.5f64.sqrt()).abs() < 1e-9);
/// # Ok::<(), heartlore::Error>(())
/// ```
pub fn butterworth(order: usize, band: Band, fs_hz: f64) -> Result<Sos> {
    if order == 0 || order > MAX_ORDER {
        return Err(Error::usage(format!("filter order {order} is outside 1..={MAX_ORDER}"))
            .remedy("orders of 2 to 4 are customary for ECG"));
    }
    if !(fs_hz > 0.0 && fs_hz.is_finite()) {
        return Err(Error::usage(format!("sampling rate {fs_hz} Hz is not a positive number")));
    }
    let inside = |name: &str, f_hz: f64| {
        if f_hz > 0.0 && f_hz < fs_hz / 2.0 {
            return Ok(());
        }
        Err(Error::usage(format!(
            "{name} cut-off of {f_hz} Hz is not between 0 and half the sampling rate ({} Hz)",
            fs_hz / 2.0
        ))
        .remedy("lower the cut-off or use a recording with a higher sampling rate"))
    };
    // From here on everything is in units of a sampling rate of 2 Hz, as SciPy has it: f in (0, 1), s scaled alike.
    let warp = |f_hz: f64| 4.0 * (PI * (f_hz / (fs_hz / 2.0)) / 2.0).tan();
    let edges = |low_hz: f64, high_hz: f64| {
        inside("lower", low_hz)?;
        inside("upper", high_hz)?;
        if low_hz >= high_hz {
            return Err(Error::usage(format!(
                "lower cut-off of {low_hz} Hz is not below the upper cut-off of {high_hz} Hz"
            )));
        }
        let (low, high) = (warp(low_hz), warp(high_hz));
        Ok(((low * high).sqrt(), high - low))
    };
    let analogue = match band {
        Band::Lowpass { high_hz } => {
            inside("upper", high_hz)?;
            to_lowpass(prototype(order), warp(high_hz))
        }
        Band::Highpass { low_hz } => {
            inside("lower", low_hz)?;
            to_highpass(prototype(order), warp(low_hz))
        }
        Band::Bandpass { low_hz, high_hz } => {
            let (centre, width) = edges(low_hz, high_hz)?;
            to_bandpass(prototype(order), centre, width)
        }
        Band::Bandstop { low_hz, high_hz } => {
            let (centre, width) = edges(low_hz, high_hz)?;
            to_bandstop(prototype(order), centre, width)
        }
    };
    to_sections(bilinear(analogue))
}

/// Low-pass prototype with cut-off 1 rad/s.
fn prototype(order: usize) -> Zpk {
    let n = order as f64;
    let poles = (0..order)
        .map(|i| {
            let m = 2.0 * i as f64 - n + 1.0;
            -Complex::cis(PI * m / (2.0 * n))
        })
        .collect();
    Zpk { zeros: vec![], poles, gain: 1.0 }
}

/// s -> s / w.
fn to_lowpass(p: Zpk, w: f64) -> Zpk {
    let gain = p.gain * w.powi(p.degree() as i32);
    Zpk { zeros: vec![], poles: p.poles.into_iter().map(|r| r.scale(w)).collect(), gain }
}

/// s -> w / s. Zeros at infinity move to the origin.
fn to_highpass(p: Zpk, w: f64) -> Zpk {
    let gain = p.gain / Complex::product(p.poles.iter().map(|&r| -r)).re;
    let poles: Vec<_> = p.poles.iter().map(|&r| Complex::real(w).div(r)).collect();
    Zpk { zeros: vec![Complex::real(0.0); poles.len()], poles, gain }
}

/// Each root r becomes the two solutions of `s^2 - 2 r s + centre^2 = 0`.
fn split(roots: &[Complex], centre: f64) -> Vec<Complex> {
    let root = |r: Complex| (r * r - Complex::real(centre * centre)).sqrt();
    roots.iter().map(|&r| r + root(r)).chain(roots.iter().map(|&r| r - root(r))).collect()
}

/// s -> (s^2 + centre^2) / (s width). Half of the zeros at infinity move to the origin.
fn to_bandpass(p: Zpk, centre: f64, width: f64) -> Zpk {
    let degree = p.degree();
    let scaled: Vec<_> = p.poles.iter().map(|&r| r.scale(width / 2.0)).collect();
    Zpk {
        zeros: vec![Complex::real(0.0); degree],
        poles: split(&scaled, centre),
        gain: p.gain * width.powi(degree as i32),
    }
}

/// s -> s width / (s^2 + centre^2). The zeros at infinity move to the middle of the stopped band.
fn to_bandstop(p: Zpk, centre: f64, width: f64) -> Zpk {
    let degree = p.degree();
    let gain = p.gain / Complex::product(p.poles.iter().map(|&r| -r)).re;
    let scaled: Vec<_> = p.poles.iter().map(|&r| Complex::real(width / 2.0).div(r)).collect();
    let mut zeros = vec![Complex::new(0.0, centre); degree];
    zeros.extend(vec![Complex::new(0.0, -centre); degree]);
    Zpk { zeros, poles: split(&scaled, centre), gain }
}

/// z = (2 fs + s) / (2 fs - s) with fs = 2; zeros still at infinity land on z = -1, the Nyquist frequency.
fn bilinear(a: Zpk) -> Zpk {
    let two_fs = Complex::real(4.0);
    let degree = a.degree();
    let map = |r: &Complex| (two_fs + *r).div(two_fs - *r);
    let up = Complex::product(a.zeros.iter().map(|&r| two_fs - r));
    let down = Complex::product(a.poles.iter().map(|&r| two_fs - r));
    let mut zeros: Vec<_> = a.zeros.iter().map(map).collect();
    zeros.extend(vec![Complex::real(-1.0); degree]);
    Zpk { zeros, poles: a.poles.iter().map(map).collect(), gain: a.gain * up.div(down).re }
}

/// One member (positive imaginary part) of each conjugate pair sorted by real part, then the real roots in order.
fn upper_half(roots: &[Complex]) -> Vec<Complex> {
    // A root whose imaginary part is rounding noise is real; the bound is SciPy's.
    let noise = |r: &Complex| r.im.abs() <= 100.0 * f64::EPSILON * r.abs();
    let mut complex: Vec<_> = roots.iter().copied().filter(|r| !noise(r) && r.im > 0.0).collect();
    let mut real: Vec<_> = roots.iter().filter(|r| noise(r)).map(|r| Complex::real(r.re)).collect();
    complex.sort_by(|a, b| a.re.total_cmp(&b.re).then(a.im.total_cmp(&b.im)));
    real.sort_by(|a, b| a.re.total_cmp(&b.re));
    complex.append(&mut real);
    complex
}

/// Removes and returns the root nearest to the unit circle among those that `admit` lets through.
fn take_worst(roots: &mut Vec<Complex>, admit: impl Fn(Complex) -> bool) -> Option<Complex> {
    take_least(roots, admit, |r| (1.0 - r.abs()).abs())
}

/// Removes and returns the root nearest to `to` among those that `admit` lets through.
fn take_nearest(roots: &mut Vec<Complex>, to: Complex, admit: impl Fn(Complex) -> bool) -> Option<Complex> {
    take_least(roots, admit, |r| (r - to).abs())
}

fn take_least(
    roots: &mut Vec<Complex>,
    admit: impl Fn(Complex) -> bool,
    cost: impl Fn(Complex) -> f64,
) -> Option<Complex> {
    let mut best: Option<(usize, f64)> = None;
    for (i, &r) in roots.iter().enumerate().filter(|(_, r)| admit(**r)) {
        if best.is_none_or(|(_, c)| cost(r) < c) {
            best = Some((i, cost(r)));
        }
    }
    best.map(|(i, _)| roots.remove(i))
}

/// Coefficients 1, -(r + s), r s of (1 - r/z)(1 - s/z) for a conjugate pair or two reals.
fn quadratic(r: Complex, s: Complex) -> [f64; 3] {
    [1.0, -(r + s).re, (r * s).re]
}

/// Groups digital zeros and poles (equally many) into sections, sharpest last.
fn to_sections(d: Zpk) -> Result<Sos> {
    let (mut zeros, mut poles) = (d.zeros, d.poles);
    let n_sections = poles.len().div_ceil(2);
    let odd = poles.len() % 2 == 1;
    if odd {
        // A pole and a zero at the origin cancel and make the count even.
        poles.push(Complex::real(0.0));
        zeros.push(Complex::real(0.0));
    }
    let (mut z, mut p) = (upper_half(&zeros), upper_half(&poles));
    let any = |_: Complex| true;
    let count_real = |v: &[Complex]| v.iter().filter(|r| r.is_real()).count();
    let lost = || {
        Error::numeric("poles and zeros of the filter do not pair up")
            .remedy("widen the band or lower the order")
    };
    let mut sections = vec![[0.0; 6]; n_sections];
    for section in sections.iter_mut().rev() {
        let p1 = take_worst(&mut p, any).ok_or_else(lost)?;
        let (b, a) = if p1.is_real() && count_real(&p) == 0 {
            // The last real pole stands alone: a first-order section.
            let z1 = take_nearest(&mut z, p1, Complex::is_real).ok_or_else(lost)?;
            (quadratic(z1, Complex::real(0.0)), quadratic(p1, Complex::real(0.0)))
        } else if p.len() + 1 == z.len() && !p1.is_real() && count_real(&p) == 1 && count_real(&z) == 1 {
            // The one real zero must stay for the one real pole.
            let z1 = take_nearest(&mut z, p1, |r| !r.is_real()).ok_or_else(lost)?;
            (quadratic(z1, z1.conj()), quadratic(p1, p1.conj()))
        } else {
            let p2 =
                if p1.is_real() { take_worst(&mut p, Complex::is_real).ok_or_else(lost)? } else { p1.conj() };
            let z1 = take_nearest(&mut z, p1, any).ok_or_else(lost)?;
            let z2 = if z1.is_real() {
                take_nearest(&mut z, p1, Complex::is_real).ok_or_else(lost)?
            } else {
                z1.conj()
            };
            (quadratic(z1, z2), quadratic(p1, p2))
        };
        *section = [b[0], b[1], b[2], a[0], a[1], a[2]];
    }
    for b in &mut sections[0][..3] {
        *b *= d.gain;
    }
    Sos::new(sections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const FS_HZ: f64 = 256.0;

    /// The squared magnitude of a Butterworth filter is 1 / (1 + W^2n), W the substituted frequency: a closed form that
    /// knows nothing of poles, zeros and sections.
    fn closed_form(order: usize, band: Band, f_hz: f64) -> f64 {
        let warp = |f: f64| (PI * f / FS_HZ).tan();
        let w = warp(f_hz);
        let substituted = match band {
            Band::Lowpass { high_hz } => w / warp(high_hz),
            Band::Highpass { low_hz } => warp(low_hz) / w,
            Band::Bandpass { low_hz, high_hz } => {
                let (l, h) = (warp(low_hz), warp(high_hz));
                (w * w - l * h) / (w * (h - l))
            }
            Band::Bandstop { low_hz, high_hz } => {
                let (l, h) = (warp(low_hz), warp(high_hz));
                w * (h - l) / (w * w - l * h)
            }
        };
        1.0 / (1.0 + substituted.powi(2 * order as i32)).sqrt()
    }

    #[test]
    fn gain_follows_the_closed_form() {
        let bands = [
            Band::Lowpass { high_hz: 40.0 },
            Band::Highpass { low_hz: 2.5 },
            Band::Bandpass { low_hz: 0.8, high_hz: 50.0 },
            Band::Bandpass { low_hz: 1.0, high_hz: 120.0 },
            Band::Bandstop { low_hz: 48.0, high_hz: 52.0 },
        ];
        for band in bands {
            for order in [1, 2, 3, 4, 5, 8] {
                let sos = butterworth(order, band, FS_HZ).unwrap();
                for f_hz in [0.5, 0.8, 3.0, 10.0, 40.0, 47.0, 50.5, 80.0, 120.0] {
                    let (got, want) = (sos.gain(f_hz, FS_HZ), closed_form(order, band, f_hz));
                    assert!(
                        (got - want).abs() <= 1e-8 * want + 1e-12,
                        "{band:?} {order} {f_hz}: {got} {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_order_is_stable() {
        for order in 1..=MAX_ORDER {
            for band in [Band::Lowpass { high_hz: 5.0 }, Band::Bandpass { low_hz: 5.0, high_hz: 40.0 }] {
                let sos = butterworth(order, band, FS_HZ).unwrap();
                // Both roots of z^2 + a1 z + a2 are inside the unit circle iff |a2| < 1 and |a1| < 1 + a2 (Jury).
                for s in sos.sections() {
                    assert!(s[5].abs() < 1.0 && s[4].abs() < 1.0 + s[5], "{order} {s:?}");
                }
            }
        }
    }

    #[test]
    fn senseless_requests_are_refused() {
        let ok = Band::Lowpass { high_hz: 10.0 };
        let bad = [
            (0, ok, FS_HZ),
            (MAX_ORDER + 1, ok, FS_HZ),
            (2, ok, 0.0),
            (2, ok, f64::NAN),
            (2, ok, 20.0),
            (2, Band::Lowpass { high_hz: 0.0 }, FS_HZ),
            (2, Band::Highpass { low_hz: f64::NAN }, FS_HZ),
            (2, Band::Bandpass { low_hz: 0.8, high_hz: 128.0 }, FS_HZ),
            (2, Band::Bandpass { low_hz: 50.0, high_hz: 50.0 }, FS_HZ),
            (2, Band::Bandstop { low_hz: 60.0, high_hz: 50.0 }, FS_HZ),
        ];
        for (order, band, fs_hz) in bad {
            let e = butterworth(order, band, fs_hz).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage, "{e}");
        }
    }
}
