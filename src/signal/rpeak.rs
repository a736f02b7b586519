//! R-peak detection by derivative energy, in the family of Pan and Tompkins (IEEE TBME 32(3), 1985, 230-236).
//!
//! 1. Band-pass 5-30 Hz, zero-phase: keeps the QRS complex, drops baseline wander, P and T waves and power-line interference.
//! 2. Square of the derivative, averaged over 100 ms: one hump per QRS complex.
//! 3. Humps above 0.8 times the mean energy within one second to each side count, the larger one first, none nearer
//!    than 0.3 s to a larger one.
//! 4. A hump within 0.4 s after a kept one and with less than a quarter of its energy (half its slope, as in the paper,
//!    which looks 0.36 s back) is a T wave and dropped; so is one within 0.55 s of less than 8 % if no beat follows for 0.8 s.
//! 5. Humps that are weak beside the beats of the minute before or after are dropped, and rates above 180 a minute are
//!    looked for: `select.rs`.
//! 6. The R peak is the extremum of the filtered signal within 80 ms, all of one polarity: that which is larger in the
//!    median beat (a lead may be upside down, and jumping between R and S would be read as variability).
//!
//! Pan and Tompkins adapt two thresholds causally; here the whole recording is at hand. Its factor, refractory time and
//! T-wave rule were chosen on MIT-BIH records 100 and 208 (128 Hz, tolerance 150 ms as in ANSI/AAMI EC57) and on the heart
//! rates of 636 recordings of three other data sets (`tests/signal.rs`), the rules of step 5 on generated recordings, on
//! those two and on ten of LUDB. Figures per record and per rhythm, also of other detectors: `benches/NOTES.md`.
//!
use super::lanes::{self, LANES, Lanes, each};
use super::select::{Energy, Selection};
use super::{Band, Sos, butterworth, median_in_place, sosfilt_zi, sosfiltfilt};
use crate::error::{Error, Result};
use heartlore_kernels::isa::{Simd, Task};

/// Lowest accepted sampling rate: below it the QRS band is cut.
pub const MIN_FS_HZ: f64 = 50.0;

const QRS_BAND_HZ: (f64, f64) = (5.0, 30.0);
const ENERGY_HALF_WIDTH_S: f64 = 0.05;
const REFINE_S: f64 = 0.08;

/// The QRS-band signal with the peaks found in it.
pub(crate) struct Detection {
    pub(crate) filtered: Vec<f64>,
    pub(crate) peaks: Vec<usize>,
}

/// Indices of the R peaks in `x`, increasing. The unit of `x` and its polarity do not matter. Flat input has none.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a sampling rate below [`MIN_FS_HZ`];
/// [`Kind::Data`](crate::error::Kind::Data) for fewer than 22 samples or one that is not finite (naming the first).
///
/// ```
/// use heartlore::signal::{detect_r_peaks, simulate::{EcgParameters, simulate_ecg}};
/// let ecg = simulate_ecg(&EcgParameters::default(), 30.0, 256.0, 1)?;
/// let peaks = detect_r_peaks(&ecg.signal_mv, 256.0)?;
/// assert!(peaks.len().abs_diff(ecg.r_times_s.len()) <= 1);
/// # Ok::<(), heartlore::Error>(())
/// ```
pub fn detect_r_peaks(x: &[f64], fs_hz: f64) -> Result<Vec<usize>> {
    Ok(detect(x, fs_hz)?.peaks)
}

/// Fails for a sampling rate below [`MIN_FS_HZ`].
pub(crate) fn require_rate(fs_hz: f64) -> Result<()> {
    if !(fs_hz >= MIN_FS_HZ && fs_hz.is_finite()) {
        return Err(Error::usage(format!(
            "R peaks cannot be found at {fs_hz} Hz: {MIN_FS_HZ} Hz are needed"
        ))
        .remedy("resample the recording first"));
    }
    Ok(())
}

pub(crate) fn detect(x: &[f64], fs_hz: f64) -> Result<Detection> {
    Ok(Detector::new(fs_hz)?.humps(x)?.detection())
}

/// The QRS-band signal with the humps of energy in it: one per beat, its peak not yet chosen.
pub(crate) struct Humps {
    filtered: Vec<f64>,
    pub(crate) humps: Vec<usize>,
    /// Prominent humps with their energies, for a search of what follows; see [`Detector::humps_after`].
    pub(super) prominent: Vec<(usize, f64)>,
    reach: usize,
}

