//! Which humps of QRS-band energy are beats: the second half of the detector in `rpeak.rs`.
//!
//! A threshold that follows the mean energy of a second cannot tell a pause from a beat: where there is no QRS complex, noise
//! is all there is, and its humps pass. So a hump must also stand up to the beats of its neighbourhood:
//!
//! * a hump is *prominent* when it exceeds ten times the median energy within 1.5 s: a QRS complex does, noise of the same
//!   loudness all along does not (about once in a day, if it is normal);
//! * the largest prominent hump of each 5 s, in which even 15 beats a minute leave one complex, is a level; those without a
//!   prominent hump give none, so a pause keeps the levels that were;
//! * the reference is the median of the 15 levels up to the hump, or of the 15 from it on if that is less, so that it follows
//!   a change of gain; a side counts with at least three levels, otherwise both are one;
//! * a hump below 1 % of the reference (10 % of its slope) is noise or a P wave, and one below 3 % too unless it rises above
//!   seven times the median around it.
//!
//! Without any prominent hump there is no reference and nothing is dropped: whether that is an ECG is the quality gate's
//! question. At 180 to 300 beats a minute complexes stand nearer than the refractory time: a chain of at least six humps of
//! like energy, shape and distance, 0.17 to 0.36 s apart, is taken as it is.

use super::median_in_place;
use super::rpeak::spaced;

const LEVEL_HALF_WIDTH_S: f64 = 1.0;
const LEVEL_FACTOR: f64 = 0.8;
const REFRACTORY_S: f64 = 0.3;
const T_WAVE_S: f64 = 0.4;
const T_WAVE_ENERGY: f64 = 0.25;
const LATE_T_WAVE_S: f64 = 0.55;
const LATE_T_WAVE_ENERGY: f64 = 0.08;
const LATE_T_WAVE_BEFORE_S: f64 = 0.8;

const BACKGROUND_HALF_WIDTH_S: f64 = 1.5;
const BACKGROUND_STEP_S: f64 = 0.025;
const PROMINENT: f64 = 10.0;
/// Length of the blocks of which each gives one level, in seconds.
pub(super) const BLOCK_S: f64 = 5.0;
/// Levels to either side of a hump that make its reference.
pub(super) const LEVELS: usize = 15;
const FEWEST_LEVELS: usize = 3;
const LEAST_SHARE: f64 = 0.01;
const NOISE_SHARE: f64 = 0.03;
const ABOVE_NOISE: f64 = 7.0;

const CHAIN_LEAST_S: f64 = 0.17;
const CHAIN_MOST_S: f64 = 0.36;
const CHAIN_MEAN_S: f64 = 0.34;
const CHAIN_BEATS: usize = 6;
const CHAIN_ENERGY: f64 = 0.3;
const CHAIN_CORRELATION: f64 = 0.8;
const CHAIN_PACE: f64 = 1.25;
const SHAPE_HALF_WIDTH_S: f64 = 0.08;
const SHAPE_LAG_S: f64 = 0.016;

/// A signal's energy, sample by sample: `at(i)`, and `sum(i)` of the first i. Closures, since eight signals may lie side by side.
pub(super) struct Energy<'a, A, S> {
    pub(super) at: A,
    pub(super) sum: S,
    /// The QRS-band signal.
    pub(super) filtered: &'a [f64],
    pub(super) fs_hz: f64,
}

/// The humps that are beats, and the prominent ones among all with their energies (none if they were not asked for).
#[derive(Debug, Default, PartialEq)]
pub(super) struct Selection {
    pub(super) humps: Vec<usize>,
    pub(super) prominent: Vec<(usize, f64)>,
}

