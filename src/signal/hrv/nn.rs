//! From beat times to normal-to-normal intervals.

use crate::error::{Error, Result};
use crate::signal::{PLAUSIBLE_RR_S, median_in_place};

/// Which intervals between beats count as normal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NnSettings {
    /// Shortest interval, in ms. Default 330 (182 beats per minute).
    pub min_ms: f64,
    /// Longest interval, in ms. Default 1800 (33 beats per minute).
    pub max_ms: f64,
    /// Largest deviation from the median of the eleven intervals around it, as a share of that median; infinite for no
    /// such rule. Default 0.25. Malik et al. 1989 (Am. J. Cardiol. 63) take 20 % of the interval before; the median is
    /// not led astray by an artefact next to it, and the wider limit leaves respiratory sinus arrhythmia alone.
    pub max_deviation: f64,
}

impl Default for NnSettings {
    fn default() -> Self {
        let (min_s, max_s) = PLAUSIBLE_RR_S;
        Self { min_ms: 1000.0 * min_s, max_ms: 1000.0 * max_s, max_deviation: 0.25 }
    }
}

impl NnSettings {
    /// Every interval counts: for beats that were checked already.
    pub fn all() -> Self {
        Self { min_ms: 0.0, max_ms: f64::INFINITY, max_deviation: f64::INFINITY }
    }
}

/// Intervals to each side of one whose median it is compared with.
const NEIGHBOURS: usize = 5;

/// Normal-to-normal intervals with their times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NnSeries {
    intervals_ms: Vec<f64>,
    ends_s: Vec<f64>,
    follows: Vec<bool>,
    dropped: usize,
}

impl NnSeries {
    /// The intervals between `beats_s` (times in seconds, increasing) that are normal after `settings`.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind::Data) for times that do not increase or are not finite.
    ///
    /// ```
    /// use heartlore::signal::hrv::{NnSeries, NnSettings};
    /// let nn = NnSeries::from_beats(&[0.0, 0.8, 1.6, 1.7, 2.4, 3.2], &NnSettings::default())?;
    /// assert_eq!((nn.intervals_ms().len(), nn.dropped()), (4, 1));
    /// # Ok::<(), heartlore::Error>(())
    /// ```
    pub fn from_beats(beats_s: &[f64], settings: &NnSettings) -> Result<Self> {
        Self::from_parts(&[beats_s], settings)
    }

    /// [`NnSeries::from_beats`] for several stretches with gaps between them; no interval reaches across a gap.
    ///
    /// # Errors
    /// As [`NnSeries::from_beats`], also for stretches that are not in order.
    pub fn from_parts(parts: &[&[f64]], settings: &NnSettings) -> Result<Self> {
        let mut out = Self::default();
        let mut last = f64::NEG_INFINITY;
        for beats_s in parts {
            for (i, &t) in beats_s.iter().enumerate() {
                if !(t.is_finite() && t > last) {
                    return Err(
                        Error::data(format!("a beat at {t} s after one at {last} s")).at(format!("beat {i}"))
                    );
                }
                last = t;
            }
            out.add(beats_s, settings);
        }
        Ok(out)
    }

    fn add(&mut self, beats_s: &[f64], settings: &NnSettings) {
        let all: Vec<f64> = beats_s.windows(2).map(|w| 1000.0 * (w[1] - w[0])).collect();
        let plausible = |v: f64| v >= settings.min_ms && v <= settings.max_ms;
        let normal = |i: usize| {
            let near = &all[i.saturating_sub(NEIGHBOURS)..(i + NEIGHBOURS + 1).min(all.len())];
            let mut near: Vec<f64> = near.iter().copied().filter(|v| plausible(*v)).collect();
            plausible(all[i]) && {
                let median = median_in_place(&mut near);
                (all[i] - median).abs() <= settings.max_deviation * median
            }
        };
        let mut before = false;
        for i in 0..all.len() {
            let keep = normal(i);
            if keep {
                self.intervals_ms.push(all[i]);
                self.ends_s.push(beats_s[i + 1]);
                self.follows.push(before);
            } else {
                self.dropped += 1;
            }
            before = keep;
        }
    }

    /// The intervals, in ms.
    pub fn intervals_ms(&self) -> &[f64] {
        &self.intervals_ms
    }
    /// Time at the end of each interval, in seconds.
    pub fn ends_s(&self) -> &[f64] {
        &self.ends_s
    }
    /// Intervals that were kept out as artefacts.
    pub fn dropped(&self) -> usize {
        self.dropped
    }
    /// From the beginning of the first interval to the end of the last, in seconds; 0 without intervals.
    pub fn span_s(&self) -> f64 {
        match (self.ends_s.first(), self.ends_s.last(), self.intervals_ms.first()) {
            (Some(a), Some(b), Some(first)) => b - a + first / 1000.0,
            _ => 0.0,
        }
    }
    /// Share of [`span_s`](Self::span_s) that intervals cover: 1 without gaps and without artefacts, 0 without intervals.
    pub fn covered_share(&self) -> f64 {
        let span_s = self.span_s();
        if span_s > 0.0 { (self.intervals_ms.iter().sum::<f64>() / 1000.0 / span_s).min(1.0) } else { 0.0 }
    }
    /// Pairs of intervals of which one follows the other.
    pub fn successive(&self) -> impl Iterator<Item = (f64, f64)> {
        let pairs = self.intervals_ms.windows(2).zip(self.follows.iter().skip(1));
        pairs.filter(|(_, follows)| **follows).map(|(w, _)| (w[0], w[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn an_ectopic_beat_takes_both_its_intervals_out() {
        let mut beats: Vec<f64> = (0..30).map(|i| 0.8 * f64::from(i)).collect();
        beats[15] -= 0.3;
        let nn = NnSeries::from_beats(&beats, &NnSettings::default()).unwrap();
        assert_eq!((nn.intervals_ms().len(), nn.dropped()), (27, 2));
        // The two stretches do not meet: one pair less than in an unbroken run.
        assert_eq!(nn.successive().count(), 25);
        let all = NnSeries::from_beats(&beats, &NnSettings::all()).unwrap();
        assert_eq!((all.intervals_ms().len(), all.dropped(), all.successive().count()), (29, 0, 28));
        assert!((all.span_s() - 29.0 * 0.8).abs() < 1e-12);
    }

    #[test]
    fn gaps_and_bad_times() {
        let (a, b) = ([0.0, 1.0, 2.0], [10.0, 11.0]);
        let nn = NnSeries::from_parts(&[&a, &b], &NnSettings::default()).unwrap();
        assert_eq!((nn.intervals_ms(), nn.successive().count()), (&[1000.0; 3][..], 1));
        for bad in [&[0.0, 0.0][..], &[1.0, 0.5], &[0.0, f64::NAN]] {
            let e = NnSeries::from_beats(bad, &NnSettings::default()).unwrap_err();
            assert_eq!(e.kind(), Kind::Data);
        }
        assert!(NnSeries::from_parts(&[&b, &a], &NnSettings::default()).is_err());
        assert_eq!(NnSeries::from_beats(&[], &NnSettings::default()).unwrap().span_s(), 0.0);
    }
}
