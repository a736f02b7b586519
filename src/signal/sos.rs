//! Filtering with second-order sections: causal (block by block or at once) and zero-phase.
//!
//! Each section is a biquad in transposed direct form II, whose two state variables s, t carry everything the past has
//! to say:
//!
//! ```text
//! y = b0 x + s
//! s = b1 x - a1 y + t
//! t = b2 x - a2 y
//! ```
//!
//! The order of operations is SciPy's, so results agree to the last bits; coefficients and state are f64 because in f32
//! the 0.8 Hz edge of the usual ECG band-pass loses four digits.
//!
//! **What the loop waits for, and what is done about it.** From one sample to the next each section needs a multiplication and
//! three additions, one after the other, which is sixteen cycles whatever the processor's width. So [`sosfiltfilt`] cuts a
//! long signal into eight parts and filters them side by side, one in each f64 lane (`lanes.rs`). Each part needs the state
//! that the one before will leave; it is found by filtering some samples before the part, as many as it takes a state to decay
//! to 10^-18 (5,500 for 0.8 Hz at 256 Hz and order 4), and compared afterwards with the state that was really left. If
//! they differ by more than 10^-10, the signal is filtered again in one piece. The result differs from that in one piece by
//! less than 10^-13 of the largest sample, and does not depend on the instruction set, nor on anything but the signal.
//! On one core of an Intel Emerald Rapids VM (`cargo bench --bench signal`): 4.7 ns a sample instead of 14 in one piece for 4
//! sections forward and backward, 7.6 instead of 25 for 8. Nine operations a section and sample, two vectors of eight a cycle
//! at 2.8 GHz, would take 1.6 and 3.2 ns: moving samples into lanes and back costs as much again.

use super::lanes::{self, LANES, Pass};
use super::require_finite;
use crate::error::{Error, Result};
use std::f64::consts::TAU;

/// A digital filter as a chain of second-order sections `[b0, b1, b2, 1, a1, a2]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sos {
    sections: Vec<[f64; 6]>,
}

impl Sos {
    /// A filter from its sections, each `[b0, b1, b2, a0, a1, a2]` with `a0 = 1`.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for no section, a coefficient that is not finite, or `a0 != 1`.
    pub fn new(sections: Vec<[f64; 6]>) -> Result<Self> {
        if sections.is_empty() {
            return Err(Error::usage("a filter needs at least one section"));
        }
        for (i, s) in sections.iter().enumerate() {
            if s.iter().any(|c| !c.is_finite()) || s[3] != 1.0 {
                return Err(Error::usage(format!("coefficients {s:?} are not finite with a0 = 1"))
                    .at(format!("section {i}")));
            }
        }
        Ok(Self { sections })
    }

    /// The sections, in the order in which the signal passes them.
    pub fn sections(&self) -> &[[f64; 6]] {
        &self.sections
    }

    /// Magnitude of the frequency response at `f_hz` for the sampling rate `fs_hz`.
    pub fn gain(&self, f_hz: f64, fs_hz: f64) -> f64 {
        let w = TAU * f_hz / fs_hz;
        let power = |c: &[f64]| {
            let re = c[0] + c[1] * w.cos() + c[2] * (2.0 * w).cos();
            let im = c[1] * w.sin() + c[2] * (2.0 * w).sin();
            re.hypot(im)
        };
        self.sections.iter().map(|s| power(&s[..3]) / power(&s[3..])).product()
    }

    /// Delay of a narrow band around `f_hz` in seconds: minus the slope of the phase over the angular frequency.
    pub fn group_delay_s(&self, f_hz: f64, fs_hz: f64) -> f64 {
        let phase = |c: &[f64], w: f64| {
            let re = c[0] + c[1] * w.cos() + c[2] * (2.0 * w).cos();
            let im = -c[1] * w.sin() - c[2] * (2.0 * w).sin();
            im.atan2(re)
        };
        let (w, step) = (TAU * f_hz / fs_hz, 1e-4);
        let turn = |a: f64| (a + std::f64::consts::PI).rem_euclid(TAU) - std::f64::consts::PI;
        let slope = |c: &[f64]| turn(phase(c, w + step) - phase(c, w - step)) / (2.0 * step);
        let slopes: f64 = self.sections.iter().map(|s| slope(&s[..3]) - slope(&s[3..])).sum();
        -slopes / fs_hz
    }

