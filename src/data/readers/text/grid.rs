//! Time stamps to an even grid: the usual step, gaps, jitter.
//!
//! The **usual step** is the mean of the steps that lie within half of the median step (and the rounding of the stamps),
//! so neither a gap nor single late stamps move it. Where stamps repeat, because they are rounded to more than a step or
//! are those of packets, the rate is that of whole ticks.
//!
//! A **gap** is a step of more than 1.5 usual ones after which the stamps stay late: the medians of the deviations before
//! and after it differ by three quarters of a step. It is filled with missing samples, up to three times what was
//! recorded. **Jitter** is what deviates without staying so; the samples are then taken as evenly spaced, which is said.

use crate::error::{Error, Result};

/// How the rows lie on an even grid.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Grid {
    /// Samples per second.
    pub(super) fs_hz: f64,
    /// (row, missing samples before it).
    pub(super) gaps: Vec<(usize, usize)>,
    /// Usual step, in seconds.
    pub(super) step_s: f64,
    /// Largest deviation from the grid, in seconds, where it is more than half a step and the stamps' rounding.
    pub(super) jitter_s: Option<f64>,
    /// Smallest difference between unlike stamps: what they are rounded to, in seconds.
    pub(super) rounding_s: f64,
}

impl Grid {
    /// Samples with those that are missing, for `rows` rows.
    pub(super) fn len(&self, rows: usize) -> usize {
        rows + self.missing()
    }

    /// Samples that fill the gaps.
    pub(super) fn missing(&self) -> usize {
        self.gaps.iter().map(|g| g.1).sum()
    }

    /// Puts missing samples into the gaps.
    pub(super) fn fill(&self, values: Vec<f64>) -> Vec<f64> {
        if self.gaps.is_empty() {
            return values;
        }
        let mut out = Vec::with_capacity(self.len(values.len()));
        let mut from = 0;
        for (row, missing) in &self.gaps {
            out.extend_from_slice(&values[from..*row]);
            out.resize(out.len() + missing, f64::NAN);
            from = *row;
        }
        out.extend_from_slice(&values[from..]);
        out
    }
}

/// Rows on each side of a step that decide whether it is a gap.
const AROUND: usize = 25;
/// Most missing samples for each recorded one.
const MOST_MISSING: usize = 3;

/// Lays stamps in seconds on a grid. `place` names a row for messages. `nominal`: a rate that was given, which may
/// deviate by 2 %; it becomes the rate.
///
/// # Errors
/// Stamps that are missing, go backwards or do not increase; gaps longer than what was recorded by far; stamps that
/// deviate by more than jitter does.
pub(super) fn lay(stamps: &[f64], nominal: Option<f64>, place: &dyn Fn(usize) -> String) -> Result<Grid> {
    if let Some(i) = stamps.iter().position(|t| t.is_nan()) {
        return Err(Error::data("a time stamp is missing").at(place(i)));
    }
    let n = stamps.len();
    let span = stamps.last().copied().unwrap_or(0.0) - stamps.first().copied().unwrap_or(0.0);
    if let Some(i) = (1..n).find(|&i| stamps[i] < stamps[i - 1]) {
        return Err(Error::data("time runs backwards")
            .at(place(i))
            .remedy("sort the rows, or ignore the stamps: --time-column none with --fs-hz"));
    }
    if n < 2 || !span.is_finite() || span <= 0.0 {
        return Err(Error::data("the time stamps do not increase, so they give no sampling rate")
            .at(place(n.saturating_sub(1)))
            .remedy("give the rate and ignore the stamps: --time-column none with --fs-hz"));
    }
    let rounding_s = rounding(stamps);
    let measured = usual_step(stamps, rounding_s);
    // A given rate within the stamps' own uncertainty is the better step; over a long recording a small difference adds up.
    let gaps_step = measured;
    let mut grid = Grid { step_s: measured, rounding_s, ..Grid::default() };
    let repeats = stamps.windows(2).filter(|w| w[0] == w[1]).count() * 3 > n;
    // A tick of repeated stamps holds several samples: they may be late by that much.
    let tick = if repeats { ticks(stamps).0 } else { 0.0 };
    let allowed = 0.5 * measured + 1.01 * rounding_s.max(tick);
    let mut at = 0usize;
    let mut worst = 0.0f64;
    for i in 1..n {
        at += 1;
        let step = stamps[i] - stamps[i - 1];
        let is_long = step > 1.5 * gaps_step + rounding_s.max(1.5 * tick);
        if is_long && stays_late(stamps, i, gaps_step) {
            // From the first row, so that roundings do not add up.
            let due = ((stamps[i] - stamps[0]) / gaps_step).round() as usize;
            // A deviation that has grown before must not be taken for a gap.
            let local = (step / gaps_step).round() as usize;
            let missing = due.saturating_sub(at).min(local).max(local.saturating_sub(2)).max(1);
            grid.gaps.push((i, missing));
            at += missing;
            if grid.missing() > MOST_MISSING * n {
                return Err(Error::data(format!(
                    "time stamps are not evenly spaced: a step of {step:.6} s where {measured:.6} s is usual, and gaps \
                     of more than {MOST_MISSING} times what was recorded are not filled"
                ))
                .at(place(i))
                .remedy("cut the file at the gap, or say the unit of the stamps with --time-unit"));
            }
        }
        worst = worst.max((stamps[i] - stamps[0] - at as f64 * measured).abs());
    }
    let recorded_s = n as f64 * measured;
    if worst > allowed {
        let limit =
            if nominal.is_some() { 0.5f64.max(0.02 * recorded_s) } else { 0.1f64.max(2.5 * measured) };
        if worst > limit {
            return Err(drifting(stamps, measured, worst, nominal.is_some(), place));
        }
        if grid.gaps.is_empty() && !repeats {
            // Jitter averages out over the whole length, which no outlier moves.
            grid.step_s = span / (n - 1) as f64;
            let off = |i: usize| (stamps[i] - stamps[0] - i as f64 * grid.step_s).abs();
            worst = (1..n).map(off).fold(0.0, f64::max);
        }
        grid.jitter_s = Some(worst);
    }
    let fs = 1.0 / grid.step_s;
    grid.fs_hz = match nominal {
        Some(given) => given,
        None => whole(fs, (rounding_s.max(tick) + grid.jitter_s.unwrap_or(0.0)) / span),
    };
    Ok(grid)
}