/// The detector for one sampling rate: its filter is designed once for many signals.
#[derive(Clone, Debug)]
pub(crate) struct Detector {
    sos: Sos,
    settled: Vec<[f64; 2]>,
    fs_hz: f64,
}

impl Detector {
    pub(crate) fn new(fs_hz: f64) -> Result<Self> {
        require_rate(fs_hz)?;
        let (low_hz, high_hz) = (QRS_BAND_HZ.0, QRS_BAND_HZ.1.min(0.45 * fs_hz));
        let sos = butterworth(3, Band::Bandpass { low_hz, high_hz }, fs_hz)?;
        Ok(Self { settled: sosfilt_zi(&sos)?, sos, fs_hz })
    }

    fn samples(&self, seconds: f64) -> usize {
        (seconds * self.fs_hz).round() as usize
    }

    /// A constant leaves only the filter's rounding noise, which has peaks, too.
    #[inline(always)]
    fn is_noise(filtered: &[f64], x: &[f64]) -> bool {
        let largest = |v: &[f64]| {
            let (low, high) = lanes::range(v);
            high.abs().max(low.abs())
        };
        largest(filtered) <= 1e-9 * largest(x)
    }

    pub(crate) fn humps(&self, x: &[f64]) -> Result<Humps> {
        self.humps_after(x, None)
    }

    /// [`Detector::humps`] of a part of a signal. `earlier` are the levels (`select.rs`) of what came before, which it is
    /// compared with; the prominent humps are then returned.
    pub(super) fn humps_after(&self, x: &[f64], earlier: Option<&[f64]>) -> Result<Humps> {
        let filtered = sosfiltfilt(&self.sos, x)?;
        if Self::is_noise(&filtered, x) {
            return Ok(self.found(filtered, Selection::default()));
        }
        let squared: Vec<f64> = gradient(&filtered).into_iter().map(|d| d * d).collect();
        let energy = moving_mean(&squared, self.samples(ENERGY_HALF_WIDTH_S));
        let sums = running_sums(&energy);
        let of = Energy { at: |i| energy[i], sum: |i| sums[i], filtered: &filtered, fs_hz: self.fs_hz };
        let selection = of.select(maxima(&energy), earlier);
        Ok(self.found(filtered, selection))
    }

    fn found(&self, filtered: Vec<f64>, Selection { humps, prominent }: Selection) -> Humps {
        Humps { filtered, humps, prominent, reach: self.samples(REFINE_S) }
    }

    /// [`Detector::humps`] of up to [`LANES`] windows of one length side by side: the same bits.
    ///
    /// # Errors
    /// None for finite windows longer than the filter's padding.
    pub(crate) fn windows(&self, windows: &[&[f64]], scratch: &mut Scratch) -> Vec<Humps> {
        lanes::best(LaneParallel { detector: self, windows, scratch })
    }
}

/// Memory for [`Detector::windows`], to be used again.
#[derive(Default)]
pub(crate) struct Scratch {
    filtered: Vec<Lanes>,
    sums: Vec<Lanes>,
    energy: Vec<Lanes>,
    energy_sums: Vec<Lanes>,
}

/// Windows through the detector, one in each lane. What differs from lane to lane (which maxima count) is left to
/// `select.rs`; filter, gradient, running sums and the search for maxima are the same for all.
struct LaneParallel<'a> {
    detector: &'a Detector,
    windows: &'a [&'a [f64]],
    scratch: &'a mut Scratch,
}