    /// Samples after which what the filter remembers has shrunk to [`SETTLED`] of it, by the pole nearest to the unit
    /// circle; None if it never forgets.
    fn settling(&self) -> Option<usize> {
        let radius = |s: &[f64; 6]| {
            let (half, product) = (-0.5 * s[4], s[5]);
            let d = half * half - product;
            if d < 0.0 { product.sqrt() } else { half.abs() + d.sqrt() }
        };
        let r = self.sections.iter().map(radius).fold(0.0, f64::max);
        // 10^15 samples are more than there are: the filter counts as never settled.
        let samples = (SETTLED.ln() / r.ln()).ceil().max(2.0);
        (samples < 1e15).then_some(samples as usize).filter(|_| r < 1.0)
    }

    /// Samples that [`sosfiltfilt`] adds at each end by default (SciPy's rule): three times the number of taps, sections
    /// that are only of first order counted as such.
    pub fn default_padlen(&self) -> usize {
        let zero = |column: usize| self.sections.iter().filter(|s| s[column] == 0.0).count();
        3 * (2 * self.sections.len() + 1 - zero(2).min(zero(5)))
    }
}

/// Share of a state that counts as nothing: a hundredth of the rounding of the largest f64 beside it.
const SETTLED: f64 = 1e-18;

/// State of each section for which a constant input of 1 gives the constant output at once: the steady state of the step
/// response. Multiply by the first sample to start a filter without a transient. Equals `scipy.signal.sosfilt_zi`.
///
/// # Errors
/// [`Kind::Numeric`](crate::error::Kind::Numeric) when a section has a pole at z = 1 and therefore no steady state.
pub fn sosfilt_zi(sos: &Sos) -> Result<Vec<[f64; 2]>> {
    let mut scale = 1.0;
    let mut zi = Vec::with_capacity(sos.sections.len());
    for (i, &[b0, b1, b2, _, a1, a2]) in sos.sections.iter().enumerate() {
        let denominator = 1.0 + a1 + a2;
        if denominator == 0.0 {
            return Err(Error::numeric("a pole at z = 1 has no steady state").at(format!("section {i}")));
        }
        // In the steady state for input 1: y = gain, s = y - b0, t = b2 - a2 y. Summing s = b1 - a1 y + t over both
        // rows gives s as below, written so that b0 cancels before rounding can.
        let (c1, c2) = (b1 - a1 * b0, b2 - a2 * b0);
        let s = (c1 + c2) / denominator;
        let t = c2 - a2 * s;
        zi.push([scale * s, scale * t]);
        scale *= (b0 + b1 + b2) / denominator;
    }
    Ok(zi)
}

/// A causal filter with memory: feed it block after block, and the output is that of one pass over everything, bit for
/// bit.
///
/// ```
/// use heartlore::signal::{Band, SosFilter, butterworth, sosfilt};
/// let sos = butterworth(2, Band::Lowpass { high_hz: 10.0 }, 100.0)?;
/// let x: Vec<f64> = (0..50).map(|i| (i as f64).sin()).collect();
/// let mut filter = SosFilter::new(sos.clone());
/// let mut y = x.clone();
/// let (head, tail) = y.split_at_mut(17);
/// filter.process(head)?;
/// filter.process(tail)?;
/// assert_eq!(y, sosfilt(&sos, &x)?);
/// # Ok::<(), heartlore::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SosFilter {
    sos: Sos,
    state: Vec<[f64; 2]>,
    seen: usize,
}

impl SosFilter {
    /// A filter at rest: all samples before the first are taken as 0.
    pub fn new(sos: Sos) -> Self {
        let state = vec![[0.0; 2]; sos.sections.len()];
        Self { sos, state, seen: 0 }
    }

