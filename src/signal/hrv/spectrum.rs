//! Measures in the frequency domain (Task Force 1996, table 2).

use super::NnSeries;
use super::spline::cubic_spline;
use std::f64::consts::{PI, TAU};

/// Very low frequency, in Hz.
pub const VLF_HZ: (f64, f64) = (0.0033, 0.04);
/// Low frequency, in Hz.
pub const LF_HZ: (f64, f64) = (0.04, 0.15);
/// High frequency, in Hz: breathing.
pub const HF_HZ: (f64, f64) = (0.15, 0.4);

/// Shortest series for each band, in seconds; see the module's description.
const HF_SPAN_S: f64 = 60.0;
const LF_SPAN_S: f64 = 120.0;
const VLF_SPAN_S: f64 = 298.0;

/// Least share of the series that intervals must cover. Welch's method draws a spline over what is missing, Lomb-Scargle
/// leaves it out.
const LOMB_COVERED: f64 = 0.5;
const WELCH_COVERED: f64 = 0.8;

/// Rate at which intervals are resampled for Welch's method, in Hz.
const RESAMPLED_HZ: f64 = 4.0;
/// Longest segment of Welch's method and longest stretch of one Lomb-Scargle spectrum: five minutes, the Task Force's
/// length of a short-term recording. Longer series are averaged over such pieces.
const SEGMENT_S: f64 = 300.0;
/// Points per width of a spectral peak in the Lomb-Scargle spectrum.
const OVERSAMPLING: f64 = 5.0;
/// Hardly any power of interest lies above, and no band reaches higher.
const HIGHEST_HZ: f64 = 0.5;

/// How the spectrum is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpectrumMethod {
    /// Lomb-Scargle with floating mean on the intervals as they are.
    LombScargle,
    /// Cubic spline at 4 Hz, then Welch's method: Hann windows of half the series (at most five minutes), overlapping by
    /// half, zero-padded to twice their length.
    Welch,
}

/// A one-sided power spectral density.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spectrum {
    /// Frequencies, evenly spaced, in Hz.
    pub frequencies_hz: Vec<f64>,
    /// Density, in ms^2/Hz.
    pub density_ms2_per_hz: Vec<f64>,
}

impl Spectrum {
    /// Power in `low <= f < high`, by the trapezoidal rule over the points inside, in ms^2.
    pub fn power_ms2(&self, (low, high): (f64, f64)) -> f64 {
        let inside = |f: &f64| *f >= low && *f < high;
        let points = self.frequencies_hz.iter().zip(&self.density_ms2_per_hz).filter(|(f, _)| inside(f));
        let points: Vec<(f64, f64)> = points.map(|(f, p)| (*f, *p)).collect();
        points.windows(2).map(|w| 0.5 * (w[1].1 + w[0].1) * (w[1].0 - w[0].0)).sum()
    }
}

/// Measures in the frequency domain. A band that the series is too short for is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FrequencyDomain {
    /// Power in [`VLF_HZ`], in ms^2; from 298 s on.
    pub vlf_ms2: Option<f64>,
    /// Power in [`LF_HZ`], in ms^2; from 120 s on.
    pub lf_ms2: Option<f64>,
    /// Power in [`HF_HZ`], in ms^2; from 60 s on.
    pub hf_ms2: Option<f64>,
    /// Sum of the three, in ms^2.
    pub total_ms2: Option<f64>,
    /// LF over HF, without unit.
    pub lf_hf: Option<f64>,
    /// LF in normalised units: percent of LF + HF.
    pub lf_nu: Option<f64>,
    /// HF in normalised units: percent of LF + HF.
    pub hf_nu: Option<f64>,
}

impl FrequencyDomain {
    /// The measures; `None` for a series shorter than 60 s or of fewer than 16 intervals.
    pub fn of(nn: &NnSeries, method: SpectrumMethod) -> Option<Self> {
        let span_s = nn.span_s();
        let s = spectrum(nn, method)?;
        let power = |band, shortest_s: f64| (span_s >= shortest_s).then(|| s.power_ms2(band));
        let (vlf_ms2, lf_ms2, hf_ms2) =
            (power(VLF_HZ, VLF_SPAN_S), power(LF_HZ, LF_SPAN_S), power(HF_HZ, HF_SPAN_S));
        let both = lf_ms2.zip(hf_ms2).filter(|(lf, hf)| *lf > 0.0 && *hf > 0.0);
        Some(Self {
            vlf_ms2,
            lf_ms2,
            hf_ms2,
            total_ms2: vlf_ms2.zip(lf_ms2).zip(hf_ms2).map(|((v, l), h)| v + l + h),
            lf_hf: both.map(|(lf, hf)| lf / hf),
            lf_nu: both.map(|(lf, hf)| 100.0 * lf / (lf + hf)),
            hf_nu: both.map(|(lf, hf)| 100.0 * hf / (lf + hf)),
        })
    }
}