impl<A: Fn(usize) -> f64, S: Fn(usize) -> f64> Energy<'_, A, S> {
    fn samples(&self, seconds: f64) -> usize {
        (seconds * self.fs_hz).round() as usize
    }

    /// Mean energy of the samples within `half` of sample i, of those that exist.
    fn mean_around(&self, i: usize, half: usize) -> f64 {
        let (a, b) = (i.saturating_sub(half), (i + half + 1).min(self.filtered.len()));
        (((self.sum)(b) - (self.sum)(a)) / (b - a) as f64).max(0.0)
    }

    /// Which of the energy's `maxima` are beats. `earlier` are levels of the signal before this part of it, if there is one.
    pub(super) fn select(&self, mut maxima: Vec<usize>, earlier: Option<&[f64]>) -> Selection {
        let energy = &self.at;
        let half = self.samples(LEVEL_HALF_WIDTH_S);
        maxima.retain(|&p| energy(p) > LEVEL_FACTOR * self.mean_around(p, half));
        let mut humps = spaced(maxima.clone(), energy, self.samples(REFRACTORY_S));
        drop_t_waves(&mut humps, energy, self.samples(T_WAVE_S));
        let mut prominent = Vec::new();
        let range =
            humps.iter().fold((f64::INFINITY, 0.0f64), |(l, h), p| (l.min(energy(*p)), h.max(energy(*p))));
        // No reference exceeds the largest hump.
        if earlier.is_some() || range.0 < NOISE_SHARE * range.1 {
            prominent = self.drop_weak(&mut humps, earlier.unwrap_or(&[]));
        }
        self.drop_late_t_waves(&mut humps);
        self.insert_chains(&maxima, &mut humps);
        Selection { humps, prominent }
    }

    /// Drops the humps that are weak beside their reference. Returns the prominent ones.
    fn drop_weak(&self, humps: &mut Vec<usize>, earlier: &[f64]) -> Vec<(usize, f64)> {
        let prominence: Vec<f64> = humps.iter().map(|&p| self.prominence(p)).collect();
        let all = humps.iter().zip(&prominence).filter(|(_, s)| **s > PROMINENT);
        let prominent: Vec<(usize, f64)> = all.map(|(p, _)| (*p, (self.at)(*p))).collect();
        let block = self.samples(BLOCK_S).max(1);
        // Blocks are counted from 1; what was earlier lies in block 0.
        let mut levels: Vec<(usize, f64)> = earlier.iter().map(|e| (0, *e)).collect();
        for &(p, e) in &prominent {
            match levels.last_mut() {
                Some((b, level)) if *b == p / block + 1 => *level = level.max(e),
                _ => levels.push((p / block + 1, e)),
            }
        }
        let mut known: Option<(usize, Option<f64>)> = None;
        let mut place = 0;
        humps.retain(|&p| {
            let b = p / block + 1;
            let reference = match known {
                Some((at, reference)) if at == b => reference,
                _ => reference_level(&levels, b),
            };
            known = Some((b, reference));
            let (e, above) = ((self.at)(p), prominence[place]);
            place += 1;
            reference.is_none_or(|r| e >= LEAST_SHARE * r && (e >= NOISE_SHARE * r || above >= ABOVE_NOISE))
        });
        prominent
    }

    /// Energy of a hump over the median of the energy around it, of which every 25 ms are looked at.
    fn prominence(&self, p: usize) -> f64 {
        let half = self.samples(BACKGROUND_HALF_WIDTH_S);
        let (a, b) = (p.saturating_sub(half), (p + half + 1).min(self.filtered.len()));
        let step = self.samples(BACKGROUND_STEP_S).max(1);
        let mut around: Vec<f64> = (a..b).step_by(step).map(&self.at).collect();
        let background = median_in_place(&mut around);
        // Beside exact zeros everything is prominent.
        if background > 0.0 { (self.at)(p) / background } else { f64::INFINITY }
    }

    /// Drops a small hump half a second after a beat when nothing follows for long: the T wave of a slow rhythm.
    fn drop_late_t_waves(&self, humps: &mut Vec<usize>) {
        let (reach, before) = (self.samples(LATE_T_WAVE_S), self.samples(LATE_T_WAVE_BEFORE_S));
        let next: Vec<usize> = humps.iter().copied().skip(1).chain([self.filtered.len()]).collect();
        let mut last: Option<usize> = None;
        let mut next = next.into_iter();
        humps.retain(|&p| {
            let alone = next.next().is_none_or(|n| n - p >= before);
            let small = |q: usize| p - q < reach && (self.at)(p) < LATE_T_WAVE_ENERGY * (self.at)(q);
            let t_wave = alone && last.is_some_and(small);
            if !t_wave {
                last = Some(p);
            }
            !t_wave
        });
    }

    /// Puts chains of humps that are too near each other for the refractory time in the place of what was kept of them.
    fn insert_chains(&self, maxima: &[usize], humps: &mut Vec<usize>) {
        let most = self.samples(CHAIN_MOST_S);
        let crowded = |w: &[usize]| w[CHAIN_BEATS - 1] - w[0] <= (CHAIN_BEATS - 1) * most;
        if !maxima.windows(CHAIN_BEATS).any(crowded) {
            return;
        }
        let near = spaced(maxima.to_vec(), &self.at, self.samples(CHAIN_LEAST_S));
        let mut begin = 0;
        while begin < near.len() {
            let mut end = begin;
            while end + 1 < near.len() && self.goes_on(&near, begin, end) {
                end += 1;
            }
            let (first, last, steps) = (near[begin], near[end], end - begin);
            if steps + 1 >= CHAIN_BEATS && ((last - first) as f64) < CHAIN_MEAN_S * self.fs_hz * steps as f64
            {
                let margin = self.samples(CHAIN_LEAST_S);
                humps.retain(|&p| p + margin <= first || p >= last + margin);
                humps.extend_from_slice(&near[begin..=end]);
                humps.sort_unstable();
            }
            begin = end.max(begin + 1);
        }
    }

    /// Whether hump `end + 1` of `near` goes on with a chain that began at `begin`.
    fn goes_on(&self, near: &[usize], begin: usize, end: usize) -> bool {
        let (a, b) = (near[end], near[end + 1]);
        let (e, f) = ((self.at)(a), (self.at)(b));
        let pace = |before: usize| {
            let (old, new) = ((a - before) as f64, (b - a) as f64);
            new < CHAIN_PACE * old && old < CHAIN_PACE * new
        };
        b - a <= self.samples(CHAIN_MOST_S)
            && e.min(f) >= CHAIN_ENERGY * e.max(f)
            && (end == begin || pace(near[end - 1]))
            && self.likeness(a, b) >= CHAIN_CORRELATION
    }

    /// Largest correlation of the signal around two samples, over lags of up to 16 ms.
    fn likeness(&self, a: usize, b: usize) -> f64 {
        let (half, lag) = (self.samples(SHAPE_HALF_WIDTH_S), self.samples(SHAPE_LAG_S).max(1));
        let y = self.filtered;
        let mut best = -1.0f64;
        for shift in 0..=2 * lag {
            let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
            for k in 0..=2 * half {
                let at = |i: usize| i.checked_sub(half).and_then(|i| y.get(i));
                let second = (b + k + shift).checked_sub(lag).and_then(at);
                if let (Some(u), Some(v)) = (at(a + k), second) {
                    xy += u * v;
                    xx += u * u;
                    yy += v * v;
                }
            }
            if xx > 0.0 && yy > 0.0 {
                best = best.max(xy / (xx * yy).sqrt());
            }
        }
        best
    }
}