    /// A filter that has seen the constant `first` for ever, so a signal that begins there starts without a transient.
    ///
    /// # Errors
    /// As [`sosfilt_zi`].
    pub fn settled_at(sos: Sos, first: f64) -> Result<Self> {
        let state = sosfilt_zi(&sos)?.into_iter().map(|[s, t]| [s * first, t * first]).collect();
        Ok(Self { sos, state, seen: 0 })
    }

    /// A filter with a given state, two numbers for each section (SciPy's `zi`).
    ///
    /// # Errors
    /// [`Kind::Shape`](crate::error::Kind::Shape) when there is not one state per section.
    pub fn with_state(sos: Sos, state: Vec<[f64; 2]>) -> Result<Self> {
        if state.len() != sos.sections.len() {
            return Err(Error::shape(format!("{} states for {} sections", state.len(), sos.sections.len())));
        }
        Ok(Self { sos, state, seen: 0 })
    }

    /// The state after everything processed so far (SciPy's `zf`).
    pub fn state(&self) -> &[[f64; 2]] {
        &self.state
    }

    /// Filters the next block in place.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind::Data) for a sample that is not finite, naming its index counted from the first
    /// sample ever processed. Block and state are then unchanged: one NaN would otherwise stay in the state for ever.
    pub fn process(&mut self, block: &mut [f64]) -> Result<()> {
        require_finite(block, self.seen)?;
        self.run(block.iter_mut());
        self.seen += block.len();
        Ok(())
    }

    fn run<'a>(&mut self, samples: impl Iterator<Item = &'a mut f64>) {
        for sample in samples {
            let mut x = *sample;
            for (&[b0, b1, b2, _, a1, a2], [s, t]) in self.sos.sections.iter().zip(&mut self.state) {
                let y = b0 * x + *s;
                *s = b1 * x - a1 * y + *t;
                *t = b2 * x - a2 * y;
                x = y;
            }
            *sample = x;
        }
    }
}

/// Filters `x` once, forward, from rest; equals `scipy.signal.sosfilt(sos, x)`. Causal, with the filter's phase delay.
///
/// # Errors
/// As [`SosFilter::process`].
pub fn sosfilt(sos: &Sos, x: &[f64]) -> Result<Vec<f64>> {
    let mut y = x.to_vec();
    SosFilter::new(sos.clone()).process(&mut y)?;
    Ok(y)
}

/// Filters `x` forward and backward with SciPy's default padding; equals `scipy.signal.sosfiltfilt(sos, x)`.
///
/// Zero phase: waves stay where they are. The gain is that of one pass, squared, so -3 dB edges become -6 dB edges. Not
/// causal: an output sample depends on later input. Long signals are filtered in eight parts side by side: see the module.
///
/// # Errors
/// [`Kind::Data`](crate::error::Kind::Data) for a sample that is not finite (naming the first) or for `x` not longer
/// than [`Sos::default_padlen`]; [`Kind::Numeric`](crate::error::Kind::Numeric) as [`sosfilt_zi`].
pub fn sosfiltfilt(sos: &Sos, x: &[f64]) -> Result<Vec<f64>> {
    sosfiltfilt_padded(sos, x, sos.default_padlen())
}

/// [`sosfiltfilt`] with `padlen` samples added at each end before filtering.
///
/// The padding is odd: the signal mirrored in time and in value about its end point, so that level and slope continue.
///
/// # Errors
/// As [`sosfiltfilt`], `x` having to be longer than `padlen`.
pub fn sosfiltfilt_padded(sos: &Sos, x: &[f64], padlen: usize) -> Result<Vec<f64>> {
    require_finite(x, 0)?;
    let mut y = zero_phase(sos, x, padlen)?;
    y.truncate(padlen + x.len());
    y.drain(..padlen);
    Ok(y)
}

