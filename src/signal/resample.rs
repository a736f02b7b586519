//! Change of sampling rate by a rational factor with a polyphase filter.
//!
//! In principle: put `up - 1` zeros between samples, smooth with a low-pass filter h of length 20 max(up, down) + 1 (a
//! sinc with cut-off at the lower of the two Nyquist frequencies under a Kaiser window), keep every `down`-th sample:
//!
//! ```text
//! y[m] = sum over k of x[k] h[m down + half - k up],   half = 10 max(up, down)
//! ```
//!
//! Only every `up`-th tap meets a sample that is not a stuffed zero. Which ones depends on `(m down + half) mod up`, the
//! phase; so the taps are sorted by phase once, each output is one short dot product over contiguous memory, and no zero
//! is ever stored or multiplied. The result equals `scipy.signal.resample_poly`: samples before the first and after the
//! last are taken as 0, so remove a large offset first.
//!
//! Where `up` is 1, neighbouring outputs use the same taps, and sixteen are formed at a time on wide vectors, each summed in
//! the order of the one-by-one loop: the same bits, and so those of the streaming variant. 256 to 128 Hz takes 1.4 ns an input
//! sample (two of four taps are 0 there and left out), as a stream 11, on one core of an Intel Emerald Rapids VM (`cargo bench
//! --bench signal`).
//!
//! A ratio that is no such fraction, as measured sampling rates give it (249.925 Hz), is served by band-limited
//! interpolation: the same filter, centred at the time of each output, m fs_in / fs_out, which need be no multiple of
//! anything (J. O. Smith and P. Gossett, "A flexible sampling-rate conversion method", ICASSP 1984). Its taps are read from
//! a table of 1024 positions between two samples (or zero crossings of the filter, when the rate falls) and interpolated
//! linearly, an error below 2e-6 of the signal. No time is lost or gained, however long the recording.
//!
//! Kaiser beta 5 (SciPy's default) gives a stop band near -53 dB, beta 8 near -80 dB with a wider transition (Kaiser and
//! Schafer 1980).

use super::{lanes, require_finite};
use crate::error::{Error, Result};
use heartlore_kernels::isa::{Simd, Task};
use std::f64::consts::PI;

/// Largest `up` or `down` (after cancelling) that is accepted: beyond it the filter has more than 80 000 taps and the
/// sampling rate is almost certainly a typing error.
pub const MAX_FACTOR: usize = 4096;

/// SciPy's default for the Kaiser window's beta.
pub const DEFAULT_KAISER_BETA: f64 = 5.0;

/// The factor `(up, down)`, cancelled, that leads from one sampling rate to the other, for example (32, 125) from 500 Hz
/// to 128 Hz.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for rates that are not positive, or when no pair up to [`MAX_FACTOR`] hits
/// the ratio to one part in 10^9 (4 microseconds of drift in an hour).
pub fn rational_factor(fs_in_hz: f64, fs_out_hz: f64) -> Result<(usize, usize)> {
    for fs_hz in [fs_in_hz, fs_out_hz] {
        if !(fs_hz > 0.0 && fs_hz.is_finite()) {
            return Err(Error::usage(format!("sampling rate {fs_hz} Hz is not a positive number")));
        }
    }
    let ratio = fs_out_hz / fs_in_hz;
    let limit = MAX_FACTOR as f64;
    // Continued fraction: each convergent is the best approximation of its size.
    let (mut p0, mut q0, mut p1, mut q1) = (0.0f64, 1.0f64, 1.0f64, 0.0f64);
    let mut rest = ratio;
    for _ in 0..40 {
        let whole = rest.floor();
        (p0, q0, p1, q1) = (p1, q1, whole * p1 + p0, whole * q1 + q0);
        if p1 > limit || q1 > limit {
            break;
        }
        if p1 >= 1.0 && (p1 / q1 - ratio).abs() <= 1e-9 * ratio {
            return Ok((p1 as usize, q1 as usize));
        }
        if rest == whole {
            break;
        }
        rest = 1.0 / (rest - whole);
    }
    Err(Error::usage(format!(
        "{fs_out_hz} Hz over {fs_in_hz} Hz is not a ratio of whole numbers up to {MAX_FACTOR}"
    ))
    .remedy("Resampler::between takes any two rates; a fraction is needed here only"))
}

