//! Recordings told apart by their samples: a copy is found whatever its file, format, unit, length or name.
//!
//! # The sketch
//!
//! An *anchor* is a point that stands out of its surroundings, in an ECG mostly an R peak. The shape of the 3 s around it
//! becomes 64 bits. Two recordings that share a stretch share its anchors, wherever each of them begins and ends.
//!
//! With `u = 2^round(log2(fs / 32 Hz))` samples (about 31 ms), on each stretch without missing samples:
//!
//! 1. `v[i]` = mean of `u` samples around `i` - mean of `32 u` samples around `i`.
//! 2. An anchor is an `i` where `|v|` is the largest within `12 u` on both sides. Nearer than `48 u` to an end of the
//!    stretch there is none, so an anchor and its bits do not depend on where the stretch was cut.
//! 3. `b` = the means of the 96 blocks of `u` samples around the anchor, less their mean, divided by their standard
//!    deviation, times the sign of `v` at the anchor: offset, gain, unit and polarity are gone.
//! 4. `z = b / (|b| + 0.1)`, less its mean: small waves count beside the QRS complex. The four blocks at the anchor, which
//!    are alike in all heartbeats, are left out.
//! 5. Bit `k` is the sign of `z` along the `k`-th of 64 fixed random directions (Charikar, "Similarity estimation
//!    techniques from rounding algorithms", STOC 2002): a bit changes with probability (angle between two `z`) / pi, so
//!    rounding to another format's resolution changes few, and other heartbeats differ in many.
//!
//! Two recordings share samples when three anchors of one lie in line with three of the other: each pair differs in at most
//! one bit, all pairs by the same time, and within 8 s.
//!
//! # Limits
//!
//! Among 1144 recordings of real ECG (44 h), on which the thresholds were also chosen, no two people were said to share
//! samples; two pairs of long recordings of one person were. Rounding to 10 bits lost no recording, to 8 bits 2 of 1144. A
//! copy that was filtered, or resampled to a rate that is not a power of two times the first, may have other
//! bits and is then not found; nor is another recording of the same person, for which there are the names. A shared stretch
//! below about 7 s may have too few anchors: see [`Sketch::decides`].

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::signal::finite_runs;

/// Bits in which two anchors of the same samples may differ.
const TOLERANCE: u32 = 1;
/// Anchors in line that say that samples are shared.
const IN_LINE: usize = 3;
/// Ticks within which they lie: 8 s.
const LINE: u32 = 8 * 128;
/// Anchors that the shorter of two sketches needs before "shares nothing" can be said: one may be lost to rounding.
const DECIDING: usize = IN_LINE + 1;
/// Pairs of one anchor with one recording that are looked at: in a signal that repeats itself all agree.
const MOST_PAIRS: usize = 64;

/// Blocks around an anchor.
const BLOCKS: usize = 96;
/// Blocks on each side of an anchor that are not looked at.
const CENTRE: usize = 2;

/// A place in a recording and the shape of what is around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Anchor {
    bits: u64,
    /// Time from the first sample in ticks of `u / 4` samples, about 8 ms.
    tick: u32,
}

/// What is kept of a recording's samples.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "formats", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "formats", serde(try_from = "String", into = "String"))]
pub struct Sketch {
    /// One of this many anchors was kept, in order of time.
    every: usize,
    /// Those kept, in order of time.
    anchors: Vec<Anchor>,
}

impl Default for Sketch {
    fn default() -> Self {
        Self { every: 1, anchors: Vec::new() }
    }
}

impl Sketch {
    /// Of samples at `fs_hz`; NaN marks a missing one.
    pub fn of(samples: &[f64], fs_hz: f64) -> Self {
        if !(fs_hz.is_finite() && fs_hz > 0.0) {
            return Self::default();
        }
        let unit = (fs_hz / 32.0).log2().round().clamp(0.0, 20.0).exp2() as usize;
        let mut anchors = Vec::new();
        let directions = directions();
        for run in finite_runs(samples) {
            anchors_of(&samples[run.clone()], run.start, unit, &directions, &mut anchors);
        }
        Self { every: 1, anchors }
    }

    /// Number of anchors kept.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }
    /// Whether there is no anchor.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// With one of `step` anchors, in order of time: a stretch of `n` anchors keeps at least `n / step` (rounded down) of
    /// them, wherever it lies.
    #[must_use]
    pub fn thinned(&self, step: usize) -> Self {
        let step = step.max(1);
        Self { every: self.every * step, anchors: self.anchors.iter().step_by(step).copied().collect() }
    }