/// [`sosfiltfilt_padded`] for samples known to be finite; the padding is still on both ends.
pub(crate) fn zero_phase(sos: &Sos, x: &[f64], padlen: usize) -> Result<Vec<f64>> {
    if x.len() <= padlen {
        return Err(Error::data(format!(
            "{} samples are too few for zero-phase filtering, which needs more than {padlen}",
            x.len()
        ))
        .remedy("use a longer stretch, a lower order, or causal filtering"));
    }
    let settled = sosfilt_zi(sos)?;
    let padded = || {
        let (first, last) = (x[0], x[x.len() - 1]);
        let mut y = Vec::with_capacity(x.len() + 2 * padlen);
        y.extend((1..=padlen).rev().map(|i| 2.0 * first - x[i]));
        y.extend_from_slice(x);
        y.extend((1..=padlen).map(|i| 2.0 * last - x[x.len() - 1 - i]));
        y
    };
    let mut y = padded();
    if let Some(warm) = sos.settling().filter(|warm| y.len() / LANES >= MIN_PARTS * warm) {
        let sections = &sos.sections;
        let mut pass =
            |backward| lanes::best(Pass { sections, settled: &settled, y: &mut y, warm, backward });
        if pass(false) <= MAX_STATE_ERROR && pass(true) <= MAX_STATE_ERROR {
            return Ok(y);
        }
        y = padded();
    }
    SosFilter::settled_at(sos.clone(), y[0])?.run(y.iter_mut());
    let end = y[y.len() - 1];
    SosFilter::settled_at(sos.clone(), end)?.run(y.iter_mut().rev());
    Ok(y)
}

/// Shortest part of a signal filtered in parts, in settling times: below it the samples before each part cost too much.
const MIN_PARTS: usize = 2;