/// A whole number where `fs` is one within its uncertainty (at least 1e-4, at most 2e-3).
fn whole(fs: f64, uncertainty: f64) -> f64 {
    let near = fs.round();
    if near > 0.0 && (fs - near).abs() <= uncertainty.clamp(1e-4, 2e-3) * near { near } else { fs }
}

fn drifting(stamps: &[f64], step: f64, worst: f64, given: bool, place: &dyn Fn(usize) -> String) -> Error {
    let gap = |i: usize| stamps[i] - stamps[i - 1];
    let longest = (1..stamps.len()).max_by(|&a, &b| gap(a).total_cmp(&gap(b))).unwrap_or(1);
    let remedy = match given {
        true => "ignore the stamps: --time-column none",
        false => {
            "if the samples are evenly spaced, give their rate with --fs-hz; or resample the recording by its stamps"
        }
    };
    Error::data(format!(
        "time stamps are not evenly spaced: they leave an even grid of {step:.6} s (the usual step) by up to {worst:.6} s; \
         the longest step is {:.6} s",
        gap(longest)
    ))
    .at(place(longest))
    .remedy(remedy)
}

/// Whether the stamps from row `i` on are late for good.
fn stays_late(stamps: &[f64], i: usize, step: f64) -> bool {
    let deviation = |j: usize| stamps[j] - stamps[i] - (j as f64 - i as f64) * step;
    let median = |from: usize, to: usize| -> f64 {
        let mut d: Vec<f64> = (from..to).map(deviation).collect();
        let middle = d.len() / 2;
        *d.select_nth_unstable_by(middle, f64::total_cmp).1
    };
    let (before, after) = (median(i.saturating_sub(AROUND), i), median(i, stamps.len().min(i + AROUND)));
    after - before >= 0.75 * step
}

/// The step of most rows, in seconds.
fn usual_step(stamps: &[f64], rounding_s: f64) -> f64 {
    let steps: Vec<f64> = stamps.windows(2).map(|w| w[1] - w[0]).collect();
    let repeats = steps.iter().filter(|d| **d == 0.0).count();
    if repeats * 3 > steps.len() {
        let (tick, rows) = ticks(stamps);
        return tick / rows;
    }
    let mut sorted = steps.clone();
    let middle = sorted.len() / 2;
    let median = *sorted.select_nth_unstable_by(middle, f64::total_cmp).1;
    let usual = |d: &&f64| (**d - median).abs() <= 0.5 * median + rounding_s;
    let (sum, count) = steps.iter().filter(usual).fold((0.0, 0usize), |(s, c), d| (s + d, c + 1));
    if sum > 0.0 { sum / count as f64 } else { median.max(f64::MIN_POSITIVE) }
}