impl Task for LaneParallel<'_> {
    type Out = Vec<Humps>;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Vec<Humps> {
        let LaneParallel { detector, windows, scratch } = self;
        let n = windows[0].len();
        let pad = detector.sos.default_padlen();
        let Scratch { filtered, sums, energy, energy_sums } = scratch;
        // Lanes without a window repeat the first.
        let window = |l: usize| windows.get(l).copied().unwrap_or(windows[0]);
        filtered.resize(n + 2 * pad, [0.0; LANES]);
        lanes::gather(&mut filtered[pad..pad + n], window);
        for i in 1..=pad {
            let (first, last) = (filtered[pad], filtered[pad + n - 1]);
            let (after, before) = (filtered[pad + i], filtered[pad + n - 1 - i]);
            filtered[pad - i] = each(|l| 2.0 * first[l] - after[l]);
            filtered[pad + n - 1 + i] = each(|l| 2.0 * last[l] - before[l]);
        }
        let settled_at = |v: Lanes| -> Vec<[Lanes; 2]> {
            detector.settled.iter().map(|s| s.map(|s| each(|l| s * v[l]))).collect()
        };
        let sections = detector.sos.sections();
        lanes::cascade::<false>(sections, &mut settled_at(filtered[0]), filtered);
        lanes::cascade::<true>(sections, &mut settled_at(filtered[n + 2 * pad - 1]), filtered);
        let y = &filtered[pad..pad + n];

        // Squared gradient, summed up to and without sample i.
        let mut sum = [0.0; LANES];
        sums.resize(n + 1, sum);
        let mut add = |i: usize, d: Lanes| {
            sum = each(|l| sum[l] + d[l] * d[l]);
            sums[i + 1] = sum;
        };
        add(0, each(|l| y[1][l] - y[0][l]));
        for i in 1..n - 1 {
            let (a, b) = (y[i - 1], y[i + 1]);
            add(i, each(|l| (b[l] - a[l]) * 0.5));
        }
        add(n - 1, each(|l| y[n - 1][l] - y[n - 2][l]));

        // Its mean around each sample, and the sums of that.
        let half = detector.samples(ENERGY_HALF_WIDTH_S);
        let mut sum = [0.0; LANES];
        energy.resize(n, sum);
        energy_sums.resize(n + 1, sum);
        for i in 0..n {
            let (from, to) = (i.saturating_sub(half), (i + half + 1).min(n));
            let (a, b, count) = (sums[from], sums[to], (to - from) as f64);
            let e = each(|l| {
                let mean = (b[l] - a[l]) / count;
                if mean > 0.0 { mean } else { 0.0 }
            });
            energy[i] = e;
            sum = each(|l| sum[l] + e[l]);
            energy_sums[i + 1] = sum;
        }

        let mut maxima: [Vec<usize>; LANES] = std::array::from_fn(|_| Vec::with_capacity(n / 8));
        for i in 1..n - 1 {
            let (a, b, c) = (energy[i - 1], energy[i], energy[i + 1]);
            // Bit l says that a maximum begins in lane l.
            let mut tops = (0..LANES).fold(0u32, |m, l| m | u32::from((a[l] < b[l]) & (c[l] <= b[l])) << l);
            while tops != 0 {
                let l = tops.trailing_zeros() as usize % LANES;
                tops &= tops - 1;
                maxima[l].extend(plateau(i, n, |j| energy[j][l]).0);
            }
        }

        let mut out = Vec::with_capacity(windows.len());
        let mut signals: [Vec<f64>; LANES] = std::array::from_fn(|_| vec![0.0; n]);
        lanes::scatter(y, &mut signals);
        for (l, (maxima, filtered)) in maxima.into_iter().zip(signals).enumerate().take(windows.len()) {
            let selection = if Detector::is_noise(&filtered, windows[l]) {
                Selection::default()
            } else {
                let at = |i: usize| energy[i][l];
                let sum = |i: usize| energy_sums[i][l];
                Energy { at, sum, filtered: &filtered, fs_hz: detector.fs_hz }.select(maxima, None)
            };
            out.push(detector.found(filtered, selection));
        }
        out
    }
}

/// Central differences, one-sided at the ends (NumPy's `gradient`). At least two samples.
fn gradient(y: &[f64]) -> Vec<f64> {
    let last = y.len() - 1;
    let mut d: Vec<f64> = Vec::with_capacity(y.len());
    d.push(y[1] - y[0]);
    d.extend(y.windows(3).map(|w| (w[2] - w[0]) * 0.5));
    d.push(y[last] - y[last - 1]);
    d
}

/// Sums of the first 0, 1, 2, ... samples.
fn running_sums(x: &[f64]) -> Vec<f64> {
    let mut sums = Vec::with_capacity(x.len() + 1);
    let mut sum = 0.0;
    sums.push(0.0);
    for v in x {
        sum += v;
        sums.push(sum);
    }
    sums
}

/// Mean of the samples within `half` of sample i, of those that exist among n, from their running sums.
#[inline(always)]
fn mean_around(sums: impl Fn(usize) -> f64, i: usize, half: usize, n: usize) -> f64 {
    let (a, b) = (i.saturating_sub(half), (i + half + 1).min(n));
    ((sums(b) - sums(a)) / (b - a) as f64).max(0.0)
}

