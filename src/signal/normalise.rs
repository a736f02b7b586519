//! Normalisation: centre and scale, over a window, a recording or a subject.
//!
//! Amplitude in an ECG is mostly electrode placement, gain and body, so a model is given windows without it. Over *what*
//! mean and standard deviation are taken decides whether the labels leak; see [`Normalisation`].

use super::lanes::{self, LANES, each};
use super::{median_in_place, require_finite};
use crate::error::{Error, Result};
use heartlore_kernels::isa::{Simd, Task};
use std::fmt;
use std::str::FromStr;

/// Over what the mean and the standard deviation are taken.
///
/// **Per subject leaks labels.** Take one subject with a long recording at rest and a short one under load, and scale
/// both by statistics over both. The common mean and deviation are a mixture weighted by how much of each class there is;
/// what remains of amplitude in a window is then measured *against the other class*. On EEGMAT (36 subjects, rest against
/// mental arithmetic) the bare amplitude of a window separates the classes with balanced accuracy 0.87 after per-subject
/// scaling and 0.54 without: the separation is made by the scaling. It also needs the test subject's whole session in
/// advance. Per recording leaks in the same way when one recording holds several classes. Per window cannot leak: a
/// window's scaling depends on nothing but the window, so it is the default for labelled data. The published model
/// normalises per subject; reproduce it with `Subject`, and say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Normalisation {
    /// Samples stay in their unit.
    None,
    /// Each window by its own mean and standard deviation.
    #[default]
    Window,
    /// All windows of a recording by the recording's mean and standard deviation.
    Recording,
    /// All windows of a subject by mean and standard deviation over all the subject's recordings. Leaks labels.
    Subject,
}

impl Normalisation {
    /// Whether the scaling of a window depends on samples outside the window, and so, possibly, on labels.
    pub fn can_leak(self) -> bool {
        matches!(self, Self::Recording | Self::Subject)
    }
}

impl fmt::Display for Normalisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Window => "window",
            Self::Recording => "recording",
            Self::Subject => "subject",
        })
    }
}

impl FromStr for Normalisation {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        match s {
            "none" => Ok(Self::None),
            "window" => Ok(Self::Window),
            "recording" => Ok(Self::Recording),
            "subject" => Ok(Self::Subject),
            _ => Err(Error::usage(format!("unknown normalisation '{s}'"))
                .remedy("use one of none, window, recording, subject")),
        }
    }
}

/// A centre and a scale, measured once and applied to any number of slices.
///
/// Constant input has no scale: it is marked [`flat`](Scaler::flat), and [`apply`](Scaler::apply) then turns everything
/// into zeros. Constant means a spread of at most 10^-12 of the largest magnitude, which is rounding noise.
///
/// ```
/// use heartlore::signal::Scaler;
/// let mut x = [1.0, 2.0, 3.0];
/// Scaler::z_score(&x)?.apply(&mut x);
/// assert!((x[2] - 1.5f64.sqrt()).abs() < 1e-15); // the population standard deviation of 1, 2, 3 is sqrt(2/3)
/// # Ok::<(), heartlore::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaler {
    /// What is subtracted.
    pub centre: f64,
    /// What is divided by; 0 when flat.
    pub scale: f64,
    /// Whether the input was constant.
    pub flat: bool,
}

/// A spread below this share of the largest magnitude is rounding noise.
const FLAT_SHARE: f64 = 1e-12;

/// 1 / quantile(3/4) of the normal distribution: makes the median absolute deviation of normal data its standard
/// deviation (Rousseeuw and Croux 1993, JASA 88).
const MAD_TO_SD: f64 = 1.482_602_218_505_602;