/// A rate converter with its filter ready: make one per pair of rates and use it for many signals.
#[derive(Clone, Debug)]
pub struct Resampler {
    up: usize,
    down: usize,
    half: usize,
    /// Taps of each phase, latest sample first turned to last, so that they run with increasing time: `[up][per_phase]`.
    phases: Vec<f64>,
    per_phase: usize,
    /// Interpolation in place of phases, where the rates have no factor.
    ratio: Option<Ratio>,
}

impl Resampler {
    /// A converter by `up / down` (cancelled first) with a Kaiser window of the given `beta`.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for a factor of 0 or, after cancelling, above [`MAX_FACTOR`], or a beta
    /// outside 0..=50.
    pub fn new(up: usize, down: usize, kaiser_beta: f64) -> Result<Self> {
        if up == 0 || down == 0 {
            return Err(Error::usage(format!("resampling by {up}/{down}: both factors must be at least 1")));
        }
        if !(0.0..=50.0).contains(&kaiser_beta) {
            return Err(Error::usage(format!("Kaiser beta {kaiser_beta} is outside 0..=50")));
        }
        let divisor = gcd(up, down);
        let (up, down) = (up / divisor, down / divisor);
        let longest = up.max(down);
        if longest > MAX_FACTOR {
            return Err(Error::usage(format!(
                "resampling by {up}/{down}: factors above {MAX_FACTOR} are refused"
            ))
            .remedy("use rates with a simpler ratio"));
        }
        let half = 10 * longest;
        let taps = lowpass_taps(half, longest, kaiser_beta);
        let per_phase = taps.len().div_ceil(up);
        let mut phases = vec![0.0; up * per_phase];
        for phase in 0..up {
            for (j, &tap) in taps.iter().skip(phase).step_by(up).enumerate() {
                phases[phase * per_phase + per_phase - 1 - j] = tap * up as f64;
            }
        }
        Ok(Self { up, down, half, phases, per_phase, ratio: None })
    }

    /// A converter between any two sampling rates with [`DEFAULT_KAISER_BETA`]: by a fraction where [`rational_factor`] finds
    /// one, else by band-limited interpolation.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for rates that are not positive, or one more than [`MAX_FACTOR`] times the
    /// other.
    ///
    /// ```
    /// let resampler = heartlore::signal::Resampler::between(249.925, 128.0)?;
    /// assert_eq!((resampler.factor(), resampler.output_len(249_925)), (None, 128_000));
    /// # Ok::<(), heartlore::Error>(())
    /// ```
    pub fn between(fs_in_hz: f64, fs_out_hz: f64) -> Result<Self> {
        match rational_factor(fs_in_hz, fs_out_hz) {
            Ok((up, down)) => Self::new(up, down, DEFAULT_KAISER_BETA),
            Err(e) => {
                let step = fs_in_hz / fs_out_hz;
                let limit = MAX_FACTOR as f64;
                if !(step.is_finite() && step > 1.0 / limit && step < limit) {
                    return Err(e.remedy("check the sampling rate in the file's header"));
                }
                let ratio = Some(Ratio::new(step, DEFAULT_KAISER_BETA));
                Ok(Self { up: 0, down: 1, half: 0, phases: Vec::new(), per_phase: 0, ratio })
            }
        }
    }

    /// The cancelled factor `(up, down)`; `None` where the rates have none and outputs are interpolated.
    pub fn factor(&self) -> Option<(usize, usize)> {
        self.ratio.is_none().then_some((self.up, self.down))
    }

    /// Length of the output for `n` input samples: `ceil(n up / down)`, all outputs that lie before the end of the last sample.
    pub fn output_len(&self, n: usize) -> usize {
        if let Some(ratio) = &self.ratio {
            return ratio.output_len(n);
        }
        // In u128, so that no length a slice can have overflows.
        (n as u128 * self.up as u128).div_ceil(self.down as u128) as usize
    }