/// Mean of the samples within `half` of each; of those that exist, at the ends.
fn moving_mean(x: &[f64], half: usize) -> Vec<f64> {
    let sums = running_sums(x);
    (0..x.len()).map(|i| mean_around(|j| sums[j], i, half, x.len())).collect()
}

/// The maximum that begins at sample i, which is larger than the one before and not smaller than the next: the middle of
/// its plateau, if that ends by falling; and the plateau's last sample.
#[inline(always)]
fn plateau(i: usize, n: usize, x: impl Fn(usize) -> f64) -> (Option<usize>, usize) {
    let mut end = i;
    while end + 1 < n && x(end + 1) == x(i) {
        end += 1;
    }
    ((end + 1 < n && x(end + 1) < x(i)).then(|| i.midpoint(end)), end)
}

/// Local maxima, of a plateau the middle.
fn maxima(x: &[f64]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut i = 1;
    while i + 1 < x.len() {
        if x[i - 1] < x[i] {
            let (top, end) = plateau(i, x.len(), |j| x[j]);
            found.extend(top);
            i = end;
        }
        i += 1;
    }
    found
}

/// Those maxima such that none lies nearer than `distance` to a larger one that is kept; of equal ones the first is kept.
///
/// In principle: take the largest, strike out what is near, take the largest of the rest. The same without sorting: a
/// maximum larger than all that are left near it is taken in any order, so each round takes all such and strikes out
/// what is near them. Two or three rounds do, and most maxima are compared with a neighbour or two.
pub(super) fn spaced(maxima: Vec<usize>, height: impl Fn(usize) -> f64, distance: usize) -> Vec<usize> {
    let mut left: Vec<(usize, f64)> = maxima.into_iter().map(|m| (m, height(m))).collect();
    let mut kept = Vec::new();
    while !left.is_empty() {
        let before = kept.len();
        for (k, &(at, high)) in left.iter().enumerate() {
            let near = |other: &&(usize, f64)| other.0.abs_diff(at) < distance;
            let lower_left = left[..k].iter().rev().take_while(near).all(|o| o.1 < high);
            if lower_left && left[k + 1..].iter().take_while(near).all(|o| o.1 <= high) {
                kept.push(at);
            }
        }
        let taken = &kept[before..];
        let mut next = 0;
        left.retain(|&(at, _)| {
            // The first that was taken at or after this one, and the one before it.
            while next < taken.len() && taken[next] < at {
                next += 1;
            }
            let far = |t: Option<&usize>| t.is_none_or(|t| t.abs_diff(at) >= distance.max(1));
            far(taken.get(next)) && far(next.checked_sub(1).and_then(|i| taken.get(i)))
        });
    }
    kept.sort_unstable();
    kept
}

impl Humps {
    pub(crate) fn detection(self) -> Detection {
        let peaks = self.peaks(polarity(&self.extents()));
        Detection { filtered: self.filtered, peaks }
    }

    fn around(&self, p: usize) -> std::ops::Range<usize> {
        p.saturating_sub(self.reach)..(p + self.reach + 1).min(self.filtered.len())
    }

    /// For each hump, how far the signal goes up and down within reach.
    pub(crate) fn extents(&self) -> Vec<[f64; 2]> {
        let highest = |p: usize, sign: f64| {
            self.filtered[self.around(p)].iter().fold(f64::NEG_INFINITY, |m, v| m.max(sign * v))
        };
        self.humps.iter().map(|&p| [highest(p, 1.0), highest(p, -1.0)]).collect()
    }

    /// Moves each hump to the extremum within reach, upward for a `sign` of 1 and downward for -1.
    pub(crate) fn peaks(&self, sign: f64) -> Vec<usize> {
        let y = &self.filtered;
        let best = |&p: &usize| {
            let by_height = |a: &usize, b: &usize| (sign * y[*a]).total_cmp(&(sign * y[*b])).then(b.cmp(a));
            self.around(p).max_by(by_height).unwrap_or(p)
        };
        let mut peaks: Vec<usize> = self.humps.iter().map(best).collect();
        peaks.dedup();
        peaks
    }
}