impl Scaler {
    /// Mean and standard deviation of one slice. The deviation is the population's (divided by n, NumPy's `ddof=0`).
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind::Data) for an empty slice or a sample that is not finite (naming the first),
    /// [`Kind::Numeric`](crate::error::Kind::Numeric) for samples so large that their variance overflows.
    pub fn z_score(x: &[f64]) -> Result<Self> {
        Self::z_score_over(&[x])
    }

    /// [`Scaler::z_score`] over several slices taken as one: the finite stretches of a recording, or the recordings of a
    /// subject.
    ///
    /// # Errors
    /// As [`Scaler::z_score`]; the index counts through all slices.
    pub fn z_score_over(parts: &[&[f64]]) -> Result<Self> {
        let n = check(parts)? as f64;
        let mean = lanes::best(Sums { parts, about: 0.0 })[0] / n;
        // Second pass about the mean: the one-pass formula cancels when the offset is large. The mean's own rounding
        // error is removed by the square of the summed deviations (Chan, Golub and LeVeque 1983).
        let [sum, squares] = lanes::best(Sums { parts, about: mean });
        let deviation = ((squares - sum * sum / n) / n).max(0.0).sqrt();
        Self::of(mean, deviation, parts)
    }

    /// Median and median absolute deviation, scaled to agree with the standard deviation on normal data: artefacts in less
    /// than half of the samples hardly move it. Counts as flat also when more than half of the samples are equal.
    ///
    /// # Errors
    /// As [`Scaler::z_score`].
    pub fn robust(x: &[f64]) -> Result<Self> {
        Self::robust_over(&[x])
    }

    /// [`Scaler::robust`] over several slices taken as one.
    ///
    /// # Errors
    /// As [`Scaler::z_score_over`].
    pub fn robust_over(parts: &[&[f64]]) -> Result<Self> {
        check(parts)?;
        let mut all = parts.concat();
        let median = median_in_place(&mut all);
        all.iter_mut().for_each(|v| *v = (*v - median).abs());
        let deviation = median_in_place(&mut all) * MAD_TO_SD;
        Self::of(median, deviation, parts)
    }

    fn of(centre: f64, scale: f64, parts: &[&[f64]]) -> Result<Self> {
        if !(centre.is_finite() && scale.is_finite()) {
            return Err(Error::numeric("samples are too large: their mean or variance overflows")
                .remedy("check the unit and the gain in the file's header"));
        }
        let largest = parts.iter().fold(0.0f64, |m, p| m.max(lanes::best(Largest(p))));
        let flat = scale <= FLAT_SHARE * largest;
        Ok(Self { centre, scale: if flat { 0.0 } else { scale }, flat })
    }

    /// `(v - centre) / scale` of each sample, or 0 when flat, rounded to f32: what a store holds.
    pub(crate) fn applied(&self, x: &[f64]) -> Vec<f32> {
        lanes::best(Applied { scaler: self, x })
    }

    /// Replaces each sample v by `(v - centre) / scale`, or by 0 when flat.
    pub fn apply(&self, x: &mut [f64]) {
        if self.flat {
            x.fill(0.0);
        } else {
            x.iter_mut().for_each(|v| *v = (*v - self.centre) / self.scale);
        }
    }
}

/// Sums of `v - about` and of its square over all parts, in eight partial sums each so that additions overlap. Sample i of
/// all counts to sum i mod 8, so the bits do not depend on where parts end.
struct Sums<'a> {
    parts: &'a [&'a [f64]],
    about: f64,
}

impl Task for Sums<'_> {
    type Out = [f64; 2];
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> [f64; 2] {
        let (mut sum, mut squares) = ([0.0; LANES], [0.0; LANES]);
        let mut lane = 0;
        for part in self.parts {
            let (head, rest) = part.split_at((LANES - lane).min(part.len()) % LANES);
            let (body, tail) = rest.as_chunks::<LANES>();
            let mut one = |v: &f64| {
                let d = v - self.about;
                sum[lane] += d;
                squares[lane] += d * d;
                lane = (lane + 1) % LANES;
            };
            head.iter().for_each(&mut one);
            for v in body {
                let d = each(|l| v[l] - self.about);
                sum = each(|l| sum[l] + d[l]);
                squares = each(|l| squares[l] + d[l] * d[l]);
            }
            for v in tail {
                let d = v - self.about;
                sum[lane] += d;
                squares[lane] += d * d;
                lane = (lane + 1) % LANES;
            }
        }
        [lanes::total(sum), lanes::total(squares)]
    }
}

/// Largest magnitude.
struct Largest<'a>(&'a [f64]);