    /// Resamples `x`.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind::Data) naming the first sample that is not finite.
    pub fn apply(&self, x: &[f64]) -> Result<Vec<f64>> {
        require_finite(x, 0)?;
        Ok(self.apply_finite(x))
    }

    /// [`Resampler::apply`] for samples known to be finite.
    pub(crate) fn apply_finite(&self, x: &[f64]) -> Vec<f64> {
        if self.up == self.down {
            return x.to_vec();
        }
        lanes::best(Resampling { resampler: self, x })
    }

    /// How many samples an output depends on, and how many of them come after the one it lies at.
    pub(super) fn reach(&self) -> (usize, usize) {
        if let Some(ratio) = &self.ratio {
            return (2 * ratio.half, ratio.half);
        }
        if self.up == self.down { (1, 0) } else { (self.per_phase, self.half / self.up) }
    }

    /// The last sample that output `m` depends on; it may lie beyond the end.
    pub(super) fn newest(&self, m: usize) -> usize {
        if let Some(ratio) = &self.ratio {
            return ratio.place(m).0 + ratio.half;
        }
        if self.up == self.down { m } else { (self.half + m * self.down) / self.up }
    }

    /// Output `m` from `x`, of which the first is sample `first` of the signal; what is not in `x` counts as 0.
    #[inline(always)]
    pub(super) fn output(&self, m: usize, x: &[f64], first: usize) -> f64 {
        if self.up == self.down {
            return x[m - first];
        }
        if let Some(ratio) = &self.ratio {
            return ratio.output(m, x, first);
        }
        let newest = self.newest(m);
        let phase = (self.half + m * self.down) % self.up;
        let taps = &self.phases[phase * self.per_phase..][..self.per_phase];
        // Taps cover samples newest - per_phase + 1 ..= newest; those outside the signal count as 0.
        let end = (newest + 1).min(first + x.len());
        let begin = (newest + 1).saturating_sub(self.per_phase);
        let skipped = (begin + self.per_phase).saturating_sub(newest + 1);
        if begin < end { dot(&taps[skipped..], &x[begin - first..end - first]) } else { 0.0 }
    }
}

/// Interpolation at any ratio of rates.
#[derive(Clone, Debug, PartialEq)]
struct Ratio {
    /// Input samples per output.
    step: f64,
    /// Input samples to either side that an output depends on.
    half: usize,
    /// Positions between two samples for which there is a row of taps; one row more closes the last interval.
    positions: usize,
    /// `[positions + 1, 2 half]`: taps for samples floor(t) - half + 1 ..= floor(t) + half, each row of sum 1.
    rows: Vec<f64>,
}

impl Ratio {
    fn new(step: f64, kaiser_beta: f64) -> Self {
        let cut_off = (1.0 / step).min(1.0);
        let width = 10.0 / cut_off;
        let half = width.ceil() as usize;
        let positions = ((1024.0 * cut_off).ceil() as usize).max(4);
        let mut rows = Vec::with_capacity((positions + 1) * 2 * half);
        for p in 0..=positions {
            let between = p as f64 / positions as f64;
            let begin = rows.len();
            rows.extend((0..2 * half).map(|j| {
                let t = between + half as f64 - 1.0 - j as f64;
                let (u, r) = (PI * cut_off * t, t / width);
                let sinc = if u == 0.0 { 1.0 } else { u.sin() / u };
                if r.abs() >= 1.0 { 0.0 } else { sinc * bessel_i0(kaiser_beta * (1.0 - r * r).sqrt()) }
            }));
            let sum: f64 = rows[begin..].iter().sum();
            rows[begin..].iter_mut().for_each(|v| *v /= sum);
        }
        Self { step, half, positions, rows }
    }