    /// Whether the absence of a shared stretch between this recording and `other` means anything: of the shorter of the
    /// two enough anchors are left.
    pub fn decides(&self, other: &Self) -> bool {
        let shorter = (self.len() * self.every).min(other.len() * other.every);
        shorter / (self.every * other.every) >= DECIDING
    }
}

/// The factor by which `anchors` are to be thinned so that at most `most` are left: a power of two.
pub fn thinning(anchors: usize, most: usize) -> usize {
    anchors.div_ceil(most.max(1)).max(1).next_power_of_two()
}

/// `1:`, then for each anchor 16 hexadecimal digits of its bits and 4 of the ticks since the one before; the number says
/// that one of so many anchors was kept.
impl fmt::Display for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.every)?;
        let mut last = 0u32;
        for Anchor { bits, tick } in &self.anchors {
            // A longer gap is written as a shorter one: nothing lies in line across it.
            write!(f, "{bits:016x}{:04x}", (tick - last).min(0xffff))?;
            last = *tick;
        }
        Ok(())
    }
}

impl FromStr for Sketch {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::format("this is no sketch of a recording's samples");
        let (every, digits) = text.split_once(':').ok_or_else(bad)?;
        let every = every.parse().ok().filter(|n: &usize| *n > 0 && *n < 1 << 30).ok_or_else(bad)?;
        if !digits.len().is_multiple_of(20) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut last = 0u32;
        let anchor = |i: usize| {
            let bits = u64::from_str_radix(&digits[20 * i..20 * i + 16], 16).map_err(|_| bad())?;
            let gap = u32::from_str_radix(&digits[20 * i + 16..20 * (i + 1)], 16).map_err(|_| bad())?;
            last = last.checked_add(gap).ok_or_else(bad)?;
            Ok(Anchor { bits, tick: last })
        };
        let anchors = (0..digits.len() / 20).map(anchor).collect::<Result<_>>()?;
        Ok(Self { every, anchors })
    }
}