/// A state at the beginning of a part that is further than this from the true one (relative to the largest of its kind)
/// counts as not settled, and the signal is filtered in one piece. Rounding alone makes differences up to 10^-12.
const MAX_STATE_ERROR: f64 = 1e-10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::signal::{Band, butterworth};

    fn bandpass() -> Sos {
        butterworth(4, Band::Bandpass { low_hz: 0.8, high_hz: 50.0 }, 256.0).unwrap()
    }

    #[test]
    fn blocks_give_the_bits_of_one_pass() {
        let x: Vec<f64> = (0..1000).map(|i| (i as f64 * 0.37).sin() + (i as f64 * 0.011).cos()).collect();
        let whole = sosfilt(&bandpass(), &x).unwrap();
        for size in [1, 7, 128, 999, 1000] {
            let mut filter = SosFilter::new(bandpass());
            let mut y = x.clone();
            for block in y.chunks_mut(size) {
                filter.process(block).unwrap();
            }
            assert!(y.iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits()), "block size {size}");
        }
    }

    #[test]
    fn a_settled_filter_has_no_transient() {
        let low = butterworth(3, Band::Lowpass { high_hz: 5.0 }, 100.0).unwrap();
        let mut y = vec![3.5; 20];
        SosFilter::settled_at(low, 3.5).unwrap().process(&mut y).unwrap();
        assert!(y.iter().all(|v| (v - 3.5).abs() < 1e-12), "{y:?}");
    }

    #[test]
    fn time_reversal_commutes_with_zero_phase_filtering() {
        // Up to the transients at the ends, which after 3500 samples have decayed to 10^-11.
        let x: Vec<f64> = (0..8000).map(|i| (i as f64 * 0.2).sin() * (i as f64 * 0.003).cos()).collect();
        let reversed: Vec<f64> = x.iter().rev().copied().collect();
        let y = sosfiltfilt(&bandpass(), &x).unwrap();
        let mut z = sosfiltfilt(&bandpass(), &reversed).unwrap();
        z.reverse();
        for i in 3500..4500 {
            assert!((y[i] - z[i]).abs() < 1e-9, "{i}: {} {}", y[i], z[i]);
        }
    }

    #[test]
    fn non_finite_samples_are_named_and_change_nothing() {
        let mut filter = SosFilter::new(bandpass());
        filter.process(&mut [1.0, 2.0, 3.0]).unwrap();
        let before = filter.state().to_vec();
        let mut block = [4.0, f64::NAN, f64::INFINITY];
        let e = filter.process(&mut block).unwrap_err();
        assert_eq!(e.kind(), Kind::Data);
        assert!(e.to_string().contains("sample 4"), "{e}");
        assert_eq!((filter.state(), block[0]), (&before[..], 4.0));
        let mut x = vec![0.0; 100];
        x[31] = f64::NEG_INFINITY;
        assert!(sosfiltfilt(&bandpass(), &x).unwrap_err().to_string().contains("sample 31"));
        assert!(sosfilt(&bandpass(), &x).unwrap_err().to_string().contains("sample 31"));
    }

    #[test]
    fn short_input_and_bad_sections_are_refused() {
        let n = bandpass().default_padlen();
        assert_eq!(n, 27);
        assert_eq!(sosfiltfilt(&bandpass(), &vec![1.0; n]).unwrap_err().kind(), Kind::Data);
        assert!(sosfiltfilt(&bandpass(), &vec![1.0; n + 1]).is_ok());
        assert!(sosfilt(&bandpass(), &[]).unwrap().is_empty());
        assert!(Sos::new(vec![]).is_err());
        assert!(Sos::new(vec![[1.0, 0.0, 0.0, 2.0, 0.0, 0.0]]).is_err());
        assert!(Sos::new(vec![[f64::NAN, 0.0, 0.0, 1.0, 0.0, 0.0]]).is_err());
        assert_eq!(SosFilter::with_state(bandpass(), vec![]).unwrap_err().kind(), Kind::Shape);
        let integrator = Sos::new(vec![[1.0, 0.0, 0.0, 1.0, -1.0, 0.0]]).unwrap();
        assert_eq!(sosfilt_zi(&integrator).unwrap_err().kind(), Kind::Numeric);
    }

    /// Forward and backward in one piece, as the definition has it.
    fn one_piece(sos: &Sos, x: &[f64]) -> Vec<f64> {
        let pad = sos.default_padlen();
        let (first, last) = (x[0], x[x.len() - 1]);
        let mut y: Vec<f64> = (1..=pad).rev().map(|i| 2.0 * first - x[i]).collect();
        y.extend_from_slice(x);
        y.extend((1..=pad).map(|i| 2.0 * last - x[x.len() - 1 - i]));
        for _ in 0..2 {
            SosFilter::settled_at(sos.clone(), y[0]).unwrap().process(&mut y).unwrap();
            y.reverse();
        }
        y[pad..pad + x.len()].to_vec()
    }

    /// An offset a thousand times the signal, from the shortest signal that is cut, and lengths that leave the last part short.
    #[test]
    fn a_long_signal_in_parts_is_that_in_one_piece() {
        let bands = [Band::Bandpass { low_hz: 5.0, high_hz: 30.0 }, Band::Lowpass { high_hz: 40.0 }];
        for (band, order) in bands.into_iter().flat_map(|b| [1, 2, 3, 4, 5, 8].map(|o| (b, o))) {
            let sos = butterworth(order, band, 256.0).unwrap();
            let warm = sos.settling().unwrap();
            for n in [0, 1, 6, 30_003].map(|more| LANES * MIN_PARTS * warm + more) {
                let x: Vec<f64> = (0..n)
                    .map(|i| 1e3 + ((i * i % 1009) as f64 * 0.01).sin() + (i as f64 * 0.02).cos())
                    .collect();
                let (got, want) = (sosfiltfilt(&sos, &x).unwrap(), one_piece(&sos, &x));
                // Of the input, since the offset takes its digits from the rounding of either.
                let size = x.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                    assert!((g - w).abs() <= 1e-13 * size, "{band:?} {order} of {n}: {i} is {g}, not {w}");
                }
            }
        }
    }

    /// Many equal sections forget more slowly than the pole nearest to the circle tells: it must be noticed.
    #[test]
    fn a_filter_that_has_not_settled_is_run_in_one_piece() {
        let (r, n) = (0.9f64, 20_000);
        let gain = (1.0 - r) * (1.0 - r);
        let sos = Sos::new(vec![[gain, 0.0, 0.0, 1.0, -2.0 * r, r * r]; 20]).unwrap();
        assert!(n / LANES >= MIN_PARTS * sos.settling().unwrap());
        let x: Vec<f64> = (0..n).map(|i| (i as f64 * 1e-3).sin() + (i as f64 * 0.3).sin()).collect();
        assert_eq!(sosfiltfilt(&sos, &x).unwrap(), one_piece(&sos, &x));
    }
}