    fn output_len(&self, n: usize) -> usize {
        // Up to rounding: the outputs m with m step < n.
        let mut len = (n as f64 / self.step).ceil() as usize;
        while len > 0 && (len - 1) as f64 * self.step >= n as f64 {
            len -= 1;
        }
        while len as f64 * self.step < n as f64 {
            len += 1;
        }
        len
    }

    /// The sample at or before output `m`, and how far beyond it the output lies.
    #[inline(always)]
    fn place(&self, m: usize) -> (usize, f64) {
        let t = m as f64 * self.step;
        (t as usize, t - t.floor())
    }

    #[inline(always)]
    fn output(&self, m: usize, x: &[f64], first: usize) -> f64 {
        let (at, between) = self.place(m);
        let position = between * self.positions as f64;
        let row = (position as usize).min(self.positions - 1);
        let weight = position - row as f64;
        let width = 2 * self.half;
        let (begin, end) = ((at + 1).saturating_sub(self.half), (at + self.half + 1).min(first + x.len()));
        if begin >= end {
            return 0.0;
        }
        let skipped = begin + self.half - (at + 1);
        let samples = &x[begin - first..end - first];
        let taps = |row: usize| &self.rows[row * width + skipped..(row + 1) * width];
        (1.0 - weight) * dot(taps(row), samples) + weight * dot(taps(row + 1), samples)
    }
}

/// All outputs of a signal. A task, so that the dot products run on wide vectors.
struct Resampling<'a> {
    resampler: &'a Resampler,
    x: &'a [f64],
}

/// Outputs that [`Resampling::side_by_side`] forms from one set of rows: rows of 2 KiB stay in the first cache.
const BLOCK: usize = 256;
/// Outputs of which sums are formed at a time.
const GROUP: usize = 16;
/// Largest factor for which rows are made; beyond it they fill no vectors.
const MAX_ROWS: usize = 32;

impl Task for Resampling<'_> {
    type Out = Vec<f64>;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Vec<f64> {
        let Resampling { resampler: r, x } = self;
        let len = r.output_len(x.len());
        let mut out = Vec::with_capacity(len);
        if r.ratio.is_none() && r.up == 1 && r.down <= MAX_ROWS {
            // Outputs that need no sample before the first or after the last.
            let first = r.half.div_ceil(r.down).min(len);
            let full = x.len().saturating_sub(r.half).div_ceil(r.down).saturating_sub(first);
            let blocks = full / BLOCK;
            out.extend((0..first).map(|m| r.output(m, x, 0)));
            out.resize(first + blocks * BLOCK, 0.0);
            self.side_by_side(first, &mut out[first..]);
        }
        out.extend((out.len()..len).map(|m| r.output(m, x, 0)));
        out
    }
}