/// For stamps that repeat: seconds of a usual tick, and rows in one.
fn ticks(stamps: &[f64]) -> (f64, f64) {
    let mut lengths = Vec::new();
    let mut rows = Vec::new();
    let mut begin = 0;
    for i in 1..stamps.len() {
        if stamps[i] != stamps[begin] {
            lengths.push(stamps[i] - stamps[begin]);
            rows.push((i - begin) as f64);
            begin = i;
        }
    }
    // The first tick may have begun before the recording.
    if rows.len() > 2 {
        rows.remove(0);
        lengths.remove(0);
    }
    let mut sorted = lengths.clone();
    let middle = sorted.len() / 2;
    let median = *sorted.select_nth_unstable_by(middle, f64::total_cmp).1;
    let usual: Vec<usize> = (0..lengths.len()).filter(|&k| lengths[k] <= 1.5 * median).collect();
    let mean = |of: &[f64]| usual.iter().map(|&k| of[k]).sum::<f64>() / usual.len() as f64;
    (mean(&lengths), mean(&rows))
}

/// What stamps are rounded to: the decimal place (down to 1e-9) at which the first 200 are whole numbers, in seconds.
fn rounding(stamps: &[f64]) -> f64 {
    let mut step = 1.0;
    for _ in 0..9 {
        let is_whole = |t: &f64| {
            let x = (t - stamps[0]) / step;
            (x - x.round()).abs() < 1e-6 * x.abs().max(1.0)
        };
        if stamps.iter().take(200).all(is_whole) {
            return step;
        }
        step *= 0.1;
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(stamps: &[f64], nominal: Option<f64>) -> Result<Grid> {
        lay(stamps, nominal, &|i| format!("row {i}"))
    }

    #[test]
    fn rates_of_rounded_stamps() {
        for fs in [100.0, 125.0, 130.0, 250.0, 256.0, 360.0, 500.0, 512.0, 700.0, 1000.0] {
            for (decimals, seconds) in [(1000.0, 10.0), (1000.0, 60.0), (1e6, 4.0)] {
                let n = (fs * seconds) as usize;
                let stamps: Vec<f64> =
                    (0..n).map(|i| (i as f64 / fs * decimals).round() / decimals).collect();
                let grid = laid(&stamps, None).unwrap();
                assert!((grid.fs_hz - fs).abs() <= 2e-4 * fs, "{fs} Hz as {}", grid.fs_hz);
                assert!(grid.gaps.is_empty() && grid.jitter_s.is_none(), "{fs} {decimals}: {grid:?}");
            }
        }
        // Whole seconds, and the stamps of packets of 73 samples.
        let stamps: Vec<f64> = (37..2600).map(|i| (f64::from(i) / 250.0).floor()).collect();
        assert_eq!(laid(&stamps, None).unwrap().fs_hz, 250.0);
        let stamps: Vec<f64> = (0..3000).map(|i| f64::from(i / 73) * 73.0 / 130.0).collect();
        let grid = laid(&stamps, None).unwrap();
        assert!((grid.fs_hz - 130.0).abs() < 0.01 && grid.gaps.is_empty(), "{grid:?}");
    }

    #[test]
    fn gaps_stay_and_jitter_does_not() {
        let mut stamps: Vec<f64> = (0..2000).map(|i| f64::from(i) * 0.004).collect();
        stamps.iter_mut().skip(700).for_each(|t| *t += 5.0);
        stamps.iter_mut().skip(1500).for_each(|t| *t += 0.004);
        let grid = laid(&stamps, None).unwrap();
        assert_eq!((grid.fs_hz, &grid.gaps[..]), (250.0, &[(700, 1250), (1500, 1)][..]));
        assert!(grid.jitter_s.is_none());
        let filled = grid.fill((0..2000).map(f64::from).collect());
        assert_eq!((filled.len(), filled[699], filled[1950]), (3251, 699.0, 700.0));
        assert!(filled[700..1950].iter().all(|v| v.is_nan()));
        // One stamp in twenty is two steps late.
        let late: Vec<f64> =
            (0..2000).map(|i| f64::from(i) * 0.004 + if i % 20 == 7 { 0.008 } else { 0.0 }).collect();
        let mut sorted = late;
        sorted.sort_by(f64::total_cmp);
        let grid = laid(&sorted, None).unwrap();
        assert_eq!((grid.fs_hz, grid.gaps.len()), (250.0, 0));
        assert!(grid.jitter_s.is_some());
    }

    #[test]
    fn what_is_no_grid_is_refused() {
        let text = |stamps: &[f64]| laid(stamps, None).unwrap_err().to_string();
        assert!(text(&[0.0, 1.0, 0.5]).contains("backwards"));
        assert!(text(&[0.0, f64::NAN]).contains("missing"));
        assert!(text(&[1.0, 1.0]).contains("do not increase"));
        assert!(text(&[0.0, 0.01, 0.02, 5.0, 5.01]).contains("row 3"));
        let squares: Vec<f64> = (0..500).map(|i| f64::from(i * i) * 1e-4).collect();
        assert!(text(&squares).contains("not evenly"));
    }
}