/// The spectrum of a series up to 0.5 Hz; `None` if it is shorter than 60 s, has fewer than 16 intervals, or these cover less
/// than half of it (for Welch's method, which needs even samples, four fifths).
pub fn spectrum(nn: &NnSeries, method: SpectrumMethod) -> Option<Spectrum> {
    let (t, x) = (nn.ends_s(), nn.intervals_ms());
    let covered = match method {
        SpectrumMethod::LombScargle => LOMB_COVERED,
        SpectrumMethod::Welch => WELCH_COVERED,
    };
    if nn.span_s() < HF_SPAN_S || x.len() < 16 || nn.covered_share() < covered {
        return None;
    }
    match method {
        SpectrumMethod::Welch => welch(t, x),
        SpectrumMethod::LombScargle => {
            let pieces = ((t[t.len() - 1] - t[0]) / SEGMENT_S).floor().max(1.0);
            let length_s = (t[t.len() - 1] - t[0]) / pieces;
            let step_hz = 1.0 / (OVERSAMPLING * length_s);
            let count = (HIGHEST_HZ / step_hz).floor() as usize;
            let frequencies_hz: Vec<f64> = (1..=count).map(|k| k as f64 * step_hz).collect();
            let mut density_ms2_per_hz = vec![0.0; count];
            let mut used = 0.0;
            for p in 0..pieces as usize {
                let from = t[0] + p as f64 * length_s;
                let begin = t.partition_point(|v| *v < from);
                let end = if p + 1 == pieces as usize {
                    t.len()
                } else {
                    t.partition_point(|v| *v < from + length_s)
                };
                // A piece that is mostly gap has no spectrum of its own.
                if end - begin < 16 {
                    continue;
                }
                used += 1.0;
                let (t, x) = (&t[begin..end], &x[begin..end]);
                let mean_s = x.iter().sum::<f64>() / (1000.0 * x.len() as f64);
                for (total, p) in density_ms2_per_hz.iter_mut().zip(lomb_scargle(t, x, &frequencies_hz)) {
                    *total += 2.0 * mean_s * p;
                }
            }
            density_ms2_per_hz.iter_mut().for_each(|p| *p /= used);
            (used > 0.0).then_some(Spectrum { frequencies_hz, density_ms2_per_hz })
        }
    }
}

/// Lomb-Scargle periodogram with floating mean (Zechmeister and Kuerster 2009, A&A 496): half the squares that fitting
/// `a cos + b sin + c` removes from those about the mean. A sine of amplitude A in n samples has n A^2 / 4 at its frequency,
/// as in a discrete Fourier transform |X|^2 / n.
pub(crate) fn lomb_scargle(t: &[f64], x: &[f64], frequencies_hz: &[f64]) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let one = |f: &f64| {
        let w = TAU * f;
        let [mut c, mut s, mut cc, mut cs, mut yc, mut ys] = [0.0; 6];
        for (t, x) in t.iter().zip(x) {
            let (sin, cos) = (w * (t - t_origin(w, *t))).sin_cos();
            let y = x - mean;
            c += cos;
            s += sin;
            cc += cos * cos;
            cs += cos * sin;
            yc += y * cos;
            ys += y * sin;
        }
        // Sums about the mean; those of y vanish.
        let ss = n - cc - s * s / n;
        let (cc, cs) = (cc - c * c / n, cs - c * s / n);
        let determinant = cc * ss - cs * cs;
        if determinant <= 1e-12 * n * n {
            return 0.0;
        }
        0.5 * (yc * yc * ss + ys * ys * cc - 2.0 * yc * ys * cs) / determinant
    };
    frequencies_hz.iter().map(one).collect()
}

/// Whole periods before `t`, which may be hours: the sine of a small argument is exact.
fn t_origin(w: f64, t: f64) -> f64 {
    let period = TAU / w;
    (t / period).floor() * period
}