impl Resampling<'_> {
    /// Outputs `first..` of a reduction by a whole factor, a multiple of [`BLOCK`] of them, none of which reaches beyond the
    /// signal.
    ///
    /// Neighbouring outputs need the same taps on samples `down` apart: dealt into `down` rows, those samples lie side by
    /// side, and one tap serves [`GROUP`] outputs at a time. Each output is summed in the order of [`dot`], so its bits
    /// are those of [`Resampler::output`].
    #[inline(always)]
    fn side_by_side(&self, first: usize, out: &mut [f64]) {
        let Resampling { resampler: r, x } = self;
        let taps = &r.phases[..r.per_phase];
        let row = BLOCK + r.per_phase.div_ceil(r.down);
        let mut rows = vec![0.0; row * r.down];
        let place: Vec<usize> = (0..taps.len()).map(|k| k % r.down * row + k / r.down).collect();
        let (taps4, taps1) = taps.as_chunks::<4>();
        let (place4, place1) = place.as_chunks::<4>();
        // Of every four taps of a halving two are 0, those an even distance from the middle.
        let odd_taps: Vec<[f64; 2]> = taps4.iter().map(|t| [t[1], t[3]]).collect();
        let odd_place: Vec<[usize; 2]> = place4.iter().map(|p| [p[1], p[3]]).collect();
        for (b, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            let begin = (first + b * BLOCK) * r.down - r.half;
            if r.down == 2 {
                let (even, odd) = rows.split_at_mut(row);
                let pairs = x[begin..].as_chunks::<2>().0;
                for ((v, e), o) in pairs.iter().zip(even).zip(odd) {
                    (*e, *o) = (v[0], v[1]);
                }
            } else {
                for (k, row) in rows.chunks_exact_mut(row).enumerate() {
                    let from = x[begin..].iter().skip(k).step_by(r.down);
                    row.iter_mut().zip(from).for_each(|(v, s)| *v = *s);
                }
            }
            for (g, out) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
                let at = |place: usize| -> &[f64; GROUP] {
                    let from = &rows[place + g * GROUP..];
                    from.first_chunk().unwrap_or(&[0.0; GROUP])
                };
                if r.down == 2 {
                    let mut sums = [[0.0; GROUP]; 2];
                    for (tap, place) in odd_taps.iter().zip(&odd_place) {
                        for j in 0..2 {
                            let v = at(place[j]);
                            sums[j] = std::array::from_fn(|i| sums[j][i] + tap[j] * v[i]);
                        }
                    }
                    let (middle, v) = (taps[r.half], at(place[r.half]));
                    *out = std::array::from_fn(|i| (middle * v[i] + sums[0][i]) + sums[1][i]);
                    continue;
                }
                let mut sums = [[0.0; GROUP]; 4];
                for (tap, place) in taps4.iter().zip(place4) {
                    for j in 0..4 {
                        let v = at(place[j]);
                        sums[j] = std::array::from_fn(|i| sums[j][i] + tap[j] * v[i]);
                    }
                }
                let mut rest = [0.0; GROUP];
                for (tap, place) in taps1.iter().zip(place1) {
                    let v = at(*place);
                    rest = std::array::from_fn(|i| rest[i] + tap * v[i]);
                }
                *out =
                    std::array::from_fn(|i| (sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i]) + rest[i]);
            }
        }
    }
}

/// Resamples by `up / down`; equals `scipy.signal.resample_poly(x, up, down)`.
///
/// # Errors
/// As [`Resampler::new`] and [`Resampler::apply`].
///
/// ```
/// let x: Vec<f64> = (0..500).map(|i| (i as f64 * 0.02).sin()).collect();
/// let y = heartlore::signal::resample_poly(&x, 128, 500)?;
/// assert_eq!(y.len(), 128);
/// # Ok::<(), heartlore::Error>(())
/// ```
pub fn resample_poly(x: &[f64], up: usize, down: usize) -> Result<Vec<f64>> {
    Resampler::new(up, down, DEFAULT_KAISER_BETA)?.apply(x)
}

/// Sum of products in four interleaved partial sums, which lets the processor overlap the additions.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a4, a1) = a[..b.len()].as_chunks::<4>();
    let (b4, b1) = b.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (p, q) in a4.iter().zip(b4) {
        for i in 0..4 {
            sums[i] += p[i] * q[i];
        }
    }
    let rest: f64 = a1.iter().zip(b1).map(|(p, q)| p * q).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `2 half + 1` taps of a windowed sinc with cut-off 1/`longest` of the Nyquist frequency, gain 1 at frequency 0.
fn lowpass_taps(half: usize, longest: usize, kaiser_beta: f64) -> Vec<f64> {
    let cut_off = 1.0 / longest as f64;
    let mut taps: Vec<f64> = (0..=2 * half)
        .map(|i| {
            let m = i as f64 - half as f64;
            let u = PI * cut_off * m;
            let sinc = match i.abs_diff(half) {
                0 => 1.0,
                // Exactly 0, which the sine of a rounded multiple of pi is not.
                k if k % longest == 0 => 0.0,
                _ => u.sin() / u,
            };
            let r = if half == 0 { 0.0 } else { m / half as f64 };
            cut_off * sinc * bessel_i0(kaiser_beta * (1.0 - r * r).max(0.0).sqrt()) / bessel_i0(kaiser_beta)
        })
        .collect();
    let sum: f64 = taps.iter().sum();
    taps.iter_mut().for_each(|t| *t /= sum);
    taps
}