impl Task for Largest<'_> {
    type Out = f64;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let (low, high) = lanes::range(self.0);
        if low <= high { low.abs().max(high.abs()) } else { 0.0 }
    }
}

struct Applied<'a> {
    scaler: &'a Scaler,
    x: &'a [f64],
}

impl Task for Applied<'_> {
    type Out = Vec<f32>;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Vec<f32> {
        let Scaler { centre, scale, flat } = *self.scaler;
        if flat {
            return vec![0.0; self.x.len()];
        }
        self.x.iter().map(|v| ((v - centre) / scale) as f32).collect()
    }
}

/// The number of samples, all of them finite and at least one.
fn check(parts: &[&[f64]]) -> Result<usize> {
    let mut n = 0;
    for part in parts {
        require_finite(part, n)?;
        n += part.len();
    }
    if n == 0 {
        return Err(Error::data("nothing to normalise: no samples"));
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn z_scores_have_mean_zero_and_deviation_one_even_on_a_large_offset() {
        let x: Vec<f64> = (0..1000).map(|i| 1e6 + (i as f64 * 0.7).sin()).collect();
        let mut z = x.clone();
        let s = Scaler::z_score(&x).unwrap();
        s.apply(&mut z);
        let mean = z.iter().sum::<f64>() / 1000.0;
        let variance = z.iter().map(|v| v * v).sum::<f64>() / 1000.0;
        assert!(!s.flat && mean.abs() < 1e-8 && (variance - 1.0).abs() < 1e-8, "{mean} {variance}");
    }

    #[test]
    fn parts_count_as_one() {
        let x: Vec<f64> = (0..10).map(|i| (i * i) as f64).collect();
        assert_eq!(Scaler::z_score(&x).unwrap(), Scaler::z_score_over(&[&x[..3], &[], &x[3..]]).unwrap());
        assert_eq!(Scaler::robust(&x).unwrap(), Scaler::robust_over(&[&x[..4], &x[4..]]).unwrap());
    }

    #[test]
    fn robust_scaling_ignores_an_artefact() {
        let mut x = vec![-2.0, -1.0, 0.0, 1.0, 2.0];
        let clean = Scaler::robust(&x).unwrap();
        assert_eq!((clean.centre, clean.scale), (0.0, MAD_TO_SD));
        x[4] = 1e9;
        assert_eq!(Scaler::robust(&x).unwrap(), clean);
        assert_eq!(Scaler::robust(&[1.0, 2.0, 4.0, 9.0]).unwrap().centre, 3.0);
    }

    #[test]
    fn constant_input_becomes_zeros_and_says_so() {
        for value in [0.0, 7.25, -1e300] {
            for s in [Scaler::z_score(&[value; 9]).unwrap(), Scaler::robust(&[value; 9]).unwrap()] {
                let mut x = [value; 9];
                s.apply(&mut x);
                assert!(s.flat && x == [0.0; 9], "{value}");
            }
        }
        // 0.1 has no exact sum: rounding noise must not be blown up to deviation one.
        assert!(Scaler::z_score(&[0.1; 1000]).unwrap().flat);
        assert!(!Scaler::z_score(&[0.0, 1e-100]).unwrap().flat);
    }

    #[test]
    fn bad_input() {
        assert_eq!(Scaler::z_score(&[]).unwrap_err().kind(), Kind::Data);
        let e = Scaler::z_score_over(&[&[1.0, 2.0], &[f64::NAN]]).unwrap_err();
        assert!(e.to_string().contains("sample 2"), "{e}");
        assert!(Scaler::robust(&[f64::INFINITY]).is_err());
        assert_eq!(Scaler::z_score(&[1e200, -1e200]).unwrap_err().kind(), Kind::Numeric);
    }

    #[test]
    fn names_round_trip() {
        use Normalisation::{None, Recording, Subject, Window};
        for n in [None, Window, Recording, Subject] {
            assert_eq!(n.to_string().parse::<Normalisation>().unwrap(), n);
        }
        assert_eq!("Z".parse::<Normalisation>().unwrap_err().kind(), Kind::Usage);
        assert!(Normalisation::Subject.can_leak() && !Normalisation::default().can_leak());
    }
}