impl TryFrom<String> for Sketch {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Sketch> for String {
    fn from(sketch: Sketch) -> Self {
        sketch.to_string()
    }
}

/// The 64 directions: for each block the bits say in which of them it counts as -1.
fn directions() -> [u64; BLOCKS] {
    // SplitMix64 (Steele, Lea and Flood 2014) from a fixed seed: the directions are part of the format.
    let mut state = 0x6865_6172_746c_6f72u64;
    std::array::from_fn(|_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Sums of a stretch, from which every mean takes two look-ups.
struct Sums(Vec<f64>);

impl Sums {
    fn of(x: &[f64]) -> Self {
        let mut sums = Vec::with_capacity(x.len() + 1);
        let mut sum = 0.0;
        sums.push(sum);
        for v in x {
            // From the first sample, so that a large offset costs no digits.
            sum += v - x[0];
            sums.push(sum);
        }
        Self(sums)
    }
    fn over(&self, range: Range<usize>) -> f64 {
        self.0[range.end] - self.0[range.start]
    }
}

/// Anchors of a stretch that begins at sample `start` of the recording.
fn anchors_of(x: &[f64], start: usize, unit: usize, directions: &[u64; BLOCKS], out: &mut Vec<Anchor>) {
    let reach = BLOCKS / 2 * unit;
    let (around, near) = (16 * unit, 12 * unit);
    if x.len() < 2 * reach + 1 {
        return;
    }
    let sums = Sums::of(x);
    let (per_unit, per_around) = (1.0 / unit as f64, 1.0 / (2 * around) as f64);
    // v[0] belongs to sample `around`.
    let v: Vec<f64> = (around..=x.len() - around)
        .map(|i| {
            let from = i - unit / 2;
            per_unit * sums.over(from..from + unit) - per_around * sums.over(i - around..i + around)
        })
        .collect();
    let size = |i: usize| v[i - around].abs();
    let mut block = reach;
    while block <= x.len() - reach {
        let end = (block + near).min(x.len() - reach + 1);
        let mut top = block;
        for i in block..end {
            if size(i) > size(top) {
                top = i;
            }
        }
        let height = size(top);
        // The first of several that are equally large.
        let first = (top - near..top).all(|i| size(i) < height);
        if first && (top + 1..=top + near).all(|i| size(i) <= height) {
            let bits = bits(&sums, top, unit, v[top - around] < 0.0, directions);
            let tick = ((start + top) / (unit / 4).max(1)).try_into();
            out.extend(bits.zip(tick.ok()).map(|(bits, tick)| Anchor { bits, tick }));
        }
        block = end;
    }
}

/// The bits of the anchor at `i`; None where the signal does not vary.
fn bits(sums: &Sums, i: usize, unit: usize, inverted: bool, directions: &[u64; BLOCKS]) -> Option<u64> {
    let start = i - BLOCKS / 2 * unit;
    let mut z: [f64; BLOCKS] = std::array::from_fn(|j| sums.over(start + j * unit..start + (j + 1) * unit));
    let mean = |z: &[f64; BLOCKS]| z.iter().sum::<f64>() / BLOCKS as f64;
    let level = mean(&z);
    let variance = z.iter().map(|b| (b - level) * (b - level)).sum::<f64>() / BLOCKS as f64;
    let scale = if inverted { -variance.sqrt() } else { variance.sqrt() };
    if !(scale.abs() > 1e-9 * level.abs() && scale.is_finite()) {
        return None;
    }
    for b in &mut z {
        let y = (*b - level) / scale;
        *b = y / (y.abs() + 0.1);
    }
    let level = mean(&z);
    let mut along = [0.0f64; 64];
    for (j, (b, signs)) in z.iter().zip(directions).enumerate() {
        if (BLOCKS / 2 - CENTRE..BLOCKS / 2 + CENTRE).contains(&j) {
            continue;
        }
        let value = b - level;
        for (k, sum) in along.iter_mut().enumerate() {
            *sum += if signs >> k & 1 == 1 { -value } else { value };
        }
    }
    Some(along.iter().enumerate().fold(0, |bits, (k, sum)| bits | u64::from(*sum > 0.0) << k))
}

/// Sketches to be searched by content.
#[derive(Debug, Default)]
pub struct ContentIndex {
    /// Anchor, number of its recording.
    anchors: Vec<(Anchor, u32)>,
    /// (half of the bits with its place, anchor), ascending: two anchors that differ in one bit have one half in common.
    halves: Vec<(u64, u32)>,
    /// One of how many anchors each recording has kept.
    every: Vec<usize>,
}

fn halves(bits: u64) -> [u64; 2] {
    [bits & 0xffff_ffff, 1 << 32 | bits >> 32]
}

impl ContentIndex {
    /// Of these sketches; a recording's number is its place.
    pub fn new<'a>(sketches: impl IntoIterator<Item = &'a Sketch>) -> Self {
        let mut index = Self::default();
        for (number, sketch) in sketches.into_iter().enumerate() {
            index.anchors.extend(sketch.anchors.iter().map(|a| (*a, number as u32)));
            index.every.push(sketch.every);
        }
        index.halves.reserve(2 * index.anchors.len());
        for (i, (anchor, _)) in index.anchors.iter().enumerate() {
            index.halves.extend(halves(anchor.bits).map(|h| (h, i as u32)));
        }
        index.halves.sort_unstable();
        index
    }

    /// Numbers of the recordings that share samples with that of `sketch`, ascending.
    pub fn sharing(&self, sketch: &Sketch) -> Vec<usize> {
        // By recording: times there less times here, and the times here.
        let mut pairs: BTreeMap<u32, Vec<(i64, u32)>> = BTreeMap::new();
        for own in &sketch.anchors {
            let mut counted: BTreeMap<u32, usize> = BTreeMap::new();
            for half in halves(own.bits) {
                let from = self.halves.partition_point(|e| e.0 < half);
                for (_, i) in self.halves[from..].iter().take_while(|e| e.0 == half) {
                    let (other, number) = self.anchors[*i as usize];
                    if (own.bits ^ other.bits).count_ones() <= TOLERANCE {
                        let n = counted.entry(number).or_default();
                        *n += 1;
                        if *n <= MOST_PAIRS {
                            let shift = i64::from(other.tick) - i64::from(own.tick);
                            pairs.entry(number).or_default().push((shift, own.tick));
                        }
                    }
                }
            }
        }
        let shared = pairs.into_iter().filter_map(|(number, mut pairs)| {
            pairs.sort_unstable();
            pairs.dedup();
            let every = sketch.every.max(self.every[number as usize]);
            in_line(&pairs, LINE.saturating_mul(every.try_into().unwrap_or(u32::MAX)))
                .then_some(number as usize)
        });
        shared.collect()
    }
}

/// Whether enough of `pairs` (shift, time), ascending, lie in line: the same shift, to a tick, within `line` ticks.
fn in_line(pairs: &[(i64, u32)], line: u32) -> bool {
    let mut times = Vec::new();
    let mut first = 0;
    while first < pairs.len() {
        let shift = pairs[first].0;
        times.clear();
        times.extend(pairs[first..].iter().take_while(|p| p.0 <= shift + 1).map(|p| p.1));
        times.sort_unstable();
        times.dedup();
        if times.windows(IN_LINE).any(|t| t[IN_LINE - 1] - t[0] <= line) {
            return true;
        }
        first += pairs[first..].iter().take_while(|p| p.0 == shift).count();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Beats at random intervals with waves of random shape and some noise, one minute at `fs_hz`.
    fn ecg(seed: u64, fs_hz: f64) -> Vec<f64> {
        let mut state = seed;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut x = vec![0.0; (60.0 * fs_hz) as usize];
        let (rate, t_height) = (0.6 + 0.5 * random(), 0.1 + 0.3 * random());
        let mut at = 0.3 * random();
        while at < 60.0 {
            for (delay, height, width) in
                [(-0.16, 0.12, 0.02), (0.0, 1.1, 0.009), (0.03, -0.2, 0.01), (0.28, t_height, 0.05)]
            {
                let centre = (at + delay) * fs_hz;
                let reach = 5.0 * width * fs_hz;
                for i in (centre - reach).max(0.0) as usize..((centre + reach).max(0.0) as usize).min(x.len())
                {
                    let d = (i as f64 - centre) / (width * fs_hz);
                    x[i] += height * (-0.5 * d * d).exp();
                }
            }
            at += rate * (0.92 + 0.16 * random());
        }
        x.iter_mut().for_each(|v| *v += 0.02 * (random() + random() - 1.0));
        x
    }

    fn shares(a: &[f64], b: &[f64], fs_hz: f64) -> bool {
        let (a, b) = (Sketch::of(a, fs_hz), Sketch::of(b, fs_hz));
        let found = !ContentIndex::new([&a]).sharing(&b).is_empty();
        assert_eq!(found, !ContentIndex::new([&b]).sharing(&a).is_empty(), "it goes both ways");
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Cut anywhere, in other units, with another offset or polarity, rounded to a converter's steps: the same recording.
        #[test]
        fn a_copy_is_found_whatever_was_done_to_it(
            seed in 0u64..1000, rate in prop::sample::select(vec![100.0, 128.0, 250.0, 360.0, 1000.0]),
            from in 0.0f64..40.0, seconds in 10.0f64..20.0, gain in prop::sample::select(vec![1.0, -1.0, 1e-3, 1e3, 0.37]),
            offset in -5.0f64..5.0, bits in 10u32..17,
        ) {
            let x = ecg(seed, rate);
            let at = |s: f64| (s * rate) as usize;
            let part = &x[at(from)..at(from + seconds)];
            let steps = f64::from(1u32 << bits) / 6.0;
            let copy: Vec<f64> = part.iter().map(|v| ((v * steps).round() / steps + offset) * gain).collect();
            prop_assert!(shares(&x, &copy, rate));
            // Another person at the same rate, also when the rates are said to be others.
            let other = ecg(seed + 5000, rate);
            prop_assert!(!shares(&x, &other, rate));
            // With a gap in it.
            let mut gap = x.clone();
            gap[at(20.0)..at(20.5)].fill(f64::NAN);
            prop_assert!(shares(&x, &gap, rate));
        }
    }

    #[test]
    fn a_sketch_survives_text_and_thinning() {
        let x = ecg(3, 128.0);
        let whole = Sketch::of(&x, 128.0);
        assert!(whole.len() > 40, "{}", whole.len());
        assert_eq!(whole.to_string().parse::<Sketch>().unwrap(), whole);
        let thin = whole.thinned(4);
        assert_eq!(thin.to_string().parse::<Sketch>().unwrap(), thin);
        assert_eq!(ContentIndex::new([&thin]).sharing(&whole), [0]);
        assert!(thin.decides(&whole) && whole.decides(&thin));
        // Of ten seconds a quarter of the anchors is too few to deny anything, and all of them are enough.
        let short = Sketch::of(&x[1280..2560], 128.0);
        assert!(short.decides(&whole) && !short.decides(&thin) && !Sketch::default().decides(&whole));
        assert_eq!(
            [thinning(100, 100), thinning(101, 100), thinning(500, 100), thinning(0, 1)],
            [1, 2, 8, 1]
        );
        for bad in ["", "1", "0:", "1:abc", "x:", "1:000000000000000000g0"] {
            assert!(bad.parse::<Sketch>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_said_of_what_has_no_shape() {
        for x in [
            vec![],
            vec![1.0; 5000],
            vec![f64::NAN; 5000],
            vec![f64::MAX; 3000],
            ecg(1, 128.0)[..380].to_vec(),
        ] {
            assert!(Sketch::of(&x, 128.0).is_empty());
        }
        // Rates of no recording: no panic.
        for rate in [1e-9, 1.0, 1e6, 1e300, f64::NAN, f64::INFINITY] {
            let _ = Sketch::of(&ecg(1, 128.0), rate);
        }
    }
}