/// Modified Bessel function of the first kind and order 0 by its power series, `sum ((x/2)^k / k!)^2` (Abramowitz and
/// Stegun 9.6.12). All terms are positive, so nothing cancels; for x <= 50 it takes fewer than 100 terms.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
    while term > sum * 1e-18 {
        term *= quarter / (k * k);
        sum += term;
        k += 1.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// The definition, with every zero stuffed and every product formed.
    fn naive(x: &[f64], up: usize, down: usize, beta: f64) -> Vec<f64> {
        let longest = up.max(down);
        let half = 10 * longest;
        let h = lowpass_taps(half, longest, beta);
        let mut stuffed = vec![0.0; x.len() * up];
        for (i, v) in x.iter().enumerate() {
            stuffed[i * up] = *v;
        }
        (0..(x.len() * up).div_ceil(down))
            .map(|m| {
                let centre = m * down + half;
                let s: f64 = (0..h.len())
                    .filter(|&j| centre >= j && centre - j < stuffed.len())
                    .map(|j| h[j] * stuffed[centre - j])
                    .sum();
                s * up as f64
            })
            .collect()
    }

    #[test]
    fn polyphase_equals_zero_stuffing() {
        for (up, down) in [(1, 2), (2, 1), (3, 2), (2, 3), (5, 7), (16, 45), (1, 9), (7, 1)] {
            for n in [1, 2, 3, 19, 20, 21, 64, 200] {
                let x: Vec<f64> = (0..n).map(|i| ((i * i) as f64 * 0.13).sin()).collect();
                let (y, z) =
                    (Resampler::new(up, down, 6.5).unwrap().apply(&x).unwrap(), naive(&x, up, down, 6.5));
                assert_eq!(y.len(), z.len(), "{up}/{down} of {n}");
                for (a, b) in y.iter().zip(&z) {
                    assert!((a - b).abs() < 1e-13, "{up}/{down} of {n}: {a} {b}");
                }
            }
        }
    }

    /// The bits of one output at a time, with ends and blocks of every kind.
    #[test]
    fn outputs_side_by_side_are_those_one_by_one() {
        for down in [1, 2, 3, 4, 7, 32, 33] {
            let r = Resampler::new(1, down, 5.0).unwrap();
            for n in [0, 1, 10 * down, 20 * down, 276 * down, 276 * down + 1, 277 * down - 1, 540 * down + 5]
            {
                let x: Vec<f64> = (0..n).map(|i| ((i * i) as f64 * 0.13).sin()).collect();
                let y = r.apply(&x).unwrap();
                assert_eq!(y.len(), n.div_ceil(down));
                for (m, v) in y.iter().enumerate() {
                    assert_eq!(v.to_bits(), r.output(m, &x, 0).to_bits(), "1/{down} of {n}: output {m}");
                }
            }
        }
    }

    #[test]
    fn a_slow_sine_keeps_its_shape() {
        let (fs_in_hz, fs_out_hz) = (360.0, 128.0);
        let x: Vec<f64> =
            (0..3600).map(|i| (std::f64::consts::TAU * 5.0 * i as f64 / fs_in_hz).sin()).collect();
        let y = Resampler::between(fs_in_hz, fs_out_hz).unwrap().apply(&x).unwrap();
        for (m, v) in y.iter().enumerate().take(1150).skip(130) {
            let want = (std::f64::consts::TAU * 5.0 * m as f64 / fs_out_hz).sin();
            assert!((v - want).abs() < 2e-3, "{m}: {v} {want}");
        }
    }

    /// A band-limited signal at any ratio of rates: right everywhere but at the ends, also after an hour.
    #[test]
    fn any_ratio_of_rates() {
        for (fs_in_hz, fs_out_hz) in [
            (249.925, 128.0),
            (499.31, 128.0),
            (512.844, 128.0),
            (127.99, 128.0),
            (128.003, 128.0),
            (62.4725, 128.0),
            (999.56, 250.0),
            (44_100.3, 128.0),
        ] {
            let f_hz = 0.2 * f64::min(fs_in_hz, fs_out_hz);
            let wave = |t: f64| (std::f64::consts::TAU * f_hz * t + 0.3).sin();
            let r = Resampler::between(fs_in_hz, fs_out_hz).unwrap();
            assert_eq!(r.factor(), None);
            for n in [0, 1, 5, (20.0 * fs_in_hz) as usize] {
                let x: Vec<f64> = (0..n).map(|i| wave(i as f64 / fs_in_hz)).collect();
                let y = r.apply(&x).unwrap();
                assert_eq!(y.len(), r.output_len(n));
                let end_s = n as f64 / fs_in_hz;
                assert!(
                    y.is_empty()
                        || ((y.len() - 1) as f64 / fs_out_hz < end_s
                            && y.len() as f64 / fs_out_hz >= end_s - 1e-9)
                );
                let margin = (11.0 * (fs_out_hz / fs_in_hz).max(1.0)) as usize + 1;
                for (m, v) in y.iter().enumerate().skip(margin).take(y.len().saturating_sub(2 * margin)) {
                    let want = wave(m as f64 / fs_out_hz);
                    // The stop band of the filter; the table's share is far below.
                    assert!((v - want).abs() < 3e-3, "{fs_in_hz} to {fs_out_hz} Hz, output {m}: {v} {want}");
                }
            }
        }
        // Where both ways exist they agree.
        let x: Vec<f64> =
            (0..5000).map(|i| (f64::from(i) * 0.11).sin() + (f64::from(i) * 0.031).cos()).collect();
        let exact = Resampler::between(500.0, 128.0).unwrap().apply(&x).unwrap();
        let ratio = Some(Ratio::new(500.0 / 128.0, DEFAULT_KAISER_BETA));
        let any =
            Resampler { up: 0, down: 1, half: 0, phases: vec![], per_phase: 0, ratio }.apply(&x).unwrap();
        assert_eq!(exact.len(), any.len());
        for (a, b) in exact.iter().zip(&any).skip(15).take(exact.len() - 30) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
        for fs_hz in [0.0, f64::NAN, 1e9, 1e-9] {
            assert_eq!(Resampler::between(fs_hz, 128.0).unwrap_err().kind(), Kind::Usage, "{fs_hz}");
        }
    }

    #[test]
    fn factors_are_cancelled_and_limited() {
        let cases = [
            (500.0, (32, 125)),
            (360.0, (16, 45)),
            (256.0, (1, 2)),
            (1000.0, (16, 125)),
            (300.0, (32, 75)),
            (128.0, (1, 1)),
            (64.0, (2, 1)),
            (249.999_999_999, (64, 125)),
            (0.5, (256, 1)),
        ];
        for (fs_hz, want) in cases {
            assert_eq!(rational_factor(fs_hz, 128.0).unwrap(), want, "{fs_hz}");
        }
        for fs_hz in [0.0, -1.0, f64::NAN, f64::INFINITY, 44_100.0, 128.001_234_5, 1e9, 1e-9] {
            assert_eq!(rational_factor(fs_hz, 128.0).unwrap_err().kind(), Kind::Usage, "{fs_hz}");
        }
        assert_eq!(Resampler::new(128, 500, 5.0).unwrap().factor(), Some((32, 125)));
        for (up, down, beta) in [(0, 1, 5.0), (1, 0, 5.0), (1, 5000, 5.0), (1, 2, -1.0), (1, 2, f64::NAN)] {
            assert_eq!(Resampler::new(up, down, beta).unwrap_err().kind(), Kind::Usage);
        }
    }

    #[test]
    fn empty_and_non_finite_input() {
        assert!(resample_poly(&[], 1, 2).unwrap().is_empty());
        let e = resample_poly(&[0.0, 1.0, f64::NAN], 1, 2).unwrap_err();
        assert!(e.to_string().contains("sample 2"), "{e}");
    }
}