/// The polarity of the median beat: 1 if its peak is the larger extremum, -1 if its trough is.
pub(crate) fn polarity(extents: &[[f64; 2]]) -> f64 {
    if extents.is_empty() {
        return 1.0;
    }
    let median = |i: usize| median_in_place(&mut extents.iter().map(|e| e[i]).collect::<Vec<_>>());
    if median(1) > median(0) { -1.0 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn maxima_keep_their_distance_largest_first() {
        let x = [0.0, 3.0, 0.0, 5.0, 0.0, 4.0, 4.0, 4.0, 0.0, 1.0, 0.0, 2.0];
        let spaced_maxima = |distance| spaced(maxima(&x), |i| x[i], distance);
        assert_eq!(spaced_maxima(1), [1, 3, 6, 9]);
        assert_eq!(spaced_maxima(3), [3, 6, 9]);
        assert_eq!(spaced_maxima(4), [3, 9]);
        assert!(maxima(&[1.0, 1.0, 1.0]).is_empty());
    }

    #[test]
    fn moving_mean_at_the_ends() {
        assert_eq!(moving_mean(&[1.0, 2.0, 6.0, 3.0], 1), [1.5, 3.0, 11.0 / 3.0, 4.5]);
        assert_eq!(gradient(&[1.0, 2.0, 6.0]), [1.0, 2.5, 4.0]);
    }

    #[test]
    fn upside_down_gives_the_same_peaks() {
        let ecg = crate::signal::simulate::simulate_ecg(&Default::default(), 20.0, 250.0, 3).unwrap();
        let turned: Vec<f64> = ecg.signal_mv.iter().map(|v| 1e4 - 3e3 * v).collect();
        assert_eq!(detect_r_peaks(&ecg.signal_mv, 250.0).unwrap(), detect_r_peaks(&turned, 250.0).unwrap());
    }

    #[test]
    fn flat_and_bad_input() {
        assert!(detect_r_peaks(&[7.3; 1000], 128.0).unwrap().is_empty());
        assert!(detect_r_peaks(&[0.0; 1000], 128.0).unwrap().is_empty());
        assert_eq!(detect_r_peaks(&[0.0; 1000], 49.0).unwrap_err().kind(), Kind::Usage);
        assert_eq!(detect_r_peaks(&[0.0; 21], 128.0).unwrap_err().kind(), Kind::Data);
        assert_eq!(detect_r_peaks(&[f64::NAN; 1000], 128.0).unwrap_err().kind(), Kind::Data);
    }

    /// Lanes against one window at a time, bit for bit, with a window of each kind and a lane left over.
    #[test]
    fn lanes_give_the_bits_of_one_window() {
        let fs_hz = 200.0;
        let ecg =
            crate::signal::simulate::simulate_ecg(&Default::default(), 70.0, fs_hz, 3).unwrap().signal_mv;
        let detector = Detector::new(fs_hz).unwrap();
        let flat = vec![4.5; 1000];
        // Steps, so that the energy has plateaus.
        let steps: Vec<f64> = (0..1000).map(|i| f64::from(i / 90 % 2)).collect();
        let mut windows: Vec<&[f64]> = ecg.chunks_exact(1000).take(5).collect();
        windows.extend([&flat[..], &steps[..]]);
        let mut scratch = Scratch::default();
        for count in [1, 7] {
            // The second time the scratch holds the first's numbers.
            let together = detector.windows(&windows[..count], &mut scratch);
            assert_eq!(together.len(), count);
            for (window, got) in windows.iter().zip(together) {
                let want = detector.humps(window).unwrap();
                assert_eq!((got.humps, got.reach), (want.humps, want.reach));
                assert!(got.filtered.iter().zip(&want.filtered).all(|(a, b)| a.to_bits() == b.to_bits()));
                assert_eq!(got.filtered.len(), want.filtered.len());
            }
        }
    }

    proptest::proptest! {
        /// Against the definition: the largest first, and what is near it struck out.
        #[test]
        fn maxima_spaced_by_the_definition(
            steps in proptest::collection::vec((1usize..6, 0u8..6), 0..80), distance in 0usize..12,
        ) {
            let mut at = 0;
            let all: Vec<(usize, f64)> = steps.iter().map(|(d, h)| { at += d; (at, f64::from(*h)) }).collect();
            let height = |p: usize| all.iter().find(|a| a.0 == p).unwrap().1;
            let mut order = all.clone();
            order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            let mut want: Vec<usize> = vec![];
            for (p, _) in order {
                if want.iter().all(|q| q.abs_diff(p) >= distance) {
                    want.push(p);
                }
            }
            want.sort_unstable();
            let got = spaced(all.iter().map(|a| a.0).collect(), height, distance);
            proptest::prop_assert_eq!(got, want);
        }
    }
}