/// The level that the humps of `block` are compared with, from the levels of all blocks, which are in order.
fn reference_level(levels: &[(usize, f64)], block: usize) -> Option<f64> {
    let until = levels.partition_point(|l| l.0 <= block);
    let from = levels.partition_point(|l| l.0 < block);
    let before = until.saturating_sub(LEVELS)..until;
    let after = from..(from + LEVELS).min(levels.len());
    let median = |of: std::ops::Range<usize>| {
        let mut of: Vec<f64> = levels[of].iter().map(|l| l.1).collect();
        (!of.is_empty()).then(|| median_in_place(&mut of))
    };
    match (before.len() >= FEWEST_LEVELS, after.len() >= FEWEST_LEVELS) {
        (true, true) => median(before).zip(median(after)).map(|(a, b)| a.min(b)),
        (true, false) => median(before),
        (false, true) => median(after),
        (false, false) => median(before.start..after.end),
    }
}

/// Drops humps that come within `reach` after a kept one and are much smaller.
fn drop_t_waves(humps: &mut Vec<usize>, energy: impl Fn(usize) -> f64, reach: usize) {
    let mut last: Option<usize> = None;
    humps.retain(|&p| {
        let t_wave = last.is_some_and(|q| p - q < reach && energy(p) < T_WAVE_ENERGY * energy(q));
        if !t_wave {
            last = Some(p);
        }
        !t_wave
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_humps_soon_after_a_large_one_are_t_waves() {
        let mut energy = vec![0.0; 100];
        for (p, e) in [(10, 8.0), (20, 1.9), (30, 1.9), (40, 8.0), (45, 2.1), (90, 1.0)] {
            energy[p] = e;
        }
        let mut humps = vec![10, 20, 30, 40, 45, 90];
        drop_t_waves(&mut humps, |i| energy[i], 15);
        assert_eq!(humps, [10, 30, 40, 45, 90]);
    }

    #[test]
    fn the_reference_follows_a_gain_and_survives_a_gap_and_an_artefact() {
        let falls: Vec<(usize, f64)> = (1..=40).map(|b| (b, if b <= 20 { 100.0 } else { 1.0 })).collect();
        assert_eq!(reference_level(&falls, 10), Some(100.0));
        // The lesser side decides, before the change and after it.
        assert_eq!(reference_level(&falls, 20), Some(1.0));
        assert_eq!(reference_level(&falls, 21), Some(1.0));
        let gap: Vec<(usize, f64)> = (1..=30).filter(|b| !(10..20).contains(b)).map(|b| (b, 5.0)).collect();
        assert_eq!(reference_level(&gap, 14), Some(5.0));
        assert_eq!(reference_level(&[(1, 5.0)], 700), Some(5.0));
        assert_eq!(reference_level(&[], 3), None);
        let spike: Vec<(usize, f64)> = (1..=10).map(|b| (b, if b == 4 { 1e6 } else { 5.0 })).collect();
        assert_eq!(reference_level(&spike, 4), Some(5.0));
    }
}