/// Spline at 4 Hz, mean removed, Welch's method.
fn welch(t: &[f64], x: &[f64]) -> Option<Spectrum> {
    let count = ((t[t.len() - 1] - t[0]) * RESAMPLED_HZ + 1e-9).floor() as usize + 1;
    let mut y = cubic_spline(t, x, (0..count).map(|i| t[0] + i as f64 / RESAMPLED_HZ));
    let mean = y.iter().sum::<f64>() / count as f64;
    y.iter_mut().for_each(|v| *v -= mean);
    let segment = (count / 2).min((SEGMENT_S * RESAMPLED_HZ) as usize);
    let padded = 2 * segment;
    let window: Vec<f64> =
        (0..segment).map(|i| 0.5 - 0.5 * (TAU * i as f64 / segment as f64).cos()).collect();
    let energy: f64 = window.iter().map(|w| w * w).sum();
    let step_hz = RESAMPLED_HZ / padded as f64;
    let highest = (HIGHEST_HZ / step_hz).floor() as usize;
    let mut density = vec![0.0; highest + 1];
    let hop = segment - segment / 2;
    let starts: Vec<usize> = (0..).map(|k| k * hop).take_while(|s| s + segment <= count).collect();
    for start in &starts {
        let part: Vec<f64> = y[*start..start + segment].iter().zip(&window).map(|(a, w)| a * w).collect();
        for (k, total) in density.iter_mut().enumerate() {
            *total += goertzel(&part, 2.0 * PI * k as f64 / padded as f64);
        }
    }
    // One-sided: the negative frequencies' share is added, but frequency 0 has none.
    let scale = 2.0 / (RESAMPLED_HZ * energy * starts.len() as f64);
    density.iter_mut().for_each(|p| *p *= scale);
    density[0] *= 0.5;
    let frequencies_hz = (0..=highest).map(|k| k as f64 * step_hz).collect();
    Some(Spectrum { frequencies_hz, density_ms2_per_hz: density })
}

/// Squared magnitude of the Fourier sum of `x` at `w` radians per sample: one recurrence instead of an FFT, since only the
/// lowest eighth of the frequencies is wanted.
fn goertzel(x: &[f64], w: f64) -> f64 {
    let turn = 2.0 * w.cos();
    let (mut a, mut b) = (0.0, 0.0);
    for v in x {
        (a, b) = (v + turn * a - b, a);
    }
    (a * a + b * b - turn * a * b).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::hrv::NnSettings;

    /// Beats whose intervals swing by `amplitude_ms` at `f_hz`.
    fn swinging(f_hz: f64, amplitude_ms: f64, span_s: f64) -> NnSeries {
        let mut beats = vec![0.0];
        while beats[beats.len() - 1] < span_s {
            let t = beats[beats.len() - 1];
            beats.push(t + 0.8 + 1e-3 * amplitude_ms * (TAU * f_hz * t).sin());
        }
        NnSeries::from_beats(&beats, &NnSettings::all()).unwrap()
    }

    /// The power of a swing is half its squared amplitude, in its band, by both methods, at any length.
    #[test]
    fn power_of_a_swing() {
        for span_s in [300.0, 1000.0] {
            for (f_hz, band) in [(0.1, 1), (0.25, 2)] {
                let nn = swinging(f_hz, 20.0, span_s);
                for method in [SpectrumMethod::LombScargle, SpectrumMethod::Welch] {
                    let s = spectrum(&nn, method).unwrap();
                    let power = [VLF_HZ, LF_HZ, HF_HZ].map(|b| s.power_ms2(b));
                    assert!((power[band] - 200.0).abs() < 14.0, "{method:?} {f_hz} Hz {span_s} s: {power:?}");
                    let others: f64 = power.iter().sum::<f64>() - power[band];
                    assert!(others < 4.0, "{method:?} {f_hz} Hz {span_s} s: {power:?}");
                }
            }
        }
    }

    #[test]
    fn short_series_have_fewer_bands() {
        let of = |span_s| FrequencyDomain::of(&swinging(0.1, 20.0, span_s), SpectrumMethod::LombScargle);
        assert_eq!(of(50.0), None);
        let minute = of(70.0).unwrap();
        assert!(minute.hf_ms2.is_some() && minute.lf_ms2.is_none() && minute.lf_hf.is_none());
        let two = of(130.0).unwrap();
        assert!(two.lf_hf.is_some() && two.vlf_ms2.is_none() && two.total_ms2.is_none());
        let five = of(300.0).unwrap();
        assert!(five.total_ms2.is_some());
        assert!((five.lf_nu.unwrap() + five.hf_nu.unwrap() - 100.0).abs() < 1e-9);
    }

    /// At a frequency of the discrete Fourier transform of even samples the two agree.
    #[test]
    fn even_samples_give_the_fourier_periodogram() {
        let t: Vec<f64> = (0..64).map(|i| f64::from(i) * 0.5).collect();
        let x: Vec<f64> = (0..64).map(|i| f64::from(i * i % 23)).collect();
        let mean = x.iter().sum::<f64>() / 64.0;
        let centred: Vec<f64> = x.iter().map(|v| v - mean).collect();
        for k in [1.0, 5.0, 20.0] {
            let p = lomb_scargle(&t, &x, &[k / 32.0])[0];
            let q = goertzel(&centred, TAU * k / 64.0) / 64.0;
            assert!((p - q).abs() < 1e-9 * q, "{k}: {p} {q}");
        }
    }
}
